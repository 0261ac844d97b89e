//! Records that a service does not want to be sent: the labels `skep.logs.sample` and `skep.logs.rate`.
//!
//! A sample is chosen by the record's id. A rate is counted for each stream in windows of Docker's time that begin with the second, minute or hour, whoever
//! reads, and how far the window of the last record is used up stands in the cursor. So what is read again is decided again in the same way.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::logs::Stream;
use crate::logs::record::RecordId;

/// Why a record is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It is not in the sample.
    Sampled,
    /// There were enough in its window.
    Rate,
}

/// How many records may be sent in each window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    most: u32,
    /// Nanoseconds.
    window: i64,
}

/// The window of Docker's time in which the last record of a stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// When it began, nanoseconds since the epoch.
    pub begin: i64,
    /// Records in it that were sent.
    pub count: u32,
}

/// What limits the records of one container.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// One of so many is kept.
    pub(super) sample: Option<u64>,
    pub(super) rate: Option<Rate>,
    windows: [Option<Window>; 2],
}

/// `1/N`: the N.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn sample(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("1/").ok_or("it does not begin with 1/")?.trim();
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("'{number}' is not a number from 1 on")),
        Ok(number) => Ok(number),
    }
}

impl Rate {
    /// `N/s`, `N/m` or `N/h`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (most, unit) = text.split_once('/').ok_or("there is no / in it")?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            unit => return Err(format!("'{unit}' is no unit of time: s, m and h are")),
        };
        match most.trim().parse() {
            Ok(0) => Err("nothing at all is skep.logs=false".to_owned()),
            Ok(most) => Ok(Self { most, window: seconds * 1_000_000_000 }),
            Err(_) => Err(format!("'{}' is not a number", most.trim())),
        }
    }
}

impl Limits {
    pub(super) fn admit(&mut self, stream: Stream, time: i64, id: &RecordId) -> Result<(), Withheld> {
        if self.sample.is_some_and(|of| !xxh3_64(id.as_bytes()).is_multiple_of(of)) {
            return Err(Withheld::Sampled);
        }
        let (Some(rate), Some(window)) = (self.rate, self.windows.get_mut(stream.index())) else { return Ok(()) };
        let begin = time.saturating_sub(time.rem_euclid(rate.window));
        let window = match window {
            Some(window) if window.begin == begin => window,
            // A record of an earlier window, behind a clock that was set back or a rate of another unit, begins that one anew.
            window => window.insert(Window { begin, count: 0 }),
        };
        if window.count >= rate.most {
            return Err(Withheld::Rate);
        }
        window.count += 1;
        Ok(())
    }

    pub(super) const fn windows(&self) -> [Option<Window>; 2] {
        self.windows
    }

    pub(super) const fn resume(&mut self, windows: [Option<Window>; 2]) {
        self.windows = windows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_labels_say() {
        assert_eq!((sample("1/1"), sample("1/ 10")), (Ok(1), Ok(10)));
        for text in ["", "0.1", "1/0", "1/x", "2/10", "1/-3"] {
            sample(text).unwrap_err();
        }
        assert_eq!(Rate::parse("100/s"), Ok(Rate { most: 100, window: 1_000_000_000 }));
        assert_eq!(Rate::parse("5 / m"), Ok(Rate { most: 5, window: 60_000_000_000 }));
        for text in ["", "100", "0/s", "-1/s", "1/d", "x/s", "99999999999/s"] {
            Rate::parse(text).unwrap_err();
        }
    }

    #[test]
    fn windows_of_dockers_time_by_stream() {
        const SECOND: i64 = 1_000_000_000;
        let id = RecordId::new(0, 0);
        let mut limits = Limits { rate: Some(Rate::parse("2/s").unwrap()), ..Limits::default() };
        let mut admits = |stream, time| limits.admit(stream, time, &id).is_ok();
        let found = [0, 1, 2, SECOND - 1, SECOND, SECOND + 1, SECOND + 2, -1, -2, -3].map(|time| admits(Stream::Stdout, time));
        assert_eq!(found, [true, true, false, false, true, true, false, true, true, false]);
        assert!(admits(Stream::Stderr, -1));
        admits(Stream::Stdout, i64::MIN);
    }

    #[test]
    fn a_sample_is_about_its_share() {
        let mut limits = Limits { sample: Some(10), ..Limits::default() };
        let kept = (0..10_000).filter(|time| limits.admit(Stream::Stdout, *time, &RecordId::new(*time, 1)).is_ok()).count();
        assert!((900..1100).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn a_restart_changes_nothing(times in proptest::collection::vec(0..5_000_000_000i64, 0..60), cut in 0..60usize, most in 1..5u32, of in 1..4u64) {
            let begin = || Limits { sample: Some(of), rate: Some(Rate { most, window: 1_000_000_000 }), ..Limits::default() };
            let run = |limits: &mut Limits, times: &[i64]| -> Vec<_> {
                times.iter().map(|time| limits.admit(Stream::Stderr, *time, &RecordId::new(*time, 1))).collect()
            };
            let whole = run(&mut begin(), &times);
            let (before, behind) = times.split_at(cut.min(times.len()));
            let mut first = begin();
            let mut cut = run(&mut first, before);
            let mut second = begin();
            second.resume(serde_json::from_str(&serde_json::to_string(&first.windows()).unwrap()).unwrap());
            cut.extend(run(&mut second, behind));
            prop_assert_eq!(cut, whole);
        }
    }
}
