//! What lies in the host's directories, and where its links lead.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ReadError, Reader};

impl Reader {
    /// The names in the directory `<sys>/relative` that begin with `prefix` and go on with a digit, in the order of their names as text: `cpu0`, `cpu1`,
    /// `cpu10`, `cpu2`. Names that are not UTF-8 are none of these.
    ///
    /// # Errors
    /// [`ReadError`] when the directory cannot be opened or read.
    pub fn sys_numbered(&self, relative: &str, prefix: &str) -> Result<Vec<String>, ReadError> {
        let numbered = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        names(self.root().sys.join(relative), numbered).map_err(|error| self.below_sys(error))
    }

    /// All names in the directory `<sys>/relative`, in the order of their names as text; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// As [`Reader::sys_numbered`].
    pub fn sys_names(&self, relative: &str) -> Result<Vec<String>, ReadError> {
        names(self.root().sys.join(relative), |_| true).map_err(|error| self.below_sys(error))
    }

    /// All names in the directory `<proc>/relative`, as [`Reader::sys_names`].
    ///
    /// # Errors
    /// As [`Reader::sys_numbered`].
    pub fn proc_names(&self, relative: &str) -> Result<Vec<String>, ReadError> {
        names(self.root().proc.join(relative), |_| true).map_err(|error| self.below_proc(error))
    }

    /// Where the symbolic link `<sys>/relative` points to, as it is written there: `../../devices/pci0000:00/...`.
    ///
    /// # Errors
    /// [`ReadError`] when there is no such link.
    pub fn sys_link(&self, relative: &str) -> Result<PathBuf, ReadError> {
        let path = self.root().sys.join(relative);
        fs::read_link(&path).map_err(|source| self.below_sys(ReadError { path, source }))
    }

    /// Where `<sys>/relative` lies when all links on the way are followed.
    ///
    /// # Errors
    /// [`ReadError`] when there is nothing at the end of the links.
    pub fn sys_real(&self, relative: &str) -> Result<PathBuf, ReadError> {
        let path = self.root().sys.join(relative);
        fs::canonicalize(&path).map_err(|source| self.below_sys(ReadError { path, source }))
    }

    /// Whether there is anything at `<sys>/relative`, links followed.
    #[must_use]
    pub fn sys_has(&self, relative: &str) -> bool {
        fs::metadata(self.root().sys.join(relative)).is_ok()
    }

    /// The names in a directory below one of the trees; with `directories`, of its directories only, links not followed. What cannot be read is not there.
    #[must_use]
    pub fn names(&self, path: &Path, directories: bool) -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        entries
            .filter_map(Result::ok)
            .filter(|entry| !directories || entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Whether a path below one of the trees is a directory, links not followed.
    #[must_use]
    pub fn is_directory(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
    }
}

/// The names in a directory for which `wanted` says yes, in the order of their names as text.
fn names(path: PathBuf, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, ReadError> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && wanted(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    read().map_err(|source| ReadError { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;
    use std::sync::Arc;

    #[test]
    fn only_numbered_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["class", "cpu0", "cpu10", "cpu2", "cpufreq", "cpu", "other1"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let reader = Reader::new(Arc::new(Root::find(None, Some(directory.path().into()), None, None)));
        assert_eq!(reader.sys_numbered("", "cpu").unwrap(), ["cpu0", "cpu10", "cpu2"]);
        assert!(reader.sys_numbered("nothing", "cpu").unwrap_err().is_absent());
        assert_eq!(reader.sys_names("").unwrap(), ["class", "cpu", "cpu0", "cpu10", "cpu2", "cpufreq", "other1"]);
        assert!(reader.sys_has("cpu0") && !reader.sys_has("cpu7"));
        std::os::unix::fs::symlink("cpu0", directory.path().join("first")).unwrap();
        assert!(reader.sys_real("first").unwrap().ends_with("cpu0") && reader.sys_real("last").is_err());
    }
}
