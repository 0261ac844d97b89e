//! The collectors that ask over sockets: systemd and logind at a bus that follows a script, qdisc and wifi over recorded answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep::collect::{self, Collector, Pass, Presence};
use skep::exposition::Writer;
use skep::host::{Reader, Root};

use crate::support::{self, Collected};

const MACHINE: &str = "by-hand-sockets";

fn built(name: &str, given: &[(&str, &str)]) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&support::settings(given)).unwrap()
}

/// A body of an answer, little-endian.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend_from_slice(&number.to_le_bytes());
    }
    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }
    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }
    /// An array of structures.
    fn list<T>(items: &[T], write: impl Fn(&mut Self, &T)) -> Self {
        let mut body = Self(vec![0; 8]);
        for item in items {
            body.align(8);
            write(&mut body, item);
        }
        let length = u32::try_from(body.0.len() - 8).unwrap();
        body.0[..4].copy_from_slice(&length.to_le_bytes());
        body
    }
}

/// What the script says to a question.
enum Say {
    Value(&'static str, Body),
    Refuse(&'static str),
    /// Nothing, for ever.
    Silence,
    /// Closes the connection.
    Close,
    /// What is no message.
    Rubbish,
}

fn text(value: &str) -> Say {
    let mut body = Body::default();
    body.signature("s");
    body.text(value);
    Say::Value("v", body)
}

fn number(value: u32) -> Say {
    let mut body = Body::default();
    body.signature("u");
    body.number(value);
    Say::Value("v", body)
}

fn long(value: u64) -> Say {
    let mut body = Body::default();
    body.signature("t");
    body.align(8);
    body.0.extend_from_slice(&value.to_le_bytes());
    Say::Value("v", body)
}

fn yes(value: bool) -> Say {
    let mut body = Body::default();
    body.signature("b");
    body.number(value.into());
    Say::Value("v", body)
}

/// A question: the object, the method, its arguments.
struct Question {
    path: String,
    member: String,
    arguments: Vec<String>,
}

fn texts(bytes: &[u8], mut at: usize, end: usize) -> Vec<String> {
    let mut found = Vec::new();
    while at + 4 < end {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        found.push(String::from_utf8(bytes[at + 4..at + 4 + length].to_vec()).unwrap());
        at = (at + 4 + length + 1).next_multiple_of(4);
    }
    found
}

/// Reads one question.
fn question(stream: &mut UnixStream) -> Option<(u32, Question)> {
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes).ok()?;
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..4], b"l\x01\x02\x01");
    let (length, serial, header) = (word(&bytes, 4) as usize, word(&bytes, 8), word(&bytes, 12) as usize);
    let body = (16 + header).next_multiple_of(8);
    bytes.resize(body + length, 0);
    stream.read_exact(&mut bytes[16..]).ok()?;
    let mut fields = BTreeMap::new();
    let mut at = 16;
    while at < 16 + header {
        at = at.next_multiple_of(8);
        let code = bytes[at];
        if bytes[at + 2] == b'g' {
            break;
        }
        let length = word(&bytes, at + 4) as usize;
        fields.insert(code, String::from_utf8(bytes[at + 8..at + 8 + length].to_vec()).unwrap());
        at += 8 + length + 1;
    }
    let arguments = texts(&bytes[body..], 0, length);
    Some((serial, Question { path: fields.remove(&1).unwrap(), member: fields.remove(&3).unwrap(), arguments }))
}

fn message(kind: u8, answers: u32, error: Option<&str>, signature: &str, body: &Body) -> Vec<u8> {
    let mut header = Body::default();
    header.0.extend_from_slice(&[5, 1, b'u', 0]);
    header.number(answers);
    if let Some(name) = error {
        header.align(8);
        header.0.extend_from_slice(&[4, 1, b's', 0]);
        header.text(name);
    }
    if !signature.is_empty() {
        header.align(8);
        header.0.extend_from_slice(&[8, 1, b'g', 0]);
        header.signature(signature);
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    for number in [body.0.len(), 1, header.0.len()] {
        bytes.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    }
    header.align(8);
    [bytes, header.0, body.0.clone()].concat()
}

fn serve(mut stream: UnixStream, script: &dyn Fn(&Question) -> Say) {
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        line.push(byte[0]);
        if line == b"\0AUTH EXTERNAL\r\n" {
            stream.write_all(b"DATA\r\n").unwrap();
        } else if line.ends_with(b"DATA\r\n") {
            stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        }
    }
    while let Some((serial, asked)) = question(&mut stream) {
        let mut name = Body::default();
        let said = match script(&asked) {
            // A signal comes along with the name.
            _ if asked.member == "Hello" => {
                name.text(":1.7");
                [message(2, serial, None, "s", &name), message(4, 0, None, "s", &name)].concat()
            }
            Say::Value(signature, body) => message(2, serial, None, signature, &body),
            Say::Refuse(error) => {
                name.text("not here");
                message(3, serial, Some(error), "s", &name)
            }
            Say::Silence => {
                std::thread::sleep(Duration::from_millis(450));
                return;
            }
            Say::Close => return,
            Say::Rubbish => vec![b'l'; 64],
        };
        if stream.write_all(&said).is_err() {
            return;
        }
    }
}

