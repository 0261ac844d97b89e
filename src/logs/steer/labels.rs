//! Labels of containers, read. What cannot be taken is told in a sentence, and costs only itself.

use std::collections::BTreeMap;
use std::fmt;

use super::Steering;
use super::fields::Format;
use super::limit::{self, Limits, Rate};
use super::multiline::{Rule, compile};
use super::redact::{MOST, Redaction};

/// How all of them begin.
const PREFIX: &str = "skep.logs.";

/// What of a value is shown.
const SHOWN: usize = 120;

/// A label that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which it is, from a bounded set: `ansi`, `format`, `multiline`, `rate`, `redact`, `sample`, or `unknown`.
    pub kind: &'static str,
    label: String,
    value: String,
    why: String,
    instead: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, value, why, instead, .. } = self;
        write!(f, "the label {label}={value} is not taken: {why}; {instead}")
    }
}

pub(super) fn parse(labels: &BTreeMap<String, String>) -> (Steering, Vec<Refused>) {
    let (mut steering, mut refused) = (Steering::default(), Vec::new());
    let (mut limits, mut redaction) = (Limits::default(), Redaction::default());
    let ours = labels.range(PREFIX.to_owned()..).take_while(|(label, _)| label.starts_with(PREFIX));
    for (label, value) in ours {
        let mut refuse = |kind, why: String, instead| {
            let value = if value.chars().count() > SHOWN { value.chars().take(SHOWN).chain(['…']).collect() } else { value.clone() };
            refused.push(Refused { kind, label: label.clone(), value, why, instead });
        };
        let text = value.trim();
        match label.strip_prefix(PREFIX).unwrap_or_default() {
            "dataset" => {}
            "multiline" => match Rule::parse(text) {
                Ok(rule) => steering.rule = Some(rule),
                Err(why) => refuse(
                    "multiline",
                    why,
                    "java, python, go and an expression that the first line of a record matches are; each line is a record",
                ),
            },
            "format" => match Format::parse(text) {
                Some(format) => steering.format = format,
                None => refuse("format", "there is no such format".to_owned(), "auto, plain, json and logfmt are; it is auto"),
            },
            "sample" => match limit::sample(text) {
                Ok(of) => limits.sample = Some(of),
                Err(why) => refuse("sample", why, "1/10 would keep one record of ten; all are kept"),
            },
            "rate" => match Rate::parse(text) {
                Ok(rate) => limits.rate = Some(rate),
                Err(why) => refuse("rate", why, "100/s, 100/m and 100/h are rates; there is no limit"),
            },
            "ansi" => match text {
                "keep" => steering.keeps_colours = true,
                "strip" => {}
                _ => refuse("ansi", "it is neither keep nor strip".to_owned(), "colours are taken away"),
            },
            name if name == "redact" || name.starts_with("redact.") => {
                let compiled = match redaction.expressions.len() {
                    // As it was written: an expression may begin or end with a space.
                    0..MOST => compile(value),
                    _ => Err(format!("{MOST} expressions are the most")),
                };
                match compiled {
                    Ok(expression) => redaction.expressions.push(expression),
                    Err(why) => {
                        redaction.is_refused = true;
                        refuse("redact", why, "a regular expression is; until then all of each message is redacted");
                    }
                }
            }
            _ => refuse(
                "unknown",
                "there is no such label".to_owned(),
                "skep.logs.ansi, .dataset, .format, .multiline, .rate, .redact, .redact.NAME and .sample are",
            ),
        }
    }
    if limits.sample.is_some() || limits.rate.is_some() {
        steering.limits = Some(Box::new(limits));
    }
    if redaction.is_refused || !redaction.expressions.is_empty() {
        steering.redaction = Some(Box::new(redaction));
    }
    (steering, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> (Steering, Vec<Refused>) {
        parse(&labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn without_labels_there_is_nothing_to_do() {
        let (steering, refused) =
            of(&[("skep.logs", "true"), ("skep.logs.dataset", "nginx"), ("skep.metrics", "false"), ("skep.logsx", "")]);
        assert!(steering.rule.is_none() && steering.limits.is_none() && steering.redaction.is_none() && !steering.keeps_colours);
        assert_eq!(refused, []);
    }

    #[test]
    fn what_cannot_be_taken_is_told_and_costs_itself() {
        let (steering, refused) = of(&[
            ("skep.logs.ansi", "no"),
            ("skep.logs.format", "xml"),
            ("skep.logs.multiline", "(java"),
            ("skep.logs.multilne", "java"),
            ("skep.logs.rate", "100"),
            ("skep.logs.redact.card", r"\d{16}"),
            ("skep.logs.sample", "10 %"),
        ]);
        assert_eq!(
            refused.iter().map(|refused| refused.kind).collect::<Vec<_>>(),
            ["ansi", "format", "multiline", "unknown", "rate", "sample"]
        );
        assert_eq!(
            refused[4].to_string(),
            "the label skep.logs.rate=100 is not taken: there is no / in it; 100/s, 100/m and 100/h are rates; there is no limit"
        );
        assert!(steering.rule.is_none() && steering.limits.is_none() && !steering.keeps_colours);
        assert!(steering.redaction.is_some_and(|redaction| !redaction.takes_all() && redaction.expressions.len() == 1));
    }

    #[test]
    fn a_redaction_that_cannot_be_taken_takes_all() {
        for value in ["(", "", r"\w{1000}{1000}"] {
            let (steering, refused) = of(&[("skep.logs.redact", value), ("skep.logs.redact.more", "x")]);
            assert_eq!(refused.len(), 1, "{value}");
            assert!(steering.redaction.is_some_and(|redaction| redaction.takes_all()));
        }
        let many: Vec<(String, String)> = (0..17).map(|number| (format!("skep.logs.redact.{number}"), "x".to_owned())).collect();
        let (steering, refused) = parse(&many.into_iter().collect());
        assert!(steering.redaction.is_some_and(|redaction| redaction.takes_all()) && refused.len() == 1);
    }

    #[test]
    fn a_long_value_is_not_shown_whole() {
        let (_, refused) = of(&[("skep.logs.rate", &"x".repeat(1000))]);
        assert!(refused[0].to_string().len() < 400);
    }
}
