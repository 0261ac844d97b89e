//! gzip for expositions (RFC 1951 and 1952), by what is known of them.
//!
//! In a family of containers one long set of labels follows another, and each set comes again only in the next family, which for fifty containers or more is
//! farther than the 32 KB that deflate can look back. A general compressor looks at all of it anew in each family: 22 ms for a hundred containers. Here the
//! [`Answer`] tells where the sets are. What of a set is in the one before it is found out once ([`Step`]), and holds wherever the two follow each other; the
//! bytes between the sets are few, and go through a table of hashes. One block, with one code that was made for such text: 4 ms, and a smaller answer.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Crc;

use crate::deflate::{Bits, CHUNK, Code, END, GZIP_HEAD, MOST_BITS, SHORTEST, WINDOW, Word, at_once, common, common_end, packed, word};
use crate::exposition::{Answer, Piece};
use crate::model::LabelSet;

/// As long as a value may be, in which two samples of a family differ.
const MOST_DIFFERENT: usize = 24;
/// Bytes of a frame, and not many more: what is sent is not held as a whole.
const FRAME: usize = 64 << 10;
/// Bytes that go into the checksum at once.
const SUMMED: usize = 32 << 10;
/// Places in a table of hashes, as a power of two.
const PLACES: u32 = 12;
/// A part of a set's bytes: such as stand for themselves and copies within the set, coded already, or a copy of what stands in the base, no more than can be
/// copied at once. There are thirty in a set, in no order that a processor could foresee: so both are written by the same instructions.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The code, of a copy that of its length.
    word: Word,
    /// How much farther the bytes are into the base than into this set.
    farther: i16,
    /// Of a copy all bits set, else none: which of those of the distance are written.
    distance: u32,
    /// Where in this set a copy is to, and its length.
    at: u16,
    length: u16,
}

/// A set of labels, as it was written last.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Where it was written last, in the whole text.
    written: Option<usize>,
    /// The set that the steps look back to, and the steps.
    base: Option<usize>,
    steps: Vec<Step>,
}

/// The answer as a file of gzip.
#[cfg(test)]
pub(super) fn gzip(answer: &Answer) -> Vec<u8> {
    Encoder::new(answer.clone()).flatten().collect()
}

/// Bytes outside of the sets.
#[derive(Debug, Default)]
struct Between {
    /// Where they are in the answer's text.
    at: usize,
    length: usize,
    /// Where in the whole text.
    written: usize,
}

/// An answer as a file of gzip, in frames: each is coded when it is asked for.
pub(super) struct Encoder {
    answer: Answer,
    /// Bytes of the answer's text that were coded.
    at: usize,
    is_over: bool,
    bits: Bits,
    code: &'static Code,
    crc: Crc,
    /// Text that is not in the checksum yet: piece by piece it would take four times as long.
    unsummed: Vec<u8>,
    /// Bytes of the whole text that were written.
    position: usize,
    known: Vec<Known>,
    /// The set that was written last.
    last: Option<usize>,
    /// What lay outside of the sets last.
    between: Between,
    /// By the hash of four bytes outside of the sets: where they are in the answer's text, and where in the whole text, counted from 1.
    places: Vec<(usize, usize)>,
    /// The same within two sets, while the steps of one are made.
    scratch: Vec<u32>,
}

impl Encoder {
    pub(super) fn new(answer: Answer) -> Self {
        let mut bits = Bits::default();
        bits.out.extend_from_slice(&GZIP_HEAD);
        let code = code();
        code.tell(&mut bits);
        Self {
            at: 0,
            is_over: false,
            bits,
            code,
            crc: Crc::new(),
            unsummed: Vec::with_capacity(SUMMED.min(answer.text.len())),
            position: 0,
            known: vec![Known::default(); answer.sets.len()],
            last: None,
            between: Between::default(),
            places: vec![(0, 0); 1 << PLACES],
            scratch: vec![0; if answer.sets.is_empty() { 0 } else { 1 << PLACES }],
            answer,
        }
    }

    /// Bytes of the answer's text, with marks.
    pub(super) const fn length(&self) -> usize {
        self.answer.text.len()
    }

