//! Takes one container's log from the engine.
//!
//! First what there is by now, and then what comes. A stream that follows is not trusted further than it can be seen: after its end, and whenever it was not
//! read for a second, the log is read from its last time on without following, which the engine does from files that it holds open. Before 23.0 it is not trusted
//! at all: at a rotation it ends without a word, repeats blocks of lines, and leaves out others (measured on 20.10: up to half of the lines). There a stream of
//! what is new only tells that there is something, and then the log is read without following. That costs the engine a look at all of its files, so it is asked
//! the less often the longer it takes, but before it has rotated away what is new. It also passes over compressed files that it should not when it is asked for
//! what is new (moby's `openRotatedFiles` stops at the first that is older): then the last entry does not come again, and all of the log is asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::store::Store;
use crate::docker::{Engine, EngineError, LogSubject, Reading};
use crate::logs::ContainerId;
use crate::logs::files::{FileTable, LoggedContainer, bytes};
use crate::logs::reader::frames::{Broken, Frames};
use crate::telemetry::TableMetrics;

/// What is taken of one container before it is acknowledged, in bytes of its files.
const MOST_OUTSTANDING: u64 = 8 << 20;
/// Between two looks at what is acknowledged.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Without being read for so long, a stream that follows is given up.
const STALL: Duration = Duration::from_secs(1);
/// Between two attempts after an error: the first, and the longest.
const RETRIES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Between the end of a stream and the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// Of an engine whose streams are not trusted: what share of the time reading may take, and the longest pause that comes of it.
const SHARE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// What the driver `local` keeps unless it is told otherwise: the size of a file, and how many.
const LOCAL_KEEPS: (u64, u64) = (20 << 20, 5);
/// It is asked again when so much of what the engine keeps may be new, one of so many parts.
const KEPT_PARTS: u64 = 8;
/// How long is waited for news behind a reading that brought something: a line between it and the stream of news has no other sign.
const NEWS: Duration = Duration::from_secs(2);
/// A clock that goes back by less is only corrected.
const STEP: Duration = Duration::from_millis(200);

/// What all followers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) host: String,
    pub(super) dir: PathBuf,
    /// The table of the feed's files.
    pub(super) table: Arc<FileTable>,
    pub(super) metrics: TableMetrics,
    /// Where a container begins of which nothing was taken.
    pub(super) since: Option<i64>,
    /// Cancelled when the agent stops.
    pub(super) stop: CancellationToken,
}

/// How a stream ended.
#[derive(Debug)]
enum End {
    /// The engine has said all, or it is to be asked anew.
    Done,
    /// There is no such container.
    Gone,
    /// The driver gives nothing back.
    NoReading,
    /// Somebody said that it is not to be read.
    Excluded,
    /// It is time to stop.
    Stopped,
    /// The engine has left something out: it is asked for all of it.
    Again,
    /// Something failed, and is tried again.
    Failed(String),
}

