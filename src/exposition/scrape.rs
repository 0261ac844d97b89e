//! The scrape: collectors on replaceable workers, a deadline that always answers, one flight for each set of collectors.
//!
//! Each collector owns a slot, each worker a reader and a writer. A scrape puts the slots that it wants into the workers' queue and waits until all have reported or
//! the deadline has come; then it answers with what there is. A scrape that wants a collector which runs for another one takes that run's result. A
//! collector that runs longer than one may is not waited for and not started again until it ends. Long before that, as soon as it holds others up, its worker is
//! replaced, so that these go on in the same scrape, however many hang. No collector runs twice at once, so there are never more threads than collectors and
//! [`WORKERS`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::merge::{Dropped, Guest, each_once, merged};
use super::{Answer, Guests, Writer};
use crate::collect::{Collector, Pass, Presence};
use crate::host::{Reader, Root};
use crate::model::{Kind, LabelSet};
use crate::telemetry::{Metrics, Part, Parts};

/// With more collectors than this that hang in the kernel the part is degraded.
const LOST_WORKERS: usize = 4;
/// One: what a scrape does is mostly the kernel's work of microseconds, and a second thread costs more in handing over than it brings (2.5 against 3.2 ms of CPU for
/// all that runs by default). Where one is slow another is hired, see [`SLOW`].
const WORKERS: usize = 1;
/// How often a scrape looks for collectors that run too long.
const LOOK: Duration = Duration::from_millis(100);
/// A collector that runs for longer than this while others wait gets its worker replaced.
const SLOW: Duration = Duration::from_millis(200);
/// However short a scrape's limit is, a collector that runs for less than this is not taken for one that hangs: whoever asks with a limit of a millisecond would
/// otherwise take it from all the others.
const SHORTEST: Duration = Duration::from_secs(1);
/// Families left out that the log tells of; later ones are counted only.
const TOLD_FAMILIES: usize = 64;

/// A collector with its name and its group.
pub type Member = (&'static str, Group, Box<dyn Collector>);

type Job = (usize, Arc<Flight>);

/// Which part of the exposition a collector belongs to: `/metrics/node`, `/metrics/containers`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The host.
    Node,
    /// Its containers.
    Containers,
    /// The Swarm.
    Swarm,
    /// skep itself.
    Skep,
}

impl Group {
    /// All groups, in the order of the answer.
    pub const ALL: [Self; 4] = [Self::Node, Self::Containers, Self::Swarm, Self::Skep];

    /// The name in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Containers => "containers",
            Self::Swarm => "swarm",
            Self::Skep => "skep",
        }
    }
}

/// How scrapes are done.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How long a collector may run; never more than half of a scrape's time.
    pub patience: Duration,
    /// Whether `node_scrape_collector_present` is written, which node_exporter has not.
    pub tells_presence: bool,
}

/// A set of collectors, as bits by their place in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selection(u128);

struct Slot {
    name: &'static str,
    group: Group,
    state: Mutex<SlotState>,
    trouble: Mutex<Trouble>,
    /// The length of the text that it wrote last.
    length: AtomicUsize,
}

enum SlotState {
    /// Nobody runs it.
    Idle(Box<dyn Collector>),
    /// A worker runs it.
    Running {
        since: Instant,
        /// The scrapes that want the result.
        waiting: Vec<Arc<Flight>>,
        /// It took longer than one may: no new scrape waits for it, and its worker is replaced.
        overdue: bool,
        /// Its worker is not counted any more, for another one was started in its place.
        replaced: bool,
    },
}

/// What is wrong with a collector. The log tells when it begins and when it ends, and not at every scrape.
#[derive(Default)]
struct Trouble {
    is_failed: bool,
    why: Option<String>,
    /// The log has told that it does not end.
    is_slow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Present,
    Absent,
    Failed,
}

#[derive(Clone, Copy)]
struct Outcome {
    slot: usize,
    verdict: Verdict,
    seconds: f64,
}

/// One scrape under way.
struct Flight {
    deadline: Instant,
    /// How long one collector may run.
    patience: Duration,
    gathered: Mutex<Gathered>,
    left: AtomicUsize,
    landed: watch::Sender<bool>,
}

