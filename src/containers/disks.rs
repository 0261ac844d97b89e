//! The host's disks, for `id="/"`: `/proc/diskstats`. Under a container's id only what its cgroup counts is told, never these.
//!
//! Source: the kernel's `Documentation/admin-guide/iostats.rst`.

use std::collections::HashMap;

use crate::cgroup::DeviceIo;
use crate::collect::Pass;
use crate::host::parse::{fields, lines, text, unsigned};

/// A sector of this file has 512 bytes, whatever the device's own have.
const SECTOR: u64 = 512;
const MILLISECOND: u64 = 1_000_000;

/// Puts the host's disks into `io`, and their names to the others in `names`. A disk that never did anything is left out, and so are its partitions and what is
/// no disk but memory or a file (`ram`, `zram`, `loop`).
pub(crate) fn read(pass: &mut Pass<'_>, io: &mut Vec<DeviceIo>, names: &mut HashMap<(u32, u32), String>) {
    io.clear();
    let (host, _, odd) = pass.split();
    match host.proc("diskstats") {
        Ok(bytes) => {
            for line in lines(bytes) {
                match disk(line) {
                    Some((name, disk)) => {
                        if is_disk(name) && (disk.reads, disk.writes) != (Some(0), Some(0)) && !io.iter().any(|known| same(known, &disk)) {
                            let number = (disk.major, disk.minor);
                            names.entry(number).or_insert_with(|| format!("/dev/{}", text(name)));
                            io.push(disk);
                        }
                    }
                    None => odd.line("diskstats", line),
                }
            }
        }
        Err(error) if error.is_absent() => {}
        Err(error) => odd.tell(&error),
    }
}

fn same(one: &DeviceIo, other: &DeviceIo) -> bool {
    (one.major, one.minor) == (other.major, other.minor)
}

/// `254 0 vda 1444090 50869 52050874 4508205 499784 453437 214139408 1471211 1 328820 6103016 387036 86 162465528 105026 88386 18572`; kernels before 4.18
/// end behind the eleventh number, those before 5.5 behind the fifteenth.
fn disk(line: &[u8]) -> Option<(&[u8], DeviceIo)> {
    let mut fields = fields(line);
    let number = |field: Option<&[u8]>| u32::try_from(unsigned(field?)?).ok();
    let (major, minor, name) = (number(fields.next())?, number(fields.next())?, fields.next()?);
    let mut numbers = [0; 11];
    for slot in &mut numbers {
        *slot = unsigned(fields.next()?)?;
    }
    let [reads, reads_merged, sectors_read, read_time, writes, writes_merged, sectors_written, write_time, in_progress, io_time, weighted] =
        numbers;
    let nanoseconds = |milliseconds: u64| milliseconds.checked_mul(MILLISECOND);
    let discarded = fields.nth(2).and_then(unsigned);
    let disk = DeviceIo {
        major,
        minor,
        read_bytes: sectors_read.checked_mul(SECTOR),
        write_bytes: sectors_written.checked_mul(SECTOR),
        discard_bytes: discarded.and_then(|sectors| sectors.checked_mul(SECTOR)),
        reads: Some(reads),
        writes: Some(writes),
        reads_merged: Some(reads_merged),
        writes_merged: Some(writes_merged),
        sectors_read: Some(sectors_read),
        sectors_written: Some(sectors_written),
        read_time: nanoseconds(read_time),
        write_time: nanoseconds(write_time),
        in_progress: Some(in_progress),
        io_time: nanoseconds(io_time),
        weighted_time: nanoseconds(weighted),
        ..DeviceIo::default()
    };
    Some((name, disk))
}

/// Whether it is a whole disk, by its name: the host's are added up, and a partition's numbers are its disk's too.
fn is_disk(name: &[u8]) -> bool {
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word.as_bytes()));
    if starts(&["ram", "zram", "loop", "fd", "sr"]) {
        return false;
    }
    let end = name.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
    let (stem, digits) = name.split_at_checked(end).unwrap_or((name, b""));
    // nvme0n1p2, mmcblk0p1, nbd0p1, md127p1: where the disk's own name ends in a digit, a p stands before the partition's.
    let of_numbered = stem.strip_suffix(b"p").is_some_and(|disk| disk.last().is_some_and(u8::is_ascii_digit));
    // sda1, vdb2, xvda1, hda1.
    let of_lettered = starts(&["sd", "vd", "xvd", "hd"]);
    digits.is_empty() || !(of_numbered || of_lettered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_disks() {
        for name in [
            "sda",
            "sdaa",
            "vda",
            "xvdf",
            "nvme0n1",
            "nvme10n12",
            "mmcblk0",
            "md0",
            "md127",
            "dm-3",
            "nbd1",
            "bcache0",
            "pmem0",
            "zd0",
            "mmcblk0boot0",
        ] {
            assert!(is_disk(name.as_bytes()), "{name}");
        }
        for name in
            ["sda1", "sdaa12", "vda3", "xvda1", "nvme0n1p2", "mmcblk0p1", "md127p1", "nbd0p1", "loop0", "ram3", "zram0", "fd0", "sr0"]
        {
            assert!(!is_disk(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn lines_of_old_and_new_kernels() {
        let old = b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11";
        let (name, disk) = super::disk(old).unwrap();
        assert_eq!((name, disk.read_bytes, disk.discard_bytes, disk.io_time), (&b"sda"[..], Some(1536), None, Some(10_000_000)));
        let new = b" 259       0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17";
        assert_eq!(super::disk(new).unwrap().1.discard_bytes, Some(14 * 512));
        for odd in [&b""[..], b"8 0 sda", b"8 0 sda 1 2 3 4 5 6 7 8 9 10", b"8 x sda 1 2 3 4 5 6 7 8 9 10 11"] {
            assert!(super::disk(odd).is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "[0-9]{1,3} [0-9]{1,3} [a-z]{1,4}[0-9]{0,2}( [0-9]{1,20}){8,20}") {
            for line in [&*line, text.as_bytes()] {
                if let Some((name, _)) = disk(line) {
                    is_disk(name);
                }
            }
        }
    }
}
