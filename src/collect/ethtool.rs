//! `node_ethtool_*` and `node_network_*` of ethtool: what drivers say of their devices, by ioctl. Format: `include/uapi/linux/ethtool.h`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use regex::Regex;
use rustix::io::Errno;

use super::families::Families;
use super::filter::{self, Filter};
use super::interfaces::Interfaces;
use super::sockets::host_network_only;
use super::{CollectError, Collector, Entry, Pass, Presence, entry, names};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::netlink::{name, number32, number64};
use crate::host::parse;
use crate::host::sys::{Ethtool as Ask, ethtool, ethtool_socket};
use crate::model::Kind;
use crate::present;

const INCLUDE: Flag = Flag::new(
    "collector.ethtool.device-include",
    FlagKind::One("REGEX"),
    None,
    "Interfaces whose driver is asked; contradicts collector.ethtool.device-exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.ethtool.device-exclude",
    FlagKind::One("REGEX"),
    None,
    "Interfaces whose driver is not asked; contradicts collector.ethtool.device-include.",
);
const METRICS: Flag = Flag::new(
    "collector.ethtool.metrics-include",
    FlagKind::One("REGEX"),
    Some(".*"),
    "Statistics to export, by their names with _ for all that is no letter and no digit.",
);

pub(super) const ENTRY: Entry = entry!("ethtool", off, &[INCLUDE, EXCLUDE, METRICS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Ethtool::of(settings)?))
}

struct Ethtool {
    interfaces: Interfaces,
    metrics: Option<regex::bytes::Regex>,
    names: Names,
}

/// Makes names of metrics out of drivers' names.
struct Names {
    received: Regex,
    transmitted: Regex,
}

/// Statistics of many drivers, which have a name and a help of their own.
const COMMON: [(&str, &str, &str); 7] = [
    ("rx_bytes", "node_ethtool_received_bytes_total", "Network interface bytes received"),
    ("rx_dropped", "node_ethtool_received_dropped_total", "Number of received frames dropped"),
    ("rx_errors", "node_ethtool_received_errors_total", "Number of received frames with errors"),
    ("rx_packets", "node_ethtool_received_packets_total", "Network interface packets received"),
    ("tx_bytes", "node_ethtool_transmitted_bytes_total", "Network interface bytes sent"),
    ("tx_errors", "node_ethtool_transmitted_errors_total", "Number of sent frames with errors"),
    ("tx_packets", "node_ethtool_transmitted_packets_total", "Network interface packets sent"),
];

const INFO: &str = "node_ethtool_info";

