//! An engine that is not there, refuses, hangs, ends its streams, and says what nobody has heard before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep::docker::{Engine, EngineError, Inventory, InventoryTask, Labelling, Timing};
use skep::telemetry::{Metrics, Parts, State};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_engine::{FakeEngine, Reply};

type Odd = (String, fn() -> Reply);

/// What the engine has, changed by the test while it runs.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// By id: name and state.
    pub(crate) containers: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    /// Answers that replace the usual ones, by the end of the path.
    odd: Arc<Mutex<Vec<Odd>>>,
}

impl World {
    pub(crate) fn put(&self, digit: char, name: &str, state: &str) {
        self.containers.lock().unwrap().insert(id(digit), (name.to_owned(), state.to_owned()));
    }

    pub(crate) fn odd(&self, path: &str, reply: fn() -> Reply) {
        self.odd.lock().unwrap().push((path.to_owned(), reply));
    }

    /// From now on the usual answers.
    pub(crate) fn well(&self) {
        self.odd.lock().unwrap().clear();
    }

    pub(crate) fn answer(&self, path: &str) -> Reply {
        if let Some((_, reply)) = self.odd.lock().unwrap().iter().find(|(odd, _)| path.contains(&**odd)) {
            return reply();
        }
        let containers = self.containers.lock().unwrap();
        match path.strip_prefix("/v1.47").unwrap_or(path) {
            "/version" => Reply::Json(r#"{"ApiVersion":"1.47","MinAPIVersion":"1.24"}"#.into()),
            "/info" => Reply::Json(r#"{"Name":"node-1","Swarm":{"NodeID":"n1","LocalNodeState":"active"},"Later":{}}"#.into()),
            "/containers/json?all=1" => {
                let entry = |(id, (name, state)): (&String, &(String, String))| {
                    format!(r#"{{"Id":"{id}","Names":["/{name}"],"State":"{state}","Status":"","Labels":null,"Image":"bb:1"}}"#)
                };
                Reply::Json(format!("[{}]", containers.iter().map(entry).collect::<Vec<_>>().join(",")))
            }
            events if events.starts_with("/events?") => Reply::Stream(Vec::new()),
            inspect => {
                let id = inspect.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap_or_default();
                match containers.get(id) {
                    Some((name, state)) => Reply::Json(format!(
                        r#"{{"Id":"{id}","Name":"/{name}","State":{{"Status":"{state}","Pid":7,"StartedAt":"2026-11-20T20:58:43Z"}},
                            "Config":{{"Labels":{{"inspected":"yes"}}}},"HostConfig":null}}"#
                    )),
                    None => Reply::Status(404, "No such container"),
                }
            }
        }
    }
}

pub(crate) fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

pub(crate) fn event(action: &str, digit: char) -> String {
    format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{}","Attributes":{{}}}},"timeNano":1}}"#, id(digit))
}

pub(crate) struct Agent {
    pub(crate) inventory: watch::Receiver<Arc<Inventory>>,
    parts: Parts,
    pub(crate) metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(path: &Path, verify: Duration) -> Self {
        Self::start_on(path, verify, None)
    }

    pub(crate) fn start_on(path: &Path, verify: Duration, node: Option<&str>) -> Self {
        let (parts, metrics, shutdown) = (Parts::default(), Metrics::new().unwrap(), CancellationToken::new());
        let timing = Timing {
            call: Duration::from_secs(1),
            first_retry: Duration::from_millis(5),
            longest_retry: Duration::from_millis(20),
            verify,
            pulse: Duration::from_millis(20),
            settle: Duration::from_millis(5),
        };
        let host = format!("unix://{}", path.display());
        let (task, inventory) = InventoryTask::new(host, Labelling::default(), &parts, metrics.clone());
        let task = tokio::spawn(task.with_timing(timing).expecting_node(node.map(str::to_owned)).run(shutdown.clone()));
        Self { inventory, parts, metrics, shutdown, task }
    }

    /// Waits until the inventory has these containers, by name, with their states.
    pub(crate) async fn sees(&mut self, expected: &[(&str, &str)]) -> Arc<Inventory> {
        let mut expected: Vec<(String, String)> = expected.iter().map(|(name, state)| ((*name).into(), (*state).into())).collect();
        expected.sort();
        let is = |inventory: &Arc<Inventory>| {
            let mut found: Vec<(String, String)> =
                inventory.containers.values().map(|container| (container.name.clone(), container.state.clone())).collect();
            found.sort();
            inventory.synced_at.is_some() && found == expected
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), self.inventory.wait_for(is)).await;
        waited.unwrap_or_else(|_| panic!("never saw {expected:?}")).unwrap().clone()
    }

    pub(crate) async fn is_degraded(&self, why: &str) {
        self.until(|| matches!(self.state(), Some(State::Degraded(text)) if text.contains(why)), why).await;
    }

    pub(crate) async fn is_ok(&self) {
        self.until(|| self.state() == Some(State::Ok), "ok").await;
    }

