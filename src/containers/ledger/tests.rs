use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use proptest::prelude::*;

use super::book::Book;
use super::entry::{Key, SECOND, Sums};
use super::exits::{CLASSES, NOT_STARTED, class_of};
use super::{Ledger, file};
use crate::cgroup::Totals;
use crate::docker::Inspected;
use crate::docker::{ContainerEvent, Inventory, Labelling};
use crate::logs::ContainerId;
use crate::telemetry::{Metrics, Parts, State};

const START: i64 = 1_700_000_000 * SECOND;
const HOUR: i64 = 3600 * SECOND;

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

fn event(number: usize, action: &str, time: i64, attributes: &[(&str, &str)]) -> ContainerEvent {
    let service = format!("service-{}", number % 2);
    let all = [("name", "a"), ("image", "bb:1"), ("com.docker.swarm.service.name", &*service), ("com.docker.stack.namespace", "shop")];
    let attributes = all.iter().chain(attributes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ContainerEvent { id: id(number).as_str().to_owned(), action: action.to_owned(), time_nano: time, attributes }
}

fn die(number: usize, time: i64, code: &str) -> ContainerEvent {
    event(number, "die", time, &[("exitCode", code)])
}

fn key(number: usize) -> Key {
    Key { service: format!("service-{}", number % 2), stack: "shop".to_owned(), image: String::new() }
}

fn totals(cgroup: u64, cpu: u64, oom_kills: u64) -> Totals {
    Totals { cgroup, cpu: Some(cpu), oom_kills: Some(oom_kills) }
}

fn inventory(containers: &[(usize, &str, Option<i64>)]) -> Arc<Inventory> {
    let labelling = Labelling::default();
    let container = |(number, state, finished): &(usize, &str, Option<i64>)| {
        let labels = event(*number, "", 0, &[]).attributes;
        let told = Inspected {
            id: id(*number).as_str().to_owned(),
            state: (*state).to_owned(),
            finished: *finished,
            exit_code: Some(3),
            labels,
            ..Inspected::default()
        };
        (id(*number), Arc::new(labelling.container(told).unwrap()))
    };
    let containers = containers.iter().map(container).collect();
    Arc::new(Inventory { synced_at: Some(SystemTime::UNIX_EPOCH), containers, ..Inventory::default() })
}

impl Book {
    fn take(&mut self, event: &ContainerEvent, now: i64) {
        self.event(event, &Labelling::default(), now);
    }

    fn sum(&self, number: usize) -> Sums {
        self.sums.get(&key(number)).map_or_else(Sums::default, |(_, sums)| *sums)
    }

    fn exits(&self, number: usize, class: &str) -> u64 {
        let index = CLASSES.iter().position(|known| *known == class).unwrap();
        self.entries.get(&id(number)).map_or(0, |entry| entry.base.exits[index])
    }

    fn lost(&self, reason: &str) -> u64 {
        self.losses.iter().filter(|(known, _)| *known == reason).map(|(_, count)| count).sum()
    }
}

#[test]
fn a_restart_begins_a_new_cgroup_and_the_sum_goes_on() {
    let mut book = Book::default();
    book.since(START);
    book.take(&event(1, "start", START, &[]), START);
    book.reading(&id(1), &totals(10, 5, 1), false, START + 1);
    assert_eq!(book.sum(1), Sums::default(), "it lives");
    book.reading(&id(1), &totals(10, 100, 2), true, START + 2);
    book.take(&die(1, START + 3, "137"), START + 3);
    assert_eq!((book.exits(1, "oom_killed"), book.sum(1).cpu, book.sum(1).oom_kills), (1, 100, 2));
    book.take(&event(1, "start", START + 4, &[]), START + 4);
    book.reading(&id(1), &totals(11, 7, 0), false, START + 5);
    assert_eq!((book.entries[&id(1)].oom_kills(), book.sum(1).cpu), (2, 100));
    // A reading of the first one that comes late changes nothing.
    book.reading(&id(1), &totals(10, 100, 2), false, START + 6);
    book.reading(&id(1), &totals(11, 8, 0), true, START + 7);
    book.take(&die(1, START + 8, "0"), START + 8);
    assert_eq!((book.exits(1, "success"), book.sum(1).cpu, book.entries[&id(1)].oom_kills()), (1, 108, 2));
}

/// The kernel's word of the end and the engine's come from two sides; the class needs both.
#[test]
fn an_end_waits_for_its_cgroup_and_not_for_ever() {
    let mut book = Book::default();
    book.reading(&id(1), &totals(10, 5, 0), false, START);
    book.take(&die(1, START + 1, "137"), START + 1);
    assert_eq!(book.exits(1, "signal") + book.exits(1, "oom_killed"), 0);
    book.reading(&id(1), &totals(10, 5, 1), true, START);
    assert_eq!(book.exits(1, "oom_killed"), 1);
    book.reading(&id(2), &totals(20, 5, 0), false, START);
    book.take(&event(2, "oom", START, &[]), START);
    book.take(&die(2, START + 1, "137"), START + 1);
    book.tick(START + 100 * SECOND);
    assert_eq!((book.exits(2, "oom_killed"), book.entries[&id(2)].oom_kills()), (1, 1), "the engine saw the kill");
}

/// `docker start` of a container that is not known yet tells its network first, and that event's attributes are the network's.
#[test]
fn a_network_s_event_names_no_container() {
    let mut book = Book::default();
    let mut connect = event(1, "connect", START, &[("container", id(1).as_str()), ("type", "bridge")]);
    connect.attributes.retain(|name, _| matches!(&**name, "name" | "container" | "type"));
    book.take(&connect, START);
    book.take(&event(1, "start", START + 1, &[]), START);
    book.take(&die(1, START + 2, "0"), START);
    book.take(&event(1, "destroy", START + 3, &[]), START);
    book.tick(START + 100 * SECOND);
    assert_eq!((book.exits(1, "success"), book.sum(1).exits.iter().sum::<u64>()), (1, 1));
}

#[test]
fn without_any_cgroup_the_engine_s_events_are_one_kill() {
    let mut book = Book::default();
    for time in 1..=3 {
        book.take(&event(1, "oom", START + time, &[]), START);
    }
    book.take(&die(1, START + 4, "1"), START);
    book.take(&event(1, "destroy", START + 5, &[]), START);
    assert_eq!((book.entries[&id(1)].oom_kills(), book.exits(1, "error"), book.sum(1).oom_kills), (1, 1, 1));
    book.take(&die(2, START + 4, "no number"), START);
    assert_eq!(book.exits(2, "unknown"), 1);
}

#[test]
fn what_a_cgroup_said_waits_a_minute_for_a_name() {
    let mut book = Book::default();
    book.reading(&id(1), &totals(10, 5, 1), true, START);
    book.reading(&id(3), &totals(30, 5, 0), true, START);
    book.tick(START + 59 * SECOND);
    book.take(&die(1, START + 1, "0"), START + 59 * SECOND);
    assert_eq!((book.sum(1).cpu, book.sum(1).oom_kills, book.exits(1, "success")), (5, 1, 1));
    book.tick(START + 61 * SECOND);
    assert!(!book.entries.contains_key(&id(3)));
    assert_eq!(book.lost("unknown_container"), 1);
}

#[test]
fn series_stay_for_an_hour_and_not_too_many() {
    let mut book = Book::default();
    book.follow(&inventory(&[(1, "running", None), (2, "running", None)]), START);
    for number in [1, 2] {
        book.take(&die(number, START + 1, "1"), START + 1);
    }
    // The first goes without an event.
    book.follow(&inventory(&[(2, "exited", Some(START + 1))]), START + 10 * SECOND);
    book.tick(START + HOUR);
    assert!(book.entries.contains_key(&id(1)) && book.entries[&id(1)].series().unwrap().contains("name"));
    book.tick(START + HOUR + 20 * SECOND);
    assert!(!book.entries.contains_key(&id(1)) && book.entries.contains_key(&id(2)), "the second is still listed");
    assert_eq!(book.sum(1).exits.iter().sum::<u64>(), 1, "the sum stays");
    for number in 10..700 {
        let time = START + i64::try_from(number).unwrap();
        book.take(&die(number, time, "1"), time);
        book.take(&event(number, "destroy", time, &[]), time);
    }
    book.tick(START + SECOND);
    assert_eq!((book.entries.len(), book.lost("gone_containers")), (513, 690 - 512));
    assert!(!book.entries.contains_key(&id(10)) && book.entries.contains_key(&id(699)), "the oldest leave first");
    assert_eq!(book.sum(0).exits.iter().sum::<u64>() + book.sum(1).exits.iter().sum::<u64>(), 692);
}

#[test]
fn too_many_images_are_one_sum() {
    let mut book = Book::default();
    for number in 0..2000 {
        let mut event = die(number, START, "0");
        event.attributes.remove("com.docker.swarm.service.name");
        event.attributes.insert("image".to_owned(), format!("build:{number}"));
        book.take(&event, START);
    }
    assert_eq!(book.sums.len(), 1025);
    let (labels, others) = &book.sums[&Key { image: "<others>".to_owned(), ..Key::default() }];
    assert_eq!((labels.as_str(), others.exits[0], book.lost("sums")), ("image=\"<others>\"", 976, 976));
}

#[test]
fn who_wants_no_metrics_has_none() {
    let mut book = Book::default();
    let mut event = die(1, START, "1");
    event.attributes.insert("skep.metrics".to_owned(), "off".to_owned());
    book.take(&event, START);
    assert!(book.sums.is_empty() && book.entries[&id(1)].is_excluded);
}

/// The engine forgets its events with a restart; a container that is still listed tells its end all the same, once.
#[test]
fn an_end_that_no_event_tells() {
    let mut book = Book::default();
    book.since(START);
    let (before, after) = (START - SECOND, START + 10 * SECOND);
    book.follow(&inventory(&[(1, "exited", Some(before)), (2, "exited", Some(after)), (3, "exited", Some(after))]), after);
    let late = after + 20 * SECOND;
    book.take(&die(3, after + SECOND, "3"), late);
    assert_eq!(book.exits(2, "error"), 0, "its event may be on its way");
    book.tick(after + 31 * SECOND);
    assert_eq!([1, 2, 3].map(|number| book.exits(number, "error")), [0, 1, 1]);
    // It comes after all; and then the next end.
    book.take(&die(2, after + SECOND, "3"), after + 40 * SECOND);
    assert_eq!(book.exits(2, "error"), 1);
    book.take(&die(2, after + 50 * SECOND, "3"), after + 50 * SECOND);
    assert_eq!(book.exits(2, "error"), 2);
}

#[test]
fn a_gap_in_the_events_is_told() {
    let mut book = Book::default();
    assert_eq!(book.since(START), START);
    book.take(&die(1, START + SECOND, "0"), START);
    assert_eq!(book.since(START + HOUR), START + SECOND);
    book.take(&die(1, START + SECOND, "0"), START);
    assert_eq!(book.lost("event_gap"), 0);
    book.since(START + HOUR);
    book.take(&die(1, START + 5 * SECOND, "0"), START);
    assert_eq!((book.lost("event_gap"), book.exits(1, "success")), (1, 2));
}

#[test]
fn a_gap_is_said_once_an_hour() {
    let mut book = Book::default();
    let mut gap = |now: i64| {
        book.since(now);
        book.take(&die(1, now, "0"), now);
        std::mem::take(&mut book.says_gap)
    };
    assert_eq!([0, 1, 3500, 3601, 3602].map(|second| gap(START + second * SECOND)), [false, true, false, true, false]);
    assert_eq!(book.lost("event_gap"), 4);
}

/// Engines 20.10 and 26 tell no end of a container that they could not start: only that its networks were joined, and left.
#[test]
fn a_start_that_fails_is_an_exit() {
    let mut book = Book::default();
    let not_started = |book: &Book, number| (book.exits(number, "not_started"), book.sum(number).exits.iter().sum::<u64>());
    let network = |number, action, second| event(number, action, START + second * SECOND, &[]);
    let take = |book: &mut Book, event: &ContainerEvent| book.take(event, event.time_nano);
    for action in ["create", "connect", "connect", "disconnect", "disconnect"] {
        take(&mut book, &network(1, action, 1));
    }
    // The runtime had made a cgroup already.
    book.reading(&id(1), &totals(10, 5, 0), false, START + SECOND);
    book.ended(&id(1), Some(10), START + SECOND);
    assert_eq!(not_started(&book, 1), (0, 0), "an end may be told yet");
    // Over a restart of the agent.
    let mut book = reload(&book);
    book.tick(START + 32 * SECOND);
    assert_eq!(not_started(&book, 1), (1, 1));
    // Again, with an end this time; and then it runs, is in another network for a while, and ends.
    for (action, second) in [("connect", 40), ("disconnect", 41)] {
        take(&mut book, &network(1, action, second));
    }
    take(&mut book, &die(1, START + 42 * SECOND, "127"));
    for (action, second) in
        [("connect", 50), ("disconnect", 51), ("connect", 52), ("start", 53), ("connect", 54), ("disconnect", 55), ("disconnect", 56)]
    {
        take(&mut book, &network(1, action, second));
    }
    take(&mut book, &die(1, START + 57 * SECOND, "0"));
    book.tick(START + 100 * SECOND);
    assert_eq!((not_started(&book, 1), book.exits(1, "success")), ((3, 4), 1));
    // One that is removed at once, as `docker run --rm` does.
    for (action, second) in [("create", 60), ("connect", 61), ("disconnect", 62), ("destroy", 62)] {
        take(&mut book, &network(2, action, second));
    }
    assert_eq!(not_started(&book, 2), (1, 1));
    // One that was never meant to run.
    for (action, second) in [("create", 60), ("disconnect", 62), ("destroy", 63)] {
        take(&mut book, &network(3, action, second));
    }
    book.tick(START + 2 * HOUR);
    assert_eq!((book.exits(3, "not_started"), book.lost("no_end")), (0, 0));
}

/// Where the engine gives up before it comes to the networks, only inspect tells.
#[test]
fn a_failed_start_that_only_inspect_tells() {
    let mut book = Book::default();
    book.since(START);
    let created = |number: usize, time: i64, code: i64| {
        let told = Inspected {
            id: id(number).as_str().to_owned(),
            state: "created".to_owned(),
            created: Some(time),
            exit_code: Some(code),
            labels: event(number, "", 0, &[]).attributes,
            ..Inspected::default()
        };
        (id(number), Arc::new(Labelling::default().container(told).unwrap()))
    };
    let all =
        [created(1, START + SECOND, 128), created(2, START + SECOND, 0), created(3, START - SECOND, 127), created(4, START + SECOND, 127)];
    let inventory = |all: &[(ContainerId, Arc<crate::docker::Container>)]| {
        Arc::new(Inventory { synced_at: Some(SystemTime::UNIX_EPOCH), containers: all.iter().cloned().collect(), ..Inventory::default() })
    };
    book.follow(&inventory(&all), START + 2 * SECOND);
    // An engine that tells the end of it tells it once.
    book.take(&die(4, START + 3 * SECOND, "127"), START + 3 * SECOND);
    book.tick(START + 33 * SECOND);
    let counted =
        |book: &Book| [1, 2, 3, 4].map(|number| book.entries.get(&id(number)).map_or(0, |entry| entry.base.exits.iter().sum::<u64>()));
    assert_eq!(counted(&book), [1, 0, 0, 1], "the third is from before");
    assert_eq!(book.exits(1, "not_started"), 1);
    let mut book = reload(&book);
    book.follow(&inventory(&all), START + 40 * SECOND);
    book.tick(START + 100 * SECOND);
    assert_eq!(counted(&book), [1, 0, 0, 1], "the next agent knows it");
}

/// The engine's word of it comes late, or not at all.
#[test]
fn who_was_killed_for_want_of_memory() {
    let mut book = Book::default();
    let killed = |book: &Book, state: &str| !book.oom_killed(&inventory(&[(1, state, None)])).is_empty();
    book.take(&event(1, "start", START, &[]), START);
    book.reading(&id(1), &totals(10, 5, 0), false, START + 1);
    assert!(!killed(&book, "running"));
    book.reading(&id(1), &totals(10, 5, 1), true, START + 2);
    assert!(killed(&book, "running"));
    book.take(&die(1, START + 3, "137"), START + 3);
    assert!(killed(&book, "exited"));
    assert!(killed(&reload(&book), "exited"), "the next agent knows it");
    assert!(!killed(&book, "running"), "the next run has begun, and nothing was read of it");
    book.take(&event(1, "start", START + 4, &[]), START + 4);
    book.reading(&id(1), &totals(11, 5, 0), false, START + 5);
    assert!(!killed(&book, "running"));
    book.take(&die(1, START + 6, "0"), START + 6);
    assert!(!killed(&book, "exited"));
}

/// A run whose end nobody tells is no exit; it is said that one is missing.
#[test]
fn an_end_that_nobody_tells_is_a_loss() {
    let mut book = Book::default();
    book.follow(&inventory(&[(1, "running", None), (2, "running", None)]), START);
    for number in [1, 2] {
        book.reading(&id(number), &totals(number as u64, 5, 0), true, START);
    }
    book.take(&die(2, START + SECOND, "0"), START + SECOND);
    book.follow(&inventory(&[]), START + 10 * SECOND);
    book.tick(START + HOUR);
    assert_eq!(book.lost("no_end"), 0);
    book.tick(START + HOUR + 20 * SECOND);
    assert_eq!((book.lost("no_end"), book.entries.len()), (1, 0));
    // And of too many runs the first.
    for cgroup in 10..20 {
        book.reading(&id(3), &totals(cgroup, 5, 0), true, START);
    }
    book.tick(START + SECOND);
    assert_eq!(book.lost("no_end"), 1 + 2);
}

/// While the disk takes its time everybody else goes on.
#[test]
fn nobody_waits_for_the_file() {
    use std::io::Read;
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(state.path(), "boot", Parts::default().part("ledger"), Metrics::new().unwrap());
    for number in 0..1000 {
        ledger.book().take(&die(number, START, "1"), START);
    }
    // What is written stays with who writes it until somebody reads it.
    let path = state.path().join("containers.ledger.new");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let saves = std::thread::spawn({
        let ledger = ledger.clone();
        move || ledger.save(true)
    });
    let mut slow = std::fs::File::open(&path).unwrap();
    assert!(ledger.book.try_lock().is_ok());
    let mut text = Vec::new();
    slow.read_to_end(&mut text).unwrap();
    saves.join().unwrap();
    assert!(text.len() > 100_000, "more than a pipe takes: {}", text.len());
}

/// It is said at the start, and not after the first exit.
#[test]
fn a_state_directory_that_cannot_be_used_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("state");
    std::fs::write(&in_the_way, "a file").unwrap();
    let parts = Parts::default();
    drop(Ledger::open(&in_the_way, "boot", parts.part("ledger"), Metrics::new().unwrap()));
    let all = parts.all();
    let [(_, State::Off(why))] = &*all else { panic!("{all:?}") };
    assert!(why.contains(in_the_way.to_str().unwrap()) && why.contains("Not a directory") && why.contains("--state-dir"), "{why}");
}

