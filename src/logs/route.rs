//! A route: from the file table to its sink.
//!
//! One thread a route, or `workers=N` of them, which share the containers out by their ids and are consumers of the table each. A worker reads what its
//! containers wrote since its positions, a fair quantum each, assembles and encodes straight into a batch, and hands the batch to its sink. One batch is in
//! flight, one is being filled; when both are full it stops reading, and the log files are the queue. When every record of the batch in flight has its
//! verdict, the positions behind it are saved and told to the table, in that order.
//!
//! What a container's filter or another worker's share leaves out is told to the table at once: nothing of it is kept for this consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use regex::Regex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::cursor::Position;
use super::files::{FileTable, LoggedContainer};
use super::positions::{Mark, Positions, worker_of};
use super::record::IndexPattern;
use super::sink::{Delivery, Sink};
use super::steer::Settings;
use super::tail::{Begin, Buffers, Encoder, Progress, Tail};
use super::{ContainerId, ContainerMeta};
use crate::config::{RouteSpec, WhenFull};
use crate::telemetry::{Part, Parts, RouteMetrics};

/// How long a stopping agent goes on reading.
const LAST_READS: Duration = Duration::from_secs(1);
/// How often lag is measured when nothing else happens.
const PULSE: Duration = Duration::from_secs(1);
/// How often what is not acknowledged is added up over all files.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// How many positions of containers that are gone are kept.
const KEPT_POSITIONS: usize = 256;

/// What a route works with.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// The route.
    pub spec: RouteSpec,
    /// Which of the route's workers it is.
    pub worker: usize,
    /// The worker's index among the table's consumers.
    pub consumer: usize,
    /// The positions of all workers.
    pub positions: Arc<Positions>,
    /// Where its cursor is kept; `None` when there is no state directory to write to, and the cursor lives as long as the process.
    pub state: Option<PathBuf>,
    /// Whether the state directory could be used at the start. If not, a cursor that cannot be read is none: the logs are shipped all the same.
    pub state_works: bool,
    /// Where a new route begins.
    pub backfill: Begin,
    /// Where a record is cut, in bytes.
    pub max_record_bytes: usize,
    /// The node's name.
    pub host_name: String,
    /// The node's id.
    pub host_id: Option<String>,
    /// Container labels that become `labels.*`.
    pub labels: Option<Regex>,
    /// What services may steer by labels.
    pub steering: Settings,
}

/// A batch on its way, and what is acknowledged with it.
struct Flight {
    oldest: Option<i64>,
    records: u64,
    positions: Vec<(ContainerId, Position)>,
    landed: Receiver<(Batch, Delivery)>,
}

/// A route at work.
pub struct Route {
    options: RouteOptions,
    name: String,
    table: Arc<FileTable>,
    sink: Arc<Sink>,
    index: Option<IndexPattern>,
    runtime: Handle,
    metrics: RouteMetrics,
    state_part: Part,
    positions: Arc<Positions>,
    /// What the cursor on the disk does not have of what this worker put.
    unsaved: Option<Mark>,
    /// Positions that the table is not told yet, for the cursor that has them is not saved.
    owed: Vec<(ContainerId, Position)>,
    /// When the cursor was last tried to be saved.
    tried: Option<Instant>,
    /// When positions that made no record were last saved.
    settled: Option<Instant>,
    /// Whether all containers of the start have been met: then one that is met is new.
    has_begun: bool,
    tails: BTreeMap<ContainerId, Tail>,
    /// Removed containers that are done with here, and still in the table for another route.
    finished: BTreeSet<ContainerId>,
    /// Containers that another worker has or that the filter leaves out, with what they were judged by.
    unwanted: BTreeMap<ContainerId, Arc<ContainerMeta>>,
    /// The table's list as it was when containers that it does not have any more were forgotten.
    listed: Option<Arc<Vec<Arc<LoggedContainer>>>>,
    /// The container behind which the next round begins.
    turn: Option<ContainerId>,
    filling: Batch,
    filling_since: Option<Instant>,
    spare: Option<Batch>,
    flight: Option<Flight>,
    buffers: Buffers,
    lag_measured: Option<Instant>,
    /// Cancelled when the time to stop is over: what is in flight is given up and not acknowledged.
    abort: CancellationToken,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("name", &self.name).field("tails", &self.tails.len()).finish_non_exhaustive()
    }
}

