//! The table as a whole, against a directory in which the engine is played.

mod compressed;
mod engine;
mod one_file;

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use engine::{Bench, Engine, FIRST_TIME, Follower, await_container, find, line, until};

use super::{FileTable, LoggedContainer};
use crate::logs::Place;
use crate::telemetry::State;

/// Waits until the table has seen the file that begins with this line, or a newer one: it then must have opened this one too, for it is still there.
fn until_seen(container: &LoggedContainer, first: i64) {
    while !container.chain().iter().any(|file| file.fingerprint().first_time >= FIRST_TIME + first) {
        std::thread::yield_now();
    }
}

/// Writes at full speed while a reader follows and acknowledges. The writer only waits when a file would go that the table cannot have seen yet.
fn rotate_and_follow(bench: &Bench, max_file: u32, max_size: u64, rotations: u64) {
    follow(bench, Engine::create(&bench.options.containers_dir, 1, max_file, max_size), rotations);
}

fn follow(bench: &Bench, mut engine: Engine, rotations: u64) {
    let table = bench.table();
    let max_file = engine.max_file;
    engine.write(|_| ());
    let container = await_container(&table, &engine.id);
    let seen_by = Arc::clone(&container);
    let writer = std::thread::spawn(move || {
        while engine.rotations < rotations {
            engine.write(|first| until_seen(&seen_by, first));
        }
        engine.end();
        engine
    });
    let mut follower = Follower::new(container);
    loop {
        let is_ended = follower.container.is_ended();
        follower.read();
        follower.acknowledge();
        if is_ended {
            break;
        }
        table.wait(0, Duration::from_millis(100));
    }
    let engine = writer.join().unwrap();
    assert_eq!(follower.next, engine.next);
    until(&table, "only what is on the disk is held", || {
        follower.container.chain().len() <= max_file as usize && bench.spooled().is_empty()
    });
}

#[test]
fn thousands_of_rotations_at_full_speed() {
    rotate_and_follow(&Bench::new(), 3, 4096, 3000);
}

#[test]
fn other_numbers_of_files() {
    rotate_and_follow(&Bench::new(), 2, 1000, 300);
    rotate_and_follow(&Bench::new(), 7, 1, 300);
}

#[test]
fn one_file_that_is_removed_and_created() {
    rotate_and_follow(&Bench::new(), 1, 4096, 300);
}

#[test]
fn rotations_without_inotify() {
    let mut bench = Bench::new();
    bench.options.inotify = false;
    rotate_and_follow(&bench, 3, 100_000, 4);
    assert_eq!(bench.state("logs.files"), Some(State::Ok));
}

#[test]
fn nothing_is_out_of_order_when_nobody_can_keep_up() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 3, 1);
    engine.write(|_| ());
    let container = await_container(&table, &engine.id);
    let writer = std::thread::spawn(move || {
        engine.write_many(20_000);
        engine.end();
        engine.next
    });
    let mut follower = Follower::new(container);
    follower.may_miss = true;
    loop {
        let is_ended = follower.container.is_ended();
        follower.read();
        follower.acknowledge();
        if is_ended {
            break;
        }
        table.wait(0, Duration::from_millis(100));
    }
    assert_eq!(follower.next, writer.join().unwrap());
}

/// Rotates while nobody reads; the writer waits for the table only.
fn rotate_unread(table: &FileTable, engine: &mut Engine, rotations: u64) -> Arc<LoggedContainer> {
    engine.write(|_| ());
    let container = await_container(table, &engine.id);
    while engine.rotations < rotations {
        engine.write(|first| until_seen(&container, first));
    }
    until_seen(&container, engine.first());
    container
}

#[test]
fn what_nobody_has_read_is_in_the_spool() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    let container = rotate_unread(&table, &mut engine, 40);
    until(&table, "38 or 39 files are copied", || bench.spooled().len() >= 38 && bench.value("skep_log_pinned_bytes") == 0);
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
    follower.acknowledge();
    until(&table, "the spool is empty", || bench.is_spool_empty());
    assert_eq!(bench.value("skep_log_spool_bytes"), 0);
    assert_eq!(bench.value("skep_log_spool_given_up_total{unit=\"lines\"}"), 0);
}

