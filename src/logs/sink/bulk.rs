//! The answer to a `_bulk` request: one verdict for each item, by position.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of a reason that are kept: Elasticsearch quotes the document in it.
const REASON_BYTES: usize = 1024;

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken (2xx), into the index that was expected, if one was.
    Taken,
    /// It was taken (2xx), into another index.
    Elsewhere,
    /// It was there already: 409 to a `create` with an id.
    Duplicate,
    /// The sink cannot take it now: 429, 5xx, or an index blocked because a disk is full.
    Again(u16),
    /// The sink cannot take it as it is configured: no such index, no right, no room for another shard. A document is never given up for that.
    Configuration(Refusal),
    /// The sink will never take this document.
    Refused(Refusal),
}

/// Why a sink does not take something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, of the item or the request.
    pub status: u16,
    /// Elasticsearch's type of error; empty where it told none.
    pub kind: String,
    /// Its reason, cut to a kibibyte. It may quote the document, so it stands in the dead letter file only.
    pub reason: String,
}

/// Reads the answer to a request of `sent` items, and compares the index that took an item with the one that was expected to.
///
/// # Errors
/// A word on it, when it is not the whole answer to that request: cut, garbage, or with another number of items. Then nothing is known of any item, and
/// all are sent again; the ones that were taken come back as 409.
pub fn parse(body: &[u8], sent: usize, expected: Option<&str>) -> Result<Verdicts, &'static str> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| "it is not the JSON of a bulk answer")?;
    let items = answer.items.0;
    if items.len() != sent {
        return Err("it has not one item for each record");
    }
    let mut index = None;
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        let (verdict, of) = item.ok_or("an item has no status")?;
        let is_elsewhere = verdict == Verdict::Taken && of.as_deref().zip(expected).is_some_and(|(of, expected)| of != expected);
        if verdict == Verdict::Taken && of.is_some() {
            index = of;
        }
        verdicts.push(if is_elsewhere { Verdict::Elsewhere } else { verdict });
    }
    Ok(Verdicts { verdicts, index: index.map(Cow::into_owned) })
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    /// One for each item.
    pub verdicts: Vec<Verdict>,
    /// The index that took the last item that was taken, where the answer says so.
    pub index: Option<String>,
}

/// The error of a request that failed as a whole: `{"error":{"type":...,"reason":...},"status":...}`. `None` for what is no answer of Elasticsearch: a
/// proxy's page.
pub fn parse_error(status: u16, body: &[u8]) -> Option<Refusal> {
    let whole: Whole<'_> = serde_json::from_slice(body).ok()?;
    Some(refusal(status, Some(whole.error)))
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    error: Fault<'a>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    items: Items<'a>,
}

/// The verdicts, made while the answer is read; no tree of it is built. `None` for an item without a status.
struct Items<'a>(Vec<Option<(Verdict, Option<Cow<'a, str>>)>>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<Option<(Verdict, Option<Cow<'de, str>>)>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the items of a bulk answer")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut verdicts = Vec::new();
                while let Some(Operation(result)) = items.next_element()? {
                    let is_stored_as_refused = result.failure_store.as_deref() == Some("used");
                    let verdict = |status| if is_stored_as_refused { in_failure_store(status) } else { verdict(status, result.error) };
                    verdicts.push(result.status.map(|status| (verdict(status), result.index)));
                }
                Ok(verdicts)
            }
        }
        deserializer.deserialize_seq(List).map(Self)
    }
}

/// `{"create":{...}}`: the one value of the object, whatever its key.
struct Operation<'a>(Outcome<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Operation<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Outcome<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item of a bulk answer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut outcome = Outcome { status: None, index: None, failure_store: None, error: None };
                while map.next_key::<IgnoredAny>()?.is_some() {
                    outcome = map.next_value()?;
                }
                Ok(outcome)
            }
        }
        deserializer.deserialize_map(Object).map(Operation)
    }
}

#[derive(Deserialize)]
struct Outcome<'a> {
    status: Option<u16>,
    #[serde(borrow, default, rename = "_index")]
    index: Option<Cow<'a, str>>,
    /// What a data stream that keeps refused documents in a store of their own says of it, with a 201: `used`. Elasticsearch from 8.19 and 9.1 on.
    #[serde(borrow, default)]
    failure_store: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<Fault<'a>>,
}

