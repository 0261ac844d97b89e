//! What `--web.config.file` asks for, in force: TLS, passwords, headers and the limit of requests, in front of every page.
//!
//! The files are looked at when a connection or a request comes, at most once a second, and read again when one of them is another than before. A new file counts
//! from when it has been left alone for a second, for one that is written in place is not whole before that. What cannot be used, and what would take TLS or the
//! passwords away, changes nothing: the last good configuration stays in force, and the part `web.config` says why.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use rustls::ServerConfig;

use super::certificate::facts;
use super::password::{Found, Passwords, Users};
use super::routes::{Body, text};
use super::tls::{Pem, server_config};
use crate::config::web::{self, FILE_BYTES};
use crate::config::{ClientAuth, Rate, Source, TlsFile, WebFile};
use crate::telemetry::{Metrics, Part};

/// How often the files are looked at, at most; and how long a file has to be left alone.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection waits for a look: a file system may hang.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// What is in force.
pub(super) struct InForce {
    /// `None`: plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    rate: Option<Rate>,
    summary: String,
    notes: Vec<String>,
}

/// What tells a file from the one that was there before: device, inode, size, and the times of content and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64, u64, [(i64, i64); 2]);

/// The files of a configuration as they were when they were read; `None` for one that could not be found.
type Seen = Vec<(PathBuf, Option<Identity>)>;

struct Watch {
    seen: Seen,
    /// What was there at the last look, when it was another than `seen` and not yet left alone.
    fresh: Option<Seen>,
    /// What is wrong with what was seen.
    fault: Option<String>,
    looked: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// The guard of all pages.
pub struct Guard {
    path: Option<PathBuf>,
    current: RwLock<Arc<InForce>>,
    watch: Arc<tokio::sync::Mutex<Watch>>,
    passwords: Passwords,
    bucket: Mutex<Option<Bucket>>,
    part: Part,
    metrics: Metrics,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Guard {
    /// Reads the file; without one nothing is asked of anybody.
    ///
    /// # Errors
    /// A sentence that says what cannot be used, without secrets.
    pub fn open(path: Option<&Path>, part: Part, metrics: Metrics) -> Result<Arc<Self>, String> {
        let (seen, read) = match path {
            Some(path) => load(path),
            None => (Vec::new(), InForce::of(&WebFile::default(), &mut Vec::new())),
        };
        let current = read?;
        if path.is_some() {
            part.ok();
        }
        Ok(Arc::new(Self {
            path: path.map(Path::to_owned),
            current: RwLock::new(Arc::new(current)),
            watch: Arc::new(tokio::sync::Mutex::new(Watch { seen, fresh: None, fault: None, looked: Instant::now() })),
            passwords: Passwords::new()?,
            bucket: Mutex::default(),
            part,
            metrics,
        }))
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.in_force().tls.is_some() { "https" } else { "http" }
    }

    /// What is in force, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        self.in_force().summary.clone()
    }

    /// What stands in the file and has no effect.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.in_force().notes.clone()
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in force for a connection or a request that has come now.
    pub(super) async fn now(self: &Arc<Self>) -> Arc<InForce> {
        if self.path.is_some() {
            self.look(false).await;
        }
        self.in_force()
    }

    /// Reads the files again at once, for SIGHUP.
    pub async fn reread(self: &Arc<Self>) {
        if self.path.is_some() {
            self.look(true).await;
        }
    }

    async fn look(self: &Arc<Self>, at_once: bool) {
        // One looks, and the others go on with what there is.
        let mut watch = match (at_once, Arc::clone(&self.watch).try_lock_owned()) {
            (_, Ok(watch)) => watch,
            (true, Err(_)) => Arc::clone(&self.watch).lock_owned().await,
            (false, Err(_)) => return,
        };
        if !at_once && watch.looked.elapsed() < LOOK {
            return;
        }
        watch.looked = Instant::now();
        let guard = Arc::clone(self);
        // The lock goes along: while a file system hangs, nobody else looks.
        let looking = tokio::task::spawn_blocking(move || guard.look_at_files(&mut watch, at_once));
        if matches!(tokio::time::timeout(LOOK_LIMIT, looking).await, Ok(Err(_)) | Err(_)) {
            self.part.degraded("the files of the web configuration could not be looked at; what was read before stays in force");
        }
    }

