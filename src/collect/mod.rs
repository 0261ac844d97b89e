//! Host metrics: one collector a file, named as node_exporter names it, and the registry of all of them.
//!
//! A collector is synchronous, reads the host when it is asked, and knows nothing of Docker or HTTP. To add one: a file here, a line in [`ENTRIES`], a golden
//! test with a recording of a real machine.

use std::fmt;

use crate::config::{Flag, Settings};
use crate::exposition::Writer;
use crate::host::{ReadError, Reader};

/// Reads one subject and writes its families.
pub trait Collector: Send {
    /// Reads and writes. Buffers that it needs belong to it and are kept.
    ///
    /// # Errors
    /// [`CollectError`] when nothing of the subject could be read. What could be read is written all the same, and one odd line or device is
    /// no failure: it is told to [`Pass::odd`].
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError>;
}

/// Whether a machine has what a collector reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has, and it was read.
    Present,
    /// It has no such thing (no such hardware, a kernel without it): nothing was written and nothing is wrong.
    Absent,
}

/// Why a collector has nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something else, in a sentence.
    #[error("{0}")]
    Other(String),
}

/// What a collector works with during one scrape.
pub struct Pass<'a> {
    /// Reads the host.
    pub host: &'a mut Reader,
    /// Takes the families.
    pub out: &'a mut Writer,
    odd: u64,
    example: String,
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("odd", &self.odd).finish_non_exhaustive()
    }
}

impl<'a> Pass<'a> {
    /// A pass over `host` into `out`.
    pub const fn new(host: &'a mut Reader, out: &'a mut Writer) -> Self {
        Self { host, out, odd: 0, example: String::new() }
    }

    /// Tells that a line, a device or a sensor could not be understood, while the rest goes on. Counted; the first of a scrape is kept as the example.
    pub fn odd(&mut self, what: &dyn fmt::Display) {
        self.odd += 1;
        if self.odd == 1 {
            self.example = what.to_string();
        }
    }

    /// How many oddities there were, and the first of them.
    #[must_use]
    pub fn oddities(self) -> (u64, String) {
        (self.odd, self.example)
    }
}

/// Ends a collector with [`Presence::Absent`] when its file is not there, and with an error when the file cannot be read.
#[macro_export]
macro_rules! present {
    ($read:expr) => {
        match $read {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok($crate::collect::Presence::Absent),
            Err(error) => return Err(error.into()),
        }
    };
}

/// A collector in the registry.
#[derive(Debug)]
pub struct Entry {
    /// The name in flags, in `collect[]` and in `node_scrape_collector_*`.
    pub name: &'static str,
    /// Whether it runs without being asked for.
    pub on_by_default: bool,
    /// Its own flags, beside `--collector.NAME`.
    pub flags: &'static [Flag],
    /// Makes it. An error is a sentence that names the flag, the value, why it is refused and what would do.
    pub build: fn(&Settings) -> Result<Box<dyn Collector>, String>,
}

/// All collectors of the host, in the order of their names.
pub static ENTRIES: &[Entry] = &[];

/// Flags (stand-in)
pub fn flags() -> impl Iterator<Item = Flag> {
    std::iter::empty()
}
/// Stand-in.
pub fn build(_: &Settings) -> Result<Vec<(&'static str, Box<dyn Collector>)>, Vec<String>> {
    Ok(Vec::new())
}
