//! The numbers of a container, from cgroup v1 and v2.
//!
//! A container's cgroup is found by its id in the mounted tree ([`path`]); what stands in its files becomes a [`Usage`], whichever version the host runs
//! ([`detect`]). Nothing here knows of Docker or HTTP.

pub mod detect;
pub mod extras;
mod fields;
pub mod path;
mod totals;
pub mod usage;
mod v1;
mod v2;

use std::cell::Cell;
use std::hash::Hash as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3Default;

use crate::host::{Kept, ReadError, Reader};

pub use detect::Layout;
pub use extras::{Extras, Wanted};
pub use path::Finder;
pub use totals::{Totals, is_populated};
pub use usage::{DeviceIo, Limits, Pressure, Schedulers, Usage};

/// The trees that files are in. Under v2 there is one, [`Tree::Unified`]; under v1 one for each controller, and on a hybrid host the unified one besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    Cpu,
    Cpuacct,
    Memory,
    Blkio,
    Pids,
    Unified,
    Cpuset,
    Hugetlb,
}

/// How many of them.
const TREES: usize = 8;

/// A file of a cgroup and how it is read.
struct KernelFile {
    tree: Tree,
    name: &'static str,
    how: How,
    /// Puts what it finds into the usage; `false` when nothing in the bytes could be understood.
    parse: fn(&[u8], &mut Usage) -> bool,
}

/// When a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// At each scrape, and kept open between: opening is most of what reading such a small file costs.
    Kept,
    /// As [`How::Kept`]; as long as these say what they said, nothing ran in the cgroup and nothing was charged to it ([`Rest`]).
    Witness,
    /// As [`How::Kept`], where the bytes of a device were told, without which there are no operations.
    Operations,
    /// As [`How::Kept`], where there is a quota; without one nothing is counted there.
    Quota,
    /// At each scrape, where a device is under the bfq scheduler.
    Bfq,
    /// At each scrape, where the bfq scheduler counts more than bytes and operations.
    BfqTimes,
    /// At each scrape, where a device is under the cfq scheduler.
    Cfq,
    /// A limit: seldom, for it changes only when someone changes it.
    Limit,
}

impl How {
    const fn keeps(self) -> bool {
        matches!(self, Self::Kept | Self::Witness | Self::Operations | Self::Quota)
    }
}

/// The cgroup of one container, or the root of the tree.
#[derive(Debug)]
pub struct Group {
    files: &'static [KernelFile],
    is_v2: bool,
    layout: Arc<Layout>,
    /// Where it is in each tree.
    relative: Box<Path>,
    /// One for each file that may be kept, in the order of the files; empty when none may.
    slots: Vec<Kept>,
    is_root: bool,
    schedulers: Schedulers,
    /// The inode number of the file that tells CPU time, and that of the first file that was open then: as long as this one stays, so does the cgroup.
    identity: Cell<Option<(u64, u64)>>,
    rest: Option<Rest>,
}

/// How long a cgroup has told the same.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// What its witnesses said, as a hash.
    witnesses: u64,
    /// Everything it told, as a hash.
    told: u64,
    /// Since when.
    since: Instant,
    /// How often the witnesses alone are read before all is read again; 0 while it is awake.
    naps: u32,
    /// Whether it has had a whole sleep, or a first one.
    had_slept: bool,
}

/// All is read at each so many scrapes, though the witnesses say what they said: a page that the host took back and gave back is charged as it was.
const NAPS: u32 = 20;

/// After so long without any change of any number a cgroup is asleep. What goes on without the cgroup's own processes (a stall that lasts, pages on their way to the
/// disk, a process that waits to be reaped) shows itself in this time.
const UNTIL_ASLEEP: Duration = Duration::from_secs(10);

impl std::fmt::Debug for KernelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How many descriptors a [`Group`] that keeps its files holds at most.
pub const KEPT_FILES: usize = 18;

