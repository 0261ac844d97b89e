//! The lines of Docker's `json-file` driver.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::logs::Stream;
use crate::logs::json::first_quote_or_backslash;
use crate::logs::time::parse_rfc3339;

/// One entry of a log: what Docker's copier handed to the driver, at most 16 KiB of what the container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The stream it was written to.
    pub stream: Stream,
    /// Docker's time, nanoseconds since the epoch.
    pub time: i64,
    /// The bytes, decoded. They end with a line feed unless the entry is a part of a longer line or the last thing a process wrote.
    pub log: &'a [u8],
}

/// A line that is no entry, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// How many words of eight bytes are looked at before a search for longer texts is worth its start.
const NEAR_WORDS: usize = 4;

const BEGIN: &[u8] = b"{\"log\":\"";

/// Reads a line of the file, with or without its line feed. `scratch` takes the decoded bytes where something is escaped; it never needs
/// more than the line's own length.
///
/// The order and spacing of Docker's own writer (`{"log":…,"stream":…,"attrs":{…},"time":…}`, moby, `jsonfilelog/jsonlog`) is read in one
/// pass; any other JSON object with these keys is read too, only slower. As in Docker's own reader an absent `log` is an empty one. Half of a
/// surrogate pair becomes U+FFFD. In Docker's order bytes that are no UTF-8 are passed on as they are.
///
/// # Errors
/// [`Malformed`] when the line is no entry. What follows a torn entry on the same line is found by [`behind_tear`].
pub fn parse<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Entry<'a>, Malformed> {
    let (stream, time, log) = match in_dockers_order(line, scratch) {
        Some(read) => read,
        None => in_any_order(line, scratch)?,
    };
    Ok(Entry { stream, time, log: log.unwrap_or(scratch) })
}

/// The entry that a [`Malformed`] line ends with, if there seems to be one: an engine that died while it wrote leaves half an entry, or NULs, and the
/// next engine appends to that without a line feed. An entry's own text cannot be taken for one, for its quotes are escaped.
#[must_use]
pub fn behind_tear(line: &[u8]) -> Option<&[u8]> {
    memmem::rfind(line, BEGIN).filter(|at| *at > 0).and_then(|at| line.get(at..))
}

/// Stream, time and decoded bytes; the bytes are `None` when they are in the scratch buffer.
type Read<'a> = (Stream, i64, Option<&'a [u8]>);

fn in_dockers_order<'a>(line: &'a [u8], scratch: &mut Vec<u8>) -> Option<Read<'a>> {
    let (log, rest) = string(line.strip_prefix(BEGIN)?, scratch)?;
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest {
        [b'o', b'u', b't', b'"', rest @ ..] => (Stream::Stdout, rest),
        [b'e', b'r', b'r', b'"', rest @ ..] => (Stream::Stderr, rest),
        _ => return None,
    };
    let rest = match rest.strip_prefix(b",\"attrs\":{") {
        Some(attributes) => behind_object(attributes)?,
        None => rest,
    };
    let rest = rest.strip_prefix(b",\"time\":\"")?;
    let (time, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
    matches!(rest, b"\"}" | b"\"}\n" | b"\"}\r\n").then_some(())?;
    Some((stream, parse_rfc3339(time)?, log))
}

/// Decodes a JSON string from behind its opening quote, and gives what is behind its closing one. `None` for the bytes: they are in `scratch`.
fn string<'a>(text: &'a [u8], scratch: &mut Vec<u8>) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    let (plain, mut rest) = text.split_at_checked(memchr2(b'"', b'\\', text)?)?;
    if let [b'"', rest @ ..] = rest {
        return Some((Some(plain), rest));
    }
    scratch.clear();
    scratch.extend_from_slice(plain);
    loop {
        match rest {
            [b'"', rest @ ..] => return Some((None, rest)),
            [b'\\', escaped @ ..] => rest = unescape(escaped, scratch)?,
            _ => rest = copy_plain(rest, scratch)?,
        }
    }
}

/// Copies what stands before the next quote or backslash. Behind an escape the next is near, and most often within a few words of the text.
fn copy_plain<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    for _ in 0..NEAR_WORDS {
        let Some((word, behind)) = text.split_first_chunk::<8>() else { break };
        out.extend_from_slice(word);
        if let Some(plain) = first_quote_or_backslash(*word) {
            out.truncate(out.len() - word.len() + plain);
            return text.get(plain..);
        }
        text = behind;
    }
    let (plain, behind) = text.split_at_checked(memchr2(b'"', b'\\', text)?)?;
    out.extend_from_slice(plain);
    Some(behind)
}

