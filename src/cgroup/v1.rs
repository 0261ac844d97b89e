//! The files of cgroup v1 (Documentation/admin-guide/cgroup-v1 of the kernel).

use super::fields::{count_lines, device, key_values, limit, number, pressure};
use super::usage::{DeviceIo, Schedulers, Usage};
use super::{How, KernelFile, Tree};
use crate::host::parse::{fields, lines, signed, trimmed, unsigned};

pub(super) const FILES: &[KernelFile] = &[
    KernelFile { tree: Tree::Cpuacct, name: "cpuacct.usage_percpu", how: How::Kept, parse: cpu_each },
    KernelFile {
        tree: Tree::Cpuacct,
        name: "cpuacct.usage",
        how: How::Witness,
        // Where the CPUs one by one are told, their sum is what is told of all.
        parse: |bytes, usage| usage.cpu_each.iter().any(|time| *time > 0) || set(&mut usage.cpu_total, number(bytes)),
    },
    KernelFile { tree: Tree::Cpuacct, name: "cpuacct.stat", how: How::Kept, parse: cpu_times },
    KernelFile { tree: Tree::Cpu, name: "cpu.cfs_quota_us", how: How::Limit, parse: quota },
    KernelFile { tree: Tree::Cpu, name: "cpu.stat", how: How::Quota, parse: throttling },
    KernelFile { tree: Tree::Memory, name: "memory.stat", how: How::Kept, parse: memory },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.usage_in_bytes",
        how: How::Witness,
        parse: |bytes, usage| set(&mut usage.memory_usage, number(bytes)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.max_usage_in_bytes",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.memory_max_usage, number(bytes)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.failcnt",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.memory_failures, number(bytes)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.kmem.usage_in_bytes",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.memory_kernel, number(bytes)),
    },
    KernelFile { tree: Tree::Memory, name: "memory.oom_control", how: How::Kept, parse: oom },
    KernelFile { tree: Tree::Pids, name: "pids.current", how: How::Kept, parse: |bytes, usage| set(&mut usage.threads, number(bytes)) },
    // What a scheduler saw, and then the throttling layer for devices under another one. The layer counts since Linux 6.10 only where a limit is set.
    blkio("blkio.bfq.io_service_bytes_recursive", How::Bfq, |bytes, usage| scheduler(bytes, usage, |had| &mut had.bfq)),
    blkio("blkio.bfq.io_serviced_recursive", How::Bfq, io_operations),
    blkio("blkio.bfq.io_service_time_recursive", How::BfqTimes, |bytes, usage| scheduler_times(bytes, usage, |had| &mut had.bfq_times)),
    blkio("blkio.bfq.io_wait_time_recursive", How::BfqTimes, io_waits),
    blkio("blkio.bfq.io_merged_recursive", How::BfqTimes, io_merges),
    blkio("blkio.bfq.io_queued_recursive", How::BfqTimes, io_queues),
    blkio("blkio.io_service_bytes_recursive", How::Cfq, |bytes, usage| scheduler(bytes, usage, |had| &mut had.cfq)),
    blkio("blkio.io_serviced_recursive", How::Cfq, io_operations),
    blkio("blkio.io_service_time_recursive", How::Cfq, io_times),
    blkio("blkio.io_wait_time_recursive", How::Cfq, io_waits),
    blkio("blkio.io_merged_recursive", How::Cfq, io_merges),
    blkio("blkio.io_queued_recursive", How::Cfq, io_queues),
    blkio("blkio.throttle.io_service_bytes_recursive", How::Kept, io_bytes),
    blkio("blkio.throttle.io_serviced_recursive", How::Operations, io_operations),
    // A hybrid host's unified tree has no controllers, but it tells pressure.
    KernelFile {
        tree: Tree::Unified,
        name: "cpu.pressure",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.pressure_cpu, pressure(bytes)),
    },
    KernelFile {
        tree: Tree::Unified,
        name: "memory.pressure",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.pressure_memory, pressure(bytes)),
    },
    KernelFile {
        tree: Tree::Unified,
        name: "io.pressure",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.pressure_io, pressure(bytes)),
    },
    KernelFile { tree: Tree::Unified, name: "cgroup.procs", how: How::Kept, parse: processes },
    KernelFile {
        tree: Tree::Cpu,
        name: "cpu.cfs_period_us",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.cpu_period, number(bytes)),
    },
    KernelFile {
        tree: Tree::Cpu,
        name: "cpu.shares",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.cpu_shares, number(bytes)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.limit_in_bytes",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.memory, number(bytes).map(limit)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.memsw.limit_in_bytes",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.memory_and_swap, number(bytes).map(limit)),
    },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.soft_limit_in_bytes",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.memory_reservation, number(bytes).map(limit)),
    },
    KernelFile {
        tree: Tree::Pids,
        name: "pids.max",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.threads, super::fields::number_or_max(bytes).map(limit)),
    },
];

