//! The few numbers of a cgroup that outlive it: read often, and once more when its last process has ended.

use std::path::{Path, PathBuf};

use super::fields::{key_values, number};
use super::{Layout, Tree};
use crate::host::Reader;

/// CPU time and kills for want of memory, and whose they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Which cgroup: the inode number of its file of CPU time, which a cgroup of the same name that is made later does not share.
    pub cgroup: u64,
    /// Nanoseconds.
    pub cpu: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Totals {
    /// The totals of the cgroup at `relative`; `None` when it is not there.
    pub fn read(host: &mut Reader, layout: &Layout, relative: &Path) -> Option<Self> {
        let (directory, name) = layout.cpu_file(relative)?;
        let (cgroup, bytes) = host.with_inode(&directory, name).ok()?;
        let cpu = match layout {
            Layout::V1 { .. } => number(bytes),
            Layout::V2 { .. } => of(bytes, b"usage_usec").and_then(|microseconds| microseconds.checked_mul(1000)),
        };
        let (tree, name) = match layout {
            Layout::V1 { .. } => (Tree::Memory, "memory.oom_control"),
            Layout::V2 { .. } => (Tree::Unified, "memory.events"),
        };
        let directory = layout.tree(tree)?.join(relative);
        let oom_kills = host.within(&directory, Path::new(""), name).ok().and_then(|bytes| of(bytes, b"oom_kill"));
        Some(Self { cgroup, cpu, oom_kills })
    }
}

impl Layout {
    /// The file whose inode number tells cgroups apart, as directory and name.
    pub(super) fn cpu_file(&self, relative: &Path) -> Option<(PathBuf, &'static str)> {
        match self {
            Self::V1 { .. } => Some((self.tree(Tree::Cpuacct)?.join(relative), "cpuacct.usage")),
            Self::V2 { root } => Some((root.join(relative), "cpu.stat")),
        }
    }

    /// The trees in which a container's cgroup appears when it is made: the one in which containers are looked for, and the one that tells when a cgroup has no
    /// process any more (`cgroup.events`), which are the same under v2. The second is not there on a host that has v1 alone.
    #[must_use]
    pub fn watched_trees(&self) -> [Option<&Path>; 2] {
        let unified = self.unified();
        [unified, self.main_tree().filter(|tree| Some(*tree) != unified)]
    }

    /// The tree that tells when a cgroup has no process any more.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.tree(Tree::Unified)
    }

    fn tree(&self, tree: Tree) -> Option<&Path> {
        self.trees().into_iter().nth(tree as usize).flatten()
    }
}

/// Whether a cgroup has processes, by its `cgroup.events` (Documentation/admin-guide/cgroup-v2).
#[must_use]
pub fn is_populated(events: &[u8]) -> Option<bool> {
    of(events, b"populated").map(|number| number != 0)
}

fn of(bytes: &[u8], wanted: &[u8]) -> Option<u64> {
    let mut found = None;
    key_values(bytes, |key, value| {
        if key == wanted {
            found = Some(value);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path().to_path_buf();
        for (file, text) in files {
            let path = sys.join("fs/cgroup").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (directory, Reader::new(Arc::new(Root::find(Some(sys.clone()), Some(sys.clone()), Some(sys), None))))
    }

    #[test]
    fn of_both_versions() {
        let (_directory, mut host) = tree(&[
            ("cpuacct/docker/a/cpuacct.usage", "179629342\n"),
            ("memory/docker/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("unified/cgroup.controllers", ""),
        ]);
        let layout = Layout::detect(&host).unwrap();
        let found = Totals::read(&mut host, &layout, Path::new("docker/a")).unwrap();
        assert_eq!((found.cpu, found.oom_kills), (Some(179_629_342), Some(2)));
        assert_eq!(Totals::read(&mut host, &layout, Path::new("docker/b")), None);
        let base = host.root().sys.join("fs/cgroup");
        assert_eq!(layout.watched_trees(), [Some(&*base.join("unified")), Some(&*base.join("memory"))]);

        let (_directory, mut host) = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("docker/a/cpu.stat", "usage_usec 5\nuser_usec 4\n"),
            ("docker/a/memory.events", "low 0\noom 3\noom_kill 1\n"),
            ("docker/b/cpu.stat", "usage_usec 6\n"),
        ]);
        let layout = Layout::detect(&host).unwrap();
        let mut read = |name| Totals::read(&mut host, &layout, Path::new(name)).unwrap();
        let (a, b) = (read("docker/a"), read("docker/b"));
        assert_eq!((a.cpu, a.oom_kills, b.cpu, b.oom_kills), (Some(5000), Some(1), Some(6000), None));
        assert_ne!(a.cgroup, b.cgroup);
        assert_eq!(layout.watched_trees(), [Some(&*host.root().sys.join("fs/cgroup")), None]);
    }

    #[test]
    fn populated_or_not() {
        assert_eq!(is_populated(b"populated 1\nfrozen 0\n"), Some(true));
        assert_eq!(is_populated(b"populated 0\nfrozen 0\n"), Some(false));
        assert_eq!(is_populated(b"frozen 0\n"), None);
    }
}
