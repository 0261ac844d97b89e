//! What inspect tells of a container.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::answers::{HealthAnswer, ListedContainer};
use super::json::lenient;
use super::time;

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
    /// The image's digest: of its configuration, or of its manifest in the containerd image store.
    pub image_id: String,
    /// `json-file`, `local`, `syslog`, ...
    pub log_driver: String,
    /// Whether it has a terminal; `None` when inspect did not tell.
    pub tty: Option<bool>,
    /// Whether a process of its last run was killed for want of memory; `None` when inspect did not tell.
    pub oom_killed: Option<bool>,
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub restart_policy: String,
    /// The name that it has for itself.
    pub hostname: String,
    /// What it was allowed.
    pub allowed: Allowed,
    /// The networks that it is in.
    pub networks: Vec<Attachment>,
}

/// What a container was allowed, as it was asked for; 0 where nothing was. The numbers that are in force are the cgroup's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Allowed {
    /// `--cpus`, in billionths of a core.
    #[serde(deserialize_with = "lenient")]
    pub nano_cpus: u64,
    /// Microseconds; 0 is the kernel's own, 100 ms.
    #[serde(deserialize_with = "lenient")]
    pub cpu_period: u64,
    /// Microseconds in each period.
    #[serde(deserialize_with = "lenient")]
    pub cpu_quota: i64,
    /// Bytes.
    #[serde(deserialize_with = "lenient")]
    pub memory: i64,
    /// Bytes of memory and swap together; -1 is no limit.
    #[serde(deserialize_with = "lenient")]
    pub memory_swap: i64,
    /// Bytes.
    #[serde(deserialize_with = "lenient")]
    pub memory_reservation: i64,
    /// Processes and threads; -1 is no limit.
    #[serde(deserialize_with = "lenient")]
    pub pids_limit: i64,
}

impl Allowed {
    /// How many cores' worth of time it may use; `None` without a limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "billionths of a core, and microseconds")]
    pub fn cores(&self) -> Option<f64> {
        const USUAL_PERIOD: u64 = 100_000;
        let period = if self.cpu_period == 0 { USUAL_PERIOD } else { self.cpu_period };
        match (self.nano_cpus, self.cpu_quota) {
            (1.., _) => Some(self.nano_cpus as f64 / 1e9),
            (0, 1..) => Some(self.cpu_quota as f64 / period as f64),
            (0, _) => None,
        }
    }
}

/// A network that a container is in, and what tells its interface there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The address, and how many bits of it are the network's.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// The address.
    pub ipv6: Option<Ipv6Addr>,
    /// The interface's hardware address.
    pub mac: Option<[u8; 6]>,
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
            image_id: entry.image_id,
            network_mode: entry.host_config.network_mode,
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
    #[serde(deserialize_with = "lenient")]
    image: String,
    #[serde(deserialize_with = "lenient")]
    network_settings: NetworkSettingsAnswer,
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
    #[serde(rename = "OOMKilled", deserialize_with = "lenient")]
    oom_killed: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    image: String,
    #[serde(deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    tty: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    hostname: String,
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
    #[serde(deserialize_with = "lenient")]
    restart_policy: RestartPolicyAnswer,
    #[serde(flatten)]
    allowed: Allowed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogConfigAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    driver: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RestartPolicyAnswer {
    #[serde(deserialize_with = "lenient")]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettingsAnswer {
    #[serde(deserialize_with = "lenient")]
    networks: BTreeMap<String, Told>,
}

/// An endpoint that may be `null`, or anything: it costs no other.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Told(#[serde(deserialize_with = "lenient")] EndpointAnswer);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EndpointAnswer {
    #[serde(rename = "IPAddress", deserialize_with = "lenient")]
    ipv4: String,
    #[serde(rename = "IPPrefixLen", deserialize_with = "lenient")]
    bits: u8,
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "lenient")]
    ipv6: String,
    #[serde(rename = "MacAddress", deserialize_with = "lenient")]
    mac: String,
}

