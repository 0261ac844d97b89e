//! The collectors of what the kernel tells of itself: entropy, scheduler, clock, SELinux, zones of memory, interrupts, processes, settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use skep::collect::{self, Collector, Presence};

use crate::support;

const BY_HAND: &str = "by-hand-kernel";
const RECORDED: &str = "microvm-6.18";

/// The collectors that the tree made by hand answers for: SELinux, swap, scheduler statistics, several NUMA nodes, a CPU that is offline and threads are in no
/// recording yet. The forms of its files are those of the sources that each collector names, the numbers are invented; with the number of its lines, files and threads that are odd.
const COLLECTORS: [(&str, u64); 17] = [
    ("buddyinfo", 2),
    ("cgroups", 1),
    ("cpu_vulnerabilities", 0),
    ("entropy", 0),
    ("interrupts", 2),
    ("kernel_hung", 0),
    ("ksmd", 1),
    ("meminfo_numa", 2),
    ("os", 1),
    ("processes", 1),
    ("schedstat", 2),
    ("selinux", 0),
    ("slabinfo", 2),
    ("softirqs", 1),
    ("swap", 1),
    ("sysctl", 3),
    ("zoneinfo", 3),
];

/// What the recorded machine has of these. It has no swap, so its file has a heading and nothing else.
const OF_THE_RECORDING: [&str; 14] = [
    "buddyinfo",
    "cgroups",
    "cpu_vulnerabilities",
    "entropy",
    "interrupts",
    "kernel_hung",
    "ksmd",
    "meminfo_numa",
    "os",
    "selinux",
    "slabinfo",
    "softirqs",
    "swap",
    "zoneinfo",
];

/// What a kernel may be built or booted without, or a host's root may not have.
const OPTIONAL: [&str; 11] =
    ["cgroups", "cpu_vulnerabilities", "entropy", "kernel_hung", "ksmd", "meminfo_numa", "os", "schedstat", "slabinfo", "swap", "timex"];

/// The collector with flags that say nothing but the defaults; sysctl is asked for something.
fn built(name: &str) -> Box<dyn Collector> {
    let mut settings = support::settings(&[("collector.sysctl.include-info", "kernel.seccomp.actions_avail")]);
    let names = ["fs.file-nr", "fs.file-nr:total,current,max", "kernel.shmmax", "kernel.perf_event_paranoid", "fs.file-nr"];
    // Not a number, not there, and of a network namespace that is not known to be the host's.
    let odd = ["kernel.core_pattern", "kernel.nothing", "net.core.rmem_max"];
    settings.set("collector.sysctl.include", names.into_iter().chain(odd).map(str::to_owned).collect());
    of(name, &settings)
}

fn of(name: &str, settings: &skep::config::Settings) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(settings).unwrap()
}

/// The tree made by hand, or one like it that a test may change.
fn copy() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                copy(&entry.path(), &target);
            } else if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&support::path("fixtures/host").join(BY_HAND), directory.path());
    directory
}

#[test]
fn odd_things_cost_only_themselves() {
    for (name, oddities) in COLLECTORS {
        let mut collector = built(name);
        let found = support::run(&mut *collector, support::recorded(BY_HAND));
        assert_eq!(found.result.unwrap(), Presence::Present, "{name}");
        assert_eq!(found.oddities, oddities, "{name}: {}", found.example);
        support::check_exposition(&found.text);
        support::golden(&format!("{BY_HAND}/{name}.prom"), &found.text);
        let second = support::run(&mut *collector, support::recorded(BY_HAND));
        assert_eq!((found.text, oddities), (second.text, second.oddities), "{name}");
    }
}

#[test]
fn recordings_give_their_golden_files() {
    for name in OF_THE_RECORDING {
        let found = support::run(&mut *built(name), support::recorded(RECORDED));
        assert_eq!(found.result.unwrap(), Presence::Present, "{name}");
        assert_eq!(found.oddities, 0, "{name}: {}", found.example);
        support::check_exposition(&found.text);
        support::golden(&format!("{RECORDED}/{name}.prom"), &found.text);
    }
}

