//! The watchdog: a thread that ends the process when a loop that must turn stands still, so that Swarm starts it anew.
//!
//! There is no HEALTHCHECK by default: each probe's exec costs the node many times what a scrape does (49 ms of CPU, measured with engine 20.10) and delays the
//! task's name in DNS.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

/// A loop that has not turned for this long does not turn any more: it is far beyond every time limit inside them.
const STILL: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_secs(5);
/// EX_SOFTWARE of sysexits.h.
const EXIT_CODE: i32 = 70;

type Beats = Box<dyn Fn() -> u64 + Send>;

/// Looks at counters that must grow.
#[derive(Clone)]
pub struct Watchdog {
    watched: Arc<Mutex<Vec<Watched>>>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

struct Watched {
    name: &'static str,
    beats: Beats,
    last: u64,
    still: u32,
}

impl Watchdog {
    /// Starts the thread, which watches the sockets' runtime.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(runtime: Handle) -> io::Result<Self> {
        let turned = Arc::new(AtomicU64::new(0));
        let watchdog = Self { watched: Arc::default() };
        watchdog.watch("the main loop", {
            let turned = Arc::clone(&turned);
            move || turned.load(Ordering::Relaxed)
        });
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                turned.fetch_add(1, Ordering::Relaxed);
            }
        });
        let looking = watchdog.clone();
        std::thread::Builder::new().name("watchdog".into()).stack_size(128 << 10).spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                if let Some(name) = looking.look() {
                    tracing::error!("{name} stands still; the process ends with {EXIT_CODE} to be started anew");
                    #[allow(clippy::exit, reason = "nothing else is left that could end the process in order")]
                    std::process::exit(EXIT_CODE);
                }
            }
        })?;
        Ok(watchdog)
    }

    /// Watches one more counter. It must grow at least every few seconds.
    pub fn watch(&self, name: &'static str, beats: impl Fn() -> u64 + Send + 'static) {
        let last = beats();
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(Watched { name, beats: Box::new(beats), last, still: 0 });
    }

    /// The name of a loop that stands still, if one does. A machine that was suspended looks still once, and not again and again.
    fn look(&self) -> Option<&'static str> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for one in watched.iter_mut() {
            let now = (one.beats)();
            one.still = if now == one.last { one.still + 1 } else { 0 };
            one.last = now;
            if LOOK * one.still >= STILL {
                return Some(one.name);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_still_is_found_and_one_that_turns_is_not() {
        let watchdog = Watchdog { watched: Arc::default() };
        let turns = Arc::new(AtomicU64::new(0));
        watchdog.watch("turns", {
            let turns = Arc::clone(&turns);
            move || turns.fetch_add(1, Ordering::Relaxed)
        });
        for _ in 0..100 {
            assert_eq!(watchdog.look(), None);
        }
        watchdog.watch("still", || 7);
        let looks = (1..).find(|_| watchdog.look() == Some("still")).unwrap();
        assert_eq!(LOOK * looks, STILL);
    }
}