/// Decodes one escape from behind its backslash, and gives what is behind it.
fn unescape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (kind, rest) = text.split_first()?;
    out.push(match kind {
        b'n' => b'\n',
        b'"' | b'\\' | b'/' => *kind,
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'u' => return unescape_unicode(rest, out),
        _ => return None,
    });
    Some(rest)
}

fn unescape_unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (unit, mut rest) = hexadecimal(text)?;
    let mut point = unit;
    if let (0xd800..=0xdbff, [b'\\', b'u', behind @ ..]) = (unit, rest)
        && let Some((low @ 0xdc00..=0xdfff, behind)) = hexadecimal(behind)
    {
        point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        rest = behind;
    }
    let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn hexadecimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut number = 0;
    for digit in digits {
        number = number << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((number, rest))
}

/// What is behind the closing brace of an object, from behind its opening one.
fn behind_object(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 1;
    while depth > 0 {
        let (found, rest) = text.get(memchr3(b'"', b'{', b'}', text)?..)?.split_first()?;
        text = rest;
        match found {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => loop {
                let (found, rest) = text.get(memchr2(b'"', b'\\', text)?..)?.split_first()?;
                if *found == b'"' {
                    text = rest;
                    break;
                }
                text = rest.get(1..)?;
            },
        }
    }
    Some(text)
}