/// A flight that others may join.
struct Shared {
    deadline: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

struct Section {
    slot: usize,
    families: std::ops::Range<usize>,
    /// Where in the section families are that bear names of others.
    guests: Option<Guests>,
}

#[derive(Default)]
struct Gathered {
    text: Vec<u8>,
    /// What the marks in `text` stand for.
    sets: Arc<[Arc<LabelSet>]>,
    /// Where in `text` a slot's families are; the answer is put in the registry's order.
    sections: Vec<Section>,
    outcomes: Vec<Outcome>,
    /// Of each family in `text`.
    heads: Vec<u64>,
    closed: bool,
}

/// All collectors and the workers that run them.
pub struct Scraper {
    slots: Arc<Vec<Slot>>,
    queue: Arc<Queue>,
    workers: Arc<Workers>,
    flights: Mutex<HashMap<Selection, Shared>>,
    root: Arc<Root>,
    constant: Arc<LabelSet>,
    manner: Manner,
    metrics: Metrics,
    part: Part,
    /// Families that were left out of an answer, and that the log has told of.
    told: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").field("collectors", &self.slots.len()).finish_non_exhaustive()
    }
}

struct Workers {
    /// Threads that are not held up by a collector.
    free: AtomicUsize,
    /// Those with a collector that is not waited for.
    lost: AtomicUsize,
}

/// What the workers are to do. All of a scrape's jobs come in together: handed over one by one they would wake a worker, which sleeps between them, for each.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// There is no scraper any more.
    closed: bool,
}

impl Queue {
    fn add(&self, jobs: impl Iterator<Item = Job>) {
        held(&self.waiting).jobs.extend(jobs);
        self.wake.notify_all();
    }

