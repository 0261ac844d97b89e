//! The spool: what somebody has not acknowledged of files that are about to leave the disk, or have left it.
//!
//! ```text
//! <spool>/<container id>/<fingerprint>.<base offset>.log    bytes of the engine's file, from the base offset to its end
//! <spool>/<container id>/<fingerprint>.<base offset>.part   the same of a file that is still written, as far as it was
//! <spool>/<container id>/meta.json                          who wrote them, and the order of the files
//! ```
//!
//! A thread of its own does the copying, the counting and the removing. The file table only hands over jobs, at most one for each file, so the queue is as
//! long as there are files. Copying in the table's thread in small pieces would do for the reads, but one `fdatasync` on a busy disk takes seconds, and a
//! container that lives for 50 ms meanwhile would be missed.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::LogFile;
use super::{ContainerId, ContainerMeta, Fingerprint};
use crate::telemetry::TableMetrics;

const META: &str = "meta.json";
const PART: &str = "part";
const CHUNK: usize = 1 << 20;
/// How often it is told that lines are given up.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Copy a file that is final, or a part of one that is written.
    Copy(CopyJob),
    /// Remove a copy that everybody has acknowledged, and its directory with the last one.
    Remove(PathBuf),
    /// Count what is given up of a file, and remove its copy.
    GiveUp(Arc<LogFile>, u64, Option<PathBuf>),
    /// Close a file that is gone from the disk, which frees its blocks and may take long.
    Close(Arc<LogFile>),
}

/// A file to copy.
#[derive(Debug)]
pub(super) struct CopyJob {
    /// By which the result is known.
    pub(super) ticket: u64,
    /// Whose file it is.
    pub(super) container: ContainerId,
    /// The file.
    pub(super) log: Arc<LogFile>,
    /// The first offset that somebody needs.
    pub(super) from: u64,
    /// Who wrote it.
    pub(super) meta: Arc<ContainerMeta>,
    /// All files of the container, oldest first.
    pub(super) order: Vec<Fingerprint>,
    /// Set when it is not wanted any more.
    pub(super) is_cancelled: Arc<AtomicBool>,
    /// The file is still written: its whole lines are copied, if it was not written anew meanwhile.
    pub(super) is_part: bool,
}

/// What came of a [`Job::Copy`].
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) container: ContainerId,
    pub(super) ticket: u64,
    /// Where the copy stands; none when the job was cancelled.
    pub(super) result: io::Result<Option<PathBuf>>,
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Spool {
    jobs: Sender<Job>,
    results: Receiver<Copied>,
    /// Kept by itself, so that `stop` can wait for it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Spool {
    /// Starts the thread. `done` is called after each result. Without a directory it only counts and closes.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(dir: Option<PathBuf>, metrics: TableMetrics, done: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (jobs, work) = mpsc::channel();
        let (tell, results) = mpsc::channel();
        let worker = Worker { dir, metrics, metas: HashMap::new(), told: None };
        let thread = std::thread::Builder::new().name("skep-spool".to_owned()).spawn(move || worker.run(&work, &tell, &done))?;
        Ok(Self { jobs, results, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn send(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("the spool's thread has ended: what should be kept is lost with its descriptor");
        }
    }

    /// The results since the last call.
    pub(super) fn results(&self) -> Vec<Copied> {
        self.results.try_iter().collect()
    }

    /// Lets the thread finish its jobs, and waits for that.
    pub(super) fn finish(self) {
        drop(self.jobs);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the spool's thread had panicked");
        }
    }
}

struct Worker {
    dir: Option<PathBuf>,
    metrics: TableMetrics,
    /// What stands in each `meta.json`, so that it is not written anew with every file.
    metas: HashMap<ContainerId, Vec<u8>>,
    /// When it was last told that lines were given up.
    told: Option<Instant>,
}

