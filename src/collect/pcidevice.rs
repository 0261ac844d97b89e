//! `node_pcidevice_*` from `/sys/bus/pci/devices`: what is plugged in, its links, power states and virtual functions. Off by default: some twenty files for
//! each of a server's hundreds of devices. Source: the kernel's `Documentation/ABI/testing/sysfs-bus-pci`.

use std::path::PathBuf;

use super::families::Families;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry, pciids};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Reader, parse};
use crate::model::Value;
use crate::present;

const IDS_FILE: Flag = Flag::new(
    "collector.pcidevice.idsfile",
    FlagKind::One("FILE"),
    None,
    "The pci.ids to take names from, as skep itself reaches it; without it the host's own.",
);
const NAMES: Flag = Flag::new(
    "collector.pcidevice.names",
    FlagKind::Switch,
    Some("false"),
    "Export the names of vendors, devices and classes in node_pcidevice_info; takes a pci.ids.",
);

pub(super) const ENTRY: Entry = entry!("pcidevice", off, &[IDS_FILE, NAMES], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let names = settings.is_on(NAMES.name).then(|| pciids::Names::new(settings.one(IDS_FILE.name).map(PathBuf::from)));
    Ok(Box::new(PciDevices { names }))
}

const DIRECTORY: &str = "bus/pci/devices";

/// File, family, help, what reads it.
type Number = (&'static str, &'static str, &'static str, fn(&[u8]) -> Reading);

/// The numbers of a device.
const NUMBERS: [Number; 10] = [
    ("max_link_speed", "node_pcidevice_max_link_transfers_per_second", "Value of maximum link's transfers per second (T/s)", speed),
    ("max_link_width", "node_pcidevice_max_link_width", "Value of maximum link's width (number of lanes)", width),
    ("current_link_speed", "node_pcidevice_current_link_transfers_per_second", "Value of current link's transfers per second (T/s)", speed),
    ("current_link_width", "node_pcidevice_current_link_width", "Value of current link's width (number of lanes)", width),
    ("d3cold_allowed", "node_pcidevice_d3cold_allowed", "Whether the PCIe device supports D3cold power state (0/1).", truth),
    (
        "sriov_drivers_autoprobe",
        "node_pcidevice_sriov_drivers_autoprobe",
        "Whether SR-IOV drivers autoprobe is enabled for the device (0/1).",
        truth,
    ),
    ("sriov_numvfs", "node_pcidevice_sriov_numvfs", "Number of Virtual Functions (VFs) currently enabled for SR-IOV.", count),
    ("sriov_totalvfs", "node_pcidevice_sriov_totalvfs", "Total number of Virtual Functions (VFs) supported by the device.", count),
    ("sriov_vf_total_msix", "node_pcidevice_sriov_vf_total_msix", "Total number of MSI-X vectors for Virtual Functions.", count),
    ("numa_node", "node_pcidevice_numa_node", "NUMA node number for the PCI device. -1 indicates unknown or not available.", numa),
];

const STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];

struct PciDevices {
    names: Option<pciids::Names>,
}

/// A device, by its location.
struct Device {
    directory: String,
    location: Location,
    parent: Option<Location>,
    identity: pciids::Identity,
    revision: Option<u64>,
}

impl Collector for PciDevices {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let found = present!(host.sys_names(DIRECTORY));
        if found.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut devices = Vec::with_capacity(found.len());
        for name in &found {
            match device(name, host, odd) {
                Some(device) => devices.push(device),
                None => odd.tell(&format_args!("{DIRECTORY}: {name:?} is no location of a PCI device")),
            }
        }
        if let Some(names) = &mut self.names {
            names.learn(devices.iter().map(|device| &device.identity), host, odd);
        }
        let mut families = Families::default();
        for device in &devices {
            self.gather(device, host, odd, &mut families);
        }
        families.write(out);
        Ok(Presence::Present)
    }
}

impl PciDevices {
    fn gather(&self, device: &Device, host: &mut Reader, odd: &mut Oddities, families: &mut Families) {
        let Device { directory, location, parent, identity, revision } = device;
        let location = location.labels(["segment", "bus", "device", "function"]);
        let own: Vec<(&str, &str)> = location.iter().map(|(label, text)| (*label, &**text)).collect();

        const PARENT: [&str; 4] = ["parent_segment", "parent_bus", "parent_device", "parent_function"];
        let parent = parent.as_ref().map_or_else(|| PARENT.map(|label| (label, "*".to_owned())), |parent| parent.labels(PARENT));
        let numbers = [
            ("class_id", pciids::hexadecimal("0x", identity.class, 6)),
            ("vendor_id", pciids::hexadecimal("0x", identity.vendor, 4)),
            ("device_id", pciids::hexadecimal("0x", identity.device, 4)),
            ("subsystem_vendor_id", pciids::hexadecimal("0x", identity.subsystem_vendor, 4)),
            ("subsystem_device_id", pciids::hexadecimal("0x", identity.subsystem_device, 4)),
            ("revision", pciids::hexadecimal("0x", *revision, 2)),
        ];
        let names = self.names.as_ref().map(|names| names.labels(identity));
        let mut labels = own.clone();
        labels.extend(parent.iter().chain(&numbers).chain(names.iter().flatten()).map(|(label, text)| (*label, &**text)));
        let help = "Non-numeric data from /sys/bus/pci/devices/<location>, value is always 1.";
        families.gauge("node_pcidevice_info", help, &labels, 1u64);

        for (file, family, help, read) in NUMBERS {
            let number = attribute::parsed(host, odd, &format!("{directory}/{file}"), |bytes| match read(bytes) {
                Reading::Number(number) => Some(Some(number)),
                Reading::Unknown => Some(None),
                Reading::Odd => None,
            });
            if let Some(number) = number.flatten() {
                families.gauge(family, help, &own, number);
            }
        }
        if let Some(current) = attribute::text(host, odd, &format!("{directory}/power_state")).filter(|state| !state.is_empty()) {
            let help = "PCIe device power state, one of: D0, D1, D2, D3hot, D3cold, unknown or error.";
            for state in STATES {
                let mut labels = own.clone();
                labels.push(("state", state));
                families.gauge("node_pcidevice_power_state", help, &labels, state == current);
            }
        }
    }
}

