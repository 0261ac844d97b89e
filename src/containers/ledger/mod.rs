//! What containers leave behind when they end: exits, kills for want of memory, CPU time. It survives the container for an hour, summed by service for good, and
//! survives the agent in a file.
//!
//! Three sides feed it: the engine's events ([`Witness`]), the last numbers of a cgroup before the runtime removes it ([`Endings`]), and what the collector reads at
//! each scrape. They come in whatever order; an event that comes twice counts once.

mod book;
mod endings;
mod entry;
mod exits;
mod families;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use self::book::Book;
pub use self::endings::Endings;
use crate::cgroup::Totals;
use crate::collect::Pass;
use crate::docker::{ContainerEvent, Inventory, Labelling, Witness};
use crate::logs::ContainerId;
use crate::state::StateFile;
use crate::telemetry::{Metrics, Part};

/// The file's name in the state directory.
const NAME: &str = "containers.ledger";
/// At most so often is it written while something happens,
const BETWEEN_SAVES: Duration = Duration::from_secs(5);
/// and so often for the CPU time of those that live.
const LONGEST_BETWEEN_SAVES: Duration = Duration::from_secs(60);

/// A handle on the ledger. Cloning gives another one on the same.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    keeping: Option<Arc<Keeping>>,
    metrics: Option<Metrics>,
}

/// Where the ledger is kept.
#[derive(Debug)]
struct Keeping {
    file: StateFile,
    boot: String,
    part: Part,
    saved: Mutex<Instant>,
    /// Whether it was read once, or the directory could be written.
    has_worked: AtomicBool,
}

impl Ledger {
    /// The ledger that is kept in the directory `state`, or a new one. `boot` is the kernel's id of this boot. A file that is no ledger is moved aside and told; one
    /// that cannot be read stays where it is and is not written.
    #[must_use]
    pub fn open(state: &Path, boot: &str, part: Part, metrics: Metrics) -> Self {
        let file = StateFile::new(state, NAME);
        let mut book = Book::default();
        let (mut may_keep, mut has_worked) = (true, false);
        // A directory that cannot be used is said now, and not after the first exit that is lost with the process.
        let prepare = |has_worked: &mut bool| match file.prepare() {
            Ok(()) => {
                *has_worked = true;
                part.ok();
            }
            // It could be once.
            Err(error) if *has_worked => part.degraded(not_kept(state, &error)),
            Err(error) => part.does_without(not_kept(state, &error)),
        };
        match file.load(file::LARGEST) {
            Ok(None) => prepare(&mut has_worked),
            Ok(Some(text)) => match file::read(&text, boot) {
                Ok(read) => {
                    (book, has_worked) = (read, true);
                    prepare(&mut has_worked);
                }
                Err(why) => {
                    metrics.ledger_lost("odd_file", 1);
                    let aside = file.set_aside().map_or_else(
                        |error| format!("cannot be moved aside: {error}"),
                        |aside| format!("was moved to {}", aside.display()),
                    );
                    part.degraded(format!("{}: {why}; it {aside}, and what containers left behind is counted anew", file.path().display()));
                }
            },
            Err(error) => {
                may_keep = false;
                metrics.ledger_lost("odd_file", 1);
                part.degraded(format!(
                    "{}: {error}; what containers left behind is counted anew, and not kept over a restart",
                    file.path().display()
                ));
            }
        }
        let keeping =
            Keeping { file, boot: boot.to_owned(), part, saved: Mutex::new(Instant::now()), has_worked: AtomicBool::new(has_worked) };
        Self { book: Arc::new(Mutex::new(book)), keeping: may_keep.then(|| Arc::new(keeping)), metrics: Some(metrics) }
    }

    /// Takes what the cgroup of a container says; `is_last` when it has no process any more. `now` is a time before it was read.
    pub(crate) fn reading(&self, id: &ContainerId, totals: &Totals, is_last: bool, now: SystemTime) {
        self.book().reading(id, totals, is_last, nanoseconds(now));
    }