/// Ports by the bits of a link mode mask.
const PORTS: [(usize, &str); 6] = [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

/// The help of the families of one mask: speeds, autonegotiation, pause frames, asymmetric pause frames.
struct Prefix {
    speeds: (&'static str, &'static str),
    abilities: [(usize, &'static str, &'static str); 3],
}

const SUPPORTED: Prefix = Prefix {
    speeds: ("node_network_supported_speed_bytes", "Combination of speeds and features supported by network device"),
    abilities: [
        (6, "node_network_autonegotiate_supported", "If this port device supports autonegotiate"),
        (13, "node_network_pause_supported", "If this port device supports pause frames"),
        (14, "node_network_asymmetricpause_supported", "If this port device supports asymmetric pause frames"),
    ],
};
const ADVERTISED: Prefix = Prefix {
    speeds: ("node_network_advertised_speed_bytes", "Combination of speeds and features offered by network device"),
    abilities: [
        (6, "node_network_autonegotiate_advertised", "If this port device offers autonegotiate"),
        (13, "node_network_pause_advertised", "If this port device offers pause capability"),
        (14, "node_network_asymmetricpause_advertised", "If this port device offers asymmetric pause capability"),
    ],
};

/// `ETHTOOL_LINK_MODE_*`: bit, megabits in a second, whether it is full duplex, mode. node_exporter reads the first 32 bits only, and so knows of nothing
/// faster than 56 gigabits.
#[rustfmt::skip]
const MODES: &[(usize, u64, bool, &str)] = &[
    (0, 10, false, "10baseT"),
    (1, 10, true, "10baseT"),
    (2, 100, false, "100baseT"),
    (3, 100, true, "100baseT"),
    (4, 1000, false, "1000baseT"),
    (5, 1000, true, "1000baseT"),
    (12, 10000, true, "10000baseT"),
    (15, 2500, true, "2500baseX"),
    (17, 1000, true, "1000baseKX"),
    (18, 10000, true, "10000baseKX4"),
    (19, 10000, true, "10000baseKR"),
    (20, 10000, true, "10000baseR_FEC"),
    (21, 20000, true, "20000baseMLD2"),
    (22, 20000, true, "20000baseKR2"),
    (23, 40000, true, "40000baseKR4"),
    (24, 40000, true, "40000baseCR4"),
    (25, 40000, true, "40000baseSR4"),
    (26, 40000, true, "40000baseLR4"),
    (27, 56000, true, "56000baseKR4"),
    (28, 56000, true, "56000baseCR4"),
    (29, 56000, true, "56000baseSR4"),
    (30, 56000, true, "56000baseLR4"),
    (31, 25000, true, "25000baseCR"),
    (32, 25000, true, "25000baseKR"),
    (33, 25000, true, "25000baseSR"),
    (34, 50000, true, "50000baseCR2"),
    (35, 50000, true, "50000baseKR2"),
    (36, 100000, true, "100000baseKR4"),
    (37, 100000, true, "100000baseSR4"),
    (38, 100000, true, "100000baseCR4"),
    (39, 100000, true, "100000baseLR4_ER4"),
    (40, 50000, true, "50000baseSR2"),
    (41, 1000, true, "1000baseX"),
    (42, 10000, true, "10000baseCR"),
    (43, 10000, true, "10000baseSR"),
    (44, 10000, true, "10000baseLR"),
    (45, 10000, true, "10000baseLRM"),
    (46, 10000, true, "10000baseER"),
    (47, 2500, true, "2500baseT"),
    (48, 5000, true, "5000baseT"),
    (52, 50000, true, "50000baseKR"),
    (53, 50000, true, "50000baseSR"),
    (54, 50000, true, "50000baseCR"),
    (55, 50000, true, "50000baseLR_ER_FR"),
    (56, 50000, true, "50000baseDR"),
    (57, 100000, true, "100000baseKR2"),
    (58, 100000, true, "100000baseSR2"),
    (59, 100000, true, "100000baseCR2"),
    (60, 100000, true, "100000baseLR2_ER2_FR2"),
    (61, 100000, true, "100000baseDR2"),
    (62, 200000, true, "200000baseKR4"),
    (63, 200000, true, "200000baseSR4"),
    (64, 200000, true, "200000baseLR4_ER4_FR4"),
    (65, 200000, true, "200000baseDR4"),
    (66, 200000, true, "200000baseCR4"),
    (67, 100, true, "100baseT1"),
    (68, 1000, true, "1000baseT1"),
    (69, 400000, true, "400000baseKR8"),
    (70, 400000, true, "400000baseSR8"),
    (71, 400000, true, "400000baseLR8_ER8_FR8"),
    (72, 400000, true, "400000baseDR8"),
    (73, 400000, true, "400000baseCR8"),
    (75, 100000, true, "100000baseKR"),
    (76, 100000, true, "100000baseSR"),
    (77, 100000, true, "100000baseLR_ER_FR"),
    (78, 100000, true, "100000baseCR"),
    (79, 100000, true, "100000baseDR"),
    (80, 200000, true, "200000baseKR2"),
    (81, 200000, true, "200000baseSR2"),
    (82, 200000, true, "200000baseLR2_ER2_FR2"),
    (83, 200000, true, "200000baseDR2"),
    (84, 200000, true, "200000baseCR2"),
    (85, 400000, true, "400000baseKR4"),
    (86, 400000, true, "400000baseSR4"),
    (87, 400000, true, "400000baseLR4_ER4_FR4"),
    (88, 400000, true, "400000baseDR4"),
    (89, 400000, true, "400000baseCR4"),
    (90, 100, false, "100baseFX"),
    (91, 100, true, "100baseFX"),
    (92, 10, true, "10baseT1L"),
    (93, 800000, true, "800000baseCR8"),
    (94, 800000, true, "800000baseKR8"),
    (95, 800000, true, "800000baseDR8"),
    (96, 800000, true, "800000baseDR8_2"),
    (97, 800000, true, "800000baseSR8"),
    (98, 800000, true, "800000baseVR8"),
];

/// Masks of link modes: words of 32 bits.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link {
    supported: Vec<u32>,
    advertised: Vec<u32>,
    autonegotiates: u8,
}

