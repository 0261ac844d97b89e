//! The log side as a whole: the state directory, the file table, and a thread for each worker of each route.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ContainerId;
use super::feed::{self, Feed, FeedOptions};
use super::files::{FileTable, TableOptions};
use super::positions::Positions;
use super::route::{Route, RouteOptions};
use super::sink::{DeadLetter, Sink};
use super::steer::Settings;
use super::tail::Begin;
use crate::app::Surroundings;
use crate::config::{Backfill, Config, Fault};
use crate::docker::inventory::Inventory;
use crate::swarm::identity::own_container_id;
use crate::telemetry::{Metrics, Part, Parts};
use crate::watchdog::Watchdog;

/// How long a route that cannot be opened waits before it is tried again.
const ROUTE_RETRY: Duration = Duration::from_secs(2);

/// How long an engine that does not answer is waited for before its logs are looked for at the usual place.
const ENGINE_PATIENCE: Duration = Duration::from_secs(20);

/// Where the engine keeps its data unless it was told otherwise.
const USUAL_DATA_ROOT: &str = "/var/lib/docker";

/// The log side at work.
#[derive(Debug)]
pub struct Pipeline {
    stop: CancellationToken,
    sinks: Vec<Arc<Sink>>,
    table: Arc<Mutex<Option<Arc<FileTable>>>>,
    starter: Option<JoinHandle<Vec<JoinHandle<()>>>>,
    /// How long routes may take to end.
    grace: Arc<Mutex<Duration>>,
}

/// What the starter's thread needs.
struct Start {
    config: Config,
    options: Vec<(RouteOptions, Arc<Sink>)>,
    /// Where the engine said at the start that its data is.
    engine_root: Option<PathBuf>,
    /// There is no engine to wait for.
    no_engine: bool,
    inventory: watch::Receiver<Arc<Inventory>>,
    own_container: Option<ContainerId>,
    parts: Parts,
    metrics: Metrics,
    watchdog: Watchdog,
    stop: CancellationToken,
    table: Arc<Mutex<Option<Arc<FileTable>>>>,
    grace: Arc<Mutex<Duration>>,
    runtime: Handle,
}

impl Pipeline {
    /// Opens the sinks, and starts the table and the routes as soon as it is known where the log files are and no other agent works on the same state
    /// directory.
    ///
    /// # Errors
    /// A [`Fault`] for a route that cannot work as it is configured.
    pub fn start(
        config: &Config,
        surroundings: &Surroundings,
        inventory: watch::Receiver<Arc<Inventory>>,
        parts: &Parts,
        metrics: &Metrics,
        watchdog: &Watchdog,
    ) -> Result<Self, Fault> {
        let stop = CancellationToken::new();
        let table = Arc::new(Mutex::new(None));
        let grace = Arc::new(Mutex::new(config.shutdown_timeout));
        let part = parts.part("logs.state");
        if config.logs.routes.is_empty() {
            parts.part("logs").off("no route is given");
            return Ok(Self { stop, sinks: Vec::new(), table, starter: None, grace });
        }
        let own_container = own_container_id();
        let backfill = backfill(config, own_container.is_some(), &part);
        let steering = Settings::new(config.logs.multiline_gap);
        let mut options = Vec::new();
        let mut sinks = Vec::new();
        for spec in &config.logs.routes {
            let name = spec.name();
            let of_route = metrics.route(&name);
            let dead_letter = match &spec.dead_letter {
                Some(path) => DeadLetter::at(path, &name, of_route.clone()),
                None => DeadLetter::new(Some(&config.logs.state_dir), &name, of_route.clone()),
            };
            let opened = Sink::open_all(spec, parts, &of_route, &dead_letter).map_err(|why| Fault(format!("route {name}: {why}")))?;
            let positions = Arc::new(Positions::new(&name, spec.workers));
            for (worker, sink) in opened.into_iter().enumerate() {
                let sink = Arc::new(sink);
                let of = RouteOptions {
                    spec: spec.clone(),
                    worker,
                    consumer: sinks.len(),
                    positions: Arc::clone(&positions),
                    state: Some(config.logs.state_dir.clone()),
                    state_works: true,
                    backfill: backfill.clone(),
                    max_record_bytes: config.logs.max_record_bytes,
                    host_name: surroundings.node.name.clone(),
                    host_id: surroundings.node.id.clone(),
                    labels: config.logs.label.clone(),
                    steering: steering.clone(),
                };
                sinks.push(Arc::clone(&sink));
                options.push((of, sink));
            }
        }
        let start = Start {
            engine_root: surroundings.engine.as_ref().map(|engine| engine.docker_root_dir.clone()),
            no_engine: surroundings.engine_is_absent(),
            config: config.clone(),
            options,
            inventory,
            own_container,
            parts: parts.clone(),
            metrics: metrics.clone(),
            watchdog: watchdog.clone(),
            stop: stop.clone(),
            table: Arc::clone(&table),
            grace: Arc::clone(&grace),
            runtime: Handle::current(),
        };
        let starter = std::thread::Builder::new().name("logs".into()).spawn(move || start.run());
        let starter = starter.map_err(|error| Fault(format!("the system gives no thread: {error}")))?;
        Ok(Self { stop, sinks, table, starter: Some(starter), grace })
    }

