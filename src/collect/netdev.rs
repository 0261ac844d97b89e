//! `node_network_{receive,transmit}_*` from the host's `net/dev`, and whether it is the host's.

use std::collections::HashMap;

use super::filter::Filter;
use super::interfaces::{self, Interfaces};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, addresses, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{NetSource, Reader, parse, rtnetlink};
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
const NETLINK: Flag = Flag::new(
    "collector.netdev.netlink",
    FlagKind::Switch,
    Some("true"),
    "Ask the kernel where procfs has no net/dev; where it has one, that is read, for it is the host's and netlink shows the agent's own namespace.",
);
const DETAILED: Flag = Flag::new(
    "collector.netdev.enable-detailed-metrics",
    FlagKind::Switch,
    Some("false"),
    "Export what the kernel counts under its own names instead of the sums of net/dev.",
);
const ALIAS: Flag = Flag::new("collector.netdev.label-ifalias", FlagKind::Switch, Some("false"), "Add the label ifalias.");
const ADDRESSES: Flag = Flag::new(
    "collector.netdev.address-info",
    FlagKind::Switch,
    Some("false"),
    "Export the interfaces' addresses; those of IPv4 only where the agent runs in the host's network namespace.",
);

pub(super) const ENTRY: Entry = entry!("netdev", on, &[INCLUDE, EXCLUDE, NETLINK, DETAILED, ALIAS, ADDRESSES], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let filter = Filter::of(settings, &INCLUDE, &EXCLUDE)?;
    Ok(Box::new(NetDev {
        interfaces: Interfaces::of(settings, filter)?,
        netlink: settings.is_on(NETLINK.name),
        detailed: settings.is_on(DETAILED.name),
        alias: settings.is_on(ALIAS.name),
        addresses: settings.is_on(ADDRESSES.name),
        devices: HashMap::new(),
        rows: Vec::new(),
        pass: 0,
    }))
}

/// A family: name and help.
type Column = (&'static str, &'static str);

macro_rules! column {
    ($key:literal) => {
        (concat!("node_network_", $key, "_total"), concat!("Network device statistic ", $key, "."))
    };
}

/// The sums of `net/dev` in the order of the kernel's `net/core/net-procfs.c`: what is received, then what is sent; and what came for nobody, which has a
/// file of its own.
const SUMS: [Column; parse::INTERFACE_COLUMNS + 1] = [
    column!("receive_bytes"),
    column!("receive_packets"),
    column!("receive_errs"),
    column!("receive_drop"),
    column!("receive_fifo"),
    column!("receive_frame"),
    column!("receive_compressed"),
    column!("receive_multicast"),
    column!("transmit_bytes"),
    column!("transmit_packets"),
    column!("transmit_errs"),
    column!("transmit_drop"),
    column!("transmit_fifo"),
    column!("transmit_colls"),
    column!("transmit_carrier"),
    column!("transmit_compressed"),
    column!("receive_nohandler"),
];
const NOHANDLER: usize = parse::INTERFACE_COLUMNS;

/// What the kernel counts, in the order of `struct rtnl_link_stats64` (`include/uapi/linux/if_link.h`), and the names of the files in sysfs' `statistics`.
const COUNTED: [Column; 24] = [
    column!("receive_packets"),
    column!("transmit_packets"),
    column!("receive_bytes"),
    column!("transmit_bytes"),
    column!("receive_errors"),
    column!("transmit_errors"),
    column!("receive_dropped"),
    column!("transmit_dropped"),
    column!("multicast"),
    column!("collisions"),
    column!("receive_length_errors"),
    column!("receive_over_errors"),
    column!("receive_crc_errors"),
    column!("receive_frame_errors"),
    column!("receive_fifo_errors"),
    column!("receive_missed_errors"),
    column!("transmit_aborted_errors"),
    column!("transmit_carrier_errors"),
    column!("transmit_fifo_errors"),
    column!("transmit_heartbeat_errors"),
    column!("transmit_window_errors"),
    column!("receive_compressed"),
    column!("transmit_compressed"),
    column!("receive_nohandler"),
];
const FILES: [&str; COUNTED.len()] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
];

/// As many as either of the two has.
type Numbers = [Option<u64>; COUNTED.len()];

struct NetDev {
    interfaces: Interfaces,
    netlink: bool,
    detailed: bool,
    alias: bool,
    addresses: bool,
    devices: HashMap<Box<[u8]>, Device>,
    rows: Vec<Row>,
    pass: u64,
}

