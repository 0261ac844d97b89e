//! The engine's API, by bollard: a negotiated version, a time limit on every call, a bound on every answer, and structs that no unknown value breaks.
//!
//! Bollard's own models have closed enums: one container in a state that it does not know fails the whole list. It also never puts an API version
//! into a request, so that answers would change their shape with the engine. Both are mended in one place, [`Engine::raw`]: bollard makes
//! the connection, TLS and HTTP, and hands over a body as it came; the address of the request is replaced on its way.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::json::lenient;
use super::time;

/// The newest API version whose answers were read (engine 29). An older engine is asked in its own.
const NEWEST_API: (u16, u16) = (1, 55);
/// How long a call may take. The slowest at rest is `/info`, with 35 ms; a Swarm without a quorum lets calls hang for 20 s.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is taken: 5 kB a container leaves room for thirteen thousand.
const LARGEST_ANSWER: usize = 64 << 20;
/// The largest event. Its attributes are the container's labels.
const LARGEST_EVENT: usize = 1 << 20;

/// What happens to containers and matters here. Never all: a health check each second makes three events of `exec_*` a second.
const ACTIONS: [&str; 11] =
    ["create", "start", "restart", "die", "destroy", "rename", "update", "pause", "unpause", "oom", "health_status"];

/// An engine that answers. Cloning gives another handle on the same engine.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    host: Arc<str>,
    prefix: Arc<str>,
    limit: Duration,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("host", &self.host).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why the engine gave no answer, or none that can be used: which call, and in a sentence what would do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The address cannot be used.
    #[error("docker host {host}: {why}")]
    Host {
        /// The address as it was given.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such socket.
    #[error("{host} is not there: is the engine running, and is its socket mounted into the container?")]
    NotThere {
        /// The address.
        host: Arc<str>,
    },
    /// The socket may not be opened.
    #[error("{host} may not be opened: run as a user that may read and write it (root, or the socket's group)")]
    Permission {
        /// The address.
        host: Arc<str>,
    },
    /// Nothing listens.
    #[error("{host} refused the connection: the engine is not running")]
    Refused {
        /// The address.
        host: Arc<str>,
    },
    /// No answer in time.
    #[error("{host} gave no answer to {call} in {seconds} s")]
    Timeout {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// An answer that says no.
    #[error("{host} answered {call} with {status}: {message}")]
    Status {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the engine said, cut at 300 characters.
        message: String,
    },
    /// An answer that is not what was asked for.
    #[error("{host} answered {call} with what cannot be understood: {what}")]
    Garbled {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The connection broke.
    #[error("the connection to {host} broke during {call}: {what}")]
    Broken {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// What the system said.
        what: String,
    },
}

impl EngineError {
    /// Whether the thing that was asked for does not exist (any more): 404.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether an answer came that cannot be understood.
    #[must_use]
    pub const fn is_garbled(&self) -> bool {
        matches!(self, Self::Garbled { .. })
    }

    /// Whether the fault may lie with the one thing that was asked for, and not with the engine or the way to it. A hang is one: an engine can hang on
    /// a single container.
    #[must_use]
    pub const fn is_about_one(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Garbled { .. } | Self::Timeout { .. })
    }

    /// The call that failed, for a counter.
    #[must_use]
    pub const fn call(&self) -> &'static str {
        match self {
            Self::Timeout { call, .. } | Self::Status { call, .. } | Self::Garbled { call, .. } | Self::Broken { call, .. } => call,
            Self::Host { .. } | Self::NotThere { .. } | Self::Permission { .. } | Self::Refused { .. } => "connect",
        }
    }
}

