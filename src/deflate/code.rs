//! Prefix codes: of literals and lengths of copies, and of their distances.

use super::{Bits, DISTANCES, END, LITERALS, LONGEST};

/// For each code of a length from 257 on: the first length that it stands for, and how many bits tell which.
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (LONGEST, 0),
];

/// Bits to be put, and how many.
pub(crate) type Word = (u64, u32);

/// So many bits go into a word.
pub(crate) const MOST_BITS: u32 = 56;
/// The longest code of a symbol.
pub(crate) const LONGEST_CODE: u32 = 15;

/// A distance's bits and, in the lowest five, how many: at most 27 go into it, and those of the farthest distances are 12 + 13.
#[expect(clippy::cast_possible_truncation, reason = "they fit")]
pub(crate) const fn packed((bits, count): Word) -> u32 {
    (bits as u32) << 5 | count
}

/// A prefix code of literals and lengths, and one of distances.
pub(crate) struct Code {
    /// How many bits each symbol has.
    sizes: Vec<u32>,
    pub(crate) literals: Vec<Word>,
    /// By the length of a copy, with the bits behind the symbol.
    pub(crate) lengths: Vec<Word>,
    distances: Vec<Word>,
    /// Of the distances that are not far, [`packed`].
    pub(crate) near: Vec<u32>,
}

/// A set is hardly ever farther from the one before it.
pub(crate) const NEAR: usize = 4096;

impl Code {
    pub(crate) fn new(weight: impl Fn(usize) -> u32) -> Self {
        let literal_sizes = sizes(&(0..LITERALS).map(&weight).collect::<Vec<_>>());
        let distance_sizes = sizes(&(0..DISTANCES).map(|symbol| if symbol < 12 { 2 } else { 12 }).collect::<Vec<_>>());
        let (literals, distances) = (words(&literal_sizes), words(&distance_sizes));
        let mut lengths = vec![(0, 0); LONGEST + 1];
        for (index, (first, extra)) in LENGTHS.iter().enumerate() {
            let (code, size) = literals.get(END + 1 + index).copied().unwrap_or_default();
            for (place, more) in lengths.iter_mut().skip(*first).zip(0..1u64 << extra) {
                *place = (code | more << size, size + extra);
            }
        }
        let sizes = literal_sizes.into_iter().chain(distance_sizes).collect();
        let mut code = Self { sizes, literals, lengths, distances, near: Vec::new() };
        code.near = (0..NEAR).map(|back| if back == 0 { 0 } else { packed(code.distance(back)) }).collect();
        code
    }

    /// The head of a block, the only one, with this code. The sizes are told by a code of their own, in which each of 0 to 15 has four bits.
    pub(crate) fn tell(&self, bits: &mut Bits) {
        // The last block, with codes of its own.
        bits.put(0b101, 3);
        // 286 symbols, 30 distances, 19 sizes of sizes, of which the first three are of repetitions.
        bits.put(29 | 29 << 5 | 15 << 10, 14);
        for index in 0..19 {
            bits.put(if index < 3 { 0 } else { 4 }, 3);
        }
        for size in &self.sizes {
            bits.put(u64::from(size.reverse_bits() >> 28), 4);
        }
    }

    /// The symbols of the lengths in which so many bytes are copied.
    pub(crate) fn lengths_of(length: usize, mut symbol: impl FnMut(usize)) {
        for length in at_once(length) {
            let above = LENGTHS.partition_point(|(first, _)| *first <= length);
            symbol(END + above);
        }
    }

    /// The code of bytes that stand for themselves, as many in a word as go into it.
    #[inline(always)]
    pub(crate) fn literals(&self, bytes: &[u8], mut put: impl FnMut(Word)) {
        let (mut held, mut held_count) = (0, 0);
        for byte in bytes {
            let (bits, count) = self.literals.get(usize::from(*byte)).copied().unwrap_or_default();
            held |= bits << held_count;
            held_count += count;
            if held_count > MOST_BITS - LONGEST_CODE {
                put((held, held_count));
                (held, held_count) = (0, 0);
            }
        }
        if held_count > 0 {
            put((held, held_count));
        }
    }

