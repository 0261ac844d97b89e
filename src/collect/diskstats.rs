//! `node_disk_*` from `/proc/diskstats`, and who the disks are, from udev's data base.
//! Source: the kernel's `Documentation/admin-guide/iostats.rst`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use procfs::DiskStat;

use super::filter::Filter;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet, Value};

const INCLUDE: Flag = Flag::new(
    "collector.diskstats.device-include",
    FlagKind::One("REGEX"),
    None,
    "Disks to export; contradicts collector.diskstats.device-exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.diskstats.device-exclude",
    FlagKind::One("REGEX"),
    Some(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"),
    "Disks to leave out; contradicts collector.diskstats.device-include.",
)
.or(&["collector.diskstats.ignored-devices"]);

pub(super) const ENTRY: Entry = entry!("diskstats", on, &[INCLUDE, EXCLUDE], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(DiskStats { filter: Filter::of(settings, &INCLUDE, &EXCLUDE)?, disks: BTreeMap::new(), pass: 0 }))
}

/// A sector of this file has 512 bytes, whatever the device's own have.
const SECTOR: u64 = 512;

struct Column {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// `None` where the kernel is older than the column: 4.18 for discards, 5.5 for flushes.
    value: fn(&DiskStat) -> Option<Value>,
}

macro_rules! column {
    ($name:literal, $kind:ident, $help:literal, $value:expr) => {
        Column { name: concat!("node_disk_", $name), kind: Kind::$kind, help: $help, value: $value }
    };
}

const COLUMNS: [Column; 17] = [
    column!("reads_completed_total", Counter, "The total number of reads completed successfully.", |disk| Some(disk.reads.into())),
    column!("reads_merged_total", Counter, "The total number of reads merged.", |disk| Some(disk.merged.into())),
    column!("read_bytes_total", Counter, "The total number of bytes read successfully.", |disk| bytes(disk.sectors_read)),
    column!("read_time_seconds_total", Counter, "The total number of seconds spent by all reads.", |disk| seconds(disk.time_reading)),
    column!("writes_completed_total", Counter, "The total number of writes completed successfully.", |disk| Some(disk.writes.into())),
    column!("writes_merged_total", Counter, "The number of writes merged.", |disk| Some(disk.writes_merged.into())),
    column!("written_bytes_total", Counter, "The total number of bytes written successfully.", |disk| bytes(disk.sectors_written)),
    column!("write_time_seconds_total", Counter, "This is the total number of seconds spent by all writes.", |disk| seconds(
        disk.time_writing
    )),
    column!("io_now", Gauge, "The number of I/Os currently in progress.", |disk| Some(disk.in_progress.into())),
    column!("io_time_seconds_total", Counter, "Total seconds spent doing I/Os.", |disk| seconds(disk.time_in_progress)),
    column!("io_time_weighted_seconds_total", Counter, "The weighted # of seconds spent doing I/Os.", |disk| seconds(
        disk.weighted_time_in_progress
    )),
    column!("discards_completed_total", Counter, "The total number of discards completed successfully.", |disk| disk
        .discards
        .map(Value::from)),
    column!("discards_merged_total", Counter, "The total number of discards merged.", |disk| disk.discards_merged.map(Value::from)),
    column!("discarded_sectors_total", Counter, "The total number of sectors discarded successfully.", |disk| disk
        .sectors_discarded
        .map(Value::from)),
    column!("discard_time_seconds_total", Counter, "This is the total number of seconds spent by all discards.", |disk| disk
        .time_discarding
        .and_then(seconds)),
    column!("flush_requests_total", Counter, "The total number of flush requests completed successfully", |disk| disk
        .flushes
        .map(Value::from)),
    column!("flush_requests_time_seconds_total", Counter, "This is the total number of seconds spent by all flush requests.", |disk| disk
        .time_flushing
        .and_then(seconds)),
];

fn bytes(sectors: u64) -> Option<Value> {
    Some(sectors.saturating_mul(SECTOR).into())
}

/// Multiplied, so that the last bit is that of node_exporter's number.
fn seconds(milliseconds: u64) -> Option<Value> {
    Some((milliseconds as f64 * 0.001).into())
}