    /// The next job, when there is one; `None` when there will be none any more.
    fn take(&self) -> Option<Job> {
        let mut waiting = held(&self.waiting);
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether all jobs were taken.
    fn is_empty(&self) -> bool {
        held(&self.waiting).jobs.is_empty()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        held(&self.queue.waiting).closed = true;
        self.queue.wake.notify_all();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scraper {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        collectors: Vec<Member>,
        root: &Arc<Root>,
        constant: &Arc<LabelSet>,
        manner: Manner,
        metrics: Metrics,
        parts: &Parts,
    ) -> std::io::Result<Arc<Self>> {
        let slots = collectors.into_iter().map(|(name, group, collector)| Slot {
            name,
            group,
            state: Mutex::new(SlotState::Idle(collector)),
            trouble: Mutex::default(),
            length: AtomicUsize::new(0),
        });
        let scraper = Arc::new(Self {
            slots: Arc::new(slots.take(128).collect()),
            queue: Arc::default(),
            workers: Arc::new(Workers { free: AtomicUsize::new(0), lost: AtomicUsize::new(0) }),
            flights: Mutex::new(HashMap::new()),
            root: Arc::clone(root),
            constant: Arc::clone(constant),
            manner,
            metrics,
            part: parts.part("scrape"),
            told: Mutex::default(),
        });
        for _ in 0..WORKERS {
            scraper.hire()?;
        }
        scraper.part.ok();
        Ok(scraper)
    }

    /// The names of the collectors with their groups.
    pub fn collectors(&self) -> impl Iterator<Item = (&'static str, Group)> {
        self.slots.iter().map(|slot| (slot.name, slot.group))
    }

    /// Why a collector's last run failed, or what it could not understand.
    #[must_use]
    pub fn trouble(&self, name: &str) -> Option<String> {
        self.slots.iter().find(|slot| slot.name == name).and_then(|slot| held(&slot.trouble).why.clone())
    }

    /// The collectors for which `wanted` says yes.
    pub fn select(&self, mut wanted: impl FnMut(&'static str, Group) -> bool) -> Selection {
        let mut bits = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            if wanted(slot.name, slot.group) {
                bits |= 1 << index;
            }
        }
        Selection(bits)
    }

    /// Scrapes the collectors of `selection`, and answers within `limit`. A scrape of the same selection that is under way and will be there in time is joined.
    /// `None` only for a fault of skep's own.
    pub async fn scrape(self: &Arc<Self>, selection: Selection, limit: Duration) -> Option<Bytes> {
        Some(self.answer(selection, limit).await?.whole())
    }

    /// As [`Scraper::scrape`], in the form that holds a label set once.
    pub async fn answer(self: &Arc<Self>, selection: Selection, limit: Duration) -> Option<Answer> {
        let deadline = Instant::now() + limit;
        let mut answer = {
            let mut flights = held(&self.flights);
            match flights.get(&selection) {
                Some(flight) if flight.deadline <= deadline => {
                    self.metrics.scrapes_shared.inc();
                    flight.answer.clone()
                }
                _ => {
                    let (landed, answer) = watch::channel(None);
                    flights.insert(selection, Shared { deadline, answer: answer.clone() });
                    drop(flights);
                    let scraper = Arc::clone(self);
                    // A task of its own: the reader that began it may hang up, and the others must not lose it.
                    tokio::spawn(async move {
                        let _guard = Departure { scraper: &scraper, selection, deadline };
                        let text = scraper.fly(selection, limit).await;
                        landed.send_replace(Some(text));
                    });
                    answer
                }
            }
        };
        answer.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn fly(&self, selection: Selection, limit: Duration) -> Answer {
        let wanted: Vec<usize> = (0..self.slots.len()).filter(|index| selection.0 >> index & 1 == 1).collect();
        let (landed, mut arrival) = watch::channel(wanted.is_empty());
        let patience = self.manner.patience.min(limit / 2);
        let deadline = Instant::now() + limit;
        let flight = Arc::new(Flight { deadline, patience, gathered: Mutex::default(), left: AtomicUsize::new(wanted.len()), landed });
        // Where the system gave no thread for one that hangs, it may do so now.
        if self.workers.free.load(Ordering::SeqCst) < WORKERS {
            drop(self.hire());
        }
        // Without a worker nothing takes from the queue, which must not grow.
        if self.workers.free.load(Ordering::SeqCst) == 0 {
            wanted.iter().for_each(|_| flight.report());
        } else {
            self.queue.add(wanted.iter().map(|index| (*index, Arc::clone(&flight))));
        }
        let slow = SLOW.min(limit / 32);
        let look = LOOK.min(slow).max(Duration::from_millis(1));
        while tokio::time::timeout(look.min(deadline.saturating_duration_since(Instant::now())), arrival.wait_for(|landed| *landed))
            .await
            .is_err()
        {
            self.give_up(&wanted, &flight);
            self.relieve(slow);
            if Instant::now() >= deadline {
                break;
            }
        }
        let gathered = {
            let mut gathered = held(&flight.gathered);
            gathered.closed = true;
            std::mem::take(&mut *gathered)
        };
        for index in wanted.iter().filter(|index| gathered.outcomes.iter().all(|outcome| outcome.slot != **index)) {
            if let Some(slot) = self.slots.get(*index) {
                self.metrics.collector_timeouts.with_label_values(&[slot.name]).inc();
            }
        }
        self.assemble(&wanted, gathered, limit)
    }

    /// Stops waiting for those that run longer than one may, and replaces their workers.
    fn give_up(&self, wanted: &[usize], flight: &Arc<Flight>) {
        for slot in wanted.iter().filter_map(|index| self.slots.get(*index)) {
            let (newly_overdue, newly_replaced) = match &mut *held(&slot.state) {
                SlotState::Running { since, waiting, overdue, replaced } => {
                    let ran = since.elapsed();
                    let before = waiting.len();
                    waiting.retain(|waits| ran < flight.patience || !Arc::ptr_eq(waits, flight));
                    if waiting.len() < before {
                        flight.report();
                    }
                    let hangs = ran >= flight.patience.max(SHORTEST.min(self.manner.patience));
                    (hangs && !std::mem::replace(overdue, true), hangs && !std::mem::replace(replaced, true))
                }
                SlotState::Idle(_) => (false, false),
            };
            if newly_overdue {
                if !std::mem::replace(&mut held(&slot.trouble).is_slow, true) {
                    tracing::warn!(collector = slot.name, "does not end; it is not started again until it does");
                }
                let lost = self.workers.lost.fetch_add(1, Ordering::SeqCst) + 1;
                if lost > LOST_WORKERS {
                    self.part.degraded(format!("{lost} collectors hang in the kernel"));
                }
            }
            if newly_replaced {
                self.replace();
            }
        }
    }

    /// Replaces the workers that have been busy for long with one collector, while others wait to be run. What they are busy with is waited for all the same.
    fn relieve(&self, slow: Duration) {
        for slot in self.slots.iter() {
            if self.queue.is_empty() {
                return;
            }
            let newly_replaced = match &mut *held(&slot.state) {
                SlotState::Running { since, replaced, .. } if since.elapsed() >= slow => !std::mem::replace(replaced, true),
                SlotState::Running { .. } | SlotState::Idle(_) => false,
            };
            if newly_replaced {
                self.replace();
            }
        }
    }

    /// Starts a worker in the place of one that is not counted any more.
    fn replace(&self) {
        self.workers.free.fetch_sub(1, Ordering::SeqCst);
        if let Err(error) = self.hire() {
            self.part.degraded(format!("no new worker for one that hangs: {error}"));
        }
    }

    fn assemble(&self, wanted: &[usize], mut gathered: Gathered, limit: Duration) -> Answer {
        gathered.sections.sort_unstable_by_key(|section| section.slot);
        gathered.outcomes.sort_unstable_by_key(|outcome| outcome.slot);
        // Where the collectors ran in their order, which they do unless one was slow, what they wrote is the answer as it stands.
        let mut end = 0;
        let is_in_order =
            gathered.sections.iter().all(|section| std::mem::replace(&mut end, section.families.end) == section.families.start);
        let mut answer = if is_in_order { Vec::new() } else { Vec::with_capacity(gathered.text.len() + OTHERS) };
        let mut meta = Writer::new(Arc::clone(&self.constant));
        let of_node = |index: &usize| self.slots.get(*index).is_some_and(|slot| matches!(slot.group, Group::Node | Group::Containers));
        let verdict = |index: usize| gathered.outcomes.iter().find(|outcome| outcome.slot == index);
        let mut guests = Vec::new();
        for Section { slot, families: of_section, guests: theirs } in &gathered.sections {
            if let Some(Guests { families, verdict }) = theirs {
                let start = if is_in_order { of_section.start } else { answer.len() };
                let families = start + families.start..start + families.end;
                guests.push(Guest { of: *slot, families, verdict });
            }
            if !is_in_order {
                answer.extend_from_slice(gathered.text.get(of_section.clone()).unwrap_or_default());
            }
        }
        if is_in_order {
            answer = std::mem::take(&mut gathered.text);
        }
        let rows: Vec<(&'static str, f64, bool, bool)> = wanted
            .iter()
            .filter(|index| of_node(index))
            .filter_map(|index| {
                let slot = self.slots.get(*index)?;
                let found = verdict(*index);
                let seconds = found.map_or(limit.as_secs_f64(), |outcome| outcome.seconds);
                let state = found.map_or(Verdict::Failed, |outcome| outcome.verdict);
                Some((slot.name, seconds, state != Verdict::Failed, state == Verdict::Present))
            })
            .collect();
        let mut family =
            meta.family("node_scrape_collector_duration_seconds", Kind::Gauge, "node_exporter: Duration of a collector scrape.");
        for (name, seconds, _, _) in &rows {
            family.sample(&[("collector", name)], *seconds);
        }
        let mut family = meta.family("node_scrape_collector_success", Kind::Gauge, "node_exporter: Whether a collector succeeded.");
        for (name, _, success, _) in &rows {
            family.sample(&[("collector", name)], *success);
        }
        let mut family = meta.family(
            "node_scrape_collector_present",
            Kind::Gauge,
            "Whether the machine has what a collector reads; 0 with success 1 is no fault.",
        );
        for (name, _, _, present) in rows.iter().filter(|_| self.manner.tells_presence) {
            family.sample(&[("collector", name)], *present);
        }
        answer.extend_from_slice(meta.text());
        gathered.heads.extend_from_slice(meta.heads());
        let sets = std::mem::take(&mut gathered.sets);
        if guests.is_empty() && each_once(&mut gathered.heads) {
            return Answer { text: answer.into(), sets };
        }
        match merged(&answer, &guests) {
            Some((answer, dropped)) => {
                self.tell(dropped);
                Answer { text: answer.into(), sets }
            }
            None => Answer { text: answer.into(), sets },
        }
    }

    /// Counts what was left out of an answer because its name was taken, and says so once.
    fn tell(&self, dropped: Vec<Dropped>) {
        for Dropped { of, family } in dropped {
            let collector = of.and_then(|slot| self.slots.get(slot)).map_or("scrape", |slot| slot.name);
            self.metrics.collector_oddities.with_label_values(&[collector]).inc();
            let mut told = held(&self.told);
            if told.len() < TOLD_FAMILIES && !told.contains(&family) {
                tracing::warn!(collector, family, "left out: another collector has a family of this name, and that one stays");
                told.insert(family);
            }
        }
    }

    /// Starts one more worker.
    fn hire(&self) -> std::io::Result<()> {
        let worker = Worker {
            reader: Reader::new(Arc::clone(&self.root)),
            writer: Writer::new(Arc::clone(&self.constant)).with_marks(),
            slots: Arc::clone(&self.slots),
            queue: Arc::clone(&self.queue),
            workers: Arc::clone(&self.workers),
            metrics: self.metrics.clone(),
            part: self.part.clone(),
        };
        std::thread::Builder::new().name("scrape".into()).stack_size(512 << 10).spawn(move || worker.work())?;
        self.workers.free.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// What is shorter is copied.
const LONG: usize = 128 << 10;
/// Room in a long text for what the other collectors tell.
const OTHERS: usize = 128 << 10;

/// Takes a flight out of the list when it is over, however it ends.
struct Departure<'a> {
    scraper: &'a Scraper,
    selection: Selection,
    deadline: Instant,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let mut flights = held(&self.scraper.flights);
        if flights.get(&self.selection).is_some_and(|flight| flight.deadline == self.deadline) {
            flights.remove(&self.selection);
        }
    }
}

impl Flight {
    /// Takes over what a collector wrote, unless the answer has gone already; the text itself where it is long and nobody else wants it.
    fn take(&self, outcome: Outcome, writer: &mut Writer, is_last: bool) {
        {
            let mut gathered = held(&self.gathered);
            if !gathered.closed {
                let start = gathered.text.len();
                if !gathered.sets.is_empty() && !writer.sets().is_empty() {
                    // The numbers are another collector's.
                    writer.write_to(&mut gathered.text);
                } else {
                    if !writer.sets().is_empty() {
                        gathered.sets = writer.sets().into();
                    }
                    if is_last && writer.text().len() > LONG.max(start) {
                        let before = std::mem::replace(&mut gathered.text, writer.take_text());
                        gathered.text.splice(..0, before);
                    } else {
                        gathered.text.extend_from_slice(writer.text());
                    }
                }
                let families = start..gathered.text.len();
                gathered.sections.push(Section { slot: outcome.slot, families, guests: writer.guest_families().cloned() });
                gathered.heads.extend_from_slice(writer.heads());
                gathered.outcomes.push(outcome);
            }
        }
        self.report();
    }

    fn report(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.landed.send_replace(true);
        }
    }
}

impl Slot {
    /// The collector, when it may run for `flight` now. When it runs already the flight waits for it, but not for one that is overdue.
    fn begin(&self, flight: &Arc<Flight>, wanted: bool) -> Option<Box<dyn Collector>> {
        let mut state = held(&self.state);
        if let SlotState::Running { waiting, overdue, .. } = &mut *state {
            if *overdue || !wanted {
                drop(state);
                flight.report();
            } else {
                waiting.push(Arc::clone(flight));
            }
            return None;
        }
        if !wanted {
            drop(state);
            flight.report();
            return None;
        }
        let waiting = vec![Arc::clone(flight)];
        match std::mem::replace(&mut *state, SlotState::Running { since: Instant::now(), waiting, overdue: false, replaced: false }) {
            SlotState::Idle(collector) => Some(collector),
            SlotState::Running { .. } => None,
        }
    }

    /// Hands the result to all who still want it. Whether the collector had been given up, and whether its worker had been replaced.
    fn end(&self, collector: Box<dyn Collector>, outcome: Outcome, writer: &mut Writer) -> (bool, bool) {
        let mut state = held(&self.state);
        let mut was = (false, false);
        if let SlotState::Running { waiting, overdue, replaced, .. } = &mut *state {
            was = (*overdue, *replaced);
            while let Some(flight) = waiting.pop() {
                flight.take(outcome, writer, waiting.is_empty());
            }
        }
        *state = SlotState::Idle(collector);
        was
    }
}

/// A thread with its own buffers: collectors have none but those that they need, for there are many of them.
struct Worker {
    reader: Reader,
    writer: Writer,
    slots: Arc<Vec<Slot>>,
    queue: Arc<Queue>,
    workers: Arc<Workers>,
    metrics: Metrics,
    part: Part,
}

impl Worker {
    fn work(mut self) {
        let slots = Arc::clone(&self.slots);
        let mut last = None;
        while let Some((index, flight)) = self.queue.take() {
            if last.replace(flight.deadline) != Some(flight.deadline) {
                self.reader.begin();
            }
            let Some(slot) = slots.get(index) else { continue };
            // A flight that landed without this collector does not want it any more: running it would only hold up the next one.
            let wanted = !held(&flight.gathered).closed;
            let Some(mut collector) = slot.begin(&flight, wanted) else { continue };
            let begun = Instant::now();
            // A collector that waits for something gives up itself, before it is given up.
            let verdict = self.run(slot, &mut *collector, flight.deadline.min(begun + flight.patience * 9 / 10));
            let outcome = Outcome { slot: index, verdict, seconds: begun.elapsed().as_secs_f64() };
            drop(flight);
            let (was_overdue, was_replaced) = slot.end(collector, outcome, &mut self.writer);
            // What only the containers of a large node take is not kept until the next scrape.
            self.writer.clear();
            if was_overdue {
                self.ended(slot);
            } else if std::mem::take(&mut held(&slot.trouble).is_slow) {
                tracing::info!(collector = slot.name, "ends in time again");
            }
            if was_replaced && self.are_enough() {
                return;
            }
        }
    }

    /// A collector that had been given up has ended. That it does so is told when it ends in time: one that is always too slow is told of once.
    fn ended(&self, slot: &Slot) {
        tracing::debug!(collector = slot.name, "has ended after all");
        let lost = self.workers.lost.fetch_sub(1, Ordering::SeqCst) - 1;
        if lost <= LOST_WORKERS {
            self.part.ok();
        }
    }

    /// Whether there are enough workers without this one, which had been replaced. If not it is counted again.
    fn are_enough(&self) -> bool {
        let free = &self.workers.free;
        free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| (free < WORKERS).then_some(free + 1)).is_err()
    }

    fn run(&mut self, slot: &Slot, collector: &mut dyn Collector, deadline: Instant) -> Verdict {
        let Self { reader, writer, .. } = self;
        writer.clear();
        // To grow by doubling would copy what a large node's containers tell, and take twice its memory.
        let length = slot.length.load(Ordering::Relaxed);
        writer.make_room(if length > LONG { length + length / 16 + OTHERS } else { length });
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut pass = Pass::new(reader, writer).until(deadline);
            let presence = collector.collect(&mut pass);
            (presence, pass.oddities())
        }));
        if let Ok((_, (odd, _))) = &ended
            && *odd > 0
        {
            self.metrics.collector_oddities.with_label_values(&[slot.name]).inc_by(*odd);
        }
        let (verdict, trouble) = match ended {
            Ok((Ok(presence), (odd, example))) => {
                slot.length.store(self.writer.text().len(), Ordering::Relaxed);
                let verdict = if presence == Presence::Present { Verdict::Present } else { Verdict::Absent };
                (verdict, (odd > 0).then_some(example))
            }
            Ok((Err(error), _)) => (Verdict::Failed, Some(error.to_string())),
            Err(_) => {
                // What was written of the family under way may be half a line.
                self.writer.clear();
                self.metrics.collector_panics.with_label_values(&[slot.name]).inc();
                (Verdict::Failed, Some("a fault of skep's own: it panicked; please report it".to_owned()))
            }
        };
        let is_failed = verdict == Verdict::Failed;
        let mut known = held(&slot.trouble);
        if (known.is_failed, known.why.is_some()) != (is_failed, trouble.is_some()) {
            match &trouble {
                Some(why) => tracing::warn!(collector = slot.name, "{why}"),
                None => tracing::info!(collector = slot.name, "works again"),
            }
        }
        (known.is_failed, known.why) = (is_failed, trouble);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::CollectError;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    struct Says(&'static str);
    impl Collector for Says {
        fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
            pass.out.gauge(self.0, "", 1u64);
            Ok(Presence::Present)
        }
    }