#[test]
fn without_a_spool_descriptors_keep_it() {
    let mut bench = Bench::new();
    bench.options.spool_dir = None;
    let table = bench.table();
    let mut engine = bench.container(1);
    let container = rotate_unread(&table, &mut engine, 20);
    engine.remove();
    until(&table, "it is removed", || container.is_removed());
    assert!(bench.value("skep_log_pinned_bytes") > 20 * 4096);
    assert!(matches!(bench.state("logs.spool"), Some(State::Degraded(_))));
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
    follower.acknowledge();
    follower.container.finished(0);
    until(&table, "it is forgotten", || table.containers().is_empty());
    assert_eq!(bench.value("skep_log_pinned_bytes"), 0);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(30);
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "30 lines are read", || {
        follower.read();
        follower.next == 30
    });
    follower.acknowledge();
    let (place, next) = (follower.place().unwrap(), follower.next);
    rotate_unread(&table, &mut engine, 12);
    table.stop();
    assert!(!bench.spooled().is_empty());
    // Rotated within the reach of the disk while nobody looked.
    let before = engine.rotations;
    while engine.rotations == before {
        engine.write(|_| ());
    }

    let table = bench.table();
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "all directories are seen", || table.first_scan_done());
    assert!(follower.resume(place, next), "the place is in the spool: {place:?} {:?}", bench.spooled());
    until(&table, "all is read", || {
        follower.read();
        follower.next == engine.next
    });
    follower.acknowledge();
    until(&table, "the spool is empty", || bench.is_spool_empty());
    let fingerprints: Vec<_> = follower.container.chain().iter().map(|file| file.fingerprint()).collect();
    table.stop();

    // The same files have the same fingerprints, in the same order, without a spool.
    let table = bench.table();
    let again = await_container(&table, &engine.id);
    assert_eq!(again.chain().iter().map(|file| file.fingerprint()).collect::<Vec<_>>(), fingerprints);
    // A file that nobody has any more is not found, which the route will call a gap.
    assert!(!Follower::new(again).resume(place, next));
}

#[test]
fn a_removed_container_is_read_from_the_spool_after_a_restart() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(7);
    engine.describe("gone", true, r#"{"a":"b"}"#);
    let container = rotate_unread(&table, &mut engine, 2);
    until(&table, "all lines are there", || container.chain().len() == 3);
    engine.remove();
    until(&table, "it is removed", || container.is_removed());
    table.stop();
    assert_eq!(bench.spooled().len(), 3);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&bench.spooled()[0]).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "it is known to be removed", || container.is_removed() && container.is_ended());
    assert_eq!((&*container.meta().name, &*container.meta().labels["a"]), ("gone", "b"));
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
    follower.acknowledge();
    follower.container.finished(0);
    until(&table, "it is forgotten", || table.containers().is_empty() && bench.is_spool_empty());
}

#[test]
fn what_is_acknowledged_is_not_copied() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(10);
    let container = await_container(&table, &engine.id);
    until(&table, "the file is there", || container.chain().len() == 1);
    let file = Arc::clone(&container.chain()[0]);
    let offset = 7 * line(0).len() as u64;
    container.acknowledge(0, Place { file: file.fingerprint(), offset });
    engine.remove();
    until(&table, "the rest is in the spool", || bench.spooled().len() == 1 && container.chain().iter().all(|file| file.base() > 0));
    assert_eq!(bench.value("skep_log_spool_bytes"), 3 * line(0).len() as u64);
    let copy = Arc::clone(&container.chain()[0]);
    assert_eq!((copy.base(), copy.len().unwrap(), copy.is_final()), (offset, file.len().unwrap(), true));
    assert!(copy.read_at(&mut [0], 0).is_err());
    let mut follower = Follower::new(container);
    assert!(follower.resume(Place { file: file.fingerprint(), offset }, 7));
    follower.read();
    assert_eq!(follower.next, 10);
}

