//! A record: its id and its document.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::{memchr, memmem};
use xxhash_rust::xxh3::xxh3_128;

use super::assemble::Line;
use super::colour::{self, ESCAPE, Pieces};
use super::enrich::Enrichment;
pub use super::index::{IndexPattern, action};
use super::json::escape;
use super::level::{LOOKED_AT, level};
use super::steer::fields::json::decode;
use super::steer::fields::{Format, Unparsed};
use super::steer::redact::PLACEHOLDER;
use super::steer::{Encoded, Steering, Work};
use super::time::write_rfc3339;
use super::{ContainerId, Stream};

/// What a record is known by for ever: 32 characters of the URL-safe base64 alphabet. Records of about the same time begin alike, which keeps
/// Elasticsearch's look-ups by id cheap.
///
/// ```text
/// base64url( time_ns, 8 bytes ‖ xxh3-128( container id, 64 digits ‖ 0 ‖ stream, 1 byte ‖ time_ns, 8 bytes ‖ raw hash, 16 bytes ‖ k, 4 bytes ), 16 bytes )
/// raw hash = xxh3-128( all that the container wrote as this line, decoded, without the line feed that ended it )
/// ```
///
/// All numbers are big endian. `k` is how many identical lines (stream, time and bytes) came before this one. Nothing in it depends on the node, the
/// file or the offset: the id is the same after a rotation, by another way of reading, on a renamed node, and after the state was lost. It must
/// never change: whoever changes it sends every line twice that was under way at the update.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId([u8; 32]);

impl RecordId {
    /// The id of what happened at `time` and has this hash.
    #[must_use]
    pub fn new(time: i64, hash: u128) -> Self {
        let mut bytes = [0; 24];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(&time.to_be_bytes());
        tail.copy_from_slice(&hash.to_be_bytes());
        let mut text = [b'A'; 32];
        // 24 bytes are 32 characters, always.
        let _written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        Self(text)
    }

    /// The 32 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 32 characters, as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives the ids of one container's lines.
#[derive(Debug, Clone)]
pub struct IdScope {
    /// container id (64) ‖ 0 ‖ stream (1) ‖ time (8) ‖ raw hash (16) ‖ k (4)
    hashed: [u8; 94],
}

impl IdScope {
    /// For the lines of this container.
    #[must_use]
    pub fn new(container: &ContainerId) -> Self {
        let mut hashed = [0; 94];
        for (to, digit) in hashed.iter_mut().zip(container.as_str().bytes().take(64)) {
            *to = digit;
        }
        Self { hashed }
    }

