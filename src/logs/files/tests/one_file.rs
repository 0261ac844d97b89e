//! Containers with one log file, which the engine throws away when it is full.

use std::fs;
use std::path::PathBuf;

use super::engine::{Bench, Engine, Follower, await_container, line, until};
use super::rotate_unread;

const MAX_SIZE: u64 = 4096;
/// What is written of a file behind the copy of its first half.
const BEHIND: i64 = 3;

/// Writes until the file is past its half, and not a line more.
fn write_half(engine: &mut Engine) {
    while fs::metadata(engine.path(0)).map_or(0, |data| data.len()) < MAX_SIZE / 2 {
        engine.write(|_| ());
    }
}

fn parts(bench: &Bench) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(bench.options.spool_dir.as_ref().unwrap())
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|container| fs::read_dir(container.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "part"))
        .collect();
    found.sort();
    found
}

fn last_line_is(path: &PathBuf, number: i64) -> bool {
    fs::read(path).is_ok_and(|content| content.ends_with(&line(number)))
}

#[test]
fn what_was_copied_of_a_file_that_is_written_anew_in_its_place_is_not_lost() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 1, MAX_SIZE);
    let mut expected = Vec::new();
    for round in 1..=20 {
        let first = engine.next;
        write_half(&mut engine);
        expected.extend(first..engine.next);
        let container = await_container(&table, &engine.id);
        until(&table, "it is copied", || {
            parts(&bench).len() == round && parts(&bench).iter().any(|path| last_line_is(path, engine.next - 1))
        });
        engine.write_many(3);
        assert_eq!(engine.next, expected.last().unwrap() + 1 + BEHIND);
        engine.write_anew();
        // The whole of the next file is as long as this one, so that its length tells nothing.
        let first = engine.next;
        engine.write(|_| ());
        until(&table, "it is known as another", || {
            container.chain().last().is_some_and(|file| file.fingerprint().first_time == super::FIRST_TIME + first && !file.is_part())
        });
        expected.push(first);
    }
    let container = await_container(&table, &engine.id);
    assert_eq!(container.chain().iter().filter(|file| file.is_part() && file.is_broken()).count(), 20);
    let mut follower = Follower::new(container);
    follower.may_miss = true;
    follower.read();
    assert_eq!(follower.read, expected);
    follower.acknowledge();
    until(&table, "the spool is empty", || bench.is_spool_empty());
    assert_eq!(bench.value("skep_log_spool_bytes"), 0);
    assert_eq!(bench.value("skep_log_spool_given_up_total{unit=\"lines\"}"), 0);
}

#[test]
fn what_a_killed_agent_had_copied_is_read() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 1, MAX_SIZE);
    write_half(&mut engine);
    await_container(&table, &engine.id);
    until(&table, "it is copied", || parts(&bench).iter().any(|path| last_line_is(path, engine.next - 1)));
    let copied = engine.next;
    table.stop();
    // The next run finds the file: the copy is of no use.
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "the file stands for it", || container.chain().len() == 1 && !container.chain()[0].is_part());
    engine.write_many(3);
    until(&table, "it is copied again", || parts(&bench).len() == 1);
    table.stop();
    // The run after that does not.
    let before = fs::read(&parts(&bench)[0]).unwrap();
    let copied_again = before.iter().filter(|byte| **byte == b'\n').count();
    assert!(copied_again >= usize::try_from(copied).unwrap());
    engine.write_many(2);
    engine.rotate(|_| ());
    let first = engine.next;
    engine.write_many(2);
    let table = bench.table();
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "both are there", || follower.container.chain().len() == 2);
    assert!(follower.container.chain()[0].is_part());
    follower.may_miss = true;
    follower.read();
    let expected: Vec<i64> = (0..i64::try_from(copied_again).unwrap()).chain(first..engine.next).collect();
    assert_eq!(follower.read, expected);
}

#[test]
fn nothing_is_lost_of_files_that_are_removed_and_created() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 1, MAX_SIZE);
    let container = rotate_unread(&table, &mut engine, 30);
    until(&table, "30 files are copied", || bench.spooled().len() == 30 && bench.value("skep_log_pinned_bytes") == 0);
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
    follower.acknowledge();
    until(&table, "the spool is empty", || bench.is_spool_empty());
    assert_eq!(bench.value("skep_log_spool_bytes"), 0);
}

/// Engines before 23.0 rename it, and write over that at the next rotation.
#[test]
fn a_predecessor_that_an_old_engine_leaves_is_copied() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 1, MAX_SIZE);
    engine.leaves_one = true;
    let container = rotate_unread(&table, &mut engine, 5);
    until(&table, "all but the file that is written are copied", || bench.spooled().len() == 5);
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
}

#[test]
fn at_the_bound_the_copy_of_a_file_that_is_written_goes_first() {
    let mut bench = Bench::new();
    bench.options.spool_bytes = 3000;
    let table = bench.table();
    let mut engine = Engine::create(&bench.options.containers_dir, 1, 1, MAX_SIZE);
    write_half(&mut engine);
    until(&table, "it is copied", || parts(&bench).len() == 1);
    let mut other = Engine::create(&bench.options.containers_dir, 2, 3, MAX_SIZE);
    other.write_many(15);
    let container = await_container(&table, &other.id);
    until(&table, "it is seen", || container.chain().len() == 1);
    other.remove();
    until(&table, "the other is kept", || bench.spooled().len() == 1 && parts(&bench).is_empty());
    // The file is still there, so nothing was lost.
    assert_eq!(bench.value("skep_log_spool_given_up_total{unit=\"lines\"}"), 0);
}