#[test]
fn at_the_bound_the_oldest_goes_and_is_counted() {
    let mut bench = Bench::new();
    bench.options.spool_bytes = 20_000;
    let table = bench.table();
    let mut engine = bench.container(1);
    let container = rotate_unread(&table, &mut engine, 30);
    engine.remove();
    until(&table, "nothing is pinned", || container.is_removed() && bench.value("skep_log_pinned_bytes") == 0);
    // A copy that was given up while it was made is removed when it is done.
    let kept = || -> u64 { bench.spooled().iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum() };
    until(&table, "the bound holds", || kept() <= 20_000);
    assert!(kept() > 10_000);
    let mut follower = Follower::new(container);
    follower.may_miss = true;
    let first = follower.container.chain()[0].fingerprint().first_time - FIRST_TIME;
    follower.read();
    assert_eq!(follower.next, engine.next);
    // Everything before the first kept line was given up, and nothing else.
    until(&table, "the lines are counted", || {
        bench.value("skep_log_spool_given_up_total{unit=\"lines\"}") == u64::try_from(first).unwrap()
    });
    let bytes: usize = (0..first).map(|number| line(number).len()).sum();
    assert_eq!(bench.value("skep_log_spool_given_up_total{unit=\"bytes\"}"), bytes as u64);
}

/// The older of two logs stays whole, for it is of a consumer that does not give way.
#[test]
fn at_the_bound_those_that_give_way_go_first() {
    let mut bench = Bench::new();
    (bench.options.spool_bytes, bench.options.consumers) = (20_000, 2);
    let table = bench.table();
    let (mut older, mut newer) = (bench.container(1), bench.container(2));
    let mut kept = Vec::new();
    for (consumer, engine, rotations) in [(0, &mut older, 2), (1, &mut newer, 20)] {
        engine.write(|_| ());
        let container = await_container(&table, &engine.id);
        container.set_wanted(1 - consumer, false);
        if consumer == 1 {
            container.gives_way(consumer);
        }
        kept.push(rotate_unread(&table, engine, rotations));
        engine.remove();
        until(&table, "it is in the spool", || container.is_removed() && bench.value("skep_log_pinned_bytes") == 0);
    }
    let mut follower = Follower::new(kept.remove(0));
    follower.read();
    assert_eq!(follower.next, older.next);
    // What is there of the newer begins later, and all before that was given up.
    let first = kept.remove(0).chain()[0].fingerprint().first_time - FIRST_TIME;
    assert!(first > 0);
    until(&table, "the lines are counted", || {
        bench.value("skep_log_spool_given_up_total{unit=\"lines\"}") == u64::try_from(first).unwrap()
    });
}

#[test]
fn without_a_spool_the_bound_holds_too() {
    let mut bench = Bench::new();
    bench.options.spool_dir = None;
    bench.options.spool_bytes = 20_000;
    let table = bench.table();
    let mut engine = bench.container(1);
    let container = rotate_unread(&table, &mut engine, 30);
    engine.remove();
    until(&table, "it is removed", || container.is_removed());
    assert!(bench.value("skep_log_pinned_bytes") <= 20_000);
    let first = container.chain()[0].fingerprint().first_time - FIRST_TIME;
    until(&table, "the lines are counted", || {
        bench.value("skep_log_spool_given_up_total{unit=\"lines\"}") == u64::try_from(first).unwrap()
    });
}

#[test]
fn a_copy_that_fails_is_pinned_and_made_later() {
    let bench = Bench::new();
    // A file where the spool should be.
    fs::create_dir(bench.root.path().join("state")).unwrap();
    fs::write(bench.root.path().join("state/spool"), "").unwrap();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(10);
    let container = await_container(&table, &engine.id);
    until(&table, "the file is there", || container.chain().len() == 1);
    engine.remove();
    until(&table, "the copy failed", || matches!(bench.state("logs.spool"), Some(State::Degraded(_))));
    assert!(bench.value("skep_log_pinned_bytes") > 0);
    fs::remove_file(bench.root.path().join("state/spool")).unwrap();
    table.stop();
    assert_eq!(bench.spooled().len(), 1);
}

