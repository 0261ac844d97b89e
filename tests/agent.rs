//! The binary as a user runs it: what it refuses, what it answers, and that it neither loses nor repeats a line when it is killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

#[path = "support/engine.rs"]
mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::Writer;

fn skep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(arguments).env_clear();
    command
}

fn ended(arguments: &[&str]) -> Output {
    skep(arguments).output().unwrap()
}

/// A running agent. Dropping it kills it.
struct Agent {
    child: Child,
    address: String,
    /// What it said until then.
    said: Vec<String>,
}

impl Agent {
    /// Starts it on a free port and waits for the line that tells where it is.
    fn start(arguments: &[&str]) -> Self {
        Self::start_by(skep(&[]), arguments)
    }

    fn start_by(mut command: Command, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        let mut child = command
            .args(["--web.listen-address=127.0.0.1:0", "--docker.host=unix:///nonexistent/docker.sock"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let line = loop {
            let line = lines.next().expect("it says where it is").unwrap();
            if line.contains("skep works") {
                break line;
            }
            said.push(line);
        };
        let address = line.split("page http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        // What it says further is taken, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, said }
    }

    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the code it ends with.
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn wrong_usage_ends_with_64_and_wrong_configuration_with_78_in_one_line() {
    for (arguments, code) in [
        (&["--nothing"][..], 64),
        (&["frob"], 64),
        (&["--log.level=loud"], 78),
        (&["elasticsearch://"], 78),
        (&["--config=/nonexistent"], 78),
    ] {
        let output = ended(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("skep: "), "{said}");
    }
}

#[test]
fn an_address_in_use_is_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = ended(&[&format!("--web.listen-address={}", listener.local_addr().unwrap())]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot be opened"));
}

#[test]
fn check_names_a_text_file_that_is_refused_and_the_network_namespace() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.prom"), b"job_ok yes\n").unwrap();
    let flag = format!("--collector.textfile.directory={}", folder.path().display());
    let output = ended(&["check", "--collector.disable-defaults", "--collector.textfile", &flag]);
    let table = String::from_utf8(output.stdout).unwrap();
    let line = |subject: &str| table.lines().find(|line| line.starts_with(subject)).unwrap_or_default();
    assert!(line("collector textfile").contains("FAILED") && line("collector textfile").contains("job.prom: line 1"), "{table}");
    assert!(line("network namespace").contains("qdisc"), "{table}");
    assert_eq!(output.status.code(), Some(1));
}

/// Without a route nobody else would say it: at the start, in one warning, and no part of the agent is not ready for it.
#[test]
fn a_state_directory_that_cannot_be_used_is_a_warning_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::write(&state, b"a file").unwrap();
    let flag = format!("--state-dir={}", state.display());
    let agent = Agent::start(&[&flag]);
    let warnings: Vec<&String> = agent.said.iter().filter(|line| line.contains("state directory")).collect();
    let [warning] = &warnings[..] else { panic!("{:?}", agent.said) };
    for word in ["WARN", state.to_str().unwrap(), "Not a directory", "exits, kills for want of memory, CPU time"] {
        assert!(warning.contains(word), "{word}: {warning}");
    }
    let (_, ready) = agent.get("/readyz", "");
    assert!(ready.contains("\"containers.ledger\": {\n      \"state\": \"off\""), "{ready}");
    assert_eq!(agent.stop(), Some(0));
    for (routes, word) in [(&[][..], "absent"), (&["file:///dev/null"], "FAILED")] {
        let output = ended(&[&["check", "--collector.disable-defaults", "--collector.containers", &flag][..], routes].concat());
        let table = String::from_utf8(output.stdout).unwrap();
        let line = table.lines().find(|line| line.starts_with("state directory")).unwrap_or_default();
        assert!(line.contains(word) && line.contains("Not a directory"), "{table}");
    }
}

#[test]
fn config_masks_secrets() {
    let output = ended(&["config", "elasticsearch://user:geheim@es:9200"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("route = elasticsearch://") && !text.contains("geheim"), "{text}");
}

#[test]
fn pages_answer() {
    let agent = Agent::start(&[]);
    let (status, metrics) = agent.get("/metrics", "");
    assert_eq!(status, 200);
    for part in [
        "text/plain; version=0.0.4",
        "node_load1{host=",
        "node_memory_MemTotal_bytes{",
        "skep_build_info{",
        "node_scrape_collector_success{collector=\"stat\"",
        "node_scrape_collector_success{collector=\"containers\"",
    ] {
        assert!(metrics.contains(part), "{part}");
    }
    assert!(!agent.get("/metrics/skep", "").1.contains("node_load1"));
    assert!(agent.get("/metrics?collect[]=loadavg", "").1.contains("node_load1"));
    assert!(!agent.get("/metrics?collect%5B%5D=stat", "").1.contains("node_load1"));
    assert_eq!(agent.get("/metrics?collect[]=nothing", "").0, 400);
    assert_eq!(agent.get("/metrics/nothing", "").0, 404);
    assert_eq!(agent.get("/nothing", "").0, 404);
    assert!(agent.get("/metrics", "Accept-Encoding: gzip\r\n").1.contains("content-encoding: gzip"));
    let open = agent.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n").1;
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    assert_eq!(agent.get("/healthz", "").0, 200);
    let (status, ready) = agent.get("/readyz", "");
    assert!(status == 503 && ready.contains("/nonexistent/docker.sock"), "{ready}");
    assert!(agent.get("/", "").1.contains("<h1>skep on"));
    assert_eq!(agent.stop(), Some(0));
}

/// Who wants node_exporter's part and nothing else has no engine, and nothing amiss.
#[test]
fn without_containers_and_routes_no_engine_is_asked() {
    let agent = Agent::start(&["--no-collector.containers"]);
    let (status, ready) = agent.get("/readyz", "");
    assert!(status == 200 && ready.contains("asks for it"), "{ready}");
    assert_eq!(agent.stop(), Some(0));
}

/// What the route `file://` wrote, by container and stream, in order.
fn shipped(output: &Path) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let Ok(files) = fs::read_dir(output) else { return found };
    for file in files {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        // The last line may be under way.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |pointer: &str| record.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            found.entry((field("/container/name"), field("/stream"))).or_default().push(field("/message"));
        }
    }
    found
}

/// Polls until `done` says so, for two minutes at most.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line that says which it is; some of them longer than what the engine's copier takes at one time.
fn numbered(name: &str, stream: &str, number: u32) -> String {
    let length = if number % 500 == 499 { 40_000 } else { usize::try_from(number % 200).unwrap() };
    format!("{name} {stream} {number} {}", "x".repeat(length))
}

#[test]
fn no_line_is_lost_or_repeated_when_the_agent_is_killed() {
    const LINES: u32 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let (containers, state, output) = (folder.path().join("containers"), folder.path().join("state"), folder.path().join("out"));
    fs::create_dir_all(&containers).unwrap();
    let arguments = [
        format!("--docker.containers-dir={}", containers.display()),
        format!("--state-dir={}", state.display()),
        format!("file://{}?flush=50ms&max_bytes=1GiB", output.display()),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let names = ["alpha", "beta", "gamma"];
    let mut writers: Vec<Writer> =
        (1u32..).zip(names).map(|(number, name)| Writer::create(&containers, number, name, 512 << 10, 5)).collect();
    writers[2].is_compressing = true;
    let mut agent = Some(Agent::start(&arguments));
    let mut kills = 0;
    for number in 0..LINES {
        for (writer, name) in writers.iter_mut().zip(names) {
            for stream in ["stdout", "stderr"] {
                writer.line(stream, &numbered(name, stream, number));
            }
        }
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Killed in the midst of it, at no particular moment; started again a little later.
        if number % 700 == 350 {
            agent.take().unwrap().kill();
            kills += 1;
        }
        if number % 700 == 450 {
            agent = Some(Agent::start(&arguments));
        }
    }
    let agent = agent.unwrap_or_else(|| Agent::start(&arguments));
    until("shipping", || shipped(&output).values().map(Vec::len).sum::<usize>() >= (LINES * 6) as usize);
    assert_eq!(agent.stop(), Some(0));
    assert!(kills >= 8);
    let found = shipped(&output);
    for name in names {
        for stream in ["stdout", "stderr"] {
            let lines = &found[&(name.to_owned(), stream.to_owned())];
            assert_eq!(lines.len(), LINES as usize, "{name} {stream}");
            for (number, line) in (0..).zip(lines) {
                assert!(*line == numbered(name, stream, number), "{name} {stream} {number}: {}", &line[..line.len().min(60)]);
            }
        }
    }
}

/// Some of them a single line, some of more bytes than the engine's copier takes at one time.
fn trace(stream: &str, number: u32) -> Vec<String> {
    let mut lines = vec![format!("{stream} {number} failed")];
    let length = if number % 300 == 299 { 20_000 } else { 10 };
    lines.extend((0..number % 5).map(|frame| format!("\tat {stream}.{number}.{frame} {}", "x".repeat(length))));
    lines
}

#[test]
fn lines_that_belong_together_come_together_and_once_when_the_agent_is_killed() {
    const RECORDS: u32 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let (containers, state, output) = (folder.path().join("containers"), folder.path().join("state"), folder.path().join("out"));
    fs::create_dir_all(&containers).unwrap();
    let arguments = [
        format!("--docker.containers-dir={}", containers.display()),
        format!("--state-dir={}", state.display()),
        // So that a machine that stands still for a moment ends no record.
        "--logs.multiline-gap=1m".to_owned(),
        format!("file://{}?flush=20ms&max_bytes=1GiB", output.display()),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut writer = Writer::create(&containers, 1, "traces", 256 << 10, 5);
    writer.label("traces", "skep.logs.multiline", "java");
    let mut agent = Some(Agent::start(&arguments));
    for number in 0..RECORDS {
        // Line by line in turn, so that each stream's records are open while the other's go on.
        let [mut stdout, mut stderr] = ["stdout", "stderr"].map(|stream| trace(stream, number).into_iter());
        loop {
            let lines = [("stdout", stdout.next()), ("stderr", stderr.next())];
            if lines.iter().all(|(_, line)| line.is_none()) {
                break;
            }
            for (stream, line) in lines {
                line.iter().for_each(|line| writer.line(stream, line));
            }
        }
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        if number % 400 == 200 {
            agent.take().unwrap().kill();
        }
        if number % 400 == 240 {
            agent = Some(Agent::start(&arguments));
        }
    }
    let agent = agent.unwrap_or_else(|| Agent::start(&arguments));
    // The last records end with the container.
    writer.configure("traces", false);
    until("shipping", || shipped(&output).values().map(Vec::len).sum::<usize>() >= (RECORDS * 2) as usize);
    assert_eq!(agent.stop(), Some(0));
    let found = shipped(&output);
    for stream in ["stdout", "stderr"] {
        let records = &found[&("traces".to_owned(), stream.to_owned())];
        assert_eq!(records.len(), RECORDS as usize, "{stream}");
        for (number, record) in (0..).zip(records) {
            assert!(*record == trace(stream, number).join("\n"), "{stream} {number}: {}", &record[..record.len().min(60)]);
        }
    }
}

#[test]
fn a_removed_container_is_shipped_to_its_last_line_also_by_the_next_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (containers, state, output) = (folder.path().join("containers"), folder.path().join("state"), folder.path().join("out"));
    fs::create_dir_all(&containers).unwrap();
    let base = [format!("--docker.containers-dir={}", containers.display()), format!("--state-dir={}", state.display())];
    // A route that takes nothing: what it does not take has to outlive the container.
    let closed = "elasticsearch://127.0.0.1:1?name=r".to_owned();
    let mut writer = Writer::create(&containers, 7, "job", 0, 1);
    let agent = Agent::start(&[&base[0], &base[1], &closed]);
    for number in 0..1000 {
        writer.line("stdout", &numbered("job", "stdout", number));
    }
    until("reading", || {
        let text = agent.get("/metrics/skep", "").1;
        text.lines().any(|line| line.starts_with("skep_log_records_read_total") && line.ends_with(" 1000"))
    });
    writer.remove();
    until("the spool", || {
        let text = agent.get("/metrics/skep", "").1;
        text.lines().any(|line| line.starts_with("skep_log_spool_bytes") && !line.ends_with(" 0"))
    });
    agent.kill();
    let open = format!("file://{}?flush=50ms&name=r", output.display());
    let agent = Agent::start(&[&base[0], &base[1], &open]);
    until("shipping", || shipped(&output).values().map(Vec::len).sum::<usize>() >= 1000);
    let found = shipped(&output);
    let lines = &found[&("job".to_owned(), "stdout".to_owned())];
    assert!((0..).zip(lines).all(|(number, line)| *line == numbered("job", "stdout", number)) && lines.len() == 1000);
    until("the spool's end", || {
        let text = agent.get("/metrics/skep", "").1;
        text.lines().any(|line| line.starts_with("skep_log_spool_bytes") && line.ends_with(" 0"))
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_said_and_the_rest_works() {
    let folder = tempfile::tempdir().unwrap();
    let (containers, output) = (folder.path().join("containers"), folder.path().join("out"));
    fs::create_dir_all(&containers).unwrap();
    let in_the_way = folder.path().join("state");
    fs::write(&in_the_way, b"a file").unwrap();
    let mut writer = Writer::create(&containers, 9, "one", 0, 1);
    writer.line("stdout", "hello");
    let agent = Agent::start(&[
        &format!("--docker.containers-dir={}", containers.display()),
        &format!("--state-dir={}", in_the_way.display()),
        &format!("file://{}?flush=50ms", output.display()),
    ]);
    until("shipping", || shipped(&output).values().any(|lines| lines.iter().any(|line| line == "hello")));
    let (_, ready) = agent.get("/readyz", "");
    assert!(ready.contains("logs.state"), "{ready}");
    assert_eq!(agent.get("/metrics/node", "").0, 200);
    assert_eq!(agent.stop(), Some(0));
}

/// The directories of one test.
struct Place {
    folder: tempfile::TempDir,
    containers: PathBuf,
    output: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (containers, output) = (folder.path().join("containers"), folder.path().join("out"));
        fs::create_dir_all(&containers).unwrap();
        Self { folder, containers, output }
    }

    fn arguments(&self, further: &[&str]) -> Vec<String> {
        let containers = format!("--docker.containers-dir={}", self.containers.display());
        let state = format!("--state-dir={}", self.folder.path().join("state").display());
        [containers, state].into_iter().chain(further.iter().map(|argument| (*argument).to_owned())).collect()
    }

    fn start(&self, arguments: &[&str]) -> Agent {
        Agent::start_by(skep(&[]), &self.arguments(arguments))
    }

    fn file_route(&self) -> String {
        format!("file://{}?flush=50ms&name=r", self.output.display())
    }

    /// All that was shipped, whatever container and stream, sorted.
    fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = shipped(&self.output).into_values().flatten().collect();
        messages.sort_unstable();
        messages
    }

    fn has_cursor(&self) -> bool {
        fs::read_dir(self.folder.path().join("state/cursors"))
            .is_ok_and(|files| files.flatten().any(|file| file.path().extension().is_some_and(|name| name == "json")))
    }

    /// Waits until all of `expected` has come, and looks whether it came once.
    fn until_shipped(&self, mut expected: Vec<String>) {
        expected.sort_unstable();
        until("shipping", || self.messages().len() >= expected.len());
        assert_eq!(self.messages(), expected);
    }
}

/// A counter or gauge of the agent's own, added up over its series.
fn own(agent: &Agent, name: &str) -> f64 {
    let text = agent.get("/metrics/skep", "").1;
    let of = |line: &str| line.starts_with(name).then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten();
    text.lines().filter_map(of).sum()
}

/// A sink that takes nothing.
const CLOSED: &str = "elasticsearch://127.0.0.1:1?name=r";

#[test]
fn what_a_first_start_has_read_is_not_acknowledged_by_that() {
    let place = Place::new();
    let mut expected = Vec::new();
    for number in 0..200 {
        let mut writer = Writer::create(&place.containers, number, &format!("c{number}"), 0, 1);
        for line in 0..5 {
            writer.line("stdout", &format!("{number} {line}"));
            expected.push(format!("{number} {line}"));
        }
    }
    let agent = place.start(&[CLOSED]);
    until("reading", || own(&agent, "skep_log_records_read_total") >= 1000.0 && place.has_cursor());
    agent.kill();
    let agent = place.start(&[&place.file_route()]);
    place.until_shipped(expected);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_the_spool_keeps_for_one_route_is_not_sent_again_to_another() {
    let place = Place::new();
    let stuck = "elasticsearch://127.0.0.1:1?name=stuck";
    // Others come first, so that the rotated one's directory is looked at late.
    let _others: Vec<Writer> = (0..100).map(|number| Writer::create(&place.containers, number, "other", 0, 1)).collect();
    let mut writer = Writer::create(&place.containers, 1000, "rotated", 2000, 2);
    let mut expected = Vec::new();
    for _ in 0..4 {
        let agent = place.start(&[stuck, &place.file_route()]);
        for _ in 0..20 {
            for _ in 0..10 {
                expected.push(format!("line {:04}", expected.len()));
                writer.line("stdout", expected.last().unwrap());
            }
            place.until_shipped(expected.clone());
        }
        until("the spool", || own(&agent, "skep_log_spool_bytes") > 10_000.0);
        agent.kill();
    }
}

#[test]
fn without_backfill_only_what_is_written_from_now_on_is_shipped_and_all_of_that() {
    let place = Place::new();
    let mut writers: Vec<Writer> = (0..100).map(|number| Writer::create(&place.containers, number, &format!("c{number}"), 0, 1)).collect();
    // The first has not written anything yet.
    writers.iter_mut().skip(1).for_each(|writer| writer.line("stdout", "old"));
    let agent = place.start(&["--logs.backfill=none", &place.file_route()]);
    until("beginning", || place.has_cursor());
    let mut expected = Vec::new();
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.line("stdout", &format!("new {number}"));
        expected.push(format!("new {number}"));
    }
    place.until_shipped(expected);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn many_containers_are_not_sent_again_by_the_next_agent() {
    let place = Place::new();
    let mut writers: Vec<Writer> = (0..300).map(|number| Writer::create(&place.containers, number, &format!("c{number}"), 0, 1)).collect();
    for (number, writer) in (0..).zip(&mut writers) {
        // Those that are looked at last are those that wrote the longest ago.
        writer.time -= number * 1_000_000_000;
    }
    let mut expected = Vec::new();
    for round in 0..3 {
        let agent = place.start(&[&place.file_route()]);
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.line("stdout", &format!("{number} {round}"));
            expected.push(format!("{number} {round}"));
        }
        place.until_shipped(expected.clone());
        assert_eq!(agent.stop(), Some(0));
    }
}

#[test]
fn removed_containers_that_the_spool_keeps_for_another_route_are_not_forgotten() {
    let place = Place::new();
    let stuck = "elasticsearch://127.0.0.1:1?name=stuck";
    let mut expected = Vec::new();
    let mut writers: Vec<Writer> = (0..300).map(|number| Writer::create(&place.containers, number, "gone", 0, 1)).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.line("stdout", &format!("gone {number}"));
        expected.push(format!("gone {number}"));
    }
    let mut here = Writer::create(&place.containers, 1000, "here", 0, 1);
    for round in 0..2 {
        let agent = place.start(&[stuck, &place.file_route()]);
        place.until_shipped(expected.clone());
        writers.drain(..).for_each(Writer::remove);
        for number in 0..60 {
            here.line("stdout", &format!("here {round} {number}"));
            expected.push(format!("here {round} {number}"));
            place.until_shipped(expected.clone());
        }
        agent.kill();
    }
}

#[test]
fn a_container_that_comes_back_is_read_again() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "away", 0, 1);
    let mut here = Writer::create(&place.containers, 2, "here", 0, 1);
    writer.line("stdout", "away 1");
    let mut expected = vec!["away 1".to_owned()];
    // For the route that takes nothing the table keeps the container while it is away.
    let agent = place.start(&["elasticsearch://127.0.0.1:1?name=stuck", &place.file_route()]);
    place.until_shipped(expected.clone());
    let away = place.folder.path().join("away");
    fs::rename(&writer.directory, &away).unwrap();
    until("the spool", || own(&agent, "skep_log_spool_bytes") > 0.0);
    // Each of these is a round of the route, which is done with the other container after the first.
    for number in 0..5 {
        here.line("stdout", &format!("here {number}"));
        expected.push(format!("here {number}"));
        place.until_shipped(expected.clone());
    }
    fs::rename(&away, &writer.directory).unwrap();
    writer.line("stdout", "away 2");
    expected.push("away 2".to_owned());
    place.until_shipped(expected);
    agent.kill();
}