impl Worker {
    fn run(mut self, work: &Receiver<Job>, tell: &Sender<Copied>, done: &impl Fn()) {
        while let Ok(job) = work.recv() {
            match job {
                Job::Copy(job) => {
                    let result = self.copy(&job);
                    let Copied { container, ticket, result } = Copied { container: job.container.clone(), ticket: job.ticket, result };
                    // The file is closed before the table hears of it: its room is free then.
                    drop(job);
                    if tell.send(Copied { container, ticket, result }).is_err() {
                        tracing::debug!("a copy was made while the table ended");
                    }
                    done();
                }
                Job::Remove(path) => self.remove(&path),
                Job::GiveUp(log, from, copy) => {
                    let end = log.len().unwrap_or(from);
                    let lines = count_lines(&log, from).unwrap_or_else(|_| {
                        self.metrics.file_error("read");
                        0
                    });
                    self.metrics.spool_given_up(end.saturating_sub(from), lines);
                    // Counted each time, told now and again: at the bound this comes with every rotation.
                    if self.told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                        self.told = Some(Instant::now());
                        tracing::warn!(
                            lines,
                            "lines that no route had shipped were given up at the bound of the spool: a larger --logs.spool-bytes keeps more"
                        );
                    }
                    if let Some(copy) = copy {
                        self.remove(&copy);
                    }
                }
                Job::Close(log) => drop(log),
            }
        }
    }

    fn copy(&mut self, job: &CopyJob) -> io::Result<Option<PathBuf>> {
        let Some(root) = self.dir.clone() else { return Err(io::Error::new(io::ErrorKind::NotFound, "there is no spool directory")) };
        if job.is_cancelled.load(Ordering::Acquire) {
            return Ok(None);
        }
        let dir = root.join(job.container.as_str());
        if !fs::metadata(&dir).is_ok_and(|data| data.is_dir()) {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            sync_dir(&root)?;
            self.metas.remove(&job.container);
        }
        self.describe(&dir, job)?;
        let end = if job.is_part { PART } else { "log" };
        let path = dir.join(format!("{}.{}.{end}", job.log.fingerprint(), job.from));
        let temporary = path.with_extension(format!("{end}.tmp"));
        let copied = copy_bytes(job, &temporary);
        if !matches!(copied, Ok(true)) {
            fs::remove_file(&temporary).ok();
            self.tidy(&dir);
            return copied.map(|_| None);
        }
        fs::rename(&temporary, &path)?;
        sync_dir(&dir)?;
        Ok(Some(path))
    }

    /// Writes `meta.json`, when it is not there as it should be.
    fn describe(&mut self, dir: &Path, job: &CopyJob) -> io::Result<()> {
        let text = serde_json::to_vec(&Description::new(&job.meta, &job.order))?;
        if self.metas.get(&job.container) == Some(&text) {
            return Ok(());
        }
        let temporary = dir.join("meta.json.tmp");
        let mut file = create(&temporary)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&temporary, dir.join(META))?;
        self.metas.insert(job.container.clone(), text);
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        let Some(dir) = path.parent() else { return };
        let removed = fs::remove_file(path);
        if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            self.metrics.file_error("spool");
            return;
        }
        self.tidy(dir);
    }

    /// Removes a container's directory when no copy is left in it.
    fn tidy(&mut self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let is_copy = |name: &OsStr| Path::new(name).extension().is_some_and(|end| end == "log" || end == PART);
        let is_last = !entries.flatten().any(|entry| is_copy(&entry.file_name()));
        if is_last {
            if let Some(id) = dir.file_name().and_then(OsStr::to_str).and_then(ContainerId::new) {
                self.metas.remove(&id);
            }
            let emptied = fs::remove_file(dir.join(META)).and_then(|()| fs::remove_dir(dir));
            if emptied.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                self.metrics.file_error("spool");
            }
        }
    }
}

/// Copies from the offset to the end and makes it last. False when it was cancelled meanwhile.
fn copy_bytes(job: &CopyJob, to: &Path) -> io::Result<bool> {
    let mut file = create(to)?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = job.from;
    let mut whole = job.from;
    loop {
        if job.is_cancelled.load(Ordering::Acquire) {
            return Ok(false);
        }
        let count = job.log.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        let read = buffer.get(..count).unwrap_or_default();
        file.write_all(read)?;
        if let Some(last) = memchr::memrchr(b'\n', read).filter(|_| job.is_part) {
            whole = offset + last as u64 + 1;
        }
        offset += count as u64;
    }
    if job.is_part {
        // What was read since it was written anew is of another file.
        if whole == job.from || job.log.is_overwritten() {
            return Ok(false);
        }
        file.set_len(whole - job.from)?;
    }
    file.sync_data()?;
    Ok(true)
}

/// Logs are nobody else's business.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn count_lines(log: &LogFile, mut offset: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut lines = 0;
    loop {
        let count = log.read_at(&mut buffer, offset)?;
        if count == 0 {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', buffer.get(..count).unwrap_or_default()).count() as u64;
        offset += count as u64;
    }
}

/// `meta.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    version: u32,
    name: String,
    image: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    host_name: String,
    labels: BTreeMap<String, String>,
    tty: bool,
    log_driver: String,
    max_file: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_size: Option<u64>,
    running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logspout: Option<String>,
    /// All files of the container when this was written, oldest first; clocks step, so their times give no order.
    files: Vec<String>,
}