    /// Whether the last frame was given.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    fn sum(&mut self, bytes: &[u8]) {
        if self.unsummed.len() + bytes.len() > SUMMED {
            self.crc.update(&self.unsummed);
            self.unsummed.clear();
        }
        if bytes.len() > SUMMED { self.crc.update(bytes) } else { self.unsummed.extend_from_slice(bytes) }
    }

    /// Bytes outside of the sets, which stand at `at` in the answer's text.
    fn plain(&mut self, text: &[u8], at: usize, bytes: &[u8]) {
        let here = Between { at, length: bytes.len(), written: self.position };
        let last = std::mem::replace(&mut self.between, here);
        if !self.as_before(text, &last, bytes) {
            self.searched(text, at, bytes);
        }
    }

    /// Codes what lies between two sets by what lay between the two before, from which it differs in a value in the middle. False when it differs in more.
    fn as_before(&mut self, text: &[u8], last: &Between, bytes: &[u8]) -> bool {
        let before = text.get(last.at..last.at + last.length).unwrap_or_default();
        let (back, end) = (self.position - last.written, self.position + bytes.len());
        if before.is_empty() || back > WINDOW {
            return false;
        }
        let head = common(bytes, before);
        let tail = common_end(bytes, before).min(bytes.len().min(before.len()) - head);
        let middle = bytes.len() - head - tail;
        if head < SHORTEST || middle > MOST_DIFFERENT {
            return false;
        }
        self.copy(head, back);
        self.literals(bytes.get(head..head + middle).unwrap_or_default());
        self.copy_or_tell(bytes.get(head + middle..).unwrap_or_default(), end - last.written - last.length);
        true
    }

    /// Codes bytes by the tables of hashes.
    fn searched(&mut self, text: &[u8], at: usize, bytes: &[u8]) {
        let (mut index, mut literals) = (0, 0);
        while let Some(word) = word(bytes, index) {
            let here = (at + index, self.position + index + 1);
            let (before, written) = match self.places.get_mut(place(word)) {
                Some(entry) => std::mem::replace(entry, here),
                None => (0, 0),
            };
            let back = here.1 - written;
            let behind = text.get(before..).unwrap_or_default();
            if written == 0 || back > WINDOW || !behind.starts_with(&word) {
                index += 1;
                continue;
            }
            // A mark is like no byte here, so what is alike lies together in the whole text too.
            let length = common(bytes.get(index..).unwrap_or_default(), behind);
            self.literals(bytes.get(literals..index).unwrap_or_default());
            self.copy(length, back);
            index += length;
            literals = index;
        }
        self.literals(bytes.get(literals..).unwrap_or_default());
    }

    fn set(&mut self, sets: &[Arc<LabelSet>], number: usize, text: &[u8]) {
        let start = self.position;
        let in_reach = |written: Option<usize>| written.map(|at| start - at).filter(|back| back + text.len() <= WINDOW);
        let Some(known) = self.known.get(number) else { return self.literals(text) };
        if let Some(back) = in_reach(known.written) {
            self.copy_or_tell(text, back);
        } else {
            let base = known.base.filter(|base| in_reach(self.known.get(*base).and_then(|base| base.written)).is_some());
            let last = self.last.filter(|last| in_reach(self.known.get(*last).and_then(|last| last.written)).is_some());
            if known.steps.is_empty() || (base.is_none() && (known.base.is_some() || last.is_some())) {
                let before = last.and_then(|last| sets.get(last)).map_or("", |set| set.as_str());
                let steps = steps(before.as_bytes(), text, self.code, &mut self.scratch);
                if let Some(known) = self.known.get_mut(number) {
                    (known.base, known.steps) = (last, steps);
                }
            }
            self.follow(number, text);
        }
        if let Some(known) = self.known.get_mut(number) {
            known.written = Some(start);
        }
        self.last = Some(number);
    }

    fn follow(&mut self, number: usize, text: &[u8]) {
        let Some(known) = self.known.get(number) else { return };
        let back = known.base.and_then(|base| self.known.get(base)?.written).map_or(0, |written| self.position - written);
        let code = self.code;
        self.bits.run(|bits| {
            for step in &known.steps {
                let back = back.wrapping_add_signed(-isize::from(step.farther));
                let distance = match code.near.get(back) {
                    Some(packed) => *packed,
                    None if step.distance == 0 => 0,
                    None if back > WINDOW => {
                        let bytes = text.get(usize::from(step.at)..).and_then(|rest| rest.get(..usize::from(step.length)));
                        code.literals(bytes.unwrap_or_default(), |(word, count)| bits.put(word, count));
                        continue;
                    }
                    None => packed(code.distance(back)),
                } & step.distance;
                let (word, count) = step.word;
                bits.put(word | u64::from(distance >> 5) << count, count + (distance & 31));
            }
        });
    }

    fn literals(&mut self, bytes: &[u8]) {
        let code = self.code;
        self.bits.run(|bits| code.literals(bytes, |(word, count)| bits.put(word, count)));
    }

    /// Bytes that stand `back` before, in pieces of what deflate can copy at once.
    fn copy_or_tell(&mut self, bytes: &[u8], back: usize) {
        if bytes.len() < 3 || back == 0 || back > WINDOW { self.literals(bytes) } else { self.copy(bytes.len(), back) }
    }

    fn copy(&mut self, length: usize, back: usize) {
        self.code.copy(length, back, |(word, count)| self.bits.put(word, count));
    }

    #[expect(clippy::cast_possible_truncation, reason = "the format has the length modulo 2^32")]
    fn finish(&mut self) {
        let (code, length) = self.code.literals.get(END).copied().unwrap_or_default();
        self.bits.put(code, length);
        self.bits.finish();
        self.crc.update(&self.unsummed);
        self.bits.out.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.bits.out.extend_from_slice(&(self.position as u32).to_le_bytes());
        self.is_over = true;
    }
}

