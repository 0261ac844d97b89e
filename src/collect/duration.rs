//! Durations in flags.

use std::time::Duration;

use crate::config::{Flag, Settings};

/// The duration that a flag gives, or `default` where it is not given: whole numbers with `ms`, `s` or `m`.
///
/// # Errors
/// When it is no duration, or is zero.
pub(super) fn duration(settings: &Settings, flag: &Flag, default: Duration) -> Result<Duration, String> {
    let Some(given) = settings.one(flag.name) else { return Ok(default) };
    parsed(given).ok_or_else(|| format!("--{}={given}: no duration; give a number above 0 with its unit, as 500ms, 5s or 1m", flag.name))
}

fn parsed(given: &str) -> Option<Duration> {
    let unit = given.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = given.split_at_checked(unit)?;
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parsed("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parsed("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("2m"), Some(Duration::from_secs(120)));
        for odd in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "99999999999999999999s"] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }
}
