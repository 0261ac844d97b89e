//! Wiring only: builds the parts, starts them, stops them in order.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::collect;
use crate::config::{Config, Fault, flags, layers};
use crate::containers::disk::{DiskMode, DiskTask};
use crate::containers::ledger::{Endings, Ledger};
use crate::containers::{ContainersCollector, ContainersOptions};
use crate::docker::container::Labelling;
use crate::docker::inventory::InventoryTask;
use crate::docker::{Engine, EngineError, EngineInfo};
use crate::exposition::{Group, Member, Scraper};
use crate::host::{self, Reader, Root};
use crate::http::{self, Guard, Pages};
use crate::logs::pipeline::Pipeline;
use crate::swarm::identity::own_container_id;
use crate::swarm::node::NodeIdentity;
use crate::telemetry::{Metrics, OwnCollector, Parts, log};
use crate::watchdog::Watchdog;

/// How long a start waits for the engine to tell who it is. Without an answer it goes on: the inventory is tried again for ever.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// After so long everything has run for the first time.
const SETTLED: Duration = Duration::from_secs(60);

/// How often the host's trees are looked at.
const LOOK_AT_TREES: Duration = Duration::from_secs(30);

/// What a stop may take beyond the sinks' time: the spool's last copies.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// The sockets' runtime: two workers are plenty for an agent, on a node of any size.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("socket").enable_all().build()
}

/// What was found at the start and decides names: the engine, if it answered, and this node.
#[derive(Debug)]
pub struct Surroundings {
    /// What the engine said of itself.
    pub engine: Option<EngineInfo>,
    /// Why it said nothing.
    pub engine_fault: Option<String>,
    /// Who this node is.
    pub node: NodeIdentity,
    engine_absent: bool,
    unknown_variables: Vec<String>,
}

impl Surroundings {
    /// Whether nothing is where the engine should be: then it is not waited for.
    #[must_use]
    pub fn engine_is_absent(&self) -> bool {
        self.engine_absent
    }

    /// Asks the engine once, and decides who this node is.
    ///
    /// # Errors
    /// When what was told of the node contradicts the engine.
    pub async fn find(config: &Config) -> Result<Self, Fault> {
        let asked = async {
            let engine = Engine::connect(&config.docker.host).await?;
            engine.info().await
        };
        let mut engine_absent = false;
        let (engine, engine_fault) = match tokio::time::timeout(FIRST_ANSWER, asked).await {
            Ok(Ok(info)) => (Some(info), None),
            Ok(Err(error)) => {
                engine_absent = matches!(error, EngineError::NotThere { .. });
                (None, Some(error.to_string()))
            }
            Err(_) => (None, Some(format!("{} does not answer", config.docker.host))),
        };
        let mut reader = Reader::new(Arc::new(config.root.clone()));
        let node = NodeIdentity::decide(config, engine.as_ref(), &mut reader).map_err(Fault)?;
        Ok(Self {
            engine,
            engine_fault,
            node,
            engine_absent,
            unknown_variables: layers::unknown_variables(std::env::vars().map(|(name, _)| name)),
        })
    }
}

/// All collectors with their groups, in the order of the exposition.
///
/// # Errors
/// One sentence for each flag that cannot be taken.
pub fn collectors(config: &Config, node: &NodeIdentity) -> Result<Vec<Member>, Fault> {
    let mut settings = config.settings.clone();
    // In a container the kernel's answer to uname is the container's name.
    settings.set("node-name", vec![node.name.clone()]);
    let built = collect::build(&settings).map_err(|faults| Fault(faults.join("; ")))?;
    Ok(built.into_iter().map(|(name, collector)| (name, Group::Node, collector)).collect())
}

