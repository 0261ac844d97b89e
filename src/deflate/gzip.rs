//! gzip for records: lines of JSON of which each is nearly the one before it.
//!
//! Of 900 bytes of a record 200 are the message, and of the rest all but the time, the id and the offset stand in the record before. A general compressor takes
//! 2.3 us for that, for it keeps a table of all places; here a copy is taken as long as it goes, what is within it is not looked at again, and the code is made for
//! the batch from what its first part and one in its middle need.

use flate2::Crc;

use super::{Bits, CHUNK, Code, END, GZIP_HEAD, LITERALS, WINDOW, common, word};

/// Places in the table of hashes, as a power of two: 32 KB, the size of the processor's first cache.
const PLACES: u32 = 13;
/// After so many bytes without a copy, as a power of two, every second one is looked up only, then every third, ...
const PATIENCE: usize = 6;
/// Bytes from which the code is made, at the begin and in the middle.
const SAMPLE: usize = 32 << 10;

/// A part of the input: bytes that stand for themselves, and then a copy.
struct Part<'a> {
    literals: &'a [u8],
    length: usize,
    back: usize,
}

/// A coder, whose table is kept from batch to batch.
#[derive(Debug)]
pub struct Gzip {
    /// By the hash of four bytes: where they stood last, counted from 1.
    places: Vec<u32>,
}

impl Default for Gzip {
    fn default() -> Self {
        Self { places: vec![0; 1 << PLACES] }
    }
}

impl Gzip {
    /// Appends `input` to `out`, as a whole file of gzip.
    ///
    /// What is beyond 4 GiB would not be coded; batches are bounded far below.
    #[expect(clippy::cast_possible_truncation, reason = "the format has the length modulo 2^32")]
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let code = self.code(input);
        let mut bits = Bits::behind(std::mem::take(out));
        bits.out.reserve(input.len() / 8 + CHUNK);
        bits.out.extend_from_slice(&GZIP_HEAD);
        code.tell(&mut bits);
        self.parts(input, 0, input.len(), |part| {
            bits.run(|bits| {
                code.literals(part.literals, |(word, count)| bits.put(word, count));
                if part.length > 0 {
                    code.copy(part.length, part.back, |(word, count)| bits.put(word, count));
                }
            });
        });
        let (end, length) = code.literals.get(END).copied().unwrap_or_default();
        bits.put(end, length);
        bits.finish();
        let mut sum = Crc::new();
        sum.update(input);
        bits.out.extend_from_slice(&sum.sum().to_le_bytes());
        bits.out.extend_from_slice(&(input.len() as u32).to_le_bytes());
        *out = bits.out;
    }

    /// A code that is good for what of `input` is looked at, and can tell all else.
    fn code(&mut self, input: &[u8]) -> Code {
        let mut counts = [1u32; LITERALS];
        let middle = (input.len() / 2).max(SAMPLE).min(input.len());
        for (from, to) in [(0, SAMPLE.min(input.len())), (middle, (middle + SAMPLE).min(input.len()))] {
            self.parts(input, from, to, |part| {
                for byte in part.literals {
                    count(&mut counts, usize::from(*byte));
                }
                if part.length > 0 {
                    Code::lengths_of(part.length, |symbol| count(&mut counts, symbol));
                }
            });
        }
        Code::new(|symbol| counts.get(symbol).copied().unwrap_or(1))
    }

    /// Divides what is between `from` and `to` into parts.
    fn parts(&mut self, input: &[u8], from: usize, to: usize, mut take: impl FnMut(Part<'_>)) {
        self.places.fill(0);
        let input = input.get(..to).unwrap_or(input);
        let (mut at, mut literals) = (from, from);
        while let Some(here) = word(input, at) {
            let Ok(place) = u32::try_from(at + 1) else { break };
            let Some(known) = self.places.get_mut(hash(here)) else { break };
            let before = std::mem::replace(known, place) as usize;
            let back = (at + 1).wrapping_sub(before);
            let behind = input.get(before.wrapping_sub(1)..).unwrap_or_default();
            if before == 0 || back > WINDOW || !behind.starts_with(&here) {
                at += 1 + ((at - literals) >> PATIENCE);
                continue;
            }
            let length = common(input.get(at..).unwrap_or_default(), behind);
            take(Part { literals: input.get(literals..at).unwrap_or_default(), length, back });
            at += length;
            literals = at;
        }
        take(Part { literals: input.get(literals..).unwrap_or_default(), length: 0, back: 0 });
    }
}

fn count(counts: &mut [u32; LITERALS], symbol: usize) {
    if let Some(count) = counts.get_mut(symbol) {
        *count += 1;
    }
}

const fn hash(word: [u8; 4]) -> usize {
    (u32::from_le_bytes(word).wrapping_mul(2_654_435_761) >> (32 - PLACES)) as usize
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn plain(gzipped: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzipped).read_to_end(&mut plain).unwrap();
        plain
    }

    fn records(count: usize) -> Vec<u8> {
        let record = |number: usize| {
            let id = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
            format!(
                "{{\"create\":{{\"_index\":\"docker-logs-2026.11.20\",\"_id\":\"{id:032x}\"}}}}\n{{\"@timestamp\":\"2026-11-20T10:00:00.{number:09}Z\",\
                 \"message\":\"INFO request {number} took {} ms\",\"stream\":\"stdout\",\"container\":{{\"name\":\"shop_web.1.u9yw0qxw2sfbb7n3p3kyiewwg\"}},\
                 \"event\":{{\"id\":\"{id:032x}\"}}}}\n",
                number % 997
            )
        };
        (0..count).map(record).collect::<String>().into_bytes()
    }

    #[test]
    fn records_come_back_and_are_small() {
        let mut coder = Gzip::default();
        for count in [0, 1, 2, 100, 20_000] {
            let input = records(count);
            let mut out = b"kept".to_vec();
            coder.write(&input, &mut out);
            assert_eq!(out.get(..4), Some(&b"kept"[..]));
            assert!(plain(&out[4..]) == input, "{count}");
            let mut general = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            std::io::Write::write_all(&mut general, &input).unwrap();
            let general = general.finish().unwrap().len();
            assert!(count < 100 || out.len() < general * 5 / 4, "{count}: {} beside {general}", out.len());
        }
    }

    /// What cannot be made smaller becomes hardly greater, whatever bytes it is made of.
    #[test]
    fn noise_costs_little() {
        let noise: Vec<u8> = (0..200_000u64).flat_map(|number| xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()).to_le_bytes()).collect();
        let mut out = Vec::new();
        Gzip::default().write(&noise, &mut out);
        assert!(plain(&out) == noise);
        assert!(out.len() < noise.len() * 21 / 20, "{} of {}", out.len(), noise.len());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>, times in 1usize..600, words in proptest::collection::vec("[a-c]{0,9}", 0..200)) {
            let mut coder = Gzip::default();
            for input in [bytes.repeat(times), words.concat().into_bytes(), words.join("\n").repeat(times).into_bytes()] {
                let mut out = Vec::new();
                coder.write(&input, &mut out);
                prop_assert!(plain(&out) == input);
            }
        }
    }
}
