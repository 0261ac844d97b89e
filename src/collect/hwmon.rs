//! `node_hwmon_*` from `/sys/class/hwmon`: temperatures, fans, voltages and what else the machine's sensor chips measure.
//! Source: the kernel's `Documentation/hwmon/sysfs-interface.rst`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::filter::Filter;
use super::rescan::Rescan;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet, Value};
use crate::present;

const CHIP_INCLUDE: Flag = Flag::new(
    "collector.hwmon.chip-include",
    FlagKind::One("REGEX"),
    None,
    "Chips (label chip) to export; contradicts collector.hwmon.chip-exclude.",
);
const CHIP_EXCLUDE: Flag = Flag::new(
    "collector.hwmon.chip-exclude",
    FlagKind::One("REGEX"),
    None,
    "Chips (label chip) to leave out; contradicts collector.hwmon.chip-include.",
);
const SENSOR_INCLUDE: Flag = Flag::new(
    "collector.hwmon.sensor-include",
    FlagKind::One("REGEX"),
    None,
    "Sensors to export, each as CHIP;SENSOR (platform_coretemp_0;temp3); contradicts collector.hwmon.sensor-exclude.",
);
const SENSOR_EXCLUDE: Flag = Flag::new(
    "collector.hwmon.sensor-exclude",
    FlagKind::One("REGEX"),
    None,
    "Sensors to leave out, each as CHIP;SENSOR (platform_coretemp_0;temp3); contradicts collector.hwmon.sensor-include.",
);

pub(super) const ENTRY: Entry = entry!("hwmon", on, &[CHIP_INCLUDE, CHIP_EXCLUDE, SENSOR_INCLUDE, SENSOR_EXCLUDE], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Hwmon {
        chips: Filter::of(settings, &CHIP_INCLUDE, &CHIP_EXCLUDE)?,
        sensors: Filter::of(settings, &SENSOR_INCLUDE, &SENSOR_EXCLUDE)?,
        rescan: Rescan::default(),
        families: BTreeMap::new(),
    }))
}

const CLASS: &str = "class/hwmon";

/// Which files there are, their labels and units are found out once and kept; a scrape reads values only.
struct Hwmon {
    chips: Filter,
    sensors: Filter,
    rescan: Rescan,
    families: BTreeMap<String, Family>,
}

struct Family {
    kind: Kind,
    help: String,
    samples: Vec<Sample>,
}

struct Sample {
    labels: LabelSet,
    source: Source,
}

enum Source {
    /// The sample says that its labels are so.
    Info,
    File(String, Unit, Content),
}

/// What a file was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// It was not read yet.
    Unknown,
    Number,
    /// Something else, which was told when it was met: some drivers have words. It may be a number yet.
    Text,
}

/// What the kernel counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    One,
    Milli,
    Micro,
    /// The kernel's unit of humidity: 100 000 of them are a ratio of 1. node_exporter divides by ten times as much, against its own help text.
    MilliPercent,
    /// `1` is yes, anything else no.
    Truth,
}

impl Unit {
    /// The value in base units. Multiplied and divided as node_exporter does, so that the last bit is that of its number.
    fn value(self, bytes: &[u8]) -> Option<Value> {
        if self == Self::Truth {
            return Some((bytes == b"1").into());
        }
        let number = parse::float(bytes).filter(|number| number.is_finite())?;
        let value = match self {
            Self::Milli => number * 0.001,
            Self::Micro => number / 1_000_000.0,
            Self::MilliPercent => number / 100_000.0,
            Self::One | Self::Truth => number,
        };
        Some(value.into())
    }
}