    /// The id of a line, by the hash of its raw bytes and the number of identical lines before it.
    pub fn id(&mut self, stream: Stream, time: i64, raw: u128, k: u32) -> RecordId {
        let (_, rest) = self.hashed.split_at_mut(65);
        let (stream_byte, rest) = rest.split_at_mut(1);
        let (time_bytes, rest) = rest.split_at_mut(8);
        let (raw_bytes, k_bytes) = rest.split_at_mut(16);
        stream_byte.copy_from_slice(&[stream as u8]);
        time_bytes.copy_from_slice(&time.to_be_bytes());
        raw_bytes.copy_from_slice(&raw.to_be_bytes());
        k_bytes.copy_from_slice(&k.to_be_bytes());
        RecordId::new(time, xxh3_128(&self.hashed))
    }
}

/// Appends the record as one JSON document without a line feed: ECS field names, nested. Tells what was done to it.
///
/// `message` is the line with U+FFFD for what is not UTF-8, without colours unless they are to stay (the escape sequences `ESC [ … m` and `ESC [ … K`; all
/// others stay), and, where the container has a terminal, without the carriage return that the terminal put before each line feed. `log.level` is there where
/// the line tells one (see [`super::level`]), and given back. Where the line is JSON, or logfmt as a label says, `message` is its message, and its other fields
/// are members of `app` (see [`super::steer::fields`]). `tags` is there where the line was cut, or is several. All else is the same for each line of its container.
pub fn encode(
    line: &Line<'_>,
    of: &Enrichment,
    steering: &Steering,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> (Option<&'static str>, Encoded) {
    let message = match line.bytes {
        [message @ .., b'\r'] if of.tty() && line.cut.is_none() => message,
        message => message,
    };
    out.extend_from_slice(b"{\"@timestamp\":\"");
    write_rfc3339(line.time, out);
    out.extend_from_slice(b"\",\"message\":\"");
    let mut encoded = Encoded::default();
    let needs_work = steering.format().looks_at(message) || steering.redaction().is_some() || (of.tty() && line.lines > 1);
    let level = if needs_work {
        let level;
        (level, encoded) = worked(message, line.cut.is_some(), of.tty(), steering, work, out);
        level
    } else if steering.keeps_colours() || memchr(ESCAPE, message).is_none() {
        escape(message, out);
        guess(message)
    } else {
        let mut head = Head::default();
        for piece in Pieces::of(message) {
            escape(piece, out);
            head.push(piece);
        }
        level(head.bytes(), head.more)
    };
    out.extend_from_slice(match line.stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\",\"log\":{",
        Stream::Stderr => b"\",\"stream\":\"stderr\",\"log\":{",
    });
    if let Some(level) = level {
        out.extend_from_slice(b"\"level\":\"");
        out.extend_from_slice(level.as_bytes());
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"offset\":");
    out.extend_from_slice(itoa::Buffer::new().format(line.offset).as_bytes());
    out.push(b'}');
    if encoded.is_parsed {
        work.fields.write(out);
    }
    out.extend_from_slice(match (line.cut.is_some(), line.lines > 1) {
        (false, false) => b",\"event\":{\"id\":\"",
        (true, false) => b",\"tags\":[\"truncated\"],\"event\":{\"id\":\"",
        (false, true) => b",\"tags\":[\"multiline\"],\"event\":{\"id\":\"",
        (true, true) => b",\"tags\":[\"truncated\",\"multiline\"],\"event\":{\"id\":\"",
    });
    out.extend_from_slice(line.id.as_bytes());
    out.push(b'"');
    out.extend_from_slice(of.tail());
    (level, encoded)
}

/// A message that has to be put together before it is written, or taken apart.
fn worked(
    message: &[u8],
    is_cut: bool,
    tty: bool,
    steering: &Steering,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> (Option<&'static str>, Encoded) {
    let Work { text, redacted, spans, fields } = work;
    let mut encoded = Encoded::default();
    let mut message = if steering.keeps_colours() { message } else { colour::without(message, text) };
    let lines;
    if tty && memchr(b'\r', message).is_some() {
        lines = without_returns(message);
        message = &lines;
    }
    // The level is that of the line as it came: it is one of a few words.
    let came = message;
    if let Some(redaction) = steering.redaction() {
        if redaction.takes_all() {
            out.extend_from_slice(PLACEHOLDER);
            return (guess(came), Encoded { is_blanked: true, ..encoded });
        }
        // First the line as it was written, for an expression may be made for that, then each text in it.
        if let Some(count) = redaction.apply(message, spans, redacted) {
            encoded.redactions = count;
            message = redacted;
        }
    }
    let format = steering.format();
    if format.looks_at(message) {
        let read = if is_cut { Err(Unparsed::TooLarge) } else { fields.read(format, message, steering.redaction()) };
        match read {
            Ok(()) => {
                encoded.is_parsed = true;
                encoded.redactions += fields.redactions();
                let guessed = match fields.message() {
                    Some(text) => uncoloured(text, steering.keeps_colours(), fields.level().is_none(), out),
                    None => {
                        escape(message, out);
                        if fields.level().is_some() { None } else { guess(came) }
                    }
                };
                return (fields.level().or(guessed), encoded);
            }
            // A brace alone is no claim to be JSON.
            Err(Unparsed::Invalid) if format == Format::Auto => {}
            Err(why) => encoded.unparsed = Some(why),
        }
    }
    escape(message, out);
    (guess(came), encoded)
}

/// Writes a message that stands as it is inside the quotes of a JSON string, and guesses its level where that is `wanted`.
fn uncoloured(text: &[u8], keeps_colours: bool, wanted: bool, out: &mut Vec<u8>) -> Option<&'static str> {
    let begin = out.len();
    let is_coloured = !keeps_colours
        && memchr(b'\\', text).is_some()
        && [&b"\\u001b["[..], b"\\u001B["].into_iter().any(|colour| memmem::find(text, colour).is_some());
    if is_coloured {
        let mut decoded = Vec::new();
        decode(text, &mut decoded);
        Pieces::of(&decoded).for_each(|piece| escape(piece, out));
    } else {
        out.extend_from_slice(text);
    }
    if wanted { guess(out.get(begin..).unwrap_or_default()) } else { None }
}

/// Without the carriage returns that a terminal put before line feeds.
fn without_returns(text: &[u8]) -> Vec<u8> {
    let mut without = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [line @ .., b'\r', b'\n'] => {
                without.extend_from_slice(line);
                without.push(b'\n');
            }
            line => without.extend_from_slice(line),
        }
    }
    without
}

