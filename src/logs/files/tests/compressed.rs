//! Rotated files that the engine compresses.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use super::engine::{Bench, Engine, Follower, await_container, until};
use super::{follow, rotate_unread};

fn compressing(bench: &Bench, max_file: u32) -> Engine {
    let mut engine = Engine::create(&bench.options.containers_dir, 1, max_file, 4096);
    engine.is_compressing = true;
    engine
}

fn rotate_times(engine: &mut Engine, rotations: u64) {
    while engine.rotations < rotations {
        engine.write(|_| ());
    }
}

#[test]
fn hundreds_of_rotations_at_full_speed() {
    let bench = Bench::new();
    follow(&bench, compressing(&bench, 3), 500);
    assert_eq!(bench.value("skep_log_file_errors_total{operation=\"compressed\"}"), 0);
}

#[test]
fn without_inotify() {
    let mut bench = Bench::new();
    bench.options.inotify = false;
    let mut engine = compressing(&bench, 4);
    engine.max_size = 100_000;
    follow(&bench, engine, 4);
}

#[test]
fn what_was_compressed_while_nobody_looked_is_read() {
    let bench = Bench::new();
    let mut engine = compressing(&bench, 6);
    rotate_times(&mut engine, 5);
    engine.write_many(3);
    let table = bench.table();
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "all is read", || {
        follower.read();
        follower.next == engine.next
    });
    let is_compressed: Vec<bool> = follower.container.chain().iter().map(|file| file.is_compressed()).collect();
    assert_eq!(is_compressed, [true, true, true, true, true, false]);
    assert!(follower.container.chain().iter().all(|file| !file.is_broken()));
}

#[test]
fn a_place_in_a_file_is_found_again_when_it_is_compressed() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = compressing(&bench, 6);
    engine.write_many(30);
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "30 lines are read", || {
        follower.read();
        follower.next == 30
    });
    follower.acknowledge();
    let (place, next) = (follower.place().unwrap(), follower.next);
    let plain = Arc::clone(&follower.container.chain()[0]);
    table.stop();
    rotate_times(&mut engine, 3);

    let table = bench.table();
    let mut follower = Follower::new(await_container(&table, &engine.id));
    until(&table, "all directories are seen", || table.first_scan_done());
    assert!(follower.resume(place, next));
    until(&table, "all is read", || {
        follower.read();
        follower.next == engine.next
    });
    let first = Arc::clone(&follower.container.chain()[0]);
    assert!(first.is_compressed() && first.fingerprint() == plain.fingerprint());
    assert_eq!(first.len().unwrap(), plain.len().unwrap());
}

#[test]
fn what_is_compressed_on_the_disk_is_not_spooled_before_it_goes() {
    let bench = Bench::new();
    let table = bench.table();
    let mut engine = compressing(&bench, 6);
    let container = rotate_unread(&table, &mut engine, 4);
    until(&table, "the compressed files stand for the plain ones", || {
        container.chain().iter().filter(|file| file.is_compressed()).count() == 4
    });
    assert_eq!((bench.spooled().len(), bench.value("skep_log_pinned_bytes")), (0, 0));
    let container = {
        rotate_times(&mut engine, 5);
        container
    };
    until(&table, "the last of them is spooled", || bench.spooled().len() == 1);
    engine.remove();
    until(&table, "it is removed", || container.is_removed());
    until(&table, "all of it is spooled", || bench.spooled().len() == 6 && bench.value("skep_log_pinned_bytes") == 0);
    let mut follower = Follower::new(container);
    follower.read();
    assert_eq!(follower.next, engine.next);
    follower.acknowledge();
    until(&table, "the spool is empty", || bench.is_spool_empty());
    assert_eq!(bench.value("skep_log_spool_given_up_total{unit=\"lines\"}"), 0);
}

/// An engine that died while it compressed leaves half of it beside the plain file.
#[test]
fn one_that_is_not_whole_is_not_taken_for_the_plain_one() {
    let bench = Bench::new();
    let mut engine = compressing(&bench, 6);
    engine.is_compressing = false;
    rotate_times(&mut engine, 1);
    let half = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(&fs::read(engine.path(1)).unwrap()).unwrap();
        let whole = writer.finish().unwrap();
        whole[..whole.len() / 2].to_vec()
    };
    fs::write(engine.compressed_path(1), &half).unwrap();
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "both files are there", || container.chain().len() == 2);
    assert!(container.chain().iter().all(|file| !file.is_compressed()), "it is waited for");
    // The next engine goes on: the half moves up, and the plain file is written over.
    engine.is_compressing = true;
    rotate_times(&mut engine, 2);
    until(&table, "it is seen", || container.chain().len() == 3);
    let mut follower = Follower::new(Arc::clone(&container));
    follower.read();
    assert_eq!(follower.next, engine.next, "the plain file is still open");
    follower.acknowledge();
    until(&table, "only the disk is held", || container.chain().len() == 2 && bench.spooled().is_empty());
    table.stop();

    // Who did not have it open reads what there is.
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "three files are there", || {
        container.chain().len() == 3 && container.chain().first().is_some_and(|file| file.is_compressed())
    });
    let broken = Arc::clone(&container.chain()[0]);
    let mut buffer = vec![0; 4096];
    let read = broken.read_at(&mut buffer, 0).unwrap();
    assert!(read > 100 && broken.is_compressed());
    assert_eq!(broken.read_at(&mut buffer, read as u64).unwrap(), 0);
    assert!(broken.is_broken());
    container.acknowledge(0, crate::logs::Place { file: container.chain()[1].fingerprint(), offset: 0 });
    until(&table, "it is counted", || bench.value("skep_log_file_errors_total{operation=\"compressed\"}") == 1);
}

#[test]
fn one_that_is_no_such_file_stands_in_the_chain_as_a_gap() {
    let bench = Bench::new();
    let mut engine = compressing(&bench, 6);
    rotate_times(&mut engine, 3);
    fs::write(engine.compressed_path(2), "").unwrap();
    fs::write(engine.compressed_path(3), "no gzip").unwrap();
    let table = bench.table();
    let container = await_container(&table, &engine.id);
    until(&table, "all files are there", || container.chain().len() == 4);
    let chain = container.chain();
    assert!(chain[0].fingerprint() != chain[1].fingerprint());
    assert_eq!(chain.iter().map(|file| file.is_broken()).collect::<Vec<_>>(), [true, true, false, false]);
    let mut follower = Follower::new(Arc::clone(&container));
    follower.may_miss = true;
    follower.read();
    assert_eq!(follower.next, engine.next);
    until(&table, "both are counted", || bench.value("skep_log_file_errors_total{operation=\"compressed\"}") == 2);
}
