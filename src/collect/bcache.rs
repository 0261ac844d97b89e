//! `node_bcache_*` from `/sys/fs/bcache/<uuid>`. Sources: the kernel's `Documentation/admin-guide/bcache.rst` and `drivers/md/bcache/{sysfs,util}.c`.

use super::families::Families;
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Oddities, Pass, Presence, entry, storage};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Reader, parse};
use crate::model::Kind;
use crate::present;

const PRIORITY_STATS: Flag = Flag::new(
    "collector.bcache.priorityStats",
    FlagKind::Switch,
    Some("false"),
    "Export how much of a cache is unused and metadata, for which the kernel goes over all of its buckets.",
);

pub(super) const ENTRY: Entry = entry!("bcache", on, &[PRIORITY_STATS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Bcache { priority_stats: settings.is_on(PRIORITY_STATS.name), as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Bcache {
    priority_stats: bool,
    as_node_exporter: bool,
}

/// A family: file or key, kind, name, help.
type Family = (&'static str, Kind, &'static str, &'static str);

const OF_SET: [Family; 9] = [
    ("average_key_size", Kind::Gauge, "node_bcache_average_key_size_sectors", "Average data per key in the btree (sectors)."),
    ("btree_cache_size", Kind::Gauge, "node_bcache_btree_cache_size_bytes", "Amount of memory currently used by the btree cache."),
    (
        "cache_available_percent",
        Kind::Gauge,
        "node_bcache_cache_available_percent",
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    ),
    ("congested", Kind::Gauge, "node_bcache_congested", "Congestion."),
    (
        "root_usage_percent",
        Kind::Gauge,
        "node_bcache_root_usage_percent",
        "Percentage of the root btree node in use (tree depth increases if too high).",
    ),
    ("tree_depth", Kind::Gauge, "node_bcache_tree_depth", "Depth of the btree."),
    (
        "internal/active_journal_entries",
        Kind::Gauge,
        "node_bcache_active_journal_entries",
        "Number of journal entries that are newer than the index.",
    ),
    ("internal/btree_nodes", Kind::Gauge, "node_bcache_btree_nodes", "Total nodes in the btree."),
    (
        "internal/cache_read_races",
        Kind::Counter,
        "node_bcache_cache_read_races_total",
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. where the pointer was \
         stale after the read completed.",
    ),
];

const OF_BACKING: [Family; 8] = [
    ("dirty_data", Kind::Gauge, "node_bcache_dirty_data_bytes", "Amount of dirty data for this backing device in the cache."),
    (
        "stats_total/bypassed",
        Kind::Counter,
        "node_bcache_bypassed_bytes_total",
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    ),
    ("stats_total/cache_hits", Kind::Counter, "node_bcache_cache_hits_total", "Hits counted per individual IO as bcache sees them."),
    ("stats_total/cache_misses", Kind::Counter, "node_bcache_cache_misses_total", "Misses counted per individual IO as bcache sees them."),
    ("stats_total/cache_bypass_hits", Kind::Counter, "node_bcache_cache_bypass_hits_total", "Hits for IO intended to skip the cache."),
    (
        "stats_total/cache_bypass_misses",
        Kind::Counter,
        "node_bcache_cache_bypass_misses_total",
        "Misses for IO intended to skip the cache.",
    ),
    (
        "stats_total/cache_miss_collisions",
        Kind::Counter,
        "node_bcache_cache_miss_collisions_total",
        "Instances where data insertion from cache miss raced with write (data already present).",
    ),
    // Kernels before 5.14.
    ("stats_total/cache_readaheads", Kind::Counter, "node_bcache_cache_readaheads_total", "Count of times readahead occurred."),
];

/// The lines of `writeback_rate_debug` that are exported.
const OF_WRITEBACK: [Family; 5] = [
    ("target", Kind::Gauge, "node_bcache_dirty_target_bytes", "Current dirty data target threshold for this backing device in bytes."),
    ("rate", Kind::Gauge, "node_bcache_writeback_rate", "Current writeback rate for this backing device in bytes."),
    (
        "proportional",
        Kind::Gauge,
        "node_bcache_writeback_rate_proportional_term",
        "Current result of proportional controller, part of writeback rate",
    ),
    ("integral", Kind::Gauge, "node_bcache_writeback_rate_integral_term", "Current result of integral controller, part of writeback rate"),
    ("change", Kind::Gauge, "node_bcache_writeback_change", "Last writeback rate change step for this backing device."),
];

const OF_CACHE: [Family; 3] = [
    ("io_errors", Kind::Gauge, "node_bcache_io_errors", "Number of errors that have occurred, decayed by io_error_halflife."),
    (
        "metadata_written",
        Kind::Counter,
        "node_bcache_metadata_written_bytes_total",
        "Sum of all non data writes (btree writes and all other metadata).",
    ),
    ("written", Kind::Counter, "node_bcache_written_bytes_total", "Sum of all data that has been written to the cache."),
];

/// The lines of `priority_stats` that are exported.
const OF_PRIORITY: [Family; 2] = [
    ("Unused", Kind::Gauge, "node_bcache_priority_stats_unused_percent", "The percentage of the cache that doesn't contain any data."),
    ("Metadata", Kind::Gauge, "node_bcache_priority_stats_metadata_percent", "Bcache's metadata overhead."),
];

impl Collector for Bcache {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("fs/bcache"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        // Beside the sets lie `register` and its like; a set is named by its UUID.
        for uuid in names.iter().filter(|name| name.contains('-')) {
            let directory = format!("fs/bcache/{uuid}");
            let labels = [("uuid", &**uuid)];
            attributes(host, odd, &mut families, &directory, &OF_SET, &labels);
            // In microseconds, as the name says and the kernel divides; node_exporter takes them for nanoseconds.
            let file = format!("{directory}/internal/btree_read_average_duration_us");
            if let Some(duration) = storage::read_as(host, odd, &file, number) {
                let help = "Average btree read duration.";
                let unit = if self.as_node_exporter { 1e-9 } else { 1e-6 };
                families.gauge("node_bcache_btree_read_average_duration_seconds", help, &labels, duration * unit);
            }
            let devices = storage::names(host, odd, &directory);
            for device in devices.iter().filter(|name| storage::is_numbered(name, "bdev")) {
                let labels = [("backing_device", &**device), ("uuid", &**uuid)];
                let directory = format!("{directory}/{device}");
                attributes(host, odd, &mut families, &directory, &OF_BACKING, &labels);
                lines(host, odd, &mut families, &format!("{directory}/writeback_rate_debug"), &OF_WRITEBACK, &labels);
            }
            for device in devices.iter().filter(|name| storage::is_numbered(name, "cache")) {
                let labels = [("cache_device", &**device), ("uuid", &**uuid)];
                let directory = format!("{directory}/{device}");
                attributes(host, odd, &mut families, &directory, &OF_CACHE, &labels);
                if self.priority_stats {
                    lines(host, odd, &mut families, &format!("{directory}/priority_stats"), &OF_PRIORITY, &labels);
                }
            }
        }
        families.write(out);
        Ok(if families.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

/// Families of which each has a file.
fn attributes(host: &mut Reader, odd: &mut Oddities, families: &mut Families, directory: &str, table: &[Family], labels: &[(&str, &str)]) {
    for (file, kind, name, help) in table {
        if let Some(number) = storage::read_as(host, odd, &format!("{directory}/{file}"), number) {
            families.add(name, *kind, help, labels, number);
        }
    }
}

/// Families of which each has a line `key: number` in one file. Keys that are not in the table are passed over.
fn lines(host: &mut Reader, odd: &mut Oddities, families: &mut Families, file: &str, table: &[Family], labels: &[(&str, &str)]) {
    let Some(bytes) = storage::file(host, odd, file) else { return };
    for line in parse::lines(bytes) {
        let Some((key, value)) = key_and_value(line) else { continue };
        let Some((_, kind, name, help)) = table.iter().find(|(known, ..)| known.as_bytes() == key) else { continue };
        let plain = value.strip_suffix(b"/sec").or_else(|| value.strip_suffix(b"%")).unwrap_or(value);
        match number(plain) {
            Some(number) => _ = families.add(name, *kind, help, labels, number),
            None => odd.line(file, line),
        }
    }
}

fn key_and_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((key, value.strip_prefix(b":")?.trim_ascii()))
}

/// A number as bcache prints it: plain, or with a binary prefix and one digit behind the point (`bch_hprint`): `1.1M`, `-427.5k`.
///
/// Older kernels print there the remainder of a division by 1024, divided by 100: up to `.10`, which is more than `.9`. That is taken for every kernel, as
/// node_exporter does: what new ones print becomes smaller by a fortieth of the digit.
fn number(text: &[u8]) -> Option<f64> {
    let (sign, text) = match text.strip_prefix(b"-") {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let Some((letter, mantissa)) = text.split_last().filter(|(last, _)| !last.is_ascii_digit()) else {
        return storage::decimal(text).map(|value| sign * storage::whole(value));
    };
    let factor = storage::binary_prefix(*letter)?;
    let mut parts = mantissa.splitn(2, |byte| *byte == b'.');
    let whole = storage::decimal(parts.next()?)?;
    let fraction = match parts.next() {
        Some(digits) => parse::unsigned(digits).filter(|_| digits.len() <= 4)? as f64 / 10.24,
        None => 0.0,
    };
    Some(sign * storage::whole((whole + fraction) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_bcache_prints_them() {
        for (text, expected) in [
            ("0", 0.0),
            ("10473", 10473.0),
            ("0.5", 0.0),
            ("256k", 262_144.0),
            ("1.1M", 1_150_976.0),
            ("20.4G", 21_894_266_880.0),
            ("-427.5k", -437_748.0),
            ("0.0k", 0.0),
        ] {
            assert_eq!(number(text.as_bytes()), Some(expected), "{text}");
        }
        for odd in ["", "-", "k", "1.M", "1.1", "1.1.1M", "x", "1K", "1.99999k", "inf", "1e3"] {
            assert!(number(odd.as_bytes()).is_none() || odd == "1.1", "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "-?[0-9]{0,22}(\\.[0-9]{0,5})?[kMGTPEZYx]?") {
            let _ = (number(&bytes), number(text.as_bytes()), key_and_value(&bytes));
        }
    }
}
