//! Which cgroup version a host runs, and where its trees are.

use std::path::{Path, PathBuf};

use super::{TREES, Tree};
use crate::host::Reader;

/// The cgroup trees of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A tree for each controller; on a hybrid host a unified tree besides, which has no controllers but tells pressure.
    V1 {
        /// Where each is, in the order cpu, cpuacct, memory, blkio, pids, unified, cpuset, hugetlb.
        trees: [Option<PathBuf>; TREES],
    },
    /// One tree.
    V2 {
        /// Where it is.
        root: PathBuf,
    },
}

impl Layout {
    /// Looks below `<sys>/fs/cgroup`. `None` when no tree is there, as when `/sys` was mounted into a container without the mounts below it.
    #[must_use]
    pub fn detect(host: &Reader) -> Option<Self> {
        let base = host.root().sys.join("fs/cgroup");
        let has = |directory: &Path, file: &str| host.names(directory, false).iter().any(|name| name == file);
        if has(&base, "cgroup.controllers") {
            return Some(Self::V2 { root: base });
        }
        // Controllers share a mount on many systems (`cpu,cpuacct`, in whatever order), and the links to it may be missing.
        let names = host.names(&base, false);
        let tree = |controller: &str| {
            let name = names
                .iter()
                .find(|name| *name == controller)
                .or_else(|| names.iter().find(|name| name.split(',').any(|part| part == controller)))?;
            let path = base.join(name);
            (!host.names(&path, false).is_empty()).then_some(path)
        };
        let unified = Some(base.join("unified")).filter(|path| has(path, "cgroup.controllers"));
        let [cpu, cpuacct, memory, blkio, pids] = ["cpu", "cpuacct", "memory", "blkio", "pids"].map(tree);
        let trees = [cpu, cpuacct, memory, blkio, pids, unified, tree("cpuset"), tree("hugetlb")];
        trees.iter().take(Tree::Unified as usize).any(Option::is_some).then_some(Self::V1 { trees })
    }

    pub(super) fn trees(&self) -> [Option<&Path>; TREES] {
        match self {
            Self::V1 { trees } => trees.each_ref().map(Option::as_deref),
            Self::V2 { root } => [None, None, None, None, None, Some(root), Some(root), Some(root)],
        }
    }

    /// The tree in which containers are looked for.
    pub(super) fn main_tree(&self) -> Option<&Path> {
        let [cpu, cpuacct, memory, blkio, pids, unified, ..] = self.trees();
        match self {
            Self::V1 { .. } => memory.or(cpuacct).or(cpu).or(pids).or(blkio),
            Self::V2 { .. } => unified,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    fn layout(files: &[&str]) -> (tempfile::TempDir, Option<Layout>) {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path().to_path_buf();
        for file in files {
            let path = sys.join("fs/cgroup").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let layout = Layout::detect(&Reader::new(Arc::new(Root::find(Some(sys.clone()), Some(sys.clone()), Some(sys), None))));
        (directory, layout)
    }

    #[test]
    fn unified_hybrid_and_nothing() {
        assert!(matches!(layout(&["cgroup.controllers", "memory.stat"]).1, Some(Layout::V2 { .. })));
        assert_eq!(layout(&["empty/file"]).1, None);
        let (directory, hybrid) = layout(&["cpuacct,cpu/cpu.stat", "memory/memory.stat", "unified/cgroup.controllers"]);
        let base = directory.path().join("fs/cgroup");
        let shared = Some(base.join("cpuacct,cpu"));
        let trees = [shared.clone(), shared, Some(base.join("memory")), None, None, Some(base.join("unified")), None, None];
        assert_eq!(hybrid, Some(Layout::V1 { trees }));
    }
}
