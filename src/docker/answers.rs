//! What the engine answers, and what is kept of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
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
    /// The image's digest: of its configuration, or of its manifest in the containerd image store.
    #[serde(rename = "ImageID", deserialize_with = "lenient")]
    pub image_id: String,
    #[serde(rename = "Health", deserialize_with = "lenient")]
    pub(super) health: HealthAnswer,
    #[serde(rename = "HostConfig", deserialize_with = "lenient")]
    pub(super) host_config: ListedHostConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ListedHostConfig {
    #[serde(rename = "NetworkMode", deserialize_with = "lenient")]
    pub(super) network_mode: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HealthAnswer {
    #[serde(deserialize_with = "lenient")]
    status: String,
}

impl HealthAnswer {
    /// The word; `None` without a health check.
    pub(super) fn told(&self) -> Option<&str> {
        Some(&*self.status).filter(|status| !matches!(*status, "" | "none"))
    }
}

impl ListedContainer {
    /// The container's own name, without its slash.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'))
    }

    /// The health: told from API 1.52 on, before that as the status words it, which it does of a container that runs. `None` without a health check.
    #[must_use]
    pub fn health(&self) -> Option<&str> {
        if !self.health.status.is_empty() {
            return self.health.told();
        }
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

/// A network, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkAnswer {
    #[serde(rename = "IPAM", deserialize_with = "lenient")]
    addresses: AddressesAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AddressesAnswer {
    #[serde(deserialize_with = "lenient")]
    config: Vec<SubnetAnswer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SubnetAnswer {
    #[serde(deserialize_with = "lenient")]
    subnet: String,
}

impl NetworkAnswer {
    /// The first subnet of IPv4: its address, and how many bits of it count.
    pub(super) fn subnet(&self) -> Option<(Ipv4Addr, u8)> {
        self.addresses.config.iter().find_map(|config| {
            let (address, bits) = config.subnet.split_once('/')?;
            Some((address.parse().ok()?, bits.parse().ok().filter(|bits| (1..=32).contains(bits))?))
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionAnswer {
    #[serde(rename = "ApiVersion", deserialize_with = "lenient")]
    pub(super) api_version: String,
    #[serde(rename = "MinAPIVersion", deserialize_with = "lenient")]
    pub(super) least_api_version: String,
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

    #[test]
    fn the_list_tells_health() {
        let entry = |status: &str| ListedContainer { status: status.to_owned(), ..ListedContainer::default() };
        assert_eq!(entry("Up 3 minutes (healthy)").health(), Some("healthy"));
        assert_eq!(entry("Up 3 minutes (unhealthy)").health(), Some("unhealthy"));
        assert_eq!(entry("Up 1 second (health: starting)").health(), Some("starting"));
        assert_eq!(entry("Up 3 minutes (Paused)").health(), None);
        assert_eq!(entry("Exited (137) 8 seconds ago").health(), None);
        // From API 1.52 on it has a field of its own.
        for (told, expected) in [("unhealthy", Some("unhealthy")), ("none", None), ("", Some("healthy"))] {
            let text = format!(r#"{{"Id":"a","Status":"Up 1 second (healthy)","Health":{{"Status":"{told}","FailingStreak":0}}}}"#);
            assert_eq!(serde_json::from_str::<ListedContainer>(&text).unwrap().health(), expected);
        }
    }

    #[test]
    fn a_network_s_subnet() {
        let subnet = |text: &str| serde_json::from_str::<NetworkAnswer>(text).unwrap().subnet();
        let both = r#"{"Name":"docker_gwbridge","IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"fd00::/64"},{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"}]}}"#;
        assert_eq!(subnet(both), Some((Ipv4Addr::new(172, 18, 0, 0), 16)));
        for none in ["{}", r#"{"IPAM":{"Config":null}}"#, r#"{"IPAM":{"Config":[{"Subnet":"172.18.0.0"},{"Subnet":"172.18.0.0/33"}]}}"#] {
            assert_eq!(subnet(none), None);
        }
    }
}
