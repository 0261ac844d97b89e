//! One log file: a descriptor that is held, and what the file is recognised by.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::compressed::Compressed;
use crate::logs::Fingerprint;
use crate::logs::time::parse_rfc3339;

/// An entry of the engine holds at most 16 KiB of log, 96 KiB when every byte is escaped. What has no line feed in 16 MiB is no such file: it is
/// recognised by these 16 MiB.
const LONGEST_FIRST_LINE: u64 = 16 << 20;
const CHUNK: usize = 64 << 10;
/// How much of the end of the first line is kept to find its time in, which the engine writes last.
const TAIL: usize = 256;

/// Where a file's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The file as the engine wrote it.
    Plain(File),
    /// The file that the engine has compressed.
    Compressed(Arc<Compressed>),
}

impl Source {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Plain(file) => Self::Plain(file.try_clone()?),
            Self::Compressed(file) => Self::Compressed(Arc::clone(file)),
        })
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Compressed(file) => Ok(file.len()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_at(file, buffer, offset),
            Self::Compressed(file) => file.read_at(buffer, offset),
        }
    }

    pub(super) const fn compressed(&self) -> Option<&Arc<Compressed>> {
        match self {
            Self::Plain(_) => None,
            Self::Compressed(file) => Some(file),
        }
    }
}

/// A file of a container's log, open. It stays readable until the last `Arc` is dropped, whatever happens to its name.
///
/// Offsets are those of the engine's file, also where this is a copy in the spool that begins later: [`LogFile::base`] is the first that can be read.
#[derive(Debug)]
pub struct LogFile {
    source: Source,
    fingerprint: Fingerprint,
    base: u64,
    /// The length of the first line in bytes, where it is known and the fingerprint is that line's.
    first_line: u64,
    /// Of a copy in the spool: it was made while the file was still written.
    is_part: bool,
    is_final: AtomicBool,
    is_cut: AtomicBool,
    /// Behind the last byte that anybody has read.
    reached: AtomicU64,
}

impl LogFile {
    pub(crate) const fn new(file: File, fingerprint: Fingerprint, base: u64, is_final: bool) -> Self {
        Self::from_source(Source::Plain(file), fingerprint, base, is_final)
    }

    pub(super) const fn from_source(source: Source, fingerprint: Fingerprint, base: u64, is_final: bool) -> Self {
        Self {
            source,
            fingerprint,
            base,
            first_line: 0,
            is_part: false,
            is_final: AtomicBool::new(is_final),
            is_cut: AtomicBool::new(false),
            reached: AtomicU64::new(0),
        }
    }

    /// The same, of which the length of the first line is known.
    pub(super) const fn with_first_line(mut self, length: u64) -> Self {
        self.first_line = length;
        self
    }

    /// A copy in the spool that was made while the file was still written.
    pub(crate) const fn into_part(mut self) -> Self {
        self.is_part = true;
        self
    }

