//! `file:///dir`: records as NDJSON in `<dir>/<name or skep>.ndjson`, synced before they count. Full or old files become `<name>.<generation>.ndjson`.
//!
//! The cursor keeps how far the output was whole ([`FileSink::checkpoint`]); at the start the file is cut there ([`FileSink::restore`]), so that a death
//! between the write and the cursor repeats nothing. A file is begun anew only between batches: when it is, the cursor knows all of the one before.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::part::WorkerPart;
use super::retry::{self, Pace};
use crate::config::FileSpec;
use crate::logs::batch::Batch;
use crate::telemetry::RouteMetrics;

/// The sink of a `file://` route.
#[derive(Debug)]
pub struct FileSink {
    part: WorkerPart,
    metrics: RouteMetrics,
    output: Arc<Mutex<Output>>,
}

/// The file that is written.
#[derive(Debug)]
struct Output {
    spec: FileSpec,
    stem: String,
    file: Option<File>,
    /// Bytes of the file that are whole and synced.
    length: u64,
    /// Which file of the route it is; a full one takes the number into its name.
    generation: u64,
    /// When its first record was written.
    born: SystemTime,
    /// What the cursor had acknowledged when the route was opened.
    acknowledged: Option<Checkpoint>,
    /// The file has been taken back to that; before, nothing is written and the cursor keeps what it has.
    restored: bool,
}

/// What the cursor keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checkpoint {
    file: PathBuf,
    generation: u64,
    length: u64,
}

impl FileSink {
    /// What cannot be written now degrades the part; each delivery tries again.
    pub(super) fn open(name: Option<&str>, spec: &FileSpec, part: WorkerPart, metrics: RouteMetrics) -> Self {
        let stem = super::file_stem(name.unwrap_or("skep"));
        let (spec, born) = (spec.clone(), SystemTime::now());
        let output = Output { spec, stem, file: None, length: 0, generation: 1, born, acknowledged: None, restored: false };
        if let Err(error) = reopen_at(&output.spec.directory, &output.live()) {
            part.degraded(unwritable(&output.spec, &error));
        }
        Self { part, metrics, output: Arc::new(Mutex::new(output)) }
    }

    pub(super) fn checkpoint(&self) -> Option<serde_json::Value> {
        let output = self.lock();
        let checkpoint = if output.restored {
            Some(Checkpoint { file: output.live(), generation: output.generation, length: output.length })
        } else {
            output.acknowledged.clone()
        };
        checkpoint.and_then(|of| serde_json::to_value(of).ok())
    }

    pub(super) fn restore(&self, checkpoint: Option<&serde_json::Value>) {
        let mut output = self.lock();
        output.acknowledged = checkpoint.and_then(|value| Checkpoint::deserialize(value).ok());
        if let Err(error) = output.restore() {
            self.part.degraded(unwritable(&output.spec, &error));
        }
    }

    pub(super) async fn deliver(&self, batch: &Batch, stop: &CancellationToken) -> Delivery {
        let text = documents(batch);
        let taken = batch.records().len() as u64;
        let mut attempt = 0;
        loop {
            let (output, of) = (Arc::clone(&self.output), text.clone());
            let started = std::time::Instant::now();
            let write = move || output.lock().unwrap_or_else(PoisonError::into_inner).append(&of);
            // A disk that hangs must not keep an agent that stops. What it writes after all is cut off at the next start.
            let Some(written) = stop.run_until_cancelled(tokio::task::spawn_blocking(write)).await else { return Delivery::Interrupted };
            let written = written.unwrap_or_else(|fault| Err(io::Error::other(fault)));
            self.metrics.request_duration.observe(started.elapsed().as_secs_f64());
            self.metrics.sink_up(written.is_ok());
            match written {
                Ok(()) => {
                    self.part.ok();
                    return Delivery::Done { taken, duplicates: 0, refused: 0 };
                }
                Err(error) => self.part.degraded(unwritable(&self.lock().spec, &error)),
            }
            self.metrics.retried("write", taken);
            if stop.run_until_cancelled(tokio::time::sleep(Pace::PROMPT.delay(attempt, retry::random()))).await.is_none() {
                return Delivery::Interrupted;
            }
            attempt += 1;
        }
    }

