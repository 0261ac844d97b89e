//! Disk usage: a layer in a tree as the engine lays it out, and engines that count slowly, never, or nonsense.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep::collect::{Collector, Pass};
use skep::containers::disk::{Disk, DiskMode, DiskOptions, DiskTable, DiskTask};
use skep::containers::{ContainersCollector, ContainersOptions};
use skep::docker::{Inventory, InventoryTask, Labelling};
use skep::exposition::Writer;
use skep::host::{Reader, Root};
use skep::logs::ContainerId;
use skep::telemetry::{Metrics, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::until_streaming;
use crate::fake_engine::{FakeEngine, Reply};

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// The first in every order, once it is there.
const THIRD: char = '0';
/// Its state and its first process.
type Third = Arc<Mutex<Option<(&'static str, u32)>>>;

/// A host with one running container, `a`, of process 7, and one that has ended, `b`.
struct Host {
    third: Third,
    directory: tempfile::TempDir,
    engine: FakeEngine,
    inventory: watch::Receiver<Arc<Inventory>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const UPPER: &str = "root/d/overlay2/9f/diff";

impl Host {
    /// `size` answers what is asked with `size=1`; of the two containers the digit tells which.
    async fn new(size: impl Fn(char) -> Reply + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for folder in ["proc/7", "proc/1", "sys/class", "root/etc", UPPER, "root/d/containers"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("proc/stat"), "").unwrap();
        fs::write(path.join("proc/7/cgroup"), format!("1:memory:/docker/{}\n", id('a'))).unwrap();
        let mounts = "5 4 0:57 / / rw - overlay overlay rw,lowerdir=/d/l,upperdir=/d/overlay2/9f/diff,workdir=/d/w\n";
        fs::write(path.join("proc/7/mountinfo"), mounts).unwrap();
        fs::write(path.join("proc/1/mountinfo"), "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 259:1 / /d rw - xfs /dev/nvme0n1p1 rw\n")
            .unwrap();
        let third = Third::default();
        let now = third.clone();
        let engine = FakeEngine::start(&path.join("docker.sock"), move |path| answer(path, &size, *now.lock().unwrap()));
        let metrics = Metrics::new().unwrap();
        let (task, mut inventory) = InventoryTask::new(engine.host(), Labelling::default(), &Parts::default(), metrics.clone());
        let stop = CancellationToken::new();
        tokio::spawn(task.run(stop.clone()));
        inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap();
        Self { third, directory, engine, inventory, metrics, stop }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn root(&self) -> Arc<Root> {
        Arc::new(Root { proc: self.path("proc"), sys: self.path("sys"), rootfs: self.path("root"), udev: self.path("udev") })
    }

    fn count(&self, mode: DiskMode) -> DiskTable {
        self.count_with(DiskOptions { mode, ..DiskOptions::default() })
    }

    fn count_with(&self, options: DiskOptions) -> DiskTable {
        let (task, table) = DiskTask::new(self.inventory.clone(), self.engine.host(), None, self.root(), options, self.metrics.clone());
        task.with_patience(Duration::from_secs(1)).start(tokio::runtime::Handle::current(), self.stop.clone()).unwrap();
        table
    }

    fn scrape(&self, table: &DiskTable) -> String {
        let mut collector = ContainersCollector::new(self.inventory.clone(), ContainersOptions::default()).with_disk(table.clone());
        let mut out = Writer::new(Arc::default());
        // There are no cgroups in these trees, which the collector tells as a failure.
        drop(collector.collect(&mut Pass::new(&mut Reader::new(self.root()), &mut out)));
        String::from_utf8(out.text().to_vec()).unwrap()
    }

    /// What happens to the third container, and what inspect says of it from then on.
    async fn happens(&mut self, action: &str, state: &'static str, pid: u32) {
        *self.third.lock().unwrap() = Some((state, pid));
        let id = id(THIRD);
        self.engine.event(&format!(
            r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"name":"{state}"}}}},"timeNano":1}}"#
        ));
        let id = ContainerId::new(&id).unwrap();
        let is_told = |inventory: &Arc<Inventory>| {
            inventory.containers.get(&id).is_some_and(|known| known.state == state && known.pid == Some(pid).filter(|pid| *pid != 0))
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), self.inventory.wait_for(is_told)).await;
        drop(waited.unwrap().unwrap());
    }

    fn asked(&self) -> usize {
        self.engine.requests().iter().filter(|path| path.contains("size=1")).count()
    }
}

