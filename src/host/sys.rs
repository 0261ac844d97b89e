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

/// What [`ethtool`] can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ethtool {
    /// `ETHTOOL_GSET`: `struct ethtool_cmd`, which kernels before 4.6 answer with.
    Settings,
    /// `ETHTOOL_GDRVINFO`: `struct ethtool_drvinfo`.
    Driver,
    /// `ETHTOOL_GSTRINGS` of the statistics: `struct ethtool_gstrings` with their names.
    Names,
    /// `ETHTOOL_GSTATS`: `struct ethtool_stats` with their values.
    Values,
    /// `ETHTOOL_GLINKSETTINGS`: `struct ethtool_link_settings` with masks of this many words; asked for 0 words, the kernel says how many it has.
    LinkSettings(u8),
}

/// Statistics that there is room for. The kernel writes as many as the device has, whatever is asked for: a device that tells of more than a quarter is not asked
/// for them, so that there is room for all that it may add between two questions.
const ROOM: usize = 1 << 16;

/// Asks the driver of a network device, by ioctl `SIOCETHTOOL`. The answer is the structure of `include/uapi/linux/ethtool.h`. Nothing is set, which needs
/// no privilege. No safe crate wraps it: the kernel writes through a pointer as much as the command says.
///
/// # Errors
/// What the kernel says: `EOPNOTSUPP` of a driver that does not know, `ENODEV` when there is no such device in this network namespace.
pub fn ethtool(socket: std::os::fd::BorrowedFd<'_>, device: &str, what: Ethtool) -> io::Result<Vec<u8>> {
    use std::os::fd::AsRawFd;
    const SIOCETHTOOL: u32 = 0x8946;
    // The command, what stands behind it, and the most that the kernel writes.
    let (command, argument, size): (u32, &[u8], usize) = match what {
        Ethtool::Settings => (0x01, &[], 44),
        Ethtool::Driver => (0x03, &[], 196),
        // The set of names with number 1 is that of the statistics.
        Ethtool::Names => (0x1b, &1u32.to_ne_bytes(), 12 + 32 * ROOM),
        Ethtool::Values => (0x1d, &[], 8 + 8 * ROOM),
        // The number of words is a signed byte, so three masks are never longer.
        Ethtool::LinkSettings(_) => (0x4c, &[], 48 + 3 * 127 * 4),
    };
    if matches!(what, Ethtool::Names | Ethtool::Values) {
        let driver = ethtool(socket, device, Ethtool::Driver)?;
        let count = driver.get(180..).and_then(|rest| rest.first_chunk()).map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes));
        if usize::try_from(count).map_or(true, |count| count > ROOM / 4) {
            return Err(io::Error::other(format!("it has {count} statistics, more than any device")));
        }
    }
    let mut answer = vec![0u8; size];
    for (place, byte) in answer.iter_mut().zip(command.to_ne_bytes().iter().chain(argument)) {
        *place = *byte;
    }
    if let (Ethtool::LinkSettings(words), Some(place)) = (what, answer.get_mut(15)) {
        *place = words;
    }
    // SAFETY: `ifreq` is a plain structure of integers and a union of such and a pointer, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = device.as_bytes();
    // The name ends with a zero byte.
    if bytes.len() >= request.ifr_name.len() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
    // SAFETY: the request lives through the call, and so does the buffer that it points to. What the kernel writes for each command fits into it: the size of
    // the structure, or for the statistics as many as the device has, for which there is four times the room of what is accepted above.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
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