#[test]
fn a_clock_that_is_set_back_at_a_rotation_loses_nothing() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "back", 0, 1);
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "one");
    place.until_shipped(vec!["one".to_owned()]);
    until("the cursor", || own(&agent, "skep_log_records_acknowledged_total") >= 1.0);
    writer.time -= 3_600_000_000_000;
    writer.rotate();
    writer.line("stdout", "two");
    place.until_shipped(vec!["one".to_owned(), "two".to_owned()]);
    agent.kill();
}

#[test]
fn a_file_whose_first_time_is_a_little_earlier_is_read_when_the_one_before_is_gone() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "order", 0, 3);
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "one");
    writer.line("stderr", "two");
    let mut expected = vec!["one".to_owned(), "two".to_owned()];
    place.until_shipped(expected.clone());
    until("the cursor", || own(&agent, "skep_log_records_acknowledged_total") >= 2.0);
    agent.kill();
    // The two streams take their times before they queue for the file, so the first line of the next may be the older one.
    writer.time -= 1_500;
    for line in ["three", "four", "five"] {
        writer.rotate();
        writer.line("stdout", line);
        expected.push(line.to_owned());
    }
    let agent = place.start(&[&place.file_route()]);
    place.until_shipped(expected);
    agent.kill();
}

#[test]
fn a_line_longer_than_several_files_that_all_begin_alike_is_read_through() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "long", 64 << 10, 20);
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "before");
    writer.line("stdout", &"x".repeat(1_000_000));
    writer.line("stdout", "behind");
    until("shipping", || place.messages().len() >= 3);
    let lengths: Vec<usize> = place.messages().iter().map(String::len).collect();
    assert_eq!(lengths, [6, 6, 256 << 10]);
    assert_eq!(agent.stop(), Some(0));
}

