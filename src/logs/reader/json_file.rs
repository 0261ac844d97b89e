//! The lines of Docker's `json-file` driver.

use crate::logs::Stream;

/// One entry of a log: what Docker's copier handed to the driver, at most 16 KiB of what the container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The stream it was written to.
    pub stream: Stream,
    /// Docker's time, nanoseconds since the epoch.
    pub time: i64,
    /// The bytes, decoded. They end with a line feed unless the entry is a part of a longer line or the last thing a process wrote.
    pub log: &'a [u8],
}

/// A line that is no entry, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// Reads a line of the file, with or without its line feed. `scratch` takes the decoded bytes where something is escaped.
///
/// # Errors
/// [`Malformed`] when the line is no entry.
pub fn parse<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Entry<'a>, Malformed> {
    let _ = (line, scratch);
    Err(Malformed("not yet"))
}

/// What may be read of a line that is [`Malformed`] because it begins with a torn entry or with NULs.
#[must_use]
pub fn behind_tear(line: &[u8]) -> Option<&[u8]> {
    let _ = line;
    None
}
