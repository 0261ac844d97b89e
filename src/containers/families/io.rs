//! Block devices: what a cgroup counts of its own, and under `id="/"` the host's disks.
//!
//! cAdvisor puts the host's counters of the disk below a container's layer under the container's id, with times that are 10^6 too small. Here a container has
//! what its cgroup counts, in seconds, and nothing else.

use super::{Row, microseconds, nanoseconds, number};
use crate::cgroup::DeviceIo;
use crate::collect::Pass;
use crate::model::{Kind, Value};

struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&DeviceIo) -> Option<Value>,
}

type Field = fn(&DeviceIo) -> Option<u64>;

macro_rules! families {
    ($($kind:ident $name:literal $help:literal $value:expr;)*) => {
        &[$(Family { name: $name, kind: Kind::$kind, help: $help, value: $value }),*]
    };
}

const FAMILIES: &[Family] = families![
    Counter "container_fs_reads_bytes_total" "Cumulative count of bytes read" |io| number(io.read_bytes);
    Counter "container_fs_reads_total" "Cumulative count of reads completed" |io| number(io.reads);
    Counter "container_fs_sector_reads_total" "Cumulative count of sector reads completed" |io| number(io.sectors_read);
    Counter "container_fs_reads_merged_total" "Cumulative count of reads merged" |io| number(io.reads_merged);
    Counter "container_fs_read_seconds_total" "Cumulative count of seconds spent reading" |io| io.read_time.map(nanoseconds);
    Counter "container_fs_writes_bytes_total" "Cumulative count of bytes written" |io| number(io.write_bytes);
    Counter "container_fs_writes_total" "Cumulative count of writes completed" |io| number(io.writes);
    Counter "container_fs_sector_writes_total" "Cumulative count of sector writes completed" |io| number(io.sectors_written);
    Counter "container_fs_writes_merged_total" "Cumulative count of writes merged" |io| number(io.writes_merged);
    Counter "container_fs_write_seconds_total" "Cumulative count of seconds spent writing" |io| io.write_time.map(nanoseconds);
    Gauge "container_fs_io_current" "Number of I/Os currently in progress" |io| number(io.in_progress);
    Counter "container_fs_io_time_seconds_total" "Cumulative count of seconds spent doing I/Os" |io| io.io_time.map(nanoseconds);
    Counter "container_fs_io_time_weighted_seconds_total" "Cumulative weighted I/O time in seconds" |io| io.weighted_time.map(nanoseconds);
    Counter "container_fs_io_cost_usage_seconds_total" "Cumulative IOCost usage in seconds" |io| io.cost_usage.map(microseconds);
    Counter "container_fs_io_cost_wait_seconds_total" "Cumulative IOCost wait in seconds" |io| io.cost_wait.map(microseconds);
    Counter "container_fs_io_cost_indebt_seconds_total" "Cumulative IOCost debt in seconds" |io| io.cost_indebt.map(microseconds);
    Counter "container_fs_io_cost_indelay_seconds_total" "Cumulative IOCost delay in seconds" |io| io.cost_indelay.map(microseconds);
];

/// The operations of `container_blkio_device_usage_total`, in the kernel's words. v2 tells the first three.
const OPERATIONS: [(&str, Field); 6] = [
    ("Read", |io| io.read_bytes),
    ("Write", |io| io.write_bytes),
    ("Discard", |io| io.discard_bytes),
    ("Sync", |io| io.sync_bytes),
    ("Async", |io| io.async_bytes),
    ("Total", |io| io.total_bytes),
];

pub(super) fn write(rows: &[Row<'_>], devices: &dyn Fn(&DeviceIo) -> String, pass: &mut Pass<'_>) {
    let names: Vec<Vec<String>> = rows.iter().map(|row| row.usage.io.iter().map(devices).collect()).collect();
    let each =
        || rows.iter().zip(&names).flat_map(|(row, names)| row.usage.io.iter().zip(names).map(move |(io, device)| (row, io, device)));
    for Family { name, kind, help, value } in FAMILIES {
        let mut family = pass.out.family(name, *kind, help);
        for (row, io, device) in each() {
            if let Some(value) = value(io) {
                family.sample_shared(row.series, &[("device", device)], value);
            }
        }
    }
    let mut family = pass.out.family("container_blkio_device_usage_total", Kind::Counter, "Blkio Device bytes usage");
    for (row, io, device) in each() {
        let (mut major, mut minor) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (major, minor) = (major.format(io.major), minor.format(io.minor));
        for (operation, value) in OPERATIONS {
            if let Some(value) = value(io) {
                family.sample_shared(
                    row.series,
                    &[("device", device), ("major", major), ("minor", minor), ("operation", operation)],
                    value,
                );
            }
        }
    }
}
