//! `node_arp_entries` from the host's `net/arp`: the neighbours of each interface. The kernel leaves out those without ARP (`NUD_NOARP`) by itself
//! (`net/ipv4/arp.c`), so the file has what node_exporter gets by netlink.

use super::filter::Filter;
use super::interfaces::Interfaces;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{NetSource, parse};
use crate::model::Kind;
use crate::present;

const INCLUDE: Flag = Flag::new(
    "collector.arp.device-include",
    FlagKind::One("REGEX"),
    None,
    "Interfaces to export; contradicts collector.arp.device-exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.arp.device-exclude",
    FlagKind::One("REGEX"),
    None,
    "Interfaces to leave out; contradicts collector.arp.device-include.",
);
const NETLINK: Flag = Flag::new(
    "collector.arp.netlink",
    FlagKind::Switch,
    Some("true"),
    "Understood because node_exporter has it, and without effect: the host's net/arp has the same entries, and netlink shows only the agent's own namespace.",
);

pub(super) const ENTRY: Entry = entry!("arp", on, &[INCLUDE, EXCLUDE, NETLINK], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let interfaces = Interfaces::of(settings, Filter::of(settings, &INCLUDE, &EXCLUDE)?)?;
    Ok(Box::new(Arp { interfaces, devices: Vec::new() }))
}

struct Arp {
    interfaces: Interfaces,
    devices: Vec<(String, u64)>,
}

impl Collector for Arp {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let Self { interfaces, devices } = self;
        devices.clear();
        let mut is_head = true;
        let source = present!(host.net_lines("arp", |line| {
            if std::mem::take(&mut is_head) {
                return;
            }
            match device(line) {
                Some(name) if interfaces.keeps(name) => {
                    let name = parse::text(name);
                    match devices.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, count)) => *count += 1,
                        None => devices.push((name.into_owned(), 1)),
                    }
                }
                Some(_) => {}
                None => odd.line("net/arp", line),
            }
        }));
        // sysfs shows the namespace of whoever mounted it, and may not fit to the agent's own interfaces.
        if source == NetSource::Host || !host.root().is_mounted() {
            devices.retain(|(name, _)| !interfaces.is_containers(host, name.as_bytes()));
        }
        let mut family = out.family("node_arp_entries", Kind::Gauge, "ARP entries by device");
        for (device, count) in devices {
            family.sample(&[("device", device)], *count);
        }
        Ok(Presence::Present)
    }
}

/// The interface of a line: `192.0.2.1  0x1  0x2  02:fc:00:00:00:05  *  eth0`.
fn device(line: &[u8]) -> Option<&[u8]> {
    let mut fields = parse::fields(line);
    let device = fields.nth(5)?;
    fields.next().is_none().then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_device_stands_last() {
        assert_eq!(device(b"192.0.2.1  0x1  0x2  02:fc:00:00:00:05     *        eth0"), Some(&b"eth0"[..]));
        assert_eq!(device(b"192.0.2.1  0x1  0x2  02:fc:00:00:00:05     *"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = device(&bytes);
        }
    }
}
