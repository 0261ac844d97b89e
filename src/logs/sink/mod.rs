//! Where records go. A sink brings every record of a batch to its verdict, and gives one only when it is durable: a route moves its cursor by it.
//!
//! `elasticsearch` sends, `bulk` reads the answer, `retry` decides (both pure), `template` is put before the first request; `file` and `stdout` write
//! NDJSON; what a sink refuses for good lies in the `dead_letter` file.

mod bulk;
mod dead_letter;
mod elasticsearch;
mod file;
mod retry;
mod stdout;
mod template;

pub use dead_letter::DeadLetter;
pub use elasticsearch::ElasticsearchSink;
pub use file::FileSink;
pub use stdout::StdoutSink;

use tokio_util::sync::CancellationToken;

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
    Elasticsearch(ElasticsearchSink),
    /// Files of NDJSON.
    File(FileSink),
    /// Standard output, NDJSON.
    Stdout(StdoutSink),
}

impl Sink {
    /// Opens the sink of `spec`. It tells of itself as the part `route:<name>`.
    ///
    /// # Errors
    /// A sentence, when the route cannot work as it is configured: a file of secrets that cannot be read, a directory that cannot be made. Never because
    /// a server is away.
    pub fn open(spec: &RouteSpec, parts: &Parts, metrics: RouteMetrics, dead_letter: DeadLetter) -> Result<Self, String> {
        let part = parts.part(&format!("route:{}", spec.name()));
        match &spec.adapter {
            Adapter::Elasticsearch(of) => ElasticsearchSink::open(&spec.name(), of, part, metrics, dead_letter).map(Self::Elasticsearch),
            Adapter::File(of) => FileSink::open(&spec.name(), of, part, metrics).map(Self::File),
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
            Self::File(sink) => Some(sink.checkpoint()),
            Self::Elasticsearch(_) | Self::Stdout(_) => None,
        }
    }

    /// Takes the sink back to what the cursor has acknowledged: `file://` is cut there, so that a death between writing and the cursor repeats nothing.
    /// Once, before the first batch.
    ///
    /// # Errors
    /// A sentence, when the file cannot be cut.
    pub fn restore(&self, checkpoint: Option<&serde_json::Value>) -> Result<(), String> {
        match self {
            Self::File(sink) => sink.restore(checkpoint),
            Self::Elasticsearch(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Rereads files of secrets and certificates before the next request.
    pub fn reload(&self) {
        if let Self::Elasticsearch(sink) = self {
            sink.reload();
        }
    }
}
