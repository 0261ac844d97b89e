//! System calls that no safe crate offers, each with its reason. The one file of this crate in which `unsafe` may stand.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The kernel clock's state: what `adjtimex(2)` answers, and the return value, which is the clock's state (`TIME_OK` 0 to `TIME_ERROR` 5).
///
/// Nothing is set (`modes` is 0), which needs no privilege. No safe crate wraps it: rustix has no `adjtimex`.
///
/// # Errors
/// What the kernel says: `EPERM` under a seccomp profile that forbids the call.
pub fn adjtimex() -> io::Result<(i32, libc::timex)> {
    // SAFETY: `timex` is a plain structure of integers, for which all zeros are valid; zero `modes` asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live and exclusively borrowed `timex` of the size that libc and the kernel agree on.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok((state, timex)) }
}

/// The first descriptor that a socket activation hands over (`SD_LISTEN_FDS_START`).
const FIRST_INHERITED: i32 = 3;
/// More sockets than anybody hands over.
const MOST_INHERITED: i32 = 64;

/// The sockets that whoever started this process has opened for it, after `sd_listen_fds(3)`: `LISTEN_FDS` of them from descriptor 3 on, if `LISTEN_PID` is this
/// process. The second call finds none. To be called before this process opens a descriptor that stays open: then what the variables say is either true, or
/// about descriptors that are not there.
///
/// No safe code can own a descriptor that it has not opened.
#[must_use]
pub fn inherited_sockets() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let is_ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    if !is_ours || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST_INHERITED);
    let mut sockets = Vec::new();
    for descriptor in FIRST_INHERITED..FIRST_INHERITED + count {
        // SAFETY: F_SETFD changes a flag of the descriptor and touches no memory; for one that is not open it fails.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == 0 {
            // SAFETY: the descriptor is open, it was handed to this very process (LISTEN_PID) to be its own, and it is taken once.
            sockets.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_clock_answers() {
        // A sandbox may forbid the call; then it says so.
        match adjtimex() {
            Ok((state, timex)) => assert!((0..=5).contains(&state) && timex.tick > 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
