//! Where the host's trees are mounted.

use std::path::{Path, PathBuf};

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
                .find(|path| path.join(witness).symlink_metadata().is_ok())
                .map_or_else(|| PathBuf::from(own), Path::to_path_buf)
        };
        let rootfs = rootfs.unwrap_or_else(|| mounted(2, "etc", "/"));
        Self {
            proc: proc.unwrap_or_else(|| mounted(0, "stat", "/proc")),
            sys: sys.unwrap_or_else(|| mounted(1, "class", "/sys")),
            udev: udev.unwrap_or_else(|| rootfs.join("run/udev/data")),
            rootfs,
        }
    }

    /// A path of the host (`/var/lib/docker`) as this process reaches it (`/host/root/var/lib/docker`).
    #[must_use]
    pub fn on_rootfs(&self, path: &Path) -> PathBuf {
        self.rootfs.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether the host is seen through mounts, as from inside a container, and not as this machine's own trees.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.proc != Path::new("/proc")
    }
}
