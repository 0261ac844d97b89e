//! A container as the rest of the house sees it: what inspect told, and the label set of its series, rendered once.

use std::sync::Arc;

use regex::Regex;

use super::inspected::{Allowed, Attachment, Inspected};
use super::labels::Labels;
use super::time;
use crate::logs::ContainerId;
use crate::model::{LabelSet, is_off, whole};
use crate::swarm::identity::TaskIdentity;

/// The labels that every series carries where the container has them: Swarm's and the stack's, under cAdvisor's names. `com.docker.swarm.task` is always
/// empty and left out.
const ALWAYS: [&str; 6] = [
    "com.docker.swarm.node.id",
    "com.docker.swarm.service.id",
    "com.docker.swarm.service.name",
    "com.docker.swarm.task.id",
    "com.docker.swarm.task.name",
    "com.docker.stack.namespace",
];

/// A container. Made anew when anything of it changes, so that one `Arc` of it is one state.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The id.
    pub id: ContainerId,
    /// The name, without its slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// All labels.
    pub labels: Labels,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`, or what a later engine says.
    pub state: String,
    /// `starting`, `healthy`, `unhealthy`; `None` without a health check.
    pub health: Option<String>,
    /// The first process, in the host's numbers; only while it runs.
    pub pid: Option<u32>,
    /// When it was made, seconds since the epoch.
    pub created: f64,
    /// When it was last started, seconds since the epoch; `None` when it never was.
    pub started: Option<f64>,
    /// When it last ended, seconds since the epoch.
    pub finished: Option<f64>,
    /// What its last run ended with; `None` before the end of the first.
    pub exit_code: Option<i64>,
    /// The engine tried to start it for the first time and could not: it stays `created`, and has an exit code (125 to 128) without an end.
    pub start_failed: bool,
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
    /// Whether it has a terminal.
    pub tty: Option<bool>,
    /// Whether a process of its last run was killed for want of memory.
    pub oom_killed: Option<bool>,
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub restart_policy: String,
    /// The name that it has for itself.
    pub hostname: String,
    /// What it was allowed.
    pub allowed: Allowed,
    /// The networks that it is in.
    pub networks: Vec<Attachment>,
    /// Its owner wants no metrics of it: label `skep.metrics`, [switched off](is_off).
    pub is_excluded: bool,
    /// Whether inspect told it: what it alone knows is empty otherwise.
    pub inspected: bool,
    /// The labels of its series, rendered: `id`, `name`, `image`, and of its labels those that are chosen.
    pub series: Arc<LabelSet>,
}

impl Container {
    /// Whether it has processes: running or paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(&*self.state, "running" | "paused")
    }

    /// The Swarm task that it is of, as its labels tell.
    #[must_use]
    pub fn task(&self) -> Option<TaskIdentity> {
        TaskIdentity::from_labels(|name| self.labels.get(name))
    }

    /// Whether its network counters are its own: not the host's, not another container's (a shared namespace is counted once, with its owner), and
    /// not none at all.
    #[must_use]
    pub fn has_own_network(&self) -> bool {
        !matches!(&*self.network_mode, "host" | "none") && !self.network_mode.starts_with("container:")
    }
}

/// Which container labels become labels of series.
#[derive(Debug, Clone, Default)]
pub struct Labelling {
    /// Names that are taken beside Swarm's and the stack's (`--containers.label`); the whole name must match, as [`whole`] makes it.
    allow: Option<Regex>,
}

impl Labelling {
    /// Takes the labels whose whole name matches `pattern`.
    ///
    /// # Errors
    /// When `pattern` is no regular expression.
    pub fn new(pattern: Option<&str>) -> Result<Self, regex::Error> {
        Ok(Self { allow: pattern.map(whole).transpose()? })
    }

    /// The container of an answer to inspect; `None` when its id is none.
    #[must_use]
    pub fn container(&self, told: Inspected) -> Option<Container> {
        Some(Container { inspected: true, ..self.identity(told)? })
    }

    /// The container that the list or an event names, without what inspect alone knows; `None` when its id is none.
    #[must_use]
    pub fn identity(&self, told: Inspected) -> Option<Container> {
        let id = ContainerId::new(&told.id)?;
        let running = matches!(&*told.state, "running" | "paused");
        let labels = Labels::from(told.labels);
        Some(Container {
            series: Arc::new(self.series(&id, &told.name, &told.image, &labels)),
            id,
            name: told.name,
            image: told.image,
            is_excluded: labels.get("skep.metrics").is_some_and(is_off),
            labels,
            // A pid is kept only for a state in which there is one: elsewhere it may by now be another process's.
            pid: told.pid.filter(|_| running),
            created: told.created.map(time::seconds).unwrap_or_default(),
            started: told.started.map(time::seconds),
            finished: told.finished.map(time::seconds),
            // While it runs the engine says 0, whatever the last run ended with.
            exit_code: told.exit_code.filter(|_| told.finished.is_some() && !running),
            start_failed: told.state == "created" && told.exit_code.is_some_and(|code| code != 0),
            state: told.state,
            health: told.health,
            restart_count: told.restart_count,
            network_mode: told.network_mode,
            cpu_shares: told.cpu_shares,
            image_id: told.image_id,
            log_driver: told.log_driver,
            tty: told.tty,
            oom_killed: told.oom_killed,
            restart_policy: told.restart_policy,
            hostname: told.hostname,
            allowed: told.allowed,
            networks: told.networks,
            inspected: false,
        })
    }

    /// Gives a container another name.
    pub(super) fn rename(&self, container: &mut Container, name: &str) {
        name.clone_into(&mut container.name);
        container.series = Arc::new(self.series(&container.id, name, &container.image, &container.labels));
    }

    fn series(&self, id: &ContainerId, name: &str, image: &str, labels: &Labels) -> LabelSet {
        let path = format!("/docker/{}", id.as_str());
        let mut set = LabelSet::of([("id", &*path), ("name", name), ("image", image)]);
        let chosen = |name: &str| self.allow.as_ref().is_some_and(|allow| allow.is_match(name));
        for name in ALWAYS {
            if let Some(value) = labels.get(name).filter(|value| !value.is_empty()) {
                set.push(&label_name(name), value);
            }
        }
        for (name, value) in labels.iter() {
            if !ALWAYS.contains(&name) && chosen(name) {
                set.push(&label_name(name), value);
            }
        }
        set.shrink();
        set
    }
}

/// The name of the label that a container's label becomes: cAdvisor's, with `_` for whatever Prometheus does not allow.
fn label_name(name: &str) -> String {
    let mut out = String::from("container_label_");
    out.extend(name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(labels: &[(&str, &str)]) -> Inspected {
        Inspected {
            id: "af54c56dddc8233c3e934af66d4721b322093c200b113ab0d227229d1819142b".to_owned(),
            name: "web".to_owned(),
            image: "bb:1".to_owned(),
            state: "running".to_owned(),
            pid: Some(7),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Inspected::default()
        }
    }

    #[test]
    fn swarm_labels_are_always_there_and_others_by_choice() {
        let labels = [
            ("com.docker.swarm.task", ""),
            ("com.docker.swarm.task.id", "t"),
            ("com.example/a-b", "x\"\n"),
            ("com.example.c", "y"),
            ("secret", "z"),
        ];
        let container = Labelling::new(Some("com\\.example.*")).unwrap().container(told(&labels)).unwrap();
        assert_eq!(
            container.series.as_str(),
            "id=\"/docker/af54c56dddc8233c3e934af66d4721b322093c200b113ab0d227229d1819142b\",name=\"web\",image=\"bb:1\",\
             container_label_com_docker_swarm_task_id=\"t\",container_label_com_example_c=\"y\",container_label_com_example_a_b=\"x\\\"\\n\""
        );
    }

    /// A label that only contains what was asked for may hold a secret.
    #[test]
    fn the_whole_name_must_match() {
        let labels = [("env", "a"), ("my.env", "b"), ("env.secret", "c")];
        for pattern in ["env", "e|env", "(?x)env # the environment"] {
            let container = Labelling::new(Some(pattern)).unwrap().container(told(&labels)).unwrap();
            let names: Vec<&str> = container.series.names().skip(3).collect();
            assert_eq!(names, ["container_label_env"], "{pattern}");
        }
    }

    #[test]
    fn two_labels_of_one_sanitised_name_give_one() {
        let container = Labelling::new(Some(".*")).unwrap().container(told(&[("a.b", "1"), ("a-b", "2")])).unwrap();
        assert_eq!(container.series.as_str().matches("container_label_a_b").count(), 1);
    }

    #[test]
    fn a_pid_goes_with_its_state() {
        let mut exited = told(&[]);
        exited.state = "exited".to_owned();
        let container = Labelling::default().container(exited).unwrap();
        assert_eq!((container.pid, container.is_running()), (None, false));
    }

    #[test]
    fn a_label_excludes() {
        let is_excluded = |value| Labelling::default().container(told(&[("skep.metrics", value)])).unwrap().is_excluded;
        assert!(is_excluded(" False ") && is_excluded("OFF") && !is_excluded("true"));
    }
}
