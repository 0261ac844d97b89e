//! The files of cgroup v2 (Documentation/admin-guide/cgroup-v2 of the kernel).

use super::fields::{count_lines, device, key_values, limit, number, number_or_max, pressure};
use super::usage::{DeviceIo, Usage};
use super::v1::set;
use super::{How, KernelFile, Tree};
use crate::host::parse::{fields, lines, unsigned};

pub(super) const FILES: &[KernelFile] = &[
    file("cpu.stat", How::Witness, cpu),
    file("memory.stat", How::Kept, memory),
    file("memory.current", How::Witness, |bytes, usage| set(&mut usage.memory_usage, number(bytes))),
    // Since Linux 5.19.
    file("memory.peak", How::Kept, |bytes, usage| set(&mut usage.memory_max_usage, number(bytes))),
    file("memory.swap.current", How::Kept, |bytes, usage| set(&mut usage.memory_swap, number(bytes))),
    file("memory.events", How::Kept, memory_events),
    file("pids.current", How::Kept, |bytes, usage| set(&mut usage.threads, number(bytes))),
    file("cgroup.procs", How::Kept, |bytes, usage| set(&mut usage.processes, Some(count_lines(bytes)))),
    file("io.stat", How::Witness, io),
    file("cpu.pressure", How::Kept, |bytes, usage| set(&mut usage.pressure_cpu, pressure(bytes))),
    file("memory.pressure", How::Kept, |bytes, usage| set(&mut usage.pressure_memory, pressure(bytes))),
    file("io.pressure", How::Kept, |bytes, usage| set(&mut usage.pressure_io, pressure(bytes))),
    file("cpu.max", How::Limit, quota),
    file("cpu.weight", How::Limit, |bytes, usage| set(&mut usage.limits.cpu_weight, number(bytes))),
    file("memory.max", How::Limit, |bytes, usage| set(&mut usage.limits.memory, number_or_max(bytes).map(limit))),
    file("memory.swap.max", How::Limit, |bytes, usage| set(&mut usage.limits.swap, number_or_max(bytes))),
    // Docker's --memory-reservation goes to memory.low, not to memory.min.
    file("memory.low", How::Limit, |bytes, usage| set(&mut usage.limits.memory_reservation, number_or_max(bytes).map(limit))),
    file("pids.max", How::Limit, |bytes, usage| set(&mut usage.limits.threads, number_or_max(bytes).map(limit))),
];

const fn file(name: &'static str, how: How, parse: fn(&[u8], &mut Usage) -> bool) -> KernelFile {
    KernelFile { tree: Tree::Unified, name, how, parse }
}

fn cpu(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| {
        let nanoseconds = value.checked_mul(1000);
        match key {
            b"usage_usec" => usage.cpu_total = nanoseconds,
            b"user_usec" => usage.cpu_user = nanoseconds,
            b"system_usec" => usage.cpu_system = nanoseconds,
            b"nr_periods" => usage.cpu_periods = Some(value),
            b"nr_throttled" => usage.cpu_throttled_periods = Some(value),
            b"throttled_usec" => usage.cpu_throttled = nanoseconds,
            b"nr_bursts" => usage.cpu_bursts = Some(value),
            b"burst_usec" => usage.cpu_burst = nanoseconds,
            _ => {}
        }
    })
}

fn memory(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| {
        let field = match key {
            b"anon" => &mut usage.memory_anon,
            b"file" => &mut usage.memory_file,
            // Since Linux 5.18.
            b"kernel" => &mut usage.memory_kernel,
            b"file_mapped" => &mut usage.memory_mapped,
            b"active_file" => &mut usage.memory_active_file,
            b"inactive_file" => &mut usage.memory_inactive_file,
            b"file_dirty" => &mut usage.memory_dirty,
            b"file_writeback" => &mut usage.memory_writeback,
            b"shmem" => &mut usage.memory_shmem,
            b"slab_reclaimable" => &mut usage.memory_slab_reclaimable,
            b"slab_unreclaimable" => &mut usage.memory_slab_unreclaimable,
            b"pgfault" => &mut usage.page_faults,
            b"pgmajfault" => &mut usage.major_faults,
            b"pgscan" => &mut usage.pages_scanned,
            b"pgsteal" => &mut usage.pages_stolen,
            b"workingset_refault_file" => &mut usage.refaults_file,
            b"workingset_refault_anon" => &mut usage.refaults_anon,
            _ => return,
        };
        *field = Some(value);
    })
}