impl Route {
    /// Opens a route: its cursor, and its sink taken back to it.
    ///
    /// # Errors
    /// A sentence, when the route cannot work as it is configured, or its cursor cannot be read: beginning anew would send everything twice.
    pub fn open(
        options: RouteOptions,
        table: Arc<FileTable>,
        sink: Arc<Sink>,
        runtime: Handle,
        metrics: RouteMetrics,
        parts: &Parts,
    ) -> Result<Self, String> {
        let name = options.spec.name();
        let state_part = parts.part("logs.state");
        let positions = Arc::clone(&options.positions);
        positions.load(options.state.as_deref(), options.state_works)?;
        sink.restore(positions.read(|cursor| cursor.sink.clone()).as_ref())?;
        let index = sink.index().map(IndexPattern::parse).transpose()?;
        Ok(Self {
            options,
            name,
            table,
            sink,
            index,
            runtime,
            metrics,
            state_part,
            positions,
            unsaved: None,
            owed: Vec::new(),
            tried: None,
            settled: None,
            has_begun: false,
            tails: BTreeMap::new(),
            finished: BTreeSet::new(),
            unwanted: BTreeMap::new(),
            listed: None,
            turn: None,
            filling: Batch::new(),
            filling_since: None,
            spare: None,
            flight: None,
            buffers: Buffers::default(),
            lag_measured: None,
            abort: CancellationToken::new(),
        })
    }

    /// Works until `stop`, then ships what was written until that moment, for as long as `grace` then says. The caller wakes the consumer after cancelling.
    pub fn run(mut self, stop: &CancellationToken, grace: impl Fn() -> Duration) {
        let mut stopping: Option<Instant> = None;
        loop {
            if stopping.is_none() && stop.is_cancelled() {
                stopping = Some(Instant::now());
            }
            self.land();
            if self.abort.is_cancelled() && self.flight.is_none() {
                break;
            }
            self.meet_containers();
            // A writer that never pauses must not keep the agent: after the first second only what is underway counts.
            let reads = stopping.is_none_or(|since| since.elapsed() <= LAST_READS);
            let progressed = reads && self.fill();
            self.launch(stopping.is_some());
            self.measure();
            if let Some(since) = stopping {
                let is_held = !self.owed.is_empty() && since.elapsed() > LAST_READS;
                if self.flight.is_none() && (self.filling.is_empty() || is_held) && !progressed {
                    break;
                }
                if since.elapsed() >= grace() {
                    self.abort.cancel();
                    if self.flight.is_none() {
                        break;
                    }
                }
            }
            if !progressed {
                self.table.wait(self.options.consumer, self.pause(stopping.is_some()));
            }
        }
        // The output's length is not asked for: a write that was given up may still come to its end, and nothing of it is acknowledged.
        self.save();
    }

    /// How long to sleep when there is nothing to read.
    fn pause(&self, stopping: bool) -> Duration {
        let flush = match (self.flight.is_some() || !self.owed.is_empty(), self.filling_since) {
            (false, Some(since)) => (since + self.options.spec.flush).saturating_duration_since(Instant::now()),
            _ => PULSE,
        };
        let longest = if stopping { Duration::from_millis(50) } else { PULSE };
        flush.clamp(Duration::from_millis(1), longest)
    }

    /// Takes the verdicts of the batch in flight, when they are there: saves the positions, tells the table.
    fn land(&mut self) {
        let Some(flight) = &self.flight else { return };
        let (batch, delivery) = match flight.landed.try_recv() {
            Ok(landed) => landed,
            Err(TryRecvError::Empty) => return,
            // The task died: nothing is known of the batch, so nothing may be acknowledged, and the positions in memory are ahead of it.
            Err(TryRecvError::Disconnected) => {
                tracing::error!(route = self.name, "a delivery ended without a verdict; the route goes back to what is acknowledged");
                self.flight = None;
                self.go_back();
                return;
            }
        };
        let Some(flight) = self.flight.take() else { return };
        self.spare = Some(batch);
        match delivery {
            Delivery::Done { taken, duplicates, refused } => {
                self.metrics.acknowledged.inc_by(taken + duplicates);
                debug_assert_eq!(taken + duplicates + refused, flight.records);
                self.settle(flight.positions);
            }
            Delivery::Interrupted => self.go_back(),
        }
    }

    /// Saves positions and tells them to the table: first the disk, then whoever may throw files away.
    fn settle(&mut self, positions: Vec<(ContainerId, Position)>) {
        let Some(mark) = self.positions.put(&positions, self.sink.checkpoint()) else { return };
        self.unsaved = Some(mark);
        self.owed.extend(positions);
        self.save();
        // A sink that is cut back to the cursor at the next start loses what is written beyond it, when the files that it came from are gone by then. So
        // nobody may throw them away, and nothing more is written, until the cursor is on the disk.
        if self.unsaved.is_none() || !self.positions.is_cut_back() {
            self.acknowledge_owed();
        }
    }

    fn acknowledge_owed(&mut self) {
        for (id, position) in self.owed.drain(..) {
            if let Some(tail) = self.tails.get(&id) {
                tail.acknowledge(self.options.consumer, &position);
            }
        }
    }

