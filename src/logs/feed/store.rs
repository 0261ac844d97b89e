//! What was taken of one container's log from the engine's API: files of the form that the engine's own json-file driver writes.
//!
//! ```text
//! <state>/feed/<container id>/<id>-json.log, .1, .2, ...     the entries, the newest file without a number
//! <state>/feed/<container id>/reached.json                   how far each stream was before the newest file
//! <state>/feed/<container id>/config.v2.json, hostconfig.json  who wrote it, in the engine's form
//! ```
//!
//! So everything behind it is what it is for files: many routes with places of their own, ids, cursors, restarts. An entry is taken once: within a stream the
//! engine's times only grow, so one that is older than the last was taken before; of those with the very time of the last as many are left out as were taken
//! (20.10 repeats blocks of lines when it rotates under a follower, and `since` includes its time).

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::docker::LogSubject;
use crate::logs::reader::json_file::{self, Entry};
use crate::logs::time::write_rfc3339;
use crate::logs::{ContainerId, Fingerprint, Stream};

/// The size at which another file is begun.
const FILE_BYTES: u64 = 1 << 20;
/// How many entries with one time are remembered: a line of so many parts has a gigabyte.
const MOST_ALIKE: usize = 1 << 16;
/// How much earlier than the newest entry one of the other stream may come: streams take their times before they queue.
const SKEW: i64 = 5_000_000_000;
const REACHED: &str = "reached.json";

/// How far a stream was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    /// The time of the last entry.
    time: i64,
    /// The hashes of the entries that have it.
    seen: Vec<u64>,
    /// Of a log that is read again: those of them that have not come again.
    #[serde(skip)]
    due: Option<Vec<u64>>,
    /// One of them ended a line. The parts of a line have one time, and no two lines of a stream have.
    #[serde(default)]
    is_whole: bool,
    /// The step of the clock that was followed last.
    #[serde(skip)]
    stepped: i64,
}

impl Reached {
    fn of(entry: &Entry<'_>, hash: u64) -> Self {
        Self { time: entry.time, seen: vec![hash], is_whole: entry.log.last() == Some(&b'\n'), ..Self::default() }
    }

    /// Whether an entry is new. Where a stream repeats itself, it may begin with the very last line.
    fn take(&mut self, entry: &Entry<'_>, hash: u64, floor: i64, repeats: bool) -> bool {
        let (time, is_whole) = (entry.time, entry.log.last() == Some(&b'\n'));
        let is_stepped = floor != self.stepped && time >= floor;
        if time < self.time && !is_stepped {
            self.due = Some(self.seen.clone());
            return false;
        }
        if time != self.time {
            let stepped = if time < self.time { floor } else { self.stepped };
            *self = Self { time, seen: vec![hash], due: None, is_whole, stepped };
            return true;
        }
        if let Some(at) = self.due.as_ref().and_then(|due| due.iter().position(|known| *known == hash)) {
            self.due.as_mut().map(|due| due.swap_remove(at));
            return false;
        }
        if repeats && self.is_whole && self.seen.contains(&hash) {
            return false;
        }
        if self.seen.len() < MOST_ALIKE {
            self.seen.push(hash);
        }
        self.is_whole |= is_whole;
        true
    }
}

/// The files of one container.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    id: ContainerId,
    live: File,
    size: u64,
    /// What the files are recognised by, the newest first; none for one that is empty.
    files: VecDeque<Option<Fingerprint>>,
    streams: [Option<Reached>; 2],
    /// Of a log that is read again: the stream whose last entry is the newest, until that has come again. What is new comes behind it.
    anchor: Option<usize>,
    /// Whether what is new is taken although the last entry did not come again.
    takes_gaps: bool,
    /// Something new came before the last entry did.
    is_gap: bool,
    /// Entries that are not written yet.
    buffer: Vec<u8>,
    is_line_whole: bool,
    /// How many entries came that were new, and that were there already.
    pub(super) appended: u64,
    pub(super) repeated: u64,
}

impl Store {
    /// Opens the files, or begins them. The rest of an entry that was not written whole is cut off.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(root: &Path, id: &ContainerId) -> io::Result<Self> {
        let dir = root.join(id.as_str());
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut count = 0;
        loop {
            match fs::metadata(path(&dir, id, count)) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        let mut streams: [Option<Reached>; 2] = [None, None];
        let mut files = VecDeque::new();
        let mut size = 0;
        for number in (0..count).rev() {
            let content = fs::read(path(&dir, id, number))?;
            let (whole, fingerprint) = replay(&content, &mut streams);
            files.push_front(fingerprint);
            if number == 0 {
                size = whole as u64;
            }
        }
        let before = fs::read(dir.join(REACHED)).ok().and_then(|text| serde_json::from_slice::<[Option<Reached>; 2]>(&text).ok());
        for (stream, before) in streams.iter_mut().zip(before.unwrap_or_default()) {
            if stream.is_none() {
                *stream = before;
            }
        }
        let live = create(&path(&dir, id, 0))?;
        live.set_len(size)?;
        if files.is_empty() {
            files.push_front(None);
        }
        Ok(Self {
            dir,
            id: id.clone(),
            live,
            size,
            files,
            streams,
            anchor: None,
            takes_gaps: false,
            is_gap: false,
            buffer: Vec::new(),
            is_line_whole: true,
            appended: 0,
            repeated: 0,
        })
    }

