//! What lies in the host's directories, and whose processes `<proc>` shows.

use std::fs;
use std::path::Path;

use super::{ReadError, Reader};

impl Reader {
    /// The names in the directory `<sys>/relative` that begin with `prefix` and go on with a digit, in the order of their names as text: `cpu0`, `cpu1`,
    /// `cpu10`, `cpu2`. Names that are not UTF-8 are none of these.
    ///
    /// # Errors
    /// [`ReadError`] when the directory cannot be opened or read.
    pub fn sys_numbered(&self, relative: &str, prefix: &str) -> Result<Vec<String>, ReadError> {
        let path = self.root().sys.join(relative);
        let numbered = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        let read = || -> std::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                if let Ok(name) = entry?.file_name().into_string()
                    && numbered(&name)
                {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|source| self.root().below_sys(ReadError { path: path.clone(), source }))
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
    fn only_numbered_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["class", "cpu0", "cpu10", "cpu2", "cpufreq", "cpu", "other1"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let reader = Reader::new(Arc::new(Root::find(None, Some(directory.path().into()), None, None)));
        assert_eq!(reader.sys_numbered("", "cpu").unwrap(), ["cpu0", "cpu10", "cpu2"]);
        assert!(reader.sys_numbered("nothing", "cpu").unwrap_err().is_absent());
    }
}
