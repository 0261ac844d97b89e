//! Trees of a machine in which one file is not as the kernel writes it: what could be read is there all the same.
//!
//! The rule by which a loss is found: a file that is broken costs no series that would be there if the file were not. So the tree is read without the file first;
//! what is lost then is what the file feeds. Whether a file that was made whole again is read at once is not asked: some things are looked at again only after a
//! while, and a descriptor may be open to what was there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use skep::collect::{self, Collector, Entry};
use skep::config::Settings;

use crate::support::{self, tree};

/// Stands for all series of a reading that did not end, or whose exposition is none. What was wrong is told before.
const PANIC: &str = "a panic";

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Empty,
    Half,
    /// Bytes of all values, many of them not UTF-8.
    Noise,
    /// Lines and fields as they were, but numbers that are none or have more digits than any type holds.
    Numbers,
    LongLine,
    /// Larger than any file that is read as a whole.
    Enormous,
    Directory,
    LinkToNothing,
    LinkToItself,
    Pipe,
    Closed,
}

const DAMAGES: [Damage; 11] = [
    Damage::Empty,
    Damage::Half,
    Damage::Noise,
    Damage::Numbers,
    Damage::Directory,
    Damage::LinkToNothing,
    Damage::LinkToItself,
    Damage::Pipe,
    Damage::Closed,
    Damage::LongLine,
    Damage::Enormous,
];

impl Damage {
    /// These take long to read, so they come less often.
    const fn is_large(self) -> bool {
        matches!(self, Self::LongLine | Self::Enormous)
    }

    fn inflict(self, path: &Path, content: &[u8]) {
        match self {
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Half => fs::write(path, &content[..content.len() / 2]).unwrap(),
            Self::Noise => {
                let noise: Vec<u8> = (0..3000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
                fs::write(path, noise).unwrap();
            }
            Self::Numbers => {
                let mut text = Vec::new();
                for (number, byte) in content.iter().enumerate() {
                    match byte {
                        b'0'..=b'9' if number % 3 == 0 => text.extend_from_slice(b"99999999999999999999999"),
                        b'0'..=b'9' if number % 3 == 1 => text.push(b'-'),
                        other => text.push(*other),
                    }
                }
                fs::write(path, text).unwrap();
            }
            Self::LongLine => {
                let without = content.strip_suffix(b"\n").unwrap_or(content);
                fs::write(path, [without, &b" 7".repeat(1 << 20), b"\n"].concat()).unwrap();
            }
            Self::Enormous => {
                let mut file = File::options().write(true).open(path).unwrap();
                file.seek(SeekFrom::Start(17 << 20)).unwrap();
                file.write_all(b"\n").unwrap();
            }
            Self::Closed => fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap(),
            Self::Directory | Self::LinkToNothing | Self::LinkToItself | Self::Pipe => {
                fs::remove_file(path).unwrap();
                match self {
                    Self::Directory => fs::create_dir(path).unwrap(),
                    Self::LinkToNothing => symlink("nothing/at/all", path).unwrap(),
                    Self::LinkToItself => symlink(path.file_name().unwrap(), path).unwrap(),
                    _ => mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
                }
            }
        }
    }

    fn heal(self, path: &Path, content: &[u8]) {
        match self {
            Self::Closed => fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap(),
            Self::Directory => fs::remove_dir(path).unwrap(),
            Self::LinkToNothing | Self::LinkToItself | Self::Pipe => fs::remove_file(path).unwrap(),
            _ => {}
        }
        fs::write(path, content).unwrap();
    }
}

/// A copy of a tree, and what every collector makes of it.
struct Machine {
    name: String,
    directory: tempfile::TempDir,
    settings: Settings,
    files: Vec<PathBuf>,
    /// By collector: the files and folders that it opens.
    opened: Vec<BTreeSet<PathBuf>>,
    /// By collector: series with their values, where these are the same each time.
    usual: Vec<BTreeSet<String>>,
}

impl Machine {
    fn copy(name: &str) -> Self {
        // In memory, where there is such a place.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let files = tree::copy(&support::path("fixtures/host").join(name), directory.path());
        let settings = tree::everything(directory.path());
        let mut machine = Self { name: name.to_owned(), directory, settings, files, opened: Vec::new(), usual: Vec::new() };
        let watch = tree::Watch::over(machine.directory.path());
        for entry in collect::ENTRIES {
            let mut collector = machine.build(entry);
            watch.opened();
            let first = machine.series(&mut *collector);
            machine.opened.push(watch.opened());
            let second = machine.series(&mut *collector);
            machine.usual.push(first.intersection(&second).cloned().collect());
        }
        machine
    }

    fn build(&self, entry: &Entry) -> Box<dyn Collector> {
        (entry.build)(&self.settings).unwrap()
    }

    /// Reads once. Whatever comes of it is an exposition.
    fn series(&self, collector: &mut dyn Collector) -> BTreeSet<String> {
        let checked = || {
            let collected = support::run(collector, support::at(self.directory.path()));
            support::check_exposition(&collected.text);
            collected
        };
        let Ok(collected) = catch_unwind(AssertUnwindSafe(checked)) else { return [PANIC.to_owned()].into() };
        // Of the file system that the copies are in, where others write too.
        let is_live = |line: &str| line.starts_with("node_filesystem_") && !line.starts_with("node_filesystem_readonly");
        let series = collected.text.lines().filter(|line| !line.starts_with('#'));
        series.map(|line| if is_live(line) { line.rsplit_once(' ').unwrap().0.to_owned() } else { line.to_owned() }).collect()
    }