    /// Tries again to save what could not be saved, though nothing new may come for long: until then a crash would send all of it again. Whether nothing is owed
    /// any more.
    fn pay(&mut self) -> bool {
        if self.unsaved.is_some() && self.tried.is_none_or(|at| at.elapsed() >= PULSE) {
            self.save();
            if self.unsaved.is_none() {
                self.acknowledge_owed();
            }
        }
        self.owed.is_empty()
    }

    /// Saves what is not saved.
    fn save(&mut self) {
        let Some(mark) = self.unsaved else { return };
        self.tried = Some(Instant::now());
        match self.positions.save(mark) {
            Ok(()) => {
                self.unsaved = None;
                // Without a directory there is nothing to be said of it.
                if self.options.state.is_some() {
                    self.state_part.ok();
                }
            }
            Err(error) => {
                self.metrics.cursor_errors.inc();
                self.state_part.degraded(if self.positions.is_cut_back() {
                    format!("the cursor of {} cannot be saved: {error}; its records wait in their log files until it can", self.name)
                } else {
                    format!(
                        "cursors cannot be saved: {error}; logs are still shipped, and a restart sends again what was acknowledged since"
                    )
                });
            }
        }
    }

    /// Reads again from what is acknowledged: the records read since were not taken.
    fn go_back(&mut self) {
        self.filling.clear();
        self.filling_since = None;
        self.tails.clear();
    }

    /// Begins with containers that are new, and ends with those that are gone and read.
    fn meet_containers(&mut self) {
        // Before that the spool may be all that is known of a container: its place would seem to be in a file that is gone. And what is read before the
        // first cursor is written could neither be told from what is new, nor be cut from the output again.
        if !self.table.first_scan_done() {
            return;
        }
        let containers = self.table.containers();
        for container in containers.iter() {
            let id = container.id();
            // One that is done with and came back is read on.
            if self.tails.contains_key(id) || (container.is_removed() && self.finished.contains(id)) || !self.wants(container) {
                continue;
            }
            self.finished.remove(id);
            let begin = match self.positions.read(|cursor| cursor.containers.get(id).cloned()) {
                Some(position) => Begin::At(Box::new(position)),
                None if self.has_begun || self.positions.has_history(self.options.worker) => Begin::Oldest,
                None => self.options.backfill.clone(),
            };
            let tail = Tail::new(Arc::clone(container), begin, &self.options, &self.metrics);
            self.tails.insert(id.clone(), tail);
        }
        if !self.has_begun {
            // From now on a container that the cursor does not know is a new one, also after a restart. Nothing has been read yet.
            self.has_begun = true;
            let has_history = self.positions.has_history(self.options.worker);
            let positions = if has_history { Vec::new() } else { self.tails.values().filter_map(Tail::position).collect() };
            self.positions.begin(self.options.worker);
            self.settle(positions);
        }
        // What is owed may still have to be read again by the next start.
        let gone: Vec<ContainerId> = if self.owed.is_empty() {
            let tails = self.tails.iter();
            self.positions
                .read(|cursor| tails.filter(|(id, tail)| tail.is_finished(cursor.containers.get(id))).map(|(id, _)| id.clone()).collect())
        } else {
            Vec::new()
        };
        for id in gone {
            if let Some(tail) = self.tails.remove(&id) {
                tail.finish(self.options.consumer);
                self.finished.insert(id);
            }
        }
        if !self.listed.as_ref().is_some_and(|listed| Arc::ptr_eq(listed, &containers)) {
            // The table forgets a container when every consumer is done with it.
            let known: BTreeSet<&ContainerId> = containers.iter().map(|container| container.id()).collect();
            self.finished.retain(|id| known.contains(id));
            self.unwanted.retain(|id, _| known.contains(id));
            self.listed = Some(containers);
        }
        self.forget_the_oldest();
    }

    /// Whether a container is this worker's, and the filter lets it in. One that is wanted stays so for as long as the agent knows it; one that is not is
    /// judged again when its description is another.
    fn wants(&mut self, container: &LoggedContainer) -> bool {
        let (id, meta) = (container.id(), container.meta());
        if self.unwanted.get(id).is_some_and(|judged| Arc::ptr_eq(judged, &meta)) {
            return false;
        }
        let filter = &self.options.spec.filter;
        let is_mine = worker_of(id, self.positions.workers()) == self.options.worker;
        let is_wanted = is_mine && filter.wants(id, &meta);
        container.set_wanted(self.options.consumer, is_wanted);
        if is_wanted {
            self.unwanted.remove(id);
            if self.options.spec.when_full == WhenFull::DropOldest {
                container.gives_way(self.options.consumer);
            }
        } else {
            if is_mine && filter.asks_who() && meta.name.is_empty() {
                self.metrics.gap("unknown_container");
            }
            self.unwanted.insert(id.clone(), meta);
        }
        is_wanted
    }