    pub(crate) async fn until(&self, is: impl Fn() -> bool, what: &str) {
        let wait = async {
            while !is() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never {what}: {:?}", self.state()));
    }

    fn state(&self) -> Option<State> {
        self.parts.all().into_iter().find(|(name, _)| name == "docker").map(|(_, state)| state)
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) async fn until_streaming(engine: &FakeEngine) {
    let wait = async {
        while engine.streams() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

async fn until_asked(engine: &FakeEngine, path: &str, times: usize) {
    let wait = async {
        while engine.requests().iter().filter(|asked| asked.ends_with(path)).count() < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

pub(crate) fn socket() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    (directory, path)
}

pub(crate) const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn not_there_refused_and_then_there() {
    let (_directory, path) = socket();
    let mut agent = Agent::start(&path, NEVER);
    agent.is_degraded("is not there").await;
    // A socket that an engine left behind when it was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    agent.is_degraded("refused the connection").await;
    assert!(agent.inventory.borrow().synced_at.is_none());
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let inventory = agent.sees(&[("web", "running")]).await;
    agent.is_ok().await;
    let info = inventory.engine.as_ref().unwrap();
    assert_eq!((&*info.name, info.node_id.as_deref()), ("node-1", Some("n1")));
    assert!(agent.metrics.docker_errors.with_label_values(&["connect"]).get() >= 2);
    // Everything but the question for the version carries the version.
    assert!(engine.requests().iter().all(|path| path == "/version" || path.starts_with("/v1.47/")), "{:?}", engine.requests());
    agent.stop().await;
}

/// An agent that started before its engine has its identity from elsewhere.
#[tokio::test]
async fn the_engine_of_another_node_is_told() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let _engine = FakeEngine::start(&path, move |path| answers.answer(path));
    for (node, is_right) in [(None, true), (Some("n1"), true), (Some("n2"), false)] {
        let mut agent = Agent::start_on(&path, Duration::from_millis(20), node);
        // Its containers are shown all the same.
        agent.sees(&[("web", "running")]).await;
        if is_right {
            agent.is_ok().await;
        } else {
            agent.is_degraded("is node 'n1', but every label says node 'n2'").await;
            // It joins the Swarm that was expected.
            world.odd("/info", || Reply::Json(r#"{"Name":"node-1","Swarm":{"NodeID":"n2"}}"#.into()));
            agent.is_ok().await;
        }
        agent.stop().await;
    }
}

#[tokio::test]
async fn events_are_followed_and_a_lost_stream_is_made_good() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    let before = agent.sees(&[("web", "running")]).await;
    until_streaming(&engine).await;
    assert_eq!(agent.metrics.docker_resyncs.get(), 1);

    // What is no container's was not asked for.
    engine.event(r#"{"Type":"network","Action":"connect","Actor":{"ID":"n"},"timeNano":1}"#);
    world.put('b', "new", "running");
    engine.event(&event("start", 'b'));
    let after = agent.sees(&[("web", "running"), ("new", "running")]).await;
    let unchanged = |inventory: &Inventory| inventory.containers.values().find(|container| container.name == "web").unwrap().clone();
    assert!(Arc::ptr_eq(&unchanged(&before), &unchanged(&after)), "what did not change is the same");
    world.put('b', "new", "exited");
    engine.event(&event("die", 'b'));
    let inventory = agent.sees(&[("web", "running"), ("new", "exited")]).await;
    assert!(inventory.containers.values().all(|container| container.pid.is_some() == container.is_running()));
    world.containers.lock().unwrap().remove(&id('b'));
    engine.event(&event("destroy", 'b'));
    agent.sees(&[("web", "running")]).await;
    assert_eq!((agent.metrics.docker_resyncs.get(), agent.metrics.docker_events.get()), (1, 3));

    // The stream ends; what happens meanwhile is told by no event.
    world.put('c', "silent", "running");
    world.put('a', "renamed", "running");
    engine.end_streams();
    agent.sees(&[("renamed", "running"), ("silent", "running")]).await;
    agent.is_ok().await;
    assert_eq!(agent.metrics.docker_resyncs.get(), 2);

    // The engine goes away: what is known stays.
    drop(engine);
    agent.is_degraded("is not there").await;
    assert_eq!(agent.inventory.borrow().containers.len(), 2);
    let answers = world.clone();
    world.containers.lock().unwrap().remove(&id('c'));
    let _engine = FakeEngine::start(&path, move |path| answers.answer(path));
    agent.sees(&[("renamed", "running")]).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_no_event_told_is_found_by_looking() {
    let (_directory, path) = socket();
    let world = World::default();
    let answers = world.clone();
    let _engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, Duration::from_millis(20));
    agent.sees(&[]).await;
    world.put('a', "silent", "running");
    agent.sees(&[("silent", "running")]).await;
    world.put('a', "silent", "paused");
    agent.sees(&[("silent", "paused")]).await;
    world.containers.lock().unwrap().clear();
    agent.sees(&[]).await;
    assert_eq!(agent.metrics.docker_resyncs.get(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn unknown_words_and_garbage_cost_themselves() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "hibernating");
    world.put('b', "broken", "running");
    world.put('c', "missing", "running");
    world.odd(&format!("/containers/{}/json", id('b')), || Reply::Json("\"no object\"".into()));
    world.odd(&format!("/containers/{}/json", id('c')), || Reply::Status(500, "layer does not exist"));
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| match answers.answer(path) {
        // Two entries more that are none.
        Reply::Json(list) if path.ends_with("/containers/json?all=1") => Reply::Json(list.replacen('[', "[7,{\"Id\":\"short\"},", 1)),
        other => other,
    });
    let mut agent = Agent::start(&path, NEVER);
    let inventory = agent.sees(&[("web", "hibernating"), ("broken", "running"), ("missing", "running")]).await;
    let inspected = |name: &str| {
        let container = inventory.containers.values().find(|container| container.name == name).unwrap();
        container.labels.get("inspected").is_some()
    };
    assert_eq!(["web", "broken", "missing"].map(inspected), [true, false, false]);
    let errors = |call: &str| agent.metrics.docker_errors.with_label_values(&[call]).get();
    assert_eq!((errors("list_entry"), errors("inspect")), (2, 2));
    assert_eq!(agent.metrics.docker_containers.with_label_values(&["other"]).get(), 1);
    agent.is_ok().await;

    // An event that nobody understands: what it meant is taken from the list.
    until_streaming(&engine).await;
    world.put('d', "new", "running");
    engine.event("{\"Type\":\"container\",");
    agent.sees(&[("web", "hibernating"), ("broken", "running"), ("missing", "running"), ("new", "running")]).await;
    assert_eq!(agent.metrics.docker_resyncs.get(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_hang_has_an_end() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    world.put('b', "stuck", "running");
    world.odd(&format!("/containers/{}/json", id('b')), || Reply::Hang);
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let limit = Duration::from_secs(1);
    let api = Engine::connect_within(&engine.host(), limit).await.unwrap();
    let error = api.inspect(&id('b')).await.unwrap_err();
    assert!(error.to_string().ends_with("gave no answer to inspect in 1 s"), "{error}");
    // One container on which the engine hangs does not cost the others.
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[("web", "running"), ("stuck", "running")]).await;
    agent.is_ok().await;
    agent.stop().await;
    // A whole engine that hangs.
    drop(engine);
    let engine = FakeEngine::start(&path, |_| Reply::Hang);
    let agent = Agent::start(&path, NEVER);
    agent.is_degraded("gave no answer to version").await;
    agent.stop().await;
    drop(engine);
}

/// It ends no stream, and the list is not due for an hour.
#[tokio::test]
async fn an_engine_that_falls_silent_is_heard() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[("web", "running")]).await;
    // One that refuses the question answers.
    until_asked(&engine, "/_ping", 3).await;
    agent.is_ok().await;
    assert_eq!((agent.metrics.docker_resyncs.get(), engine.streams()), (1, 1));
    world.odd("/", || Reply::Hang);
    agent.is_degraded("gave no answer to").await;
    assert_eq!(agent.metrics.docker_errors.with_label_values(&["ping"]).get(), 1);
    world.well();
    agent.is_ok().await;
    agent.stop().await;
}

#[tokio::test]
async fn versions_and_answers_that_cannot_be_used() {
    let (_directory, path) = socket();
    // An engine of the future is asked in the newest version that is known here.
    for (told, asked) in [("1.41", "1.41"), ("1.99", "1.55"), ("2.0", "1.55")] {
        let engine = FakeEngine::start(&path, move |_| Reply::Json(format!("{{\"ApiVersion\":\"{told}\"}}")));
        // What is answered matters as little as that it is no answer to the question.
        drop(Engine::connect(&engine.host()).await.unwrap().info().await);
        assert_eq!(engine.requests(), ["/version".to_owned(), format!("/v{asked}/info")]);
    }
    type Case = (fn() -> Reply, fn(&EngineError) -> bool);
    let cases: [Case; 4] = [
        (|| Reply::Json("<html>".into()), EngineError::is_garbled),
        (|| Reply::Json("{}".into()), EngineError::is_garbled),
        (
            || Reply::Status(403, "forbidden by the proxy"),
            |error| error.to_string().ends_with("answered version with 403: forbidden by the proxy"),
        ),
        (|| Reply::Broken, |error| matches!(error, EngineError::Broken { .. })),
    ];
    for (reply, expected) in cases {
        let engine = FakeEngine::start(&path, move |_| reply());
        let error = Engine::connect(&engine.host()).await.unwrap_err();
        assert!(expected(&error), "{error}");
    }
}

#[tokio::test]
async fn a_container_that_is_gone() {
    let (_directory, path) = socket();
    let world = World::default();
    let engine = FakeEngine::start(&path, move |path| world.answer(path));
    let api = Engine::connect(&engine.host()).await.unwrap();
    assert!(api.inspect(&id('a')).await.unwrap_err().is_gone());
    assert_eq!(api.list().await.unwrap().containers, []);
}
