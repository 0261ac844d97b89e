//! `node_systemd_*`: units and the state of systemd, over D-Bus. Interface: org.freedesktop.systemd1(5).
//!
//! The properties of all units are asked for together and not one after the other: a machine with 500 units answers in one breath.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::Regex;

use super::sockets::is_without_systemd;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::dbus::{self, Bus, BusError, Call, Fields, Value};
use crate::model::Kind;

const INCLUDE: Flag = Flag::new(
    "collector.systemd.unit-include",
    FlagKind::One("REGEX"),
    Some(".+"),
    "Units to export, by their whole names; a unit is exported that is included and not excluded.",
)
.or(&["collector.systemd.unit-whitelist"]);
const EXCLUDE: Flag = Flag::new(
    "collector.systemd.unit-exclude",
    FlagKind::One("REGEX"),
    Some(r".+\.(automount|device|mount|scope|slice)"),
    "Units to leave out, by their whole names; a unit is exported that is included and not excluded.",
)
.or(&["collector.systemd.unit-blacklist"]);
const TASKS: Flag = Flag::new(
    "collector.systemd.enable-task-metrics",
    FlagKind::Switch,
    Some("false"),
    "Export unit_tasks_current and unit_tasks_max of services.",
);
const RESTARTS: Flag =
    Flag::new("collector.systemd.enable-restarts-metrics", FlagKind::Switch, Some("false"), "Export service_restart_total of services.");
const START_TIME: Flag =
    Flag::new("collector.systemd.enable-start-time-metrics", FlagKind::Switch, Some("false"), "Export unit_start_time_seconds of units.");
const PRIVATE: Flag = Flag::new(
    "collector.systemd.private",
    FlagKind::Switch,
    Some("false"),
    "Ask at systemd's own socket, below the root file system, and not over the bus; systemd hears only root there.",
);

pub(super) const ENTRY: Entry = entry!("systemd", off, &[INCLUDE, EXCLUDE, TASKS, RESTARTS, START_TIME, PRIVATE], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Systemd {
        include: pattern(settings, &INCLUDE)?,
        exclude: pattern(settings, &EXCLUDE)?,
        tasks: settings.is_on(TASKS.name),
        restarts: settings.is_on(RESTARTS.name),
        start_time: settings.is_on(START_TIME.name),
        private: settings.is_on(PRIVATE.name),
    }))
}

/// These two are matched with the whole name, as node_exporter does it for units and for nothing else.
fn pattern(settings: &Settings, flag: &Flag) -> Result<Option<Regex>, String> {
    let Some(pattern) = settings.one(flag.name) else { return Ok(None) };
    crate::model::whole(pattern).map(Some).map_err(|error| {
        let drawn = error.to_string();
        let why = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("--{}={pattern}: no regular expression ({why}); give one without lookaround and back-references, as (a|b).+", flag.name)
    })
}

struct Systemd {
    include: Option<Regex>,
    exclude: Option<Regex>,
    tasks: bool,
    restarts: bool,
    start_time: bool,
    private: bool,
}

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";
const TIMER: &str = "org.freedesktop.systemd1.Timer";
const MOUNT: &str = "org.freedesktop.systemd1.Mount";

const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

/// What a property becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// As it stands.
    Number,
    /// As it stands, but for the greatest number, which means that there is none.
    Limited,
    /// Microseconds that become seconds.
    Seconds,
}

/// Families of one property each: name, type, help, what it becomes.
const PROPERTIES: [(&str, Kind, &str, Use); 8] = [
    ("node_systemd_unit_start_time_seconds", Kind::Gauge, "Start time of the unit since unix epoch in seconds.", Use::Seconds),
    ("node_systemd_unit_tasks_current", Kind::Gauge, "Current number of tasks per Systemd unit", Use::Limited),
    ("node_systemd_unit_tasks_max", Kind::Gauge, "Maximum number of tasks per Systemd unit", Use::Limited),
    ("node_systemd_service_restart_total", Kind::Counter, "Service unit count of Restart triggers", Use::Number),
    ("node_systemd_timer_last_trigger_seconds", Kind::Gauge, "Seconds since epoch of last trigger.", Use::Seconds),
    ("node_systemd_socket_accepted_connections_total", Kind::Counter, "Total number of accepted socket connections", Use::Number),
    ("node_systemd_socket_current_connections", Kind::Gauge, "Current number of socket connections", Use::Number),
    ("node_systemd_socket_refused_connections_total", Kind::Gauge, "Total number of refused socket connections", Use::Number),
];
const START: usize = 0;
const TASKS_CURRENT: usize = 1;
const TASKS_MAX: usize = 2;
const RESTART: usize = 3;
const LAST_TRIGGER: usize = 4;
const ACCEPTED: usize = 5;
const CONNECTIONS: usize = 6;
const REFUSED: usize = 7;

