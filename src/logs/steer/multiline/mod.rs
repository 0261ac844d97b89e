//! Which lines belong together: the label `skep.logs.multiline`.
//!
//! A rule looks at one line at a time and at what it knows of those before it in the same group, never ahead: a line is joined to the group, or it starts
//! another record. So the decision is the same in a replay that begins with the group's first line.

mod go;
mod java;
mod python;

use regex::bytes::{Regex, RegexBuilder};

use crate::logs::colour;

/// The most that a compiled expression of a label may take, in bytes; what it needs to search fast is bounded by the same again.
pub(super) const EXPRESSION_BYTES: usize = 1 << 20;

/// How lines become groups.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Stack traces of the Java virtual machine.
    Java,
    /// Tracebacks, also chained ones.
    Python,
    /// Panics and traces of goroutines.
    Go,
    /// A line that matches starts a record.
    Starts(Box<Regex>),
}

/// What a rule knows of the lines of a group so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    None,
    /// Of a Python traceback.
    Python(python::State),
    /// Of a panic.
    Go(go::State),
}

impl Rule {
    /// The rule that a label asks for: `java`, `python`, `go`, or an expression.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "java" => Self::Java,
            "python" => Self::Python,
            "go" => Self::Go,
            expression => Self::Starts(Box::new(compile(expression)?)),
        })
    }

    /// What is known behind the first line of a group, whatever that line is.
    #[must_use]
    pub fn first(&self, line: &[u8], scratch: &mut Vec<u8>) -> State {
        match self {
            Self::Java | Self::Starts(_) => State::None,
            Self::Python => State::Python(python::first(text(line, scratch))),
            Self::Go => State::Go(go::first(text(line, scratch))),
        }
    }

    /// What is known behind a line that belongs to the group; `None` when it starts another record.
    #[must_use]
    pub fn next(&self, state: State, line: &[u8], scratch: &mut Vec<u8>) -> Option<State> {
        let line = text(line, scratch);
        match (self, state) {
            (Self::Java, _) => java::continues(line).then_some(State::None),
            (Self::Starts(expression), _) => (!expression.is_match(line)).then_some(State::None),
            (Self::Python, State::Python(state)) => python::next(state, line).map(State::Python),
            (Self::Go, State::Go(state)) => go::next(state, line).map(State::Go),
            (Self::Python | Self::Go, _) => None,
        }
    }
}

/// Compiles an expression of a label.
pub(super) fn compile(expression: &str) -> Result<Regex, String> {
    if expression.is_empty() {
        return Err("it is empty".to_owned());
    }
    let built = RegexBuilder::new(expression).size_limit(EXPRESSION_BYTES).dfa_size_limit(EXPRESSION_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large: at most 1 MiB when it is compiled".to_owned(),
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// A line as people see it: without colours, and without the carriage return of a terminal.
fn text<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let line = colour::without(line, scratch);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn begins_with_space(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines each group has.
    pub(super) fn groups(rule: &str, lines: &str) -> Vec<usize> {
        let rule = Rule::parse(rule).unwrap();
        let (mut groups, mut state, mut scratch) = (Vec::new(), None, Vec::new());
        for line in lines.lines() {
            state = state.and_then(|state| rule.next(state, line.as_bytes(), &mut scratch));
            match (state, groups.last_mut()) {
                (Some(_), Some(lines)) => *lines += 1,
                _ => {
                    state = Some(rule.first(line.as_bytes(), &mut scratch));
                    groups.push(1);
                }
            }
        }
        groups
    }

    #[test]
    fn an_expression_of_ones_own() {
        assert_eq!(groups(r"^\d{4}-", "2026-11-20 a\n b\n\nc\n2026-11-20 d"), [4, 1]);
        assert_eq!(groups(r"^\d{4}-$", "2026-\r\nx\n\u{1b}[32m2026-\u{1b}[0m\r"), [2, 1]);
        assert_eq!(groups("never", "a\nb\nc"), [3]);
        assert_eq!(groups(".*", "a\nb\n\nc"), [1, 1, 1, 1]);
    }

    #[test]
    fn expressions_that_cannot_be_taken() {
        for (expression, why) in [("", "it is empty"), ("a(", "unclosed group"), (r"\w{1000}{1000}", "it is too large")] {
            let told = Rule::parse(expression).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