/// What `/info` tells of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// The node's hostname.
    pub name: String,
    /// The node's id in its Swarm.
    pub node_id: Option<String>,
    /// The node's address in its Swarm.
    pub node_addr: Option<String>,
    /// `active`, `inactive`, `pending`, `error`, `locked`, or what a later engine says.
    pub swarm_state: String,
    /// Whether the node is a manager.
    pub control_available: bool,
    /// Where the engine keeps its data, on its own file system: `/var/lib/docker`.
    pub docker_root_dir: PathBuf,
    /// The storage driver: `overlay2`, `overlayfs`.
    pub driver: String,
    /// The security options as the engine words them: `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// `1` or `2`; engines before 20.10 do not tell.
    pub cgroup_version: Option<u8>,
    /// The engine's version: `29.7.2`.
    pub server_version: String,
    /// The engine's clock, nanoseconds since the epoch.
    pub system_time: Option<i64>,
}

impl EngineInfo {
    fn has_security(&self, name: &str) -> bool {
        self.security_options.iter().any(|option| option.split(',').any(|part| part.strip_prefix("name=") == Some(name)))
    }

    /// Whether user ids of containers are shifted (`userns-remap`).
    #[must_use]
    pub fn has_userns(&self) -> bool {
        self.has_security("userns")
    }

    /// Whether containers are labelled by SELinux.
    #[must_use]
    pub fn has_selinux(&self) -> bool {
        self.has_security("selinux")
    }

    /// Whether the engine runs without root.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        self.has_security("rootless")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InfoAnswer {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    docker_root_dir: String,
    #[serde(deserialize_with = "lenient")]
    driver: String,
    #[serde(deserialize_with = "lenient")]
    security_options: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    cgroup_driver: String,
    #[serde(deserialize_with = "lenient")]
    cgroup_version: String,
    #[serde(deserialize_with = "lenient")]
    server_version: String,
    #[serde(deserialize_with = "lenient")]
    system_time: String,
    #[serde(deserialize_with = "lenient")]
    swarm: SwarmAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SwarmAnswer {
    #[serde(rename = "NodeID", deserialize_with = "lenient")]
    node_id: String,
    #[serde(rename = "NodeAddr", deserialize_with = "lenient")]
    node_addr: String,
    #[serde(rename = "LocalNodeState", deserialize_with = "lenient")]
    local_node_state: String,
    #[serde(rename = "ControlAvailable", deserialize_with = "lenient")]
    control_available: bool,
}

impl From<InfoAnswer> for EngineInfo {
    fn from(answer: InfoAnswer) -> Self {
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            name: answer.name,
            node_id: told(answer.swarm.node_id),
            node_addr: told(answer.swarm.node_addr),
            swarm_state: answer.swarm.local_node_state,
            control_available: answer.swarm.control_available,
            docker_root_dir: answer.docker_root_dir.into(),
            driver: answer.driver,
            security_options: answer.security_options,
            cgroup_driver: answer.cgroup_driver,
            cgroup_version: answer.cgroup_version.parse().ok(),
            server_version: answer.server_version,
            system_time: time::parse(&answer.system_time),
        }
    }
}

/// A container in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ListedContainer {
    /// 64 hexadecimal digits.
    #[serde(rename = "Id")]
    pub id: String,
    /// Names with a leading slash; links add names with more than one.
    #[serde(rename = "Names", deserialize_with = "lenient")]
    pub names: Vec<String>,
    /// `running`, `exited`, ...
    #[serde(rename = "State", deserialize_with = "lenient")]
    pub state: String,
    /// For people: `Up 3 minutes (healthy)`.
    #[serde(rename = "Status", deserialize_with = "lenient")]
    pub status: String,
    /// The image as it was asked for.
    #[serde(rename = "Image", deserialize_with = "lenient")]
    pub image: String,
    /// The image's digest.
    #[serde(rename = "ImageID", deserialize_with = "lenient")]
    pub image_id: String,
    /// Labels.
    #[serde(rename = "Labels", deserialize_with = "lenient")]
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch.
    #[serde(rename = "Created", deserialize_with = "lenient")]
    pub created: i64,
}

impl ListedContainer {
    /// The container's own name, without its slash.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'))
    }

    /// The health as the status words it; `None` without a health check.
    #[must_use]
    pub fn health(&self) -> Option<&'static str> {
        let words = [("(healthy)", "healthy"), ("(unhealthy)", "unhealthy"), ("(health: starting)", "starting")];
        words.into_iter().find(|(word, _)| self.status.ends_with(word)).map(|(_, health)| health)
    }
}

