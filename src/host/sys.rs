//! System calls that no safe crate offers, each with its reason. The one file of this crate in which `unsafe` may stand.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
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

/// Has all threads take memory from one heap. The C library gives each thread one of its own otherwise, and each keeps what a scrape or a batch once took:
/// 2 to 3 MiB more resident memory (measured), for a contention that eight threads with buffers of their own do not feel. To be called before any thread starts.
///
/// What the heap may keep at its end, and from what size on a block lies outside of it, is said too: left to itself the C library raises both with the largest
/// block that it has seen freed, and a process grows by megabytes long after its start.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: each sets a number inside the allocator, which takes its own lock for that.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
    }
}

/// Gives back what is free in the middle of the heap; by itself the C library gives back its end only. It walks the whole heap under its lock, so this is for
/// moments after which much is free: the start, a long list, an answer of megabytes.
pub fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but memory that is free, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes the program's own code out of this process' memory; what runs on comes back with its next step, from the file. Of what the start runs once (arguments,
/// configuration, certificates, the compilation of regular expressions) a megabyte stays resident otherwise (measured). Where it cannot be done nothing happens.
pub fn give_back_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    // `7fb02bfeb000-7fb02c5d2000 r-xp 001ea000 fe:00 9978010    /skep`
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && program.to_str().is_some_and(|program| line.ends_with(program))) {
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let Some((Some(begin), Some(end))) = range.map(|(begin, end)| (number(begin), number(end))) else { continue };
        let Some(length) = end.checked_sub(begin) else { continue };
        // SAFETY: the kernel has just named this mapping. It is a file's and cannot be written to, so each of its pages is read again as it was.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(begin), length, libc::MADV_DONTNEED);
        }
    }
}

/// Of a btrfs file system its id and the highest of its devices' numbers. Source of this and the next two: the kernel's `include/uapi/linux/btrfs.h`. They
/// need no privilege, only an open file or directory of the file system. No safe crate wraps them.
///
/// # Errors
/// What the kernel says: `ENOTTY` when the file is of another file system.
pub fn btrfs_file_system(file: BorrowedFd<'_>) -> io::Result<([u8; 16], u64)> {
    // struct btrfs_ioctl_fs_info_args: max_id, num_devices, fsid[16], ...
    let mut block = [0u64; 128];
    btrfs_ioctl(file, READ, 31, &mut block)?;
    let [highest, _, first, second, ..] = block;
    Ok((both(first, second), highest))
}

/// A device of a btrfs file system, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtrfsDevice {
    /// The device's own UUID.
    pub uuid: [u8; 16],
    /// How large it is, in bytes.
    pub size: u64,
    /// How much of it is allocated, in bytes.
    pub used: u64,
    /// Its path, `/dev/sda1`; empty for one that is missing.
    pub path: Vec<u8>,
    /// Errors: of writing, reading and flushing, corrupt blocks, blocks of a wrong generation.
    pub errors: [u64; 5],
}

/// A device of a btrfs file system by its number.
///
/// # Errors
/// What the kernel says: `ENODEV` when there is none of that number.
pub fn btrfs_device(file: BorrowedFd<'_>, number: u64) -> io::Result<BtrfsDevice> {
    // struct btrfs_ioctl_dev_info_args: devid, uuid[16], bytes_used, total_bytes, 3016 bytes of no interest, path[1024].
    let mut block = [0u64; 512];
    block[0] = number;
    btrfs_ioctl(file, READ | WRITE, 30, &mut block)?;
    let [_, first, second, used, size, ..] = block;
    let path = block.iter().skip(384).flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    // struct btrfs_ioctl_get_dev_stats: devid, nr_items, flags, values[5], ... Without a flag nothing is reset.
    let mut block = [0u64; 129];
    block[0] = number;
    block[1] = 5;
    btrfs_ioctl(file, READ | WRITE, 52, &mut block)?;
    let [_, _, _, write, read, flush, corruption, generation, ..] = block;
    Ok(BtrfsDevice { uuid: both(first, second), size, used, path, errors: [write, read, flush, corruption, generation] })
}

const WRITE: u32 = 1;
const READ: u32 = 2;

/// Asks btrfs with a block that it reads and fills, of the size that belongs to the request.
fn btrfs_ioctl<const WORDS: usize>(file: BorrowedFd<'_>, direction: u32, number: u32, block: &mut [u64; WORDS]) -> io::Result<()> {
    const MAGIC: u32 = 0x94;
    let size = u32::try_from(std::mem::size_of_val(block)).map_err(io::Error::other)?;
    // As `_IOC` composes it on x86, ARM and RISC-V. The kernel's type is an unsigned long, musl's an int of the same bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    let request = (direction << 30 | size << 16 | MAGIC << 8 | number) as libc::Ioctl;
    // SAFETY: the request carries the block's size, of which the kernel reads and writes no more; the block is live, aligned for u64, which all of btrfs'
    // structures are made of, exclusively borrowed, and valid whatever bits it holds.
    if unsafe { libc::ioctl(file.as_raw_fd(), request, block.as_mut_ptr()) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sixteen bytes of two words, as they lie in memory.
fn both(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(first.to_ne_bytes().into_iter().chain(second.to_ne_bytes())).for_each(|(slot, byte)| *slot = byte);
    bytes
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

/// A socket to ask drivers with, which may be of any kind: it says which network namespace the devices are of.
///
/// # Errors
/// What the kernel says: `EPERM` under a seccomp profile that forbids it.
pub fn ethtool_socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

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
    fn another_file_system_is_no_btrfs() {
        use std::os::fd::AsFd;
        // procfs, on every machine.
        let file = std::fs::File::open("/proc/self").unwrap();
        assert!(btrfs_file_system(file.as_fd()).is_err());
        assert!(btrfs_device(file.as_fd(), 1).is_err());
        assert_eq!(both(u64::from_ne_bytes(*b"01234567"), u64::from_ne_bytes(*b"89abcdef")), *b"0123456789abcdef");
    }

    #[test]
    fn the_code_comes_back() {
        give_back_code();
        assert_eq!([3, 1, 2].map(|number: u32| number.to_string()).concat(), "312");
    }

    #[test]
    fn the_kernel_s_clock_answers() {
        // A sandbox may forbid the call; then it says so.
        match adjtimex() {
            Ok((state, timex)) => assert!((0..=5).contains(&state) && timex.tick > 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