#[test]
fn another_boot_has_other_cgroups() {
    let mut book = Book::default();
    book.take(&event(1, "start", START, &[]), START);
    book.reading(&id(1), &totals(10, 5, 1), false, START);
    let mut book = file::read(&file::text(&file::copy(&book, "one")).unwrap(), "two").unwrap();
    book.reading(&id(1), &totals(10, 3, 0), true, START + HOUR);
    assert_eq!((book.sum(1).cpu, book.entries[&id(1)].oom_kills()), (8, 1));
}

#[test]
fn a_file_that_is_no_ledger_is_moved_aside() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("containers.ledger");
    let (parts, metrics) = (Parts::default(), Metrics::new().unwrap());
    let open = || Ledger::open(state.path(), "boot", parts.part("ledger"), metrics.clone());
    let ledger = open();
    ledger.book().take(&die(1, START, "1"), START);
    ledger.save(true);
    assert_eq!(open().book().exits(1, "error"), 1);
    let whole = std::fs::read_to_string(&path).unwrap();
    let foreign = whole.replace("\"version\":1", "\"version\":7");
    for odd in [whole.get(..whole.len() / 2).unwrap(), "", "[]", "\0\0\0", &foreign] {
        std::fs::write(&path, odd).unwrap();
        assert_eq!(open().book().exits(1, "error"), 0);
        assert!(matches!(&*parts.all(), [(_, State::Degraded(why))] if why.contains("containers.ledger.odd") && why.contains("anew")));
        let is_there = |path: &std::path::Path| path.metadata().is_ok();
        assert!(!is_there(&path) && is_there(&path.with_file_name("containers.ledger.odd")));
    }
}

