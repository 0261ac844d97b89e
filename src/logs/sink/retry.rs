//! What to do after a request to Elasticsearch: a pure function of what came back. And how long to wait.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::bulk::{self, Refusal, Verdicts};

/// What came back of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A status, and the body that came with it.
    Answered(u16, bytes::Bytes),
    /// A 2xx answer over the bound, which was not read.
    TooLong,
    /// No answer within the time limit.
    Timeout,
    /// No connection, so that nothing was sent: why.
    Away(String),
    /// A connection that broke, or could not be made: the deepest cause, in words.
    Broken(String),
}

impl Outcome {
    /// Whether the sink may have taken records without saying so.
    pub(super) const fn may_be_taken(&self) -> bool {
        matches!(self, Self::Timeout | Self::Broken(_) | Self::TooLong | Self::Answered(200..=299 | 408 | 500..=599, _))
    }
}

/// What to do with the records of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Each record has its verdict.
    Verdicts(Verdicts),
    /// Nothing is known of any: send them all again.
    Again(Fault),
    /// Not all of them together: in two halves; a single one is refused for this.
    Halve(Refusal),
}

/// Why a request has to be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The label of the counter: a status, `connect`, `timeout` or `answer`.
    pub(super) code: String,
    /// How to wait.
    pub(super) pace: Pace,
    /// Whether another host might do better.
    pub(super) other_host: bool,
    /// What is wrong, for the part's sentence; no secrets and nothing of a record in it.
    pub(super) why: String,
}

/// How delays grow: from the first to the second, doubling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    first: Duration,
    most: Duration,
}

impl Pace {
    /// Nobody answers: a try costs nobody anything, and recovery is to be noticed at once.
    pub(super) const PROMPT: Self = Self { first: Duration::from_millis(100), most: Duration::from_secs(5) };
    /// The sink asks for patience.
    pub(super) const PATIENT: Self = Self { first: Duration::from_millis(100), most: Duration::from_secs(30) };
    /// Somebody has to set something right.
    pub(super) const SLOW: Self = Self { first: Duration::from_secs(1), most: Duration::from_secs(30) };

    /// The delay before try `attempt` (0 is the first repetition): anywhere between the first delay and the doubled one, as `random` has it, so that
    /// the agents of all nodes do not come back together.
    pub(super) fn delay(self, attempt: u32, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(attempt.saturating_add(1))).min(self.most);
        let span = u64::try_from(doubled.saturating_sub(self.first).as_micros()).unwrap_or(u64::MAX);
        self.first + Duration::from_micros(random % span.max(1))
    }
}