/// Works until a signal tells to stop. `inherited` are the sockets that were handed over, for `web.systemd-socket`. `reread` lays flags, environment and file over each other anew, for SIGHUP.
///
/// # Errors
/// A [`Fault`] for what cannot work as it is configured. Nothing that may come back is one.
pub async fn run(config: Config, inherited: Vec<OwnedFd>, reread: &(dyn Fn() -> Result<Config, Fault> + Send + Sync)) -> Result<(), Fault> {
    let system = |error: std::io::Error| Fault(format!("the system refuses: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system)?;
    raise_descriptor_limit();

    let parts = Parts::default();
    let surroundings = Surroundings::find(&config).await?;
    let node = surroundings.node.clone();
    let constant = Arc::new(node.label(&config));
    let label = config.host_label.as_deref().map(|name| (name, &*node.name));
    let metrics = Metrics::labelled(label).map_err(|error| Fault(format!("skep's own metrics: {error}")))?;

    for part in ["docker", "logs"] {
        parts.part(part).starting();
    }
    let stop = CancellationToken::new();
    let labelling = Labelling::new(config.settings.one("containers.label")).map_err(|error| Fault(format!("containers.label: {error}")))?;
    let (inventory_task, inventory) = InventoryTask::new(config.docker.host.clone(), labelling, &parts, metrics.clone());
    let mut inventory_task = inventory_task.expecting_node(node.id.clone());
    let root = Arc::new(config.root.clone());
    let mut all = collectors(&config, &node)?;
    let containers = config.settings.is_on("collector.containers");
    let mut endings = None;
    if containers {
        let boot = boot_id(&root);
        let ledger = Ledger::open(&config.logs.state_dir, &boot, parts.part("containers.ledger"), metrics.clone());
        inventory_task = inventory_task.with_witness(Arc::new(ledger.clone()));
        let part = parts.part("containers.endings");
        endings = Some(Endings::start(Arc::clone(&root), inventory.clone(), ledger.clone(), part).map_err(system)?);
        let options = ContainersOptions { groups: config.docker.groups, ..ContainersOptions::default() };
        let mut collector = ContainersCollector::new(inventory.clone(), options).with_ledger(ledger);
        tokio::spawn(collector.networks().follow(inventory.clone()));
        let docker = &config.docker;
        if docker.disk.mode != DiskMode::Off {
            let (told, root) = (docker.containers_dir.clone(), Arc::clone(&root));
            let (task, table) = DiskTask::new(inventory.clone(), docker.host.clone(), told, root, docker.disk, metrics.clone());
            task.start(tokio::runtime::Handle::current(), stop.clone()).map_err(system)?;
            collector = collector.with_disk(table);
        }
        all.push(("containers", Group::Containers, Box::new(collector)));
    }
    if config.web.own_metrics {
        all.push(("skep", Group::Skep, Box::new(OwnCollector::new(metrics.clone(), parts.clone()))));
    }
    let scraper = Scraper::start(all, &root, &constant, config.manner, metrics.clone(), &parts).map_err(system)?;

    let guard = Guard::open(config.web.file.as_deref(), parts.part("web.config"), metrics.clone()).map_err(Fault)?;
    for note in guard.notes() {
        tracing::warn!("web.config.file: {note}");
    }
    let listeners = match config.web.systemd_socket {
        true => http::adopt(inherited),
        false => http::bind(&config.web.listen).await,
    };
    let listeners = listeners.map_err(Fault)?;
    let addresses: Vec<String> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).map(|address| address.to_string()).collect();
    let pages = Arc::new(Pages {
        scraper: Arc::clone(&scraper),
        parts: parts.clone(),
        node: node.clone(),
        inventory: inventory.clone(),
        metrics: metrics.clone(),
        telemetry_path: config.web.telemetry_path.clone(),
        scrape_timeout: config.scrape_timeout,
        routes: config.logs.routes.iter().map(crate::config::RouteSpec::name).collect(),
        places: Semaphore::new(config.web.max_requests),
    });
    let serving = tokio::spawn(http::serve(listeners, pages, Arc::clone(&guard), stop.clone()));
    let mut inventory_lost = false;
    // Who has node_exporter's part done and nothing else is not told for ever that there is no engine.
    let asks_engine = containers || !config.logs.routes.is_empty();
    if !asks_engine {
        parts.part("docker").off("neither metrics of containers nor a route asks for it");
    }
    let mut inventory_running = tokio::spawn({
        let stop = stop.clone();
        async move { if asks_engine { inventory_task.run(stop).await } else { stop.cancelled_owned().await } }
    });
    tokio::spawn({
        let (listen, stop) = (config.web.listen.clone(), stop.clone());
        async move {
            if let Err(error) = http::health::answer(&listen, stop).await {
                tracing::warn!("skep healthcheck will not be answered: {error}");
            }
        }
    });

    tokio::spawn(watch_trees(Arc::clone(&root), parts.clone(), stop.clone()));
    let watchdog = Watchdog::start(tokio::runtime::Handle::current()).map_err(system)?;
    let pipeline = Pipeline::start(&config, &surroundings, inventory, &parts, &metrics, &watchdog)?;
    announce(&config, &surroundings, guard.scheme(), &addresses);
    tokio::spawn(async {
        // What only the start needed, and then what only the first scrapes and batches did.
        host::sys::give_back_code();
        host::sys::give_back_heap();
        tokio::time::sleep(SETTLED).await;
        host::sys::give_back_code();
        host::sys::give_back_heap();
    });

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if reload(&config, reread) {
                    pipeline.reload();
                }
                guard.reread().await;
            }
            _ = &mut inventory_running, if !inventory_running.is_finished() || !inventory_lost => {
                inventory_lost = true;
                parts.part("docker").degraded("a fault of skep's own ended the inventory; a restart is needed, and please report it");
            }
        }
    }
    tracing::info!("stopping: what was read is still shipped");
    // Logs first, while the pages still show how it goes; then the pages.
    let grace = config.shutdown_timeout;
    // A disk or a file system that hangs must not hold the end: what is not acknowledged then is read again by the next start.
    let stopped = tokio::task::spawn_blocking(move || pipeline.stop(grace));
    match tokio::time::timeout(grace + LAST_MOMENTS, stopped).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("the logs' threads did not end as they should"),
        Err(_) => tracing::error!("the logs' threads do not end; they are cut off"),
    }
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(3), async {
        let pages = serving.await.is_ok();
        (inventory_lost || inventory_running.await.is_ok()) && pages
    });
    if ended.await.is_err() {
        tracing::debug!("connections were cut at the end");
    }
    // Behind the last event.
    drop(endings);
    tracing::info!("stopped");
    Ok(())
}

