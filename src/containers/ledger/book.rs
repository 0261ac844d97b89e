//! What all containers have left behind: entries by container, and sums by service. It knows no clock: the time comes with every call.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{Entry, Key, PATIENCE, SECOND, Sums, Who};
use crate::cgroup::Totals;
use crate::docker::Inspected;
use crate::docker::{Container, ContainerEvent, Inventory, Labelling};
use crate::logs::ContainerId;
use crate::model::LabelSet;

/// How long a gap in the events is not said again; each is counted.
const BETWEEN_WARNINGS: i64 = 3600 * SECOND;
/// How long the series of a container stay that the engine has no more.
const STAY: i64 = 3600 * SECOND;
/// How many of them.
const MOST_GONE: usize = 512;
/// How many services and images are summed apart. With eight series each this is what a scrape can bear.
const MOST_SUMS: usize = 1024;
/// A service's or an image's name that is longer is summed with the others.
const LONGEST_NAME: usize = 512;
/// Containers altogether: a churn that is faster than the clock that clears up.
const MOST_ENTRIES: usize = 16_384;
/// Containers of which no engine has told who they are.
const MOST_UNKNOWN: usize = 1024;
/// How long what a cgroup said waits for the engine to tell whose it is.
const UNKNOWN_STAY: i64 = 60 * SECOND;
/// Events that are recognised when they come again. The engine keeps its last 256.
const MOST_SEEN: usize = 1024;
/// The image by which everything is summed that has no sum of its own; no image has such a name.
const OTHERS: &str = "<others>";

/// A loss, by the reasons of [`Metrics::ledger_lost`](crate::telemetry::Metrics::ledger_lost), and how often.
pub(super) type Loss = (&'static str, u64);

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) entries: BTreeMap<ContainerId, Box<Entry>>,
    pub(super) sums: BTreeMap<Key, (LabelSet, Sums)>,
    /// The last events that were handled, by their hashes: in the order in which they came, and to look them up.
    pub(super) seen: VecDeque<u64>,
    known: HashSet<u64>,
    /// The time of the event that came last, by the engine's clock.
    pub(super) last_event: i64,
    /// Since when exits are counted, by the engine's clock: what ended before the first agent is not.
    pub(super) begun: i64,
    /// The event with which the engine should begin to tell, if it still has it.
    expected: Option<i64>,
    /// The inventory that was followed last.
    followed: Option<Arc<Inventory>>,
    /// Whether there is something that the file has not.
    pub(super) is_changed: bool,
    pub(super) losses: Vec<Loss>,
    /// When a gap in the events was last to be said in the log, and whether it is now.
    gap_said: Option<i64>,
    pub(super) says_gap: bool,
}

impl Book {
    /// A session with the engine begins: since when it is asked.
    pub(super) fn since(&mut self, now: i64) -> i64 {
        if self.begun == 0 {
            self.begun = now;
        }
        if self.last_event == 0 {
            return self.begun;
        }
        self.expected = Some(self.last_event);
        self.last_event
    }

    pub(super) fn remember(&mut self, hash: u64) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        self.seen.push_back(hash);
        if self.seen.len() > MOST_SEEN
            && let Some(oldest) = self.seen.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Takes an event; the same one again does nothing.
    pub(super) fn event(&mut self, event: &ContainerEvent, labelling: &Labelling, now: i64) {
        let Some(id) = ContainerId::new(&event.id) else { return };
        let time = event.time_nano;
        if self.expected.take().is_some_and(|expected| time > expected) {
            self.losses.push(("event_gap", 1));
            // A clock may be set back.
            if self.gap_said.is_none_or(|said| now.saturating_sub(said).saturating_abs() >= BETWEEN_WARNINGS) {
                (self.gap_said, self.says_gap) = (Some(now), true);
            }
        }
        let name = format!("{time} {} {}", event.action, event.id);
        let is_new = self.remember(xxh3_64(name.as_bytes()));
        // One that tells of a container that lives says at least who it is: the file has nothing of one that had not done anything yet.
        if !is_new && !matches!(&*event.action, "create" | "start") {
            return;
        }
        self.make_room();
        let entry = self.entries.entry(id).or_default();
        // What an event of a network tells is the network's name.
        if entry.who.is_none() && !event.is_of_network() {
            identify(entry, &mut self.sums, &mut self.losses, labelling.container(inspected(event)).map(Arc::new));
        }
        if !is_new {
            return;
        }
        self.last_event = time;
        self.is_changed = true;
        match &*event.action {
            "start" => {
                entry.count_failed_start();
                entry.last_start = entry.last_start.max(time);
                (entry.gone, entry.heard, entry.is_starting) = (None, now, false);
            }
            "connect" | "disconnect" => {
                entry.network_event(event.action == "connect", time, now);
                entry.heard = now;
            }
            "oom" => entry.oom_event(time, now),
            "die" => {
                // An engine that tells the end of a start that failed tells it once.
                (entry.is_starting, entry.failed_start) = (false, None);
                let code = event.attributes.get("exitCode").and_then(|code| code.trim().parse().ok());
                // Inspect may have told of it, when the event did not come for long.
                if entry.is_end_inspected && time >= entry.last_end && entry.last_start <= entry.last_end {
                    entry.last_end = time;
                } else {
                    entry.end(time, code, now);
                }
                entry.is_end_inspected = false;
            }
            "destroy" => {
                entry.count_failed_start();
                entry.gone = entry.gone.or(Some(now));
            }
            _ => entry.heard = now,
        }
        book(entry, &mut self.sums);
    }

