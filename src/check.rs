//! `skep check`: what can be read here, and which routes answer. `skep config`: what is in force.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::{self, Surroundings};
use crate::config::{Adapter, Config, Fault, FlagKind, RouteSpec, flags};
use crate::containers::ledger::not_kept;
use crate::exposition::{Manner, Scraper};
use crate::host;
use crate::http::Guard;
use crate::logs::pipeline;
use crate::logs::sink::{DeadLetter, Sink};
use crate::state::StateFile;
use crate::swarm::identity::own_container_id;
use crate::telemetry::{Metrics, Parts};

const ROUTE_LIMIT: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// How it is.
    pub state: Verdict,
    /// In a sentence: where it was found, or what is wrong and what would do.
    pub detail: String,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Ok,
    /// This machine has no such thing, and nobody asked for it.
    Absent,
    /// It was asked for and cannot work.
    Failed,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Whether all that was asked for can work.
    #[must_use]
    pub fn works(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != Verdict::Failed)
    }

    /// A table for people, or JSON.
    #[must_use]
    pub fn render(&self, json: bool) -> String {
        if json {
            return serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |text| text + "\n");
        }
        let width = self.findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
        let mut table = String::new();
        for finding in &self.findings {
            let state = match finding.state {
                Verdict::Ok => "ok",
                Verdict::Absent => "absent",
                Verdict::Failed => "FAILED",
            };
            let written = writeln!(table, "{:width$}  {state:6}  {}", finding.subject, finding.detail);
            debug_assert!(written.is_ok(), "writing to a String");
        }
        table
    }

    fn add(&mut self, subject: &str, state: Verdict, detail: impl Into<String>) {
        self.findings.push(Finding { subject: subject.to_owned(), state, detail: detail.into() });
    }
}

/// Looks at everything.
///
/// # Errors
/// A [`Fault`] for settings that contradict what is found.
pub async fn run(config: &Config) -> Result<Report, Fault> {
    let mut report = Report { findings: Vec::new() };
    let surroundings = Surroundings::find(config).await?;
    let node = &surroundings.node;
    report.add("node name", Verdict::Ok, format!("{} (from {})", node.name, node.name_from));
    match (&node.id, &node.id_from) {
        (Some(id), Some(from)) => report.add("node id", Verdict::Ok, format!("{id} (from {from})")),
        _ => report.add("node id", Verdict::Absent, "this node is in no Swarm, as far as can be told"),
    }
    trees(config, &mut report);
    groups(config, &mut report);
    web(config, &mut report);
    let asked_for = config.settings.one("docker.host").is_some() || !config.logs.routes.is_empty();
    match (&surroundings.engine, &surroundings.engine_fault) {
        (Some(engine), _) => {
            report.add(
                "engine",
                Verdict::Ok,
                format!("{} at {}, data in {}", engine.server_version, config.docker.host, engine.docker_root_dir.display()),
            );
            for (is_on, what) in [
                (engine.has_userns(), "user namespaces are remapped"),
                (engine.has_selinux(), "SELinux is on"),
                (engine.is_rootless(), "it is rootless"),
            ] {
                if is_on {
                    report.add(
                        "engine",
                        Verdict::Ok,
                        format!("{what}: files of containers may not be readable, which the lines below show"),
                    );
                }
            }
        }
        (None, why) => {
            let state = if asked_for { Verdict::Failed } else { Verdict::Absent };
            report.add("engine", state, why.clone().unwrap_or_default());
        }
    }
    state(config, &mut report);
    collectors(config, &surroundings, &mut report).await?;
    logs(config, &surroundings, &mut report).await;
    Ok(report)
}

fn trees(config: &Config, report: &mut Report) {
    let root = Arc::new(config.root.clone());
    for probe in host::probe(&root, own_container_id().is_some()) {
        match probe.found {
            Ok(place) => report.add(probe.part, Verdict::Ok, place),
            Err(why) => report.add(probe.part, Verdict::Failed, why),
        }
    }
    let (state, detail) = if host::Reader::new(root).in_host_network() {
        (Verdict::Ok, "the host's: what only the kernel itself tells (ethtool, qdisc, wifi, sysctl net.*) is the host's too")
    } else {
        (Verdict::Absent, "skep's own: all but ethtool, qdisc, wifi and sysctl net.* is read from the host's files all the same")
    };
    report.add("network namespace", state, detail);
}