    /// Whether the file can be written to. Nothing is written.
    pub(super) fn probe(&self) -> Result<String, String> {
        let output = self.lock();
        let live = output.live();
        reopen_at(&output.spec.directory, &live).map(|_| live.display().to_string()).map_err(|error| unwritable(&output.spec, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn live(&self) -> PathBuf {
        self.spec.directory.join(format!("{}.ndjson", self.stem))
    }

    fn full(&self, generation: u64) -> PathBuf {
        self.spec.directory.join(format!("{}.{generation}.ndjson", self.stem))
    }

    /// Takes the file back to what is acknowledged. Where nothing is, to its last whole line.
    fn restore(&mut self) -> io::Result<()> {
        let file = self.reopen()?;
        self.generation = self.generations()?.last().copied().unwrap_or(0) + 1;
        let found = file.metadata()?.len();
        let length = match self.acknowledged.clone().filter(|of| of.file == self.live()) {
            Some(of) if of.generation < self.generation => {
                // The acknowledged file was full and has its number; nothing of the new one is acknowledged.
                0
            }
            Some(of) => {
                self.generation = of.generation;
                if found < of.length {
                    tracing::warn!(file = %self.live().display(), "the output is shorter than what was written: somebody cut or moved it; it goes on from there");
                }
                of.length.min(found)
            }
            None => last_line_end(&file, found)?,
        };
        if length < found {
            tracing::info!(file = %self.live().display(), bytes = found - length, "what was written and not acknowledged is cut off; it will be written again");
            file.set_len(length)?;
            file.sync_all()?;
        }
        self.length = length;
        self.restored = true;
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines and syncs them. After a fault the file is as it was before.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if !self.restored {
            self.restore()?;
        }
        self.look()?;
        let too_long = self.length.saturating_add(text.len() as u64) > self.spec.max_bytes;
        let too_old = self.spec.max_age.is_some_and(|most| self.born.elapsed().is_ok_and(|age| age > most));
        if self.length > 0 && (too_long || too_old) {
            self.rotate()?;
        }
        if self.length == 0 {
            self.born = SystemTime::now();
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => &mut *self.file.insert(reopen_at(&self.spec.directory, &self.spec.directory.join(format!("{}.ndjson", self.stem)))?),
        };
        match file.write_all(text).and_then(|()| file.sync_data()) {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What cannot even be cut is cut by the next try, which begins with a look.
                file.set_len(self.length).and(Err(error))
            }
        }
    }

    /// Sees to it that the open file is the one of that name, and as long as it was left: others may move, remove or cut it.
    fn look(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            let open = file.metadata()?;
            match fs::metadata(self.live()) {
                Ok(named) if (named.dev(), named.ino()) == (open.dev(), open.ino()) => {
                    if open.len() > self.length {
                        file.set_len(self.length)?;
                    }
                    self.length = self.length.min(open.len());
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.generation += 1;
        }
        let file = self.reopen()?;
        self.length = last_line_end(&file, file.metadata()?.len())?;
        file.set_len(self.length)?;
        self.file = Some(file);
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<File> {
        let file = reopen_at(&self.spec.directory, &self.live())?;
        let metadata = file.metadata()?;
        self.born = metadata.created().or_else(|_| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
        Ok(file)
    }

    /// Gives the full file its number, removes the oldest, begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(self.live(), self.full(self.generation))?;
        self.generation += 1;
        self.length = 0;
        self.file = None;
        let file = self.reopen()?;
        self.file = Some(file);
        let numbers = self.generations()?;
        let kept = usize::try_from(self.spec.keep).unwrap_or(usize::MAX);
        for &number in numbers.iter().take(numbers.len().saturating_sub(kept)) {
            fs::remove_file(self.full(number))?;
        }
        Ok(())
    }

    /// The numbers of the full files, ascending.
    fn generations(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.spec.directory)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(&*self.stem)?.strip_prefix('.')?.strip_suffix(".ndjson"))
                .and_then(|number| number.parse::<u64>().ok())
                .filter(|number| *number < u64::MAX);
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The documents of a batch, one a line.
pub(super) fn documents(batch: &Batch) -> Bytes {
    let mut text = Vec::with_capacity(batch.bytes_len());
    for span in batch.records() {
        text.extend_from_slice(batch.document(span));
    }
    Bytes::from(text)
}

/// Why records wait.
fn unwritable(spec: &FileSpec, error: &io::Error) -> String {
    let directory = spec.directory.display();
    format!(
        "file://{directory} cannot be written ({}); records wait in their log files. A directory that this user may write to would do",
        error.kind()
    )
}

/// The output is for somebody to read, of the group that runs the agent, and for nobody else.
fn reopen_at(directory: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// The last byte of a file that has `length` bytes.
pub(super) fn last_byte(mut file: &File, length: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(length.saturating_sub(1)))?;
    file.read_exact(&mut byte)?;
    let [byte] = byte;
    Ok(byte)
}

/// Where the last whole line of a file ends; read backwards.
fn last_line_end(mut file: &File, length: u64) -> io::Result<u64> {
    let mut chunk = vec![0; 64 << 10];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = chunk.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::sink::tests::push;
    use crate::telemetry::{Metrics, Parts, State};
    use std::time::Duration;

    fn spec(directory: &Path) -> FileSpec {
        FileSpec { directory: directory.join("out"), max_bytes: 100, max_age: None, keep: 2 }
    }

    fn open(spec: &FileSpec, parts: &Parts) -> FileSink {
        FileSink::open(None, spec, WorkerPart::new(parts.part("route:f")), Metrics::new().unwrap().route("f"))
    }

    fn batch(numbers: std::ops::Range<u32>) -> Batch {
        let mut batch = Batch::default();
        for number in numbers {
            push(&mut batch, "", &format!("{{\"n\":{number}}}"));
        }
        batch
    }

    async fn deliver(sink: &FileSink, numbers: std::ops::Range<u32>) {
        let taken = u64::from(numbers.end - numbers.start);
        let delivery = sink.deliver(&batch(numbers), &CancellationToken::new()).await;
        assert_eq!(delivery, Delivery::Done { taken, duplicates: 0, refused: 0 });
    }

    fn all(directory: &Path) -> Vec<u64> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory.join("out")).unwrap() {
            for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
                numbers.push(serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap());
            }
        }
        numbers.sort_unstable();
        numbers
    }

    #[tokio::test]
    async fn a_death_before_the_cursor_repeats_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        sink.restore(None);
        deliver(&sink, 0..5).await;
        let cursor = sink.checkpoint().unwrap();
        deliver(&sink, 5..8).await; // and dies before the cursor is written, in the middle of another record
        OpenOptions::new().append(true).open(spec.directory.join("skep.ndjson")).unwrap().write_all(b"{\"n\":9").unwrap();
        let sink = open(&spec, &Parts::default());
        sink.restore(Some(&cursor));
        deliver(&sink, 5..8).await;
        assert_eq!(all(directory.path()), (0..8).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_death_behind_a_rotation_repeats_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        sink.restore(None);
        deliver(&sink, 0..10).await;
        let cursor = sink.checkpoint().unwrap();
        deliver(&sink, 10..20).await;
        assert!(fs::metadata(spec.directory.join("skep.1.ndjson")).is_ok(), "it was rotated");
        let sink = open(&spec, &Parts::default());
        sink.restore(Some(&cursor));
        deliver(&sink, 10..20).await;
        assert_eq!(all(directory.path()), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn rotation_keeps_as_many_as_asked() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        for start in 0..5 {
            deliver(&sink, start * 10..start * 10 + 10).await;
        }
        assert_eq!(all(directory.path()), (20..50).collect::<Vec<_>>());
        for file in fs::read_dir(&spec.directory).unwrap() {
            let mode = file.unwrap().metadata().unwrap().mode() & 0o777;
            assert_eq!(mode & !0o640, 0, "{mode:o}: nobody else reads it");
        }
        assert_eq!(sink.checkpoint().unwrap()["generation"], 5);
        let old = FileSpec { max_age: Some(Duration::ZERO), max_bytes: 1 << 20, ..spec };
        let sink = open(&old, &Parts::default());
        deliver(&sink, 50..51).await;
        assert_eq!(sink.checkpoint().unwrap()["generation"], 6);
    }

    #[tokio::test]
    async fn without_a_cursor_half_a_line_goes() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        fs::write(spec.directory.join("skep.ndjson"), format!("{{\"n\":0}}\n{}", "x".repeat(200_000))).unwrap();
        sink.restore(None);
        deliver(&sink, 1..2).await;
        assert_eq!(all(directory.path()), [0, 1]);
    }

    #[tokio::test]
    async fn a_file_that_others_move_or_cut_loses_nothing_further() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        deliver(&sink, 0..2).await;
        fs::rename(spec.directory.join("skep.ndjson"), spec.directory.join("moved")).unwrap();
        deliver(&sink, 2..4).await;
        assert_eq!(all(directory.path()), [0, 1, 2, 3]);
        File::options().write(true).open(spec.directory.join("skep.ndjson")).unwrap().set_len(0).unwrap();
        deliver(&sink, 4..5).await;
        assert_eq!(all(directory.path()), [0, 1, 4]);
        let cursor = sink.checkpoint().unwrap();
        let sink = open(&spec, &Parts::default());
        sink.restore(Some(&cursor));
        deliver(&sink, 5..6).await;
        assert_eq!(all(directory.path()), [0, 1, 4, 5]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_waited_for_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let parts = Parts::default();
        let sink = Arc::new(open(&spec, &parts));
        // A directory in the place of the file: the write fails until it is gone.
        let live = spec.directory.join("skep.ndjson");
        fs::remove_file(&live).unwrap();
        fs::create_dir(&live).unwrap();
        let delivery = tokio::spawn({
            let sink = Arc::clone(&sink);
            async move { sink.deliver(&batch(0..3), &CancellationToken::new()).await }
        });
        while !matches!(parts.all().first(), Some((_, State::Degraded(_)))) {
            tokio::task::yield_now().await;
        }
        fs::remove_dir(&live).unwrap();
        assert_eq!(delivery.await.unwrap(), Delivery::Done { taken: 3, duplicates: 0, refused: 0 });
        assert_eq!(all(directory.path()), [0, 1, 2]);
        fs::remove_file(&live).unwrap();
        fs::create_dir(&live).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(sink.deliver(&batch(3..4), &stop).await, Delivery::Interrupted);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_that_hangs_does_not_keep_who_stops() {
        let directory = tempfile::tempdir().unwrap();
        let sink = open(&spec(directory.path()), &Parts::default());
        let hanging = sink.lock();
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(sink.deliver(&batch(0..1), &stop))),
            Delivery::Interrupted
        );
        drop(hanging);
    }

