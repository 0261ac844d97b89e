//! What a container ended with, in few words.

/// The classes of exits: `code_class`.
pub(crate) const CLASSES: [&str; 6] = ["success", "error", "not_started", "signal", "oom_killed", "unknown"];

/// The place of `not_started` in them: what the engine could not start is counted there, whatever code it gives it (128 where a device, a port or a mount failed).
pub(crate) const NOT_STARTED: usize = 2;

/// Exits by class, in the order of [`CLASSES`].
pub(crate) type Exits = [u64; CLASSES.len()];

/// The place of an exit's class in [`CLASSES`]. Docker's codes (`docker run --help`, and the shell's rule that it follows): 125 to 127 is a command that the engine,
/// or a shell in the container, could not start; 128 and a signal's number (1 to 64) is a process that the signal ended. SIGKILL in a run in which the kernel killed
/// for want of memory is taken for that kill.
pub(crate) const fn class_of(code: Option<i64>, killed_for_memory: bool) -> usize {
    match code {
        Some(0) => 0,
        Some(125..=127) => NOT_STARTED,
        Some(137) if killed_for_memory => 4,
        Some(129..=192) => 3,
        Some(_) => 1,
        None => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_class() {
        assert_eq!(CLASSES[NOT_STARTED], "not_started");
        let of = |code, killed| CLASSES[class_of(code, killed)];
        for (code, killed, class) in [
            (Some(0), false, "success"),
            (Some(0), true, "success"),
            (Some(1), false, "error"),
            (Some(1), true, "error"),
            (Some(124), false, "error"),
            (Some(125), false, "not_started"),
            (Some(127), false, "not_started"),
            (Some(128), false, "error"),
            (Some(130), false, "signal"),
            (Some(137), false, "signal"),
            (Some(137), true, "oom_killed"),
            (Some(143), true, "signal"),
            (Some(192), false, "signal"),
            (Some(255), false, "error"),
            (Some(-1), false, "error"),
            (None, true, "unknown"),
        ] {
            assert_eq!(of(code, killed), class, "{code:?} {killed}");
        }
    }
}