const fn blkio(name: &'static str, how: How, parse: fn(&[u8], &mut Usage) -> bool) -> KernelFile {
    KernelFile { tree: Tree::Blkio, name, how, parse }
}

/// The kernel tells times in `cpuacct.stat` in hundredths of a second, whatever its own tick.
const TICK: u64 = 10_000_000;

pub(super) fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    *field = value;
    field.is_some()
}

fn cpu_each(bytes: &[u8], usage: &mut Usage) -> bool {
    usage.cpu_each.extend(fields(trimmed(bytes)).map_while(unsigned));
    !usage.cpu_each.is_empty()
}

fn cpu_times(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| match key {
        b"user" => usage.cpu_user = value.checked_mul(TICK),
        b"system" => usage.cpu_system = value.checked_mul(TICK),
        _ => {}
    })
}

fn throttling(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| match key {
        b"nr_periods" => usage.cpu_periods = Some(value),
        b"nr_throttled" => usage.cpu_throttled_periods = Some(value),
        b"throttled_time" => usage.cpu_throttled = Some(value),
        b"nr_bursts" => usage.cpu_bursts = Some(value),
        b"burst_time" => usage.cpu_burst = Some(value),
        _ => {}
    })
}

/// `total_` is the cgroup with those below it, and is missing where the hierarchy is off.
fn memory(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| {
        match key {
            b"pgfault" => usage.page_faults_own = Some(value),
            b"pgmajfault" => usage.major_faults_own = Some(value),
            _ => {}
        }
        let total = key.strip_prefix(b"total_");
        let field = match total.unwrap_or(key) {
            b"rss" => &mut usage.memory_anon,
            b"cache" => &mut usage.memory_file,
            b"mapped_file" => &mut usage.memory_mapped,
            b"swap" => &mut usage.memory_swap,
            b"active_file" => &mut usage.memory_active_file,
            b"inactive_file" => &mut usage.memory_inactive_file,
            b"dirty" => &mut usage.memory_dirty,
            b"writeback" => &mut usage.memory_writeback,
            b"shmem" => &mut usage.memory_shmem,
            b"pgfault" => &mut usage.page_faults,
            b"pgmajfault" => &mut usage.major_faults,
            b"workingset_refault_file" => &mut usage.refaults_file,
            b"workingset_refault_anon" => &mut usage.refaults_anon,
            _ => return,
        };
        if total.is_some() || field.is_none() {
            *field = Some(value);
        }
    })
}

fn oom(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| {
        if key == b"oom_kill" {
            usage.oom_kills = Some(value);
        }
    })
}

fn processes(bytes: &[u8], usage: &mut Usage) -> bool {
    usage.processes = Some(count_lines(bytes));
    true
}

fn quota(bytes: &[u8], usage: &mut Usage) -> bool {
    let quota = signed(trimmed(bytes));
    usage.limits.cpu_quota = quota.and_then(|quota| u64::try_from(quota).ok());
    quota.is_some()
}

/// The bytes that a scheduler counted, and whether it counted for a device at all.
fn scheduler(bytes: &[u8], usage: &mut Usage, had: fn(&mut Schedulers) -> &mut bool) -> bool {
    let mut any = false;
    let understood = io(bytes, |major, minor, operation, value| {
        any = true;
        byte_count(usage.device(major, minor), operation, value);
    });
    *had(&mut usage.schedulers) = any;
    understood
}

fn scheduler_times(bytes: &[u8], usage: &mut Usage, had: fn(&mut Schedulers) -> &mut bool) -> bool {
    let understood = io_times(bytes, usage);
    *had(&mut usage.schedulers) = usage.io.iter().any(|io| io.read_time.is_some());
    understood
}

fn io_bytes(bytes: &[u8], usage: &mut Usage) -> bool {
    io(bytes, |major, minor, operation, value| byte_count(usage.device(major, minor), operation, value))
}

/// What was told first stays: a scheduler's count before that of the throttle.
fn byte_count(io: &mut DeviceIo, operation: &[u8], value: u64) {
    let field = match operation {
        b"Read" => &mut io.read_bytes,
        b"Write" => &mut io.write_bytes,
        b"Discard" => &mut io.discard_bytes,
        b"Sync" => &mut io.sync_bytes,
        b"Async" => &mut io.async_bytes,
        b"Total" => &mut io.total_bytes,
        _ => return,
    };
    field.get_or_insert(value);
}

fn io_operations(bytes: &[u8], usage: &mut Usage) -> bool {
    either(bytes, usage, |io| &mut io.reads, |io| &mut io.writes)
}

fn io_merges(bytes: &[u8], usage: &mut Usage) -> bool {
    either(bytes, usage, |io| &mut io.reads_merged, |io| &mut io.writes_merged)
}

