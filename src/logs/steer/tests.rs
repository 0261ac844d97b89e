//! Containers with labels, read through a tail that is killed at any moment.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Settings;
use super::group::SLACK;
use crate::config::{RouteSpec, Schema};
use crate::logs::ContainerId;
use crate::logs::batch::Batch;
use crate::logs::cursor::{Cursor, CursorFile, Found, Position};
use crate::logs::files::{FileTable, LoggedContainer, TableOptions};
use crate::logs::positions::Positions;
use crate::logs::route::RouteOptions;
use crate::logs::tail::{Begin, Buffers, Encoder, Progress, Tail};
use crate::logs::time::write_rfc3339;
use crate::telemetry::{Metrics, Parts, RouteMetrics};

const SECOND: i64 = 1_000_000_000;
const GAP: Duration = Duration::from_secs(1);

/// One line: the stream, how much later it is than the one before, and what it says.
type Said = (bool, i64, String);

/// A container's log, half of it rotated, and the table over it.
struct Lab {
    root: tempfile::TempDir,
    id: ContainerId,
    table: Arc<FileTable>,
    metrics: Metrics,
    route: RouteMetrics,
    options: RouteOptions,
}

fn entry(stderr: bool, time: i64, text: &str) -> Vec<u8> {
    let stream = if stderr { "stderr" } else { "stdout" };
    let mut line = format!("{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"", json!(text)).into_bytes();
    write_rfc3339(time, &mut line);
    line.extend_from_slice(b"\"}\n");
    line
}

impl Lab {
    fn new(labels: &[(&str, &str)], running: bool, said: &[Said]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap();
        let dir = root.path().join("containers").join(id.as_str());
        fs::create_dir_all(&dir).unwrap();
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let config = json!({"Name": "/shop", "Config": {"Labels": labels, "Image": "shop"}, "State": {"Running": running}});
        fs::write(dir.join("config.v2.json"), config.to_string()).unwrap();
        fs::write(dir.join("hostconfig.json"), r#"{"LogConfig":{"Type":"json-file","Config":{"max-file":"3"}}}"#).unwrap();
        let mut time = 1_700_000_000 * SECOND;
        let mut lines = Vec::new();
        for (stderr, later, text) in said {
            time += later;
            lines.push(entry(*stderr, time, text));
        }
        let name = format!("{}-json.log", id.as_str());
        let (rotated, live) = lines.split_at(lines.len() / 2);
        if !rotated.is_empty() {
            fs::write(dir.join(format!("{name}.1")), rotated.concat()).unwrap();
        }
        fs::write(dir.join(name), live.concat()).unwrap();
        let metrics = Metrics::new().unwrap();
        let table = TableOptions {
            containers_dir: root.path().join("containers"),
            feed_dir: None,
            spool_dir: None,
            spool_bytes: 1 << 30,
            inotify: true,
            own_container: None,
            consumers: 1,
        };
        let table = FileTable::start(table, &Parts::default(), metrics.table()).unwrap();
        let options = RouteOptions {
            spec: RouteSpec::parse("stdout:").unwrap(),
            worker: 0,
            consumer: 0,
            positions: Arc::new(Positions::new("r", 1)),
            state: None,
            state_works: true,
            backfill: Begin::Oldest,
            max_record_bytes: 1000,
            host_name: "node-1".into(),
            host_id: None,
            labels: None,
            steering: Settings::new(GAP),
        };
        let lab = Self { id, table, route: metrics.route("r"), metrics, options, root };
        let files = usize::from(!rotated.is_empty()) + usize::from(!live.is_empty());
        lab.until(|container| container.chain().len() == files && container.is_ended() != running);
        lab
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("containers").join(self.id.as_str()).join(format!("{}-json.log", self.id.as_str()))
    }

    /// Waits for the table. The limit is only there so that a fault ends the test.
    fn until(&self, is_so: impl Fn(&LoggedContainer) -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !self.table.containers().iter().any(|container| is_so(container)) {
            assert!(Instant::now() < limit, "waited in vain");
            self.table.wait(0, Duration::from_millis(5));
        }
    }

    fn tail(&self, begin: Begin) -> Tail {
        let container = self.table.containers().iter().find(|container| *container.id() == self.id).cloned().unwrap();
        Tail::new(container, begin, &self.options, &self.route)
    }

    /// Reads once, up to so many records.
    fn read(&self, tail: &mut Tail, now: Instant, most: usize) -> (Progress, Vec<Value>) {
        let mut batch = Batch::new();
        let mut encoder = Encoder { batch: &mut batch, index: None, schema: Schema::Ecs, metrics: &self.route, max: (usize::MAX, most) };
        let progress = tail.read_at(now, &mut Buffers::default(), &mut encoder);
        let records = batch.records().iter().map(|span| serde_json::from_slice(batch.document(span)).unwrap()).collect();
        (progress, records)
    }

    /// All that there is, in one go.
    fn all(&self) -> Vec<Value> {
        let mut tail = self.tail(Begin::Oldest);
        let mut all = Vec::new();
        loop {
            let (progress, records) = self.read(&mut tail, Instant::now(), usize::MAX);
            all.extend(records);
            if progress == Progress::Nothing {
                return all;
            }
        }
    }

    /// All that there is, by tails of which each begins where the last cursor says. A death comes behind so many records, and what was read since the cursor was
    /// saved has reached the sink, or has not.
    fn with_deaths(&self, deaths: &[(usize, bool, bool)]) -> Vec<Value> {
        let mut sink: Vec<Value> = Vec::new();
        let mut file = CursorFile::new(self.root.path(), "r");
        let mut tail = self.tail(Begin::Oldest);
        let mut deaths = deaths.iter();
        loop {
            let (most, is_death, is_sent) = deaths.next().copied().unwrap_or((usize::MAX, false, true));
            let (progress, records) = self.read(&mut tail, Instant::now(), most);
            if is_sent || !is_death {
                for record in records {
                    // As a sink that knows ids.
                    if !sink.iter().any(|known| known["event"]["id"] == record["event"]["id"]) {
                        sink.push(record);
                    }
                }
            }
            if is_death {
                let begin = match file.load("r").unwrap() {
                    Found::Cursor(cursor) => Begin::At(Box::new(cursor.containers[&self.id].clone())),
                    _ => Begin::Oldest,
                };
                tail = self.tail(begin);
            } else if progress == Progress::Nothing {
                return sink;
            } else if let Some(position) = tail.position() {
                let containers = BTreeMap::from([position]);
                file.save("r", &Cursor { containers, sink: None }).unwrap();
            }
        }
    }

    fn value(&self, series: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap()
    }
}

fn of_stream(records: &[Value], stream: &str) -> Vec<Value> {
    records.iter().filter(|record| record["stream"] == stream).cloned().collect()
}

fn messages(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["message"].as_str().unwrap()).collect()
}

fn said() -> impl Strategy<Value = Said> {
    let later = prop_oneof![6 => 0..3i64, 1 => Just(SECOND / 2), 1 => Just(2 * SECOND)];
    // Some of them long, so that the bound in bytes is met.
    let text = prop_oneof![6 => "[A ]x{0,2}\n", 1 => "[A ]x{300,450}\n", 1 => "[A ]x{0,2}"];
    (any::<bool>(), later, text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn deaths_change_nothing(
        said in proptest::collection::vec(said(), 0..60),
        deaths in proptest::collection::vec((1..6usize, proptest::bool::weighted(0.4), any::<bool>()), 0..30),
        labels in prop_oneof![
            Just(&[("skep.logs.multiline", "java")][..]),
            Just(&[("skep.logs.rate", "3/s")][..]),
            Just(&[("skep.logs.multiline", "^A"), ("skep.logs.rate", "3/s"), ("skep.logs.sample", "1/2"), ("skep.logs.redact", "xx")][..]),
        ],
    ) {
        let lab = Lab::new(labels, false, &said);
        let expected = lab.all();
        let found = lab.with_deaths(&deaths);
        for stream in ["stdout", "stderr"] {
            prop_assert_eq!(of_stream(&found, stream), of_stream(&expected, stream));
        }
    }
}

#[test]
fn a_group_is_sent_when_nothing_came_for_the_gap_and_a_second() {
    let lab = Lab::new(&[("skep.logs.multiline", "java")], true, &[(false, 0, "A\n".into()), (false, 1, " a\n".into())]);
    let mut tail = lab.tail(Begin::Oldest);
    let begin = Instant::now();
    let at = |tail: &mut Tail, millis| lab.read(tail, begin + Duration::from_millis(millis), 9).1;
    let held = |tail: &Tail| tail.position().is_some_and(|(_, Position { held, .. })| held[0].is_some());
    // Read, and not sent; its place is held.
    for millis in [0, 0, 1900] {
        assert_eq!((messages(&at(&mut tail, millis)), held(&tail)), (vec![], true));
    }
    // One more line begins the wait anew.
    let mut log = OpenOptions::new().append(true).open(lab.log()).unwrap();
    let changed = lab.table.containers()[0].changed();
    log.write_all(&entry(false, 1_700_000_000 * SECOND + 2, " b\n")).unwrap();
    lab.until(|container| container.changed() != changed);
    for millis in [1950, 1960, 2500, 3900] {
        assert_eq!((messages(&at(&mut tail, millis)), held(&tail)), (vec![], true));
    }
    let mut records = Vec::new();
    while records.is_empty() {
        records = at(&mut tail, 20_000);
    }
    assert_eq!((messages(&records), &records[0]["tags"], held(&tail)), (vec!["A\n a\n b"], &json!(["multiline"]), false));
    assert_eq!(lab.value("skep_log_lines_joined_total{route=\"r\"}"), 2);
    assert!(GAP + SLACK < Duration::from_millis(20_000 - 3900));
}

#[test]
fn what_is_withheld_and_redacted_is_counted() {
    let said: Vec<Said> = (0..100).map(|number| (number % 2 == 0, SECOND / 20, format!("secret {number}\n"))).collect();
    let lab = Lab::new(&[("skep.logs.rate", "3/s"), ("skep.logs.redact", "secret")], false, &said);
    let records = lab.all();
    // Of each stream 10 a second: five windows, and for stdout the beginning of a sixth.
    assert_eq!(records.len(), 31);
    assert!(messages(&records).iter().all(|message| message.starts_with("[redacted] ")));
    assert_eq!(lab.value("skep_log_records_withheld_total{reason=\"rate\",route=\"r\"}"), 69);
    assert_eq!(lab.value("skep_log_redactions_total{reason=\"match\",route=\"r\"}"), 31);

    let lab = Lab::new(&[("skep.logs.sample", "1/4"), ("skep.logs.redact", "(")], false, &said);
    let records = lab.all();
    assert!(messages(&records).iter().all(|message| *message == "[redacted]"));
    assert_eq!(lab.value("skep_log_records_withheld_total{reason=\"sample\",route=\"r\"}"), 100 - records.len() as u64);
    assert_eq!(lab.value("skep_log_redactions_total{reason=\"bad_expression\",route=\"r\"}"), records.len() as u64);
}

#[test]
fn a_label_that_cannot_be_taken_is_told_once_and_costs_itself() {
    let lab = Lab::new(
        &[("skep.logs.multiline", "("), ("skep.logs.rate", "fast")],
        false,
        &[(false, 0, "A\n".into()), (false, 1, " a\n".into())],
    );
    for _ in 0..3 {
        assert_eq!(messages(&lab.all()), ["A", " a"]);
    }
    for label in ["multiline", "rate"] {
        assert_eq!(lab.value(&format!("skep_log_labels_refused_total{{label=\"{label}\"}}")), 1);
    }
}