/// The kernel's id of this boot; empty where it cannot be read.
fn boot_id(root: &Arc<Root>) -> String {
    let mut reader = Reader::new(Arc::clone(root));
    reader.proc("sys/kernel/random/boot_id").map(|id| String::from_utf8_lossy(id.trim_ascii()).into_owned()).unwrap_or_default()
}

/// Tells how the host's trees are, now and again: a mount may come later, and go.
async fn watch_trees(root: Arc<Root>, parts: Parts, stop: CancellationToken) {
    let in_container = own_container_id().is_some();
    while !stop.is_cancelled() {
        let root = Arc::clone(&root);
        // A directory on a file system that hangs must not hold a socket's worker.
        let Ok(found) = tokio::task::spawn_blocking(move || host::probe(&root, in_container)).await else { return };
        for probe in found {
            let part = parts.part(probe.part);
            match probe.found {
                Ok(_) => part.ok(),
                Err(why) => part.degraded(why),
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AT_TREES)).await.is_none() {
            return;
        }
    }
}

/// One line that tells where the page and the metrics are, and one for each thing that cannot be read.
fn announce(config: &Config, surroundings: &Surroundings, scheme: &str, addresses: &[String]) {
    let host = |address: &String| {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let own = address.starts_with("[::]") || address.starts_with("0.0.0.0");
        if own { format!("localhost:{port}") } else { address.clone() }
    };
    let places: Vec<String> = addresses
        .iter()
        .map(|address| format!("page {scheme}://{0}/ metrics {scheme}://{0}{1}", host(address), config.web.telemetry_path))
        .collect();
    let node = &surroundings.node;
    tracing::info!(node = node.name, from = node.name_from, version = env!("CARGO_PKG_VERSION"), "skep works: {}", places.join(", "));
    if surroundings.engine.is_none() {
        let why = surroundings.engine_fault.as_deref().unwrap_or_default();
        tracing::warn!("no containers are shown for now: {why}");
    }
    for flag in flags::WITHOUT_EFFECT.iter().filter(|flag| config.settings.one(flag.name).is_some_and(|value| value != "false")) {
        tracing::warn!("--{} is understood and does nothing: skep has no such part", flag.name);
    }
    for name in &surroundings.unknown_variables {
        tracing::warn!(
            "the variable {name} is not a setting of skep, and does nothing; skep --help lists the flags, and each has its variable"
        );
    }
    if config.logs.routes.is_empty() {
        tracing::info!("no route is given, so no logs are shipped; --route elasticsearch://host:9200 would do");
    }
}

/// What can change without a restart, changes; of the rest it is said that it does not.
/// Whether the settings could be read.
fn reload(config: &Config, reread: &(dyn Fn() -> Result<Config, Fault> + Send + Sync)) -> bool {
    let new = match reread() {
        Ok(new) => new,
        Err(why) => {
            tracing::error!("SIGHUP: {why}; everything stays as it is");
            return false;
        }
    };
    log::set_level(new.log.level);
    let waiting: Vec<&str> = config.settings.differing(&new.settings).filter(|name| *name != "log.level").collect();
    if waiting.is_empty() {
        tracing::info!("SIGHUP: the log level was read again; secrets and certificates are with the next request");
    } else {
        tracing::warn!(
            "SIGHUP: the log level was read again, secrets and certificates are with the next request; a restart is needed for {}",
            waiting.join(", ")
        );
    }
    true
}

/// A descriptor is held for every log file; the soft limit of 1024 is raised to the hard one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!("the limit of descriptors stays: {error}");
    }
}
