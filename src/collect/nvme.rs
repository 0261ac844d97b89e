//! `node_nvme_*` from `/sys/class/nvme`. Source: the kernel's `drivers/nvme/host/sysfs.c`.

use super::families::Families;
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Oddities, Pass, Presence, entry, storage};
use crate::config::Settings;
use crate::host::{Reader, parse};
use crate::present;

pub(super) const ENTRY: Entry = entry!("nvme", on, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Nvme { as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Nvme {
    as_node_exporter: bool,
}

/// The block layer counts a disk in these, whatever the disk's own blocks are.
const SECTOR: u64 = 512;

impl Collector for Nvme {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_names("class/nvme"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        for device in names.iter().filter(|name| storage::is_numbered(name, "nvme")) {
            let directory = format!("class/nvme/{device}");
            // Linked, and gone before it was read: nothing is known of it.
            let children = storage::names(host, odd, &directory);
            if children.is_empty() {
                continue;
            }
            let [firmware, model, serial, state, id] = ["firmware_rev", "model", "serial", "state", "cntlid"]
                .map(|file| storage::text(host, odd, &format!("{directory}/{file}")).unwrap_or_default());
            families.gauge(
                "node_nvme_info",
                "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
                &[
                    ("device", device),
                    ("firmware_revision", &firmware),
                    ("model", &model),
                    ("serial", &serial),
                    ("state", &state),
                    ("cntlid", &id),
                ],
                1u64,
            );
            for child in &children {
                if let Some(id) = namespace(child) {
                    of_namespace(
                        host,
                        odd,
                        &mut families,
                        (device, id),
                        &format!("{directory}/{child}"),
                        (state == "live", self.as_node_exporter),
                    );
                }
            }
        }
        families.write(out);
        Ok(if families.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

fn of_namespace(
    host: &mut Reader,
    odd: &mut Oddities,
    families: &mut Families,
    of: (&str, &str),
    directory: &str,
    (is_live, as_node_exporter): (bool, bool),
) {
    let labels = [("device", of.0), ("nsid", of.1)];
    let ana_state = storage::text(host, odd, &format!("{directory}/ana_state"));
    families.gauge(
        "node_nvme_namespace_info",
        "Information about NVMe namespaces. Value is always 1",
        &[("device", of.0), ("nsid", of.1), ("ana_state", ana_state.as_deref().unwrap_or("unknown"))],
        1u64,
    );
    let block = storage::unsigned(host, odd, &format!("{directory}/queue/logical_block_size"));
    // node_exporter multiplies by the disk's own block, and gives eight times the size where that is 4096 bytes.
    let unit = if as_node_exporter { block.unwrap_or(SECTOR) } else { SECTOR };
    let bytes = |bytes: &[u8]| parse::unsigned(bytes)?.checked_mul(unit);
    if let Some(size) = storage::read_as(host, odd, &format!("{directory}/size"), bytes) {
        families.gauge(
            "node_nvme_namespace_capacity_bytes",
            "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size",
            &labels,
            size,
        );
        families.gauge(
            "node_nvme_namespace_size_bytes",
            "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
            &labels,
            size,
        );
    }
    let Some(block) = block else { return };
    families.gauge(
        "node_nvme_namespace_logical_block_size_bytes",
        "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
        &labels,
        block,
    );
    // The kernel asks the controller when it is read (since 6.8), which waits for one that does not answer.
    let used = |bytes: &[u8]| parse::unsigned(bytes)?.checked_mul(block);
    if is_live && let Some(used) = storage::read_as(host, odd, &format!("{directory}/nuse"), used) {
        families.gauge(
            "node_nvme_namespace_used_bytes",
            "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse",
            &labels,
            used,
        );
    }
}

/// The number of a namespace in its name: `nvme0n1`, and `nvme0c1n1` where the kernel joins several controllers' paths to one disk (native multipath), which
/// node_exporter passes over.
fn namespace(name: &str) -> Option<&str> {
    let (controller, id) = name.strip_prefix("nvme")?.rsplit_once('n')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_controller = match controller.split_once('c') {
        Some((subsystem, path)) => digits(subsystem) && digits(path),
        None => digits(controller),
    };
    (is_controller && digits(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces() {
        assert_eq!((namespace("nvme0n1"), namespace("nvme10c2n33")), (Some("1"), Some("33")));
        for other in ["nvme0", "nvme0n1p1", "nvme0c1", "ng0n1", "nvmen1", "nvme0cn1", "nvme0c1n", "hwmon0"] {
            assert_eq!(namespace(other), None, "{other}");
        }
    }
}