impl Group {
    /// The cgroup at `relative` (`docker/<id>`; the empty path is the root) of every tree of `layout`. With `keep`, files that are read at each
    /// scrape stay open, at most [`KEPT_FILES`].
    #[must_use]
    pub fn new(layout: &Arc<Layout>, relative: &Path, keep: bool) -> Self {
        let files = match **layout {
            Layout::V1 { .. } => v1::FILES,
            Layout::V2 { .. } => v2::FILES,
        };
        let is_root = relative.as_os_str().is_empty();
        let mut slots = Vec::new();
        if keep {
            slots.resize_with(files.iter().filter(|file| file.how.keeps()).count(), Kept::default);
        }
        Self {
            files,
            is_v2: matches!(**layout, Layout::V2 { .. }),
            layout: Arc::clone(layout),
            relative: relative.into(),
            slots,
            is_root,
            schedulers: Schedulers { bfq: true, bfq_times: true, cfq: true },
            identity: Cell::new(None),
            rest: None,
        }
    }

    /// How many descriptors it holds now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_open()).count()
    }

    /// What of the usage that was read last outlives the cgroup; `None` when the cgroup cannot be told from another of its name.
    #[must_use]
    pub fn totals(&self, host: &Reader, usage: &Usage) -> Option<Totals> {
        let open = self.slots.iter().find_map(Kept::inode);
        let cgroup = match self.identity.get() {
            Some((cgroup, first)) if open == Some(first) => cgroup,
            _ => {
                let cpu = self.cpu_tree()?;
                let name = self.files.iter().find(|file| matches!(file.name, "cpuacct.usage" | "cpu.stat") && file.tree == cpu)?.name;
                let cgroup = host.inode(&self.layout.trees().get(cpu as usize)?.as_ref()?.join(&self.relative).join(name))?;
                self.identity.set(open.map(|first| (cgroup, first)));
                cgroup
            }
        };
        Some(Totals { cgroup, cpu: usage.cpu_total, oom_kills: usage.oom_kills })
    }

    /// The tree that tells CPU time.
    fn cpu_tree(&self) -> Option<Tree> {
        let trees = self.layout.trees();
        let has = |tree: Tree| trees.get(tree as usize).is_some_and(Option::is_some).then_some(tree);
        has(Tree::Cpuacct).or_else(|| has(Tree::Unified))
    }

    /// Which schedulers' files are worth reading: those in which the root, which lists all devices, had one ([`Usage::schedulers`]). The files are there on any
    /// kernel that knows the scheduler.
    pub const fn read_schedulers(&mut self, which: Schedulers) {
        self.schedulers = which;
    }

    /// Reads into `usage`, replacing what was there; the limits only with `limits`, else they stay. Says whether the cgroup is there at all.
    ///
    /// A file that is not there leaves its fields `None`: another kernel, a controller that is off, a cgroup that went away in the middle. One that cannot be
    /// read or understood is told to `usage`, and the rest goes on. Of a cgroup that sleeps, `usage` stays as it is; with `limits`, all is read in any case.
    pub fn read(&mut self, host: &mut Reader, usage: &mut Usage, limits: bool) -> bool {
        if !limits && self.sleeps(host) {
            return true;
        }
        usage.clear(limits);
        let mut there = false;
        let mut witnesses = Xxh3Default::new();
        let trees = self.layout.trees();
        let mut slots = self.slots.iter_mut();
        for file in self.files {
            let slot = if file.how.keeps() { slots.next() } else { None };
            let wanted = match file.how {
                How::Kept | How::Witness => true,
                How::Operations => !usage.io.is_empty(),
                How::Quota => usage.limits.cpu_quota.is_some(),
                How::Bfq => self.schedulers.bfq,
                How::BfqTimes => self.schedulers.bfq_times,
                How::Cfq => self.schedulers.cfq,
                How::Limit => limits,
            };
            let Some(Some(tree)) = trees.get(file.tree as usize).filter(|_| wanted) else { continue };
            match read_file(file, slot, tree, &self.relative, host) {
                Ok(bytes) => {
                    there = true;
                    if file.how == How::Witness {
                        witnesses.update(bytes);
                    }
                    if !(file.parse)(bytes, usage) {
                        usage
                            .odd(&format_args!("{}: nothing in it can be understood", tree.join(&self.relative).join(file.name).display()));
                    }
                }
                Err(error) if error.is_absent() => {}
                Err(error) => {
                    there = true;
                    usage.odd(&error);
                }
            }
        }
        usage.complete(self.is_root);
        self.rest = there.then(|| self.rests(witnesses.digest(), usage));
        there
    }

    /// Whether the cgroup's witnesses say what they said when it went to sleep. A sleeper costs three reads, and one that is awake seventeen.
    fn sleeps(&mut self, host: &mut Reader) -> bool {
        let Some(rest) = self.rest.as_mut().filter(|rest| rest.naps > 0) else { return false };
        rest.naps -= 1;
        let known = rest.witnesses;
        let mut witnesses = Xxh3Default::new();
        let trees = self.layout.trees();
        let mut slots = self.slots.iter_mut();
        for file in self.files {
            let slot = if file.how.keeps() { slots.next() } else { None };
            if file.how != How::Witness {
                continue;
            }
            let Some(Some(tree)) = trees.get(file.tree as usize) else { continue };
            match read_file(file, slot, tree, &self.relative, host) {
                Ok(bytes) => witnesses.update(bytes),
                Err(error) if error.is_absent() => {}
                Err(_) => return false,
            }
        }
        witnesses.digest() == known
    }

    /// What is known of its rest, after all was read.
    fn rests(&self, witnesses: u64, usage: &Usage) -> Rest {
        let mut told = Xxh3Default::new();
        usage.hash(&mut told);
        let (told, now) = (told.digest(), Instant::now());
        match self.rest {
            Some(rest) if (rest.witnesses, rest.told) == (witnesses, told) => {
                // Dirty pages go to the disk when the kernel thinks it is time.
                let calm = usage.oddities == 0 && usage.memory_dirty.unwrap_or(0) == 0 && usage.memory_writeback.unwrap_or(0) == 0;
                let sleeps = !self.is_root && calm && now.duration_since(rest.since) >= UNTIL_ASLEEP;
                // Each wakes at its own scrape, or each twentieth would be a slow one.
                let first = || u32::try_from(told % u64::from(NAPS)).unwrap_or(0) + 1;
                let naps = if !sleeps {
                    0
                } else if rest.had_slept {
                    NAPS
                } else {
                    first()
                };
                Rest { naps, had_slept: sleeps, ..rest }
            }
            _ => Rest { witnesses, told, since: now, naps: 0, had_slept: false },
        }
    }
}