impl Collector for Hwmon {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let deadline = pass.deadline;
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_names(CLASS));
        // The numbers are given out anew when drivers are loaded in another order, so where a name leads to belongs to it.
        let places = names.iter().map(|name| {
            let link = host.sys_link(&format!("{CLASS}/{name}")).unwrap_or_default();
            format!("{name} {}", link.display())
        });
        if self.rescan.is_due(places.collect()) {
            self.look(&names, host, odd);
        }
        if self.families.is_empty() {
            return Ok(Presence::Absent);
        }
        for (name, Family { kind, help, samples }) in &mut self.families {
            // A sensor behind a slow bus may take tens of milliseconds.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                odd.tell(&format_args!("hwmon: the scrape's time is over before {name}"));
                break;
            }
            let mut family = out.family(name, *kind, help);
            for Sample { labels, source } in samples {
                let (file, unit, content) = match source {
                    Source::File(file, unit, content) => (file, *unit, content),
                    Source::Info => {
                        family.sample_of(labels, &[], 1u64);
                        continue;
                    }
                };
                match host.attribute(file) {
                    Ok(bytes) => match unit.value(bytes) {
                        Some(value) => {
                            family.sample_of(labels, &[], value);
                            *content = Content::Number;
                        }
                        None if bytes.is_empty() || *content == Content::Text => {}
                        // A sensor that was a number and is none is told as long as it is none.
                        None => {
                            odd.line(file, bytes);
                            if *content == Content::Unknown {
                                *content = Content::Text;
                            }
                        }
                    },
                    Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => self.rescan.at_once(),
                    Err(error) if error.is_no_value() => {}
                    Err(error) => odd.tell(&error),
                }
            }
        }
        Ok(Presence::Present)
    }
}

impl Hwmon {
    /// Finds the chips and what they have.
    fn look(&mut self, names: &[String], host: &mut Reader, odd: &mut Oddities) {
        self.families.clear();
        for (directory, chip, name) in chips(names, host, odd) {
            if !self.chips.keeps(chip.as_bytes()) {
                continue;
            }
            let human = clean(&name);
            if !human.is_empty() {
                let labels = LabelSet::of([("chip", &*chip), ("chip_name", &human)]);
                let help = "Annotation metric for human-readable chip names";
                self.add("node_hwmon_chip_names", Kind::Gauge, help, labels, Source::Info);
            }
            for (sensor, Sensor { kind, elements }) in sensors(&directory, host, odd) {
                if self.sensors.keeps(format!("{chip};{sensor}").as_bytes()) {
                    self.look_at(&chip, &sensor, kind, &elements, host, odd);
                }
            }
        }
    }

    /// Takes up a sensor and the families of its elements.
    fn look_at(
        &mut self,
        chip: &str,
        sensor: &str,
        kind: &str,
        elements: &BTreeMap<String, String>,
        host: &mut Reader,
        odd: &mut Oddities,
    ) {
        let label = elements.get("label").and_then(|file| attribute::text(host, odd, file));
        if let Some(label) = &label {
            let labels = LabelSet::of([("chip", chip), ("sensor", sensor), ("label", label)]);
            self.add("node_hwmon_sensor_label", Kind::Gauge, "Label for given chip and sensor", labels, Source::Info);
        }
        for (element, file) in elements {
            if element == "label" || TEXTS.contains(&&**element) {
                continue;
            }
            let Described { name, help, unit } = described(kind, element, elements.contains_key(""));
            let metric = if kind == "energy" { Kind::Counter } else { Kind::Gauge };
            // A clock goes by its label (sclk, mclk), as in node_exporter; by its number when it has none or shares it.
            let by_label = label.as_deref().filter(|_| kind == "freq" && element == "input").map(clean).filter(|label| !label.is_empty());
            for sensor in by_label.as_deref().into_iter().chain([sensor]) {
                let labels = LabelSet::of([("chip", chip), ("sensor", sensor)]);
                if self.add(&name, metric, &help, labels, Source::File(file.clone(), unit, Content::Unknown)) {
                    break;
                }
            }
        }
    }