    fn look_at_files(&self, watch: &mut Watch, at_once: bool) {
        let Some(path) = &self.path else { return };
        let found: Seen = watch.seen.iter().map(|(path, _)| (path.clone(), identity(path))).collect();
        if !at_once {
            if found == watch.seen {
                watch.fresh = None;
                self.tell(watch);
                return;
            }
            // Left alone for a second, by the file's own time or by ours, which may differ.
            let is_settled = found.iter().all(|(_, identity)| identity.is_none_or(is_old)) || watch.fresh.as_ref() == Some(&found);
            if !is_settled {
                watch.fresh = Some(found);
                return;
            }
        }
        let (seen, read) = load(path);
        (watch.seen, watch.fresh) = (seen, None);
        watch.fault = match read.and_then(|new| self.may_replace(&new).map(|()| new)) {
            Ok(new) => {
                tracing::info!("the web configuration was read again: {}", new.summary);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                None
            }
            Err(why) => Some(format!("{why}; what was read before stays in force")),
        };
        self.tell(watch);
    }

    /// Tells the state again, for it may have been told meanwhile that a look took too long.
    fn tell(&self, watch: &Watch) {
        match &watch.fault {
            None => self.part.ok(),
            Some(why) => self.part.degraded(why.clone()),
        }
    }

    /// A file that is emptied, or put in its place by mistake, must not open the door.
    fn may_replace(&self, new: &InForce) -> Result<(), String> {
        let old = self.in_force();
        let path = self.path.as_deref().unwrap_or(Path::new("")).display();
        if old.tls.is_some() && new.tls.is_none() {
            return Err(format!("web.config.file: {path} has no TLS any more, which takes a restart"));
        }
        if !old.users.is_empty() && new.users.is_empty() {
            return Err(format!("web.config.file: {path} has no users any more, which takes a restart"));
        }
        Ok(())
    }

    /// Whether a request may go on; else its answer.
    pub(super) async fn admit(&self, in_force: &InForce, headers: &HeaderMap) -> Result<(), Response<Body>> {
        if let Some(rate) = in_force.rate
            && !self.has_token(rate)
        {
            self.metrics.http_refused("rate_limit");
            return Err(text(StatusCode::TOO_MANY_REQUESTS, "more requests than rate_limit of the web configuration allows\n"));
        }
        if in_force.users.is_empty() {
            return Ok(());
        }
        let found = match credentials(headers) {
            Some((name, password)) => self.passwords.verify(&in_force.users, &name, &password).await,
            None => Found::Wrong,
        };
        match found {
            Found::Right => Ok(()),
            Found::Wrong => {
                self.metrics.http_refused("unauthorized");
                let mut answer = text(StatusCode::UNAUTHORIZED, "a user and a password are needed here\n");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"skep\""));
                Err(answer)
            }
            Found::Busy => {
                self.metrics.http_refused("busy");
                let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being verified\n");
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                Err(answer)
            }
        }
    }

    fn has_token(&self, rate: Rate) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let full = f64::from(rate.burst);
        let now = Instant::now();
        let Bucket { tokens, filled } = bucket.unwrap_or(Bucket { tokens: full, filled: now });
        let came = now.duration_since(filled).as_secs_f64() / rate.interval.as_secs_f64();
        let tokens = (tokens + came).min(full);
        let has = tokens >= 1.0;
        *bucket = Some(Bucket { tokens: if has { tokens - 1.0 } else { tokens }, filled: now });
        has
    }

    /// skep's own counters.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl InForce {
    /// Gives every answer the headers of the file; they win over a page's own.
    pub(super) fn dress(&self, answer: &mut Response<Body>) {
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }

    fn of(file: &WebFile, seen: &mut Seen) -> Result<Self, String> {
        let mut summary = String::new();
        let tls = match &file.tls {
            Some(tls) => Some(Arc::new(tls_of(tls, seen, &mut summary)?)),
            None => {
                summary.push_str("no TLS");
                None
            }
        };
        let users = Users::new(&file.users);
        let written = match users.len() {
            0 => write!(summary, ", no passwords"),
            1 => write!(summary, ", 1 user with a password"),
            more => write!(summary, ", {more} users with passwords"),
        };
        debug_assert!(written.is_ok(), "writing to a String");
        if let Some(rate) = file.rate {
            let written = write!(summary, ", a request every {:?} with bursts of {}", rate.interval, rate.burst);
            debug_assert!(written.is_ok(), "writing to a String");
        }
        let mut headers = Vec::new();
        for (name, value) in &file.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("headers: {name} is no header"))?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("headers: {name} has a value that a header cannot have"))?;
            headers.push((name, value));
        }
        Ok(Self { tls, headers, users, rate: file.rate, summary, notes: file.notes.clone() })
    }
}