/// What is kept of an interface between scrapes.
struct Device {
    labels: LabelSet,
    alias: Box<str>,
    nohandler: String,
    seen: u64,
}

/// What is known of an interface in this scrape.
struct Row {
    device: Box<[u8]>,
    numbers: Numbers,
}

impl Collector for NetDev {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let deadline = pass.deadline;
        let (host, out, odd) = pass.split();
        self.pass += 1;
        let mut rows = std::mem::take(&mut self.rows);
        let mut count = 0;
        let mut has_bridge = false;
        let source = match host.interfaces() {
            Ok((source, bytes)) => {
                for interface in parse::interfaces(bytes) {
                    match interface {
                        Ok((name, columns)) => {
                            has_bridge |= Interfaces::has_bridge(std::iter::once(name));
                            let mut numbers = Numbers::default();
                            for (slot, number) in numbers.iter_mut().zip(columns) {
                                *slot = Some(number);
                            }
                            self.put(&mut rows, &mut count, name, numbers, odd);
                        }
                        Err(line) => odd.line("net/dev", line),
                    }
                }
                Some(source)
            }
            // A procfs that is there and has no net/dev is no kernel's with a network. Whose namespace netlink shows, nothing tells.
            Err(error) if self.netlink && error.is_absent() => {
                let read = rtnetlink::dump(rtnetlink::LINKS, deadline, |body| {
                    if let (Some((_, name)), Some(counted)) = (rtnetlink::link(body), counted(body)) {
                        has_bridge |= Interfaces::has_bridge(std::iter::once(name));
                        self.put(&mut rows, &mut count, name, if self.detailed { counted } else { sums(&counted) }, odd);
                    }
                });
                if read.is_err() {
                    return Err(error.into());
                }
                None
            }
            Err(error) => {
                // The addresses are in other files.
                if self.addresses {
                    addresses::write(pass, &self.interfaces);
                }
                return Err(error.into());
            }
        };
        rows.truncate(count);

        // sysfs shows the namespace of whoever mounted it. Where net/dev is this process' own and the trees are the host's, the two do not fit together.
        let has_sysfs = source.is_some_and(|source| source == NetSource::Host || !host.root().is_mounted());
        if has_sysfs {
            if has_bridge {
                rows.retain(|row| !self.interfaces.is_containers(host, &row.device));
            }
            for row in &mut rows {
                if let Some(device) = self.devices.get_mut(&row.device) {
                    row.complete(device, host, self.detailed, self.alias, odd);
                }
            }
        } else if self.detailed && source.is_some() {
            odd.tell(&"net/dev is of another namespace than sysfs, which alone has the detailed numbers");
            rows.clear();
        }
        self.devices.retain(|_, device| device.seen == self.pass);

        let columns: &[Column] = if self.detailed { &COUNTED } else { &SUMS };
        for (column, (name, help)) in columns.iter().enumerate() {
            let mut family = out.family(name, Kind::Counter, help);
            for row in &rows {
                if let (Some(device), Some(Some(number))) = (self.devices.get(&row.device), row.numbers.get(column)) {
                    family.sample_of(&device.labels, &[], *number);
                }
            }
        }
        self.rows = rows;
        if let Some(source) = source {
            let is_host = source == NetSource::Host && host.shows_host_processes();
            out.gauge("node_netns_host", "Whether the network metrics are of the host's namespace (1) or of the agent's own (0).", is_host);
        }
        if self.addresses {
            addresses::write(pass, &self.interfaces);
        }
        Ok(Presence::Present)
    }
}

impl NetDev {
    /// Puts an interface into the next row, when it is exported and not there yet.
    fn put(&mut self, rows: &mut Vec<Row>, count: &mut usize, name: &[u8], numbers: Numbers, odd: &mut Oddities) {
        if !self.interfaces.keeps(name) {
            return;
        }
        if !self.see(name) {
            odd.tell(&format_args!("net/dev: {:?} is there twice", parse::text(name)));
            return;
        }
        match rows.get_mut(*count) {
            // The interfaces stand in the same order as at the last scrape, so their names are there already.
            Some(row) => {
                if *row.device != *name {
                    row.device = name.into();
                }
                row.numbers = numbers;
            }
            None => rows.push(Row { device: name.into(), numbers }),
        }
        *count += 1;
    }