/// The list: what could be read of it, and how many entries could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The containers, in whatever state.
    pub containers: Vec<ListedContainer>,
    /// Entries that are no containers as we know them.
    pub odd: u64,
}

/// A container as `inspect` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The name without its slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's digest.
    pub image_id: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`, or what a later engine says.
    pub state: String,
    /// `starting`, `healthy`, `unhealthy`; `None` without a health check.
    pub health: Option<String>,
    /// The first process, in the host's numbers.
    pub pid: Option<u32>,
    /// Nanoseconds since the epoch.
    pub created: Option<i64>,
    /// Nanoseconds since the epoch.
    pub started: Option<i64>,
    /// Nanoseconds since the epoch.
    pub finished: Option<i64>,
    /// What the last run ended with.
    pub exit_code: Option<i64>,
    /// How often the engine's restart policy started it anew.
    pub restart_count: u64,
    /// Whether the last run ended for want of memory.
    pub oom_killed: bool,
    /// `bridge`, `host`, `none`, `container:<id>`, or a network's name.
    pub network_mode: String,
    /// `--cpu-shares`, when given.
    pub cpu_shares: Option<u64>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Its log driver.
    pub log_driver: String,
}

/// What the list alone tells, for a container that cannot be inspected.
impl From<ListedContainer> for Inspected {
    fn from(entry: ListedContainer) -> Self {
        Self {
            name: entry.name().unwrap_or_default().to_owned(),
            health: entry.health().map(str::to_owned),
            created: entry.created.checked_mul(1_000_000_000),
            id: entry.id,
            image: entry.image,
            image_id: entry.image_id,
            labels: entry.labels,
            state: entry.state,
            ..Self::default()
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InspectAnswer {
    id: String,
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    created: String,
    #[serde(deserialize_with = "lenient")]
    image: String,
    #[serde(deserialize_with = "lenient")]
    restart_count: u64,
    #[serde(deserialize_with = "lenient")]
    state: StateAnswer,
    #[serde(deserialize_with = "lenient")]
    config: ConfigAnswer,
    #[serde(deserialize_with = "lenient")]
    host_config: HostConfigAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StateAnswer {
    #[serde(deserialize_with = "lenient")]
    status: String,
    #[serde(deserialize_with = "lenient")]
    pid: u32,
    #[serde(deserialize_with = "lenient")]
    exit_code: Option<i64>,
    #[serde(rename = "OOMKilled", deserialize_with = "lenient")]
    oom_killed: bool,
    #[serde(deserialize_with = "lenient")]
    started_at: String,
    #[serde(deserialize_with = "lenient")]
    finished_at: String,
    #[serde(deserialize_with = "lenient")]
    health: HealthAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HealthAnswer {
    #[serde(deserialize_with = "lenient")]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    image: String,
    #[serde(deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    tty: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    network_mode: String,
    #[serde(deserialize_with = "lenient")]
    cpu_shares: u64,
    #[serde(deserialize_with = "lenient")]
    log_config: LogConfigAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogConfigAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    driver: String,
}

impl From<InspectAnswer> for Inspected {
    fn from(answer: InspectAnswer) -> Self {
        let name = answer.name.strip_prefix('/').unwrap_or(&answer.name).to_owned();
        let health = Some(answer.state.health.status).filter(|status| !matches!(&**status, "" | "none"));
        Self {
            id: answer.id,
            name,
            image: answer.config.image,
            image_id: answer.image,
            labels: answer.config.labels,
            state: answer.state.status,
            health,
            pid: Some(answer.state.pid).filter(|pid| *pid != 0),
            created: time::parse(&answer.created),
            started: time::parse(&answer.state.started_at),
            finished: time::parse(&answer.state.finished_at),
            exit_code: answer.state.exit_code,
            restart_count: answer.restart_count,
            oom_killed: answer.state.oom_killed,
            network_mode: answer.host_config.network_mode,
            cpu_shares: Some(answer.host_config.cpu_shares).filter(|shares| *shares != 0),
            tty: answer.config.tty,
            log_driver: answer.host_config.log_config.driver,
        }
    }
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container.
    pub id: String,
    /// What happened, as the engine words it: `start`, `health_status: healthy`.
    pub action: String,
    /// When, by the engine's clock, nanoseconds since the epoch.
    pub time_nano: i64,
    /// The container's labels, and what the action brings: `exitCode`, `oldName`.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    kind: String,
    #[serde(rename = "Action", deserialize_with = "lenient")]
    action: String,
    #[serde(rename = "Actor", deserialize_with = "lenient")]
    actor: ActorAnswer,
    #[serde(rename = "timeNano", deserialize_with = "lenient")]
    time_nano: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActorAnswer {
    #[serde(rename = "ID", deserialize_with = "lenient")]
    id: String,
    #[serde(rename = "Attributes", deserialize_with = "lenient")]
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VersionAnswer {
    #[serde(rename = "ApiVersion", deserialize_with = "lenient")]
    api_version: String,
}

type Body = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, bollard::errors::Error>> + Send>>;

impl Engine {
    /// Connects, and settles the API version: the engine's own, and at most the newest that is known here. Engines 20.10 to 29 have none in
    /// common (1.41 is the highest of the one, 1.44 the lowest of some of the others), so none is written down.
    ///
    /// `host` is `unix:///path`, `tcp://host:port`, or, with `DOCKER_TLS_VERIFY` set, `tcp://` over TLS with `ca.pem`, `cert.pem` and `key.pem`
    /// in `DOCKER_CERT_PATH`.
    ///
    /// # Errors
    /// [`EngineError`]; connecting again may do.
    pub async fn connect(host: &str) -> Result<Self, EngineError> {
        Self::connect_within(host, TIME_LIMIT).await
    }

    /// As [`Engine::connect`], with another time limit for each call; whole seconds, at least one.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn connect_within(host: &str, limit: Duration) -> Result<Self, EngineError> {
        let limit = limit.max(Duration::from_secs(1));
        let docker = client(host, limit)?;
        let unversioned = Self { docker, host: host.into(), prefix: "".into(), limit };
        let version: VersionAnswer = unversioned.get("version", "/version").await?;
        let api = version.api_version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor): (u16, u16) = api.ok_or_else(|| EngineError::Garbled {
            host: host.into(),
            call: "version",
            what: format!("its API version is {:?}", cut(&version.api_version)),
        })?;
        let (major, minor) = (major, minor).min(NEWEST_API);
        Ok(Self { prefix: format!("/v{major}.{minor}").into(), ..unversioned })
    }

    /// The API version that requests carry: `1.41`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.prefix.trim_start_matches("/v")
    }

    /// What the engine says of itself and of its node.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        Ok(self.get::<InfoAnswer>("info", "/info").await?.into())
    }

    /// All containers, in whatever state.
    ///
    /// # Errors
    /// [`EngineError`]; an odd entry is counted and costs no other.
    pub async fn list(&self) -> Result<Listed, EngineError> {
        let entries: Vec<Box<RawValue>> = self.get("list", "/containers/json?all=1").await?;
        let mut listed = Listed::default();
        for entry in entries {
            match serde_json::from_str::<ListedContainer>(entry.get()) {
                Ok(container) if !container.id.is_empty() => listed.containers.push(container),
                _ => listed.odd += 1,
            }
        }
        Ok(listed)
    }

    /// One container.
    ///
    /// # Errors
    /// [`EngineError`]; it [is gone](EngineError::is_gone) when there is no such container.
    pub async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let answer: InspectAnswer = self.get("inspect", &format!("/containers/{id}/json")).await?;
        if answer.id != id {
            return Err(EngineError::Garbled { host: self.host.clone(), call: "inspect", what: "it is another container".to_owned() });
        }
        Ok(answer.into())
    }

    /// What happens to containers from `since` on (nanoseconds since the epoch by the engine's clock, inclusive). The engine keeps the last 256 events.
    /// The request is sent when the stream is first asked.
    #[must_use]
    pub fn events(&self, since: Option<i64>) -> Events {
        let quoted: Vec<String> = ACTIONS.iter().map(|action| format!("\"{action}\"")).collect();
        let filters = format!("{{\"type\":[\"container\"],\"event\":[{}]}}", quoted.join(","));
        let mut path = format!("/events?filters={}", escaped(&filters));
        if let Some(since) = since {
            path.push_str(&format!("&since={}.{:09}", since.div_euclid(1_000_000_000), since.rem_euclid(1_000_000_000)));
        }
        Events { body: self.raw(&path), buffer: BytesMut::new(), searched: 0, host: self.host.clone(), limit: self.limit }
    }

    /// Asks for `path` (with its query, escaped) below the negotiated version and decodes the JSON of the answer. `call` names it in errors and counters.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn get<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<T, EngineError> {
        let answer = self.bytes(call, path).await?;
        serde_json::from_slice(&answer).map_err(|error| self.garbled(call, &error))
    }

    async fn bytes(&self, call: &'static str, path: &str) -> Result<BytesMut, EngineError> {
        let read = async {
            let mut body = self.raw(path);
            let mut answer = BytesMut::new();
            while let Some(chunk) = body.next().await {
                answer.extend_from_slice(&chunk.map_err(|error| explain(&self.host, call, self.limit, &error))?);
                if answer.len() > LARGEST_ANSWER {
                    return Err(self.garbled(call, &"it is larger than 64 MiB"));
                }
            }
            Ok(answer)
        };
        // Bollard's own limit ends with the head of the answer; a body may hang as well.
        match tokio::time::timeout(self.limit, read).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::Timeout { host: self.host.clone(), call, seconds: self.limit.as_secs() }),
        }
    }

    /// The body of the answer to a GET. `export_container` is the call of bollard that hands a body over undecoded; its address is replaced.
    fn raw(&self, path: &str) -> Body {
        let address = format!("{}{path}", self.prefix);
        let Ok(address) = PathAndQuery::try_from(address) else {
            return Box::pin(futures_util::stream::empty());
        };
        let docker = self.docker.clone().with_request_modifier(move |mut request| {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(address.clone());
            if let Ok(uri) = hyper::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
            request
        });
        Box::pin(docker.export_container("-"))
    }

    /// The error for a stream that the engine ended.
    pub(crate) fn ended(&self, call: &'static str) -> EngineError {
        EngineError::Broken { host: self.host.clone(), call, what: "the engine ended it".to_owned() }
    }

    fn garbled(&self, call: &'static str, what: &dyn fmt::Display) -> EngineError {
        EngineError::Garbled { host: self.host.clone(), call, what: what.to_string() }
    }
}

