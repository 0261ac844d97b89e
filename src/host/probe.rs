//! Whether the host's trees can be read, and what to do about it: for `/readyz`, `skep check` and the log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::root::{ROOTFS_WITNESS, SYS_WITNESS, has};
use super::{NetSource, Reader, Root};

/// One tree, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name as a part: `host.procfs`.
    pub part: &'static str,
    /// Where it is, or why it cannot be read and what would do.
    pub found: Result<String, String>,
}

/// Looks at the trees of `root`. In a container (`in_container`) trees that are the container's own are no host's.
#[must_use]
pub fn probe(root: &Arc<Root>, in_container: bool) -> Vec<Probe> {
    let mut reader = Reader::new(Arc::clone(root));
    let procfs = match reader.proc("stat") {
        Ok(_) if in_container && !root.is_mounted() => {
            Err(format!("{} is the container's own: mount the host's /proc at /host/proc, or set --path.procfs", root.proc.display()))
        }
        Ok(_) => Ok(root.proc.display().to_string()),
        Err(error) => Err(format!("{error}; mount the host's /proc at /host/proc, or set --path.procfs")),
    };
    let network = match reader.net("dev") {
        Ok((NetSource::Host, _)) if procfs.is_ok() => Ok("the host's, from 1/net".to_owned()),
        Ok((NetSource::Host, _)) => Err("without the host's procfs only the container's own interfaces are seen".to_owned()),
        Ok((NetSource::Own, _)) => {
            Err("1/net below procfs is closed (hidepid, or remapped user namespaces): only the interfaces of skep's own network namespace \
             are seen, which are the host's only without a container"
                .to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    let tree = |path: &Path, witness: &str, mount: &str, flag: &str| match has(path, witness) {
        Ok(()) => Ok(path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("{}: {error}; SELinux or remapped user namespaces of the engine may forbid it", path.display()))
        }
        Err(error) => Err(format!("{}: {error}; mount the host's {mount}, or set {flag}", path.join(witness).display())),
    };
    // A sysfs shows the interfaces of the network namespace that mounted it, so a container's own shows none of the host's.
    let sysfs = if in_container && root.is_own_sys() {
        Err("/sys is the container's own: mount the host's /sys at /host/sys, or set --path.sysfs".to_owned())
    } else {
        tree(&root.sys, SYS_WITNESS, "/sys at /host/sys", "--path.sysfs")
    };
    let rootfs = if in_container && root.is_own_rootfs() {
        Err("/ is the container's own: mount the host's / at /host/root, or set --path.rootfs".to_owned())
    } else {
        tree(&root.rootfs, ROOTFS_WITNESS, "/ at /host/root", "--path.rootfs")
    };
    vec![
        Probe { part: "host.procfs", found: procfs },
        Probe { part: "host.network", found: network },
        Probe { part: "host.sysfs", found: sysfs },
        Probe { part: "host.rootfs", found: rootfs },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_would_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(directory.path().join(name));
        let root = Arc::new(Root::find(path("proc"), path("sys"), path("root"), None));
        for probe in probe(&root, false) {
            let why = probe.found.unwrap_err();
            assert!(why.contains(directory.path().to_str().unwrap()), "{why}");
        }
        std::fs::create_dir_all(directory.path().join("proc/1/net")).unwrap();
        // Directories where a mount should be: Docker makes them, and they are empty.
        std::fs::create_dir_all(directory.path().join("sys")).unwrap();
        std::fs::create_dir_all(directory.path().join("root")).unwrap();
        for probe in probe(&root, true) {
            assert!(probe.found.is_err(), "{probe:?}");
        }
        std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
        std::fs::create_dir_all(directory.path().join("root/etc")).unwrap();
        std::fs::write(directory.path().join("proc/stat"), b"cpu 1\n").unwrap();
        std::fs::write(directory.path().join("proc/1/net/dev"), b"\n").unwrap();
        assert!(probe(&root, true).iter().all(|probe| probe.found.is_ok()), "{:?}", probe(&root, true));
    }

    #[test]
    fn in_a_container_its_own_trees_are_no_host_s() {
        let root = Arc::new(Root { proc: "/proc".into(), sys: "/sys".into(), rootfs: "/".into(), udev: "/run/udev/data".into() });
        let failed: Vec<&str> = probe(&root, true).into_iter().filter(|probe| probe.found.is_err()).map(|probe| probe.part).collect();
        assert_eq!(failed, ["host.procfs", "host.network", "host.sysfs", "host.rootfs"]);
    }
}
