//! `node_qdisc_*`: the root queueing discipline of each interface, over rtnetlink. Format: rtnetlink(7), `include/uapi/linux/rtnetlink.h` (`struct tcmsg`,
//! `TCA_*`) and `gen_stats.h`.

use super::families::Families;
use super::filter::Filter;
use super::interfaces::Interfaces;
use super::sockets::{fixture, host_network_only, number, objects, text};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::netlink::{self, Netlink, attributes, number32, number64};
use crate::host::parse;
use crate::model::Kind;

const INCLUDE: Flag = Flag::new(
    "collector.qdisc.device-include",
    FlagKind::One("REGEX"),
    None,
    "Interfaces whose queueing discipline is exported; contradicts collector.qdisc.device-exclude.",
)
.or(&["collector.qdisk.device-include"]);
const EXCLUDE: Flag = Flag::new(
    "collector.qdisc.device-exclude",
    FlagKind::One("REGEX"),
    None,
    "Interfaces whose queueing discipline is left out; contradicts collector.qdisc.device-include.",
)
.or(&["collector.qdisk.device-exclude"]);
const FIXTURES: Flag = Flag::new(
    "collector.qdisc.fixtures",
    FlagKind::One("DIR"),
    None,
    "For tests: read results.json of this directory and do not ask the kernel.",
);

pub(super) const ENTRY: Entry = entry!("qdisc", off, &[INCLUDE, EXCLUDE, FIXTURES], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let interfaces = Interfaces::of(settings, Filter::of(settings, &INCLUDE, &EXCLUDE)?)?;
    Ok(Box::new(Qdisc { interfaces, fixtures: settings.one(FIXTURES.name).map(str::to_owned) }))
}

struct Qdisc {
    interfaces: Interfaces,
    fixtures: Option<String>,
}

/// What the kernel counts, in the order of [`FAMILIES`].
type Numbers = [u64; FAMILIES.len()];

const FAMILIES: [(&str, Kind, &str); 7] = [
    ("node_qdisc_bytes_total", Kind::Counter, "Number of bytes sent."),
    ("node_qdisc_packets_total", Kind::Counter, "Number of packets sent."),
    ("node_qdisc_drops_total", Kind::Counter, "Number of packets dropped."),
    ("node_qdisc_requeues_total", Kind::Counter, "Number of packets dequeued, not transmitted, and requeued."),
    ("node_qdisc_overlimits_total", Kind::Counter, "Number of overlimit packets."),
    ("node_qdisc_current_queue_length", Kind::Gauge, "Number of packets currently in queue to be sent."),
    ("node_qdisc_backlog", Kind::Gauge, "Number of bytes currently in queue to be sent."),
];

/// One queueing discipline.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    interface: u32,
    kind: String,
    numbers: Numbers,
}

impl Collector for Qdisc {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let mut families = Families::default();
        if let Some(directory) = &self.fixtures {
            let recorded = fixture(pass.host, directory, "results.json")?
                .ok_or_else(|| CollectError::Other(format!("--{}={directory}: there is no results.json", FIXTURES.name)))?;
            for object in objects(Some(&recorded)).filter(|object| number(object, "Parent") == 0) {
                let numbers = ["Bytes", "Packets", "Drops", "Requeues", "Overlimits", "Qlen", "Backlog"].map(|name| number(object, name));
                self.add(text(object, "IfaceName"), text(object, "Kind"), &numbers, &mut families);
            }
        } else {
            host_network_only(pass.host, "the queueing disciplines")?;
            self.ask(pass, &mut families)?;
        }
        Ok(families.write(pass.out))
    }
}

impl Qdisc {
    fn ask(&self, pass: &mut Pass<'_>, families: &mut Families) -> Result<(), CollectError> {
        const GET_QDISC: u16 = 38;
        let failed = |error: std::io::Error| CollectError::Other(format!("asking the kernel for queueing disciplines: {error}"));
        let mut netlink = Netlink::route(pass.deadline).map_err(failed)?;
        let mut found = Vec::new();
        let mut odd = 0;
        netlink
            .dump(GET_QDISC, &[0; 20], &mut |message| match root(message.body) {
                Some(Some(root)) => found.push(root),
                Some(None) => {}
                None => odd += 1,
            })
            .map_err(failed)?;
        for _ in 0..odd {
            pass.odd(&"a queueing discipline without the form that rtnetlink gives it");
        }
        for Found { interface, kind, numbers } in found {
            // An interface may be gone since; then it has no name any more.
            if let Ok(name) = netlink.interface_name(interface)
                && !self.interfaces.is_containers(pass.host, name.as_bytes())
            {
                self.add(&name, &kind, &numbers, families);
            }
        }
        Ok(())
    }

