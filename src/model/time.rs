//! Times and the calendar, without a clock: Docker's times, which are RFC 3339 with a fraction of up to nine digits (Go's `RFC3339Nano`), as nanoseconds
//! since the epoch; days and years.
//!
//! The engine writes `time` into every entry of a json-file log (moby, `daemon/logger/jsonfilelog/jsonlog`), so this runs once a line: digits are
//! taken where they lie, nothing is allocated. Calendar arithmetic is that of the proleptic Gregorian calendar, counted from 1 March.

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The time in nanoseconds since the epoch: `2026-11-20T10:00:00.123456789Z`, or with an offset (`+02:00`). A fraction may have any number of digits;
/// those after the ninth are not kept. A leap second is the first second after it.
///
/// `None` for anything else, and for times out of range (before 1677-09-21 or after 2262-04-11), among them Go's zero time.
#[must_use]
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't', h0, h1, b':', n0, n1, b':', s0, s1] = *date else { return None };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanoseconds, zone) = match rest.split_first() {
        Some((b'.', digits)) => fraction(digits)?,
        _ => (0, rest),
    };
    let offset = match *zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    // Before the epoch the whole seconds may be out of range while the sum is not, so the sum is what is checked.
    i64::try_from(i128::from(seconds) * i128::from(SECOND) + i128::from(nanoseconds)).ok()
}

/// Appends the time in UTC, always with nine digits of fraction: `2026-11-20T10:00:00.123000000Z`. 30 bytes.
pub fn write_rfc3339(ns: i64, out: &mut Vec<u8>) {
    let (seconds, nanoseconds) = (ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let [y0, y1, y2, y3, _, m0, m1, _, d0, d1, _, h0, h1, _, n0, n1, _, s0, s1, _, fraction @ .., _] = &mut text;
    put([y0, y1, y2, y3], year);
    put([m0, m1], month);
    put([d0, d1], day);
    put([h0, h1], second / 3600);
    put([n0, n1], second / 60 % 60);
    put([s0, s1], second % 60);
    let [f0, f1, f2, f3, f4, f5, f6, f7, f8] = fraction;
    put([f0, f1, f2, f3, f4, f5, f6, f7, f8], nanoseconds);
    out.extend_from_slice(&text);
}

/// Two digits.
const fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return None;
    }
    Some((tens * 10 + ones) as i64)
}

/// The digits after the point, as nanoseconds, and what follows them.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if length == 0 {
        return None;
    }
    let (digits, rest) = text.split_at(length);
    let mut number = 0;
    for place in 0..9 {
        number = number * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    Some((number, rest))
}

/// Writes a number that is not negative, its leading zeros too.
fn put<const N: usize>(places: [&mut u8; N], mut number: i64) {
    for place in places.into_iter().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// Whether a year of the Gregorian calendar has a 29th of February.
#[must_use]
pub const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a year, a month (1 to 12) and a day of it. Years are counted from March, so that the leap day is the last of its year.
#[must_use]
pub const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the epoch.
#[must_use]
pub const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(ns: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339(ns, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-20T10:00:00.123456789Z", 1_795_168_800_123_456_789),
            ("2026-11-20T10:00:00.5Z", 1_795_168_800_500_000_000),
            ("2026-11-20T12:00:00.5+02:00", 1_795_168_800_500_000_000),
            ("2026-11-20T09:30:00.5-00:30", 1_795_168_800_500_000_000),
            ("2026-11-20T10:00:00.1234567899Z", 1_795_168_800_123_456_789),
            ("2000-02-29T23:59:60Z", 951_868_800_000_000_000),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(ns), "{text}");
        }
        assert_eq!(written(1_795_168_800_500_000_000), "2026-11-20T10:00:00.500000000Z");
        assert_eq!(written(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn calendar() {
        assert_eq!((days_from_civil(1970, 1, 1), days_from_civil(2000, 3, 1), days_from_civil(2026, 11, 21)), (0, 11_017, 20_778));
        for year in [1900, 1969, 1970, 2000, 2026, 9999] {
            assert_eq!((civil_from_days(days_from_civil(year, 1, 1)).0, civil_from_days(days_from_civil(year, 12, 31)).0), (year, year));
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "Z",
            "2026-11-20",
            "2026-11-20T10:00:00",
            "2026-11-20T10:00:00.Z",
            "2026-11-20T10:00:00.1",
            "2026-13-20T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "1900-02-29T10:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:60:00Z",
            "2026-11-20 10:00:00Z",
            "2026-11-20T10:00:00Zx",
            "2026-11-20T10:00:00+0200",
            "2262-04-11T23:47:16.854775808Z",
            "0001-01-01T00:00:00Z",
            "2026-11-2xT10:00:00Z",
            "2026-00-10T10:00:00Z",
            "2026-01-00T10:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ns: i64) {
            prop_assert_eq!(parse_rfc3339(written(ns).as_bytes()), Some(ns));
            prop_assert_eq!(written(ns).len(), 30);
        }

        #[test]
        fn text_orders_as_time(a: i64, b: i64) {
            prop_assert_eq!(written(a).cmp(&written(b)), a.cmp(&b));
        }

        #[test]
        fn trimmed_as_go_trims_it(seconds in -9_000_000_000i64..9_000_000_000, nanoseconds in 0i64..SECOND) {
            let ns = seconds * SECOND + nanoseconds;
            let whole = written(ns);
            let trimmed = format!("{}Z", whole.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'));
            // A whole second loses its point too; its own zeros must stay.
            let go = if nanoseconds == 0 { format!("{}Z", whole.split('.').next().unwrap()) } else { trimmed };
            prop_assert_eq!(parse_rfc3339(go.as_bytes()), Some(ns));
        }

        #[test]
        fn anything_is_survived(bytes: Vec<u8>) {
            let _time = parse_rfc3339(&bytes);
        }

        #[test]
        fn nearly_a_time_is_survived(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})") {
            if let Some(ns) = parse_rfc3339(text.as_bytes()) {
                prop_assert_eq!(parse_rfc3339(written(ns).as_bytes()), Some(ns));
            }
        }
    }
}
