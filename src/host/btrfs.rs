//! What btrfs says of its devices when it is asked by ioctl(2) at one of its mounts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::sys::{BtrfsDevice, btrfs_device, btrfs_file_system};
use super::{Mount, Reader, parse};

/// The id of a btrfs file system.
pub type BtrfsId = [u8; 16];

/// Mounts of a scrape that are opened at the most: each subvolume may be one, and each container of Docker's btrfs driver has one.
const MOST_OPENED: usize = 64;
/// Numbers of devices that are tried at the most. They are given in turn and not given again, so a long life may leave gaps.
const MOST_DEVICES: u64 = 1024;

impl Reader {
    /// The devices of every mounted btrfs file system that can be asked. What is not mounted within reach, or may not be opened, is left out.
    ///
    /// A mount is opened only where no file system lies over it or above it that somebody else than this kernel answers: opening one such may take forever.
    pub fn btrfs_devices(&mut self) -> HashMap<BtrfsId, Vec<BtrfsDevice>> {
        let mut found = HashMap::new();
        if !self.shows_host_processes() {
            return found;
        }
        let Ok(bytes) = self.proc("1/mountinfo").map(<[u8]>::to_vec) else { return found };
        let mounts: Vec<Mount<'_>> = parse::lines(&bytes).filter_map(Mount::of).collect();
        let mut asked = HashSet::new();
        let mut opened = 0;
        for mount in mounts.iter().filter(|mount| &*mount.kind == b"btrfs") {
            if opened >= MOST_OPENED || asked.contains(&mount.source) || may_hang(mount, &mounts) {
                continue;
            }
            opened += 1;
            let path = self.root().on_rootfs(Path::new(OsStr::from_bytes(&mount.point)));
            let Ok(directory) =
                rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            else {
                continue;
            };
            if let Some((id, devices)) = devices(&File::from(directory)) {
                asked.insert(&mount.source);
                found.insert(id, devices);
            }
        }
        found
    }
}

/// The file system that a directory is of, and its devices; `None` when it is no btrfs, or one of them does not answer.
fn devices(directory: &File) -> Option<(BtrfsId, Vec<BtrfsDevice>)> {
    let (id, highest) = btrfs_file_system(directory.as_fd()).ok()?;
    let mut devices = Vec::new();
    for number in 0..=highest.min(MOST_DEVICES) {
        match btrfs_device(directory.as_fd(), number) {
            Ok(device) => devices.push(device),
            Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NODEV) => {}
            Err(_) => return None,
        }
    }
    Some((id, devices))
}

/// Whether the way to a mount leads through another that may not answer.
fn may_hang(mount: &Mount<'_>, mounts: &[Mount<'_>]) -> bool {
    let point = Path::new(OsStr::from_bytes(&mount.point));
    let is_slow = |other: &&Mount<'_>| other.may_hang() || &*other.kind == b"autofs";
    mounts.iter().filter(is_slow).any(|other| point.starts_with(OsStr::from_bytes(&other.point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_server_is_not_opened() {
        let text = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:40 / /data rw - btrfs /dev/b rw\n3 1 0:41 / /net rw - nfs4 s:/ rw\n\
                    4 3 0:42 / /net/disk rw - btrfs /dev/c rw\n5 1 0:43 / /network rw - btrfs /dev/d rw\n6 1 0:44 / /auto rw - btrfs /dev/e rw\n\
                    7 6 0:45 / /auto rw - autofs x rw\n";
        let mounts: Vec<Mount<'_>> = parse::lines(text.as_bytes()).filter_map(Mount::of).collect();
        let hangs: Vec<bool> = mounts.iter().filter(|mount| &*mount.kind == b"btrfs").map(|mount| may_hang(mount, &mounts)).collect();
        assert_eq!(hangs, [false, true, false, true]);
    }
}
