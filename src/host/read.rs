//! Reading small kernel files into one buffer that is kept.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::Root;
use super::kept::read_at_start;
use super::root::{PROC_WITNESS, SYS_WITNESS, below};

/// A host file larger than this is refused: no file that a collector reads comes near it.
const LARGEST_FILE: usize = 16 << 20;
const STEP: usize = 16 << 10;
/// How many files of procfs and sysfs a reader keeps open between scrapes; each costs the kernel up to 4.4 kB, and spares half of what reading it takes.
const MOST_OPEN: usize = 64;
/// `f_type` of procfs and sysfs (`include/uapi/linux/magic.h`).
const KERNELS: [u64; 2] = [0x9fa0, 0x6265_6572];
/// See [`open`].
pub(super) const WITHOUT_WAITING: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// A host file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ReadError {
    /// The file, as this process reaches it.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl ReadError {
    /// Whether the file is not there: a kernel or a machine without this feature, and not a fault. `ENODEV`, `ENOTSUP` and `ESRCH` are what
    /// kernel files answer when their device, cgroup, feature (pressure) or process is gone or off. A file below a tree that is not there itself (no
    /// procfs, no sysfs) says nothing of the machine, and is not absent.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported)
            || matches!(
                rustix::io::Errno::from_io_error(&self.source),
                Some(rustix::io::Errno::NODEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::SRCH)
            )
    }

    /// Whether an attribute of a device has no value for this process at this moment, which is no fault of skep's or of the machine's: it is
    /// [absent](Self::is_absent), it is root's alone (serial numbers, energy counters), or its driver answers so, as drivers do for a sensor that is switched
    /// off, asleep, busy or broken (`Documentation/hwmon/sysfs-interface.rst` knows `ENODATA`; the others are met in drivers).
    #[must_use]
    pub fn is_no_value(&self) -> bool {
        use rustix::io::Errno;
        self.is_absent()
            || matches!(
                Errno::from_io_error(&self.source),
                Some(
                    Errno::NODATA
                        | Errno::AGAIN
                        | Errno::IO
                        | Errno::NXIO
                        | Errno::INVAL
                        | Errno::BUSY
                        | Errno::TIMEDOUT
                        | Errno::REMOTEIO
                        | Errno::PROTO
                        | Errno::ILSEQ
                        | Errno::SHUTDOWN
                        | Errno::ACCESS
                        | Errno::PERM
                )
            )
    }
}

/// Whose network files [`Reader::net`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetSource {
    /// `<proc>/1/net`: those of the first process, which are the host's.
    Host,
    /// `<proc>/net`, a link to `self/net`: those of the network namespace that this process runs in.
    Own,
}

impl fmt::Display for NetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "1/net",
            Self::Own => "net",
        })
    }
}

/// Reads host files, one at a time, into a buffer and a path that are kept: after the first scrape it allocates nothing.
///
/// The kernel's own files that every machine has once (`stat`, `1/net/netstat`) stay open: what they tell is made when they are read, wherever that begins.
#[derive(Debug)]
pub struct Reader {
    pub(super) root: Arc<Root>,
    pub(super) path: PathBuf,
    pub(super) buffer: Vec<u8>,
    /// By their whole path.
    open: HashMap<Box<[u8]>, File>,
    seen: Seen,
    interfaces: Interfaces,
}

/// The host's `net/dev`, which two collectors tell of: a line takes the kernel 2.5 µs, and a node with a thousand containers has a thousand.
#[derive(Debug, Default)]
struct Interfaces {
    /// Whether a scrape has begun: who is read from without one reads what is there now.
    keeps: bool,
    source: Option<NetSource>,
    text: Vec<u8>,
}

/// What was seen to be there since [`Reader::begin`], and is not looked for again.
#[derive(Debug, Default)]
struct Seen {
    proc: Cell<bool>,
    sys: Cell<bool>,
    host_net: Cell<bool>,
}