fn guess(message: &[u8]) -> Option<&'static str> {
    level(message.get(..LOOKED_AT).unwrap_or(message), message.len() > LOOKED_AT)
}

/// The beginning of a text that comes in pieces.
struct Head {
    bytes: [u8; LOOKED_AT],
    length: usize,
    more: bool,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: [0; LOOKED_AT], length: 0, more: false }
    }
}

impl Head {
    fn push(&mut self, piece: &[u8]) {
        let free = self.bytes.get_mut(self.length..).unwrap_or_default();
        let count = free.len().min(piece.len());
        self.more |= piece.len() > count;
        for (to, byte) in free.iter_mut().zip(piece) {
            *to = *byte;
        }
        self.length += count;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::ContainerMeta;
    use crate::logs::steer::redact::Redaction;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn container() -> ContainerId {
        ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap()
    }

    fn enrichment(tty: bool) -> Enrichment {
        let meta = ContainerMeta { name: "web".into(), image: "nginx:1.25".into(), tty, ..ContainerMeta::default() };
        Enrichment::new(&container(), &meta, "node-1", Some("n0d3"), None)
    }

    fn line(bytes: &[u8]) -> Line<'_> {
        let id = IdScope::new(&container()).id(Stream::Stdout, 1_795_168_800_123_456_789, xxh3_128(bytes), 0);
        Line { stream: Stream::Stdout, time: 1_795_168_800_123_456_789, bytes, offset: 4096, id, cut: None, parts: 1, lines: 1 }
    }

