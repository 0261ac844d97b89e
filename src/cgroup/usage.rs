//! What a cgroup's files say, in one shape for both versions.

use std::fmt;

/// The numbers of one cgroup. `None` is what the host does not tell: another version, an older kernel, a controller that is off.
///
/// Counters of time are in nanoseconds, those of pressure in microseconds, memory is in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "fields are named after the kernel's own words; what is not plain has its line")]
pub struct Usage {
    pub cpu_total: Option<u64>,
    /// By number of the CPU; v1 only. A CPU that is offline or never ran has 0.
    pub cpu_each: Vec<u64>,
    pub cpu_user: Option<u64>,
    pub cpu_system: Option<u64>,
    pub cpu_periods: Option<u64>,
    pub cpu_throttled_periods: Option<u64>,
    pub cpu_throttled: Option<u64>,
    pub cpu_bursts: Option<u64>,
    pub cpu_burst: Option<u64>,
    /// Everything that is charged: v1 `usage_in_bytes`, v2 `current`.
    pub memory_usage: Option<u64>,
    pub memory_max_usage: Option<u64>,
    /// How often the limit was hit: v1 `failcnt`, v2 the events `max`.
    pub memory_failures: Option<u64>,
    pub memory_kernel: Option<u64>,
    /// v1 `rss`, v2 `anon`.
    pub memory_anon: Option<u64>,
    /// v1 `cache`, v2 `file`.
    pub memory_file: Option<u64>,
    pub memory_mapped: Option<u64>,
    pub memory_swap: Option<u64>,
    pub memory_active_file: Option<u64>,
    pub memory_inactive_file: Option<u64>,
    pub memory_dirty: Option<u64>,
    pub memory_writeback: Option<u64>,
    pub memory_shmem: Option<u64>,
    /// v2.
    pub memory_slab_reclaimable: Option<u64>,
    /// v2.
    pub memory_slab_unreclaimable: Option<u64>,
    /// Faults of the cgroup's own processes; v2 does not tell them apart from those below it.
    pub page_faults_own: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_faults_own: Option<u64>,
    pub major_faults: Option<u64>,
    pub pages_scanned: Option<u64>,
    pub pages_stolen: Option<u64>,
    pub refaults_file: Option<u64>,
    pub refaults_anon: Option<u64>,
    /// v2: how often it was throttled for `memory.high`.
    pub memory_high_events: Option<u64>,
    /// v2: how often it was about to go over `memory.max`.
    pub memory_max_events: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Threads: `pids.current` counts tasks.
    pub threads: Option<u64>,
    pub processes: Option<u64>,
    pub io: Vec<DeviceIo>,
    /// v1: which schedulers counted for a device.
    pub schedulers: Schedulers,
    pub pressure_cpu: Option<Pressure>,
    pub pressure_memory: Option<Pressure>,
    pub pressure_io: Option<Pressure>,
    pub limits: Limits,
    /// Files that could not be read or understood, and the first of them.
    pub oddities: u64,
    /// The first of them, in a sentence.
    pub example: String,
}

/// What is allowed. 0 stands for no limit where the field's word for it is 0 (cAdvisor's).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds in each period; `None` without a quota.
    pub cpu_quota: Option<u64>,
    /// v1 only.
    pub cpu_shares: Option<u64>,
    /// v2 only, 1 to 10 000.
    pub cpu_weight: Option<u64>,
    /// 0: none.
    pub memory: Option<u64>,
    /// Memory and swap together, as Docker's `--memory-swap` means it; 0: none.
    pub memory_and_swap: Option<u64>,
    /// What is kept in times of want: v1 `soft_limit`, v2 `low`; 0: nothing.
    pub memory_reservation: Option<u64>,
    /// 0: none.
    pub threads: Option<u64>,
    /// v2: swap alone; 0 is a limit here.
    pub(super) swap: Option<u64>,
}