impl Iterator for Encoder {
    type Item = Bytes;

    /// The next frame.
    fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let answer = self.answer.clone();
        self.bits.out.reserve(FRAME.min(answer.text.len() - self.at) + CHUNK);
        while self.bits.out.len() < FRAME {
            let Some((piece, next)) = answer.piece(self.at) else {
                self.finish();
                break;
            };
            self.sum(piece.bytes());
            match piece {
                Piece::Plain(bytes) => self.plain(&answer.text, self.at, bytes),
                Piece::Set(number, text) => self.set(&answer.sets, number, text.as_bytes()),
            }
            self.position += piece.bytes().len();
            self.at = next;
        }
        Some(std::mem::take(&mut self.bits.out).into())
    }
}

/// What of `text` stands in `before` or farther to the front in itself, and the code of the rest.
fn steps(before: &[u8], text: &[u8], code: &Code, places: &mut [u32]) -> Vec<Step> {
    places.fill(0);
    let both = [before, text].concat();
    let take = |at: usize, places: &mut [u32]| {
        let known = word(&both, at).and_then(|word| places.get_mut(place(word)))?;
        let found = std::mem::replace(known, u32::try_from(at + 1).unwrap_or(0));
        usize::try_from(found).ok()?.checked_sub(1)
    };
    for at in 0..before.len().saturating_sub(SHORTEST - 1) {
        take(at, places);
    }
    let mut steps = Vec::new();
    let coded = |word: Word, steps: &mut Vec<Step>| match steps.last_mut() {
        // As much in a word as goes into it.
        Some(Step { word: last, distance: 0, .. }) if last.1 + word.1 <= MOST_BITS => *last = (last.0 | word.0 << last.1, last.1 + word.1),
        _ => steps.push(Step { word, farther: 0, distance: 0, at: 0, length: 0 }),
    };
    let (mut at, mut literals) = (before.len(), before.len());
    while at + SHORTEST <= both.len() {
        let rest = both.get(at..).unwrap_or_default();
        let Some((found, length)) = take(at, places).and_then(|found| {
            let end = if found < before.len() { before.len() } else { both.len() };
            let length = common(both.get(found..end)?, rest);
            (length >= SHORTEST).then_some((found, length))
        }) else {
            at += 1;
            continue;
        };
        code.literals(both.get(literals..at).unwrap_or_default(), |word| coded(word, &mut steps));
        let mut to = at - before.len();
        match found.checked_sub(before.len()) {
            Some(_) if at - found <= WINDOW => code.copy(length, at - found, |word| coded(word, &mut steps)),
            None if let Ok(farther) = i16::try_from(found.cast_signed() - to.cast_signed())
                && u16::try_from(to + length).is_ok() =>
            {
                for length in at_once(length) {
                    let (place, word) = (u16::try_from(to).unwrap_or(0), code.lengths.get(length).copied().unwrap_or_default());
                    steps.push(Step { word, farther, distance: u32::MAX, at: place, length: u16::try_from(length).unwrap_or(0) });
                    to += length;
                }
            }
            _ => code.literals(both.get(at..at + length).unwrap_or_default(), |word| coded(word, &mut steps)),
        }
        for inside in at + 1..at + length {
            take(inside, places);
        }
        at += length;
        literals = at;
    }
    code.literals(both.get(literals..).unwrap_or_default(), |word| coded(word, &mut steps));
    steps.shrink_to_fit();
    steps
}