fn memory_events(bytes: &[u8], usage: &mut Usage) -> bool {
    key_values(bytes, |key, value| match key {
        b"high" => usage.memory_high_events = Some(value),
        b"max" => {
            usage.memory_max_events = Some(value);
            usage.memory_failures = Some(value);
        }
        b"oom_kill" => usage.oom_kills = Some(value),
        _ => {}
    })
}

/// `100000 100000` or `max 100000`.
fn quota(bytes: &[u8], usage: &mut Usage) -> bool {
    let mut fields = bytes.split(u8::is_ascii_whitespace);
    let (quota, period) = (fields.next().unwrap_or_default(), fields.next().and_then(unsigned));
    usage.limits.cpu_quota = unsigned(quota);
    usage.limits.cpu_period = period;
    period.is_some() && (quota == b"max" || usage.limits.cpu_quota.is_some())
}

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`. Nothing stands in it before the first input or output, and some kernels write lines of the
/// device alone.
fn io(bytes: &[u8], usage: &mut Usage) -> bool {
    let (mut any, mut odd) = (false, false);
    for line in lines(bytes) {
        let mut fields = fields(line);
        let Some((major, minor)) = fields.next().and_then(device) else {
            odd = true;
            continue;
        };
        any = true;
        for field in fields {
            let Some(equals) = memchr::memchr(b'=', field) else { continue };
            let (key, value) = (field.get(..equals).unwrap_or_default(), field.get(equals + 1..).and_then(unsigned));
            let Some(value) = value else { continue };
            let Some(field) = io_field(key) else { continue };
            *field(usage.device(major, minor)) = Some(value);
        }
    }
    any || !odd
}

/// The field of a key of `io.stat`. Those of `cost.` are there under the `iocost` controller only, in microseconds
/// (`block/blk-iocost.c`).
fn io_field(key: &[u8]) -> Option<fn(&mut DeviceIo) -> &mut Option<u64>> {
    Some(match key {
        b"rbytes" => |io| &mut io.read_bytes,
        b"wbytes" => |io| &mut io.write_bytes,
        b"rios" => |io| &mut io.reads,
        b"wios" => |io| &mut io.writes,
        b"dbytes" => |io| &mut io.discard_bytes,
        b"cost.usage" => |io| &mut io.cost_usage,
        b"cost.wait" => |io| &mut io.cost_wait,
        b"cost.indebt" => |io| &mut io.cost_indebt,
        b"cost.indelay" => |io| &mut io.cost_indelay,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_of_devices() {
        let mut usage = Usage::default();
        assert!(io(b"254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0 cost.usage=9\n7:0 \nodd\n8:0 rbytes=5\n", &mut usage));
        let first = DeviceIo {
            major: 254,
            read_bytes: Some(1),
            write_bytes: Some(2),
            reads: Some(3),
            writes: Some(4),
            discard_bytes: Some(0),
            cost_usage: Some(9),
            ..DeviceIo::default()
        };
        assert_eq!(usage.io, [first, DeviceIo { major: 8, minor: 0, read_bytes: Some(5), ..DeviceIo::default() }]);
        assert!(io(b"", &mut Usage::default()));
        assert!(!io(b"odd\n", &mut Usage::default()));
    }

    #[test]
    fn quotas() {
        let mut usage = Usage::default();
        assert!(quota(b"20000 100000\n", &mut usage));
        assert_eq!((usage.limits.cpu_quota, usage.limits.cpu_period), (Some(20_000), Some(100_000)));
        assert!(quota(b"max 100000\n", &mut usage));
        assert_eq!(usage.limits.cpu_quota, None);
        assert!(!quota(b"\n", &mut usage));
    }

    #[test]
    fn memory_and_swap_together() {
        for (memory, swap, both) in [(64, 64, 128), (64, u64::MAX, 0), (0, 5, 0), (64, 0, 64)] {
            let mut usage = Usage::default();
            usage.limits.memory = Some(memory);
            usage.limits.swap = Some(swap);
            usage.complete(false);
            assert_eq!(usage.limits.memory_and_swap, Some(both));
        }
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