/// Follows a container until it is gone and everything of it is acknowledged, or the agent stops. `runs` says whether it runs, and closes when it is gone.
pub(super) async fn follow(
    shared: Arc<Shared>,
    id: ContainerId,
    mut runs: watch::Receiver<bool>,
    no_reading: Arc<dyn Fn(&ContainerId) + Send + Sync>,
) {
    let stop = shared.stop.clone();
    let mut follower = Follower {
        shared,
        id,
        engine: None,
        subject: LogSubject::default(),
        store: None,
        clock: Clock::now(),
        reads_all: false,
        taken: 0,
        taken_bytes: 0,
    };
    let mut retry = RETRIES.0;
    while !stop.is_cancelled() {
        // Asked before the log is read: what was written before the end is read then.
        let is_running = *runs.borrow_and_update();
        let begun = Instant::now();
        let end = match runs.has_changed() {
            Ok(_) => follower.turn(is_running).await,
            Err(_) => End::Gone,
        };
        // How long it rests if nothing happens to the container; without end when there is nothing to come.
        let rest = match end {
            End::Stopped => return,
            End::Gone => return follower.end().await,
            End::Done if is_running && begun.elapsed() >= STALL => {
                retry = RETRIES.0;
                Some(PAUSE)
            }
            End::Again => Some(PAUSE),
            End::Done if is_running => Some(retry),
            End::Done => {
                retry = RETRIES.0;
                None
            }
            End::NoReading => {
                no_reading(&follower.id);
                None
            }
            End::Excluded => None,
            End::Failed(why) => {
                tracing::debug!(container = ?follower.id, "its log from the engine's API: {why}");
                follower.store = None;
                Some(retry)
            }
        };
        if rest == Some(retry) {
            retry = (retry * 2).min(RETRIES.1);
        }
        let happens = runs.changed();
        let rests = async {
            match rest {
                Some(rest) => tokio::time::timeout(rest, happens).await.is_ok(),
                None => happens.await.is_ok(),
            }
        };
        stop.run_until_cancelled(rests).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    id: ContainerId,
    engine: Option<Engine>,
    subject: LogSubject,
    store: Option<Store>,
    clock: Clock,
    /// The engine left something out when it was asked for what is new.
    reads_all: bool,
    /// How many entries were new until now.
    taken: u64,
    /// And bytes of them.
    taken_bytes: u64,
}

impl Follower {
    async fn rest(&self, time: Duration) {
        self.shared.stop.run_until_cancelled(tokio::time::sleep(time)).await;
    }

    /// All there is, and if it runs, what comes.
    async fn turn(&mut self, is_running: bool) -> End {
        match self.catch_up(is_running).await {
            End::Done if is_running => {}
            end => return end,
        }
        match &self.engine {
            Some(engine) if !engine.follows_rotations() => self.poll().await,
            _ => self.pass(Reading::Followed).await,
        }
    }

    /// How long it takes the container to write a part of what the engine keeps of it, when it wrote so many bytes in that time.
    fn time_kept(&self, written: u64, time: Duration) -> Duration {
        let (size, count) = &self.subject.kept;
        let told = size.as_deref().and_then(bytes);
        let default = (self.subject.log_driver == "local").then_some(LOCAL_KEEPS.0);
        let Some(size) = told.or(default) else { return LONGEST_PAUSE };
        let count =
            count.as_deref().and_then(|count| count.trim().parse().ok()).unwrap_or(if default.is_some() { LOCAL_KEEPS.1 } else { 1 });
        let part = (size.saturating_mul(count) / KEPT_PARTS).max(1);
        let within = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_mul(part) / written.max(1);
        Duration::from_millis(within).min(LONGEST_PAUSE)
    }

    /// Reads without following whenever there is something new.
    async fn poll(&mut self) -> End {
        let stop = self.shared.stop.clone();
        let mut last = Instant::now();
        loop {
            let Some(engine) = self.engine.clone() else { return End::Done };
            let mut news = engine.logs(self.id.as_str(), None, Reading::New);
            let mut next = std::pin::pin!(news.next());
            let (before, bytes_before) = (self.taken, self.taken_bytes);
            let begun = Instant::now();
            let mut is_new = false;
            let end = {
                let mut pass = std::pin::pin!(self.pass(Reading::Written));
                loop {
                    tokio::select! {
                        biased;
                        came = &mut next, if !is_new => {
                            if !matches!(came, Some(Ok(_))) {
                                // It has ended, or the engine has.
                                return match pass.await {
                                    End::Done => End::Done,
                                    end => end,
                                };
                            }
                            is_new = true;
                        }
                        end = &mut pass => break end,
                    }
                }
            };
            if !matches!(end, End::Done) {
                return end;
            }
            let pause = (begun.elapsed() * SHARE).min(LONGEST_PAUSE).min(self.time_kept(self.taken_bytes - bytes_before, last.elapsed()));
            last = Instant::now();
            self.rest(pause.max(PAUSE)).await;
            if !is_new {
                let came = if self.taken == before {
                    stop.run_until_cancelled(next).await
                } else {
                    match stop.run_until_cancelled(tokio::time::timeout(NEWS, next)).await {
                        Some(Ok(came)) => Some(came),
                        Some(Err(_)) => continue,
                        None => None,
                    }
                };
                match came {
                    None => return End::Stopped,
                    Some(Some(Ok(_))) => {}
                    Some(Some(Err(error))) => return self.failed(&error),
                    Some(None) => return End::Done,
                }
            }
            if stop.is_cancelled() {
                return End::Stopped;
            }
        }
    }

    /// Takes what there is by now. A container that has ended is then told to have: all of it is there.
    async fn catch_up(&mut self, is_running: bool) -> End {
        let id = self.id.as_str().to_owned();
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => match Engine::connect(&self.shared.host).await {
                Ok(engine) => self.engine.insert(engine).clone(),
                Err(error) => return self.failed(&error),
            },
        };
        match engine.log_subject(&id).await {
            Ok(subject) => self.subject = subject,
            Err(error) => return self.failed(&error),
        }
        if self.subject.logspout.as_ref().is_some_and(|value| value.trim().eq_ignore_ascii_case("ignore")) {
            return End::Excluded;
        }
        if let Err(end) = self.describe(true) {
            return end;
        }
        let end = self.pass(Reading::Written).await;
        if matches!(end, End::Done)
            && !is_running
            && let Err(end) = self.describe(false)
        {
            return end;
        }
        end
    }

    fn describe(&mut self, is_running: bool) -> Result<(), End> {
        let subject = self.subject.clone();
        self.store().and_then(|store| store.describe(&subject, is_running)).map_err(|error| self.unwritten(&error))
    }

    fn store(&mut self) -> std::io::Result<&mut Store> {
        Ok(match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.shared.dir, &self.id)?),
        })
    }

    fn unwritten(&self, error: &std::io::Error) -> End {
        self.shared.metrics.feed_error("store");
        End::Failed(format!("what was taken of it cannot be written: {error}"))
    }

    fn failed(&mut self, error: &EngineError) -> End {
        match error {
            EngineError::Status { status: 501, .. } => End::NoReading,
            _ if error.is_gone() => End::Gone,
            _ => {
                // Another engine may be of another version.
                self.engine = None;
                self.shared.metrics.feed_error("engine");
                End::Failed(error.to_string())
            }
        }
    }

    /// One stream, from where the last one ended.
    async fn pass(&mut self, reading: Reading) -> End {
        let follows = reading == Reading::Followed;
        let Some(engine) = self.engine.clone() else { return End::Done };
        let begin = self.shared.since;
        let reads_all = self.reads_all && reading == Reading::Written;
        let since = match self.store() {
            Ok(store) => {
                store.reopen(reads_all);
                match store.is_new() {
                    true => begin,
                    false => store.since().filter(|_| !reads_all),
                }
            }
            Err(error) => return self.unwritten(&error),
        };
        let mut stream = engine.logs(self.id.as_str(), since, reading);
        let mut frames = Frames::new(self.subject.tty);
        loop {
            let waited = Instant::now();
            if !self.make_room().await {
                return End::Stopped;
            }
            if follows && waited.elapsed() > STALL {
                return End::Done;
            }
            let stop = self.shared.stop.clone();
            let Some(chunk) = stop.run_until_cancelled(stream.next()).await else { return End::Stopped };
            let taken = Instant::now();
            let taken_well = match chunk {
                Some(Ok(bytes)) => self.take(|store, floor| frames.push(&bytes, &mut |entry| store.append(entry, floor, follows))),
                Some(Err(error)) => return self.failed(&error),
                // What follows ends where its connection did; what is left of a terminal's last line comes when the log is read without following.
                None if follows => return End::Done,
                None => {
                    let rest = std::mem::replace(&mut frames, Frames::new(false));
                    let ended = self.take(|store, floor| rest.finish(&mut |entry| store.append(entry, floor, false)));
                    if ended.is_ok() && reads_all {
                        self.reads_all = false;
                        if self.store.as_ref().is_some_and(Store::is_gap) {
                            self.shared.metrics.feed_error("rotated_away");
                        }
                    }
                    return ended.err().unwrap_or(End::Done);
                }
            };
            if let Err(end) = taken_well {
                return end;
            }
            if !reads_all && self.store.as_ref().is_some_and(Store::is_gap) {
                self.reads_all = true;
                return End::Again;
            }
            if follows && taken.elapsed() > STALL {
                return End::Done;
            }
        }
    }

    /// Has entries put into the store, and writes them.
    fn take(&mut self, put: impl FnOnce(&mut Store, i64) -> Result<(), Broken>) -> Result<(), End> {
        let floor = self.clock.floor();
        let store = match self.store() {
            Ok(store) => store,
            Err(error) => return Err(self.unwritten(&error)),
        };
        let result = put(store, floor);
        let repeated = std::mem::take(&mut store.repeated);
        let new = std::mem::take(&mut store.appended);
        let new_bytes = store.unwritten();
        // What was whole before the stream broke is kept.
        let flushed = store.flush();
        self.shared.metrics.feed_repeated(repeated);
        self.taken += new;
        self.taken_bytes += new_bytes;
        flushed.map_err(|error| self.unwritten(&error))?;
        result.map_err(|broken| {
            let reason = if matches!(broken, Broken::Told(_)) { "engine" } else { "broken" };
            self.shared.metrics.feed_error(reason);
            End::Failed(broken.to_string())
        })
    }

    fn logged(&self) -> Option<Arc<LoggedContainer>> {
        self.shared.table.containers().iter().find(|container| container.id() == &self.id).cloned()
    }

    /// Waits until not too much is outstanding, and removes what is done with. False when it is time to stop.
    async fn make_room(&mut self) -> bool {
        let mut is_first = true;
        loop {
            if self.shared.stop.is_cancelled() {
                return false;
            }
            let outstanding = self.store.as_ref().map_or(0, Store::unpruned);
            if outstanding < MOST_OUTSTANDING {
                return true;
            }
            if !std::mem::take(&mut is_first) {
                self.rest(LOOK_AGAIN).await;
            }
            self.prune();
        }
    }

    /// Removes files that everybody has acknowledged. What is outstanding, in bytes.
    fn prune(&mut self) -> Option<u64> {
        let container = self.logged()?;
        let chain = container.chain();
        let (bytes, needed) = container.outstanding();
        let needed = chain.iter().position(|file| Some(file.fingerprint()) == needed).unwrap_or(chain.len());
        let done: Vec<_> = chain.iter().take(needed).map(|file| file.fingerprint()).collect();
        if let Some(store) = &mut self.store
            && store.prune(|file| done.contains(&file)).is_err()
        {
            self.shared.metrics.feed_error("store");
        }
        Some(bytes)
    }

    /// The container is gone: its files go when they are acknowledged.
    async fn end(mut self) {
        if self.store().is_err() || self.describe(false).is_err() {
            return;
        }
        while !self.shared.stop.is_cancelled() {
            // Not listed yet, or never to be: it is excluded, or nothing was taken.
            let is_empty = self.store.as_ref().is_none_or(Store::is_new);
            if is_empty || self.prune() == Some(0) {
                if let Some(store) = self.store.take() {
                    store.remove();
                }
                return;
            }
            self.rest(LOOK_AGAIN * 5).await;
        }
    }
}

