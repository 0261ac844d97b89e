//! What one container has left behind so far: its runs, and what each of them ended with.
//!
//! A run is the life of a cgroup. A start makes a new one, whose counters begin anew; it is told from the one before by the inode number of its file of CPU time,
//! which the kernel gives once in its life (kernfs counts them up). What a run ended with comes from two sides, in whatever order: the cgroup's last numbers, and the
//! engine's event.

use std::sync::Arc;

use super::exits::{Exits, NOT_STARTED, class_of};
use crate::cgroup::Totals;
use crate::docker::Container;
use crate::model::LabelSet;

/// Runs that are told apart. What is older is one sum.
const MOST_RUNS: usize = 8;
/// Events `oom` of one run that are counted.
const MOST_OOM_EVENTS: usize = 1024;
/// So long the engine's word of an end waits for the cgroup's, and so long an end that only inspect tells waits for its event.
pub(super) const PATIENCE: i64 = 30 * SECOND;
pub(super) const SECOND: i64 = 1_000_000_000;

/// By what exits are summed: the service, or, of a container of none, the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct Key {
    pub(super) service: String,
    pub(super) stack: String,
    pub(super) image: String,
}

/// What is summed of runs that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sums {
    /// Nanoseconds.
    pub(super) cpu: u64,
    pub(super) oom_kills: u64,
    pub(super) exits: Exits,
}

/// Who a container is, as its series tell.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// As the inventory has it.
    Listed(Arc<Container>),
    /// As it was when it was last known.
    Told(Arc<LabelSet>),
}

/// The life of one cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Run {
    /// Which cgroup; 0 for one that nobody saw.
    pub(super) cgroup: u64,
    /// Since when it is known, nanoseconds since the epoch.
    pub(super) since: i64,
    /// Nanoseconds.
    pub(super) cpu: u64,
    pub(super) oom_kills: u64,
    /// Its numbers are its last.
    pub(super) is_final: bool,
    pub(super) has_ended: bool,
    pub(super) end: Option<End>,
    /// The end is counted.
    pub(super) is_counted: bool,
}

/// An end as the engine tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct End {
    /// By the engine's clock.
    pub(super) time: i64,
    pub(super) code: Option<i64>,
    /// Its events `oom` of this run.
    pub(super) oom_events: u64,
    /// When it was told, by this process' clock.
    pub(super) told: i64,
}

/// A container.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) who: Option<Who>,
    pub(super) key: Option<Key>,
    /// Its owner wants no metrics of it.
    pub(super) is_excluded: bool,
    /// Whether a kernel or the engine has told of kills for want of memory at all.
    pub(super) knows_oom_kills: bool,
    /// Of runs that are told apart no more; exits of all.
    pub(super) base: Sums,
    /// The oldest first.
    pub(super) runs: Vec<Run>,
    /// Which cgroups are in the base, the last ones.
    pub(super) folded: Vec<u64>,
    /// What the sum of its service has of it.
    pub(super) booked: Sums,
    /// The times of events `oom` since the last end.
    pub(super) oom_events: Vec<i64>,
    /// By the engine's clock.
    pub(super) last_start: i64,
    /// By the engine's clock: the event of the last end that was counted, or what inspect said.
    pub(super) last_end: i64,
    /// The last end was counted because inspect told it, and has no event yet.
    pub(super) is_end_inspected: bool,
    /// What inspect tells and no event has told yet: when it ended, with what, and since when that is known.
    pub(super) inspected: Option<(i64, Option<i64>, i64)>,
    /// Its networks were joined for a start of which nothing more was told yet.
    pub(super) is_starting: bool,
    /// A start that seems to have failed, of which an event may be on its way: when, by the engine's clock, and when it was told.
    pub(super) failed_start: Option<(i64, i64)>,
    /// Runs that were put into the base though nobody has told their end, and that are not counted as lost yet.
    pub(super) without_end: u64,
    /// Since when the engine has it no more.
    pub(super) gone: Option<i64>,
    /// When anything was last told of it.
    pub(super) heard: i64,
}

impl Run {
    /// The kills; at least one where only the engine saw any, for the cgroup was gone before its last numbers were read. How many its events do not tell: one
    /// kill gives one to eight of them (measured, engine 20.10 on cgroup v1).
    fn merge_events(&mut self) {
        if let Some(end) = self.end
            && !self.is_final
        {
            self.oom_kills = self.oom_kills.max(end.oom_events.min(1));
        }
    }
}