#[derive(Deserialize)]
struct AnyOrder<'a> {
    #[serde(borrow)]
    log: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn in_any_order<'a>(line: &'a [u8], scratch: &mut Vec<u8>) -> Result<Read<'a>, Malformed> {
    let entry: AnyOrder<'a> = serde_json::from_slice(line).map_err(|_| Malformed("not a JSON object with log, stream and time"))?;
    let stream = match &*entry.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return Err(Malformed("the stream is neither stdout nor stderr")),
    };
    let time = parse_rfc3339(entry.time.as_bytes()).ok_or(Malformed("the time is not one of RFC 3339"))?;
    let log = match entry.log.map(|log| log.get().as_bytes()) {
        Some([b'"', text @ ..]) => string(text, scratch).ok_or(Malformed("the log is not a string"))?.0,
        Some(_) => return Err(Malformed("the log is not a string")),
        None => Some(&b""[..]),
    };
    Ok((stream, time, log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<(Stream, i64, Vec<u8>)> {
        let mut scratch = Vec::new();
        parse(line.as_bytes(), &mut scratch).ok().map(|entry| (entry.stream, entry.time, entry.log.to_vec()))
    }

    fn fast(line: &str) -> bool {
        in_dockers_order(line.as_bytes(), &mut Vec::new()).is_some()
    }

    /// In the form of Docker's writer: plain, unended, with its escapes (`<` and `>`, a colour, bytes that were no UTF-8), with attributes.
    #[test]
    fn lines_in_dockers_order() {
        for (line, stream, log) in [
            (r#"{"log":"hello\n","stream":"stdout","time":"2026-11-20T10:00:00.123456789Z"}"#, Stream::Stdout, &b"hello\n"[..]),
            (r#"{"log":"no end","stream":"stderr","time":"2026-11-20T10:00:00.123456789Z"}"#, Stream::Stderr, b"no end"),
            (
                r#"{"log":"\u001b[31m\u003ca\u003e \"q\" \\ \ufffd\ufffd\tü\r\n","stream":"stdout","time":"2026-11-20T10:00:00.123456789Z"}"#,
                Stream::Stdout,
                "\u{1b}[31m<a> \"q\" \\ \u{fffd}\u{fffd}\tü\r\n".as_bytes(),
            ),
            (
                r#"{"log":"x\n","stream":"stdout","attrs":{"tag":"a{\"}b","com.docker.stack.namespace":"s"},"time":"2026-11-20T10:00:00.123456789Z"}"#,
                Stream::Stdout,
                b"x\n",
            ),
        ] {
            assert_eq!(read(line), Some((stream, 1_795_168_800_123_456_789, log.to_vec())), "{line}");
            assert!(fast(line) && fast(&format!("{line}\n")), "{line}");
        }
    }

    #[test]
    fn any_order_of_the_keys() {
        for line in [
            r#"{"time":"1970-01-01T00:00:00.000000007Z","stream":"stderr","log":"a\nb\u0021"}"#,
            r#" { "log" : "a\nb!", "stream": "std\u0065rr", "more": [1, {"log": 2}], "time": "1970-01-01T00:00:00.000000007Z" } "#,
        ] {
            assert!(!fast(line));
            assert_eq!(read(line), Some((Stream::Stderr, 7, b"a\nb!".to_vec())), "{line}");
        }
        assert_eq!(read(r#"{"stream":"stdout","time":"1970-01-01T00:00:00Z"}"#), Some((Stream::Stdout, 0, Vec::new())));
    }

    #[test]
    fn surrogates() {
        let line = |log: &str| format!(r#"{{"log":"{log}","stream":"stdout","time":"1970-01-01T00:00:00Z"}}"#);
        assert_eq!(read(&line(r"\ud83d\ude00")).unwrap().2, "😀".as_bytes());
        assert_eq!(read(&line(r"\ud83d\ud83d\ude00")).unwrap().2, "\u{fffd}😀".as_bytes());
        assert_eq!(read(&line(r"\ude00\ud83dx")).unwrap().2, "\u{fffd}\u{fffd}x".as_bytes());
    }

    #[test]
    fn what_is_no_entry() {
        for line in [
            "",
            "{}",
            r#"{"log":"x"#,
            r#"{"log":"x\"#,
            r#"{"log":"x\u00"#,
            r#"{"log":"x\q","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#,
            r#"{"log":"x","stream":"stdin","time":"1970-01-01T00:00:00Z"}"#,
            r#"{"log":"x","stream":"stdout","time":"today"}"#,
            r#"{"log":"x","stream":"stdout","time":"1970-01-01T00:00:00Z"}{"#,
            r#"{"log":7,"stream":"stdout","time":"1970-01-01T00:00:00Z"}"#,
            // Torn in its attributes, which hold a time themselves.
            r#"{"log":"x","stream":"stdout","attrs":{"a":"b","time":"1970-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn the_entry_behind_a_tear() {
        let whole = r#"{"log":"say {\"log\":\"x\"}\n","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(behind_tear(whole.as_bytes()), None);
        for torn in [r#"{"log":"half"#, "\0\0\0\0", r#"{"log":"x","stream":"std"#] {
            let line = format!("{torn}{whole}");
            assert_eq!(read(&line), None);
            assert_eq!(behind_tear(line.as_bytes()), Some(whole.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn every_string_comes_back(log: String, stderr: bool) {
            let stream = if stderr { "stderr" } else { "stdout" };
            let text = serde_json::to_string(&log).unwrap();
            let line = format!(r#"{{"log":{text},"stream":"{stream}","time":"2026-11-20T10:00:00.1Z"}}"#);
            prop_assert!(fast(&line));
            prop_assert_eq!(read(&line).unwrap().2, log.as_bytes());
            let other = format!(r#"{{"stream":"{stream}","log":{text},"time":"2026-11-20T10:00:00.1Z"}}"#);
            prop_assert_eq!(read(&other), read(&line));
        }

        #[test]
        fn every_escape_is_what_serde_json_takes_it_for(pieces in proptest::collection::vec("[a-z\"ü😀]|\\\\[nrtbf\"/\\\\]|\\\\u[0-9a-fA-F]{4}|\\\\[a-z]", 0..12)) {
            let text = format!("\"{}\"", pieces.concat().replace("\"", "\\\"").replace("\\\\\"", "\\\""));
            let line = format!(r#"{{"log":{text},"stream":"stdout","time":"2026-11-20T10:00:00.1Z"}}"#);
            // serde_json refuses halves of surrogate pairs, which are taken here; all else must agree.
            if let Ok(log) = serde_json::from_str::<String>(&text) {
                prop_assert_eq!(read(&line).unwrap().2, log.as_bytes());
            }
        }

        #[test]
        fn bytes_never_panic(bytes: Vec<u8>) {
            let _entry = parse(&bytes, &mut Vec::new());
            let _rest = behind_tear(&bytes);
        }

        #[test]
        fn nearly_entries_never_panic(line in r#"\{"log":"[a\\"u0n]{0,12}(","stream":"std(out|err)")?(,"attrs":\{["\\{}a:]{0,8})?(,"time":"[0-9TZ:.-]{0,30}"\})?"#) {
            let mut scratch = Vec::new();
            if let Ok(entry) = parse(line.as_bytes(), &mut scratch) {
                prop_assert!(entry.log.len() <= line.len());
            }
        }
    }
}
