//! `node_drm_*` from `/sys/class/drm`: graphics cards of AMD, whose driver tells load and memory in sysfs. Off by default.
//! Source: the kernel's `Documentation/gpu/amdgpu/driver-misc.rst` and `thermal.rst`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("drm", off, &[], |_| Ok(Box::new(Drm)));

const CLASS: &str = "class/drm";

/// The numbers of a card: file below `device`, family, help.
const NUMBERS: [(&str, &str, &str); 7] = [
    ("gpu_busy_percent", "node_drm_gpu_busy_percent", "How busy the GPU is as a percentage."),
    ("mem_info_gtt_total", "node_drm_memory_gtt_size_bytes", "The size of the graphics translation table (GTT) block in bytes."),
    ("mem_info_gtt_used", "node_drm_memory_gtt_used_bytes", "The used amount of the graphics translation table (GTT) block in bytes."),
    ("mem_info_vis_vram_total", "node_drm_memory_vis_vram_size_bytes", "The size of visible VRAM in bytes."),
    ("mem_info_vis_vram_used", "node_drm_memory_vis_vram_used_bytes", "The used amount of visible VRAM in bytes."),
    ("mem_info_vram_total", "node_drm_memory_vram_size_bytes", "The size of VRAM in bytes."),
    ("mem_info_vram_used", "node_drm_memory_vram_used_bytes", "The used amount of VRAM in bytes."),
];

struct Drm;

impl Collector for Drm {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_numbered(CLASS, "card"));
        let mut families = Families::default();
        // The others are the cards' connectors: card0-DP-1.
        for card in names.iter().filter(|name| name.strip_prefix("card").is_some_and(|number| parse::unsigned(number.as_bytes()).is_some()))
        {
            let directory = format!("{CLASS}/{card}/device");
            let uevent = attribute::bytes(host, odd, &format!("{directory}/uevent")).unwrap_or_default();
            if !parse::lines(uevent).any(|line| line == b"DRIVER=amdgpu") {
                continue;
            }
            let [vendor, level, unique] = ["mem_info_vram_vendor", "power_dpm_force_performance_level", "unique_id"]
                .map(|file| attribute::text(host, odd, &format!("{directory}/{file}")).unwrap_or_default());
            let labels = [
                ("card", card.as_str()),
                ("memory_vendor", &vendor),
                ("power_performance_level", &level),
                ("unique_id", &unique),
                ("vendor", "amd"),
            ];
            families.gauge("node_drm_card_info", "Card information", &labels, 1u64);
            for (file, family, help) in NUMBERS {
                // A GPU that sleeps does not say how busy it is.
                if let Some(number) = attribute::parsed(host, odd, &format!("{directory}/{file}"), parse::unsigned) {
                    families.gauge(family, help, &[("card", card)], number);
                }
            }
        }
        Ok(families.write(out))
    }
}
