//! How threads wake each other: consumers sleep on a condition, the table in `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the table's thread out of `poll`.
#[derive(Debug)]
pub(super) struct Kick(OwnedFd);

impl Kick {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn kick(&self) {
        // It fails only when the counter is at its end, and then the thread is being woken anyway.
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).ok();
    }

    /// Takes all kicks until now.
    pub(super) fn drain(&self) {
        rustix::io::read(&self.0, &mut [0u8; 8]).ok();
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where one consumer sleeps. A signal that comes while it is awake is kept for its next sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    is_rung: Mutex<bool>,
    condition: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        let mut is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_rung {
            *is_rung = true;
            self.condition.notify_all();
        }
    }

    /// Sleeps until it is rung, or for `timeout`: whether it was rung.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_rung {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            is_rung = self.condition.wait_timeout(is_rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *is_rung)
    }
}
