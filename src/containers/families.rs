//! cAdvisor's families, and what each takes from a container.
//!
//! Where cAdvisor is wrong the right number stands under its name: limits hit, kernel memory and reservations under v2, pressure under v1, kills for want of
//! memory from the kernel's own counter. What a host does not tell is left out; cAdvisor writes 0.

mod io;
mod optional;

use std::sync::Arc;

use super::activity::Activity;
use super::extra::Extra;
use super::network::{Direction, Interface};
use crate::cgroup::{DeviceIo, Usage};
use crate::collect::Pass;
use crate::docker::Container;
use crate::model::{Kind, LabelSet, Value};

/// What is known of one container, or of the root, at this scrape.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) series: &'a Arc<LabelSet>,
    pub(crate) container: Option<&'a Container>,
    pub(crate) usage: &'a Usage,
    pub(crate) interfaces: &'a [Interface],
    /// What was asked for besides; `None` where nothing was.
    pub(crate) extra: Option<&'a Extra>,
    /// What its processes do, where that was asked for.
    pub(crate) activity: Option<&'a Activity>,
    /// The machine's memory, for the root: what it may use.
    pub(crate) machine_memory: u64,
    /// Seconds since the epoch.
    pub(crate) now: f64,
}

/// A family with one sample a container.
struct One {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&Row<'_>) -> Option<Value>,
}

macro_rules! families {
    ($($kind:ident $name:literal $help:literal $value:expr;)*) => {
        &[$($crate::containers::families::One { name: $name, kind: Kind::$kind, help: $help, value: $value }),*]
    };
}
use families;

const CPU: &[One] = families![
    Counter "container_cpu_user_seconds_total" "Cumulative user cpu time consumed in seconds." |row| row.usage.cpu_user.map(nanoseconds);
    Counter "container_cpu_system_seconds_total" "Cumulative system cpu time consumed in seconds." |row| row.usage.cpu_system.map(nanoseconds);
    Counter "container_cpu_cfs_periods_total" "Number of elapsed enforcement period intervals."
        |row| number(row.usage.limits.cpu_quota.and(row.usage.cpu_periods));
    Counter "container_cpu_cfs_throttled_periods_total" "Number of throttled period intervals."
        |row| number(row.usage.limits.cpu_quota.and(row.usage.cpu_throttled_periods));
    Counter "container_cpu_cfs_throttled_seconds_total" "Total time duration the container has been throttled."
        |row| row.usage.limits.cpu_quota.and(row.usage.cpu_throttled).map(nanoseconds);
    Gauge "container_cpu_cfs_throttled_periods_ratio" "Share of the elapsed enforcement periods in which the container was throttled, since its cgroup began."
        |row| throttled_share(row);
    Counter "container_cpu_cfs_burst_periods_total" "Number of periods when burst occurs."
        |row| number(row.usage.limits.cpu_quota.and(row.usage.cpu_bursts));
    Counter "container_cpu_cfs_burst_seconds_total" "Total time duration the container has been bursted."
        |row| row.usage.limits.cpu_quota.and(row.usage.cpu_burst).map(nanoseconds);
];

const MEMORY: &[One] = families![
    Gauge "container_memory_usage_bytes" "Current memory usage in bytes, including all memory regardless of when it was accessed"
        |row| number(row.usage.memory_usage);
    Gauge "container_memory_working_set_bytes" "Current working set in bytes." |row| number(row.usage.working_set());
    Gauge "container_memory_rss" "Size of RSS in bytes." |row| number(row.usage.memory_anon);
    Gauge "container_memory_cache" "Number of bytes of page cache memory." |row| number(row.usage.memory_file);
    Gauge "container_memory_mapped_file" "Size of memory mapped files in bytes." |row| number(row.usage.memory_mapped);
    Gauge "container_memory_swap" "Container swap usage in bytes." |row| number(row.usage.memory_swap);
    Gauge "container_memory_max_usage_bytes" "Maximum memory usage recorded in bytes" |row| number(row.usage.memory_max_usage);
    Gauge "container_memory_kernel_usage" "Size of kernel memory allocated in bytes." |row| number(row.usage.memory_kernel);
    Gauge "container_memory_total_active_file_bytes" "Current total active file in bytes." |row| number(row.usage.memory_active_file);
    Gauge "container_memory_total_inactive_file_bytes" "Current total inactive file in bytes." |row| number(row.usage.memory_inactive_file);
    Gauge "container_memory_file_dirty_bytes" "Number of bytes of file cache that has been modified but not yet written back to disk."
        |row| number(row.usage.memory_dirty);
    Gauge "container_memory_file_writeback_bytes" "Number of bytes of file cache that is currently being written back to disk."
        |row| number(row.usage.memory_writeback);
 Gauge "container_memory_shmem_bytes" "Bytes of shared memory and tmpfs, which are part of the cache and cannot be given back."
        |row| number(row.usage.memory_shmem);
    Gauge "container_memory_slab_reclaimable_bytes" "Bytes of the kernel's caches for the container that can be given back, as dentries and inodes."
        |row| number(row.usage.memory_slab_reclaimable);
    Gauge "container_memory_slab_unreclaimable_bytes" "Bytes of the kernel's objects for the container that cannot be given back."
        |row| number(row.usage.memory_slab_unreclaimable);
    Counter "container_memory_failcnt" "Number of memory usage hits limits" |row| number(row.usage.memory_failures);
    Counter "container_memory_events_high_total" "Cumulative count of memory.high throttle events for the container"
        |row| number(row.usage.memory_high_events);
    Counter "container_memory_events_max_total" "Cumulative count of memory.max limit hit events for the container"
        |row| number(row.usage.memory_max_events);
    Counter "container_memory_pgscan_total" "Cumulative number of pages scanned by the page reclaim algorithm."
        |row| number(row.usage.pages_scanned);
    Counter "container_memory_pgsteal_total" "Cumulative number of pages reclaimed by the page reclaim algorithm."
        |row| number(row.usage.pages_stolen);
    Counter "container_memory_workingset_refault_file_total" "Cumulative number of refaults of previously evicted file pages."
        |row| number(row.usage.refaults_file);
    Counter "container_memory_workingset_refault_anon_total" "Cumulative number of refaults of previously evicted anonymous pages."
        |row| number(row.usage.refaults_anon);
];