/// Groups of container metrics that are off by default, and whether this process may read what they take.
fn groups(config: &Config, report: &mut Report) {
    let groups = config.docker.groups;
    if !config.settings.is_on("collector.containers") || groups == crate::containers::Groups::default() {
        report.add("container groups", Verdict::Absent, "--containers.enable switches on what cAdvisor too has off by default");
        return;
    }
    report.add("container groups", Verdict::Ok, groups.names().join(", "));
    if groups.process {
        let detail = match host::Reader::new(Arc::new(config.root.clone())).open_files(1) {
            Ok(open) if open.sockets.is_some() => "of all processes",
            Ok(_) => {
                "of all processes; sockets only of those that skep may trace: its own user's with no more capabilities, or all with CAP_SYS_PTRACE"
            }
            Err(_) => "of processes of skep's own user only, for others it takes CAP_DAC_OVERRIDE or Linux 6.2",
        };
        report.add("open files", Verdict::Ok, detail);
    }
}

/// The file of `web.config.file`, and what it does.
fn web(config: &Config, report: &mut Report) {
    let Some(path) = &config.web.file else {
        report.add("web", Verdict::Ok, "no TLS, no passwords: --web.config.file gives them");
        return;
    };
    let opened = Metrics::new().map_err(|error| error.to_string());
    match opened.and_then(|metrics| Guard::open(Some(path), Parts::default().part("web.config"), metrics)) {
        Ok(guard) => {
            report.add("web", Verdict::Ok, format!("{}: {}", path.display(), guard.summary()));
            for note in guard.notes() {
                report.add("web", Verdict::Ok, note);
            }
        }
        Err(why) => report.add("web", Verdict::Failed, why),
    }
}

/// Where cursors and what containers left behind outlive skep.
fn state(config: &Config, report: &mut Report) {
    let (directory, ships) = (&config.logs.state_dir, !config.logs.routes.is_empty());
    if !ships && !config.settings.is_on("collector.containers") {
        return;
    }
    let error = match StateFile::new(directory, "check").prepare() {
        Ok(()) => return report.add("state directory", Verdict::Ok, directory.display().to_string()),
        Err(error) => error,
    };
    let (state, mut why) = (if ships { Verdict::Failed } else { Verdict::Absent }, not_kept(directory, &error));
    if ships {
        why.push_str("; cursors live as long as the process");
    }
    report.add("state directory", state, why);
}

async fn collectors(config: &Config, surroundings: &Surroundings, report: &mut Report) -> Result<(), Fault> {
    let parts = Parts::default();
    let metrics = Metrics::new().map_err(|error| Fault(error.to_string()))?;
    let all = app::collectors(config, &surroundings.node)?;
    let constant = Arc::new(crate::model::LabelSet::new());
    let scraper =
        Scraper::start(all, &Arc::new(config.root.clone()), &constant, Manner { tells_presence: true, ..config.manner }, metrics, &parts)
            .map_err(|error| Fault(error.to_string()))?;
    let answer = scraper.scrape(scraper.select(|_, _| true), config.scrape_timeout).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&answer);
    let says = |family: &str, name: &str| text.contains(&format!("{family}{{collector=\"{name}\"}} 1\n"));
    for (name, _) in scraper.collectors() {
        let (state, detail) = match (says("node_scrape_collector_success", name), says("node_scrape_collector_present", name)) {
            // A folder was named, and not all of its files could be taken.
            (true, true) if name == "textfile" && text.contains("\nnode_textfile_scrape_error 1\n") => {
                (Verdict::Failed, scraper.trouble(name).unwrap_or_default())
            }
            // What a collector could not understand while the rest went on.
            (true, true) => (Verdict::Ok, scraper.trouble(name).unwrap_or_default()),
            (true, false) => (Verdict::Absent, "this machine or its kernel has no such thing".to_owned()),
            (false, _) => (Verdict::Failed, scraper.trouble(name).unwrap_or_else(|| "it did not end in time".to_owned())),
        };
        report.add(&format!("collector {name}"), state, detail);
    }
    Ok(())
}

