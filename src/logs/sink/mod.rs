//! Where records go. A sink brings every record of a batch to its verdict, and gives one only when it is durable: a route moves its cursor by it.
//!
//! `elasticsearch` sends, `bulk` reads the answer, `retry` decides (both pure), `template` is put before the first request; `file` and `stdout` write
//! NDJSON; what a sink refuses for good lies in the `dead_letter` file.

pub mod bulk;
mod dead_letter;
mod elasticsearch;
mod file;
mod hosts;
mod part;
mod retry;
mod secrets;
mod stdout;
mod template;
#[cfg(test)]
pub(in crate::logs) mod tests;

pub use dead_letter::DeadLetter;
pub use elasticsearch::ElasticsearchSink;
pub use file::FileSink;
pub use stdout::StdoutSink;

use tokio_util::sync::CancellationToken;

use self::part::WorkerPart;
use super::batch::Batch;
use crate::config::{Adapter, RouteSpec};
use crate::telemetry::{Parts, RouteMetrics};

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Every record has its verdict; the three numbers add up to the batch's records.
    Done {
        /// Records that the sink took now.
        taken: u64,
        /// Records that it had already.
        duplicates: u64,
        /// Records that it refused for good; they lie in the dead letter file, or are counted as dropped.
        refused: u64,
    },
    /// It was told to stop before that: nothing may be acknowledged. What the sink took of it will be recognised when it comes again.
    Interrupted,
}

/// The sink of one route.
#[derive(Debug)]
pub enum Sink {
    /// Elasticsearch or OpenSearch.
    Elasticsearch(Box<ElasticsearchSink>),
    /// Files of NDJSON.
    File(FileSink),
    /// Standard output, NDJSON.
    Stdout(StdoutSink),
}

impl Sink {
    /// Opens the sink of `spec`. It tells of itself as the part `route:<name>`.
    ///
    /// # Errors
    /// A sentence, for what can never work: a host that cannot be part of a URL, a standard output that is closed. Never for what may come back: a server
    /// that is away, a file of secrets that is not there yet, a directory that cannot be written now. Those degrade the part, and are tried again by
    /// [`Sink::deliver`].
    pub fn open(spec: &RouteSpec, parts: &Parts, metrics: RouteMetrics, dead_letter: DeadLetter) -> Result<Self, String> {
        let part = WorkerPart::new(parts.part(&format!("route:{}", spec.name())));
        Self::open_as(spec, part, metrics, dead_letter)
    }

    /// Opens a sink for each of the route's workers: with connections of its own, so that none waits for another. They tell of themselves as one part, and
    /// have one dead letter file.
    ///
    /// # Errors
    /// As [`Sink::open`].
    pub fn open_all(spec: &RouteSpec, parts: &Parts, metrics: &RouteMetrics, dead_letter: &DeadLetter) -> Result<Vec<Self>, String> {
        let part = parts.part(&format!("route:{}", spec.name()));
        let parts = WorkerPart::share(&part, spec.workers);
        parts.into_iter().map(|part| Self::open_as(spec, part, metrics.clone(), dead_letter.clone())).collect()
    }

    fn open_as(spec: &RouteSpec, part: WorkerPart, metrics: RouteMetrics, dead_letter: DeadLetter) -> Result<Self, String> {
        let name = spec.given_name.as_deref();
        match &spec.adapter {
            Adapter::Elasticsearch(of) => {
                ElasticsearchSink::open(of, spec.schema, part, metrics, dead_letter).map(|sink| Self::Elasticsearch(Box::new(sink)))
            }
            Adapter::File(of) => Ok(Self::File(FileSink::open(name, of, part, metrics))),
            Adapter::Stdout => StdoutSink::open(part, metrics).map(Self::Stdout),
        }
    }

    /// The pattern of the index that a record's action line names; `None` when records have no action line.
    #[must_use]
    pub fn index(&self) -> Option<&str> {
        match self {
            Self::Elasticsearch(sink) => Some(sink.index()),
            Self::File(_) | Self::Stdout(_) => None,
        }
    }

    /// Brings every record of the batch to its verdict, trying again by itself with backoff and jitter for as long as it takes; returns early only when
    /// `stop` is cancelled. Batches of one sink are delivered one after the other.
    pub async fn deliver(&self, batch: &Batch, stop: &CancellationToken) -> Delivery {
        match self {
            Self::Elasticsearch(sink) => sink.deliver(batch, stop).await,
            Self::File(sink) => sink.deliver(batch, stop).await,
            Self::Stdout(sink) => sink.deliver(batch, stop).await,
        }
    }

    /// What the cursor is to keep for the sink beside the positions: for `file://` how far its output is whole. Read it after each
    /// [`Delivery::Done`].
    #[must_use]
    pub fn checkpoint(&self) -> Option<serde_json::Value> {
        match self {
            Self::File(sink) => sink.checkpoint(),
            Self::Elasticsearch(_) | Self::Stdout(_) => None,
        }
    }

    /// Takes the sink back to what the cursor has acknowledged: `file://` is cut there, so that a death between writing and the cursor repeats nothing.
    /// Once, before the first batch. What cannot be cut now degrades the part, and is cut before the first batch is written.
    ///
    /// # Errors
    /// A sentence, for what can never work; no sink has such a thing.
    pub fn restore(&self, checkpoint: Option<&serde_json::Value>) -> Result<(), String> {
        if let Self::File(sink) = self {
            sink.restore(checkpoint);
        }
        Ok(())
    }

    /// Whether the sink would take records now: for `skep check`. Nothing is written to a server.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub async fn probe(&self) -> Result<String, String> {
        match self {
            Self::Elasticsearch(sink) => sink.probe().await,
            Self::File(sink) => sink.probe(),
            Self::Stdout(_) => Ok("standard output".to_owned()),
        }
    }

    /// Rereads files of secrets and certificates before the next request.
    pub fn reload(&self) {
        if let Self::Elasticsearch(sink) = self {
            sink.reload();
        }
    }
}

/// Does what takes a processor or a disk some time, and lets the runtime's other tasks go on meanwhile, where it has other threads for them.
fn off_the_workers<T>(work: impl FnOnce() -> T) -> T {
    let of_many = tokio::runtime::Handle::try_current().is_ok_and(|of| of.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if of_many { tokio::task::block_in_place(work) } else { work() }
}

/// The name of a route as the name of a file: signs that are not safe in one become `_`, and then a hash keeps two such names apart.
#[must_use]
pub fn file_stem(route: &str) -> String {
    let safe = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_');
    if !route.is_empty() && route.len() <= 100 && route.chars().all(safe) {
        return route.to_owned();
    }
    let word: String = route.chars().take(60).map(|sign| if safe(sign) { sign } else { '_' }).collect();
    format!("{word}-{:016x}", xxhash_rust::xxh3::xxh3_64(route.as_bytes()))
}
