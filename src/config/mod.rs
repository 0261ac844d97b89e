//! Arguments, environment, file and secrets become one validated [`Config`], a struct for each part.

pub mod cli;
mod flag;
mod old;
pub mod flags;
pub mod layers;
mod route;
mod settings;
pub mod units;
pub mod web;
mod yaml;

use std::path::PathBuf;
use std::time::Duration;

pub use flag::{Flag, FlagKind};
pub use route::{Adapter, ElasticsearchSpec, FileSpec, Filter, Host, RouteSpec, Schema, Secret, WhenFull, split_list};
pub use settings::Settings;
pub use web::{ClientAuth, Rate, Source, TlsFile, TlsVersion, User, WebFile};

use crate::collect::AS_NODE_EXPORTER;
use crate::containers::Groups;
use crate::containers::disk::DiskOptions;
use crate::exposition::Manner;
use crate::host::Root;

/// A command line that cannot be understood; the process ends with 64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A setting that cannot be taken; the process ends with 78.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// Labels of skep's own series: as a constant label they would stand twice, and Prometheus would refuse the whole answer.
const TAKEN_LABELS: [&str; 14] =
    ["part", "route", "reason", "code", "collector", "call", "state", "group", "unit", "operation", "source", "label", "le", "quantile"];

/// A record of several lines waits for the gap, and its cursor with it.
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// Everything that was asked for, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the host's trees are.
    pub root: Root,
    /// The name of the constant label; `None` switches it off.
    pub host_label: Option<String>,
    /// The node's name, when it was told.
    pub node_name: Option<String>,
    /// The node's id, when it was told.
    pub node_id: Option<String>,
    /// The engine.
    pub docker: DockerConfig,
    /// The pages.
    pub web: WebConfig,
    /// Scrapes.
    pub scrape_timeout: Duration,
    /// How long a collector may take, and what is told of it.
    pub manner: Manner,
    /// Logs.
    pub logs: LogsConfig,
    /// skep's own log.
    pub log: LogConfig,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// Print JSON.
    pub json: bool,
    /// All settings by name, for collectors and for `skep config`.
    pub settings: Settings,
}

/// Where the engine is, and what is wanted of its containers.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `unix://` or `tcp://`.
    pub host: String,
    /// Where its containers' log files are, when it was told.
    pub containers_dir: Option<PathBuf>,
    /// Container labels that become metric labels.
    pub label: Option<regex::Regex>,
    /// Who counts what containers take of the disk.
    pub disk: DiskOptions,
    /// Groups of their metrics that are off by default.
    pub groups: Groups,
}

/// The pages.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// `address:port`; an empty address is every address.
    pub listen: Vec<String>,
    /// Take the sockets that were handed over instead.
    pub systemd_socket: bool,
    /// The file that asks for TLS and passwords.
    pub file: Option<PathBuf>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes at one time.
    pub max_requests: usize,
    /// Whether skep's own metrics are part of the answer.
    pub own_metrics: bool,
}

/// What a first start does with lines written before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfill {
    /// Ship them.
    All,
    /// Begin with what is written from now on.
    None,
    /// Ship those that are not older than this.
    Last(Duration),
    /// All when the state directory outlives the container, else none.
    Auto,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// Where they go.
    pub routes: Vec<RouteSpec>,
    /// Cursors, spool, dead letters.
    pub state_dir: PathBuf,
    /// What a first start does.
    pub backfill: Backfill,
    /// Bound of the spool in bytes.
    pub spool_bytes: u64,
    /// Where a record is cut, in bytes.
    pub max_record_bytes: usize,
    /// Whether inotify is used.
    pub inotify: bool,
    /// Container labels that become `labels.*`.
    pub label: Option<regex::Regex>,
    /// The longest gap in Docker's time between two lines of one record.
    pub multiline_gap: Duration,
}

/// skep's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is written.
    pub level: tracing::Level,
    /// JSON instead of logfmt.
    pub json: bool,
}

