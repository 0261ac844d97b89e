//! One container's log as one route reads it: from file to file along the chain, entry by entry into lines, lines into records.

use std::sync::Arc;
use std::time::Instant;

use super::assemble::{Assembler, Line};
use super::batch::Batch;
use super::cursor::Position;
use super::enrich::Enrichment;
use super::files::{LogFile, LoggedContainer};
use super::logstash;
use super::reader::json_file;
use super::record::{self, IndexPattern};
use super::route::RouteOptions;
use super::steer::group::SLACK;
use super::steer::limit::Withheld;
use super::steer::{Encoded, Settings, Steering, Work};
use super::{ContainerId, ContainerMeta, Fingerprint, Place, Stream};
use crate::config::Schema;
use crate::telemetry::RouteMetrics;

/// What is read of a file at one time.
const CHUNK: usize = 256 << 10;
/// What is read at one time of a compressed file, which keeps as much for each reader.
const COMPRESSED_CHUNK: usize = 64 << 10;
/// The longest entry that is taken: 16 KiB of control characters are six times as long in JSON, and the driver adds labels.
const LONGEST_ENTRY: usize = 2 << 20;
/// What a container may have read in one round before the next has its turn.
const QUANTUM: usize = 1 << 20;

/// Where a tail begins.
#[derive(Debug, Clone)]
pub enum Begin {
    /// At what is acknowledged.
    At(Box<Position>),
    /// At the oldest line there is.
    Oldest,
    /// At the oldest line that is not older than this, in nanoseconds since the epoch.
    Since(i64),
    /// Behind the newest line there is.
    Newest,
}

/// Whether a round brought something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is there to read.
    Nothing,
    /// Something was read; there may be more.
    Read,
}

/// Memory that all tails of a route use in turn.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What is read of a file.
    chunk: Vec<u8>,
    /// An entry without its escapes.
    entry: Vec<u8>,
    /// What a text becomes on its way into a record.
    work: Work,
}

/// Where records are written to.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// The batch being filled.
    pub batch: &'a mut Batch,
    /// The index of action lines; `None` for sinks without.
    pub index: Option<&'a IndexPattern>,
    /// What documents are made like.
    pub schema: Schema,
    /// The route's numbers.
    pub metrics: &'a RouteMetrics,
    /// Bytes and records at which the batch is full.
    pub max: (usize, usize),
}

impl Encoder<'_> {
    fn is_full(&self) -> bool {
        self.batch.is_full(self.max.0, self.max.1)
    }

    fn line(&mut self, line: &Line<'_>, of: &Enrichment, steering: &mut Steering, work: &mut Work) {
        match steering.admit(line) {
            Ok(()) => {}
            Err(Withheld::Sampled) => return self.metrics.sampled.inc(),
            Err(Withheld::Rate) => return self.metrics.rate_limited.inc(),
        }
        let mut draft = self.batch.begin_record();
        if let Some(index) = self.index {
            record::action(index, line, draft.out());
        }
        let encoded = match self.schema {
            Schema::Ecs => record::encode(line, of, steering, work, draft.document()).1,
            Schema::Logstash => logstash::encode(line, of, steering, work, draft.document()),
        };
        match draft.commit(line.time, line.id) {
            Ok(()) => {
                self.metrics.read.inc();
                if line.cut.is_some() {
                    self.metrics.truncated.inc();
                }
                if line.lines > 1 {
                    self.metrics.joined.inc_by(u64::from(line.lines) - 1);
                }
                if encoded != Encoded::default() {
                    self.metrics.encoded(&encoded);
                }
            }
            // A batch is full long before it has 4 GiB.
            Err(_) => self.metrics.dropped("batch_overflow", 1),
        }
    }
}