/// A machine that has the trees and nothing in them.
fn bare() -> tempfile::TempDir {
    let bare = tempfile::tempdir().unwrap();
    for directory in ["proc", "sys/class", "root/etc"] {
        fs::create_dir_all(bare.path().join(directory)).unwrap();
    }
    fs::write(bare.path().join("proc/stat"), "cpu 1 2 3 4\n").unwrap();
    bare
}

#[test]
fn a_machine_without_a_feature_is_absent_and_not_broken() {
    let bare = bare();
    for (name, _) in COLLECTORS {
        let found = support::run(&mut *built(name), support::at(bare.path()));
        if OPTIONAL.contains(&name) {
            assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
            assert_eq!((found.oddities, &*found.text), (0, ""), "{name}: {}", found.example);
        } else if name == "selinux" {
            assert!(found.text.ends_with("\nnode_selinux_enabled 0\n"), "{}", found.text);
        } else if name == "processes" {
            assert!(found.text.contains("\nnode_processes_pids 0\n"), "{}", found.text);
        } else {
            assert!(found.result.is_err() && found.text.is_empty(), "{name}");
        }
    }
}

#[test]
fn trees_that_are_not_mounted_are_failures() {
    let empty = tempfile::tempdir().unwrap();
    for (name, _) in COLLECTORS {
        let found = support::run(&mut *built(name), support::at(empty.path()));
        let error = found.result.err().unwrap_or_else(|| panic!("{name} did not fail"));
        assert!(name == "os" || error.to_string().contains("mounted at"), "{name}: {error}");
        assert!(found.text.is_empty(), "{name}");
    }
}

#[test]
fn the_clock_answers_in_every_family() {
    let found = support::run(&mut *built("timex"), support::at(Path::new("/nowhere")));
    // A sandbox may forbid to ask it.
    if found.result.unwrap() == Presence::Absent {
        return;
    }
    support::check_exposition(&found.text);
    let masked: String = found
        .text
        .lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("{} 0\n", line.rsplit_once(' ').unwrap().0) })
        .collect();
    support::golden(&format!("{RECORDED}/timex.prom"), &masked);
    let tick = found.text.lines().find_map(|line| line.strip_prefix("node_timex_tick_seconds ")).unwrap();
    assert!((0.009..0.011).contains(&tick.parse::<f64>().unwrap()), "{tick}");
}

/// The kernel that runs the test answers, so what it says of itself is put out of sight.
#[test]
fn uname_has_all_its_labels() {
    let found = support::run(&mut *of("uname", &support::settings(&[("node-name", "node-7")])), support::recorded(RECORDED));
    support::check_exposition(&found.text);
    let masked: Vec<String> = found
        .text
        .split(',')
        .map(|part| match part.split_once("=\"") {
            Some((label @ ("release" | "version" | "machine"), _)) => format!("{label}=\"\""),
            Some(("domainname", _)) => "domainname=\"\"} 1\n".to_owned(),
            _ => part.to_owned(),
        })
        .collect();
    support::golden(&format!("{RECORDED}/uname.prom"), &masked.join(","));
}

#[test]
fn selinux_without_a_policy_is_off() {
    let directory = copy();
    let run = || support::run(&mut *built("selinux"), support::at(directory.path())).text;
    fs::write(directory.path().join("proc/1/attr/current"), "kernel\0").unwrap();
    assert!(run().ends_with("\nnode_selinux_enabled 0\n"));
    fs::remove_file(directory.path().join("proc/1/attr/current")).unwrap();
    assert!(run().contains("\nnode_selinux_enabled 1\n"));
    // What the host's root does not tell is not told.
    fs::remove_file(directory.path().join("root/etc/selinux/config")).unwrap();
    assert!(!run().contains("config_mode") && run().ends_with("\nnode_selinux_current_mode 1\n"));
}

#[test]
fn the_release_is_read_again_when_it_changes() {
    let directory = copy();
    let mut collector = built("os");
    let mut run = || support::run(&mut *collector, support::at(directory.path()));
    assert!(run().text.contains("version_id=\"9.3\""));
    fs::write(directory.path().join("root/usr/lib/os-release"), "VERSION_ID=10\n").unwrap();
    let found = run();
    assert!(found.text.contains("version_id=\"10\"") && !found.text.contains("support_end"), "{}", found.text);
    // A link that leads nowhere is no file, and then the other one counts.
    fs::remove_file(directory.path().join("root/etc/os-release")).unwrap();
    assert_eq!(run().text, found.text);
    fs::remove_file(directory.path().join("root/usr/lib/os-release")).unwrap();
    assert_eq!(run().result.unwrap(), Presence::Absent);
}