/// What happens to containers, as it happens.
pub struct Events {
    body: Body,
    buffer: BytesMut,
    searched: usize,
    host: Arc<str>,
    limit: Duration,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Events {
    /// The next event; `None` when the engine ended the stream. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`EngineError::Garbled`] for one event that cannot be understood: the stream goes on, and what was missed is known from the list only. Any other
    /// error ends the stream.
    pub async fn next(&mut self) -> Option<Result<ContainerEvent, EngineError>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', self.buffer.get(self.searched..).unwrap_or_default()) {
                let line = self.buffer.split_to(self.searched + length + 1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                match self.decode(&line).transpose() {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LARGEST_EVENT {
                self.buffer.clear();
                self.searched = 0;
                self.body = Box::pin(futures_util::stream::empty());
                return Some(Err(self.garbled(&"an event larger than 1 MiB")));
            }
            match self.body.next().await? {
                Ok(chunk) => self.buffer.extend_from_slice(&chunk),
                Err(error) => return Some(Err(explain(&self.host, "events", self.limit, &error))),
            }
        }
    }

    /// The event of a line; `None` for one of a network or a service, which were not asked for, but a proxy may drop the filter.
    fn decode(&self, line: &[u8]) -> Result<Option<ContainerEvent>, EngineError> {
        let event: EventAnswer = serde_json::from_slice(line).map_err(|error| self.garbled(&error))?;
        if !matches!(&*event.kind, "container" | "") {
            return Ok(None);
        }
        if event.kind.is_empty() || event.actor.id.is_empty() || event.action.is_empty() {
            return Err(self.garbled(&"an event of nothing"));
        }
        let ActorAnswer { id, attributes } = event.actor;
        Ok(Some(ContainerEvent { id, action: event.action, time_nano: event.time_nano, attributes }))
    }

    fn garbled(&self, what: &dyn fmt::Display) -> EngineError {
        EngineError::Garbled { host: self.host.clone(), call: "events", what: what.to_string() }
    }
}

/// Bollard's client for an address. Nothing is sent yet.
fn client(host: &str, limit: Duration) -> Result<Docker, EngineError> {
    let refuse = |why: String| EngineError::Host { host: host.to_owned(), why };
    let seconds = limit.as_secs();
    if let Some(path) = host.strip_prefix("unix://") {
        // Bollard looks whether the path exists, which hides why it cannot be reached.
        if let Err(error) = std::fs::metadata(Path::new(path)) {
            return Err(explain_io(&host.into(), "connect", &error));
        }
        return Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()));
    }
    if !(host.starts_with("tcp://") || host.starts_with("http://") || host.starts_with("https://")) {
        return Err(refuse("it must begin with unix:// or tcp://".to_owned()));
    }
    let verify = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    if !verify && !host.starts_with("https://") {
        return Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()));
    }
    let Some(directory) = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from) else {
        return Err(refuse("TLS needs DOCKER_CERT_PATH, a directory with ca.pem, cert.pem and key.pem".to_owned()));
    };
    let [key, certificate, authority] = ["key.pem", "cert.pem", "ca.pem"].map(|name| directory.join(name));
    for file in [&key, &certificate, &authority] {
        std::fs::metadata(file).map_err(|error| refuse(format!("{}: {error}", file.display())))?;
    }
    Docker::connect_with_ssl(host, &key, &certificate, &authority, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()))
}

