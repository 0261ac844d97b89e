//! A file of skep's own in its state directory: replaced as a whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One file, with the file beside it that becomes it.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file `name` of the state directory. Nothing is opened yet.
    #[must_use]
    pub fn new(state: &Path, name: &str) -> Self {
        Self { path: state.join(name) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, `most` bytes and one more at most; `None` where there is no such file.
    ///
    /// # Errors
    /// What the system says.
    pub fn load(&self, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            // Where there can be no directory, there is no file either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Makes the directory where there is none, and sees that a file can be made in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(&self) -> io::Result<()> {
        let beside = self.beside();
        drop(create(&beside)?);
        fs::remove_file(&beside)
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }

    /// Moves it aside, to the ending `.odd`, and says where to. What lay there is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".odd");
        let aside = self.path.with_file_name(name);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Writes a file beside it and moves that over it. With `to_disk` it is on the disk before it is moved; without, a crash of the machine (not of skep) may
    /// leave the file empty.
    ///
    /// # Errors
    /// What the system says. What was in the file is then still there.
    pub fn save(&self, bytes: &[u8], to_disk: bool) -> io::Result<()> {
        let beside = self.beside();
        let mut file = create(&beside)?;
        file.write_all(bytes)?;
        if to_disk {
            file.sync_data()?;
        }
        drop(file);
        fs::rename(&beside, &self.path)
    }
}

/// Makes a file, and the directory that it should be in.
fn create(path: &Path) -> io::Result<fs::File> {
    // It says which containers ran here: nobody else's business.
    let create = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("."));
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            create()
        }
        created => created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::new(&directory.path().join("deep/state"), "a.ledger");
        assert_eq!(file.load(100).unwrap(), None);
        file.prepare().unwrap();
        assert_eq!(fs::read_dir(directory.path().join("deep/state")).unwrap().count(), 0, "what was tried is gone");
        file.save(b"one", true).unwrap();
        file.save(b"two", false).unwrap();
        assert_eq!(file.load(100).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(file.load(1).unwrap().unwrap().len(), 2, "one byte more tells that it is too long");
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
        assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
        fs::create_dir(file.path().with_file_name("a.ledger.new")).unwrap();
        file.save(b"three", false).unwrap_err();
        file.prepare().unwrap_err();
        assert_eq!(file.load(100).unwrap().as_deref(), Some(&b"two"[..]));
        assert!(file.set_aside().unwrap().ends_with("a.ledger.odd"));
        assert_eq!(file.load(100).unwrap(), None);
    }
}