const REST: &[One] = families![
    Gauge "container_processes" "Number of processes running inside the container."
        // Processes of another pid namespace than the reader's are not listed under v1.
        |row| number(row.usage.processes.filter(|count| *count > 0));
    Gauge "container_threads" "Number of threads running inside the container" |row| number(row.usage.threads);
    Gauge "container_threads_max" "Maximum number of threads allowed inside the container, infinity if value is zero"
        |row| number(row.usage.limits.threads);
    Counter "container_pressure_cpu_waiting_seconds_total" "Total time duration tasks in the container have waited due to CPU congestion."
        |row| row.usage.pressure_cpu.map(|pressure| microseconds(pressure.some));
    Counter "container_pressure_cpu_stalled_seconds_total"
        "Total time duration no tasks in the container could make progress due to CPU congestion."
        |row| row.usage.pressure_cpu.and_then(|pressure| pressure.full).map(microseconds);
    Counter "container_pressure_memory_waiting_seconds_total" "Total time duration tasks in the container have waited due to memory congestion."
        |row| row.usage.pressure_memory.map(|pressure| microseconds(pressure.some));
    Counter "container_pressure_memory_stalled_seconds_total"
        "Total time duration no tasks in the container could make progress due to memory congestion."
        |row| row.usage.pressure_memory.and_then(|pressure| pressure.full).map(microseconds);
    Counter "container_pressure_io_waiting_seconds_total" "Total time duration tasks in the container have waited due to IO congestion."
        |row| row.usage.pressure_io.map(|pressure| microseconds(pressure.some));
    Counter "container_pressure_io_stalled_seconds_total"
        "Total time duration no tasks in the container could make progress due to IO congestion."
        |row| row.usage.pressure_io.and_then(|pressure| pressure.full).map(microseconds);
    Gauge "container_spec_cpu_period" "CPU period of the container." |row| number(row.usage.limits.cpu_period);
    Gauge "container_spec_cpu_quota" "CPU quota of the container." |row| number(row.usage.limits.cpu_quota);
    Gauge "container_spec_cpu_shares" "CPU share of the container." |row| number(shares(row));
    Gauge "container_spec_memory_limit_bytes" "Memory limit for the container."
        |row| number(if row.container.is_some() { row.usage.limits.memory } else { Some(row.machine_memory).filter(|bytes| *bytes > 0) });
    Gauge "container_spec_memory_swap_limit_bytes" "Memory swap limit for the container." |row| number(row.usage.limits.memory_and_swap);
    Gauge "container_spec_memory_reservation_limit_bytes" "Memory reservation limit for the container."
        |row| number(row.usage.limits.memory_reservation);
    Gauge "container_last_seen" "Last time a container was seen by the exporter" |row| Some(row.now.into());
    Gauge "container_start_time_seconds" "Start time of the container since unix epoch in seconds."
        |row| Some(row.container?.started?.into());
    Gauge "container_creation_time_seconds" "Container creation time since unix epoch in seconds." |row| Some(row.container?.created.into());
    Gauge "container_health_state" "The result of the container's health check" |row| Some(health(row.container?).into());
];