/// Plays a sink that takes everything and is slow about it. Gives its address.
fn slow_sink(pause: Duration) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move |stream: TcpStream| -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line)? > 2 {
                let header = line.to_ascii_lowercase();
                length = header.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            std::thread::sleep(pause);
            let records = body.iter().filter(|byte| **byte == b'\n').count() / 2;
            let items = vec![r#"{"create":{"status":201}}"#; records].join(",");
            let answer = format!(r#"{{"errors":false,"items":[{items}]}}"#);
            write!(&stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || drop(serve(stream.unwrap())));
        }
    });
    address
}

#[test]
fn a_writer_that_never_pauses_does_not_keep_a_stopping_agent() {
    let place = Place::new();
    let sink = slow_sink(Duration::from_millis(200));
    let route = format!("elasticsearch://{sink}?gzip=false&manage_template=false&flush=50ms");
    let agent = place.start(&["--shutdown.timeout=100s", &route]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::create(&place.containers, 1, "busy", 8 << 20, 2);
            while !is_over.load(Ordering::Relaxed) {
                writer.line("stdout", "again");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        until("shipping", || own(&agent, "skep_log_records_acknowledged_total") > 100.0);
        let begun = Instant::now();
        let code = agent.stop();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(code, Some(0));
        // Far from the hundred seconds that it may take, and far from the few that it needs.
        assert!(begun.elapsed() < Duration::from_secs(50));
    });
}

