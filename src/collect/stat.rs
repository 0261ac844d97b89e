//! Interrupts, context switches, forks, boot time and the run queue, from `/proc/stat`.
//! Source: the kernel's `Documentation/filesystems/proc.rst`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::model::Kind;

const SOFTIRQ: Flag =
    Flag::new("collector.stat.softirq", FlagKind::Switch, Some("false"), "Export the number of softirq calls for each vector.");

pub(super) const ENTRY: Entry = entry!("stat", on, &[SOFTIRQ], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Stat { softirq: settings.is_on(SOFTIRQ.name) }))
}

/// The word at the beginning of a line, and the family of its first number.
const FAMILIES: [(&[u8], Kind, &str, &str); 6] = [
    (b"intr", Kind::Counter, "node_intr_total", "Total number of interrupts serviced."),
    (b"ctxt", Kind::Counter, "node_context_switches_total", "Total number of context switches."),
    (b"processes", Kind::Counter, "node_forks_total", "Total number of forks."),
    (b"btime", Kind::Gauge, "node_boot_time_seconds", "Node boot time, in unixtime."),
    (b"procs_running", Kind::Gauge, "node_procs_running", "Number of processes in runnable state."),
    (b"procs_blocked", Kind::Gauge, "node_procs_blocked", "Number of processes blocked waiting for I/O to complete."),
];

/// The vectors in the order of `enum` in the kernel's `include/linux/interrupt.h`.
const VECTORS: [&str; 10] = ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

struct Stat {
    softirq: bool,
}

impl Collector for Stat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("stat")?;
        for (word, kind, name, help) in FAMILIES {
            let Some(line) = line_of(bytes, word) else {
                odd.tell(&format_args!("stat: no line {:?}", parse::text(word)));
                continue;
            };
            match parse::fields(line).nth(1).and_then(parse::unsigned) {
                Some(number) => {
                    out.family(name, kind, help).sample(&[], number);
                }
                None => odd.line("stat", line),
            }
        }
        if !self.softirq {
            return Ok(Presence::Present);
        }
        let Some(line) = line_of(bytes, b"softirq") else {
            odd.tell(&"stat: no line \"softirq\"");
            return Ok(Presence::Present);
        };
        let mut family = out.family("node_softirqs_total", Kind::Counter, "Number of softirq calls.");
        // The first number is the sum.
        let mut numbers = parse::fields(line).skip(2);
        for vector in VECTORS {
            match numbers.next().and_then(parse::unsigned) {
                Some(number) => {
                    family.sample(&[("vector", vector)], number);
                }
                None => odd.line("stat", line),
            }
        }
        Ok(Presence::Present)
    }
}

fn line_of<'a>(bytes: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    parse::lines(bytes).find(|line| line.strip_prefix(word).is_some_and(|rest| rest.first() == Some(&b' ')))
}
