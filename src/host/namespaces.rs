//! Whose namespaces this process sees: the host's, or those of the container that it runs in.

use std::fs;
use std::path::Path;

use super::Reader;

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
        const FIRST: &str = "pid:[4026531836]";
        self.root().is_mounted() || fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace == Path::new(FIRST))
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
}