#[test]
fn a_job_of_a_moment_is_caught() {
    let bench = Bench::new();
    let table = bench.table();
    until(&table, "all directories are seen", || table.first_scan_done());
    for number in 0..50 {
        let mut engine = bench.container(number);
        // The engine needs 20 ms from the directory to the log; here the log must only not go before it was seen at all.
        engine.write_many(5);
        until(&table, "it is open", || find(&table, &engine.id).is_some_and(|container| container.chain().len() == 1));
        engine.write_many(5);
        engine.remove();
    }
    for container in table.containers().iter() {
        until(&table, "it is removed", || container.is_removed());
        let mut follower = Follower::new(Arc::clone(container));
        follower.read();
        assert_eq!(follower.next, 10);
        follower.acknowledge();
        container.finished(0);
    }
    until(&table, "all are forgotten", || table.containers().is_empty() && bench.is_spool_empty());
}

#[test]
fn a_container_tells_its_name_and_its_end() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(3);
    engine.write_many(1);
    let container = await_container(&table, &engine.id);
    assert_eq!((&*container.meta().name, &*container.meta().image, container.meta().max_file), ("job-3", "busybox", 3));
    assert!(!container.is_ended());
    let changed = container.changed();
    engine.describe("renamed", true, "{}");
    until(&table, "it has its new name", || container.meta().name == "renamed");
    assert!(container.changed() > changed);
    // Half a description does no harm.
    fs::write(engine.dir.join("config.v2.json"), "{\"Na").unwrap();
    engine.describe("renamed", false, "{}");
    until(&table, "it has ended", || container.is_ended());
    assert!(!container.is_removed());
    assert!(!container.chain()[0].is_final(), "it may be started again");
    engine.describe("renamed", true, "{}");
    until(&table, "it runs again", || !container.is_ended());
}

