//! `node_network_*` from `<sys>/class/net`: what the interfaces are, and how they stand.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-class-net` and `net/core/net-sysfs.c`.
//!
//! Some twenty attributes for each interface make this the costliest collector of node_exporter's (its issue 2477). Three things make it cheaper here: the
//! attributes are kept open between scrapes, within a bound ([`files_to_keep`]), beyond which they are opened from the interface's directory; what an interface
//! cannot have for now (the speed of one that is down) is not asked for; and what it has for as long as it lives (its number) is read once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;

use rustix::io::Errno;

use super::filter::Filter;
use super::interfaces::Interfaces;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{Directory, Reader, Slot, files_to_keep, parse};
use crate::model::{Kind, LabelSet};
use crate::present;

const IGNORED: Flag = Flag::new(
    "collector.netclass.ignored-devices",
    FlagKind::One("REGEX"),
    Some("^$"),
    "Interfaces to leave out of the netclass collector.",
);
const INVALID_SPEED: Flag = Flag::new(
    "collector.netclass.ignore-invalid-speed",
    FlagKind::Switch,
    Some("true"),
    "Leave out the speed of an interface that does not know it; without this it is -125000, as node_exporter 1 has it.",
);
const NETLINK: Flag = Flag::new(
    "collector.netclass.netlink",
    FlagKind::Switch,
    Some("false"),
    "Understood because node_exporter has it, and without effect: the host's sysfs has more, and netlink shows only the agent's own namespace.",
);
const WITH_STATS: Flag = Flag::new(
    "collector.netclass_rtnl.with-stats",
    FlagKind::Switch,
    Some("false"),
    "Understood because node_exporter has it, and without effect: the numbers are those of the netdev collector.",
);

pub(super) const ENTRY: Entry = entry!("netclass", on, &[IGNORED, INVALID_SPEED, NETLINK, WITH_STATS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(NetClass {
        interfaces: Interfaces::of(settings, Filter::without(settings, &IGNORED)?)?,
        knows_speed: settings.is_on(INVALID_SPEED.name),
        listed: Vec::new(),
        devices: HashMap::new(),
        pass: 0,
    }))
}

/// Which attributes are worth asking for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before all others, for it tells which of them there are.
    First,
    Always,
    /// The kernel answers `EINVAL` while the interface is down (`netif_running` in `net/core/net-sysfs.c`).
    Up,
    /// It never changes while the interface lives.
    Once,
}

struct Attribute {
    file: &'static CStr,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    when: When,
}

macro_rules! attribute {
    ($file:literal, $name:literal, $kind:ident, $when:ident) => {
        Attribute {
            file: $file,
            name: concat!("node_network_", $name),
            kind: Kind::$kind,
            help: concat!("Network device property: ", $name),
            when: When::$when,
        }
    };
}

/// The attributes that are numbers, in the order in which they are written.
const ATTRIBUTES: [Attribute; 17] = [
    attribute!(c"addr_assign_type", "address_assign_type", Gauge, Always),
    attribute!(c"carrier", "carrier", Gauge, Up),
    attribute!(c"carrier_changes", "carrier_changes_total", Counter, Always),
    attribute!(c"carrier_up_count", "carrier_up_changes_total", Counter, Always),
    attribute!(c"carrier_down_count", "carrier_down_changes_total", Counter, Always),
    attribute!(c"dev_id", "device_id", Gauge, Once),
    attribute!(c"dormant", "dormant", Gauge, Up),
    attribute!(c"flags", "flags", Gauge, First),
    attribute!(c"ifindex", "iface_id", Gauge, Once),
    attribute!(c"iflink", "iface_link", Gauge, Always),
    attribute!(c"link_mode", "iface_link_mode", Gauge, Always),
    attribute!(c"mtu", "mtu_bytes", Gauge, Always),
    attribute!(c"name_assign_type", "name_assign_type", Gauge, Always),
    attribute!(c"netdev_group", "net_dev_group", Gauge, Always),
    attribute!(c"speed", "speed_bytes", Gauge, Up),
    attribute!(c"tx_queue_len", "transmit_queue_length", Gauge, Always),
    attribute!(c"type", "protocol_type", Gauge, Always),
];
const FLAGS: usize = 7;
const SPEED: usize = 14;
/// `IFF_UP`.
const UP: i64 = 1;

/// The attributes that are words: those of `node_network_info`, in the order of its labels; `operstate` also tells whether the interface is up.
const WORDS: [(&CStr, &str, When); 5] = [
    (c"address", "address", When::Always),
    (c"broadcast", "broadcast", When::Always),
    (c"duplex", "duplex", When::Up),
    (c"operstate", "operstate", When::Always),
    (c"ifalias", "ifalias", When::Always),
];