const fn place(word: [u8; 4]) -> usize {
    (u32::from_le_bytes(word).wrapping_mul(2_654_435_761) >> (32 - PLACES)) as usize
}

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| Code::new(weight))
}

/// How often a symbol comes in the answer of a node with containers, nearly.
fn weight(symbol: usize) -> u32 {
    match u8::try_from(symbol) {
        Ok(b'0'..=b'9') => 300,
        Ok(b'a'..=b'f') => 160,
        Ok(b'g'..=b'z') => 50,
        Ok(b'\n') => 60,
        Ok(b' ' | b'"' | b'_' | b'.' | b'}' | b'{' | b'-' | b'/' | b',' | b'=') => 30,
        Ok(b'!'..=b'~') => 4,
        Ok(_) => 1,
        Err(_) if symbol == END => 1,
        Err(_) => 40,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Writer;
    use crate::model::Kind;

    fn plain(gzipped: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(gzipped).read_to_end(&mut plain).unwrap();
        plain
    }

    fn answer(writer: &Writer) -> Answer {
        Answer { text: writer.text().to_vec().into(), sets: writer.sets().into() }
    }

    fn set(number: usize, length: usize) -> Arc<LabelSet> {
        // Digits that a compressor cannot foresee, a task's name twice, and what all have in common.
        let digit = |digit: usize| xxhash_rust::xxh3::xxh3_64(&((number << 32 | digit) as u64).to_le_bytes());
        let digits: String = (0..length).filter_map(|index| char::from_digit((digit(index) & 15).try_into().unwrap(), 16)).collect();
        let name = format!("shop_web.{number}.{digits}");
        Arc::new(LabelSet::of([
            ("id", &*format!("/docker/{digits}")),
            ("name", &name),
            ("image", "shop/web:1"),
            ("container_label_com_docker_swarm_task_name", &name),
        ]))
    }

    fn containers(count: usize, families: usize, length: usize, skip: usize) -> Answer {
        let sets: Vec<_> = (0..count).map(|number| set(number, length)).collect();
        let mut writer = Writer::new(Arc::new(LabelSet::of([("host", "node-1")]))).with_marks();
        for number in 0..families {
            let name = format!("container_family_{number}_bytes");
            let mut family = writer.family(&name, Kind::Gauge, "Something of containers.");
            for (index, set) in sets.iter().enumerate().filter(|(index, _)| (index + number) % skip != 1) {
                family.sample_shared(set, &[("cpu", "total")], (index * number * 977) as u64);
            }
        }
        answer(&writer)
    }

    #[test]
    fn what_is_coded_is_what_it_was() {
        for (count, families, length, skip) in
            [(0, 0, 64, 2), (1, 1, 64, 2), (3, 9, 64, 3), (40, 9, 64, 5), (300, 9, 64, 7), (3, 4, 20_000, 9), (9, 4, 9000, 9)]
        {
            let answer = containers(count, families, length, skip);
            assert!(plain(&gzip(&answer)) == answer.whole(), "{count} {families} {length}");
        }
    }

    #[test]
    fn it_is_smaller_than_by_a_general_compressor() {
        let answer = containers(300, 20, 64, 1000);
        let mut general = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        std::io::Write::write_all(&mut general, &answer.whole()).unwrap();
        let (own, general) = (gzip(&answer).len(), general.finish().unwrap().len());
        assert!(own < general, "{own} {general}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: Vec<u8>, times in 1usize..400, words in proptest::collection::vec("[a-c]{0,9}", 0..200)) {
            for text in [text.repeat(times), words.concat().into_bytes(), words.join("\n").repeat(times).into_bytes()] {
                let answer = Answer { text: text.clone().into(), sets: Arc::default() };
                prop_assert!(plain(&gzip(&answer)) == text);
            }
        }

        #[test]
        fn any_sets_come_back(sets in proptest::collection::vec("[ab]{1,40}", 1..9), order in proptest::collection::vec((0usize..9, 0usize..300), 0..60)) {
            let sets: Vec<_> = sets.iter().map(|value| Arc::new(LabelSet::of([("a", &**value)]))).collect();
            let mut writer = Writer::new(Arc::default()).with_marks();
            let mut family = writer.family("f", Kind::Gauge, "");
            for (number, length) in order {
                family.sample_shared(&sets[number % sets.len()], &[("b", &"xy".repeat(length * length / 9))], number as u64);
            }
            let answer = answer(&writer);
            prop_assert!(plain(&gzip(&answer)) == answer.whole());
        }
    }
}
