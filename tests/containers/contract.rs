//! cAdvisor's families as a contract: of each that is written, type, labels and help text are those of the list, and each that is not stands here with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use skep::containers::Groups;

use crate::exposition::{copy, copy_into};
use crate::recording::{collector_of, fixtures, golden, inventory, reader, scrape, value};

/// Families of cAdvisor that are never written, and why.
const NOT_WRITTEN: [(&str, &str); 17] = [
    (
        "container_cpu_load_average_10s",
        "needs taskstats over netlink and CAP_NET_ADMIN; 0 in cAdvisor by default; pressure tells it better",
    ),
    ("container_cpu_load_d_average_10s", "as container_cpu_load_average_10s"),
    ("container_custom_app_metric_1", "of an example in cAdvisor's tests"),
    ("container_custom_app_metric_2", "of an example in cAdvisor's tests"),
    ("container_custom_app_metric_3", "of an example in cAdvisor's tests"),
    ("container_llc_occupancy_bytes", "resctrl: takes writing to the host"),
    ("container_memory_bandwidth_bytes", "resctrl: takes writing to the host"),
    ("container_memory_bandwidth_local_bytes", "resctrl: takes writing to the host"),
    ("container_perf_events_scaling_ratio", "perf: takes CAP_PERFMON"),
    ("container_perf_events_total", "perf: takes CAP_PERFMON"),
    ("container_perf_uncore_events_scaling_ratio", "perf: takes CAP_PERFMON"),
    ("container_perf_uncore_events_total", "perf: takes CAP_PERFMON"),
    ("container_referenced_bytes", "takes writing to clear_refs, and slows the container down"),
    ("machine_nvm_avg_power_budget_watts", "told by the modules' firmware over ioctl only, to root"),
    // Read apart from the scrape, and not in these trees.
    ("container_fs_inodes_free", "disk usage"),
    ("container_fs_inodes_total", "disk usage"),
    ("container_fs_limit_bytes", "disk usage"),
];

/// Families in cAdvisor's name space that are skep's own, or that cAdvisor's list lacks.
const BEYOND: [(&str, &str); 20] = [
    ("container_state_status", "from the engine"),
    ("container_state_health_status", "from the engine"),
    ("container_restartcount", "from the engine"),
    ("container_last_exit_code", "from the engine"),
    ("container_finish_time_seconds", "from the engine"),
    ("container_state_oomkilled", "from the engine"),
    ("container_spec_cpu_limit_cores", "from the engine"),
    ("container_info", "from the engine"),
    ("container_exits_total", "how its runs ended"),
    ("container_exited_cpu_seconds_total", "of containers that ended"),
    ("container_exited_oom_kills_total", "of containers that ended"),
    ("container_exited_total", "of containers that ended"),
    ("container_network_info", "the network of an interface"),
    ("container_spec_memory_limit_bytes", "cAdvisor's, where a container has a limit"),
    ("container_spec_memory_swap_limit_bytes", "cAdvisor's, where a container has a limit"),
    ("container_spec_memory_reservation_limit_bytes", "cAdvisor's, where a container has a limit"),
    ("container_cpu_cfs_throttled_periods_ratio", "the share that everybody computes"),
    ("container_memory_shmem_bytes", "part of the cache that cannot be given back"),
    ("container_memory_slab_reclaimable_bytes", "part of the working set that can be given back"),
    ("container_memory_slab_unreclaimable_bytes", "part of the working set that cannot"),
];

/// Type, help text and the names of a sample's own labels.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The scrape with every group on, of v1 and of v2.
async fn everything() -> (String, String) {
    let v1 = copy(&fixtures().join("v1"));
    copy_into(&fixtures().join("groups"), v1.path());
    open_files(v1.path());
    let v2 = copy(&fixtures().join("v2-by-hand"));
    copy_into(&fixtures().join("groups-v2"), v2.path());
    copy_into(&fixtures().join("groups/sys/kernel"), &v2.path().join("sys/kernel"));
    copy_into(&fixtures().join("v1/proc"), &v2.path().join("proc"));
    let inventory = inventory(None).await;
    let [v1, v2] = [v1, v2].map(|directory| {
        let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
        let mut collector = collector_of(inventory.clone(), Groups::all());
        let (text, _, _) = scrape(&mut collector, &mut host);
        assert_eq!(scrape(&mut collector, &mut host).0, text, "a second scrape tells the same");
        text
    });
    (v1, v2)
}