impl Reader {
    /// A reader of the trees of `root`.
    #[must_use]
    pub fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            path: PathBuf::new(),
            buffer: Vec::new(),
            open: HashMap::new(),
            seen: Seen::default(),
            interfaces: Interfaces::default(),
        }
    }

    /// Another scrape begins: whether the trees are there is looked at anew, once, when something is missing below them, and [`Reader::interfaces`] are read anew.
    pub fn begin(&mut self) {
        self.seen = Seen::default();
        (self.interfaces.keeps, self.interfaces.source) = (true, None);
    }

    /// The trees that are read.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Reads `<proc>/relative`.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be opened or read, or is larger than 16 MiB. It is [absent](ReadError::is_absent) only where the tree is there.
    pub fn proc(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        self.path.clone_from(&self.root.proc);
        self.path.push(relative);
        // Processes come and go; the first one stays.
        let keeps = !relative.starts_with(|first: char| first.is_ascii_digit()) || relative.starts_with("1/");
        self.fill_open(keeps).map_err(|source| self.below_proc(ReadError { path: self.path.clone(), source }))?;
        Ok(&self.buffer)
    }

    /// Reads `<sys>/relative`.
    ///
    /// # Errors
    /// As [`Reader::proc`].
    pub fn sys(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        self.path.clone_from(&self.root.sys);
        self.path.push(relative);
        // An interface may be given another's name, and an open file goes with it.
        self.fill_open(!relative.starts_with("class/net/"))
            .map_err(|source| self.below_sys(ReadError { path: self.path.clone(), source }))?;
        Ok(&self.buffer)
    }

    /// The sysfs attribute `<sys>/relative` without blanks and line feeds at both ends. One `read(2)` of a page: an attribute is never longer
    /// (`Documentation/filesystems/sysfs.rst`), and a driver that answers `EAGAIN` is not asked in a circle (node_exporter issue 1710).
    ///
    /// # Errors
    /// As [`Reader::proc`]; what the driver says when it has no value for now (`ENODATA`, `EIO`, `EAGAIN`) is not [absent](ReadError::is_absent).
    pub fn attribute(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        self.path.clone_from(&self.root.sys);
        self.path.push(relative);
        match fill_once(&self.path, &mut self.buffer) {
            Ok(()) => Ok(self.buffer.trim_ascii()),
            Err(source) => Err(self.below_sys(ReadError { path: self.path.clone(), source })),
        }
    }

    /// Reads `<rootfs>/relative`.
    ///
    /// # Errors
    /// As [`Reader::proc`].
    pub fn rootfs(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        self.path.clone_from(&self.root.rootfs);
        self.path.push(relative.trim_start_matches('/'));
        self.read()
    }

    /// Reads a file of the host's network namespace (`dev`, `snmp`, ...): `<proc>/1/net/relative`, and where that is not to be had
    /// `<proc>/net/relative`, which is the reader's own namespace. Says which it was. A file that only the host's namespace lacks is absent.
    ///
    /// # Errors
    /// As [`Reader::proc`]; the error is that of the second file, and of the first where the second is absent and the first is not.
    pub fn net(&mut self, relative: &str) -> Result<(NetSource, &[u8]), ReadError> {
        self.path.clone_from(&self.root.proc);
        self.path.push("1/net");
        self.path.push(relative);
        let first = match self.fill_open(true) {
            Ok(()) => return Ok((NetSource::Host, &self.buffer)),
            Err(source) => ReadError { path: self.path.clone(), source },
        };
        if first.is_absent() && self.shows_host_net() {
            return Err(first);
        }
        self.path.clone_from(&self.root.proc);
        self.path.push("net");
        self.path.push(relative);
        match self.fill_open(true) {
            Ok(()) => Ok((NetSource::Own, &self.buffer)),
            Err(source) => {
                let second = ReadError { path: self.path.clone(), source };
                Err(self.below_proc(if second.is_absent() && !first.is_absent() { first } else { second }))
            }
        }
    }

    /// Reads `net/dev`, as [`Reader::net`] does, once a scrape.
    ///
    /// # Errors
    /// As [`Reader::net`].
    pub fn interfaces(&mut self) -> Result<(NetSource, &[u8]), ReadError> {
        if self.interfaces.source.is_none() {
            let (source, _) = self.net("dev")?;
            let Interfaces { keeps, source: kept, text } = &mut self.interfaces;
            text.clone_from(&self.buffer);
            *kept = keeps.then_some(source);
            return Ok((source, &self.interfaces.text));
        }
        let Interfaces { source, text, .. } = &self.interfaces;
        Ok((source.unwrap_or(NetSource::Own), text))
    }

    /// Whether `<proc>/1/net` can be looked into. What is missing there the host does not have, and that of the reader's own namespace is no substitute: the file
    /// of a module that only a container uses, or half of a pair (`tcp` without `tcp6`).
    fn shows_host_net(&self) -> bool {
        self.seen.host_net.get() || {
            let there = self.root.proc.join("1/net/dev").symlink_metadata().is_ok();
            self.seen.host_net.set(there);
            there
        }
    }

    /// The error of a file below procfs, made one that is not [absent](ReadError::is_absent) when there is no procfs at all.
    pub(super) fn below_proc(&self, error: ReadError) -> ReadError {
        below(&self.root.proc, PROC_WITNESS, "procfs", &self.seen.proc, error)
    }

    /// As [`Reader::below_proc`], of sysfs.
    pub(super) fn below_sys(&self, error: ReadError) -> ReadError {
        below(&self.root.sys, SYS_WITNESS, "sysfs", &self.seen.sys, error)
    }

    /// Gives every line of a file of the host's network namespace to `take`, from the same place as [`Reader::net`] but without holding the file as a whole:
    /// for those that have a line for each socket, of which there may be a million.
    ///
    /// # Errors
    /// As [`Reader::net`], but for the size.
    pub fn net_lines(&mut self, relative: &str, mut take: impl FnMut(&[u8])) -> Result<NetSource, ReadError> {
        let mut first = None;
        for (source, directory) in [(NetSource::Host, "1/net"), (NetSource::Own, "net")] {
            self.path.clone_from(&self.root.proc);
            self.path.push(directory);
            self.path.push(relative);
            match self.lines_open(&mut take) {
                Ok(()) => return Ok(source),
                Err(error) => {
                    let error = ReadError { path: self.path.clone(), source: error };
                    // What is open and breaks off has given lines already, and another file's must not come on top of them.
                    if !error.is_absent() && !matches!(error.source.kind(), io::ErrorKind::PermissionDenied) {
                        return Err(error);
                    }
                    if source == NetSource::Host && error.is_absent() && self.shows_host_net() {
                        return Err(error);
                    }
                    first = first.filter(|first: &ReadError| !first.is_absent()).or(Some(error));
                }
            }
        }
        let error = first.unwrap_or_else(|| ReadError { path: self.path.clone(), source: io::ErrorKind::NotFound.into() });
        Err(self.below_proc(error))
    }

    /// Reads a file at a path below one of the trees, for collectors that walk directories.
    ///
    /// # Errors
    /// As [`Reader::proc`].
    pub fn at(&mut self, path: &Path) -> Result<&[u8], ReadError> {
        self.path.clear();
        self.path.push(path);
        self.read()
    }

    /// Reads the file at the path that is set, whole. With `keeps` it stays open when it is one of the kernel's, and there is room.
    fn fill_open(&mut self, keeps: bool) -> io::Result<()> {
        let name = self.path.as_os_str().as_bytes();
        if let Some(file) = self.open.get(name) {
            if read_at_start(file, &mut self.buffer).is_ok() {
                return Ok(());
            }
            // A module, a device or a namespace went; there may be another of its name.
            self.open.remove(name);
        }
        let file = open(&self.path)?;
        fill_from(&mut self.buffer, |buffer, _| more(&file, buffer))?;
        if keeps && self.open.len() < MOST_OPEN && is_kernels(&file) {
            self.open.insert(self.path.as_os_str().as_bytes().into(), file);
        }
        Ok(())
    }

    /// As [`Reader::fill_open`], but gives the lines one by one.
    fn lines_open(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let name = self.path.as_os_str().as_bytes();
        if let Some(file) = self.open.get(name) {
            let mut lines = SocketFile { file, offset: 0, last: false, is_kernels: true };
            let read = each_line(&mut lines, &mut self.buffer, take);
            // What broke off has given lines already, which must not come twice.
            if read.is_ok() || lines.offset > 0 {
                return read;
            }
            self.open.remove(name);
        }
        let file = open(&self.path)?;
        let is_kernels = is_kernels(&file);
        each_line(&mut SocketFile { file: &file, offset: 0, last: false, is_kernels }, &mut self.buffer, take)?;
        if is_kernels && self.open.len() < MOST_OPEN {
            self.open.insert(self.path.as_os_str().as_bytes().into(), file);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<&[u8], ReadError> {
        match fill(&self.path, &mut self.buffer) {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(ReadError { path: self.path.clone(), source }),
        }
    }
}

/// Opens for reading and never waits for it: at a pipe without a writer the kernel would, and a tree may be anything that somebody has mounted there. On files of
/// proc and sysfs the flags mean nothing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING.bits().cast_signed()).open(path)
}

