//! Go's panics and fatal errors with the traces of their goroutines, and a trace under the line that was logged with it, as `net/http` does.
//!
//! ```text
//! panic: runtime error: index out of range [5] with length 3
//!
//! goroutine 1 [running]:
//! main.take(...)
//!         /app/main.go:42
//! main.main()
//!         /app/main.go:7 +0x1d
//! created by main.start in goroutine 1
//!         /app/main.go:3 +0x2a
//! exit status 2
//! ```

use super::begins_with_space;

/// Where in a trace the last line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In none.
    Outside,
    /// In the words of a panic, before its first trace.
    Panic,
    /// In the trace of a goroutine.
    Trace,
    /// Behind a trace.
    Gap,
}

pub(super) fn first(line: &[u8]) -> State {
    if [&b"panic: "[..], b"fatal error: ", b"runtime: ", b"unexpected fault address", b"SIG"].iter().any(|begin| line.starts_with(begin)) {
        return State::Panic;
    }
    if is_goroutine(line) { State::Trace } else { State::Outside }
}

pub(super) fn next(state: State, line: &[u8]) -> Option<State> {
    if is_goroutine(line) {
        return Some(State::Trace);
    }
    match state {
        State::Outside => None,
        State::Panic => {
            let belongs = line.is_empty()
                || begins_with_space(line)
                || [&b"[signal "[..], b"panic: ", b"fatal error: ", b"PC=", b"runtime: "].iter().any(|begin| line.starts_with(begin));
            belongs.then_some(State::Panic)
        }
        State::Trace if line.is_empty() => Some(State::Gap),
        State::Trace => {
            let belongs = begins_with_space(line) || is_call(line) || line.starts_with(b"created by ") || line.starts_with(b"...");
            if belongs { Some(State::Trace) } else { behind_trace(line) }
        }
        State::Gap => behind_trace(line),
    }
}

/// What may follow the last trace: registers, and what `go run` says.
fn behind_trace(line: &[u8]) -> Option<State> {
    let is_register = || {
        let end = line.iter().position(u8::is_ascii_whitespace)?;
        let (name, value) = line.split_at_checked(end)?;
        (name.len() <= 6 && name.iter().all(u8::is_ascii_alphanumeric) && value.trim_ascii().starts_with(b"0x")).then_some(State::Gap)
    };
    if line.starts_with(b"exit status ") { Some(State::Gap) } else { is_register() }
}

/// `goroutine 1 [running]:`, also with more words, and the runtime's own stack.
fn is_goroutine(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"goroutine ") else { return line == b"runtime stack:" };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && line.ends_with(b":") && rest.get(digits..).is_some_and(|rest| rest.starts_with(b" ") && rest.contains(&b'['))
}

/// `net/http.(*conn).serve(0xc000, {0x1, 0x2})`, `panic({0x1, 0x2})`.
fn is_call(line: &[u8]) -> bool {
    let Some(open) = line.iter().position(|byte| *byte == b'(') else { return false };
    let name = line.get(..open).unwrap_or_default();
    line.ends_with(b")") && !name.iter().any(u8::is_ascii_whitespace) && (name.contains(&b'.') || name == b"panic")
}

#[cfg(test)]
mod tests {
    use super::super::tests::groups;

    #[test]
    fn panics() {
        let panic = "2026/11/20 10:00:00 started
panic: runtime error: index out of range [5] with length 3 [recovered]
\tpanic: again
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]

goroutine 1 gp=0xc000002380 m=0 mp=0x5 [running]:
panic({0x47b8a0?, 0xc00?})
\t/usr/local/go/src/runtime/panic.go:770 +0x132
net/http.(*conn).serve(0xc000, {0x1, 0x2})
\t/app/main.go:42
created by main.start in goroutine 1
\t/app/main.go:3 +0x2a

goroutine 6 [chan receive, 2 minutes]:
main.main()
\t/app/main.go:7 +0x1d
exit status 2
2026/11/20 10:00:01 started
";
        assert_eq!(groups("go", panic), [1, 16, 1]);
        assert_eq!(
            groups(
                "go",
                "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\t/a.go:1\nnext (1)\n"
            ),
            [5, 1]
        );
        assert_eq!(
            groups("go", "SIGQUIT: quit\nPC=0x46 m=0 sigcode=0\n\ngoroutine 1 [idle]:\nmain.main()\n\nrax    0x0\nrip 0x46\nnext\n"),
            [8, 1]
        );
    }

    #[test]
    fn a_trace_under_a_line() {
        let served = "2026/11/20 10:00:00 http: panic serving 10.0.0.1:1: boom
goroutine 34 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1898 +0xbe
2026/11/20 10:00:01 http: (next)
";
        assert_eq!(groups("go", served), [4, 1]);
    }

    #[test]
    fn lines_that_are_no_trace() {
        assert_eq!(groups("go", "a\n b\n\ngoroutine leak [x]:\nmain.main()\npanic now\n"), [1, 1, 1, 1, 1, 1]);
    }
}
