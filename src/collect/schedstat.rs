//! `node_schedstat_*` from `/proc/schedstat`: how long each CPU ran tasks, how long tasks waited for it, and how many turns they got.
//! Source: the kernel's `Documentation/scheduler/sched-stats.rst`. There only with `CONFIG_SCHEDSTATS`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, Value};
use crate::present;

pub(super) const ENTRY: Entry = entry!("schedstat", on, &[], |_| Ok(Box::new(SchedStat { rows: Vec::new() })));

struct SchedStat {
    rows: Vec<Row>,
}

/// What one `cpuN` line says.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    cpu: u64,
    running: u64,
    waiting: u64,
    slices: u64,
}

/// A family: name, help, and its value.
type Family = (&'static str, &'static str, fn(&Row) -> Value);

/// The kernel counts in nanoseconds; its document says jiffies, which was so before 2.6.23.
const FAMILIES: [Family; 3] = [
    ("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.", |row| seconds(row.running)),
    ("node_schedstat_waiting_seconds_total", "Number of seconds spent by processing waiting for this CPU.", |row| seconds(row.waiting)),
    ("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.", |row| row.slices.into()),
];

fn seconds(nanoseconds: u64) -> Value {
    (nanoseconds as f64 / 1e9).into()
}

impl Collector for SchedStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc("schedstat"));
        self.rows.clear();
        for line in parse::lines(bytes).filter(|line| line.starts_with(b"cpu")) {
            match row(line) {
                // The kernel goes through the CPUs in the order of their numbers, so a number that is not higher is there twice.
                Some(row) if self.rows.last().is_none_or(|last| last.cpu < row.cpu) => self.rows.push(row),
                _ => odd.line("schedstat", line),
            }
        }
        for (name, help, value) in FAMILIES {
            let mut family = out.family(name, Kind::Counter, help);
            for row in &self.rows {
                family.sample(&[("cpu", itoa::Buffer::new().format(row.cpu))], value(row));
            }
        }
        Ok(Presence::Present)
    }
}

/// `cpu0` and nine numbers, of which the last three are asked for. Later kernels may put more behind them.
fn row(line: &[u8]) -> Option<Row> {
    let mut fields = parse::fields(line);
    let cpu = fields.next()?.strip_prefix(b"cpu").and_then(parse::unsigned)?;
    let mut numbers = fields.skip(6).map(parse::unsigned);
    Some(Row { cpu, running: numbers.next()??, waiting: numbers.next()??, slices: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_three_of_nine() {
        assert_eq!(row(b"cpu7 1 2 3 4 5 6 7 8 9"), Some(Row { cpu: 7, running: 7, waiting: 8, slices: 9 }));
        for odd in [&b"cpu7 1 2 3 4 5 6 7 8"[..], b"cpu 1 2 3 4 5 6 7 8 9", b"cpu1 1 2 3 4 5 6 7 x 9"] {
            assert_eq!(row(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = row(&line);
        }
    }
}