    /// Adds a sample; false when there is one with the same labels already.
    fn add(&mut self, name: &str, kind: Kind, help: &str, labels: LabelSet, source: Source) -> bool {
        if !self.families.contains_key(name) {
            self.families.insert(name.to_owned(), Family { kind, help: help.to_owned(), samples: Vec::new() });
        }
        let Some(family) = self.families.get_mut(name) else { return false };
        if family.samples.iter().any(|known| known.labels == labels) {
            return false;
        }
        family.samples.push(Sample { labels, source });
        true
    }
}

/// Elements whose values are words (ACPI power meters).
const TEXTS: [&str; 3] = ["model_number", "oem_info", "serial_number"];

/// The chips: directory, the label `chip`, and what the chip calls itself.
///
/// The number of a `hwmonN` depends on the order in which drivers are loaded, so a chip goes by its device: bus and name, `platform_coretemp_0`. Where there
/// is no device it goes by its own name, and by its number as the last resort. Several chips of one device (node_exporter issue 3646) are told apart by
/// their own names, and those of one name by their numbers.
fn chips(names: &[String], host: &mut Reader, odd: &mut Oddities) -> Vec<(String, String, String)> {
    let mut found: Vec<(&str, String, String)> = Vec::new();
    for name in names {
        let directory = format!("{CLASS}/{name}");
        // A link that leads nowhere, or a file.
        if !host.sys_has(&format!("{directory}/.")) {
            continue;
        }
        let own = attribute::text(host, odd, &format!("{directory}/name")).unwrap_or_default();
        let base = device_name(host, &directory).unwrap_or_else(|| clean(&own));
        let base = if base.is_empty() { clean(name) } else { base };
        found.push((name, base, own));
    }
    let mut chips: Vec<(String, String, String)> = Vec::new();
    for (name, base, own) in &found {
        let alike = |same: &dyn Fn(&str) -> bool| found.iter().filter(|(_, other, own)| other == base && same(own)).count();
        let mut chip = base.clone();
        if alike(&|_| true) > 1 {
            let suffix = clean(own);
            let suffix = if suffix.is_empty() || alike(&|other| other == own) > 1 { clean(name) } else { suffix };
            chip = format!("{base}_{suffix}");
        }
        // What a device is called and what a chip calls itself may still meet.
        if chips.iter().any(|(_, known, _)| *known == chip) {
            chip = format!("{chip}_{}", clean(name));
        }
        chips.push((format!("{CLASS}/{name}"), chip, own.clone()));
    }
    chips
}

/// Bus and name of the device that a chip belongs to.
fn device_name(host: &Reader, directory: &str) -> Option<String> {
    let device = host.sys_real(&format!("{directory}/device")).ok()?;
    let name = clean(&device.file_name()?.to_string_lossy());
    let bus = device.parent().and_then(|parent| parent.file_name()).map(|bus| clean(&bus.to_string_lossy())).unwrap_or_default();
    match (name.is_empty(), bus.is_empty()) {
        (true, _) => None,
        (false, true) => Some(name),
        (false, false) => Some(format!("{bus}_{name}")),
    }
}

/// A name in small letters, with `_` for all that a metric's name cannot have, and none at its ends.
fn clean(name: &str) -> String {
    let fit =
        |letter: char| if letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, ':' | '_') { letter } else { '_' };
    name.to_lowercase().chars().map(fit).collect::<String>().trim_matches('_').to_owned()
}

struct Sensor {
    kind: &'static str,
    /// Files by element: `input`, `max`, `crit_alarm`; the empty one is the sensor's own file (`pwm1`).
    elements: BTreeMap<String, String>,
}

/// The sensors of a chip, by name. Drivers of former times (before Linux 3.17) have their files in the device's directory.
fn sensors(directory: &str, host: &Reader, odd: &mut Oddities) -> BTreeMap<String, Sensor> {
    let mut sensors = BTreeMap::new();
    for directory in [directory.to_owned(), format!("{directory}/device")] {
        for name in attribute::names(host, odd, &directory) {
            let Some((kind, number, element)) = exploded(&name) else { continue };
            let sensor = sensors.entry(format!("{kind}{number}")).or_insert_with(|| Sensor { kind, elements: BTreeMap::new() });
            sensor.elements.insert(element.to_owned(), format!("{directory}/{name}"));
        }
    }
    sensors
}