/// Links to sockets lead nowhere, so they are no part of the recording.
fn open_files(directory: &Path) {
    for (pid, files) in [("31580", &["/dev/null", "pipe:[1]", "socket:[2]"][..]), ("31581", &["/dev/null", "socket:[2]", "socket:[3]"])] {
        let folder = directory.join("proc").join(pid).join("fd");
        std::fs::create_dir(&folder).unwrap();
        for (number, target) in files.iter().enumerate() {
            std::os::unix::fs::symlink(target, folder.join(number.to_string())).unwrap();
        }
    }
}

#[tokio::test]
async fn every_family_is_the_contract_s_or_stands_in_a_table() {
    let contract = contract(&std::fs::read_to_string(fixtures().join("contract.tsv")).unwrap());
    let (v1, v2) = everything().await;
    let mut written = BTreeSet::new();
    for text in [&v1, &v2] {
        for (name, family) in families(text) {
            written.insert(name.clone());
            match contract.get(&name) {
                Some(expected) => assert_eq!(&family, expected, "{name}"),
                None => assert!(BEYOND.iter().any(|(known, _)| *known == name), "{name} is neither cAdvisor's nor in the table of our own"),
            }
        }
    }
    for name in contract.keys() {
        // Whose numbers are read apart, slowly.
        if name == "container_fs_usage_bytes" {
            continue;
        }
        let excused = NOT_WRITTEN.iter().any(|(known, _)| known == name);
        assert_ne!(excused, written.contains(name), "{name}: written, and in the table of those that are not, or neither");
    }
    for (name, why) in NOT_WRITTEN.iter().chain(&BEYOND) {
        assert!(!why.is_empty());
        assert_eq!(contract.contains_key(*name), NOT_WRITTEN.iter().any(|(known, _)| known == name), "{name} is in the wrong table");
    }
}

#[tokio::test]
async fn every_group_on_v1() {
    let (text, _) = everything().await;
    golden("containers-v1-all.prom", &text);
    let web = |family: &str, labels: &[&str]| value(&text, family, &[&["name=\"web\""], labels].concat());
    assert_eq!(web("container_hugetlb_usage_bytes", &["pagesize=\"2MB\""]), Some(4_194_304.0));
    assert_eq!(web("container_hugetlb_failcnt", &["pagesize=\"2MB\""]), Some(3.0));
    assert_eq!(web("container_memory_numa_pages", &["node=\"0\"", "scope=\"container\"", "type=\"anon\""]), Some(39.0));
    assert_eq!(web("container_network_tcp_usage_total", &["tcp_state=\"established\""]), Some(2.0));
    assert_eq!(web("container_network_tcp6_usage_total", &["tcp_state=\"listen\""]), Some(1.0));
    assert_eq!(web("container_network_udp_usage_total", &["udp_state=\"rxqueued\""]), Some(7680.0));
    assert!(web("container_network_advance_tcp_stats_total", &["tcp_state=\"tcptimeouts\""]).is_some());
    assert_eq!(web("container_file_descriptors", &[]), Some(6.0));
    assert_eq!(web("container_sockets", &[]), Some(3.0));
    assert_eq!(web("container_tasks_state", &["state=\"running\""]), Some(1.0));
    assert_eq!(web("container_tasks_state", &["state=\"sleeping\""]), Some(2.0));
    assert_eq!(web("container_fs_read_seconds_total", &["device=\"8:0\""]), Some(1.5));
    assert_eq!(web("container_fs_io_time_weighted_seconds_total", &["device=\"8:0\""]), Some(0.625));
    assert_eq!(web("container_blkio_device_usage_total", &["device=\"8:0\"", "operation=\"Total\""]), Some(1_228_800.0));
    // The host's disks, whole ones only, in seconds, under its own id.
    let disk = |family: &str, device: &str| value(&text, family, &["id=\"/\"", &format!("device=\"/dev/{device}\"")]);
    assert_eq!(disk("container_fs_io_time_seconds_total", "nvme0n1"), Some(222.766));
    assert_eq!(disk("container_fs_read_seconds_total", "mmcblk0"), Some(0.156));
    assert_eq!(disk("container_fs_sector_writes_total", "md127"), Some(24.0));
    for none in ["nvme0n1p1", "vda1", "loop0", "sda"] {
        assert_eq!(disk("container_fs_reads_total", none), None, "{none}");
    }
    assert!(value(&text, "container_network_receive_bytes_total", &["{interface=\"eth0\",id=\"/\"}"]).is_some());
    assert_eq!(value(&text, "machine_dimm_capacity_bytes", &["type=\"Registered-DDR4\""]), Some(34_359_738_368.0));
    assert_eq!(value(&text, "machine_cpu_cache_capacity_bytes", &["core_id=\"\"", "level=\"3\""]), Some(33_554_432.0));
    assert_eq!(value(&text, "machine_cpu_physical_cores", &[]), Some(2.0));
    // A network that is the host's is not counted again.
    assert!(!text.lines().any(|line| line.starts_with("container_network") && line.contains("name=\"hostnet\"")));
}