    /// Takes what a cgroup says; `is_last` when it has no process any more.
    pub(super) fn reading(&mut self, id: &ContainerId, totals: &Totals, is_last: bool, now: i64) {
        self.make_room();
        let entry = match self.entries.get_mut(id) {
            Some(entry) => entry,
            None => self.entries.entry(id.clone()).or_default(),
        };
        entry.reading(totals, is_last, now);
        self.is_changed |= is_last;
        book(entry, &mut self.sums);
    }

    /// The cgroup of a container is gone, or (`None`) all that were known of it. Says whether that was news, and so counted as a loss.
    pub(super) fn ended(&mut self, id: &ContainerId, cgroup: Option<u64>, now: i64) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let is_news = entry.runs.iter().any(|run| !run.has_ended && cgroup.is_none_or(|cgroup| run.cgroup == cgroup));
        if is_news {
            self.losses.push(("no_last_reading", 1));
            entry.ended(cgroup, now);
            self.is_changed = true;
            book(entry, &mut self.sums);
        }
        is_news
    }

    /// Which containers have a cgroup at this moment: the runs of all others have ended.
    pub(super) fn only(&mut self, alive: &HashSet<ContainerId>, now: i64) {
        let dead: Vec<ContainerId> =
            self.entries.iter().filter(|(id, entry)| entry.is_alive() && !alive.contains(id)).map(|(id, _)| id.clone()).collect();
        for id in dead {
            self.ended(&id, None, now);
        }
    }

    /// Takes over who the containers are, which of them the engine has no more, and ends of which no event has told.
    pub(super) fn follow(&mut self, inventory: &Arc<Inventory>, now: i64) {
        if inventory.synced_at.is_none() || self.followed.as_ref().is_some_and(|known| Arc::ptr_eq(known, inventory)) {
            return;
        }
        self.followed = Some(inventory.clone());
        for (id, container) in &inventory.containers {
            let entry = self.entries.entry(id.clone()).or_default();
            entry.gone = None;
            if !matches!(&entry.who, Some(Who::Listed(known)) if Arc::ptr_eq(known, container)) {
                entry.heard = now;
                identify(entry, &mut self.sums, &mut self.losses, Some(container.clone()));
            }
            if entry.follow_end(container, self.begun, now) {
                self.is_changed = true;
            }
            if container.start_failed && nanoseconds(container.created) > self.begun {
                entry.follow_failed_start(now);
            }
            book(entry, &mut self.sums);
        }
        for (id, entry) in &mut self.entries {
            if entry.gone.is_none() && entry.who.is_some() && !inventory.containers.contains_key(id) && now - entry.heard > SECOND {
                entry.gone = Some(now);
            }
        }
    }

    /// The containers of which a process was killed for want of memory in their last run; in their present one, of those that run.
    pub(super) fn oom_killed(&self, inventory: &Inventory) -> BTreeSet<ContainerId> {
        let is_killed = |id: &ContainerId, entry: &Entry| {
            entry.runs.last().is_some_and(|run| run.oom_kills > 0)
                && inventory.containers.get(id).is_some_and(|container| entry.is_oom_killed(container.is_running()))
        };
        self.entries.iter().filter(|(id, entry)| is_killed(id, entry)).map(|(id, _)| id.clone()).collect()
    }

    /// Lets time pass: what has stayed long enough goes.
    pub(super) fn tick(&mut self, now: i64) {
        let mut gone = 0;
        let (losses, sums) = (&mut self.losses, &mut self.sums);
        self.entries.retain(|_, entry| {
            entry.count(now);
            entry.count_inspected(now);
            if entry.failed_start.is_some_and(|(_, told)| now.saturating_sub(told) >= PATIENCE) {
                entry.count_failed_start();
            }
            book(entry, sums);
            match std::mem::take(&mut entry.without_end) {
                0 => {}
                count => losses.push(("no_end", count)),
            }
            if entry.who.is_none() && !entry.is_alive() && now.saturating_sub(entry.heard) > UNKNOWN_STAY {
                losses.push(("unknown_container", 1));
                return false;
            }
            let Some(since) = entry.gone else { return true };
            // A clock that was set back must not keep them for ever.
            if now.saturating_sub(since) > STAY || (since.saturating_sub(now) > STAY) || entry.is_without_trace() {
                match entry.ends_missing() {
                    0 => {}
                    count => losses.push(("no_end", count)),
                }
                return false;
            }
            entry.shrink();
            gone += 1;
            true
        });
        if gone > MOST_GONE {
            self.forget(gone - MOST_GONE, |entry| entry.gone);
        }
        let unknown = self.entries.values().filter(|entry| entry.who.is_none()).count();
        if unknown > MOST_UNKNOWN {
            self.forget(unknown - MOST_UNKNOWN, |entry| entry.who.is_none().then_some(entry.heard));
        }
    }

    /// Room for one more.
    fn make_room(&mut self) {
        if self.entries.len() >= MOST_ENTRIES {
            self.forget(MOST_ENTRIES / 8, |entry| Some(entry.gone.unwrap_or(i64::MAX)));
        }
    }

    /// Forgets the `count` entries for which `age` gives the least.
    fn forget(&mut self, count: usize, age: impl Fn(&Entry) -> Option<i64>) {
        let mut oldest: Vec<(i64, ContainerId)> = self.entries.iter().filter_map(|(id, entry)| Some((age(entry)?, id.clone()))).collect();
        oldest.sort_unstable();
        for (_, id) in oldest.into_iter().take(count) {
            self.entries.remove(&id);
            self.losses.push(("gone_containers", 1));
        }
    }
}

