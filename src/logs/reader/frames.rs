//! What the engine's API sends of a log, cut into entries.
//!
//! Without a terminal each entry is a frame: a byte for the stream (1 stdout, 2 stderr, 3 an error of the engine's own), three zeros, the length in four bytes,
//! the highest first, and so many bytes (moby, `pkg/stdcopy`). With a terminal the entries stand one behind the other, with nothing between them. Both begin with
//! the time and a blank, for `timestamps=1`.
//!
//! A line that is longer than the buffer of the engine's copier comes in several entries with one time, of which only the last ends in a line feed, as in the
//! engine's files.

use memchr::{memchr, memmem};

use super::json_file::Entry;
use crate::logs::Stream;
use crate::logs::assemble::PART_BYTES;
use crate::logs::time::parse_rfc3339;

/// The largest entry that is taken. The engine's copier makes 16 KiB, which are 48 when all of it was no UTF-8.
const LONGEST_ENTRY: usize = 1 << 20;
const HEADER: usize = 8;
/// The longest time: `2026-11-20T10:00:00.123456789+02:00`.
const LONGEST_TIME: usize = 35;

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The bytes are no frames.
    #[error("{0}")]
    Garbled(&'static str),
    /// The engine told of an error in place of an entry; cut at 300 characters.
    #[error("the engine said: {0}")]
    Told(String),
}

/// Cuts a stream into entries, however its bytes arrive. It holds the bytes of one entry that is not whole, at most.
#[derive(Debug)]
pub struct Frames {
    tty: bool,
    buffer: Vec<u8>,
}

impl Frames {
    /// For a stream from its beginning.
    #[must_use]
    pub const fn new(tty: bool) -> Self {
        Self { tty, buffer: Vec::new() }
    }

