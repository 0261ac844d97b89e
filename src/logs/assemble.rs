//! Lines out of entries: parts joined for each container and stream.
//!
//! A pure function of the entries' bytes and Docker's times: no wall clock, so that a replay makes the same lines with the same ids.
//!
//! Docker's copier reads up to 16 KiB and writes what it has as one entry when it finds no line feed in it; all parts of a line carry the time of the
//! first (moby, `daemon/logger/copier.go`). Neither the file nor the API has a mark for "partial": that the line feed is missing is the mark. So:
//!
//! - An entry that ends in a line feed is the end of a line.
//! - One without a line feed and of fewer than [`PART_BYTES`] decoded bytes is the last that a process wrote, and a line. The first line of the
//!   container's next start is not glued to it.
//! - One without a line feed and of [`PART_BYTES`] or more waits for its continuation, for another time on its stream, or for the container's end.
//!   *More* happens: the driver stores each byte that is not UTF-8 as U+FFFD, which are three, and so does it with a character that the end of the
//!   copier's buffer cut in two. 16 384 bytes that were read are therefore never fewer decoded, and may be 49 152.
//!
//! Lines of the same stream, time and bytes are told apart by how many came before (`k` of [`RecordId::of`]). The contract's other way, that a
//! cursor never rests inside a run of lines with one time, would send such a run again after each restart; here the run is part of the cursor
//! ([`Run`]) and nothing is sent again.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::reader::json_file::Entry;
use super::record::{IdScope, RecordId};
use super::{ContainerId, Place, Stream};

/// The size of the buffer of Docker's copier: what a part of a longer line has at least.
pub const PART_BYTES: usize = 16 << 10;

/// How many different lines with one time of one stream are remembered. With more, the oldest is forgotten: if the very same bytes then come again
/// within the same nanosecond, that line gets the id of its first copy, and a sink that knows ids takes the two for one.
pub const RUN_LINES: usize = 64;

/// A line, whole or cut at the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The stream it was written to.
    pub stream: Stream,
    /// Docker's time, nanoseconds since the epoch.
    pub time: i64,
    /// The bytes without the line feed at the end, and not beyond the bound. A carriage return before the line feed is still there.
    pub bytes: &'a [u8],
    /// The offset of its first entry in its file.
    pub offset: u64,
    /// What it is known by for ever.
    pub id: RecordId,
    /// The whole length in bytes, where the line is cut.
    pub cut: Option<u64>,
    /// How many entries it came in.
    pub parts: u32,
}

/// The lines of one stream that have the time of the last line: what is needed to count identical ones, also over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The time.
    pub time: i64,
    /// The hash of each different line's raw bytes and how often it came, oldest first; at most [`RUN_LINES`]. Stored as hexadecimal digits, for
    /// JSON's numbers do not hold 128 bits everywhere.
    #[serde(with = "seen")]
    pub seen: Vec<(u128, u32)>,
}

impl Run {
    /// Counts a line, and tells how many identical ones came before it in this run.
    fn count(&mut self, time: i64, hash: u128) -> u32 {
        if self.time != time {
            self.time = time;
            self.seen.clear();
        }
        if let Some((_, count)) = self.seen.iter_mut().find(|(known, _)| *known == hash) {
            let before = *count;
            *count = count.saturating_add(1);
            return before;
        }
        if self.seen.len() >= RUN_LINES {
            self.seen.remove(0);
        }
        self.seen.push((hash, 1));
        0
    }
}

/// Parts that wait for the rest of their line.
struct Pending {
    start: Place,
    time: i64,
    bytes: Vec<u8>,
    length: u64,
    hash: Box<Xxh3>,
    parts: u32,
}

impl Pending {
    fn new(start: Place, time: i64) -> Self {
        Self { start, time, bytes: Vec::with_capacity(2 * PART_BYTES), length: 0, hash: Box::new(Xxh3::new()), parts: 0 }
    }

    /// Adds a part: all of it to the hash and the length, and to the bytes what is within the bound.
    fn add(&mut self, part: &[u8], max: usize) {
        self.hash.update(part);
        self.length += part.len() as u64;
        self.parts = self.parts.saturating_add(1);
        let room = max.saturating_sub(self.bytes.len()).min(part.len());
        self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
    }
}

#[derive(Default)]
struct OfStream {
    pending: Option<Pending>,
    run: Option<Run>,
}

impl OfStream {
    fn count(&mut self, time: i64, hash: u128) -> u32 {
        self.run.get_or_insert_with(|| Run { time, seen: Vec::new() }).count(time, hash)
    }
}

/// Makes lines out of the entries of one container.
///
/// Its memory is bounded by twice the bound of a record, and by the runs.
pub struct Assembler {
    scope: IdScope,
    max_record_bytes: usize,
    streams: [OfStream; 2],
    read_to: Option<Place>,
}

impl std::fmt::Debug for Assembler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembler").field("held", &self.held()).field("read_to", &self.read_to).finish_non_exhaustive()
    }
}

impl Assembler {
    /// An assembler for the log of a container, from its beginning. Lines longer than `max_record_bytes` are cut.
    #[must_use]
    pub fn new(id: &ContainerId, max_record_bytes: usize) -> Self {
        Self::resume(id, max_record_bytes, [None, None])
    }