    /// A mount that comes later than the agent: nothing ends, nothing is lost, and what was acknowledged is still what the file is taken back to.
    #[tokio::test]
    async fn a_directory_that_comes_later_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(directory.path());
        let sink = open(&spec, &Parts::default());
        sink.restore(None);
        deliver(&sink, 0..3).await;
        let cursor = sink.checkpoint().unwrap();
        deliver(&sink, 3..6).await;
        let away = directory.path().join("away");
        fs::rename(&spec.directory, &away).unwrap();
        fs::write(&spec.directory, "a file where the directory should be").unwrap();

        let parts = Parts::default();
        let sink = open(&spec, &parts);
        assert!(matches!(&*parts.all(), [(_, State::Degraded(why))] if why.contains("cannot be written")));
        sink.restore(Some(&cursor));
        assert_eq!(sink.checkpoint(), Some(cursor), "a cursor that is saved meanwhile keeps what it had");
        let (records, stop) = (batch(3..5), CancellationToken::new());
        let (delivery, ()) = tokio::join!(sink.deliver(&records, &stop), async {
            while sink.metrics.request_duration.get_sample_count() == 0 {
                tokio::task::yield_now().await;
            }
            fs::remove_file(&spec.directory).unwrap();
            fs::rename(&away, &spec.directory).unwrap();
        });
        assert_eq!(delivery, Delivery::Done { taken: 2, duplicates: 0, refused: 0 });
        assert_eq!(all(directory.path()), [0, 1, 2, 3, 4]);
        assert!(matches!(&*parts.all(), [(_, State::Ok)]));
    }
}
