//! The recorded answers of engine 29 (API 1.55, containerd image store): its list, its inspects and its events, in whatever order and with whatever missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep::collect::{Collector, Pass};
use skep::docker::{Inventory, InventoryTask, Labelling, ListedContainer, Timing};
use skep::exposition::Writer;
use skep::model::LabelSet;
use skep::telemetry::{Metrics, Parts};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::{NEVER, socket};
use crate::fake_engine::{FakeEngine, Reply};
use crate::recording::{collector, fixtures, golden, reader, recorded_by};

const AB: &str = "af54c56dddc8233c3e934af66d4721b322093c200b113ab0d227229d1819142b";
const WEB_1: &str = "8c21195eb0bdf8bf237579db2aba7180fc4a6426843cb3f4eabf457216ee3011";
const SHORT: &str = "f60089d3b4c835686a101c7e6502d9edb6fb359e1c61a2b5fbcd4dd1a923bf3b";
/// When the list was taken, by the engine's clock.
const LISTED: i64 = 1_795_208_332_901_939_420;

/// What the engine answers beside its recordings.
struct Script {
    /// The list is empty: the engine has just started.
    starts_empty: bool,
    inspects: bool,
    events: Vec<String>,
}

fn recorded29(path: &str, script: &Script) -> Reply {
    let recorded = |path: &str| recorded_by("engine29", "/v1.55", path);
    match path.strip_prefix("/v1.55").unwrap_or(path) {
        "/containers/json?all=1" if script.starts_empty => Reply::Json("[]".to_owned()),
        "/info" if script.starts_empty => match recorded(path) {
            Reply::Json(info) => Reply::Json(info.replace("2026-11-20T20:58:52", "2026-11-20T20:57:52")),
            other => other,
        },
        events if events.starts_with("/events?") => Reply::Stream(script.events.clone()),
        inspect if inspect.starts_with("/containers/") && inspect.ends_with("/json") && !inspect.contains(SHORT) => match recorded(path) {
            Reply::Json(text) if script.inspects => Reply::Json(text),
            _ => Reply::Status(500, "not recorded"),
        },
        _ => recorded(path),
    }
}

/// All events until `until`, and how many of them are of containers.
fn events(until: i64) -> (Vec<String>, u64) {
    let text = std::fs::read_to_string(fixtures().join("engine29/events.ndjson")).unwrap();
    let (mut lines, mut count) = (Vec::new(), 0);
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["timeNano"].as_i64().unwrap() > until {
            break;
        }
        let of_network = event["Type"] == "network" && ["connect", "disconnect"].contains(&event["Action"].as_str().unwrap());
        count += u64::from(event["Type"] == "container" || of_network);
        lines.push(line.to_owned());
    }
    (lines, count)
}

