//! A rotated file that the engine has compressed (`compress=true`), read as if it were not: offsets are those of the plain file.
//!
//! There is no way into the middle of a deflate stream but through all that is before it. So a decoder stays where its reader is, with the bytes that it gave
//! last, for a reader takes whole lines and comes back for the rest. Only a reader that begins in the middle, after a restart or when the plain file went while
//! it was read, pays for what is before.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flate2::bufread::GzDecoder;

/// What is read of the compressed file at one time.
const INPUT: usize = 16 << 10;
/// What is decoded at one time of what is passed over.
const PASSED_OVER: usize = 64 << 10;
/// How many readers may be at different places of one file. One more costs the one that was idle for longest its place.
const DECODERS: usize = 8;
/// The bound of the decoded bytes where nobody told the driver's `max-size`, without which no engine compresses.
const LARGEST: u64 = 64 << 30;
/// What the engine writes beyond `max-size` before it rotates, at most: an entry.
const LAST_ENTRY: u64 = 16 << 20;
/// Header and trailer of a gzip file.
const LEAST: u64 = 18;

/// A compressed file, open.
#[derive(Debug)]
pub(super) struct Compressed {
    file: Arc<File>,
    /// The length that the trailer tells, which has 32 bits of it.
    claimed: u64,
    /// No byte is decoded beyond this.
    bound: u64,
    /// Where it ends, once somebody came so far.
    end: OnceLock<u64>,
    /// Behind the last byte that was decoded.
    reached: AtomicU64,
    is_broken: AtomicBool,
    is_told: AtomicBool,
    /// The one that was idle for longest comes first.
    idle: Mutex<Vec<Decoder>>,
}

/// A place in the stream.
struct Decoder {
    stream: GzDecoder<BufReader<Piece>>,
    /// The bytes that were given last, which may be asked for again, and where they begin.
    given: Vec<u8>,
    start: u64,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("start", &self.start).field("end", &self.end()).finish_non_exhaustive()
    }
}

impl Decoder {
    const fn end(&self) -> u64 {
        self.start + self.given.len() as u64
    }
}

