//! Python's tracebacks, under the line that was logged with them, up to the line that names the exception; chained ones are one.
//!
//! ```text
//! ERROR:shop:order refused
//! Traceback (most recent call last):
//!   File "/app/stock.py", line 7, in of
//!     return stock[item]
//! KeyError: 'x'
//!
//! During handling of the above exception, another exception occurred:
//!
//! Traceback (most recent call last):
//!   File "/app/orders.py", line 42, in take
//! ValueError: no stock
//! ```

use super::begins_with_space;

/// Where in a traceback the last line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In none.
    Outside,
    /// In the frames.
    Frames,
    /// In an exception group, all of whose lines are indented.
    Group,
    /// It was the exception, or an indented line behind it.
    Exception,
    /// The empty line behind the exception.
    Gap,
    /// The sentence that links two exceptions.
    Link,
    /// The empty line behind that.
    LinkGap,
}

const HEADER: &[u8] = b"Traceback (most recent call last):";
const GROUP_HEADER: &[u8] = b"+ Exception Group Traceback (most recent call last):";
const LINKS: [&[u8]; 2] = [
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
];

pub(super) fn first(line: &[u8]) -> State {
    match header(line) {
        Some(state) => state,
        // Behind a logger's own text on the same line.
        None if line.ends_with(HEADER) => State::Frames,
        None => State::Outside,
    }
}

pub(super) fn next(state: State, line: &[u8]) -> Option<State> {
    match (state, line) {
        (State::Frames | State::Group | State::Exception, line) if begins_with_space(line) => {
            Some(if state == State::Frames { State::Frames } else { state })
        }
        (State::Frames, [_, ..]) => Some(State::Exception),
        (State::Exception | State::Group, []) => Some(State::Gap),
        (State::Gap, line) if LINKS.contains(&line.trim_ascii()) => Some(State::Link),
        (State::Link, []) => Some(State::LinkGap),
        (State::Outside | State::Link | State::LinkGap, line) => header(line),
        _ => None,
    }
}

/// A line that is the header of a traceback and nothing else.
fn header(line: &[u8]) -> Option<State> {
    let line = line.trim_ascii_start();
    if line.starts_with(GROUP_HEADER) {
        return Some(State::Group);
    }
    line.starts_with(HEADER).then_some(State::Frames)
}

#[cfg(test)]
mod tests {
    use super::super::tests::groups;

    const TRACE: &str = "Traceback (most recent call last):
  File \"/app/a.py\", line 7, in f
    return a[b]
           ~^^^
";

    #[test]
    fn tracebacks() {
        assert_eq!(groups("python", &format!("ERROR:shop:refused\n{TRACE}KeyError: 'x'\nINFO:shop:next\n")), [6, 1]);
        assert_eq!(groups("python", &format!("{TRACE}a.b.C\nnext\n{TRACE}KeyError\n{TRACE}KeyError\n")), [5, 1 + 5, 5]);
        assert_eq!(groups("python", &format!("2026 ERROR {TRACE}KeyError: 'x'\nnext\n")), [5, 1]);
        // What is behind the exception and indented is of its message.
        assert_eq!(groups("python", &format!("{TRACE}V: 1 error\n  field required\nnext\n")), [6, 1]);
    }

    #[test]
    fn chained_ones() {
        for link in [
            "During handling of the above exception, another exception occurred:",
            "The above exception was the direct cause of the following exception:",
        ] {
            assert_eq!(
                groups("python", &format!("{TRACE}KeyError: 'x'\n\n{link}\n\n{TRACE}V: y\n\n{link}\n\n{TRACE}W: z\nnext\n")),
                [21, 1]
            );
        }
        // An empty line behind an exception is part of it, for nobody looks ahead; what follows begins anew.
        assert_eq!(groups("python", &format!("{TRACE}KeyError: 'x'\n\nnext\n\n")), [6, 1, 1]);
        assert_eq!(groups("python", &format!("{TRACE}KeyError: 'x'\n\n{TRACE}V\n")), [6, 5]);
    }

    #[test]
    fn groups_of_exceptions() {
        let trace = "  + Exception Group Traceback (most recent call last):
  |   File \"/app/a.py\", line 1, in <module>
  | ExceptionGroup: both (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------
next
";
        assert_eq!(groups("python", trace), [6, 1]);
    }

    #[test]
    fn lines_that_are_no_traceback() {
        assert_eq!(groups("python", "a\n b\n\nTraceback: no\n"), [1, 1, 1, 1]);
    }
}