#[test]
fn a_first_start_ships_what_is_not_older_than_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let (containers, state, output) = (folder.path().join("containers"), folder.path().join("state"), folder.path().join("out"));
    fs::create_dir_all(&containers).unwrap();
    let id = "c".repeat(64);
    let directory = containers.join(&id);
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("config.v2.json"),
        format!("{{\"ID\":\"{id}\",\"Name\":\"/old\",\"State\":{{\"Running\":true}},\"Config\":{{}}}}"),
    )
    .unwrap();
    fs::write(directory.join("hostconfig.json"), "{\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-file\":\"3\"}}}").unwrap();
    let entry = |time: &str, text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n");
    let log = directory.join(format!("{id}-json.log"));
    // Two files, and within the second an old line before the first that is new enough.
    fs::write(log.with_extension("log.1"), entry("2001-01-01T00:00:00Z", "oldest")).unwrap();
    let text = entry("2002-01-01T00:00:00Z", "older") + &entry("2100-01-01T00:00:00.5Z", "new") + &entry("2100-01-01T00:00:01Z", "newer");
    fs::write(&log, text).unwrap();
    let agent = Agent::start(&[
        &format!("--docker.containers-dir={}", containers.display()),
        &format!("--state-dir={}", state.display()),
        &format!("file://{}?flush=50ms", output.display()),
        "--logs.backfill=12h",
    ]);
    until("shipping", || shipped(&output).values().map(Vec::len).sum::<usize>() >= 2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(shipped(&output).into_values().next().unwrap(), ["new", "newer"]);
}

