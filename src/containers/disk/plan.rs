//! Which container is counted next, and when: one after another, each no more often than it should be, and all together at most 1 % of the time.
//!
//! Times are durations since the task began, told by whoever asks: so a test can turn the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logs::ContainerId;

/// So much rest follows each piece of work.
const REST: u32 = 99;
/// Smaller pieces are put together before a rest: a wake-up costs something itself.
const PIECE: Duration = Duration::from_millis(1);
/// Layers of containers that do not run change by nothing but their removal.
const STOPPED: u32 = 10;
/// What failed is tried again after a time that doubles so often.
const DOUBLINGS: u32 = 6;
/// What was refused to this process is tried again after so many counts by the engine.
const COUNTS_BY_ENGINE: u32 = 20;
/// So many turns in a row may find no process; then the engine is asked: it may be another host's, or its processes another namespace's.
const MOST_MISSES: u32 = 2;

/// Work and rest in turns, so that of any time no more than a hundredth is work, and one piece.
#[derive(Debug, Default)]
pub(super) struct Duty {
    done: Duration,
    rests_until: Duration,
}

impl Duty {
    /// Takes note of work that took `cost` and ended at `now`.
    pub(super) fn spend(&mut self, now: Duration, cost: Duration) {
        self.done = self.done.saturating_add(cost);
        if self.done >= PIECE {
            self.rests_until = now.saturating_add(self.done.saturating_mul(REST));
            self.done = Duration::ZERO;
        }
    }

    /// When it may go on.
    pub(super) const fn rests_until(&self) -> Duration {
        self.rests_until
    }
}

/// Who counts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Walk,
    Engine,
}

/// A container's turn.
#[derive(Debug, Clone)]
struct Turn {
    by: By,
    /// The first process; another one, or none, is another state of the container.
    pid: Option<u32>,
    due: Duration,
    /// When it was counted last.
    last: Option<Duration>,
    failures: u32,
    /// Counts by the engine since the walk was refused.
    counts: u32,
    /// Turns in a row that found no process.
    misses: u32,
}

/// What became of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a number.
    Counted,
    /// This process cannot, or may not, count it; the engine is asked at the next opportunity, where it may be.
    Refused,
    /// There is no process yet, or none any more, that tells where the layer is: the next one will.
    Waits,
    /// It did not work this time.
    Failed,
}

/// The turns of all containers.
#[derive(Debug)]
pub(super) struct Plan {
    interval: Duration,
    walks: bool,
    asks: bool,
    turns: BTreeMap<ContainerId, Turn>,
    pub(super) walk: Duty,
    pub(super) ask: Duty,
}

impl Plan {
    /// A plan of one who may walk, ask, or both.
    pub(super) fn new(interval: Duration, walks: bool, asks: bool) -> Self {
        Self { interval, walks, asks, turns: BTreeMap::new(), walk: Duty::default(), ask: Duty::default() }
    }

    /// Forgets containers that are gone. Those that are new have a turn at once, those that were started or have ended as soon as they may.
    pub(super) fn follow<'a>(
        &mut self,
        now: Duration,
        there: impl Fn(&ContainerId) -> bool,
        all: impl Iterator<Item = (&'a ContainerId, Option<u32>)>,
    ) {
        self.turns.retain(|id, _| there(id));
        let by = if self.walks { By::Walk } else { By::Engine };
        for (id, pid) in all {
            let turn = |last: Option<Duration>| {
                let due = last.map_or(now, |last| last.saturating_add(self.interval).max(now));
                Turn { by, pid, due, last, failures: 0, counts: 0, misses: 0 }
            };
            match self.turns.get_mut(id) {
                Some(known) if known.pid == pid => {}
                Some(known) => *known = turn(known.last),
                None => drop(self.turns.insert(id.clone(), turn(None))),
            }
        }
    }

    /// The container whose turn it is, or else how long nothing is to be done.
    pub(super) fn next(&self, now: Duration) -> Result<(ContainerId, By), Duration> {
        let begins = |turn: &Turn| {
            let rests_until = match turn.by {
                By::Walk => self.walk.rests_until(),
                By::Engine => self.ask.rests_until(),
            };
            turn.due.max(rests_until)
        };
        // Of those that may begin now, the one that waits longest.
        let ready = self.turns.iter().filter(|(_, turn)| begins(turn) <= now).min_by_key(|(_, turn)| turn.due);
        match ready {
            Some((id, turn)) => Ok((id.clone(), turn.by)),
            None => Err(self.turns.values().map(begins).min().map_or(self.interval, |begins| begins.saturating_sub(now))),
        }
    }