impl Entry {
    /// Takes what the cgroup says. Numbers never fall within a run.
    pub(super) fn reading(&mut self, totals: &Totals, is_last: bool, now: i64) {
        self.heard = now;
        if self.folded.contains(&totals.cgroup) {
            return;
        }
        self.knows_oom_kills |= totals.oom_kills.is_some();
        let known = self.runs.iter().position(|run| run.cgroup == totals.cgroup);
        if known.is_none() {
            // A start makes a new cgroup when the one before has gone.
            self.runs.iter_mut().for_each(|run| run.has_ended = true);
            self.runs.push(Run { cgroup: totals.cgroup, since: now, ..Run::default() });
        }
        let newest = self.runs.len().saturating_sub(1);
        let index = known.unwrap_or(newest);
        let is_newest = index == newest;
        let Some(run) = self.runs.get_mut(index) else { return };
        run.cpu = run.cpu.max(totals.cpu.unwrap_or(0));
        run.oom_kills = run.oom_kills.max(totals.oom_kills.unwrap_or(0));
        run.is_final |= is_last && totals.oom_kills.is_some();
        // One that was thought to have ended, because it was not found for a while, lives.
        run.has_ended = is_last || run.is_final || !is_newest || (run.has_ended && run.is_counted);
        self.count(now);
    }

    /// The cgroup is gone.
    pub(super) fn ended(&mut self, cgroup: Option<u64>, now: i64) {
        for run in self.runs.iter_mut().filter(|run| cgroup.is_none_or(|cgroup| run.cgroup == cgroup)) {
            run.has_ended = true;
        }
        self.count(now);
    }

    /// Takes the engine's word of an end.
    pub(super) fn end(&mut self, time: i64, code: Option<i64>, now: i64) {
        self.heard = now;
        self.last_end = self.last_end.max(time);
        self.inspected = None;
        let before = self.oom_events.len();
        self.oom_events.retain(|oom| *oom > time);
        let end = End { time, code, oom_events: (before - self.oom_events.len()) as u64, told: now };
        // A cgroup is read before it is removed, and removed before the engine tells the end: one that was first seen later is of a later run.
        let run = self.runs.iter_mut().rev().find(|run| run.end.is_none() && run.cgroup != 0 && run.since <= time);
        match run {
            Some(run) => run.end = Some(end),
            None => self.runs.push(Run { since: time, has_ended: true, end: Some(end), ..Run::default() }),
        }
        self.count(now);
    }

    /// Takes the engine's word of a kill for want of memory.
    pub(super) fn oom_event(&mut self, time: i64, now: i64) {
        self.heard = now;
        self.knows_oom_kills = true;
        let is_late = |run: &&mut Run| run.end.is_some_and(|end| end.time >= time);
        match self.runs.iter_mut().find(is_late) {
            Some(run) => {
                if let Some(end) = &mut run.end {
                    end.oom_events += 1;
                }
                if run.is_counted {
                    run.merge_events();
                }
            }
            // What a run cannot have had is not kept: the kernel's own counter tells it anyway.
            None if self.oom_events.len() < MOST_OOM_EVENTS => self.oom_events.push(time),
            None => {}
        }
    }

    /// Takes an event of one of its networks. An engine that cannot start a container tells no end of it: it joins the networks, and leaves them (seen with
    /// engines 20.10 and 26, host network included).
    pub(super) fn network_event(&mut self, joins: bool, time: i64, now: i64) {
        if joins {
            // What is joined while it runs is no start.
            self.is_starting = !self.runs_by_events();
            if self.is_starting {
                self.count_failed_start();
            }
        } else if std::mem::take(&mut self.is_starting) {
            self.failed_start = Some((time, now));
        }
    }

    /// Whether it runs, by what was told of it.
    fn runs_by_events(&self) -> bool {
        let is_listed = || matches!(&self.who, Some(Who::Listed(container)) if container.is_running());
        self.last_start > self.last_end
            || self.runs.iter().any(|run| !run.has_ended && run.end.is_none())
            || (self.last_start == 0 && self.last_end == 0 && is_listed())
    }

    /// Takes what inspect says of a first start that failed, where no event told of it: the engine gave up before it came to the networks.
    pub(super) fn follow_failed_start(&mut self, now: i64) {
        if self.base.exits == Exits::default() && self.runs.iter().all(|run| run.end.is_none()) {
            self.failed_start = self.failed_start.or(Some((now, now)));
        }
    }