/// A container's log, and where this route is in it.
#[derive(Debug)]
pub struct Tail {
    container: Arc<LoggedContainer>,
    meta: Arc<ContainerMeta>,
    enrichment: Enrichment,
    steering: Steering,
    settings: Settings,
    assembler: Assembler,
    /// Since when nothing more was there to read while a group waits for more lines.
    quiet: Option<Instant>,
    begin: Option<Begin>,
    /// Where the next entry begins. `None` until the first file is there.
    at: Option<Place>,
    /// The file being read. It is read to its end also after it left the chain.
    file: Option<Arc<LogFile>>,
    /// The chain up to the file being read, as it was when that was last in it: what comes next is none of these.
    passed: Vec<Fingerprint>,
    /// Entries before this place belong to the streams that were held there, and to no others.
    replay: Option<Replay>,
    /// The greatest of Docker's times read.
    time: i64,
    /// Lines before this time are not wanted.
    not_before: i64,
    /// By stream, whether the route wants it. One that it does not want never reaches the assembler, so that it holds nothing.
    streams: [bool; 2],
    /// Whether the position has moved since it was taken.
    moved: bool,
    /// The container's counter of changes when there was nothing more to read.
    seen: Option<u64>,
    host: (String, Option<String>),
    schema: Schema,
    labels: Option<regex::Regex>,
    metrics: RouteMetrics,
}

/// After a restart: entries from where a stream was held up to where everything had been read.
#[derive(Debug)]
struct Replay {
    until: Place,
    held: [Option<Place>; 2],
    /// By stream, whether the reading has come to where it was held.
    reached: [bool; 2],
}

impl Tail {
    /// A tail of `container`, beginning at `begin`.
    #[must_use]
    pub fn new(container: Arc<LoggedContainer>, mut begin: Begin, options: &RouteOptions, metrics: &RouteMetrics) -> Self {
        let streams = options.spec.filter.streams();
        if let Begin::At(position) = &mut begin {
            // Of a stream that is not wanted any more nothing waits.
            for (held, is_wanted) in position.held.iter_mut().zip(streams) {
                *held = held.filter(|_| is_wanted);
            }
        }
        let meta = container.meta();
        let host = (options.host_name.clone(), options.host_id.clone());
        let schema = options.spec.schema;
        let enrichment = enrichment(container.id(), &meta, &host, options.labels.as_ref(), schema);
        let (mut steering, refused) = Steering::of(&meta);
        options.steering.tell(container.id(), &meta, &refused, metrics);
        let (mut assembler, time) = match &begin {
            Begin::At(position) => (Assembler::resume(container.id(), options.max_record_bytes, position.runs.clone()), position.time),
            Begin::Oldest | Begin::Since(_) | Begin::Newest => (Assembler::new(container.id(), options.max_record_bytes), i64::MIN),
        };
        assembler.group(steering.grouping(&options.steering), &mut |_| ());
        if let Begin::At(position) = &begin {
            steering.resume(position.windows);
        }
        let mut tail = Self {
            container,
            meta,
            enrichment,
            steering,
            settings: options.steering.clone(),
            assembler,
            quiet: None,
            begin: Some(begin),
            at: None,
            file: None,
            passed: Vec::new(),
            replay: None,
            time,
            not_before: i64::MIN,
            streams,
            moved: false,
            seen: None,
            host,
            schema,
            labels: options.labels.clone(),
            metrics: metrics.clone(),
        };
        if let Some(Begin::At(position)) = &tail.begin {
            tail.acknowledge(options.consumer, position);
        }
        tail.find_beginning();
        if matches!(tail.begin, Some(Begin::Newest)) {
            // Nothing was written yet, so all that will be is new.
            tail.begin = Some(Begin::Oldest);
        }
        tail
    }

    /// Tells the table that everything before `position` is acknowledged.
    pub fn acknowledge(&self, consumer: usize, position: &Position) {
        let chain = self.container.chain();
        let rank = |place: &Place| (chain.iter().position(|file| file.fingerprint() == place.file), place.offset);
        let first = position.held.iter().flatten().chain([&position.place]).min_by_key(|place| rank(place));
        if let Some(place) = first {
            self.container.acknowledge(consumer, *place);
        }
    }

    /// The removed container was read to its end and is acknowledged.
    pub fn finish(&self, consumer: usize) {
        self.container.finished(consumer);
    }