    fn add(&self, device: &str, kind: &str, numbers: &Numbers, families: &mut Families) {
        if !self.interfaces.keeps(device.as_bytes()) {
            return;
        }
        for ((name, family, help), number) in FAMILIES.iter().zip(numbers) {
            families.add(name, *family, help, &[("device", device), ("kind", kind)], *number);
        }
    }
}

/// The discipline that a message tells of. `Some(None)` for one that is not at the root: a class' own, one of a queue of `mq`, `ingress`.
/// `None` when the message has no form.
#[expect(clippy::option_option, reason = "not a root and not a message are two things")]
fn root(body: &[u8]) -> Option<Option<Found>> {
    const KIND: u16 = 1;
    const STATS: u16 = 3;
    const STATS2: u16 = 7;
    const ROOT: u32 = u32::MAX;
    let interface = number32(body.get(4..)?)?;
    let parent = number32(body.get(12..)?)?;
    let rest = body.get(20..)?;
    if parent != 0 && parent != ROOT {
        return Some(None);
    }
    let mut kind = None;
    let (mut old, mut new) = (None, None);
    for (attribute, value) in attributes(rest) {
        match attribute {
            KIND => kind = Some(parse::text(netlink::name(value)).into_owned()),
            STATS => old = old_statistics(value),
            STATS2 => new = statistics(value),
            _ => {}
        }
    }
    Some(Some(Found { interface, kind: kind?, numbers: new.or(old)? }))
}

/// `struct tc_stats`, which knows no requeues.
fn old_statistics(value: &[u8]) -> Option<Numbers> {
    let at = |place: usize| number32(value.get(place..)?).map(u64::from);
    Some([number64(value)?, at(8)?, at(12)?, 0, at(16)?, at(28)?, at(32)?])
}

/// The attributes of `TCA_STATS2`.
fn statistics(value: &[u8]) -> Option<Numbers> {
    const BASIC: u16 = 1;
    const QUEUE: u16 = 3;
    const PACKETS64: u16 = 8;
    let (mut basic, mut queue, mut packets) = (None, None, None);
    for (attribute, value) in attributes(value) {
        let at = |place: usize| number32(value.get(place..)?).map(u64::from);
        match attribute {
            BASIC => basic = number64(value).zip(at(8)),
            QUEUE => queue = at(0).zip(at(4)).zip(at(8)).zip(at(12).zip(at(16))),
            // Since 5.5, where 32 bits are not enough.
            PACKETS64 => packets = number64(value),
            _ => {}
        }
    }
    let (bytes, few) = basic?;
    let (((length, backlog), drops), (requeues, overlimits)) = queue?;
    Some([bytes, packets.unwrap_or(few), drops, requeues, overlimits, length, backlog])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::messages;
    use proptest::prelude::*;

    /// What Linux 6.18 answers for lo, for one end of a veth with htb, a bfifo below a class of it and ingress, and for the other end with pfifo_fast.
    const RECORDED: &[u8] = include_bytes!("../../tests/fixtures/host/by-hand-sockets/netlink/qdisc.bin");

    #[test]
    fn a_recorded_answer_is_read() {
        let bodies: Vec<_> = messages(RECORDED).map(|message| message.unwrap()).filter(|message| message.kind >= 16).collect();
        let found: Vec<Option<Found>> = bodies.iter().map(|message| root(message.body).unwrap()).collect();
        let roots: Vec<(u32, &str, Numbers)> = found.iter().flatten().map(|found| (found.interface, &*found.kind, found.numbers)).collect();
        assert_eq!(roots, [(1, "noqueue", [0; 7]), (2, "htb", [90, 1, 0, 0, 0, 0, 0]), (3, "pfifo_fast", [800, 6, 0, 0, 0, 0, 0])]);
        assert!(found.iter().any(Option::is_none), "what is not at the root is left out");
    }

    #[test]
    fn sixty_four_bits_of_packets_are_taken() {
        let mut value = Vec::new();
        let basic = [7u64.to_ne_bytes().to_vec(), 1u32.to_ne_bytes().to_vec()].concat();
        crate::host::netlink::push_attribute(&mut value, 1, &basic);
        crate::host::netlink::push_attribute(&mut value, 3, &[1; 20]);
        assert_eq!(statistics(&value).unwrap()[..2], [7, 1]);
        crate::host::netlink::push_attribute(&mut value, 8, &(1u64 << 33).to_ne_bytes());
        assert_eq!(statistics(&value).unwrap()[..2], [7, 1 << 33]);
        assert_eq!(old_statistics(&[1; 36]).unwrap()[3], 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120), length in 0..40u16) {
            let _ = root(&bytes);
            let framed = [&[0; 20][..], &length.to_ne_bytes(), &7u16.to_ne_bytes(), &bytes].concat();
            let _ = root(&framed);
        }
    }
}
