//! The thread: what it hears of, what it looks at, and what it tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::chain::{Chain, Kept, Look, Refused, Tracked};
use super::container::{Consumer, LoggedContainer};
use super::keep::Ledger;
use super::meta::{Described, Own, Treatment};
use super::part::PartCopy;
use super::signal::Bell;
use super::watch::Watcher;
use super::{Kind, Shared, TableOptions};
use crate::logs::spool::{self, Spool};
use crate::logs::{ContainerId, ContainerMeta};
use crate::telemetry::{Part, Parts, TableMetrics};

/// Between two wake-ups of consumers, and between two looks at who has written.
/// What is told when log files wait for descriptors.
const SHORT: &str =
    "as many files are open as this process may have: some logs wait; raise its limit (nofile), and look why a route keeps files open";

const PACE: Duration = Duration::from_millis(10);
/// The thread turns at least so often, for the watchdog, for what is tried again, and for acknowledgements that nobody waits for.
const TICK: Duration = Duration::from_secs(1);
/// The net under inotify.
const FULL: Duration = Duration::from_secs(30);
/// Without inotify: between two looks, when something changed at the last, and when nothing does.
const QUICK: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_secs(1);
/// So many directories are looked at before names that changed meanwhile get their turn.
const STRETCH: usize = 16;
/// A description that cannot be read is tried at each tick for so long; then with the net.
const TRIED_AGAIN: Duration = Duration::from_secs(5);

/// All the thread owns.
#[derive(Debug)]
pub(super) struct Table {
    kind: Kind,
    dir: PathBuf,
    pub(super) spool_dir: Option<PathBuf>,
    wants_inotify: bool,
    shared: Arc<Shared>,
    pub(super) metrics: TableMetrics,
    files_part: Part,
    pub(super) spool_part: Part,
    own: Own,
    watcher: Option<Watcher>,
    /// Why inotify does not do, or not for all.
    watch_problem: Option<String>,
    /// Why the directory cannot be read.
    root_problem: Option<String>,
    /// Log files wait for descriptors.
    is_short: bool,
    is_root_watched: bool,
    pub(super) entries: BTreeMap<ContainerId, Entry>,
    pub(super) spool: Spool,
    pub(super) ledger: Ledger,
    /// Bytes that descriptors keep.
    pub(super) pinned: u64,
    /// To be looked at now.
    dirty: BTreeSet<ContainerId>,
    /// To be looked at in turn.
    queue: VecDeque<ContainerId>,
    /// To be tried again at the next tick.
    again: BTreeSet<ContainerId>,
    is_first_listing_done: bool,
    is_list_changed: bool,
    is_ring_due: bool,
    /// How the table is has to be told, once all directories were looked at.
    is_part_due: bool,
    /// Something was found since the last scan.
    is_busy: bool,
    rang: Instant,
    writes_from: Instant,
    tick: Instant,
    full: Instant,
    scan: Instant,
    scan_every: Duration,
}

/// A container as the table knows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) container: Arc<LoggedContainer>,
    dir: PathBuf,
    described: Described,
    pub(super) meta: Option<Arc<ContainerMeta>>,
    treatment: Treatment,
    pub(super) chain: Chain,
    is_watched: bool,
    pub(super) is_removed: bool,
    unreadable_since: Option<Instant>,
    /// What could not be opened at the last look.
    refused: Vec<Refused>,
    /// Length of the file that is written, at the last look.
    written: u64,
    pub(super) pinned: u64,
    /// What was copied of the only file while it is written.
    pub(super) part: Option<PartCopy>,
}

