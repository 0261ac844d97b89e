//! JSON strings out of bytes.

/// Appends `bytes` as they stand inside the quotes of a JSON string. What is not UTF-8 becomes U+FFFD: one for each longest part that could have
/// been the beginning of a character, as the Unicode standard and most decoders have it.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(_) => escape_utf8(bytes, out),
        Err(_) => {
            for chunk in bytes.utf8_chunks() {
                escape_utf8(chunk.valid().as_bytes(), out);
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
}

/// Appends `"name":"value"`.
pub fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape_utf8(name.as_bytes(), out);
    out.extend_from_slice(b"\":\"");
    escape_utf8(value.as_bytes(), out);
    out.push(b'"');
}

fn escape_utf8(mut text: &[u8], out: &mut Vec<u8>) {
    // The quotes and escapes of nearly every line fit into this; a line of control characters grows the buffer as it goes.
    out.reserve(text.len() + text.len() / 8 + WORD);
    // Whole words are copied, and what of a word is behind a special byte is taken back: that is cheaper than to copy pieces of any length.
    while let Some((word, behind)) = text.split_first_chunk::<WORD>() {
        out.extend_from_slice(word);
        let Some(plain) = first_special(*word) else {
            text = behind;
            continue;
        };
        out.truncate(out.len() - WORD + plain);
        let Some((special, behind)) = text.get(plain..).and_then(<[u8]>::split_first) else { return };
        escape_byte(*special, out);
        text = behind;
    }
    for byte in text {
        escape_byte(*byte, out);
    }
}

#[inline]
fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        control @ 0..0x20 => {
            let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 15)]);
        }
        plain => return out.push(plain),
    };
    out.extend_from_slice(&[b'\\', short]);
}

const WORD: usize = 8;
const ONES: u64 = u64::from_ne_bytes([0x01; WORD]);
const HIGH: u64 = u64::from_ne_bytes([0x80; WORD]);

/// The index of the first byte of a word that is a quote, a backslash or a control character.
pub(in crate::logs) const fn first_special(word: [u8; WORD]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    // The high bit of a byte is set where it is special. A borrow can only spoil the bytes above a special one, and the lowest is asked for.
    let control = word.wrapping_sub(ONES * 0x20);
    first(control | equal(word, b'"') | equal(word, b'\\'), word)
}

/// The index of the first byte of a word that is a quote or a backslash.
pub(in crate::logs) const fn first_quote_or_backslash(word: [u8; WORD]) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    first(equal(word, b'"') | equal(word, b'\\'), word)
}

const fn equal(word: u64, byte: u8) -> u64 {
    (word ^ (ONES * byte as u64)).wrapping_sub(ONES)
}

/// The first byte with its high bit set in `marks` but not in `word`.
const fn first(marks: u64, word: u64) -> Option<usize> {
    match marks & !word & HIGH {
        0 => None,
        marks => Some(marks.trailing_zeros() as usize / 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> String {
        let mut out = vec![b'"'];
        escape(bytes, &mut out);
        out.push(b'"');
        assert!(out.iter().all(|byte| *byte >= 0x20));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn escapes() {
        let mut out = Vec::new();
        escape(b"a\"b\\c\nd\re\tf\x08g\x0ch\x1bi\x00j\x1f/\x7f", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\\"b\\\\c\\nd\\re\\tf\\bg\\fh\\u001bi\\u0000j\\u001f/\u{7f}");
    }

    #[test]
    fn what_is_not_utf_8() {
        assert_eq!(decoded(b"a\xffb\xe2\x82c\xf0\x9f\x98"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    proptest! {
        #[test]
        fn strings_come_back(text: String) {
            prop_assert_eq!(decoded(text.as_bytes()), text);
        }

        #[test]
        fn bytes_come_back_as_far_as_they_are_text(bytes: Vec<u8>) {
            prop_assert_eq!(decoded(&bytes), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn specials_are_found_wherever_they_stand(bytes in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'!'), Just(b'"'), Just(b'#'), Just(b'['), Just(b'\\'), Just(b']'), Just(0x1f), Just(0x7f), Just(0u8)], 0..40)) {
            prop_assert_eq!(decoded(&bytes).into_bytes(), bytes);
        }
    }
}
