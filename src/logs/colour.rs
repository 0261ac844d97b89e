//! Colours of terminals, which are no part of what a line says.

use memchr::memchr;

/// The byte that begins a colour.
pub(super) const ESCAPE: u8 = 0x1b;

/// A colour has a few numbers; what is longer than this between `ESC [` and its letter is no colour.
const LONGEST_COLOUR: usize = 64;

/// What is left of a text without colours, piece by piece.
pub(super) struct Pieces<'a> {
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    pub(super) const fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest;
        if text.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| memchr(ESCAPE, rest)) {
            let (piece, rest) = text.split_at_checked(from + at)?;
            if let Some(behind) = behind_colour(rest) {
                self.rest = behind;
                return Some(piece);
            }
            from += at + 1;
        }
        self.rest = &[];
        Some(text)
    }
}

/// What is behind a colour, if `text` begins with one: `ESC [`, parameters, and `m` (Select Graphic Rendition) or `K` (Erase in Line, which grep and
/// gcc put behind each colour); ECMA-48, 5.4.
fn behind_colour(text: &[u8]) -> Option<&[u8]> {
    let parameters = text.strip_prefix(b"\x1b[")?;
    let length = parameters.iter().take(LONGEST_COLOUR).position(|byte| !matches!(byte, b'0'..=b'?'))?;
    match parameters.get(length..)? {
        [b'm' | b'K', behind @ ..] => Some(behind),
        _ => None,
    }
}

/// The text without colours: as it is where there are none, else put together in `scratch`.
pub(super) fn without<'a>(text: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if memchr(ESCAPE, text).is_none() {
        return text;
    }
    scratch.clear();
    for piece in Pieces::of(text) {
        scratch.extend_from_slice(piece);
    }
    scratch
}