/// How much was read and written on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "plain")]
pub struct DeviceIo {
    pub major: u32,
    pub minor: u32,
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub reads: Option<u64>,
    pub writes: Option<u64>,
    pub discard_bytes: Option<u64>,
    /// Of these bytes, those that somebody waited for; v1 only.
    pub sync_bytes: Option<u64>,
    /// v1 only.
    pub async_bytes: Option<u64>,
    /// v1 only, where the kernel tells the sum itself.
    pub total_bytes: Option<u64>,
    pub reads_merged: Option<u64>,
    pub writes_merged: Option<u64>,
    /// Of 512 bytes; of the machine's disks only.
    pub sectors_read: Option<u64>,
    /// As [`DeviceIo::sectors_read`].
    pub sectors_written: Option<u64>,
    /// Nanoseconds that requests took, from their dispatch to their end.
    pub read_time: Option<u64>,
    /// As [`DeviceIo::read_time`].
    pub write_time: Option<u64>,
    /// Requests that wait or are being done.
    pub in_progress: Option<u64>,
    /// Nanoseconds; of a machine's disk that it had anything to do, of a cgroup what its requests took together.
    pub io_time: Option<u64>,
    /// Nanoseconds that requests waited; of a machine's disk, weighted by how many there were.
    pub weighted_time: Option<u64>,
    /// v2 with the `iocost` controller, microseconds each.
    pub cost_usage: Option<u64>,
    pub cost_wait: Option<u64>,
    pub cost_indebt: Option<u64>,
    pub cost_indelay: Option<u64>,
}

/// Schedulers of v1 that count for each cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Schedulers {
    /// bfq: bytes and operations.
    pub bfq: bool,
    /// bfq with the kernel's option for debugging: times, queues and merges too.
    pub bfq_times: bool,
    /// cfq, which went with Linux 5.0.
    pub cfq: bool,
}

/// How long tasks waited for a resource, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pressure {
    /// At least one task waited.
    pub some: u64,
    /// All of them did; not told for the CPU by older kernels.
    pub full: Option<u64>,
}

impl Usage {
    /// Forgets the numbers and keeps the memory; the limits stay unless `limits`.
    pub(super) fn clear(&mut self, limits: bool) {
        let (mut cpu_each, mut io, mut example) =
            (std::mem::take(&mut self.cpu_each), std::mem::take(&mut self.io), std::mem::take(&mut self.example));
        cpu_each.clear();
        io.clear();
        example.clear();
        let limits = if limits { Limits::default() } else { self.limits };
        *self = Self { cpu_each, io, example, limits, ..Self::default() };
    }

    pub(super) fn odd(&mut self, what: &dyn fmt::Display) {
        self.oddities += 1;
        if self.oddities == 1 {
            self.example = what.to_string();
        }
    }

    /// What follows from several files together.
    pub(super) fn complete(&mut self, is_root: bool) {
        // The root of v2 has no memory.current: what its processes and caches take stands in memory.stat.
        if is_root && self.memory_usage.is_none() {
            self.memory_usage = self.memory_anon.zip(self.memory_file).map(|(anon, file)| anon.saturating_add(file));
        }
        // What the kernel's own sum is made of.
        if self.cpu_total.is_none() && !self.cpu_each.is_empty() {
            self.cpu_total = Some(self.cpu_each.iter().fold(0, |sum, time| sum.saturating_add(*time)));
        }
        if let (Some(swap), Some(memory)) = (self.limits.swap, self.limits.memory) {
            let both = if swap == UNLIMITED || memory == 0 { 0 } else { memory.saturating_add(swap) };
            self.limits.memory_and_swap = Some(both);
        }
    }

    /// What cannot be given back at once: everything charged without the file pages that are not in use.
    #[must_use]
    pub fn working_set(&self) -> Option<u64> {
        Some(self.memory_usage?.saturating_sub(self.memory_inactive_file?))
    }

    /// The device's numbers, begun when they are not there yet.
    pub(super) fn device(&mut self, major: u32, minor: u32) -> &mut DeviceIo {
        let index = self.io.iter().position(|io| (io.major, io.minor) == (major, minor)).unwrap_or_else(|| {
            self.io.push(DeviceIo { major, minor, ..DeviceIo::default() });
            self.io.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found, or is that of the element just added")]
        &mut self.io[index]
    }
}

/// What `max` is read as.
pub(super) const UNLIMITED: u64 = u64::MAX;