    /// Marks an interface as there; false when it was there already in this pass.
    fn see(&mut self, name: &[u8]) -> bool {
        if let Some(device) = self.devices.get_mut(name) {
            return std::mem::replace(&mut device.seen, self.pass) != self.pass;
        }
        let nohandler = format!("class/net/{}/statistics/rx_nohandler", interfaces::path_name(name));
        let labels = LabelSet::of([("device", &*parse::text(name))]);
        self.devices.insert(name.into(), Device { labels, alias: "".into(), nohandler, seen: self.pass });
        true
    }
}

impl Row {
    /// Adds what sysfs knows.
    fn complete(&mut self, device: &mut Device, host: &mut Reader, detailed: bool, alias: bool, odd: &mut Oddities) {
        if detailed {
            let name = interfaces::path_name(&self.device);
            for (slot, file) in self.numbers.iter_mut().zip(FILES) {
                *slot = match host.attribute(&format!("class/net/{name}/statistics/{file}")) {
                    Ok(bytes) => {
                        let number = parse::unsigned(bytes);
                        if number.is_none() {
                            odd.line(file, bytes);
                        }
                        number
                    }
                    // A kernel without it, or the interface went away.
                    Err(error) => {
                        if !error.is_absent() {
                            odd.tell(&error);
                        }
                        None
                    }
                };
            }
        } else if let Some(slot) = self.numbers.get_mut(NOHANDLER) {
            *slot = host.attribute(&device.nohandler).ok().and_then(parse::unsigned);
        }
        if alias {
            let file = format!("class/net/{}/ifalias", interfaces::path_name(&self.device));
            let alias = host.attribute(&file).map(|bytes| parse::text(bytes).into_owned()).unwrap_or_default();
            if !device.labels.contains("ifalias") || *device.alias != *alias {
                device.labels = LabelSet::of([("device", &*parse::text(&self.device)), ("ifalias", &*alias)]);
                device.alias = alias.into();
            }
        }
    }
}

/// What the kernel counted of an interface, in the order of [`COUNTED`].
fn counted(body: &[u8]) -> Option<Numbers> {
    let (_, statistics) = rtnetlink::attributes(body, rtnetlink::LINK_HEAD).find(|(kind, _)| *kind == rtnetlink::LINK_STATISTICS)?;
    let mut numbers = Numbers::default();
    // An older kernel's structure is shorter.
    for (slot, bytes) in numbers.iter_mut().zip(statistics.chunks_exact(8)) {
        *slot = rtnetlink::number(bytes, 0).map(u64::from_ne_bytes);
    }
    Some(numbers)
}

/// The sums that `net/dev` would have (`dev_seq_printf_stats` in the kernel's `net/core/net-procfs.c`), in the order of [`SUMS`].
fn sums(counted: &Numbers) -> Numbers {
    const PARTS: [&[usize]; SUMS.len()] = [
        &[2],
        &[0],
        &[4],
        &[6, 15],
        &[14],
        &[10, 11, 12, 13],
        &[21],
        &[8],
        &[3],
        &[1],
        &[5],
        &[7],
        &[18],
        &[9],
        &[17, 16, 20, 19],
        &[22],
        &[23],
    ];
    let mut numbers = Numbers::default();
    for (slot, parts) in numbers.iter_mut().zip(PARTS) {
        *slot = parts.iter().try_fold(0u64, |sum, part| Some(sum.wrapping_add((*counted.get(*part)?)?)));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sums_are_those_of_net_dev() {
        let counted: Numbers = std::array::from_fn(|index| Some(1 << index));
        let sums = sums(&counted);
        assert_eq!(sums[0], Some(1 << 2));
        assert_eq!(sums[3], Some((1 << 6) + (1 << 15)));
        assert_eq!(sums[14], Some((1 << 16) + (1 << 17) + (1 << 19) + (1 << 20)));
        // Each is in one sum.
        assert_eq!(sums.iter().flatten().sum::<u64>(), (1 << 24) - 1);
        assert_eq!(FILES.map(|file| file.replace("rx_", "receive_").replace("tx_", "transmit_")).as_slice(), COUNTED.map(key).as_slice());
    }

    fn key(column: Column) -> String {
        column.0.trim_start_matches("node_network_").trim_end_matches("_total").to_owned()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = counted(&bytes);
        }
    }
}
