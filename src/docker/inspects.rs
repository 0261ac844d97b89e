//! Of which containers inspect is to be asked, and when: once for a burst of events, again when something happened while the answer was under way, and
//! ever more seldom while it fails.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use crate::logs::ContainerId;

/// The schedule. Who asks keeps to it.
#[derive(Debug, Default)]
pub(super) struct Inspects {
    due: BTreeMap<ContainerId, Instant>,
    /// What is under way, and whether something happened to the container since.
    flying: BTreeMap<ContainerId, bool>,
    /// Those whose last inspect failed: only the list and the events tell of them.
    failing: BTreeMap<ContainerId, Backoff>,
}

impl Inspects {
    /// Asks for a container at `at`, unless it is asked for earlier. One whose answer is under way is asked for again.
    pub(super) fn ask(&mut self, id: &ContainerId, at: Instant) {
        if let Some(again) = self.flying.get_mut(id) {
            *again = true;
            return;
        }
        self.due.entry(id.clone()).and_modify(|due| *due = at.min(*due)).or_insert(at);
    }

    /// Something happened to the container: an answer that is under way may be older. Nothing needs to be asked for because of it.
    pub(super) fn outdate(&mut self, id: &ContainerId) {
        if let Some(again) = self.flying.get_mut(id) {
            *again = true;
        }
    }

    /// The next whose time has come; those that failed before stand behind the others. It is under way from now on.
    pub(super) fn take(&mut self, now: Instant) -> Option<ContainerId> {
        let is_due = self.due.iter().filter(|(_, at)| **at <= now);
        let id = is_due.min_by_key(|(id, at)| (self.failing.contains_key(id), **at))?.0.clone();
        self.due.remove(&id);
        self.flying.insert(id.clone(), false);
        Some(id)
    }

    /// When the next one's time comes.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// An answer came. Whether it is worth something: nothing happened to the container since it was asked for, else it is asked for again.
    pub(super) fn answered(&mut self, id: &ContainerId, now: Instant) -> bool {
        match self.flying.remove(id) {
            Some(false) => {
                self.failing.remove(id);
                true
            }
            Some(true) => {
                self.ask(id, now);
                false
            }
            // Forgotten meanwhile.
            None => false,
        }
    }

    /// No answer that can be used came: it is asked for again after a while, the longer the more often that was so.
    pub(super) fn failed(&mut self, id: &ContainerId, now: Instant, first: Duration, longest: Duration) {
        if self.flying.remove(id).is_none() {
            return;
        }
        let wait = self.failing.entry(id.clone()).or_insert_with(|| Backoff::new(first, longest)).wait();
        self.ask(id, now + wait);
    }

    /// The container is no more.
    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.due.remove(id);
        self.flying.remove(id);
        self.failing.remove(id);
    }

    /// Nothing is under way any more: the connection broke.
    pub(super) fn ground(&mut self) {
        self.flying.clear();
    }

    /// How many are known by the list and the events alone, because inspect fails.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ContainerId {
        ContainerId::new(&digit.to_string().repeat(64)).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_one_question() {
        let (mut inspects, now) = (Inspects::default(), Instant::now());
        inspects.ask(&id('a'), now + SECOND);
        inspects.ask(&id('a'), now);
        inspects.ask(&id('a'), now + SECOND);
        assert_eq!(inspects.next_at(), Some(now));
        assert_eq!((inspects.take(now), inspects.take(now + SECOND)), (Some(id('a')), None));
        assert!(inspects.answered(&id('a'), now));
        assert_eq!(inspects.next_at(), None);
    }

    #[test]
    fn what_happens_meanwhile_is_asked_for_again() {
        let (mut inspects, now) = (Inspects::default(), Instant::now());
        for happens in [Inspects::outdate, |inspects: &mut Inspects, id: &ContainerId| inspects.ask(id, Instant::now() + SECOND)] {
            inspects.ask(&id('a'), now);
            inspects.take(now).unwrap();
            happens(&mut inspects, &id('a'));
            assert_eq!(inspects.next_at(), None, "not while the first is under way");
            assert!(!inspects.answered(&id('a'), now));
            assert_eq!(inspects.take(now), Some(id('a')));
            assert!(inspects.answered(&id('a'), now));
        }
        // Nothing is asked because of a change that its event told.
        inspects.outdate(&id('b'));
        assert_eq!(inspects.next_at(), None);
    }

    #[test]
    fn what_fails_waits_longer_and_behind_the_others() {
        let (mut inspects, mut now) = (Inspects::default(), Instant::now());
        inspects.ask(&id('a'), now);
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            assert_eq!(inspects.take(now), Some(id('a')));
            inspects.failed(&id('a'), now, SECOND, 8 * SECOND);
            let wait = inspects.next_at().unwrap() - now;
            assert!(wait >= last && wait <= 8 * SECOND, "{wait:?}");
            last = wait;
            now += wait;
        }
        assert_eq!(inspects.failing(), 1);
        inspects.ask(&id('b'), now);
        assert_eq!((inspects.take(now), inspects.take(now)), (Some(id('b')), Some(id('a'))));
        assert!(inspects.answered(&id('a'), now));
        assert_eq!(inspects.failing(), 0);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut inspects, now) = (Inspects::default(), Instant::now());
        inspects.ask(&id('a'), now);
        inspects.take(now).unwrap();
        inspects.forget(&id('a'));
        assert!(!inspects.answered(&id('a'), now));
        inspects.failed(&id('a'), now, SECOND, SECOND);
        assert_eq!((inspects.next_at(), inspects.failing()), (None, 0));
    }
}
