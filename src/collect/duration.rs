//! Durations in flags.

use std::time::Duration;

use crate::config::{Flag, Settings, units};

/// The duration that a flag gives, or `default` where it is not given, as [`units::duration`] reads it.
///
/// # Errors
/// When it is no duration, or is zero.
pub(super) fn duration(settings: &Settings, flag: &Flag, default: Duration) -> Result<Duration, String> {
    let Some(given) = settings.one(flag.name) else { return Ok(default) };
    parsed(given).ok_or_else(|| format!("--{}={given}: no duration; give a number above 0 with its unit, as 500ms, 5s or 1m", flag.name))
}

fn parsed(given: &str) -> Option<Duration> {
    units::duration(given).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parsed("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parsed("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("2m"), Some(Duration::from_secs(120)));
        for odd in ["", "s", "0s", "-1s", "1.5s", "5 s", "99999999999999999999s"] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }
}
