//! `node_rapl_*_joules_total` from `/sys/class/powercap`: the energy that CPU packages, cores and memory have used.
//! Source: the kernel's `Documentation/power/powercap/powercap.rst`. Since Linux 5.10 the counters are root's alone.

use std::collections::BTreeMap;

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry, names};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::present;

const ZONE_LABEL: Flag = Flag::new(
    "collector.rapl.enable-zone-label",
    FlagKind::Switch,
    Some("false"),
    "Export one family node_rapl_joules_total with a label rapl_zone, in place of a family for each zone.",
);

pub(super) const ENTRY: Entry = entry!("rapl", on, &[ZONE_LABEL], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Rapl { zone_label: settings.is_on(ZONE_LABEL.name) }))
}

const CLASS: &str = "class/powercap";

struct Rapl {
    zone_label: bool,
}

impl Collector for Rapl {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let directories = present!(host.sys_names(CLASS));
        let mut families = Families::default();
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        for directory in directories {
            let directory = format!("{CLASS}/{directory}");
            // The control type itself (intel-rapl) has no name.
            let Some(name) = attribute::text(host, odd, &format!("{directory}/name")) else { continue };
            // Zones without a number of their own (several "dram") are numbered in the order of their directories, whether they can be read or not.
            let (zone, number) = zone(&name);
            let index = number.unwrap_or_else(|| next.get(zone).copied().unwrap_or(0));
            next.insert(zone.to_owned(), index.saturating_add(1));
            let Some(microjoules) = attribute::parsed(host, odd, &format!("{directory}/energy_uj"), parse::unsigned) else { continue };
            let joules = microjoules as f64 / 1_000_000.0;
            let path = host.root().sys.join(&directory);
            let (index, path) = (index.to_string(), path.to_string_lossy());
            let labels = [("index", &*index), ("path", &*path), ("rapl_zone", zone)];
            if self.zone_label {
                families.counter("node_rapl_joules_total", "Current RAPL value in joules", &labels, joules);
            } else {
                let name = format!("node_rapl_{}_joules_total", names::part(zone));
                let [index, path, _] = labels;
                families.counter(&name, &format!("Current RAPL {zone} value in joules"), &[index, path], joules);
            }
        }
        Ok(families.write(out))
    }
}

/// Zone and number: `package-1` is `package`, 1. A name with more in it (`package-0-die-1`) is a zone of its own.
fn zone(name: &str) -> (&str, Option<u64>) {
    match name.split_once('-') {
        Some((zone, number)) => match parse::unsigned(number.as_bytes()) {
            Some(number) => (zone, Some(number)),
            None => (name, None),
        },
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zones() {
        assert_eq!(zone("package-1"), ("package", Some(1)));
        assert_eq!(zone("package-0-die-1"), ("package-0-die-1", None));
        assert_eq!(zone("dram"), ("dram", None));
        assert_eq!(zone("psys-x"), ("psys-x", None));
    }

    proptest! {
        #[test]
        fn any_name_is_a_zone(name: String) {
            prop_assert!(name.starts_with(zone(&name).0));
        }
    }
}
