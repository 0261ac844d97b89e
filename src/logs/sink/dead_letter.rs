//! Records that a sink refused for good, and why: `<state>/dead-letters/<route>.ndjson`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

use super::bulk::Refusal;
use crate::telemetry::RouteMetrics;

/// Bytes of the file; then it becomes `<route>.1.ndjson`, and the one of that name before it goes.
const BOUND: u64 = 64 << 20;
/// The dead letter file of one route. Cloning gives another handle on it.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    route: Arc<str>,
    path: Option<Arc<Path>>,
    bound: u64,
    metrics: RouteMetrics,
    /// The open file and its length, once something was refused.
    open: Arc<Mutex<Option<(File, u64)>>>,
}

/// A record for it.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) refusal: Refusal,
    pub(super) document: Vec<u8>,
}

/// As it stands in the file. The document is JSON as it is, or a string when it is none.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    route: &'a str,
    status: u16,
    r#type: &'a str,
    reason: &'a str,
    document: Document<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Document<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl DeadLetter {
    /// The file of the route `route` under the state directory; it is made when something is refused. Without a state directory refused records are
    /// counted as dropped, by `dead_letter_failed`.
    #[must_use]
    pub fn new(state: Option<&Path>, route: &str, metrics: RouteMetrics) -> Self {
        let path = state.map(|state| Arc::from(state.join("dead-letters").join(format!("{}.ndjson", super::file_stem(route)))));
        Self { route: route.into(), path, bound: BOUND, metrics, open: Arc::default() }
    }

    /// As [`DeadLetter::new`], in a file of that path.
    #[must_use]
    pub fn at(path: &Path, route: &str, metrics: RouteMetrics) -> Self {
        Self { route: route.into(), path: Some(Arc::from(path)), bound: BOUND, metrics, open: Arc::default() }
    }

    /// Where the file lies; `None` without a state directory.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.path.as_deref().map(Path::to_path_buf)
    }

    /// Writes the letters and syncs them, on a thread that may block, and counts them. Without a file they are counted as dropped.
    ///
    /// # Errors
    /// When they could not be written; none of them counts then, and all can be given again.
    pub(super) async fn write(&self, letters: &[Letter]) -> io::Result<()> {
        let Some(path) = self.path.clone() else {
            tracing::warn!(
                route = &*self.route,
                "the sink refuses records for good, and without a state directory they are dropped; a volume at --state-dir would keep them"
            );
            self.metrics.dropped("dead_letter_failed", letters.len() as u64);
            return Ok(());
        };
        let text = self.encode(letters)?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.append(&path, &text)).await.map_err(io::Error::other)??;
        for letter in letters {
            self.metrics.dead_letter(&letter.refusal.kind);
        }
        Ok(())
    }

    fn encode(&self, letters: &[Letter]) -> io::Result<Vec<u8>> {
        let time = rfc3339(SystemTime::now());
        let mut out = Vec::new();
        for Letter { refusal, document } in letters {
            let document = document.trim_ascii();
            let document = match serde_json::from_slice::<&RawValue>(document) {
                Ok(json) => Document::Json(json),
                Err(_) => Document::Text(String::from_utf8_lossy(document).into_owned()),
            };
            let (r#type, reason) = (&*refusal.kind, &*refusal.reason);
            let line = Line { time: time.clone(), route: &self.route, status: refusal.status, r#type, reason, document };
            serde_json::to_writer(&mut out, &line)?;
            out.push(b'\n');
        }
        Ok(out)
    }

    /// Appends and syncs. After a fault the file is cut to where it was, so that no half line stays.
    fn append(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(open_for_append(path)?);
        }
        if open.as_ref().is_some_and(|(_, length)| *length > 0 && *length + text.len() as u64 > self.bound) {
            *open = None;
            self.rotate(path)?;
            *open = Some(open_for_append(path)?);
        }
        let Some((file, length)) = open.as_mut() else { return Ok(()) };
        match file.write_all(text).and_then(|()| file.sync_data()) {
            Ok(()) => {
                *length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Opened anew next time, and its length read anew: should the cut fail too, the half line stays, ended by a line feed then.
                if file.set_len(*length).is_err() {
                    tracing::warn!(route = &*self.route, "a half line may stand in the dead letter file");
                }
                *open = None;
                Err(error)
            }
        }
    }

    /// The full file becomes the old one; what the old one held is gone, and counted.
    fn rotate(&self, path: &Path) -> io::Result<()> {
        let old = path.with_extension("1.ndjson");
        match File::open(&old).and_then(count_lines) {
            Ok(gone) => self.metrics.dropped("dead_letter_rotated", gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::rename(path, old)
    }
}

fn count_lines(mut file: File) -> io::Result<u64> {
    let mut chunk = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(lines),
            Ok(count) => lines += memchr::memchr_iter(b'\n', chunk.get(..count).unwrap_or_default()).count() as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens the file behind its last whole line, and makes its name durable. Lines of logs are nobody else's business.
fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 && super::file::last_byte(&file, length)? != b'\n' {
        file.write_all(b"\n")?;
        length += 1;
    }
    File::open(directory)?.sync_all()?;
    Ok((file, length))
}

/// `2026-11-20T08:00:00.123Z`, by the rules of the proleptic Gregorian calendar.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days from 0000-03-01, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn letter(document: &[u8]) -> Letter {
        let refusal = Refusal { status: 400, kind: "mapper_parsing_exception".into(), reason: "no \"long\"".into() };
        Letter { refusal, document: document.to_vec() }
    }

    fn text(metrics: &Metrics) -> String {
        let mut out = Vec::new();
        metrics.encode(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_of_the_calendar() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000Z");
    }

    #[tokio::test]
    async fn a_letter_is_one_json_object_a_line() {
        let state = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let box_ = DeadLetter::new(Some(state.path()), "es://a:1/x", metrics.route("es"));
        box_.write(&[letter(b"{\"n\":\"x\"}\n"), letter(b"not json \xff\n")]).await.unwrap();
        // A file whose last line was cut by a death goes on with a whole line.
        let again = DeadLetter::new(Some(state.path()), "es://a:1/x", metrics.route("es"));
        let path = again.path().unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half").unwrap();
        again.write(&[letter(b"3")]).await.unwrap();
        let text_of = fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text_of.lines().collect();
        assert_eq!(lines.len(), 4);
        let first: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((&first["document"]["n"], &first["status"], &first["route"]), (&"x".into(), &400.into(), &"es://a:1/x".into()));
        assert_eq!(first["type"], "mapper_parsing_exception");
        assert_eq!(serde_json::from_str::<serde_json::Value>(lines[1]).unwrap()["document"], "not json \u{fffd}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(lines[3]).unwrap()["document"], 3);
        assert!(text(&metrics).contains("skep_log_dead_letters_total{reason=\"mapper_parsing_exception\",route=\"es\"} 3"));
    }

    #[tokio::test]
    async fn the_bound_rotates_once_and_counts_what_goes() {
        let state = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let mut box_ = DeadLetter::new(Some(state.path()), "es", metrics.route("es"));
        box_.bound = 1000;
        for _ in 0..30 {
            box_.write(&[letter(b"{}")]).await.unwrap();
        }
        let path = box_.path().unwrap();
        let kept = [fs::read_to_string(&path).unwrap(), fs::read_to_string(path.with_extension("1.ndjson")).unwrap()];
        assert!(kept.iter().all(|file| file.len() <= 1000));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let lines: usize = kept.iter().map(|file| file.lines().count()).sum();
        assert!(text(&metrics).contains(&format!("reason=\"dead_letter_rotated\",route=\"es\"}} {}", 30 - lines)));
    }

    #[tokio::test]
    async fn without_a_state_directory_they_are_dropped_and_counted() {
        let metrics = Metrics::new().unwrap();
        DeadLetter::new(None, "es", metrics.route("es")).write(&[letter(b"{}"), letter(b"{}")]).await.unwrap();
        assert!(text(&metrics).contains("skep_log_records_dropped_total{reason=\"dead_letter_failed\",route=\"es\"} 2"));
    }

    #[tokio::test]
    async fn what_cannot_be_written_does_not_count() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("dead-letters"), "a file where the directory should be").unwrap();
        let metrics = Metrics::new().unwrap();
        assert!(DeadLetter::new(Some(state.path()), "es", metrics.route("es")).write(&[letter(b"{}")]).await.is_err());
        assert!(text(&metrics).lines().all(|line| !line.starts_with("skep_log_dead_letters_total") || line.ends_with(" 0")));
    }
}
