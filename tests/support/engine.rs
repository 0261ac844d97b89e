//! Plays the engine's json-file driver: writes entries as its copier does, and rotates as it does (moby, `daemon/logger/loggerutils/logfile.go`).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One container's directory and its live log file.
pub(crate) struct Writer {
    pub(crate) directory: PathBuf,
    pub(crate) id: String,
    live: File,
    size: u64,
    max_size: u64,
    max_file: u32,
    /// Docker's time of the last line, nanoseconds since the epoch.
    pub(crate) time: i64,
    labels: serde_json::Map<String, serde_json::Value>,
    /// `compress=true`: what is rotated is compressed at once.
    pub(crate) is_compressing: bool,
}

impl Writer {
    /// Makes the directory of a container and its configuration, as `docker create` does, and the empty log, as `docker start` does.
    pub(crate) fn create(containers: &Path, number: u32, name: &str, max_size: u64, max_file: u32) -> Self {
        let id = format!("{number:064x}");
        let directory = containers.join(&id);
        fs::create_dir_all(&directory).unwrap();
        let writer = Self {
            live: File::create(directory.join(format!("{id}-json.log"))).unwrap(),
            size: 0,
            max_size,
            max_file,
            time: 1_790_000_000_000_000_000 + i64::from(number),
            labels: serde_json::Map::from_iter([("com.docker.swarm.service.name".to_owned(), "numbers".into())]),
            directory,
            id,
            is_compressing: false,
        };
        let host = serde_json::json!({ "LogConfig": { "Type": "json-file", "Config": { "max-size": max_size.to_string(), "max-file": max_file.to_string() } } });
        fs::write(writer.directory.join("hostconfig.json"), host.to_string()).unwrap();
        writer.configure(name, true);
        writer
    }

    /// Gives the container one more label, before anybody looks at it.
    pub(crate) fn label(&mut self, name: &str, label: &str, value: &str) {
        self.labels.insert(label.to_owned(), value.into());
        self.configure(name, true);
    }

    /// Writes `config.v2.json` as the engine does: beside it, then over it.
    pub(crate) fn configure(&self, name: &str, running: bool) {
        let config = serde_json::json!({
            "ID": self.id, "Name": format!("/{name}"), "State": { "Running": running },
            "Config": { "Image": "bb:1", "Tty": false, "Env": ["SECRET=1"], "Labels": self.labels },
        });
        let beside = self.directory.join(".tmp-config.v2.json1");
        fs::write(&beside, config.to_string()).unwrap();
        fs::rename(beside, self.directory.join("config.v2.json")).unwrap();
    }

    /// A line as the copier cuts it: pieces of 16 KiB with the time of the first.
    pub(crate) fn line(&mut self, stream: &str, line: &str) {
        self.time += 1_000;
        let whole = format!("{line}\n");
        let mut rest = whole.as_str();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(16 << 10));
            self.entry(stream, piece);
            rest = behind;
        }
    }

    /// One entry, with the time of the last line.
    pub(crate) fn entry(&mut self, stream: &str, log: &str) {
        if self.max_size > 0 && self.size >= self.max_size {
            self.rotate();
        }
        let seconds = self.time / 1_000_000_000;
        let time = format!("{}.{:09}Z", stamp(seconds), self.time % 1_000_000_000);
        let entry = format!("{}\n", serde_json::json!({ "log": log, "stream": stream, "time": time }));
        self.live.write_all(entry.as_bytes()).unwrap();
        self.size += entry.len() as u64;
    }

    /// Closes the full file, moves all by one number, and begins another.
    pub(crate) fn rotate(&mut self) {
        let name = |number: u32| {
            self.directory.join(if number == 0 { format!("{}-json.log", self.id) } else { format!("{}-json.log.{number}", self.id) })
        };
        let end = if self.is_compressing { ".gz" } else { "" };
        let old = |number: u32| self.directory.join(format!("{}-json.log.{number}{end}", self.id));
        drop(fs::remove_file(old(self.max_file - 1)));
        for number in (1..self.max_file - 1).rev() {
            drop(fs::rename(old(number), old(number + 1)));
        }
        drop(fs::rename(name(0), name(1)));
        if self.is_compressing {
            self.compress();
        }
        self.live = OpenOptions::new().create(true).append(true).open(name(0)).unwrap();
        self.size = 0;
    }

    /// The compressed file of this number.
    pub(crate) fn compressed(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{}-json.log.{number}.gz", self.id))
    }

    /// As `compressFile`: the compressed file grows beside `.1`, which goes when it is whole.
    fn compress(&self) {
        let plain = self.directory.join(format!("{}-json.log.1", self.id));
        let extra = &br#"{"lastTime":"2026-09-21T15:06:40Z"}"#[..];
        let mut writer =
            flate2::GzBuilder::new().extra(extra).write(File::create(self.compressed(1)).unwrap(), flate2::Compression::fast());
        writer.write_all(&fs::read(&plain).unwrap()).unwrap();
        writer.finish().unwrap();
        fs::remove_file(plain).unwrap();
    }

    /// The live file as the engine has it open: what is written goes to its end, wherever that is.
    pub(crate) fn append_again(&mut self) {
        self.live = OpenOptions::new().append(true).open(self.directory.join(format!("{}-json.log", self.id))).unwrap();
    }

    /// Removes the container with its log, as `docker rm` does.
    pub(crate) fn remove(self) {
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// `2026-09-21T15:06:40` of seconds since the epoch, for days near enough to it.
fn stamp(seconds: i64) -> String {
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil from days, Howard Hinnant's algorithm.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}", doy - (153 * mp + 2) / 5 + 1, clock / 3600, clock / 60 % 60, clock % 60)
}