    /// Takes note of what became of a turn. False when the engine is to be asked yet.
    pub(super) fn took(&mut self, id: &ContainerId, now: Duration, outcome: Outcome, runs: bool) -> bool {
        let Some(turn) = self.turns.get_mut(id) else { return true };
        let interval = if runs { self.interval } else { self.interval.saturating_mul(STOPPED) };
        let outcome = match outcome {
            Outcome::Waits => {
                turn.misses = (turn.misses + 1).min(MOST_MISSES);
                if turn.misses < MOST_MISSES {
                    // Nothing was counted: a start has its turn at once.
                    turn.due = now.saturating_add(self.interval);
                    return true;
                }
                Outcome::Refused
            }
            other => other,
        };
        match outcome {
            Outcome::Refused if self.asks && turn.by == By::Walk => {
                (turn.by, turn.counts) = (By::Engine, 0);
                return false;
            }
            Outcome::Counted => {
                turn.failures = 0;
                if turn.by == By::Walk {
                    turn.misses = 0;
                }
            }
            Outcome::Refused | Outcome::Waits | Outcome::Failed => turn.failures = (turn.failures + 1).min(DOUBLINGS),
        }
        turn.last = Some(now);
        turn.due = now.saturating_add(interval.saturating_mul(1 << turn.failures));
        if turn.by == By::Engine {
            turn.counts += 1;
            if turn.counts >= COUNTS_BY_ENGINE && self.walks {
                turn.by = By::Walk;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> ContainerId {
        ContainerId::new(&format!("{number:064x}")).unwrap()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn plan(containers: u32, walks: bool, asks: bool) -> Plan {
        let mut plan = Plan::new(MINUTE, walks, asks);
        let ids: Vec<ContainerId> = (0..containers).map(id).collect();
        plan.follow(Duration::ZERO, |_| true, ids.iter().map(|id| (id, Some(1))));
        plan
    }

    proptest! {
        /// However long single counts take, and whoever does them: of the time that has passed no more than a hundredth is work, but for the last piece.
        #[test]
        fn a_hundredth_of_the_time_is_work(costs in proptest::collection::vec(0u64..3_000_000, 1..200), containers in 1u32..20) {
            let mut plan = plan(containers, false, true);
            let (mut now, mut work, mut longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
            for cost in costs {
                let mut tries = 0;
                let id = loop {
                    match plan.next(now) {
                        Ok((id, _)) => break id,
                        Err(wait) => now += wait,
                    }
                    tries += 1;
                    prop_assert!(tries < 3, "a wait leads to the next turn");
                };
                let cost = Duration::from_micros(cost);
                now += cost;
                work += cost;
                longest = longest.max(cost + PIECE);
                plan.ask.spend(now, cost);
                plan.took(&id, now, Outcome::Counted, true);
                prop_assert!(work <= now / 100 + longest, "{work:?} of {now:?}");
            }
        }

        /// The same, of the steps of walks.
        #[test]
        fn steps_too(costs in proptest::collection::vec(0u64..50_000, 1..500)) {
            let (mut duty, mut now, mut work, mut longest) = (Duty::default(), Duration::ZERO, Duration::ZERO, Duration::ZERO);
            for cost in costs {
                now = now.max(duty.rests_until());
                let cost = Duration::from_micros(cost);
                now += cost;
                work += cost;
                longest = longest.max(cost + PIECE);
                duty.spend(now, cost);
                prop_assert!(work <= now / 100 + longest, "{work:?} of {now:?}");
            }
        }
    }

    #[test]
    fn each_has_its_turn_and_none_too_often() {
        let mut plan = plan(3, true, true);
        for number in 0..3 {
            assert_eq!(plan.next(Duration::ZERO), Ok((id(number), By::Walk)));
            plan.took(&id(number), Duration::ZERO, Outcome::Counted, number > 0);
        }
        assert_eq!(plan.next(Duration::ZERO), Err(MINUTE));
        assert_eq!(plan.next(MINUTE), Ok((id(1), By::Walk)));
        plan.follow(MINUTE, |kept| *kept == id(0), std::iter::empty());
        assert_eq!(plan.next(MINUTE), Err(MINUTE * 9));
    }

    /// One that is made and started at once is not left to the engine, and one that crashes each second is not counted each second.
    #[test]
    fn a_start_is_another_turn() {
        let mut plan = plan(0, true, true);
        let second = Duration::from_secs(1);
        plan.follow(second, |_| true, std::iter::once((&id(7), None)));
        plan.took(&id(7), second, Outcome::Refused, false);
        assert_eq!(plan.next(second), Ok((id(7), By::Engine)));
        plan.follow(second * 2, |_| true, std::iter::once((&id(7), Some(1))));
        assert_eq!(plan.next(second * 2), Ok((id(7), By::Walk)));
        plan.took(&id(7), second * 2, Outcome::Counted, true);
        plan.follow(second * 3, |_| true, std::iter::once((&id(7), Some(2))));
        assert_eq!(plan.next(second * 3), Err(second * 59));
    }

    /// One that is made and started a little later is walked as soon as it has a process; one that never has any is the engine's.
    #[test]
    fn without_a_process_it_waits_twice() {
        let second = Duration::from_secs(1);
        let mut plan = plan(0, true, true);
        plan.follow(second, |_| true, std::iter::once((&id(7), None)));
        assert!(plan.took(&id(7), second, Outcome::Waits, false));
        assert_eq!(plan.next(second), Err(MINUTE));
        plan.follow(second * 2, |_| true, std::iter::once((&id(7), Some(1))));
        assert_eq!(plan.next(second * 2), Ok((id(7), By::Walk)));
        // Its process has ended already.
        assert!(plan.took(&id(7), second * 2, Outcome::Waits, true));
        let again = second * 2 + MINUTE;
        assert_eq!(plan.next(again), Ok((id(7), By::Walk)));
        assert!(!plan.took(&id(7), again, Outcome::Waits, true));
        let mut now = again;
        for _ in 0..COUNTS_BY_ENGINE {
            assert_eq!(plan.next(now), Ok((id(7), By::Engine)));
            plan.took(&id(7), now, Outcome::Counted, true);
            now += MINUTE;
        }
        // It is looked for once more, and the engine's again at once.
        assert_eq!(plan.next(now), Ok((id(7), By::Walk)));
        assert!(!plan.took(&id(7), now, Outcome::Waits, true));
    }

    /// Where the engine may not be asked it is looked for ever more rarely.
    #[test]
    fn without_a_process_and_without_an_engine() {
        let mut plan = plan(1, true, false);
        let mut now = Duration::ZERO;
        for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(plan.took(&id(0), now, Outcome::Waits, true));
            assert_eq!(plan.next(now), Err(MINUTE * wait));
            now += MINUTE * wait;
        }
    }

    #[test]
    fn what_is_refused_is_asked_for_and_tried_again_later() {
        let mut plan = plan(1, true, true);
        let mut now = Duration::ZERO;
        plan.took(&id(0), now, Outcome::Refused, true);
        for _ in 0..COUNTS_BY_ENGINE {
            assert_eq!(plan.next(now), Ok((id(0), By::Engine)));
            plan.took(&id(0), now, Outcome::Counted, true);
            now += MINUTE;
        }
        assert_eq!(plan.next(now), Ok((id(0), By::Walk)));
    }

    #[test]
    fn what_fails_is_tried_ever_more_rarely() {
        for (asks, outcome) in [(false, Outcome::Refused), (true, Outcome::Failed)] {
            let mut plan = plan(1, true, asks);
            let mut now = Duration::ZERO;
            for wait in [2, 4, 8, 16, 32, 64, 64] {
                plan.took(&id(0), now, outcome, true);
                assert_eq!(plan.next(now), Err(MINUTE * wait));
                now += MINUTE * wait;
            }
            plan.took(&id(0), now, Outcome::Counted, true);
            assert_eq!(plan.next(now), Err(MINUTE));
        }
    }

    /// An engine that is slow keeps nobody from counting what can be counted without it.
    #[test]
    fn a_slow_engine_holds_no_walk_up() {
        let mut plan = plan(2, true, true);
        plan.took(&id(0), Duration::ZERO, Outcome::Refused, true);
        plan.ask.spend(Duration::from_secs(30), Duration::from_secs(30));
        assert_eq!(plan.next(Duration::from_secs(30)), Ok((id(1), By::Walk)));
        plan.took(&id(1), Duration::from_secs(30), Outcome::Counted, true);
        assert_eq!(plan.next(Duration::from_secs(30)), Err(MINUTE));
        plan.walk.spend(Duration::from_secs(30), Duration::from_secs(10));
        assert_eq!(plan.next(Duration::from_secs(30)), Err(Duration::from_secs(990)));
    }
}
