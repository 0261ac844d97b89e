//! What containers leave behind, as an engine tells it that repeats itself, ends its streams, and forgets.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep::containers::ledger::Ledger;
use skep::containers::{ContainersCollector, ContainersOptions};
use skep::docker::{InventoryTask, Labelling, Timing};
use skep::telemetry::{Metrics, Parts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_engine::{FakeEngine, Reply};
use crate::recording::{fixtures, reader, scrape, value};

const SECOND: i64 = 1_000_000_000;
/// 2026-11-20T00:00:00Z.
const MIDNIGHT: i64 = 1_795_132_800 * SECOND;

fn event(digit: char, action: &str, seconds: i64, code: &str) -> String {
    let id = digit.to_string().repeat(64);
    let time = MIDNIGHT + seconds * SECOND;
    format!(
        r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"image":"bb:1","name":"job-{digit}",
           "com.docker.swarm.service.name":"shop_job","com.docker.stack.namespace":"shop","exitCode":"{code}"}}}},"timeNano":{time}}}"#
    )
    .replace('\n', "")
}

/// An engine that keeps what it has told.
fn engine(path: &Path, kept: &Arc<Mutex<Vec<String>>>) -> FakeEngine {
    let kept = kept.clone();
    FakeEngine::start(path, move |path| match path.strip_prefix("/v1.47").unwrap_or(path) {
        "/version" => Reply::Json(r#"{"ApiVersion":"1.47"}"#.into()),
        "/info" => Reply::Json(r#"{"Name":"node-1","SystemTime":"2026-11-20T02:00:00Z"}"#.into()),
        "/containers/json?all=1" => Reply::Json("[]".into()),
        events if events.starts_with("/events?") => Reply::Stream(kept.lock().unwrap().clone()),
        _ => Reply::Status(404, "No such container"),
    })
}

struct Agent {
    collector: ContainersCollector,
    metrics: Metrics,
    ledger: Ledger,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(engine: &FakeEngine, state: &Path) -> Self {
        let (parts, metrics, shutdown) = (Parts::default(), Metrics::new().unwrap(), CancellationToken::new());
        let ledger = Ledger::open(state, "boot", parts.part("ledger"), metrics.clone());
        let (task, inventory) = InventoryTask::new(engine.host(), Labelling::default(), &parts, metrics.clone());
        let (first_retry, longest_retry) = (Duration::from_millis(5), Duration::from_millis(5));
        let task = task.with_timing(Timing { first_retry, longest_retry, ..Timing::default() }).with_witness(Arc::new(ledger.clone()));
        let collector = ContainersCollector::new(inventory, ContainersOptions::default()).with_ledger(ledger.clone());
        Self { collector, metrics, ledger, task: tokio::spawn(task.run(shutdown.clone())), shutdown }
    }

    async fn has_taken(&self, events: u64) {
        let wait = async {
            while self.metrics.docker_events.get() < events {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    fn scrape(&mut self) -> String {
        scrape(&mut self.collector, &mut reader(&fixtures().join("v1/proc"), &fixtures().join("v1/sys"))).0
    }

    fn lost(&self, reason: &str) -> bool {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let line = format!("skep_ledger_losses_total{{reason=\"{reason}\"}} 0\n");
        !String::from_utf8(text).unwrap().contains(&line)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.ledger.save(true);
    }
}

fn exits(text: &str, class: &str) -> f64 {
    value(text, "container_exited_total", &["service_name=\"shop_job\"", "namespace=\"shop\"", &format!("\"{class}\"")]).unwrap()
}

#[tokio::test]
async fn every_exit_counts_once_whoever_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let (path, state) = (directory.path().join("docker.sock"), directory.path().join("state"));
    let kept = Arc::new(Mutex::new(vec![event('a', "start", 3600, ""), event('a', "oom", 3601, ""), event('a', "die", 3602, "137")]));
    let fake = engine(&path, &kept);
    let mut agent = Agent::start(&fake, &state);
    agent.has_taken(3).await;
    let text = agent.scrape();
    assert_eq!((exits(&text, "oom_killed"), exits(&text, "error")), (1.0, 0.0));
    assert_eq!(value(&text, "container_oom_events_total", &["name=\"job-a\""]), Some(1.0));
    assert_eq!(value(&text, "container_exits_total", &["name=\"job-a\"", "code_class=\"oom_killed\""]), Some(1.0));

    // The connection breaks; the engine begins with what it has told already.
    kept.lock().unwrap().push(event('a', "destroy", 3603, ""));
    kept.lock().unwrap().push(event('b', "die", 3604, "1"));
    fake.end_streams();
    agent.has_taken(8).await;
    let text = agent.scrape();
    assert_eq!((exits(&text, "oom_killed"), exits(&text, "error")), (1.0, 1.0));
    assert_eq!(value(&text, "container_oom_events_total", &["name=\"job-a\""]), Some(1.0), "it stays, though the container is gone");
    let asked = fake.requests();
    assert!(asked.iter().any(|path| path.ends_with("&since=1795136401.000000000")), "{asked:?}");
    agent.stop().await;

    // While no agent runs, two end.
    kept.lock().unwrap().push(event('b', "die", 3700, "1"));
    kept.lock().unwrap().push(event('c', "die", 3701, "0"));
    let mut agent = Agent::start(&fake, &state);
    agent.has_taken(7).await;
    let text = agent.scrape();
    assert_eq!((exits(&text, "oom_killed"), exits(&text, "error"), exits(&text, "success")), (1.0, 2.0, 1.0));
    assert_eq!(value(&text, "container_oom_events_total", &["name=\"job-a\""]), Some(1.0));
    assert!(!agent.lost("event_gap"));

    // The engine is another one by now and has forgotten all: what was between is lost, and said to be.
    drop(fake);
    *kept.lock().unwrap() = vec![event('d', "die", 3800, "143")];
    let _fake = engine(&path, &kept);
    agent.has_taken(8).await;
    assert_eq!(exits(&agent.scrape(), "signal"), 1.0);
    assert!(agent.lost("event_gap"));
    agent.stop().await;
}

/// An engine that saw its runtime's word of the kill too late says `false`, and goes on saying it.
#[tokio::test]
async fn a_kill_that_the_engine_did_not_see() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let all = || {
        let entry = |digit: char| format!(r#"{{"Id":"{}","Names":["/{digit}"],"State":"exited"}}"#, digit.to_string().repeat(64));
        format!("[{},{},{}]", entry('a'), entry('b'), entry('c'))
    };
    let events = vec![
        event('a', "start", 3600, ""),
        event('a', "oom", 3601, ""),
        event('a', "die", 3602, "137"),
        event('b', "start", 3600, ""),
        event('b', "die", 3602, "137"),
    ];
    let fake = FakeEngine::start(&path, move |path| match path.strip_prefix("/v1.47").unwrap_or(path) {
        "/version" => Reply::Json(r#"{"ApiVersion":"1.47"}"#.into()),
        "/info" => Reply::Json(r#"{"Name":"node-1","SystemTime":"2026-11-20T02:00:00Z"}"#.into()),
        "/containers/json?all=1" => Reply::Json(all()),
        asked if asked.starts_with("/events?") => Reply::Stream(events.clone()),
        inspect => {
            let id = inspect.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap_or_default();
            let (digit, seen) = (id.get(..1).unwrap_or_default(), id.starts_with('c'));
            Reply::Json(format!(
                r#"{{"Id":"{id}","Name":"/{digit}","State":{{"Status":"exited","ExitCode":137,"OOMKilled":{seen},"FinishedAt":"2026-11-20T01:00:02Z"}}}}"#
            ))
        }
    });
    let mut agent = Agent::start(&fake, &directory.path().join("state"));
    agent.has_taken(5).await;
    let wait = async {
        loop {
            let text = agent.scrape();
            let says = ["a", "b", "c"].map(|name| value(&text, "container_state_oomkilled", &[&format!("name=\"{name}\"")]));
            if says.iter().all(Option::is_some) {
                return says;
            }
            tokio::task::yield_now().await;
        }
    };
    let says = tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    assert_eq!(says, [Some(1.0), Some(0.0), Some(1.0)]);
    agent.stop().await;
}
