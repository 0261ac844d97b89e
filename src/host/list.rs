//! What lies in the host's directories, and whose processes `<proc>` shows.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Mount, ReadError, Reader, parse};

/// What a process may have a copy of for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Shared memory, semaphores and message queues.
    Ipc,
    /// The names of host and domain.
    Uts,
    /// The numbers of processes.
    Pid,
}

impl Namespace {
    fn is_first(self) -> bool {
        let (name, number) = match self {
            Self::Ipc => ("ipc", 4_026_531_839u32),
            Self::Uts => ("uts", 4_026_531_838),
            Self::Pid => ("pid", 4_026_531_836),
        };
        fs::read_link(format!("/proc/self/ns/{name}")).is_ok_and(|link| link.as_os_str() == format!("{name}:[{number}]").as_str())
    }
}

impl Reader {
    /// The names in the directory `<sys>/relative` that begin with `prefix` and go on with a digit, in the order of their names as text: `cpu0`, `cpu1`,
    /// `cpu10`, `cpu2`. Names that are not UTF-8 are none of these.
    ///
    /// # Errors
    /// [`ReadError`] when the directory cannot be opened or read.
    pub fn sys_numbered(&self, relative: &str, prefix: &str) -> Result<Vec<String>, ReadError> {
        let numbered = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        names(self.root().sys.join(relative), numbered).map_err(|error| self.root().below_sys(error))
    }

    /// All names in the directory `<sys>/relative`, in the order of their names as text; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// As [`Reader::sys_numbered`].
    pub fn sys_names(&self, relative: &str) -> Result<Vec<String>, ReadError> {
        names(self.root().sys.join(relative), |_| true).map_err(|error| self.root().below_sys(error))
    }

    /// All names in the directory `<proc>/relative`, as [`Reader::sys_names`].
    ///
    /// # Errors
    /// As [`Reader::sys_numbered`].
    pub fn proc_names(&self, relative: &str) -> Result<Vec<String>, ReadError> {
        names(self.root().proc.join(relative), |_| true).map_err(|error| self.root().below_proc(error))
    }

    /// Where the symbolic link `<sys>/relative` points to, as it is written there: `../../devices/pci0000:00/...`.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such link.
    pub fn sys_link(&self, relative: &str) -> Result<PathBuf, ReadError> {
        let path = self.root().sys.join(relative);
        fs::read_link(&path).map_err(|source| self.root().below_sys(ReadError { path, source }))
    }

    /// Where `<sys>/relative` lies when all links on the way are followed.
    ///
    /// # Errors
    /// [`ReadError`] when there is nothing at the end of the links.
    pub fn sys_real(&self, relative: &str) -> Result<PathBuf, ReadError> {
        let path = self.root().sys.join(relative);
        fs::canonicalize(&path).map_err(|source| self.root().below_sys(ReadError { path, source }))
    }

    /// Whether there is anything at `<sys>/relative`, links followed.
    #[must_use]
    pub fn sys_has(&self, relative: &str) -> bool {
        fs::metadata(self.root().sys.join(relative)).is_ok()
    }

    /// Whether this process lives in the host's network namespace, so that what it asks of the kernel itself (netlink, ioctl) is the host's. `<proc>/1/net/dev`
    /// and `<proc>/net/dev` are then one file: the kernel makes the files of `net` once for each namespace, and gives each an inode number of its own
    /// (`fs/proc/proc_net.c`).
    #[must_use]
    pub fn in_host_network(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let inode = |file: &str| fs::metadata(self.root().proc.join(file)).map(|about| about.ino());
        match (inode("1/net/dev"), inode("net/dev")) {
            (Ok(host), Ok(own)) => host == own && self.shows_host_processes(),
            _ => false,
        }
    }

    /// Reads `<rootfs>/relative`; where that is a symbolic link with an absolute target (`/etc/localtime`), the target below the same root. Opened as it
    /// stands, such a link leads out of a mounted tree, into the container's own.
    ///
    /// # Errors
    /// As [`Reader::rootfs`].
    pub fn rootfs_linked(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        let link = self.root().on_rootfs(Path::new(relative));
        match fs::read_link(&link) {
            Ok(target) if target.is_absolute() => {
                let path = self.root().on_rootfs(&target);
                self.at(&path)
            }
            _ => self.at(&link),
        }
    }

    /// Whether what `<proc>/sys` says of a namespace's own settings is the host's: this process lives in the first namespace of that kind, whose inode number the
    /// kernel fixes (`include/linux/proc_ns.h`). A tree that is no procfs is a recording, and nobody's but the host's.
    #[must_use]
    pub fn in_first(&self, namespace: Namespace) -> bool {
        let is_procfs = rustix::fs::statfs(&self.root().proc).is_ok_and(|about| about.f_type == rustix::fs::PROC_SUPER_MAGIC);
        !is_procfs || namespace.is_first()
    }

