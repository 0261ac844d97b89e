//! Names, labels and states outlive an engine that restarts, renames, hangs or answers garbage.

use std::time::Duration;

use skep::docker::Engine;

use crate::engine::{Agent, NEVER, World, event, id, socket, until_streaming};
use crate::fake_engine::{FakeEngine, Reply};

fn inspects_of(engine: &FakeEngine, digit: char) -> usize {
    let path = format!("/v1.47/containers/{}/json", id(digit));
    engine.requests().iter().filter(|asked| **asked == path).count()
}

fn told(action: &str, digit: char, attributes: &str) -> String {
    event(action, digit).replace("\"Attributes\":{}", &format!("\"Attributes\":{{{attributes}}}"))
}

#[tokio::test]
async fn what_an_event_tells_is_not_asked_for() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[("web", "running")]).await;
    until_streaming(&engine).await;
    assert_eq!(inspects_of(&engine, 'a'), 1);
    for action in ["exec_create: /bin/sh -c true", "exec_start: /bin/sh -c true", "exec_die", "top", "oom", "attach"] {
        engine.event(&event(action, 'a'));
    }
    engine.event(&event("health_status: unhealthy", 'a'));
    engine.event(&event("pause", 'a'));
    engine.event(&told("rename", 'a', r#""name":"shop","oldName":"/web","image":"bb:1""#));
    let inventory = agent.sees(&[("shop", "paused")]).await;
    let shop = inventory.containers.values().next().unwrap();
    assert_eq!((shop.health.as_deref(), shop.pid, shop.labels.get("inspected").is_some()), (Some("unhealthy"), Some(7), true));
    assert!(shop.series.as_str().contains("name=\"shop\""));
    // The one that has to be asked for comes after them: nothing was asked before it.
    world.put('a', "shop", "running");
    engine.event(&event("update", 'a'));
    agent.sees(&[("shop", "running")]).await;
    assert_eq!(inspects_of(&engine, 'a'), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_inspected_has_its_name() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    world.odd(&format!("/containers/{}/json", id('b')), || Reply::Status(500, "layer does not exist"));
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[("web", "running")]).await;
    until_streaming(&engine).await;
    world.put('b', "new", "running");
    engine.event(&told("create", 'b', r#""name":"new","image":"bb:1","com.docker.swarm.service.id":"s","com.docker.swarm.task.id":"t""#));
    engine.event(&told("start", 'b', r#""name":"new","image":"bb:1""#));
    let inventory = agent.sees(&[("web", "running"), ("new", "running")]).await;
    let new = inventory.containers.values().find(|container| container.name == "new").unwrap();
    assert!(!new.inspected && new.task().is_some() && new.series.as_str().contains("image=\"bb:1\""), "{new:?}");
    // It is tried again, and again.
    agent.until(|| inspects_of(&engine, 'b') >= 3, "asked three times").await;
    agent.until(|| agent.metrics.docker_containers_incomplete.get() == 1, "incomplete").await;
    assert!(agent.metrics.docker_errors.with_label_values(&["inspect"]).get() >= 2);
    world.well();
    let whole = agent.inventory.wait_for(|inventory| inventory.containers.values().all(|container| container.inspected));
    tokio::time::timeout(Duration::from_secs(30), whole).await.unwrap().unwrap();
    agent.until(|| agent.metrics.docker_containers_incomplete.get() == 0, "complete").await;
    agent.stop().await;
}

/// Its answers hang, or are garbage, whatever it is asked: names stay, and the age says that they are old.
#[tokio::test]
async fn an_ill_engine_takes_no_name_away() {
    let ill: [fn() -> Reply; 3] = [|| Reply::Hang, || Reply::Json("<html>".into()), || Reply::Status(503, "away")];
    for reply in ill {
        let (_directory, path) = socket();
        let world = World::default();
        world.put('a', "web", "running");
        let answers = world.clone();
        let engine = FakeEngine::start(&path, move |path| answers.answer(path));
        let mut agent = Agent::start(&path, Duration::from_millis(20));
        agent.sees(&[("web", "running")]).await;
        world.odd("", reply);
        agent.is_degraded(&engine.host()).await;
        let inventory = agent.inventory.borrow().clone();
        assert!(inventory.containers.values().all(|container| container.name == "web" && container.inspected));
        assert_eq!(inventory.containers.len(), 1);
        // The age is that of the last list, and told.
        let told = agent.metrics.docker_inventory_time.with_label_values::<&str>(&[]).get();
        let synced = inventory.synced_at.unwrap().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!((told - synced.as_secs_f64()).abs() < 1e-3);
        // It comes back with another container beside, and another name.
        world.put('a', "shop", "running");
        world.put('b', "new", "running");
        world.well();
        agent.sees(&[("shop", "running"), ("new", "running")]).await;
        let newer = agent.inventory.wait_for(|after| after.synced_at > inventory.synced_at);
        tokio::time::timeout(Duration::from_secs(30), newer).await.unwrap().unwrap();
        agent.is_ok().await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_engine_that_restarts_with_other_containers() {
    let (_directory, path) = socket();
    let world = World::default();
    for (digit, name) in [('a', "kept"), ('b', "removed"), ('c', "stopped")] {
        world.put(digit, name, "running");
    }
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    let before = agent.sees(&[("kept", "running"), ("removed", "running"), ("stopped", "running")]).await;
    until_streaming(&engine).await;
    drop(engine);
    agent.is_degraded("is not there").await;
    assert_eq!(agent.inventory.borrow().containers.len(), 3);
    // Live-restore: what kept running is the same.
    world.containers.lock().unwrap().remove(&id('b'));
    world.put('c', "stopped", "exited");
    world.put('d', "new", "created");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    agent.sees(&[("kept", "running"), ("stopped", "exited"), ("new", "created")]).await;
    agent.until(|| ['a', 'c', 'd'].iter().all(|digit| inspects_of(&engine, *digit) > 0), "asked").await;
    agent.is_ok().await;
    let after = agent.inventory.borrow().clone();
    let kept =
        |inventory: &skep::docker::Inventory| inventory.containers.values().find(|container| container.name == "kept").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&kept(&before), &kept(&after)));
    // Every one was asked for, once: what happened while nobody listened is told by no event.
    assert_eq!(['a', 'c', 'd'].map(|digit| inspects_of(&engine, digit)), [1, 1, 1]);
    agent.stop().await;
}

/// While a container's inspect hangs, events of others are followed, and the hanging one's own too.
#[tokio::test]
async fn a_hanging_inspect_holds_nothing_up() {
    let (_directory, path) = socket();
    let world = World::default();
    world.put('a', "web", "running");
    let answers = world.clone();
    let engine = FakeEngine::start(&path, move |path| answers.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[("web", "running")]).await;
    until_streaming(&engine).await;
    world.odd(&format!("/containers/{}/json", id('a')), || Reply::Hang);
    engine.event(&event("update", 'a'));
    agent.until(|| inspects_of(&engine, 'a') == 2, "asked").await;
    let errors = agent.metrics.docker_errors.with_label_values(&["inspect"]);
    engine.event(&told("die", 'a', r#""name":"web","image":"bb:1","exitCode":"3""#));
    engine.event(&told("create", 'b', r#""name":"new","image":"bb:1""#));
    let inventory = agent.sees(&[("web", "exited"), ("new", "created")]).await;
    assert_eq!(errors.get(), 0, "the hanging one has not been given up yet");
    assert_eq!(inventory.containers.values().find(|container| container.name == "web").unwrap().exit_code, Some(3));
    agent.stop().await;
}

#[tokio::test]
async fn each_engine_is_asked_in_a_version_of_its_own() {
    let (_directory, path) = socket();
    // 20.10, 29.0, 29.7, and one that has forgotten what is known here.
    let engines = [
        (r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#, "/v1.41/"),
        (r#"{"ApiVersion":"1.52","MinAPIVersion":"1.44"}"#, "/v1.52/"),
        (r#"{"ApiVersion":"1.55","MinAPIVersion":"1.40"}"#, "/v1.55/"),
        (r#"{"ApiVersion":"1.70","MinAPIVersion":"1.40"}"#, "/v1.55/"),
        (r#"{"ApiVersion":"1.70","MinAPIVersion":"1.60"}"#, "/v1.60/"),
        (r#"{"ApiVersion":"1.44","MinAPIVersion":null}"#, "/v1.44/"),
        (r#"{"ApiVersion":"1.44","MinAPIVersion":"2.0"}"#, "/v1.44/"),
    ];
    for (version, prefix) in engines {
        let engine = FakeEngine::start(&path, move |path| Reply::Json(if path == "/version" { version } else { "[]" }.to_owned()));
        Engine::connect(&engine.host()).await.unwrap().list().await.unwrap();
        assert!(engine.requests()[1].starts_with(prefix), "{version}: {:?}", engine.requests());
    }
}

/// The filter is the engine's to apply: one of types and actions that are needed, none of health checks.
#[tokio::test]
async fn only_what_is_needed_is_asked_for() {
    let (_directory, path) = socket();
    let world = World::default();
    let engine = FakeEngine::start(&path, move |path| world.answer(path));
    let mut agent = Agent::start(&path, NEVER);
    agent.sees(&[]).await;
    until_streaming(&engine).await;
    let asked = engine.requests().into_iter().find(|path| path.contains("/events?")).unwrap();
    for word in ["container", "network", "connect", "disconnect", "health_status", "oom"] {
        assert!(asked.contains(&format!("%22{word}%22")), "{asked}");
    }
    for word in ["exec_", "top", "attach", "service", "image"] {
        assert!(!asked.contains(word), "{asked}");
    }
    agent.stop().await;
}