impl Table {
    pub(super) fn new(options: TableOptions, kind: Kind, shared: Arc<Shared>, parts: &Parts, metrics: TableMetrics) -> io::Result<Self> {
        let TableOptions { containers_dir, spool_dir, spool_bytes, inotify, own_container, consumers: _, feed_dir: _ } = options;
        let kick = Arc::clone(&shared.kick);
        let spool = Spool::start(spool_dir.clone(), metrics.clone(), move || kick.kick())?;
        let (files_part, spool_part) = match kind {
            Kind::Engine => (parts.part("logs.files"), parts.part("logs.spool")),
            Kind::Feed => (parts.part("logs.feed.files"), parts.part("logs.feed.files")),
        };
        match &spool_dir {
            Some(_) => spool_part.ok(),
            None if kind == Kind::Feed => {}
            None => spool_part.degraded(
                "there is no state directory for it: lines of removed files are kept open until they are acknowledged, and do not survive the agent",
            ),
        }
        let now = Instant::now();
        Ok(Self {
            kind,
            dir: containers_dir,
            spool_dir,
            wants_inotify: inotify,
            shared,
            metrics,
            files_part,
            spool_part,
            own: Own { container: own_container, service: None },
            watcher: None,
            watch_problem: None,
            root_problem: None,
            is_short: false,
            is_root_watched: false,
            entries: BTreeMap::new(),
            spool,
            ledger: Ledger::new(spool_bytes),
            pinned: 0,
            dirty: BTreeSet::new(),
            queue: VecDeque::new(),
            again: BTreeSet::new(),
            is_first_listing_done: false,
            is_list_changed: true,
            is_ring_due: false,
            is_part_due: true,
            is_busy: false,
            rang: now,
            writes_from: now,
            tick: now,
            full: now,
            scan: now,
            scan_every: QUICK,
        })
    }

    pub(super) fn run(mut self) {
        self.load_spool();
        self.list("start");
        while !self.shared.is_stopped.load(Ordering::Acquire) {
            self.shared.beats.fetch_add(1, Ordering::Relaxed);
            self.hear();
            self.work();
            self.tell();
        }
        // What is gone and not in the spool yet gets its last chance; the spool's thread finishes its jobs.
        let ids: Vec<ContainerId> = self.entries.keys().cloned().collect();
        for id in ids {
            self.retry_copies(&id);
            self.keep(&id);
        }
        self.spool.finish();
    }

    /// Sleeps until there is something to do, and takes note of it.
    fn hear(&mut self) {
        let now = Instant::now();
        let mut until = self.tick.min(self.full);
        if self.is_ring_due {
            until = until.min(self.rang + PACE);
        }
        if self.is_scanning() {
            until = until.min(self.scan);
        }
        let hears_writes = now >= self.writes_from;
        if !hears_writes {
            until = until.min(self.writes_from);
        }
        if !self.queue.is_empty() || !self.dirty.is_empty() {
            until = now;
        }
        let [is_kicked, has_names, has_writes] = self.sleep(until.saturating_duration_since(now), hears_writes);
        if is_kicked {
            self.shared.kick.drain();
            self.is_part_due |= self.root_problem.is_some();
            self.take_copies();
            self.take_acknowledgements();
        }
        if has_names {
            self.take_names();
        }
        if has_writes {
            self.take_writes();
        }
        let now = Instant::now();
        if now >= self.tick {
            self.tick = now + TICK;
            self.take_acknowledgements();
            self.is_part_due |= self.again.is_empty() && std::mem::take(&mut self.is_short);
            let again = std::mem::take(&mut self.again);
            self.dirty.extend(again.into_iter().filter(|id| self.entries.contains_key(id)));
            if self.root_problem.is_some() && std::fs::metadata(&self.dir).is_ok() {
                self.full = now;
            }
        }
        if now >= self.full {
            self.list("periodic");
        } else if self.is_scanning() && now >= self.scan && self.queue.is_empty() {
            self.scan();
        }
    }

    /// Waits for: a kick, names, writes.
    fn sleep(&self, timeout: Duration, hears_writes: bool) -> [bool; 3] {
        let timeout = Timespec { tv_sec: timeout.as_secs().try_into().unwrap_or(1), tv_nsec: timeout.subsec_nanos().into() };
        let mut fds = vec![PollFd::from_borrowed_fd(self.shared.kick.as_fd(), PollFlags::IN)];
        if let Some(watcher) = &self.watcher {
            fds.push(PollFd::from_borrowed_fd(watcher.names(), PollFlags::IN));
            if hears_writes {
                fds.push(PollFd::from_borrowed_fd(watcher.writes(), PollFlags::IN));
            }
        }
        if poll(&mut fds, Some(&timeout)).is_err() {
            // Interrupted: the next turn comes at once.
            return [false; 3];
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        std::array::from_fn(|_| ready.next().unwrap_or(false))
    }

    fn take_names(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let changes = watcher.take_names();
        self.dirty.extend(changes.containers);
        if changes.is_overflow {
            self.list("overflow");
        } else if changes.is_root_gone {
            self.is_root_watched = false;
            self.list("periodic");
        }
    }

    fn take_writes(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let written = watcher.take_writes();
        self.writes_from = Instant::now() + PACE;
        let ids: Vec<ContainerId> = match written {
            Some(written) => written.into_iter().collect(),
            // Who has written is not known any more, so it may be everybody. No name was lost with it.
            None => self.entries.keys().cloned().collect(),
        };
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if entry.treatment == Treatment::Tailed {
                entry.container.touch();
                self.is_ring_due = true;
            }
            if entry.chain.is_unsettled() {
                self.update(&id);
            } else if entry.chain.is_one_file {
                self.insure(&id);
            }
        }
    }

