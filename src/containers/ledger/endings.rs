//! The last numbers of a cgroup, read before the runtime removes it.
//!
//! The runtime removes a cgroup some 20 ms after its last process has ended (measured, runc 1.1), and the engine tells the end only after that. So the kernel is asked to
//! tell: a watch on the directory in which containers' cgroups appear tells of a new one at once, and a watch on its `cgroup.events` tells when its last process has
//! ended (`populated 0`, Documentation/admin-guide/cgroup-v2). A host with v1 and a unified tree beside it has that file too, for runc makes the cgroup in all
//! trees. On one with v1 alone nobody tells: there the last numbers are those of the last look, at a scrape, and each second in a container's first minute.
//!
//! One thread does it, and keeps no file open.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::Ledger;
use crate::cgroup::path::id_in;
use crate::cgroup::{Finder, Layout, Totals, is_populated};
use crate::docker::Inventory;
use crate::host::{Reader, Root, Watched, Watches};
use crate::logs::ContainerId;
use crate::telemetry::Part;

/// How often what does not tell of itself is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a container counts as new: most that end soon end by then.
const NEW: Duration = Duration::from_secs(60);
/// How often a container is looked at that the kernel tells of, for the case that it is removed without a word.
const SELDOM: Duration = Duration::from_secs(60);
/// How often one is looked at that it does not tell of.
const OFTEN: Duration = Duration::from_secs(15);
/// Directories in which containers' cgroups appear. The first two are Docker's own.
const USUAL_PARENTS: [&str; 2] = ["docker", "system.slice"];
const MOST_PARENTS: usize = 64;
/// Containers that are looked after at once.
const MOST_LIVING: usize = 16_384;

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub struct Endings {
    thread: Option<JoinHandle<()>>,
    keeps_running: Option<PipeWriter>,
}

impl Endings {
    /// Begins to look after the containers below the trees of `root`, and to write the ledger's file now and again.
    ///
    /// # Errors
    /// When the system gives no thread or no pipe.
    pub fn start(root: Arc<Root>, inventory: watch::Receiver<Arc<Inventory>>, ledger: Ledger, part: Part) -> io::Result<Self> {
        let (end, keeps_running) = io::pipe()?;
        let mut keeper = Keeper::new(Reader::new(root), inventory, ledger, part);
        let thread = std::thread::Builder::new().name("ledger".into()).stack_size(256 << 10).spawn(move || keeper.run(&end))?;
        Ok(Self { thread: Some(thread), keeps_running: Some(keeps_running) })
    }

    /// Ends the thread, and waits until it has.
    pub fn stop(&mut self) {
        drop(self.keeps_running.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the containers' ledger did not end as it should");
        }
    }
}

impl Drop for Endings {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a watch is on.
#[derive(Debug)]
enum Place {
    /// A directory in which cgroups appear, relative to the tree.
    Parent(PathBuf),
    /// The `cgroup.events` of a container.
    Events(ContainerId),
}

/// A container that has a cgroup.
#[derive(Debug)]
struct Living {
    /// Relative to the tree.
    path: PathBuf,
    watch: Option<i32>,
    since: Instant,
    looked_at: Instant,
    cgroup: Option<u64>,
}

#[derive(Debug)]
struct Keeper {
    host: Reader,
    inventory: watch::Receiver<Arc<Inventory>>,
    ledger: Ledger,
    part: Part,
    layout: Option<Layout>,
    finder: Finder,
    watches: Option<Watches>,
    places: HashMap<i32, Place>,
    parents: BTreeSet<PathBuf>,
    parents_looked_at: Option<Instant>,
    living: HashMap<ContainerId, Living>,
    /// Whether it is known which containers have no cgroup any more since the last agent.
    is_begun: bool,
    told_why: bool,
}

impl Keeper {
    fn new(host: Reader, inventory: watch::Receiver<Arc<Inventory>>, ledger: Ledger, part: Part) -> Self {
        Self {
            host,
            inventory,
            ledger,
            part,
            layout: None,
            finder: Finder::default(),
            watches: None,
            places: HashMap::new(),
            parents: USUAL_PARENTS.iter().map(PathBuf::from).collect(),
            parents_looked_at: None,
            living: HashMap::new(),
            is_begun: false,
            told_why: false,
        }
    }

