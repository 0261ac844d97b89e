//! Logs that only the engine's API gives, against an engine that answers by script and does what 20.10 does when it rotates: it ends streams, repeats blocks,
//! leaves lines out, and breaks connections within a frame. The binary is killed meanwhile. No line may be lost or come twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    reason = "a test that cannot go on fails, and a client that went away is no fault"
)]

#[allow(dead_code, reason = "shared with tests that use the rest of it")]
#[path = "support/fake_engine.rs"]
mod fake_engine;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_engine::{FakeEngine, Reply};

const FIRST_TIME: i64 = 1_790_000_000_000_000_000;
const PART: usize = 16 << 10;

/// One container's log as the engine has it.
#[derive(Default)]
struct Log {
    entries: Vec<(u8, i64, Vec<u8>)>,
    /// By stream, what should be shipped.
    lines: BTreeMap<&'static str, Vec<String>>,
    time: i64,
}

impl Log {
    fn line(&mut self, stream: u8, line: &str) {
        self.time += 1000;
        let whole = format!("{line}\n").into_bytes();
        let time = FIRST_TIME + self.time;
        self.entries.extend(whole.chunks(PART).map(|part| (stream, time, part.to_vec())));
        self.lines.entry(if stream == 1 { "stdout" } else { "stderr" }).or_default().push(line.to_owned());
    }

    /// The frames of entries from `since` on.
    fn frames(entries: &[(u8, i64, Vec<u8>)], since: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for (stream, time, log) in entries.iter().filter(|entry| entry.1 >= since) {
            let content = [stamp(*time).as_bytes(), b" ", log].concat();
            out.extend_from_slice(&[*stream, 0, 0, 0]);
            out.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&content);
        }
        out
    }
}

/// RFC 3339 of a time on the day of [`FIRST_TIME`], 2026-09-21T14:13:20Z.
fn stamp(time: i64) -> String {
    let since = time - FIRST_TIME;
    let second = 14 * 3600 + 13 * 60 + 20 + since / 1_000_000_000;
    format!("2026-09-21T{:02}:{:02}:{:02}.{:09}Z", second / 3600, second / 60 % 60, second % 60, since % 1_000_000_000)
}

fn since_of(path: &str) -> i64 {
    let Some(since) = path.split("since=").nth(1) else { return 0 };
    let (seconds, nanoseconds) = since.split_once('.').unwrap();
    seconds.parse::<i64>().unwrap() * 1_000_000_000 + nanoseconds.parse::<i64>().unwrap()
}

/// What a stream that follows does, by the number of the request.
fn followed(log: &Log, since: i64, number: usize) -> Reply {
    let from = log.entries.partition_point(|entry| entry.1 < since);
    let end = log.entries.len();
    let mut bytes = Log::frames(&log.entries, since);
    match number % 3 {
        // It ends.
        0 => Reply::Bytes(bytes, true),
        // The last block comes again, from its beginning.
        1 => {
            bytes.extend(Log::frames(&log.entries[from.max(end.saturating_sub(40))..], 0));
            Reply::Bytes(bytes, true)
        }
        // It breaks within a frame.
        _ => {
            bytes.truncate(bytes.len().saturating_sub(7));
            Reply::Bytes(bytes, false)
        }
    }
}

struct Scripted {
    logs: Arc<Mutex<BTreeMap<String, Log>>>,
    running: Arc<AtomicBool>,
}

