//! The order of one container's files, held over renames that go on while it is looked at.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::compressed::Compressed;
use super::container::Consumer;
use super::file::{FirstLine, LogFile, Source};
use crate::logs::{ContainerId, Fingerprint};

/// How often a directory is looked at anew because its names moved meanwhile. The engine needs a full file between two rotations, so two looks mostly do.
const ATTEMPTS: u32 = 64;

/// Descriptors that log files leave to others, or a quarter of them all.
const RESERVE: u64 = 1024;
/// How many files that begin alike are told apart.
const MOST_ALIKE: u64 = 1 << 20;

/// The files of a container, oldest first: what is gone from the disk and still kept (or lies in the spool), then what is on the disk.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) files: Vec<Tracked>,
    /// Opened in a look that was not trusted: their place is not known yet, but they cannot be lost any more.
    loose: Vec<Tracked>,
    /// `max-size` of the log driver, where it is known: what a compressed file may hold.
    pub(super) max_size: Option<u64>,
    /// `max-file=1`: the engine may write the file anew in its place.
    pub(super) is_one_file: bool,
    /// An only file that was found to be cut: what was copied of it is safe.
    noticed: Option<Fingerprint>,
    /// What somebody else stands for, to be let go.
    pub(super) dropped: Vec<Tracked>,
}

/// One file, on the disk or not.
#[derive(Debug)]
pub(super) struct Tracked {
    /// Device and inode: sound while the descriptor is held. None for a file in the spool.
    identity: Option<(u64, u64)>,
    /// Its rotation number while it is on the disk, 0 for the one that is written.
    pub(super) number: Option<u32>,
    pub(super) content: Content,
    pub(super) kept: Kept,
    /// The disk has less of it than the spool, or somebody gave it up: it is not part of the chain.
    pub(super) is_hidden: bool,
    /// Its fingerprint is no other file's.
    is_apart: bool,
}

/// What is known of a file's content.
#[derive(Debug)]
pub(super) enum Content {
    /// Its first line is not complete, so nothing tells it from others. The file is taken out when it gets its name.
    Nameless(Option<Source>, FirstLine),
    /// It has a fingerprint.
    Known(Arc<LogFile>),
}

/// What is done so that a file that goes is not lost.
#[derive(Debug)]
pub(super) enum Kept {
    /// Nothing.
    No,
    /// It is being copied, under this ticket, until the flag says that nobody wants it any more.
    Copying(u64, Arc<AtomicBool>),
    /// The copy stands in the spool, under this ticket.
    Copied(u64, PathBuf),
    /// Its descriptor keeps it, under this ticket: there is no spool, or it could not be written.
    Pinned(u64),
    /// The copy was given up while the file is still on the disk: it is not made again before the file goes.
    Evicted,
}

impl Kept {
    /// The ticket, of which the ledger knows the size.
    pub(super) const fn ticket(&self) -> Option<u64> {
        match self {
            Self::Copying(ticket, _) | Self::Copied(ticket, _) | Self::Pinned(ticket) => Some(*ticket),
            Self::No | Self::Evicted => None,
        }
    }
}

/// Something that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) path: PathBuf,
    /// What the kernel said.
    pub(super) why: String,
    /// Whether another limit of open files would do; else it is a matter of rights.
    pub(super) is_limit: bool,
}

impl Refused {
    pub(super) fn new(path: PathBuf, error: &io::Error) -> Self {
        let errno = rustix::io::Errno::from_io_error(error);
        Self { path, why: error.to_string(), is_limit: matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)) }
    }
}

/// What a look at the directory came to.
#[derive(Debug)]
pub(super) enum Look {
    /// The order is known.
    Settled {
        /// The length of the file that is written.
        written: u64,
        /// Files that could not be opened; the look must be repeated.
        failed: Vec<Refused>,
    },
    /// Names moved all the time; everything seen is open, its order is not known yet.
    Unsettled,
    /// There is no directory.
    Gone,
    /// It could not be read.
    Failed(Refused),
    /// As many descriptors are open as may be.
    Short,
}

/// A name and what it pointed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    number: u32,
    identity: (u64, u64),
    is_compressed: bool,
}

/// Asks what a name points to; a test lets the engine work in between.
type Stat<'test> = dyn FnMut(&Path) -> io::Result<Metadata> + 'test;

#[derive(Debug, Default)]
struct Listing {
    /// By number, the newest first.
    seen: Vec<Seen>,
    written: u64,
}