    fn run(&mut self, end: &PipeReader) {
        match Watches::new() {
            Ok(watches) => {
                self.watches = Some(watches);
                self.part.ok();
            }
            Err(error) => self.no_watch(&error, "fs.inotify.max_user_instances"),
        }
        let mut told = Vec::new();
        self.tick();
        let mut next_tick = Instant::now() + TICK;
        while Watches::wait(self.watches.as_ref(), next_tick.saturating_duration_since(Instant::now()), end) {
            self.take(&mut told);
            if Instant::now() >= next_tick {
                self.tick();
                next_tick = Instant::now() + TICK;
            }
        }
        // What lives on is known to the next agent as it is now.
        self.look(|_, _| true);
        self.ledger.save(true);
    }

    /// What the kernel has told.
    fn take(&mut self, told: &mut Vec<Watched>) {
        loop {
            let Some(watches) = &mut self.watches else { return };
            let more = watches.take(told);
            for one in told.drain(..) {
                match one {
                    Watched::Made(watch, name) => self.made(watch, &name),
                    Watched::Removed(watch, name) => self.removed(watch, &name),
                    Watched::Changed(watch) => self.changed(watch),
                    Watched::Ended(watch) => drop(self.places.remove(&watch)),
                    Watched::Overflow => {
                        self.ledger.lost("queue_overflow");
                        // Which of the watched files are there no more was among what is lost.
                        for living in self.living.values_mut() {
                            if let (Some(watch), Some(watches)) = (living.watch.take(), &self.watches) {
                                watches.end(watch);
                                self.places.remove(&watch);
                            }
                        }
                        self.rescan();
                    }
                }
            }
            if !more {
                return;
            }
        }
    }

    fn made(&mut self, watch: i32, name: &str) {
        let Some(Place::Parent(parent)) = self.places.get(&watch) else { return };
        let path = parent.join(name);
        if let Some(id) = id_in(name).and_then(ContainerId::new) {
            self.found(&id, path);
        } else if self.parents.contains(&path) {
            self.watch_parents();
            self.scan(&path);
        }
    }

    fn removed(&mut self, watch: i32, name: &str) {
        let Some(Place::Parent(parent)) = self.places.get(&watch) else { return };
        let Some(id) = id_in(name).and_then(ContainerId::new) else { return };
        if self.living.get(&id).is_some_and(|living| living.path == parent.join(name)) {
            // The runtime removes it from one tree of v1 after the other: what it used may be there still.
            let before = self.living.get(&id).and_then(|living| living.cgroup);
            self.read(&id, true);
            if before.is_some() && self.living.get(&id).is_some_and(|living| living.cgroup != before) {
                self.renewed(&id);
            } else {
                self.gone(&id);
            }
        }
    }

    /// A container was started anew before the end of its last cgroup was heard of: what is watched is that one's file.
    fn renewed(&mut self, id: &ContainerId) {
        let Some(living) = self.living.get_mut(id) else { return };
        let path = living.path.clone();
        if let (Some(watch), Some(watches)) = (living.watch.take(), &self.watches) {
            watches.end(watch);
            self.places.remove(&watch);
        }
        self.found(id, path);
    }

    fn changed(&mut self, watch: i32) {
        let Some(Place::Events(id)) = self.places.get(&watch) else { return };
        let id = id.clone();
        let (Some(layout), Some(living)) = (&self.layout, self.living.get(&id)) else { return };
        let Some(events) = events_of(layout, &living.path) else { return };
        let is_populated = self.host.within(&events, Path::new(""), "cgroup.events").ok().and_then(is_populated);
        self.read(&id, is_populated == Some(false));
    }

