//! logfmt: `name=value name="a value"`, and nothing else. It has no types: all values are texts.

use super::{Fields, LONGEST_TEXT, Role, Unparsed};
use crate::logs::steer::redact::{PLACEHOLDER, Redaction};

pub(super) fn read(line: &[u8], redaction: Option<&Redaction>, fields: &mut Fields) -> Result<(), Unparsed> {
    if std::str::from_utf8(line).is_err() {
        return Err(Unparsed::Invalid);
    }
    let mut rest = line.trim_ascii_start();
    let mut value = std::mem::take(&mut fields.decoded);
    let mut read = Ok(());
    while !rest.is_empty() && read.is_ok() {
        match pair(rest, redaction, fields, &mut value) {
            Ok(behind) => rest = behind.trim_ascii_start(),
            Err(why) => read = Err(why),
        }
    }
    fields.decoded = value;
    if fields.count == 0 { read.and(Err(Unparsed::Invalid)) } else { read }
}

/// Takes one pair, and gives what is behind it.
fn pair<'t>(text: &'t [u8], redaction: Option<&Redaction>, fields: &mut Fields, value: &mut Vec<u8>) -> Result<&'t [u8], Unparsed> {
    let end = text.iter().position(|byte| matches!(byte, b'=' | b'"' | 0..=b' ')).unwrap_or(text.len());
    let (key, rest) = text.split_at_checked(end).ok_or(Unparsed::Invalid)?;
    let Some(rest) = rest.strip_prefix(b"=").filter(|_| !key.is_empty()) else {
        // A whole pair may have been taken out.
        return if key == PLACEHOLDER { Ok(rest) } else { Err(Unparsed::Invalid) };
    };
    value.clear();
    let rest = match rest.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted, value).ok_or(Unparsed::Invalid)?,
        None => {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let (plain, rest) = rest.split_at_checked(end).ok_or(Unparsed::Invalid)?;
            value.extend_from_slice(plain);
            rest
        }
    };
    if value.len() > LONGEST_TEXT && !matches!(Role::of(key), Role::Message(_)) {
        return Err(Unparsed::TooLarge);
    }
    let is_first = fields.count == 0;
    let begin = fields.out.len() + usize::from(!is_first);
    fields.key(key, 0, is_first, redaction)?;
    let at = fields.out.len();
    fields.text(value, redaction);
    fields.top(key, begin, at, true)?;
    Ok(rest)
}

/// Decodes a value from behind its opening quote, and gives what is behind its closing one, which is a space or nothing. The escapes are those of Go.
fn unquote<'t>(mut text: &'t [u8], out: &mut Vec<u8>) -> Option<&'t [u8]> {
    loop {
        let (plain, rest) = text.split_at_checked(memchr::memchr2(b'"', b'\\', text)?)?;
        out.extend_from_slice(plain);
        match rest {
            [b'"', rest @ ..] => return matches!(rest, [] | [b' ' | b'\t' | b'\n' | b'\r', ..]).then_some(rest),
            [b'\\', kind, behind @ ..] => {
                text = behind;
                out.push(match kind {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'"' | b'\\' | b'/' | b'\'' => *kind,
                    b'x' | b'u' | b'U' => {
                        let length = if *kind == b'x' {
                            2
                        } else if *kind == b'u' {
                            4
                        } else {
                            8
                        };
                        let (digits, behind) = text.split_at_checked(length)?;
                        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                        text = behind;
                        if *kind == b'x' {
                            // A byte, which need not be a character by itself.
                            u8::try_from(number).ok()?
                        } else {
                            let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
                            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                            continue;
                        }
                    }
                    _ => return None,
                });
            }
            _ => return None,
        }
    }
}
