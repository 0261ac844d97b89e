//! Host files and processes that are read again and again: kept open between scrapes.
//!
//! Measured for the files of a container's cgroup: opening, reading and closing one takes 6 to 12 µs, reading an open one at its beginning 0.7 to 6 µs. An open
//! file of the kernel's costs up to 4.4 kB of memory, so who keeps many has a bound.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::read::{ReadError, Reader, WITHOUT_WAITING, each_line, fill, fill_from, open};

/// A read that gives less than this has come to the end: the kernel ends one before only where a record does not fit into its page any more, and the records of
/// such files are shorter than half a page.
const SHORT: usize = 2048;

/// A place for a file that may be kept open.
#[derive(Debug, Default)]
pub struct Kept {
    file: Option<File>,
    /// Its inode number, once it was asked for; 0, which no file has, until then. There are twenty places for each container.
    inode: Cell<u64>,
}

/// A process, held by its directory in procfs. The handle stays with the process that it was opened for: when that one has ended, reading fails, also when its
/// number has been given to another. It holds no namespace alive, unlike a file of its `net/`.
#[derive(Debug)]
pub struct Process {
    directory: OwnedFd,
    path: PathBuf,
}

impl Kept {
    /// Whether a file is open in it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The inode number of the file that is open.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let file = self.file.as_ref()?;
        if self.inode.get() == 0 {
            self.inode.set(rustix::fs::fstat(file).map_or(0, |about| about.st_ino));
        }
        Some(self.inode.get()).filter(|inode| *inode != 0)
    }
}

impl Reader {
    /// The inode number of a file below one of the trees.
    #[must_use]
    pub fn inode(&self, path: &Path) -> Option<u64> {
        rustix::fs::stat(path).ok().map(|about| about.st_ino)
    }