    /// Reads secrets and certificates again.
    pub fn reload(&self) {
        for sink in &self.sinks {
            sink.reload();
        }
    }

    /// Ships what was written until now, for `grace` at most; spools what would vanish; ends all threads.
    pub fn stop(mut self, grace: Duration) {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
        self.stop.cancel();
        let table = || self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wake = |table: Option<Arc<FileTable>>| {
            if let Some(table) = table {
                (0..self.sinks.len()).for_each(|consumer| table.wake(consumer));
            }
        };
        wake(table());
        let routes = self.starter.take().and_then(|starter| starter.join().ok()).unwrap_or_default();
        wake(table());
        for route in routes {
            if route.join().is_err() {
                tracing::error!("a route's thread had panicked");
            }
        }
        if let Some(table) = table() {
            table.stop();
        }
    }
}

impl Start {
    fn run(mut self) -> Vec<JoinHandle<()>> {
        let part = self.parts.part("logs");
        let Some(lock) = self.lock() else { return Vec::new() };
        let Some(containers_dir) = self.find_containers_dir(&part) else { return Vec::new() };
        self.runtime.spawn(compare(
            containers_dir.clone(),
            self.config.clone(),
            self.inventory.clone(),
            self.parts.part("logs.place"),
            self.stop.clone(),
        ));
        let feed = self.feed_options(&containers_dir);
        let options = TableOptions {
            feed_dir: feed.as_ref().map(|feed| feed.dir.clone()),
            containers_dir,
            spool_dir: Some(self.config.logs.state_dir.join("spool")),
            spool_bytes: self.config.logs.spool_bytes,
            inotify: self.config.logs.inotify,
            own_container: self.own_container.clone(),
            consumers: self.options.len(),
        };
        let table = match FileTable::start(options, &self.parts, self.metrics.table()) {
            Ok(table) => table,
            Err(error) => {
                part.degraded(format!("the table of log files does not start: {error}"));
                return Vec::new();
            }
        };
        self.watchdog.watch("the table of log files", {
            let table = Arc::clone(&table);
            let stop = self.stop.clone();
            let turned = std::sync::atomic::AtomicU64::new(0);
            // While it stops it copies to the spool, and its end is bounded elsewhere.
            move || if stop.is_cancelled() { turned.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { table.beats() }
        });
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&table));
        part.ok();
        if let Some(feed) = feed {
            let part = self.parts.part("logs.feed");
            let (inventory, metrics) = (self.inventory.clone(), self.metrics.table());
            match Feed::start(feed, Arc::clone(&table), inventory, metrics, part.clone(), self.stop.clone()) {
                // It ends by itself when it is told to stop, and nothing of it is lost when it is not waited for.
                Ok(feed) => drop(feed),
                Err(error) => part.degraded(format!("the system gives no thread: {error}")),
            }
        }
        let state_works = lock.is_some();
        // The lock lives as long as the process.
        std::mem::forget(lock);
        let options = std::mem::take(&mut self.options).into_iter();
        options.filter_map(|(options, sink)| self.start_route(RouteOptions { state_works, ..options }, sink, &table)).collect()
    }

    /// How logs come from the engine's API. What is taken needs a place; without a state directory there is none.
    fn feed_options(&self, containers_dir: &Path) -> Option<FeedOptions> {
        let part = self.parts.part("logs.feed");
        if self.no_engine {
            part.off("there is no engine to ask");
            return None;
        }
        let dir = self.config.logs.state_dir.join("feed");
        let was_there = match feed::make_dir(&dir) {
            Ok(was_there) => was_there,
            Err(error) => {
                part.degraded(format!(
                    "{}: {error}; logs that only the engine's API gives (of drivers but json-file) are not shipped",
                    dir.display()
                ));
                return None;
            }
        };
        let begin = self.options.first().map(|(options, _)| &options.backfill);
        let since = match begin {
            _ if was_there => None,
            Some(Begin::Since(time)) => Some(*time),
            Some(Begin::Newest) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
                Some(i64::try_from(now).unwrap_or(i64::MAX))
            }
            _ => None,
        };
        Some(FeedOptions {
            host: self.config.docker.host.clone(),
            containers_dir: containers_dir.to_path_buf(),
            is_dir_told: self.config.docker.containers_dir.is_some(),
            dir,
            since,
            own_container: self.own_container.clone(),
        })
    }

    /// A route that cannot be opened now (its cursor cannot be read, its output cannot be cut) is tried again: what is wrong may go.
    fn start_route(&self, options: RouteOptions, sink: Arc<Sink>, table: &Arc<FileTable>) -> Option<JoinHandle<()>> {
        let name = options.spec.name();
        let part = self.parts.part(&format!("route:{name}"));
        let (stop, grace) = (self.stop.clone(), Arc::clone(&self.grace));
        let (table, runtime, metrics, parts) = (Arc::clone(table), self.runtime.clone(), self.metrics.route(&name), self.parts.clone());
        let of_thread = part.clone();
        let started = std::thread::Builder::new().name("route".into()).spawn(move || {
            while !stop.is_cancelled() {
                let work = AssertUnwindSafe(|| -> Result<(), String> {
                    let route =
                        Route::open(options.clone(), Arc::clone(&table), Arc::clone(&sink), runtime.clone(), metrics.clone(), &parts)?;
                    route.run(&stop, || *grace.lock().unwrap_or_else(PoisonError::into_inner));
                    Ok(())
                });
                // A panic leaves the cursor where it was: the route begins again there.
                match std::panic::catch_unwind(work) {
                    Ok(Ok(())) => return,
                    Ok(Err(why)) => of_thread.degraded(why),
                    Err(_) => {
                        of_thread.degraded("a fault of skep's own ended it; it begins again at what is acknowledged; please report it")
                    }
                }
                table.wait(options.consumer, ROUTE_RETRY);
            }
        });
        match started {
            Ok(thread) => Some(thread),
            Err(error) => {
                part.degraded(format!("the system gives no thread: {error}"));
                None
            }
        }
    }

    /// Waits until no other agent works on the state directory. Without a directory to lock there is nothing to be shared. `None` when it is time to stop.
    fn lock(&self) -> Option<Option<std::fs::File>> {
        let part = self.parts.part("logs.state");
        let directory = &self.config.logs.state_dir;
        let opened = std::fs::create_dir_all(directory).and_then(|()| std::fs::File::create(directory.join("lock")));
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                part.degraded(format!(
                    "{}: {error}; cursors live as long as the process, and a restart sends again what is still in the log files; set --state-dir to another directory",
                    directory.display()
                ));
                return Some(None);
            }
        };
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    part.ok();
                    return Some(Some(file));
                }
                Err(rustix::io::Errno::AGAIN) => {
                    part.degraded(format!("{}: another agent works here; logs wait until it has ended", directory.display()));
                }
                Err(error) => {
                    tracing::debug!("no lock on {}: {error}", directory.display());
                    return Some(Some(file));
                }
            }
            if self.stop.is_cancelled() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// The containers directory: told, or the engine's word. An engine that is slow to answer is waited for before the usual place is taken, which on some
    /// hosts is one that is left over.
    fn find_containers_dir(&mut self, part: &Part) -> Option<PathBuf> {
        if let Some(told) = self.config.docker.containers_dir.clone() {
            return Some(told);
        }
        let begun = Instant::now();
        loop {
            let engine = self.inventory.borrow().engine.as_ref().map(|engine| engine.docker_root_dir.clone());
            if let Some(root) = engine.or_else(|| self.engine_root.take()) {
                return Some(self.config.root.on_rootfs(&root.join("containers")));
            }
            let usual = usual_containers_dir(&self.config);
            match usual {
                Some(usual) if begun.elapsed() >= ENGINE_PATIENCE || self.no_engine => return Some(usual),
                Some(_) => {}
                None => part.degraded(
                    "no engine answers and its data is not at the usual place: set --docker.containers-dir to where its containers' log files are",
                ),
            }
            if self.stop.is_cancelled() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

/// Tells when the engine keeps its logs elsewhere than where they are read: it was asked too late, or moved.
async fn compare(read: PathBuf, config: Config, mut inventory: watch::Receiver<Arc<Inventory>>, part: Part, stop: CancellationToken) {
    if config.docker.containers_dir.is_some() {
        return;
    }
    let known = stop.run_until_cancelled(inventory.wait_for(|inventory| inventory.engine.is_some())).await;
    let Some(Ok(inventory)) = known else { return };
    let Some(engine) = &inventory.engine else { return };
    let said = config.root.on_rootfs(&engine.docker_root_dir.join("containers"));
    if said != read {
        part.degraded(format!(
            "logs are read from {}, and the engine keeps them at {}: a restart of skep takes the engine's word, --docker.containers-dir another",
            read.display(),
            said.display()
        ));
    }
}

/// The engine's containers directory as this process reaches it: told, or the engine's word, or the usual place when it is there.
#[must_use]
pub fn containers_dir(config: &Config, surroundings: &Surroundings) -> Option<PathBuf> {
    if let Some(told) = &config.docker.containers_dir {
        return Some(told.clone());
    }
    match &surroundings.engine {
        Some(engine) => Some(config.root.on_rootfs(&engine.docker_root_dir.join("containers"))),
        None => usual_containers_dir(config),
    }
}

fn usual_containers_dir(config: &Config) -> Option<PathBuf> {
    let usual = config.root.on_rootfs(&Path::new(USUAL_DATA_ROOT).join("containers"));
    usual.symlink_metadata().is_ok().then_some(usual)
}

/// Where a new route begins.
fn backfill(config: &Config, in_container: bool, part: &Part) -> Begin {
    match config.logs.backfill {
        Backfill::All => Begin::Oldest,
        Backfill::None => Begin::Newest,
        Backfill::Last(age) => {
            let since = SystemTime::now().checked_sub(age).and_then(|since| since.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            Begin::Since(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
        }
        Backfill::Auto => {
            let lasts = !in_container || outlives_container(&config.logs.state_dir);
            if !lasts {
                part.off(format!(
                    "{} goes with this container, so logs begin with what is written from now on; a volume there, or --logs.backfill=all, ships older lines",
                    config.logs.state_dir.display()
                ));
            }
            if lasts { Begin::Oldest } else { Begin::Newest }
        }
    }
}

/// Whether a directory is on a mount of its own, and not on the container's own layer or in memory.
fn outlives_container(directory: &Path) -> bool {
    let Ok(mounts) = procfs::process::Process::myself().and_then(|own| own.mountinfo()) else { return false };
    let of = mounts
        .into_iter()
        .filter(|mount| directory.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len());
    of.is_some_and(|mount| mount.mount_point != Path::new("/") && mount.fs_type != "tmpfs")
}