const KINDS: [&str; 11] = ["in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy", "humidity", "intrusion", "freq"];
/// Of the chip as a whole: without number or element.
const OF_CHIP: [&str; 3] = ["vrm", "beep_enable", "update_interval"];

/// Takes a file's name apart: `temp1_crit_alarm` is `temp`, 1, `crit_alarm`; `pwm1` is `pwm`, 1 and no element. `None` for what is no sensor's.
fn exploded(name: &str) -> Option<(&'static str, u32, &str)> {
    if let Some(kind) = OF_CHIP.iter().find(|kind| **kind == name) {
        return Some((kind, 0, ""));
    }
    let (kind, rest) = name.split_at_checked(name.find(|letter: char| letter.is_ascii_digit())?)?;
    let kind = KINDS.iter().find(|known| **known == kind)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (number, element) = rest.split_at_checked(end)?;
    let element = if element.is_empty() { element } else { element.strip_prefix('_').filter(|element| !element.is_empty())? };
    Some((kind, number.parse().ok()?, element))
}

/// The family of an element.
struct Described {
    name: String,
    help: String,
    unit: Unit,
}

/// Name, help and unit as node_exporter gives them. `bare` says that the sensor has a file without element, which then takes the name that `input` has
/// otherwise.
fn described(kind: &str, element: &str, bare: bool) -> Described {
    let as_is = |name: &str, help: &str, unit| Described { name: name.to_owned(), help: help.to_owned(), unit };
    match kind {
        "beep_enable" => return as_is("node_hwmon_beep_enabled", "Hardware beep enabled", Unit::Truth),
        "vrm" => return as_is("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", Unit::One),
        "update_interval" => return as_is("node_hwmon_update_interval_seconds", "Hardware monitor update interval", Unit::Milli),
        _ => {}
    }
    let name = match element {
        "" => format!("node_hwmon_{kind}"),
        "input" if !bare => format!("node_hwmon_{kind}"),
        _ => format!("node_hwmon_{kind}_{}", clean(element)),
    };
    let (suffix, help, unit) = match (kind, element) {
        (_, "fault" | "alarm") => ("", format!("Hardware sensor {element} status ({kind})"), Unit::One),
        (_, "beep") => ("_enabled", "Hardware monitor sensor has beeping enabled".to_owned(), Unit::One),
        ("in" | "cpu", _) => ("_volts", format!("Hardware monitor for voltage ({element})"), Unit::Milli),
        ("temp", "") => ("_celsius", "Hardware monitor for temperature (input)".to_owned(), Unit::Milli),
        ("temp", element) if element != "type" => ("_celsius", format!("Hardware monitor for temperature ({element})"), Unit::Milli),
        ("curr", _) => ("_amps", format!("Hardware monitor for current ({element})"), Unit::Milli),
        ("energy", _) => ("_joule_total", format!("Hardware monitor for joules used so far ({element})"), Unit::Micro),
        ("power", "accuracy") => ("", "Hardware monitor power meter accuracy, as a ratio".to_owned(), Unit::Micro),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", format!("Hardware monitor power usage update interval ({element})"), Unit::Milli)
        }
        ("power", _) => ("_watt", format!("Hardware monitor for power usage in watts ({element})"), Unit::Micro),
        ("humidity", _) => {
            let help = "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)";
            ("", format!("{help} ({element})"), Unit::MilliPercent)
        }
        ("fan", "input" | "min" | "max" | "target") => {
            ("_rpm", format!("Hardware monitor for fan revolutions per minute ({element})"), Unit::One)
        }
        ("freq", "input") => ("_freq_mhz", "Hardware monitor for GPU frequency in MHz".to_owned(), Unit::Micro),
        _ => ("", format!("Hardware monitor {kind} element {element}"), Unit::One),
    };
    Described { name: name + suffix, help, unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_files() {
        assert_eq!(exploded("temp1_crit_alarm"), Some(("temp", 1, "crit_alarm")));
        assert_eq!(exploded("pwm1"), Some(("pwm", 1, "")));
        assert_eq!(exploded("pwm12_auto_point1_pwm"), Some(("pwm", 12, "auto_point1_pwm")));
        assert_eq!(exploded("cpu0_vid"), Some(("cpu", 0, "vid")));
        assert_eq!(exploded("beep_enable"), Some(("beep_enable", 0, "")));
        // Directories and attributes of the device, and what no chip has.
        for other in
            ["power", "power_state", "temp", "temp1x", "temp1_", "temp99999999999_input", "in_voltage0_raw", "name", "", "1", "hwmon3"]
        {
            assert_eq!(exploded(other), None, "{other}");
        }
    }

    /// A sensor that once gave what is no number is not lost for ever.
    #[test]
    fn a_sensor_recovers() {
        let directory = tempfile::tempdir().unwrap();
        let chip = directory.path().join("class/hwmon/hwmon0");
        std::fs::create_dir_all(&chip).unwrap();
        std::fs::write(chip.join("name"), "x\n").unwrap();
        let root = crate::host::Root::find(None, Some(directory.path().into()), None, None);
        let mut host = Reader::new(std::sync::Arc::new(root));
        let mut collector = build(&Settings::default()).unwrap();
        let mut scrape = |text: &str| {
            std::fs::write(chip.join("temp1_input"), text).unwrap();
            let mut out = crate::exposition::Writer::new(std::sync::Arc::default());
            let mut pass = Pass::new(&mut host, &mut out);
            collector.collect(&mut pass).unwrap();
            (pass.oddities().0, String::from_utf8_lossy(out.text()).lines().any(|line| line.starts_with("node_hwmon_temp_celsius{")))
        };
        let found = ["word\n", "word\n", "7000\n", "nan\n", "nan\n", "8000\n"].map(&mut scrape);
        assert_eq!(found, [(1, false), (0, false), (0, true), (1, false), (1, false), (0, true)]);
    }

    #[test]
    fn names_and_units_of_families() {
        let name = |kind, element, bare| {
            let Described { name, unit, .. } = described(kind, element, bare);
            (name.trim_start_matches("node_hwmon_").to_owned(), unit)
        };
        assert_eq!(name("temp", "input", false), ("temp_celsius".into(), Unit::Milli));
        assert_eq!(name("temp", "input", true), ("temp_input_celsius".into(), Unit::Milli));
        assert_eq!(name("temp", "type", false), ("temp_type".into(), Unit::One));
        assert_eq!(name("temp", "fault", false), ("temp_fault".into(), Unit::One));
        assert_eq!(name("power", "average", false), ("power_average_watt".into(), Unit::Micro));
        assert_eq!(name("power", "average_interval", false), ("power_average_interval_seconds".into(), Unit::Milli));
        assert_eq!(name("fan", "div", false), ("fan_div".into(), Unit::One));
    }

    #[test]
    fn cleaned_names() {
        assert_eq!(clean("CoreTemp.0\n"), "coretemp_0");
        assert_eq!(clean("__"), "");
    }

    #[test]
    fn values() {
        assert_eq!(Unit::Milli.value(b"55000"), Some(Value::Float(55.0)));
        assert_eq!(Unit::MilliPercent.value(b"45000"), Some(Value::Float(0.45)));
        assert_eq!(Unit::Truth.value(b"2"), Some(Value::Unsigned(0)));
        assert_eq!(Unit::One.value(b"inf"), None);
        assert_eq!(Unit::One.value(b"N/A"), None);
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_refused(name: String, element in "(temp|in|pwm)[0-9]{0,12}_?.{0,8}") {
            let _ = (exploded(&name), exploded(&element), clean(&name));
        }
    }
}
