//! A real engine, where there is one: `DOCKER_HOST=unix:///... cargo test --test containers -- --ignored`.

use std::path::Path;
use std::sync::Arc;

use skep::collect::{Collector, Pass};
use skep::docker::{InventoryTask, Labelling};
use skep::exposition::Writer;
use skep::host::{Reader, Root};
use skep::model::LabelSet;
use skep::telemetry::{Metrics, Parts};
use tokio_util::sync::CancellationToken;

use crate::recording::{collector, value};

/// What is exposed of every running container lies between what its files said before and after the scrape.
#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST and its cgroup tree"]
async fn the_numbers_are_those_of_the_files() {
    let host = std::env::var("DOCKER_HOST").unwrap();
    let (task, mut inventory) = InventoryTask::new(host, Labelling::default(), &Parts::default(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(task.run(shutdown.clone()));
    let snapshot = inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap().clone();
    let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
    let mut collector = collector(inventory.clone());
    let mut checked = 0;
    for _ in 0..2 {
        let mut out = Writer::new(Arc::new(LabelSet::new()));
        let before = files(&snapshot);
        let mut pass = Pass::new(&mut reader, &mut out);
        collector.collect(&mut pass).unwrap();
        assert_eq!(pass.oddities(), (0, String::new()));
        let after = files(&snapshot);
        let text = String::from_utf8(out.text().to_vec()).unwrap();
        for ((name, family, scale, low), (.., high)) in before.iter().zip(&after) {
            let found = value(&text, family, &[&format!("name=\"{name}\"")]).unwrap();
            let (low, high) = (low.min(*high) * scale, high.max(*low) * scale);
            assert!(low <= found && found <= high, "{name} {family}: {low} <= {found} <= {high}");
            checked += 1;
        }
    }
    assert!(checked > 0, "no running container");
    println!("{checked} values checked");
    shutdown.cancel();
    running.await.unwrap();
}

/// Name, family, scale and number of some files of each running container.
fn files(inventory: &skep::docker::Inventory) -> Vec<(String, &'static str, f64, f64)> {
    let v1: [(&str, &str, f64); 5] = [
        ("memory/docker/ID/memory.usage_in_bytes", "container_memory_usage_bytes", 1.0),
        ("memory/docker/ID/memory.max_usage_in_bytes", "container_memory_max_usage_bytes", 1.0),
        ("memory/docker/ID/memory.limit_in_bytes", "container_spec_memory_limit_bytes", 1.0),
        ("pids/docker/ID/pids.current", "container_threads", 1.0),
        ("cpu/docker/ID/cpu.shares", "container_spec_cpu_shares", 1.0),
    ];
    let v2: [(&str, &str, f64); 3] = [
        ("docker/ID/memory.current", "container_memory_usage_bytes", 1.0),
        ("docker/ID/memory.peak", "container_memory_max_usage_bytes", 1.0),
        ("docker/ID/pids.current", "container_threads", 1.0),
    ];
    let base = Path::new("/sys/fs/cgroup");
    let list: &[_] = if base.join("cgroup.controllers").metadata().is_ok() { &v2 } else { &v1 };
    let running = inventory.containers.values().filter(|container| container.is_running() && !container.is_excluded());
    running
        .flat_map(|container| {
            list.iter().filter_map(|(file, family, scale)| {
                let systemd = file.replace("docker/ID", "system.slice/docker-ID.scope");
                let path = |file: &str| base.join(file.replace("ID", container.id.as_str()));
                let file = [path(file), path(&systemd)].into_iter().find(|file| file.metadata().is_ok())?;
                let number: f64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
                // No limit is written as the largest number of pages, and told as 0.
                let number = if number > 4e18 { 0.0 } else { number };
                Some((container.name.clone(), *family, *scale, number))
            })
        })
        .collect()
}