/// A unit of systemd's list, and what was told of it.
#[derive(Debug, Default)]
struct Unit {
    name: String,
    loaded: bool,
    state: String,
    path: String,
    kind: String,
    values: [Option<u64>; PROPERTIES.len()],
}

impl From<BusError> for CollectError {
    fn from(error: BusError) -> Self {
        Self::Other(error.to_string())
    }
}

impl Collector for Systemd {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let places = if self.private { dbus::systemd_private(pass.host.root()) } else { dbus::system_bus(pass.host.root()) };
        let mut bus = match Bus::connect(&places, !self.private, pass.deadline) {
            Err(BusError::NoSocket(_)) if is_without_systemd(pass.host) => return Ok(Presence::Absent),
            other => other?,
        };
        let (_, out, odd) = pass.split();
        let list = Call { destination: DESTINATION, path: PATH, interface: MANAGER, member: "ListUnits", arguments: Vec::new() };
        let mut units = match bus.call(list, |reply| reply.fields("a(ssssssouso)").and_then(units))? {
            Ok(Some(units)) => units,
            Ok(None) => return Err(CollectError::Other("systemd's list of units has another form than it should".to_owned())),
            Err(refused) if refused.is_absent() => return Ok(Presence::Absent),
            Err(refused) => return Err(CollectError::Other(format!("systemd does not list its units: {refused}"))),
        };
        manager(&mut bus, out, odd)?;
        summary(&units, out);
        let wanted = |unit: &Unit| {
            unit.loaded
                && self.include.as_ref().is_none_or(|pattern| pattern.is_match(&unit.name))
                && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(&unit.name))
        };
        units.retain(wanted);
        let asked = self.properties(&mut bus, &mut units, odd);
        write(&units, out);
        // Without its properties a unit's state is known all the same.
        asked.map(|()| Presence::Present)
    }
}

impl Systemd {
    /// Asks for the properties of all units and fills them in. A unit that is gone since, or a property that this systemd does not know, is left out.
    fn properties(&self, bus: &mut Bus, units: &mut [Unit], odd: &mut Oddities) -> Result<(), CollectError> {
        const TYPE: usize = usize::MAX;
        let mut wanted = Vec::new();
        for (number, unit) in units.iter().enumerate() {
            let mut ask = |interface: &'static str, name: &'static str, target: usize| wanted.push((number, interface, name, target));
            match unit.name.rsplit_once('.').map_or("", |(_, kind)| kind) {
                "service" => {
                    ask(SERVICE, "Type", TYPE);
                    if self.tasks {
                        ask(SERVICE, "TasksCurrent", TASKS_CURRENT);
                        ask(SERVICE, "TasksMax", TASKS_MAX);
                    }
                    if self.restarts {
                        // Since systemd 235.
                        ask(SERVICE, "NRestarts", RESTART);
                    }
                }
                "mount" => ask(MOUNT, "Type", TYPE),
                "timer" => ask(TIMER, "LastTriggerUSec", LAST_TRIGGER),
                "socket" => {
                    ask(SOCKET, "NAccepted", ACCEPTED);
                    ask(SOCKET, "NConnections", CONNECTIONS);
                    // Since systemd 239.
                    ask(SOCKET, "NRefused", REFUSED);
                }
                _ => {}
            }
            if self.start_time && unit.state == "active" {
                ask(UNIT, "ActiveEnterTimestamp", START);
            }
        }
        let paths: Vec<String> = units.iter().map(|unit| unit.path.clone()).collect();
        let calls: Vec<Call<'_>> = wanted
            .iter()
            .filter_map(|(number, interface, name, _)| Some(Call::property(DESTINATION, paths.get(*number)?, interface, name)))
            .collect();
        bus.call_each(&calls, &mut |call, reply| {
            let (Some((number, _, name, target)), Ok(reply)) = (wanted.get(call), reply) else { return };
            let Some(unit) = units.get_mut(*number) else { return };
            match (reply.value(), unit.values.get_mut(*target)) {
                (Some(Value::Unsigned(value)), Some(place)) => *place = Some(value),
                (Some(Value::Text(kind)), None) => unit.kind = kind.into_owned(),
                _ => odd.tell(&format_args!("{}: {name} has another form than it should", unit.name)),
            }
        })?;
        if self.start_time {
            for unit in units.iter_mut().filter(|unit| unit.state != "active") {
                if let Some(place) = unit.values.get_mut(START) {
                    *place = Some(0);
                }
            }
        }
        Ok(())
    }
}

/// The units of `ListUnits`, in the order of their names, each once.
fn units(mut fields: Fields<'_>) -> Option<Vec<Unit>> {
    let mut units = Vec::new();
    let mut list = fields.array(8)?;
    while list.more() {
        list.align(8)?;
        let name = list.text()?.into_owned();
        list.text()?;
        let loaded = list.text()? == "loaded";
        let state = list.text()?.into_owned();
        list.text()?;
        list.text()?;
        let path = list.text()?.into_owned();
        // The job that is queued for it: number, type, object.
        list.u32()?;
        list.text()?;
        list.text()?;
        units.push(Unit { name, loaded, state, path, ..Unit::default() });
    }
    units.sort_by(|a, b| a.name.cmp(&b.name));
    units.dedup_by(|a, b| a.name == b.name);
    Some(units)
}