impl Collector for Ethtool {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let devices = present!(pass.host.sys_names("class/net"));
        host_network_only(pass.host, "the drivers of network devices")?;
        let socket = ethtool_socket().map_err(|error| CollectError::Other(format!("a socket to ask drivers with: {error}")))?;
        let mut families = Families::default();
        for device in devices.iter().filter(|device| self.interfaces.keeps(device.as_bytes())) {
            if self.interfaces.is_containers(pass.host, device.as_bytes()) {
                continue;
            }
            self.device(device, &mut |what| ethtool(socket.as_fd(), device, what), &mut families, pass);
        }
        Ok(families.write(pass.out))
    }
}

impl Ethtool {
    fn of(settings: &Settings) -> Result<Self, String> {
        let fixed = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            interfaces: Interfaces::of(settings, Filter::of(settings, &INCLUDE, &EXCLUDE)?)?,
            metrics: filter::pattern(settings, &METRICS)?,
            names: Names { received: fixed("(^|_)rx(_|$)")?, transmitted: fixed("(^|_)tx(_|$)")? },
        })
    }

    fn device(&self, device: &str, ask: &mut dyn FnMut(Ask) -> io::Result<Vec<u8>>, families: &mut Families, pass: &mut Pass<'_>) {
        // What a driver does not know, and a device that is gone since (or was none: `bonding_masters`), is nothing odd.
        let mut told = |answer: io::Result<Vec<u8>>| match answer {
            Ok(bytes) => Some(bytes),
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::NODEV)) => None,
            Err(error) => {
                pass.odd(&format_args!("{device}: {error}"));
                None
            }
        };
        if let Some(link) = told(link_settings(ask)).as_deref().and_then(link) {
            write_link(device, &link, families);
        } else if let Some(link) = told(ask(Ask::Settings)).as_deref().and_then(old_link) {
            write_link(device, &link, families);
        }
        if let Some(driver) = told(ask(Ask::Driver)) {
            write_driver(device, &driver, families);
            let some = number32(driver.get(180..).unwrap_or_default()).is_some_and(|count| count > 0);
            if some && let Some((names, values)) = told(ask(Ask::Names)).zip(told(ask(Ask::Values))) {
                self.write_statistics(device, &statistics(&names, &values), families);
            }
        }
    }

    fn write_statistics(&self, device: &str, statistics: &BTreeMap<String, u64>, families: &mut Families) {
        // Two names may become one. Nobody knows then which is meant, and both are left out.
        let mut named: BTreeMap<String, Option<(String, u64)>> = BTreeMap::new();
        for (raw, value) in statistics {
            let key = names::part(raw);
            if self.metrics.as_ref().is_some_and(|pattern| !pattern.is_match(key.as_bytes())) {
                continue;
            }
            let name = self.names.metric(&key);
            // A statistic that is called `info`, or nothing at all.
            if name == INFO || name == "node_ethtool_" {
                continue;
            }
            named.entry(name).and_modify(|known| *known = None).or_insert(Some((key, *value)));
        }
        for (name, found) in &named {
            let Some((key, value)) = found else { continue };
            match COMMON.iter().find(|(common, _, _)| common == key) {
                Some((_, name, help)) => families.add(name, Kind::Untyped, help, &[("device", device)], *value),
                None => families.add(name, Kind::Untyped, &format!("Network interface {key}"), &[("device", device)], *value),
            };
        }
    }
}

impl Names {
    fn metric(&self, key: &str) -> String {
        let lower = key.to_ascii_lowercase();
        let received = self.received.replace_all(lower.trim_start_matches('_'), "${1}received${2}");
        let both = self.transmitted.replace_all(&received, "${1}transmitted${2}");
        format!("node_ethtool_{both}")
    }
}

/// Asks twice: how many words the kernel's masks have, and for the masks.
fn link_settings(ask: &mut dyn FnMut(Ask) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let first = ask(Ask::LinkSettings(0))?;
    // The number comes back negative.
    let words = first.get(15).map_or(0, |words| words.cast_signed().saturating_neg());
    match u8::try_from(words) {
        Ok(words) if words > 0 => ask(Ask::LinkSettings(words)),
        _ => Err(Errno::OPNOTSUPP.into()),
    }
}