    /// What comes behind a file that left the chain: by the order that it had, for clocks are set back; by its time where that is not known.
    fn next<'chain>(&self, chain: &'chain [Arc<LogFile>], file: Fingerprint) -> Option<&'chain Arc<LogFile>> {
        if self.passed.last() != Some(&file) {
            return newer(chain, file);
        }
        chain.iter().find(|known| !self.passed.contains(&known.fingerprint()))
    }

    /// Where this tail is; `None` before its first file is there.
    #[must_use]
    pub fn position(&self) -> Option<(super::ContainerId, Position)> {
        let place = self.at?;
        // While entries are replayed the streams that were held are behind, and the others stay where they were.
        let (place, held) = match &self.replay {
            Some(replay) => {
                let mut held = replay.held;
                for ((held, now), reached) in held.iter_mut().zip(self.assembler.held()).zip(replay.reached) {
                    if reached {
                        *held = Some(now.unwrap_or(place));
                    }
                }
                (replay.until, held)
            }
            None => (place, self.assembler.held()),
        };
        let (runs, windows) = (self.assembler.runs(), self.steering.windows());
        Some((self.container.id().clone(), Position { place, time: self.time, held, runs, windows }))
    }

    /// Where this tail is, when that has changed since it was last asked.
    pub fn take_moved(&mut self) -> Option<(super::ContainerId, Position)> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        self.position()
    }

    /// Whether the container is removed, and all of it is read and acknowledged.
    #[must_use]
    pub fn is_finished(&self, acknowledged: Option<&Position>) -> bool {
        if !self.container.is_removed() || self.moved {
            return false;
        }
        if self.assembler.held().iter().any(Option::is_some) {
            return false;
        }
        let chain = self.container.chain();
        let (Some(last), Some(at)) = (chain.last(), self.at) else { return chain.is_empty() };
        // A place in a file that is not in the chain any more is behind everything, or before what is still to be read.
        if chain.iter().all(|file| file.fingerprint() != at.file) {
            return self.next(&chain, at.file).is_none() && acknowledged.is_some_and(|position| position.place == at);
        }
        let read = last.is_final() && at.file == last.fingerprint() && last.len().is_ok_and(|length| at.offset >= length);
        read && acknowledged.is_some_and(|position| position.place == at)
    }

    /// Bytes in the chain behind what is acknowledged.
    #[must_use]
    pub fn unacknowledged(&self, acknowledged: Option<&Position>) -> u64 {
        let chain = self.container.chain();
        let at = acknowledged.map(|position| position.place);
        let first = at.and_then(|at| chain.iter().position(|file| file.fingerprint() == at.file)).unwrap_or(0);
        let lengths = chain.iter().skip(first).filter_map(|file| file.len().ok().map(|length| (file.fingerprint(), length)));
        lengths.map(|(file, length)| length.saturating_sub(at.filter(|at| at.file == file).map_or(0, |at| at.offset))).sum()
    }

    /// Turns [`Begin`] into a place, as soon as there is a file.
    fn find_beginning(&mut self) {
        let chain = self.container.chain();
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return };
        let start = |file: &LogFile| Place { file: file.fingerprint(), offset: file.base() };
        match self.begin.take() {
            None => {}
            Some(Begin::Oldest) => self.at = Some(start(first)),
            Some(Begin::Since(time)) => {
                // Lines before it in the same file are passed over as they are read.
                let within = chain.iter().rev().find(|file| file.fingerprint().first_time < time).unwrap_or(first);
                self.at = Some(start(within));
                self.not_before = time;
            }
            Some(Begin::Newest) => {
                let offset = last.len().unwrap_or(0);
                self.at = Some(Place { file: last.fingerprint(), offset });
                self.moved = true;
            }
            Some(Begin::At(position)) => self.resume(&chain, *position),
        }
    }

    fn resume(&mut self, chain: &[Arc<LogFile>], position: Position) {
        let index = |file: Fingerprint| chain.iter().position(|known| known.fingerprint() == file);
        if index(position.place.file).is_none() {
            // The file is gone, and with it what was behind the place. What is left begins with the first file that is newer. Newer than the file and not
            // than the last line: streams take their times before they queue, and a long line's parts all have that of the first.
            let next = newer(chain, position.place.file).or(chain.last());
            if let Some(file) = next {
                let at = Place { file: file.fingerprint(), offset: file.base() };
                tracing::warn!(container = ?self.container.id(), "the log file that was being read is gone: lines between it and the next are lost");
                self.metrics.gap("rotated_away");
                self.at = Some(at);
                self.moved = true;
            }
            return;
        }
        let is_there =
            |place: &Place| index(place.file).is_some_and(|index| chain.get(index).is_some_and(|file| place.offset >= file.base()));
        let mut held = position.held;
        for held in &mut held {
            if held.as_ref().is_some_and(|place| !is_there(place)) {
                // The beginning of a line whose end is still to come.
                self.metrics.gap("rotated_away");
                *held = None;
            }
        }
        let rank = |place: &Place| (index(place.file), place.offset);
        let first = held.iter().flatten().min_by_key(|place| rank(place)).copied();
        self.at = Some(first.unwrap_or(position.place));
        if first.is_some() {
            self.replay = Some(Replay { until: position.place, held, reached: [false, false] });
        }
    }

    /// Reads a quantum into `encoder`, whose batch may be full before.
    pub fn read(&mut self, buffers: &mut Buffers, encoder: &mut Encoder<'_>) -> Progress {
        self.read_at(Instant::now(), buffers, encoder)
    }

    /// As [`Tail::read`], at this time of the process' own clock.
    pub fn read_at(&mut self, now: Instant, buffers: &mut Buffers, encoder: &mut Encoder<'_>) -> Progress {
        // The order matters: what is changed after these were asked is read in the next round.
        let changed = self.container.changed();
        let is_quiet = self.seen == Some(changed) && self.is_quiet(now);
        if self.seen == Some(changed) && !is_quiet {
            return Progress::Nothing;
        }
        let is_ended = self.container.is_ended();
        let meta = self.container.meta();
        if !Arc::ptr_eq(&meta, &self.meta) {
            self.enrichment = enrichment(self.container.id(), &meta, &self.host, self.labels.as_ref(), self.schema);
            if meta.labels != self.meta.labels {
                self.steer(&meta, &mut buffers.work, encoder);
            }
            self.meta = meta;
        }
        if self.at.is_none() {
            self.find_beginning();
        }
        let mut progress = Progress::Nothing;
        let mut quantum = QUANTUM;
        loop {
            let chain = self.container.chain();
            let Some(at) = self.at else { break };
            let (file, next) = match chain.iter().position(|file| file.fingerprint() == at.file) {
                Some(index) => {
                    self.passed.clear();
                    self.passed.extend(chain.iter().take(index + 1).map(|file| file.fingerprint()));
                    (chain.get(index).map(Arc::clone), chain.get(index + 1))
                }
                // It was acknowledged as far as it went, and has left the chain; or the spool gave it up.
                None => (self.file.take(), self.next(&chain, at.file)),
            };
            let Some(file) = file.filter(|file| file.fingerprint() == at.file) else {
                self.lost_file(&chain, at);
                break;
            };
            self.file = Some(Arc::clone(&file));
            if file.is_cut() {
                let Some(next) = next else {
                    self.seen = Some(changed);
                    break;
                };
                self.metrics.gap("truncated_file");
                self.move_to(Place { file: next.fingerprint(), offset: next.base() });
                progress = Progress::Read;
                continue;
            }
            let is_final = file.is_final();
            match self.chunk(&file, at, is_final, buffers, encoder) {
                Chunk::Read(bytes) => {
                    progress = Progress::Read;
                    if encoder.is_full() {
                        return progress;
                    }
                    quantum = quantum.saturating_sub(bytes);
                    if quantum == 0 {
                        return progress;
                    }
                }
                Chunk::End => match next {
                    Some(next) if is_final => {
                        if file.is_broken() {
                            self.metrics.gap(if file.is_part() { "rotated_away" } else { "damaged_file" });
                        }
                        self.move_to(Place { file: next.fingerprint(), offset: next.base() });
                        progress = Progress::Read;
                    }
                    _ => {
                        let is_over = is_ended && self.assembler.held().iter().any(Option::is_some);
                        // What was found after all begins the wait anew.
                        if is_over || (is_quiet && self.quiet.is_some()) {
                            let (enrichment, steering, work) = (&self.enrichment, &mut self.steering, &mut buffers.work);
                            let mut emit = |line: Line<'_>| encoder.line(&line, enrichment, steering, work);
                            if is_over {
                                self.assembler.end(&mut emit);
                            } else {
                                self.assembler.end_groups(&mut emit);
                            }
                            self.quiet = None;
                            self.moved = true;
                            progress = Progress::Read;
                        }
                        self.seen = Some(changed);
                        break;
                    }
                },
                Chunk::Failed => break,
            }
        }
        if self.at.is_none() {
            self.seen = Some(changed);
        }
        progress
    }

    /// Whether nothing was there to read for so long that what waits as a group has no more lines to come: for the gap and a second. By the process' own
    /// clock, from when everything had been read, which is never before Docker's time of the last line; nobody sets it, and the engine's may be another.
    fn is_quiet(&mut self, now: Instant) -> bool {
        if !self.assembler.has_groups() {
            return false;
        }
        let since = *self.quiet.get_or_insert(now);
        now.saturating_duration_since(since) > self.settings.gap + SLACK
    }

    /// Takes the labels of a container of which they were not known, or were others.
    fn steer(&mut self, meta: &ContainerMeta, work: &mut Work, encoder: &mut Encoder<'_>) {
        let (mut steering, refused) = Steering::of(meta);
        self.settings.tell(self.container.id(), meta, &refused, &self.metrics);
        let (enrichment, old) = (&self.enrichment, &mut self.steering);
        self.assembler.group(steering.grouping(&self.settings), &mut |line| encoder.line(&line, enrichment, old, work));
        steering.resume(self.steering.windows());
        self.steering = steering;
    }

    fn move_to(&mut self, place: Place) {
        if self.replay.as_ref().is_some_and(|replay| replay.until == place) {
            self.replay = None;
        }
        self.at = Some(place);
        self.moved = true;
    }

    /// The file at `at` left the chain although it was not acknowledged, and no descriptor of it is left: the spool gave it up.
    fn lost_file(&mut self, chain: &[Arc<LogFile>], at: Place) {
        let is_order_known = self.passed.last() == Some(&at.file);
        if let Some(next) = self.next(chain, at.file).or(chain.first().filter(|_| !is_order_known)) {
            self.metrics.gap("spool_full");
            self.replay = None;
            self.move_to(Place { file: next.fingerprint(), offset: next.base() });
        }
    }

    fn chunk(&mut self, file: &LogFile, at: Place, is_final: bool, buffers: &mut Buffers, encoder: &mut Encoder<'_>) -> Chunk {
        let buffer = &mut buffers.chunk;
        if at.offset < file.base() {
            self.metrics.gap("spool_full");
            self.move_to(Place { file: at.file, offset: file.base() });
            return Chunk::Read(0);
        }
        let mut wanted = if file.is_compressed() { COMPRESSED_CHUNK } else { CHUNK };
        loop {
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            let Some(space) = buffer.get_mut(..wanted) else { return Chunk::Failed };
            let length = match file.read_at(space, at.offset) {
                Ok(length) => length,
                Err(error) => {
                    tracing::debug!(container = ?self.container.id(), "a log file cannot be read: {error}");
                    self.metrics.read_error();
                    return Chunk::Failed;
                }
            };
            let Some(bytes) = buffer.get(..length) else { return Chunk::Failed };
            let Some(last) = memchr::memrchr(b'\n', bytes) else {
                if length == wanted && wanted < LONGEST_ENTRY {
                    wanted *= 2;
                    continue;
                }
                return self.without_line_feed(file, at, length, is_final);
            };
            let whole = bytes.get(..=last).unwrap_or_default();
            self.metrics.read_bytes.inc_by(whole.len() as u64);
            return Chunk::Read(self.entries(at, whole, &mut buffers.entry, &mut buffers.work, encoder));
        }
    }

    /// Nothing in `length` bytes at `at` ends an entry.
    fn without_line_feed(&mut self, file: &LogFile, at: Place, length: usize, is_final: bool) -> Chunk {
        if length >= LONGEST_ENTRY {
            // No entry is that long: it is passed over, piece by piece, until its line feed comes.
            self.metrics.dropped("malformed", 1);
            self.move_to(Place { file: at.file, offset: at.offset + length as u64 });
            return Chunk::Read(length);
        }
        if length == 0 && !file.is_compressed() && !file.is_part() && file.len().is_ok_and(|whole| whole < at.offset) {
            if file.is_shorter() {
                // Somebody cut it just now. The table will say by which fingerprint it goes on.
                return Chunk::End;
            }
            // By the same one, for its first line was left.
            self.metrics.gap("truncated_file");
            self.move_to(Place { file: at.file, offset: file.base() });
            return Chunk::Read(0);
        }
        if length > 0 && is_final {
            // The rest of an entry that the engine did not finish: it died.
            self.metrics.dropped("malformed", 1);
            self.move_to(Place { file: at.file, offset: at.offset + length as u64 });
            return Chunk::Read(length);
        }
        Chunk::End
    }

    /// Takes whole lines of a file, as many as the batch has room for. How many bytes that were.
    fn entries(&mut self, at: Place, whole: &[u8], scratch: &mut Vec<u8>, work: &mut Work, encoder: &mut Encoder<'_>) -> usize {
        self.quiet = None;
        let mut taken = 0;
        for end in memchr::memchr_iter(b'\n', whole) {
            let line = whole.get(taken..end).unwrap_or_default();
            let start = Place { file: at.file, offset: at.offset + taken as u64 };
            let end_offset = at.offset + end as u64 + 1;
            if self.replay.as_ref().is_some_and(|replay| replay.until == start) {
                self.replay = None;
            }
            let mut start = start;
            let mut parsed = json_file::parse(line, scratch);
            if parsed.is_err() {
                self.metrics.dropped("malformed", 1);
                // An engine that died in the middle of an entry went on behind it, on the same line.
                if let Some(rest) = json_file::behind_tear(line) {
                    start.offset = end_offset - 1 - rest.len() as u64;
                    parsed = json_file::parse(rest, scratch);
                }
            }
            if let Ok(entry) = parsed {
                self.time = self.time.max(entry.time);
                let is_wanted = self.streams.get(entry.stream.index()).copied().unwrap_or(true);
                if is_wanted && entry.time >= self.not_before && self.wants(entry.stream, start) {
                    let (enrichment, steering, work) = (&self.enrichment, &mut self.steering, &mut *work);
                    self.assembler.entry(&entry, start, end_offset, &mut |line| encoder.line(&line, enrichment, steering, work));
                }
            }
            taken = end + 1;
            if encoder.is_full() {
                break;
            }
        }
        self.move_to(Place { file: at.file, offset: at.offset + taken as u64 });
        taken
    }

    /// Whether an entry of this stream at this place is still to be read: always, but in a replay only from where its stream was held.
    fn wants(&mut self, stream: Stream, start: Place) -> bool {
        let Some(replay) = &mut self.replay else { return true };
        let (held, reached) = (replay.held.get(stream.index()).copied().flatten(), replay.reached.get_mut(stream.index()));
        let Some(reached) = reached else { return true };
        *reached |= held == Some(start);
        *reached
    }
}

/// Who wrote it, as the schema has it.
fn enrichment(
    id: &ContainerId,
    meta: &ContainerMeta,
    host: &(String, Option<String>),
    labels: Option<&regex::Regex>,
    schema: Schema,
) -> Enrichment {
    match schema {
        Schema::Ecs => Enrichment::new(id, meta, &host.0, host.1.as_deref(), labels),
        Schema::Logstash => logstash::enrichment(id, meta, &host.0, labels),
    }
}

/// The first file of the chain that is newer than one that is not in it, by their times.
fn newer(chain: &[Arc<LogFile>], file: Fingerprint) -> Option<&Arc<LogFile>> {
    chain.iter().find(|known| known.fingerprint() != file && known.fingerprint().first_time >= file.first_time)
}

enum Chunk {
    /// So many bytes were taken.
    Read(usize),
    /// Nothing more is there now.
    End,
    Failed,
}
