//! Files of people and not of the kernel, which may be anything: those of the textfile collector, in folders by wildcards, and those below the host's root, where
//! links lead into another tree.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::read::{fill_from, more};
use super::{ReadError, Reader};

/// Folders that one pattern may name, and what of a folder is looked at for it.
const MOST_FOLDERS: usize = 1000;
const MOST_NAMES: usize = 100_000;

impl Reader {
    /// The folders that `pattern` names, in the order of their names, as Go's `filepath.Glob` has it: `*`, `?`, `[a-z]`, `[^a-z]` and `\` within one part of
    /// the path. A pattern without these is the folder itself, where it is there.
    #[must_use]
    pub fn folders(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let wildcards = match part {
                Component::Normal(name) if name.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')) => name.as_bytes(),
                Component::CurDir => continue,
                _ => {
                    found.iter_mut().for_each(|path| path.push(part));
                    continue;
                }
            };
            let mut deeper = Vec::new();
            for path in &found {
                let folder = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                let Ok(entries) = fs::read_dir(folder) else { continue };
                for entry in entries.take(MOST_NAMES).flatten() {
                    let name = entry.file_name();
                    if matches(wildcards, name.as_bytes()) && fs::metadata(entry.path()).is_ok_and(|about| about.is_dir()) {
                        deeper.push(path.join(name));
                    }
                }
            }
            deeper.sort_unstable();
            deeper.truncate(MOST_FOLDERS);
            found = deeper;
        }
        if found == [PathBuf::new()] {
            return vec![PathBuf::from(".")];
        }
        // What is there and cannot be looked at is there; whoever opens it is told why.
        found.retain(|path| !fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
        found
    }

    /// The names in a folder that end in `ending`, in their order, `most` at most; and whether there are more.
    ///
    /// # Errors
    /// [`ReadError`] when the folder cannot be opened or read.
    pub fn names_ending(&self, folder: &Path, ending: &str, most: usize) -> Result<(Vec<OsString>, bool), ReadError> {
        let read = || -> io::Result<(Vec<OsString>, bool)> {
            let mut names = Vec::new();
            for (index, entry) in fs::read_dir(folder)?.enumerate() {
                let name = entry?.file_name();
                if index >= MOST_NAMES {
                    return Ok((names, true));
                }
                if name.as_bytes().ends_with(ending.as_bytes()) {
                    names.push(name);
                }
            }
            names.sort_unstable();
            let are_more = names.len() > most;
            names.truncate(most);
            Ok((names, are_more))
        };
        read().map_err(|source| ReadError { path: folder.to_owned(), source })
    }

    /// Reads a regular file of at most `most` bytes, and gives the second of its last change. Anything else of its name is refused and not opened, for a pipe
    /// without a writer would hold the reader up, and opening a device may do something.
    ///
    /// # Errors
    /// [`ReadError`] when it is no regular file, is larger, or cannot be opened or read.
    pub fn regular(&mut self, path: &Path, most: u64) -> Result<(i64, &[u8]), ReadError> {
        let buffer = &mut self.buffer;
        let mut read = || -> io::Result<i64> {
            let check = |about: &fs::Metadata| match () {
                () if !about.is_file() => Err(io::Error::other("it is no regular file")),
                () if about.len() > most => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"))),
                () => Ok(about.mtime()),
            };
            check(&fs::metadata(path)?)?;
            // Another may be there by now.
            let descriptor = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
            let file = File::from(descriptor);
            check(&file.metadata()?)?;
            fill_from(buffer, |buffer, _| more(&file, buffer))?;
            // The time of what was read: a writer that went on meanwhile made it younger.
            check(&file.metadata()?)
        };
        match read() {
            Ok(changed) => Ok((changed, &self.buffer)),
            Err(source) => Err(ReadError { path: path.to_owned(), source }),
        }
    }

    /// Reads `<rootfs>/relative`; where that is a symbolic link with an absolute target (`/etc/localtime`), the target below the same root.
    ///
    /// # Errors
    /// As [`Reader::rootfs`].
    pub fn rootfs_linked(&mut self, relative: &str) -> Result<&[u8], ReadError> {
        let path = self.link_on_rootfs(self.root().on_rootfs(Path::new(relative)));
        self.at(&path)
    }

    /// `path`, or the file of the host that it points to where it is below a mounted root and a symbolic link with an absolute target: as it stands, such a
    /// link leads into the container's own tree.
    #[must_use]
    pub fn link_on_rootfs(&self, path: PathBuf) -> PathBuf {
        let root = self.root();
        if root.is_own_rootfs() || !path.starts_with(&root.rootfs) {
            return path;
        }
        match fs::read_link(&path) {
            Ok(target) if target.is_absolute() => root.on_rootfs(&target),
            _ => path,
        }
    }
}

