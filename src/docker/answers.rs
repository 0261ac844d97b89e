//! What the engine answers, and what is kept of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::json::lenient;
use super::time;

/// What `/info` tells of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// The node's hostname.
    pub name: String,
    /// The node's id in its Swarm.
    pub node_id: Option<String>,
    /// Where the engine keeps its data, on its own file system: `/var/lib/docker`.
    pub docker_root_dir: PathBuf,
    /// The security options as the engine words them: `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
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
pub(super) struct InfoAnswer {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    docker_root_dir: String,
    #[serde(deserialize_with = "lenient")]
    security_options: Vec<String>,
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
}

impl From<InfoAnswer> for EngineInfo {
    fn from(answer: InfoAnswer) -> Self {
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            name: answer.name,
            node_id: told(answer.swarm.node_id),
            docker_root_dir: answer.docker_root_dir.into(),
            security_options: answer.security_options,
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
    /// `bridge`, `host`, `none`, `container:<id>`, or a network's name.
    pub network_mode: String,
    /// `--cpu-shares`, when given.
    pub cpu_shares: Option<u64>,
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
            labels: entry.labels,
            state: entry.state,
            ..Self::default()
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectAnswer {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    created: String,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    network_mode: String,
    #[serde(deserialize_with = "lenient")]
    cpu_shares: u64,
}

impl From<InspectAnswer> for Inspected {
    fn from(answer: InspectAnswer) -> Self {
        let name = answer.name.strip_prefix('/').unwrap_or(&answer.name).to_owned();
        let health = Some(answer.state.health.status).filter(|status| !matches!(&**status, "" | "none"));
        Self {
            id: answer.id,
            name,
            image: answer.config.image,
            labels: answer.config.labels,
            state: answer.state.status,
            health,
            pid: Some(answer.state.pid).filter(|pid| *pid != 0),
            created: time::parse(&answer.created),
            started: time::parse(&answer.state.started_at),
            finished: time::parse(&answer.state.finished_at),
            exit_code: answer.state.exit_code,
            restart_count: answer.restart_count,
            network_mode: answer.host_config.network_mode,
            cpu_shares: Some(answer.host_config.cpu_shares).filter(|shares| *shares != 0),
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
pub(super) struct EventAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    pub(super) kind: String,
    #[serde(rename = "Action", deserialize_with = "lenient")]
    pub(super) action: String,
    #[serde(rename = "Actor", deserialize_with = "lenient")]
    pub(super) actor: ActorAnswer,
    #[serde(rename = "timeNano", deserialize_with = "lenient")]
    pub(super) time_nano: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ActorAnswer {
    #[serde(rename = "ID", deserialize_with = "lenient")]
    pub(super) id: String,
    #[serde(rename = "Attributes", deserialize_with = "lenient")]
    pub(super) attributes: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionAnswer {
    #[serde(rename = "ApiVersion", deserialize_with = "lenient")]
    pub(super) api_version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options_of_an_engine() {
        let info =
            EngineInfo { security_options: vec!["name=seccomp,profile=default".into(), "name=userns".into()], ..EngineInfo::default() };
        assert!(info.has_userns() && !info.has_selinux() && !info.is_rootless());
    }
}