/// Runs a collector at a bus that follows `script`, until `patience` is over.
fn at_bus(name: &str, given: &[(&str, &str)], patience: Duration, script: impl Fn(&Question) -> Say + Send + 'static) -> Collected {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("run/dbus")).unwrap();
    let listener = UnixListener::bind(directory.path().join("run/dbus/system_bus_socket")).unwrap();
    let server = std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            serve(stream, &script);
        }
    });
    let root = Root { rootfs: directory.path().to_owned(), ..support::recorded(MACHINE) };
    let mut reader = Reader::new(Arc::new(root));
    let mut writer = Writer::new(Arc::default());
    let mut pass = Pass::new(&mut reader, &mut writer).until(Instant::now() + patience);
    let result = built(name, given).collect(&mut pass);
    let (oddities, example) = pass.oddities();
    server.join().unwrap();
    let text = String::from_utf8(writer.text().to_vec()).unwrap();
    support::check_exposition(&text);
    Collected { result, text, oddities, example }
}

const LONG: Duration = Duration::from_secs(5);
const ALL: [(&str, &str); 3] = [
    ("collector.systemd.enable-task-metrics", "true"),
    ("collector.systemd.enable-restarts-metrics", "true"),
    ("collector.systemd.enable-start-time-metrics", "true"),
];

/// Name, load state, active state.
const UNITS: [(&str, &str, &str); 9] = [
    ("docker.service", "loaded", "active"),
    ("broken.service", "loaded", "failed"),
    ("old.service", "loaded", "reloading"),
    ("gone.service", "not-found", "inactive"),
    ("fstrim.timer", "loaded", "active"),
    ("docker.socket", "loaded", "active"),
    ("-.mount", "loaded", "active"),
    ("multi-user.target", "loaded", "active"),
    ("docker.service", "loaded", "active"),
];

fn path_of(unit: &str) -> String {
    format!("/org/freedesktop/systemd1/unit/{}", unit.replace(['.', '-'], "_"))
}

fn listed() -> Say {
    let list = Body::list(&UNITS, |body, (name, load, active)| {
        for text in [name, "Some unit", load, active, "running", "", &path_of(name)] {
            body.text(text);
        }
        body.number(0);
        body.text("");
        body.text("/");
    });
    Say::Value("a(ssssssouso)", list)
}

fn systemd(asked: &Question) -> Say {
    if asked.member == "ListUnits" {
        return listed();
    }
    let name = asked.arguments.get(1).map_or("", String::as_str);
    // What docker.service knows, old.service does not: a systemd of long ago.
    if asked.path.ends_with("old_service") {
        return Say::Refuse("org.freedesktop.DBus.Error.UnknownProperty");
    }
    match name {
        "Version" => text("252.38-1~deb12u1"),
        "Virtualization" => text("kvm"),
        "SystemState" => text("running"),
        "Type" => text(if asked.path.ends_with("mount") { "ext4" } else { "notify" }),
        "TasksCurrent" => long(17),
        "TasksMax" => long(if asked.path.ends_with("docker_service") { 4915 } else { u64::MAX }),
        "NRestarts" => number(3),
        "ActiveEnterTimestamp" => long(1_700_000_000_250_000),
        "LastTriggerUSec" => long(1_700_000_001_000_000),
        "NAccepted" => number(5),
        "NConnections" => number(1),
        "NRefused" => number(2),
        _ => Say::Refuse("org.freedesktop.DBus.Error.UnknownMethod"),
    }
}

