//! `node_nvmesubsystem_*` from `/sys/class/nvme-subsystem`: NVMe disks that are reached on several paths. Source: the kernel's `drivers/nvme/host/{core,sysfs}.c`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, entry, storage};
use crate::present;

pub(super) const ENTRY: Entry = entry!("nvmesubsystem", off, &[], |_| Ok(Box::new(NvmeSubsystem)));

struct NvmeSubsystem;

/// What is exported of a controller's state; anything else that a kernel may say is the last.
const STATES: [&str; 7] = ["connecting", "dead", "deleting", "live", "new", "resetting", UNKNOWN];
const UNKNOWN: &str = "unknown";

impl Collector for NvmeSubsystem {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("class/nvme-subsystem"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        for subsystem in names.iter().filter(|name| name.starts_with("nvme-subsys")) {
            let directory = format!("class/nvme-subsystem/{subsystem}");
            let children = storage::names(host, odd, &directory);
            if children.is_empty() {
                continue;
            }
            // A kernel without native multipath has no iopolicy.
            let [nqn, model, serial, policy] = ["subsysnqn", "model", "serial", "iopolicy"]
                .map(|file| storage::text(host, odd, &format!("{directory}/{file}")).unwrap_or_default());
            families.gauge(
                "node_nvmesubsystem_info",
                "Non-numeric information about an NVMe subsystem.",
                &[("subsystem", subsystem), ("nqn", &nqn), ("model", &model), ("serial", &serial), ("iopolicy", &policy)],
                1u64,
            );
            let (mut paths, mut live) = (0u64, 0u64);
            for child in &children {
                if is_namespace(child) {
                    families.gauge(
                        "node_nvmesubsystem_namespace_info",
                        "Maps an NVMe namespace block device to its subsystem.",
                        &[("subsystem", subsystem), ("device", child)],
                        1u64,
                    );
                }
                if !storage::is_numbered(child, "nvme") {
                    continue;
                }
                paths += 1;
                let raw = storage::text(host, odd, &format!("{directory}/{child}/state")).unwrap_or_default();
                let transport = storage::text(host, odd, &format!("{directory}/{child}/transport")).unwrap_or_default();
                let state = state(&raw);
                live += u64::from(state == "live");
                for known in STATES {
                    families.gauge(
                        "node_nvmesubsystem_path_state",
                        "Current NVMe controller path state (1 for the current state, 0 for all others).",
                        &[("subsystem", subsystem), ("controller", child), ("transport", &transport), ("state", known)],
                        known == state,
                    );
                }
            }
            let labels = [("subsystem", &**subsystem)];
            families.gauge("node_nvmesubsystem_paths", "Number of controller paths for an NVMe subsystem.", &labels, paths);
            families.gauge(
                "node_nvmesubsystem_paths_live",
                "Number of controller paths in live state for an NVMe subsystem.",
                &labels,
                live,
            );
        }
        Ok(families.write(out))
    }
}

/// What the kernel calls a controller's state, as one of [`STATES`]. It says `deleting (no IO)` in the second half of a deletion.
fn state(raw: &str) -> &'static str {
    let word = if raw == "deleting (no IO)" { "deleting" } else { raw };
    STATES.into_iter().find(|known| *known == word).unwrap_or(UNKNOWN)
}

/// `nvme0n1`, the disk that the paths lead to.
fn is_namespace(name: &str) -> bool {
    name.rsplit_once('n').is_some_and(|(controller, id)| storage::is_numbered(controller, "nvme") && storage::is_numbered(id, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_of_a_bounded_set() {
        assert_eq!(["live", "deleting (no IO)", "", "on fire"].map(state), ["live", "deleting", "unknown", "unknown"]);
    }

    #[test]
    fn only_whole_disks_are_namespaces() {
        assert!(is_namespace("nvme0n1") && is_namespace("nvme12n34"));
        for other in ["nvme0", "nvme0c1n1", "nvme0n1p1", "nvme0n", "n1"] {
            assert!(!is_namespace(other), "{other}");
        }
    }
}