    /// A container's cgroup is there.
    fn found(&mut self, id: &ContainerId, path: PathBuf) {
        let now = Instant::now();
        if !self.living.contains_key(id) {
            if self.living.len() >= MOST_LIVING {
                self.ledger.lost("no_watch");
                return;
            }
            // What was there before the agent is not new.
            let since = if self.is_begun { now } else { now.checked_sub(NEW).unwrap_or(now) };
            self.living.insert(id.clone(), Living { path, watch: None, since, looked_at: now, cgroup: None });
        }
        let (Some(layout), Some(living)) = (&self.layout, self.living.get_mut(id)) else { return };
        if living.watch.is_none()
            && let (Some(watches), Some(events)) = (&self.watches, events_of(layout, &living.path))
        {
            match watches.file(&events.join("cgroup.events")) {
                Ok(watch) => {
                    living.watch = Some(watch);
                    self.places.insert(watch, Place::Events(id.clone()));
                }
                // It is not made there, or not any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.no_watch(&error, "fs.inotify.max_user_watches"),
            }
        }
        self.read(id, false);
    }

    /// Reads the totals of a container. One whose cgroup is not to be found is gone.
    fn read(&mut self, id: &ContainerId, is_last: bool) {
        let now = SystemTime::now();
        let (Some(layout), Some(living)) = (&self.layout, self.living.get_mut(id)) else { return };
        living.looked_at = Instant::now();
        match Totals::read(&mut self.host, layout, &living.path) {
            Some(totals) => {
                let before = living.cgroup.replace(totals.cgroup).filter(|before| *before != totals.cgroup);
                // The last word is of the one before, and another of its name is there already.
                if before.is_some() {
                    self.ledger.ended(id, before);
                }
                self.ledger.reading(id, &totals, is_last && before.is_none(), now);
            }
            // A new one is not in all trees yet.
            None if living.cgroup.is_some() => self.gone(id),
            None => {}
        }
    }

    fn gone(&mut self, id: &ContainerId) {
        let Some(living) = self.living.remove(id) else { return };
        let is_counted = self.ledger.ended(id, living.cgroup);
        if living.cgroup.is_none() && !is_counted {
            self.ledger.lost("no_last_reading");
        }
        // The kernel does not end the watch of a file whose cgroup is removed.
        if let (Some(watch), Some(watches)) = (living.watch, &self.watches) {
            watches.end(watch);
            self.places.remove(&watch);
        }
    }

    /// What nobody tells of.
    fn tick(&mut self) {
        if self.layout.is_none() {
            self.layout = Layout::detect(&self.host);
        }
        if self.layout.is_some() {
            // A parent that is made is told of; what could not be watched is tried again from time to time.
            if self.parents_looked_at.is_none_or(|at| at.elapsed() >= OFTEN) {
                self.parents_looked_at = Some(Instant::now());
                self.watch_parents();
            }
            self.follow();
            if self.watches.is_none() {
                self.rescan();
            }
            self.look(|living, age| {
                let is_new = living.since.elapsed() < NEW;
                age >= match living.watch {
                    _ if is_new => TICK / 2,
                    Some(_) => SELDOM,
                    None => OFTEN,
                }
            });
        }
        self.ledger.tick();
    }

    /// Reads those for which `is_due` says so, of the container and of the time since it was looked at.
    fn look(&mut self, is_due: impl Fn(&Living, Duration) -> bool) {
        let due: Vec<ContainerId> =
            self.living.iter().filter(|(_, living)| is_due(living, living.looked_at.elapsed())).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.read(&id, false);
        }
    }

    /// Looks where the containers of the inventory are: a parent that is not a usual one is learned from them.
    fn follow(&mut self) {
        if !self.inventory.has_changed().unwrap_or(false) && self.is_begun {
            return;
        }
        let inventory = self.inventory.borrow_and_update().clone();
        self.finder.begin();
        let runs: Vec<&ContainerId> = inventory.containers.iter().filter(|(_, one)| one.is_running()).map(|(id, _)| id).collect();
        self.finder.retain(|id| runs.iter().any(|known| known.as_str() == id));
        for id in runs {
            let Some(layout) = &self.layout else { return };
            if self.living.contains_key(id) {
                continue;
            }
            self.finder.forget(id.as_str());
            let Some(path) = self.finder.find(&self.host, layout, id.as_str()) else { continue };
            if let Some(parent) = path.parent()
                && self.parents.len() < MOST_PARENTS
                && self.parents.insert(parent.to_owned())
            {
                self.watch_parents();
                self.rescan();
            }
            self.found(id, path);
        }
        if inventory.synced_at.is_some() && !self.is_begun {
            self.is_begun = true;
            self.rescan();
            self.ledger.only(&self.living.keys().cloned().collect());
        }
    }

