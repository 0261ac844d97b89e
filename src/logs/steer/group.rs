//! Groups of lines that are one record, by stream.
//!
//! A group ends at a line that starts another record, at a gap in Docker's time, and at a bound in lines and bytes; also where the other stream is so much
//! later that nothing of this one can follow within the gap, so that a stream that has gone quiet does not hold the cursor. All of that follows from
//! the lines. Live, who reads ends it when nothing has come for the gap and a second.
//!
//! What is known of a group begins with its first line. So a replay that begins there, where [`Groups::held`] says, makes the same groups.

use std::time::Duration;

use super::multiline::{Rule, State};
use crate::logs::{Place, Stream};

/// The most lines of a group.
pub const MOST_LINES: u32 = 500;

/// How much later than Docker's time a line may come to its file, and how far the streams may be apart in it.
pub const SLACK: Duration = Duration::from_secs(1);

/// What a buffer keeps of its memory from group to group.
const KEPT_BYTES: usize = 64 << 10;

/// What makes groups: the rule of a container, and the longest gap in Docker's time between two lines of one group.
#[derive(Debug, Clone)]
pub struct Grouping {
    /// The rule.
    pub rule: Rule,
    /// The gap.
    pub gap: Duration,
}

/// A whole line, on its way into a group.
pub(in crate::logs) struct Whole<'a> {
    pub(in crate::logs) start: Place,
    pub(in crate::logs) time: i64,
    /// Without the line feed, and not beyond the bound of a record.
    pub(in crate::logs) bytes: &'a [u8],
    /// How long it is.
    pub(in crate::logs) length: u64,
    /// The hash of all of it, where that is more than the bytes.
    pub(in crate::logs) hash: Option<u128>,
    pub(in crate::logs) parts: u32,
}

/// Lines that are one record.
pub(in crate::logs) struct Group {
    pub(in crate::logs) start: Place,
    pub(in crate::logs) time: i64,
    /// The lines, with a line feed between each two.
    pub(in crate::logs) bytes: Vec<u8>,
    pub(in crate::logs) length: u64,
    /// The hash of all of it, where that is more than the bytes.
    pub(in crate::logs) hash: Option<u128>,
    pub(in crate::logs) parts: u32,
    pub(in crate::logs) lines: u32,
    last: i64,
    state: State,
}

/// The groups of one container that are not sent.
pub(in crate::logs) struct Groups {
    grouping: Grouping,
    gap: i64,
    slack: i64,
    max: u64,
    streams: [Option<Group>; 2],
    spare: Vec<u8>,
    scratch: Vec<u8>,
}

impl Groups {
    /// With records of at most `max` bytes.
    pub(in crate::logs) fn new(grouping: Grouping, max: usize) -> Self {
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let (gap, slack) = (nanoseconds(grouping.gap), nanoseconds(SLACK));
        Self { grouping, gap, slack, max: max as u64, streams: [None, None], spare: Vec::new(), scratch: Vec::new() }
    }

    pub(in crate::logs) const fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// Where the group of a stream begins.
    pub(in crate::logs) fn held(&self, stream: Stream) -> Option<Place> {
        self.streams.get(stream.index())?.as_ref().map(|group| group.start)
    }

    /// Whether a line of the other stream at `time` says that nothing of this one can belong to its group any more.
    pub(in crate::logs) fn is_stale(&self, stream: Stream, time: i64) -> bool {
        let group = self.streams.get(stream.index()).and_then(Option::as_ref);
        group.is_some_and(|group| time.saturating_sub(group.last) > self.gap.saturating_add(self.slack))
    }

    /// Whether the group of a stream ends before this line.
    pub(in crate::logs) fn ends_before(&mut self, stream: Stream, line: &Whole<'_>) -> bool {
        let Some(group) = self.streams.get_mut(stream.index()).and_then(Option::as_mut) else { return false };
        // A clock that was set back is a gap too.
        let is_gap = line.time < group.last || line.time.saturating_sub(group.last) > self.gap;
        if is_gap || group.length + 1 + line.length > self.max {
            return true;
        }
        match self.grouping.rule.next(group.state, line.bytes, &mut self.scratch) {
            Some(state) => {
                group.state = state;
                false
            }
            None => true,
        }
    }

    /// Adds a line to the group of its stream, or begins one. Whether the group takes no more.
    pub(in crate::logs) fn add(&mut self, stream: Stream, line: &Whole<'_>) -> bool {
        let Some(place) = self.streams.get_mut(stream.index()) else { return false };
        let group = match place {
            Some(group) => {
                group.bytes.push(b'\n');
                group.length += 1;
                group
            }
            None => place.insert(Group {
                start: line.start,
                time: line.time,
                bytes: std::mem::take(&mut self.spare),
                length: 0,
                hash: line.hash,
                parts: 0,
                lines: 0,
                last: line.time,
                state: self.grouping.rule.first(line.bytes, &mut self.scratch),
            }),
        };
        group.bytes.extend_from_slice(line.bytes);
        group.length += line.length;
        group.parts = group.parts.saturating_add(line.parts);
        group.lines += 1;
        group.last = line.time;
        group.lines >= MOST_LINES || group.length >= self.max
    }

    /// The group of a stream, which it then has no more.
    pub(in crate::logs) fn take(&mut self, stream: Stream) -> Option<Group> {
        self.streams.get_mut(stream.index())?.take()
    }

    /// Takes back the memory of a group that was sent.
    pub(in crate::logs) fn reuse(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        self.spare = bytes;
    }
}