#[test]
fn a_file_that_was_cut_from_outside_is_not_sent_again() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "cut", 0, 1);
    let log = writer.directory.join(format!("{}-json.log", writer.id));
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "one, which is a long line");
    place.until_shipped(vec!["one, which is a long line".to_owned()]);
    // As logrotate's copytruncate does it. The engine appends, and so does this one.
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    writer.append_again();
    writer.line("stdout", "two");
    let mut expected = vec!["one, which is a long line".to_owned(), "two".to_owned()];
    place.until_shipped(expected.clone());
    agent.kill();
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "three");
    expected.push("three".to_owned());
    place.until_shipped(expected.clone());
    // Cut, but for its first line: by that it is recognised, and what is left comes again rather than not at all.
    let first = fs::read(&log).unwrap().iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    fs::File::options().write(true).open(&log).unwrap().set_len(first).unwrap();
    expected.push("two".to_owned());
    place.until_shipped(expected.clone());
    writer.line("stdout", "four");
    expected.push("four".to_owned());
    place.until_shipped(expected);
    agent.kill();
}

#[test]
fn compressed_predecessors_are_read_and_a_damaged_one_is_a_gap() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "c", 20_000, 6);
    writer.is_compressing = true;
    let line = |number: u32| format!("{number} {}", "x".repeat(50));
    let mut numbers = 0..;
    let mut write_files = |writer: &mut Writer, files: u32| {
        // 126 bytes and more an entry: a file has its 160th line when the next one rotates it.
        for number in numbers.by_ref().take(200 * files as usize) {
            writer.line("stdout", &line(number));
        }
        numbers.start
    };
    let written = write_files(&mut writer, 3);
    let agent = place.start(&[&place.file_route()]);
    let mut expected: Vec<String> = (0..written).map(line).collect();
    place.until_shipped(expected.clone());
    agent.kill();

    // While no agent runs. The place that was reached is in a file that is compressed by then, the file behind it is damaged in its middle.
    let written = write_files(&mut writer, 3);
    let damaged = writer.compressed(2);
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let agent = place.start(&[&place.file_route()]);
    expected.extend((expected.len().try_into().unwrap()..written).map(line));
    until("the last line", || place.messages().contains(&line(written - 1)));
    let shipped = place.messages();
    let missing: Vec<&String> = expected.iter().filter(|line| !shipped.contains(line)).collect();
    assert_eq!(shipped.len() + missing.len(), expected.len(), "none came twice");
    assert!((1..200).contains(&missing.len()), "{}", missing.len());
    until("the count", || own(&agent, "skep_log_file_errors_total{operation=\"compressed\"") == 1.0);
    assert_eq!(own(&agent, "skep_log_gaps_total"), 1.0);
    assert_eq!(own(&agent, "skep_log_gaps_total{reason=\"damaged_file\""), 1.0);
    agent.kill();
}