fn explain(host: &Arc<str>, call: &'static str, limit: Duration, error: &bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Status { host: host.clone(), call, status: *status_code, message: cut(message).to_owned() }
        }
        Error::IOError { err } => explain_io(host, call, err),
        Error::RequestTimeoutError => EngineError::Timeout { host: host.clone(), call, seconds: limit.as_secs() },
        other => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(other);
            let mut last = other.to_string();
            while let Some(error) = cause {
                if let Some(error) = error.downcast_ref::<io::Error>() {
                    return explain_io(host, call, error);
                }
                last = error.to_string();
                cause = error.source();
            }
            EngineError::Broken { host: host.clone(), call, what: last }
        }
    }
}

fn explain_io(host: &Arc<str>, call: &'static str, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound => EngineError::NotThere { host: host.clone() },
        io::ErrorKind::PermissionDenied => EngineError::Permission { host: host.clone() },
        io::ErrorKind::ConnectionRefused => EngineError::Refused { host: host.clone() },
        _ => EngineError::Broken { host: host.clone(), call, what: error.to_string() },
    }
}

/// The first 300 characters.
fn cut(text: &str) -> &str {
    text.char_indices().nth(300).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A query's value, percent-escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_work_is_refused_with_a_reason() {
        let error = Engine::connect("ssh://somewhere").await.unwrap_err();
        assert_eq!(error.to_string(), "docker host ssh://somewhere: it must begin with unix:// or tcp://");
        let directory = tempfile::tempdir().unwrap();
        let missing = format!("unix://{}", directory.path().join("docker.sock").display());
        assert!(matches!(Engine::connect(&missing).await.unwrap_err(), EngineError::NotThere { .. }));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("{\"a\":[1]}"), "%7B%22a%22%3A%5B1%5D%7D");
    }

    #[test]
    fn security_options_of_an_engine() {
        let info =
            EngineInfo { security_options: vec!["name=seccomp,profile=default".into(), "name=userns".into()], ..EngineInfo::default() };
        assert!(info.has_userns() && !info.has_selinux() && !info.is_rootless());
    }
}
