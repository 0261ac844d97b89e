//! The engine's times: RFC 3339 to the nanosecond.

use std::time::{Duration, SystemTime};

/// Nanoseconds since the epoch of a time as the engine writes it: `2026-11-20T20:58:43.578777906Z`, also with an offset (`+01:00`) and without
/// a fraction. `None` for what is no such time, and for Go's zero time (`0001-01-01T00:00:00Z`), with which the engine says "never".
#[must_use]
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        crate::host::parse::unsigned(digits).and_then(|number| i64::try_from(number).ok())
    };
    let separator = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|byte| expected.contains(byte));
    if !(separator(4, b"-") && separator(7, b"-") && separator(10, b"Tt ") && separator(13, b":") && separator(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = bytes.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut scale = 100_000_000;
        for byte in fraction.get(..length)? {
            nanos += i64::from(byte - b'0') * scale;
            scale /= 10;
        }
        rest = fraction.get(length..)?;
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let of = |tens: &u8, ones: &u8| crate::host::parse::unsigned(&[*tens, *ones]).and_then(|number| i64::try_from(number).ok());
            let seconds = of(h1, h2)? * 3600 + of(m1, m2)? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Days between 1970-01-01 and a date of the Gregorian calendar (Howard Hinnant's days_from_civil).
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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
        for never in ["0001-01-01T00:00:00Z", "", "2026-11-20", "2026-13-20T20:58:43Z", "2026-11-20T20:58:43", "2026-11-20T20:58:43.5+1"] {
            assert_eq!(parse(never), None, "{never}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_fault(text in ".*", bytes in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,30})?(Z|\\+..:..)") {
            proptest::prop_assert!(parse(&text).is_none_or(|_| text.len() >= 20));
            proptest::prop_assert!(parse(&bytes).is_none_or(|nanos| nanos > -86_400_000_000_000));
        }
    }
}
