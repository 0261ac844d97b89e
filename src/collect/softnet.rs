//! `node_softnet_*` from the host's `net/softnet_stat`: how each CPU fared with the packets that came in. One line for each CPU that is online, numbers of 32
//! bits in hexadecimal, which begin again at 2^32.
//! Source: `softnet_seq_show` in the kernel's `net/core/net-procfs.c`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, LabelSet};
use crate::present;

pub(super) const ENTRY: Entry = entry!("softnet", on, &[], |_| Ok(Box::new(Softnet::default())));

/// The columns that are exported: place, type, name and help.
const COLUMNS: [(usize, Kind, &str, &str); 7] = [
    (0, Kind::Counter, "node_softnet_processed_total", "Number of processed packets"),
    (1, Kind::Counter, "node_softnet_dropped_total", "Number of dropped packets"),
    (2, Kind::Counter, "node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota"),
    (8, Kind::Counter, "node_softnet_cpu_collision_total", "Number of collision occur while obtaining device lock while transmitting"),
    (9, Kind::Counter, "node_softnet_received_rps_total", "Number of times cpu woken up received_rps"),
    (10, Kind::Counter, "node_softnet_flow_limit_count_total", "Number of times flow limit has been reached"),
    (11, Kind::Gauge, "node_softnet_backlog_len", "Softnet backlog status"),
];
/// Where the CPU's number stands since Linux 5.14.
const CPU: usize = 12;
/// The columns of the oldest kernel (2.6.23). Those that came later are 0 where they are not there, as node_exporter has them.
const LEAST: usize = 9;

type Numbers = [u64; CPU + 1];

#[derive(Default)]
struct Softnet {
    rows: Vec<(u64, Numbers)>,
    /// The labels of CPU 0, 1, 2, ...
    labels: Vec<LabelSet>,
}

impl Collector for Softnet {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        /// More CPUs than any machine has: a bound for the labels that are kept.
        const MOST: u64 = 1 << 16;
        let (host, out, odd) = pass.split();
        let (_, bytes) = present!(host.net("softnet_stat"));
        self.rows.clear();
        for (line, index) in parse::lines(bytes).zip(0u64..) {
            match row(line, index) {
                Some((cpu, numbers)) if cpu < MOST && self.rows.iter().all(|(known, _)| *known != cpu) => self.rows.push((cpu, numbers)),
                _ => odd.line("net/softnet_stat", line),
            }
        }
        let most = self.rows.iter().map(|(cpu, _)| *cpu).max().unwrap_or(0);
        for cpu in self.labels.len() as u64..=most {
            self.labels.push(LabelSet::of([("cpu", &*cpu.to_string())]));
        }
        for (place, kind, name, help) in COLUMNS {
            let mut family = out.family(name, kind, help);
            for (cpu, numbers) in &self.rows {
                let labels = usize::try_from(*cpu).ok().and_then(|cpu| self.labels.get(cpu));
                if let (Some(labels), Some(number)) = (labels, numbers.get(place)) {
                    family.sample_of(labels, &[], *number);
                }
            }
        }
        Ok(Presence::Present)
    }
}

/// A line: the CPU's number and all numbers. `index` is the CPU where the kernel does not say.
fn row(line: &[u8], index: u64) -> Option<(u64, Numbers)> {
    let mut numbers = Numbers::default();
    let mut count = 0;
    for (slot, field) in numbers.iter_mut().zip(parse::fields(line)) {
        *slot = parse::hexadecimal(field)?;
        count += 1;
    }
    let cpu = if count > CPU { *numbers.get(CPU)? } else { index };
    (count >= LEAST).then_some((cpu, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cpu_is_told_or_counted() {
        let (cpu, numbers) = row(b"00003a2a 1 2 0 0 0 0 0 8 9 0000000a 0000000b 00000003 0 0", 7).unwrap();
        assert_eq!((cpu, numbers[0], numbers[10], numbers[11]), (3, 0x3a2a, 10, 11));
        let (cpu, numbers) = row(b"ffffffff 1 2 0 0 0 0 0 8", 7).unwrap();
        assert_eq!((cpu, numbers[0], numbers[8], numbers[9]), (7, u64::from(u32::MAX), 8, 0));
        assert!(row(b"1 2 3 4 5 6 7 8", 0).is_none());
        assert!(row(b"1 2 3 4 5 6 7 8 x", 0).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = row(&bytes, 0);
        }
    }
}