fn tls_of(tls: &TlsFile, seen: &mut Seen, summary: &mut String) -> Result<ServerConfig, String> {
    let mut pem = |name: &str, source: &Source| match source {
        Source::Inline(text) => Ok(text.clone().into_bytes()),
        Source::File(path) => read(path, seen).map_err(|why| format!("tls_server_config: {name}: {why}")),
    };
    // All of them, so that each is watched when one is missing.
    let (cert, key, client_ca) = (
        pem("cert_file", &tls.cert),
        pem("key_file", &tls.key),
        tls.client_ca.as_ref().map(|source| pem("client_ca_file", source)).transpose(),
    );
    let (cert, key, client_ca) = (cert?, key?, client_ca?);
    let config = server_config(tls, &Pem { cert: &cert, key: &key, client_ca: client_ca.as_deref() })
        .map_err(|why| format!("tls_server_config: {why}"))?;
    summary.push_str("TLS");
    if let Some(days) = days_left(&cert) {
        let written = match days {
            ..0 => write!(summary, " with a certificate that has EXPIRED"),
            _ => write!(summary, " with a certificate for {days} more days"),
        };
        debug_assert!(written.is_ok(), "writing to a String");
    }
    summary.push_str(match tls.client_auth {
        ClientAuth::None => "",
        ClientAuth::Request => ", clients are asked for a certificate and need none",
        ClientAuth::RequireAny => ", clients need a certificate, which nobody verifies",
        ClientAuth::VerifyIfGiven if tls.client_sans.is_none() => ", clients' certificates are verified and not needed",
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => ", clients need a certificate of the client CA",
    });
    if let Some(sans) = &tls.client_sans {
        let written = write!(summary, " with one of {} names", sans.len());
        debug_assert!(written.is_ok(), "writing to a String");
    }
    Ok(config)
}

fn days_left(pem: &[u8]) -> Option<i64> {
    use rustls::pki_types::pem::PemObject as _;
    let first = rustls::pki_types::CertificateDer::from_pem_slice(pem).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((facts(&first)?.not_after - i64::try_from(now.as_secs()).ok()?).div_euclid(86_400))
}

/// Reads the file and all that it names. What was looked at is told in either case, for a broken file may be mended.
fn load(path: &Path) -> (Seen, Result<InForce, String>) {
    let mut seen = Vec::new();
    let folder = path.parent().unwrap_or(Path::new(""));
    let found = read(path, &mut seen)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{}: it is not UTF-8", path.display())))
        .and_then(|text| web::parse(&text, folder).map_err(|why| format!("{}: {why}", path.display())))
        .and_then(|file| InForce::of(&file, &mut seen).map_err(|why| format!("{}: {why}", path.display())));
    (seen, found.map_err(|why| format!("web.config.file: {why}")))
}

/// Reads a file, whose identity is taken before: what changes meanwhile is read again at the next look.
fn read(path: &Path, seen: &mut Seen) -> Result<Vec<u8>, String> {
    seen.push((path.to_owned(), identity(path)));
    let refused = |error: std::io::Error| format!("{}: {error}", path.display());
    // A FIFO would be waited for, for ever.
    if !fs::metadata(path).map_err(refused)?.is_file() {
        return Err(format!("{}: it is no file", path.display()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(refused)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        return Err(format!("{}: it is larger than {FILE_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

fn identity(path: &Path) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    Some(Identity(found.dev(), found.ino(), found.size(), [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())]))
}

fn is_old(Identity(.., times): Identity) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    times.into_iter().all(|(seconds, nanoseconds)| {
        let time = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok()).map(|(seconds, rest)| Duration::new(seconds, rest));
        time.is_none_or(|time| time + LOOK <= now)
    })
}

/// User and password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let (name, password) = plain.split_at_checked(colon)?;
    Some((name.to_vec(), password.get(1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(value: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        credentials(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn credentials_are_read() {
        let pair = |name: &str, password: &str| Some((name.as_bytes().to_vec(), password.as_bytes().to_vec()));
        assert_eq!(basic("Basic YWxpY2U6YTpi"), pair("alice", "a:b"));
        assert_eq!(basic("basic  Og=="), pair("", ""));
        for odd in ["", "Basic", "Basic ", "Basic YWxpY2U=", "Basic !", "Bearer YWxpY2U6YTpi"] {
            assert_eq!(basic(odd), None, "{odd}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn requests_are_limited() {
        let guard = Guard::open(None, crate::telemetry::Parts::default().part("web.config"), Metrics::new().unwrap()).unwrap();
        let rate = Rate { interval: Duration::from_secs(3600), burst: 2 };
        assert_eq!([guard.has_token(rate), guard.has_token(rate), guard.has_token(rate)], [true, true, false]);
        let rate = Rate { interval: Duration::from_nanos(1), burst: 1 };
        std::thread::sleep(Duration::from_millis(1));
        assert!(guard.has_token(rate));
    }
}