#[test]
fn what_was_copied_of_the_only_file_is_shipped_and_the_rest_is_a_gap() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "one", 1 << 20, 1);
    let log = writer.directory.join(format!("{}-json.log", writer.id));
    let spool = place.folder.path().join("state/spool").join(&writer.id);
    let is_copied = || {
        let spool = fs::read_dir(&spool);
        spool.is_ok_and(|files| files.flatten().any(|file| file.path().extension().is_some_and(|end| end == "part")))
    };
    let agent = place.start(&[CLOSED]);
    let line = |number: u32| format!("{number:06} {}", "x".repeat(10_000));
    let mut expected: Vec<String> = (0..53).map(line).collect();
    expected.iter().for_each(|line| writer.line("stdout", line));
    until("copying", is_copied);
    // What is behind the copy goes when the file is written anew in its place.
    (0..7).for_each(|_| writer.line("stdout", "lost"));
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    writer.append_again();
    for number in 100..103 {
        writer.line("stdout", &line(number));
        expected.push(line(number));
    }
    until("the copy's name", || own(&agent, "skep_log_lag_bytes") > 500_000.0);
    agent.kill();
    let agent = place.start(&[&place.file_route()]);
    place.until_shipped(expected);
    assert_eq!(own(&agent, "skep_log_gaps_total"), 1.0);
    assert_eq!(own(&agent, "skep_log_gaps_total{reason=\"rotated_away\""), 1.0);
    agent.kill();
}