struct Session {
    _directory: tempfile::TempDir,
    engine: FakeEngine,
    inventory: watch::Receiver<Arc<Inventory>>,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Session {
    fn start(script: Script) -> Self {
        let (directory, path) = socket();
        let script = Arc::new(Mutex::new(script));
        let engine = FakeEngine::start(&path, move |path| recorded29(path, &script.lock().unwrap()));
        let (metrics, shutdown) = (Metrics::new().unwrap(), CancellationToken::new());
        let (task, inventory) = InventoryTask::new(engine.host(), Labelling::default(), &Parts::default(), metrics.clone());
        let timing = Timing { verify: NEVER, settle: Duration::from_secs(2), ..Timing::default() };
        let task = tokio::spawn(task.with_timing(timing).run(shutdown.clone()));
        Self { _directory: directory, engine, inventory, metrics, shutdown, task }
    }

    async fn until(&self, is: impl Fn(&Inventory, &Metrics) -> bool) -> Arc<Inventory> {
        // Not every event publishes something.
        let wait = async {
            loop {
                let inventory = self.inventory.borrow().clone();
                if is(&inventory, &self.metrics) {
                    return inventory;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
    }

    fn inspects(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for path in self.engine.requests() {
            if let Some(id) = path.strip_prefix("/v1.55/containers/").and_then(|rest| rest.strip_suffix("/json")) {
                *asked.entry(id.to_owned()).or_default() += 1;
            }
        }
        asked
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Who is there and how: id, name, image, labels, state, health.
type Who = BTreeSet<(String, String, String, String, String, Option<String>)>;

fn who(inventory: &Inventory) -> Who {
    let containers = inventory.containers.values();
    containers
        .map(|container| {
            let (id, labels) = (container.id.as_str().to_owned(), format!("{:?}", container.labels));
            (id, container.name.clone(), container.image.clone(), labels, container.state.clone(), container.health.clone())
        })
        .collect()
}

fn listed() -> Who {
    let text = std::fs::read_to_string(fixtures().join("engine29/containers.json")).unwrap();
    let list: Vec<ListedContainer> = serde_json::from_str(&text).unwrap();
    list.into_iter()
        .map(|entry| {
            let (name, health) = (entry.name().unwrap().to_owned(), entry.health().map(str::to_owned));
            (entry.id, name, entry.image, format!("{:?}", entry.labels), entry.state, health)
        })
        .collect()
}

/// What the events tell is what the list says at the end of them, whether inspect answers or not.
#[tokio::test]
async fn events_alone_leave_what_the_list_says() {
    for inspects in [false, true] {
        let (events, count) = events(LISTED);
        let session = Session::start(Script { starts_empty: true, inspects, events });
        session.until(|inventory, metrics| metrics.docker_events.get() == count && who(inventory) == listed()).await;
        session.stop().await;
    }
}

#[tokio::test]
async fn a_burst_of_events_asks_for_each_container_once() {
    let (events, _) = events(i64::MAX);
    let session = Session::start(Script { starts_empty: true, inspects: true, events });
    let inventory = session
        .until(|inventory, _| {
            inventory.containers.values().filter(|container| container.inspected).count() == 3 && inventory.containers.len() == 5
        })
        .await;
    // Thirteen events of the one, 62 of the other, most of them of its health check.
    let asked = session.inspects();
    assert_eq!([AB, WEB_1].map(|id| asked[id]), [1, 1]);
    // It was made, ran and was removed in the same burst.
    assert_eq!(asked.get(SHORT), None);
    let of = |name: &str| inventory.containers.values().find(|container| container.name.starts_with(name)).unwrap();
    let crash = of("crash");
    assert_eq!((&*crash.state, crash.exit_code, crash.inspected), ("exited", Some(7), false));
    assert_eq!(crash.task().unwrap().service_name, "crash");
    // The event is newer than the recorded inspect, and stands until the next.
    assert_eq!(of("web.2").health.as_deref(), Some("unhealthy"));
    session.until(|_, metrics| metrics.docker_containers_incomplete.get() == 2).await;
    session.stop().await;
}

#[tokio::test]
async fn the_list_and_the_inspects_make_the_exposition() {
    let session = Session::start(Script { starts_empty: false, inspects: true, events: Vec::new() });
    let inventory = session.until(|inventory, _| inventory.synced_at.is_some()).await;
    assert_eq!(who(&inventory), listed());
    assert_eq!(inventory.gateway_bridge, Some(([172, 18, 0, 0].into(), 16)));
    // Everything but the question for the version carries the version.
    assert!(session.engine.requests().iter().all(|path| path == "/version" || path.starts_with("/v1.55/")));
    let mut host = reader(&fixtures().join("v1/proc"), &fixtures().join("v1/sys"));
    let mut out = Writer::new(Arc::new(LabelSet::new()));
    // None of them has a cgroup in this tree; what the engine knows is told all the same.
    collector(session.inventory.clone()).collect(&mut Pass::new(&mut host, &mut out)).unwrap_err();
    let own = [
        "container_state_",
        "container_info",
        "container_restartcount",
        "container_last_exit",
        "container_finish",
        "container_spec_cpu_limit",
    ];
    let mut text = String::new();
    for line in String::from_utf8(out.text().to_vec()).unwrap().lines() {
        let name = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
        if own.iter().any(|family| name.starts_with(family)) {
            text.push_str(&format!("{line}\n"));
        }
    }
    golden("containers-engine29.prom", &text);
    session.stop().await;
}
