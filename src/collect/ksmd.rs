//! `node_ksmd_*` from `/sys/kernel/mm/ksm`: what the kernel's merging of equal pages does and saves.
//! Source: the kernel's `Documentation/admin-guide/mm/ksm.rst`. There only with `CONFIG_KSM`; later kernels have more of the files.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, Value};

pub(super) const ENTRY: Entry = entry!("ksmd", off, &[], |_| Ok(Box::new(Ksmd)));

struct Ksmd;

const SLEEP: &str = "kernel/mm/ksm/sleep_millisecs";

/// The files with their families.
const FAMILIES: [(&str, &str, Kind, &str); 10] = [
    ("kernel/mm/ksm/full_scans", "node_ksmd_full_scans_total", Kind::Counter, "How many times all mergeable areas have been scanned."),
    (
        "kernel/mm/ksm/general_profit",
        "node_ksmd_general_profit_bytes",
        Kind::Gauge,
        "How effective is KSM. ksm_saved_pages * sizeof(page) - (all_rmap_items) * sizeof(rmap_item)",
    ),
    (
        "kernel/mm/ksm/merge_across_nodes",
        "node_ksmd_merge_across_nodes",
        Kind::Gauge,
        "Specifies if pages from different NUMA nodes can be merged.",
    ),
    ("kernel/mm/ksm/pages_shared", "node_ksmd_pages_shared", Kind::Gauge, "How many shared pages are being used."),
    ("kernel/mm/ksm/pages_sharing", "node_ksmd_pages_sharing", Kind::Gauge, "How many more sites are sharing them i.e. how much saved."),
    ("kernel/mm/ksm/pages_to_scan", "node_ksmd_pages_to_scan", Kind::Gauge, "How many pages to scan before ksmd goes to sleep."),
    ("kernel/mm/ksm/pages_unshared", "node_ksmd_pages_unshared", Kind::Gauge, "How many pages unique but repeatedly checked for merging."),
    ("kernel/mm/ksm/pages_volatile", "node_ksmd_pages_volatile", Kind::Gauge, "How many pages changing too fast to be placed in a tree."),
    ("kernel/mm/ksm/run", "node_ksmd_run", Kind::Gauge, "The status of ksmd. stopped = 0, running = 1"),
    (SLEEP, "node_ksmd_sleep_seconds", Kind::Gauge, "How many seconds ksmd should sleep before next scan."),
];

impl Collector for Ksmd {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut found = false;
        let mut failure = None;
        for (file, name, kind, help) in FAMILIES {
            let bytes = match host.attribute(file) {
                Ok(bytes) => bytes,
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                    continue;
                }
            };
            found = true;
            // The profit is below zero where merging costs more than it saves.
            let value = parse::unsigned(bytes).map(Value::from).or_else(|| parse::signed(bytes).map(Value::from));
            match value {
                Some(Value::Unsigned(milliseconds)) if file == SLEEP => {
                    out.family(name, kind, help).sample(&[], milliseconds as f64 / 1000.0);
                }
                Some(value) => {
                    out.family(name, kind, help).sample(&[], value);
                }
                None => odd.line(file, bytes),
            }
        }
        Presence::of_files(found, failure)
    }
}