/// Whether a pattern matches a whole name. A pattern that is none (`[` without `]`) matches nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern_at, mut name_at) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: one more byte belongs to it.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(pattern_at..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            pattern_at += 1;
            star = Some((pattern_at, name_at));
            continue;
        }
        let fits = match (rest.first(), name.get(name_at)) {
            (None, None) => return true,
            (Some(_), Some(byte)) => one(rest, *byte),
            _ => None,
        };
        if let Some(length) = fits {
            pattern_at += length;
            name_at += 1;
            continue;
        }
        match &mut star {
            Some((behind, from)) if *from < name.len() => {
                *from += 1;
                (pattern_at, name_at) = (*behind, *from);
            }
            _ => return false,
        }
    }
}

/// How long the first element of `pattern` is, when it matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ref rest @ ..] => {
            let (is_not, mut at) = if rest.first() == Some(&b'^') { (true, 1) } else { (false, 0) };
            let begin = at;
            let mut is_in = false;
            loop {
                let single = |at: &mut usize| -> Option<u8> {
                    if rest.get(*at) == Some(&b'\\') {
                        *at += 1;
                    }
                    let byte = rest.get(*at).copied();
                    *at += 1;
                    byte
                };
                if rest.get(at) == Some(&b']') && at > begin {
                    return (is_in != is_not).then_some(at + 2);
                }
                let low = single(&mut at)?;
                let mut high = low;
                if rest.get(at) == Some(&b'-') {
                    at += 1;
                    high = single(&mut at)?;
                }
                is_in |= (low..=high).contains(&byte);
            }
        }
        [first, ..] => (first == byte).then_some(1),
        [] => None,
    }
}

/// A name as text. `None` where it is not UTF-8.
#[must_use]
pub fn utf8(name: OsString) -> Option<String> {
    String::from_utf8(name.into_vec()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::host::Root;

    fn reader(root: &Path) -> Reader {
        Reader::new(Arc::new(Root::find(None, None, Some(root.into()), None)))
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, fits) in [
            ("*", "abc", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*a*b", "xaabab", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]a]", "]", true),
            ("[\\]a]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", false),
            ("[", "[", false),
            ("*_extra_dimension", "histogram_extra_dimension", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_matches_or_not(pattern in "[*?a\\[\\]^\\\\-]{0,12}", name in "[a\\]-]{0,12}") {
            let _ = matches(pattern.as_bytes(), name.as_bytes());
        }
    }

    #[test]
    fn folders_by_wildcards() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a/x", "b/x", "c"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("file"), "").unwrap();
        let reader = reader(Path::new("/"));
        let found = |pattern: &str| -> Vec<String> {
            let folders = reader.folders(&directory.path().join(pattern));
            folders.iter().map(|path| path.strip_prefix(directory.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(found("*"), ["a", "b", "c"], "folders only");
        assert_eq!(found("*/x"), ["a/x", "b/x"]);
        assert_eq!(found("[ab]/./x/"), ["a/x", "b/x"]);
        assert_eq!(found("a"), ["a"]);
        assert_eq!(found("nothing*"), Vec::<String>::new());
        assert_eq!(found("nothing"), Vec::<String>::new());
        assert_eq!(found("file/x"), ["file/x"], "there is something, and whoever opens it is told what");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.prom"), "a 1\n").unwrap();
        fs::create_dir(path("b.prom")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("c.prom"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::write(path("d.txt"), "").unwrap();
        let mut reader = reader(directory.path());
        assert_eq!(
            reader.names_ending(directory.path(), ".prom", 9).unwrap(),
            (vec!["a.prom".into(), "b.prom".into(), "c.prom".into()], false)
        );
        assert_eq!(reader.names_ending(directory.path(), ".prom", 1).unwrap(), (vec!["a.prom".into()], true));
        assert_eq!(reader.regular(&path("a.prom"), 4).unwrap().1, b"a 1\n");
        for (name, why) in
            [("a.prom", "larger than 3"), ("b.prom", "no regular file"), ("c.prom", "no regular file"), ("e.prom", "No such file")]
        {
            let error = reader.regular(&path(name), 3).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_link_of_the_host_leads_to_the_host_s_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/target", directory.path().join("link")).unwrap();
        let below = |name: &str| directory.path().join(name);
        assert_eq!(reader(directory.path()).link_on_rootfs(below("link")), below("target"));
        fs::write(below("target"), "x").unwrap();
        assert_eq!(reader(directory.path()).rootfs_linked("link").unwrap(), b"x");
        assert_eq!(reader(directory.path()).rootfs_linked("target").unwrap(), b"x");
        assert_eq!(reader(directory.path()).link_on_rootfs(below("etc")), below("etc"));
        assert_eq!(reader(Path::new("/")).link_on_rootfs(below("link")), below("link"));
    }
}
