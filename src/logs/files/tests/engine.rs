//! A directory in which somebody plays the engine, and a reader that follows what the table shows.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{FileTable, LogFile, LoggedContainer, TableOptions};
use crate::logs::time::write_rfc3339;
use crate::logs::{ContainerId, Place};
use crate::telemetry::{Metrics, Parts, State};

pub(super) const FIRST_TIME: i64 = 1_700_000_000_000_000_000;

/// A table over a temporary directory.
pub(super) struct Bench {
    pub(super) root: tempfile::TempDir,
    pub(super) parts: Parts,
    pub(super) metrics: Metrics,
    pub(super) options: TableOptions,
}

impl Bench {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("containers")).unwrap();
        let options = TableOptions {
            containers_dir: root.path().join("containers"),
            spool_dir: Some(root.path().join("state/spool")),
            spool_bytes: 1 << 30,
            inotify: true,
            own_container: None,
            consumers: 1,
            feed_dir: None,
        };
        Self { root, parts: Parts::default(), metrics: Metrics::new().unwrap(), options }
    }

    pub(super) fn table(&self) -> Arc<FileTable> {
        FileTable::start(self.options.clone(), &self.parts, self.metrics.table()).unwrap()
    }

    pub(super) fn container(&self, number: u64) -> Engine {
        Engine::create(&self.options.containers_dir, number, 3, 4096)
    }

    /// The copies in the spool.
    pub(super) fn spooled(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(containers) = fs::read_dir(self.options.spool_dir.as_ref().unwrap()) else { return found };
        for container in containers.flatten() {
            let Ok(files) = fs::read_dir(container.path()) else { continue };
            found.extend(files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "log")));
        }
        found.sort();
        found
    }

    pub(super) fn is_spool_empty(&self) -> bool {
        fs::read_dir(self.options.spool_dir.as_ref().unwrap()).is_ok_and(|mut entries| entries.next().is_none())
    }

    /// The value of one of skep's own metrics.
    pub(super) fn value(&self, series: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0)
    }

    pub(super) fn state(&self, part: &str) -> Option<State> {
        self.parts.all().into_iter().find(|(name, _)| name == part).map(|(_, state)| state)
    }
}

/// Waits for something that the table's thread does. The limit is only there so that a fault ends the test.
pub(super) fn until(table: &FileTable, what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        table.wait(0, Duration::from_millis(5));
    }
}

pub(super) fn find(table: &FileTable, id: &ContainerId) -> Option<Arc<LoggedContainer>> {
    table.containers().iter().find(|container| container.id() == id).cloned()
}

pub(super) fn await_container(table: &FileTable, id: &ContainerId) -> Arc<LoggedContainer> {
    until(table, "the container is listed", || find(table, id).is_some());
    find(table, id).unwrap()
}

/// Writes and rotates one container's log as the engine does.
pub(super) struct Engine {
    pub(super) dir: PathBuf,
    pub(super) id: ContainerId,
    pub(super) max_file: u32,
    pub(super) max_size: u64,
    pub(super) file: Option<File>,
    size: u64,
    /// The number of the next line.
    pub(super) next: i64,
    pub(super) rotations: u64,
    /// The first line of each file, by its rotation number.
    firsts: Vec<i64>,
    /// `compress=true`.
    pub(super) is_compressing: bool,
    /// With one file, before 23.0: the full one is renamed.
    pub(super) leaves_one: bool,
}

pub(super) fn line(number: i64) -> Vec<u8> {
    let mut line =
        format!("{{\"log\":\"line {number} with \\\"time\\\":\\\"2020-01-01T00:00:00Z\\\"\\n\",\"stream\":\"stdout\",\"time\":\"")
            .into_bytes();
    write_rfc3339(FIRST_TIME + number, &mut line);
    line.extend_from_slice(b"\"}\n");
    line
}

