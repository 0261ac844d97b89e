//! `node_load1`, `node_load5`, `node_load15` from `/proc/loadavg`. Source: proc_loadavg(5).

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;

pub(super) const ENTRY: Entry = entry!("loadavg", on, &[], |_| Ok(Box::new(LoadAverage)));

const FAMILIES: [(&str, &str); 3] =
    [("node_load1", "1m load average."), ("node_load5", "5m load average."), ("node_load15", "15m load average.")];

struct LoadAverage;

impl Collector for LoadAverage {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("loadavg")?;
        let mut fields = parse::fields(bytes);
        for (name, help) in FAMILIES {
            match fields.next().and_then(parse::float) {
                Some(load) => out.gauge(name, help, load),
                None => odd.line("loadavg", bytes),
            }
        }
        Ok(Presence::Present)
    }
}