fn answer(path: &str, size: &impl Fn(char) -> Reply, third: Option<(&str, u32)>) -> Reply {
    let path = path.strip_prefix("/v1.41").unwrap_or(path);
    if path.contains("size=1") {
        let asked: Vec<char> = ['a', 'b', THIRD].into_iter().filter(|digit| path.contains(&id(*digit))).collect();
        let [digit] = asked[..] else { panic!("one container at a time: {path}") };
        return size(digit);
    }
    let inspect = |id: &str, state: &str, pid: u32| {
        Reply::Json(format!(
            r#"{{"Id":"{id}","Name":"/{state}","State":{{"Status":"{state}","Pid":{pid},"StartedAt":"2026-11-20T20:58:43Z"}}}}"#
        ))
    };
    let entry = |id: &str, state: &str| format!(r#"{{"Id":"{id}","Names":["/{state}"],"State":"{state}"}}"#);
    let (a, b) = (id('a'), id('b'));
    match path {
        "/version" => Reply::Json(r#"{"ApiVersion":"1.41"}"#.into()),
        "/info" => Reply::Json(r#"{"Name":"node-1","DockerRootDir":"/d"}"#.into()),
        "/containers/json?all=1" => Reply::Json(format!("[{},{}]", entry(&a, "running"), entry(&b, "exited"))),
        events if events.starts_with("/events?") => Reply::Stream(Vec::new()),
        path if path.contains(&a) => inspect(&a, "running", 7),
        path if path.contains(&b) => inspect(&b, "exited", 0),
        path if path.contains(&id(THIRD)) => {
            third.map_or(Reply::Status(404, "no such container"), |(state, pid)| inspect(&id(THIRD), state, pid))
        }
        _ => Reply::Status(404, "no such container"),
    }
}

/// Waits until this is known of the container.
async fn known(table: &DiskTable, digit: char, is: impl Fn(&Disk) -> bool) -> Disk {
    let id = ContainerId::new(&id(digit)).unwrap();
    let mut watch = table.watch();
    let waited = tokio::time::timeout(Duration::from_secs(60), watch.wait_for(|table| table.get(&id).is_some_and(&is))).await;
    waited.unwrap().unwrap().get(&id).unwrap().clone()
}

/// What `du` says.
fn du(path: &Path) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

fn sized(digit: char, bytes: &str) -> Reply {
    Reply::Json(format!(r#"[{{"Id":"{}","SizeRw":{bytes},"SizeRootFs":1000}}]"#, id(digit)))
}

#[tokio::test]
async fn a_layer_that_can_be_entered_is_walked() {
    let host = Host::new(|digit| sized(digit, "77")).await;
    fs::create_dir(host.path(UPPER).join("x")).unwrap();
    for number in 0..2000 {
        fs::write(host.path(UPPER).join(format!("x/{number}")), "x").unwrap();
    }
    let folder = host.path("root/d/containers").join(id('a'));
    fs::create_dir_all(folder.join("mounts")).unwrap();
    for (name, length) in [("-json.log", 50_000), ("-json.log.1", 20_000), ("-json.log.2.gz", 10_000)] {
        fs::write(folder.join(format!("{}{name}", id('a'))), vec![b'x'; length]).unwrap();
    }
    let logs = du(&folder) - du(&folder.join("mounts")) - 4096;
    fs::write(folder.join("config.v2.json"), vec![b'x'; 9000]).unwrap();
    let (layer, both) = (du(&host.path(UPPER)), du(&host.path(UPPER)) + du(&folder));
    let table = host.count(DiskMode::Auto);
    let a = known(&table, 'a', |disk| disk.layer.is_some()).await;
    assert_eq!(a.layer.map(|layer| (layer.bytes, layer.inodes, layer.source)), Some((layer, Some(2002), "walk")));
    known(&table, 'b', |disk| disk.layer.is_some_and(|layer| (layer.bytes, layer.source) == (77, "engine"))).await;
    let text = host.scrape(&table);
    let of = |family: &str, labels: &[&str]| crate::recording::value(&text, family, labels);
    #[expect(clippy::cast_precision_loss, reason = "sizes of a test")]
    for (family, labels, expected) in [
        ("container_fs_usage_bytes", &["name=\"running\"", "device=\"/dev/nvme0n1p1\""][..], both),
        ("container_fs_layer_bytes", &["name=\"running\""], layer),
        ("container_fs_log_bytes", &["name=\"running\""], logs),
        ("container_fs_layer_inodes", &["name=\"running\""], 2002),
        ("container_fs_layer_bytes", &["name=\"exited\""], 77),
    ] {
        assert_eq!(of(family, labels), Some(expected as f64), "{family} {labels:?}\n{text}");
    }
    let time = of("container_fs_usage_timestamp_seconds", &["name=\"running\"", "source=\"walk\""]).unwrap();
    assert!(time > 1.7e9);
    let limit = of("container_fs_limit_bytes", &["name=\"running\"", "device=\"/dev/nvme0n1p1\""]).unwrap();
    assert!(limit > 0.0 && of("container_fs_limit_bytes", &["id=\"/\""]).is_none(), "the host's figures are node_filesystem's");
    // The engine was asked for the one whose layer is nowhere to be found.
    assert_eq!(host.asked(), 1);
    assert!(host.engine.requests().iter().all(|path| !path.contains("size=1") || path.contains(&id('b'))));
}

/// Of an unknown directory's log there is no number, nor of what has none.
#[tokio::test]
async fn what_is_not_known_is_left_out() {
    let host = Host::new(|_| Reply::Status(500, "no")).await;
    let table = host.count(DiskMode::Auto);
    known(&table, 'a', |disk| disk.layer.is_some()).await;
    known(&table, 'b', |disk| disk.layer.is_none()).await;
    let text = host.scrape(&table);
    for family in ["container_fs_usage_bytes{", "container_fs_log_bytes{"] {
        assert!(!text.contains(family), "{text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("container_fs_layer") && line.contains("exited")), "{text}");
}

#[tokio::test]
async fn who_counts_is_chosen() {
    let host = Host::new(|digit| sized(digit, "123")).await;
    let table = host.count(DiskMode::Engine);
    for digit in ['a', 'b'] {
        let disk = known(&table, digit, |disk| disk.layer.is_some()).await;
        assert_eq!(disk.layer.map(|layer| (layer.bytes, layer.inodes, layer.source)), Some((123, None, "engine")));
    }
    let asked = host.asked();
    let table = host.count(DiskMode::Walk);
    let disk = known(&table, 'a', |disk| disk.layer.is_some()).await;
    assert_eq!(disk.layer.map(|layer| layer.source), Some("walk"));
    known(&table, 'b', |disk| disk.layer.is_none()).await;
    assert_eq!(host.asked(), asked);
}

/// A layer of which something is closed to this process has no number of its own: the engine counts it.
#[tokio::test]
async fn a_layer_that_is_no_directory_is_the_engines_matter() {
    let host = Host::new(|digit| sized(digit, "55")).await;
    fs::remove_dir(host.path(UPPER)).unwrap();
    let table = host.count(DiskMode::Auto);
    let disk = known(&table, 'a', |disk| disk.layer.is_some()).await;
    assert_eq!(disk.layer.map(|layer| (layer.bytes, layer.source)), Some((55, "engine")));
}

/// The number of a process that ended may be another container's by now.
#[tokio::test]
async fn another_containers_process_is_not_believed() {
    let host = Host::new(|digit| sized(digit, "66")).await;
    fs::write(host.path("proc/7/cgroup"), format!("1:memory:/docker/{}\n", id('c'))).unwrap();
    let table = host.count(DiskMode::Auto);
    let disk = known(&table, 'a', |disk| disk.layer.is_some()).await;
    assert_eq!(disk.layer.map(|layer| layer.source), Some("engine"));
}

/// One that is made and not started yet has no process that would tell its layer: nobody else is asked before it has one.
#[tokio::test]
async fn a_container_that_is_not_started_yet_waits() {
    let mut host = Host::new(|digit| sized(digit, "88")).await;
    until_streaming(&host.engine).await;
    host.happens("create", "created", 0).await;
    let table = host.count(DiskMode::Auto);
    // Whatever is asked is asked in the order of their turns.
    known(&table, 'b', |disk| disk.layer.is_some()).await;
    known(&table, THIRD, |disk| disk.layer.is_none()).await;
    fs::create_dir_all(host.path("proc/8")).unwrap();
    fs::write(host.path("proc/8/cgroup"), format!("1:memory:/docker/{}\n", id(THIRD))).unwrap();
    fs::copy(host.path("proc/7/mountinfo"), host.path("proc/8/mountinfo")).unwrap();
    host.happens("start", "running", 8).await;
    let disk = known(&table, THIRD, |disk| disk.layer.is_some()).await;
    assert_eq!(disk.layer.map(|layer| (layer.inodes, layer.source)), Some((Some(1), "walk")));
    assert_eq!(host.asked(), 1, "of `b` alone");
}

/// A process that is not to be found has ended, or is another host's: the engine is asked at the second time.
#[tokio::test]
async fn a_process_that_is_nowhere_is_waited_for_once() {
    let host = Host::new(|digit| sized(digit, "99")).await;
    fs::remove_dir_all(host.path("proc/7")).unwrap();
    let table = host.count(DiskMode::Auto);
    known(&table, 'a', |disk| disk.layer.is_none()).await;
    known(&table, 'b', |disk| disk.layer.is_some()).await;
    assert_eq!(host.asked(), 1, "of `b` alone");
    let table = host.count_with(DiskOptions { mode: DiskMode::Auto, interval: Duration::from_millis(1) });
    let disk = known(&table, 'a', |disk| disk.layer.is_some()).await;
    assert_eq!(disk.layer.map(|layer| (layer.bytes, layer.inodes, layer.source)), Some((99, None, "engine")));
}

/// Hung, cut off, nonsense, another container, gone: no number, one error each, and no second question at once.
#[tokio::test]
async fn an_engine_that_does_not_tell() {
    type Answer = fn(char) -> Reply;
    let answers: [(Answer, u64); 6] = [
        (|_| Reply::Hang, 1),
        (|_| Reply::Broken, 1),
        (|_| Reply::Json("{}".into()), 1),
        (|digit| sized(digit, "-1"), 1),
        (|digit| Reply::Json(format!(r#"[{{"Id":"{}"}}]"#, id(digit))), 1),
        // It was removed, which is no error.
        (|_| Reply::Json("[]".into()), 0),
    ];
    for (number, (answer, errors)) in answers.into_iter().enumerate() {
        let host = Host::new(answer).await;
        let table = host.count(DiskMode::Engine);
        let disk = known(&table, 'a', |_| true).await;
        assert_eq!(disk.layer, None, "{number}");
        assert!(disk.file_system.is_some() && !host.scrape(&table).contains("container_fs_layer_bytes{"), "{number}");
        let counted = host.metrics.docker_errors.with_label_values(&["size"]).get();
        assert!(counted >= errors && counted <= 2 * errors, "{number}: {counted}");
        assert!(host.asked() <= 2 && host.metrics.docker_sizes.get() <= 2, "{number}");
        // One that hung a second has 99 of rest before it.
        if number == 0 {
            assert_eq!(host.asked(), 1);
        }
    }
}
