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
