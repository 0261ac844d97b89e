//! The collectors of the network, over a recording and over a tree made by hand of the kernel's documentation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use skep::collect::{self, Collector, Presence};

use crate::support::{self, Collected};

const COLLECTORS: [&str; 8] = ["arp", "bonding", "conntrack", "netclass", "network_route", "softnet", "tcpstat", "udp_queues"];
const BY_HAND: &str = "by-hand-net";

fn built(name: &str, given: &[(&str, &str)]) -> Box<dyn Collector> {
    let entry = collect::ENTRIES.iter().find(|entry| entry.name == name).unwrap();
    (entry.build)(&support::settings(given)).unwrap()
}

fn by_hand(name: &str, given: &[(&str, &str)]) -> Collected {
    support::run(&mut *built(name, given), support::recorded(BY_HAND))
}

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

fn copied() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(&support::path("fixtures/host").join(BY_HAND), directory.path());
    directory
}

/// Each collector with the number of things in the tree that it cannot understand, and which cost only themselves.
#[test]
fn trees_give_their_golden_files() {
    let odd = [
        ("arp", 1),
        ("bonding", 1),
        ("conntrack", 1),
        ("netclass", 1),
        ("network_route", 1),
        ("softnet", 1),
        ("tcpstat", 1),
        ("udp_queues", 1),
    ];
    for (name, odd) in odd {
        let mut collector = built(name, &[]);
        for (tree, odd) in [(BY_HAND, odd), ("microvm-6.18", 0)] {
            let first = support::run(&mut *collector, support::recorded(tree));
            let has_any = (tree, name) != ("microvm-6.18", "bonding");
            assert_eq!(first.result.unwrap() == Presence::Present, has_any, "{tree} {name}");
            assert_eq!(first.oddities, odd, "{tree} {name}: {}", first.example);
            support::check_exposition(&first.text);
            if has_any {
                support::golden(&format!("{tree}/{name}.prom"), &first.text);
            }
            // What is kept between scrapes changes nothing.
            let second = support::run(&mut *collector, support::recorded(tree));
            assert_eq!((second.text, second.oddities), (first.text, odd), "{tree} {name}");
        }
    }
}

#[test]
fn netdev_has_what_node_exporter_has_of_it() {
    let found = by_hand("netdev", &[("collector.netdev.enable-detailed-metrics", "true"), ("collector.netdev.label-ifalias", "true")]);
    support::check_exposition(&found.text);
    assert_eq!(found.oddities, 0, "{}", found.example);
    support::golden("by-hand-net/netdev-detailed.prom", &found.text);
    let found = by_hand("netdev", &[("collector.netdev.address-info", "true")]);
    support::check_exposition(&found.text);
    support::golden("by-hand-net/netdev.prom", &found.text);
}

#[test]
fn a_machine_without_these_things_is_absent_and_not_broken() {
    let bare = tempfile::tempdir().unwrap();
    fs::create_dir_all(bare.path().join("proc")).unwrap();
    fs::create_dir_all(bare.path().join("sys/class")).unwrap();
    fs::write(bare.path().join("proc/stat"), "cpu 1 2 3 4\n").unwrap();
    for name in COLLECTORS {
        let found = support::run(&mut *built(name, &[]), support::at(bare.path()));
        assert_eq!(found.result.unwrap(), Presence::Absent, "{name}");
        assert_eq!((found.oddities, &*found.text), (0, ""), "{name}");
    }
    // No tree at all is a fault.
    for name in COLLECTORS {
        let found = support::run(&mut *built(name, &[]), support::at(&bare.path().join("nothing")));
        assert!(found.result.err().unwrap().to_string().contains("mounted at"), "{name}");
    }
}

/// Where procfs has no net/dev, the kernel is asked for the interfaces of this process, and nobody says that they are the host's.
#[test]
fn without_net_dev_the_kernel_is_asked() {
    let directory = copied();
    fs::remove_file(directory.path().join("proc/1/net/dev")).unwrap();
    let found = support::run(&mut *built("netdev", &[("collector.netdev.device-include", "^lo$")]), support::at(directory.path()));
    // A sandbox may forbid the socket; then it is an error, as it always is without netlink.
    if found.result.is_ok() {
        support::check_exposition(&found.text);
        assert!(
            found.text.contains("node_network_receive_nohandler_total{device=\"lo\"} ") && !found.text.contains("node_netns_host"),
            "{}",
            found.text
        );
    }
    let found = support::run(&mut *built("netdev", &[("collector.netdev.netlink", "false")]), support::at(directory.path()));
    assert!(found.result.is_err() && found.text.is_empty());
}

