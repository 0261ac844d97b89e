//! The host collectors over recordings of real machines, compared with golden files; and over files that no machine would write.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use skep::collect::{self, Collector, Presence};
use skep::config::Settings;

use crate::support;

const MACHINES: [&str; 1] = ["microvm-6.18"];

/// The collectors that a recording answers for; uname asks the kernel that runs the test.
const RECORDED: [&str; 13] = [
    "cpu",
    "diskstats",
    "filefd",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "pressure",
    "sockstat",
    "stat",
    "time",
    "vmstat",
];

fn everything() -> Settings {
    support::settings(&[
        ("collector.cpu.info", "true"),
        ("collector.cpu.info.flags-include", "^(aes|avx.?)$"),
        ("collector.stat.softirq", "true"),
        ("collector.diskstats.device-exclude", "^loop"),
        // A machine without net/dev is asked nothing: this one would answer.
        ("collector.netdev.netlink", "false"),
        ("node-name", "node-7"),
    ])
}

fn built(name: &str) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&everything()).unwrap()
}

/// What this computer's clock and disks say is put out of sight.
pub(crate) fn masked(text: &str) -> String {
    let live = |line: &str| {
        ["node_time_seconds ", "node_filesystem_size", "node_filesystem_free", "node_filesystem_avail", "node_filesystem_files"]
            .iter()
            .any(|family| line.starts_with(family))
    };
    let mask = |line: &str| match line.rsplit_once(' ') {
        Some((series, _)) if live(line) => format!("{series} 0\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(mask).collect()
}

#[test]
fn recordings_give_their_golden_files() {
    for machine in MACHINES {
        for name in RECORDED {
            let mut collector = built(name);
            let first = support::run(&mut *collector, support::recorded(machine));
            assert_eq!(first.result.unwrap(), Presence::Present, "{name}");
            assert_eq!(first.oddities, 0, "{name}: {}", first.example);
            support::check_exposition(&first.text);
            support::golden(&format!("{machine}/{name}.prom"), &masked(&first.text));
            // What is kept between scrapes changes nothing.
            let second = support::run(&mut *collector, support::recorded(machine));
            assert_eq!(masked(&first.text), masked(&second.text), "{name}");
        }
    }
}

/// What a kernel may be built or booted without. Everything else is there on every machine.
const OPTIONAL: [&str; 4] = ["filefd", "netstat", "pressure", "sockstat"];

#[test]
fn a_machine_without_a_feature_is_absent_and_not_broken() {
    let bare = tempfile::tempdir().unwrap();
    fs::create_dir_all(bare.path().join("proc")).unwrap();
    fs::create_dir_all(bare.path().join("sys/class")).unwrap();
    fs::write(bare.path().join("proc/stat"), "cpu 1 2 3 4\n").unwrap();
    for name in RECORDED.into_iter().filter(|name| !matches!(*name, "cpu" | "stat" | "time")) {
        let found = support::run(&mut *built(name), support::at(bare.path()));
        if OPTIONAL.contains(&name) {
            assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
            assert_eq!(found.oddities, 0, "{name}");
        } else {
            assert!(found.result.is_err(), "{name}");
        }
        assert!(found.text.is_empty(), "{name}");
    }
}

#[test]
fn without_procfs_every_collector_of_it_fails() {
    let empty = tempfile::tempdir().unwrap();
    // Nothing at the path, and then the empty directory that Docker makes where a mount should be.
    for make in [false, true] {
        if make {
            fs::create_dir(empty.path().join("proc")).unwrap();
        }
        for name in RECORDED.into_iter().filter(|name| *name != "time") {
            let found = support::run(&mut *built(name), support::at(empty.path()));
            let error = found.result.err().unwrap_or_else(|| panic!("{name} did not fail"));
            assert!(error.to_string().contains("no procfs is mounted at"), "{name}: {error}");
            assert!(found.text.is_empty(), "{name}");
        }
    }
}

#[test]
fn without_sysfs_what_is_missing_is_told() {
    let directory = copy_of(MACHINES[0]);
    fs::remove_dir_all(directory.path().join("sys")).unwrap();
    for name in ["cpu", "time"] {
        let found = support::run(&mut *built(name), support::at(directory.path()));
        assert_eq!(found.result.unwrap(), Presence::Present, "{name}");
        assert!(found.oddities > 0 && found.example.contains("no sysfs is mounted at"), "{name}: {}", found.example);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    for (_, file) in MAIN_FILES {
        fs::create_dir_all(directory.path().join("proc").join(file)).unwrap();
    }
    for (name, file) in MAIN_FILES {
        let found = support::run(&mut *built(name), support::at(directory.path()));
        let error = found.result.err().unwrap_or_else(|| panic!("{name} did not fail"));
        assert!(error.to_string().contains(file), "{name}: {error}");
    }
}

#[test]
fn uname_names_the_node_and_not_the_container() {
    let found = support::run(&mut *built("uname"), support::recorded(MACHINES[0]));
    support::check_exposition(&found.text);
    assert!(found.text.contains("node_uname_info{sysname=\"Linux\",release=\""), "{}", found.text);
    assert!(found.text.contains(",nodename=\"node-7\","), "{}", found.text);
}

#[test]
fn interfaces_that_are_gone_are_forgotten() {
    let directory = copy_of(MACHINES[0]);
    let mut collector = built("netdev");
    let dev = directory.path().join("proc/1/net/dev");
    let recorded = fs::read_to_string(&dev).unwrap();
    let with_veth = format!("{recorded}veth12: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  new0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    fs::write(&dev, with_veth).unwrap();
    let found = support::run(&mut *collector, support::at(directory.path()));
    assert!(found.text.contains("device=\"new0\"") && !found.text.contains("veth12"));
    assert!(found.text.contains("\nnode_netns_host 1\n"));
    fs::write(&dev, recorded).unwrap();
    let found = support::run(&mut *collector, support::at(directory.path()));
    assert!(!found.text.contains("device=\"new0\""));
}

#[test]
fn interfaces_of_the_agents_own_namespace_are_told_as_such() {
    let directory = copy_of(MACHINES[0]);
    fs::rename(directory.path().join("proc/1/net"), directory.path().join("proc/net")).unwrap();
    let found = support::run(&mut *built("netdev"), support::at(directory.path()));
    assert!(found.text.contains("\nnode_netns_host 0\n"));
    // The host's sysfs does not fit to the agent's interfaces.
    assert!(!found.text.contains("nohandler"));
}

#[test]
fn mounts_of_the_agents_own_namespace_are_told_as_such() {
    let directory = copy_of(MACHINES[0]);
    let found = support::run(&mut *built("filesystem"), support::at(directory.path()));
    assert!(found.text.contains("\nnode_mounts_host 1\n"));
    fs::create_dir(directory.path().join("proc/self")).unwrap();
    fs::rename(directory.path().join("proc/1/mountinfo"), directory.path().join("proc/self/mountinfo")).unwrap();
    let found = support::run(&mut *built("filesystem"), support::at(directory.path()));
    assert!(found.text.contains("\nnode_mounts_host 0\n"));
}

/// A line in the middle that no kernel writes costs that line, is told, and nothing else.
#[test]
fn an_odd_line_costs_only_itself() {
    for (name, file) in MAIN_FILES.into_iter().filter(|(name, _)| !matches!(*name, "filefd" | "loadavg" | "pressure" | "stat")) {
        let directory = copy_of(MACHINES[0]);
        let whole = support::run(&mut *built(name), support::at(directory.path()));
        let path = directory.path().join("proc").join(file);
        let mut lines: Vec<Vec<u8>> = fs::read(&path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        // Between two pairs in netstat, behind the head in net/dev, among the CPUs in stat.
        lines.insert(2, b"cpu7 \xff\xfe: x\n".to_vec());
        fs::write(&path, lines.concat()).unwrap();
        let found = support::run(&mut *built(name), support::at(directory.path()));
        assert_eq!(masked(&found.text), masked(&whole.text), "{name}");
        assert_eq!(found.oddities, 1, "{name}: {}", found.example);
    }
}

/// Each collector with the file that it cannot do without.
const MAIN_FILES: [(&str, &str); 12] = [
    ("cpu", "stat"),
    ("diskstats", "diskstats"),
    ("filefd", "sys/fs/file-nr"),
    ("filesystem", "1/mountinfo"),
    ("loadavg", "loadavg"),
    ("meminfo", "meminfo"),
    ("netdev", "1/net/dev"),
    ("netstat", "1/net/netstat"),
    ("pressure", "pressure/cpu"),
    ("sockstat", "1/net/sockstat"),
    ("stat", "stat"),
    ("vmstat", "vmstat"),
];

fn copy_of(machine: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
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
    copy(&support::path("fixtures/host").join(machine), directory.path());
    directory
}

fn series(text: &str) -> std::collections::BTreeSet<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The files of a recording, relative to it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What no recording has yet: a disk of a volume group, and one with ATA's words. The file is of udev's form, its words are invented.
#[test]
fn disks_are_named_by_udev() {
    let directory = copy_of(MACHINES[0]);
    let udev = "S:mapper/x\nE:ID_SERIAL=long_1\nE:ID_SERIAL_SHORT=1\nE:ID_MODEL=A \"quoted\" disk\nE:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_ROTATION_RATE_RPM=x\n\
                E:DM_NAME=vg-lv\nE:DM_VG_NAME=vg\nE:DM_LV_NAME=lv\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID=u\n";
    fs::write(directory.path().join("udev/b254:0"), udev).unwrap();
    let mut collector = built("diskstats");
    let found = support::run(&mut *collector, support::at(directory.path()));
    support::check_exposition(&found.text);
    for line in [
        r#"node_disk_info{device="vda",major="254",minor="0",path="",wwn="",model="A \"quoted\" disk",serial="1",revision="",rotational="1"} 1"#,
        r#"node_disk_filesystem_info{device="vda",type="ext4",usage="",uuid="u",version=""} 1"#,
        r#"node_disk_device_mapper_info{device="vda",name="vg-lv",uuid="",vg_name="vg",lv_name="lv",lv_layer=""} 1"#,
        r#"node_disk_ata_write_cache{device="vda"} 1"#,
    ] {
        assert!(found.text.lines().any(|found| found == line), "{line}\n{}", found.text);
    }
    assert!(!found.text.contains("rotation_rate"));
    assert_eq!(found.oddities, 1, "{}", found.example);
    // What udev says later counts.
    fs::write(directory.path().join("udev/b254:0"), "E:ID_SERIAL=long_2\n").unwrap();
    let found = support::run(&mut *collector, support::at(directory.path()));
    assert!(found.text.contains("serial=\"long_2\"") && !found.text.contains("device_mapper"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever one of the files has in it, no collector panics, and what it writes is an exposition.
    #[test]
    fn any_file_may_have_anything_in_it(
        which: prop::sample::Index,
        bytes in prop_oneof![any::<Vec<u8>>(), "([a-z0-9:_/ \\-]{0,12}[ \n]){0,60}".prop_map(String::into_bytes)],
    ) {
        let directory = copy_of(MACHINES[0]);
        fs::write(which.get(&files(directory.path())), bytes).unwrap();
        for name in RECORDED {
            support::check_exposition(&support::run(&mut *built(name), support::at(directory.path())).text);
        }
    }

    /// A file that ends early keeps what was before its end: every sample is one of the whole file's, and what an earlier end gave is still there.
    #[test]
    fn a_file_that_ends_early_keeps_what_it_had(index in 0..MAIN_FILES.len(), at: prop::sample::Index, earlier: prop::sample::Index) {
        let (name, file) = MAIN_FILES[index];
        let directory = copy_of(MACHINES[0]);
        let whole = support::run(&mut *built(name), support::at(directory.path()));
        let path = directory.path().join("proc").join(file);
        let bytes = fs::read(&path).unwrap();
        let mut ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end + 1).collect();
        ends.insert(0, 0);
        let at = at.index(ends.len());
        let cut = |end: usize| {
            fs::write(&path, &bytes[..end]).unwrap();
            masked(&support::run(&mut *built(name), support::at(directory.path())).text)
        };
        let (late, early) = (cut(ends[at]), cut(ends[earlier.index(at + 1)]));
        let whole = masked(&whole.text);
        prop_assert!(series(&late).is_subset(&series(&whole)), "{name} at {at}");
        prop_assert!(series(&early).is_subset(&series(&late)), "{name} at {at}");
    }
}