    /// Reads `directory/name`, whose path must be below one of the trees, and gives the inode number of the very file that was read.
    ///
    /// # Errors
    /// As [`Reader::kept`].
    pub fn with_inode(&mut self, directory: &Path, name: &str) -> Result<(u64, &[u8]), ReadError> {
        self.set_path(directory, Path::new(""), name);
        let read = open(&self.path).and_then(|file| {
            read_at_start(&file, &mut self.buffer)?;
            Ok(rustix::fs::fstat(&file)?.st_ino)
        });
        match read {
            Ok(inode) => Ok((inode, &self.buffer)),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Reads `tree/directory/name`, a cgroup's file, which must be below one of the host's trees, and leaves it open in `slot` for the next time. A file whose cgroup was
    /// removed since is opened anew, for a cgroup of the same name may have taken its place.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be opened or read, or is larger than 16 MiB.
    pub fn kept(&mut self, tree: &Path, directory: &Path, name: &str, slot: &mut Kept) -> Result<&[u8], ReadError> {
        if let Some(file) = &slot.file {
            if read_short_at_start(file, &mut self.buffer).is_ok() {
                return Ok(&self.buffer);
            }
            slot.file = None;
        }
        self.set_path(tree, directory, name);
        let file = open(&self.path).and_then(|file| read_short_at_start(&file, &mut self.buffer).map(|()| file));
        match file {
            Ok(file) => {
                slot.file = Some(file);
                slot.inode.set(0);
                Ok(&self.buffer)
            }
            Err(source) => Err(self.error(source)),
        }
    }

    /// Reads `tree/directory/name`, which must be below one of the host's trees.
    ///
    /// # Errors
    /// As [`Reader::kept`].
    pub fn within(&mut self, tree: &Path, directory: &Path, name: &str) -> Result<&[u8], ReadError> {
        self.set_path(tree, directory, name);
        match fill(&self.path, &mut self.buffer) {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Opens `<proc>/<pid>`.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) when there is no such process.
    pub fn process(&self, pid: u32) -> Result<Process, ReadError> {
        let path = self.root().proc.join(pid.to_string());
        match rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => Ok(Process { directory, path }),
            Err(error) => Err(ReadError { path, source: error.into() }),
        }
    }

    /// Reads a file of a process, such as `net/dev`.
    ///
    /// # Errors
    /// [`ReadError`], [absent](ReadError::is_absent) also when the process has ended.
    pub fn of_process(&mut self, process: &Process, name: &str) -> Result<&[u8], ReadError> {
        let opened = rustix::fs::openat(&process.directory, name, OFlags::RDONLY | OFlags::CLOEXEC | WITHOUT_WAITING, Mode::empty());
        let read = opened.map_err(io::Error::from).and_then(|file| read_at_start(&File::from(file), &mut self.buffer));
        match read {
            Ok(()) => Ok(&self.buffer),
            Err(source) => Err(ReadError { path: process.path.join(name), source }),
        }
    }

    /// As [`Reader::of_process`], of a file whose lines are short, and leaves it open in `slot` for the next time, which asks no process any more. A file of
    /// `net/` holds the process' namespace.
    ///
    /// # Errors
    /// As [`Reader::of_process`].
    pub fn kept_of_process(&mut self, process: &Process, name: &str, slot: &mut Kept) -> Result<&[u8], ReadError> {
        if let Some(file) = &slot.file {
            if read_short_at_start(file, &mut self.buffer).is_ok() {
                return Ok(&self.buffer);
            }
            slot.file = None;
        }
        let opened = rustix::fs::openat(&process.directory, name, OFlags::RDONLY | OFlags::CLOEXEC | WITHOUT_WAITING, Mode::empty());
        let file = opened.map_err(io::Error::from).map(File::from);
        match file.and_then(|file| read_short_at_start(&file, &mut self.buffer).map(|()| file)) {
            Ok(file) => {
                slot.file = Some(file);
                Ok(&self.buffer)
            }
            Err(source) => Err(ReadError { path: process.path.join(name), source }),
        }
    }

    /// Gives every line of a file of a process to `take` without holding the file as a whole, as [`Reader::net_lines`] does: a process may have a million
    /// sockets in its namespace.
    ///
    /// # Errors
    /// As [`Reader::of_process`].
    pub fn lines_of_process(&mut self, process: &Process, name: &str, mut take: impl FnMut(&[u8])) -> Result<(), ReadError> {
        let opened = rustix::fs::openat(&process.directory, name, OFlags::RDONLY | OFlags::CLOEXEC | WITHOUT_WAITING, Mode::empty());
        let read = opened.map_err(io::Error::from).and_then(|file| each_line(File::from(file), &mut self.buffer, &mut take));
        read.map_err(|source| ReadError { path: process.path.join(name), source })
    }

    fn set_path(&mut self, tree: &Path, directory: &Path, name: &str) {
        self.path.clear();
        self.path.push(tree);
        self.path.push(directory);
        self.path.push(name);
    }

    fn error(&self, source: io::Error) -> ReadError {
        ReadError { path: self.path.clone(), source }
    }
}

/// Reads a whole file from its beginning, wherever its own position is.
pub(super) fn read_at_start(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    fill_from(buffer, |buffer, offset| Ok(rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), offset)?))
}

/// As [`read_at_start`], of a file whose records are short, as a cgroup's are: not so mountinfo, where a line may fill a page.
fn read_short_at_start(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut is_whole = false;
    fill_from(buffer, |buffer, offset| {
        if is_whole {
            return Ok(0);
        }
        let count = rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), offset)?;
        is_whole = count < SHORT;
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    #[test]
    fn a_kept_file_gives_what_is_in_it_now() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut reader = Reader::new(Arc::new(Root::find(Some(path.into()), Some(path.into()), Some(path.into()), None)));
        let mut slot = Kept::default();
        assert!(reader.kept(path, Path::new(""), "usage", &mut slot).unwrap_err().is_absent());
        assert!(slot.file.is_none());
        for text in ["1\n", "22222\n", "3\n"] {
            std::fs::write(path.join("usage"), text).unwrap();
            assert_eq!(reader.kept(path, Path::new(""), "usage", &mut slot).unwrap(), text.as_bytes());
            assert_eq!(reader.within(path, Path::new(""), "usage").unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_process_that_ended_is_absent() {
        let mut reader = Reader::new(Arc::new(Root::find(Some("/proc".into()), None, None, None)));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = reader.process(child.id()).unwrap();
        assert!(reader.of_process(&process, "net/dev").unwrap().starts_with(b"Inter-"));
        let mut lines = Vec::new();
        reader.lines_of_process(&process, "limits", |line| lines.push(line.to_vec())).unwrap();
        assert!(lines[0].starts_with(b"Limit"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reader.of_process(&process, "net/dev").unwrap_err().is_absent());
    }
}
