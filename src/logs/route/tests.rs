//! Routes over a directory of log files, to a server that answers by a script.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{Route, RouteOptions};
use crate::config::RouteSpec;
use crate::logs::ContainerId;
use crate::logs::cursor::{CursorFile, Found, file_name};
use crate::logs::files::{FileTable, TableOptions};
use crate::logs::positions::{Positions, worker_of};
use crate::logs::sink::tests::server::{self, Shared};
use crate::logs::sink::{DeadLetter, Sink};
use crate::logs::steer::Settings;
use crate::logs::tail::Begin;
use crate::logs::time::write_rfc3339;
use crate::telemetry::{Metrics, Parts};

/// A directory of containers, and a server.
struct Bench {
    root: tempfile::TempDir,
    runtime: Runtime,
    server: Shared,
    address: String,
    metrics: Metrics,
}

/// A route under way.
struct Running {
    table: Arc<FileTable>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("containers")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (address, server) = runtime.block_on(server::start());
        Self { root, runtime, server, address: address.to_string(), metrics: Metrics::new().unwrap() }
    }

    fn directory(&self, number: usize) -> PathBuf {
        self.root.path().join("containers").join(id(number).as_str())
    }

    fn create(&self, number: usize, name: &str, labels: &Value) {
        let directory = self.directory(number);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("hostconfig.json"), r#"{"LogConfig":{"Type":"json-file","Config":{}}}"#).unwrap();
        self.describe(number, name, labels);
    }

    fn describe(&self, number: usize, name: &str, labels: &Value) {
        let config = serde_json::json!({
            "State": {"Running": true}, "Name": format!("/{name}"), "Config": {"Image": "busybox", "Labels": labels, "Hostname": "h0"},
        });
        let temporary = self.directory(number).join(".tmp-config.v2.json1");
        fs::write(&temporary, config.to_string()).unwrap();
        fs::rename(temporary, self.directory(number).join("config.v2.json")).unwrap();
    }

    fn write(&self, number: usize, stream: &str, text: &str, time: usize) {
        let mut entry = format!("{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"", Value::from(text)).into_bytes();
        write_rfc3339(1_795_168_800_000_000_000 + i64::try_from(time).unwrap(), &mut entry);
        entry.extend_from_slice(b"\"}\n");
        let path = self.directory(number).join(format!("{}-json.log", id(number).as_str()));
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(&entry).unwrap();
    }

    fn run(&self, options: &str) -> Running {
        let spec = RouteSpec::parse(&format!("elasticsearch://{}?name=es&flush=20ms&{options}", self.address)).unwrap();
        let (parts, metrics) = (Parts::default(), self.metrics.route("es"));
        let dead_letter = DeadLetter::new(None, "es", metrics.clone());
        let sinks = Sink::open_all(&spec, &parts, &metrics, &dead_letter).unwrap();
        assert_eq!(sinks.len(), spec.workers);
        let table = TableOptions {
            containers_dir: self.root.path().join("containers"),
            feed_dir: None,
            spool_dir: Some(self.root.path().join("state/spool")),
            spool_bytes: 1 << 30,
            inotify: true,
            own_container: None,
            consumers: spec.workers,
        };
        let table = FileTable::start(table, &parts, self.metrics.table()).unwrap();
        let (stop, positions) = (CancellationToken::new(), Arc::new(Positions::new("es", spec.workers)));
        let mut threads = Vec::new();
        for (worker, sink) in sinks.into_iter().enumerate() {
            let options = RouteOptions {
                spec: spec.clone(),
                worker,
                consumer: worker,
                positions: Arc::clone(&positions),
                state: Some(self.root.path().join("state")),
                state_works: true,
                backfill: Begin::Oldest,
                max_record_bytes: 256 << 10,
                host_name: "node-1".into(),
                host_id: None,
                labels: None,
                steering: Settings::new(Duration::from_secs(1)),
            };
            let runtime = self.runtime.handle().clone();
            let route = Route::open(options, Arc::clone(&table), Arc::new(sink), runtime, metrics.clone(), &parts).unwrap();
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || route.run(&stop, || Duration::from_secs(30))));
        }
        Running { table, stop, threads }
    }

    fn taken(&self) -> usize {
        self.server.lock().unwrap().arrived.len()
    }

    /// What arrived of each container and stream, in order.
    fn messages(&self, container: &str, stream: &str) -> Vec<String> {
        let server = self.server.lock().unwrap();
        let documents = server.arrived.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
        let of = documents.filter(|document| document["container"]["name"] == container && document["stream"] == stream);
        of.map(|document| document["message"].as_str().unwrap().to_owned()).collect()
    }

    fn value(&self, series: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0)
    }
}