/// Reads a file from its beginning; the descriptor's own place is shared by all.
#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    offset: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Compressed {
    /// Opens it. `max_size` is the driver's option, by which a file is told from one that decodes to more than any engine wrote.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(file: File, max_size: Option<u64>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut trailer = [0; 4];
        if length >= LEAST {
            file.read_exact_at(&mut trailer, length - 4)?;
        }
        Ok(Self {
            file: Arc::new(file),
            claimed: u32::from_le_bytes(trailer).into(),
            bound: max_size.map_or(LARGEST, |size| size.saturating_mul(2).saturating_add(LAST_ENTRY)),
            end: OnceLock::new(),
            reached: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            idle: Mutex::default(),
        })
    }

    /// Where it ends: as far as it was decoded, else as its trailer says.
    pub(super) fn len(&self) -> u64 {
        self.end.get().copied().unwrap_or_else(|| self.claimed.max(self.reached.load(Ordering::Acquire)))
    }

    /// Whether its end is known, because somebody came there.
    pub(super) fn is_end_known(&self) -> bool {
        self.end.get().is_some()
    }

    /// Whether its trailer tells this length. An unfinished or broken file has some other bytes there.
    pub(super) const fn claims(&self, length: u64) -> bool {
        self.claimed == length & u32::MAX as u64
    }

    /// Whether it ends before its end: what is behind [`Compressed::len`] cannot be decoded.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Whether it is broken and nobody has asked yet.
    pub(super) fn take_broken(&self) -> bool {
        self.is_broken() && !self.is_told.swap(true, Ordering::AcqRel)
    }

    /// Lets the decoders go: nobody is known to read on.
    pub(super) fn rest(&self) {
        self.idle().clear();
    }

    /// Fills the buffer, but at the end.
    ///
    /// # Errors
    /// What the kernel says. What cannot be decoded is no error but the end, and [`Compressed::is_broken`] says so.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.end.get().is_some_and(|end| offset >= *end) {
            // Whoever came to the end does not come back.
            self.idle().retain(|decoder| Some(&decoder.end()) != self.end.get());
            return Ok(0);
        }
        let mut decoder = match self.take(offset) {
            Some(decoder) => decoder,
            None => self.decoder_at(offset)?,
        };
        let passed = usize::try_from(offset - decoder.start).unwrap_or(usize::MAX).min(decoder.given.len());
        decoder.given.drain(..passed);
        decoder.start += passed as u64;
        if decoder.start == offset {
            while decoder.given.len() < buffer.len() {
                let known = decoder.given.len();
                decoder.given.resize(buffer.len(), 0);
                let place = decoder.start + known as u64;
                let decoded = self.decode(&mut decoder.stream, decoder.given.get_mut(known..).unwrap_or_default(), place);
                decoder.given.truncate(known + *decoded.as_ref().unwrap_or(&0));
                if decoded? == 0 {
                    break;
                }
            }
        }
        let count = decoder.given.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), decoder.given.get(..count)) {
            to.copy_from_slice(from);
        }
        // At the end there is nothing to come back for.
        if count > 0 {
            let mut idle = self.idle();
            if idle.len() >= DECODERS {
                idle.remove(0);
            }
            idle.push(decoder);
        }
        Ok(count)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Decoder>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decoder that has this place among the bytes that it gave, or behind them. Nobody else works with it meanwhile, and nobody waits.
    fn take(&self, offset: u64) -> Option<Decoder> {
        let mut idle = self.idle();
        let at = idle.iter().position(|decoder| decoder.start <= offset && offset <= decoder.end())?;
        Some(idle.remove(at))
    }

    /// A new decoder that passes over what is before this place, or ends where the file does.
    fn decoder_at(&self, offset: u64) -> io::Result<Decoder> {
        let input = BufReader::with_capacity(INPUT, Piece { file: Arc::clone(&self.file), offset: 0 });
        let mut decoder = Decoder { stream: GzDecoder::new(input), given: Vec::new(), start: 0 };
        let mut buffer = vec![0; PASSED_OVER.min(usize::try_from(offset).unwrap_or(PASSED_OVER))];
        while decoder.start < offset {
            let wanted = buffer.len().min(usize::try_from(offset - decoder.start).unwrap_or(usize::MAX));
            match self.decode(&mut decoder.stream, buffer.get_mut(..wanted).unwrap_or_default(), decoder.start)? {
                0 => break,
                count => decoder.start += count as u64,
            }
        }
        Ok(decoder)
    }

    /// Decodes some bytes that stand at `place`: how many, 0 at the end.
    fn decode(&self, stream: &mut GzDecoder<BufReader<Piece>>, buffer: &mut [u8], place: u64) -> io::Result<usize> {
        let room = usize::try_from(self.bound.saturating_sub(place)).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            self.breaks(place);
            return Ok(0);
        };
        loop {
            match stream.read(buffer) {
                Ok(0) => {
                    self.end.get_or_init(|| place);
                    return Ok(0);
                }
                Ok(count) => {
                    self.reached.fetch_max(place + count as u64, Ordering::AcqRel);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel's word says nothing of what the file holds.
                Err(error) if error.raw_os_error().is_some() => return Err(error),
                Err(_) => {
                    self.breaks(place);
                    return Ok(0);
                }
            }
        }
    }

    fn breaks(&self, place: u64) {
        self.is_broken.store(true, Ordering::Release);
        self.end.get_or_init(|| place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::GzBuilder;
    use proptest::prelude::*;

    use super::*;

    /// As the engine writes it, with the last time in the header.
    fn compressed(content: &[u8]) -> Vec<u8> {
        let header = GzBuilder::new().extra(&br#"{"lastTime":"2026-11-20T10:00:00.5Z"}"#[..]);
        let mut writer = header.write(Vec::new(), flate2::Compression::default());
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn open(bytes: &[u8], max_size: Option<u64>) -> Compressed {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Compressed::new(file, max_size).unwrap()
    }

    /// Lines that are not all alike.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from(state >> 28).unwrap()
        };
        (0..length).map(|at| if at % 80 == 79 { b'\n' } else { next() }).collect()
    }

    fn all(file: &Compressed, chunk: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut buffer = vec![0; chunk];
        loop {
            let count = file.read_at(&mut buffer, out.len() as u64).unwrap();
            if count == 0 {
                return out;
            }
            assert!(count == chunk || file.is_end_known(), "a buffer that is not full is the last");
            out.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn it_reads_as_the_plain_file() {
        let plain = content(700_000);
        let file = open(&compressed(&plain), Some(700_000));
        assert!(file.claims(700_000) && file.len() == 700_000 && !file.is_end_known());
        assert_eq!(all(&file, 10_000), plain);
        assert!(file.is_end_known() && !file.is_broken() && file.len() == 700_000);
        assert!(file.idle().is_empty(), "nobody reads on");
        assert_eq!(all(&open(&compressed(b""), None), 10), b"");
    }

    #[test]
    fn a_reader_that_goes_on_decodes_nothing_twice() {
        let plain = content(700_000);
        let file = open(&compressed(&plain), None);
        let mut buffer = vec![0; 65_536];
        // Two readers, each of which comes back for the rest of its last line.
        let mut places = [0, 300_000];
        for place in &places {
            file.read_at(&mut buffer, *place).unwrap();
        }
        let made: Vec<u64> = file.idle().iter().map(|decoder| decoder.start).collect();
        assert_eq!(made, places);
        for _ in 0..5 {
            for place in &mut places {
                *place += 60_000;
                let count = file.read_at(&mut buffer, *place).unwrap();
                let at = usize::try_from(*place).unwrap();
                assert_eq!(buffer[..count], plain[at..at + count]);
                assert_eq!(file.idle().len(), 2, "no other decoder was made");
            }
        }
        // Many more readers cost each other their places, and no byte.
        for place in (0..20).map(|number| number * 30_000) {
            let count = file.read_at(&mut buffer, place).unwrap();
            let at = usize::try_from(place).unwrap();
            assert_eq!(buffer[..count], plain[at..at + count]);
            assert!(file.idle().len() <= DECODERS);
        }
    }

    #[test]
    fn what_is_not_whole_is_read_as_far_as_it_goes() {
        let plain = content(700_000);
        let whole = compressed(&plain);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 0x55;
        let mut wrong_sum = whole.clone();
        let at = whole.len() - 6;
        wrong_sum[at] ^= 1;
        for (broken, least) in [
            (&whole[..whole.len() / 2], 100_000),
            (&whole[..whole.len() - 3], 600_000),
            (&flipped, 100_000),
            (&wrong_sum, 600_000),
            (&[], 0),
        ] {
            let file = open(broken, None);
            let read = all(&file, 5000);
            assert!(file.is_broken() && file.take_broken() && !file.take_broken());
            assert!(read.len() >= least, "{} of {least}", read.len());
            let same = read.iter().zip(&plain).take_while(|(read, plain)| read == plain).count();
            // A damaged byte inside may decode to something else until the sum at the end tells.
            assert!(same >= least.min(read.len()) / 2, "{same}");
            assert_eq!(file.read_at(&mut [0; 9], read.len() as u64).unwrap(), 0);
        }
        assert!(!open(&whole[..whole.len() / 2], None).claims(700_000));
        assert!(all(&open(b"no gzip at all, and long enough for a trailer", None), 9).is_empty());
    }

    #[test]
    fn nothing_is_decoded_beyond_the_bound() {
        let file = open(&compressed(&vec![0; 40 << 20]), Some(1 << 20));
        assert_eq!(all(&file, 1 << 20).len(), 18 << 20);
        assert!(file.is_broken());
    }

    proptest! {
        #[test]
        fn every_place_has_its_bytes(places in prop::collection::vec((0..120_000u64, 1..50_000usize), 1..24)) {
            let plain = content(100_000);
            let file = open(&compressed(&plain), None);
            for (place, length) in places {
                let mut buffer = vec![0; length];
                let count = file.read_at(&mut buffer, place).unwrap();
                let from = usize::try_from(place).unwrap().min(plain.len());
                prop_assert_eq!(&buffer[..count], &plain[from..(from + length).min(plain.len())]);
            }
            prop_assert!(!file.is_broken());
        }

        #[test]
        fn bytes_never_panic(bytes: Vec<u8>, place in 0..1000u64) {
            let file = open(&[&compressed(b"x")[..10], &bytes].concat(), None);
            file.read_at(&mut [0; 64], place).unwrap();
        }
    }
}