struct DiskStats {
    filter: Filter,
    disks: BTreeMap<String, Disk>,
    pass: u64,
}

/// What is known of a disk. Its labels are made anew only when udev's file or `rotational` says something else.
#[derive(Default)]
struct Disk {
    udev_file: PathBuf,
    rotational_file: String,
    udev: Vec<u8>,
    rotational: bool,
    seen: u64,
    device: LabelSet,
    info: LabelSet,
    filesystem: Option<LabelSet>,
    mapper: Option<LabelSet>,
    ata: [Option<f64>; ATA.len()],
}

/// Families that only ATA disks have, with udev's key.
const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "ATA disk has a write cache."),
    ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
    ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
];

impl Collector for DiskStats {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("diskstats")?;
        self.pass += 1;
        let mut stats: Vec<DiskStat> = Vec::with_capacity(self.disks.len());
        for line in parse::lines(bytes) {
            match disk_line(line, &self.filter) {
                Some(Ok(stat)) if stats.iter().all(|known| known.name != stat.name) => stats.push(stat),
                Some(_) => odd.line("diskstats", line),
                None => {}
            }
        }
        for stat in &stats {
            let disk = self.disks.entry(stat.name.clone()).or_default();
            disk.seen = self.pass;
            disk.refresh(stat, host, odd);
        }
        self.disks.retain(|_, disk| disk.seen == self.pass);
        let rows: Vec<(&DiskStat, &Disk)> = stats.iter().filter_map(|stat| Some((stat, self.disks.get(&stat.name)?))).collect();
        write(&rows, out);
        Ok(Presence::Present)
    }
}

/// A line of `/proc/diskstats`; `None` for a disk that is left out.
fn disk_line(line: &[u8], filter: &Filter) -> Option<Result<DiskStat, ()>> {
    let Some(name) = parse::fields(line).nth(2) else { return Some(Err(())) };
    if !filter.keeps(name) {
        return None;
    }
    let stat = std::str::from_utf8(line).ok().and_then(|line| DiskStat::from_line(line).ok());
    Some(stat.ok_or(()))
}

fn write(rows: &[(&DiskStat, &Disk)], out: &mut Writer) {
    let mut family = out.family("node_disk_info", Kind::Gauge, "Info of /sys/block/<block_device>.");
    for (_, disk) in rows {
        family.sample_of(&disk.info, &[], 1u64);
    }
    for Column { name, kind, help, value } in &COLUMNS {
        let mut family = out.family(name, *kind, help);
        for (stat, disk) in rows {
            if let Some(value) = value(stat) {
                family.sample_of(&disk.device, &[], value);
            }
        }
    }
    let mut family = out.family("node_disk_filesystem_info", Kind::Gauge, "Info about disk filesystem.");
    for labels in rows.iter().filter_map(|(_, disk)| disk.filesystem.as_ref()) {
        family.sample_of(labels, &[], 1u64);
    }
    let mut family = out.family("node_disk_device_mapper_info", Kind::Gauge, "Info about disk device mapper.");
    for labels in rows.iter().filter_map(|(_, disk)| disk.mapper.as_ref()) {
        family.sample_of(labels, &[], 1u64);
    }
    for (index, (_, name, help)) in ATA.iter().enumerate() {
        let mut family = out.family(name, Kind::Gauge, help);
        for (_, disk) in rows {
            if let Some(Some(value)) = disk.ata.get(index) {
                family.sample_of(&disk.device, &[], *value);
            }
        }
    }
}