    /// Watches the parents that are there and not watched yet, and the trees themselves, in which a parent may be made.
    fn watch_parents(&mut self) {
        let (Some(layout), Some(watches)) = (&self.layout, &self.watches) else { return };
        let mut new = Vec::new();
        let mut refused = None;
        for tree in layout.watched_trees().into_iter().flatten() {
            for parent in std::iter::once(Path::new("")).chain(self.parents.iter().map(PathBuf::as_path)) {
                // Where it is watched already, the answer is the watch that is known.
                match watches.directory(&tree.join(parent)) {
                    Ok(watch) => {
                        if self.places.insert(watch, Place::Parent(parent.to_owned())).is_none() {
                            new.push(parent.to_owned());
                        }
                    }
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                    Err(error) => refused = Some(error),
                }
            }
        }
        if let Some(error) = refused {
            self.no_watch(&error, "fs.inotify.max_user_watches");
        }
        for parent in new {
            self.scan(&parent);
        }
    }

    /// Takes the containers that are in a parent already. Says which.
    fn scan(&mut self, parent: &Path) -> Vec<ContainerId> {
        let mut found = Vec::new();
        let Some(layout) = self.layout.clone() else { return found };
        for tree in layout.watched_trees().into_iter().flatten() {
            for name in self.host.names(&tree.join(parent), true) {
                if let Some(id) = id_in(&name).and_then(ContainerId::new) {
                    self.found(&id, parent.join(&name));
                    found.push(id);
                }
            }
        }
        found
    }

    /// Looks at all parents anew.
    fn rescan(&mut self) {
        let parents: Vec<PathBuf> = self.parents.iter().cloned().collect();
        let there: HashSet<ContainerId> = parents.iter().flat_map(|parent| self.scan(parent)).collect();
        let gone: Vec<ContainerId> = self.living.keys().filter(|id| !there.contains(*id)).cloned().collect();
        gone.iter().for_each(|id| self.gone(id));
    }

    /// The kernel takes no more watches: it is told once, and the containers are looked at by time.
    fn no_watch(&mut self, error: &io::Error, setting: &str) {
        // What cannot be watched is tried again and again.
        if !self.told_why {
            self.told_why = true;
            self.ledger.lost("no_watch");
            self.part.degraded(format!(
                "inotify: {error}; what containers use is read by time, and what they used last may be lost: raise {setting} on this host"
            ));
        }
    }
}

/// The directory with the `cgroup.events` of a cgroup, where the host has a tree that tells it.
fn events_of(layout: &Layout, relative: &Path) -> Option<PathBuf> {
    layout.unified().map(|tree| tree.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, Parts};

    /// One that was found, and gone before anything could be read of it, is one loss: whether the ledger knows a run of it or not.
    #[test]
    fn what_was_never_read_is_one_loss() {
        let (parts, metrics, state) = (Parts::default(), Metrics::new().unwrap(), tempfile::tempdir().unwrap());
        let ledger = Ledger::open(state.path(), "boot", parts.part("ledger"), metrics.clone());
        let inventory = watch::channel(Arc::default()).1;
        let root = Arc::new(Root::find(None, None, None, None));
        let mut keeper = Keeper::new(Reader::new(root), inventory, ledger.clone(), parts.part("endings"));
        let lost = || {
            let mut text = Vec::new();
            metrics.encode(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let line = text.lines().find(|line| line.starts_with("skep_ledger_losses_total{reason=\"no_last_reading\"}")).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        for (digit, is_known, losses) in [('a', false, "1"), ('b', true, "2")] {
            let id = ContainerId::new(&digit.to_string().repeat(64)).unwrap();
            if is_known {
                // By the agent before, as it was then.
                ledger.reading(&id, &Totals { cgroup: 7, cpu: Some(1), oom_kills: Some(0) }, false, SystemTime::now());
            }
            let now = Instant::now();
            keeper.living.insert(id.clone(), Living { path: PathBuf::new(), watch: None, since: now, looked_at: now, cgroup: None });
            keeper.gone(&id);
            assert_eq!(lost(), losses, "{digit}");
        }
    }
}
