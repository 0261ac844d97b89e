//! The families of what containers left behind.

use super::book::Book;
use super::exits::CLASSES;
use crate::collect::Pass;
use crate::model::{Kind, Value};

/// Writes all of them, of containers first and then of services.
pub(super) fn write(book: &Book, pass: &mut Pass<'_>) {
    let told = || book.entries.values().filter(|entry| !entry.is_excluded).filter_map(|entry| Some((entry, entry.series()?)));
    // cAdvisor's family; its number is from the kernel's log, and gone with the container.
    let help = "Count of out of memory events observed for the container";
    let mut family = pass.out.family("container_oom_events_total", Kind::Counter, help);
    for (entry, series) in told().filter(|(entry, _)| entry.knows_oom_kills) {
        family.sample_shared(series, &[], entry.oom_kills());
    }
    let mut family = pass.out.family("container_exits_total", Kind::Counter, "How often the container ended, by what it ended with.");
    for (entry, series) in told() {
        for (class, exits) in CLASSES.iter().zip(entry.base.exits).filter(|(_, exits)| *exits > 0) {
            family.sample_shared(series, &[("code_class", class)], exits);
        }
    }
    let help = "CPU time of containers that ended, by service, or by image for those of none.";
    let mut family = pass.out.family("container_exited_cpu_seconds_total", Kind::Counter, help);
    for (labels, sums) in book.sums.values() {
        #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction: a double holds 104 days to the nanosecond")]
        family.sample_of(labels, &[], Value::Float(sums.cpu as f64 / 1e9));
    }
    let help = "Processes of containers that ended that were killed for want of memory, by service, or by image for those of none.";
    let mut family = pass.out.family("container_exited_oom_kills_total", Kind::Counter, help);
    for (labels, sums) in book.sums.values() {
        family.sample_of(labels, &[], sums.oom_kills);
    }
    let help = "How often containers ended, by service, or by image for those of none, and by what they ended with.";
    let mut family = pass.out.family("container_exited_total", Kind::Counter, help);
    for (labels, sums) in book.sums.values() {
        for (class, exits) in CLASSES.iter().zip(sums.exits) {
            family.sample_of(labels, &[("code_class", class)], exits);
        }
    }
}