    /// The cgroup of a container is gone. Says whether that was news, and so counted as a loss.
    pub(crate) fn ended(&self, id: &ContainerId, cgroup: Option<u64>) -> bool {
        let mut book = self.book();
        let is_news = book.ended(id, cgroup, nanoseconds(SystemTime::now()));
        self.tell(&mut book);
        is_news
    }

    /// Which containers have a cgroup at this moment.
    pub(crate) fn only(&self, alive: &HashSet<ContainerId>) {
        self.book().only(alive, nanoseconds(SystemTime::now()));
    }

    /// Counts a loss, by the reasons of [`Metrics::ledger_lost`].
    pub(crate) fn lost(&self, reason: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.ledger_lost(reason, 1);
        }
    }

    /// Lets time pass, and writes the file when it is due.
    pub(crate) fn tick(&self) {
        let mut book = self.book();
        book.tick(nanoseconds(SystemTime::now()));
        self.tell(&mut book);
        drop(book);
        self.save(false);
    }

    /// Takes what a scrape has read of the living, and writes the families. Says of which containers a process was killed for want of memory in their last run.
    pub(crate) fn scrape<'a>(
        &self,
        inventory: &Arc<Inventory>,
        living: impl Iterator<Item = (&'a ContainerId, Totals)>,
        began: SystemTime,
        pass: &mut Pass<'_>,
    ) -> BTreeSet<ContainerId> {
        let mut book = self.book();
        let now = nanoseconds(began);
        book.follow(inventory, now);
        for (id, totals) in living {
            book.reading(id, &totals, false, now);
        }
        self.tell(&mut book);
        families::write(&book, pass);
        book.oom_killed(inventory)
    }

    /// Writes the file: when it is due, or `at_end` in any case and onto the disk.
    pub fn save(&self, at_end: bool) {
        let Some(keeping) = &self.keeping else { return };
        let mut saved = keeping.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let since = saved.elapsed();
        let copy = {
            let mut book = self.book();
            let is_due = at_end || since >= LONGEST_BETWEEN_SAVES || (book.is_changed && since >= BETWEEN_SAVES);
            if !is_due {
                return;
            }
            book.is_changed = false;
            file::copy(&book, &keeping.boot)
        };
        *saved = Instant::now();
        match file::text(&copy).map_err(io::Error::from).and_then(|text| keeping.file.save(&text, at_end)) {
            Ok(()) => {
                keeping.has_worked.store(true, Ordering::Relaxed);
                keeping.part.ok();
            }
            Err(error) => {
                self.lost("save");
                let why = not_kept(keeping.file.path().parent().unwrap_or(Path::new(".")), &error);
                // Who gives the agent no state directory, for it ships no logs, wants none.
                if keeping.has_worked.load(Ordering::Relaxed) { keeping.part.degraded(why) } else { keeping.part.does_without(why) }
            }
        }
    }

    fn tell(&self, book: &mut Book) {
        if std::mem::take(&mut book.says_gap) {
            tracing::warn!(
                "the engine has forgotten events that were not handled yet (it keeps its last 256, of which health checks and `docker exec` take three each): \
                 exits and kills of containers may be missing; this is said once an hour, and counted as skep_ledger_losses_total{{reason=\"event_gap\"}}"
            );
        }
        for (reason, count) in book.losses.drain(..) {
            if let Some(metrics) = &self.metrics {
                metrics.ledger_lost(reason, count);
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Ledger {
    fn since(&self, now: i64) -> i64 {
        self.book().since(now)
    }

    fn event(&self, event: &ContainerEvent, labelling: &Labelling) {
        let mut book = self.book();
        book.event(event, labelling, nanoseconds(SystemTime::now()));
        self.tell(&mut book);
    }
}

/// What is lost without a directory that can be written.
pub(crate) fn not_kept(state: &Path, error: &io::Error) -> String {
    format!(
        "the state directory {} cannot be used: {error}; what containers leave behind when they end (exits, kills for want of memory, CPU time) is not kept \
         over a restart of skep: mount a volume there, or set --state-dir to another directory",
        state.display()
    )
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