impl Description {
    fn new(meta: &ContainerMeta, order: &[Fingerprint]) -> Self {
        let ContainerMeta { name, image, host_name, labels, tty, log_driver, max_file, max_size, running, logspout } = meta.clone();
        Self {
            version: 1,
            name,
            image,
            host_name,
            labels,
            tty,
            log_driver,
            max_file,
            max_size,
            running,
            logspout,
            files: order.iter().map(ToString::to_string).collect(),
        }
    }

    fn meta(self) -> ContainerMeta {
        let Self { name, image, host_name, labels, tty, log_driver, max_file, max_size, running, logspout, .. } = self;
        ContainerMeta { name, image, host_name, labels, tty, log_driver, max_file, max_size, running, logspout }
    }
}

/// What the spool holds of one container.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) container: ContainerId,
    /// Who wrote it; none when `meta.json` cannot be read.
    pub(super) meta: Option<ContainerMeta>,
    /// Oldest first.
    pub(super) files: Vec<StoredFile>,
}

/// A copy in the spool.
#[derive(Debug)]
pub(super) struct StoredFile {
    pub(super) path: PathBuf,
    pub(super) log: LogFile,
    /// Its size.
    pub(super) bytes: u64,
    /// When it was copied, as far as the file system tells.
    pub(super) written: std::time::SystemTime,
}

/// Reads what earlier runs left, and removes what they did not finish. Errors are counted as `spool`, and what they concern is left as it is.
pub(super) fn load(dir: &Path, metrics: &TableMetrics) -> Vec<Stored> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                metrics.file_error("spool");
            }
            return Vec::new();
        }
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let Some(container) = entry.file_name().to_str().and_then(ContainerId::new) else { continue };
        match load_container(&entry.path(), container) {
            Ok(stored) if stored.files.is_empty() => {
                // An empty directory: a run that ended between the removal of a file and that of its directory.
                fs::remove_file(entry.path().join(META)).ok();
                fs::remove_dir(entry.path()).ok();
            }
            Ok(stored) => {
                if stored.meta.is_none() {
                    metrics.file_error("spool");
                }
                all.push(stored);
            }
            Err(_) => metrics.file_error("spool"),
        }
    }
    all
}

fn load_container(dir: &Path, container: ContainerId) -> io::Result<Stored> {
    let description: Option<Description> = fs::read(dir.join(META)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let mut files: Vec<StoredFile> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".tmp") {
            fs::remove_file(&path)?;
            continue;
        }
        let is_part = name.ends_with(".part");
        let stem = name.strip_suffix(if is_part { ".part" } else { ".log" });
        let Some((fingerprint, base)) = stem.and_then(parse_name) else { continue };
        let file = File::open(&path)?;
        let data = file.metadata()?;
        let (bytes, written) = (data.len(), data.modified()?);
        let log = LogFile::new(file, fingerprint, base, true);
        let stored = StoredFile { path, log: if is_part { log.into_part() } else { log }, bytes, written };
        // Two whole copies of one file end where it ended; the one that begins earlier has all of it. Of two parts the longer is the newer.
        match files.iter_mut().find(|other| other.log.fingerprint() == fingerprint) {
            Some(other) => {
                let rank = |file: &StoredFile| {
                    let end = if file.log.is_part() { file.log.base() + file.bytes } else { u64::MAX };
                    (end, std::cmp::Reverse(file.log.base()))
                };
                let less = if rank(other) >= rank(&stored) { stored } else { std::mem::replace(other, stored) };
                fs::remove_file(&less.path)?;
            }
            None => files.push(stored),
        }
    }
    let order: HashMap<Fingerprint, usize> = description
        .iter()
        .flat_map(|description| description.files.iter().enumerate())
        .filter_map(|(at, name)| Some((name.parse().ok()?, at)))
        .collect();
    files.sort_by_key(|file| (order.get(&file.log.fingerprint()).copied().unwrap_or(usize::MAX), file.log.fingerprint().first_time));
    Ok(Stored { container, meta: description.map(Description::meta), files })
}

/// Opens a copy, with the fingerprint and the base that its name tells.
///
/// # Errors
/// What the kernel says; `InvalidData` for a name that is none of the spool's.
pub(super) fn open(path: &Path) -> io::Result<LogFile> {
    let name = path.file_stem().and_then(OsStr::to_str).and_then(parse_name);
    let (fingerprint, base) = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let log = LogFile::new(File::open(path)?, fingerprint, base, true);
    Ok(if path.extension() == Some(OsStr::new(PART)) { log.into_part() } else { log })
}

fn parse_name(stem: &str) -> Option<(Fingerprint, u64)> {
    let (fingerprint, base) = stem.rsplit_once('.')?;
    Some((fingerprint.parse().ok()?, base.parse().ok()?))
}
