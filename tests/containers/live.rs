//! A real engine, where there is one: `DOCKER_HOST=unix:///... cargo test --test containers -- --ignored`.

use std::path::Path;
use std::sync::Arc;

use skep::collect::{Collector, Pass};
use skep::containers::disk::{DiskMode, DiskOptions, DiskTask};
use skep::containers::{ContainersCollector, ContainersOptions, Groups};
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

/// What the groups tell that are off by default lies between what procfs said before and after the scrape.
#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST, its cgroup tree, and root in the host's pid namespace"]
async fn the_groups_tell_what_procfs_does() {
    let host = std::env::var("DOCKER_HOST").unwrap();
    let (task, mut inventory) = InventoryTask::new(host, Labelling::default(), &Parts::default(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(task.run(shutdown.clone()));
    let snapshot = inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap().clone();
    let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
    let mut collector = crate::recording::collector_of(inventory.clone(), Groups::all());
    let mut checked = 0;
    for _ in 0..2 {
        let before = processes(&snapshot);
        let (text, odd, example) = crate::recording::scrape(&mut collector, &mut reader);
        assert_eq!((odd, &*example), (0, ""));
        for ((name, low), (_, high)) in before.iter().zip(&processes(&snapshot)) {
            let threads: f64 = ["sleeping", "running", "stopped", "uninterruptible"]
                .iter()
                .filter_map(|state| value(&text, "container_tasks_state", &[&format!("name=\"{name}\""), &format!("state=\"{state}\"")]))
                .sum();
            let of = |family: &str| value(&text, family, &[&format!("name=\"{name}\"")]).unwrap();
            let found = [
                of("container_file_descriptors"),
                of("container_sockets"),
                threads,
                of("container_cpu_schedstat_run_seconds_total"),
                of("container_cpu_schedstat_run_periods_total"),
            ];
            for (number, (found, (low, high))) in found.into_iter().zip(low.iter().zip(high)).enumerate() {
                assert!(low.min(*high) <= found && found <= low.max(*high), "{name}, number {number}: {low} <= {found} <= {high}");
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no running container");
    println!("{checked} values checked");
    shutdown.cancel();
    running.await.unwrap();
}

/// Of each running container: open files, sockets, threads, seconds on a CPU, turns on one.
fn processes(inventory: &skep::docker::Inventory) -> Vec<(String, [f64; 5])> {
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let list = |path: std::path::PathBuf| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(path).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
    };
    let all = list("/proc".into());
    let running = inventory.containers.values().filter(|container| container.is_running() && !container.is_excluded);
    let of = |id: &str| {
        let mut sum = [0.0; 5];
        for process in all.iter().filter(|process| text(&process.join("cgroup")).contains(id)) {
            for file in list(process.join("fd")) {
                sum[0] += 1.0;
                sum[1] += f64::from(u8::from(std::fs::read_link(file).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))));
            }
            for thread in list(process.join("task")) {
                let numbers: Vec<f64> = text(&thread.join("schedstat")).split_whitespace().map(|number| number.parse().unwrap()).collect();
                sum[2] += 1.0;
                sum[3] += numbers[0] / 1e9;
                sum[4] += numbers[2];
            }
        }
        sum
    };
    running.map(|container| (container.name.clone(), of(container.id.as_str()))).collect()
}

/// The files of a cgroup that is gone answer ENODEV where they were kept open, and its process is no more: the others are read all the same, and a container of
/// the same id that is started anew is found again.
#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST with the image bb:1, its command line and its cgroup tree"]
async fn a_container_that_ends_before_the_engine_tells() {
    let docker = |arguments: &[&str]| {
        let output = std::process::Command::new("docker").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let id = docker(&["run", "-d", "--name", "skep-live", "bb:1", "sleep", "100000"]);
    let host = std::env::var("DOCKER_HOST").unwrap();
    let (task, mut inventory) = InventoryTask::new(host, Labelling::default(), &Parts::default(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(task.run(shutdown.clone()));
    let snapshot = inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap().clone();
    // What the engine tells from now on does not reach the collector until it is let through.
    let (let_through, held_back) = tokio::sync::watch::channel(snapshot);
    let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
    let mut collector = collector(held_back);
    let mut scrape = || {
        let (text, odd, _) = crate::recording::scrape(&mut collector, &mut reader);
        let of = |family: &str, label: &str| value(&text, family, &["name=\"skep-live\"", label]);
        (of("container_memory_usage_bytes", ""), of("container_network_receive_bytes_total", "eth0"), odd)
    };
    let (memory, network, odd) = scrape();
    assert!(memory.is_some() && network.is_some() && odd == 0);
    docker(&["kill", &id]);
    assert_eq!(scrape(), (None, None, 1));
    docker(&["start", &id]);
    // The cgroup is there again; the pid that is known is still that of the process that ended.
    let (memory, network, _) = scrape();
    assert!(memory.is_some() && network.is_none());
    let is_back = |inventory: &Arc<skep::docker::Inventory>| {
        inventory.containers.values().any(|container| {
            container.name == "skep-live" && container.pid.is_some() && container.started != started(&let_through.borrow())
        })
    };
    let_through.send_replace(inventory.wait_for(is_back).await.unwrap().clone());
    let (memory, network, odd) = scrape();
    assert!(memory.is_some() && network.is_some() && odd == 0);
    docker(&["rm", "-f", &id]);
    shutdown.cancel();
    running.await.unwrap();
}

fn started(inventory: &skep::docker::Inventory) -> Option<f64> {
    inventory.containers.values().find(|container| container.name == "skep-live")?.started
}

/// The number of a layer is what `du` says of its directory, and what the engine's directory of the container takes is added to it.
#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST with the image bb:1, its command line, and its data root"]
async fn the_layer_is_what_du_says() {
    let docker = |arguments: &[&str]| {
        let output = std::process::Command::new("docker").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let script = "dd if=/dev/zero of=/ten bs=1M count=10; ln /ten /again; mkdir /many; \
        for i in $(seq 10000); do : >/many/$i; done; dd if=/dev/zero of=/gone bs=1M count=10; rm /gone /bin/seq; echo done; exec sleep 100000";
    let id = docker(&["run", "-d", "--network", "none", "--name", "skep-disk", "bb:1", "sh", "-c", script]);
    let mut follow = std::process::Command::new("docker").args(["logs", "-f", &id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap() == "done"));
    follow.kill().unwrap();
    follow.wait().unwrap();
    let host = std::env::var("DOCKER_HOST").unwrap();
    let metrics = Metrics::new().unwrap();
    let (task, mut inventory) = InventoryTask::new(host.clone(), Labelling::default(), &Parts::default(), metrics.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let snapshot = inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap().clone();
    // Of the one container only: behind each question to the engine lies a rest, and there may be others before it.
    let container = skep::logs::ContainerId::new(&id).unwrap();
    let mut alone = (*snapshot).clone();
    alone.containers.retain(|id, _| *id == container);
    let (_unchanged, inventory) = tokio::sync::watch::channel(Arc::new(alone));
    let of = |mode| {
        let options = DiskOptions { mode, ..DiskOptions::default() };
        let root = Arc::new(Root::find(None, None, None, None));
        let (task, table) = DiskTask::new(inventory.clone(), host.clone(), None, root, options, metrics.clone());
        task.start(tokio::runtime::Handle::current(), stop.clone()).unwrap();
        table
    };
    let mut layers = Vec::new();
    for mode in [DiskMode::Auto, DiskMode::Engine] {
        let mut watch = of(mode).watch();
        let known = watch.wait_for(|table| table.get(&container).is_some_and(|disk| disk.layer.is_some())).await.unwrap();
        layers.push(known.get(&container).unwrap().clone());
    }
    let du = |path: &str, option: &str| -> u64 {
        let output = std::process::Command::new("du").args(["-s", "-x", option, path]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    let upper = docker(&["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &id]);
    let log = docker(&["inspect", "--format", "{{.LogPath}}", &id]);
    let (walked, asked) = (&layers[0], &layers[1]);
    println!("{walked:?}\n{asked:?}");
    let layer = walked.layer.unwrap();
    let expected = (du(&upper, "--block-size=1"), Some(du(&upper, "--inodes")), "walk");
    assert_eq!((layer.bytes, layer.inodes, layer.source), expected);
    assert_eq!(walked.folder.unwrap().marked, du(&log, "--block-size=1"));
    assert_eq!(walked.folder.unwrap().bytes, du(Path::new(&log).parent().unwrap().to_str().unwrap(), "--block-size=1"));
    assert!(walked.device.starts_with('/') && walked.file_system.unwrap().size > layer.bytes);
    // overlay2 tells the lengths of files, of each once.
    let told = asked.layer.unwrap();
    assert_eq!((told.source, told.inodes), ("engine", None));
    assert!((10 << 20..=layer.bytes).contains(&told.bytes), "{told:?}");
    docker(&["rm", "-f", &id]);
    stop.cancel();
}

/// What a scrape costs, printed and not judged.
#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST and its cgroup tree"]
async fn the_cost_of_a_scrape() {
    let host = std::env::var("DOCKER_HOST").unwrap();
    let (task, mut inventory) = InventoryTask::new(host, Labelling::default(), &Parts::default(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(task.run(shutdown.clone()));
    let count = inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap().containers.len();
    let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
    for kept_files in [0, 100_000] {
        let mut collector = ContainersCollector::new(inventory.clone(), ContainersOptions { kept_files, ..ContainersOptions::default() });
        let mut out = Writer::new(Arc::new(LabelSet::of([("host", "node-1")])));
        let mut times = Vec::new();
        for _ in 0..50 {
            out.clear();
            let start = processor_time();
            collector.collect(&mut Pass::new(&mut reader, &mut out)).unwrap();
            times.push(processor_time() - start);
        }
        times.sort();
        println!(
            "{count} containers, kept_files={kept_files}: {:?} at best, {:?} in the middle, {} samples",
            times[0],
            times[25],
            out.samples()
        );
    }
    shutdown.cancel();
    running.await.unwrap();
}

fn processor_time() -> std::time::Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
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
    // The engine's --cgroup-parent.
    let parent = std::env::var("SKEP_TEST_CGROUP_PARENT").unwrap_or_else(|_| "docker".to_owned());
    let list: &[_] = if base.join("cgroup.controllers").metadata().is_ok() { &v2 } else { &v1 };
    let running = inventory.containers.values().filter(|container| container.is_running() && !container.is_excluded);
    running
        .flat_map(|container| {
            list.iter().filter_map(|(file, family, scale)| {
                let systemd = file.replace("docker/ID", "system.slice/docker-ID.scope");
                let file = file.replace("docker/", &format!("{parent}/"));
                let path = |file: &str| base.join(file.replace("ID", container.id.as_str()));
                let file = [path(&file), path(&systemd)].into_iter().find(|file| file.metadata().is_ok())?;
                let number: f64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
                // No limit is written as the largest number of pages, and told as 0.
                let number = if number > 4e18 { 0.0 } else { number };
                Some((container.name.clone(), *family, *scale, number))
            })
        })
        .collect()
}
