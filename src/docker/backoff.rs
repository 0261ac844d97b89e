//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Doubling waits with jitter: between half of the wait and the whole, so that the agents of a cluster do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), next: first }
    }

    /// The wait before the next attempt.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        // The standard library seeds its hashers at random: enough for jitter.
        let random = std::hash::RandomState::new().build_hasher().finish();
        let share = u32::try_from(random % 1000).unwrap_or(0);
        whole / 2 + (whole / 2).saturating_mul(share) / 1000
    }

    /// Forgets past failures.
    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for whole in [1, 2, 4, 4] {
            let whole = Duration::from_secs(whole);
            let wait = backoff.wait();
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} for {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }
}