#[tokio::test]
async fn every_group_on_v2() {
    let (_, text) = everything().await;
    golden("containers-v2-all.prom", &text);
    let web = |family: &str, labels: &[&str]| value(&text, family, &[&["name=\"web\""], labels].concat());
    assert_eq!(web("container_hugetlb_usage_bytes", &["pagesize=\"2MB\""]), Some(4_194_304.0));
    assert_eq!(web("container_hugetlb_failcnt", &["pagesize=\"2MB\""]), Some(3.0));
    assert_eq!(web("container_memory_numa_pages", &["node=\"1\"", "scope=\"hierarchy\"", "type=\"anon\""]), Some(4.0));
    assert_eq!(web("container_fs_io_cost_indelay_seconds_total", &[]), Some(0.031_25));
    assert_eq!(web("container_blkio_device_usage_total", &["operation=\"Discard\""]), Some(512.0));
    assert_eq!(web("container_memory_slab_reclaimable_bytes", &[]), Some(20_480.0));
    assert_eq!(web("container_cpu_cfs_throttled_periods_ratio", &[]).map(|share| (share * 100.0).round()), Some(70.0));
    // What v2 does not tell, and what nobody counted, is not 0 but absent.
    assert_eq!(web("container_hugetlb_max_usage_bytes", &["pagesize=\"2MB\""]), None);
    assert_eq!(web("container_memory_migrate", &[]), None);
    assert_eq!(web("container_fs_io_current", &[]), None);
}

#[tokio::test]
async fn groups_that_are_off_read_and_write_nothing() {
    let (text, _) = everything().await;
    let directory = copy(&fixtures().join("v1"));
    copy_into(&fixtures().join("groups"), directory.path());
    open_files(directory.path());
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let of = |groups: Groups, host: &mut skep::host::Reader, inventory| families(&scrape(&mut collector_of(inventory, groups), host).0);
    let inventory = inventory(None).await;
    let none = of(Groups::default(), &mut host, inventory.clone());
    let all = families(&text);
    let optional: BTreeSet<&String> = all.keys().filter(|name| !none.contains_key(*name)).collect();
    assert_eq!(optional.len(), 21, "{optional:?}");
    let mut seen = BTreeSet::new();
    for name in Groups::all().names() {
        let one = of(Groups::of(&[name]).unwrap(), &mut host, inventory.clone());
        let added: Vec<String> = one.into_keys().filter(|family| !none.contains_key(family)).collect();
        assert!(!added.is_empty(), "{name}");
        for family in added {
            assert!(seen.insert(family.clone()), "{family} is of two groups");
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), optional);
}