    /// Refuses where the root file system that is read is the own one of a container, though the host's procfs is mounted: what its files say is of the image and
    /// not of the host. Told by the number of the root's mount, which is one for the whole machine (`mnt_id` in `fs/namespace.c`); where it cannot be told nothing
    /// is refused.
    ///
    /// # Errors
    /// [`ReadError`] with the sentence.
    pub fn needs_host_rootfs(&mut self) -> Result<(), ReadError> {
        if !self.root().is_mounted() || !self.root().is_own_rootfs() {
            return Ok(());
        }
        let mut number = |file: &str| {
            let bytes = self.proc(file).ok()?;
            let mounts = parse::lines(bytes).filter_map(Mount::of);
            mounts.filter(|mount| &*mount.point == b"/").map(|mount| mount.number.0).last()
        };
        match (number("1/mountinfo"), number("self/mountinfo")) {
            (Some(host), Some(own)) if host != own => {
                let why = "it is the agent's own and not the host's; mount the host's / at /host/root, or set --path.rootfs";
                Err(ReadError { path: self.root().rootfs.clone(), source: std::io::Error::other(why) })
            }
            _ => Ok(()),
        }
    }

    /// Whether process 1 of `<proc>` is the host's. It is when the tree is a mount (somebody put the host's there), and when this process itself lives in
    /// the first PID namespace, whose inode number the kernel fixes (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`). In a container that sees its own
    /// `/proc` it is not, and all of `<proc>/1` is the container's.
    #[must_use]
    pub fn shows_host_processes(&self) -> bool {
        self.root().is_mounted() || Namespace::Pid.is_first()
    }
}

/// The names in a directory for which `wanted` says yes, in the order of their names as text.
fn names(path: PathBuf, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, ReadError> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && wanted(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    read().map_err(|source| ReadError { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;
    use std::sync::Arc;

    #[test]
    fn an_absolute_link_stays_below_the_root() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("target"), "x").unwrap();
        std::os::unix::fs::symlink("/target", directory.path().join("etc/localtime")).unwrap();
        let mut reader = Reader::new(Arc::new(Root::find(None, None, Some(directory.path().into()), None)));
        assert_eq!(reader.rootfs_linked("etc/localtime").unwrap(), b"x");
        assert_eq!(reader.rootfs_linked("target").unwrap(), b"x");
    }

    #[test]
    fn a_container_s_root_is_no_host_s() {
        let directory = tempfile::tempdir().unwrap();
        let at = |rootfs: &str| Reader::new(Arc::new(Root::find(Some(directory.path().into()), None, Some(rootfs.into()), None)));
        for (process, number) in [("1", 20), ("self", 900)] {
            assert!(at("/").needs_host_rootfs().is_ok());
            fs::create_dir_all(directory.path().join(process)).unwrap();
            let line = format!("{number} 1 8:1 / / rw - ext4 /dev/a rw\n");
            fs::write(directory.path().join(process).join("mountinfo"), line).unwrap();
        }
        let why = at("/").needs_host_rootfs().unwrap_err();
        assert!(!why.is_absent() && why.to_string().contains("--path.rootfs"), "{why}");
        assert!(at("/host/root").needs_host_rootfs().is_ok());
        fs::copy(directory.path().join("1/mountinfo"), directory.path().join("self/mountinfo")).unwrap();
        assert!(at("/").needs_host_rootfs().is_ok());
    }

    #[test]
    fn only_numbered_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["class", "cpu0", "cpu10", "cpu2", "cpufreq", "cpu", "other1"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let reader = Reader::new(Arc::new(Root::find(None, Some(directory.path().into()), None, None)));
        assert_eq!(reader.sys_numbered("", "cpu").unwrap(), ["cpu0", "cpu10", "cpu2"]);
        assert!(reader.sys_numbered("nothing", "cpu").unwrap_err().is_absent());
        assert_eq!(reader.sys_names("").unwrap(), ["class", "cpu", "cpu0", "cpu10", "cpu2", "cpufreq", "other1"]);
        assert!(reader.sys_has("cpu0") && !reader.sys_has("cpu7"));
        std::os::unix::fs::symlink("cpu0", directory.path().join("first")).unwrap();
        assert!(reader.sys_real("first").unwrap().ends_with("cpu0") && reader.sys_real("last").is_err());
    }

    #[test]
    fn one_network_namespace_is_one_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("1/net")).unwrap();
        fs::create_dir_all(directory.path().join("net")).unwrap();
        fs::write(directory.path().join("1/net/dev"), "").unwrap();
        let reader = Reader::new(Arc::new(Root::find(Some(directory.path().into()), None, None, None)));
        assert!(!reader.in_host_network());
        fs::hard_link(directory.path().join("1/net/dev"), directory.path().join("net/dev")).unwrap();
        assert!(reader.in_host_network());
    }
}