/// `struct ethtool_link_settings`.
fn link(answer: &[u8]) -> Option<Link> {
    let autonegotiates = *answer.get(11)?;
    let words = usize::from(*answer.get(15)?);
    let mask = |number: usize| -> Option<Vec<u32>> {
        let start = 48 + number * words * 4;
        answer.get(start..start + words * 4)?.chunks_exact(4).map(number32).collect()
    };
    (words > 0).then_some(())?;
    Some(Link { supported: mask(0)?, advertised: mask(1)?, autonegotiates })
}

/// `struct ethtool_cmd`.
fn old_link(answer: &[u8]) -> Option<Link> {
    Some(Link {
        supported: vec![number32(answer.get(4..)?)?],
        advertised: vec![number32(answer.get(8..)?)?],
        autonegotiates: *answer.get(18)?,
    })
}

fn has(mask: &[u32], bit: usize) -> bool {
    mask.get(bit / 32).is_some_and(|word| word >> (bit % 32) & 1 == 1)
}

fn write_link(device: &str, link: &Link, families: &mut Families) {
    let label = ("device", device);
    for (mask, prefix) in [(&link.supported, SUPPORTED), (&link.advertised, ADVERTISED)] {
        let (name, help) = prefix.speeds;
        for (_, speed, full, mode) in MODES.iter().filter(|(bit, ..)| has(mask, *bit)) {
            let duplex = if *full { "full" } else { "half" };
            // Bytes in a second.
            families.gauge(name, help, &[label, ("duplex", duplex), ("mode", mode)], speed * 125_000);
        }
        for (bit, name, help) in prefix.abilities {
            families.gauge(name, help, &[label], has(mask, bit));
        }
    }
    for (bit, port) in PORTS {
        if has(&link.supported, bit) {
            let help = "Type of ports or PHYs supported by network device";
            families.gauge("node_network_supported_port_info", help, &[label, ("type", port)], 1u64);
        }
    }
    families.gauge("node_network_autonegotiate", "If this port is using autonegotiate", &[label], u64::from(link.autonegotiates));
}

/// `struct ethtool_drvinfo`: five texts of 32 bytes behind the command.
fn write_driver(device: &str, answer: &[u8], families: &mut Families) {
    let text = |number: usize| ended(answer.get(4 + 32 * number..36 + 32 * number).unwrap_or_default());
    let labels = [
        ("bus_info", &*text(3)),
        ("device", device),
        ("driver", &*text(0)),
        ("expansion_rom_version", &*text(4)),
        ("firmware_version", &*text(2)),
        ("version", &*text(1)),
    ];
    let help = "A metric with a constant '1' value labeled by bus_info, device, driver, expansion_rom_version, firmware_version, version.";
    families.gauge(INFO, help, &labels, 1u64);
}

fn ended(bytes: &[u8]) -> String {
    parse::text(name(bytes)).into_owned()
}