/// An error is an object, or only a sentence. One of another shape costs its words, not the answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Fault<'a> {
    Object {
        #[serde(borrow, rename = "type", default)]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        reason: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        caused_by: Option<Cause<'a>>,
    },
    Sentence(#[serde(borrow)] Cow<'a, str>),
    Odd(IgnoredAny),
}

#[derive(Deserialize)]
struct Cause<'a> {
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

fn refusal(status: u16, error: Option<Fault<'_>>) -> Refusal {
    let (kind, mut reason) = match error {
        Some(Fault::Object { kind, reason, caused_by }) => {
            let mut text = reason.unwrap_or_default().into_owned();
            if let Some(cause) = caused_by.and_then(|cause| cause.reason) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            (kind.unwrap_or_default().into_owned(), text)
        }
        Some(Fault::Sentence(sentence)) => (String::new(), sentence.into_owned()),
        Some(Fault::Odd(_)) | None => (String::new(), String::new()),
    };
    reason.truncate(reason.floor_char_boundary(REASON_BYTES));
    Refusal { status, kind, reason }
}

/// The document was refused, and lies where the data stream does not show it.
fn in_failure_store(status: u16) -> Verdict {
    match status {
        200..=299 => {
            let reason = "the document does not fit the data stream, and lies in its failure store".to_owned();
            Verdict::Refused(Refusal { status, kind: "failure_store".to_owned(), reason })
        }
        _ => verdict(status, None),
    }
}

fn verdict(status: u16, error: Option<Fault<'_>>) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        409 => Verdict::Duplicate,
        429 | 500..=599 => Verdict::Again(status),
        _ => {
            let refusal = refusal(status, error);
            if matches!(refusal.kind.as_str(), "es_rejected_execution_exception" | "cluster_block_exception") {
                Verdict::Again(status)
            } else if is_configuration(&refusal) {
                Verdict::Configuration(refusal)
            } else {
                Verdict::Refused(refusal)
            }
        }
    }
}

