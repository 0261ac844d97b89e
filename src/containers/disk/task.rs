//! The thread that counts. Whatever hangs (a file system, an engine), it is this thread only: the numbers grow older, and their time says so.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plan::{By, Outcome, Plan};
use super::{Disk, DiskMode, DiskOptions, DiskTable, Layer, layer};
use crate::docker::{Container, Engine, EngineError, Inventory};
use crate::host::usage::{Counted, FileSystem, Mark, Stopped, Walk, file_system_of};
use crate::host::{ReadError, Reader, Root};
use crate::logs::ContainerId;
use crate::telemetry::Metrics;

/// So many names are looked at between two rests: a millisecond, where the kernel knows them.
const STEP: usize = 512;
/// The longest that the engine may count. It is charged as work, so that an engine that is this slow is asked once in 50 minutes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is waited for the disk counts a tenth of what the processor does: a hundredth of a processor, and a tenth of the disk's time.
const DISK: u32 = 10;
/// The names of devices are looked up again after this time.
const NAMES: Duration = Duration::from_secs(600);
/// A thread that walks and asks; a debug build needs more than a tenth of it.
const STACK: usize = 1 << 20;

/// Counts what containers take of the disk. One for each agent.
#[derive(Debug)]
pub struct DiskTask {
    inventory: watch::Receiver<Arc<Inventory>>,
    table: DiskTable,
    host: String,
    containers_dir: Option<PathBuf>,
    reader: Reader,
    root: Arc<Root>,
    metrics: Metrics,
    plan: Plan,
    began: Instant,
    patience: Duration,
    engine: Option<Engine>,
    /// Layers stay where they are as long as their containers are there, running or not.
    layers: BTreeMap<ContainerId, PathBuf>,
    /// Which containers the plan is of.
    followed: Option<Arc<Inventory>>,
    devices: HashMap<(u32, u32), Arc<str>>,
    devices_from: Instant,
    stop: CancellationToken,
}

impl DiskTask {
    /// A task that counts the containers of `inventory` into the table that it gives. `host` is the engine's address, `containers_dir` where its containers' log
    /// files are, when that was told.
    #[must_use]
    pub fn new(
        inventory: watch::Receiver<Arc<Inventory>>,
        host: String,
        containers_dir: Option<PathBuf>,
        root: Arc<Root>,
        options: DiskOptions,
        metrics: Metrics,
    ) -> (Self, DiskTable) {
        let table = DiskTable::default();
        let walks = matches!(options.mode, DiskMode::Auto | DiskMode::Walk);
        let asks = matches!(options.mode, DiskMode::Auto | DiskMode::Engine);
        let task = Self {
            inventory,
            table: table.clone(),
            host,
            containers_dir,
            reader: Reader::new(Arc::clone(&root)),
            root,
            metrics,
            plan: Plan::new(options.interval, walks, asks),
            began: Instant::now(),
            patience: PATIENCE,
            engine: None,
            layers: BTreeMap::new(),
            followed: None,
            devices: HashMap::new(),
            devices_from: Instant::now(),
            stop: CancellationToken::new(),
        };
        (task, table)
    }