    /// An assembler that goes on where a cursor says: with the runs that [`Assembler::runs`] gave then. The entries to give it are those from
    /// [`Assembler::resume_at`] on, by stream.
    #[must_use]
    pub fn resume(id: &ContainerId, max_record_bytes: usize, runs: [Option<Run>; 2]) -> Self {
        let streams = runs.map(|run| OfStream { pending: None, run });
        Self { scope: IdScope::new(id), max_record_bytes, streams, read_to: None }
    }

    /// Takes the entry that stands from `start` to `end_offset` of its file, and gives the lines that are complete by it: none, one, or two (a line
    /// that waited in vain, and the entry's own).
    pub fn entry(&mut self, entry: &Entry<'_>, start: Place, end_offset: u64, emit: &mut dyn FnMut(Line<'_>)) {
        self.read_to = Some(Place { file: start.file, offset: end_offset });
        let max = self.max_record_bytes;
        let (bytes, ended) = match entry.log {
            [bytes @ .., b'\n'] => (bytes, true),
            bytes => (bytes, bytes.len() < PART_BYTES),
        };
        let of = self.of(entry.stream);
        if of.pending.as_ref().is_some_and(|pending| pending.time != entry.time) {
            self.complete(entry.stream, emit);
        }
        let of = self.of(entry.stream);
        if let Some(pending) = &mut of.pending {
            pending.add(bytes, max);
        } else if ended {
            let hash = xxh3_128(bytes);
            let count = of.count(entry.time, hash);
            let id = self.scope.id(entry.stream, entry.time, hash, count);
            let (kept, cut) = within(bytes, bytes.len() as u64, max);
            emit(Line { stream: entry.stream, time: entry.time, bytes: kept, offset: start.offset, id, cut, parts: 1 });
            return;
        } else {
            of.pending.insert(Pending::new(start, entry.time)).add(bytes, max);
        }
        if ended {
            self.complete(entry.stream, emit);
        }
    }

    /// The container has ended and all of its log was read: what waits is a line.
    pub fn end(&mut self, emit: &mut dyn FnMut(Line<'_>)) {
        for stream in Stream::ALL {
            self.complete(stream, emit);
        }
    }

    /// By stream, where the oldest entry begins that is not part of an emitted line; `None` where nothing waits. A cursor must not pass it for
    /// this stream.
    #[must_use]
    pub fn held(&self) -> [Option<Place>; 2] {
        self.streams.each_ref().map(|of| of.pending.as_ref().map(|pending| pending.start))
    }

    /// By stream, where to read on after a restart: where the oldest entry begins that waits, or else the end of the last entry taken, whatever its
    /// stream. `None` before the first entry. An entry of a stream that begins before its place must not be given again.
    #[must_use]
    pub fn resume_at(&self) -> [Option<Place>; 2] {
        self.held().map(|held| held.or(self.read_to))
    }

    /// By stream, the run of the last emitted line, for [`Assembler::resume`]. It belongs with [`Assembler::resume_at`] of the same moment.
    #[must_use]
    pub fn runs(&self) -> [Option<Run>; 2] {
        self.streams.each_ref().map(|of| of.run.clone())
    }

    const fn of(&mut self, stream: Stream) -> &mut OfStream {
        let [stdout, stderr] = &mut self.streams;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// Emits what waits on a stream.
    fn complete(&mut self, stream: Stream, emit: &mut dyn FnMut(Line<'_>)) {
        let max = self.max_record_bytes;
        let of = self.of(stream);
        let Some(Pending { start, time, bytes, length, hash, parts }) = of.pending.take() else { return };
        let hash = hash.digest128();
        let count = of.count(time, hash);
        let id = self.scope.id(stream, time, hash, count);
        let (bytes, cut) = within(&bytes, length, max);
        emit(Line { stream, time, bytes, offset: start.offset, id, cut, parts });
    }
}

/// What of a line's bytes is within the bound, and the whole length when that is not all. The cut does not go through a character.
fn within(bytes: &[u8], length: u64, max: usize) -> (&[u8], Option<u64>) {
    if length <= max as u64 {
        return (bytes, None);
    }
    let kept = bytes.get(..max).unwrap_or(bytes);
    // A character has at most three bytes behind its first. More in a row are no UTF-8, and stay.
    let behind = kept.iter().rev().take(4).take_while(|byte| matches!(byte, 0x80..=0xbf)).count();
    let first = kept.len().checked_sub(behind + 1).and_then(|at| kept.get(at).map(|byte| (at, *byte)));
    let whole = match first {
        Some((at, 0xc2..=0xdf)) if behind < 1 => at,
        Some((at, 0xe0..=0xef)) if behind < 2 => at,
        Some((at, 0xf0..=0xf4)) if behind < 3 => at,
        _ => kept.len(),
    };
    (kept.get(..whole).unwrap_or(kept), Some(length))
}

mod seen {
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeSeq};

    pub(super) fn serialize<S: Serializer>(seen: &[(u128, u32)], to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(seen.len()))?;
        for (hash, count) in seen {
            list.serialize_element(&(format!("{hash:032x}"), count))?;
        }
        list.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u128, u32)>, D::Error> {
        let list: Vec<(String, u32)> = Vec::deserialize(from)?;
        list.into_iter().map(|(hash, count)| Ok((u128::from_str_radix(&hash, 16).map_err(D::Error::custom)?, count))).collect()
    }
}
