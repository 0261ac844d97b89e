//! The collectors of a server's hardware over a tree made by hand from the kernel's documents, and over what drivers and firmware get wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use skep::collect::{self, Collector, Pass, Presence};
use skep::exposition::Writer;
use skep::host::Reader;

use crate::support;

const TREE: &str = "by-hand-hardware";

type Flags = &'static [(&'static str, &'static str)];

/// Collector, flags, golden file.
const CASES: [(&str, Flags, &str); 15] = [
    ("cpufreq", &[], "cpufreq"),
    ("cpufreq", &[("collector.cpu.info", "true")], "cpufreq-beside-cpuinfo"),
    ("dmi", &[], "dmi"),
    ("drm", &[], "drm"),
    ("edac", &[], "edac"),
    ("fibrechannel", &[], "fibrechannel"),
    ("hwmon", &[], "hwmon"),
    ("infiniband", &[], "infiniband"),
    ("pcidevice", &[], "pcidevice"),
    ("pcidevice", &[("collector.pcidevice.names", "true")], "pcidevice-names"),
    ("powersupplyclass", &[], "powersupplyclass"),
    ("rapl", &[], "rapl"),
    ("rapl", &[("collector.rapl.enable-zone-label", "true")], "rapl-zone-label"),
    ("thermal_zone", &[], "thermal_zone"),
    ("watchdog", &[], "watchdog"),
];

fn built(name: &str, flags: &[(&str, &str)]) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&support::settings(flags)).unwrap()
}

/// The exposition, without the place where this crate lies, which is in rapl's label `path`.
fn placeless(text: &str) -> String {
    text.replace(&format!("{}/", support::path("fixtures/host").display()), "")
}

/// A copy of these parts of the tree, links as they are.
fn copy_of(parts: &[&str]) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                symlink(fs::read_link(&from).unwrap(), &to).unwrap();
            } else if kind.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("sys/class")).unwrap();
    for part in parts {
        copy(&support::path("fixtures/host").join(TREE).join(part), &directory.path().join(part));
    }
    directory
}

#[test]
fn a_tree_made_by_hand_gives_its_golden_files() {
    for (name, flags, file) in CASES {
        let mut collector = built(name, flags);
        let first = support::run(&mut *collector, support::recorded(TREE));
        assert_eq!(first.result.unwrap(), Presence::Present, "{name}");
        assert_eq!(first.oddities, 0, "{name}: {}", first.example);
        support::check_exposition(&first.text);
        support::golden(&format!("{TREE}/{file}.prom"), &placeless(&first.text));
        // What is kept between scrapes changes nothing.
        let second = support::run(&mut *collector, support::recorded(TREE));
        assert_eq!(first.text, second.text, "{name}");
        assert_eq!(second.oddities, 0, "{name}: {}", second.example);
    }
}

#[test]
fn a_machine_without_the_hardware_is_absent_and_not_broken() {
    let bare = tempfile::tempdir().unwrap();
    fs::create_dir_all(bare.path().join("sys/class")).unwrap();
    fs::create_dir_all(bare.path().join("sys/devices/system/cpu/cpu0")).unwrap();
    for (name, flags, _) in CASES {
        let found = support::run(&mut *built(name, flags), support::at(bare.path()));
        assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
        assert_eq!((found.oddities, &*found.text), (0, ""), "{name}: {}", found.example);
    }
    // Classes that the kernel has and no device is in.
    for class in ["dmi/id", "drm", "fc_host", "hwmon", "infiniband", "power_supply", "powercap", "thermal", "watchdog"] {
        fs::create_dir_all(bare.path().join("sys/class").join(class)).unwrap();
    }
    fs::create_dir_all(bare.path().join("sys/devices/system/edac/mc/power")).unwrap();
    fs::create_dir_all(bare.path().join("sys/bus/pci/devices")).unwrap();
    for (name, flags, _) in CASES {
        let found = support::run(&mut *built(name, flags), support::at(bare.path()));
        assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
        assert_eq!((found.oddities, &*found.text), (0, ""), "{name}: {}", found.example);
    }
}

#[test]
fn without_sysfs_every_collector_fails() {
    let empty = tempfile::tempdir().unwrap();
    for (name, flags, _) in CASES {
        let found = support::run(&mut *built(name, flags), support::at(empty.path()));
        let error = found.result.err().unwrap_or_else(|| panic!("{name} did not fail"));
        assert!(error.to_string().contains("no sysfs is mounted at"), "{name}: {error}");
    }
}