/// Where a device is: segment, bus, device and function.
#[derive(Debug, PartialEq, Eq)]
struct Location([u64; 4]);

impl Location {
    /// `0000:45:00.0`; a segment may have more digits (`10000:e1:00.0`, behind Intel's VMD).
    fn of(name: &str) -> Option<Self> {
        let (rest, function) = name.rsplit_once('.')?;
        let mut parts = rest.split(':');
        let (segment, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let number = |digits: &str| parse::hexadecimal(digits.as_bytes()).filter(|_| digits.len() <= 8);
        Some(Self([number(segment)?, number(bus)?, number(device)?, number(function)?]))
    }

    fn labels(&self, names: [&'static str; 4]) -> [(&'static str, String); 4] {
        let [segment, bus, device, function] = self.0;
        let [segment_name, bus_name, device_name, function_name] = names;
        [
            (segment_name, format!("{segment:04x}")),
            (bus_name, format!("{bus:02x}")),
            (device_name, format!("{device:02x}")),
            (function_name, format!("{function:x}")),
        ]
    }
}

/// Reads who a device is. The name is a link into the tree of devices, where the device before it is the bridge that it is plugged into, or the root of the
/// bus (`pci0000:00`).
fn device(name: &str, host: &mut Reader, odd: &mut Oddities) -> Option<Device> {
    let location = Location::of(name)?;
    let directory = format!("{DIRECTORY}/{name}");
    let link = host.sys_link(&directory).ok();
    let parent = link.as_deref().and_then(|link| Location::of(&link.parent()?.file_name()?.to_string_lossy()));
    let mut number = |file: &str| attribute::parsed(host, odd, &format!("{directory}/{file}"), attribute::unsigned);
    let identity = pciids::Identity {
        class: number("class"),
        vendor: number("vendor"),
        device: number("device"),
        subsystem_vendor: number("subsystem_vendor"),
        subsystem_device: number("subsystem_device"),
    };
    let revision = number("revision");
    Some(Device { directory, location, parent, identity, revision })
}

/// What an attribute said.
#[derive(Debug, PartialEq)]
enum Reading {
    Number(Value),
    /// The device does not know, which node_exporter gives as -1 or 0.
    Unknown,
    Odd,
}

fn known<T: Into<Value>>(number: Option<T>) -> Reading {
    number.map_or(Reading::Odd, |number| Reading::Number(number.into()))
}

/// `8.0 GT/s PCIe`; `Unknown` (`pci_speed_string` in `drivers/pci/probe.c`).
fn speed(bytes: &[u8]) -> Reading {
    if bytes.starts_with(b"Unknown") {
        return Reading::Unknown;
    }
    let mut fields = parse::fields(bytes);
    let number = fields.next().and_then(parse::float).filter(|number| number.is_finite());
    match fields.next() {
        Some(b"GT/s") => known(number.map(|number| number * 1e9)),
        _ => Reading::Odd,
    }
}

/// Lanes; 255 is the kernel's word for unknown (`PCIE_LNK_WIDTH_UNKNOWN`).
fn width(bytes: &[u8]) -> Reading {
    match parse::unsigned(bytes) {
        Some(255) => Reading::Unknown,
        None if bytes.starts_with(b"Unknown") => Reading::Unknown,
        number => known(number),
    }
}

fn truth(bytes: &[u8]) -> Reading {
    known(parse::signed(bytes).map(|number| number != 0))
}

fn count(bytes: &[u8]) -> Reading {
    known(parse::unsigned(bytes))
}

/// -1 where the machine has one node or the firmware does not say.
fn numa(bytes: &[u8]) -> Reading {
    match parse::signed(bytes) {
        Some(-1) => Reading::Unknown,
        number => known(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn locations() {
        assert_eq!(Location::of("0000:45:00.1"), Some(Location([0, 0x45, 0, 1])));
        assert_eq!(Location::of("10000:e1:1f.7"), Some(Location([0x10000, 0xe1, 0x1f, 7])));
        for odd in ["pci0000:00", "0000:45:00", "45:00.0", "0000:45:00:0.1", "0000:+5:00.0", "", "0000:45:00."] {
            assert_eq!(Location::of(odd), None, "{odd}");
        }
        let labels = Location([0, 0x45, 0, 1]).labels(["a", "b", "c", "d"]);
        assert_eq!(labels.map(|(_, text)| text), ["0000", "45", "00", "1"]);
    }

    #[test]
    fn readings() {
        assert_eq!(speed(b"2.5 GT/s PCIe"), Reading::Number(Value::Float(2.5e9)));
        assert_eq!(speed(b"Unknown speed"), Reading::Unknown);
        assert_eq!(speed(b"66 MHz PCI"), Reading::Odd);
        assert_eq!(width(b"16"), Reading::Number(Value::Unsigned(16)));
        assert_eq!(width(b"255"), Reading::Unknown);
        assert_eq!(numa(b"-1"), Reading::Unknown);
        assert_eq!(truth(b"x"), Reading::Odd);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, name: String) {
            let _ = (speed(&bytes), width(&bytes), truth(&bytes), count(&bytes), numa(&bytes), Location::of(&name));
        }
    }
}