/// Reads one file of a cgroup, by its slot where it has one.
fn read_file<'a>(
    file: &KernelFile,
    slot: Option<&mut Kept>,
    tree: &Path,
    relative: &Path,
    host: &'a mut Reader,
) -> Result<&'a [u8], ReadError> {
    match slot {
        Some(slot) => host.kept(tree, relative, file.name, slot),
        None => host.within(tree, relative, file.name),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::Root;

    #[test]
    fn kept_files_are_bounded() {
        for files in [v1::FILES, v2::FILES] {
            assert!(files.iter().filter(|file| file.how.keeps()).count() <= KEPT_FILES);
        }
    }

    /// A cgroup of v2 in a folder; its files are written as the kernel's would change.
    struct Folder {
        at: tempfile::TempDir,
        host: Reader,
        group: Group,
        usage: Usage,
    }

    impl Folder {
        fn new(keep: bool) -> Self {
            let at = tempfile::tempdir().unwrap();
            let host = Reader::new(Arc::new(Root::find(Some(at.path().into()), Some(at.path().into()), Some(at.path().into()), None)));
            fs::create_dir(at.path().join("c")).unwrap();
            let group = Group::new(&Arc::new(Layout::V2 { root: at.path().into() }), Path::new("c"), keep);
            let mut folder = Self { at, host, group, usage: Usage::default() };
            folder.has("cpu.stat", "usage_usec 5\n");
            folder.has("memory.current", "4096\n");
            folder.has("memory.stat", "anon 100\nfile_dirty 0\n");
            folder.has("pids.current", "1\n");
            folder
        }

        fn has(&mut self, name: &str, text: &str) {
            fs::write(self.at.path().join("c").join(name), text).unwrap();
        }

        /// Reads it, `seconds` after it was read the last time.
        fn read(&mut self, seconds: u64, limits: bool) -> Option<u64> {
            if let Some(rest) = &mut self.group.rest {
                rest.since -= Duration::from_secs(seconds);
            }
            assert!(self.group.read(&mut self.host, &mut self.usage, limits));
            self.usage.threads
        }

        fn falls_asleep(&mut self) {
            self.read(0, false);
            self.read(11, false);
        }
    }

    #[test]
    fn of_a_sleeper_the_witnesses_alone_are_read() {
        for keep in [false, true] {
            let mut folder = Folder::new(keep);
            assert_eq!(folder.read(0, false), Some(1));
            folder.has("pids.current", "2\n");
            // It is not asleep after nine seconds, and what changed makes it wait again.
            assert_eq!(folder.read(9, false), Some(2));
            folder.has("pids.current", "3\n");
            assert_eq!(folder.read(11, false), Some(3));
            assert_eq!(folder.read(11, false), Some(3));
            folder.has("pids.current", "4\n");
            assert_eq!(folder.read(0, false), Some(3), "it sleeps");
            assert_eq!((folder.usage.cpu_total, folder.usage.memory_anon), (Some(5000), Some(100)), "what was read stays");
            assert_eq!(folder.read(0, true), Some(4), "with the limits all is read");
        }
    }

    #[test]
    fn from_time_to_time_all_is_read_of_a_sleeper_too() {
        let mut folder = Folder::new(true);
        folder.falls_asleep();
        let mut changes = Vec::new();
        for number in 2u32..200 {
            folder.has("pids.current", &format!("{number}\n"));
            let before = folder.usage.threads;
            if folder.read(11, false) != before {
                // What has changed goes on to be read; so it is left alone until it sleeps.
                changes.push(number);
                folder.falls_asleep();
            }
        }
        let longest = changes.windows(2).filter_map(|pair| pair.last()?.checked_sub(*pair.first()?)).max();
        assert!(longest <= Some(NAPS + 1) && changes.len() >= 7, "{changes:?}");
    }

    #[test]
    fn each_witness_wakes_it() {
        for (name, text) in [("cpu.stat", "usage_usec 6\n"), ("memory.current", "8192\n"), ("io.stat", "8:0 rbytes=1\n")] {
            let mut folder = Folder::new(true);
            folder.falls_asleep();
            folder.has("pids.current", "2\n");
            assert_eq!(folder.read(0, false), Some(1), "{name}");
            folder.has(name, text);
            assert_eq!(folder.read(0, false), Some(2), "{name}");
        }
    }

    /// Pages that are on their way to the disk change numbers though nothing runs, and so does what cannot be read now.
    #[test]
    fn what_is_not_at_rest_does_not_sleep() {
        for (name, text) in
            [("memory.stat", "anon 1\nfile_dirty 4096\n"), ("memory.stat", "anon 1\nfile_writeback 4096\n"), ("memory.stat", "odd\n")]
        {
            let mut folder = Folder::new(true);
            folder.has(name, text);
            folder.falls_asleep();
            folder.has("pids.current", "2\n");
            assert_eq!(folder.read(0, false), Some(2), "{text}");
        }
    }

    #[test]
    fn one_that_is_gone_does_not_sleep() {
        let mut folder = Folder::new(false);
        folder.falls_asleep();
        fs::remove_dir_all(folder.at.path().join("c")).unwrap();
        assert!(!folder.group.read(&mut folder.host, &mut folder.usage, false));
        assert_eq!(folder.usage.threads, None);
    }
}