    fn take_acknowledgements(&mut self) {
        let acknowledged: Vec<ContainerId> =
            self.entries.iter().filter(|(_, entry)| entry.container.take_acknowledged()).map(|(id, _)| id.clone()).collect();
        for id in acknowledged {
            self.keep(&id);
            self.forget(&id);
        }
    }

    /// Whether there is something that inotify does not tell of.
    fn is_scanning(&self) -> bool {
        !self.is_root_watched || self.watch_problem.is_some() || self.watcher.is_none()
    }

    /// Without inotify: looks at all that is not watched.
    fn scan(&mut self) {
        self.scan_every = if self.is_busy { QUICK } else { (self.scan_every * 2).min(SLOW) };
        self.scan = Instant::now() + self.scan_every;
        self.is_busy = false;
        if self.is_root_watched {
            self.queue.extend(self.entries.iter().filter(|(_, entry)| !entry.is_watched && !entry.is_removed).map(|(id, _)| id.clone()));
        } else if self.root_problem.is_none() {
            self.list("no_inotify");
        }
    }

    /// Lists the directory, and puts every container in the queue to be looked at.
    fn list(&mut self, reason: &'static str) {
        let now = Instant::now();
        let is_net = reason != "no_inotify";
        if is_net {
            self.full = now + FULL;
            // A watch that failed is tried anew; what is watched gets the same watch again, or that of the directory which took its place.
            self.watch_problem = None;
            self.entries.values_mut().for_each(|entry| entry.is_watched = false);
        }
        self.scan = now + self.scan_every;
        self.metrics.rescan(reason);
        self.watch_root();
        match names(&self.dir) {
            Ok(listed) => {
                self.root_problem = None;
                self.is_first_listing_done = true;
                // The own container first: it tells which service is not to be read.
                let own = self.own.container.iter().filter(|own| listed.contains(own)).cloned();
                let known = self.entries.keys().filter(|id| !listed.contains(id)).cloned();
                // Those that wait already keep their turn, or lists in quick succession would never come to the last.
                let waiting: BTreeSet<ContainerId> = self.queue.iter().cloned().collect();
                let all = own.chain(listed.iter().cloned()).chain(known);
                let others: Vec<ContainerId> = all.filter(|id| !waiting.contains(id)).collect();
                self.queue.extend(others);
            }
            Err(error) => {
                // Nothing is known, so nothing is concluded: what is open stays readable.
                self.root_problem = Some(format!("{}: {error}; container logs are read as soon as it can be", self.dir.display()));
            }
        }
        if is_net {
            let ids: Vec<ContainerId> = self.entries.keys().cloned().collect();
            for id in ids {
                self.retry_copies(&id);
            }
        }
        self.is_part_due = true;
    }

    fn watch_root(&mut self) {
        if !self.wants_inotify {
            return;
        }
        if self.watcher.is_none() {
            match Watcher::new() {
                Ok(watcher) => {
                    self.watcher = Some(watcher);
                    self.watch_problem = None;
                }
                Err(error) => {
                    self.metrics.file_error("watch");
                    self.watch_problem = Some(problem(error));
                }
            }
        }
        let Some(watcher) = &mut self.watcher else { return };
        match watcher.watch_root(&self.dir) {
            Ok(()) => self.is_root_watched = true,
            Err(error) => {
                self.is_root_watched = false;
                if error != rustix::io::Errno::NOENT {
                    self.metrics.file_error("watch");
                    self.watch_problem = Some(problem(error));
                }
            }
        }
    }

