//! A route: from the file table to its sink.
//!
//! One thread a route. It reads what its containers wrote since its positions, a fair quantum each, assembles and encodes straight into a batch, and hands the batch
//! to the sink. One batch is in flight, one is being filled; when both are full the route stops reading, and the log files are the queue. When every record of
//! the batch in flight has its verdict, the positions behind it are saved and told to the table, in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use regex::Regex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::ContainerId;
use super::batch::Batch;
use super::cursor::{Cursor, CursorFile, Found, Position};
use super::files::FileTable;
use super::record::IndexPattern;
use super::sink::{Delivery, Sink};
use super::steer::Settings;
use super::tail::{Begin, Buffers, Encoder, Progress, Tail};
use crate::config::RouteSpec;
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
    /// Its index among the table's consumers.
    pub consumer: usize,
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
    cursor: Cursor,
    cursor_file: Option<CursorFile>,
    /// The cursor on the disk is older than the one in memory.
    is_unsaved: bool,
    /// Positions that the table is not told yet, for the cursor that has them is not saved.
    owed: Vec<(ContainerId, Position)>,
    /// When the cursor was last tried to be saved.
    tried: Option<Instant>,
    /// Whether the cursor was there: then a container that it does not know is newer than it.
    has_history: bool,
    /// Whether all containers of the start have been met: then one that is met is new.
    has_begun: bool,
    tails: BTreeMap<ContainerId, Tail>,
    /// Removed containers that are done with here, and still in the table for another route.
    finished: BTreeSet<ContainerId>,
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
        let cursor_file = options.state.as_deref().map(|state| CursorFile::new(state, &name));
        let mut has_history = false;
        let mut cursor = Cursor::default();
        if let Some(file) = &cursor_file {
            match file.load(&name) {
                Err(error) if options.state_works => return Err(format!("its cursor cannot be read: {error}")),
                Err(error) => tracing::warn!(route = name, "begins anew, for its cursor cannot be read: {error}"),
                Ok(Found::Cursor(found)) => {
                    cursor = found;
                    has_history = true;
                }
                Ok(Found::Nothing) => {}
                Ok(Found::Odd(why)) => {
                    tracing::error!(route = name, "{why}; the route begins anew, and what is sent again is recognised by its id")
                }
            }
        }
        sink.restore(cursor.sink.as_ref())?;
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
            cursor,
            cursor_file,
            is_unsaved: false,
            owed: Vec::new(),
            tried: None,
            has_history,
            has_begun: false,
            tails: BTreeMap::new(),
            finished: BTreeSet::new(),
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
        if self.is_unsaved {
            self.save();
        }
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
        let nothing_new = positions.is_empty();
        for (id, position) in &positions {
            self.cursor.containers.insert(id.clone(), position.clone());
        }
        let sink = self.sink.checkpoint();
        if nothing_new && sink == self.cursor.sink && self.has_history {
            return;
        }
        self.cursor.sink = sink;
        self.owed.extend(positions);
        self.save();
        // A sink that is cut back to the cursor at the next start loses what is written beyond it, when the files that it came from are gone by then. So
        // nobody may throw them away, and nothing more is written, until the cursor is on the disk.
        if !self.is_unsaved || self.cursor.sink.is_none() || !self.has_history {
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

    /// Tries again to save what is owed. Whether nothing is owed any more.
    fn pay(&mut self) -> bool {
        if !self.owed.is_empty() && self.tried.is_none_or(|at| at.elapsed() >= PULSE) {
            self.save();
            if !self.is_unsaved {
                self.acknowledge_owed();
            }
        }
        self.owed.is_empty()
    }

    fn save(&mut self) {
        self.tried = Some(Instant::now());
        let Some(file) = &mut self.cursor_file else { return };
        match file.save(&self.name, &self.cursor) {
            Ok(()) => {
                self.has_history = true;
                self.is_unsaved = false;
                self.state_part.ok();
            }
            Err(error) => {
                self.is_unsaved = true;
                self.metrics.cursor_errors.inc();
                self.state_part.degraded(if self.cursor.sink.is_some() && self.has_history {
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
            // One that is done with and came back is read on.
            if self.tails.contains_key(container.id()) || (container.is_removed() && self.finished.contains(container.id())) {
                continue;
            }
            self.finished.remove(container.id());
            let begin = match self.cursor.containers.get(container.id()) {
                Some(position) => Begin::At(Box::new(position.clone())),
                None if self.has_history || self.has_begun => Begin::Oldest,
                None => self.options.backfill.clone(),
            };
            let tail = Tail::new(Arc::clone(container), begin, &self.options, &self.metrics);
            self.tails.insert(container.id().clone(), tail);
        }
        if !self.has_begun {
            // From now on a container that the cursor does not know is a new one, also after a restart. Nothing has been read yet.
            self.has_begun = true;
            let positions = if self.has_history { Vec::new() } else { self.tails.values().filter_map(Tail::position).collect() };
            self.settle(positions);
        }
        let cursor = &self.cursor;
        // What is owed may still have to be read again by the next start.
        let nothing_owed = self.owed.is_empty();
        let gone: Vec<ContainerId> = self
            .tails
            .iter()
            .filter(|(id, tail)| nothing_owed && tail.is_finished(cursor.containers.get(id)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some(tail) = self.tails.remove(&id) {
                tail.finish(self.options.consumer);
                self.finished.insert(id);
            }
        }
        if !self.finished.is_empty() {
            // The table forgets a container when every route is done with it.
            let known: BTreeSet<&ContainerId> = containers.iter().map(|container| container.id()).collect();
            self.finished.retain(|id| known.contains(id));
        }
        self.forget_the_oldest();
    }

    /// Positions of containers that are gone are kept for a while: a directory that was out of reach for a moment must not be sent again. The
    /// oldest are dropped beyond a bound. What the table knows is not gone: it may keep a removed container's lines for another route, also over a restart.
    fn forget_the_oldest(&mut self) {
        let known = self.tails.len() + self.finished.len();
        if self.cursor.containers.len().saturating_sub(known) <= KEPT_POSITIONS {
            return;
        }
        let is_gone = |id: &ContainerId| !self.tails.contains_key(id) && !self.finished.contains(id);
        let oldest = self.cursor.containers.iter().filter(|(id, _)| is_gone(id)).min_by_key(|(_, position)| position.time);
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.cursor.containers.remove(&id);
        }
    }

    /// Reads a quantum of each container into the batch. Whether anything was read.
    fn fill(&mut self) -> bool {
        let spec = &self.options.spec;
        let full = |batch: &Batch| batch.is_full(spec.batch_bytes, spec.batch_records);
        if full(&self.filling) {
            return false;
        }
        let max = (spec.batch_bytes, spec.batch_records);
        let mut encoder = Encoder { batch: &mut self.filling, index: self.index.as_ref(), metrics: &self.metrics, max };
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
            let moved: Vec<_> = self.tails.values_mut().filter_map(Tail::take_moved).collect();
            if !moved.is_empty() {
                self.settle(moved);
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
        self.metrics.lag_seconds.set(age);
        if self.lag_measured.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
            self.lag_measured = Some(Instant::now());
            let bytes: u64 = self.tails.iter().map(|(id, tail)| tail.unacknowledged(self.cursor.containers.get(id))).sum();
            self.metrics.lag_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}
