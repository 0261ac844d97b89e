//! Stack traces of the Java virtual machine, under the line that was logged with them.
//!
//! ```text
//! 2026-11-20 10:00:00 ERROR [main] Shop - order refused
//! java.lang.IllegalStateException: no stock
//!     at shop.Orders.take(Orders.java:42)
//!     Suppressed: java.io.IOException: closed
//! Caused by: java.sql.SQLException: timeout
//!     at shop.Stock.of(Stock.java:7)
//!     ... 12 more
//! ```

use super::begins_with_space;

/// Whether a line goes on with the record before it.
pub(super) fn continues(line: &[u8]) -> bool {
    if begins_with_space(line) {
        return true;
    }
    let begins = [&b"at "[..], b"Caused by: ", b"Suppressed: ", b"Wrapped by: ", b"[CIRCULAR REFERENCE: "];
    begins.iter().any(|begin| line.starts_with(begin)) || is_more(line) || is_exception(line)
}

/// `... 12 more`, `... 12 common frames omitted` (Logback).
fn is_more(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"... ") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with(b" more") || rest.starts_with(b" common frames omitted"))
}

/// `a.b.CException`, with or without `: message`: the trace of a line that was logged with an exception begins so.
fn is_exception(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$'))).unwrap_or(line.len());
    let (name, behind) = line.split_at_checked(end).unwrap_or_default();
    let is_end = behind.is_empty() || behind.starts_with(b": ") || behind == b":";
    let is_qualified = name.contains(&b'.') && name.first().is_some_and(u8::is_ascii_alphabetic);
    is_end && is_qualified && [&b"Exception"[..], b"Error", b"Throwable"].iter().any(|kind| name.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::super::tests::groups;

    #[test]
    fn traces() {
        let trace = "2026-11-20 10:00:00 ERROR [main] Shop - order refused
java.lang.IllegalStateException: no stock
\tat shop.Orders.take(Orders.java:42)
at shop.Orders.take(Orders.java:42)
\tSuppressed: java.io.IOException: closed
Caused by: java.sql.SQLException: timeout
... 12 more
... 3 common frames omitted
2026-11-20 10:00:01 INFO next
Exception in thread \"main\" java.lang.NullPointerException
\tat A.main(A.java:1)
";
        assert_eq!(groups("java", trace), [8, 1, 2]);
    }

    #[test]
    fn what_begins_anew() {
        for line in
            ["", "... and so on", "... 12 others", "attention", "shop.Orders: taken", "TheException: x", "a.b.CException thrown", ".Error"]
        {
            assert_eq!(groups("java", &format!("x\n{line}\n")), [1, 1], "{line}");
        }
        for line in ["a.b.C$DException", "com.x.OutOfMemoryError: heap", "a.B_Throwable:", "\t", "at x"] {
            assert_eq!(groups("java", &format!("x\n{line}\n")), [2], "{line}");
        }
    }
}