fn io_times(bytes: &[u8], usage: &mut Usage) -> bool {
    either(bytes, usage, |io| &mut io.read_time, |io| &mut io.write_time) && total(bytes, usage, |io| &mut io.io_time)
}

fn io_waits(bytes: &[u8], usage: &mut Usage) -> bool {
    total(bytes, usage, |io| &mut io.weighted_time)
}

fn io_queues(bytes: &[u8], usage: &mut Usage) -> bool {
    total(bytes, usage, |io| &mut io.in_progress)
}

type Field = fn(&mut DeviceIo) -> &mut Option<u64>;

/// The numbers of reads and of writes.
fn either(bytes: &[u8], usage: &mut Usage, read: Field, write: Field) -> bool {
    io(bytes, |major, minor, operation, value| {
        let field = match operation {
            b"Read" => read,
            b"Write" => write,
            _ => return,
        };
        field(usage.device(major, minor)).get_or_insert(value);
    })
}

/// The number of all operations together.
fn total(bytes: &[u8], usage: &mut Usage, field: Field) -> bool {
    io(bytes, |major, minor, operation, value| {
        if operation == b"Total" {
            field(usage.device(major, minor)).get_or_insert(value);
        }
    })
}

/// Lines `254:0 Read 4096`, and at the end `Total 4096`, which stands alone where nothing was read or written.
fn io(bytes: &[u8], mut take: impl FnMut(u32, u32, &[u8], u64)) -> bool {
    let mut any = false;
    for line in lines(bytes) {
        let mut fields = fields(line);
        let (Some(first), second, third) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let (Some((major, minor)), Some(operation), Some(value)) = (device(first), second, third.and_then(unsigned)) {
            any = true;
            take(major, minor, operation, value);
        } else if first == b"Total" {
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_win_over_the_cgroup_s_own() {
        let mut usage = Usage::default();
        assert!(memory(b"cache 1\nrss 2\npgfault 3\ntotal_cache 10\ntotal_pgfault 30\n", &mut usage));
        assert_eq!((usage.memory_file, usage.memory_anon), (Some(10), Some(2)));
        assert_eq!((usage.page_faults_own, usage.page_faults), (Some(3), Some(30)));
    }

    #[test]
    fn the_scheduler_s_counts_come_before_those_of_the_throttle() {
        let mut usage = Usage::default();
        assert!(io_bytes(b"254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\n254:0 Total 3\nTotal 3\n", &mut usage));
        assert!(io_bytes(b"254:0 Read 100\n254:0 Write 0\n8:16 Read 7\n8:16 Write 8\nTotal 115\n", &mut usage));
        assert!(io_operations(b"Total 0\n", &mut usage));
        let io =
            |major, minor, read, write| DeviceIo { major, minor, read_bytes: Some(read), write_bytes: Some(write), ..DeviceIo::default() };
        let first = DeviceIo { sync_bytes: Some(3), total_bytes: Some(3), ..io(254, 0, 1, 2) };
        assert_eq!(usage.io, [first, io(8, 16, 7, 8)]);
    }

    /// As Linux 4.19 writes them.
    #[test]
    fn times_of_a_scheduler() {
        let mut usage = Usage::default();
        let times =
            b"8:0 Read 4000000\n8:0 Write 1000000\n8:0 Sync 4000000\n8:0 Async 1000000\n8:0 Discard 0\n8:0 Total 5000000\nTotal 5000000\n";
        assert!(scheduler_times(times, &mut usage, |had| &mut had.bfq_times));
        assert!(io_waits(b"8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n", &mut usage));
        assert!(io_merges(b"8:0 Read 5\n8:0 Write 6\n8:0 Total 11\nTotal 11\n", &mut usage));
        assert!(io_queues(b"8:0 Read 0\n8:0 Write 1\n8:0 Total 1\nTotal 1\n", &mut usage));
        let expected = DeviceIo {
            major: 8,
            read_time: Some(4_000_000),
            write_time: Some(1_000_000),
            io_time: Some(5_000_000),
            weighted_time: Some(3),
            reads_merged: Some(5),
            writes_merged: Some(6),
            in_progress: Some(1),
            ..DeviceIo::default()
        };
        assert_eq!((usage.io, usage.schedulers), (vec![expected], Schedulers { bfq_times: true, ..Schedulers::default() }));
    }

    #[test]
    fn no_quota_is_minus_one() {
        let mut usage = Usage::default();
        assert!(quota(b"-1\n", &mut usage));
        assert_eq!(usage.limits.cpu_quota, None);
        assert!(!quota(b"\n", &mut usage));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>) {
            for file in FILES {
                (file.parse)(&bytes, &mut Usage::default());
            }
        }
    }
}