struct NetClass {
    interfaces: Interfaces,
    knows_speed: bool,
    /// What the directory had at this scrape; kept for its memory.
    listed: Vec<(String, u64)>,
    devices: HashMap<String, Device>,
    pass: u64,
}

/// What is kept of an interface between scrapes, and what was read of it in this one.
#[derive(Default)]
struct Device {
    open: Option<Open>,
    /// The inode number of the link in `class/net`, which stays with the interface when it is renamed.
    inode: u64,
    seen: u64,
    labels: LabelSet,
    info: LabelSet,
    /// The words that `info` was made of, each with a zero behind it, and those of this scrape.
    known: Vec<u8>,
    words: Vec<u8>,
    numbers: [Option<i64>; ATTRIBUTES.len()],
    is_up: bool,
}

/// What is kept open of an interface.
struct Open {
    directory: Directory,
    words: [Slot; WORDS.len()],
    numbers: [Slot; ATTRIBUTES.len()],
}

impl Collector for NetClass {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let root = host.root();
        if root.is_mounted() && root.is_own_sys() && !host.in_host_network() {
            return Err(CollectError::Other(format!(
                "{} shows the agent's own interfaces and not the host's; mount the host's sysfs and name it with --path.sysfs",
                root.sys.display()
            )));
        }
        present!(host.sys_directories("class/net", &mut self.listed));
        self.pass += 1;
        // Asked each time: the agent raises its limit when it starts.
        let mut room = files_to_keep();
        let has_bridge = Interfaces::has_bridge(self.listed.iter().map(|(name, _)| name.as_bytes()));
        for (name, inode) in &self.listed {
            if !self.interfaces.keeps(name.as_bytes()) || has_bridge && self.interfaces.is_containers(host, name.as_bytes()) {
                continue;
            }
            if !self.devices.contains_key(name) {
                self.devices.insert(name.clone(), Device { labels: LabelSet::of([("device", &**name)]), ..Device::default() });
            }
            let Some(device) = self.devices.get_mut(name) else { continue };
            if device.inode != *inode {
                device.open = None;
                device.inode = *inode;
            }
            // Each of the attributes, and the directory.
            let left = room.checked_sub(WORDS.len() + ATTRIBUTES.len() + 1);
            if device.read(host, name, self.knows_speed, left.is_some(), odd) {
                device.seen = self.pass;
            }
            room = left.unwrap_or(room);
        }
        // Also what went away while it was read.
        self.devices.retain(|_, device| device.seen == self.pass);
        self.listed.retain(|(name, _)| self.devices.contains_key(name));
        // sysfs lists in no order.
        self.listed.sort_unstable();
        write(&self.listed, &self.devices, out);
        Ok(Presence::Present)
    }
}

impl Device {
    /// Reads all attributes, and with `keep` leaves them open; false when the interface is not there any more.
    fn read(&mut self, host: &mut Reader, name: &str, knows_speed: bool, keep: bool, odd: &mut Oddities) -> bool {
        if let Some(mut open) = self.open.take()
            && self.read_from(&mut open, host, name, knows_speed, (keep, false), odd)
        {
            self.open = keep.then_some(open);
            return true;
        }
        // None was open, or another interface has taken the name.
        match host.sys_directory(&format!("class/net/{name}")) {
            Ok(directory) => {
                let mut open = Open { directory, words: Default::default(), numbers: Default::default() };
                let is_there = self.read_from(&mut open, host, name, knows_speed, (keep, true), odd);
                self.open = keep.then_some(open);
                is_there
            }
            Err(error) => {
                if !error.is_absent() {
                    odd.tell(&error);
                }
                false
            }
        }
    }

