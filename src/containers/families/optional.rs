//! The families of the groups that are off by default (`--containers.enable`).

use super::{One, Row, nanoseconds, number, one_each};
use crate::cgroup::extras::HugePages;
use crate::collect::Pass;
use crate::containers::{activity, connections};
use crate::model::{Kind, Value};

const OF_ALL_PROCESSES: &[One] = super::families![
    Gauge "container_file_descriptors" "Number of open file descriptors for the container." |row| number(row.activity?.files);
    Gauge "container_sockets" "Number of open sockets for the container." |row| number(row.activity?.sockets);
    Counter "container_cpu_schedstat_run_seconds_total" "Time duration the processes of the container have run on the CPU."
        |row| Some(nanoseconds(row.activity?.schedule?.ran));
    Counter "container_cpu_schedstat_runqueue_seconds_total" "Time duration processes of the container have been waiting on a runqueue."
        |row| Some(nanoseconds(row.activity?.schedule?.waited));
    Counter "container_cpu_schedstat_run_periods_total" "Number of times processes of the cgroup have run on the cpu"
        |row| number(Some(row.activity?.schedule?.turns));
    Gauge "container_memory_migrate" "Memory migrate status." |row| number(row.extra?.cgroup.memory_migrate);
];

pub(super) fn write(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    one_each(OF_ALL_PROCESSES, rows, pass);
    let help = "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice";
    let mut family = pass.out.family("container_ulimits_soft", Kind::Gauge, help);
    for row in rows {
        if let Some(limit) = row.extra.and_then(|extra| extra.open_files_limit) {
            family.sample_shared(row.series, &[("ulimit", "max_open_files")], limit);
        }
    }
    tcp(rows, pass);
    udp(rows, pass);
    let help = "advance tcp connections statistic for container";
    let mut family = pass.out.family("container_network_advance_tcp_stats_total", Kind::Gauge, help);
    for row in rows {
        for (name, value) in row.extra.into_iter().flat_map(|extra| &extra.counters) {
            family.sample_shared(row.series, &[("tcp_state", name)], *value);
        }
    }
    huge_pages(rows, pass);
    numa(rows, pass);
}

/// Threads by state. Without the group `sched` they are not counted: then there is one sample that is no number, for there are dashboards that know what
/// containers there are by this family. cAdvisor writes zeros.
pub(super) fn states(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_tasks_state", Kind::Gauge, "Number of tasks in given state");
    for row in rows.iter().filter(|row| row.container.is_some()) {
        match row.activity.and_then(|activity| activity.states) {
            Some(states) => {
                for (state, count) in activity::STATES.iter().zip(states) {
                    family.sample_shared(row.series, &[("state", state)], count);
                }
            }
            None => {
                family.sample_shared(row.series, &[("state", "running")], Value::Float(f64::NAN));
            }
        }
    }
}

fn tcp(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    for (version, name, help) in [
        (0, "container_network_tcp_usage_total", "tcp connection usage statistic for container"),
        (1, "container_network_tcp6_usage_total", "tcp6 connection usage statistic for container"),
    ] {
        let mut family = pass.out.family(name, Kind::Gauge, help);
        for row in rows {
            let states = row.extra.and_then(|extra| *extra.tcp.get(version)?);
            for (state, count) in states.iter().flat_map(|states| connections::STATES.iter().zip(states.0)) {
                family.sample_shared(row.series, &[("tcp_state", state)], count);
            }
        }
    }
}

fn udp(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    for (version, name, help) in [
        (0, "container_network_udp_usage_total", "udp connection usage statistic for container"),
        (1, "container_network_udp6_usage_total", "udp6 connection usage statistic for container"),
    ] {
        let mut family = pass.out.family(name, Kind::Gauge, help);
        for row in rows {
            let Some(sockets) = row.extra.and_then(|extra| *extra.udp.get(version)?) else { continue };
            let samples =
                [("listen", sockets.open), ("dropped", sockets.dropped), ("rxqueued", sockets.received), ("txqueued", sockets.sent)];
            for (state, value) in samples {
                family.sample_shared(row.series, &[("udp_state", state)], value);
            }
        }
    }
}

fn huge_pages(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    type Field = fn(&HugePages) -> Option<u64>;
    let families: [(&str, Kind, &str, Field); 3] = [
        ("container_hugetlb_usage_bytes", Kind::Gauge, "Current hugepage usage in bytes", |pages| pages.usage),
        ("container_hugetlb_max_usage_bytes", Kind::Gauge, "Maximum hugepage usage recorded in bytes", |pages| pages.max_usage),
        ("container_hugetlb_failcnt", Kind::Counter, "Number of hugepage usage hits limits", |pages| pages.failures),
    ];
    for (name, kind, help, value) in families {
        let mut family = pass.out.family(name, kind, help);
        for row in rows {
            for pages in row.extra.into_iter().flat_map(|extra| &extra.cgroup.hugetlb) {
                if let Some(value) = value(pages) {
                    family.sample_shared(row.series, &[("pagesize", &pages.size)], value);
                }
            }
        }
    }
}

fn numa(rows: &[Row<'_>], pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_memory_numa_pages", Kind::Gauge, "Number of used pages per NUMA node");
    for row in rows {
        for of in row.extra.into_iter().flat_map(|extra| &extra.cgroup.numa) {
            let scope = if of.hierarchy { "hierarchy" } else { "container" };
            let mut node = itoa::Buffer::new();
            family.sample_shared(row.series, &[("node", node.format(of.node)), ("scope", scope), ("type", of.kind)], of.pages);
        }
    }
}