    /// Counts a start that failed, if there is one of which no end was told.
    pub(super) fn count_failed_start(&mut self) {
        let Some((time, told)) = self.failed_start.take() else { return };
        if let Some(exits) = self.base.exits.get_mut(NOT_STARTED) {
            *exits += 1;
        }
        // The runtime may have made a cgroup for it.
        for run in self.runs.iter_mut().filter(|run| run.end.is_none() && run.has_ended && run.since <= time) {
            (run.end, run.is_counted) = (Some(End { time, code: None, oom_events: 0, told }), true);
        }
    }

    /// Counts the ends of which both sides are known, and those whose cgroup has said nothing for too long.
    pub(super) fn count(&mut self, now: i64) {
        for run in self.runs.iter_mut().filter(|run| !run.is_counted) {
            let Some(end) = run.end else { continue };
            if run.has_ended || now.saturating_sub(end.told) >= PATIENCE {
                run.merge_events();
                run.is_counted = true;
                let class = class_of(end.code, run.oom_kills > 0 || end.oom_events > 0);
                if let Some(exits) = self.base.exits.get_mut(class) {
                    *exits += 1;
                }
            }
        }
        self.fold();
    }

    /// Puts runs into the base that nothing more is heard of: all counted ones but the last, and the oldest of too many.
    fn fold(&mut self) {
        loop {
            let is_done = self.runs.first().is_some_and(|run| run.is_counted && run.has_ended) && self.runs.len() > 1;
            if !is_done && self.runs.len() <= MOST_RUNS {
                return;
            }
            let run = self.runs.remove(0);
            self.base.cpu = self.base.cpu.saturating_add(run.cpu);
            self.base.oom_kills = self.base.oom_kills.saturating_add(run.oom_kills);
            match run.end {
                _ if run.is_counted => {}
                Some(end) => {
                    if let Some(exits) = self.base.exits.get_mut(class_of(end.code, run.oom_kills > 0)) {
                        *exits += 1;
                    }
                }
                None => self.without_end += 1,
            }
            if run.cgroup != 0 {
                self.folded.push(run.cgroup);
                if self.folded.len() > MOST_RUNS {
                    self.folded.remove(0);
                }
            }
        }
    }

    /// Kills for want of memory in all runs, the present one included.
    pub(super) fn oom_kills(&self) -> u64 {
        self.runs.iter().fold(self.base.oom_kills, |sum, run| sum.saturating_add(run.oom_kills))
    }

    /// Whether a process was killed for want of memory in its last run; if it `runs`, in the present one.
    pub(super) fn is_oom_killed(&self, runs: bool) -> bool {
        self.runs.last().is_some_and(|run| run.oom_kills > 0 && !(runs && run.end.is_some()))
    }

    /// Runs of which nobody has told the end.
    pub(super) fn ends_missing(&self) -> u64 {
        self.runs.iter().filter(|run| run.end.is_none() && !run.is_counted).count() as u64
    }

    pub(super) fn is_alive(&self) -> bool {
        self.runs.iter().any(|run| !run.has_ended)
    }

    /// What the sum of its service should have of it: the runs that ended.
    pub(super) fn owed(&self) -> Sums {
        self.runs.iter().filter(|run| run.has_ended).fold(self.base, |sum, run| Sums {
            cpu: sum.cpu.saturating_add(run.cpu),
            oom_kills: sum.oom_kills.saturating_add(run.oom_kills),
            ..sum
        })
    }

    pub(super) fn series(&self) -> Option<&Arc<LabelSet>> {
        match self.who.as_ref()? {
            Who::Listed(container) => Some(&container.series),
            Who::Told(series) => Some(series),
        }
    }

    /// Lets go of everything but the labels of its series.
    pub(super) fn shrink(&mut self) {
        if let Some(Who::Listed(container)) = &self.who {
            self.who = Some(Who::Told(container.series.clone()));
        }
    }
}

impl Sums {
    /// Adds what `owed` has more than `booked`, which becomes `owed`. Nothing is ever taken back.
    pub(super) fn book(&mut self, owed: &Self, booked: &mut Self) {
        let more = |sum: &mut u64, owed: u64, booked: &mut u64| {
            *sum = sum.saturating_add(owed.saturating_sub(*booked));
            *booked = owed.max(*booked);
        };
        more(&mut self.cpu, owed.cpu, &mut booked.cpu);
        more(&mut self.oom_kills, owed.oom_kills, &mut booked.oom_kills);
        for ((sum, owed), booked) in self.exits.iter_mut().zip(owed.exits).zip(&mut booked.exits) {
            more(sum, owed, booked);
        }
    }
}