/// What happens to one container, in its order.
#[derive(Debug, Clone)]
struct Life {
    /// Its CPU time, kills, exit code, and what of its cgroup is read: 0 nothing, 1 something on the way, 2 the last numbers too; 3 is a start that fails.
    runs: Vec<(u64, u64, i64, u8)>,
}

#[derive(Debug, Clone)]
enum Step {
    Event(&'static str, String),
    Reading(Totals, bool),
}

impl Life {
    fn steps(&self, container: usize) -> Vec<Step> {
        let mut steps = vec![Step::Event("create", String::new())];
        for (number, (cpu, kills, code, read)) in self.runs.iter().enumerate() {
            let cgroup = (container * 100 + number + 1) as u64;
            steps.push(Step::Event("connect", String::new()));
            if *read == 3 {
                steps.push(Step::Event("disconnect", String::new()));
                continue;
            }
            steps.push(Step::Event("start", String::new()));
            if *read > 0 {
                steps.push(Step::Reading(totals(cgroup, cpu / 2, kills / 2), false));
            }
            // The engine tells of one kill several times.
            steps.extend((0..*kills * 2).map(|_| Step::Event("oom", String::new())));
            if *read > 1 {
                steps.push(Step::Reading(totals(cgroup, *cpu, *kills), true));
            }
            steps.push(Step::Event("disconnect", String::new()));
            steps.push(Step::Event("die", code.to_string()));
        }
        steps.push(Step::Event("destroy", String::new()));
        steps
    }
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let code = prop::sample::select(vec![0, 1, 126, 137, 143]);
    let run = (0u64..1000, 0u64..4, code, 0u8..4);
    let life = prop::collection::vec(run, 1..5).prop_map(|runs| Life { runs });
    prop::collection::vec(life, 1..5)
}

/// What comes between two steps.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    /// The connection breaks: the engine tells its last events again.
    Reconnect,
    /// The agent ends and begins anew.
    Restart,
    /// The agent goes without a word, as it was when it last wrote its file, and comes back.
    Crash,
    /// The agent ends, and something happens before the next begins.
    Away,
    Tick,
}