#[tokio::test]
async fn odd_files_of_groups_cost_themselves() {
    let directory = copy(&fixtures().join("v1"));
    copy_into(&fixtures().join("groups"), directory.path());
    let proc = directory.path().join("proc/31580");
    let web = "docker/490b5cf3381c77b97a686975f5d9261628927e4ef055b4484f9b2f8aa9e43e42";
    let cgroup = directory.path().join("sys/fs/cgroup");
    std::fs::write(proc.join("net/tcp"), "heading\ngarbage\n   0: 00000000:1F90 00000000:0000 0A 0:0\n").unwrap();
    std::fs::write(proc.join("net/snmp"), "Tcp: A B\nTcp: 1\n").unwrap();
    std::fs::write(proc.join("limits"), "").unwrap();
    std::fs::write(proc.join("task/31580/schedstat"), "1 2").unwrap();
    std::fs::write(cgroup.join("memory").join(web).join("memory.numa_stat"), "file=\nanon=3 N0=3 Nx=4\n").unwrap();
    std::fs::write(cgroup.join("hugetlb").join(web).join("hugetlb.2MB.usage_in_bytes"), "").unwrap();
    std::fs::write(directory.path().join("proc/diskstats"), "odd\n 259 0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11\n").unwrap();
    let mut host = reader(&directory.path().join("proc"), &directory.path().join("sys"));
    let (text, odd, _) = scrape(&mut collector_of(inventory(None).await, Groups::all()), &mut host);
    assert!(odd >= 6, "{odd}");
    let web = |family: &str, labels: &[&str]| value(&text, family, &[&["name=\"web\""], labels].concat());
    assert_eq!(web("container_network_tcp_usage_total", &["tcp_state=\"listen\""]), Some(1.0));
    assert!(web("container_network_advance_tcp_stats_total", &["tcp_state=\"rtomin\""]).is_none());
    assert!(web("container_network_advance_tcp_stats_total", &["tcp_state=\"tcptimeouts\""]).is_some());
    assert!(web("container_ulimits_soft", &[]).is_none());
    assert!(web("container_cpu_schedstat_run_seconds_total", &[]).is_some());
    assert_eq!(web("container_memory_numa_pages", &[]), Some(3.0));
    assert!(web("container_hugetlb_usage_bytes", &["2MB"]).is_none() && web("container_hugetlb_failcnt", &["2MB"]).is_some());
    assert_eq!(value(&text, "container_fs_reads_total", &["id=\"/\""]), Some(1.0));
    // None of the container's processes has a folder of open files in this tree: no number, and not 0.
    assert!(web("container_network_tcp6_usage_total", &["tcp_state=\"listen\""]).is_some());
}

/// The list beside this test is the contract's own.
#[test]
#[ignore = "needs a list of cAdvisor's families at SKEP_CADVISOR_FAMILIES; tests/run conformance has it"]
fn the_list_is_the_contract() {
    let theirs = std::fs::read_to_string(std::env::var("SKEP_CADVISOR_FAMILIES").unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(fixtures().join("contract.tsv")).unwrap(), theirs);
}

/// Lines `family<tab>type<tab>own labels with commas<tab>help`, under a heading.
fn contract(text: &str) -> BTreeMap<String, Family> {
    let line = |line: &str| {
        let [name, kind, labels, help] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (name.to_owned(), Family { kind: kind.to_owned(), help: help.to_owned(), labels })
    };
    text.lines().skip(1).map(line).collect()
}

/// The families of an exposition; all samples of one must have the same labels of their own.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    let (mut help, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            help = head.split_once(' ').unwrap().1;
        } else if let Some(head) = line.strip_prefix("# TYPE ") {
            kind = head.split_once(' ').unwrap().1;
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = own_labels(line);
            match found.get(name) {
                Some(family) => assert_eq!(family.labels, labels, "{line}"),
                None => drop(found.insert(name.to_owned(), Family { kind: kind.to_owned(), help: help.to_owned(), labels })),
            }
        }
    }
    found
}

/// The names of a sample's labels but those that say whose it is.
fn own_labels(line: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = line.split_once('{').map_or("", |(_, rest)| rest);
    while let Some((name, value)) = rest.split_once("=\"") {
        let name = name.trim_start_matches(',');
        if !["id", "name", "image"].contains(&name) && !name.starts_with("container_label_") {
            names.insert(name.to_owned());
        }
        let mut escaped = false;
        let end = value.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        rest = value.split_at(end.unwrap() + 1).1;
    }
    names
}
