//! How long a socket is waited for.

use std::io;
use std::time::{Duration, Instant};

/// All waiting of one pass together, where the scrape gives no earlier deadline.
const LONGEST: Duration = Duration::from_secs(10);
/// One answer: whoever is silent for longer does not answer at all.
const SILENCE: Duration = Duration::from_secs(3);
/// What is left for writing before the scrape answers.
const MARGIN: Duration = Duration::from_millis(100);

/// When waiting ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    /// Until shortly before `deadline`, and never longer than ten seconds.
    pub(super) fn until(deadline: Option<Instant>) -> Self {
        let most = Instant::now() + LONGEST;
        let until = deadline.and_then(|deadline| deadline.checked_sub(MARGIN)).map_or(most, |deadline| deadline.min(most));
        Self { until }
    }

    /// How long the next answer is waited for.
    pub(super) fn left(self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now()).min(SILENCE);
        // A timeout of zero would mean to wait for ever.
        if left < Duration::from_millis(1) {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no answer before the scrape has to be answered"))
        } else {
            Ok(left)
        }
    }
}
