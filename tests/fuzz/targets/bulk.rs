//! Answers to bulk requests: whatever a server says is one verdict for each record that was sent, as serde_json's own tree of it has it, or none at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use skep::logs::sink::bulk::{self, Verdict};

fuzz_target!(|data: &[u8]| {
    let Some((sent, body)) = data.split_first() else { return };
    bulk::parse_error(400, body);
    let Ok(answer) = bulk::parse(body, usize::from(*sent), Some("a")) else { return };
    assert_eq!(answer.verdicts.len(), usize::from(*sent));
    let Ok(whole) = serde_json::from_slice::<Value>(body) else { return };
    for (item, verdict) in whole["items"].as_array().into_iter().flatten().zip(&answer.verdicts) {
        // Of names that come twice each has its own way.
        let Some(outcome) = item.as_object().filter(|item| item.len() == 1).and_then(|item| item.values().next()) else { continue };
        let Some(status) = outcome["status"].as_u64() else { continue };
        let is_stored = (200..300).contains(&status) && outcome["failure_store"] != "used";
        assert_eq!(is_stored, matches!(verdict, Verdict::Taken | Verdict::Elsewhere), "{outcome}");
        assert_eq!(status == 409, *verdict == Verdict::Duplicate, "{outcome}");
    }
});