/// Whether this is the name of a log file of the container, compressed or not.
pub(super) fn is_name(name: &[u8], id: &ContainerId) -> bool {
    name.strip_prefix(id.as_str().as_bytes()).is_some_and(|rest| rest.starts_with(b"-json.log"))
}

/// The rotation number in a name, and whether the file is compressed.
fn number_of(name: &str, id: &ContainerId) -> Option<(u32, bool)> {
    let rest = name.strip_prefix(id.as_str())?.strip_prefix("-json.log")?;
    if rest.is_empty() {
        return Some((0, false));
    }
    let rest = rest.strip_prefix('.')?;
    let (digits, is_compressed) = rest.strip_suffix(".gz").map_or((rest, false), |digits| (digits, true));
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    Some((number, is_compressed))
}

fn path_of(dir: &Path, id: &ContainerId, number: u32, is_compressed: bool) -> PathBuf {
    let end = if is_compressed { ".gz" } else { "" };
    match number {
        0 => dir.join(format!("{}-json.log", id.as_str())),
        number => dir.join(format!("{}-json.log.{number}{end}", id.as_str())),
    }
}

/// Looks at every name once, from the newest file to the oldest: a file only ever moves to a higher number, so one that moves meanwhile is met twice
/// and not missed. The engine compresses `.1` while it stands there and removes it when that is done: a compressed file beside a plain one of its number is not
/// whole yet and is not looked at, and where the plain one is gone it is met.
fn list(dir: &Path, id: &ContainerId, stat: &mut Stat<'_>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    // Where a file may be by now: at the number that the directory told, or one further.
    let mut numbers = BTreeSet::from([0, 1]);
    let mut is_any_compressed = false;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some((number, is_compressed)) = name.to_str().and_then(|name| number_of(name, id)) {
            numbers.extend([number, number.saturating_add(1)]);
            is_any_compressed |= is_compressed;
        }
    }
    while let Some(number) = numbers.pop_first() {
        // At the end of what is there a name may be a compressed one since the directory was read.
        for is_compressed in [false, true] {
            if is_compressed && (number == 0 || !(is_any_compressed || number == 1)) {
                continue;
            }
            match stat(&path_of(dir, id, number, is_compressed)) {
                Ok(data) if data.is_file() => {
                    listing.seen.push(Seen { number, identity: (data.dev(), data.ino()), is_compressed });
                    is_any_compressed |= is_compressed;
                    if number == 0 {
                        listing.written = data.len();
                    }
                    if let Some(next) = number.checked_add(1) {
                        numbers.insert(next);
                    }
                    break;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(listing)
}

impl Chain {
    /// Opens every file that is new, and brings all in order.
    ///
    /// The order is trusted when two looks met the same files, each of them open when it was met first. A held inode is not recycled and numbers only grow,
    /// so each name pointed to its file for the whole time between the two looks, and all of them at once. One look is enough when nothing moved since the
    /// last.
    pub(super) fn look(&mut self, dir: &Path, id: &ContainerId) -> Look {
        self.look_by(dir, id, &mut |path| std::fs::metadata(path))
    }

    fn look_by(&mut self, dir: &Path, id: &ContainerId, stat: &mut Stat<'_>) -> Look {
        let mut before: Option<Vec<Seen>> = None;
        let mut failed: Vec<(u64, u64)> = Vec::new();
        let mut refused: Vec<Refused> = Vec::new();
        for _ in 0..ATTEMPTS {
            let mut listing = match list(dir, id, stat) {
                Ok(listing) => listing,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Look::Gone,
                Err(error) => return Look::Failed(Refused::new(dir.to_path_buf(), &error)),
            };
            listing.seen.retain(|seen| !failed.contains(&seen.identity));
            let is_open = listing.seen.iter().all(|seen| self.holds(seen.identity));
            if is_open && (before.as_ref() == Some(&listing.seen) || self.is_as(&listing.seen)) {
                self.place(&listing.seen);
                return Look::Settled { written: listing.written, failed: refused };
            }
            // What was met by opening it counts, not what the name pointed to before: that inode may have gone and come back as another file.
            let mut met = Some(Vec::with_capacity(listing.seen.len()));
            for seen in listing.seen {
                let identity = if self.holds(seen.identity) {
                    Some(seen.identity)
                } else {
                    let path = path_of(dir, id, seen.number, seen.is_compressed);
                    match open(&path, seen.is_compressed, self.max_size) {
                        Ok(opened) => opened.map(|(source, identity)| {
                            if !self.holds(identity) {
                                self.loose.push(Tracked::on_disk(source, identity));
                            }
                            identity
                        }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                        // Without this file the others would seem to be all there is.
                        Err(error) if is_short(&error) => return Look::Short,
                        Err(error) => {
                            failed.push(seen.identity);
                            refused.push(Refused::new(path, &error));
                            None
                        }
                    }
                };
                met = met.zip(identity).map(|(mut met, identity)| {
                    met.push(Seen { identity, ..seen });
                    met
                });
            }
            before = met;
        }
        Look::Unsettled
    }

    /// Whether a descriptor of this file is held.
    fn holds(&self, identity: (u64, u64)) -> bool {
        self.files.iter().chain(&self.loose).any(|file| file.identity == Some(identity))
    }

    /// Whether this is what was on the disk at the last look.
    fn is_as(&self, seen: &[Seen]) -> bool {
        let on_disk = self.files.iter().rev().filter_map(|file| Some((file.number?, file.identity?)));
        self.loose.is_empty() && on_disk.eq(seen.iter().map(|seen| (seen.number, seen.identity)))
    }

    /// Sets the order: files on the disk stand by their numbers; what is gone keeps its place before those that came after it (a directory is not removed
    /// from the oldest file on); loose files that are gone already came after all that were known, and before those that are new.
    fn place(&mut self, seen: &[Seen]) {
        let known = std::mem::take(&mut self.files);
        let mut loose = std::mem::take(&mut self.loose);
        let number = |file: &Tracked| seen.iter().find(|seen| file.identity == Some(seen.identity)).map(|seen| seen.number);
        let (mut on_disk, gone): (Vec<Tracked>, Vec<Tracked>) = loose.drain(..).partition(|file| number(file).is_some());
        // Each file that is gone, and how many of the known ones on the disk stand before it.
        let mut places: Vec<(u32, Tracked)> = Vec::new();
        let mut before = u32::MAX;
        for mut file in known {
            file.number = number(&file);
            match file.number {
                Some(number) => {
                    before = before.min(number);
                    on_disk.push(file);
                }
                None => places.push((before, file)),
            }
        }
        places.extend(ordered(gone).into_iter().map(|file| (before, file)));
        for file in &mut on_disk {
            file.number = number(file);
        }
        on_disk.sort_by_key(|file| std::cmp::Reverse(file.number));
        let mut places = places.into_iter().peekable();
        for file in on_disk {
            // What stands behind a file of this number or a higher one has been put there by now.
            while let Some((_, gone)) = places.next_if(|(before, _)| file.number.is_some_and(|number| number < *before)) {
                self.files.push(gone);
            }
            self.files.push(file);
        }
        self.files.extend(places.map(|(_, file)| file));
    }

    /// All files are gone with their directory.
    pub(super) fn set_removed(&mut self) {
        self.files.extend(ordered(std::mem::take(&mut self.loose)));
        self.files.iter_mut().for_each(|file| file.number = None);
    }

    /// Takes in a file of the spool, behind those that are there already.
    pub(super) fn push_spooled(&mut self, log: Arc<LogFile>, kept: Kept) {
        self.files.push(Tracked { identity: None, number: None, content: Content::Known(log), kept, is_hidden: false, is_apart: true });
    }

    /// The file that is written, when it has a name.
    pub(super) fn live(&self) -> Option<&Arc<LogFile>> {
        self.files.last().filter(|file| file.number == Some(0)).and_then(Tracked::log)
    }

    /// The file that is written, when somebody has cut it and nobody has taken note of that.
    pub(super) fn cut_file(&mut self) -> Option<Fingerprint> {
        let file = self.files.last()?;
        self.noticed = file.log().filter(|log| file.is_cut(log, self.is_one_file)).map(|log| log.fingerprint());
        self.noticed
    }

    /// Nobody goes on behind the cut yet.
    pub(super) const fn postpone_cut(&mut self) {
        self.noticed = None;
    }

    /// Takes in what was copied of the file that is written, before that is written anew.
    pub(super) fn put_before_live(&mut self, log: Arc<LogFile>, kept: Kept) {
        self.push_spooled(log, kept);
        let at = self.files.len().saturating_sub(2);
        self.files.get_mut(at..).unwrap_or_default().reverse();
    }

    /// Says of each file whether it is final, and gives fingerprints to those whose first line is complete now. Returns how many could not be read.
    ///
    /// A rotated file is final: the engine closes it before it renames it. One that is gone without a rename is final when there is a newer one
    /// (`max-file=1` removes and creates) or nobody can write any more.
    pub(super) fn settle(&mut self, is_removed: bool) -> usize {
        let mut failed = 0;
        let noticed = self.noticed.take();
        let count = self.files.len();
        for (at, file) in self.files.iter_mut().enumerate() {
            let is_final = match file.number {
                _ if is_removed => true,
                Some(number) => number > 0,
                None => file.identity.is_none() || at + 1 < count,
            };
            failed += usize::from(file.go_on_behind_cut(self.is_one_file, noticed).is_err());
            failed += usize::from(file.settle(is_final).is_err());
        }
        self.tell_apart();
        // What was never more than an empty file leaves nothing.
        self.files.retain(|file| {
            !(file.number.is_none() && matches!(&file.content, Content::Nameless(file, _) if file.as_ref().is_none_or(is_empty)))
        });
        failed
    }

    /// Gives another fingerprint to a file that begins as one does that is on the disk at the same time: a line that is longer than a file, and the same all
    /// through, makes files that begin with the very same entry. After a restart they are counted anew; then it is that one line which may be cut otherwise.
    fn tell_apart(&mut self) {
        for at in 0..self.files.len() {
            let Some(log) = self.files.get(at).filter(|file| !file.is_apart).and_then(Tracked::log) else { continue };
            let own = log.fingerprint();
            let alike = self.files.iter().filter(|other| other.is_apart).filter_map(|other| {
                let fingerprint = other.log()?.fingerprint();
                let distance = fingerprint.hash.wrapping_sub(own.hash);
                (fingerprint.first_time == own.first_time && distance < MOST_ALIKE).then_some((distance, other.number.is_some()))
            });
            // One that is gone and begins alike is the same file: somebody put a copy in its place.
            let (last, is_beside) =
                alike.fold((0, false), |(last, is_beside), (distance, is_there)| (last.max(distance), is_beside | is_there));
            let name = is_beside.then(|| Fingerprint { hash: own.hash.wrapping_add(last + 1), ..own });
            if let Some(file) = self.files.get_mut(at) {
                file.is_apart = true;
                if let (Some(name), Content::Known(log)) = (name, &mut file.content)
                    && let Ok(other) = log.named(name)
                {
                    *log = Arc::new(other);
                }
            }
        }
    }

    /// Of two files with one fingerprint, one of them on the disk and one not (a copy in the spool, or the file before somebody put a copy in its place),
    /// the one on the disk stands if it is whole. What the other one held in the spool is handed over.
    pub(super) fn join(&mut self) {
        self.drop_unfinished();
        let mut at = 0;
        while let Some(gone) = self.files.get(at) {
            let twin = gone.log().filter(|_| gone.number.is_none()).and_then(|log| {
                self.files.iter().position(|file| {
                    file.number.is_some()
                        && matches!(file.kept, Kept::No)
                        && file.log().is_some_and(|other| other.fingerprint() == log.fingerprint())
                })
            });
            let Some(twin) = twin else {
                at += 1;
                continue;
            };
            let is_part = gone.log().is_some_and(|log| log.is_part());
            let length = |file: Option<&Tracked>| file.and_then(Tracked::log).and_then(|log| log.len().ok()).unwrap_or(0);
            let is_whole = match self.files.get(twin).and_then(Tracked::log).and_then(|log| log.compressed()) {
                Some(compressed) => compressed.claims(length(self.files.get(at))) && !compressed.is_broken(),
                None => length(self.files.get(twin)) >= length(self.files.get(at)),
            };
            if !is_whole {
                if let Some(twin) = self.files.get_mut(twin) {
                    twin.is_hidden = true;
                }
                at += 1;
                continue;
            }
            if is_part {
                // The file is written on, or was when it was copied whole.
                let part = self.files.remove(at);
                self.dropped.push(part);
                continue;
            }
            let kept = self.files.remove(at).kept;
            // The twin stood behind it.
            if let Some(twin) = self.files.get_mut(twin - 1) {
                twin.kept = kept;
            }
        }
    }

    /// A compressed file that was opened while the engine still wrote it, and the container was removed then, or another look came: the plain one is whole.
    fn drop_unfinished(&mut self) {
        let plain: Vec<Fingerprint> =
            self.files.iter().filter_map(Tracked::log).filter(|log| !log.is_compressed()).map(|log| log.fingerprint()).collect();
        self.files.retain(|file| {
            let is_compressed = |log: &&Arc<LogFile>| log.is_compressed() && plain.contains(&log.fingerprint());
            file.number.is_some() || !matches!(file.kept, Kept::No) || file.log().filter(is_compressed).is_none()
        });
    }

    /// What consumers get.
    pub(super) fn published(&self) -> Vec<Arc<LogFile>> {
        self.files.iter().filter(|file| !file.is_hidden).filter_map(Tracked::log).cloned().collect()
    }

    /// Whether a file waits for its first line, or was cut from outside and will have another.
    pub(super) fn is_unsettled(&self) -> bool {
        self.files.iter().any(|file| match &file.content {
            Content::Known(log) => file.is_cut(log, self.is_one_file),
            // Nothing is added to a compressed file.
            Content::Nameless(source, _) => source.as_ref().is_some_and(|source| source.compressed().is_none()),
        })
    }

    /// For each file the lowest offset that is not acknowledged by all; none when all have all of it.
    pub(super) fn unacknowledged(&self, consumers: &[Consumer]) -> Vec<Option<u64>> {
        let place = |consumer: &Consumer| {
            let place = consumer.acknowledged?;
            let at = self.files.iter().position(|file| !file.is_hidden && file.log().is_some_and(|log| log.fingerprint() == place.file))?;
            Some((at, place.offset))
        };
        let places: Vec<Option<(usize, u64)>> = consumers.iter().filter(|consumer| !consumer.is_done()).map(place).collect();
        let lowest = |(at, file): (usize, &Tracked)| {
            let (base, end) = match file.log() {
                // Of a file that is written there is always more to come, and what a compressed one says of its end is nothing to let it go for.
                Some(log) if log.is_final() && log.compressed().is_none_or(|file| file.is_end_known()) => {
                    (log.base(), log.len().unwrap_or(u64::MAX))
                }
                Some(log) => (log.base(), u64::MAX),
                None => (0, u64::MAX),
            };
            let from = |place: &Option<(usize, u64)>| match place {
                Some((reached, _)) if *reached > at => None,
                Some((reached, offset)) if *reached == at => (*offset < end).then_some((*offset).max(base)),
                _ => (base < end).then_some(base),
            };
            places.iter().filter_map(from).min()
        };
        self.files.iter().enumerate().map(lowest).collect()
    }
}

impl Tracked {
    fn on_disk(source: Source, identity: (u64, u64)) -> Self {
        let content = Content::Nameless(Some(source), FirstLine::new());
        Self { identity: Some(identity), number: None, content, kept: Kept::No, is_hidden: false, is_apart: false }
    }

    /// The file, once it has a fingerprint.
    pub(super) const fn log(&self) -> Option<&Arc<LogFile>> {
        match &self.content {
            Content::Known(log) => Some(log),
            Content::Nameless(..) => None,
        }
    }

    /// Whether its descriptor is all that keeps it.
    pub(super) const fn is_held(&self) -> bool {
        self.number.is_none() && self.identity.is_some()
    }

    /// Puts the copy in the spool in the place of the file that is gone, which lets the disk have its room back. Gives the file back.
    pub(super) fn replace(&mut self, log: Arc<LogFile>) -> Content {
        self.identity = None;
        std::mem::replace(&mut self.content, Content::Known(log))
    }

    fn is_cut(&self, log: &LogFile, is_one_file: bool) -> bool {
        self.number.is_some() && (log.is_shorter() || (is_one_file && !log.is_final() && log.is_overwritten()))
    }

    /// What is written to a file behind a cut (`truncate`, logrotate's `copytruncate`) has another first line, by which the next run will know it.
    fn go_on_behind_cut(&mut self, is_one_file: bool, noticed: Option<Fingerprint>) -> io::Result<()> {
        if let Content::Known(log) = &self.content
            && self.is_cut(log, is_one_file)
            // One that is cut at this very moment has its turn when what was copied of it was seen to.
            && (!is_one_file || noticed == Some(log.fingerprint()))
        {
            self.content = Content::Nameless(Some(log.cut()?), FirstLine::new());
            self.is_apart = false;
        }
        Ok(())
    }

    fn settle(&mut self, is_final: bool) -> io::Result<()> {
        let fingerprint = match &mut self.content {
            Content::Known(log) => {
                log.set_final(is_final);
                return Ok(());
            }
            Content::Nameless(Some(file), first) => first.advance(file, is_final)?,
            Content::Nameless(None, _) => None,
        };
        if let (Some(fingerprint), Content::Nameless(file, _)) = (fingerprint, &mut self.content)
            && let Some(file) = file.take()
        {
            if let Some(compressed) = file.compressed() {
                compressed.rest();
            }
            let length = if let Content::Nameless(_, first) = &self.content { first.length() } else { 0 };
            let log = LogFile::from_source(file, fingerprint, 0, is_final).with_first_line(length);
            self.content = Content::Known(Arc::new(log));
        }
        Ok(())
    }

    fn first_time(&self) -> i64 {
        self.log().map_or(i64::MAX, |log| log.fingerprint().first_time)
    }
}

/// Files that went before anybody knew their numbers, by the time of their first entry.
fn ordered(mut loose: Vec<Tracked>) -> Vec<Tracked> {
    for file in &mut loose {
        // One that cannot be read now is tried again with the others.
        file.settle(true).ok();
    }
    loose.sort_by_key(Tracked::first_time);
    loose
}

/// Opens a file and says which it is. None for what is no regular file.
///
/// # Errors
/// What the kernel says; that there are too many descriptors also when only the reserve is left.
fn open(path: &Path, is_compressed: bool, max_size: Option<u64>) -> io::Result<Option<(Source, (u64, u64))>> {
    let file = File::open(path)?;
    // The kernel gives the lowest number that is free.
    if u64::try_from(file.as_raw_fd()).is_ok_and(|number| number >= most_descriptors()) {
        return Err(rustix::io::Errno::MFILE.into());
    }
    let data = file.metadata()?;
    if !data.is_file() {
        return Ok(None);
    }
    let source = if is_compressed { Source::Compressed(Arc::new(Compressed::new(file, max_size)?)) } else { Source::Plain(file) };
    Ok(Some((source, (data.dev(), data.ino()))))
}

/// How many descriptors may be open before no further log file is opened. The rest is for scrapes, cursors and sinks.
fn most_descriptors() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        limit - (limit / 4).min(RESERVE)
    })
}

fn is_short(error: &io::Error) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].iter().any(|short| error.raw_os_error() == Some(short.raw_os_error()))
}

