//! ZFS, NFS, IPVS, IPsec and the network's caches, over trees that were made by hand from the formats' documents, and mounts of every odd kind.

use std::fs;
use std::path::Path;

use skep::collect::{self, Collector, Presence};

use crate::recorded::masked;
use crate::support;

const MACHINE: &str = "by-hand-tables";

const COLLECTORS: [&str; 7] = ["ipvs", "lnstat", "mountstats", "nfs", "nfsd", "xfrm", "zfs"];

fn built(name: &str, given: &[(&str, &str)]) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&support::settings(given)).unwrap()
}

#[test]
fn trees_by_hand_give_their_golden_files() {
    for name in COLLECTORS {
        let mut collector = built(name, &[]);
        let first = support::run(&mut *collector, support::recorded(MACHINE));
        assert_eq!(first.result.unwrap(), Presence::Present, "{name}");
        assert_eq!(first.oddities, 0, "{name}: {}", first.example);
        support::check_exposition(&first.text);
        support::golden(&format!("{MACHINE}/{name}.prom"), &first.text);
        let second = support::run(&mut *collector, support::recorded(MACHINE));
        assert_eq!(first.text, second.text, "{name}");
    }
}

#[test]
fn a_machine_without_them_is_absent_and_one_without_procfs_fails() {
    let bare = tempfile::tempdir().unwrap();
    for name in COLLECTORS {
        assert!(support::run(&mut *built(name, &[]), support::at(bare.path())).result.is_err(), "{name}");
    }
    fs::create_dir_all(bare.path().join("proc/1/net")).unwrap();
    fs::write(bare.path().join("proc/stat"), "cpu 1 2 3 4\n").unwrap();
    for name in COLLECTORS {
        let found = support::run(&mut *built(name, &[]), support::at(bare.path()));
        assert_eq!((found.result.unwrap(), &*found.text, found.oddities), (Presence::Absent, "", 0), "{name}");
    }
}

#[test]
fn backends_are_added_up_by_the_labels_asked_for() {
    for (labels, expected) in [
        ("proto", "node_ipvs_backend_connections_active{proto=\"TCP\"} 12\n"),
        ("remote_port,local_port", "node_ipvs_backend_weight{local_port=\"80\",remote_port=\"8080\"} 2\n"),
        ("", "node_ipvs_backend_connections_active 13\n"),
    ] {
        let mut collector = built("ipvs", &[("collector.ipvs.backend-labels", labels)]);
        let found = support::run(&mut *collector, support::recorded(MACHINE));
        support::check_exposition(&found.text);
        assert!(found.text.contains(expected), "{expected}\n{}", found.text);
    }
}

/// A file in the middle that no kernel writes costs that file.
#[test]
fn an_odd_file_costs_only_itself() {
    for (name, file, lost) in [
        ("zfs", "spl/kstat/zfs/zil", "zil_commit"),
        ("zfs", "spl/kstat/zfs/tank/io", "nwritten"),
        ("lnstat", "1/net/stat/arp_cache", "arp_cache"),
        ("ipvs", "1/net/ip_vs", "backend"),
        ("ipvs", "1/net/ip_vs_stats", "connections_total"),
    ] {
        let directory = copy();
        fs::write(directory.path().join("proc").join(file), b"cpu7 \xff\xfe: x\nx\n").unwrap();
        let found = support::run(&mut *built(name, &[]), support::at(directory.path()));
        assert_eq!(found.result.unwrap(), Presence::Present, "{file}");
        support::check_exposition(&found.text);
        assert!(found.oddities > 0, "{file}");
        assert!(!found.text.contains(lost) && !found.text.is_empty(), "{file}: {}", found.text);
    }
}

/// Its own network is all that a process sees that may not look into the first one.
#[test]
fn the_own_files_are_the_second_choice() {
    let directory = copy();
    let proc = directory.path().join("proc");
    fs::rename(proc.join("1/net"), proc.join("net")).unwrap();
    fs::rename(proc.join("1"), proc.join("self")).unwrap();
    for name in COLLECTORS {
        let whole = support::run(&mut *built(name, &[]), support::recorded(MACHINE));
        let found = support::run(&mut *built(name, &[]), support::at(directory.path()));
        assert_eq!(found.text, whole.text, "{name}");
    }
}

/// Mounts of every odd kind: escapes of all sorts, bytes that are no text, `ro` in each place, optional fields, no source, a mount upon another, the same twice,
/// left out by type and by point, and a point that is not there.
#[test]
fn mounts_of_every_odd_kind() {
    const ODD: &str = "by-hand-mounts";
    let first = support::run(&mut *built("filesystem", &[]), support::recorded(ODD));
    assert_eq!(first.result.unwrap(), Presence::Present);
    // The line that ends in the middle, and the one whose device has no number.
    assert_eq!(first.oddities, 2, "{}", first.example);
    support::check_exposition(&first.text);
    support::golden(&format!("{ODD}/filesystem.prom"), &masked(&first.text));
    for (flags, there, gone) in [
        (("collector.filesystem.fs-types-include", "^xfs$"), "/srv/xfs", "/srv/ro"),
        (("collector.filesystem.fs-types-exclude", "^xfs$"), "/srv/ro", "/srv/xfs"),
        (("collector.filesystem.mount-points-include", "^/(proc|srv/x)"), "/srv/xfs", "/srv/ro"),
        (("collector.filesystem.mount-points-exclude", "^/srv/x"), "/var/lib/docker/volumes/v", "/srv/xfs"),
    ] {
        let found = support::run(&mut *built("filesystem", &[flags]), support::recorded(ODD));
        let has = |point: &str| found.text.contains(&format!("mountpoint=\"{point}\""));
        assert!(has(there) && !has(gone), "{flags:?}: {}", found.text);
    }
}

fn copy() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target)
            } else {
                fs::copy(entry.path(), target).map(drop).unwrap()
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&support::path("fixtures/host").join(MACHINE), directory.path());
    directory
}
