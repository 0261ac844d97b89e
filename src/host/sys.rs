//! System calls that no safe crate offers, each with its reason. The one file of this crate in which `unsafe` may stand.
#![allow(unsafe_code)]

use std::io;

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

/// Has all threads take memory from one heap. The C library gives each thread one of its own otherwise, and each keeps what a scrape or a batch once took:
/// 2 to 3 MiB more resident memory (measured), for a contention that eight threads with buffers of their own do not feel. To be called before any thread starts.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number inside the allocator, which takes its own lock for that.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
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
