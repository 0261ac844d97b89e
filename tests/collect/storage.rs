//! Collectors of storage over trees made by hand from the kernel's documents, and over what a real XFS and a real btrfs of Linux 6.18 said.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use skep::collect::{self, Collector, Presence};

use crate::support;

const TREE: &str = "by-hand-storage";

const COLLECTORS: [&str; 10] = ["bcache", "bcachefs", "btrfs", "dmmultipath", "drbd", "mdadm", "nvme", "nvmesubsystem", "tapestats", "xfs"];

fn built(name: &str) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&support::settings(&[("collector.bcache.priorityStats", "true")])).unwrap()
}

fn run_at(name: &str, directory: &Path) -> support::Collected {
    let found = support::run(&mut *built(name), support::at(directory));
    support::check_exposition(&found.text);
    found
}

/// What a collector reads of the tree.
fn part_of(name: &str) -> &'static str {
    match name {
        "bcache" => "sys/fs/bcache",
        "bcachefs" => "sys/fs/bcachefs",
        "btrfs" => "sys/fs/btrfs",
        "dmmultipath" | "mdadm" => "sys/block",
        "nvme" => "sys/class/nvme",
        "nvmesubsystem" => "sys/class/nvme-subsystem",
        "tapestats" => "sys/class/scsi_tape",
        "xfs" => "sys/fs/xfs",
        _ => "sys/class/none",
    }
}

/// The part of the tree that a collector reads.
fn copy_for(name: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).into_iter().flatten() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("sys/class")).unwrap();
    for part in ["proc", part_of(name)] {
        copy(&support::path("fixtures/host").join(TREE).join(part), &directory.path().join(part));
    }
    directory
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn series(text: &str) -> std::collections::BTreeSet<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn the_tree_gives_its_golden_files() {
    for name in COLLECTORS {
        let mut collector = built(name);
        let first = support::run(&mut *collector, support::recorded(TREE));
        assert_eq!(first.result.unwrap(), Presence::Present, "{name}");
        assert_eq!(first.oddities, 0, "{name}: {}", first.example);
        support::check_exposition(&first.text);
        support::golden(&format!("{TREE}/{name}.prom"), &first.text);
        // What is kept between scrapes changes nothing.
        let second = support::run(&mut *collector, support::recorded(TREE));
        assert_eq!(first.text, second.text, "{name}");
    }
}

#[test]
fn a_machine_without_them_is_absent() {
    let bare = tempfile::tempdir().unwrap();
    fs::create_dir_all(bare.path().join("proc")).unwrap();
    fs::create_dir_all(bare.path().join("sys/class")).unwrap();
    fs::write(bare.path().join("proc/stat"), "cpu 1 2 3 4\n").unwrap();
    for round in 0..2 {
        for name in COLLECTORS {
            let found = run_at(name, bare.path());
            assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
            assert_eq!((found.oddities, &*found.text), (0, ""), "{name} {round}: {}", found.example);
        }
        // The second time with drivers that have nothing to drive.
        for directory in [
            "block/sda",
            "class/nvme",
            "class/nvme-subsystem",
            "class/scsi_tape",
            "fs/bcache",
            "fs/bcachefs",
            "fs/btrfs/features",
            "fs/xfs",
        ] {
            fs::create_dir_all(bare.path().join("sys").join(directory)).unwrap();
        }
        fs::create_dir_all(bare.path().join("sys/fs/xfs/stats")).unwrap();
        fs::write(bare.path().join("sys/fs/xfs/stats/stats"), "rw 1 2\n").unwrap();
        fs::write(bare.path().join("proc/mdstat"), "Personalities : \nunused devices: <none>\n").unwrap();
        fs::write(bare.path().join("proc/drbd"), "version: 9.1.4 (api:2/proto:110-121)\n").unwrap();
    }
}

#[test]
fn without_sysfs_or_procfs_they_fail() {
    let empty = tempfile::tempdir().unwrap();
    for name in COLLECTORS {
        assert!(run_at(name, empty.path()).result.is_err(), "{name}");
    }
}

/// A file that no kernel writes costs the samples that it has, is told, and nothing else.
#[test]
fn an_odd_file_costs_only_itself() {
    for (name, file, bytes, lost) in [
        ("bcache", "sys/fs/bcache/11111111-2222-3333-4444-555555555555/tree_depth", "deep\n", 1),
        ("bcache", "sys/fs/bcache/11111111-2222-3333-4444-555555555555/cache0/priority_stats", "Unused: x%\nMetadata:\t1%\n", 1),
        ("bcachefs", "sys/fs/bcachefs/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/dev-0/nbuckets", "many\n", 1),
        ("bcachefs", "sys/fs/bcachefs/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/counters/data_read", "x\n", 1),
        ("btrfs", "sys/fs/btrfs/7f000000-0000-4000-8000-000000000001/allocation/mixed/dup/used_bytes", "x\n", 1),
        ("btrfs", "sys/fs/btrfs/7f000000-0000-4000-8000-000000000001/devinfo/1/error_stats", "write_errs 1\nread_errs x\n", 4),
        ("dmmultipath", "sys/block/dm-1/size", "large\n", 1),
        ("dmmultipath", "sys/block/dm-1/dm/suspended", "x\n", 1),
        ("nvme", "sys/class/nvme/nvme0/nvme0n1/size", "x\n", 2),
        ("mdadm", "sys/block/md0/md/degraded", "x\n", 1),
        ("tapestats", "sys/class/scsi_tape/st0/stats/io_ns", "-1\n", 1),
        ("xfs", "sys/fs/xfs/sdy1/stats/stats", "rw 1 2\nvnodes 1 2 3 4 5 6 x\n", 31),
    ] {
        let directory = copy_for(name);
        let whole = run_at(name, directory.path());
        fs::write(directory.path().join(file), bytes).unwrap();
        let found = run_at(name, directory.path());
        assert_eq!(found.result.unwrap(), Presence::Present, "{file}");
        assert_eq!(found.oddities, 1, "{file}: {}", found.example);
        assert_eq!(series(&whole.text).len() - series(&found.text).len(), lost, "{file}");
    }
}

