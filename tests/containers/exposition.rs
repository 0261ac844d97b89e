//! From recorded cgroups to the exposition.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use skep::collect::{Collector, Pass};
use skep::exposition::Writer;
use skep::model::LabelSet;

use crate::recording::{collector, fixtures, golden, inventory, reader, scrape, value};

#[tokio::test]
async fn a_recorded_v1_tree() {
    let inventory = inventory(Some("com\\.example\\..*")).await;
    let mut host = reader(&fixtures().join("v1/proc"), &fixtures().join("v1/sys"));
    let mut collector = collector(inventory);
    let (text, odd, example) = scrape(&mut collector, &mut host);
    assert_eq!((odd, &*example), (0, ""));
    golden("containers-v1.prom", &text);
    // The second scrape reads kept files and finds the same.
    assert_eq!(scrape(&mut collector, &mut host).0, text);
    one_block_a_family(&text);

    // The engine's labels: a quote and a backslash in one.
    assert!(text.contains(r#"container_label_com_example_odd="a\"b\\c""#));
    // Excluded by its label, and with its network counted elsewhere.
    assert!(!text.contains("name=\"quiet\""));
    for name in ["hostnet", "peer"] {
        assert!(value(&text, "container_memory_usage_bytes", &[&format!("name=\"{name}\"")]).is_some());
        assert!(!text.lines().any(|line| line.starts_with("container_network") && line.contains(&format!("name=\"{name}\""))));
    }
    assert!(value(&text, "container_network_receive_bytes_total", &["name=\"web\"", "interface=\"eth0\""]).unwrap() > 0.0);
    assert_eq!(value(&text, "container_fs_reads_bytes_total", &["name=\"web\"", "device=\"/dev/vda\""]), Some(3_276_800.0));
    assert_eq!(value(&text, "container_oom_events_total", &["name=\"oom\""]), Some(2.0));
    assert_eq!(value(&text, "container_last_exit_code", &["name=\"done\""]), Some(3.0));
    assert_eq!(value(&text, "container_spec_cpu_shares", &["name=\"web\""]), Some(512.0));
    assert!(value(&text, "container_memory_usage_bytes", &["{id=\"/\"}"]).unwrap() > 0.0);
}

#[tokio::test]
async fn a_v2_tree_by_hand() {
    let mut host = reader(&fixtures().join("v1/proc"), &fixtures().join("v2-by-hand/sys"));
    let (text, odd, example) = scrape(&mut collector(inventory(None).await), &mut host);
    // Three containers of the inventory have no cgroup in it.
    assert_eq!(odd, 3, "{example}");
    golden("containers-v2.prom", &text);
    one_block_a_family(&text);
    let web = |family: &str, extra: &str| value(&text, family, &["name=\"web\"", extra]);
    assert_eq!(web("container_cpu_usage_seconds_total", "cpu=\"total\""), Some(0.386_307));
    assert_eq!(web("container_memory_failcnt", ""), Some(12.0));
    assert_eq!(web("container_memory_kernel_usage", ""), Some(532_480.0));
    assert_eq!(web("container_spec_memory_reservation_limit_bytes", ""), Some(33_554_432.0));
    assert_eq!(web("container_spec_memory_swap_limit_bytes", ""), Some(134_217_728.0));
    assert_eq!(web("container_spec_cpu_shares", ""), Some(512.0));
    assert_eq!(web("container_memory_working_set_bytes", ""), Some(593_920.0));
    assert_eq!(web("container_pressure_io_stalled_seconds_total", ""), Some(0.008_001));
    assert_eq!(web("container_fs_reads_total", "device=\"254:16\""), Some(1.0));
    // An older kernel tells less, and what it does not tell is left out.
    let old = |family: &str| value(&text, family, &["name=\"oom\""]);
    assert_eq!(old("container_oom_events_total"), Some(2.0));
    assert_eq!(old("container_spec_cpu_shares"), Some(1024.0));
    for family in ["container_memory_max_usage_bytes", "container_memory_kernel_usage", "container_pressure_cpu_waiting_seconds_total"] {
        assert_eq!(old(family), None);
    }
}

#[tokio::test]
async fn one_odd_file_costs_itself() {
    let directory = copy(&fixtures().join("v1"));
    let inventory = inventory(None).await;
    let by_name = |name: &str| inventory.borrow().containers.values().find(|container| container.name == name).unwrap().clone();
    let (web, oom) = (by_name("web"), by_name("oom"));
    let cgroup = |tree: &str, id: &str| directory.path().join("sys/fs/cgroup").join(tree).join("docker").join(id);
    // Empty, malformed, and not to be read.
    std::fs::write(cgroup("memory", web.id.as_str()).join("memory.failcnt"), "").unwrap();
    std::fs::write(cgroup("cpuacct", web.id.as_str()).join("cpuacct.stat"), "\0\0garbage").unwrap();
    std::fs::remove_file(cgroup("pids", web.id.as_str()).join("pids.current")).unwrap();
    std::fs::create_dir(cgroup("pids", web.id.as_str()).join("pids.current")).unwrap();
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let mut collector = collector(inventory.clone());
    let (text, odd, example) = scrape(&mut collector, &mut host);
    assert_eq!(odd, 1, "one container, told once");
    assert!(example.contains("cpuacct.stat"), "{example}");
    for (family, expected) in [
        ("container_memory_failcnt", false),
        ("container_cpu_user_seconds_total", false),
        ("container_threads", false),
        ("container_memory_usage_bytes", true),
        ("container_threads_max", true),
    ] {
        assert_eq!(value(&text, family, &["name=\"web\""]).is_some(), expected, "{family}");
    }

    // A container whose cgroup goes away between two scrapes, before the engine has told its end.
    for tree in ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"] {
        std::fs::remove_dir_all(cgroup(tree, oom.id.as_str())).unwrap();
    }
    let mut fresh = self::collector(inventory.clone());
    for collector in [&mut collector, &mut fresh] {
        let (text, _, _) = scrape(collector, &mut host);
        assert_eq!(value(&text, "container_threads_max", &["name=\"web\""]), Some(50.0));
        assert!(value(&text, "container_threads", &["name=\"hostnet\""]).is_some());
    }
    assert_eq!(value(&scrape(&mut fresh, &mut host).0, "container_threads", &["name=\"oom\""]), None);
}

#[tokio::test]
async fn a_pid_that_another_process_has_by_now_is_not_read() {
    let directory = copy(&fixtures().join("v1"));
    let inventory = inventory(None).await;
    let web = inventory.borrow().containers.values().find(|container| container.name == "web").unwrap().clone();
    let cgroup = directory.path().join("proc").join(web.pid.unwrap().to_string()).join("cgroup");
    std::fs::write(cgroup, "4:memory:/user.slice\n0::/user.slice\n").unwrap();
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let (text, odd, example) = scrape(&mut collector(inventory), &mut host);
    assert_eq!(odd, 1);
    assert!(example.contains("is not of container"), "{example}");
    assert!(!text.lines().any(|line| line.starts_with("container_network") && line.contains("name=\"web\"")));
    assert!(value(&text, "container_memory_usage_bytes", &["name=\"web\""]).is_some());
}

#[tokio::test]
async fn a_process_that_is_not_there_is_told() {
    let directory = copy(&fixtures().join("v1"));
    let inventory = inventory(None).await;
    let web = inventory.borrow().containers.values().find(|container| container.name == "web").unwrap().clone();
    std::fs::remove_dir_all(directory.path().join("proc").join(web.pid.unwrap().to_string())).unwrap();
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let mut collector = collector(inventory);
    let (_, odd, example) = scrape(&mut collector, &mut host);
    assert_eq!(odd, 1, "{example}");
    assert!(example.contains(&format!("process {} of container", web.pid.unwrap())), "{example}");
    // While the engine hangs nobody says that the container has ended: it is not told at every scrape.
    assert_eq!(scrape(&mut collector, &mut host).1, 0);
}

#[tokio::test]
async fn without_any_container_in_the_tree_the_scrape_fails() {
    let directory = copy(&fixtures().join("v1"));
    let inventory = inventory(None).await;
    let cgroups = directory.path().join("sys/fs/cgroup");
    let docker = |tree: &str| cgroups.join(tree).join("docker");
    let trees = ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"];
    let away = directory.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let there: Vec<&str> = trees.into_iter().filter(|tree| docker(tree).symlink_metadata().is_ok_and(|found| found.is_dir())).collect();
    for tree in &there {
        std::fs::rename(docker(tree), away.join(tree)).unwrap();
    }
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let mut collector = collector(inventory);
    let mut out = Writer::new(Arc::new(LabelSet::new()));
    let error = collector.collect(&mut Pass::new(&mut host, &mut out)).unwrap_err();
    assert!(error.to_string().contains("no running container has a cgroup"), "{error}");
    let text = String::from_utf8(out.text().to_vec()).unwrap();
    assert!(text.contains("\ncontainer_scrape_error 1\n"), "{text}");
    // What is not of cgroups is told all the same.
    assert!(value(&text, "container_state_status", &["name=\"web\"", "status=\"running\""]).is_some(), "{text}");
    for tree in &there {
        std::fs::rename(away.join(tree), docker(tree)).unwrap();
    }
    // The walk is made anew only after some rounds; the usual parent needs none.
    assert!(scrape(&mut collector, &mut host).0.contains("\ncontainer_scrape_error 0\n"));
}

/// Each family stands in one place, and no sample stands twice.
fn one_block_a_family(text: &str) {
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            family = head.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} stands twice");
        } else if !line.starts_with('#') {
            assert_eq!(line.split(['{', ' ']).next(), Some(family));
            assert!(samples.insert(line.rsplit_once(' ').unwrap().0), "{line} stands twice");
        }
    }
}

/// A copy that a test may change.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy_into(from, directory.path());
    directory
}

/// Lays a tree over another.
pub(crate) fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
