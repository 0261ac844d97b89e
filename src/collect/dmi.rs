//! `node_dmi_info` from `/sys/class/dmi/id`: who made the machine, its board and its firmware.
//! Source: the kernel's `drivers/firmware/dmi-id.c`. Serial numbers and the product's UUID are root's alone.

use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::model::{Kind, LabelSet};
use crate::present;

pub(super) const ENTRY: Entry = entry!("dmi", on, &[], |_| Ok(Box::new(Dmi { labels: None })));

/// The labels. Each is in the file of its name but one.
const LABELS: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "system_vendor",
];

const HELP: &str = "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, board_asset_tag, board_name, \
                    board_serial, board_vendor, board_version, chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, product_family, \
                    product_name, product_serial, product_sku, product_uuid, product_version, system_vendor if provided by DMI.";

/// What is read once stays until the machine is started anew, and is kept.
struct Dmi {
    labels: Option<LabelSet>,
}

impl Collector for Dmi {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        if self.labels.is_none() {
            let files = present!(host.sys_names("class/dmi/id"));
            let mut labels = LabelSet::new();
            for label in LABELS {
                let file = if label == "system_vendor" { "sys_vendor" } else { label };
                if !files.iter().any(|known| known == file) {
                    continue;
                }
                if let Some(text) = attribute::text(host, odd, &format!("class/dmi/id/{file}")) {
                    labels.push(label, &text);
                }
            }
            if labels.is_empty() {
                return Ok(Presence::Absent);
            }
            self.labels = Some(labels);
        }
        if let Some(labels) = &self.labels {
            out.family("node_dmi_info", Kind::Gauge, HELP).sample_of(labels, &[], 1u64);
        }
        Ok(Presence::Present)
    }
}