impl Running {
    fn end(self) {
        self.stop.cancel();
        (0..self.threads.len()).for_each(|consumer| self.table.wake(consumer));
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.table.stop();
    }

    fn knows(&self, number: usize) -> bool {
        self.table.containers().iter().any(|container| *container.id() == id(number))
    }
}

/// Workers share containers out, and another number of them goes on where the others ended: nothing is sent twice, and each stream stays in order.
#[test]
fn workers_ship_every_line_once_and_in_order_whatever_their_number() {
    const CONTAINERS: usize = 12;
    let bench = Bench::new();
    (0..CONTAINERS).for_each(|number| bench.create(number, &format!("job-{number}"), &Value::Null));
    assert!((0..3).all(|worker| (0..CONTAINERS).any(|number| worker_of(&id(number), 3) == worker)), "each worker has something to do");
    let mut lines = 0;
    for workers in [3, 1, 2] {
        for _ in 0..40 {
            for number in 0..CONTAINERS {
                bench.write(number, ["stdout", "stderr"][lines % 2], &format!("{lines}\n"), lines);
            }
            lines += 1;
        }
        let running = bench.run(&format!("workers={workers}&batch_records=50"));
        until("everything has arrived", || bench.taken() == lines * CONTAINERS);
        running.end();
    }
    for number in 0..CONTAINERS {
        for (parity, stream) in ["stdout", "stderr"].into_iter().enumerate() {
            let expected: Vec<String> = (0..lines).filter(|line| line % 2 == parity).map(|line| line.to_string()).collect();
            assert_eq!(bench.messages(&format!("job-{number}"), stream), expected);
        }
    }
    assert_eq!(bench.server.lock().unwrap().conflicts, 0, "nothing was sent again");
}

/// A disk that has room again gets the cursor, though no line comes that would take it there.
#[test]
fn a_cursor_that_could_not_be_saved_is_saved_when_it_can_be() {
    let bench = Bench::new();
    bench.create(1, "web", &Value::Null);
    bench.write(1, "stdout", "a\n", 1);
    let running = bench.run("");
    let file = CursorFile::new(&bench.root.path().join("state"), "es");
    let offset = || match file.load("es").unwrap() {
        Found::Cursor(cursor) => cursor.containers.get(&id(1)).map_or(0, |position| position.place.offset),
        _ => 0,
    };
    until("the first line is in the cursor", || offset() > 0);
    let before = offset();
    // Where the next cursor is written first, before it takes the place of the old one.
    let beside = bench.root.path().join("state/cursors").join(format!("{}.new", file_name("es")));
    fs::create_dir(&beside).unwrap();
    bench.write(1, "stdout", "b\n", 2);
    until("the second line has arrived", || bench.taken() == 2);
    until("the cursor cannot be saved", || bench.value("skep_log_cursor_errors_total{route=\"es\"}") > 0);
    assert_eq!(offset(), before);
    fs::remove_dir(&beside).unwrap();
    until("it is saved", || offset() > before);
    running.end();
}

/// Of what a filter leaves out nothing is sent, and nothing is kept: neither files of a container that is gone, nor the place of a stream.
#[test]
fn what_a_filter_leaves_out_holds_nothing() {
    let bench = Bench::new();
    bench.create(1, "web-1", &serde_json::json!({"a": "x"}));
    bench.create(2, "db-1", &serde_json::json!({"a": "x"}));
    bench.create(3, "web-3", &serde_json::json!({"a": "y"}));
    let part = "p".repeat(16 << 10);
    for number in 1..4 {
        bench.write(number, "stdout", "out\n", 1);
        // The beginning of a line whose end never comes.
        bench.write(number, "stderr", &part, 2);
    }
    let running = bench.run("filter.name=web*&filter.labels=a:x&filter.sources=stdout");
    until("the line has arrived", || bench.taken() == 1);
    // Only what nobody waits for any more is forgotten.
    (1..4).for_each(|number| fs::remove_dir_all(bench.directory(number)).unwrap());
    until("all are forgotten", || (1..4).all(|number| !running.knows(number)));
    running.end();
    assert_eq!(bench.messages("web-1", "stdout"), ["out"]);
    let Found::Cursor(cursor) = CursorFile::new(&bench.root.path().join("state"), "es").load("es").unwrap() else { panic!() };
    assert_eq!(cursor.containers.keys().collect::<Vec<_>>(), [&id(1)]);
    assert_eq!(cursor.containers[&id(1)].held, [None, None]);
}