#[test]
fn systemd_gives_its_golden_file() {
    let found = at_bus("systemd", &ALL, LONG, systemd);
    assert_eq!(found.result.unwrap(), Presence::Present);
    assert_eq!(found.oddities, 0, "{}", found.example);
    support::golden(&format!("{MACHINE}/systemd.prom"), &found.text);
}

#[test]
fn units_are_chosen_by_their_whole_names() {
    let given = [("collector.systemd.unit-include", "docker\\.s.*|fstrim"), ("collector.systemd.unit-exclude", ".*socket")];
    let found = at_bus("systemd", &given, LONG, systemd);
    let states = found.text.lines().filter(|line| line.starts_with("node_systemd_unit_state{")).count();
    assert_eq!(states, 5, "{}", found.text);
    // The summary is of all.
    assert!(found.text.contains("node_systemd_units{state=\"active\"} 5\n"), "{}", found.text);
}

#[test]
fn a_property_of_another_form_costs_itself() {
    let found = at_bus("systemd", &ALL, LONG, |asked| match asked.arguments.get(1).map_or("", String::as_str) {
        "TasksCurrent" => text("many"),
        "Version" => text("unknown"),
        _ => systemd(asked),
    });
    assert_eq!(found.result.unwrap(), Presence::Present);
    assert_eq!(found.oddities, 4, "{}", found.example);
    assert!(!found.text.contains("tasks_current") && !found.text.contains("node_systemd_version"), "{}", found.text);
    assert!(found.text.contains("node_systemd_service_restart_total{name=\"docker.service\"} 3\n"), "{}", found.text);
}

#[test]
fn a_bus_that_stops_costs_what_follows() {
    type Stop = fn() -> Say;
    let stops: [(Stop, &str); 3] =
        [(|| Say::Close, "closed the connection"), (|| Say::Rubbish, "16 MiB"), (|| Say::Silence, "does not answer")];
    for (say, told) in stops {
        let began = Instant::now();
        let found = at_bus(
            "systemd",
            &[],
            Duration::from_millis(400),
            move |asked| if asked.member == "ListUnits" { say() } else { systemd(asked) },
        );
        let error = found.result.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(found.text.is_empty());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_bus_that_stops_among_the_units_costs_their_properties() {
    for say in [(|| Say::Close) as fn() -> Say, || Say::Silence] {
        let found = at_bus("systemd", &[], Duration::from_millis(400), move |asked| {
            if asked.arguments.get(1).is_some_and(|name| name == "NConnections") { say() } else { systemd(asked) }
        });
        assert!(found.result.is_err());
        assert!(found.text.contains("node_systemd_unit_state{name=\"docker.service\",state=\"active\""), "{}", found.text);
    }
}

#[test]
fn a_list_of_another_form_is_an_error() {
    let found = at_bus("systemd", &[], LONG, |_| Say::Value("a(ss)", Body::list(&[""; 3], |body, text| body.text(text))));
    assert!(found.result.unwrap_err().to_string().contains("another form"));
    let found = at_bus("systemd", &[], LONG, |asked| {
        // Says that it has strings, which end in the middle.
        if asked.member == "ListUnits" {
            Say::Value("a(ssssssouso)", Body::list(&[""; 3], |body, text| body.text(text)))
        } else {
            systemd(asked)
        }
    });
    assert!(found.result.unwrap_err().to_string().contains("another form"));
}

#[test]
fn who_may_not_ask_is_told_so() {
    let found = at_bus("systemd", &[], LONG, |_| Say::Refuse("org.freedesktop.DBus.Error.AccessDenied"));
    let error = found.result.unwrap_err().to_string();
    assert!(error.contains("AccessDenied: not here"), "{error}");
    for name in ["systemd", "logind"] {
        let found = at_bus(name, &[], LONG, |_| Say::Refuse("org.freedesktop.DBus.Error.ServiceUnknown"));
        assert_eq!(found.result.unwrap(), Presence::Absent);
        assert!(found.text.is_empty());
    }
}

fn logind(asked: &Question) -> Say {
    const SESSIONS: [(&str, &str); 5] = [("2", "seat0"), ("5", ""), ("6", ""), ("c1", "seat0"), ("9", "seat-left")];
    let name = asked.arguments.get(1).map_or("", String::as_str);
    let session = asked.path.rsplit('/').next().unwrap();
    match (&*asked.member, name) {
        ("ListSeats", _) => Say::Value(
            "a(so)",
            Body::list(&["seat0"], |body, seat| {
                body.text(seat);
                body.text("/org/freedesktop/login1/seat/seat0");
            }),
        ),
        ("ListSessions", _) => Say::Value(
            "a(susso)",
            Body::list(&SESSIONS, |body, (id, seat)| {
                body.text(id);
                body.number(1000);
                body.text("somebody");
                body.text(seat);
                body.text(&format!("/org/freedesktop/login1/session/_{id}"));
            }),
        ),
        // It ended while it was asked.
        _ if session == "_6" => Say::Refuse("org.freedesktop.DBus.Error.UnknownObject"),
        (_, "Remote") => yes(session == "_5"),
        (_, "Type") => text(match session {
            "_2" => "wayland",
            "_5" => "tty",
            "_9" => "hologram",
            _ => "x11",
        }),
        (_, "Class") => text(if session == "_c1" { "greeter" } else { "user" }),
        _ => Say::Refuse("org.freedesktop.DBus.Error.UnknownMethod"),
    }
}

#[test]
fn logind_gives_its_golden_file() {
    let found = at_bus("logind", &[], LONG, logind);
    assert_eq!(found.result.unwrap(), Presence::Present);
    assert_eq!(found.oddities, 0, "{}", found.example);
    support::golden(&format!("{MACHINE}/logind.prom"), &found.text);
}

#[test]
fn a_machine_of_another_init_has_no_systemd() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("proc/1")).unwrap();
    std::fs::write(directory.path().join("proc/stat"), "cpu 1\n").unwrap();
    for (init, absent) in [("init\n", true), ("systemd\n", false)] {
        std::fs::write(directory.path().join("proc/1/comm"), init).unwrap();
        // Only at its own socket: at the machine of the test there may be a bus.
        let mut collector = built("systemd", &[("collector.systemd.private", "true")]);
        let found = support::run(&mut *collector, support::at(directory.path()));
        match found.result {
            Ok(presence) => assert!(absent && presence == Presence::Absent),
            Err(error) => assert!(!absent && error.to_string().contains("run/systemd/private"), "{error}"),
        }
    }
}

