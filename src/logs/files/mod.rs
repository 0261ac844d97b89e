//! The file table: one thread that knows every container's log files, opens what appears at once, and never waits for a sink.
//!
//! The engine rotates `<id>-json.log` to `.1`, `.2`, ... by renames, removes the oldest, and recycles inode numbers at once (measured on 20.10). So a file is
//! recognised by its [`Fingerprint`](crate::logs::Fingerprint) over restarts, and by device and inode only while its descriptor is held. Consumers (routes)
//! own positions; the table owns descriptors, the order of the files, and the [spool](crate::logs::spool).

mod chain;
mod compressed;
mod container;
mod file;
mod keep;
mod meta;
mod part;
mod signal;
mod table;
mod watch;

pub use container::LoggedContainer;
pub use file::LogFile;
pub(super) use meta::bytes;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::signal::{Bell, Kick};
use crate::logs::ContainerId;
use crate::telemetry::{Parts, TableMetrics};

/// What the table works with.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// The engine's `containers` directory, as this process reaches it.
    pub containers_dir: PathBuf,
    /// Where the spool lies; without it the descriptors of removed files stay open until they are acknowledged.
    pub spool_dir: Option<PathBuf>,
    /// Bound of the spool in bytes; without a spool directory, of what open descriptors keep of removed files.
    pub spool_bytes: u64,
    /// Whether inotify may be used; else directories are scanned.
    pub inotify: bool,
    /// The container that this process runs in: it and all tasks of its service are excluded.
    pub own_container: Option<ContainerId>,
    /// How many consumers there are; each goes by its index. With none, nothing is kept that leaves the disk.
    pub consumers: usize,
    /// Where the [feed](crate::logs::feed) puts what it takes from the engine's API; `None` without one.
    pub feed_dir: Option<PathBuf>,
}

/// Whose files a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The engine's own.
    Engine,
    /// Those that skep writes itself, of what it takes from the engine's API.
    Feed,
}

/// The table. Cheap to ask; the thread behind it does the work.
#[derive(Debug)]
pub struct FileTable {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The table of the feed's files.
    feed: Option<Arc<Self>>,
}

/// What the thread and the handle have in common.
#[derive(Debug)]
pub(super) struct Shared {
    containers: Mutex<Arc<Vec<Arc<LoggedContainer>>>>,
    is_first_scan_done: AtomicBool,
    /// The engine's files are out of reach, and its API is asked for all logs.
    is_without_files: AtomicBool,
    is_stopped: AtomicBool,
    beats: AtomicU64,
    bells: Arc<[Bell]>,
    kick: Arc<Kick>,
}

impl FileTable {
    /// Starts the thread. A directory that is missing is no error: the part `logs.files` says so, and works as soon as it appears.
    ///
    /// # Errors
    /// When the kernel gives no thread or no descriptor.
    pub fn start(options: TableOptions, parts: &Parts, metrics: TableMetrics) -> io::Result<Arc<Self>> {
        let bells: Arc<[Bell]> = (0..options.consumers).map(|_| Bell::default()).collect();
        let feed = match options.feed_dir.clone() {
            None => None,
            Some(dir) => {
                // Nothing leaves the feed before it is acknowledged.
                let options = TableOptions { containers_dir: dir, spool_dir: None, feed_dir: None, ..options.clone() };
                Some(Self::start_one(options, Kind::Feed, Arc::clone(&bells), parts, metrics.of_feed(), None)?)
            }
        };
        Self::start_one(options, Kind::Engine, bells, parts, metrics, feed)
    }

    fn start_one(
        options: TableOptions,
        kind: Kind,
        bells: Arc<[Bell]>,
        parts: &Parts,
        metrics: TableMetrics,
        feed: Option<Arc<Self>>,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            containers: Mutex::default(),
            is_first_scan_done: AtomicBool::new(false),
            is_without_files: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            bells,
            kick: Arc::new(Kick::new()?),
        });
        let table = table::Table::new(options, kind, Arc::clone(&shared), parts, metrics)?;
        let thread = std::thread::Builder::new().name("skep-files".to_owned()).spawn(move || table.run())?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)), feed }))
    }

    /// The table of the feed's files, which this one shows beside its own.
    #[must_use]
    pub const fn feed(&self) -> Option<&Arc<Self>> {
        self.feed.as_ref()
    }

    /// All containers with logs to read, as they are now.
    #[must_use]
    pub fn containers(&self) -> Arc<Vec<Arc<LoggedContainer>>> {
        let own = Arc::clone(&self.shared.containers.lock().unwrap_or_else(PoisonError::into_inner));
        let fed = self.feed.as_ref().map(|feed| feed.containers()).filter(|fed| !fed.is_empty());
        let Some(fed) = fed else { return own };
        // The engine's own files come first, where they can be read after all.
        let others = fed.iter().filter(|fed| !own.iter().any(|own| own.id() == fed.id())).cloned();
        Arc::new(own.iter().cloned().chain(others).collect())
    }

    /// Whether all directories have been seen once. Before that a container that is not there may yet come: nobody may conclude that it is gone.
    #[must_use]
    pub fn first_scan_done(&self) -> bool {
        let is_done = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        (is_done(&self.shared.is_first_scan_done) || is_done(&self.shared.is_without_files))
            && self.feed.as_ref().is_none_or(|feed| feed.first_scan_done())
    }

    /// The engine's files are out of reach for good: nobody waits for them, and that is no fault.
    pub fn go_without_files(&self) {
        self.shared.is_without_files.store(true, Ordering::Release);
        self.shared.kick.kick();
    }

    /// Sleeps until something changed for this consumer or [`FileTable::wake`] was called, also if that was since the last sleep. False when `timeout` passed,
    /// and for a consumer that does not exist.
    pub fn wait(&self, consumer: usize, timeout: Duration) -> bool {
        self.shared.bells.get(consumer).is_some_and(|bell| bell.wait(timeout))
    }

    /// Ends the sleep of a consumer, from another thread: a request has ended, the agent stops.
    pub fn wake(&self, consumer: usize) {
        if let Some(bell) = self.shared.bells.get(consumer) {
            bell.ring();
        }
    }

    /// Grows while the thread turns, at least once a second: for the watchdog.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }

    /// Ends the thread, when what would vanish is in the spool. Consumers are woken; what was published stays readable.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.kick.kick();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the file table's thread had panicked");
        }
        self.shared.bells.iter().for_each(Bell::ring);
        if let Some(feed) = &self.feed {
            feed.stop();
        }
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