#[test]
fn the_containers_interfaces_are_left_out_everywhere() {
    let directory = copied();
    let docker0 = directory.path().join("sys/class/net/docker0");
    fs::create_dir(&docker0).unwrap();
    symlink("../docker0", directory.path().join("sys/class/net/bond1/master")).unwrap();
    let net = directory.path().join("proc/1/net");
    for (file, line) in [
        ("arp", "192.0.2.9  0x1  0x2  02:00:5e:00:53:09  *  bond1\n"),
        ("dev", " bond1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\ndocker0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"),
        ("route", "bond1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"),
    ] {
        fs::write(net.join(file), fs::read_to_string(net.join(file)).unwrap() + line).unwrap();
    }
    for name in ["arp", "netclass", "netdev", "network_route"] {
        let with = |given: &[(&str, &str)]| support::run(&mut *built(name, given), support::at(directory.path())).text;
        let plain = with(&[]);
        assert!(plain.contains("device=\"eth0\"") && !plain.contains("bond1") && !plain.contains("vethab"), "{name}: {plain}");
        let all = with(&[("collector.interfaces.containers", "true")]);
        assert!(all.contains("device=\"bond1\""), "{name}: {all}");
        assert_eq!(all.contains("vethab"), name != "network_route", "{name}: {all}");
        let some = with(&[("collector.interfaces.include", "^bond")]);
        assert!(some.contains("device=\"bond1\"") && !some.contains("eth0"), "{name}: {some}");
        let others = with(&[("collector.interfaces.exclude", "^eth")]);
        assert!(!others.contains("eth0"), "{name}: {others}");
    }
    // A filter of one collector's is its own.
    let found = by_hand("netclass", &[("collector.netdev.device-exclude", "^eth"), ("collector.netclass.ignored-devices", "^bond")]);
    assert!(found.text.contains("eth0") && !found.text.contains("bond"));
}

/// A name that was given to another interface is not read from the files of the old one.
#[test]
fn an_interface_that_took_a_name_is_read_anew() {
    let directory = copied();
    let net = directory.path().join("sys/class/net");
    let mut collector = built("netclass", &[]);
    let found = support::run(&mut *collector, support::at(directory.path()));
    assert!(found.text.contains("node_network_iface_id{device=\"eth0\"} 2\n"));
    fs::rename(net.join("eth0"), net.join("wan0")).unwrap();
    fs::create_dir(net.join("eth0")).unwrap();
    for (file, text) in [("flags", "0x1003"), ("ifindex", "77"), ("operstate", "down")] {
        fs::write(net.join("eth0").join(file), text).unwrap();
    }
    let found = support::run(&mut *collector, support::at(directory.path()));
    for line in [
        "node_network_iface_id{device=\"eth0\"} 77\n",
        "node_network_up{device=\"eth0\"} 0\n",
        "node_network_iface_id{device=\"wan0\"} 2\n",
    ] {
        assert!(found.text.contains(line), "{line}{}", found.text);
    }
    fs::remove_dir_all(net.join("eth0")).unwrap();
    fs::write(net.join("wan0/mtu"), "9000\n").unwrap();
    let found = support::run(&mut *collector, support::at(directory.path()));
    assert!(!found.text.contains("eth0") && found.text.contains("node_network_mtu_bytes{device=\"wan0\"} 9000\n"));
}

#[test]
fn speed_that_nobody_knows_is_left_out_unless_asked_for() {
    assert!(!by_hand("netclass", &[]).text.contains("speed_bytes{device=\"bond"));
    let found = by_hand("netclass", &[("collector.netclass.ignore-invalid-speed", "false")]);
    assert!(found.text.contains("node_network_speed_bytes{device=\"bond1\"} -125000\n"));
}

/// `/proc/sys/net` is of the reader's namespace, and its count is taken only with the other files of that namespace.
#[test]
fn connections_are_the_hosts() {
    let directory = copied();
    let entries = || {
        let text = support::run(&mut *built("conntrack", &[]), support::at(directory.path())).text;
        text.lines().find(|line| line.starts_with("node_nf_conntrack_entries ")).unwrap().to_owned()
    };
    assert_eq!(entries(), "node_nf_conntrack_entries 165");
    fs::rename(directory.path().join("proc/1/net"), directory.path().join("proc/net")).unwrap();
    assert_eq!(entries(), "node_nf_conntrack_entries 0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever one of the files has in it, no collector panics, and what it writes is an exposition.
    #[test]
    fn any_file_may_have_anything_in_it(
        file in prop::sample::select(vec![
            "proc/1/net/arp", "proc/1/net/dev", "proc/1/net/softnet_stat", "proc/1/net/stat/nf_conntrack", "proc/1/net/tcp", "proc/1/net/udp",
            "proc/1/net/route", "proc/1/net/ipv6_route", "proc/1/net/if_inet6", "sys/class/net/bonding_masters", "sys/class/net/bond0/bonding/slaves",
            "sys/class/net/eth0/flags", "sys/class/net/eth0/operstate", "sys/class/net/eth0/speed", "sys/class/net/eth0/ifalias",
        ]),
        bytes in prop_oneof![any::<Vec<u8>>(), "([a-z0-9:_/ \\-]{0,12}[ \n]){0,60}".prop_map(String::into_bytes)],
    ) {
        let directory = copied();
        fs::write(directory.path().join(file), bytes).unwrap();
        for name in COLLECTORS.into_iter().chain(["netdev"]) {
            let found = support::run(&mut *built(name, &[("collector.netdev.address-info", "true")]), support::at(directory.path()));
            support::check_exposition(&found.text);
        }
    }
}