/// Whether a file is of procfs or sysfs: any other may be replaced by one of its name, and would be read as it was.
fn is_kernels(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| KERNELS.contains(&kind)))
}

/// Reads a whole file into `buffer`.
pub(super) fn fill(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    let file = open(path)?;
    fill_from(buffer, |buffer, _| more(&file, buffer))
}

/// Reads once, behind what is in the buffer, as much as there is room for. The room is not written to before: most files fill a small part of it.
pub(super) fn more(file: &impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::io::read(file, rustix::buffer::spare_capacity(buffer))?)
}

/// A file of procfs with a line for each socket or neighbour, from its beginning.
struct SocketFile<'a> {
    file: &'a File,
    offset: u64,
    /// Whether the last read told that nothing comes after it.
    last: bool,
    is_kernels: bool,
}

impl Read for SocketFile<'_> {
    /// To see the end the kernel walks through all its sockets once more. But it ends a read where the next line does not fit into its page (`seq_read_iter`), and
    /// the lines of these files have some 150 bytes: what fills less than half of the page is all there is.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const HALF: usize = 2048;
        if self.last {
            return Ok(0);
        }
        let count = match rustix::io::pread(self.file, &mut *buffer, self.offset) {
            // A pipe, which somebody mounted here, has no offsets.
            Err(rustix::io::Errno::SPIPE) => rustix::io::read(self.file, buffer)?,
            read => read?,
        };
        self.last = self.is_kernels && count < HALF;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Gives every line of `file` to `take`, without its line feed. A line longer than `STEP` is given in pieces: none that a kernel writes is.
