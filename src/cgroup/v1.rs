//! The files of cgroup v1 (Documentation/admin-guide/cgroup-v1 of the kernel).

use super::fields::{count_lines, device, key_values, limit, number, pressure};
use super::usage::Usage;
use super::{How, KernelFile, Tree};
use crate::host::parse::{fields, lines, signed, trimmed, unsigned};

pub(super) const FILES: &[KernelFile] = &[
    KernelFile { tree: Tree::Cpuacct, name: "cpuacct.usage_percpu", how: How::Kept, parse: cpu_each },
    KernelFile {
        tree: Tree::Cpuacct,
        name: "cpuacct.usage",
        how: How::Kept,
        parse: |bytes, usage| set(&mut usage.cpu_total, number(bytes)),
    },
    KernelFile { tree: Tree::Cpuacct, name: "cpuacct.stat", how: How::Kept, parse: cpu_times },
    KernelFile { tree: Tree::Cpu, name: "cpu.stat", how: How::Kept, parse: throttling },
    KernelFile { tree: Tree::Memory, name: "memory.stat", how: How::Kept, parse: memory },
    KernelFile {
        tree: Tree::Memory,
        name: "memory.usage_in_bytes",
        how: How::Kept,
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
    // What the bfq scheduler saw, and then the throttling layer for devices under another scheduler. The layer counts since Linux 6.10 only where a limit is set.
    KernelFile { tree: Tree::Blkio, name: "blkio.bfq.io_service_bytes_recursive", how: How::Bfq, parse: bfq_bytes },
    KernelFile { tree: Tree::Blkio, name: "blkio.bfq.io_serviced_recursive", how: How::Bfq, parse: io_operations },
    KernelFile { tree: Tree::Blkio, name: "blkio.throttle.io_service_bytes_recursive", how: How::Opened, parse: io_bytes },
    KernelFile { tree: Tree::Blkio, name: "blkio.throttle.io_serviced_recursive", how: How::Opened, parse: io_operations },
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
    KernelFile { tree: Tree::Unified, name: "cgroup.procs", how: How::Opened, parse: processes },
    KernelFile {
        tree: Tree::Cpu,
        name: "cpu.cfs_period_us",
        how: How::Limit,
        parse: |bytes, usage| set(&mut usage.limits.cpu_period, number(bytes)),
    },
    KernelFile { tree: Tree::Cpu, name: "cpu.cfs_quota_us", how: How::Limit, parse: quota },
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

fn bfq_bytes(bytes: &[u8], usage: &mut Usage) -> bool {
    let understood = io_bytes(bytes, usage);
    usage.has_bfq = !usage.io.is_empty();
    understood
}

fn io_bytes(bytes: &[u8], usage: &mut Usage) -> bool {
    io(bytes, |major, minor, write, value| {
        let device = usage.device(major, minor);
        let field = if write { &mut device.write_bytes } else { &mut device.read_bytes };
        field.get_or_insert(value);
    })
}

fn io_operations(bytes: &[u8], usage: &mut Usage) -> bool {
    io(bytes, |major, minor, write, value| {
        let device = usage.device(major, minor);
        let field = if write { &mut device.writes } else { &mut device.reads };
        field.get_or_insert(value);
    })
}

/// Lines `254:0 Read 4096`, and at the end `Total 4096`, which stands alone where nothing was read or written.
fn io(bytes: &[u8], mut take: impl FnMut(u32, u32, bool, u64)) -> bool {
    let mut any = false;
    for line in lines(bytes) {
        let mut fields = fields(line);
        let (Some(first), second, third) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let (Some((major, minor)), Some(operation), Some(value)) = (device(first), second, third.and_then(unsigned)) {
            any = true;
            match operation {
                b"Read" => take(major, minor, false, value),
                b"Write" => take(major, minor, true, value),
                _ => {}
            }
        } else if first == b"Total" {
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::DeviceIo;

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
        assert_eq!(usage.io, [io(254, 0, 1, 2), io(8, 16, 7, 8)]);
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