    fn read_from(
        &mut self,
        open: &mut Open,
        host: &mut Reader,
        name: &str,
        knows_speed: bool,
        (keep, is_new): (bool, bool),
        odd: &mut Oddities,
    ) -> bool {
        let Open { directory, words, numbers: files } = open;
        let mut is_there = false;
        let failed = |odd: &mut Oddities, file: &CStr, error: &io::Error| {
            if !has_no_value(error) {
                odd.tell(&format_args!("class/net/{name}/{}: {error}", file.to_string_lossy()));
            }
        };
        let mut flags = None;
        let mut numbers = self.numbers;
        for first in [true, false] {
            for ((attribute, number), slot) in ATTRIBUTES.iter().zip(&mut numbers).zip(&mut *files) {
                let once = attribute.when == When::Once;
                if (attribute.when == When::First) != first || once && !is_new {
                    continue;
                }
                *number = None;
                if !wanted(attribute.when, flags) {
                    continue;
                }
                match host.attribute_in(directory, attribute.file, (keep && !once).then_some(slot)) {
                    Ok(bytes) => {
                        is_there = true;
                        *number = integer(bytes);
                        if number.is_none() {
                            odd.line(attribute.name, bytes);
                        }
                    }
                    Err(error) => failed(odd, attribute.file, &error),
                }
                if first {
                    flags = *number;
                }
            }
        }
        self.words.clear();
        for ((file, _, when), slot) in WORDS.into_iter().zip(words) {
            if wanted(when, flags) {
                match host.attribute_in(directory, file, keep.then_some(slot)) {
                    Ok(bytes) => {
                        is_there = true;
                        // A zero ends a word here.
                        self.words.extend(bytes.iter().take_while(|byte| **byte != 0));
                    }
                    Err(error) => failed(odd, file, &error),
                }
            }
            self.words.push(0);
        }
        if !is_there {
            return false;
        }
        // Megabits. node_exporter multiplies and then divides, towards zero.
        if let Some(speed) = numbers.get_mut(SPEED) {
            *speed = speed.filter(|speed| *speed >= 0 || !knows_speed).and_then(|speed| speed.checked_mul(1_000_000)).map(|bits| bits / 8);
        }
        self.numbers = numbers;
        self.render(name);
        true
    }

    /// Makes the labels of `node_network_info` when a word is another than before.
    fn render(&mut self, name: &str) {
        let admin = match self.numbers.get(FLAGS) {
            Some(Some(flags)) if flags & UP != 0 => "up",
            Some(Some(_)) => "down",
            _ => "unknown",
        };
        self.words.extend_from_slice(admin.as_bytes());
        if self.words == self.known && !self.info.is_empty() {
            return;
        }
        self.info = LabelSet::of([("device", name)]);
        for (word, (file, label, _)) in self.words.split(|byte| *byte == 0).zip(WORDS) {
            self.info.push(label, &parse::text(word));
            if file == c"operstate" {
                self.is_up = word == b"up";
                self.info.push("adminstate", admin);
            }
        }
        self.known.clone_from(&self.words);
    }
}

/// Whether an attribute is worth asking for, by what is known of the flags.
fn wanted(when: When, flags: Option<i64>) -> bool {
    when != When::Up || flags.is_none_or(|flags| flags & UP != 0)
}

/// Whether an error says that an attribute is not there, has no value now (`EINVAL` of an interface that is down, of a driver that has no speed), is not for
/// everyone, or went away with its interface.
fn has_no_value(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::INVAL | Errno::NODEV | Errno::OPNOTSUPP | Errno::NODATA | Errno::AGAIN | Errno::PERM | Errno::NXIO)
        )
}

/// A number as the attributes have it: decimal, or hexadecimal behind `0x`.
fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.strip_prefix(b"0x") {
        Some(digits) => i64::try_from(parse::hexadecimal(digits)?).ok(),
        None => parse::signed(bytes),
    }
}

fn write(listed: &[(String, u64)], devices: &HashMap<String, Device>, out: &mut Writer) {
    let rows = || listed.iter().filter_map(|(name, _)| devices.get(name));
    let mut family = out.family("node_network_up", Kind::Gauge, "Value is 1 if operstate is 'up', 0 otherwise.");
    for device in rows() {
        family.sample_of(&device.labels, &[], device.is_up);
    }
    let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    let mut family = out.family("node_network_info", Kind::Gauge, help);
    for device in rows() {
        family.sample_of(&device.info, &[], 1u64);
    }
    for (index, attribute) in ATTRIBUTES.iter().enumerate() {
        let mut family = out.family(attribute.name, attribute.kind, attribute.help);
        for device in rows() {
            if let Some(Some(number)) = device.numbers.get(index) {
                family.sample_of(&device.labels, &[], *number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_stand_where_they_are_looked_for() {
        assert_eq!((ATTRIBUTES[FLAGS].file, ATTRIBUTES[SPEED].file), (c"flags", c"speed"));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!((integer(b"0x1003"), integer(b"-1"), integer(b"1500")), (Some(0x1003), Some(-1), Some(1500)));
        assert_eq!((integer(b""), integer(b"0x"), integer(b"up"), integer(b"0xffffffffffffffff")), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = integer(&bytes);
        }
    }
}