    /// Writes who it is, in the engine's form, for the table of files.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn describe(&self, subject: &LogSubject, running: bool) -> io::Result<()> {
        let environment: Vec<String> = subject.logspout.iter().map(|value| format!("LOGSPOUT={value}")).collect();
        let config = serde_json::json!({
            "Name": subject.name,
            "State": { "Running": running },
            "Config": { "Image": subject.image, "Labels": subject.labels, "Tty": subject.tty, "Env": environment },
        });
        let host = serde_json::json!({ "LogConfig": { "Type": "json-file", "Config": { "max-file": "1000000" } } });
        for (name, value) in [("hostconfig.json", host), ("config.v2.json", config)] {
            replace(&self.dir.join(name), &serde_json::to_vec(&value)?)?;
        }
        Ok(())
    }

    /// Whether nothing was ever taken.
    pub(super) fn is_new(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }

    /// From which time on the engine is to be asked, so that nothing is missed: inclusive.
    pub(super) fn since(&self) -> Option<i64> {
        let newest = self.streams.iter().flatten().map(|reached| reached.time).max()?;
        let oldest = self.streams.iter().map(|reached| reached.as_ref().map_or(i64::MIN, |reached| reached.time)).min()?;
        Some(oldest.max(newest.saturating_sub(SKEW)))
    }

    /// The engine is asked anew: what was taken of the last time comes again, before anything new. Where it does not, the engine has left something out (20.10
    /// passes over compressed files), and all is to be asked for; or, with `takes_gaps`, it has thrown it away.
    pub(super) fn reopen(&mut self, takes_gaps: bool) {
        let newest = |(at, reached): (usize, &Option<Reached>)| Some((reached.as_ref()?.time, at));
        self.anchor = self.streams.iter().enumerate().filter_map(newest).max().map(|(_, at)| at);
        self.takes_gaps = takes_gaps;
        self.is_gap = false;
        for reached in self.streams.iter_mut().flatten() {
            reached.due = Some(reached.seen.clone());
        }
    }

    /// Takes an entry if it is new. `repeats` says whether it comes of a stream that may give the same again. One that is not older than `floor` is, whatever came before: the clock was set back to it.
    pub(super) fn append(&mut self, entry: &Entry<'_>, floor: i64, repeats: bool) {
        let hash = xxh3_64(entry.log);
        if self.is_before_anchor(entry, hash) {
            return;
        }
        let is_new = match self.streams.get_mut(entry.stream.index()) {
            Some(Some(reached)) => reached.take(entry, hash, floor, repeats),
            Some(none) => {
                *none = Some(Reached::of(entry, hash));
                true
            }
            None => false,
        };
        if !is_new {
            self.repeated += 1;
            return;
        }
        self.appended += 1;
        let start = self.buffer.len();
        encode(entry, &mut self.buffer);
        if let Some(first) = self.files.front_mut()
            && first.is_none()
        {
            let line = self.buffer.get(start..self.buffer.len().saturating_sub(1)).unwrap_or_default();
            *first = Some(Fingerprint { first_time: entry.time, hash: xxh3_64(line) });
        }
        self.is_line_whole = entry.log.last() == Some(&b'\n');
    }

    /// Whether something is missing before this entry, so that it is not taken.
    fn is_before_anchor(&mut self, entry: &Entry<'_>, hash: u64) -> bool {
        let Some(anchor) = self.anchor else { return self.is_gap && !self.takes_gaps };
        let of = entry.stream.index();
        let reached = self.streams.get(of).and_then(Option::as_ref);
        let is_due = |reached: &Reached| reached.time == entry.time && reached.due.as_ref().is_some_and(|due| due.contains(&hash));
        let is_old = reached.is_some_and(|reached| entry.time < reached.time || is_due(reached));
        if is_old {
            if of == anchor && reached.is_some_and(is_due) {
                self.anchor = None;
            }
            return false;
        }
        self.anchor = None;
        self.is_gap = true;
        !self.takes_gaps
    }

    /// Whether something new came before the last entry did: it was not taken, unless gaps are.
    pub(super) const fn is_gap(&self) -> bool {
        self.is_gap
    }

    /// How many bytes the next flush writes.
    pub(super) fn unwritten(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Writes what was taken, and begins another file when this one is full.
    ///
    /// # Errors
    /// What the system says: then what was taken since the last call is lost here, and has to be asked for again by another store.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.live.write_all(&self.buffer) {
            self.live.set_len(self.size)?;
            return Err(error);
        }
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        if self.size >= FILE_BYTES && (self.is_line_whole || self.size >= 16 * FILE_BYTES) {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        replace(&self.dir.join(REACHED), &serde_json::to_vec(&self.streams)?)?;
        for number in (0..self.files.len()).rev() {
            fs::rename(path(&self.dir, &self.id, number), path(&self.dir, &self.id, number + 1))?;
        }
        self.live = create(&path(&self.dir, &self.id, 0))?;
        self.size = 0;
        self.files.push_front(None);
        Ok(())
    }

    /// About how many bytes the files have that were not removed.
    pub(super) fn unpruned(&self) -> u64 {
        (self.files.len() as u64).saturating_sub(1) * FILE_BYTES + self.size
    }

    /// Removes the oldest files as long as `is_done` with them; never the newest.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn prune(&mut self, is_done: impl Fn(Fingerprint) -> bool) -> io::Result<()> {
        while self.files.len() > 1 && self.files.back().is_some_and(|file| file.is_none_or(&is_done)) {
            fs::remove_file(path(&self.dir, &self.id, self.files.len() - 1))?;
            self.files.pop_back();
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) fn remove(self) {
        // What cannot be removed now is tried again by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn path(dir: &Path, id: &ContainerId, number: usize) -> PathBuf {
    let id = id.as_str();
    dir.join(if number == 0 { format!("{id}-json.log") } else { format!("{id}-json.log.{number}") })
}

