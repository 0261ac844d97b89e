//! `node_vmstat_*` from `/proc/vmstat`, untyped as node_exporter has them: some are counters, some are not, and the file does not say which.

use regex::bytes::Regex;

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Pass, Presence, entry, filter};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::model::Kind;

const FIELDS: Flag = Flag::new(
    "collector.vmstat.fields",
    FlagKind::One("REGEX"),
    Some("^(oom_kill|pgpg|pswp|pg.*fault).*"),
    "Fields of /proc/vmstat to export.",
);

pub(super) const ENTRY: Entry = entry!("vmstat", on, &[FIELDS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(VmStat { wanted: filter::pattern(settings, &FIELDS)?, names: Names::default() }))
}

struct VmStat {
    wanted: Option<Regex>,
    names: Names,
}

impl Collector for VmStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("vmstat")?;
        self.names.begin();
        for line in parse::lines(bytes) {
            let mut fields = parse::fields(line);
            let (Some(field), Some(value)) = (fields.next(), fields.next().and_then(parse::unsigned)) else {
                odd.line("vmstat", line);
                continue;
            };
            let named = |field: &str| {
                let wanted = self.wanted.as_ref().is_none_or(|pattern| pattern.is_match(field.as_bytes()));
                wanted.then(|| Named { name: format!("node_vmstat_{field}"), help: format!("/proc/vmstat information field {field}.") })
            };
            match self.names.find(field, named) {
                Found::Wanted(Named { name, help }) => {
                    out.family(name, Kind::Untyped, help).sample(&[], value);
                }
                Found::Unwanted => {}
                Found::Odd => odd.line("vmstat", line),
            }
        }
        Ok(Presence::Present)
    }
}
