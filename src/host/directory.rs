//! Directories of sysfs with many small attributes, kept open: an attribute is then opened relative to its directory, and no path is walked.
//!
//! Measured for the 20 attributes of a network interface, whose path leads through a symbolic link of seven parts: the open, read and close of one takes
//! half as long as by its whole path. The attributes themselves are not kept open: there are a thousand of them on a node with 50 containers.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirEntryExt;

use rustix::fs::{Mode, OFlags};

use super::{ReadError, Reader};

/// An attribute of sysfs is at most a page long (`Documentation/filesystems/sysfs.rst`).
const PAGE: usize = 4096;

/// An open directory. It stays with what it was opened for: when that is gone, its attributes are gone, also when another has taken its name.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Reader {
    /// The directories in `<sys>/relative`, and the links that may lead to some, each with its inode number, which a rename does not change: a name that
    /// comes with another number is another thing. `into` is emptied first and keeps its memory. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// [`ReadError`] when the directory cannot be opened or read.
    pub fn sys_directories(&self, relative: &str, into: &mut Vec<(String, u64)>) -> Result<(), ReadError> {
        into.clear();
        let path = self.root().sys.join(relative);
        let mut read = || -> io::Result<()> {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink())
                    && let Ok(name) = entry.file_name().into_string()
                {
                    into.push((name, entry.ino()));
                }
            }
            Ok(())
        };
        read().map_err(|source| self.root().below_sys(ReadError { path: path.clone(), source }))
    }

    /// Opens the directory `<sys>/relative`, links followed.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be opened.
    pub fn sys_directory(&self, relative: &str) -> Result<Directory, ReadError> {
        let path = self.root().sys.join(relative);
        match rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => Ok(Directory(directory)),
            Err(error) => Err(self.root().below_sys(ReadError { path, source: error.into() })),
        }
    }

    /// The attribute `name` of a directory without blanks and line feeds at both ends, by one `read(2)`, as [`Reader::attribute`].
    ///
    /// # Errors
    /// What the kernel says: many an attribute is there and has no value for now.
    pub fn attribute_in(&mut self, directory: &Directory, name: &CStr) -> io::Result<&[u8]> {
        let file = rustix::fs::openat(&directory.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if self.buffer.len() < PAGE {
            self.buffer.resize(PAGE, 0);
        }
        let count = rustix::io::read(&file, &mut self.buffer)?;
        Ok(self.buffer.get(..count).unwrap_or_default().trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    #[test]
    fn attributes_are_read_where_they_were_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("class/net")).unwrap();
        fs::create_dir_all(path.join("devices/eth0")).unwrap();
        fs::write(path.join("class/net/bonding_masters"), "").unwrap();
        fs::write(path.join("devices/eth0/mtu"), "1500\n").unwrap();
        symlink("../../devices/eth0", path.join("class/net/eth0")).unwrap();
        let mut reader = Reader::new(Arc::new(Root::find(None, Some(path.into()), None, None)));
        let mut names = vec![("old".to_owned(), 1)];
        reader.sys_directories("class/net", &mut names).unwrap();
        assert_eq!(names.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["eth0"]);
        let eth0 = reader.sys_directory("class/net/eth0").unwrap();
        fs::rename(path.join("devices/eth0"), path.join("devices/wan0")).unwrap();
        assert_eq!(reader.attribute_in(&eth0, c"mtu").unwrap(), b"1500");
        assert_eq!(reader.attribute_in(&eth0, c"speed").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(reader.sys_directory("class/net/eth0").unwrap_err().is_absent());
        assert!(reader.sys_directories("class/nothing", &mut names).unwrap_err().is_absent());
    }
}
