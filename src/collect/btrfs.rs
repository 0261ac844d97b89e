//! `node_btrfs_*` from `/sys/fs/btrfs/<fsid>`, and what only an ioctl tells of its devices. Source: the kernel's `fs/btrfs/sysfs.c`.

use std::collections::HashSet;

use super::families::Families;
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Oddities, Pass, Presence, entry, storage};
use crate::config::Settings;
use crate::host::sys::BtrfsDevice;
use crate::host::{BtrfsId, Reader, parse};
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("btrfs", on, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Btrfs { as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Btrfs {
    as_node_exporter: bool,
}

/// The profiles of block groups, and how many bytes of disk a byte takes; the last two lose that many devices' worth of all of them.
const PROFILES: [(&str, Ratio); 9] = [
    ("single", Ratio::Copies(1.0)),
    ("raid0", Ratio::Copies(1.0)),
    ("dup", Ratio::Copies(2.0)),
    ("raid1", Ratio::Copies(2.0)),
    ("raid10", Ratio::Copies(2.0)),
    ("raid1c3", Ratio::Copies(3.0)),
    ("raid1c4", Ratio::Copies(4.0)),
    ("raid5", Ratio::Parity(1)),
    ("raid6", Ratio::Parity(2)),
];

#[derive(Clone, Copy)]
enum Ratio {
    Copies(f64),
    Parity(usize),
}

/// The lines of `commit_stats`: what is milliseconds is exported as seconds.
const COMMITS: [(&[u8], bool, Kind, &str, &str); 4] = [
    (b"commits", false, Kind::Counter, "node_btrfs_commits_total", "The total number of commits that have occurred."),
    (b"last_commit_ms", true, Kind::Gauge, "node_btrfs_last_commit_seconds", "Duration of the most recent commit, in seconds."),
    (b"max_commit_ms", true, Kind::Gauge, "node_btrfs_max_commit_seconds", "Duration of the slowest commit, in seconds."),
    (b"total_commit_ms", true, Kind::Counter, "node_btrfs_commit_seconds_total", "Sum of the duration of all commits, in seconds."),
];

/// The kinds of errors, in the order of the kernel's ioctl, and their lines in `error_stats`.
const ERRORS: [(&str, &[u8]); 5] = [
    ("write", b"write_errs"),
    ("read", b"read_errs"),
    ("flush", b"flush_errs"),
    ("corruption", b"corruption_errs"),
    ("generation", b"generation_errs"),
];

impl Collector for Btrfs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let mut names = present!(pass.host.sys_names("fs/btrfs"));
        // Beside the file systems lies what the module can do (`features`).
        names.retain(|name| name.contains('-'));
        if names.is_empty() {
            return Ok(Presence::Absent);
        }
        let asked = pass.host.btrfs_devices();
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        let mut used = HashSet::new();
        for name in &names {
            // node_exporter names a file system by what its metadata are marked with, which stays when it is given another id (btrfstune -m). Such a one may
            // be a copy of another that is mounted too: then it goes by its own id, for two may not have one name.
            let marked = storage::text(host, odd, &format!("fs/btrfs/{name}/metadata_uuid")).filter(|marked| !marked.is_empty());
            let marked = marked.filter(|marked| {
                let is_id = id(marked).is_some();
                if !is_id {
                    odd.tell(&format_args!("fs/btrfs/{name}/metadata_uuid: {marked:?} is no id"));
                }
                is_id
            });
            let uuid = marked.filter(|marked| !names.contains(marked) && !used.contains(marked)).unwrap_or_else(|| name.clone());
            let devices = id(name).and_then(|id| asked.get(&id));
            of_file_system(host, odd, &mut families, (name, &uuid), devices.map(Vec::as_slice));
            if self.as_node_exporter {
                // What a kernel before 6.0 does not tell of commits is 0 to it.
                for (_, _, kind, name, help) in &COMMITS {
                    families.add(name, *kind, help, &[("uuid", &*uuid)], 0u64);
                }
            }
            used.insert(uuid);
        }
        families.write(out);
        Ok(if families.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

fn of_file_system(
    host: &mut Reader,
    odd: &mut Oddities,
    families: &mut Families,
    (name, uuid): (&str, &str),
    asked: Option<&[BtrfsDevice]>,
) {
    let directory = format!("fs/btrfs/{name}");
    // Unmounted since the names were read.
    let Some(label) = storage::text(host, odd, &format!("{directory}/label")) else { return };
    families.gauge("node_btrfs_info", "Filesystem information", &[("label", &label), ("uuid", uuid)], 1u64);
    let labels = [("uuid", uuid)];
    if let Some(size) = storage::unsigned(host, odd, &format!("{directory}/allocation/global_rsv_size")) {
        families.gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.", &labels, size);
    }
    commits(host, odd, families, &format!("{directory}/commit_stats"), uuid);
    let devices = storage::names(host, odd, &format!("{directory}/devices"));
    // One that was made with --mixed has data and metadata in the same groups.
    for kind in ["data", "metadata", "mixed", "system"] {
        allocation(host, odd, families, &format!("{directory}/allocation/{kind}"), kind, uuid, devices.len());
    }
    match asked {
        Some(asked) => of_devices(families, uuid, asked),
        None => of_sysfs_devices(host, odd, families, &directory, uuid, &devices),
    }
}

/// `commit_stats`, since Linux 6.0.
fn commits(host: &mut Reader, odd: &mut Oddities, families: &mut Families, file: &str, uuid: &str) {
    for line in storage::file(host, odd, file).map(parse::lines).into_iter().flatten() {
        let mut fields = parse::fields(line);
        let word = fields.next();
        let Some((_, is_time, kind, name, help)) = COMMITS.iter().find(|(known, ..)| word == Some(known)) else { continue };
        match fields.next().and_then(parse::unsigned) {
            Some(number) if *is_time => _ = families.add(name, *kind, help, &[("uuid", uuid)], number as f64 / 1000.0),
            Some(number) => _ = families.add(name, *kind, help, &[("uuid", uuid)], number),
            None => odd.line(file, line),
        }
    }
}

/// `allocation/<kind>`: what is reserved, and for each profile in use its size and what is used of it.
fn allocation(host: &mut Reader, odd: &mut Oddities, families: &mut Families, directory: &str, kind: &str, uuid: &str, devices: usize) {
    let children = storage::names(host, odd, directory);
    if children.is_empty() {
        return;
    }
    if let Some(reserved) = storage::unsigned(host, odd, &format!("{directory}/bytes_reserved")) {
        let labels = [("block_group_type", kind), ("uuid", uuid)];
        families.gauge("node_btrfs_reserved_bytes", "Amount of space reserved for a data type", &labels, reserved);
    }
    for (mode, ratio) in PROFILES.iter().filter(|(mode, _)| children.iter().any(|child| child == mode)) {
        let labels = [("block_group_type", kind), ("mode", mode), ("uuid", uuid)];
        for (file, name, help) in [
            ("used_bytes", "node_btrfs_used_bytes", "Amount of used space by a layout/data type"),
            ("total_bytes", "node_btrfs_size_bytes", "Amount of space allocated for a layout/data type"),
        ] {
            if let Some(number) = storage::unsigned(host, odd, &format!("{directory}/{mode}/{file}")) {
                families.gauge(name, help, &labels, number);
            }
        }
        let ratio = match *ratio {
            Ratio::Copies(copies) => Some(copies),
            Ratio::Parity(lost) => devices.checked_sub(lost).filter(|left| *left > 0).map(|left| devices as f64 / left as f64),
        };
        if let Some(ratio) = ratio {
            families.gauge("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type", &labels, ratio);
        }
    }
}

const SIZE: (&str, &str) = ("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.");

/// The devices as the kernel tells them when it is asked.
fn of_devices(families: &mut Families, uuid: &str, devices: &[BtrfsDevice]) {
    for device in devices {
        let path = parse::text(&device.path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let own = hexadecimal(&device.uuid);
        let labels = [("device", name), ("btrfs_dev_uuid", &*own), ("uuid", uuid)];
        families.gauge(SIZE.0, SIZE.1, &labels, device.size);
        if let Some(unused) = device.size.checked_sub(device.used) {
            let help = "Unused bytes unused on a device that is part of the filesystem.";
            families.gauge("node_btrfs_device_unused_bytes", help, &labels, unused);
        }
        for ((kind, _), number) in ERRORS.iter().zip(device.errors) {
            add_errors(families, &[("type", kind), ("device", name), ("btrfs_dev_uuid", &own), ("uuid", uuid)], number);
        }
    }
}

fn add_errors(families: &mut Families, labels: &[(&str, &str)], number: u64) {
    families.counter("node_btrfs_device_errors_total", "Errors reported for the device", labels, number);
}

/// The devices as sysfs tells them. Their errors (`devinfo/<number>/error_stats`, since Linux 5.14) are there by the devices' numbers, and what number which
/// device has is not: where there are several, the errors are those of `devid:<number>`.
fn of_sysfs_devices(host: &mut Reader, odd: &mut Oddities, families: &mut Families, directory: &str, uuid: &str, devices: &[String]) {
    for device in devices {
        let size = |bytes: &[u8]| parse::unsigned(bytes)?.checked_mul(512);
        if let Some(size) = storage::read_as(host, odd, &format!("{directory}/devices/{device}/size"), size) {
            families.gauge(SIZE.0, SIZE.1, &[("device", device), ("uuid", uuid)], size);
        }
    }
    let numbers = storage::names(host, odd, &format!("{directory}/devinfo"));
    for number in &numbers {
        let device = match (devices, &*numbers) {
            ([only], [_]) => only.clone(),
            _ => format!("devid:{number}"),
        };
        let file = format!("{directory}/devinfo/{number}/error_stats");
        let Some(text) = storage::file(host, odd, &file) else { continue };
        // It says so of a device that is not there.
        if parse::trimmed(text) == b"invalid" {
            continue;
        }
        for line in parse::lines(text) {
            let mut fields = parse::fields(line);
            let word = fields.next();
            let Some((kind, _)) = ERRORS.iter().find(|(_, known)| word == Some(known)) else { continue };
            match fields.next().and_then(parse::unsigned) {
                Some(number) => add_errors(families, &[("type", kind), ("device", &device), ("uuid", uuid)], number),
                None => odd.line(&file, line),
            }
        }
    }
}

/// The bytes of an id: `7f07c59f-6136-449c-ab87-e1cf2328731b`.
fn id(text: &str) -> Option<BtrfsId> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').map(hex_digit).collect::<Option<_>>()?;
    let mut id = BtrfsId::default();
    if digits.len() != id.len() * 2 {
        return None;
    }
    for (slot, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    Some(id)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let found = id("7f07c59f-6136-449c-ab87-e1cf2328731b").unwrap();
        assert_eq!(hexadecimal(&found), "7f07c59f6136449cab87e1cf2328731b");
        for other in [
            "",
            "-",
            "7f07c59f-6136-449c-ab87-e1cf2328731",
            "7f07c59f-6136-449c-ab87-e1cf2328731g",
            "7f07c59f-6136-449c-ab87-e1cf2328731bb",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
    }

    /// What only an ioctl tells has node_exporter's names.
    #[test]
    fn devices_that_were_asked() {
        let mut families = Families::default();
        let device =
            BtrfsDevice { uuid: [0xab; 16], size: 1000, used: 300, path: b"/dev/mapper/vg-\xff".to_vec(), errors: [1, 2, 3, 4, 5] };
        let missing = BtrfsDevice { uuid: [0xcd; 16], size: 1, used: 2, path: Vec::new(), errors: [0; 5] };
        of_devices(&mut families, "u", &[device, missing]);
        let mut out = crate::exposition::Writer::new(std::sync::Arc::default());
        families.write(&mut out);
        let text = std::str::from_utf8(out.text()).unwrap();
        for line in [
            "node_btrfs_device_errors_total{type=\"corruption\",device=\"vg-\u{fffd}\",btrfs_dev_uuid=\"abababababababababababababababab\",uuid=\"u\"} 4",
            "node_btrfs_device_unused_bytes{device=\"vg-\u{fffd}\",btrfs_dev_uuid=\"abababababababababababababababab\",uuid=\"u\"} 700",
            "node_btrfs_device_size_bytes{device=\"\",btrfs_dev_uuid=\"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\",uuid=\"u\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("unused_bytes{").count(), 1);
    }
}
