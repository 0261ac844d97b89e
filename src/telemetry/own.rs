//! skep's own series: its build, its process, and the counters of [`Metrics`].

use std::time::SystemTime;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{Metrics, Parts, State};
use crate::collect::{CollectError, Collector, Pass, Presence};
use crate::model::Kind;

/// Writes `skep_*` and `process_*`.
pub struct OwnCollector {
    metrics: Metrics,
    parts: Parts,
    system: Option<System>,
}

impl std::fmt::Debug for OwnCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnCollector").finish_non_exhaustive()
    }
}

impl OwnCollector {
    /// Reads this process and the counters of `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics, parts: Parts) -> Self {
        Self { metrics, parts, system: System::new().ok() }
    }
}

impl Collector for OwnCollector {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("rustversion", env!("CARGO_PKG_RUST_VERSION"))];
        pass.out.family("skep_build_info", Kind::Gauge, "Always 1; the labels tell the build.").sample(&labels, 1u64);
        for (part, state) in self.parts.all() {
            let up = self.metrics.part_up.with_label_values(&[&*part]);
            up.set(i64::from(matches!(state, State::Ok | State::Off(_))));
        }
        if let Some(system) = &mut self.system {
            process(system, pass);
        }
        let metrics = &self.metrics;
        let mut fault = None;
        pass.out.encoded(|text| fault = metrics.encode(text).err());
        if let Some(error) = fault {
            pass.odd(&error);
        }
        Ok(Presence::Present)
    }
}

/// The names and HELP texts of Prometheus' own client libraries.
fn process(system: &mut System, pass: &mut Pass<'_>) {
    let pid = Pid::from_u32(std::process::id());
    let wanted = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
    if let Some(process) = system.process(pid) {
        pass.out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.memory());
        pass.out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_memory());
        let seconds = std::time::Duration::from_millis(process.accumulated_cpu_time()).as_secs_f64();
        pass.out.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", seconds);
        pass.out.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", process.start_time());
    }
    match procfs::process::Process::myself() {
        Ok(own) => {
            if let Ok(count) = own.fd_count() {
                pass.out.gauge("process_open_fds", "Number of open file descriptors.", count);
            }
            if let Ok(limits) = own.limits()
                && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
            {
                pass.out.gauge("process_max_fds", "Maximum number of open file descriptors.", most);
            }
            if let Ok(stat) = own.stat() {
                pass.out.gauge("process_threads", "Number of threads of the process.", stat.num_threads);
            }
        }
        Err(error) => pass.odd(&error),
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    pass.out.gauge("skep_time_seconds", "The agent's clock.", now.as_secs_f64());
}
