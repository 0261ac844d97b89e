//! Names of PCI vendors, devices and classes from `pci.ids` (pci-ids.ucw.cz): of a file of 1.5 MB only what this machine has is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Oddities;
use crate::host::{Reader, parse};

/// Where distributions have it, below the host's root.
const FIRST: &str = "usr/share/misc/pci.ids";
const SECOND: &str = "usr/share/hwdata/pci.ids";

/// Who a device is; `None` where that could not be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    pub(super) class: Option<u64>,
    pub(super) vendor: Option<u64>,
    pub(super) device: Option<u64>,
    pub(super) subsystem_vendor: Option<u64>,
    pub(super) subsystem_device: Option<u64>,
}

/// A number as the labels have it, and with nothing before it as the file has it; empty where there is none.
pub(super) fn hexadecimal(before: &str, number: Option<u64>, digits: usize) -> String {
    number.map_or_else(String::new, |number| format!("{before}{number:0digits$x}"))
}

/// The names, by key: `v8086` a vendor, `v8086 1521` a device, `v8086 1521 8086 00a3` a subsystem, `c01`, `c0108`, `c010802` a class and what it is divided
/// into. A key without a name is none of the file's.
#[derive(Debug)]
pub(super) struct Names {
    file: Option<PathBuf>,
    by_key: BTreeMap<String, Option<String>>,
}

impl Names {
    pub(super) const fn new(file: Option<PathBuf>) -> Self {
        Self { file, by_key: BTreeMap::new() }
    }

    /// Reads the file when there are devices that it was not asked for before.
    pub(super) fn learn<'a>(&mut self, devices: impl Iterator<Item = &'a Identity>, host: &mut Reader, odd: &mut Oddities) {
        let mut new: BTreeMap<String, Option<String>> = BTreeMap::new();
        for key in devices.flat_map(keys) {
            if !self.by_key.contains_key(&key) {
                new.insert(key, None);
            }
        }
        if new.is_empty() {
            return;
        }
        let read = match &self.file {
            Some(file) => host.at(file),
            None if host.rootfs_linked(FIRST).is_ok() => host.rootfs_linked(FIRST),
            None => host.rootfs_linked(SECOND),
        };
        match read {
            Ok(bytes) => {
                names_of(bytes, &mut new);
                self.by_key.append(&mut new);
            }
            // Told at every scrape: names were asked for, and there are none.
            Err(error) => odd.tell(&error),
        }
    }

    /// The labels with names; numbers where the file has none, or could not be read.
    pub(super) fn labels(&self, identity: &Identity) -> [(&'static str, String); 5] {
        let name = |key: &str| self.by_key.get(key).cloned().flatten();
        let [vendor, device, subsystem_vendor, subsystem_device] =
            [identity.vendor, identity.device, identity.subsystem_vendor, identity.subsystem_device]
                .map(|number| hexadecimal("", number, 4));
        let class = hexadecimal("", identity.class, 6);
        let class_name = [6, 4, 2].into_iter().find_map(|digits| name(&format!("c{}", class.get(..digits)?)));
        [
            ("vendor_name", name(&format!("v{vendor}")).unwrap_or_else(|| vendor.clone())),
            ("device_name", name(&format!("v{vendor} {device}")).unwrap_or_else(|| device.clone())),
            ("subsystem_vendor_name", name(&format!("v{subsystem_vendor}")).unwrap_or_else(|| subsystem_vendor.clone())),
            (
                "subsystem_device_name",
                name(&format!("v{vendor} {device} {subsystem_vendor} {subsystem_device}")).unwrap_or(subsystem_device),
            ),
            ("class_name", class_name.unwrap_or_else(|| format!("Unknown class ({class})"))),
        ]
    }
}

/// All keys that a device may have a name under.
fn keys(identity: &Identity) -> Vec<String> {
    let [vendor, device, subsystem_vendor, subsystem_device] =
        [identity.vendor, identity.device, identity.subsystem_vendor, identity.subsystem_device].map(|number| hexadecimal("", number, 4));
    let class = hexadecimal("", identity.class, 6);
    let mut keys = vec![
        format!("v{vendor}"),
        format!("v{vendor} {device}"),
        format!("v{subsystem_vendor}"),
        format!("v{vendor} {device} {subsystem_vendor} {subsystem_device}"),
    ];
    keys.extend([2, 4, 6].into_iter().filter_map(|digits| Some(format!("c{}", class.get(..digits)?))));
    keys
}

/// Fills in the names of `wanted`. A line is a number, two blanks and a name; a tab before it makes it part of the line above with one tab less. Classes begin
/// with `C `.
fn names_of(bytes: &[u8], wanted: &mut BTreeMap<String, Option<String>>) {
    // The key of the last line of each depth.
    let mut above: [String; 2] = Default::default();
    for line in parse::lines(bytes) {
        let depth = line.iter().take_while(|byte| **byte == b'\t').count();
        let Some(rest) = line.get(depth..).filter(|rest| !rest.starts_with(b"#")) else { continue };
        let Some((number, name)) = memchr::memmem::find(rest, b"  ").and_then(|end| Some((rest.get(..end)?, rest.get(end..)?))) else {
            continue;
        };
        let (number, name) = (parse::text(number), parse::text(parse::trimmed(name)));
        let [first, second] = &mut above;
        let key = match depth {
            0 => number.strip_prefix("C ").map_or_else(|| format!("v{number}"), |class| format!("c{class}")),
            // The numbers of a class stand behind each other, those of devices apart.
            1 | 2 => {
                let above = if depth == 1 { &*first } else { &*second };
                let between = if above.starts_with('c') { "" } else { " " };
                format!("{above}{between}{number}")
            }
            _ => continue,
        };
        if let Some(slot) = wanted.get_mut(&key) {
            *slot = Some(name.into_owned());
        }
        match depth {
            0 => *first = key,
            1 => *second = key,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &[u8] =
        b"# comment\n\n1234  First maker\n\t0001  Its card\n\t\t5678 0002  The other's card\n\t0003  Its bridge\n5678  Second maker\n\
                          C 01  Storage\n\t08  Fast storage\n\t\t02  Very fast storage\nC 02  Network\n";

    #[test]
    fn names_of_a_file() {
        let card = Identity {
            class: Some(0x01_08_02),
            vendor: Some(0x1234),
            device: Some(1),
            subsystem_vendor: Some(0x5678),
            subsystem_device: Some(2),
        };
        let other = Identity { class: Some(0x02_ff_00), vendor: Some(0x9999), device: Some(1), ..Identity::default() };
        let mut names = Names::new(None);
        names.by_key.extend([&card, &other].into_iter().flat_map(keys).map(|key| (key, None)));
        names_of(FILE, &mut names.by_key);
        let said = |identity: &Identity| names.labels(identity).map(|(_, name)| name);
        assert_eq!(said(&card), ["First maker", "Its card", "Second maker", "The other's card", "Very fast storage"]);
        assert_eq!(said(&other), ["9999", "0001", "", "", "Network"]);
        assert_eq!(said(&Identity { class: Some(0xff_00_00), ..other.clone() })[4], "Unknown class (ff0000)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "(\t{0,3}[C0-9a-f ]{0,5}  [a-z]{0,3}\n){0,8}") {
            let mut wanted = BTreeMap::from([("v".to_owned(), None)]);
            names_of(&bytes, &mut wanted);
            names_of(text.as_bytes(), &mut wanted);
        }
    }
}
