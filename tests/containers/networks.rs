//! Which interface is in which network: recorded of an engine 20.10 with two networks of users, one with IPv6, and a Swarm with an overlay network and a published
//! port.

use std::sync::Arc;

use skep::docker::{Container, Inventory};
use tokio::sync::watch;

use crate::recording::{collector, fixtures, inventory_by, reader, recorded_by, scrape};

/// Interface and network of each sample of a container, sorted.
fn names(text: &str, container: &str) -> Vec<String> {
    let of = |line: &str, label: &str| line.split(&format!("{label}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let own = text.lines().filter(|line| line.starts_with("container_network_info{") && of(line, ",name").starts_with(container));
    let mut names: Vec<String> = own.map(|line| format!("{} {}", of(line, "interface"), of(line, "network"))).collect();
    names.sort();
    names
}

fn directory() -> std::path::PathBuf {
    fixtures().join("networks")
}

async fn inventory() -> watch::Receiver<Arc<Inventory>> {
    inventory_by(|path| recorded_by("networks", "/v1.41", path), None).await
}

#[tokio::test]
async fn interfaces_have_the_names_of_their_networks() {
    let mut host = reader(&directory().join("proc"), &directory().join("sys"));
    let (text, odd, example) = scrape(&mut collector(inventory().await), &mut host);
    assert_eq!((odd, &*example), (0, ""));
    assert_eq!(names(&text, "two"), ["eth0 front", "eth1 back"]);
    assert_eq!(names(&text, "one"), ["eth0 bridge"]);
    assert_eq!(names(&text, "v6"), ["eth0 six"]);
    // Its ports are published, and it reaches the world, beside the network that it was given.
    assert_eq!(names(&text, "shop"), ["eth0 ingress", "eth1 ov", "eth2 docker_gwbridge"]);
    // They join with the counters.
    let counted = |line: &&str| line.starts_with("container_network_receive_bytes_total") && line.contains("name=\"shop");
    assert_eq!(text.lines().filter(counted).count(), 3);
}

#[tokio::test]
async fn a_container_that_leaves_a_network_loses_its_name() {
    let mut host = reader(&directory().join("proc"), &directory().join("sys"));
    let told = inventory().await.borrow().clone();
    let (publish, watched) = watch::channel(told.clone());
    let mut collector = collector(watched);
    assert_eq!(names(&scrape(&mut collector, &mut host).0, "two").len(), 2);
    let mut changed = Inventory::clone(&told);
    let (id, two) = told.containers.iter().find(|(_, container)| container.name == "two").unwrap();
    let networks = two.networks.iter().filter(|attachment| attachment.network != "back").cloned().collect();
    changed.containers.insert(id.clone(), Arc::new(Container { networks, ..Container::clone(two) }));
    publish.send_replace(Arc::new(changed));
    assert_eq!(names(&scrape(&mut collector, &mut host).0, "two"), ["eth0 front"]);
}

#[tokio::test]
async fn without_routes_nothing_is_named_and_nothing_else_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let inventory = inventory().await;
    let proc = temporary.path().join("proc");
    for container in inventory.borrow().containers.values() {
        let pid = container.pid.unwrap().to_string();
        std::fs::create_dir_all(proc.join(&pid).join("net")).unwrap();
        for file in ["cgroup", "net/dev"] {
            std::fs::copy(directory().join("proc").join(&pid).join(file), proc.join(&pid).join(file)).unwrap();
        }
        std::fs::write(proc.join(&pid).join("net/route"), b"\0\xffgarbage\n\n").unwrap();
    }
    for file in ["stat", "meminfo"] {
        std::fs::copy(directory().join("proc").join(file), proc.join(file)).unwrap();
    }
    let mut host = reader(&proc, &directory().join("sys"));
    let (text, odd, example) = scrape(&mut collector(inventory), &mut host);
    assert_eq!((odd, &*example), (0, ""));
    assert!(!text.contains("container_network_info{") && text.contains("container_network_receive_bytes_total{"));
}