/// Notices when the clock is set back: times that are older than the last are new then.
#[derive(Debug)]
struct Clock {
    begun: Instant,
    /// At the last look: the clock, and how much time had passed, in nanoseconds.
    last: Option<(i128, i128)>,
    floor: i64,
}

impl Clock {
    fn now() -> Self {
        let mut clock = Self { begun: Instant::now(), last: None, floor: i64::MAX };
        clock.floor();
        clock
    }

    /// From which time on an entry may be new whatever came before.
    fn floor(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let passed = self.begun.elapsed().as_nanos();
        self.look(i128::try_from(now).unwrap_or(i128::MAX), i128::try_from(passed).unwrap_or(i128::MAX))
    }

    fn look(&mut self, now: i128, passed: i128) -> i64 {
        if let Some((clock, time)) = self.last.replace((now, passed))
            && (clock - time) - (now - passed) > i128::try_from(STEP.as_nanos()).unwrap_or(0)
        {
            // Some time since the last look.
            self.floor = i64::try_from(now - (passed - time)).unwrap_or(i64::MAX);
        }
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_noticed() {
        let second = 1_000_000_000;
        let mut clock = Clock { begun: Instant::now(), last: None, floor: i64::MAX };
        assert_eq!(clock.look(1000 * second, 0), i64::MAX);
        assert_eq!(clock.look(1010 * second, 10 * second), i64::MAX);
        // Slowed down by a correction.
        assert_eq!(clock.look(1011 * second - 1_000_000, 11 * second), i64::MAX);
        // Back by a minute, within the last second.
        assert_eq!(clock.look(952 * second, 12 * second), 951 * 1_000_000_000);
        assert_eq!(clock.look(953 * second, 13 * second), 951 * 1_000_000_000);
    }
}