/// `struct ethtool_gstrings` and `struct ethtool_stats`: as many as both have. Where a driver gives two of one name, the later counts.
fn statistics(names: &[u8], values: &[u8]) -> BTreeMap<String, u64> {
    let count = |answer: &[u8], at: usize| number32(answer.get(at..).unwrap_or_default()).unwrap_or_default();
    let count = usize::try_from(count(names, 8).min(count(values, 4))).unwrap_or_default();
    let names = names.get(12..).unwrap_or_default().chunks_exact(32).map(ended);
    let values = values.get(8..).unwrap_or_default().chunks_exact(8).filter_map(number64);
    names.zip(values).take(count).filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Writer;
    use crate::host::{Reader, Root};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn built(given: &[(&str, &str)]) -> Ethtool {
        let mut settings = Settings::default();
        for (name, value) in given {
            settings.set(name, vec![(*value).to_owned()]);
        }
        Ethtool::of(&settings).unwrap()
    }

    /// What a driver answers that has these statistics.
    fn answer(what: Ask, statistics: &[(&[u8], u64)]) -> io::Result<Vec<u8>> {
        let count = u32::try_from(statistics.len()).unwrap().to_ne_bytes();
        Ok(match what {
            Ask::Settings => return Err(Errno::OPNOTSUPP.into()),
            Ask::Driver => {
                let mut bytes = vec![0; 196];
                for (number, text) in [&b"virtio_net"[..], b"1.0.0", b"", b"0000:00:03.0", b"\xff"].iter().enumerate() {
                    bytes[4 + 32 * number..4 + 32 * number + text.len()].copy_from_slice(text);
                }
                bytes[180..184].copy_from_slice(&count);
                bytes
            }
            Ask::Names => {
                let padded = statistics.iter().flat_map(|(name, _)| name.iter().copied().chain(std::iter::repeat(0)).take(32));
                [vec![0; 8], count.to_vec(), padded.collect()].concat()
            }
            Ask::Values => {
                let values = statistics.iter().flat_map(|(_, value)| value.to_ne_bytes());
                [vec![0; 4], count.to_vec(), values.collect()].concat()
            }
            Ask::LinkSettings(words) => {
                let mut bytes = vec![0; 48];
                bytes[11] = 1;
                bytes[15] = if words == 0 { 3u8.wrapping_neg() } else { words };
                // Supported: 1000baseT full, autonegotiation, TP, pause, 100000baseKR4, 400000baseCR4. Advertised: the first of it.
                for word in [1 << 5 | 1 << 6 | 1 << 7 | 1 << 13, 1 << 4, 1 << 25, 1 << 5, 0, 0, 0, 0, 0u32] {
                    bytes.extend_from_slice(&word.to_ne_bytes());
                }
                bytes
            }
        })
    }

    fn written(collector: &Ethtool, ask: &mut dyn FnMut(Ask) -> io::Result<Vec<u8>>) -> (String, u64) {
        let mut reader = Reader::new(Arc::new(Root::find(None, None, None, None)));
        let mut out = Writer::new(Arc::default());
        let mut families = Families::default();
        let mut pass = Pass::new(&mut reader, &mut out);
        collector.device("eth0", ask, &mut families, &mut pass);
        families.write(pass.out);
        let odd = pass.oddities().0;
        (String::from_utf8(out.text().to_vec()).unwrap(), odd)
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn a_device_is_written() {
        let (text, odd) = written(&built(&[]), &mut |what| {
            answer(
                what,
                &[
                    (b"rx_packets", 1),
                    (b"tx_queue_0_bytes", u64::MAX),
                    (b"Port[1] Tx.drops", 3),
                    (b"a-b", 4),
                    (b"a b", 5),
                    (b"info", 6),
                    (b"", 7),
                ],
            )
        });
        assert_eq!(odd, 0);
        let golden = include_str!("../../tests/golden/by-hand-sockets/ethtool.prom");
        assert_eq!(text, golden, "{text}");
    }

    #[test]
    fn statistics_are_left_out_by_name() {
        let (text, _) = written(&built(&[(METRICS.name, "^rx")]), &mut |what| answer(what, &[(b"rx", 1), (b"tx", 2)]));
        assert!(text.contains("node_ethtool_received{device=\"eth0\"} 1") && !text.contains("transmitted"), "{text}");
    }

    #[test]
    fn one_refused_question_costs_itself() {
        let (text, odd) =
            written(&built(&[]), &mut |what| if what == Ask::Values { Err(Errno::IO.into()) } else { answer(what, &[(b"rx", 1)]) });
        assert_eq!(odd, 1);
        assert!(text.contains("node_ethtool_info{") && !text.contains("received"), "{text}");
        let (text, odd) = written(&built(&[]), &mut |_| Err(Errno::OPNOTSUPP.into()));
        assert_eq!((samples(&text).len(), odd), (0, 0));
        // A kernel that has only the old settings.
        let (text, _) = written(&built(&[]), &mut |what| match what {
            Ask::Settings => Ok([vec![0; 4], (1u32 << 5).to_ne_bytes().to_vec(), vec![0; 36]].concat()),
            _ => Err(Errno::OPNOTSUPP.into()),
        });
        assert!(
            text.contains("node_network_supported_speed_bytes{device=\"eth0\",duplex=\"full\",mode=\"1000baseT\"} 125000000"),
            "{text}"
        );
    }

    #[test]
    fn modes_stand_once() {
        assert!(MODES.is_sorted_by(|a, b| a.0 < b.0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..260), other in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (link(&bytes), old_link(&bytes), statistics(&bytes, &other));
            // Its patterns are made once.
            static BUILT: std::sync::LazyLock<Ethtool> = std::sync::LazyLock::new(|| built(&[]));
            let (text, _) = written(&BUILT, &mut |_| Ok(bytes.clone()));
            prop_assert!(samples(&text).len() < 500);
        }
    }
}