/// What systemd says of itself.
fn manager(bus: &mut Bus, out: &mut Writer, odd: &mut Oddities) -> Result<(), CollectError> {
    const NAMES: [&str; 3] = ["Version", "Virtualization", "SystemState"];
    let mut values: [Option<String>; 3] = Default::default();
    bus.call_each(&NAMES.map(|name| Call::property(DESTINATION, PATH, MANAGER, name)), &mut |number, reply| {
        let value = match reply {
            Ok(reply) => match reply.value() {
                Some(Value::Text(text)) => Ok(text.into_owned()),
                _ => Err(Cow::Borrowed("has another form than it should")),
            },
            Err(refused) => Err(Cow::Owned(refused.to_string())),
        };
        match (value, values.get_mut(number), NAMES.get(number)) {
            (Ok(text), Some(place), _) => *place = Some(text),
            (Err(why), _, Some(name)) => odd.tell(&format_args!("systemd's {name}: {why}")),
            _ => {}
        }
    })?;
    let [version, virtualization, state] = values;
    if let Some(version) = version {
        match version_number(&version) {
            Some(number) => {
                out.family("node_systemd_version", Kind::Gauge, "Detected systemd version").sample(&[("version", &version)], number);
            }
            None => odd.tell(&format_args!("systemd's Version: {version:?}")),
        }
    }
    // Without any the machine is one of metal.
    let virtualization = virtualization.as_deref().map_or("unknown", |kind| if kind.is_empty() { "none" } else { kind });
    out.family("node_systemd_virtualization_info", Kind::Gauge, "Detected virtualization technology")
        .sample(&[("virtualization_type", virtualization)], 1u64);
    if let Some(state) = state {
        let help = "Whether the system is operational (see 'systemctl is-system-running')";
        out.gauge("node_systemd_system_running", help, state == "running");
    }
    Ok(())
}

/// The first number of three digits and more, with what follows its point: 252.38 of `252.38-1~deb12u1`, 255 of `systemd-255`.
fn version_number(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = version;
    loop {
        rest = rest.trim_start_matches(|character: char| !character.is_ascii_digit());
        let whole = digits(rest);
        if whole == 0 {
            return None;
        }
        let (number, behind) = rest.split_at_checked(whole)?;
        if whole < 3 {
            rest = behind;
            continue;
        }
        let fraction = behind.strip_prefix('.').map_or(0, digits);
        let length = if fraction == 0 { number.len() } else { number.len() + 1 + fraction };
        return rest.get(..length)?.parse().ok();
    }
}

/// How many units are in which state: the five of node_exporter, and whatever other there is (`reloading`, `maintenance`).
fn summary(units: &[Unit], out: &mut Writer) {
    let mut counts: BTreeMap<&str, u64> = STATES.iter().map(|state| (*state, 0)).collect();
    for unit in units {
        *counts.entry(&unit.state).or_default() += 1;
    }
    let mut family = out.family("node_systemd_units", Kind::Gauge, "Summary of systemd unit states");
    for (state, count) in counts {
        family.sample(&[("state", state)], count);
    }
}

fn write(units: &[Unit], out: &mut Writer) {
    let mut family = out.family("node_systemd_unit_state", Kind::Gauge, "Systemd unit");
    for unit in units {
        for state in STATES {
            family.sample(&[("name", &unit.name), ("state", state), ("type", &unit.kind)], unit.state == state);
        }
    }
    for (number, (name, kind, help, becomes)) in PROPERTIES.iter().enumerate() {
        let mut family = out.family(name, *kind, help);
        for unit in units {
            let Some(Some(value)) = unit.values.get(number).copied() else { continue };
            match becomes {
                Use::Limited if value == u64::MAX => {}
                Use::Limited | Use::Number => {
                    family.sample(&[("name", &unit.name)], value);
                }
                Use::Seconds => {
                    family.sample(&[("name", &unit.name)], value as f64 / 1e6);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (version, number) in [
            ("252.38-1~deb12u1", Some(252.38)),
            ("systemd 255", Some(255.0)),
            ("v257.5-2.fc42", Some(257.5)),
            ("44.1 229", Some(229.0)),
            ("219.", Some(219.0)),
            ("12", None),
            ("", None),
        ] {
            assert_eq!(version_number(version), number, "{version}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        let mut settings = Settings::default();
        settings.set(EXCLUDE.name, vec!["(".into()]);
        let refused = build(&settings).err().unwrap();
        assert!(refused.starts_with("--collector.systemd.unit-exclude=(: no regular expression (unclosed group)"), "{refused}");
    }
}