    fn tell_part(&self) {
        if self.root_problem.is_some() && self.shared.is_without_files.load(Ordering::Acquire) {
            self.files_part.off("the engine's log files are out of reach: all logs come from its API");
            return;
        }
        let problems = match &self.root_problem {
            Some(why) => vec![why.clone()],
            None => self.refusal().into_iter().chain(self.watch_problem.clone()).chain(self.is_short.then(|| SHORT.to_owned())).collect(),
        };
        if problems.is_empty() { self.files_part.ok() } else { self.files_part.degraded(problems.join("; ")) }
    }

    /// What cannot be opened, in a sentence. Nothing of these is shipped, and that is nowhere else to be seen.
    fn refusal(&self) -> Option<String> {
        let mut refused = self.entries.values().flat_map(|entry| &entry.refused);
        let first = refused.next()?;
        let count = refused.count() + 1;
        let remedy = if first.is_limit {
            "raise the limit of open files"
        } else {
            "SELinux or remapped user namespaces of the engine may forbid it"
        };
        let them = if count == 1 { "1 log file cannot".to_owned() } else { format!("{count} log files cannot") };
        Some(format!("{them} be opened and nothing of it is shipped, the first is {}: {}; {remedy}", first.path.display(), first.why))
    }

    /// Takes note of what could not be opened of a container.
    fn refuse(&mut self, id: &ContainerId, refused: Vec<Refused>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.refused == refused {
            return;
        }
        self.is_list_changed |= entry.refused.is_empty() != refused.is_empty();
        if refused.is_empty() && self.watch_problem.is_some() {
            // What may be opened may be watched, too.
            self.full = Instant::now();
        }
        entry.refused = refused;
        self.is_part_due = true;
    }

