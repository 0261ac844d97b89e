//! `stdout:`: records as NDJSON on standard output. What was written is acknowledged; what a reader behind a pipe does with it is not known.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::file::documents;
use super::part::WorkerPart;
use super::retry::{self, Pace};
use crate::logs::batch::Batch;
use crate::telemetry::RouteMetrics;

/// The sink of a `stdout:` route.
#[derive(Debug)]
pub struct StdoutSink {
    /// Without the library's line buffer, so that it is known how much was written.
    output: Arc<File>,
    part: WorkerPart,
    metrics: RouteMetrics,
}

impl StdoutSink {
    pub(super) fn open(part: WorkerPart, metrics: RouteMetrics) -> Result<Self, String> {
        let output = io::stdout().as_fd().try_clone_to_owned().map_err(|error| format!("standard output is closed ({})", error.kind()))?;
        Ok(Self { output: Arc::new(File::from(output)), part, metrics })
    }

    /// A fault goes on behind the last byte written. A reader that does not read stops it here, which `stop` ends.
    pub(super) async fn deliver(&self, batch: &Batch, stop: &CancellationToken) -> Delivery {
        let mut text = documents(batch);
        let taken = batch.records().len() as u64;
        let mut attempt = 0;
        loop {
            let output = Arc::clone(&self.output);
            let write = tokio::task::spawn_blocking(move || write(&output, text));
            let Some(written) = stop.run_until_cancelled(write).await else { return Delivery::Interrupted };
            let Ok((rest, result)) = written else { return Delivery::Interrupted };
            self.metrics.sink_up(result.is_ok());
            match result {
                Ok(()) => {
                    self.part.ok();
                    return Delivery::Done { taken, duplicates: 0, refused: 0 };
                }
                Err(error) => {
                    self.part.degraded(format!("standard output cannot be written ({}); records wait in their log files", error.kind()))
                }
            }
            self.metrics.retried("write", taken);
            text = rest;
            if stop.run_until_cancelled(tokio::time::sleep(Pace::PROMPT.delay(attempt, retry::random()))).await.is_none() {
                return Delivery::Interrupted;
            }
            attempt += 1;
        }
    }
}

/// Writes all of it, as far as it goes; gives the rest.
fn write(mut output: &File, mut text: Bytes) -> (Bytes, io::Result<()>) {
    // Whoever prints by the library's way waits for whole records.
    let _lock = io::stdout().lock();
    while !text.is_empty() {
        match output.write(&text) {
            Ok(0) => return (text, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => text.advance(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (text, Err(error)),
        }
    }
    (text, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::sink::tests::push;
    use crate::telemetry::{Metrics, Parts, State};
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn sink(parts: &Parts) -> (StdoutSink, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let output = Arc::new(File::from(OwnedFd::from(writer)));
        (StdoutSink { output, part: WorkerPart::new(parts.part("route:stdout")), metrics: Metrics::new().unwrap().route("stdout") }, reader)
    }

    fn batch() -> Batch {
        let mut batch = Batch::default();
        for number in 0..3 {
            push(&mut batch, "", &format!("{{\"n\":{number}}}"));
        }
        batch
    }

    #[tokio::test]
    async fn documents_are_written_one_a_line() {
        let (sink, mut reader) = sink(&Parts::default());
        let delivery = sink.deliver(&batch(), &CancellationToken::new()).await;
        assert_eq!(delivery, Delivery::Done { taken: 3, duplicates: 0, refused: 0 });
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told_and_nothing_is_acknowledged() {
        let parts = Parts::default();
        let (sink, reader) = sink(&parts);
        drop(reader);
        let stop = CancellationToken::new();
        let batch = batch();
        let (delivery, ()) = tokio::join!(sink.deliver(&batch, &stop), async {
            while !matches!(parts.all().first(), Some((_, State::Degraded(_)))) {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        });
        assert_eq!(delivery, Delivery::Interrupted);
    }
}