    struct Panics;
    impl Collector for Panics {
        fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
            pass.out.gauge("half_written", "", 1u64);
            panic!("as a test");
        }
    }

    struct Fails;
    impl Collector for Fails {
        fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
            pass.host.proc("nothing/here")?;
            Ok(Presence::Present)
        }
    }

    struct Absent;
    impl Collector for Absent {
        fn collect(&mut self, _: &mut Pass<'_>) -> Result<Presence, CollectError> {
            Ok(Presence::Absent)
        }
    }

    /// Says that it runs, and ends when it is let go.
    struct Hangs(SyncSender<()>, Receiver<()>);
    impl Collector for Hangs {
        fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
            self.0.send(()).unwrap();
            self.1.recv().unwrap();
            pass.out.gauge("late", "", 1u64);
            Ok(Presence::Present)
        }
    }

    fn scraper(collectors: Vec<(&'static str, Group, Box<dyn Collector>)>) -> Arc<Scraper> {
        patient(collectors, Duration::from_secs(600))
    }

    fn patient(collectors: Vec<(&'static str, Group, Box<dyn Collector>)>, patience: Duration) -> Arc<Scraper> {
        let root = Arc::new(Root::find(Some("/nonexistent".into()), None, None, None));
        Scraper::start(
            collectors,
            &root,
            &Arc::new(LabelSet::new()),
            Manner { patience, tells_presence: true },
            Metrics::new().unwrap(),
            &Parts::default(),
        )
        .unwrap()
    }

    fn text(answer: &Option<Bytes>) -> String {
        String::from_utf8(answer.as_ref().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_and_a_failure_cost_only_their_own_families() {
        let scraper = scraper(vec![
            ("a", Group::Node, Box::new(Says("first"))),
            ("b", Group::Node, Box::new(Panics)),
            ("c", Group::Node, Box::new(Fails)),
            ("d", Group::Node, Box::new(Absent)),
            ("e", Group::Node, Box::new(Says("last"))),
        ]);
        let all = scraper.select(|_, _| true);
        for _ in 0..3 {
            let answer = text(&scraper.scrape(all, Duration::from_secs(60)).await);
            assert!(answer.find("first 1").unwrap() < answer.find("last 1").unwrap(), "in the registry's order");
            assert!(!answer.contains("half_written"));
            for (name, success, present) in [("a", 1, 1), ("b", 0, 0), ("c", 0, 0), ("d", 1, 0), ("e", 1, 1)] {
                assert!(answer.contains(&format!("node_scrape_collector_success{{collector=\"{name}\"}} {success}")), "{answer}");
                assert!(answer.contains(&format!("node_scrape_collector_present{{collector=\"{name}\"}} {present}")), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn one_that_hangs_costs_its_own_families_and_is_not_started_again() {
        let (runs, running) = sync_channel(10);
        let (let_go, going) = sync_channel(10);
        let scraper = scraper(vec![("hangs", Group::Node, Box::new(Hangs(runs, going))), ("a", Group::Node, Box::new(Says("first")))]);
        let all = scraper.select(|_, _| true);
        for _ in 0..3 {
            let answer = text(&scraper.scrape(all, Duration::from_millis(50)).await);
            assert!(answer.contains("first 1"), "{answer}");
            assert!(answer.contains("node_scrape_collector_success{collector=\"hangs\"} 0"), "{answer}");
        }
        running.recv().unwrap();
        assert!(running.try_recv().is_err(), "started again while it hung");
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        // It is back as soon as it has ended: the scrape that starts it again gets its family.
        loop {
            let answer = text(&scraper.scrape(all, Duration::from_secs(60)).await);
            if answer.contains("late 1") {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn more_that_hang_than_workers_leave_the_others_working() {
        let mut held_channels = Vec::new();
        let mut collectors: Vec<(&'static str, Group, Box<dyn Collector>)> = Vec::new();
        for name in ["h1", "h2", "h3"] {
            let (runs, running) = sync_channel(10);
            let (let_go, going) = sync_channel::<()>(10);
            held_channels.push((running, let_go));
            collectors.push((name, Group::Node, Box::new(Hangs(runs, going))));
        }
        collectors.push(("a", Group::Node, Box::new(Says("first"))));
        // What hangs is given up in the middle of the scrape, and what stood behind it in the queue is in the same answer, the first.
        let scraper = patient(collectors, Duration::from_millis(20));
        let all = scraper.select(|_, _| true);
        let answer = text(&scraper.scrape(all, Duration::from_secs(600)).await);
        assert!(answer.contains("first 1"), "{answer}");
        for name in ["h1", "h2", "h3"] {
            assert!(answer.contains(&format!("node_scrape_collector_success{{collector=\"{name}\"}} 0")), "{answer}");
        }
    }

    /// One who asks with a limit that nothing can keep takes nothing from the others.
    #[tokio::test]
    async fn a_hasty_scrape_costs_no_other_one() {
        let (runs, running) = sync_channel(10);
        let (let_go, going) = sync_channel(10);
        let scraper = scraper(vec![("slow", Group::Node, Box::new(Hangs(runs, going)))]);
        let all = scraper.select(|_, _| true);
        let hasty = text(&scraper.scrape(all, Duration::from_millis(1)).await);
        assert!(!hasty.contains("late 1"), "{hasty}");
        let patient = tokio::spawn({
            let scraper = Arc::clone(&scraper);
            async move { scraper.scrape(all, Duration::from_secs(600)).await }
        });
        // The hasty one may have gone before the collector began; then the other one begins it, and else it may begin it anew.
        let _running = tokio::task::spawn_blocking(move || running.recv().map(|()| running)).await.unwrap().unwrap();
        while !matches!(&*held(&scraper.slots[0].state), SlotState::Running { waiting, .. } if !waiting.is_empty())
            && !patient.is_finished()
        {
            tokio::task::yield_now().await;
        }
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert!(text(&patient.await.unwrap()).contains("late 1"));
    }

    /// Nobody waits for one after the other: what stands behind many that hang is in the first answer, and in each that follows.
    #[tokio::test]
    async fn however_many_hang_the_others_are_in_the_first_answer() {
        let mut held_channels = Vec::new();
        let mut collectors: Vec<(&'static str, Group, Box<dyn Collector>)> = Vec::new();
        for name in ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"] {
            let (runs, running) = sync_channel(10_000);
            let (let_go, going) = sync_channel::<()>(10_000);
            held_channels.push((running, let_go));
            collectors.push((name, Group::Node, Box::new(Hangs(runs, going))));
        }
        collectors.push(("a", Group::Node, Box::new(Says("first"))));
        // One may run for half of the limit, and five such halves would be needed.
        let scraper = scraper(collectors);
        let all = scraper.select(|_, _| true);
        let success = |number: u32, success: u32| format!("node_scrape_collector_success{{collector=\"h{number}\"}} {success}\n");
        for _ in 0..3 {
            let answer = text(&scraper.scrape(all, Duration::from_secs(2)).await);
            assert!(answer.contains("first 1"), "{answer}");
            assert!((0..10).all(|number| answer.contains(&success(number, 0))), "{answer}");
        }
        // When they come back there are as many workers as before.
        for (_, let_go) in &held_channels {
            (0..10_000).for_each(|_| let_go.send(()).unwrap());
        }
        loop {
            let answer = text(&scraper.scrape(all, Duration::from_secs(60)).await);
            if (0..10).all(|number| answer.contains(&success(number, 1))) {
                break;
            }
            tokio::task::yield_now().await;
        }
        while (scraper.workers.free.load(Ordering::SeqCst), scraper.workers.lost.load(Ordering::SeqCst)) != (WORKERS, 0) {
            tokio::task::yield_now().await;
        }
        assert!(scraper.queue.is_empty());
    }

    #[tokio::test]
    async fn scrapes_of_one_set_share_a_flight() {
        let (runs, running) = sync_channel(10);
        let (let_go, going) = sync_channel(10);
        let scraper = scraper(vec![("slow", Group::Node, Box::new(Hangs(runs, going)))]);
        let all = scraper.select(|_, _| true);
        let first = tokio::spawn({
            let scraper = Arc::clone(&scraper);
            async move { scraper.scrape(all, Duration::from_secs(60)).await }
        });
        tokio::task::spawn_blocking(move || running.recv().map(|()| running)).await.unwrap().unwrap();
        let second = tokio::spawn({
            let scraper = Arc::clone(&scraper);
            async move { scraper.scrape(all, Duration::from_secs(60)).await }
        });
        while scraper.metrics.scrapes_shared.get() == 0 {
            tokio::task::yield_now().await;
        }
        let_go.send(()).unwrap();
        assert!(text(&first.await.unwrap()).contains("late 1"));
        assert!(text(&second.await.unwrap()).contains("late 1"));
    }

    #[tokio::test]
    async fn a_scrape_of_another_set_takes_the_result_of_a_run_under_way() {
        let (runs, running) = sync_channel(10);
        let (let_go, going) = sync_channel(10);
        let scraper = scraper(vec![("slow", Group::Node, Box::new(Hangs(runs, going))), ("own", Group::Skep, Box::new(Says("own")))]);
        let scrape = |selection| {
            let scraper = Arc::clone(&scraper);
            tokio::spawn(async move { scraper.scrape(selection, Duration::from_secs(60)).await })
        };
        let node = scrape(scraper.select(|_, group| group == Group::Node));
        tokio::task::spawn_blocking(move || running.recv().map(|()| running)).await.unwrap().unwrap();
        let all = scrape(scraper.select(|_, _| true));
        // The second waits for the run of the first.
        loop {
            let waits = matches!(&*held(&scraper.slots[0].state), SlotState::Running { waiting, .. } if waiting.len() > 1);
            if waits {
                break;
            }
            tokio::task::yield_now().await;
        }
        let_go.send(()).unwrap();
        let (node, all) = (text(&node.await.unwrap()), text(&all.await.unwrap()));
        assert!(node.contains("late 1") && all.contains("late 1") && all.contains("own 1"), "{all}");
        assert!(all.contains("node_scrape_collector_success{collector=\"slow\"} 1"), "{all}");
    }

    #[tokio::test]
    async fn a_shorter_limit_is_kept_beside_a_longer_one() {
        let (runs, running) = sync_channel(10);
        let (let_go, going) = sync_channel(10);
        let scraper = scraper(vec![("slow", Group::Node, Box::new(Hangs(runs, going))), ("a", Group::Node, Box::new(Says("first")))]);
        let all = scraper.select(|_, _| true);
        let patient = tokio::spawn({
            let scraper = Arc::clone(&scraper);
            async move { scraper.scrape(all, Duration::from_secs(600)).await }
        });
        tokio::task::spawn_blocking(move || running.recv().map(|()| running)).await.unwrap().unwrap();
        let hurried = text(&scraper.scrape(all, Duration::from_millis(50)).await);
        assert!(hurried.contains("first 1") && !hurried.contains("late 1"), "{hurried}");
        let_go.send(()).unwrap();
        assert!(text(&patient.await.unwrap()).contains("late 1"));
    }
}
