//! Where the host's trees are mounted.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use super::ReadError;

/// What every procfs, sysfs and root file system has. A directory without it is another thing, or nothing is mounted there.
pub(super) const PROC_WITNESS: &str = "stat";
pub(super) const SYS_WITNESS: &str = "class";
pub(super) const ROOTFS_WITNESS: &str = "etc";

/// The four trees of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// procfs, `/proc` on a bare machine.
    pub proc: PathBuf,
    /// sysfs, `/sys` on a bare machine.
    pub sys: PathBuf,
    /// The root of the file system, `/` on a bare machine.
    pub rootfs: PathBuf,
    /// udev's data base of devices, `/run/udev/data` below the root.
    pub udev: PathBuf,
}

/// Where containers usually see the host: skep's own stack, and the mounts of the well-known books.
const CONTAINER_MOUNTS: [[&str; 3]; 2] = [["/host/proc", "/host/sys", "/host/root"], ["/rootfs/proc", "/rootfs/sys", "/rootfs"]];

impl Root {
    /// The trees at the paths given; what is `None` is found by itself: a host mounted at `/host/{proc,sys,root}` or at `/rootfs{,/proc,/sys}`, and
    /// else this machine's own trees.
    #[must_use]
    pub fn find(proc: Option<PathBuf>, sys: Option<PathBuf>, rootfs: Option<PathBuf>, udev: Option<PathBuf>) -> Self {
        let mounted = |index: usize, witness: &str, own: &str| -> PathBuf {
            CONTAINER_MOUNTS
                .iter()
                .filter_map(|mounts| mounts.get(index))
                .map(Path::new)
                .find(|path| has(path, witness).is_ok())
                .map_or_else(|| PathBuf::from(own), Path::to_path_buf)
        };
        let rootfs = rootfs.unwrap_or_else(|| mounted(2, ROOTFS_WITNESS, "/"));
        Self {
            proc: proc.unwrap_or_else(|| mounted(0, PROC_WITNESS, "/proc")),
            sys: sys.unwrap_or_else(|| mounted(1, SYS_WITNESS, "/sys")),
            udev: udev.unwrap_or_else(|| rootfs.join("run/udev/data")),
            rootfs,
        }
    }

    /// A path of the host (`/var/lib/docker`) as this process reaches it (`/host/root/var/lib/docker`).
    #[must_use]
    pub fn on_rootfs(&self, path: &Path) -> PathBuf {
        self.rootfs.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A path below the root file system (`/host/root/var/lib/docker`) as the host has it (`/var/lib/docker`); any other as it is.
    #[must_use]
    pub fn as_on_host(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix(&self.rootfs) {
            Ok(relative) => Path::new("/").join(relative),
            Err(_) => path,
        }
    }

    /// Whether the host is seen through mounts, as from inside a container, and not as this machine's own trees.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.proc != Path::new("/proc")
    }

    /// Whether sysfs is the one that this process has for itself: in a container the container's own.
    #[must_use]
    pub fn is_own_sys(&self) -> bool {
        self.sys == Path::new("/sys")
    }

    /// Whether the root file system is the one that this process has for itself: in a container the container's own.
    #[must_use]
    pub fn is_own_rootfs(&self) -> bool {
        self.rootfs == Path::new("/")
    }
}

/// Whether a tree is what it should be, by what every such tree has.
pub(super) fn has(tree: &Path, witness: &str) -> io::Result<()> {
    tree.join(witness).symlink_metadata().map(drop)
}

/// The error of a file below a tree, made one that is not [absent](ReadError::is_absent) when there is no such tree at all. That it is there is noted in `seen`,
/// and not asked again.
pub(super) fn below(tree: &Path, witness: &str, kind: &str, seen: &Cell<bool>, error: ReadError) -> ReadError {
    if !error.is_absent() || seen.get() || has(tree, witness).is_ok() {
        seen.set(seen.get() || error.is_absent());
        return error;
    }
    let why = format!("no {kind} is mounted at {} (it has no '{witness}')", tree.display());
    ReadError { path: error.path, source: io::Error::other(why) }
}