    /// The same task with another limit for one question to the engine; whole seconds.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the thread, which runs until `stop`. Nobody waits for its end: it may hang with a file system.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut self, runtime: Handle, stop: CancellationToken) -> io::Result<()> {
        self.stop = stop;
        // The agent's own may be taken down while this thread waits, when the start fails later on, and a timer of it must not be asked then.
        let waits = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("skep-disk".to_owned()).stack_size(STACK).spawn(move || self.run(&runtime, &waits)).map(drop)
    }

    fn run(mut self, runtime: &Handle, waits: &Runtime) {
        while !self.stop.is_cancelled() {
            let inventory = self.inventory.borrow_and_update().clone();
            if !self.followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &inventory)) {
                let work = Work::begin();
                self.follow(&inventory);
                self.worked(&work);
                self.followed = Some(inventory.clone());
            }
            match self.plan.next(self.now()) {
                Ok((id, by)) => self.turn(&inventory, &id, by, runtime),
                Err(wait) => {
                    let (stop, inventory) = (&self.stop, &mut self.inventory);
                    waits.block_on(async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep(wait) => {}
                            changed = inventory.changed() => if changed.is_err() { stop.cancelled().await },
                        }
                    });
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes over which containers there are; what was known of the others is forgotten.
    fn follow(&mut self, inventory: &Inventory) {
        let wanted = |id: &ContainerId| inventory.containers.get(id).is_some_and(|container| !container.is_excluded);
        let all = inventory.containers.values().filter(|container| !container.is_excluded);
        let now = self.now();
        self.plan.follow(now, wanted, all.map(|container| (&container.id, container.pid)));
        self.layers.retain(|id, _| wanted(id));
        self.table.containers.send_if_modified(|table| {
            let before = table.len();
            table.retain(|id, _| wanted(id));
            table.len() != before
        });
    }

    /// One container's turn.
    fn turn(&mut self, inventory: &Inventory, id: &ContainerId, by: By, runtime: &Handle) {
        let Some(container) = inventory.containers.get(id) else { return };
        let data_root = inventory.engine.as_ref().map(|engine| engine.docker_root_dir.clone()).unwrap_or_default();
        let layer = match by {
            By::Walk => self.walk_layer(container, &data_root),
            By::Engine => self.ask(id, runtime).map(|layer| (layer, None)),
        };
        let outcome = match &layer {
            Ok(_) => Outcome::Counted,
            Err(outcome) => *outcome,
        };
        let (now, runs) = (self.now(), container.is_running());
        let is_over = self.plan.took(id, now, outcome, runs);
        // Where the engine is to be asked yet, what is known of the layer stays until it has answered.
        let layer = if is_over { layer } else { layer.map_err(|_| Outcome::Failed) };
        self.keep(id, &data_root, layer);
    }

    /// Puts into the table what is known now. A layer that could not be counted this time stays as it was; one that may not be counted at all has no number.
    fn keep(&mut self, id: &ContainerId, data_root: &Path, layer: Result<(Layer, Option<FileSystem>), Outcome>) {
        let folder = self.containers_dir.clone().unwrap_or_else(|| self.root.on_rootfs(&data_root.join("containers"))).join(id.as_str());
        let mark: Mark = {
            let id = id.clone();
            Box::new(move |name| layer::is_log(id.as_str(), name))
        };
        let folder = self.count(&folder, Some(mark));
        let before = self.table.containers.borrow().get(id).and_then(|disk| disk.layer);
        let (layer, file_system) = match layer {
            Ok((layer, file_system)) => (Some(layer), file_system),
            Err(Outcome::Refused) => (None, None),
            Err(_) => (before, None),
        };
        let file_system = file_system.or_else(|| file_system_of(&self.root.on_rootfs(data_root)).ok());
        let file_system = file_system.or(folder.as_ref().ok().map(|(_, file_system)| *file_system));
        // Where nothing is known of the device nothing was counted on it either.
        let device = file_system.map(|of| self.device(id, data_root, of.device)).unwrap_or_default();
        let disk = Disk { device, layer, folder: folder.ok().map(|(counted, _)| counted), file_system };
        self.table.containers.send_modify(|table| drop(table.insert(id.clone(), disk)));
    }

    /// Counts the layer, where it can be found and entered.
    fn walk_layer(&mut self, container: &Container, data_root: &Path) -> Result<(Layer, Option<FileSystem>), Outcome> {
        let work = Work::begin();
        let upper = self.find_layer(container, data_root);
        self.worked(&work);
        let upper = upper?;
        match self.count(&self.root.on_rootfs(&upper), None) {
            Ok((counted, file_system)) => {
                let layer = Layer { bytes: counted.bytes, inodes: Some(counted.inodes), source: "walk", time: epoch() };
                Ok((layer, Some(file_system)))
            }
            Err(Stopped::Refused | Stopped::TooLarge | Stopped::Gone) => Err(Outcome::Refused),
            Err(Stopped::Failed(_)) => Err(Outcome::Failed),
        }
    }

    /// Where the writable layer lies on the host: by the container's own process, once it was seen to be the container's.
    fn find_layer(&mut self, container: &Container, data_root: &Path) -> Result<PathBuf, Outcome> {
        if let Some(known) = self.layers.get(&container.id) {
            return Ok(known.clone());
        }
        let Some(pid) = container.pid else {
            // One that has ended may never have another.
            return Err(if matches!(&*container.state, "exited" | "dead") { Outcome::Refused } else { Outcome::Waits });
        };
        let process = self.reader.process(pid).map_err(|error| without(&error))?;
        let groups = self.reader.of_process(&process, "cgroup").map_err(|error| without(&error))?;
        memchr::memmem::find(groups, container.id.as_str().as_bytes()).ok_or(Outcome::Refused)?;
        let mounts = self.reader.of_process(&process, "mountinfo").map_err(|error| without(&error))?;
        let upper = layer::upper_directory(mounts, data_root).ok_or(Outcome::Refused)?;
        self.layers.insert(container.id.clone(), upper.clone());
        Ok(upper)
    }

    /// Counts a directory to its end, with rests.
    fn count(&mut self, path: &Path, mark: Option<Mark>) -> Result<(Counted, FileSystem), Stopped> {
        let result = self.steps(path, mark);
        let state = match &result {
            Ok(_) => "done",
            Err(Stopped::Gone) => "gone",
            Err(Stopped::Refused) => "refused",
            Err(Stopped::TooLarge) => "too_large",
            Err(Stopped::Failed(_)) => "failed",
        };
        self.metrics.disk_walks.with_label_values(&[state]).inc();
        result
    }

    fn steps(&mut self, path: &Path, mark: Option<Mark>) -> Result<(Counted, FileSystem), Stopped> {
        if !self.rest() {
            return Err(Stopped::Gone);
        }
        let mut work = Work::begin();
        let walk = Walk::begin(path, mark).and_then(|walk| walk.file_system().map_err(Stopped::Failed).map(|of| (walk, of)));
        let (mut walk, file_system) = walk.inspect_err(|_| self.worked(&work))?;
        loop {
            let counted = walk.step(STEP);
            self.worked(&work);
            if let Some(counted) = counted? {
                return Ok((counted, file_system));
            }
            if !self.rest() {
                return Err(Stopped::Gone);
            }
            work = Work::begin();
        }
    }

    fn worked(&mut self, work: &Work) {
        let cost = work.cost();
        self.metrics.disk_walk_seconds.inc_by(cost.as_secs_f64());
        let now = self.now();
        self.plan.walk.spend(now, cost);
    }

    /// Rests before a step of a walk, if it is time to. False when the agent stops.
    fn rest(&self) -> bool {
        const LOOK: Duration = Duration::from_millis(500);
        while !self.stop.is_cancelled() {
            let left = self.plan.walk.rests_until().saturating_sub(self.now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
        false
    }

    /// Asks the engine how large the layer is.
    fn ask(&mut self, id: &ContainerId, runtime: &Handle) -> Result<Layer, Outcome> {
        let begin = Instant::now();
        let stop = self.stop.clone();
        let (known, host, patience) = (self.engine.take(), &self.host, self.patience);
        let answer = runtime.block_on(async {
            let asked = async {
                let engine = match known {
                    Some(engine) => engine,
                    None => Engine::connect_within(host, patience).await?,
                };
                let size = engine.layer_size(id.as_str()).await?;
                Ok::<_, EngineError>((engine, size))
            };
            stop.run_until_cancelled(asked).await
        });
        let (now, cost) = (self.now(), begin.elapsed());
        self.plan.ask.spend(now, cost);
        self.metrics.docker_sizes.inc();
        self.metrics.docker_size_seconds.inc_by(cost.as_secs_f64());
        match answer {
            Some(Ok((engine, size))) => {
                self.engine = Some(engine);
                let bytes = size.ok_or(Outcome::Failed)?;
                Ok(Layer { bytes, inodes: None, source: "engine", time: epoch() })
            }
            Some(Err(error)) => {
                self.metrics.docker_errors.with_label_values(&[error.call()]).inc();
                Err(Outcome::Failed)
            }
            None => Err(Outcome::Failed),
        }
    }

    /// What the host calls the device of a file system. A number where the host's mounts are not to be had: never nothing, for then two would be one.
    fn device(&mut self, id: &ContainerId, data_root: &Path, number: (u32, u32)) -> Arc<str> {
        if self.devices_from.elapsed() >= NAMES {
            self.devices.clear();
            self.devices_from = Instant::now();
        }
        if let Some(known) = self.devices.get(&number) {
            return Arc::clone(known);
        }
        let path = self.layers.get(id).map_or(data_root, PathBuf::as_path);
        let name = self.reader.proc("1/mountinfo").ok().and_then(|mounts| layer::device(mounts, path));
        let name: Arc<str> = name.unwrap_or_else(|| format!("{}:{}", number.0, number.1)).into();
        self.devices.insert(number, Arc::clone(&name));
        name
    }
}

/// What follows where a file of a container's process cannot be read: the process has ended, or it may not be looked at. One that waits for its parent is in no
/// mount namespace any more (`EINVAL`, `fs/proc_namespace.c`).
fn without(error: &ReadError) -> Outcome {
    let has_no_mounts = rustix::io::Errno::from_io_error(&error.source) == Some(rustix::io::Errno::INVAL);
    if error.is_absent() || has_no_mounts { Outcome::Waits } else { Outcome::Refused }
}

/// A piece of work of this thread.
struct Work {
    wall: Instant,
    processor: Duration,
}

impl Work {
    fn begin() -> Self {
        Self { wall: Instant::now(), processor: processor_time() }
    }

    /// What it took of the processor, or of the disk if that was much more.
    fn cost(&self) -> Duration {
        processor_time().saturating_sub(self.processor).max(self.wall.elapsed() / DISK)
    }
}

fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn epoch() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