/// A filter that comes at a restart: what a stream was held by is nothing to wait for any more, and nothing of the other is sent again.
#[test]
fn a_stream_that_is_left_out_later() {
    let bench = Bench::new();
    bench.create(1, "web", &Value::Null);
    let part = "p".repeat(16 << 10);
    bench.write(1, "stderr", &part, 1);
    bench.write(1, "stdout", "a\n", 2);
    let running = bench.run("");
    until("the line has arrived", || bench.taken() == 1);
    running.end();
    let held = || {
        let Found::Cursor(cursor) = CursorFile::new(&bench.root.path().join("state"), "es").load("es").unwrap() else { panic!() };
        cursor.containers[&id(1)].held
    };
    assert!(held()[1].is_some());
    bench.write(1, "stderr", "the end\n", 1);
    bench.write(1, "stdout", "b\n", 3);
    let running = bench.run("filter.sources=stdout");
    until("the other line has arrived", || bench.taken() == 2);
    running.end();
    assert_eq!(bench.messages("web", "stdout"), ["a", "b"]);
    assert_eq!((bench.server.lock().unwrap().conflicts, held()), (0, [None, None]));
}

/// A container is judged again when it gets another name, and one that is taken stays.
#[test]
fn a_name_that_comes_later_lets_a_container_in() {
    let bench = Bench::new();
    bench.create(1, "x_web", &Value::Null);
    bench.create(2, "web", &Value::Null);
    bench.write(1, "stdout", "a\n", 1);
    bench.write(2, "stdout", "b\n", 1);
    let running = bench.run("filter.name=web*");
    until("the one is there", || bench.taken() == 1);
    bench.describe(1, "web-later", &Value::Null);
    bench.describe(2, "old", &Value::Null);
    until("the other is there", || bench.taken() == 2);
    bench.write(2, "stdout", "c\n", 2);
    until("the first goes on", || bench.taken() == 3);
    running.end();
    assert_eq!(bench.messages("web-later", "stdout"), ["a"]);
}

/// Nobody tells any more who wrote it: a filter that asks for that leaves it out, and it is counted.
#[test]
fn what_a_filter_cannot_judge_is_counted() {
    let bench = Bench::new();
    fs::create_dir(bench.directory(1)).unwrap();
    bench.write(1, "stdout", "a\n", 1);
    bench.create(2, "web", &Value::Null);
    bench.write(2, "stdout", "b\n", 1);
    let running = bench.run("filter.name=*");
    until("the one is there", || bench.taken() == 1);
    fs::remove_dir_all(bench.directory(1)).unwrap();
    let series = "skep_log_gaps_total{reason=\"unknown_container\",route=\"es\"}";
    until("it is counted", || bench.value(series) == 1);
    running.end();
    assert_eq!(bench.taken(), 1);
}

/// The book's index, and documents as its dashboards look for them; the id is that of the other schema.
#[test]
fn documents_of_logstash() {
    let ids = ["", "&schema=logstash&index=logstash-%Y.%m.%d&manage_template=true"].map(|options| {
        let bench = Bench::new();
        bench.create(1, "web", &Value::Null);
        bench.write(1, "stderr", "no\n", 1);
        let running = bench.run(options);
        until("the line has arrived", || bench.taken() == 1);
        running.end();
        let server = bench.server.lock().unwrap();
        let (id, document) = server.taken.iter().next().unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        assert_eq!(*id, document["event"]["id"]);
        if !options.is_empty() {
            assert_eq!(server.templates, ["/_index_template/skep-logstash"]);
            assert_eq!(
                (&document["host"], &document["severity_label"], &document["docker"]["hostname"]),
                (&"node-1".into(), &"Error".into(), &"h0".into())
            );
        }
        id.clone()
    });
    assert_eq!(ids[0], ids[1]);
}
