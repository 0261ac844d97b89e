//! RFC 3339 times, as Docker writes them, to nanoseconds since the epoch and back.

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Nanoseconds since the epoch of an RFC 3339 time (`2026-11-20T10:00:00.123456789Z`, any number of digits in the fraction, an offset instead of
/// `Z`). Digits beyond the ninth are left out. `None` for anything else, and for years that nanoseconds in 64 bits do not reach (1677 to 2262).
#[must_use]
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2] = *head else { return None };
    let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(n1, n2)?, pair(s1, s2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let seconds = days_since_epoch(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
    // Before the epoch the product alone may be out of reach where the sum is not.
    i64::try_from(i128::from(seconds) * i128::from(NANOS) + i128::from(nanos)).ok()
}

/// Appends a time as RFC 3339 in UTC, always with nine digits in its fraction: 30 bytes, which sort as the times do.
pub fn write_rfc3339(time: i64, out: &mut Vec<u8>) {
    let (days, of_day) = (time.div_euclid(DAY * NANOS), time.rem_euclid(DAY * NANOS));
    let (year, month, day) = civil(days);
    // From here on numbers of 32 bits, which divide faster.
    let [year, month, day, second, nanos] =
        [year, month, day, of_day / NANOS, of_day % NANOS].map(|number| u32::try_from(number).unwrap_or_default());
    let [y1, y2] = digits(year / 100);
    let [y3, y4] = digits(year % 100);
    let [m1, m2] = digits(month);
    let [d1, d2] = digits(day);
    let [h1, h2] = digits(second / 3600);
    let [n1, n2] = digits(second / 60 % 60);
    let [s1, s2] = digits(second % 60);
    let [_, f1] = digits(nanos / 100_000_000);
    let [f2, f3] = digits(nanos / 1_000_000 % 100);
    let [f4, f5] = digits(nanos / 10_000 % 100);
    let [f6, f7] = digits(nanos / 100 % 100);
    let [f8, f9] = digits(nanos % 100);
    out.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'.', f1, f2, f3, f4, f5, f6, f7, f8, f9,
        b'Z',
    ]);
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens * 10 + ones))
}

/// The two digits of a number from 0 to 99.
fn digits(number: u32) -> [u8; 2] {
    let number = u8::try_from(number).unwrap_or_default();
    [b'0' + number / 10 % 10, b'0' + number % 10]
}

/// The nanoseconds of `.123`, if there is a fraction, and what comes behind it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let (mut nanos, mut scale, mut count) = (0, NANOS, 0);
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        scale /= 10;
        nanos += i64::from(digit) * scale;
        count += 1;
    }
    (count > 0).then_some((nanos, rest.get(count..)?))
}

/// The seconds that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (pair(h1, h2)?, pair(m1, m2)?);
            let ahead = hours * 3600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is a year's last.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01.
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(time: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times() {
        for (text, time) in [
            ("1970-01-01T00:00:00.000000000Z", 0),
            ("2026-11-20T10:00:00.123456789Z", 1_795_168_800_123_456_789),
            ("2024-02-29T23:59:59.999999999Z", 1_709_251_199_999_999_999),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(time), "{text}");
            assert_eq!(written(time), text);
        }
    }

    #[test]
    fn short_fractions_and_offsets() {
        assert_eq!(parse_rfc3339(b"1970-01-01T00:00:01Z"), Some(NANOS));
        assert_eq!(parse_rfc3339(b"1970-01-01T00:00:00.5Z"), Some(NANOS / 2));
        assert_eq!(parse_rfc3339(b"1970-01-01T02:00:00.0000000019+02:00"), Some(1));
        assert_eq!(parse_rfc3339(b"1969-12-31T23:30:00-00:30"), Some(0));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T10:00:00",
            "2026-11-20T10:00:00.Z",
            "2026-13-20T10:00:00Z",
            "2025-02-29T10:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:00:00ZZ",
            "2026-11-20T10:00:00+0200",
            "2263-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_and_read_back(time: i64) {
            prop_assert_eq!(parse_rfc3339(written(time).as_bytes()), Some(time));
        }

        #[test]
        fn bytes_never_panic(bytes: Vec<u8>) {
            let _time = parse_rfc3339(&bytes);
        }

        #[test]
        fn nearly_times_never_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})?") {
            let _time = parse_rfc3339(text.as_bytes());
        }
    }
}