/// Whether the fault is not the document's: it would meet every document, and goes away when somebody sets it right.
pub fn is_configuration(refusal: &Refusal) -> bool {
    // A cluster that is full of shards answers validation_exception with 400 to the first document of each new day.
    const KINDS: [&str; 5] = [
        "index_not_found_exception",
        "security_exception",
        "validation_exception",
        "invalid_index_name_exception",
        "index_closed_exception",
    ];
    // By their beginnings: further on a reason quotes the document, which must not be able to hold the route up.
    const REASONS: [&str; 5] = [
        "pipeline with id [",
        "no write index is defined",
        "only write ops with an op_type of create",
        "explicit index in bulk is not allowed",
        "request [/",
    ];
    matches!(refusal.status, 401 | 403 | 404 | 405)
        || KINDS.contains(&refusal.kind.as_str())
        || refusal.kind == "illegal_argument_exception" && REASONS.iter().any(|reason| refusal.reason.starts_with(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIXED: &[u8] = br#"{"errors":true,"items":[{"create":{"_index":"docker-logs-2026.11.20","status":201}},
        {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[A]: version conflict, document already exists","index_uuid":"x","shard":"0"}}},
        {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation"}}},
        {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [n] of type [long]","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"\u00e9\""}}}},
        {"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}},
        {"create":{"status":403,"error":{"type":"cluster_block_exception","reason":"index blocked"}}},
        {"create":{"status":400,"error":{"type":"validation_exception","reason":"this action would add [2] total shards"}}},
        {"create":{"status":400,"error":"a sentence"}},
        {"create":{"status":503,"error":{"type":7}}}]}"#;

    #[test]
    fn each_item_gets_its_verdict_by_position() {
        let verdicts = parse(MIXED, 9, None).unwrap().verdicts;
        assert_eq!(verdicts[0], Verdict::Taken);
        assert_eq!(verdicts[1], Verdict::Duplicate);
        assert_eq!(verdicts[2], Verdict::Again(429));
        assert_eq!(
            verdicts[3],
            Verdict::Refused(Refusal {
                status: 400,
                kind: "mapper_parsing_exception".into(),
                reason: "failed to parse field [n] of type [long]: For input string: \"é\"".into()
            })
        );
        assert!(matches!(&verdicts[4], Verdict::Configuration(of) if of.status == 404));
        assert_eq!(verdicts[5], Verdict::Again(403));
        assert!(matches!(&verdicts[6], Verdict::Configuration(of) if of.kind == "validation_exception"));
        assert!(matches!(&verdicts[7], Verdict::Refused(of) if of.kind.is_empty() && of.reason == "a sentence"));
        assert_eq!(verdicts[8], Verdict::Again(503));
    }

    #[test]
    fn the_index_that_took_a_record_is_compared() {
        let body = br#"{"items":[{"create":{"_index":"a","status":201}},{"create":{"_index":"b","status":201}},{"create":{"_index":"b","status":409}}]}"#;
        let answer = parse(body, 3, Some("a")).unwrap();
        assert_eq!((answer.verdicts, answer.index.as_deref()), (vec![Verdict::Taken, Verdict::Elsewhere, Verdict::Duplicate], Some("b")));
        assert_eq!(parse(body, 3, None).unwrap().verdicts[1], Verdict::Taken, "nothing was expected");
    }

    #[test]
    fn what_lies_in_the_failure_store_was_refused() {
        let body = br#"{"items":[{"create":{"_index":".fs-a","status":201,"failure_store":"used"}},{"create":{"_index":"a","status":201,"failure_store":"not_enabled"}}]}"#;
        let answer = parse(body, 2, Some("a")).unwrap();
        assert!(matches!(&answer.verdicts[0], Verdict::Refused(of) if of.kind == "failure_store"));
        assert_eq!((&answer.verdicts[1], answer.index.as_deref()), (&Verdict::Taken, Some("a")));
    }

    #[test]
    fn an_answer_to_another_number_of_records_is_none() {
        assert!(parse(MIXED, 8, None).is_err());
        assert!(parse(br#"{"errors":false}"#, 1, None).is_err());
        assert!(parse(br#"{"errors":false,"items":[{"create":{}}]}"#, 1, None).is_err());
        assert!(parse(br#"{"errors":false,"items":[{}]}"#, 1, None).is_err());
        assert!(parse(b"<html>", 1, None).is_err());
    }

    #[test]
    fn a_cut_answer_is_none() {
        for end in 0..MIXED.len() {
            assert!(parse(&MIXED[..end], 9, None).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_words_of_a_document_do_not_make_a_fault_of_the_configuration() {
        let refusal = |kind: &str, reason: &str| is_configuration(&Refusal { status: 400, kind: kind.into(), reason: reason.into() });
        assert!(refusal("illegal_argument_exception", "pipeline with id [nope] does not exist"));
        assert!(refusal("illegal_argument_exception", "no write index is defined for alias [a]. The write index may be"));
        assert!(!refusal("mapper_parsing_exception", "Preview of field's value: 'pipeline with id [nope] does not exist'"));
        assert!(!refusal("illegal_argument_exception", "For input string: \"pipeline with id [nope] does not exist\""));
    }

    #[test]
    fn an_error_of_the_whole_request() {
        let body = br#"{"error":{"root_cause":[],"type":"illegal_argument_exception","reason":"explicit index in bulk is not allowed"},"status":400}"#;
        let refusal = parse_error(400, body).unwrap();
        assert_eq!(refusal.kind, "illegal_argument_exception");
        assert!(is_configuration(&refusal));
        assert_eq!(parse_error(400, b"<html>400 Bad Request</html>"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), sent in 0usize..4) {
            if let Ok(answer) = parse(&body, sent, Some("x")) {
                prop_assert_eq!(answer.verdicts.len(), sent);
            }
        }

        #[test]
        fn every_status_has_a_verdict_for_each_item(statuses in proptest::collection::vec(100u16..600, 0..50)) {
            let items: Vec<_> = statuses.iter().map(|status| serde_json::json!({"create": {"status": status}})).collect();
            let body = serde_json::to_vec(&serde_json::json!({"errors": true, "items": items})).unwrap();
            let verdicts = parse(&body, statuses.len(), None).unwrap().verdicts;
            for (status, verdict) in statuses.iter().zip(verdicts) {
                prop_assert_eq!((200..300).contains(status), verdict == Verdict::Taken);
                prop_assert_eq!(*status == 409, verdict == Verdict::Duplicate);
            }
        }
    }
}
