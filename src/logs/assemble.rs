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
use super::steer::group::{Group, Grouping, Groups, Whole};
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
    /// How many lines it is: more than one where a label asks for groups, with a line feed between each two.
    pub lines: u32,
}

/// The lines of one stream that have the time of the last line: what is needed to count identical ones, also over a restart. A run ends with the first
/// line of another time; a clock that is set back and comes to the very same nanosecond again begins another.
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
/// Its memory is bounded by twice the bound of a record, twice more where lines are grouped, and by the runs.
pub struct Assembler {
    scope: IdScope,
    max_record_bytes: usize,
    streams: [OfStream; 2],
    read_to: Option<Place>,
    /// Only where a label asks for it.
    groups: Option<Box<Groups>>,
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
        Self { scope: IdScope::new(id), max_record_bytes, streams, read_to: None, groups: None }
    }

    /// Puts lines together from now on, or no more. Groups by another rule end here.
    pub fn group(&mut self, grouping: Option<Grouping>, emit: &mut dyn FnMut(Line<'_>)) {
        self.end_groups(emit);
        let max = self.max_record_bytes;
        self.groups = grouping.map(|grouping| Box::new(Groups::new(grouping, max)));
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
            if self.groups.is_some() {
                let (kept, length) = (bytes.get(..max).unwrap_or(bytes), bytes.len() as u64);
                let hash = (kept.len() < bytes.len()).then(|| xxh3_128(bytes));
                self.join(entry.stream, &Whole { start, time: entry.time, bytes: kept, length, hash, parts: 1 }, emit);
                return;
            }
            let of = self.of(entry.stream);
            let hash = xxh3_128(bytes);
            let count = of.count(entry.time, hash);
            let id = self.scope.id(entry.stream, entry.time, hash, count);
            let (kept, cut) = within(bytes, bytes.len() as u64, max);
            emit(Line { stream: entry.stream, time: entry.time, bytes: kept, offset: start.offset, id, cut, parts: 1, lines: 1 });
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
        self.end_groups(emit);
    }

    /// Whether a group waits for more lines, and not for the rest of one.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.groups.is_some() && Stream::ALL.into_iter().any(|stream| self.is_whole(stream))
    }

    /// How groups are made, where a label asks for them.
    #[must_use]
    pub fn grouping(&self) -> Option<&Grouping> {
        self.groups.as_ref().map(|groups| groups.grouping())
    }

    /// Nothing more has come for so long that no line can belong to the groups that wait.
    pub fn end_groups(&mut self, emit: &mut dyn FnMut(Line<'_>)) {
        for stream in Stream::ALL {
            if self.is_whole(stream) {
                self.give(stream, emit);
            }
        }
    }

    /// By stream, where the oldest entry begins that is not part of an emitted line; `None` where nothing waits. A cursor must not pass it for
    /// this stream.
    #[must_use]
    pub fn held(&self) -> [Option<Place>; 2] {
        let group = |stream| self.groups.as_ref().and_then(|groups| groups.held(stream));
        let [stdout, stderr] = self.streams.each_ref().map(|of| of.pending.as_ref().map(|pending| pending.start));
        [group(Stream::Stdout).or(stdout), group(Stream::Stderr).or(stderr)]
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
        if self.groups.is_some() {
            let hash = (bytes.len() as u64 != length).then(|| hash.digest128());
            self.join(stream, &Whole { start, time, bytes: &bytes, length, hash, parts }, emit);
            return;
        }
        let of = self.of(stream);
        let hash = hash.digest128();
        let count = of.count(time, hash);
        let id = self.scope.id(stream, time, hash, count);
        let (bytes, cut) = within(&bytes, length, max);
        emit(Line { stream, time, bytes, offset: start.offset, id, cut, parts, lines: 1 });
    }

    /// Takes a whole line into the group of its stream, and emits what ends by it.
    fn join(&mut self, stream: Stream, line: &Whole<'_>, emit: &mut dyn FnMut(Line<'_>)) {
        let other = match stream {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        };
        if self.is_whole(other) && self.groups.as_ref().is_some_and(|groups| groups.is_stale(other, line.time)) {
            self.give(other, emit);
        }
        if self.groups.as_mut().is_some_and(|groups| groups.ends_before(stream, line)) {
            self.give(stream, emit);
        }
        if self.groups.as_mut().is_some_and(|groups| groups.add(stream, line)) {
            self.give(stream, emit);
        }
    }

    /// Whether a stream has a group, and no part of a line that may belong to it.
    fn is_whole(&self, stream: Stream) -> bool {
        let [stdout, stderr] = &self.streams;
        let of = if stream == Stream::Stdout { stdout } else { stderr };
        of.pending.is_none() && self.groups.as_ref().is_some_and(|groups| groups.held(stream).is_some())
    }

    /// Emits the group of a stream.
    fn give(&mut self, stream: Stream, emit: &mut dyn FnMut(Line<'_>)) {
        let max = self.max_record_bytes;
        let Some(group) = self.groups.as_mut().and_then(|groups| groups.take(stream)) else { return };
        let Group { start, time, bytes, length, hash, parts, lines, .. } = group;
        // As of a single line: all that was written, but for the last line feed.
        let hash = hash.unwrap_or_else(|| xxh3_128(&bytes));
        let count = self.of(stream).count(time, hash);
        let id = self.scope.id(stream, time, hash, count);
        let (kept, cut) = within(&bytes, length, max);
        emit(Line { stream, time, bytes: kept, offset: start.offset, id, cut, parts, lines });
        if let Some(groups) = &mut self.groups {
            groups.reuse(bytes);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Fingerprint;
    use crate::logs::steer::multiline::Rule;
    use proptest::prelude::*;
    use std::collections::{HashMap, VecDeque};
    use std::time::Duration;

    const MAX: usize = 40_000;

    /// A line as an assembler gave it.
    type Made = (Stream, i64, Vec<u8>, RecordId, Option<u64>, u32);

    /// An entry, owned.
    type Copied = (Stream, i64, Vec<u8>);

    fn container() -> ContainerId {
        ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap()
    }

    fn place(index: usize) -> Place {
        // A new file every seven entries.
        let file = Fingerprint { first_time: i64::try_from(index / 7).unwrap(), hash: 0 };
        Place { file, offset: (index % 7) as u64 * 100 }
    }

    fn keep(made: &mut Vec<Made>) -> impl FnMut(Line<'_>) {
        |line| made.push((line.stream, line.time, line.bytes.to_vec(), line.id, line.cut, line.parts))
    }

    fn feed(assembler: &mut Assembler, log: &[Copied], skip: impl Fn(usize, Stream) -> bool, made: &mut Vec<Made>) {
        for (index, (stream, time, log)) in log.iter().enumerate() {
            if !skip(index, *stream) {
                let entry = Entry { stream: *stream, time: *time, log };
                assembler.entry(&entry, place(index), place(index).offset + 100, &mut keep(made));
            }
        }
    }

    fn lines(log: &[(Stream, i64, &[u8])]) -> Vec<(i64, usize, u32)> {
        let log: Vec<_> = log.iter().map(|(stream, time, log)| (*stream, *time, log.to_vec())).collect();
        let mut assembler = Assembler::new(&container(), MAX);
        let mut made = Vec::new();
        feed(&mut assembler, &log, |_, _| false, &mut made);
        assembler.end(&mut keep(&mut made));
        made.iter().map(|line| (line.1, line.2.len(), line.5)).collect()
    }

    #[test]
    fn what_is_a_line() {
        use Stream::{Stderr, Stdout};
        let part = [b'x'; PART_BYTES];
        let more = [b'x'; PART_BYTES + 2];
        let fewer = [b'x'; PART_BYTES - 1];
        // Whole, empty, and with a carriage return.
        assert_eq!(lines(&[(Stdout, 1, b"ab\n"), (Stdout, 2, b"\n"), (Stdout, 2, b"\r\n")]), [(1, 2, 1), (2, 0, 1), (2, 1, 1)]);
        // Parts and the rest, with the other stream between them.
        assert_eq!(lines(&[(Stdout, 1, &part), (Stderr, 1, b"b\n"), (Stdout, 1, b"a\n")]), [(1, 1, 1), (1, PART_BYTES + 1, 2)]);
        // Exactly a part long.
        assert_eq!(lines(&[(Stdout, 1, &part), (Stdout, 1, b"\n")]), [(1, PART_BYTES, 2)]);
        // Parts that grew when they were stored, and a rest without line feed.
        assert_eq!(lines(&[(Stdout, 1, &more), (Stdout, 1, &more), (Stdout, 1, b"a")]), [(1, 2 * PART_BYTES + 5, 3)]);
        // The last words of a process are not glued to the first of the next, even at the same time.
        assert_eq!(lines(&[(Stdout, 1, &fewer), (Stdout, 1, b"a\n")]), [(1, PART_BYTES - 1, 1), (1, 1, 1)]);
        assert_eq!(lines(&[(Stdout, 1, &part), (Stdout, 2, b"a\n")]), [(1, PART_BYTES, 1), (2, 1, 1)]);
        // And the container's last words.
        assert_eq!(lines(&[(Stdout, 1, &part), (Stderr, 1, &part)]), [(1, PART_BYTES, 1), (1, PART_BYTES, 1)]);
        assert_eq!(lines(&[(Stdout, 1, b"")]), [(1, 0, 1)]);
    }

    #[test]
    fn what_is_a_group() {
        use Stream::{Stderr, Stdout};
        const SECOND: i64 = 1_000_000_000;
        let grouping = Grouping { rule: Rule::parse("^[A-Z]").unwrap(), gap: Duration::from_secs(1) };
        let groups = |log: &[(Stream, i64, &str)], max: usize| {
            let log: Vec<Copied> = log.iter().map(|(stream, time, log)| (*stream, *time, log.as_bytes().to_vec())).collect();
            let mut assembler = Assembler::new(&container(), max);
            assembler.group(Some(grouping.clone()), &mut |_| ());
            let mut made = Vec::new();
            feed(&mut assembler, &log, |_, _| false, &mut made);
            let waits = assembler.held().map(|held| held.is_some());
            let text = made.into_iter().map(|line| String::from_utf8(line.2).unwrap()).collect::<Vec<_>>().join("|");
            (text, waits)
        };
        // A line that starts another; the streams apart.
        let log = [(Stdout, 1, "A\n"), (Stderr, 1, "B\n"), (Stdout, 2, "a\n"), (Stderr, 2, "b\n"), (Stdout, 3, "\n"), (Stdout, 4, "C\n")];
        assert_eq!(groups(&log, MAX), ("A\na\n".into(), [true, true]));
        // A gap in Docker's time, and one exactly as long as it may be; a clock that is set back.
        let log = [(Stdout, 0, "A\n"), (Stdout, SECOND, "a\n"), (Stdout, 2 * SECOND + 1, "b\n"), (Stdout, 1, "c\n")];
        assert_eq!(groups(&log, MAX), ("A\na|b".into(), [true, false]));
        // The other stream is later by more than the gap and a second.
        let log = [(Stdout, 0, "A\n"), (Stderr, 2 * SECOND, "B\n"), (Stdout, 1, "a\n"), (Stderr, 2 * SECOND + 2, "b\n")];
        assert_eq!(groups(&log, MAX), ("A\na".into(), [false, true]));
        // Bounds in bytes and in lines, and a line that is too long by itself.
        let log = [(Stdout, 0, "abc\n"), (Stdout, 0, "def\n"), (Stdout, 0, "gh\n"), (Stdout, 0, "ijklmnopq\n"), (Stdout, 0, "x\n")];
        assert_eq!(groups(&log, 8), ("abc\ndef|gh|ijklmnop".into(), [true, false]));
        let log: Vec<_> = (0..1001).map(|_| (Stdout, 0, "x\n")).collect();
        assert_eq!(groups(&log, MAX), (format!("{0}|{0}", ["x"; 500].join("\n")), [true, false]));
    }

    #[test]
    fn a_group_of_one_line_is_that_line() {
        let log: Vec<Copied> =
            vec![(Stream::Stdout, 1, b"a\n".to_vec()), (Stream::Stdout, 1, b"a\n".to_vec()), (Stream::Stdout, 1, vec![b'x'; MAX])];
        let [mut alone, mut grouped] = [Vec::new(), Vec::new()];
        let mut assembler = Assembler::new(&container(), MAX / 2);
        feed(&mut assembler, &log, |_, _| false, &mut alone);
        assembler.end(&mut keep(&mut alone));
        let mut assembler = Assembler::new(&container(), MAX / 2);
        assembler.group(Some(Grouping { rule: Rule::Java, gap: Duration::from_secs(1) }), &mut |_| ());
        feed(&mut assembler, &log, |_, _| false, &mut grouped);
        assembler.end(&mut keep(&mut grouped));
        assert_eq!((alone.len(), alone), (3, grouped));
    }

    #[test]
    fn identical_lines_have_their_own_ids() {
        let log: Vec<_> =
            [(1, "a\n"), (1, "b\n"), (1, "a\n"), (2, "a\n"), (2, "a")].map(|(time, log)| (Stream::Stdout, time, log.into())).into();
        let mut made = Vec::new();
        let mut assembler = Assembler::new(&container(), MAX);
        feed(&mut assembler, &log, |_, _| false, &mut made);
        let mut scope = IdScope::new(&container());
        let expected = [(1, "a", 0), (1, "b", 0), (1, "a", 1), (2, "a", 0), (2, "a", 1)]
            .map(|(time, bytes, k)| scope.id(Stream::Stdout, time, xxh3_128(bytes.as_bytes()), k));
        assert_eq!(made.iter().map(|line| line.3).collect::<Vec<_>>(), expected);
        assert_eq!(assembler.runs()[0], Some(Run { time: 2, seen: vec![(xxh3_128(b"a"), 2)] }));
    }

    #[test]
    fn a_run_is_bounded() {
        let mut run = Run { time: 0, seen: Vec::new() };
        for hash in 0..=RUN_LINES as u128 {
            assert_eq!(run.count(0, hash), 0);
        }
        assert_eq!(run.seen.len(), RUN_LINES);
        assert_eq!((run.count(0, 1), run.count(0, 0)), (1, 0));
    }

    #[test]
    fn a_run_is_kept_as_json() {
        let run = Run { time: -5, seen: vec![(u128::MAX, 1), (1, 7)] };
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(text, r#"{"time":-5,"seen":[["ffffffffffffffffffffffffffffffff",1],["00000000000000000000000000000001",7]]}"#);
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
        assert!(serde_json::from_str::<Run>(r#"{"time":1,"seen":[["x",1]]}"#).is_err());
    }

    #[test]
    fn a_cut_spares_characters() {
        assert_eq!(within(b"abc", 3, 3), (&b"abc"[..], None));
        assert_eq!(within(b"abcd", 9, 3), (&b"abc"[..], Some(9)));
        for (text, max, kept) in [("aü", 2, "a"), ("aüx", 3, "aü"), ("a€", 3, "a"), ("a€x", 4, "a€"), ("😀", 3, ""), ("😀x", 4, "😀")]
        {
            assert_eq!(within(text.as_bytes(), 99, max).0, kept.as_bytes(), "{text} {max}");
        }
        assert_eq!(within(&[0x80; 9], 9, 7).0, [0x80; 7]);
    }

    #[derive(Debug, Clone)]
    struct Written {
        stream: Stream,
        later: i64,
        fill: u8,
        length: usize,
        ended: bool,
    }

    fn written() -> impl Strategy<Value = Written> {
        let length = prop_oneof![
            4 => 0..4usize,
            1 => (1..4usize, 0..3usize).prop_map(|(parts, around)| parts * PART_BYTES + around - 1),
        ];
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        (stream, 0..2i64, b'a'..b'c', length, proptest::bool::weighted(0.8)).prop_map(|(stream, later, fill, length, ended)| Written {
            stream,
            later,
            fill,
            length,
            ended,
        })
    }

    /// What Docker's copier makes of it: for each stream parts of 16 KiB with the time of the first, in some order between the streams. And the
    /// lines that it should become.
    fn copied(lines: &[Written], mut order: u64) -> (Vec<Copied>, Vec<Made>) {
        let mut queues = [VecDeque::new(), VecDeque::new()];
        let (mut times, mut glue) = ([1_i64; 2], [false; 2]);
        let mut counts = HashMap::new();
        let mut scope = IdScope::new(&container());
        let mut expected = Vec::new();
        for line in lines.iter().filter(|line| line.ended || line.length > 0) {
            let of = line.stream.index();
            // Behind a last part without line feed comes another start of the process, which is later.
            times[of] += line.later.max(glue[of].into());
            glue[of] = !line.ended && line.length % PART_BYTES == 0;
            let bytes = vec![line.fill; line.length];
            let mut parts: Vec<Vec<u8>> = bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
            if line.ended {
                if line.length % PART_BYTES == 0 {
                    parts.push(Vec::new());
                }
                parts.last_mut().unwrap().push(b'\n');
            }
            let k = counts.entry((of, times[of], bytes.clone())).or_insert(0);
            let id = scope.id(line.stream, times[of], xxh3_128(&bytes), *k);
            *k += 1;
            let cut = (bytes.len() > MAX).then_some(bytes.len() as u64);
            let kept = bytes[..bytes.len().min(MAX)].to_vec();
            expected.push((line.stream, times[of], kept, id, cut, u32::try_from(parts.len()).unwrap()));
            queues[of].extend(parts.into_iter().map(|part| (line.stream, times[of], part)));
        }
        let mut log = Vec::new();
        while queues.iter().any(|queue| !queue.is_empty()) {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            log.extend(queues[usize::from(order >> 63 == 1)].pop_front());
        }
        (log, expected)
    }

    /// The groups that lines should become: one stream after the other, each line looked at once.
    fn grouped(lines: &[Made], grouping: &Grouping, max: usize) -> Vec<Made> {
        let (mut made, mut counts, mut scope) = (Vec::new(), HashMap::new(), IdScope::new(&container()));
        for stream in Stream::ALL {
            let mut groups: Vec<Vec<&Made>> = Vec::new();
            let (mut state, mut scratch) = (None, Vec::new());
            for line in lines.iter().filter(|line| line.0 == stream) {
                let length = line.4.unwrap_or(line.2.len() as u64);
                if let Some(group) = groups.last_mut() {
                    let whole: u64 = group.iter().map(|line| line.4.unwrap_or(line.2.len() as u64) + 1).sum();
                    let gap = line.1 - group.last().unwrap().1;
                    let fits = whole + length <= max as u64 && group.len() < 500 && gap <= i64::try_from(grouping.gap.as_nanos()).unwrap();
                    state = state.filter(|_| fits).and_then(|state| grouping.rule.next(state, &line.2, &mut scratch));
                }
                match (state, groups.last_mut()) {
                    (Some(_), Some(group)) => group.push(line),
                    _ => {
                        state = Some(grouping.rule.first(&line.2, &mut scratch));
                        groups.push(vec![line]);
                    }
                }
            }
            for group in groups {
                let bytes = group.iter().map(|line| line.2.clone()).collect::<Vec<_>>().join(&b'\n');
                let length = group[0].4.unwrap_or(bytes.len() as u64);
                // Of a line that is cut all bytes are alike.
                let raw = if group[0].4.is_some() { vec![bytes[0]; usize::try_from(length).unwrap()] } else { bytes.clone() };
                let k = counts.entry((stream, group[0].1, raw.clone())).or_insert(0);
                let id = scope.id(stream, group[0].1, xxh3_128(&raw), *k);
                *k += 1;
                made.push((stream, group[0].1, bytes, id, group[0].4, group.iter().map(|line| line.5).sum()));
            }
        }
        made
    }

    fn of_stream(made: &[Made], stream: Stream) -> Vec<Made> {
        made.iter().filter(|line| line.0 == stream).cloned().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn lines_come_out_whole_over_any_restart(lines in proptest::collection::vec(written(), 0..24), order: u64, cuts in proptest::collection::vec(0..64usize, 0..4)) {
            let (log, expected) = copied(&lines, order);
            let mut made = Vec::new();
            let mut whole = Assembler::new(&container(), MAX);
            feed(&mut whole, &log, |_, _| false, &mut made);
            whole.end(&mut keep(&mut made));
            for stream in Stream::ALL {
                prop_assert_eq!(of_stream(&made, stream), of_stream(&expected, stream));
            }

            // The same with restarts, each from what a cursor would hold: places and runs.
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (log.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(log.len());
            let index_of = |place: Place| usize::try_from(place.file.first_time).unwrap() * 7 + usize::try_from(place.offset / 100).unwrap();
            let mut again = Vec::new();
            let mut from = [0, 0];
            let mut assembler = Assembler::new(&container(), MAX);
            for cut in &cuts {
                let runs: [Option<Run>; 2] = serde_json::from_str(&serde_json::to_string(&assembler.runs()).unwrap()).unwrap();
                assembler = Assembler::resume(&container(), MAX, runs);
                feed(&mut assembler, &log, |index, stream| index < from[stream.index()] || index >= *cut, &mut again);
                for stream in Stream::ALL {
                    if let Some(place) = assembler.resume_at()[stream.index()] {
                        from[stream.index()] = from[stream.index()].max(index_of(place));
                    }
                }
            }
            assembler.end(&mut keep(&mut again));
            for stream in Stream::ALL {
                prop_assert_eq!(of_stream(&again, stream), of_stream(&expected, stream));
            }
        }

        #[test]
        fn groups_come_out_whole_over_any_restart(
            lines in proptest::collection::vec(written(), 0..40), order: u64, cuts in proptest::collection::vec(0..64usize, 0..6), gap in 0..3u64, max in 1..40u64,
        ) {
            let max = usize::try_from(max).unwrap() * 1000;
            let grouping = Grouping { rule: Rule::parse("^(a|bb)").unwrap(), gap: Duration::from_nanos(gap) };
            let group = |assembler: &mut Assembler| assembler.group(Some(grouping.clone()), &mut |_| panic!("nothing waits"));
            let (log, _) = copied(&lines, order);
            let mut single = Vec::new();
            let mut assembler = Assembler::new(&container(), max);
            feed(&mut assembler, &log, |_, _| false, &mut single);
            assembler.end(&mut keep(&mut single));
            let expected = grouped(&single, &grouping, max);

            let mut made = Vec::new();
            let mut assembler = Assembler::new(&container(), max);
            group(&mut assembler);
            feed(&mut assembler, &log, |_, _| false, &mut made);
            assembler.end(&mut keep(&mut made));
            for stream in Stream::ALL {
                prop_assert_eq!(of_stream(&made, stream), of_stream(&expected, stream));
            }

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (log.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(log.len());
            let index_of = |place: Place| usize::try_from(place.file.first_time).unwrap() * 7 + usize::try_from(place.offset / 100).unwrap();
            let mut again = Vec::new();
            let mut from = [0, 0];
            let mut assembler = Assembler::new(&container(), max);
            for cut in &cuts {
                assembler = Assembler::resume(&container(), max, assembler.runs());
                group(&mut assembler);
                feed(&mut assembler, &log, |index, stream| index < from[stream.index()] || index >= *cut, &mut again);
                for stream in Stream::ALL {
                    if let Some(place) = assembler.resume_at()[stream.index()] {
                        from[stream.index()] = from[stream.index()].max(index_of(place));
                    }
                }
            }
            assembler.end(&mut keep(&mut again));
            for stream in Stream::ALL {
                prop_assert_eq!(of_stream(&again, stream), of_stream(&expected, stream));
            }
        }
    }
}
