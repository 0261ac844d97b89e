//! Durations and sizes as people write them.

use std::time::Duration;

/// The longest duration: more is a slip, and what is added to a clock must not overflow.
const LONGEST: u64 = 366 * 86_400_000;

/// `500ms`, `30s`, `5m`, `2h`, `7d`, or a bare number of seconds; a year at most.
///
/// # Errors
/// A sentence that says what would do.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("'{text}' is not a duration: 500ms, 30s, 5m, 2h and 7d are");
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(refused)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|value| *value <= LONGEST);
    value.map(Duration::from_millis).ok_or_else(refused)
}

/// `1024`, `256KiB`, `10MB`, `1GiB`: bytes.
///
/// # Errors
/// A sentence that says what would do.
pub fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is not a size: 1048576, 256KiB, 10MB and 1GiB are");
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(refused)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        _ => return Err(refused()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for odd in ["", "s", "-1s", "1.5s", "367d", "5 parsecs", "99999999999999999999h"] {
            duration(odd).unwrap_err();
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256KiB"), Ok(262_144));
        assert_eq!(size("10MB"), Ok(10_000_000));
        assert_eq!(size("7"), Ok(7));
        for odd in ["", "GiB", "-1", "1.5GiB", "99999999999999GiB"] {
            size(odd).unwrap_err();
        }
    }
}
