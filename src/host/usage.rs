//! How much of the disk a directory takes, with all that is below it: counted in steps, so that whoever counts can rest between them.
//!
//! As `du` counts: blocks of 512 bytes that are allocated (a hole takes none), directories too, a file of several names once. Directories are opened relative to
//! their parents and links are not followed, so nothing outside of the tree is ever counted, whoever writes into it meanwhile.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// How many directories are open at once: one for each level. A deeper tree is not counted.
const MOST_LEVELS: usize = 64;
/// How many files of several names are remembered, 1 MiB at the most. A tree with more is not counted.
const MOST_LINKS: usize = 1 << 16;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes allocated.
    pub bytes: u64,
    /// Files, directories, links, and whatever else has an inode, the top directory among them.
    pub inodes: u64,
    /// Of the bytes, those below names of the top directory that were marked.
    pub marked: u64,
}

/// Why a tree was not counted to its end. What was counted until then is no number of anything.
#[derive(Debug)]
pub enum Stopped {
    /// There is no such directory.
    Gone,
    /// This process may not look into all of it.
    Refused,
    /// It is deeper than [`MOST_LEVELS`], or has more files of several names than [`MOST_LINKS`].
    TooLarge,
    /// Anything else that the kernel said.
    Failed(io::Error),
}

/// The figures of the file system that a directory lies on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size in bytes. Below a project quota (xfs, ext4) this is what the quota allows.
    pub size: u64,
    /// How many inodes it has; 0 where they are made as they are needed (btrfs).
    pub inodes: u64,
    /// How many of them are free.
    pub inodes_free: u64,
    /// Major and minor number of its device.
    pub device: (u32, u32),
}

/// Says of a name in the top directory whether what is below it is counted as marked too.
pub type Mark = Box<dyn Fn(&[u8]) -> bool + Send>;

/// A tree that is being counted.
pub struct Walk {
    /// The directories from the top to the one that is read.
    levels: Vec<Level>,
    device: u64,
    mark: Option<Mark>,
    /// Inodes of files of several names that were counted.
    links: HashSet<u64>,
    counted: Counted,
}

struct Level {
    directory: Dir,
    marked: bool,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("levels", &self.levels.len()).field("counted", &self.counted).finish_non_exhaustive()
    }
}

impl Walk {
    /// Opens the top directory, a path below one of the [trees](super::Root).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn begin(path: &Path, mark: Option<Mark>) -> Result<Self, Stopped> {
        let (directory, stat) = open(CWD, path)?.ok_or(Stopped::Gone)?;
        let mut walk = Self { levels: Vec::new(), device: stat.st_dev, mark, links: HashSet::new(), counted: Counted::default() };
        walk.add(&stat, false);
        walk.levels.push(Level { directory, marked: false });
        Ok(walk)
    }

    /// The figures of the file system that the top directory lies on. Before the first step, or between two of them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn file_system(&self) -> io::Result<FileSystem> {
        let top = self.levels.first().ok_or(io::ErrorKind::NotFound)?;
        file_system(top.directory.fd()?)
    }

    /// Looks at no more than `most` further names. `None` when there are more.
    ///
    /// # Errors
    /// [`Stopped`]; the walk is at its end then.
    pub fn step(&mut self, most: usize) -> Result<Option<Counted>, Stopped> {
        for _ in 0..most {
            let Some(level) = self.levels.last_mut() else { return Ok(Some(self.counted)) };
            match level.directory.read() {
                Some(Ok(entry)) => self.count(entry.file_name())?,
                // A directory that was removed meanwhile has no names any more.
                None | Some(Err(Errno::NOENT)) => drop(self.levels.pop()),
                Some(Err(error)) => return Err(stopped(error)),
            }
        }
        Ok(if self.levels.is_empty() { Some(self.counted) } else { None })
    }

    /// Counts a name of the directory that is read, and goes into it if it is one itself.
    fn count(&mut self, name: &std::ffi::CStr) -> Result<(), Stopped> {
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        let is_top = self.levels.len() == 1;
        let Some(level) = self.levels.last() else { return Ok(()) };
        let marked = level.marked || (is_top && self.mark.as_ref().is_some_and(|mark| mark(name.to_bytes())));
        let parent = level.directory.fd().map_err(stopped)?;
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => stat,
            // Removed since its name was read.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(stopped(error)),
        };
        if stat.st_dev != self.device {
            return Ok(());
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if stat.st_nlink > 1 {
                if !self.links.insert(stat.st_ino) {
                    return Ok(());
                }
                if self.links.len() > MOST_LINKS {
                    return Err(Stopped::TooLarge);
                }
            }
            self.add(&stat, marked);
            return Ok(());
        }
        if self.levels.len() >= MOST_LEVELS {
            return Err(Stopped::TooLarge);
        }
        let Some((directory, stat)) = open(parent, name)? else { return Ok(()) };
        // Another may have taken its name between the two calls.
        if stat.st_dev == self.device {
            self.add(&stat, marked);
            self.levels.push(Level { directory, marked });
        }
        Ok(())
    }

    fn add(&mut self, stat: &Stat, marked: bool) {
        let bytes = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512);
        self.counted.bytes = self.counted.bytes.saturating_add(bytes);
        self.counted.inodes += 1;
        if marked {
            self.counted.marked = self.counted.marked.saturating_add(bytes);
        }
    }
}