#[test]
fn who_is_excluded_is_not_open() {
    let mut bench = Bench::new();
    let own = bench.container(1);
    own.describe("skep.1", true, r#"{"com.docker.swarm.service.id":"svc"}"#);
    bench.options.own_container = Some(own.id.clone());
    let mut others: Vec<Engine> = (2..6).map(|number| bench.container(number)).collect();
    others[0].describe("skep.2", true, r#"{"com.docker.swarm.service.id":"svc"}"#);
    others[1].describe("quiet", true, r#"{"skep.logs":" false"}"#);
    fs::write(others[2].dir.join("hostconfig.json"), r#"{"LogConfig":{"Type":"journald"}}"#).unwrap();
    for other in &mut others {
        other.write_many(1);
        other.file = None;
    }
    let table = bench.table();
    until(&table, "all directories are seen", || table.first_scan_done());
    let listed: Vec<_> = table.containers().iter().map(|container| container.id().clone()).collect();
    assert_eq!(listed, [others[3].id.clone()]);
    for (state, count) in [("tailed", 1), ("unreadable", 0), ("other_driver", 1), ("excluded", 3)] {
        assert_eq!(bench.value(&format!("skep_log_containers{{source=\"file\",state=\"{state}\"}}")), count, "{state}");
    }
    let open: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    assert!(open.contains(&others[3].path(0)));
    assert!(!others[..3].iter().any(|other| open.contains(&other.path(0))));
    // They go without a trace.
    others[1].remove();
    until(&table, "it is not counted any more", || bench.value("skep_log_containers{source=\"file\",state=\"excluded\"}") == 2);
}

/// As under remapped user namespaces or SELinux: this thread, and those that it starts, lose root's right to open everything.
fn give_up_root() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut mine = capabilities(None).unwrap();
    mine.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, mine).unwrap();
}

#[test]
fn files_that_cannot_be_opened_are_told() {
    use std::os::unix::fs::PermissionsExt;
    let set_mode = |path: &std::path::Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    give_up_root();
    let bench = Bench::new();
    let mut engines: Vec<Engine> = (1..4).map(|number| bench.container(number)).collect();
    for engine in &mut engines {
        engine.write_many(1);
        engine.file = None;
    }
    // A log, a directory; the third is as it should be.
    let closed = [engines[0].path(0), engines[1].dir.clone()];
    closed.iter().for_each(|path| set_mode(path, 0o000));
    let table = bench.table();
    let state = |state: &str| bench.value(&format!("skep_log_containers{{source=\"file\",state=\"{state}\"}}"));
    until(&table, "both are told", || match bench.state("logs.files") {
        Some(State::Degraded(why)) => {
            why.starts_with("2 log files cannot be opened")
                && why.contains(closed[0].to_str().unwrap())
                && why.contains("Permission denied (os error 13)")
                && why.contains("SELinux or remapped user namespaces")
        }
        _ => false,
    });
    until(&table, "both are counted", || (state("tailed"), state("unreadable")) == (1, 2));
    set_mode(&closed[0], 0o644);
    until(
        &table,
        "one is told",
        || matches!(bench.state("logs.files"), Some(State::Degraded(why)) if why.starts_with("1 log file cannot")),
    );
    set_mode(&closed[1], 0o755);
    until(&table, "it works", || bench.state("logs.files") == Some(State::Ok));
    until(&table, "all are read", || (state("tailed"), state("unreadable")) == (3, 0));
}

#[test]
fn a_description_that_cannot_be_opened_is_told_until_its_container_goes() {
    use std::os::unix::fs::PermissionsExt;
    give_up_root();
    let bench = Bench::new();
    let mut engine = bench.container(1);
    engine.write_many(1);
    fs::set_permissions(engine.dir.join("config.v2.json"), fs::Permissions::from_mode(0o000)).unwrap();
    let table = bench.table();
    until(&table, "it is told", || matches!(bench.state("logs.files"), Some(State::Degraded(why)) if why.contains("/config.v2.json: ")));
    engine.remove();
    until(&table, "it works", || bench.state("logs.files") == Some(State::Ok));
}

#[test]
fn a_file_has_no_name_before_its_first_line_is_whole() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.open();
    let container = await_container(&table, &engine.id);
    let long = [&b"{\"log\":\""[..], &[b'x'; 200_000], b"\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.5Z\"}"].concat();
    for piece in long.chunks(70_000) {
        assert_eq!(container.chain().len(), 0);
        engine.file.as_mut().unwrap().write_all(piece).unwrap();
        let changed = container.changed();
        until(&table, "the piece is seen", || container.changed() > changed || container.chain().len() == 1);
    }
    assert_eq!(container.chain().len(), 0);
    engine.file.as_mut().unwrap().write_all(b"\n").unwrap();
    until(&table, "it has a name", || container.chain().len() == 1);
    let fingerprint = container.chain()[0].fingerprint();
    assert_eq!(fingerprint.first_time, 1_795_168_800_500_000_000);
    assert_eq!(fingerprint.hash, xxhash_rust::xxh3::xxh3_64(&long));
}

#[test]
fn a_first_line_that_is_none_of_the_engines() {
    let bench = Bench::new();
    let mut engine = bench.container(1);
    engine.open();
    engine.file.as_mut().unwrap().write_all(b"\0\0\0\0garbage\n").unwrap();
    engine.write_many(2);
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "it has a name", || container.chain().len() == 1);
    let fingerprint = container.chain()[0].fingerprint();
    assert_eq!((fingerprint.first_time, fingerprint.hash), (0, xxhash_rust::xxh3::xxh3_64(b"\0\0\0\0garbage")));
    // A rotated file whose only line never ended is shown too: the reader says what it thinks of it.
    engine.rotate(|_| ());
    engine.file.as_mut().unwrap().write_all(b"{\"log\":\"half").unwrap();
    engine.rotate(|_| ());
    until(&table, "both are final", || container.chain().len() == 2 && container.chain().iter().all(|file| file.is_final()));
}

#[test]
fn names_that_are_none_of_the_engines_are_left() {
    let bench = Bench::new();
    let mut engine = bench.container(1);
    engine.write_many(1);
    fs::write(engine.dir.join(format!("{}-json.log.4000000000", engine.id.as_str())), line(0)).unwrap();
    fs::write(engine.dir.join(format!("{}-json.log.x", engine.id.as_str())), "").unwrap();
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "both files are there", || container.chain().len() == 2);
    assert!(container.chain()[0].is_final() && !container.chain()[1].is_final());
}