    fn encoded(line: &Line<'_>, tty: bool) -> Value {
        let mut out = Vec::new();
        encode(line, &enrichment(tty), &Steering::default(), &mut Work::default(), &mut out);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    fn message(bytes: &[u8]) -> String {
        encoded(&line(bytes), false)["message"].as_str().unwrap().to_owned()
    }

    /// These strings are a contract: see [`RecordId`].
    #[test]
    fn ids_never_change() {
        let id = |stream, time, bytes: &[u8], k| IdScope::new(&container()).id(stream, time, xxh3_128(bytes), k).to_string();
        let found = [
            id(Stream::Stdout, 1_795_168_800_123_456_789, b"hello", 0),
            id(Stream::Stdout, 1_795_168_800_123_456_789, b"hello", 1),
            id(Stream::Stderr, 1_795_168_800_123_456_789, b"hello", 0),
            id(Stream::Stdout, 1_795_168_800_123_456_790, b"hello", 0),
            id(Stream::Stdout, 0, b"", 0),
            id(Stream::Stdout, -1, &[b'x'; 40_000], u32::MAX),
        ];
        assert_eq!(
            found,
            [
                "GOm4gzM5DRUlkdNpkHSE4fgDEG-fSHJa",
                "GOm4gzM5DRWh-O1eIhK1ShUt9kiA5mJl",
                "GOm4gzM5DRXnhj5l2duqsQ3z27PmDwPr",
                "GOm4gzM5DRZUhrW0sFUc4Qehb7foqiF8",
                "AAAAAAAAAACiJGg5bl0Qzo4R2fF7_h96",
                "__________-lKHbnP-4O8Q6Z-5VL1IBZ",
            ]
        );
    }

    #[test]
    fn the_alphabet_of_ids() {
        assert_eq!(RecordId::new(0, 0).as_str(), "A".repeat(32));
        assert_eq!(RecordId::new(-1, u128::MAX).as_str(), "_".repeat(32));
    }

    #[test]
    fn a_document() {
        let text = "ERROR \"ü\" \\ \t😀";
        assert_eq!(
            encoded(&line(text.as_bytes()), false),
            json!({
                "@timestamp": "2026-11-20T10:00:00.123456789Z",
                "message": text,
                "stream": "stdout",
                "log": {"level": "error", "offset": 4096},
                "event": {"id": line(text.as_bytes()).id.as_str(), "dataset": "docker.logs"},
                "host": {"name": "node-1", "id": "n0d3"},
                "container": {"id": container().as_str(), "name": "web", "image": {"name": "nginx", "tag": "1.25"}},
            })
        );
    }

    #[test]
    fn an_empty_line_is_a_record() {
        let found = encoded(&Line { stream: Stream::Stderr, ..line(b"") }, false);
        assert_eq!((&found["message"], &found["stream"], &found["log"]), (&json!(""), &json!("stderr"), &json!({"offset": 4096})));
        assert_eq!(found.get("tags"), None);
    }

    #[test]
    fn a_cut_line_is_tagged() {
        let found = encoded(&Line { cut: Some(1 << 20), ..line(b"abc") }, false);
        assert_eq!((&found["tags"], &found["event"]["dataset"]), (&json!(["truncated"]), &json!("docker.logs")));
    }

    #[test]
    fn one_carriage_return_of_a_terminal() {
        assert_eq!(encoded(&line(b"a\r\r"), true)["message"], "a\r");
        assert_eq!(encoded(&line(b"a\r"), false)["message"], "a\r");
        assert_eq!(encoded(&Line { cut: Some(9), ..line(b"a\r") }, true)["message"], "a\r");
    }

    fn steered(line: &Line<'_>, tty: bool, labels: &[(&str, &str)]) -> (Value, Encoded) {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let (steering, refused) = Steering::of(&ContainerMeta { labels, ..ContainerMeta::default() });
        let (mut out, mut work) = (Vec::new(), Work::default());
        let (_, encoded) = encode(line, &enrichment(tty), &steering, &mut work, &mut out);
        assert!(refused.is_empty() || steering.redaction().is_some_and(Redaction::takes_all));
        (serde_json::from_slice(&out).unwrap(), encoded)
    }

    #[test]
    fn several_lines() {
        let found = encoded(&Line { lines: 2, ..line(b"a\r\n b\r") }, true);
        assert_eq!((&found["message"], &found["tags"]), (&json!("a\n b"), &json!(["multiline"])));
        assert_eq!(encoded(&Line { lines: 2, ..line(b"a\r\n b") }, false)["message"], "a\r\n b");
        assert_eq!(encoded(&Line { lines: 2, cut: Some(9), ..line(b"a\nb") }, false)["tags"], json!(["truncated", "multiline"]));
    }

    #[test]
    fn what_is_redacted_is_nowhere() {
        let labels = [("skep.logs.redact", "secret[0-9]+"), ("skep.logs.redact.card", r"\b\d{4}\b")];
        // Also where colours stood in it.
        let (found, told) = steered(&line(b"ERROR \x1b[1msec\x1b[0mret12 1234 x"), false, &labels);
        assert_eq!((&found["message"], &found["log"]["level"]), (&json!("ERROR [redacted] [redacted] x"), &json!("error")));
        assert_eq!(told, Encoded { redactions: 2, ..Encoded::default() });
        let (found, told) = steered(&line(b"x"), false, &labels);
        assert_eq!((&found["message"], told), (&json!("x"), Encoded::default()));
    }

    #[test]
    fn an_expression_that_cannot_be_taken_redacts_all() {
        let (found, told) = steered(&line(b"WARN secret"), false, &[("skep.logs.redact", "(")]);
        assert_eq!((&found["message"], &found["log"]["level"]), (&json!("[redacted]"), &json!("warn")));
        assert_eq!(told, Encoded { is_blanked: true, ..Encoded::default() });
    }

    #[test]
    fn a_line_of_json() {
        let text = br#"{"msg":"\u001b[31mit\u001B[0m failed","level":"error","http":{"status":500},"@timestamp":"x","event":{"id":"x"}}"#;
        let (found, told) = steered(&line(text), false, &[]);
        assert_eq!(told, Encoded { is_parsed: true, ..Encoded::default() });
        let mut plain = encoded(&line(b"ERROR"), false);
        plain["message"] = json!("it failed");
        plain["event"]["id"] = json!(line(text).id.as_str());
        plain["app"] = json!({"level": "error", "http": {"status": 500}, "@timestamp": "x", "event": {"id": "x"}});
        assert_eq!(found, plain);
        // Without a message the line is it; without fields there is no object for them.
        assert_eq!(steered(&line(br#"{"a":1}"#), false, &[]).0["message"], r#"{"a":1}"#);
        assert_eq!(steered(&line(br#"{"msg":"WARN x"}"#), false, &[]).0.get("app"), None);
        assert_eq!(steered(&line(br#"{"msg":"WARN x"}"#), false, &[]).0["log"]["level"], "warn");
        let kept = steered(&line(text), false, &[("skep.logs.ansi", "keep")]).0;
        assert_eq!(kept["message"], "\u{1b}[31mit\u{1b}[0m failed");
    }

    #[test]
    fn a_line_that_is_not_what_it_seems() {
        let unparsed = |text: &[u8], cut, labels: &[(&str, &str)]| {
            let (found, told) = steered(&Line { cut, ..line(text) }, false, labels);
            assert_eq!((found["message"].as_str().unwrap().as_bytes(), found.get("app")), (text, None));
            (told.is_parsed, told.unparsed)
        };
        let format = |format| [("skep.logs.format", format)];
        assert_eq!(unparsed(b"{x} y", None, &[]), (false, None));
        assert_eq!(unparsed(br#"{"a":1,"a":2}"#, None, &[]), (false, Some(Unparsed::DuplicateKey)));
        assert_eq!(unparsed(br#"{"a":1"#, Some(9), &[]), (false, Some(Unparsed::TooLarge)));
        assert_eq!(unparsed(br#"{"a":1}"#, None, &format("plain")), (false, None));
        assert_eq!(unparsed(b"plain", None, &format("json")), (false, Some(Unparsed::Invalid)));
        assert_eq!(unparsed(b"plain", None, &format("logfmt")), (false, Some(Unparsed::Invalid)));
        assert_eq!(unparsed(b"level=info x=1", None, &[]), (false, None));
        assert_eq!(steered(&line(b"level=info msg=x y=1"), false, &format("logfmt")).0["app"], json!({"level": "info", "y": "1"}));
    }

    #[test]
    fn fields_are_redacted_however_they_are_written() {
        let labels = [("skep.logs.redact.pin", "12345"), ("skep.logs.redact.password", r#""password":"[^"]*""#)];
        let message = |text: &[u8]| {
            let (found, told) = steered(&line(text), false, &labels);
            let whole = format!("{} {}", found["message"], found["app"]);
            assert!(!whole.contains("12345") && !whole.contains("hunter2"), "{whole}");
            (found["message"].as_str().unwrap().to_owned(), found["app"].clone(), told.redactions)
        };
        assert_eq!(message(br#"{"msg":"pin 12345","x":["12\u003345"]}"#), ("pin [redacted]".into(), json!({"x": ["[redacted]"]}), 2));
        // An expression for the line as it is written takes it apart, and then it is text.
        assert_eq!(message(br#"{"msg":"x","password":"hunter2"}"#), (r#"{"msg":"x",[redacted]}"#.into(), Value::Null, 1));
        assert_eq!(message(br#"{"msg":"x","n":12345}"#), (r#"{"msg":"x","n":[redacted]}"#.into(), Value::Null, 1));
    }

    #[test]
    fn colours_that_are_to_stay() {
        let text = "\u{1b}[31mred\u{1b}[0m";
        for labels in [&[("skep.logs.ansi", "keep")][..], &[("skep.logs.ansi", "keep"), ("skep.logs.redact", "x")]] {
            assert_eq!(steered(&line(text.as_bytes()), false, labels).0["message"], text);
        }
        assert_eq!(steered(&line(text.as_bytes()), false, &[("skep.logs.ansi", "strip")]).0["message"], "red");
    }

    #[test]
    fn colours() {
        assert_eq!(message(b"\x1b[1;31mred\x1b[0m and \x1b[Kplain\x1b[m"), "red and plain");
        assert_eq!(message(b"\x1b[31m"), "");
        // A cursor, a title, an end in the middle, and an escape alone.
        for kept in [&b"\x1b[2Jx"[..], b"\x1b]0;title\x07", b"x\x1b[31", b"\x1b", b"\x1b\x1b", b"\x1b[\x1b"] {
            assert_eq!(message(kept).as_bytes(), kept);
        }
        assert_eq!(message(b"\x1b\x1b[1mx"), "\x1bx");
        assert_eq!(encoded(&line(b"\x1b[32mINFO\x1b[0m[0001] up"), false)["log"]["level"], "info");
    }

    #[test]
    fn the_level_does_not_come_from_half_a_word() {
        let mut text = vec![b' '; LOOKED_AT - 4];
        text.extend_from_slice(b"INFORMATION");
        assert_eq!(encoded(&line(&text), false)["log"], json!({"offset": 4096}));
        text.splice(..0, *b"\x1b[0m");
        assert_eq!(encoded(&line(&text), false)["log"], json!({"offset": 4096}));
    }

    proptest! {
        #[test]
        fn every_line_is_a_document(bytes: Vec<u8>, tty: bool) {
            let found = encoded(&line(&bytes), tty);
            prop_assert!(found["message"].is_string());
        }

        #[test]
        fn text_without_colours_comes_back(text in "[^\u{1b}{][^\u{1b}]*|") {
            prop_assert_eq!(message(text.as_bytes()), text);
        }

        #[test]
        fn nothing_but_colours_is_taken_away(pieces in proptest::collection::vec("[a-zü]{0,3}|\u{1b}\\[[0-9;]{0,6}m", 0..12)) {
            let expected: String = pieces.iter().filter(|piece| !piece.starts_with('\u{1b}')).map(String::as_str).collect();
            prop_assert_eq!(message(pieces.concat().as_bytes()), expected);
        }
    }
}