/// Opens a directory for reading. `None` when there is none of that name any more, or something else by now.
fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<(Dir, Stat)>, Stopped> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(stopped(error)),
    };
    let stat = rustix::fs::fstat(&opened).map_err(stopped)?;
    Ok(Some((Dir::new(opened).map_err(stopped)?, stat)))
}

fn stopped(error: Errno) -> Stopped {
    match error {
        Errno::NOENT | Errno::STALE => Stopped::Gone,
        Errno::ACCESS | Errno::PERM => Stopped::Refused,
        error => Stopped::Failed(error.into()),
    }
}

/// The figures of the file system that a directory lies on, a path below one of the [trees](super::Root).
///
/// # Errors
/// What the kernel says.
pub fn file_system_of(path: &Path) -> io::Result<FileSystem> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    file_system(opened.as_fd())
}

fn file_system(directory: impl AsFd) -> io::Result<FileSystem> {
    let told = rustix::fs::fstatvfs(&directory)?;
    let device = rustix::fs::fstat(&directory)?.st_dev;
    let unit = if told.f_frsize == 0 { told.f_bsize } else { told.f_frsize };
    Ok(FileSystem {
        size: told.f_blocks.saturating_mul(unit),
        inodes: told.f_files,
        inodes_free: told.f_ffree,
        device: (rustix::fs::major(device), rustix::fs::minor(device)),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn count(path: &Path, step: usize) -> Result<Counted, Stopped> {
        let mut walk = Walk::begin(path, None)?;
        loop {
            if let Some(counted) = walk.step(step)? {
                return Ok(counted);
            }
        }
    }

    /// What `du` of the machine says: bytes and inodes.
    fn du(path: &Path) -> Counted {
        let ask = |option: &str| -> u64 {
            let output = std::process::Command::new("du").args(["-s", option, "-x"]).arg(path).output().unwrap();
            String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
        };
        Counted { bytes: ask("--block-size=1"), inodes: ask("--inodes"), marked: 0 }
    }

    #[test]
    fn it_counts_as_du_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::write(path.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(path.join("a/file"), path.join("a/b/again")).unwrap();
        File::create(path.join("sparse")).unwrap().write_all_at(b"x", 1 << 30).unwrap();
        // Links that lead in circles and outside.
        symlink("..", path.join("a/b/up")).unwrap();
        symlink("/", path.join("root")).unwrap();
        symlink("self", path.join("self")).unwrap();
        let long = "x".repeat(200);
        symlink(&long, path.join("long")).unwrap();
        for number in 0..3000 {
            fs::write(path.join(format!("a/b/c/{number}-{long}")), "x").unwrap();
        }
        let expected = du(path);
        assert!(expected.bytes > 3000 * 512 && expected.bytes < 1 << 28 && expected.inodes > 3000, "{expected:?}");
        for step in [1, 7, 100_000] {
            assert_eq!(count(path, step).unwrap(), expected, "{step}");
        }
    }

    #[test]
    fn a_step_is_no_longer_than_it_may_be() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            fs::write(directory.path().join(number.to_string()), "x").unwrap();
        }
        let mut walk = Walk::begin(directory.path(), None).unwrap();
        let before = walk.counted.inodes;
        assert_eq!(walk.step(10).unwrap(), None);
        // Two of the ten may have been the directory itself and its parent.
        assert!((8..=10).contains(&(walk.counted.inodes - before)));
    }

    #[test]
    fn what_is_marked_is_counted_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("logs/logs")).unwrap();
        fs::create_dir_all(path.join("other/logs")).unwrap();
        for file in ["logs/logs/a", "other/logs/b", "c"] {
            fs::write(path.join(file), vec![1; 10_000]).unwrap();
        }
        let blocks = |file: &str| path.join(file).metadata().unwrap().blocks() * 512;
        let mut walk = Walk::begin(path, Some(Box::new(|name| name == b"logs"))).unwrap();
        let counted = walk.step(1000).unwrap().unwrap();
        assert_eq!(counted.marked, blocks("logs") + blocks("logs/logs") + blocks("logs/logs/a"));
        assert_eq!(counted.bytes, du(path).bytes);
    }

    /// As root everything can be read, so the test takes another user's place where it can.
    #[test]
    fn a_directory_that_is_closed_leaves_no_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_path_buf();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path.join("closed")).unwrap();
        fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        // The effective user of this thread only.
        let refused = std::thread::spawn(move || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(rustix::process::Uid::ROOT, nobody, rustix::process::Uid::ROOT).unwrap();
            }
            matches!(count(&path, 10), Err(Stopped::Refused))
        });
        assert!(refused.join().unwrap());
    }

    #[test]
    fn what_vanishes_meanwhile_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        for number in 0..20 {
            fs::write(path.join(format!("a/b/{number}")), "x").unwrap();
        }
        // At every moment of the walk the tree goes away once.
        for steps in 0..30 {
            let top = path.join(steps.to_string());
            fs::create_dir_all(top.join("a/b")).unwrap();
            (0..5).for_each(|number| fs::write(top.join(format!("a/b/{number}")), "x").unwrap());
            let mut walk = Walk::begin(&top, None).unwrap();
            for _ in 0..steps {
                walk.step(1).unwrap();
            }
            fs::remove_dir_all(&top).unwrap();
            assert!(walk.step(1000).unwrap().is_some());
        }
        assert!(matches!(Walk::begin(&path.join("never"), None), Err(Stopped::Gone)));
        // A link in the place of the directory is not followed.
        symlink("/", path.join("link")).unwrap();
        assert!(matches!(Walk::begin(&path.join("link"), None), Err(Stopped::Gone)));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().to_path_buf();
        for _ in 0..MOST_LEVELS - 1 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        count(directory.path(), 10).unwrap();
        fs::create_dir(path.join("d")).unwrap();
        assert!(matches!(count(directory.path(), 10), Err(Stopped::TooLarge)));
    }

    #[test]
    fn another_file_system_is_not_entered() {
        let directory = tempfile::tempdir().unwrap();
        let mut walk = Walk::begin(directory.path(), None).unwrap();
        fs::create_dir(directory.path().join("mount")).unwrap();
        // As if the directory below were another file system's.
        walk.device += 1;
        assert_eq!(walk.step(10).unwrap().unwrap().inodes, 1);
    }

    #[test]
    fn figures_of_the_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let told = Walk::begin(directory.path(), None).unwrap().file_system().unwrap();
        assert_eq!(told.size, file_system_of(directory.path()).unwrap().size);
        assert!(told.size > 0 && told.inodes >= told.inodes_free);
        file_system_of(&directory.path().join("none")).unwrap_err();
    }
}
