//! Whose namespaces this process sees: the host's, or those of the container that it runs in.

use std::fs;

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

    /// Whether process 1 of `<proc>` is the host's. It is when the tree is a mount (somebody put the host's there), and when this process itself lives in
    /// the first PID namespace, whose inode number the kernel fixes (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`). In a container that sees its own
    /// `/proc` it is not, and all of `<proc>/1` is the container's.
    #[must_use]
    pub fn shows_host_processes(&self) -> bool {
        self.root().is_mounted() || Namespace::Pid.is_first()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;
    use std::sync::Arc;

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
}
