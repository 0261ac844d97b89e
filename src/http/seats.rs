//! Places for connections. When all are taken, the connection that has been without a request the longest loses its own: first those that never sent a whole
//! request, then those kept open between requests. So who holds connections open without asking shuts nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A connection younger than this keeps its place: its request may be under way to us.
const GRACE: Duration = Duration::from_millis(500);

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
    freed: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    next: u64,
    /// Those without a request, by whether they ever had one, then by how long they have been without.
    waiting: BTreeMap<(bool, u64), (Instant, CancellationToken)>,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Mutex<Option<(bool, u64)>>,
    lost: CancellationToken,
}

/// While it lives, the connection answers a request and keeps its place.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Seat);

impl Seats {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), freed: Notify::new(), limit })
    }

    /// Takes a place, another's if it has to be. Waits only while each connection answers a request or is new.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let pause = {
                let mut taken = self.lock();
                if taken.count < self.limit {
                    taken.count += 1;
                    let seat = Seat { seats: Arc::clone(self), key: Mutex::default(), lost: CancellationToken::new() };
                    seat.wait_in(&mut taken, false);
                    return seat;
                }
                taken.evict()
            };
            match pause {
                Some(pause) => drop(tokio::time::timeout(pause, freed).await),
                None => freed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Tells one connection to end; or how long it takes until one may be told so, if any may.
    fn evict(&mut self) -> Option<Duration> {
        let never_asked = self.waiting.range(..(true, 0)).next();
        let asked = self.waiting.range((true, 0)..).next();
        let mut soonest = None;
        for (key, (since, _)) in never_asked.into_iter().chain(asked) {
            let left = GRACE.saturating_sub(since.elapsed());
            if left.is_zero() {
                let key = *key;
                if let Some((_, lost)) = self.waiting.remove(&key) {
                    lost.cancel();
                }
                return None;
            }
            soonest = Some(soonest.map_or(left, |soonest: Duration| soonest.min(left)));
        }
        soonest
    }
}

impl Seat {
    /// Comes to pass when the place is another's.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// A whole request is there.
    pub(super) fn busy(&self) -> Busy<'_> {
        let mut taken = self.seats.lock();
        if let Some(key) = self.key.lock().unwrap_or_else(PoisonError::into_inner).take() {
            taken.waiting.remove(&key);
        }
        Busy(self)
    }

    /// Whether a whole request was ever there.
    pub(super) fn has_asked(&self) -> bool {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|(asked, _)| asked)
    }

    fn wait_in(&self, taken: &mut Taken, asked: bool) {
        let key = (asked, taken.next);
        taken.next += 1;
        taken.waiting.insert(key, (Instant::now(), self.lost.clone()));
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut taken = self.0.seats.lock();
        self.0.wait_in(&mut taken, true);
        drop(taken);
        // Who waits for a place may take this one's after all.
        self.0.seats.freed.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(key) = self.key.lock().unwrap_or_else(PoisonError::into_inner).take() {
            taken.waiting.remove(&key);
        }
        taken.count -= 1;
        drop(taken);
        self.seats.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_never_asked_loses_its_place_first_and_the_longest_first() {
        let seats = Seats::new(3);
        let (kept_open, first, second) = (seats.take().await, seats.take().await, seats.take().await);
        drop(kept_open.busy());
        assert!(kept_open.has_asked() && !first.has_asked());
        for silent in [first, second, kept_open] {
            let lost = silent.lost();
            let (new, ()) = tokio::join!(seats.take(), async {
                lost.cancelled().await;
                drop(silent);
            });
            // It stays, and does not stand in the way of the next.
            std::mem::forget(new.busy());
            std::mem::forget(new);
        }
    }

    #[tokio::test]
    async fn who_is_answered_keeps_its_place() {
        let seats = Seats::new(1);
        let seat = seats.take().await;
        let busy = seat.busy();
        assert!(tokio::time::timeout(GRACE * 2, seats.take()).await.is_err());
        assert!(!seat.lost().is_cancelled());
        drop(busy);
        let lost = seat.lost();
        let (_, ()) = tokio::join!(seats.take(), async {
            lost.cancelled().await;
            drop(seat);
        });
        assert_eq!(seats.lock().count, 0);
    }
}
