//! Copies of the fixtures' trees that may be broken, and which collector opens which file of one. For tests/collect and tests/fuzz.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use skep::collect;
use skep::config::Settings;

/// Copies a tree with its links as they are, and gives its files, relative to it and in the order of their names.
pub(crate) fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(to.join(&folder)).unwrap();
        for entry in fs::read_dir(from.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = folder.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() {
                symlink(fs::read_link(entry.path()).unwrap(), to.join(name)).unwrap();
            } else {
                fs::write(to.join(&name), fs::read(entry.path()).unwrap()).unwrap();
                files.push(name);
            }
        }
    }
    files.sort_unstable();
    files
}

/// Settings with which every collector runs and reads as much as it can of the tree in `directory`.
pub(crate) fn everything(directory: &Path) -> Settings {
    let mut settings = Settings::default();
    for flag in collect::flags() {
        if let Some(default) = flag.default {
            settings.set(flag.name, vec![default.to_owned()]);
        }
    }
    for entry in collect::ENTRIES {
        settings.set(entry.switch.name, vec!["true".to_owned()]);
    }
    let below = |name: &str| directory.join(name).display().to_string();
    for (name, value) in [
        ("collector.bcache.priorityStats", "true"),
        ("collector.cpu.info", "true"),
        ("collector.cpu.info.flags-include", "^(aes|avx.*)$"),
        ("collector.cpu.info.bugs-include", ".*"),
        ("collector.interfaces.containers", "true"),
        ("collector.netdev.address-info", "true"),
        ("collector.netdev.enable-detailed-metrics", "true"),
        ("collector.netdev.label-ifalias", "true"),
        ("collector.netstat.fields", ".*"),
        ("collector.pcidevice.names", "true"),
        ("collector.rapl.enable-zone-label", "true"),
        ("collector.stat.softirq", "true"),
        ("collector.sysctl.include-info", "kernel.seccomp.actions_avail"),
        ("collector.vmstat.fields", ".*"),
        ("collector.textfile.directory", &below("root/var/lib/textfile/*")),
    ] {
        settings.set(name, vec![value.to_owned()]);
    }
    let sysctls = ["vm.swappiness", "fs.file-nr:total,current,max", "kernel.threads-max", "net.ipv4.tcp_rmem:min,default,max"];
    settings.set("collector.sysctl.include", sysctls.map(str::to_owned).into());
    settings
}

/// Sees which files of a tree are opened.
pub(crate) struct Watch {
    descriptor: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watch {
    pub(crate) fn over(tree: &Path) -> Self {
        let descriptor = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        let mut folders = BTreeMap::new();
        let mut left = vec![PathBuf::new()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(tree.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    left.push(folder.join(entry.file_name()));
                }
            }
            let number = inotify::add_watch(&descriptor, tree.join(&folder), inotify::WatchFlags::OPEN).unwrap();
            folders.insert(number, folder);
        }
        Self { descriptor, folders }
    }

    /// What was opened since this was last asked: the files, and the folders that were listed, relative to the tree.
    pub(crate) fn opened(&self) -> BTreeSet<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&self.descriptor, &mut buffer);
        let mut found = BTreeSet::new();
        while let Ok(event) = events.next() {
            assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
            if let Some(folder) = self.folders.get(&event.wd()) {
                match event.file_name() {
                    Some(name) => found.insert(folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()))),
                    None => found.insert(folder.clone()),
                };
            }
        }
        found
    }
}
