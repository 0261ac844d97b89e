//! `node_pressure_*` from `/proc/pressure/{cpu,io,memory,irq}`: the time that tasks waited (`some`) and that nobody could work (`full`).
//! Source: the kernel's `Documentation/accounting/psi.rst`. A kernel booted without `psi=1` has the files and answers `EOPNOTSUPP`: that is absent.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;

pub(super) const ENTRY: Entry = entry!("pressure", on, &[], |_| Ok(Box::new(Pressure)));

struct Pressure;

/// A family: the word at the beginning of its line, name and help.
type Family = (&'static [u8], &'static str, &'static str);

/// The files with their families.
///
/// `full` of `cpu` is left out: for the whole system the kernel defines it as 0. `irq` has no `some`.
const FAMILIES: [(&str, &[Family]); 4] = [
    (
        "pressure/cpu",
        &[(b"some", "node_pressure_cpu_waiting_seconds_total", "Total time in seconds that processes have waited for CPU time")],
    ),
    (
        "pressure/io",
        &[
            (b"some", "node_pressure_io_waiting_seconds_total", "Total time in seconds that processes have waited due to IO congestion"),
            (
                b"full",
                "node_pressure_io_stalled_seconds_total",
                "Total time in seconds no process could make progress due to IO congestion",
            ),
        ],
    ),
    (
        "pressure/memory",
        &[
            (b"some", "node_pressure_memory_waiting_seconds_total", "Total time in seconds that processes have waited for memory"),
            (
                b"full",
                "node_pressure_memory_stalled_seconds_total",
                "Total time in seconds no process could make progress due to memory congestion",
            ),
        ],
    ),
    (
        "pressure/irq",
        &[(
            b"full",
            "node_pressure_irq_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IRQ congestion",
        )],
    ),
];

impl Collector for Pressure {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut found = false;
        let mut failure = None;
        for (file, families) in FAMILIES {
            let bytes = match host.proc(file) {
                Ok(bytes) => bytes,
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                    continue;
                }
            };
            found = true;
            for (share, name, help) in families {
                match parse::pressure(bytes, share) {
                    // Divided twice, so that the last bit is that of node_exporter's number.
                    Some(microseconds) => out.counter(name, help, microseconds as f64 / 1000.0 / 1000.0),
                    None => odd.line(file, bytes),
                }
            }
        }
        Presence::of_files(found, failure)
    }
}
