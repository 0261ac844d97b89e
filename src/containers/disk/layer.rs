//! Where a container's writable layer lies, and on which device.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::host::{Mount, parse};

/// The `upperdir=` of the root of a container's process, from its `mountinfo`: so for overlay2 and for the containerd store. `None` where the root is no
/// overlay (other storage drivers) or has no writable layer (`--read-only` has one all the same).
pub(super) fn upper_directory(mountinfo: &[u8], data_root: &Path) -> Option<PathBuf> {
    // What was mounted over the root last is the root.
    let root = parse::lines(mountinfo).filter_map(Mount::of).filter(|mount| &*mount.point == b"/").last()?;
    if &*root.kind != b"overlay" {
        return None;
    }
    let upper = root.super_options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"upperdir="))?;
    let upper = PathBuf::from(OsString::from_vec(Mount::unescaped(upper).into_owned()));
    // Where there are so many layers that their paths fill a page, the engine mounts by paths relative to its driver's directory.
    Some(if upper.is_absolute() { upper } else { data_root.join("overlay2").join(upper) })
}

/// What the host calls the device that a path of its own lies on, by its `mountinfo`: the source of the last mount on the longest point above.
pub(super) fn device(mountinfo: &[u8], path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let mut found: Option<(usize, String)> = None;
    for mount in parse::lines(mountinfo).filter_map(Mount::of) {
        let point = Path::new(std::ffi::OsStr::from_bytes(&mount.point));
        if path.starts_with(point) && found.as_ref().is_none_or(|(length, _)| mount.point.len() >= *length) {
            let source = match &*mount.source {
                b"" | b"none" => format!("{}:{}", mount.device_number.0, mount.device_number.1),
                source => parse::text(source).into_owned(),
            };
            found = Some((mount.point.len(), source));
        }
    }
    found.map(|(_, source)| source)
}

/// Whether a name in the engine's directory of a container is of its log: what the json-file driver writes and rotates, the folder of the local driver, and the
/// copy that the engine keeps for drivers that cannot be read back.
pub(super) fn is_log(id: &str, name: &[u8]) -> bool {
    let rest = name.strip_prefix(id.as_bytes()).and_then(|rest| rest.strip_prefix(b"-json.log"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b".")) || name == b"local-logs" || name.starts_with(b"container-cached.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAY2: &str = "519 518 0:57 / / rw,relatime - overlay overlay rw,lowerdir=/d/overlay2/l/A:/d/overlay2/l/B,\
        upperdir=/d/overlay2/9f/diff,workdir=/d/overlay2/9f/work,xino=off\n520 519 0:60 / /proc rw - proc proc rw\n";
    const CONTAINERD: &str = "1 2 0:57 / / rw - overlay overlay rw,lowerdir=/d/1/fs,\
        upperdir=/var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/12/fs,workdir=/d/12/work,index=off\n";

    #[test]
    fn the_layer_of_a_process() {
        let upper = |text: &str| upper_directory(text.as_bytes(), Path::new("/d"));
        assert_eq!(upper(OVERLAY2), Some("/d/overlay2/9f/diff".into()));
        let snapshot = "/var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/12/fs";
        assert_eq!(upper(CONTAINERD), Some(snapshot.into()));
        assert_eq!(
            upper("1 2 0:57 / / rw - overlay overlay rw,lowerdir=l/A,upperdir=9f/diff,workdir=9f/work\n"),
            Some("/d/overlay2/9f/diff".into())
        );
        assert_eq!(upper(r"1 2 0:57 / / rw - overlay overlay rw,upperdir=/a\040b\054c/diff"), Some("/a b,c/diff".into()));
        // Of btrfs, and of nothing.
        assert_eq!(upper("1 2 0:57 /sub / rw - btrfs /dev/sda rw,upperdir=/x\n"), None);
        assert_eq!(upper("1 2 0:57 / / ro - overlay overlay ro,lowerdir=/a\nodd\n"), None);
        assert_eq!(upper(""), None);
    }

    #[test]
    fn the_device_of_a_path() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 259:1 / /var/lib rw - xfs /dev/nvme0n1p1 rw\n3 1 9:0 / /var/lib/docker rw - ext4 /dev/md0 rw\n\
            4 1 0:40 / /data rw - tmpfs none rw\n5 1 8:2 / /srv rw - ext4 /dev/sdb rw\n6 5 8:3 / /srv rw - ext4 /dev/sdc rw\n7 1 0:44 / /pool rw - zfs rpool/docker rw\n";
        for (path, expected) in [
            ("/var/lib/docker/overlay2/x", "/dev/md0"),
            ("/var/lib/dockerish", "/dev/nvme0n1p1"),
            ("/home", "/dev/sda1"),
            ("/data/docker", "0:40"),
            ("/srv/x", "/dev/sdc"),
            ("/pool", "rpool/docker"),
        ] {
            assert_eq!(device(table.as_bytes(), Path::new(path)).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(device(b"", Path::new("/x")), None);
    }

    #[test]
    fn names_of_logs() {
        for name in ["ab-json.log", "ab-json.log.1", "ab-json.log.2.gz", "local-logs", "container-cached.log", "container-cached.log.1"] {
            assert!(is_log("ab", name.as_bytes()), "{name}");
        }
        for name in ["config.v2.json", "ab-json.logs", "c-json.log", "hosts", "checkpoints", "mounts"] {
            assert!(!is_log("ab", name.as_bytes()), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>, text in "[0-9:/ a-c,=-]{0,120}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = (upper_directory(bytes, Path::new("/d")), device(bytes, Path::new("/d")));
            }
        }
    }
}