impl Engine {
    /// The directory and the two descriptions; the log comes with [`Engine::open`].
    pub(super) fn create(root: &Path, number: u64, max_file: u32, max_size: u64) -> Self {
        let id = ContainerId::new(&format!("{number:064x}")).unwrap();
        let dir = root.join(id.as_str());
        fs::create_dir(&dir).unwrap();
        let engine = Self {
            dir,
            id,
            max_file,
            max_size,
            file: None,
            size: 0,
            next: 0,
            rotations: 0,
            firsts: vec![0],
            is_compressing: false,
            leaves_one: false,
        };
        let host = format!(r#"{{"LogConfig":{{"Type":"json-file","Config":{{"max-file":"{max_file}","max-size":"{max_size}"}}}}}}"#);
        fs::write(engine.dir.join("hostconfig.json"), host).unwrap();
        engine.describe(&format!("job-{number}"), true, "{}");
        engine
    }

    pub(super) fn describe(&self, name: &str, running: bool, labels: &str) {
        let config = format!(
            r#"{{"State":{{"Running":{running}}},"Config":{{"Tty":false,"Env":["A=secret"],"Image":"busybox","Labels":{labels}}},"Name":"/{name}"}}"#
        );
        let temporary = self.dir.join(".tmp-config.v2.json123");
        fs::write(&temporary, config).unwrap();
        fs::rename(temporary, self.dir.join("config.v2.json")).unwrap();
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        let name = format!("{}-json.log", self.id.as_str());
        self.dir.join(if number == 0 { name } else { format!("{name}.{number}") })
    }

    pub(super) fn compressed_path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}-json.log.{number}.gz", self.id.as_str()))
    }

    /// As dockerd's `compressFile`, in steps that somebody may see: the file grows beside the plain one, which goes when it is whole.
    pub(super) fn compress(&self) {
        let content = fs::read(self.path(1)).unwrap();
        let mut writer = flate2::GzBuilder::new().extra(&b"{}"[..]).write(Vec::new(), flate2::Compression::default());
        writer.write_all(&content).unwrap();
        let whole = writer.finish().unwrap();
        let mut file = File::create(self.compressed_path(1)).unwrap();
        for piece in whole.chunks(whole.len() / 3 + 1) {
            file.write_all(piece).unwrap();
        }
        drop(file);
        fs::remove_file(self.path(1)).unwrap();
    }

    pub(super) fn open(&mut self) {
        self.file = Some(OpenOptions::new().create(true).append(true).open(self.path(0)).unwrap());
        self.size = 0;
    }

    /// Writes one line with one `write`, after a rotation if the file is full. `before_removal` gets the first line of the file that is to be removed.
    pub(super) fn write(&mut self, before_removal: impl FnOnce(i64)) {
        if self.file.is_none() {
            self.open();
        }
        if self.size >= self.max_size {
            self.rotate(before_removal);
        }
        let line = line(self.next);
        self.file.as_mut().unwrap().write_all(&line).unwrap();
        self.size += line.len() as u64;
        self.next += 1;
    }

    /// The first line of the file that is written.
    pub(super) fn first(&self) -> i64 {
        self.firsts[0]
    }

    pub(super) fn write_many(&mut self, count: usize) {
        (0..count).for_each(|_| self.write(|_| ()));
    }

    /// As dockerd's `rotate`: close, remove the oldest, rename from the oldest to the newest, create.
    pub(super) fn rotate(&mut self, before_removal: impl FnOnce(i64)) {
        self.file = None;
        let last = self.max_file - 1;
        if let Some(first) = self.firsts.get(last as usize) {
            before_removal(*first);
        }
        if self.max_file > 1 {
            let path = |number| if self.is_compressing { self.compressed_path(number) } else { self.path(number) };
            fs::remove_file(path(last)).ok();
            for number in (1..last).rev() {
                fs::rename(path(number), path(number + 1)).ok();
            }
            fs::rename(self.path(0), self.path(1)).unwrap();
        } else {
            // 23.0 and later; before it a `.1` stays behind.
            if self.leaves_one {
                fs::rename(self.path(0), self.path(1)).unwrap();
            } else {
                fs::remove_file(self.path(0)).unwrap();
            }
        }
        self.firsts.insert(0, self.next);
        self.firsts.truncate(self.max_file as usize);
        self.rotations += 1;
        self.open();
        if self.is_compressing && self.max_file > 1 {
            self.compress();
        }
    }

    /// Throws the content of the only file away and goes on at its beginning.
    pub(super) fn write_anew(&mut self) {
        self.file.as_ref().unwrap().set_len(0).unwrap();
        self.size = 0;
    }

    pub(super) fn end(&mut self) {
        self.file = None;
        self.describe("ended", false, "{}");
    }

    pub(super) fn remove(&mut self) {
        self.file = None;
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// Reads along the chain and holds every line against the one before.
pub(super) struct Follower {
    pub(super) container: Arc<LoggedContainer>,
    file: Option<Arc<LogFile>>,
    offset: u64,
    rest: Vec<u8>,
    /// The number of the line that must come next.
    pub(super) next: i64,
    /// Whether lines may be missing. None ever comes twice or out of order.
    pub(super) may_miss: bool,
    /// The lines that came.
    pub(super) read: Vec<i64>,
}

impl Follower {
    pub(super) fn new(container: Arc<LoggedContainer>) -> Self {
        Self { container, file: None, offset: 0, rest: Vec::new(), next: 0, may_miss: false, read: Vec::new() }
    }

    /// Goes on at a place that was acknowledged, `next` being the line there. False when the chain has no such file.
    pub(super) fn resume(&mut self, place: Place, next: i64) -> bool {
        let chain = self.container.chain();
        self.file = chain.iter().find(|file| file.fingerprint() == place.file).cloned();
        self.offset = place.offset;
        self.next = next;
        self.file.as_ref().is_some_and(|file| file.base() <= place.offset)
    }

    /// Reads all there is now.
    pub(super) fn read(&mut self) {
        let mut buffer = vec![0; 8192];
        // Another file may stand for the one that was read: its copy in the spool.
        if let Some(file) = &self.file {
            let chain = self.container.chain();
            self.file = chain.iter().find(|other| other.fingerprint() == file.fingerprint()).cloned().or(self.file.take());
        }
        loop {
            if self.file.is_none() {
                let chain = self.container.chain();
                let Some(first) = chain.first() else { return };
                self.offset = first.base();
                self.file = Some(Arc::clone(first));
            }
            let file = Arc::clone(self.file.as_ref().unwrap());
            let is_final = file.is_final();
            let count = file.read_at(&mut buffer, self.offset).unwrap();
            if count > 0 {
                self.offset += count as u64;
                self.rest.extend_from_slice(&buffer[..count]);
                self.take_lines();
                continue;
            }
            if !is_final || !self.advance(&file) {
                return;
            }
        }
    }

    /// Goes to the next file of the chain.
    fn advance(&mut self, from: &LogFile) -> bool {
        let chain = self.container.chain();
        let at = chain.iter().position(|file| file.fingerprint() == from.fingerprint()).map_or(0, |at| at + 1);
        let Some(next) = chain.get(at) else { return false };
        assert!(self.rest.is_empty(), "a file ends within a line");
        assert!(next.base() == 0 || self.may_miss, "the next file does not begin at its beginning");
        self.offset = next.base();
        self.file = Some(Arc::clone(next));
        true
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let number = text.strip_prefix("{\"log\":\"line ").and_then(|rest| rest.split(' ').next()?.parse().ok());
            let number: i64 = number.unwrap_or_else(|| panic!("no line of the engine's: {text:?}"));
            assert!(number == self.next || (self.may_miss && number > self.next), "line {number} came where {} was due", self.next);
            self.next = number + 1;
            self.read.push(number);
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        Some(Place { file: self.file.as_ref()?.fingerprint(), offset: self.offset - self.rest.len() as u64 })
    }

    pub(super) fn acknowledge(&self) {
        if let Some(place) = self.place() {
            self.container.acknowledge(0, place);
        }
    }
}