fn troubles() -> impl Strategy<Value = Vec<(usize, Trouble)>> {
    let trouble = prop_oneof![
        8 => Just(Trouble::None),
        1 => Just(Trouble::Reconnect),
        1 => Just(Trouble::Restart),
        1 => Just(Trouble::Crash),
        1 => Just(Trouble::Away),
        1 => Just(Trouble::Tick),
    ];
    prop::collection::vec((0usize..8, trouble), 0..150)
}

fn reload(book: &Book) -> Book {
    file::read(&file::text(&file::copy(book, "boot")).unwrap(), "boot").unwrap()
}

/// The engine tells what it still has from the time on that it is asked for.
fn replay(book: &mut Book, log: &[ContainerEvent], now: i64) {
    let since = book.since(now) - SECOND;
    let kept = log.get(log.len().saturating_sub(256)..).unwrap_or_default();
    for event in kept.iter().filter(|event| event.time_nano >= since) {
        book.take(event, now);
    }
}

proptest! {
    /// Whatever is told twice, whoever goes away and comes back: every exit and every kill counts once, and every second of which the last numbers were read.
    #[test]
    fn totals_are_those_of_what_happened(lives in lives(), troubles in troubles()) {
        let mut queues: Vec<_> = lives.iter().enumerate().map(|(number, life)| life.steps(number).into_iter()).collect();
        let mut book = Book::default();
        book.since(START);
        let (mut log, mut saved, mut is_away, mut is_exact) = (Vec::new(), None, false, true);
        let mut now = START;
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
let mut seen_kills: BTreeMap<u64, u64> = BTreeMap::new();
        let mut troubles = troubles.into_iter();
        while queues.iter().any(|queue| queue.len() > 0) {
            let (choice, trouble) = troubles.next().unwrap_or((0, Trouble::None));
            now += 3 * SECOND;
            if is_away {
                is_away = false;
            } else {
                match trouble {
                    Trouble::None => {}
                    Trouble::Reconnect => replay(&mut book, &log, now),
                    Trouble::Restart => {
                        book = reload(&book);
                        replay(&mut book, &log, now);
                    }
                    Trouble::Crash => {
                        // Readings of between are lost, and events come again.
                        is_exact = false;
                        if let Some(old) = &saved {
                            book = reload(old);
                            replay(&mut book, &log, now);
                        }
                    }
                    Trouble::Away => is_away = true,
                    Trouble::Tick => {
                        book.tick(now);
                        saved = Some(reload(&book));
                    }
                }
            }
            let open: Vec<usize> = (0..queues.len()).filter(|index| queues[*index].len() > 0).collect();
            let container = open[choice % open.len()];
            match queues[container].next().unwrap() {
                Step::Event(action, code) => {
                    let event = event(container, action, now, &[("exitCode", &*code)]);
                    if !is_away {
                        book.take(&event, now);
                    }
                    log.push(event);
                }
                Step::Reading(totals, is_last) => {
                    if !is_away {
                        book.reading(&id(container), &totals, is_last, now);
                        let most = seen.entry(totals.cgroup).or_default();
                        *most = totals.cpu.unwrap().max(*most);
                        let most = seen_kills.entry(totals.cgroup).or_default();
                        *most = totals.oom_kills.unwrap().max(*most);
                    }
                }
            }
            if is_away {
                book = reload(&book);
                replay(&mut book, &log, now);
            }
        }
        book.only(&HashSet::new(), now);
        book.tick(now + 100 * SECOND);
        let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
        let mut fewest: BTreeMap<Key, u64> = BTreeMap::new();
        for (container, life) in lives.iter().enumerate() {
            let sum = sums.entry(key(container)).or_default();
            let mut exits = [0; CLASSES.len()];
            // What the cgroup said, and one kill where only the engine saw some.
            let (mut kills, mut least) = (0, 0);
            for (number, (_, killed, code, read)) in life.runs.iter().enumerate() {
                if *read == 3 {
                    exits[NOT_STARTED] += 1;
                    continue;
                }
                exits[class_of(Some(*code), *killed > 0)] += 1;
                let read = seen_kills.get(&((container * 100 + number + 1) as u64)).copied().unwrap_or_default();
                kills += read.max((*killed).min(1));
                least += (*killed).min(1);
            }
            sum.oom_kills += kills;
            *fewest.entry(key(container)).or_default() += least;
            sum.exits.iter_mut().zip(exits).for_each(|(sum, exits)| *sum += exits);
            let entry = &book.entries[&id(container)];
            prop_assert_eq!(entry.base.exits, exits, "container {}", container);
            prop_assert!((least..=kills).contains(&entry.oom_kills()) && (!is_exact || entry.oom_kills() == kills));
            sum.cpu += seen.iter().filter(|(cgroup, _)| **cgroup / 100 == container as u64).map(|(_, cpu)| cpu).sum::<u64>();
        }
        for (key, sum) in sums {
            let found = book.sums.get(&key).unwrap().1;
            prop_assert_eq!(found.exits, sum.exits);
            prop_assert!((fewest[&key]..=sum.oom_kills).contains(&found.oom_kills) && (!is_exact || found.oom_kills == sum.oom_kills));
            prop_assert!(found.cpu <= sum.cpu && (!is_exact || found.cpu == sum.cpu), "{} of {}", found.cpu, sum.cpu);
        }
        prop_assert_eq!((book.lost("event_gap"), book.lost("no_end")), (0, 0));
    }

    #[test]
    fn no_file_is_a_fault(bytes: Vec<u8>) {
        prop_assert!(file::read(&bytes, "").is_err());
    }
}
