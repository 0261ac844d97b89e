//! Lines of `mountinfo`. Source: the kernel's `Documentation/filesystems/proc.rst`, section 3.5.

use std::borrow::Cow;

use super::parse;

/// A mount, as a line tells it, with its escapes taken back.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The number of this mount, and that of the mount on which it stands.
    pub number: (u64, u64),
    /// Major and minor number of the device.
    pub device_number: (u64, u64),
    /// What of the file system is mounted: `/`, or the directory or file that was bound.
    pub root: Cow<'a, [u8]>,
    /// Where it is mounted, seen from the root of the process whose file it is.
    pub point: Cow<'a, [u8]>,
    /// What is mounted: `/dev/vda`, `server:/export`, anything.
    pub source: Cow<'a, [u8]>,
    /// The type of the file system.
    pub kind: Cow<'a, [u8]>,
    /// Whether this mount or its file system cannot be written, or ext4 has shut itself off after an error (`emergency_ro`).
    pub read_only: bool,
    /// The options of the file system, as they stand there: `rw,vers=4.2,addr=10.0.0.1`.
    pub super_options: &'a [u8],
}

impl<'a> Mount<'a> {
    /// Reads a line; `None` when it is none. Fields stand between single blanks, and one of them (the source) may be empty.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = (parse::unsigned(fields.next()?)?, parse::unsigned(fields.next()?)?);
        let mut device = fields.next()?.splitn(2, |byte| *byte == b':').map(parse::unsigned);
        let device_number = (device.next()??, device.next()??);
        let root = fields.next()?;
        let point = fields.next()?;
        let options = fields.next()?;
        // Any number of optional fields, ended by a hyphen.
        fields.find(|field| *field == b"-")?;
        let (kind, source, super_options) = (fields.next()?, fields.next()?, fields.next()?);
        let has = |options: &[u8], wanted: &[u8]| options.split(|byte| *byte == b',').any(|option| option == wanted);
        Some(Self {
            number,
            device_number,
            root: Self::unescaped(root),
            point: Self::unescaped(point),
            source: Self::unescaped(source),
            kind: Self::unescaped(kind),
            read_only: has(options, b"ro") || has(super_options, b"ro") || has(super_options, b"emergency_ro"),
            super_options,
        })
        .filter(|mount| mount.point.starts_with(b"/"))
    }

    /// Takes back the escapes of the kernel's `mangle`: a backslash and three octal digits, for blank, tab, line feed, backslash and `#`.
    #[must_use]
    pub fn unescaped(field: &[u8]) -> Cow<'_, [u8]> {
        if !field.contains(&b'\\') {
            return Cow::Borrowed(field);
        }
        let mut plain = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, behind)) = rest.split_first() {
            let escaped = (*first == b'\\').then(|| behind.split_at_checked(3)).flatten();
            match escaped.and_then(|(digits, behind)| Some((octal(digits)?, behind))) {
                Some((byte, behind)) => {
                    plain.push(byte);
                    rest = behind;
                }
                None => {
                    plain.push(*first);
                    rest = behind;
                }
            }
        }
        Cow::Owned(plain)
    }

    /// Whether it is answered by somebody else than this kernel, and so may never be.
    #[must_use]
    pub fn may_hang(&self) -> bool {
        const REMOTE: [&[u8]; 9] = [b"nfs", b"cifs", b"smb", b"fuse", b"ceph", b"9p", b"afs", b"lustre", b"gluster"];
        REMOTE.iter().any(|kind| self.kind.starts_with(kind))
    }

    /// Whether its figures lie in this kernel's memory, so that asking for them waits for no disk, no lock and nobody else.
    #[must_use]
    pub fn answers_at_once(&self) -> bool {
        const KINDS: [&[u8]; 7] = [b"ext2", b"ext3", b"ext4", b"xfs", b"vfat", b"tmpfs", b"devtmpfs"];
        KINDS.contains(&&*self.kind)
    }
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::process::MountInfo;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_taken_back() {
        assert_eq!(&*Mount::unescaped(br"/a\040b\011c\012d\134e"), b"/a b\tc\nd\\e");
        assert_eq!(&*Mount::unescaped(br"\999\04"), br"\999\04");
        assert_eq!(&*Mount::unescaped(br"\400\+01"), br"\400\+01");
    }

    #[test]
    fn a_line_is_read_as_procfs_reads_it() {
        let line = "44 27 253:1 / /srv/data rw,relatime shared:2 master:1 - ext4 /dev/vdb rw,discard";
        let oracle = MountInfo::from_line(line).unwrap();
        let mount = Mount::of(line.as_bytes()).unwrap();
        assert_eq!(format!("{}:{}", mount.device_number.0, mount.device_number.1), oracle.majmin);
        assert_eq!(&*mount.root, oracle.root.as_bytes());
        assert_eq!(&*mount.point, oracle.mount_point.to_str().unwrap().as_bytes());
        assert_eq!(&*mount.source, oracle.mount_source.unwrap().as_bytes());
        assert_eq!(&*mount.kind, oracle.fs_type.as_bytes());
        assert!(!mount.read_only);
    }

    #[test]
    fn what_cannot_be_written() {
        let read_only = |options: &str, super_options: &str| {
            Mount::of(format!("1 2 3:4 / /x {options} - ext4 /dev/x {super_options}").as_bytes()).unwrap().read_only
        };
        assert!(read_only("ro,noatime", "rw") && read_only("rw", "ro") && read_only("rw", "rw,emergency_ro"));
        assert!(!read_only("rw,errors=remount-ro", "rw"));
    }

    #[test]
    fn an_empty_source_is_no_fault() {
        let mount = Mount::of(b"1 2 3:4 / /x rw - tmpfs  rw,size=1k").unwrap();
        assert_eq!((&*mount.kind, &*mount.source), (&b"tmpfs"[..], &b""[..]));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "[0-9:/ \\\\a-c,-]{0,80}") {
            let _ = (Mount::of(&line), Mount::of(text.as_bytes()));
        }
    }
}