impl Config {
    /// Checks the settings and gives them their types.
    ///
    /// # Errors
    /// A [`Fault`] that names the setting, the value, why it is refused and what would do.
    pub fn of(settings: Settings) -> Result<Self, Fault> {
        let path = |name: &str| settings.one(name).map(PathBuf::from);
        let root = Root::find(path("path.procfs"), path("path.sysfs"), path("path.rootfs"), path("path.udev.data"));
        let host_label = settings.one("host-label").map(str::to_owned);
        if let Some(label) = &host_label {
            let mut characters = label.chars();
            let begins = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
            if !begins || !characters.all(|character| character.is_ascii_alphanumeric() || character == '_') {
                return Err(Fault(format!(
                    "host-label: '{label}' is not a label name: it takes letters, digits and _, and must not begin with a digit"
                )));
            }
            if label.starts_with("__") || TAKEN_LABELS.contains(&label.as_str()) {
                return Err(Fault(format!("host-label: '{label}' is a label that series have already; host, node or nodename would do")));
            }
        }
        let docker_host = settings.one("docker.host").unwrap_or("unix:///var/run/docker.sock");
        if !["unix://", "tcp://", "http://", "https://"].iter().any(|scheme| docker_host.starts_with(scheme)) {
            return Err(Fault(format!(
                "docker.host: '{docker_host}' is no address of an engine: unix:///var/run/docker.sock and tcp://host:2375 are"
            )));
        }
        // In capitals too, as node_exporter takes them.
        let level = match &*settings.one("log.level").unwrap_or("info").to_ascii_lowercase() {
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "info" => tracing::Level::INFO,
            "debug" => tracing::Level::DEBUG,
            other => return Err(Fault(format!("log.level: '{other}' is not a level: error, warn, info and debug are"))),
        };
        let json = match settings.one("log.format").unwrap_or("logfmt") {
            "logfmt" => false,
            "json" => true,
            other => return Err(Fault(format!("log.format: '{other}' is not a format: logfmt and json are"))),
        };
        let backfill = match settings.one("logs.backfill").unwrap_or("auto") {
            "all" => Backfill::All,
            "none" => Backfill::None,
            "auto" => Backfill::Auto,
            other => match units::duration(other) {
                Ok(age) => Backfill::Last(age),
                Err(_) => return Err(Fault(format!("logs.backfill: '{other}' is not known: all, none, auto and a duration like 12h are"))),
            },
        };
        let mut routes: Vec<RouteSpec> = Vec::new();
        for text in settings.many("route") {
            let route = RouteSpec::parse(text).map_err(|why| Fault(format!("route: {why}")))?;
            if let Some(twin) = routes.iter().find(|known| known.name() == route.name()) {
                return Err(Fault(format!(
                    "route: two routes are called '{}', and cursors are kept by name: give one of them another with ?name=",
                    twin.name()
                )));
            }
            if let Some(path) = &route.dead_letter
                && routes.iter().any(|known| known.dead_letter.as_ref() == Some(path))
            {
                return Err(Fault(format!("route: two routes write dead_letter={}: each takes a file of its own", path.display())));
            }
            routes.push(route);
        }
        let given = settings.one("web.telemetry-path").unwrap_or("/metrics");
        if !given.starts_with('/') || given.contains(['?', '#', ' ']) {
            return Err(Fault(format!("web.telemetry-path: '{given}' is not a path, as /metrics is")));
        }
        let telemetry_path = Some(given.trim_end_matches('/')).filter(|path| !path.is_empty()).unwrap_or("/").to_owned();
        if ["/healthz", "/readyz"].contains(&&*telemetry_path) {
            return Err(Fault(format!("web.telemetry-path: '{given}' tells how the agent is; /metrics would do")));
        }
        let listen: Vec<String> =
            settings.many("web.listen-address").iter().map(|address| listen_address(address)).collect::<Result<_, _>>()?;
        if listen.is_empty() {
            return Err(Fault("web.listen-address: no address is given; :7537 would do".to_owned()));
        }
        let max_record_bytes = usize::try_from(size(&settings, "logs.max-record-bytes", 256 << 10)?).unwrap_or(usize::MAX);
        if !(16 << 10..=16 << 20).contains(&max_record_bytes) {
            return Err(Fault(format!("logs.max-record-bytes: {max_record_bytes} is out of bounds: 16KiB to 16MiB would do")));
        }
        let multiline_gap = duration(&settings, "logs.multiline-gap", 1)?;
        if multiline_gap > LONGEST_GAP {
            return Err(Fault(format!("logs.multiline-gap: {} s is out of bounds: a minute at most would do", multiline_gap.as_secs())));
        }
        Ok(Self {
            host_label,
            node_name: settings.one("node-name").map(str::to_owned),
            node_id: settings.one("node-id").map(str::to_owned),
            docker: DockerConfig {
                host: docker_host.to_owned(),
                containers_dir: path("docker.containers-dir"),
                label: expression(&settings, "containers.label")?,
                disk: DiskOptions::of(&settings).map_err(Fault)?,
                groups: Groups::of(settings.many("containers.enable")).map_err(|why| Fault(format!("containers.enable: {why}")))?,
            },
            web: WebConfig {
                listen,
                systemd_socket: settings.is_on("web.systemd-socket"),
                file: path("web.config.file"),
                telemetry_path,
                // As in node_exporter, 0 is no limit.
                max_requests: match number(&settings, "web.max-requests", 40)? {
                    0 => tokio::sync::Semaphore::MAX_PERMITS,
                    number => number.min(tokio::sync::Semaphore::MAX_PERMITS),
                },
                own_metrics: !settings.is_on("web.disable-exporter-metrics"),
            },
            scrape_timeout: duration(&settings, "scrape.timeout", 8)?,
            manner: Manner {
                patience: duration(&settings, "collector.timeout", 5)?,
                tells_presence: !settings.is_on(AS_NODE_EXPORTER.name),
            },
            logs: LogsConfig {
                routes,
                state_dir: path("state-dir").unwrap_or_else(|| PathBuf::from("/var/lib/skep")),
                backfill,
                spool_bytes: size(&settings, "logs.spool-bytes", 1 << 30)?,
                max_record_bytes,
                inotify: settings.is_on("logs.inotify"),
                label: expression(&settings, "logs.label")?,
                multiline_gap,
            },
            log: LogConfig { level, json },
            shutdown_timeout: duration(&settings, "shutdown.timeout", 25)?,
            json: settings.is_on("json"),
            root,
            settings,
        })
    }
}