    /// The collectors that open a file, or list the folder that it is in.
    fn readers(&self, file: &Path) -> impl Iterator<Item = (usize, &'static Entry)> {
        let of = |index: usize| self.opened[index].contains(file) || self.opened[index].contains(file.parent().unwrap());
        collect::ENTRIES.iter().enumerate().filter(move |(index, _)| of(*index))
    }
}

/// Series that are others, and not lost, by what is in the file where there is one: it names them, or it is counted in a sum, which is not told in part.
const CHANGED: [(&str, &str); 9] = [
    // That a file of a user's is bad is told in a series.
    ("/textfile/", "node_textfile_scrape_error"),
    // Labels, which are empty or another file's without it.
    ("/os-release", "node_os_"),
    ("/ifalias", "node_network_"),
    ("/power_supply/", "node_power_supply_info"),
    ("/hwmon5/name", "node_hwmon_"),
    // States of connections of both protocols.
    ("/net/tcp", "node_tcp_"),
    ("/net/", "node_network_routes"),
    // A machine without the file is in UTC; of one whose file cannot be read that would be a guess.
    ("/etc/localtime", "node_time_zone_offset_seconds"),
    // A path is active or it is not.
    ("/device/state", "node_dmmultipath_device_paths_"),
];

fn is_changed(file: &str, line: &str) -> bool {
    CHANGED.iter().any(|(part, family)| file.contains(part) && line.starts_with(family))
}

/// A file of a machine is broken in some of the ways; `say` is told what is done next.
fn break_one(machine: &Machine, file: &Path, damages: &[Damage], say: &Sender<(String, String)>, faults: &mut Vec<String>) -> usize {
    let path = machine.directory.path().join(file);
    let content = fs::read(&path).unwrap();
    let mut count = 0;
    for (index, entry) in machine.readers(file) {
        let usual = &machine.usual[index];
        fs::remove_file(&path).unwrap();
        let without = machine.series(&mut *machine.build(entry));
        fs::write(&path, &content).unwrap();
        for damage in damages {
            let what = format!("{}: {}/{} {damage:?}", entry.name, machine.name, file.display());
            say.send((machine.name.clone(), what.clone())).unwrap();
            damage.inflict(&path, &content);
            let mut collector = machine.build(entry);
            let broken = [machine.series(&mut *collector), machine.series(&mut *collector)];
            damage.heal(&path, &content);
            let healed = machine.series(&mut *collector);
            if healed.contains(PANIC) {
                faults.push(format!("{what}, and whole again: {PANIC}"));
            }
            for pass in &broken {
                if pass.contains(PANIC) {
                    faults.push(format!("{what}: {PANIC}"));
                    break;
                }
                let lost: Vec<_> = usual
                    .difference(pass)
                    .filter(|line| without.contains(*line))
                    .filter(|line| !is_changed(&file.to_string_lossy(), line))
                    .collect();
                if !lost.is_empty() {
                    faults.push(format!("{what}: {} lost, such as {}", lost.len(), lost[0]));
                    break;
                }
            }
            count += 1;
        }
    }
    count
}

/// Every damage to every file takes minutes; `SKEP_BROKEN_ALL=1` asks for it. Otherwise each file has a few, and each damage comes to many files.
#[test]
fn a_broken_file_costs_nothing_of_the_others() {
    let all = std::env::var_os("SKEP_BROKEN_ALL").is_some_and(|wish| wish == "1");
    let (say, said) = channel();
    let mut threads = Vec::new();
    let mut trees: Vec<String> =
        fs::read_dir(support::path("fixtures/host")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    trees.sort_unstable();
    for tree in trees {
        let say = say.clone();
        threads.push(std::thread::spawn(move || {
            // Root's right to open everything is this thread's no more, so that a closed file is one.
            let mut mine = capabilities(None).unwrap();
            mine.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            set_capabilities(None, mine).unwrap();
            let machine = Machine::copy(&tree);
            let mut faults = Vec::new();
            let mut count = 0;
            for (number, file) in machine.files.iter().enumerate() {
                let wanted = |at: usize, damage: Damage| {
                    let step = if damage.is_large() { 47 } else { 4 };
                    all || (number + at * 7).is_multiple_of(step)
                };
                let damages: Vec<Damage> =
                    DAMAGES.iter().enumerate().filter(|(at, damage)| wanted(*at, **damage)).map(|(_, damage)| *damage).collect();
                count += break_one(&machine, file, &damages, &say, &mut faults);
            }
            (tree, count, faults)
        }));
    }
    drop(say);
    let mut under_way = BTreeMap::new();
    loop {
        match said.recv_timeout(Duration::from_secs(60)) {
            Ok((tree, what)) => under_way.insert(tree, what),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("one of these does not end: {under_way:#?}"),
        };
    }
    let (mut faults, mut total) = (Vec::new(), 0);
    for thread in threads {
        let (tree, count, of_tree) = thread.join().unwrap_or_else(|_| panic!("one of these panicked: {under_way:#?}"));
        println!("{tree}: {count} readings of broken files");
        total += count;
        faults.extend(of_tree);
    }
    assert!(total > 1000, "only {total} readings");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