#[test]
fn a_file_that_was_cut_goes_on_as_another() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(10);
    let container = await_container(&table, &engine.id);
    let mut follower = Follower::new(Arc::clone(&container));
    until(&table, "it is read", || {
        follower.read();
        follower.next == 10
    });
    let file = Arc::clone(&container.chain()[0]);
    fs::OpenOptions::new().write(true).truncate(true).open(engine.path(0)).unwrap();
    until(&table, "the cut is told", || file.is_cut() && container.chain().is_empty());
    assert!(file.len().unwrap() < follower.place().unwrap().offset);
    let line = "{\"log\":\"behind\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.000000001Z\"}\n";
    fs::OpenOptions::new().append(true).open(engine.path(0)).unwrap().write_all(line.as_bytes()).unwrap();
    until(&table, "what is written behind it is there", || container.chain().len() == 1);
    let next = Arc::clone(&container.chain()[0]);
    assert!(next.fingerprint() != file.fingerprint() && !next.is_cut() && next.len().unwrap() == line.len() as u64);
}

#[test]
fn a_directory_that_comes_late_and_goes_for_a_while() {
    let bench = Bench::new();
    let dir = &bench.options.containers_dir;
    fs::remove_dir(dir).unwrap();
    let table = bench.table();
    until(&table, "it says so", || matches!(bench.state("logs.files"), Some(State::Degraded(_))));
    assert!(!table.first_scan_done());
    fs::create_dir(dir).unwrap();
    let mut engine = bench.container(1);
    engine.write_many(3);
    let container = await_container(&table, &engine.id);
    until(&table, "all directories are seen", || table.first_scan_done());
    until(&table, "it works", || bench.state("logs.files") == Some(State::Ok));
    let away = bench.root.path().join("away");
    fs::rename(dir, &away).unwrap();
    until(&table, "it says so", || matches!(bench.state("logs.files"), Some(State::Degraded(_))));
    assert!(!container.is_removed());
    fs::rename(&away, dir).unwrap();
    until(&table, "it works again", || bench.state("logs.files") == Some(State::Ok));
    engine.write_many(3);
    let mut follower = Follower::new(container);
    until(&table, "it is read to the end", || {
        follower.read();
        follower.next == 6
    });
}

#[test]
fn a_copy_of_the_files_takes_their_place() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(5);
    let container = await_container(&table, &engine.id);
    until(&table, "the file is there", || container.chain().len() == 1);
    let copy = engine.dir.join("copy");
    fs::copy(engine.path(0), &copy).unwrap();
    engine.file = None;
    fs::rename(&copy, engine.path(0)).unwrap();
    engine.write_many(5);
    let mut follower = Follower::new(container);
    until(&table, "each line is read once", || {
        follower.read();
        follower.next == 10
    });
    assert_eq!(follower.container.chain().len(), 1);
}

#[test]
fn with_nobody_to_read_nothing_is_kept() {
    let mut bench = Bench::new();
    bench.options.consumers = 0;
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(500);
    await_container(&table, &engine.id);
    engine.remove();
    until(&table, "it is forgotten", || table.containers().is_empty());
    assert!(bench.spooled().is_empty());
}

#[test]
fn each_of_two_consumers_counts() {
    let mut bench = Bench::new();
    bench.options.consumers = 2;
    let table = bench.table();
    let mut engine = bench.container(1);
    engine.write_many(5);
    let container = await_container(&table, &engine.id);
    until(&table, "the file is there", || container.chain().len() == 1);
    let mut follower = Follower::new(Arc::clone(&container));
    follower.read();
    follower.acknowledge();
    engine.remove();
    until(&table, "it is kept for the other", || container.is_removed() && bench.spooled().len() == 1);
    container.finished(0);
    until(&table, "the copy is in the chain", || container.chain().iter().all(|file| file.len().is_ok()));
    assert_eq!(table.containers().len(), 1);
    container.acknowledge(1, follower.place().unwrap());
    container.finished(1);
    until(&table, "it is forgotten", || table.containers().is_empty() && bench.is_spool_empty());
    // A consumer that does not exist does no harm.
    container.acknowledge(9, follower.place().unwrap());
    assert!(!table.wait(9, Duration::from_secs(60)));
}
