//! `node_dmmultipath_*` from `/sys/block/dm-*`: maps of device mapper whose UUID begins with `mpath-`, which is multipath-tools' mark, and the disks that they lie on.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-block-dm`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, entry, storage};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("dmmultipath", on, &[], |_| Ok(Box::new(DmMultipath)));

struct DmMultipath;

impl Collector for DmMultipath {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let names = present!(pass.host.sys_numbered("block", "dm-"));
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        for sysfs_name in &names {
            let directory = format!("block/{sysfs_name}");
            let Some(uuid) = storage::text(host, odd, &format!("{directory}/dm/uuid")).filter(|uuid| uuid.starts_with("mpath-")) else {
                continue;
            };
            let Some(device) = storage::text(host, odd, &format!("{directory}/dm/name")) else { continue };
            let labels = [("device", &*device), ("sysfs_name", sysfs_name)];
            families.gauge(
                "node_dmmultipath_device_info",
                "Non-numeric information about a DM-multipath device.",
                &[("device", &device), ("sysfs_name", sysfs_name), ("uuid", &uuid)],
                1u64,
            );
            if let Some(suspended) = storage::unsigned(host, odd, &format!("{directory}/dm/suspended")) {
                families.gauge(
                    "node_dmmultipath_device_active",
                    "Whether the multipath device-mapper device is active (1) or suspended (0).",
                    &labels,
                    suspended != 1,
                );
            }
            let size = |bytes: &[u8]| parse::unsigned(bytes)?.checked_mul(512);
            if let Some(size) = storage::read_as(host, odd, &format!("{directory}/size"), size) {
                families.gauge(
                    "node_dmmultipath_device_size_bytes",
                    "Size of the multipath device in bytes, read from /sys/block/<dm>/size.",
                    &labels,
                    size,
                );
            }
            let (mut active, mut failed) = (0u64, 0u64);
            let paths = storage::names(host, odd, &format!("{directory}/slaves"));
            for path in &paths {
                // A path whose disk says nothing of its state, as a virtual one, is a path, and neither active nor failed.
                let Some(state) = storage::text(host, odd, &format!("block/{path}/device/state")) else { continue };
                // What SCSI and NVMe say of a disk that works.
                if state == "running" || state == "live" {
                    active += 1
                } else {
                    failed += 1
                }
                families.gauge(
                    "node_dmmultipath_path_state",
                    "Reports the underlying device state for a multipath path, as read from /sys/block/<dev>/device/state.",
                    &[("device", &device), ("path", path), ("state", &state)],
                    1u64,
                );
            }
            families.gauge("node_dmmultipath_device_paths", "Number of paths for a multipath device.", &labels, paths.len());
            families.gauge(
                "node_dmmultipath_device_paths_active",
                "Number of paths in active state (SCSI running or NVMe live) for a multipath device.",
                &labels,
                active,
            );
            families.gauge(
                "node_dmmultipath_device_paths_failed",
                "Number of paths not in active state for a multipath device.",
                &labels,
                failed,
            );
        }
        Ok(families.write(out))
    }
}