impl Disk {
    fn refresh(&mut self, stat: &DiskStat, host: &mut Reader, odd: &mut Oddities) {
        let is_new = self.device.is_empty();
        if is_new {
            self.device = LabelSet::of([("device", &*stat.name)]);
            // sysfs has a `!` where a device's name has a slash.
            self.rotational_file = format!("block/{}/queue/rotational", stat.name.replace('/', "!"));
        }
        // A device that went and came back may have other numbers.
        let udev_file = host.root().udev.join(format!("b{}:{}", stat.major, stat.minor));
        let moved = udev_file != self.udev_file;
        self.udev_file = udev_file;
        let rotational = host.sys(&self.rotational_file).is_ok_and(|bytes| parse::trimmed(bytes) == b"1");
        let udev: &[u8] = match host.at(&self.udev_file) {
            Ok(bytes) => bytes,
            Err(error) => {
                if !error.is_absent() {
                    odd.tell(&error);
                }
                b""
            }
        };
        if is_new || moved || rotational != self.rotational || udev != self.udev {
            self.rotational = rotational;
            self.udev.clear();
            self.udev.extend_from_slice(udev);
            self.render(stat, odd);
        }
    }

    fn render(&mut self, stat: &DiskStat, odd: &mut Oddities) {
        let of = |key: &str| parse::text(property(&self.udev, key));
        // What is printed on the disk, else what it says shortly, else (virtio) at length.
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].iter().map(|key| of(key)).find(|serial| !serial.is_empty());
        self.info = LabelSet::of([
            ("device", &*stat.name),
            ("major", &*stat.major.to_string()),
            ("minor", &*stat.minor.to_string()),
            ("path", &*of("ID_PATH")),
            ("wwn", &*of("ID_WWN")),
            ("model", &*of("ID_MODEL")),
            ("serial", &*serial.unwrap_or_default()),
            ("revision", &*of("ID_REVISION")),
            ("rotational", if self.rotational { "1" } else { "0" }),
        ]);
        let filesystem = of("ID_FS_TYPE");
        self.filesystem = (!filesystem.is_empty()).then(|| {
            LabelSet::of([
                ("device", &*stat.name),
                ("type", &*filesystem),
                ("usage", &*of("ID_FS_USAGE")),
                ("uuid", &*of("ID_FS_UUID")),
                ("version", &*of("ID_FS_VERSION")),
            ])
        });
        let mapper = of("DM_NAME");
        self.mapper = (!mapper.is_empty()).then(|| {
            LabelSet::of([
                ("device", &*stat.name),
                ("name", &*mapper),
                ("uuid", &*of("DM_UUID")),
                ("vg_name", &*of("DM_VG_NAME")),
                ("lv_name", &*of("DM_LV_NAME")),
                ("lv_layer", &*of("DM_LV_LAYER")),
            ])
        });
        self.ata = ATA.map(|(key, ..)| {
            let value = property(&self.udev, key);
            if property(&self.udev, "ID_ATA").is_empty() || value.is_empty() {
                return None;
            }
            let number = parse::float(value);
            if number.is_none() {
                odd.line(key, value);
            }
            number
        });
    }
}

/// The value of `key` in a file of udev's data base, whose properties are lines `E:KEY=value`; empty where it is missing.
fn property<'a>(udev: &'a [u8], key: &str) -> &'a [u8] {
    let value = |line: &'a [u8]| line.strip_prefix(b"E:")?.strip_prefix(key.as_bytes())?.strip_prefix(b"=");
    parse::lines(udev).find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(line: &[u8]) -> Option<usize> {
        let stat = disk_line(line, &Filter::default())?.ok()?;
        Some(COLUMNS.iter().filter(|column| (column.value)(&stat).is_some()).count())
    }

    #[test]
    fn as_many_columns_as_the_kernel_has() {
        assert_eq!(columns(b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11"), Some(11));
        assert_eq!(columns(b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"), Some(15));
        assert_eq!(columns(b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"), Some(17));
        assert_eq!(columns(b" 8 0 sda 1 2 3 4 5 6 7 8 9 10"), None);
        assert_eq!(columns(b" 8 0"), None);
    }

    #[test]
    fn properties() {
        let udev = b"S:disk/by-id/x\nE:ID_SERIAL=a=b\nE:ID_SERIAL_SHORT=c\nG:systemd\n";
        assert_eq!(property(udev, "ID_SERIAL"), b"a=b");
        assert_eq!(property(udev, "ID_SERIAL_SHORT"), b"c");
        assert_eq!(property(udev, "ID_MODEL"), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (columns(&bytes), property(&bytes, "ID_MODEL"));
        }
    }
}
