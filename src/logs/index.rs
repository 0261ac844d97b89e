//! Which index a record goes to, and Elasticsearch's line before a document.

use super::assemble::Line;
use super::time::write_rfc3339;

/// Elasticsearch's bound for the name of an index.
const MAX_NAME: usize = 255;

/// An index name with parts of the record's own time in UTC: `docker-logs-%Y.%m.%d`. By the record's time and not by now, for only then a resend
/// comes to the index that has the first copy, whenever it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What stands there in an RFC 3339 time.
    Time {
        from: usize,
        to: usize,
    },
}

impl IndexPattern {
    /// Reads a pattern: text that an index may be named with, `%Y` (year), `%m` (month), `%d` (day) and `%H` (hour). A name without any of them is
    /// one index, or a data stream.
    ///
    /// # Errors
    /// A sentence: what was given, why it is refused, what would do.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("index {pattern:?}: {why}"));
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut length = 0;
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                if let Some(why) = refused(character) {
                    return refuse(&why);
                }
                text.push(character);
                length += 1;
                continue;
            }
            let (from, to) = match characters.next() {
                Some('Y') => (0, 4),
                Some('m') => (5, 7),
                Some('d') => (8, 10),
                Some('H') => (11, 13),
                _ => return refuse("behind % only Y, m, d and H are known, as in docker-logs-%Y.%m.%d"),
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Time { from, to });
            length += to - from;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        if length == 0 {
            return refuse("it is empty; docker-logs-%Y.%m.%d would do");
        }
        if length > MAX_NAME {
            return refuse(&format!("it is longer than the {MAX_NAME} bytes that Elasticsearch allows"));
        }
        if pattern == "." || pattern == ".." || pattern.starts_with(['-', '_', '+']) {
            return refuse("an index cannot be . or .., nor begin with -, _ or +");
        }
        Ok(Self { pieces })
    }

    /// Appends the name of the index for a record of this time. Nothing of it needs an escape in JSON or in a URL's path.
    pub fn write(&self, time: i64, out: &mut Vec<u8>) {
        // Written to the end of the buffer, taken from there, and taken away again: that needs no memory, and costs no more than to look up a
        // name kept for the day.
        let begin = out.len();
        write_rfc3339(time, out);
        let stamp = out.get(begin..).and_then(<[u8]>::first_chunk::<13>).copied().unwrap_or_default();
        out.truncate(begin);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Time { from, to } => out.extend_from_slice(stamp.get(*from..*to).unwrap_or_default()),
            }
        }
    }
}

fn refused(character: char) -> Option<String> {
    match character {
        'a'..='z' | '0'..='9' | '-' | '_' | '.' | '+' => None,
        'A'..='Z' => Some(format!("{character} is a capital, and Elasticsearch takes small letters only")),
        _ => Some(format!("{character:?} cannot stand in the name of an index; a to z, 0 to 9 and - _ . + can")),
    }
}

/// Appends Elasticsearch's line before a document, `{"create":{"_index":"docker-logs-2026.11.20","_id":"…"}}`, and a line feed. `create` and a
/// known id: a record that is there already is answered with 409, and not stored again.
pub fn action(index: &IndexPattern, line: &Line<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"create\":{\"_index\":\"");
    index.write(line.time, out);
    out.extend_from_slice(b"\",\"_id\":\"");
    out.extend_from_slice(line.id.as_bytes());
    out.extend_from_slice(b"\"}}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Stream;
    use crate::logs::record::RecordId;
    use crate::logs::time::parse_rfc3339;

    fn name(pattern: &str, time: &str) -> String {
        let mut out = b"before".to_vec();
        IndexPattern::parse(pattern).unwrap().write(parse_rfc3339(time.as_bytes()).unwrap(), &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn names_are_dated_by_the_record() {
        assert_eq!(name("docker-logs-%Y.%m.%d", "2026-11-20T23:59:59.999999999Z"), "docker-logs-2026.11.20");
        assert_eq!(name("docker-logs-%Y.%m.%d", "2026-11-21T01:00:00+02:00"), "docker-logs-2026.11.20");
        assert_eq!(name("%Y-%m-%d_%H", "1999-01-02T03:04:05Z"), "1999-01-02_03");
        assert_eq!(name("logs-docker-default", "1999-01-02T03:04:05Z"), "logs-docker-default");
    }

    #[test]
    fn what_cannot_be_an_index() {
        for pattern in [
            "", "Docker", "a b", "a/b", "a*", "a,b", "a#", "a:b", "a\\b", "a\"b", "a\n", "ä", "-a", "_a", "+a", ".", "..", "a%", "a%S",
            "a%%",
        ] {
            let refused = IndexPattern::parse(pattern).unwrap_err();
            assert!(refused.starts_with("index \"") && !refused.contains('\n'), "{refused}");
        }
        assert!(IndexPattern::parse(&"a".repeat(255)).is_ok());
        assert!(IndexPattern::parse(&format!("{}%Y", "a".repeat(252))).is_err());
    }

    #[test]
    fn the_line_before_a_document() {
        let id = RecordId::new(0, 0);
        let line = Line { stream: Stream::Stdout, time: 0, bytes: b"", offset: 0, id, cut: None, parts: 1, lines: 1 };
        let mut out = Vec::new();
        action(&IndexPattern::parse("docker-logs-%Y.%m.%d").unwrap(), &line, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"create\":{\"_index\":\"docker-logs-1970.01.01\",\"_id\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}\n"
        );
    }
}
