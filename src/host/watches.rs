//! inotify on the host's cgroup trees: directories that come and go in one, and files that the kernel says have changed.
//!
//! It works through a read-only mount of the trees in a container, without capabilities: the inodes are the same (measured, engine 20.10 with its default profiles).

use std::io::{self, PipeReader};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Room for some hundred events with names of containers.
const BUFFER: usize = 32 << 10;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A directory of this name was made in the directory of this watch.
    Made(i32, String),
    /// A directory of this name was removed from the directory of this watch.
    Removed(i32, String),
    /// The file of this watch has changed.
    Changed(i32),
    /// What this watch was on is gone, and the watch with it.
    Ended(i32),
    /// The kernel's queue was full: anything may have happened.
    Overflow,
}

/// Watches. Dropping it ends all of them.
#[derive(Debug)]
pub struct Watches {
    inotify: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Watches {
    /// No watch yet.
    ///
    /// # Errors
    /// What the kernel says: `EMFILE` where the user has `fs.inotify.max_user_instances` of them.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, buffer: vec![MaybeUninit::uninit(); BUFFER] })
    }

    /// Watches which directories are made in a directory, and removed. Twice gives the same watch.
    ///
    /// # Errors
    /// What the kernel says: `ENOSPC` where the user has `fs.inotify.max_user_watches` of them.
    pub fn directory(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.inotify, path, flags)?)
    }

    /// Watches a file of the kernel's that tells of its changes.
    ///
    /// # Errors
    /// As [`Watches::directory`].
    pub fn file(&self, path: &Path) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.inotify, path, WatchFlags::MODIFY)?)
    }

    /// Ends a watch.
    pub fn end(&self, watch: i32) {
        // It may have ended by itself.
        let _ended = inotify::remove_watch(&self.inotify, watch);
    }

    /// Waits until there is something to take, `most` has passed, or the other end of `end` was closed: then it says `false`.
    pub fn wait(this: Option<&Self>, most: Duration, end: &PipeReader) -> bool {
        let most = Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
        let end = PollFd::new(end, PollFlags::IN);
        let outcome = match this {
            Some(this) => {
                let mut both = [end, PollFd::new(&this.inotify, PollFlags::IN)];
                poll(&mut both, Some(&most)).map(|_| both[0].revents())
            }
            None => {
                let mut one = [end];
                poll(&mut one, Some(&most)).map(|_| one[0].revents())
            }
        };
        match outcome {
            Ok(told) => told.is_empty(),
            Err(Errno::INTR) => true,
            // It cannot wait: better no thread than one that turns without a pause.
            Err(_) => false,
        }
    }

    /// Puts what has happened into `out`, which is emptied first: what one reading gives, so that a flood has its pauses. Says whether there may be more.
    pub fn take(&mut self, out: &mut Vec<Watched>) -> bool {
        out.clear();
        let mut reader = inotify::Reader::new(&self.inotify, &mut self.buffer);
        loop {
            let Ok(event) = reader.next() else { return false };
            let (watch, what) = (event.wd(), event.events());
            let name = || event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned);
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                out.push(Watched::Overflow);
            } else if what.contains(ReadFlags::IGNORED) {
                out.push(Watched::Ended(watch));
            } else if what.contains(ReadFlags::CREATE | ReadFlags::ISDIR) {
                out.extend(name().map(|name| Watched::Made(watch, name)));
            } else if what.contains(ReadFlags::DELETE | ReadFlags::ISDIR) {
                out.extend(name().map(|name| Watched::Removed(watch, name)));
            } else if what.contains(ReadFlags::MODIFY) {
                out.push(Watched::Changed(watch));
            }
            if reader.is_buffer_empty() {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut watches = Watches::new().unwrap();
        let file = directory.path().join("events");
        std::fs::write(&file, "").unwrap();
        let (of_directory, of_file) = (watches.directory(directory.path()).unwrap(), watches.file(&file).unwrap());
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(&file, "populated 0\n").unwrap();
        std::fs::remove_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("no-directory"), "").unwrap();
        std::fs::remove_file(&file).unwrap();
        let (mut told, mut all) = (Vec::new(), Vec::new());
        while watches.take(&mut told) {
            all.append(&mut told);
        }
        // To truncate and to write are a change each.
        all.dedup();
        let name = || "a".to_owned();
        assert_eq!(
            all,
            [
                Watched::Made(of_directory, name()),
                Watched::Changed(of_file),
                Watched::Removed(of_directory, name()),
                Watched::Ended(of_file)
            ]
        );
        let (end, keeps_open) = io::pipe().unwrap();
        assert!(Watches::wait(Some(&watches), Duration::ZERO, &end));
        drop(keeps_open);
        assert!(!Watches::wait(Some(&watches), Duration::from_secs(60), &end) && !Watches::wait(None, Duration::from_secs(60), &end));
    }
}