#[test]
fn recorded_answers_give_their_golden_files() {
    for (name, flag) in [("qdisc", "collector.qdisc.fixtures"), ("wifi", "collector.wifi.fixtures")] {
        let directory = support::path("fixtures/host").join(MACHINE).join(name);
        let given = [(flag, directory.to_str().unwrap())];
        let found = support::run(&mut *built(name, &given), support::recorded(MACHINE));
        assert_eq!(found.result.unwrap(), Presence::Present, "{name}");
        support::check_exposition(&found.text);
        support::golden(&format!("{MACHINE}/{name}.prom"), &found.text);
        let missing = [(flag, "/nowhere/at/all")];
        assert!(support::run(&mut *built(name, &missing), support::recorded(MACHINE)).result.is_err());
    }
}

#[test]
fn the_rule_for_interfaces_holds_for_these_too() {
    let directory = |name: &str| support::path("fixtures/host").join(MACHINE).join(name).to_str().unwrap().to_owned();
    let text = |name: &str, given: &[(&str, &str)]| {
        let (flag, directory) = (format!("collector.{name}.fixtures"), directory(name));
        let given: Vec<(&str, &str)> = given.iter().copied().chain([(&*flag, &*directory)]).collect();
        support::run(&mut *built(name, &given), support::recorded(MACHINE)).text
    };
    assert!(!text("qdisc", &[]).contains("veth1"));
    assert!(text("qdisc", &[("collector.interfaces.containers", "true")]).contains("veth1"));
    for name in ["qdisc", "wifi"] {
        assert_eq!(text(name, &[("collector.interfaces.exclude", ".")]), "", "{name}");
    }
}

#[test]
fn outside_the_host_s_network_the_kernel_is_not_asked() {
    for name in ["qdisc", "wifi", "ethtool"] {
        let found = support::run(&mut *built(name, &[]), support::recorded(MACHINE));
        let error = found.result.unwrap_err().to_string();
        assert!(error.starts_with("the agent is not in the host's network namespace; "), "{error}");
        assert!(found.text.is_empty());
    }
}

#[test]
fn without_network_devices_there_is_nothing_to_ask() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
    let found = support::run(&mut *built("ethtool", &[]), support::at(Path::new(directory.path())));
    assert_eq!(found.result.unwrap(), Presence::Absent);
}