impl EndpointAnswer {
    fn of(self, network: String) -> Attachment {
        Attachment {
            network,
            ipv4: self.ipv4.parse().ok().filter(|_| (1..=32).contains(&self.bits)).map(|address| (address, self.bits)),
            ipv6: self.ipv6.parse().ok(),
            mac: mac(&self.mac),
        }
    }
}

/// `02:42:0a:00:01:03`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

impl From<InspectAnswer> for Inspected {
    fn from(answer: InspectAnswer) -> Self {
        let name = answer.name.strip_prefix('/').unwrap_or(&answer.name).to_owned();
        let health = answer.state.health.told().map(str::to_owned);
        let restart_policy =
            if answer.host_config.restart_policy.name.is_empty() { "no".to_owned() } else { answer.host_config.restart_policy.name };
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
            image_id: answer.image,
            log_driver: answer.host_config.log_config.driver,
            tty: answer.config.tty,
            oom_killed: answer.state.oom_killed,
            restart_policy,
            hostname: answer.config.hostname,
            allowed: answer.host_config.allowed,
            networks: answer.network_settings.networks.into_iter().map(|(network, Told(endpoint))| endpoint.of(network)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_of_both_ways_to_ask() {
        let cores = |text: &str| serde_json::from_str::<HostConfigAnswer>(text).unwrap().allowed.cores();
        assert_eq!(cores(r#"{"NanoCpus":1500000000,"CpuQuota":0}"#), Some(1.5));
        assert_eq!(cores(r#"{"NanoCpus":0,"CpuQuota":50000,"CpuPeriod":200000}"#), Some(0.25));
        assert_eq!(cores(r#"{"CpuQuota":50000,"CpuPeriod":0}"#), Some(0.5));
        for without in [r#"{"CpuQuota":-1,"CpuPeriod":100000}"#, r#"{"NanoCpus":null,"PidsLimit":null}"#, "{}"] {
            assert_eq!(cores(without), None);
        }
    }

    #[test]
    fn an_odd_field_of_an_inspect_costs_itself() {
        let text = r#"{"Id":"a","Name":"/web","RestartCount":-1,"Image":7,"State":{"Status":"running","Pid":"no","OOMKilled":"no"},
            "HostConfig":{"NetworkMode":"ov","Memory":"much","NanoCpus":5,"LogConfig":null,"RestartPolicy":[]},"Config":{"Tty":1,"Hostname":"h"},
            "NetworkSettings":{"Networks":{"ov":{"IPAddress":"10.0.1.3","IPPrefixLen":24,"MacAddress":"02:42:0a:00:01:03","GlobalIPv6Address":""},
            "odd":{"IPAddress":"10.0.1","IPPrefixLen":240,"MacAddress":"02:42","GlobalIPv6Address":"::g"},"null":null}}}"#;
        let told = Inspected::from(serde_json::from_str::<InspectAnswer>(text).unwrap());
        assert_eq!((&*told.name, &*told.state, told.pid, told.tty, told.oom_killed), ("web", "running", None, None, None));
        assert_eq!((told.allowed, &*told.restart_policy, &*told.hostname), (Allowed { nano_cpus: 5, ..Allowed::default() }, "no", "h"));
        let nothing = |network: &str| Attachment { network: network.to_owned(), ipv4: None, ipv6: None, mac: None };
        let overlay = Attachment { ipv4: Some((Ipv4Addr::new(10, 0, 1, 3), 24)), mac: Some([0x02, 0x42, 0x0a, 0, 1, 3]), ..nothing("ov") };
        assert_eq!(told.networks, [nothing("null"), nothing("odd"), overlay]);
    }

    proptest::proptest! {
        #[test]
        fn no_mac_is_a_fault(text in ".*", like in "([0-9a-f]{1,3}:?){0,8}") {
            proptest::prop_assert!(mac(&text).is_none_or(|_| text.matches(':').count() == 5));
            let _ = mac(&like);
        }
    }
}