#[test]
fn many_log_files_leave_descriptors_for_scrapes_and_cursors() {
    let place = Place::new();
    let mut writers: Vec<Writer> = (0..300).map(|number| Writer::create(&place.containers, number, "many", 0, 1)).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.line("stdout", &number.to_string());
    }
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_skep")]).env_clear();
    let agent = Agent::start_by(few, &place.arguments(&[&place.file_route()]));
    until("shipping", || place.messages().len() > 10 && own(&agent, "skep_log_lag_bytes") == 0.0);
    let (_, ready) = agent.get("/readyz", "");
    assert!(ready.contains("nofile"), "{ready}");
    assert_eq!(own(&agent, "skep_log_cursor_errors_total"), 0.0);
    agent.kill();
    let agent = place.start(&[&place.file_route()]);
    place.until_shipped((0..300).map(|number| number.to_string()).collect());
    agent.kill();
}

#[test]
fn what_a_cursor_does_not_hold_yet_is_kept_for_a_sink_that_is_cut_back_to_it() {
    let place = Place::new();
    let mut writer = Writer::create(&place.containers, 1, "w", 4 << 10, 2);
    let agent = place.start(&[&place.file_route()]);
    writer.line("stdout", "first");
    place.until_shipped(vec!["first".to_owned()]);
    until("the cursor", || place.has_cursor());
    // From now on the cursor cannot be saved, while the rest of the state directory works.
    let cursors = place.folder.path().join("state/cursors");
    let cursor =
        fs::read_dir(&cursors).unwrap().flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|name| name == "json"));
    let in_the_way = cursor.unwrap().with_extension("new");
    until("a moment without a save", || fs::create_dir(&in_the_way).is_ok());
    let mut expected = vec!["first".to_owned()];
    for number in 0..200 {
        expected.push(numbered("w", "stdout", number));
        writer.line("stdout", &numbered("w", "stdout", number));
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    until("a save that fails", || own(&agent, "skep_log_cursor_errors_total") >= 2.0);
    assert!(agent.get("/readyz", "").1.contains("wait in their log files"));
    agent.kill();
    fs::remove_dir(&in_the_way).unwrap();
    let agent = place.start(&[&place.file_route()]);
    place.until_shipped(expected);
    assert_eq!(agent.stop(), Some(0));
}
