//! Deflate and gzip (RFC 1951 and 1952) by what is known of the bytes: expositions ([`crate::http`]) and records ([`gzip`]) repeat themselves in ways that a
//! general compressor has to find out anew each time. One block, with one prefix code that was made for it.

mod bits;
mod code;
pub mod gzip;

pub(crate) use bits::{Bits, CHUNK};
pub(crate) use code::{Code, MOST_BITS, Word, at_once, packed};

/// How far back deflate reaches.
pub(crate) const WINDOW: usize = 32 << 10;
pub(crate) const LONGEST: usize = 258;
pub(crate) const SHORTEST: usize = 4;
pub(crate) const LITERALS: usize = 286;
pub(crate) const DISTANCES: usize = 30;
pub(crate) const END: usize = 256;

/// The head of a file of gzip: deflate, no name, no time, the fastest way, no system that matters.
pub(crate) const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// How many bytes are the same at the begin of both.
pub(crate) fn common(one: &[u8], other: &[u8]) -> usize {
    let mut length = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        if one != other {
            break;
        }
        length += 8;
    }
    length + one.iter().skip(length).zip(other.iter().skip(length)).take_while(|(one, other)| one == other).count()
}

/// How many bytes are the same at the end of both.
pub(crate) fn common_end(one: &[u8], other: &[u8]) -> usize {
    let mut length = 0;
    for (one, other) in one.rchunks_exact(8).zip(other.rchunks_exact(8)) {
        if one != other {
            break;
        }
        length += 8;
    }
    length + one.iter().rev().skip(length).zip(other.iter().rev().skip(length)).take_while(|(one, other)| one == other).count()
}