/// An engine of this version with containers of the driver `local`.
fn engine(path: &Path, api: &'static str, containers: &[&str]) -> (FakeEngine, Scripted) {
    let ids: Vec<(String, String)> = (1..).zip(containers).map(|(number, name)| (format!("{number:064x}"), (*name).to_owned())).collect();
    let logs: BTreeMap<String, Log> = ids.iter().map(|(id, _)| (id.clone(), Log::default())).collect();
    let scripted = Scripted { logs: Arc::new(Mutex::new(logs)), running: Arc::new(AtomicBool::new(true)) };
    let (logs, running, asked) = (Arc::clone(&scripted.logs), Arc::clone(&scripted.running), AtomicUsize::new(0));
    let state = |running: bool| if running { "running" } else { "exited" };
    let engine = FakeEngine::start(path, move |path| {
        let running = running.load(Ordering::SeqCst);
        if path == "/version" {
            return Reply::Json(format!(r#"{{"ApiVersion":"{api}","MinAPIVersion":"1.12"}}"#));
        }
        let path = path.strip_prefix(&format!("/v{api}")).unwrap();
        if path == "/info" {
            return Reply::Json(r#"{"ID":"x","Name":"node","DockerRootDir":"/nonexistent/docker","Swarm":{}}"#.into());
        }
        if path.starts_with("/containers/json") {
            let of = |(id, name): &(String, String)| {
                format!(r#"{{"Id":"{id}","Names":["/{name}"],"Image":"bb:1","State":"{}","Status":"Up","Labels":{{}}}}"#, state(running))
            };
            return Reply::Json(format!("[{}]", ids.iter().map(of).collect::<Vec<_>>().join(",")));
        }
        if path.starts_with("/events") {
            return Reply::Stream(Vec::new());
        }
        let Some((id, rest)) = path.strip_prefix("/containers/").and_then(|path| path.split_at_checked(64)) else {
            return Reply::Json("{}".into());
        };
        let Some((_, name)) = ids.iter().find(|(known, _)| known == id) else { return Reply::Status(404, "No such container") };
        if rest.starts_with("/json") {
            return Reply::Json(format!(
                r#"{{"Id":"{id}","Name":"/{name}","State":{{"Status":"{}","Running":{running}}},"Config":{{"Image":"bb:1","Tty":false,"Labels":{{"a":"b"}}}},"HostConfig":{{"LogConfig":{{"Type":"local"}}}}}}"#,
                state(running)
            ));
        }
        if name == "none" {
            return Reply::Status(501, "configured logging driver does not support reading");
        }
        let logs = logs.lock().unwrap();
        let (log, since, number) = (&logs[id], since_of(path), asked.fetch_add(1, Ordering::SeqCst));
        if path.contains("tail=0") {
            // Only a sign that something is new; it ends at the next rotation.
            return Reply::Bytes(b"\x01\0\0\0\0\0\0\x01x".to_vec(), true);
        }
        if path.contains("follow=1") {
            return followed(log, since, number);
        }
        let mut bytes = Log::frames(&log.entries, since);
        let is_broken = number % 7 == 3;
        if is_broken {
            bytes.truncate(bytes.len() / 2);
        }
        Reply::Bytes(bytes, !is_broken)
    });
    (engine, scripted)
}

struct Agent {
    child: Child,
    address: String,
}

impl Agent {
    fn start(host: &str, folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
            .env_clear()
            .args(["--web.listen-address=127.0.0.1:0", &format!("--docker.host={host}")])
            .arg(format!("--state-dir={}", folder.join("state").display()))
            .arg(format!("file://{}?flush=50ms&max_bytes=1GiB&name=r", folder.join("out").display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = loop {
            let line = lines.next().expect("it says where it is").unwrap();
            if line.contains("skep works") {
                break line;
            }
        };
        let address = line.split("page http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn value(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /metrics/skep HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let of = |line: &str| line.starts_with(series).then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten();
        answer.lines().filter_map(of).sum()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What was shipped, by container and stream, in order.
fn shipped(folder: &Path) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for file in fs::read_dir(folder.join("out")).into_iter().flatten() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |pointer: &str| record.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            found.entry((field("/container/name"), field("/stream"))).or_default().push(field("/message"));
        }
    }
    found
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn count(shipped: &BTreeMap<(String, String), Vec<String>>) -> usize {
    shipped.values().map(Vec::len).sum()
}

async fn no_line_is_lost_or_repeated(api: &'static str) {
    const LINES: u32 = 1500;
    let folder = tempfile::tempdir().unwrap();
    let names = ["alpha", "beta"];
    let (engine, scripted) = engine(&folder.path().join("docker.sock"), api, &names);
    let (host, path) = (engine.host(), folder.path().to_path_buf());
    let logs = Arc::clone(&scripted.logs);
    let work = tokio::task::spawn_blocking(move || {
        let mut agent = Some(Agent::start(&host, &path));
        for number in 0..LINES {
            for log in logs.lock().unwrap().values_mut() {
                let length = if number % 300 == 299 { 40_000 } else { usize::try_from(number % 100).unwrap() };
                log.line(1, &format!("out {number} {}", "x".repeat(length)));
                log.line(2, &format!("err {number}"));
            }
            if number % 25 == 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
            if number % 500 == 250 {
                agent = None;
            }
            if number % 500 == 300 {
                agent = Some(Agent::start(&host, &path));
            }
        }
        let agent = agent.unwrap_or_else(|| Agent::start(&host, &path));
        until("shipping", || count(&shipped(&path)) >= LINES as usize * 4);
        assert_eq!(agent.value("skep_log_gaps_total"), 0.0);
        assert_eq!(agent.value("skep_log_records_dropped_total"), 0.0);
        assert!(agent.value("skep_log_feed_repeated_total") > 0.0);
        assert_eq!(agent.value("skep_log_containers{source=\"api\",state=\"tailed\""), 2.0);
        drop(agent);
        let shipped = shipped(&path);
        for (log, name) in logs.lock().unwrap().values().zip(names) {
            for (stream, lines) in &log.lines {
                let found = &shipped[&(name.to_owned(), (*stream).to_owned())];
                assert_eq!(found.len(), lines.len(), "{name} {stream}");
                assert!(found == lines, "{name} {stream}: in order");
            }
        }
    });
    work.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_repeated_by_an_old_engine() {
    no_line_is_lost_or_repeated("1.41").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_or_repeated_by_a_new_engine() {
    no_line_is_lost_or_repeated("1.47").await;
}

/// The last words of a process, a driver that gives nothing back, and an end: what was taken goes when it is shipped, and the next run has nothing to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_is_shipped_to_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, scripted) = engine(&folder.path().join("docker.sock"), "1.41", &["one", "none"]);
    {
        let mut logs = scripted.logs.lock().unwrap();
        let log = logs.values_mut().next().unwrap();
        log.line(1, "first");
        log.entries.push((1, FIRST_TIME + 5000, vec![b'x'; PART]));
    }
    let (host, path) = (engine.host(), folder.path().to_path_buf());
    let running = Arc::clone(&scripted.running);
    let work = tokio::task::spawn_blocking(move || {
        let agent = Agent::start(&host, &path);
        until("the first line", || count(&shipped(&path)) == 1);
        until("the silent one", || agent.value("skep_log_containers{source=\"api\",state=\"no_reading\"") == 1.0);
        // A part of a line waits for its rest until the container ends.
        running.store(false, Ordering::SeqCst);
        drop(agent);
        let agent = Agent::start(&host, &path);
        until("the last words", || count(&shipped(&path)) == 2);
        drop(agent);
        let shipped = shipped(&path);
        assert_eq!(shipped.values().next().unwrap()[..], ["first".to_owned(), "x".repeat(PART)]);
    });
    work.await.unwrap();
}