async fn logs(config: &Config, surroundings: &Surroundings, report: &mut Report) {
    if config.logs.routes.is_empty() {
        report.add("logs", Verdict::Absent, "no route is given: logs are not shipped");
        return;
    }
    match pipeline::containers_dir(config, surroundings) {
        Some(directory) => match std::fs::read_dir(&directory) {
            Ok(found) => report.add("log files", Verdict::Ok, format!("{}: {} containers", directory.display(), found.count())),
            Err(error) => report.add(
                "log files",
                Verdict::Failed,
                format!("{}: {error}; mount the host's / at /host/root, or set --docker.containers-dir", directory.display()),
            ),
        },
        None => report.add(
            "log files",
            Verdict::Failed,
            "no engine answers and its data is not at the usual place; set --docker.containers-dir",
        ),
    }
    let Ok(metrics) = Metrics::new() else { return };
    for route in &config.logs.routes {
        let (state, detail) = probe(route, &metrics).await;
        report.add(&format!("route {}", route.name()), state, detail);
    }
}

/// Asks as the route itself would, credentials and certificates included; of several hosts each has to take a connection.
async fn probe(route: &RouteSpec, metrics: &Metrics) -> (Verdict, String) {
    let of_route = metrics.route(&route.name());
    let dead_letter = DeadLetter::new(None, &route.name(), of_route.clone());
    let sink = match Sink::open(route, &Parts::default(), of_route, dead_letter) {
        Ok(sink) => sink,
        Err(why) => return (Verdict::Failed, why),
    };
    let mut troubles = Vec::new();
    if let Adapter::Elasticsearch(of) = &route.adapter {
        for host in &of.hosts {
            match tokio::time::timeout(ROUTE_LIMIT, tokio::net::TcpStream::connect((host.name.as_str(), host.port))).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => troubles.push(format!("{host}: {error}")),
                Err(_) => troubles.push(format!("{host}: no answer within {} s", ROUTE_LIMIT.as_secs())),
            }
        }
        if troubles.len() == of.hosts.len() {
            return (Verdict::Failed, troubles.join("; "));
        }
    }
    match tokio::time::timeout(ROUTE_LIMIT, sink.probe()).await {
        Ok(Ok(found)) if troubles.is_empty() => (Verdict::Ok, found),
        Ok(Ok(found)) => (Verdict::Ok, format!("{found}; but {}", troubles.join("; "))),
        Ok(Err(why)) => (Verdict::Failed, why),
        Err(_) => (Verdict::Failed, format!("no answer within {} s", ROUTE_LIMIT.as_secs())),
    }
}

/// The effective configuration: a line for each setting, or JSON. What was found by itself is there too; secrets of routes are masked.
#[must_use]
pub fn effective(config: &Config) -> String {
    let route = |text: &String| RouteSpec::parse(text).map_or_else(|why| why, |route| route.to_string());
    let found = |name: &str| -> Option<String> {
        let path = |path: &std::path::Path| Some(path.display().to_string());
        match name {
            "docker.host" => Some(config.docker.host.clone()),
            "path.procfs" => path(&config.root.proc),
            "path.sysfs" => path(&config.root.sys),
            "path.rootfs" => path(&config.root.rootfs),
            "path.udev.data" => path(&config.root.udev),
            _ => {
                let entry = crate::collect::ENTRIES.iter().find(|entry| entry.switch.name == name)?;
                Some((entry.on_by_default && !config.settings.is_on("collector.disable-defaults")).to_string())
            }
        }
    };
    let mut json = serde_json::Map::new();
    let mut text = String::new();
    for flag in flags::all() {
        let given = config.settings.many(flag.name);
        let values = match found(flag.name) {
            Some(value) if given.is_empty() => vec![value],
            _ if flag.name == "route" => given.iter().map(route).collect(),
            _ => given.to_vec(),
        };
        for value in &values {
            let written = writeln!(text, "{} = {value}", flag.name);
            debug_assert!(written.is_ok(), "writing to a String");
        }
        let value = match (flag.kind, values.as_slice()) {
            (FlagKind::Many(_), all) => serde_json::json!(all),
            (FlagKind::Switch, [one]) => serde_json::json!(one == "true"),
            (_, [one]) => serde_json::json!(one),
            (_, _) => serde_json::Value::Null,
        };
        json.insert(flag.name.to_owned(), value);
    }
    if config.json { format!("{:#}\n", serde_json::Value::Object(json)) } else { text }
}