    /// Looks at what changed, then at a stretch of what is in the queue.
    fn work(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.look(&id);
        }
        for _ in 0..STRETCH {
            let Some(id) = self.queue.pop_front() else { break };
            self.look(&id);
        }
        if self.queue.is_empty() && self.is_first_listing_done && !self.shared.is_first_scan_done.load(Ordering::Acquire) {
            self.publish_list();
            self.shared.is_first_scan_done.store(true, Ordering::Release);
            self.is_ring_due = true;
            self.give_up_excess();
        }
        if self.queue.is_empty() && std::mem::take(&mut self.is_part_due) {
            self.tell_part();
        }
    }

    /// Publishes the list, and rings the bells if it is time.
    fn tell(&mut self) {
        if self.is_list_changed {
            self.publish_list();
        }
        let now = Instant::now();
        if self.is_ring_due && now >= self.rang + PACE {
            self.is_ring_due = false;
            self.rang = now;
            self.shared.bells.iter().for_each(Bell::ring);
        }
    }

    fn publish_list(&mut self) {
        self.is_list_changed = false;
        self.is_ring_due = true;
        let is_tailed = |entry: &&Entry| entry.treatment == Treatment::Tailed;
        let tailed: Vec<Arc<LoggedContainer>> = self.entries.values().filter(is_tailed).map(|entry| Arc::clone(&entry.container)).collect();
        const STATES: [&str; 4] = ["tailed", "unreadable", "other_driver", "excluded"];
        for state in STATES {
            let count = self.entries.values().filter(|entry| entry.state() == state).count();
            let source = if self.kind == Kind::Feed { "api" } else { "file" };
            self.metrics.containers(source, state, i64::try_from(count).unwrap_or(i64::MAX));
        }
        *self.shared.containers.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(tailed);
    }

    /// Looks at a container's directory: who it is first, so that what it says of its end is older than what is seen of its files.
    fn look(&mut self, id: &ContainerId) {
        if !self.entries.contains_key(id) {
            let entry = self.entry(id);
            self.entries.insert(id.clone(), entry);
        }
        self.watch(id);
        let Some(entry) = self.entries.get_mut(id) else { return };
        let refreshed = entry.described.refresh(&entry.dir);
        if refreshed.is_changed
            && let Some(meta) = entry.described.meta()
        {
            self.describe(id, meta);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let look = match entry.treatment {
            Treatment::Unknown | Treatment::Tailed => entry.chain.look(&entry.dir, id),
            // Only whether it is still there.
            Treatment::OtherDriver | Treatment::Excluded => match std::fs::metadata(&entry.dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Gone,
                _ => Look::Settled { written: 0, failed: Vec::new() },
            },
        };
        let was_removed = entry.is_removed;
        let mut refused = Vec::new();
        match look {
            Look::Settled { written, failed } => {
                entry.is_removed = false;
                if entry.written != written {
                    entry.written = written;
                    self.is_busy = true;
                    entry.container.touch();
                    self.is_ring_due = true;
                }
                failed.iter().for_each(|_| self.metrics.file_error("open"));
                if !failed.is_empty() {
                    self.again.insert(id.clone());
                }
                refused = failed;
                if refreshed.is_unreadable {
                    // At first it may only be that the engine has not written it yet, or is about to remove it all.
                    let since = *entry.unreadable_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= TICK {
                        self.metrics.file_error("read");
                        if matches!(entry.treatment, Treatment::Unknown | Treatment::Tailed) {
                            refused.extend(refreshed.refused);
                        }
                    }
                    if since.elapsed() < TRIED_AGAIN {
                        self.again.insert(id.clone());
                    }
                } else {
                    entry.unreadable_since = None;
                }
            }
            Look::Unsettled => {
                self.dirty.insert(id.clone());
                return;
            }
            Look::Gone => {
                if !std::fs::metadata(&self.dir).is_ok_and(|data| data.is_dir()) {
                    // All of them went, as when a file system is unmounted: that says nothing of this container.
                    self.full = Instant::now();
                    return;
                }
                entry.chain.set_removed();
                entry.is_removed = true;
                entry.is_watched = false;
            }
            Look::Short => {
                self.is_part_due |= !std::mem::replace(&mut self.is_short, true);
                self.metrics.file_error("open");
                self.again.insert(id.clone());
                return;
            }
            Look::Failed(directory) => {
                self.metrics.file_error("open");
                self.again.insert(id.clone());
                self.refuse(id, vec![directory]);
                return;
            }
        }
        self.is_list_changed |= was_removed != entry.is_removed;
        self.refuse(id, refused);
        self.update(id);
        self.forget(id);
    }

    fn entry(&mut self, id: &ContainerId) -> Entry {
        self.is_busy = true;
        self.is_list_changed = true;
        Entry {
            container: Arc::new(LoggedContainer::new(id.clone(), self.shared.bells.len(), Arc::clone(&self.shared.kick))),
            dir: self.dir.join(id.as_str()),
            described: Described::default(),
            meta: None,
            treatment: Treatment::Unknown,
            chain: Chain::default(),
            is_watched: false,
            is_removed: false,
            unreadable_since: None,
            refused: Vec::new(),
            written: 0,
            pinned: 0,
            part: None,
        }
    }

    /// Watches a directory, before it is looked at: what happens between the two is seen twice and not missed.
    fn watch(&mut self, id: &ContainerId) {
        let (Some(watcher), Some(entry)) = (&mut self.watcher, self.entries.get_mut(id)) else { return };
        if entry.is_watched {
            return;
        }
        match watcher.watch(&entry.dir, id) {
            Ok(()) => entry.is_watched = true,
            // It is gone, as the look will find.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => {
                if self.watch_problem.is_none() {
                    self.metrics.file_error("watch");
                    self.watch_problem = Some(problem(error));
                    self.is_part_due = true;
                }
            }
        }
    }

    /// Takes a new description.
    fn describe(&mut self, id: &ContainerId, meta: ContainerMeta) {
        let is_news = self.own.learn(id, &meta);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.container.set_meta(meta.clone());
            entry.chain.max_size = meta.max_size;
            // Without a limit the engine never rotates.
            entry.chain.is_one_file = meta.max_file == 1 && meta.max_size.is_some();
            entry.container.touch();
            entry.meta = Some(Arc::new(meta));
            self.is_ring_due = true;
            self.is_busy = true;
        }
        let ids: Vec<ContainerId> = if is_news { self.entries.keys().cloned().collect() } else { vec![id.clone()] };
        for id in ids {
            self.treat(&id);
        }
    }

    /// Decides how a container is treated, and closes what must not be read.
    fn treat(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(meta) = &entry.meta else { return };
        let treatment = self.own.treatment(id, meta);
        if std::mem::replace(&mut entry.treatment, treatment) == treatment {
            return;
        }
        self.is_list_changed = true;
        if matches!(treatment, Treatment::Excluded | Treatment::OtherDriver)
            && let Some(mut entry) = self.entries.remove(id)
        {
            self.release_all(&mut entry);
            self.entries.insert(id.clone(), entry);
            self.publish(id);
            self.refuse(id, Vec::new());
        }
    }

    /// Brings what consumers see in line with what is known.
    pub(super) fn update(&mut self, id: &ContainerId) {
        self.save_part(id);
        let Some(entry) = self.entries.get_mut(id) else { return };
        for _ in 0..entry.chain.settle(entry.is_removed) {
            self.metrics.file_error("read");
            self.again.insert(id.clone());
        }
        entry.chain.join();
        let dropped = std::mem::take(&mut entry.chain.dropped);
        self.let_go(dropped);
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.is_removed && entry.treatment == Treatment::Unknown && !entry.chain.files.is_empty() {
            // Nobody will tell who it was any more. Its lines are worth more than its name.
            entry.treatment = Treatment::Tailed;
            self.is_list_changed = true;
        }
        self.keep(id);
        let Some(entry) = self.entries.get(id) else { return };
        // After the chain: who sees the end must find everything that was before it.
        let is_ended = entry.is_removed || entry.meta.as_ref().is_some_and(|meta| !meta.running);
        if entry.container.set_state(is_ended, entry.is_removed) {
            entry.container.touch();
            self.is_ring_due = true;
            self.is_busy = true;
        }
    }

    /// Publishes the chain if it is another.
    pub(super) fn publish(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get(id) else { return };
        let chain = entry.chain.published();
        let before = entry.container.chain();
        let is_same = chain.len() == before.len() && chain.iter().zip(&*before).all(|(new, old)| Arc::ptr_eq(new, old));
        if !is_same {
            entry.container.set_chain(chain);
            entry.container.touch();
            self.is_ring_due = true;
            self.is_busy = true;
        }
    }

    /// Forgets a removed container when everybody is done with it, or nobody ever read it.
    fn forget(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get(id) else { return };
        let is_done = entry.treatment != Treatment::Tailed || entry.container.consumers().iter().all(Consumer::is_done);
        if entry.is_removed
            && is_done
            && let Some(mut entry) = self.entries.remove(id)
        {
            self.release_all(&mut entry);
            self.is_list_changed = true;
        }
    }

    /// Takes in what earlier runs left in the spool.
    fn load_spool(&mut self) {
        let Some(dir) = self.spool_dir.clone() else { return };
        let mut stored = spool::load(&dir, &self.metrics);
        // Tickets go by age over all containers, because the oldest is given up first.
        let mut ages: Vec<(std::time::SystemTime, PathBuf, ContainerId, u64)> = stored
            .iter()
            .flat_map(|stored| stored.files.iter().map(|file| (file.written, file.path.clone(), stored.container.clone(), file.bytes)))
            .collect();
        ages.sort();
        let mut tickets: BTreeMap<PathBuf, u64> =
            ages.into_iter().map(|(_, path, container, bytes)| (path, self.ledger.add(container, bytes, true))).collect();
        for stored in stored.drain(..) {
            let mut entry = self.entry(&stored.container);
            for file in stored.files {
                if let Some(ticket) = tickets.remove(&file.path) {
                    entry.chain.push_spooled(Arc::new(file.log), Kept::Copied(ticket, file.path));
                }
            }
            self.entries.insert(stored.container.clone(), entry);
            if let Some(meta) = stored.meta {
                self.describe(&stored.container, meta);
            }
            self.update(&stored.container);
        }
    }
}

/// The containers that have a directory.
fn names(dir: &Path) -> io::Result<BTreeSet<ContainerId>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        ids.extend(entry?.file_name().to_str().and_then(ContainerId::new));
    }
    Ok(ids)
}

fn problem(error: rustix::io::Errno) -> String {
    let remedy = match error {
        rustix::io::Errno::NOSPC => "; raise fs.inotify.max_user_watches",
        rustix::io::Errno::MFILE => "; raise fs.inotify.max_user_instances",
        _ => "",
    };
    format!("inotify does not watch all log directories ({error}); they are scanned up to four times a second instead{remedy}")
}

impl Entry {
    /// How it is read, in the words of the metric.
    const fn state(&self) -> &'static str {
        match self.treatment {
            Treatment::Excluded => "excluded",
            Treatment::OtherDriver => "other_driver",
            Treatment::Unknown => "unreadable",
            Treatment::Tailed if !self.refused.is_empty() => "unreadable",
            Treatment::Tailed => "tailed",
        }
    }
}

impl Chain {
    /// All files, for letting go of them.
    pub(super) fn into_files(self) -> Vec<Tracked> {
        self.files
    }
}
