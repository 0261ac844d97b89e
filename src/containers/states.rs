//! What the engine knows of its containers, in whatever state they are: for as long as the engine lists them.
//!
//! `container_state_*` and `container_restartcount` are docker_state_exporter's names; `container_info` is to a container what kube-state-metrics' info families are.

use std::collections::BTreeSet;

use crate::collect::Pass;
use crate::docker::Container;
use crate::logs::ContainerId;
use crate::model::{Kind, Value};

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 3] = ["starting", "healthy", "unhealthy"];

/// A family with one sample of those containers of which it is known.
struct One {
    name: &'static str,
    help: &'static str,
    value: fn(&Container, &BTreeSet<ContainerId>) -> Option<Value>,
}

const FAMILIES: [One; 5] = [
    One {
        name: "container_restartcount",
        help: "How often the engine's restart policy started the container anew.",
        value: |container, _| container.inspected.then_some(container.restart_count.into()),
    },
    One {
        name: "container_last_exit_code",
        help: "What the container's last run ended with.",
        value: |container, _| container.exit_code.map(Value::from),
    },
    One {
        name: "container_finish_time_seconds",
        help: "When the container's last run ended, since unix epoch in seconds.",
        value: |container, _| container.finished.map(Value::from),
    },
    One {
        name: "container_state_oomkilled",
        help: "Whether a process of the container's last run was killed for want of memory.",
        // The engine has it from events of its runtime, which may come after the end, or not at all.
        value: |container, killed| match killed.contains(&container.id) {
            true => Some(true.into()),
            false => container.oom_killed.map(Value::from),
        },
    },
    One {
        name: "container_spec_cpu_limit_cores",
        help: "How many cores' worth of time the container may use.",
        value: |container, _| container.allowed.cores().map(Value::from),
    },
];

/// Writes what is known from the engine, of containers in whatever state. `killed` are those in whose last run the kernel counted a kill for want of memory.
pub(crate) fn write<'a>(containers: impl Iterator<Item = &'a Container> + Clone, killed: &BTreeSet<ContainerId>, pass: &mut Pass<'_>) {
    let status = "Whether the container is in this state.";
    one_of("container_state_status", status, &STATES, containers.clone(), |container| Some(&container.state), pass);
    let health = "Whether the container's health check says this.";
    one_of("container_state_health_status", health, &HEALTH, containers.clone(), |container| container.health.as_deref(), pass);
    for one in FAMILIES {
        let mut family = pass.out.family(one.name, Kind::Gauge, one.help);
        for container in containers.clone() {
            if let Some(value) = (one.value)(container, killed) {
                family.sample_shared(&container.series, &[], value);
            }
        }
    }
    info(containers, pass);
}

/// A family with a sample for each word that could be, of which one is 1.
fn one_of<'a>(
    name: &str,
    help: &str,
    words: &[&str],
    containers: impl Iterator<Item = &'a Container>,
    of: fn(&Container) -> Option<&str>,
    pass: &mut Pass<'_>,
) {
    let mut family = pass.out.family(name, Kind::Gauge, help);
    for container in containers {
        let Some(is) = of(container) else { continue };
        for word in words {
            family.sample_shared(&container.series, &[("status", word)], *word == is);
        }
        if !words.contains(&is) {
            family.sample_shared(&container.series, &[("status", is)], true);
        }
    }
}

/// What does not change while a container runs, and would be too much for every series. Nothing of its environment or its command line is told.
fn info<'a>(containers: impl Iterator<Item = &'a Container>, pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_info", Kind::Gauge, "What the container is made of, and how it is run.");
    for container in containers {
        let tty = match container.tty {
            Some(true) => "true",
            Some(false) => "false",
            None => "",
        };
        let mut labels = [
            ("image_id", &*container.image_id),
            ("hostname", &container.hostname),
            ("log_driver", &container.log_driver),
            ("network_mode", &container.network_mode),
            ("restart_policy", &container.restart_policy),
            ("tty", tty),
        ];
        // What is not known stands last, and is left out: to Prometheus a label without a value is none.
        labels.sort_by_key(|(_, value)| value.is_empty());
        let known = labels.iter().take_while(|(_, value)| !value.is_empty()).count();
        family.sample_shared(&container.series, labels.get(..known).unwrap_or_default(), 1u64);
    }
}
