//! Container logs: every line that reached Docker's log reaches its sink once, in order, whatever dies in between.
//!
//! ```text
//! containers/<id>/<id>-json.log* ─▶ files (the table, the spool) ─▶ reader ▶ assemble ▶ record ▶ batch ─▶ sink ──verdicts──▶ cursor
//! the engine's API ─▶ feed/<id>/<id>-json.log* ─▶ the same
//! ```
//!
//! `files` owns descriptors and never waits for a sink. A route (`route`) owns positions: it reads, assembles, encodes into a batch, and moves its
//! cursor when the sink has given every record of the batch its verdict.

pub mod assemble;
pub mod batch;
mod colour;
pub mod cursor;
pub mod enrich;
pub mod feed;
pub mod files;
pub mod index;
pub mod json;
pub mod level;
pub mod logstash;
pub mod pipeline;
pub mod positions;
pub mod reader;
pub mod record;
pub mod route;
pub mod sink;
pub mod spool;
pub mod steer;
pub mod tail;
pub mod time;

use std::fmt;

pub use crate::model::ContainerId;

/// The stream that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// Standard output, and everything of a container with a terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Stream {
    /// Both, in the order of [`Stream::index`].
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The name in Docker's files and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// 0 or 1, for arrays by stream.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// What a log file is recognised by, over renames, restarts and recycled inodes: the time of its first entry and the hash of its first line. (The
/// container is the third part; files are only ever compared within one.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    /// `time` of the first entry, nanoseconds since the epoch.
    pub first_time: i64,
    /// xxh3-64 of the first line's bytes as they stand in the file, without the line feed.
    pub hash: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.first_time, self.hash)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, hash) = text.rsplit_once('-').ok_or(())?;
        Ok(Self { first_time: time.parse().map_err(|_| ())?, hash: u64::from_str_radix(hash, 16).map_err(|_| ())? })
    }
}

/// A place in a container's log: a byte offset in the file of this fingerprint. The offset counts from the file's own beginning, also in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: Fingerprint,
    /// The offset in bytes.
    pub offset: u64,
}

/// Who wrote a log, as the files beside it tell (`config.v2.json`, `hostconfig.json`), so that no record waits for Docker's API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerMeta {
    /// The name without its leading slash.
    pub name: String,
    /// The image as it was asked for: `Config.Image`.
    pub image: String,
    /// The name that it has for itself: `Config.Hostname`, empty where none is told.
    pub host_name: String,
    /// Labels, by name.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// The log driver: `HostConfig.LogConfig.Type`.
    pub log_driver: String,
    /// `max-file` of the log driver; 1 where none is told, as the engine takes it.
    pub max_file: u32,
    /// `max-size` of the log driver in bytes; `None` where the file grows without end.
    pub max_size: Option<u64>,
    /// Whether it runs: `State.Running`.
    pub running: bool,
    /// The value of `LOGSPOUT` in its environment; nothing else of the environment is kept.
    pub logspout: Option<String>,
}