impl Entry {
    /// An end that inspect tells: it is counted when no event has told it for long, so after the engine forgot its events. Says whether there is something new.
    fn follow_end(&mut self, container: &Container, begun: i64, now: i64) -> bool {
        let Some(finished) = container.finished.map(nanoseconds).filter(|_| !container.is_running()) else {
            self.inspected = None;
            return false;
        };
        // A double holds a time of these years to the microsecond.
        let is_known = finished <= self.last_end.saturating_add(1_000_000) || finished <= begun;
        if is_known || self.inspected.is_some_and(|(time, ..)| time == finished) {
            return false;
        }
        self.inspected = Some((finished, container.exit_code, now));
        true
    }

    fn count_inspected(&mut self, now: i64) {
        if let Some((finished, code, since)) = self.inspected
            && now.saturating_sub(since) >= PATIENCE
        {
            self.end(finished, code, now);
            self.is_end_inspected = true;
        }
    }

    /// Whether nothing of it is told by any series.
    pub(super) fn is_without_trace(&self) -> bool {
        let waits = self.inspected.is_some() || self.failed_start.is_some();
        !waits && !self.is_alive() && !self.knows_oom_kills && self.oom_events.is_empty() && self.owed() == Sums::default()
    }
}

/// Takes over who a container is.
fn identify(entry: &mut Entry, sums: &mut BTreeMap<Key, (LabelSet, Sums)>, losses: &mut Vec<Loss>, container: Option<Arc<Container>>) {
    let Some(container) = container else { return };
    entry.is_excluded = container.is_excluded;
    if entry.key.is_none() && !entry.is_excluded {
        let key = key_of(&container);
        let fits = [&key.service, &key.stack, &key.image].iter().all(|name| name.len() <= LONGEST_NAME);
        let key = if fits && (sums.contains_key(&key) || sums.len() < MOST_SUMS) {
            key
        } else {
            losses.push(("sums", 1));
            Key { image: OTHERS.to_owned(), ..Key::default() }
        };
        sums.entry(key.clone()).or_insert_with(|| (labels_of(&key), Sums::default()));
        entry.key = Some(key);
    }
    entry.who = Some(Who::Listed(container));
}

fn book(entry: &mut Entry, sums: &mut BTreeMap<Key, (LabelSet, Sums)>) {
    let owed = entry.owed();
    if owed != entry.booked
        && let Some((_, sum)) = entry.key.as_ref().and_then(|key| sums.get_mut(key))
    {
        sum.book(&owed, &mut entry.booked);
    }
}

fn key_of(container: &Container) -> Key {
    let label = |name: &str| container.labels.get(name).unwrap_or_default().to_owned();
    match label("com.docker.swarm.service.name") {
        none if none.is_empty() => Key { image: container.image.clone(), ..Key::default() },
        service => Key { service, stack: label("com.docker.stack.namespace"), image: String::new() },
    }
}

/// The labels of a sum: those that the series of the containers have.
pub(super) fn labels_of(key: &Key) -> LabelSet {
    let all = [
        ("container_label_com_docker_swarm_service_name", &*key.service),
        ("container_label_com_docker_stack_namespace", &*key.stack),
        ("image", &*key.image),
    ];
    LabelSet::of(all.into_iter().filter(|(name, value)| !value.is_empty() || (*name == "image" && key.service.is_empty())))
}

/// A container as an event tells it: its attributes are the labels, the name, the image, and what the action brings.
fn inspected(event: &ContainerEvent) -> Inspected {
    let attribute = |name: &str| event.attributes.get(name).cloned().unwrap_or_default();
    let mut labels = event.attributes.clone();
    for name in ["name", "image", "exitCode", "execDuration", "oldName", "signal"] {
        labels.remove(name);
    }
    Inspected { id: event.id.clone(), name: attribute("name"), image: attribute("image"), labels, ..Inspected::default() }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch")]
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}
