//! `node_time_*`: the clock, the host's time zone, and the kernel's clock sources.
//! Source: the kernel's `kernel/time/clocksource.c`; the time zone: [`super::zone`].

use std::time::{SystemTime, UNIX_EPOCH};

use super::zone::Zone;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("time", on, &[], |_| Ok(Box::new(Time { zone: Zone::default(), sources: Vec::new() })));

const DIRECTORY: &str = "devices/system/clocksource";

struct Time {
    zone: Zone,
    sources: Vec<Source>,
}

/// One `clocksourceN` with the words of its two files.
#[derive(Default)]
struct Source {
    device: String,
    available: Vec<u8>,
    current: Vec<u8>,
}

impl Collector for Time {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        out.gauge("node_time_seconds", "System time in seconds since epoch (1970).", now.as_nanos() as f64 / 1e9);

        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if let Some((name, offset)) = self.zone.at(host, seconds, odd) {
            let help = "System time zone offset in seconds.";
            out.family("node_time_zone_offset_seconds", Kind::Gauge, help).sample(&[("time_zone", name)], i64::from(offset));
        }

        let names = match host.sys_numbered(DIRECTORY, "clocksource") {
            Ok(names) => names,
            Err(error) => {
                odd.unless_absent(&error);
                Vec::new()
            }
        };
        self.sources.resize_with(names.len(), Source::default);
        for (index, (source, name)) in self.sources.iter_mut().zip(&names).enumerate() {
            source.device = index.to_string();
            for (file, kept) in [("available_clocksource", &mut source.available), ("current_clocksource", &mut source.current)] {
                kept.clear();
                match host.sys(&format!("{DIRECTORY}/{name}/{file}")) {
                    Ok(bytes) => kept.extend_from_slice(parse::trimmed(bytes)),
                    Err(error) => odd.tell(&error),
                }
            }
        }
        let help = "Available clocksources read from '/sys/devices/system/clocksource'.";
        let mut family = out.family("node_time_clocksource_available_info", Kind::Gauge, help);
        for source in &self.sources {
            let names = || parse::fields(&source.available);
            for (_, name) in names().enumerate().filter(|(index, name)| !names().take(*index).any(|before| before == *name)) {
                family.sample(&[("device", &source.device), ("clocksource", &parse::text(name))], 1u64);
            }
        }
        let help = "Current clocksource read from '/sys/devices/system/clocksource'.";
        let mut family = out.family("node_time_clocksource_current_info", Kind::Gauge, help);
        for source in self.sources.iter().filter(|source| !source.current.is_empty()) {
            family.sample(&[("device", &source.device), ("clocksource", &parse::text(&source.current))], 1u64);
        }
        Ok(Presence::Present)
    }
}
