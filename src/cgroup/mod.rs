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
use std::path::Path;
use std::sync::Arc;

use crate::host::{Kept, Reader};

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
    /// As [`How::Kept`], where the CPUs one by one were not told.
    Sum,
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
        matches!(self, Self::Kept | Self::Sum | Self::Operations | Self::Quota)
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
    /// One for each file that may be kept; empty when none may.
    slots: Vec<Kept>,
    is_root: bool,
    schedulers: Schedulers,
    /// The inode number of the file that tells CPU time, and that of the first file that was open then: as long as this one stays, so does the cgroup.
    identity: Cell<Option<(u64, u64)>>,
}

impl std::fmt::Debug for KernelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How many descriptors a [`Group`] that keeps its files holds at most.
pub const KEPT_FILES: usize = 17;

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
            slots.resize_with(files.len(), Kept::default);
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
    /// read or understood is told to `usage`, and the rest goes on.
    pub fn read(&mut self, host: &mut Reader, usage: &mut Usage, limits: bool) -> bool {
        usage.clear(limits);
        let mut there = false;
        let trees = self.layout.trees();
        for (index, file) in self.files.iter().enumerate() {
            let wanted = match file.how {
                How::Kept => true,
                How::Sum => usage.cpu_each.iter().all(|time| *time == 0),
                How::Operations => !usage.io.is_empty(),
                How::Quota => usage.limits.cpu_quota.is_some(),
                How::Bfq => self.schedulers.bfq,
                How::BfqTimes => self.schedulers.bfq_times,
                How::Cfq => self.schedulers.cfq,
                How::Limit => limits,
            };
            if !wanted {
                continue;
            }
            let Some(Some(tree)) = trees.get(file.tree as usize) else { continue };
            let slot = self.slots.get_mut(index).filter(|_| file.how.keeps());
            let read = match slot {
                Some(slot) => host.kept(tree, &self.relative, file.name, slot),
                None => host.within(tree, &self.relative, file.name),
            };
            match read {
                Ok(bytes) => {
                    there = true;
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
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_files_are_bounded() {
        for files in [v1::FILES, v2::FILES] {
            assert!(files.iter().filter(|file| file.how.keeps()).count() <= KEPT_FILES);
        }
    }
}
