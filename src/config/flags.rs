//! The agent's own flags. A collector's stand beside the collector.

use super::Flag;
use super::flag::FlagKind::{Many, One, Switch};

/// Flags of the whole agent by their subjects, in the order in which `--help` shows both.
pub static GENERAL: &[(&str, &[Flag])] =
    &[("The agent", AGENT), ("Containers", CONTAINERS), ("Containers' logs", LOGS), ("Pages and scrapes", PAGES)];

static AGENT: &[Flag] = &[
    Flag::new(
        "config",
        One("FILE"),
        None,
        "TOML file of settings: one flat table, each key quoted and named as its flag; routes as [[route]].",
    ),
    Flag::new(
        "host-label",
        One("NAME"),
        Some("host"),
        "Constant label on every series; its value is the node's name. Empty switches it off.",
    ),
    Flag::new("node-name", One("NAME"), None, "The node's name [default: $NODE_NAME, else the engine's, else the host's /etc/hostname]."),
    Flag::new("node-id", One("ID"), None, "The node's id in the Swarm [default: $NODE_ID, else the engine's]."),
    Flag::new("path.procfs", One("DIR"), None, "procfs of the host [default: /host/proc or /rootfs/proc where mounted, else /proc]."),
    Flag::new("path.sysfs", One("DIR"), None, "sysfs of the host [default: /host/sys or /rootfs/sys where mounted, else /sys]."),
    Flag::new("path.rootfs", One("DIR"), None, "Root file system of the host [default: /host/root or /rootfs where mounted, else /]."),
    Flag::new("path.udev.data", One("DIR"), None, "udev's data of the host [default: run/udev/data below the root file system]."),
    Flag::new("state-dir", One("DIR"), Some("/var/lib/skep"), "Where cursors, spool and dead letters are kept."),
    Flag::new("shutdown.timeout", One("DURATION"), Some("25s"), "How long SIGTERM waits for the sinks to take what was read."),
    Flag::new("log.level", One("LEVEL"), Some("info"), "error, warn, info or debug."),
    Flag::new("log.format", One("FORMAT"), Some("logfmt"), "logfmt or json."),
    Flag::new("json", Switch, Some("false"), "check, config: print JSON."),
];

static CONTAINERS: &[Flag] = &[
    Flag::new("docker.host", One("URI"), None, "The engine: unix:// or tcp:// [default: $DOCKER_HOST, else unix:///var/run/docker.sock]."),
    Flag::new(
        "docker.containers-dir",
        One("DIR"),
        None,
        "Where the engine keeps its containers' log files [default: containers below its data root].",
    ),
    Flag::new("collector.containers", Switch, Some("true"), "Metrics of containers."),
    Flag::new(
        "containers.disk",
        One("WHO"),
        Some("auto"),
        "Who counts what containers take of the disk: walk (skep, in at most 1 % of a processor), engine (asked in at most 1 % of the time), auto: walk, and the engine where skep may not enter every directory; or off.",
    ),
    Flag::new(
        "containers.disk.interval",
        One("DURATION"),
        Some("60s"),
        "How often a running container's disk usage is counted, at the most; a tenth as often when it does not run.",
    ),
    Flag::new(
        "containers.label",
        One("REGEX"),
        None,
        "Further container labels that become metric labels, beside those of Swarm and stacks; the whole name must match.",
    ),
    Flag::new(
        "containers.enable",
        Many("GROUP"),
        None,
        "Groups of container metrics that are off by default: tcp, udp, advtcp, process, hugetlb, numa, sched, cpuset, cpu_topology; repeatable, or with commas.",
    ),
];

static LOGS: &[Flag] = &[
    Flag::new(
        "route",
        Many("ROUTE"),
        None,
        "Where logs go: adapter://host[:port][,host...][?option=value&...]; repeatable, also as arguments without --route.",
    ),
    Flag::new(
        "logs.backfill",
        One("WHAT"),
        Some("auto"),
        "What a first start does with lines written before it: all, none, a duration (those that are not older), or auto: all when the state directory outlives the container, else none.",
    ),
    Flag::new("logs.spool-bytes", One("SIZE"), Some("1GiB"), "What may be kept on disk of lines whose file is going."),
    Flag::new("logs.max-record-bytes", One("SIZE"), Some("256KiB"), "A longer record is cut, tagged and counted."),
    Flag::new(
        "logs.multiline-gap",
        One("DURATION"),
        Some("1s"),
        "Where a container's label skep.logs.multiline joins lines: the longest gap between two of them.",
    ),
    Flag::new("logs.inotify", Switch, Some("true"), "Be woken by inotify; off: look at the log files by time."),
    Flag::new("logs.label", One("REGEX"), None, "Container labels that become labels.* of records; the whole name must match."),
];