/// Logs are nobody else's business.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(beside, path)
}

/// Goes through a file as it was written: how many of its bytes are whole entries, and what it is recognised by.
fn replay(content: &[u8], streams: &mut [Option<Reached>; 2]) -> (usize, Option<Fingerprint>) {
    let mut scratch = Vec::new();
    let (mut whole, mut first) = (0, None);
    for end in memchr::memchr_iter(b'\n', content) {
        let line = content.get(whole..end).unwrap_or_default();
        let Ok(entry) = json_file::parse(line, &mut scratch) else { break };
        let hash = xxh3_64(entry.log);
        match streams.get_mut(entry.stream.index()) {
            Some(Some(reached)) if reached.time == entry.time => {
                reached.seen.push(hash);
                reached.is_whole |= entry.log.last() == Some(&b'\n');
            }
            Some(reached) => *reached = Some(Reached::of(&entry, hash)),
            None => {}
        }
        first.get_or_insert(Fingerprint { first_time: entry.time, hash: xxh3_64(line) });
        whole = end + 1;
    }
    (whole, first)
}

/// An entry as the engine's driver writes it, but that bytes which are no UTF-8 stay as they are.
fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"");
    for byte in entry.log {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x00..=0x1f => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 0xf].iter().filter_map(|digit| DIGITS.get(usize::from(*digit))));
            }
            _ => out.push(*byte),
        }
    }
    out.extend_from_slice(match entry.stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\",\"time\":\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\",\"time\":\"",
    });
    write_rfc3339(entry.time, out);
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: i64 = i64::MAX;

    fn id() -> ContainerId {
        ContainerId::new(&"ab".repeat(32)).unwrap()
    }

    fn lines(root: &Path) -> Vec<(Stream, i64, Vec<u8>)> {
        let dir = root.join(id().as_str());
        let mut read = Vec::new();
        for number in (0..100).rev() {
            for line in fs::read(path(&dir, &id(), number)).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                let mut scratch = Vec::new();
                let entry = json_file::parse(line, &mut scratch).unwrap();
                read.push((entry.stream, entry.time, entry.log.to_vec()));
            }
        }
        read
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An engine that repeats blocks, streams that are asked for anew, and stores that are opened anew: each entry once, in order.
        #[test]
        fn each_entry_is_taken_once(
            written in prop::collection::vec((any::<bool>(), 0..3i64, prop::collection::vec(any::<u8>(), 0..4)), 1..60),
            deeds in prop::collection::vec((0..60usize, 0..30usize, 0..3u8), 0..8),
        ) {
            let root = tempfile::tempdir().unwrap();
            let mut times = [1_790_000_000_000_000_000i64; 2];
            let log: Vec<(Stream, i64, Vec<u8>)> = written.into_iter().map(|(is_error, later, bytes)| {
                let stream = if is_error { Stream::Stderr } else { Stream::Stdout };
                // Several entries with one time: parts of a line. Across streams times do not agree.
                times[stream.index()] += later * 1000;
                (stream, times[stream.index()], bytes)
            }).collect();
            let mut store = Store::open(root.path(), &id()).unwrap();
            let mut from = 0;
            for (to, back, deed) in deeds.into_iter().map(|(to, back, deed)| (to.min(log.len()), back, deed)).chain([(log.len(), 0, 1)]) {
                if to < from {
                    continue;
                }
                let feed = |store: &mut Store, log: &[(Stream, i64, Vec<u8>)]| {
                    for (stream, time, bytes) in log {
                        store.append(&Entry { stream: *stream, time: *time, log: bytes }, NONE, false);
                    }
                    store.flush().unwrap();
                };
                feed(&mut store, &log[from..to]);
                from = to;
                match deed {
                    0 => {
                        // A block again, from where each stream has an older entry in it.
                        let begin = log[..to].iter().take(to.saturating_sub(back)).count();
                        let older = |stream: Stream| {
                            let last = log[..to].iter().rev().find(|entry| entry.0 == stream).map(|entry| entry.1);
                            let first = log[begin..to].iter().find(|entry| entry.0 == stream).map(|entry| entry.1);
                            first.is_none() || first < last
                        };
                        if older(Stream::Stdout) && older(Stream::Stderr) {
                            // All of the first entries' time comes, as it does from the beginning of a file.
                            let times = |stream: Stream| log[begin..to].iter().find(|entry| entry.0 == stream).map(|entry| entry.1);
                            let (out, error) = (times(Stream::Stdout), times(Stream::Stderr));
                            let again: Vec<_> = log[..to].iter()
                                .filter(|entry| Some(entry.1) >= if entry.0 == Stream::Stdout { out.or(Some(i64::MAX)) } else { error.or(Some(i64::MAX)) })
                                .cloned().collect();
                            feed(&mut store, &again);
                        }
                    }
                    1 => {
                        // Asked anew, maybe by another run.
                        store = Store::open(root.path(), &id()).unwrap();
                        store.reopen(false);
                        let since = store.since();
                        let again: Vec<_> = log[..to].iter().filter(|entry| since.is_none_or(|since| entry.1 >= since)).cloned().collect();
                        feed(&mut store, &again);
                    }
                    _ => {
                        store.rotate().unwrap();
                    }
                }
            }
            prop_assert_eq!(lines(root.path()), log);
        }
    }

    #[test]
    fn half_an_entry_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        let mut store = Store::open(root.path(), &id()).unwrap();
        assert!(store.is_new());
        store.append(&Entry { stream: Stream::Stdout, time: 7_000_000_000_000_000_000, log: b"\xff\"\\\n" }, NONE, false);
        store.flush().unwrap();
        let live = path(&store.dir, &store.id, 0);
        let whole = fs::read(&live).unwrap();
        drop(store);
        fs::write(&live, [&whole[..], &whole[..20]].concat()).unwrap();
        let store = Store::open(root.path(), &id()).unwrap();
        assert_eq!((fs::read(&live).unwrap(), store.since()), (whole, Some(7_000_000_000_000_000_000 - SKEW)));
        assert_eq!(lines(root.path()), [(Stream::Stdout, 7_000_000_000_000_000_000, b"\xff\"\\\n".to_vec())]);
    }

    #[test]
    fn files_go_when_they_are_done_with_and_what_was_reached_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut store = Store::open(root.path(), &id()).unwrap();
        let entry = |time| Entry { stream: Stream::Stderr, time, log: b"x\n" };
        for time in 1..4 {
            store.append(&entry(time), NONE, false);
            store.flush().unwrap();
            store.rotate().unwrap();
        }
        assert_eq!(store.files.len(), 4);
        store.prune(|file| file.first_time < 3).unwrap();
        assert_eq!(lines(root.path()).len(), 1);
        store.prune(|_| true).unwrap();
        assert_eq!(lines(root.path()), []);
        let mut store = Store::open(root.path(), &id()).unwrap();
        assert!(!store.is_new());
        // The last entry does not come again: something is missing.
        store.reopen(false);
        store.append(&entry(4), NONE, false);
        store.append(&entry(5), NONE, false);
        assert!(store.is_gap() && store.unwritten() == 0);
        store.reopen(true);
        store.append(&entry(3), NONE, false);
        store.append(&entry(2), NONE, false);
        // The very last line, of a stream that repeats itself: once it was due, and now it is not.
        store.append(&entry(3), NONE, false);
        store.append(&entry(3), NONE, true);
        assert_eq!(store.repeated, 4);
        // The clock was set back to 2.
        store.append(&entry(2), 2, false);
        store.append(&entry(4), NONE, false);
        store.flush().unwrap();
        assert_eq!(lines(root.path()).iter().map(|line| line.1).collect::<Vec<_>>(), [2, 4]);
    }
}