    /// Positions of containers that are gone are kept for a while: a directory that was out of reach for a moment must not be sent again. The
    /// oldest are dropped beyond a bound. What the table knows is not gone: it may keep a removed container's lines for another route, also over a restart.
    fn forget_the_oldest(&self) {
        let (worker, workers) = (self.options.worker, self.positions.workers());
        self.positions.forget_oldest(KEPT_POSITIONS / workers, |id| {
            let is_known = self.tails.contains_key(id) || self.finished.contains(id) || self.unwanted.contains_key(id);
            !is_known && worker_of(id, workers) == worker
        });
    }

    /// Reads a quantum of each container into the batch. Whether anything was read.
    fn fill(&mut self) -> bool {
        let spec = &self.options.spec;
        let full = |batch: &Batch| batch.is_full(spec.batch_bytes, spec.batch_records);
        if full(&self.filling) {
            return false;
        }
        let max = (spec.batch_bytes, spec.batch_records);
        let mut encoder =
            Encoder { batch: &mut self.filling, index: self.index.as_ref(), schema: spec.schema, metrics: &self.metrics, max };
        let mut progressed = false;
        // Those behind the last turn first, then the others: when the batch is full before all had theirs, the next round begins where this one ended.
        let (behind, before) = match self.turn.take() {
            Some(last) => ((Bound::Excluded(last.clone()), Bound::Unbounded), Some((Bound::Unbounded, Bound::Included(last)))),
            None => ((Bound::Unbounded, Bound::Unbounded), None),
        };
        for range in [Some(behind), before].into_iter().flatten() {
            for (id, tail) in self.tails.range_mut::<ContainerId, _>(range) {
                progressed |= tail.read(&mut self.buffers, &mut encoder) == Progress::Read;
                if full(encoder.batch) {
                    self.turn = Some(id.clone());
                    break;
                }
            }
            if self.turn.is_some() {
                break;
            }
        }
        if self.filling_since.is_none() && !self.filling.is_empty() {
            self.filling_since = Some(Instant::now());
        }
        progressed
    }

    /// Sends the batch when it is full or old enough, and no other is under way.
    fn launch(&mut self, hurry: bool) {
        if self.flight.is_some() || !self.pay() {
            return;
        }
        let spec = &self.options.spec;
        if self.filling.is_empty() {
            // Entries that made no record (malformed ones) and parts that wait move positions too, without a request.
            // What is left out by a filter can be much, and each save is a write to the disk.
            if hurry || self.settled.is_none_or(|at| at.elapsed() >= spec.flush) {
                let moved: Vec<_> = self.tails.values_mut().filter_map(Tail::take_moved).collect();
                if !moved.is_empty() {
                    self.settled = Some(Instant::now());
                    self.settle(moved);
                }
            }
            return;
        }
        let due = self.filling_since.is_none_or(|since| since.elapsed() >= spec.flush);
        if !due && !hurry && !self.filling.is_full(spec.batch_bytes, spec.batch_records) {
            return;
        }
        let batch = std::mem::replace(&mut self.filling, self.spare.take().unwrap_or_default());
        self.filling.clear();
        self.filling_since = None;
        let positions = self.tails.values_mut().filter_map(Tail::take_moved).collect();
        let (landing, landed): (Sender<(Batch, Delivery)>, _) = channel();
        self.flight = Some(Flight { oldest: batch.oldest_time(), records: batch.len() as u64, positions, landed });
        let (sink, table, abort, consumer) = (Arc::clone(&self.sink), Arc::clone(&self.table), self.abort.clone(), self.options.consumer);
        self.runtime.spawn(async move {
            let delivery = sink.deliver(&batch, &abort).await;
            // A route that has ended takes no verdict any more.
            drop(landing.send((batch, delivery)));
            table.wake(consumer);
        });
    }

    fn measure(&mut self) {
        let oldest = self.flight.as_ref().and_then(|flight| flight.oldest).or_else(|| self.filling.oldest_time());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let age = oldest.map_or(0.0, |oldest| {
            let nanoseconds = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(oldest).max(0);
            Duration::from_nanos(nanoseconds.unsigned_abs()).as_secs_f64()
        });
        let bytes = self.lag_measured.is_none_or(|at| at.elapsed() >= LAG_EVERY).then(|| {
            self.lag_measured = Some(Instant::now());
            let acknowledged = |id: &ContainerId| self.positions.read(|cursor| cursor.containers.get(id).cloned());
            self.tails.iter().map(|(id, tail)| tail.unacknowledged(acknowledged(id).as_ref())).sum()
        });
        let (age, bytes) = self.positions.measure(self.options.worker, age, bytes);
        self.metrics.lag_seconds.set(age);
        self.metrics.lag_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests;