/// A number that differs from call to call and from process to process; for jitter only.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What to do after a request of `sent` records, which this index is expected to take, if one is.
pub(super) fn decide(outcome: Outcome, sent: usize, expected: Option<&str>) -> Step {
    let again = |code: &str, pace: Pace, other_host: bool, why: String| Step::Again(Fault { code: code.to_owned(), pace, other_host, why });
    let (status, body) = match outcome {
        Outcome::Answered(status, body) => (status, body),
        Outcome::TooLong if sent > 1 => {
            return Step::Halve(Refusal { status: 200, kind: "answer_too_long".to_owned(), reason: String::new() });
        }
        Outcome::TooLong => return again("answer", Pace::SLOW, false, "its answer is longer than any to one record can be".to_owned()),
        Outcome::Timeout => return again("timeout", Pace::PROMPT, true, "it does not answer in time".to_owned()),
        Outcome::Away(why) | Outcome::Broken(why) => return again("connect", Pace::PROMPT, true, format!("it does not answer ({why})")),
    };
    let code = status.to_string();
    match status {
        200..=299 => match bulk::parse(&body, sent, expected) {
            Ok(verdicts) => Step::Verdicts(verdicts),
            Err(why) => again("answer", Pace::PATIENT, true, format!("its answer cannot be understood: {why}")),
        },
        413 => Step::Halve(Refusal { status, kind: "too_large".to_owned(), reason: "the request is too large for the sink".to_owned() }),
        // Somebody's record may be at fault, or the whole request; only an answer of Elasticsearch itself is worth the search.
        400 => match bulk::parse_error(status, &body) {
            Some(refusal) if !bulk::is_configuration(&refusal) => Step::Halve(refusal),
            Some(refusal) => again(&code, Pace::SLOW, false, format!("it refuses every request (400 {})", refusal.kind)),
            None => again(&code, Pace::SLOW, false, "it refuses every request (400, and not in the way of Elasticsearch)".to_owned()),
        },
        401 => again(&code, Pace::SLOW, false, "it refuses the credentials (401); they are read again before each try".to_owned()),
        403 => again(
            &code,
            Pace::SLOW,
            false,
            "the credentials lack a right there (403); create_doc and auto_configure on the index would do".to_owned(),
        ),
        408 | 429 => again(&code, Pace::PATIENT, false, format!("it has too much to do ({status})")),
        502..=504 => again(&code, Pace::PATIENT, true, format!("it is not ready ({status})")),
        500..=599 => again(&code, Pace::PATIENT, false, format!("it fails ({status})")),
        _ => again(&code, Pace::SLOW, false, format!("it answers {status}, which no bulk request should get; is it Elasticsearch?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(status: u16, body: &'static str, sent: usize) -> Step {
        decide(Outcome::Answered(status, bytes::Bytes::from_static(body.as_bytes())), sent, None)
    }

    fn fault(step: Step) -> (String, Pace, bool) {
        match step {
            Step::Again(fault) => (fault.code, fault.pace, fault.other_host),
            other => panic!("not sent again: {other:?}"),
        }
    }

    #[test]
    fn every_outcome_has_its_step() {
        assert_eq!(
            after(200, r#"{"errors":false,"items":[{"create":{"status":201}}]}"#, 1),
            Step::Verdicts(Verdicts { verdicts: vec![bulk::Verdict::Taken], index: None })
        );
        assert_eq!(fault(after(200, r#"{"errors":false,"items":[{"create":{"sta"#, 1)), ("answer".into(), Pace::PATIENT, true));
        assert_eq!(fault(after(429, "", 1)), ("429".into(), Pace::PATIENT, false));
        assert_eq!(fault(after(503, "<html>", 1)), ("503".into(), Pace::PATIENT, true));
        assert_eq!(fault(after(500, "", 1)), ("500".into(), Pace::PATIENT, false));
        assert_eq!(fault(after(401, "", 1)), ("401".into(), Pace::SLOW, false));
        assert_eq!(fault(after(404, "", 1)), ("404".into(), Pace::SLOW, false));
        assert_eq!(fault(after(302, "", 1)), ("302".into(), Pace::SLOW, false));
        assert_eq!(fault(decide(Outcome::Timeout, 1, None)), ("timeout".into(), Pace::PROMPT, true));
        assert_eq!(fault(decide(Outcome::Broken("refused".into()), 1, None)), ("connect".into(), Pace::PROMPT, true));
        assert!(matches!(after(413, "", 2), Step::Halve(of) if of.status == 413));
        assert!(matches!(decide(Outcome::TooLong, 2, None), Step::Halve(_)));
        assert_eq!(fault(decide(Outcome::TooLong, 1, None)).0, "answer");
    }

    #[test]
    fn a_400_is_searched_only_when_a_record_can_be_at_fault() {
        let parse = r#"{"error":{"type":"json_parse_exception","reason":"Unexpected character"},"status":400}"#;
        assert!(matches!(after(400, parse, 9), Step::Halve(of) if of.kind == "json_parse_exception"));
        let setting = r#"{"error":{"type":"illegal_argument_exception","reason":"explicit index in bulk is not allowed"},"status":400}"#;
        assert_eq!(fault(after(400, setting, 9)), ("400".into(), Pace::SLOW, false));
        assert_eq!(fault(after(400, "<html>The plain HTTP request was sent to HTTPS port</html>", 9)).1, Pace::SLOW);
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds(attempt in 0u32..100, random: u64) {
            for pace in [Pace::PROMPT, Pace::PATIENT, Pace::SLOW] {
                let delay = pace.delay(attempt, random);
                prop_assert!(delay >= pace.first && delay <= pace.most);
            }
        }
    }

    #[test]
    fn delays_grow() {
        assert!(Pace::PATIENT.delay(0, u64::MAX / 3) < Duration::from_millis(200));
        assert!((0..64).map(|_| Pace::PATIENT.delay(20, random())).max().unwrap() > Duration::from_secs(5));
    }
}