static PAGES: &[Flag] = &[
    Flag::new("web.listen-address", Many("ADDRESS"), Some(":7537"), "Where the pages are served; repeatable."),
    Flag::new("web.telemetry-path", One("PATH"), Some("/metrics"), "Where the metrics are served."),
    Flag::new("web.max-requests", One("NUMBER"), Some("40"), "Scrapes answered at one time; one more is answered with 503. 0 is no limit."),
    Flag::new(
        "web.config.file",
        One("FILE"),
        None,
        "TLS, passwords and headers, in exporter-toolkit's format (YAML); read again when it changes.",
    ),
    Flag::new(
        "web.systemd-socket",
        Switch,
        Some("false"),
        "Take the sockets that systemd has opened instead of opening --web.listen-address.",
    ),
    Flag::new("web.disable-exporter-metrics", Switch, Some("false"), "Leave out skep's own metrics."),
    Flag::new(
        "scrape.timeout",
        One("DURATION"),
        Some("8s"),
        "When a scrape answers with what it has; a shorter limit that Prometheus tells wins.",
    ),
    Flag::new(
        "collector.timeout",
        One("DURATION"),
        Some("5s"),
        "How long one collector may run; then the scrape goes on without it. Never more than half of the scrape's own limit.",
    ),
];

/// Flags of node_exporter that are understood, so that its command lines start skep, and that do nothing: those of collectors that skep does not have (ntp,
/// perf, runit and supervisord; gmond, megacli, exec and devstat of old versions), and of the Go runtime. They are not offered by `--help`, and one that is
/// given is answered with a warning.
pub static WITHOUT_EFFECT: &[Flag] = &[
    Flag::new("collector.devstat", Switch, None, "Of other systems than Linux."),
    Flag::new("collector.exec", Switch, None, "Of other systems than Linux."),
    Flag::new("collector.gmond", Switch, None, "Gone from node_exporter."),
    Flag::new("collector.megacli", Switch, None, "Gone from node_exporter."),
    Flag::new("collector.megacli.command", One("FILE"), None, "Gone from node_exporter."),
    Flag::new("collector.ntp", Switch, None, "The ntp collector."),
    Flag::new("collector.ntp.server", One("ADDRESS"), None, "Of the ntp collector."),
    Flag::new("collector.ntp.server-port", One("PORT"), None, "Of the ntp collector."),
    Flag::new("collector.ntp.protocol-version", One("NUMBER"), None, "Of the ntp collector."),
    Flag::new("collector.ntp.server-is-local", Switch, None, "Of the ntp collector."),
    Flag::new("collector.ntp.ip-ttl", One("NUMBER"), None, "Of the ntp collector."),
    Flag::new("collector.ntp.max-distance", One("DURATION"), None, "Of the ntp collector."),
    Flag::new("collector.ntp.local-offset-tolerance", One("DURATION"), None, "Of the ntp collector."),
    Flag::new("collector.perf", Switch, None, "The perf collector."),
    Flag::new("collector.perf.cpus", One("LIST"), None, "Of the perf collector."),
    Flag::new("collector.perf.tracepoint", Many("NAME"), None, "Of the perf collector."),
    Flag::new("collector.perf.disable-hardware-profilers", Switch, None, "Of the perf collector."),
    Flag::new("collector.perf.hardware-profilers", Many("NAME"), None, "Of the perf collector."),
    Flag::new("collector.perf.disable-software-profilers", Switch, None, "Of the perf collector."),
    Flag::new("collector.perf.software-profilers", Many("NAME"), None, "Of the perf collector."),
    Flag::new("collector.perf.disable-cache-profilers", Switch, None, "Of the perf collector."),
    Flag::new("collector.perf.cache-profilers", Many("NAME"), None, "Of the perf collector."),
    Flag::new("collector.runit", Switch, None, "The runit collector."),
    Flag::new("collector.runit.servicedir", One("DIR"), None, "Of the runit collector."),
    Flag::new("collector.supervisord", Switch, None, "The supervisord collector."),
    Flag::new("collector.supervisord.url", One("URL"), None, "Of the supervisord collector."),
    Flag::new("runtime.gomaxprocs", One("NUMBER"), None, "Of the Go runtime."),
];

/// Every flag with the subject under which `--help` shows it, which those without effect do not have.
pub fn by_subject() -> impl Iterator<Item = (Option<&'static str>, Flag)> {
    let general = GENERAL.iter().flat_map(|(subject, flags)| flags.iter().map(|flag| (Some(*subject), *flag)));
    let of_collectors = crate::collect::flags().map(|flag| (Some("Collectors of the host, each with its own flags behind it"), flag));
    general.chain(of_collectors).chain(WITHOUT_EFFECT.iter().map(|flag| (None, *flag)))
}

/// Every flag: the agent's own, those of its collectors, and those without effect.
pub fn all() -> impl Iterator<Item = Flag> {
    by_subject().map(|(_, flag)| flag)
}
