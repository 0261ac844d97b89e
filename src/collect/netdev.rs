//! `node_network_{receive,transmit}_*` from the host's `net/dev`, and whether it is the host's.

use std::collections::HashMap;

use super::filter::Filter;
use super::interfaces::Interfaces;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{NetSource, parse};
use crate::model::{Kind, LabelSet};

const INCLUDE: Flag = Flag::new(
    "collector.netdev.device-include",
    FlagKind::One("REGEX"),
    None,
    "Interfaces to export; contradicts collector.netdev.device-exclude.",
)
.or(&["collector.netdev.device-whitelist"]);
const EXCLUDE: Flag = Flag::new(
    "collector.netdev.device-exclude",
    FlagKind::One("REGEX"),
    None,
    "Interfaces to leave out; contradicts collector.netdev.device-include.",
)
.or(&["collector.netdev.device-blacklist"]);
const CONTAINERS: Flag = Flag::new(
    "collector.netdev.container-interfaces",
    FlagKind::Switch,
    Some("false"),
    "Export the containers' veth interfaces too, which come and go with them.",
);
const NETLINK: Flag = Flag::new(
    "collector.netdev.netlink",
    FlagKind::Switch,
    Some("false"),
    "Understood because node_exporter has it, and without effect: the host's net/dev has the same sums, and netlink shows only the agent's own namespace.",
);

pub(super) const ENTRY: Entry = entry!("netdev", on, &[INCLUDE, EXCLUDE, CONTAINERS, NETLINK], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let filter = Filter::of(settings, &INCLUDE, &EXCLUDE)?;
    Ok(Box::new(NetDev {
        interfaces: Interfaces::new(filter, settings.is_on(CONTAINERS.name)),
        devices: HashMap::new(),
        rows: Vec::new(),
        pass: 0,
    }))
}

/// The columns in the order of the kernel's `net/core/net-procfs.c`: what is received, then what is sent.
const COLUMNS: [(&str, &str); parse::INTERFACE_COLUMNS] = [
    ("node_network_receive_bytes_total", "Network device statistic receive_bytes."),
    ("node_network_receive_packets_total", "Network device statistic receive_packets."),
    ("node_network_receive_errs_total", "Network device statistic receive_errs."),
    ("node_network_receive_drop_total", "Network device statistic receive_drop."),
    ("node_network_receive_fifo_total", "Network device statistic receive_fifo."),
    ("node_network_receive_frame_total", "Network device statistic receive_frame."),
    ("node_network_receive_compressed_total", "Network device statistic receive_compressed."),
    ("node_network_receive_multicast_total", "Network device statistic receive_multicast."),
    ("node_network_transmit_bytes_total", "Network device statistic transmit_bytes."),
    ("node_network_transmit_packets_total", "Network device statistic transmit_packets."),
    ("node_network_transmit_errs_total", "Network device statistic transmit_errs."),
    ("node_network_transmit_drop_total", "Network device statistic transmit_drop."),
    ("node_network_transmit_fifo_total", "Network device statistic transmit_fifo."),
    ("node_network_transmit_colls_total", "Network device statistic transmit_colls."),
    ("node_network_transmit_carrier_total", "Network device statistic transmit_carrier."),
    ("node_network_transmit_compressed_total", "Network device statistic transmit_compressed."),
];

type Numbers = [u64; COLUMNS.len()];

struct NetDev {
    interfaces: Interfaces,
    devices: HashMap<Box<[u8]>, Device>,
    rows: Vec<Row>,
    pass: u64,
}

/// What is kept of an interface between scrapes. The labels are taken out while its row is written.
struct Device {
    labels: LabelSet,
    nohandler: String,
    seen: u64,
}

/// What one line said.
struct Row {
    device: Box<[u8]>,
    numbers: Numbers,
    nohandler: Option<u64>,
}

impl Collector for NetDev {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (source, bytes) = host.net("dev")?;
        self.pass += 1;
        let mut rows = std::mem::take(&mut self.rows);
        let mut count = 0;
        for interface in parse::interfaces(bytes) {
            let (name, numbers) = match interface {
                Ok(interface) => interface,
                Err(line) => {
                    odd.line("net/dev", line);
                    continue;
                }
            };
            if !self.interfaces.keeps(name) {
                continue;
            }
            if !self.see(name) {
                odd.tell(&format_args!("net/dev: {:?} is there twice", parse::text(name)));
                continue;
            }
            match rows.get_mut(count) {
                // The interfaces stand in the same order as at the last scrape, so their names are there already.
                Some(row) => {
                    if *row.device != *name {
                        row.device = name.into();
                    }
                    row.numbers = numbers;
                }
                None => rows.push(Row { device: name.into(), numbers, nohandler: None }),
            }
            count += 1;
        }
        rows.truncate(count);
        self.devices.retain(|_, device| device.seen == self.pass);

        let is_host = source == NetSource::Host && host.shows_host_processes();
        // sysfs shows the namespace of whoever mounted it. Where net/dev is this process' own and the trees are the host's, the two do not fit together.
        let same_namespace = source == NetSource::Host || !host.root().is_mounted();
        for row in &mut rows {
            let file = self.devices.get(&row.device).filter(|_| same_namespace).map(|device| &*device.nohandler);
            row.nohandler = file.and_then(|file| host.sys(file).ok()).and_then(|bytes| parse::unsigned(parse::trimmed(bytes)));
        }

        for (column, (name, help)) in COLUMNS.iter().enumerate() {
            let mut family = out.family(name, Kind::Counter, help);
            for row in &rows {
                if let (Some(device), Some(number)) = (self.devices.get(&row.device), row.numbers.get(column)) {
                    family.sample_of(&device.labels, &[], *number);
                }
            }
        }
        let mut family = out.family("node_network_receive_nohandler_total", Kind::Counter, "Network device statistic receive_nohandler.");
        for row in &rows {
            if let (Some(device), Some(number)) = (self.devices.get(&row.device), row.nohandler) {
                family.sample_of(&device.labels, &[], number);
            }
        }
        self.rows = rows;
        out.gauge("node_netns_host", "Whether the network metrics are of the host's namespace (1) or of the agent's own (0).", is_host);
        Ok(Presence::Present)
    }
}

impl NetDev {
    /// Marks an interface as there; false when it was there already in this pass.
    fn see(&mut self, name: &[u8]) -> bool {
        if let Some(device) = self.devices.get_mut(name) {
            return std::mem::replace(&mut device.seen, self.pass) != self.pass;
        }
        let text = parse::text(name);
        // A name with a slash cannot be one of the kernel's, and must not lead out of the directory.
        let nohandler = format!("class/net/{}/statistics/rx_nohandler", text.replace('/', "!"));
        self.devices.insert(name.into(), Device { labels: LabelSet::of([("device", &*text)]), nohandler, seen: self.pass });
        true
    }
}
