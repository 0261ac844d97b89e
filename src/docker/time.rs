//! The engine's times: RFC 3339 to the nanosecond.

use std::time::{Duration, SystemTime};

use crate::model::time::parse_rfc3339;

/// Nanoseconds since the epoch of a time as the engine writes it: `2026-11-20T20:58:43.578777906Z`, also with an offset (`+01:00`) and without
/// a fraction. `None` for what is no such time, and for Go's zero time (`0001-01-01T00:00:00Z`), with which the engine says "never", as for all before 1970.
#[must_use]
pub(crate) fn parse(text: &str) -> Option<i64> {
    parse_rfc3339(text.as_bytes()).filter(|nanos| *nanos >= 0)
}

/// Seconds since the epoch with their fraction, for a metric.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a metric's time: a double holds it to the microsecond")]
pub(crate) fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// Seconds since the epoch with their fraction.
#[must_use]
pub(crate) fn of(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(parse("2026-11-20T20:58:43.578777906Z"), Some(1_795_208_323_578_777_906));
        assert_eq!(parse("2024-02-29T12:00:00.5+01:30"), Some(1_709_202_600_500_000_000));
        for never in [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "",
            "2026-11-20",
            "2026-13-20T20:58:43Z",
            "2026-11-20T20:58:43",
            "2026-11-20T20:58:43.5+1",
        ] {
            assert_eq!(parse(never), None, "{never}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_fault(text in ".*", bytes in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,30})?(Z|\\+..:..)") {
            proptest::prop_assert!(parse(&text).is_none_or(|_| text.len() >= 20));
            proptest::prop_assert!(parse(&bytes).is_none_or(|nanos| nanos >= 0));
        }
    }
}
