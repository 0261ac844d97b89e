//! `node_tape_*` from `/sys/class/scsi_tape/st*/stats`. Source: the kernel's `Documentation/scsi/st.rst`.

use regex::bytes::Regex;

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, entry, filter, storage};
use crate::config::{Flag, FlagKind, Settings};
use crate::model::Kind;
use crate::present;

const IGNORED: Flag = Flag::new("collector.tapestats.ignored-devices", FlagKind::One("REGEX"), Some("^$"), "Tape drives to leave out.");

pub(super) const ENTRY: Entry = entry!("tapestats", on, &[IGNORED], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(TapeStats { ignored: filter::pattern(settings, &IGNORED)? }))
}

struct TapeStats {
    ignored: Option<Regex>,
}

/// What a number is: nanoseconds are exported as seconds.
enum Unit {
    Plain,
    Now,
    Nanoseconds,
}

const FILES: [(&str, Unit, &str, &str); 10] = [
    ("in_flight", Unit::Now, "node_tape_io_now", "The number of I/Os currently outstanding to this device."),
    (
        "io_ns",
        Unit::Nanoseconds,
        "node_tape_io_time_seconds_total",
        "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement commands such as \
         seeking between file or set marks and implicit tape movement such as when rewind on close tape devices are used.",
    ),
    (
        "other_cnt",
        Unit::Plain,
        "node_tape_io_others_total",
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these commands uses the \
         following calculation io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
    ),
    ("read_byte_cnt", Unit::Plain, "node_tape_read_bytes_total", "The number of bytes read from the tape drive."),
    ("read_cnt", Unit::Plain, "node_tape_reads_completed_total", "The number of read requests issued to the tape drive."),
    ("read_ns", Unit::Nanoseconds, "node_tape_read_time_seconds_total", "The amount of time spent waiting for read requests to complete."),
    (
        "resid_cnt",
        Unit::Plain,
        "node_tape_residual_total",
        "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a program is issuing \
         a read larger thean the block size on tape. For write not all data made it to tape.",
    ),
    ("write_byte_cnt", Unit::Plain, "node_tape_written_bytes_total", "The number of bytes written to the tape drive."),
    ("write_cnt", Unit::Plain, "node_tape_writes_completed_total", "The number of write requests issued to the tape drive."),
    (
        "write_ns",
        Unit::Nanoseconds,
        "node_tape_write_time_seconds_total",
        "The amount of time spent waiting for write requests to complete.",
    ),
];

impl Collector for TapeStats {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("class/scsi_tape"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        // A drive has a name for each of its modes: st0, st0a, nst0, ... They share their numbers.
        for device in names.iter().filter(|name| storage::is_numbered(name, "st")) {
            if self.ignored.as_ref().is_some_and(|pattern| pattern.is_match(device.as_bytes())) {
                continue;
            }
            for (file, unit, name, help) in &FILES {
                let Some(number) = storage::unsigned(host, odd, &format!("class/scsi_tape/{device}/stats/{file}")) else { continue };
                let labels = [("device", &**device)];
                match unit {
                    Unit::Plain => families.add(name, Kind::Counter, help, &labels, number),
                    Unit::Now => families.add(name, Kind::Gauge, help, &labels, number),
                    Unit::Nanoseconds => families.add(name, Kind::Counter, help, &labels, number as f64 * 0.000_000_001),
                };
            }
        }
        Ok(families.write(out))
    }
}