fn is_empty(source: &Source) -> bool {
    source.len().is_ok_and(|length| length == 0)
}

/// The fingerprints in their order, for the spool.
pub(super) fn order(chain: &Chain) -> Vec<Fingerprint> {
    chain.files.iter().filter_map(Tracked::log).map(|log| log.fingerprint()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What somebody does to a directory.
    #[derive(Debug, Clone, Copy)]
    enum Deed {
        Rotate,
        Look,
        /// Removes the n-th of the names there are: nobody promises an order when a directory goes.
        Remove(usize),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![3 => Just(Deed::Rotate), 3 => Just(Deed::Look), 1 => (0usize..4).prop_map(Deed::Remove)]
    }

    fn create(path: &Path, number: i64) {
        let mut line = b"{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"".to_vec();
        crate::logs::time::write_rfc3339(number, &mut line);
        fs::write(path, [&line[..], b"\"}\n"].concat()).unwrap();
    }

    /// The engine: removes the oldest, renames, creates.
    fn rotate(dir: &Path, id: &ContainerId, max_file: u32, next: i64) {
        let path = |number| path_of(dir, id, number, false);
        fs::remove_file(path(max_file - 1)).ok();
        for number in (0..max_file - 1).rev() {
            fs::rename(path(number), path(number + 1)).ok();
        }
        create(&path(0), next);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
        #[test]
        fn rotations_during_a_look_neither_lose_nor_reorder(
            rotations in prop::collection::vec(prop_oneof![3 => Just(0), 1 => Just(1), 2 => Just(2)], 1..40), max_file in 2u32..5
        ) {
            let dir = tempfile::tempdir().unwrap();
            let id = ContainerId::new(&"a".repeat(64)).unwrap();
            let mut chain = Chain::default();
            let mut next = 0;
            let mut rotations = rotations.into_iter();
            let mut before: Vec<i64> = Vec::new();
            for _ in 0..6 {
                // Half of it between two looks, so that files are known and unknown.
                rotate(dir.path(), &id, max_file, next);
                next += 1;
                let look = chain.look_by(dir.path(), &id, &mut |path| {
                    for _ in 0..rotations.next().unwrap_or(0) {
                        rotate(dir.path(), &id, max_file, next);
                        next += 1;
                    }
                    fs::metadata(path)
                });
                let is_settled = matches!(look, Look::Settled { failed, .. } if failed.is_empty());
                prop_assert!(is_settled);
                chain.settle(false);
                chain.join();
                let order: Vec<i64> = order(&chain).iter().map(|fingerprint| fingerprint.first_time).collect();
                prop_assert!(order.is_sorted_by(|a, b| a < b), "{:?}", order);
                // All that was known, and all that is on the disk up to the newest that was met: what came after it is for the next look.
                prop_assert!(before.iter().all(|file| order.contains(file)), "{:?} {:?}", before, order);
                let newest = order.last().copied().unwrap();
                prop_assert!((next - i64::from(max_file)..=newest).all(|file| file < 0 || order.contains(&file)), "{} {:?}", next, order);
                let numbers: Vec<u32> = chain.files.iter().filter_map(|file| file.number).collect();
                prop_assert!(numbers.iter().rev().copied().eq(0..u32::try_from(numbers.len()).unwrap()), "{:?}", numbers);
                before = order;
            }
        }

        #[test]
        fn what_was_seen_once_stays_in_the_order_of_its_creation(deeds in prop::collection::vec(deed(), 1..60), max_file in 1u32..5) {
            let dir = tempfile::tempdir().unwrap();
            let id = ContainerId::new(&"a".repeat(64)).unwrap();
            let path = |number| path_of(dir.path(), &id, number, false);
            let mut chain = Chain::default();
            // The number of the file at each name, as it should be, and of all that were on the disk at a look.
            let mut names: std::collections::BTreeMap<u32, i64> = [(0, 0)].into();
            let mut seen: std::collections::BTreeSet<i64> = [].into();
            let mut next = 1;
            create(&path(0), 0);
            for deed in deeds.into_iter().chain([Deed::Look]) {
                match deed {
                    Deed::Rotate => {
                        rotate(dir.path(), &id, max_file, next);
                        names.remove(&(max_file - 1));
                        names = names.into_iter().map(|(number, file)| (number + 1, file)).collect();
                        names.insert(0, next);
                        next += 1;
                    }
                    Deed::Remove(at) => {
                        if let Some(number) = names.keys().nth(at).copied() {
                            fs::remove_file(path(number)).unwrap();
                            names.remove(&number);
                        }
                    }
                    Deed::Look => {
                        let is_settled = matches!(chain.look(dir.path(), &id), Look::Settled { failed, .. } if failed.is_empty());
                        prop_assert!(is_settled);
                        prop_assert_eq!(chain.settle(false), 0);
                        chain.join();
                        seen.extend(names.values());
                        let order: Vec<i64> = order(&chain).iter().map(|fingerprint| fingerprint.first_time).collect();
                        prop_assert_eq!(&order, &seen.iter().copied().collect::<Vec<_>>());
                        let numbers: Vec<Option<u32>> = chain.files.iter().map(|file| file.number).collect();
                        let expected: Vec<Option<u32>> =
                            order.iter().map(|file| names.iter().find(|(_, at)| *at == file).map(|(number, _)| *number)).collect();
                        prop_assert_eq!(numbers, expected);
                        // Only the one that is written, or that may be, is not final.
                        for (at, file) in chain.files.iter().enumerate() {
                            let is_final = file.log().unwrap().is_final();
                            prop_assert_eq!(is_final, file.number.map_or(at + 1 < chain.files.len(), |number| number > 0));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn names() {
        let id = ContainerId::new(&"a".repeat(64)).unwrap();
        let number = |rest: &str| number_of(&format!("{}{rest}", id.as_str()), &id);
        assert_eq!(number("-json.log"), Some((0, false)));
        assert_eq!(number("-json.log.12"), Some((12, false)));
        assert_eq!(number("-json.log.2.gz"), Some((2, true)));
        for odd in ["", "-json.log.", "-json.log.0", "-json.log.x", "-json.log.1.gz.tmp", "-json.logs", "-json.log.5000000000"] {
            assert_eq!(number(odd), None, "{odd}");
        }
    }
}