    /// The same file by another fingerprint.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub(super) fn named(&self, fingerprint: Fingerprint) -> io::Result<Self> {
        Ok(Self::from_source(self.source.try_clone()?, fingerprint, self.base, self.is_final()))
    }

    /// What the file is recognised by.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The first offset that can be read: 0, but in the spool.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Whether no byte will be added: the file was rotated, removed or spooled. Ask *before* the read that returns 0: what is final then has been read
    /// to its end.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final.load(Ordering::Acquire)
    }

    pub(super) fn set_final(&self, is_final: bool) -> bool {
        self.is_final.swap(is_final, Ordering::AcqRel) != is_final
    }

    /// Whether somebody has cut it from outside, and what it holds now goes by another fingerprint: nothing more can be read of this one.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Whether it has become shorter than what was read of it.
    #[must_use]
    pub fn is_shorter(&self) -> bool {
        !self.is_compressed() && self.len().is_ok_and(|length| length < self.reached.load(Ordering::Acquire))
    }

    /// Whether the engine has compressed it. To begin in its middle then costs what is before.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.source.compressed().is_some()
    }

    /// Whether its end is missing: lines were behind what can be read of it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_part || self.source.compressed().is_some_and(|file| file.is_broken())
    }

    /// Whether it is a copy that was made while the file was still written: more may have been behind it.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        self.is_part
    }

    /// Whether its first line is another by now: somebody cut it and wrote it anew, maybe as long as it was. Only asked where the engine does such things.
    #[must_use]
    pub fn is_overwritten(&self) -> bool {
        let Source::Plain(file) = &self.source else { return false };
        let Some(length) = usize::try_from(self.first_line).ok().filter(|length| (1..=CHUNK).contains(length)) else { return false };
        let mut line = vec![0; length];
        match file.read_exact_at(&mut line, 0) {
            Ok(()) => xxh3_64(&line) != self.fingerprint.hash,
            Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }

    /// The compressed file that it is read from.
    pub(super) const fn compressed(&self) -> Option<&Arc<Compressed>> {
        self.source.compressed()
    }

    /// The file as it goes on behind a cut. This one is at its end.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub(super) fn cut(&self) -> io::Result<Source> {
        let source = self.source.try_clone()?;
        self.is_cut.store(true, Ordering::Release);
        Ok(source)
    }

    /// The offset after the last byte. Less than an offset that was read before if somebody cut the file from outside. Of a compressed file it is what its
    /// trailer says, until it was read to its end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.base + self.source.len()?)
    }

    /// Whether nothing can be read.
    ///
    /// # Errors
    /// As [`LogFile::len`].
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == self.base)
    }

    /// Reads at an offset: how many bytes, 0 at the end.
    ///
    /// # Errors
    /// What the kernel says, but for an interruption; `InvalidInput` for an offset before [`LogFile::base`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(offset) = offset.checked_sub(self.base) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "before the first byte that was kept"));
        };
        let count = self.source.read_at(buffer, offset)?;
        if count > 0 {
            self.reached.fetch_max(self.base + offset + count as u64, Ordering::AcqRel);
        }
        Ok(count)
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The first line of a file as far as it is written, hashed once however slowly it grows.
pub(super) struct FirstLine {
    hasher: Box<Xxh3>,
    scanned: u64,
    tail: Vec<u8>,
}

impl std::fmt::Debug for FirstLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstLine").field("scanned", &self.scanned).finish_non_exhaustive()
    }
}

impl FirstLine {
    pub(super) fn new() -> Self {
        Self { hasher: Box::new(Xxh3::new()), scanned: 0, tail: Vec::new() }
    }

    /// Goes on reading, and gives the fingerprint once the line is whole. When `is_final`, what there is counts as a line, unless that is nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn advance(&mut self, file: &Source, is_final: bool) -> io::Result<Option<Fingerprint>> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(file.len()?).unwrap_or(CHUNK)).max(1)];
        loop {
            let count = file.read_at(&mut buffer, self.scanned)?;
            let read = buffer.get(..count).unwrap_or_default();
            let line = memchr::memchr(b'\n', read).and_then(|at| read.get(..at));
            let is_whole = line.is_some();
            let piece = line.unwrap_or(read);
            let piece = piece.get(..usize::try_from(LONGEST_FIRST_LINE - self.scanned).unwrap_or(usize::MAX)).unwrap_or(piece);
            self.hasher.update(piece);
            self.scanned += piece.len() as u64;
            self.remember(piece);
            // One that is broken from its beginning stands in the chain all the same: who passes it shall know that something is missing.
            let is_broken = || file.compressed().is_some_and(|file| file.is_broken());
            let is_enough = is_whole || self.scanned >= LONGEST_FIRST_LINE || (count == 0 && is_final && (self.scanned > 0 || is_broken()));
            if is_enough {
                return Ok(Some(Fingerprint { first_time: time_of(&self.tail).unwrap_or(0), hash: self.hasher.digest() }));
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// How much of the line was read.
    pub(super) const fn length(&self) -> u64 {
        self.scanned
    }

    fn remember(&mut self, piece: &[u8]) {
        let end = piece.get(piece.len().saturating_sub(TAIL)..).unwrap_or(piece);
        self.tail.extend_from_slice(end);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

/// The time of an entry: its last member. A quotation mark inside the log text is escaped, so this finds no other `"time":"`.
fn time_of(line: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"time\":\"";
    let value = line.get(memchr::memmem::rfind(line, KEY)? + KEY.len()..)?;
    parse_rfc3339(value.get(..memchr::memchr(b'"', value)?)?)
}
