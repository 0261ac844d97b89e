//! Logs from the engine's API, where its files give none: drivers that keep no json-file (`local`, `journald`, and those of which the engine keeps a copy to
//! read back), and engines whose files are out of reach.
//!
//! ```text
//! engine ─▶ follow (a task a container) ─▶ store: files in the state directory ─▶ a second table of files ─▶ routes, as for the engine's own files
//! ```
//!
//! The engine's log is the queue. What is taken of it ahead of the routes is bounded, and is not taken while they are behind.

mod follow;
mod store;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::ContainerId;
use super::files::FileTable;
use crate::docker::{Container, Inventory};
use crate::model::is_off;
use crate::telemetry::{Part, TableMetrics};

const SERVICE: &str = "com.docker.swarm.service.id";

/// What the feed works with.
#[derive(Debug)]
pub struct FeedOptions {
    /// The engine's address.
    pub host: String,
    /// Where its files would be.
    pub containers_dir: PathBuf,
    /// Whether somebody said that they are there.
    pub is_dir_told: bool,
    /// Where what is taken is put; the directory is there.
    pub dir: PathBuf,
    /// Where a container begins that was there before the first start, nanoseconds since the epoch; `None` for its oldest line.
    pub since: Option<i64>,
    /// The container that this process runs in: it and all tasks of its service are left out.
    pub own_container: Option<ContainerId>,
}

/// Makes the feed's directory, which has to be there before its files are looked for. Whether it was there: then a container that is not in it is a new one.
///
/// # Errors
/// What the system says.
pub fn make_dir(dir: &Path) -> std::io::Result<bool> {
    let was_there = dir.is_dir();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    Ok(was_there)
}

/// The feed at work: a thread, and in it a task for each container. Dropping it does not end it; `stop` does.
#[derive(Debug)]
pub struct Feed {
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts it. `table` is the one that routes read from, and has a feed.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        options: FeedOptions,
        table: Arc<FileTable>,
        inventory: watch::Receiver<Arc<Inventory>>,
        metrics: TableMetrics,
        part: Part,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let thread = std::thread::Builder::new().name("skep-feed".to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => LocalSet::new().block_on(&runtime, feed(options, table, inventory, metrics, part, stop)),
                Err(error) => part.degraded(format!("logs from the engine's API: {error}")),
            }
        })?;
        Ok(Self { thread: Some(thread) })
    }

    /// Waits for its end.
    pub fn join(mut self) {
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the logs from the engine's API had panicked");
        }
    }
}

/// A container that is followed.
struct Followed {
    runs: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn feed(
    options: FeedOptions,
    table: Arc<FileTable>,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    metrics: TableMetrics,
    part: Part,
    stop: CancellationToken,
) {
    let Some(of_feed) = table.feed().cloned() else { return };
    let known = stop.run_until_cancelled(inventory.wait_for(|inventory| inventory.synced_at.is_some())).await;
    let Some(Ok(first)) = known.map(|known| known.map(|first| Arc::clone(&first))) else { return };
    let has_files = has_files(&options, &first);
    if !has_files {
        table.go_without_files();
    }
    part.ok();
    let shared = Arc::new(follow::Shared {
        host: options.host.clone(),
        dir: options.dir.clone(),
        table: of_feed,
        metrics: metrics.clone(),
        since: options.since,
        stop: stop.clone(),
    });
    // Those whose driver gives nothing back, told once each.
    let silent: Arc<Mutex<Vec<ContainerId>>> = Arc::default();
    let no_reading: Arc<dyn Fn(&ContainerId) + Send + Sync> = Arc::new({
        let (silent, metrics) = (Arc::clone(&silent), metrics.clone());
        move |id: &ContainerId| {
            let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
            if !silent.contains(id) {
                tracing::warn!(container = ?id, "its log driver gives nothing back: nothing of it is shipped");
                silent.push(id.clone());
                metrics.containers("api", "no_reading", i64::try_from(silent.len()).unwrap_or(i64::MAX));
            }
        }
    });
    let mut followed: BTreeMap<ContainerId, Followed> = BTreeMap::new();
    // What an earlier run has taken of containers that are gone since is shipped before it goes.
    let mut left: Vec<ContainerId> = std::fs::read_dir(&options.dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| ContainerId::new(entry.file_name().to_str()?))
        .collect();
    loop {
        let now = Arc::clone(&inventory.borrow_and_update());
        let service = options.own_container.as_ref().and_then(|own| now.containers.get(own)?.labels.get(SERVICE).map(str::to_owned));
        followed.retain(|id, followed| {
            // The watch closes with the sender, and the task ends when all is shipped.
            now.containers.contains_key(id) && !followed.task.is_finished()
        });
        for id in left.drain(..).filter(|id| !now.containers.contains_key(id)) {
            let (gone, runs) = watch::channel(false);
            drop(gone);
            tokio::task::spawn_local(follow::follow(Arc::clone(&shared), id, runs, Arc::clone(&no_reading)));
        }
        for (id, container) in &now.containers {
            let is_own = options.own_container.as_ref() == Some(id)
                || service.as_ref().is_some_and(|service| container.labels.get(SERVICE) == Some(&**service));
            if is_own || !is_fed(container, has_files) {
                continue;
            }
            let is_running = container.is_running();
            match followed.get(id) {
                Some(followed) => {
                    followed.runs.send_if_modified(|known| std::mem::replace(known, is_running) != is_running);
                }
                None => {
                    let (sender, runs) = watch::channel(is_running);
                    let task = tokio::task::spawn_local(follow::follow(Arc::clone(&shared), id.clone(), runs, Arc::clone(&no_reading)));
                    followed.insert(id.clone(), Followed { runs: sender, task });
                }
            }
        }
        {
            let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.retain(|id| followed.contains_key(id));
            metrics.containers("api", "no_reading", i64::try_from(silent.len()).unwrap_or(i64::MAX));
        }
        let changed = stop.run_until_cancelled(inventory.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            break;
        }
    }
    for (_, followed) in followed {
        drop(followed.task.await);
    }
}

/// Whether the engine's files can be read here: the directory is there, and is this engine's.
fn has_files(options: &FeedOptions, inventory: &Inventory) -> bool {
    let is_of = |id: &ContainerId| options.containers_dir.join(id.as_str()).is_dir();
    let is_here = options.host.starts_with("unix://") || options.is_dir_told;
    options.containers_dir.is_dir() && (is_here || inventory.containers.is_empty() || inventory.containers.keys().any(is_of))
}

/// Whether a container's log comes from the API.
fn is_fed(container: &Container, has_files: bool) -> bool {
    // Before it was inspected nobody knows its driver.
    let is_switched_off = container.labels.get("skep.logs").is_some_and(is_off);
    match &*container.log_driver {
        _ if !container.inspected || is_switched_off => false,
        "none" => false,
        "json-file" | "" => !has_files,
        _ => true,
    }
}
