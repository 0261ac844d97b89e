//! `node_power_supply_*` from `/sys/class/power_supply`: batteries, mains, USB.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-class-power` and `Documentation/power/power_supply_class.rst`.

use regex::bytes::Regex;

use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry, filter};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet, Value};
use crate::present;

const IGNORED: Flag =
    Flag::new("collector.powersupply.ignored-supplies", FlagKind::One("REGEX"), Some("^$"), "Power supplies to leave out.");

pub(super) const ENTRY: Entry = entry!("powersupplyclass", on, &[IGNORED], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(PowerSupplies { ignored: filter::pattern(settings, &IGNORED)? }))
}

const CLASS: &str = "class/power_supply";

/// What the kernel counts in.
#[derive(Clone, Copy)]
enum Unit {
    One,
    Micro,
    Tenth,
}

/// The numbers: attribute, the end of the family's name, unit.
const NUMBERS: &[(&str, &str, Unit)] = &[
    ("authentic", "authentic", Unit::One),
    ("calibrate", "calibrate", Unit::One),
    ("capacity", "capacity", Unit::One),
    ("capacity_alert_max", "capacity_alert_max", Unit::One),
    ("capacity_alert_min", "capacity_alert_min", Unit::One),
    ("cycle_count", "cyclecount", Unit::One),
    ("online", "online", Unit::One),
    ("present", "present", Unit::One),
    ("time_to_empty_now", "time_to_empty_seconds", Unit::One),
    ("time_to_full_now", "time_to_full_seconds", Unit::One),
    ("current_boot", "current_boot", Unit::Micro),
    ("current_max", "current_max", Unit::Micro),
    ("current_now", "current_ampere", Unit::Micro),
    ("energy_empty", "energy_empty", Unit::Micro),
    ("energy_empty_design", "energy_empty_design", Unit::Micro),
    ("energy_full", "energy_full", Unit::Micro),
    ("energy_full_design", "energy_full_design", Unit::Micro),
    ("energy_now", "energy_watthour", Unit::Micro),
    ("voltage_boot", "voltage_boot", Unit::Micro),
    ("voltage_max", "voltage_max", Unit::Micro),
    ("voltage_max_design", "voltage_max_design", Unit::Micro),
    ("voltage_min", "voltage_min", Unit::Micro),
    ("voltage_min_design", "voltage_min_design", Unit::Micro),
    ("voltage_now", "voltage_volt", Unit::Micro),
    ("voltage_ocv", "voltage_ocv", Unit::Micro),
    ("charge_control_limit", "charge_control_limit", Unit::Micro),
    ("charge_control_limit_max", "charge_control_limit_max", Unit::Micro),
    ("charge_counter", "charge_counter", Unit::Micro),
    ("charge_empty", "charge_empty", Unit::Micro),
    ("charge_empty_design", "charge_empty_design", Unit::Micro),
    ("charge_full", "charge_full", Unit::Micro),
    ("charge_full_design", "charge_full_design", Unit::Micro),
    ("charge_now", "charge_ampere", Unit::Micro),
    ("charge_term_current", "charge_term_current", Unit::Micro),
    ("constant_charge_current", "constant_charge_current", Unit::Micro),
    ("constant_charge_current_max", "constant_charge_current_max", Unit::Micro),
    ("constant_charge_voltage", "constant_charge_voltage", Unit::Micro),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", Unit::Micro),
    ("precharge_current", "precharge_current", Unit::Micro),
    ("input_current_limit", "input_current_limit", Unit::Micro),
    ("power_now", "power_watt", Unit::Micro),
    ("temp", "temp_celsius", Unit::Tenth),
    ("temp_alert_max", "temp_alert_max_celsius", Unit::Tenth),
    ("temp_alert_min", "temp_alert_min_celsius", Unit::Tenth),
    ("temp_ambient", "temp_ambient_celsius", Unit::Tenth),
    ("temp_ambient_max", "temp_ambient_max_celsius", Unit::Tenth),
    ("temp_ambient_min", "temp_ambient_min_celsius", Unit::Tenth),
    ("temp_max", "temp_max_celsius", Unit::Tenth),
    ("temp_min", "temp_min_celsius", Unit::Tenth),
];

/// The attributes that are labels of `node_power_supply_info` under their own names. An empty one is left out.
const TEXTS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
    "scope",
];

struct PowerSupplies {
    ignored: Option<Regex>,
}

/// What a power supply said.
struct Supply {
    labels: LabelSet,
    info: LabelSet,
    numbers: Vec<Option<i64>>,
}

impl Collector for PowerSupplies {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut names = present!(host.sys_names(CLASS));
        if let Some(ignored) = &self.ignored {
            names.retain(|name| !ignored.is_match(name.as_bytes()));
        }
        if names.is_empty() {
            return Ok(Presence::Absent);
        }
        let supplies: Vec<Supply> = names.iter().map(|name| supply(name, host, odd)).collect();
        write(&supplies, out);
        Ok(Presence::Present)
    }
}

/// Reads a supply. Its type decides which attributes it has; one without a value (a battery that was taken out) answers `ENODATA` or `ENODEV`.
fn supply(name: &str, host: &mut Reader, odd: &mut Oddities) -> Supply {
    let directory = format!("{CLASS}/{name}");
    let files = attribute::names(host, odd, &directory);
    let has = |file: &str| files.binary_search_by(|known| known.as_str().cmp(file)).is_ok();
    let number = |(file, ..): &(&str, &str, Unit)| {
        if has(file) { attribute::parsed(host, odd, &format!("{directory}/{file}"), parse::signed) } else { None }
    };
    let numbers = NUMBERS.iter().map(number).collect();
    let mut info = LabelSet::of([("power_supply", name)]);
    for file in TEXTS.into_iter().filter(|file| has(file)) {
        if let Some(text) = attribute::text(host, odd, &format!("{directory}/{file}")).filter(|text| !text.is_empty()) {
            info.push(file, &text);
        }
    }
    Supply { labels: LabelSet::of([("power_supply", name)]), info, numbers }
}

fn write(supplies: &[Supply], out: &mut Writer) {
    for (column, (_, short, unit)) in NUMBERS.iter().enumerate() {
        let number = |supply: &Supply| supply.numbers.get(column).copied().flatten();
        if !supplies.iter().any(|supply| number(supply).is_some()) {
            continue;
        }
        let (name, help) = (format!("node_power_supply_{short}"), format!("{short} value of /sys/class/power_supply/<power_supply>."));
        let mut family = out.family(&name, Kind::Gauge, &help);
        for supply in supplies {
            if let Some(number) = number(supply) {
                let value: Value = match unit {
                    Unit::One => number.into(),
                    Unit::Micro => (number as f64 / 1e6).into(),
                    Unit::Tenth => (number as f64 / 10.0).into(),
                };
                family.sample_of(&supply.labels, &[], value);
            }
        }
    }
    let mut family = out.family("node_power_supply_info", Kind::Gauge, "info of /sys/class/power_supply/<power_supply>.");
    for supply in supplies {
        family.sample_of(&supply.info, &[], 1u64);
    }
}