    /// A copy of what stands `back` before, in pieces of what can be copied at once.
    #[inline(always)]
    pub(crate) fn copy(&self, length: usize, back: usize, mut put: impl FnMut(Word)) {
        let distance = self.distance(back);
        for length in at_once(length) {
            put(self.copy_once(length, distance));
        }
    }

    /// A copy of 3 to [`LONGEST`] bytes: 20 bits at most, and 28 of the distance.
    #[inline(always)]
    pub(crate) fn copy_once(&self, length: usize, distance: Word) -> Word {
        let (code, size) = self.lengths.get(length).copied().unwrap_or_default();
        (code | distance.0 << size, size + distance.1)
    }

    #[inline(always)]
    pub(crate) fn distance(&self, back: usize) -> Word {
        let less = u32::try_from(back.saturating_sub(1)).unwrap_or(0);
        let (symbol, extra) = match less.checked_ilog2() {
            Some(log) if log > 1 => (2 * log + (less >> (log - 1) & 1), log - 1),
            _ => (less, 0),
        };
        let (code, size) = self.distances.get(symbol as usize).copied().unwrap_or_default();
        (code | u64::from(less & ((1 << extra) - 1)) << size, size + extra)
    }
}

/// The lengths in which so many bytes, three or more, can be copied.
pub(crate) fn at_once(length: usize) -> impl Iterator<Item = usize> {
    let mut left = length;
    std::iter::from_fn(move || {
        // A rest of one or two could not be told.
        let now = if left > LONGEST && left < LONGEST + 3 { LONGEST - 3 } else { left.min(LONGEST) };
        left -= now;
        (now > 0).then_some(now)
    })
}

/// The sizes of a complete prefix code for symbols of these weights, of at most 15 bits (Huffman's; weights are made more alike until it fits).
fn sizes(weights: &[u32]) -> Vec<u32> {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
    loop {
        // Who is whose part: symbols first, then what they were joined to.
        let mut parents: Vec<usize> = vec![0; weights.len()];
        let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
            weights.iter().enumerate().map(|(index, weight)| Reverse((*weight, index))).collect();
        while let (Some(Reverse((one, left))), Some(Reverse((other, right)))) = (heap.pop(), heap.pop()) {
            let joined = parents.len();
            for part in [left, right] {
                if let Some(parent) = parents.get_mut(part) {
                    *parent = joined;
                }
            }
            parents.push(0);
            if heap.is_empty() {
                break;
            }
            heap.push(Reverse((one + other, joined)));
        }
        let root = parents.len() - 1;
        let depth = |mut node: usize| {
            let mut depth = 0;
            while node != root {
                node = parents.get(node).copied().unwrap_or(root);
                depth += 1;
            }
            depth
        };
        let sizes: Vec<u32> = (0..weights.len()).map(depth).collect();
        if sizes.iter().all(|size| *size <= 15) {
            return sizes;
        }
        for weight in &mut weights {
            *weight = *weight / 2 + 1;
        }
    }
}

/// The code that follows from its sizes (RFC 1951, 3.2.2), the bits turned round.
fn words(sizes: &[u32]) -> Vec<Word> {
    let mut words = vec![(0, 0); sizes.len()];
    let mut next = 0u32;
    for size in 1..=15 {
        for (word, _) in words.iter_mut().zip(sizes).filter(|(_, of)| **of == size) {
            *word = (u64::from(next.reverse_bits() >> (32 - size)), size);
            next += 1;
        }
        next <<= 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_complete() {
        for weights in [vec![1, 1], (1..40).map(|power| 1 << (power % 31)).collect(), vec![7; 286]] {
            let sizes = sizes(&weights);
            assert_eq!(sizes.iter().map(|size| 1 << (15 - size)).sum::<u32>(), 1 << 15, "{sizes:?}");
        }
    }
}