#[test]
fn processes_stop_before_the_scrape_has_to_answer() {
    let mut reader = skep::host::Reader::new(std::sync::Arc::new(support::recorded(BY_HAND)));
    let mut writer = skep::exposition::Writer::new(std::sync::Arc::default());
    let mut late = skep::collect::Pass::new(&mut reader, &mut writer).until(Instant::now());
    let error = built("processes").collect(&mut late).unwrap_err().to_string();
    assert!(error.contains("4 processes was given up after 0"), "{error}");
    let mut early = skep::collect::Pass::new(&mut reader, &mut writer).until(Instant::now() + Duration::from_secs(60));
    assert_eq!(built("processes").collect(&mut early).unwrap(), Presence::Present);
}

#[test]
fn settings_of_the_network_are_those_of_the_host_or_none() {
    let directory = copy();
    let settings = support::settings(&[("collector.sysctl.include", "net.core.rmem_max")]);
    let run = || support::run(&mut *of("sysctl", &settings), support::at(directory.path()));
    let found = run();
    assert!(found.text.is_empty() && found.example.contains("own network namespace"), "{}", found.example);
    // One namespace has one file.
    let (host, own) = (directory.path().join("proc/1/net"), directory.path().join("proc/net"));
    fs::create_dir(&host).unwrap();
    fs::create_dir(&own).unwrap();
    fs::write(host.join("dev"), "").unwrap();
    fs::hard_link(host.join("dev"), own.join("dev")).unwrap();
    assert!(run().text.ends_with("\nnode_sysctl_net_core_rmem_max 212992\n"));
}

#[test]
fn filters_and_zeros() {
    let interrupts = |given: &[(&str, &str)]| {
        let settings = support::settings(given);
        support::run(&mut *of("interrupts", &settings), support::recorded(BY_HAND)).text
    };
    let text = interrupts(&[("collector.interrupts.include-zeros", "false")]);
    assert!(!text.contains("NMI") && text.contains("type=\"24\"") && !text.lines().any(|line| line.ends_with(" 0")), "{text}");
    // The pattern sees type, info and devices.
    let text = interrupts(&[("collector.interrupts.name-include", "^1;IO-APIC;1-edge i8042$")]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!interrupts(&[("collector.interrupts.name-exclude", "Rescheduling")]).contains("IPI0"));

    let slabs = |given: &[(&str, &str)]| support::run(&mut *of("slabinfo", &support::settings(given)), support::recorded(BY_HAND)).text;
    let text = slabs(&[("collector.slabinfo.slabs-include", "e"), ("collector.slabinfo.slabs-exclude", "^ext4")]);
    assert!(text.contains("dentry") && !text.contains("ext4"), "{text}");
}

/// Whatever one of the files has in it, no collector panics, and what it writes is an exposition. Links are left alone: that of `etc/os-release` is absolute, and
/// who writes through it writes the machine's own.
#[test]
fn any_file_may_have_anything_in_it() {
    fn files(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            // Links are not followed: that of os-release leads to this machine's own file, which is not to be written.
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                files(&entry.path(), found)
            } else if kind.is_file() {
                found.push(entry.path())
            }
        }
    }
    let directory = copy();
    let mut all = Vec::new();
    files(directory.path(), &mut all);
    all.sort();
    assert!(all.iter().all(|path| path.canonicalize().unwrap().starts_with(directory.path().canonicalize().unwrap())));
    let words = "([a-zA-Z0-9:_/,()= \\-]{0,12}[ \n]){0,60}".prop_map(String::into_bytes);
    proptest!(ProptestConfig::with_cases(24), |(which: prop::sample::Index, bytes in prop_oneof![any::<Vec<u8>>(), words])| {
        let path = which.get(&all);
        let before = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        for (name, _) in COLLECTORS {
            support::check_exposition(&support::run(&mut *built(name), support::at(directory.path())).text);
        }
        fs::write(path, before).unwrap();
    });
}
