//! The recordings, and the whole way from them to the exposition.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep::collect::{Collector, Pass, Presence};
use skep::containers::{ContainersCollector, ContainersOptions, Groups};
use skep::docker::{Inventory, InventoryTask, Labelling};
use skep::exposition::Writer;
use skep::host::{Reader, Root};
use skep::model::LabelSet;
use skep::telemetry::{Metrics, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fake_engine::{FakeEngine, Reply};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers")
}

/// Answers as the engine 20.10 did whose answers were recorded.
pub(crate) fn recorded(path: &str) -> Reply {
    recorded_by("engine20", "/v1.41", path)
}

/// Answers as the engine did whose answers are in `directory`, and which is asked below `prefix`.
pub(crate) fn recorded_by(directory: &str, prefix: &str, path: &str) -> Reply {
    let directory = fixtures().join(directory);
    let read = |file: &str| std::fs::read_to_string(directory.join(file));
    let path = path.strip_prefix(prefix).unwrap_or(path);
    match path {
        "/version" => Reply::Json(read("version.json").unwrap()),
        "/info" => Reply::Json(read("info.json").unwrap()),
        "/containers/json?all=1" => Reply::Json(read("containers.json").unwrap()),
        events if events.starts_with("/events?") => Reply::Stream(read("events.ndjson").unwrap().lines().map(str::to_owned).collect()),
        network if network.starts_with("/networks/") => {
            let name = network.strip_prefix("/networks/").unwrap();
            read(&format!("{name}.json")).map_or(Reply::Status(404, "no such network"), Reply::Json)
        }
        inspect => {
            let id = inspect.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap();
            read(&format!("inspect/{id}.json")).map_or(Reply::Status(404, "no such container"), Reply::Json)
        }
    }
}

/// The inventory that the recorded engine gives.
pub(crate) async fn inventory(labels: Option<&str>) -> watch::Receiver<Arc<Inventory>> {
    inventory_by(recorded, labels).await
}

/// The inventory that an engine gives that answers by `script`.
pub(crate) async fn inventory_by(script: fn(&str) -> Reply, labels: Option<&str>) -> watch::Receiver<Arc<Inventory>> {
    let directory = tempfile::tempdir().unwrap();
    let engine = FakeEngine::start(&directory.path().join("docker.sock"), script);
    let metrics = Metrics::new().unwrap();
    let (task, mut inventory) = InventoryTask::new(engine.host(), Labelling::new(labels).unwrap(), &Parts::default(), metrics);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(task.run(shutdown.clone()));
    inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap();
    shutdown.cancel();
    running.await.unwrap();
    inventory
}

/// A reader of `<directory>/{proc,sys,root}`.
pub(crate) fn reader(proc: &Path, sys: &Path) -> Reader {
    let root = proc.parent().unwrap().join("root");
    Reader::new(Arc::new(Root::find(Some(proc.into()), Some(sys.into()), Some(root), None)))
}

/// One scrape: the text without the values of the clock, the oddities, and the first of them.
pub(crate) fn scrape(collector: &mut ContainersCollector, host: &mut Reader) -> (String, u64, String) {
    let mut out = Writer::new(Arc::new(LabelSet::new()));
    let mut pass = Pass::new(host, &mut out);
    let presence = collector.collect(&mut pass);
    let (odd, example) = pass.oddities();
    assert_eq!(presence.unwrap(), Presence::Present);
    let mut text = String::new();
    for line in String::from_utf8(out.text().to_vec()).unwrap().lines() {
        match line.rsplit_once(' ') {
            Some((sample, _)) if sample.starts_with("container_last_seen") => text.push_str(&format!("{sample} NOW\n")),
            _ => text.push_str(&format!("{line}\n")),
        }
    }
    (text, odd, example)
}

/// A collector with groups that are off by default.
pub(crate) fn collector_of(inventory: watch::Receiver<Arc<Inventory>>, groups: Groups) -> ContainersCollector {
    ContainersCollector::new(inventory, ContainersOptions { groups, ..ContainersOptions::default() })
}

pub(crate) fn collector(inventory: watch::Receiver<Arc<Inventory>>) -> ContainersCollector {
    ContainersCollector::new(inventory, ContainersOptions::default())
}

/// Compares with a file of `tests/golden`; with `SKEP_BLESS` set it writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let differing = expected.lines().zip(text.lines()).find(|(expected, found)| expected != found);
    assert_eq!(differing, None, "{name}: the first line that differs (expected, found)");
    assert_eq!(expected.lines().count(), text.lines().count(), "{name}: the number of lines");
}

/// The value of the sample whose name and labels contain all of `parts`; there must be one at most.
pub(crate) fn value(text: &str, family: &str, parts: &[&str]) -> Option<f64> {
    let start = format!("{family}{{");
    let mut found = text.lines().filter(|line| line.starts_with(&start) && parts.iter().all(|part| line.contains(part)));
    let line = found.next()?;
    assert_eq!(found.next(), None, "{family} {parts:?} is ambiguous");
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}
