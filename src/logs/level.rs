//! The level of a line, where it tells one.
//!
//! A guess, made so that it is rather silent than wrong, at a cost that does not grow with the line:
//!
//! 1. A line that begins with a syslog priority (`<11>`, one to three digits, facility and severity known to syslog) has that severity.
//! 2. Else the first level word that begins within the first [`LOOKED_AT`] bytes: a whole word (no letter, digit or `_` on either side) out of
//!    `TRACE`, `DEBUG`, `INFO`, `NOTICE`, `WARN`, `WARNING`, `ERR`, `ERROR`, `CRIT`, `CRITICAL`, `ALERT`, `EMERG`, `EMERGENCY`, `PANIC`, `FATAL`.
//!    In capitals anywhere; in other letters only in square brackets (`[error]`) or as the value of a field named `level`, `lvl`, `loglevel` or
//!    `severity` (`level=error`, `"level":"error"`), for "no error" in a sentence is no level.
//!
//! Values are in lower case, with one name for each level: `warn` for `WARNING`, `error` for `ERR`, `critical` for `CRIT`, `emergency` for
//! `EMERG`, `fatal` for `PANIC`.

use syslog_loose::{SyslogSeverity, decompose_pri};

/// How many bytes of a line are searched for a level.
pub const LOOKED_AT: usize = 64;

/// The level of a line whose text begins with `head`; `more` tells whether the line goes on behind it.
#[must_use]
pub fn level(head: &[u8], more: bool) -> Option<&'static str> {
    if let [b'<', rest @ ..] = head
        && let Some(level) = of_priority(rest)
    {
        return Some(level);
    }
    let mut at = 0;
    while let Some(rest) = head.get(at..) {
        at += rest.iter().position(|byte| is_word(*byte))?;
        let rest = head.get(at..)?;
        let length = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at_checked(length)?;
        if behind.is_empty() && more {
            return None;
        }
        if let Some(level) = of_word(word)
            && (word.iter().all(u8::is_ascii_uppercase) || is_value(head.get(..at)?, behind))
        {
            return Some(level);
        }
        at += length;
    }
    None
}

/// The level that is the value of a field made for it: a word, or the number of a syslog severity (0 to 7, GELF) or of Bunyan and Pino (10 to 60).
#[must_use]
pub fn of_value(value: &[u8]) -> Option<&'static str> {
    Some(match value {
        b"0" => "emergency",
        b"1" => "alert",
        b"2" => "critical",
        b"3" | b"50" => "error",
        b"4" | b"40" => "warn",
        b"5" => "notice",
        b"6" | b"30" => "info",
        b"7" | b"20" => "debug",
        b"10" => "trace",
        b"60" => "fatal",
        word if word.eq_ignore_ascii_case(b"information") => "info",
        word => return of_word(word),
    })
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn of_priority(text: &[u8]) -> Option<&'static str> {
    let length = text.iter().take(4).position(|byte| *byte == b'>')?;
    let digits = std::str::from_utf8(text.get(..length)?).ok()?;
    let priority = if digits.starts_with('+') { None } else { digits.parse().ok() }?;
    let (Some(_), Some(severity)) = decompose_pri(priority) else { return None };
    Some(match severity {
        SyslogSeverity::SEV_EMERG => "emergency",
        SyslogSeverity::SEV_ALERT => "alert",
        SyslogSeverity::SEV_CRIT => "critical",
        SyslogSeverity::SEV_ERR => "error",
        SyslogSeverity::SEV_WARNING => "warn",
        SyslogSeverity::SEV_NOTICE => "notice",
        SyslogSeverity::SEV_INFO => "info",
        SyslogSeverity::SEV_DEBUG => "debug",
    })
}

fn of_word(word: &[u8]) -> Option<&'static str> {
    let candidates: &[(&[u8], &'static str)] = match word.first()?.to_ascii_uppercase() {
        b'I' => &[(b"INFO", "info")],
        b'W' => &[(b"WARN", "warn"), (b"WARNING", "warn")],
        b'E' => &[(b"ERROR", "error"), (b"ERR", "error"), (b"EMERG", "emergency"), (b"EMERGENCY", "emergency")],
        b'D' => &[(b"DEBUG", "debug")],
        b'T' => &[(b"TRACE", "trace")],
        b'F' => &[(b"FATAL", "fatal")],
        b'C' => &[(b"CRITICAL", "critical"), (b"CRIT", "critical")],
        b'N' => &[(b"NOTICE", "notice")],
        b'A' => &[(b"ALERT", "alert")],
        b'P' => &[(b"PANIC", "fatal")],
        _ => return None,
    };
    candidates.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// Whether a word between these is in square brackets, or the value of a field of a level.
fn is_value(before: &[u8], behind: &[u8]) -> bool {
    if before.ends_with(b"[") {
        return behind.starts_with(b"]");
    }
    let before = before.strip_suffix(b"\"").unwrap_or(before);
    let before = before.strip_suffix(b"=").or_else(|| before.trim_ascii_end().strip_suffix(b":")?.strip_suffix(b"\""));
    let Some(before) = before else { return false };
    let begin = before.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
    let name = before.get(begin..).unwrap_or_default();
    [&b"level"[..], b"lvl", b"loglevel", b"severity"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_that_tell() {
        for (line, expected) in [
            ("<11>Nov 20 10:00:00 host app: it failed", "error"),
            ("<190>1 - - - - - -", "info"),
            ("2026-11-20 10:00:00,123 ERROR [main] o.a.Foo - it failed", "error"),
            ("INFO:root:started", "info"),
            ("[WARNING] 324/100000 (1) : config", "warn"),
            ("2026/11/20 10:00:00 [error] 31#31: *1 open() failed", "error"),
            ("time=\"2026-11-20T10:00:00Z\" level=warning msg=\"x\"", "warn"),
            ("{\"level\":\"debug\",\"msg\":\"x\"}", "debug"),
            ("{\"ts\":1,\"severity\": \"Critical\"}", "critical"),
            ("lvl=crit", "critical"),
            ("PANIC", "fatal"),
            ("2026-11-20 10:00:00 UTC [1] FATAL:  the database system is starting up", "fatal"),
        ] {
            assert_eq!(level(line.as_bytes(), false), Some(expected), "{line}");
        }
    }

    #[test]
    fn lines_that_do_not() {
        for line in [
            "",
            "<",
            "<999> x",
            "<+11> x",
            "<html>",
            "there was no error today",
            "Error: in a sentence's beginning it may be a title",
            "MY_ERROR_COUNT=3",
            "ERRORS",
            "GET /info HTTP/1.1",
            "level=high",
            "deadlevel_x=error",
            "[errors]",
        ] {
            assert_eq!(level(line.as_bytes(), false), None, "{line}");
        }
    }

    #[test]
    fn a_word_that_may_go_on_is_no_word() {
        assert_eq!(level(b"10:00 INFO", false), Some("info"));
        assert_eq!(level(b"10:00 INFO", true), None);
        assert_eq!(level(b"10:00 INFO ", true), Some("info"));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), more: bool) {
            let _level = level(&bytes, more);
        }

        #[test]
        fn nearly_levels_never_panic(text in "[<\\[\"=: 1]{0,3}(level|lvl|x)?[\"=:]{0,3}(error|INFO|Warn)?[\\]\" ]{0,3}") {
            let _level = level(text.as_bytes(), true);
        }
    }
}
