//! What is asked of disk usage.

use std::time::Duration;

use crate::config::{Settings, units};

/// Who counts writable layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskMode {
    /// This process where it may enter every directory, else the engine.
    #[default]
    Auto,
    /// This process only.
    Walk,
    /// The engine only.
    Engine,
    /// Nobody: nothing of disk usage is told.
    Off,
}

/// Who counts, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskOptions {
    /// Who counts.
    pub mode: DiskMode,
    /// Between two counts of one container, at the least.
    pub interval: Duration,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { mode: DiskMode::Auto, interval: Duration::from_secs(60) }
    }
}

impl DiskOptions {
    /// Reads `containers.disk` and `containers.disk.interval`.
    ///
    /// # Errors
    /// A sentence for what cannot be taken.
    pub fn of(settings: &Settings) -> Result<Self, String> {
        let mode = match settings.one("containers.disk").unwrap_or("auto") {
            "auto" => DiskMode::Auto,
            "walk" => DiskMode::Walk,
            "engine" => DiskMode::Engine,
            "off" => DiskMode::Off,
            other => return Err(format!("containers.disk: '{other}' is not known: auto, walk, engine and off are")),
        };
        let mut options = Self { mode, ..Self::default() };
        if let Some(text) = settings.one("containers.disk.interval") {
            options.interval = units::duration(text).map_err(|why| format!("containers.disk.interval: {why}"))?;
            if options.interval < Duration::from_secs(1) {
                return Err(format!("containers.disk.interval: '{text}' is too short: 1s and more would do, and 60s is plenty"));
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_or_refused_in_a_sentence() {
        let of = |mode: &str, interval: &str| {
            let mut settings = Settings::default();
            settings.set("containers.disk", vec![mode.to_owned()]);
            settings.set("containers.disk.interval", vec![interval.to_owned()]);
            DiskOptions::of(&settings)
        };
        assert_eq!(of("", ""), Ok(DiskOptions::default()));
        assert_eq!(of("walk", "5m"), Ok(DiskOptions { mode: DiskMode::Walk, interval: Duration::from_secs(300) }));
        assert_eq!(of("on", "5m").unwrap_err(), "containers.disk: 'on' is not known: auto, walk, engine and off are");
        assert!(of("off", "soon").unwrap_err().starts_with("containers.disk.interval: 'soon' is not a duration"));
        assert!(of("off", "0").unwrap_err().contains("too short"));
    }
}
