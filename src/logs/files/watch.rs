//! inotify: which directories changed, and which logs were written to.
//!
//! There are two instances. The first tells of names (created, moved, removed): it is read at once, for a fast writer with small files may rotate again
//! within milliseconds. The second tells of writes: it is read at most every 10 ms. Until then the kernel merges what is the same, so that the writes of a
//! fast container cost no wake-up each, and if its queue overflows nothing is lost but which container it was.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::{chain, meta};
use crate::logs::ContainerId;

const BUFFER: usize = 64 << 10;

/// Both instances, and whose each watch is.
#[derive(Debug)]
pub(super) struct Watcher {
    names: OwnedFd,
    writes: OwnedFd,
    root: Option<i32>,
    by_names: HashMap<i32, ContainerId>,
    by_writes: HashMap<i32, ContainerId>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// What names changed.
#[derive(Debug, Default)]
pub(super) struct NameChanges {
    /// Containers of which a directory, a log file or a description came, went or was replaced.
    pub(super) containers: HashSet<ContainerId>,
    /// The containers directory itself is gone.
    pub(super) is_root_gone: bool,
    /// Events were lost: everything may have changed.
    pub(super) is_overflow: bool,
}

impl Watcher {
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        Ok(Self {
            names: inotify::init(flags)?,
            writes: inotify::init(flags)?,
            root: None,
            by_names: HashMap::new(),
            by_writes: HashMap::new(),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        })
    }

    pub(super) fn names(&self) -> BorrowedFd<'_> {
        self.names.as_fd()
    }

    pub(super) fn writes(&self) -> BorrowedFd<'_> {
        self.writes.as_fd()
    }

    /// Watches the directory of all containers; again and again does no harm, and follows a directory that was replaced.
    pub(super) fn watch_root(&mut self, dir: &Path) -> Result<(), Errno> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.names, dir, flags)?;
        if let Some(old) = self.root.replace(watch)
            && old != watch
        {
            inotify::remove_watch(&self.names, old).ok();
        }
        Ok(())
    }

    /// Watches the directory of a container; as often as one likes.
    pub(super) fn watch(&mut self, dir: &Path, id: &ContainerId) -> Result<(), Errno> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        self.by_names.insert(inotify::add_watch(&self.names, dir, flags)?, id.clone());
        self.by_writes.insert(inotify::add_watch(&self.writes, dir, WatchFlags::MODIFY | WatchFlags::ONLYDIR)?, id.clone());
        Ok(())
    }

    /// Takes what is known of names.
    pub(super) fn take_names(&mut self) -> NameChanges {
        let mut changes = NameChanges::default();
        let mut reader = inotify::Reader::new(&self.names, &mut self.buffer);
        while let Some(event) = next(&mut reader) {
            let (watch, what) = (event.wd(), event.events());
            let name = event.file_name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.is_overflow = true;
            } else if self.root == Some(watch) {
                if what.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
                    changes.is_root_gone = true;
                } else if let Some(id) = std::str::from_utf8(name).ok().and_then(ContainerId::new) {
                    changes.containers.insert(id);
                }
                if what.contains(ReadFlags::IGNORED) {
                    self.root = None;
                }
            } else if what.contains(ReadFlags::IGNORED) {
                if let Some(id) = self.by_names.remove(&watch) {
                    changes.containers.insert(id);
                }
            } else if let Some(id) = self.by_names.get(&watch)
                && (meta::is_name(name) || chain::is_name(name, id))
                && !changes.containers.contains(id)
            {
                changes.containers.insert(id.clone());
            }
        }
        changes
    }

    /// Takes which containers have written; `None` when the kernel has lost count.
    pub(super) fn take_writes(&mut self) -> Option<HashSet<ContainerId>> {
        let mut written = HashSet::new();
        let mut is_overflow = false;
        let mut reader = inotify::Reader::new(&self.writes, &mut self.buffer);
        while let Some(event) = next(&mut reader) {
            let name = event.file_name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                is_overflow = true;
            } else if event.events().contains(ReadFlags::IGNORED) {
                self.by_writes.remove(&event.wd());
            } else if let Some(id) = self.by_writes.get(&event.wd())
                && chain::is_name(name, id)
                && !written.contains(id)
            {
                written.insert(id.clone());
            }
        }
        (!is_overflow).then_some(written)
    }
}

/// The next event; an error (there are none left) ends the reading, and `poll` comes again.
fn next<'reader, Fd: AsFd>(reader: &'reader mut inotify::Reader<'_, Fd>) -> Option<inotify::Event<'reader>> {
    reader.next().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_events_are_told() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::new(&"a".repeat(64)).unwrap();
        let dir = root.path().join(id.as_str());
        std::fs::create_dir(&dir).unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.watch_root(root.path()).unwrap();
        watcher.watch(&dir, &id).unwrap();
        let limit: usize = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let names: Vec<_> = (0..2).map(|number| dir.join(format!("{}-json.log.{number}", id.as_str()))).collect();
        std::fs::write(&names[0], "x").unwrap();
        assert!(watcher.take_names().containers.contains(&id));
        assert_eq!(watcher.take_writes(), Some(HashSet::from([id.clone()])));
        for at in 0..=limit {
            std::fs::rename(&names[at % 2], &names[(at + 1) % 2]).unwrap();
        }
        let changes = watcher.take_names();
        assert!(changes.is_overflow && !changes.is_root_gone && changes.containers.contains(&id));
        assert_eq!(watcher.take_writes(), Some(HashSet::new()));
        std::fs::remove_dir_all(root.path()).unwrap();
        let changes = watcher.take_names();
        assert!(changes.is_root_gone && changes.containers.contains(&id));
        assert!(watcher.by_names.is_empty() && watcher.root.is_none());
    }
}