/// `:7537`, `7537`, `127.0.0.1:7537`, `[::1]:7537` or `name:7537` as something that can be bound.
fn listen_address(text: &str) -> Result<String, Fault> {
    if text.starts_with("vsock://") {
        return Err(Fault(format!("web.listen-address: '{text}': a socket of a virtual machine is not served; :7537 would do")));
    }
    let refused = || Fault(format!("web.listen-address: '{text}' is not an address: :7537, 127.0.0.1:7537 and [::1]:7537 are"));
    let (address, port) = text.rsplit_once(':').unwrap_or(("", text));
    port.parse::<u16>().map_err(|_| refused())?;
    if address.contains(':') && !address.starts_with('[') {
        return Err(refused());
    }
    Ok(format!("{}:{port}", if address.is_empty() { "[::]" } else { address }))
}

fn duration(settings: &Settings, name: &str, default: u64) -> Result<Duration, Fault> {
    settings.one(name).map_or(Ok(Duration::from_secs(default)), |text| units::duration(text).map_err(|why| Fault(format!("{name}: {why}"))))
}

fn size(settings: &Settings, name: &str, default: u64) -> Result<u64, Fault> {
    settings.one(name).map_or(Ok(default), |text| units::size(text).map_err(|why| Fault(format!("{name}: {why}"))))
}

fn number(settings: &Settings, name: &str, default: usize) -> Result<usize, Fault> {
    settings.one(name).map_or(Ok(default), |text| text.parse().map_err(|_| Fault(format!("{name}: '{text}' is not a number"))))
}

fn expression(settings: &Settings, name: &str) -> Result<Option<regex::Regex>, Fault> {
    let Some(text) = settings.one(name) else { return Ok(None) };
    regex::Regex::new(text).map(Some).map_err(|error| {
        let why = error.to_string();
        Fault(format!(
            "{name}: '{text}' is not a regular expression: {}",
            why.lines().last().unwrap_or_default().trim_start_matches("error: ")
        ))
    })
}
