//! What a scrape answers, in a form without repetitions: the labels of a container stand in it once and not in each of its fifty samples.
//!
//! A thousand containers of a Swarm have 40 MB of exposition, nine tenths of which are the same label sets again and again. So where a set stands the text has a
//! [mark](push_mark), four bytes that are in no text of UTF-8, and the sets are kept beside it. Lines, names and values are where they would be: who looks
//! only at these ([merge](super::merge), [OpenMetrics](super::openmetrics)) reads the one as the other. Whoever sends the answer puts the sets in
//! ([`Answer::pieces`]), piece by piece.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::LabelSet;

/// The first byte of a mark. The others have their highest bit set too: no line feed, blank or quote is among them.
const MARK: u8 = 0xff;
/// The bytes of a mark.
const MARK_LENGTH: usize = 4;
/// How many sets three times seven bits can number.
pub(super) const MOST_SETS: usize = 1 << 21;

/// What a scrape answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The text, with marks.
    pub text: Bytes,
    /// What the marks stand for, by number.
    pub sets: Arc<[Arc<LabelSet>]>,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes that stand for themselves.
    Plain(&'a [u8]),
    /// The set of this number, with its rendered labels.
    Set(usize, &'a str),
}

impl Answer {
    /// The parts in their order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        pieces(&self.text, &self.sets)
    }

    /// The part that begins at `at` in the text, and where the next one begins; `None` at the end.
    pub fn piece(&self, at: usize) -> Option<(Piece<'_>, usize)> {
        let rest = self.text.get(at..)?;
        let piece = pieces(rest, &self.sets).next()?;
        let length = match piece {
            Piece::Plain(bytes) => bytes.len(),
            Piece::Set(..) => MARK_LENGTH,
        };
        Some((piece, at + length))
    }

    /// The length of the whole text.
    #[must_use]
    pub fn length(&self) -> usize {
        if self.sets.is_empty() { self.text.len() } else { self.pieces().map(|piece| piece.bytes().len()).sum() }
    }

    /// The whole text.
    #[must_use]
    pub fn whole(&self) -> Bytes {
        if self.sets.is_empty() {
            return self.text.clone();
        }
        let mut out = Vec::with_capacity(self.length());
        expand(&self.text, &self.sets, &mut out);
        out.into()
    }
}

impl<'a> Piece<'a> {
    /// The bytes that are sent.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Set(_, text) => text.as_bytes(),
        }
    }
}

/// Appends the mark of the set `number`.
#[expect(clippy::cast_possible_truncation, reason = "seven bits each")]
pub(super) fn push_mark(number: usize, text: &mut Vec<u8>) {
    text.extend_from_slice(&[MARK, 0x80 | (number >> 14 & 0x7f) as u8, 0x80 | (number >> 7 & 0x7f) as u8, 0x80 | (number & 0x7f) as u8]);
}

/// Appends the text with its sets in their places.
pub(super) fn expand(text: &[u8], sets: &[Arc<LabelSet>], out: &mut Vec<u8>) {
    for piece in pieces(text, sets) {
        out.extend_from_slice(piece.bytes());
    }
}

fn pieces<'a>(text: &'a [u8], sets: &'a [Arc<LabelSet>]) -> impl Iterator<Item = Piece<'a>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let plain = if sets.is_empty() { None } else { memchr::memchr(MARK, rest) }.unwrap_or(rest.len());
        if plain > 0 {
            let (plain, behind) = rest.split_at_checked(plain)?;
            rest = behind;
            return Some(Piece::Plain(plain));
        }
        // What is no mark of this answer stands for itself.
        let set = number(rest).and_then(|number| Some((number, sets.get(number)?.as_str())));
        let (here, behind) = rest.split_at_checked(if set.is_some() { MARK_LENGTH } else { 1 })?;
        rest = behind;
        Some(set.map_or(Piece::Plain(here), |(number, text)| Piece::Set(number, text)))
    })
}

/// The number in the mark at the begin of `text`.
fn number(text: &[u8]) -> Option<usize> {
    let digits = text.get(1..MARK_LENGTH)?;
    digits.iter().try_fold(0, |number, byte| (*byte >= 0x80).then(|| number << 7 | usize::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: Vec<u8>, sets: &[&str]) -> Answer {
        Answer { text: text.into(), sets: sets.iter().map(|value| Arc::new(LabelSet::of([("a", *value)]))).collect() }
    }

    #[test]
    fn sets_stand_where_their_marks_are() {
        let mut text = b"x{".to_vec();
        push_mark(1, &mut text);
        text.extend_from_slice(b"} 1\n");
        push_mark(0, &mut text);
        let answer = answer(text, &["first", "second"]);
        assert_eq!(answer.whole(), "x{a=\"second\"} 1\na=\"first\"");
        assert_eq!(answer.length(), answer.whole().len());
        assert_eq!(answer.pieces().nth(1), Some(Piece::Set(1, "a=\"second\"")));
    }

    #[test]
    fn a_mark_holds_no_byte_that_ends_a_line_or_a_label() {
        for number_of in (0..MOST_SETS).step_by(977).chain([MOST_SETS - 1]) {
            let mut mark = Vec::new();
            push_mark(number_of, &mut mark);
            assert_eq!((mark.len(), number(&mark)), (MARK_LENGTH, Some(number_of)));
            assert!(mark.iter().all(|byte| *byte >= 0x80));
        }
    }

    proptest::proptest! {
        #[test]
        fn bytes_that_are_no_marks_stand_for_themselves(text: Vec<u8>) {
            proptest::prop_assert_eq!(answer(text.clone(), &[]).whole(), text.clone());
            let one = answer(text.clone(), &["b"]);
            proptest::prop_assert!(one.whole().len() >= text.len() && one.length() == one.whole().len());
        }
    }
}