pub(super) fn each_line(mut file: impl Read, buffer: &mut Vec<u8>, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
    buffer.resize(STEP * 2, 0);
    let mut held = 0;
    loop {
        let count = match file.read(buffer.get_mut(held..).unwrap_or_default()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let filled = held + count;
        let bytes = buffer.get(..filled).unwrap_or_default();
        let whole = match memchr::memrchr(b'\n', bytes) {
            Some(end) if count > 0 && filled - end <= STEP => end + 1,
            // The end of the file, or of all patience.
            _ if count == 0 || filled > STEP => filled,
            _ => 0,
        };
        for line in bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(line);
        }
        if count == 0 {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        held = filled - whole;
    }
}

/// Reads the first page of a file into `buffer` at one go.
pub(super) fn fill_once(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    const PAGE: usize = 4096;
    buffer.clear();
    let file = open(path)?;
    buffer.reserve(PAGE);
    more(&file, buffer).map(drop)
}

/// Reads into `buffer` until `read`, which appends to it and gets the offset, gives nothing more. A short read is not the end: the kernel may break at a line.
pub(super) fn fill_from(buffer: &mut Vec<u8>, mut read: impl FnMut(&mut Vec<u8>, u64) -> io::Result<usize>) -> io::Result<()> {
    buffer.clear();
    loop {
        buffer.reserve(STEP);
        let offset = buffer.len() as u64;
        match read(buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.clear();
                return Err(error);
            }
        }
        if buffer.len() > LARGEST_FILE {
            buffer.clear();
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB, which no file of this kind is"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(directory: &Path) -> Reader {
        let path = |name: &str| Some(directory.join(name));
        Reader::new(Arc::new(Root::find(path("proc"), path("sys"), path("root"), None)))
    }

    #[test]
    fn reads_what_is_longer_than_the_buffer() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc")).unwrap();
        let long = vec![b'x'; STEP * 3 + 7];
        std::fs::write(directory.path().join("proc/long"), &long).unwrap();
        std::fs::write(directory.path().join("proc/short"), b"y\n").unwrap();
        let mut reader = reader(directory.path());
        assert_eq!(reader.proc("long").unwrap(), long);
        assert_eq!(reader.proc("short").unwrap(), b"y\n");
        std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
        std::fs::write(directory.path().join("sys/class/value"), b" 7 \n").unwrap();
        assert_eq!(reader.attribute("class/value").unwrap(), b"7");
        assert!(reader.attribute("class/nothing").unwrap_err().is_absent());
    }

    /// A file of the kernel's stays open and is read as it is now; any other may be replaced by one of its name.
    #[test]
    fn only_the_kernel_s_files_stay_open() {
        let mut reader = Reader::new(Arc::new(Root::find(Some("/proc".into()), Some("/sys".into()), None, None)));
        let uptime = reader.proc("uptime").unwrap().to_vec();
        while reader.proc("uptime").unwrap() == uptime {}
        assert_eq!(reader.open.len(), 1);
        reader.proc(&format!("{}/stat", std::process::id())).unwrap();
        assert_eq!(reader.open.len(), 1, "processes come and go");
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path().join("proc");
        std::fs::create_dir_all(proc.join("net")).unwrap();
        let mut reader = self::reader(directory.path());
        for text in ["first\n", "second\n"] {
            for name in ["stat", "net/tcp"] {
                std::fs::write(proc.join("new"), text).unwrap();
                std::fs::rename(proc.join("new"), proc.join(name)).unwrap();
            }
            assert_eq!(reader.proc("stat").unwrap(), text.as_bytes());
            let mut lines = Vec::new();
            reader.net_lines("tcp", |line| lines.push(line.to_vec())).unwrap();
            assert_eq!(lines, [text.trim_end().as_bytes()]);
        }
        assert!(reader.open.is_empty());
    }

    /// That a tree is there is looked at anew in each scrape.
    #[test]
    fn a_tree_that_goes_is_noticed_by_the_next_scrape() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
        let mut reader = reader(directory.path());
        assert!(reader.sys("nothing").unwrap_err().is_absent());
        std::fs::remove_dir(directory.path().join("sys/class")).unwrap();
        reader.begin();
        assert!(!reader.sys("nothing").unwrap_err().is_absent());
    }

    #[test]
    fn interfaces_are_read_once_a_scrape() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path().join("proc");
        std::fs::create_dir_all(proc.join("1/net")).unwrap();
        let mut reader = reader(directory.path());
        let mut told = |text: &str, begins: bool| {
            std::fs::write(proc.join("1/net/dev"), text).unwrap();
            if begins {
                reader.begin();
            }
            let (source, bytes) = reader.interfaces().unwrap();
            assert_eq!(source, NetSource::Host);
            let told = bytes.to_vec();
            // Other files are read between.
            assert!(reader.proc("nothing").is_err());
            told
        };
        assert_eq!(told("1", false), b"1");
        assert_eq!(told("2", false), b"2", "no scrape has begun");
        assert_eq!(told("3", true), b"3");
        assert_eq!(told("4", false), b"3");
        assert_eq!(told("5", true), b"5");
    }

    #[test]
    fn lines_are_given_whole_however_long_the_file_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc/net")).unwrap();
        let line = |number: usize| format!("{number} {}", "x".repeat(number % 300));
        let text: String = (0..2000).map(|number| line(number) + "\n").collect();
        std::fs::write(directory.path().join("proc/net/tcp"), text.trim_end_matches('\n')).unwrap();
        let mut reader = reader(directory.path());
        let mut found = 0;
        let source = reader.net_lines("tcp", |bytes| {
            assert_eq!(bytes, line(found).as_bytes());
            found += 1;
        });
        assert_eq!((source.unwrap(), found), (NetSource::Own, 2000));
        let mut pieces = 0;
        each_line(&vec![b'x'; STEP * 5][..], &mut Vec::new(), &mut |_: &[u8]| pieces += 1).unwrap();
        assert!(pieces >= 3);
        std::fs::write(directory.path().join("proc/stat"), "").unwrap();
        assert!(reader.net_lines("tcp6", |_| {}).unwrap_err().is_absent());
    }

    #[test]
    fn the_network_files_of_the_first_process_come_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc/1/net")).unwrap();
        std::fs::create_dir_all(directory.path().join("proc/net")).unwrap();
        std::fs::write(directory.path().join("proc/net/dev"), b"own").unwrap();
        let mut reader = reader(directory.path());
        assert_eq!(reader.net("dev").unwrap(), (NetSource::Own, &b"own"[..]));
        std::fs::write(directory.path().join("proc/1/net/dev"), b"host").unwrap();
        assert_eq!(reader.net("dev").unwrap(), (NetSource::Host, &b"host"[..]));
        // What the host lacks is not taken from the reader's own namespace.
        std::fs::write(directory.path().join("proc/net/tcp6"), b"own\n").unwrap();
        assert!(reader.net("tcp6").unwrap_err().is_absent());
        assert!(reader.net_lines("tcp6", |_| panic!("the container's own")).unwrap_err().is_absent());
    }

    #[test]
    fn absent_is_told_from_failed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc/folder")).unwrap();
        let mut reader = reader(directory.path());
        std::fs::write(directory.path().join("proc/stat"), b"cpu 1\n").unwrap();
        std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
        assert!(reader.proc("nothing").unwrap_err().is_absent());
        assert!(reader.net("nothing").unwrap_err().is_absent());
        assert!(reader.sys("nothing").unwrap_err().is_absent());
        assert!(!reader.proc("folder").unwrap_err().is_absent());
    }

    #[test]
    fn a_sensor_without_a_value_is_told_from_a_fault() {
        let answer = |number: i32| ReadError { path: PathBuf::new(), source: io::Error::from_raw_os_error(number) };
        // ENOENT, EIO, ENXIO, EAGAIN, EACCES, EBUSY, ENODEV, EINVAL, ENODATA, ETIMEDOUT.
        assert!([2, 5, 6, 11, 13, 16, 19, 22, 61, 110].into_iter().all(|number| answer(number).is_no_value()));
        // ENOMEM, EISDIR, EMFILE.
        assert!(![12, 21, 24].into_iter().any(|number| answer(number).is_no_value()));
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("proc/1/net")).unwrap();
        std::fs::create_dir_all(directory.path().join("sys/class")).unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["proc/stat", "proc/1/net/tcp", "sys/class/value"] {
            rustix::fs::mknodat(rustix::fs::CWD, path(name), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        }
        let mut reader = reader(directory.path());
        assert_eq!(reader.proc("stat").unwrap(), b"");
        assert_eq!(reader.attribute("class/value").unwrap(), b"");
        assert_eq!(reader.net_lines("tcp", |_| panic!("a line")).unwrap(), NetSource::Host);
        // What is kept open is read at an offset, which a pipe has not.
        assert!(reader.kept(&path("sys"), Path::new(""), "class/value", &mut Default::default()).is_err());
        let class = reader.sys_directory("class").unwrap();
        assert_eq!(reader.attribute_in(&class, c"value", None).unwrap(), b"");
    }

    #[test]
    fn below_a_tree_that_is_not_there_nothing_is_absent() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["proc", "sys"] {
            let mut reader = reader(directory.path());
            for error in [
                reader.proc("pressure/cpu").unwrap_err(),
                reader.net("netstat").unwrap_err(),
                reader.sys("block").unwrap_err(),
                reader.sys_numbered("devices/system/cpu", "cpu").unwrap_err(),
            ] {
                assert!(!error.is_absent(), "{error}");
                assert!(error.to_string().contains("mounted"), "{error}");
            }
            // An empty directory is no better than none.
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
    }
}
