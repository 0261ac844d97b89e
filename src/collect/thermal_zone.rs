//! `node_thermal_zone_temp` and `node_cooling_device_*` from `/sys/class/thermal`.
//! Source: the kernel's `Documentation/driver-api/thermal/sysfs-api.rst`.

use super::rescan::Rescan;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry};
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet};
use crate::present;

pub(super) const ENTRY: Entry = entry!("thermal_zone", on, &[], |_| Ok(Box::<Thermal>::default()));

const CLASS: &str = "class/thermal";

#[derive(Default)]
struct Thermal {
    rescan: Rescan,
    zones: Vec<Zone>,
    devices: Vec<Device>,
}

struct Zone {
    labels: LabelSet,
    temperature: String,
}

/// A cooling device. There is one for each CPU, so what it is and how far it goes is kept.
struct Device {
    labels: LabelSet,
    state: String,
    most: Option<i64>,
}

impl Collector for Thermal {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_names(CLASS));
        if self.rescan.is_due(names.clone()) {
            self.look(&names, host, odd);
        }
        if self.zones.is_empty() && self.devices.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut family = out.family("node_thermal_zone_temp", Kind::Gauge, "Zone temperature in Celsius");
        for zone in &self.zones {
            // A zone that is off or whose sensor sleeps has no temperature, and not 0 °C (node_exporter issue 3807).
            if let Some(millidegrees) = attribute::parsed(host, odd, &zone.temperature, parse::signed) {
                family.sample_of(&zone.labels, &[], millidegrees as f64 / 1000.0);
            }
        }
        let help = "Current throttle state of the cooling device";
        let mut family = out.family("node_cooling_device_cur_state", Kind::Gauge, help);
        for device in &self.devices {
            // -1 is a state too: intel_powerclamp that does nothing.
            if let Some(state) = attribute::parsed(host, odd, &device.state, parse::signed) {
                family.sample_of(&device.labels, &[], state);
            }
        }
        let help = "Maximum throttle state of the cooling device";
        let mut family = out.family("node_cooling_device_max_state", Kind::Gauge, help);
        for device in &self.devices {
            if let Some(most) = device.most {
                family.sample_of(&device.labels, &[], most);
            }
        }
        Ok(Presence::Present)
    }
}

impl Thermal {
    fn look(&mut self, names: &[String], host: &mut Reader, odd: &mut Oddities) {
        self.zones.clear();
        self.devices.clear();
        let numbered = |name: &str, prefix: &str| -> Option<String> {
            name.strip_prefix(prefix).filter(|number| number.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
        };
        for name in names {
            let directory = format!("{CLASS}/{name}");
            if let Some(zone) = numbered(name, "thermal_zone") {
                let kind = attribute::text(host, odd, &format!("{directory}/type")).unwrap_or_default();
                let labels = LabelSet::of([("zone", &*zone), ("type", &kind)]);
                self.zones.push(Zone { labels, temperature: format!("{directory}/temp") });
            } else if let Some(device) = numbered(name, "cooling_device") {
                let kind = attribute::text(host, odd, &format!("{directory}/type")).unwrap_or_default();
                let labels = LabelSet::of([("name", &*device), ("type", &kind)]);
                let most = attribute::parsed(host, odd, &format!("{directory}/max_state"), parse::signed);
                self.devices.push(Device { labels, state: format!("{directory}/cur_state"), most });
            }
        }
    }
}
