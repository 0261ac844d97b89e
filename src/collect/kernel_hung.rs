//! `node_kernel_hung_tasks_total` from `/proc/sys/kernel/hung_task_detect_count`: how often the kernel found a task that was not scheduled for two minutes.
//! Source: the kernel's `Documentation/admin-guide/sysctl/kernel.rst`. Linux 6.13 and later, built with `CONFIG_DETECT_HUNG_TASK`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("kernel_hung", on, &[], |_| Ok(Box::new(KernelHung)));

const FILE: &str = "sys/kernel/hung_task_detect_count";

struct KernelHung;

impl Collector for KernelHung {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc(FILE));
        let help = "Total number of tasks that have been detected as hung since the system booted.";
        match parse::unsigned(parse::trimmed(bytes)) {
            Some(tasks) => out.counter("node_kernel_hung_tasks_total", help, tasks),
            None => odd.line(FILE, bytes),
        }
        Ok(Presence::Present)
    }
}
