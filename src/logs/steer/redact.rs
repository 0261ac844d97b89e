//! What nobody beyond the container may see: the labels `skep.logs.redact` and `skep.logs.redact.NAME`.
//!
//! Every expression is applied to the text as it was written, and what any of them matches is replaced. Where one cannot be taken, skep does not know what is
//! secret: all of the text is.

use regex::bytes::Regex;

/// What stands for that which was taken out.
pub(in crate::logs) const PLACEHOLDER: &[u8] = b"[redacted]";

/// The most expressions of a container.
pub(super) const MOST: usize = 16;

/// What is to be taken out of texts.
#[derive(Debug, Default)]
pub struct Redaction {
    pub(super) expressions: Vec<Regex>,
    /// An expression cannot be taken.
    pub(super) is_refused: bool,
}

impl Redaction {
    /// Whether all of the text is to be taken out.
    pub(in crate::logs) const fn takes_all(&self) -> bool {
        self.is_refused
    }

    /// The text without what is matched, put together in `out`; and how many parts were taken out. `None` when there are none.
    pub(in crate::logs) fn apply(&self, text: &[u8], spans: &mut Vec<(usize, usize)>, out: &mut Vec<u8>) -> Option<u64> {
        spans.clear();
        for expression in &self.expressions {
            // An expression that also matches nothing would be met between every two characters.
            spans.extend(expression.find_iter(text).filter(|found| !found.is_empty()).map(|found| (found.start(), found.end())));
            if self.expressions.len() > 1 {
                merge(spans);
            }
        }
        if spans.is_empty() {
            return None;
        }
        merge(spans);
        out.clear();
        let mut from = 0;
        for (start, end) in &*spans {
            out.extend_from_slice(text.get(from..*start).unwrap_or_default());
            out.extend_from_slice(PLACEHOLDER);
            from = *end;
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
        Some(spans.len() as u64)
    }
}

/// Puts what overlaps or touches together, in order: that bounds how much a text can grow.
fn merge(spans: &mut Vec<(usize, usize)>) {
    spans.sort_unstable();
    spans.dedup_by(|next, before| {
        let is_one = next.0 <= before.1;
        if is_one {
            before.1 = before.1.max(next.1);
        }
        is_one
    });
}

#[cfg(test)]
mod tests {
    use super::super::multiline::compile;
    use super::*;
    use proptest::prelude::*;

    fn redacted(expressions: &[&str], text: &str) -> (String, u64) {
        let redaction = Redaction { expressions: expressions.iter().map(|one| compile(one).unwrap()).collect(), is_refused: false };
        let (mut spans, mut out) = (Vec::new(), Vec::new());
        let count = redaction.apply(text.as_bytes(), &mut spans, &mut out);
        count.map_or_else(|| (text.to_owned(), 0), |count| (String::from_utf8(out).unwrap(), count))
    }

    #[test]
    fn what_is_matched_is_gone() {
        assert_eq!(redacted(&[r"\d{4}"], "card 1234-5678 ü"), ("card [redacted]-[redacted] ü".into(), 2));
        assert_eq!(redacted(&[r"\d{4}"], "card 123"), ("card 123".into(), 0));
        // What touches or overlaps is one; an expression does not see what another has put there; nothing is nothing.
        assert_eq!(redacted(&[r"\d"], "a12b"), ("a[redacted]b".into(), 1));
        assert_eq!(redacted(&["bcd", "cde", "redacted"], "abcdef"), ("a[redacted]f".into(), 1));
        assert_eq!(redacted(&["x*"], "axxb"), ("a[redacted]b".into(), 1));
        assert_eq!(redacted(&["(?s)KEY.*END"], "a\nKEY\nx\nEND\nb"), ("a\n[redacted]\nb".into(), 1));
    }

    proptest! {
        #[test]
        fn nothing_that_was_matched_is_left(text in "[a-f1-9 ]{0,60}") {
            let (found, _) = redacted(&["[1-9]", "fa", "b c"], &text);
            let left = found.replace("[redacted]", "\u{0}");
            prop_assert!(!left.contains(|character: char| character.is_ascii_digit()) && !left.contains("fa") && !left.contains("b c"), "{}", found);
            prop_assert!(found.len() <= text.len() * 6 + 10);
        }
    }
}