/// Files that are spoiled, and the samples that go with each. Two ways to spoil: words where a number is, and a directory in place of the file.
const SPOILED: [(&str, &str, &[&str]); 12] = [
    ("cpufreq", "devices/system/cpu/cpu0/cpufreq/scaling_max_freq", &["node_cpu_scaling_frequency_max_hertz{cpu=\"0\"}"]),
    ("drm", "class/drm/card0/device/mem_info_vram_used", &["node_drm_memory_vram_used_bytes{card=\"card0\"}"]),
    ("edac", "devices/system/edac/mc/mc0/csrow0/ce_count", &["node_edac_csrow_correctable_errors_total{controller=\"0\",csrow=\"0\"}"]),
    ("fibrechannel", "class/fc_host/host0/statistics/rx_words", &["node_fibrechannel_rx_words_total{fc_host=\"host0\"}"]),
    ("hwmon", "class/hwmon/hwmon0/temp1_input", &["node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"}"]),
    (
        "infiniband",
        "class/infiniband/mlx5_0/ports/1/counters/port_rcv_packets",
        &["node_infiniband_port_packets_received_total{device=\"mlx5_0\",port=\"1\"}"],
    ),
    ("infiniband", "class/infiniband/mlx5_0/ports/1/rate", &["node_infiniband_rate_bytes_per_second{device=\"mlx5_0\",port=\"1\"}"]),
    (
        "pcidevice",
        "bus/pci/devices/0000:01:00.0/max_link_speed",
        &["node_pcidevice_max_link_transfers_per_second{segment=\"0000\",bus=\"01\",device=\"00\",function=\"0\"}"],
    ),
    ("powersupplyclass", "class/power_supply/BAT0/voltage_now", &["node_power_supply_voltage_volt{power_supply=\"BAT0\"}"]),
    ("rapl", "class/powercap/intel-rapl:0:0/energy_uj", &["node_rapl_core_joules_total"]),
    ("thermal_zone", "class/thermal/thermal_zone0/temp", &["node_thermal_zone_temp{zone=\"0\",type=\"x86_pkg_temp\"}"]),
    ("watchdog", "class/watchdog/watchdog0/timeout", &["node_watchdog_timeout_seconds{name=\"watchdog0\"}"]),
];

#[test]
fn an_odd_file_costs_itself_only_and_a_missing_one_is_none() {
    let samples = |text: &str| -> Vec<String> { text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect() };
    let directory = copy_of(&["sys"]);
    for (name, file, gone) in SPOILED {
        let file = directory.path().join("sys").join(file);
        let before = samples(&support::run(&mut *built(name, &[]), support::at(directory.path())).text);
        let mut expected = before.clone();
        expected.retain(|line| !gone.iter().any(|gone| line.starts_with(gone)));
        assert_eq!(expected.len() + 1, before.len(), "{name}");
        let right = fs::read(&file).unwrap();
        for spoil in [
            |file: &Path| fs::write(file, "\u{fffd} many\n").unwrap(),
            |file: &Path| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
        ] {
            spoil(&file);
            let found = support::run(&mut *built(name, &[]), support::at(directory.path()));
            assert_eq!(found.result.unwrap(), Presence::Present, "{name}");
            assert_eq!(found.oddities, 1, "{name}: {}", found.example);
            assert!(found.example.contains(file.file_name().unwrap().to_str().unwrap()), "{name}: {}", found.example);
            assert_eq!(samples(&found.text), expected, "{name}");
        }
        // A file that is not there is an attribute that the device does not have.
        fs::remove_dir(&file).unwrap();
        let found = support::run(&mut *built(name, &[]), support::at(directory.path()));
        assert_eq!((found.oddities, samples(&found.text)), (0, expected), "{name}: {}", found.example);
        fs::write(&file, right).unwrap();
    }
}

#[test]
fn filters_leave_out_chips_sensors_devices_and_supplies() {
    let run = |name: &str, flags: &[(&str, &str)]| {
        let found = support::run(&mut *built(name, flags), support::recorded(TREE));
        support::check_exposition(&found.text);
        found.text
    };
    let chips = run("hwmon", &[("collector.hwmon.chip-include", "^platform_(coretemp|twins)")]);
    assert!(chips.contains("platform_coretemp_0") && chips.contains("platform_twins_1_hwmon5") && !chips.contains("every"), "{chips}");
    let sensors = run("hwmon", &[("collector.hwmon.sensor-exclude", "coretemp_0;temp2$")]);
    assert!(!sensors.contains("chip=\"platform_coretemp_0\",sensor=\"temp2\"") && sensors.contains("sensor=\"temp1\""), "{sensors}");
    let devices = run("infiniband", &[("collector.infiniband.device-exclude", "^rxe")]);
    assert!(!devices.contains("rxe0") && devices.contains("mlx5_0"), "{devices}");
    let supplies = run("powersupplyclass", &[("collector.powersupply.ignored-supplies", "^BAT")]);
    assert!(!supplies.contains("BAT0") && supplies.contains("power_supply=\"AC\""), "{supplies}");
}

#[test]
fn chips_that_come_go_and_change_places_are_seen() {
    let directory = copy_of(&["sys/class/hwmon", "sys/devices/platform"]);
    let class = directory.path().join("sys/class/hwmon");
    let mut collector = built("hwmon", &[]);
    let mut run = || support::run(&mut *collector, support::at(directory.path())).text;
    assert!(run().contains("node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 41\n"));
    // The drivers are loaded anew, in another order.
    let (first, second): (PathBuf, PathBuf) = (fs::read_link(class.join("hwmon0")).unwrap(), fs::read_link(class.join("hwmon5")).unwrap());
    for (name, link) in [("hwmon0", second), ("hwmon5", first)] {
        fs::remove_file(class.join(name)).unwrap();
        symlink(link, class.join(name)).unwrap();
    }
    let swapped = run();
    support::check_exposition(&swapped);
    assert!(swapped.contains("node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 41\n"), "{swapped}");
    assert!(swapped.contains("node_hwmon_temp_celsius{chip=\"platform_twins_1_hwmon0\",sensor=\"temp1\"} 1\n"), "{swapped}");
    fs::remove_file(class.join("hwmon5")).unwrap();
    assert!(!run().contains("coretemp"));
}

#[test]
fn a_cpu_that_goes_offline_takes_its_samples_along() {
    let directory = copy_of(&["proc", "sys/devices/system/cpu"]);
    let mut collector = built("cpufreq", &[]);
    let before = support::run(&mut *collector, support::at(directory.path())).text;
    assert!(before.contains("cpu=\"1\"") && !before.contains("cpu=\"2\""), "{before}");
    fs::write(directory.path().join("sys/devices/system/cpu/offline"), "1,5-6\n").unwrap();
    let after = support::run(&mut *collector, support::at(directory.path())).text;
    assert!(!after.contains("cpu=\"1\"") && after.contains("cpu=\"2\""), "{after}");
}

#[test]
fn governors_change() {
    let directory = copy_of(&["proc", "sys/devices/system/cpu"]);
    let mut collector = built("cpufreq", &[]);
    let mut run = || support::run(&mut *collector, support::at(directory.path())).text;
    assert!(run().contains("node_cpu_scaling_governor{governor=\"powersave\",cpu=\"0\"} 1\n"));
    fs::write(directory.path().join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "performance\n").unwrap();
    let after = run();
    assert!(after.contains("node_cpu_scaling_governor{governor=\"powersave\",cpu=\"0\"} 0\n"), "{after}");
    assert!(after.contains("node_cpu_scaling_governor{governor=\"performance\",cpu=\"0\"} 1\n"), "{after}");
    // One that cannot be read is not said to be none of them.
    fs::remove_file(directory.path().join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).unwrap();
    let unknown = run();
    assert!(!unknown.contains(",cpu=\"0\"} 0") && unknown.contains("cpu=\"1\"} 1"), "{unknown}");
}

/// The family that two collectors write is in one exposition once, whatever is switched on.
#[test]
fn frequencies_have_one_writer() {
    const HEAD: &str = "# HELP node_cpu_frequency_hertz ";
    let arm = copy_of(&["proc", "sys/devices/system/cpu"]);
    fs::write(arm.path().join("proc/cpuinfo"), "processor\t: 0\nBogoMIPS\t: 50.00\n").unwrap();
    let x86 = support::path("fixtures/host").join(TREE);
    let cases: [(Flags, &Path, &str); 6] = [
        (&[], &x86, "cpufreq"),
        (&[("collector.cpu.info", "true")], &x86, "cpu"),
        (&[("collector.cpu.info.bugs-include", "x")], &x86, "cpu"),
        // Arm's file has no frequencies.
        (&[("collector.cpu.info", "true")], arm.path(), "cpufreq"),
        (&[("collector.cpu.info", "true"), ("collector.cpu", "false")], &x86, "cpufreq"),
        (&[("collector.cpu.info", "true"), ("collector.disable-defaults", "true"), ("collector.cpufreq", "true")], &x86, "cpufreq"),
    ];
    for (flags, tree, writer) in cases {
        let mut writers = Vec::new();
        for (name, mut collector) in collect::build(&support::settings(flags)).unwrap() {
            if ["cpu", "cpufreq"].contains(&name) && support::run(&mut *collector, support::at(tree)).text.contains(HEAD) {
                writers.push(name);
            }
        }
        assert_eq!(writers, [writer], "{flags:?}");
    }
}

#[test]
fn when_the_time_is_over_the_rest_is_left_out_and_told() {
    for name in ["cpufreq", "hwmon"] {
        let mut reader = Reader::new(std::sync::Arc::new(support::recorded(TREE)));
        let mut writer = Writer::new(std::sync::Arc::default());
        let mut pass = Pass::new(&mut reader, &mut writer).until(Instant::now());
        assert_eq!(built(name, &[]).collect(&mut pass).unwrap(), Presence::Present, "{name}");
        let (count, example) = pass.oddities();
        assert_eq!(count, 1, "{name}");
        assert!(example.contains("time is over"), "{name}: {example}");
        assert!(writer.text().is_empty(), "{name}");
    }
}

#[test]
fn names_of_pci_devices_without_a_file_are_numbers_and_told() {
    let flags: &[(&str, &str)] = &[("collector.pcidevice.names", "true"), ("collector.pcidevice.idsfile", "/nowhere/pci.ids")];
    let found = support::run(&mut *built("pcidevice", flags), support::recorded(TREE));
    assert_eq!(found.result.unwrap(), Presence::Present);
    assert_eq!(found.oddities, 1);
    assert!(found.example.contains("/nowhere/pci.ids"), "{}", found.example);
    assert!(found.text.contains("vendor_name=\"1234\",device_name=\"0001\""), "{}", found.text);
}
