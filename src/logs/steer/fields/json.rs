//! JSON, checked while it is copied (RFC 8259).

use super::{DEEPEST, Fields, LONGEST_TEXT, Unparsed};
use crate::logs::json::first_special;
use crate::logs::steer::redact::{PLACEHOLDER, Redaction};

/// The longest integer that every 64 bits hold.
const SURE_DIGITS: usize = 18;
/// The longest number that is written as one: some readers refuse a whole document for one that is much longer.
const LONGEST_NUMBER: usize = 40;

pub(super) fn read(line: &[u8], redaction: Option<&Redaction>, fields: &mut Fields) -> Result<(), Unparsed> {
    // Nearly all that begins like an object and is none is found here.
    if !matches!(line.trim_ascii_end(), [.., b'}']) || std::str::from_utf8(line).is_err() {
        return Err(Unparsed::Invalid);
    }
    let mut reader = Reader { text: line, redaction, fields };
    reader.space();
    reader.take(b'{')?;
    reader.members(0)?;
    reader.space();
    if reader.text.is_empty() { Ok(()) } else { Err(Unparsed::Invalid) }
}

struct Reader<'t, 'f> {
    /// What is left of the line.
    text: &'t [u8],
    redaction: Option<&'f Redaction>,
    fields: &'f mut Fields,
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy)]
struct Raw<'t> {
    text: &'t [u8],
    has_escapes: bool,
    /// An escape of half a character, which may be without the other.
    has_surrogates: bool,
}

impl<'t> Reader<'t, '_> {
    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.text {
            self.text = rest;
        }
    }

    fn next(&mut self) -> Result<u8, Unparsed> {
        let (next, rest) = self.text.split_first().ok_or(Unparsed::Invalid)?;
        self.text = rest;
        Ok(*next)
    }

    fn take(&mut self, wanted: u8) -> Result<(), Unparsed> {
        if self.next()? == wanted { Ok(()) } else { Err(Unparsed::Invalid) }
    }

    /// The members of an object, from behind its opening brace to behind its closing one.
    fn members(&mut self, depth: u32) -> Result<(), Unparsed> {
        let object = self.fields.names.len();
        self.space();
        if let [b'}', rest @ ..] = self.text {
            self.text = rest;
            return Ok(());
        }
        let mut is_first = true;
        loop {
            self.space();
            self.take(b'"')?;
            let raw = self.string()?;
            let begin = self.fields.out.len() + usize::from(!is_first);
            self.key(raw, object, is_first)?;
            is_first = false;
            self.space();
            self.take(b':')?;
            self.space();
            let value = self.fields.out.len();
            let is_text = matches!(self.text, [b'"', ..]);
            self.value(depth, depth == 0)?;
            if depth == 0 {
                self.fields.top(raw.text, begin, value, is_text)?;
            }
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return Err(Unparsed::Invalid),
            }
        }
        self.fields.names.truncate(object);
        Ok(())
    }

    fn key(&mut self, raw: Raw<'t>, object: usize, is_first: bool) -> Result<(), Unparsed> {
        if !raw.has_escapes {
            return self.fields.key(raw.text, object, is_first, self.redaction);
        }
        let mut decoded = std::mem::take(&mut self.fields.decoded);
        decode(raw.text, &mut decoded);
        let written = self.fields.key(&decoded, object, is_first, self.redaction);
        self.fields.decoded = decoded;
        written
    }

    fn value(&mut self, depth: u32, is_top: bool) -> Result<(), Unparsed> {
        match self.text {
            [b'"', rest @ ..] => {
                self.text = rest;
                let raw = self.string()?;
                // Of the line's own members one may be the message.
                if raw.text.len() > LONGEST_TEXT && !is_top {
                    return Err(Unparsed::TooLarge);
                }
                self.write(raw);
                Ok(())
            }
            [b'{', rest @ ..] => {
                self.text = rest;
                self.deeper(depth)?;
                self.fields.out.push(b'{');
                self.members(depth + 1)?;
                self.fields.out.push(b'}');
                Ok(())
            }
            [b'[', rest @ ..] => {
                self.text = rest;
                self.deeper(depth)?;
                self.elements(depth + 1)
            }
            [b'-' | b'0'..=b'9', ..] => self.number(),
            _ => self.word(),
        }
    }

    const fn deeper(&self, depth: u32) -> Result<(), Unparsed> {
        if depth >= DEEPEST { Err(Unparsed::TooDeep) } else { Ok(()) }
    }

    fn elements(&mut self, depth: u32) -> Result<(), Unparsed> {
        self.fields.out.push(b'[');
        self.space();
        if let [b']', rest @ ..] = self.text {
            self.text = rest;
            self.fields.out.push(b']');
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth, false)?;
            self.space();
            let next = self.next()?;
            match next {
                b',' | b']' => self.fields.out.push(next),
                _ => return Err(Unparsed::Invalid),
            }
            if next == b']' {
                return Ok(());
            }
        }
    }

    fn word(&mut self) -> Result<(), Unparsed> {
        for word in [&b"true"[..], b"false", b"null"] {
            if let Some(rest) = self.text.strip_prefix(word) {
                self.text = rest;
                self.fields.out.extend_from_slice(word);
                return Ok(());
            }
        }
        Err(Unparsed::Invalid)
    }

    fn number(&mut self) -> Result<(), Unparsed> {
        let length = number(self.text).ok_or(Unparsed::Invalid)?;
        let (number, rest) = self.text.split_at_checked(length).ok_or(Unparsed::Invalid)?;
        self.text = rest;
        let fields = &mut *self.fields;
        if let Some(count) = self.redaction.and_then(|redaction| redaction.apply(number, &mut fields.spans, &mut fields.replaced)) {
            fields.redactions += count;
            fields.out.push(b'"');
            fields.out.extend_from_slice(PLACEHOLDER);
            fields.out.push(b'"');
        } else if is_held(number) {
            fields.out.extend_from_slice(number);
        } else {
            fields.out.push(b'"');
            fields.out.extend_from_slice(number);
            fields.out.push(b'"');
        }
        Ok(())
    }

    /// From behind the opening quote to behind the closing one.
    fn string(&mut self) -> Result<Raw<'t>, Unparsed> {
        let begin = self.text;
        let mut raw = Raw { text: begin, has_escapes: false, has_surrogates: false };
        loop {
            while let Some((word, rest)) = self.text.split_first_chunk() {
                let Some(plain) = first_special(*word) else {
                    self.text = rest;
                    continue;
                };
                self.text = self.text.get(plain..).unwrap_or_default();
                break;
            }
            let left = self.text.len();
            match self.next()? {
                b'"' => {
                    raw.text = begin.get(..begin.len() - left).unwrap_or_default();
                    return Ok(raw);
                }
                b'\\' => {
                    raw.has_escapes = true;
                    match self.next()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let (unit, rest) = hexadecimal(self.text).ok_or(Unparsed::Invalid)?;
                            self.text = rest;
                            raw.has_surrogates |= matches!(unit, 0xd800..=0xdfff);
                        }
                        _ => return Err(Unparsed::Invalid),
                    }
                }
                0..0x20 => return Err(Unparsed::Invalid),
                _ => {}
            }
        }
    }

    /// Writes a string: as it stands, where nothing has to be looked for in it.
    fn write(&mut self, raw: Raw<'t>) {
        if self.redaction.is_none() && !raw.has_surrogates {
            self.fields.out.push(b'"');
            self.fields.out.extend_from_slice(raw.text);
            self.fields.out.push(b'"');
            return;
        }
        if !raw.has_escapes {
            return self.fields.text(raw.text, self.redaction);
        }
        let mut decoded = std::mem::take(&mut self.fields.decoded);
        decode(raw.text, &mut decoded);
        self.fields.text(&decoded, self.redaction);
        self.fields.decoded = decoded;
    }
}