/// What is there and cannot be read is told: a directory stands where a file should be.
#[test]
fn a_file_that_cannot_be_read_is_told() {
    for (name, file) in [
        ("bcache", "sys/fs/bcache/11111111-2222-3333-4444-555555555555/congested"),
        ("bcachefs", "sys/fs/bcachefs/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/errors"),
        ("btrfs", "sys/fs/btrfs/7f000000-0000-4000-8000-000000000001/commit_stats"),
        ("dmmultipath", "sys/block/sdw/device/state"),
        ("mdadm", "sys/block/md1/md/degraded"),
        ("nvme", "sys/class/nvme/nvme0/serial"),
        ("nvmesubsystem", "sys/class/nvme-subsystem/nvme-subsys0/nvme1/state"),
        ("tapestats", "sys/class/scsi_tape/st0/stats/io_ns"),
        ("xfs", "sys/fs/xfs/sdy1/stats/stats"),
    ] {
        let directory = copy_for(name);
        let path = directory.path().join(file);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let found = run_at(name, directory.path());
        assert_eq!(found.result.unwrap(), Presence::Present, "{file}");
        assert_eq!(found.oddities, 1, "{file}: {}", found.example);
        assert!(found.example.contains(file.rsplit('/').next().unwrap()), "{file}: {}", found.example);
    }
}

#[test]
fn lines_of_procfs_that_are_odd_cost_only_themselves() {
    for (name, file) in [("mdadm", "proc/mdstat"), ("drbd", "proc/drbd")] {
        let directory = copy_for(name);
        let whole = run_at(name, directory.path());
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}md0 : \u{fffd}\n 9: ns:many\n")).unwrap();
        let found = run_at(name, directory.path());
        assert_eq!(series(&found.text), series(&whole.text), "{name}");
        assert_eq!(found.oddities, 1, "{name}: {}", found.example);
    }
}

#[test]
fn tape_drives_may_be_left_out() {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == "tapestats").unwrap();
    let build = |pattern| (entry.build)(&support::settings(&[("collector.tapestats.ignored-devices", pattern)]));
    let found = support::run(&mut *build("^st0").unwrap(), support::recorded(TREE));
    assert_eq!(found.result.unwrap(), Presence::Absent);
    assert!(build("(").err().unwrap().starts_with("--collector.tapestats.ignored-devices=(: "));
}

#[test]
fn priority_stats_are_read_only_when_asked_for() {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == "bcache").unwrap();
    let found = support::run(&mut *(entry.build)(&support::settings(&[])).unwrap(), support::recorded(TREE));
    assert!(found.text.contains("node_bcache_io_errors{") && !found.text.contains("priority"));
}

/// Unmounted and mounted again under other names: nothing is kept of what was.
#[test]
fn file_systems_that_are_gone_are_forgotten() {
    let directory = copy_for("xfs");
    let mut collector = built("xfs");
    let mut run = || support::run(&mut *collector, support::at(directory.path())).text;
    assert!(run().contains("device=\"sdy1\""));
    fs::rename(directory.path().join("sys/fs/xfs/sdy1"), directory.path().join("sys/fs/xfs/sdy2")).unwrap();
    let text = run();
    assert!(!text.contains("sdy1") && text.contains("node_xfs_read_calls_total{device=\"sdy2\"} 32\n"), "{text}");
    fs::remove_file(directory.path().join("sys/fs/xfs/sdy2/stats/stats")).unwrap();
    assert!(!run().contains("sdy2"));
}

thread_local! {
    /// Copied once, put back after each case, and removed with the test's thread.
    static COPIES: RefCell<HashMap<&'static str, tempfile::TempDir>> = RefCell::default();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever one of its files has in it, no collector panics, and what it writes is an exposition.
    #[test]
    fn any_file_may_have_anything_in_it(
        which: prop::sample::Index,
        bytes in prop_oneof![any::<Vec<u8>>(), "([a-z0-9:_/ %.=()\\[\\]\\-]{0,12}[ \n]){0,20}".prop_map(String::into_bytes)],
    ) {
        for name in COLLECTORS {
            COPIES.with_borrow_mut(|copies| {
                let directory = copies.entry(name).or_insert_with(|| copy_for(name));
                let all = files(directory.path());
                let path = which.get(&all);
                let whole = fs::read(path).unwrap();
                fs::write(path, &bytes).unwrap();
                let _ = run_at(name, directory.path());
                fs::write(path, whole).unwrap();
            });
        }
    }
}