    /// Takes bytes, and gives the entries that are whole.
    ///
    /// # Errors
    /// [`Broken`]; nothing more can be told of this stream.
    pub fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&Entry<'_>)) -> Result<(), Broken> {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        loop {
            let rest = self.buffer.get(taken..).unwrap_or_default();
            let length = if self.tty { raw(rest, false, emit)? } else { frame(rest, emit)? };
            if length == 0 {
                break;
            }
            taken += length;
        }
        self.buffer.drain(..taken);
        Ok(())
    }

    /// The engine has ended a stream that it does not follow: what is left of a terminal's is an entry.
    ///
    /// # Errors
    /// [`Broken`] when it ended within one.
    pub fn finish(self, emit: &mut dyn FnMut(&Entry<'_>)) -> Result<(), Broken> {
        let mut rest = &*self.buffer;
        while !rest.is_empty() {
            let length = if self.tty { raw(rest, true, emit)? } else { 0 };
            if length == 0 {
                return Err(Broken::Garbled("the stream ended within an entry"));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Takes a frame: its length with its header, 0 when it is not whole.
fn frame(bytes: &[u8], emit: &mut dyn FnMut(&Entry<'_>)) -> Result<usize, Broken> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(0) };
    let [kind, 0, 0, 0, length @ ..] = *header else { return Err(Broken::Garbled("the header of a frame is none")) };
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if kind > 3 || length > LONGEST_ENTRY {
        return Err(Broken::Garbled("a frame of another kind, or a larger one than there is"));
    }
    let Some(content) = rest.get(..length) else { return Ok(0) };
    let stream = match kind {
        3 => return Err(Broken::Told(String::from_utf8_lossy(content).trim().chars().take(300).collect())),
        2 => Stream::Stderr,
        _ => Stream::Stdout,
    };
    let blank = time_ends(content).ok_or(Broken::Garbled("a frame without a time"))?;
    let time = content.get(..blank).and_then(parse_rfc3339).ok_or(Broken::Garbled("a frame without a time"))?;
    emit(&Entry { stream, time, log: content.get(blank + 1..).unwrap_or_default() });
    Ok(HEADER + length)
}

/// Takes an entry of a terminal's: its length, 0 when it is not whole.
///
/// It ends behind its line feed. A part of a longer line has none; it has the bytes of the copier's buffer, or more where they were no UTF-8, and the next one
/// begins with the very same time.
fn raw(bytes: &[u8], is_last: bool, emit: &mut dyn FnMut(&Entry<'_>)) -> Result<usize, Broken> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let Some(blank) = time_ends(bytes) else {
        return if bytes.len() <= LONGEST_TIME && !is_last { Ok(0) } else { Err(Broken::Garbled("an entry without a time")) };
    };
    let Some((stamp, rest)) = bytes.split_at_checked(blank + 1) else { return Ok(0) };
    let time = stamp.get(..blank).and_then(parse_rfc3339).ok_or(Broken::Garbled("an entry without a time"))?;
    let line_feed = memchr(b'\n', rest);
    let searched = rest.get(..line_feed.unwrap_or(rest.len())).unwrap_or_default();
    let part = searched.get(PART_BYTES..).and_then(|behind| memmem::find(behind, stamp)).map(|at| PART_BYTES + at);
    let length = match (part, line_feed) {
        (Some(part), _) => part,
        (None, Some(line_feed)) => line_feed + 1,
        (None, None) if is_last => rest.len(),
        (None, None) if rest.len() > LONGEST_ENTRY => return Err(Broken::Garbled("an entry that is longer than any")),
        (None, None) => return Ok(0),
    };
    emit(&Entry { stream: Stream::Stdout, time, log: rest.get(..length).unwrap_or_default() });
    Ok(stamp.len() + length)
}

/// Where the blank behind the time stands.
fn time_ends(content: &[u8]) -> Option<usize> {
    memchr(b' ', content.get(..content.len().min(LONGEST_TIME + 1)).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::time::write_rfc3339;

    type Made = (Stream, i64, Vec<u8>);

    /// An entry as the engine sends it.
    pub(crate) fn encoded(tty: bool, stream: Stream, time: i64, log: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        write_rfc3339(time, &mut content);
        content.push(b' ');
        content.extend_from_slice(log);
        if tty {
            return content;
        }
        let mut frame = vec![stream as u8, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&content);
        frame
    }

    fn read(tty: bool, pieces: &[&[u8]], ends: bool) -> (Vec<Made>, Result<(), Broken>) {
        let mut made = Vec::new();
        let mut emit = |entry: &Entry<'_>| made.push((entry.stream, entry.time, entry.log.to_vec()));
        let mut frames = Frames::new(tty);
        for piece in pieces {
            if let Err(broken) = frames.push(piece, &mut emit) {
                return (made, Err(broken));
            }
        }
        let result = if ends { frames.finish(&mut emit) } else { Ok(()) };
        (made, result)
    }

    #[test]
    fn what_a_real_engine_sends() {
        let line = b"\x01\0\0\0\0\0\0\x252026-11-21T10:00:00.123456789Z hello\n\x02\0\0\0\0\0\0\x202026-11-21T10:00:01.5Z an error\n";
        let (made, result) = read(false, &[&line[..40], &line[40..]], false);
        assert_eq!(result, Ok(()));
        let expected = [
            (Stream::Stdout, 1_795_255_200_123_456_789, b"hello\n".to_vec()),
            (Stream::Stderr, 1_795_255_201_500_000_000, b"an error\n".to_vec()),
        ];
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_broken_ends_the_stream() {
        let good = encoded(false, Stream::Stdout, 5, b"x\n");
        for (bad, what) in [
            (&b"\x01\0\x01\0\0\0\0\x05hello"[..], "header"),
            (b"\x04\0\0\0\0\0\0\x05hello", "kind"),
            (b"\x01\0\0\0\xff\xff\xff\xffhello", "larger"),
            (b"\x01\0\0\0\0\0\0\x05hello", "without a time"),
            (b"\x03\0\0\0\0\0\0\x07no luck", "no luck"),
        ] {
            let (made, result) = read(false, &[&good, bad], false);
            assert_eq!(made.len(), 1);
            assert!(result.unwrap_err().to_string().contains(what), "{what}");
        }
        let (made, result) = read(false, &[&good, &good[..12]], true);
        assert!(made.len() == 1 && result.is_err());
        assert!(read(true, &[b"2026-11-21T10:00:00.123456789Z hello\nno time here, and long enough for one\n"], false).1.is_err());
    }

    #[test]
    fn the_last_words_of_a_terminal() {
        let words = encoded(true, Stream::Stdout, 5, b"bye");
        assert_eq!(read(true, &[&words], false).0, []);
        assert_eq!(read(true, &[&words], true), (vec![(Stream::Stdout, 5, b"bye".to_vec())], Ok(())));
    }

    fn entry() -> impl Strategy<Value = (bool, i64, u8, usize, bool)> {
        let length = prop_oneof![3 => 0..40usize, 1 => 1..3usize];
        (any::<bool>(), 0..3i64, b'a'..b'd', length, prop::bool::weighted(0.8))
    }

    proptest! {
        #[test]
        fn entries_come_out_whole_however_they_arrive(
            entries in prop::collection::vec(entry(), 0..20), tty: bool, cuts in prop::collection::vec(0..60_000usize, 0..8)
        ) {
            let mut time = 1_790_000_000_000_000_000;
            let mut expected: Vec<Made> = Vec::new();
            for (is_error, later, fill, length, is_whole) in entries {
                time += later + 1;
                let stream = if is_error && !tty { Stream::Stderr } else { Stream::Stdout };
                if is_whole {
                    expected.push((stream, time, [&vec![fill; length][..], b"\n"].concat()));
                } else {
                    // A long line: full parts, and the rest.
                    expected.extend((0..length % 3).map(|_| (stream, time, vec![fill; PART_BYTES])));
                    expected.push((stream, time, [&vec![fill; length][..], b"\n"].concat()));
                }
            }
            let bytes: Vec<u8> = expected.iter().flat_map(|(stream, time, log)| encoded(tty, *stream, *time, log)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (made, result) = read(tty, &pieces, true);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(made, expected);
        }

        #[test]
        fn bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6), tty: bool) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            drop(read(tty, &pieces, true));
        }

        #[test]
        fn nearly_frames_never_panic(kind in 0..5u8, length in 0..80u32, content in "[0-9TZ:. -]{0,60}\n?", tty: bool) {
            let frame = [&[kind, 0, 0, 0][..], &length.to_be_bytes(), content.as_bytes()].concat();
            drop(read(tty, &[&frame, &frame], true));
        }
    }
}