/// How long the number is that a text begins with.
fn number(text: &[u8]) -> Option<usize> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    match digits(text.get(at..)?) {
        0 => return None,
        1 => at += 1,
        _ if text.get(at) == Some(&b'0') => return None,
        count => at += count,
    }
    if text.get(at) == Some(&b'.') {
        let count = digits(text.get(at + 1..)?);
        if count == 0 {
            return None;
        }
        at += 1 + count;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let count = digits(text.get(at..)?);
        if count == 0 {
            return None;
        }
        at += count;
    }
    Some(at)
}

/// Whether readers hold a number: an integer in 64 bits with its sign, and any other as a float of 64 bits, rounded.
fn is_held(number: &[u8]) -> bool {
    if number.len() <= SURE_DIGITS && number.iter().all(u8::is_ascii_digit) {
        return true;
    }
    if number.len() > LONGEST_NUMBER {
        return false;
    }
    let Ok(text) = std::str::from_utf8(number) else { return false };
    if number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return text.parse::<f64>().is_ok_and(f64::is_finite);
    }
    text.parse::<i64>().is_ok()
}

/// Decodes a string whose escapes are known to be right. Half of a character becomes U+FFFD.
pub(in crate::logs) fn decode(mut text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    while let Some(at) = memchr::memchr(b'\\', text) {
        let (plain, rest) = text.split_at_checked(at).unwrap_or_default();
        out.extend_from_slice(plain);
        let [_, kind, behind @ ..] = rest else { return };
        text = behind;
        out.push(match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let Some((character, behind)) = character(text) else { return };
                text = behind;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => *other,
        });
    }
    out.extend_from_slice(text);
}

fn character(text: &[u8]) -> Option<(char, &[u8])> {
    let (unit, mut rest) = hexadecimal(text)?;
    let mut point = unit;
    if let (0xd800..=0xdbff, [b'\\', b'u', behind @ ..]) = (unit, rest)
        && let Some((low @ 0xdc00..=0xdfff, behind)) = hexadecimal(behind)
    {
        point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        rest = behind;
    }
    Some((char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

pub(super) fn hexadecimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut number = 0;
    for digit in digits {
        number = number << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((number, rest))
}