/// Writes all families of the rows, each family whole before the next.
pub(crate) fn write(rows: &[Row<'_>], devices: &dyn Fn(&DeviceIo) -> String, pass: &mut Pass<'_>) {
    cpu_usage(rows, pass);
    one_each(CPU, rows, pass);
    one_each(MEMORY, rows, pass);
    memory_failures(rows, pass);
    io::write(rows, devices, pass);
    network(rows, pass);
    one_each(REST, rows, pass);
    optional::states(rows, pass);
    if rows.iter().any(|row| row.extra.is_some()) {
        optional::write(rows, pass);
    }
}

fn one_each(families: &[One], rows: &[Row<'_>], pass: &mut Pass<'_>) {
    for one in families {
        let mut family = pass.out.family(one.name, one.kind, one.help);
        for row in rows {
            if let Some(value) = (one.value)(row) {
                family.sample_shared(row.series, &[], value);
            }
        }
    }
}

/// v1 tells each CPU, v2 the sum only. A CPU that is 0 is one that is not there: the kernel lists all that there could be.
fn cpu_usage(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_cpu_usage_seconds_total", Kind::Counter, "Cumulative cpu time consumed in seconds.");
    let mut label = String::new();
    for row in rows {
        let usage = row.usage;
        if usage.cpu_each.iter().all(|time| *time == 0) {
            if let Some(total) = usage.cpu_total {
                family.sample_shared(row.series, &[("cpu", "total")], nanoseconds(total));
            }
            continue;
        }
        for (number, time) in usage.cpu_each.iter().enumerate().filter(|(_, time)| **time > 0) {
            label.clear();
            let mut digits = itoa::Buffer::new();
            label.push_str(if number < 10 { "cpu0" } else { "cpu" });
            label.push_str(digits.format(number));
            family.sample_shared(row.series, &[("cpu", &label)], nanoseconds(*time));
        }
    }
}

fn memory_failures(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_memory_failures_total", Kind::Counter, "Cumulative count of memory allocation failures.");
    for Row { series, usage, .. } in rows {
        // v2 counts the cgroup with those below it only; of a container there are none below.
        let own = usage.page_faults_own.or(usage.page_faults);
        let own_major = usage.major_faults_own.or(usage.major_faults);
        let samples = [
            ("pgfault", "container", own),
            ("pgfault", "hierarchy", usage.page_faults),
            ("pgmajfault", "container", own_major),
            ("pgmajfault", "hierarchy", usage.major_faults),
        ];
        for (kind, scope, value) in samples {
            if let Some(value) = value {
                family.sample_shared(series, &[("failure_type", kind), ("scope", scope)], value);
            }
        }
    }
}

fn network(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    type Field = fn(&Direction) -> u64;
    const RECEIVE: [(&str, &str, Field); 4] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |of| of.bytes),
        ("container_network_receive_packets_total", "Cumulative count of packets received", |of| of.packets),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |of| of.errors),
        ("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", |of| of.dropped),
    ];
    const TRANSMIT: [(&str, &str, Field); 4] = [
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |of| of.bytes),
        ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |of| of.packets),
        ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |of| of.errors),
        ("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", |of| of.dropped),
    ];
    let mut write = |families: &[(&str, &str, Field)], direction: fn(&Interface) -> &Direction| {
        for (name, help, field) in families {
            let mut family = pass.out.family(name, Kind::Counter, help);
            for row in rows {
                for interface in row.interfaces {
                    family.sample_shared(row.series, &[("interface", &interface.name)], field(direction(interface)));
                }
            }
        }
    };
    write(&RECEIVE, |interface| &interface.receive);
    write(&TRANSMIT, |interface| &interface.transmit);
}

fn number(value: Option<u64>) -> Option<Value> {
    value.map(Value::from)
}

#[expect(clippy::cast_precision_loss, reason = "seconds with a fraction: a double holds 104 days to the nanosecond")]
fn nanoseconds(value: u64) -> Value {
    Value::Float(value as f64 / 1e9)
}

#[expect(clippy::cast_precision_loss, reason = "as nanoseconds")]
fn microseconds(value: u64) -> Value {
    Value::Float(value as f64 / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn throttled_share(row: &Row<'_>) -> Option<Value> {
    row.usage.limits.cpu_quota?;
    let (periods, throttled) = (row.usage.cpu_periods.filter(|periods| *periods > 0)?, row.usage.cpu_throttled_periods?);
    Some(Value::Float(throttled as f64 / periods as f64))
}

/// The shares that were asked for. v2 has weights instead, and runtimes turn shares into weights by curves of their own (linear once, no longer since 2025):
/// so what Docker was told comes first, and a weight that nobody set is the 1024 shares that nobody asked for.
fn shares(row: &Row<'_>) -> Option<u64> {
    let limits = &row.usage.limits;
    let of_weight = |weight: u64| match weight {
        100 => 1024,
        other => 2 + other.saturating_sub(1).saturating_mul(262_142) / 9999,
    };
    let asked = row.container.and_then(|container| container.cpu_shares);
    limits.cpu_shares.or(limits.cpu_weight.and(asked)).or_else(|| limits.cpu_weight.map(of_weight))
}

/// cAdvisor's numbers: 1 healthy, 0 starting or unhealthy, -1 without a check.
fn health(container: &Container) -> i64 {
    match container.health.as_deref() {
        Some("healthy") => 1,
        Some(_) => 0,
        None => -1,
    }
}
