//! A mount that never answers: a FUSE file system whose server is this test, which reads no request until it is told to.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skep::collect;

use crate::support;

/// Says to the test that it runs in a mount namespace of its own already.
const INSIDE: &str = "SKEP_TEST_IN_NAMESPACE";

#[test]
#[ignore = "mounts, so it is root's: tests/run live, or cargo test --test collect hung -- --ignored"]
fn a_hung_mount_costs_its_own_series_from_the_first_scrape_on() {
    if std::env::var_os(INSIDE).is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "hung::a_hung_mount_costs_its_own_series_from_the_first_scrape_on";
        let inside =
            Command::new("unshare").arg("-m").arg(me).args(["--ignored", "--exact", "--nocapture", name]).env(INSIDE, "1").status();
        assert!(inside.unwrap().success());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["good", "hung-1", "hung-2", "proc/1"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], &at("good"), Stdio::null());
    let servers = [silent(&at("hung-1")), silent(&at("hung-2"))];
    symlink("/proc/self/mountinfo", at("proc/1/mountinfo")).unwrap();
    let mut root = support::at(directory.path());
    root.rootfs = "/".into();

    let entry = collect::ENTRIES.iter().find(|entry| entry.name == "filesystem").unwrap();
    let mut collector = (entry.build)(&support::settings(&[("collector.filesystem.mount-timeout", "500ms")])).unwrap();
    let mut scrape = || support::run(&mut *collector, root.clone()).text;
    let of = |text: &str, family: &str, name: &str| {
        let point = format!("mountpoint=\"{}\"", at(name).display());
        let line = text.lines().find(|line| line.starts_with(&format!("{family}{{")) && line.contains(&point)).map(str::to_owned);
        line.unwrap_or_default()
    };

    // The first scrape has everything else, and says of the two what is the matter.
    let first = scrape();
    support::check_exposition(&first);
    assert!(of(&first, "node_filesystem_size_bytes", "good").ends_with(" 65536"), "{first}");
    for name in ["hung-1", "hung-2"] {
        let error = of(&first, "node_filesystem_device_error", name);
        assert!(error.contains("device_error=\"mountpoint timeout\"") && error.ends_with(" 1"), "{first}");
        assert!(of(&first, "node_filesystem_readonly", name).ends_with(" 0"), "{first}");
        assert_eq!(of(&first, "node_filesystem_size_bytes", name), "");
    }
    assert_eq!(first.matches("device_error=\"mountpoint timeout\"").count(), 4, "{first}");

    // A thousand more cost no thread and no descriptor, once the worker that hangs has another in its place. Each that waited would add half a second.
    scrape();
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    for _ in 0..1000 {
        assert_eq!(masked(&scrape()), masked(&first));
    }
    assert_eq!((count("/proc/self/fd"), count("/proc/self/task")), before);

    // One of them begins to answer. The other goes on hanging.
    let [recovering, _silent] = servers;
    std::thread::spawn(move || answer(recovering));
    let until = Instant::now() + Duration::from_secs(60);
    let after = loop {
        let text = scrape();
        if !of(&text, "node_filesystem_size_bytes", "hung-1").is_empty() || Instant::now() > until {
            break text;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(of(&after, "node_filesystem_size_bytes", "hung-1").ends_with(" 409600"), "{after}");
    assert!(of(&after, "node_filesystem_device_error", "hung-1").ends_with(" 0"), "{after}");
    assert!(of(&after, "node_filesystem_device_error", "hung-2").contains("mountpoint timeout"), "{after}");
}

/// Figures change between two scrapes of a machine that does other things too.
fn masked(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("device_error=\"mountpoint timeout\"")).collect()
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn mount(arguments: &[&str], at: &Path, stdin: Stdio) {
    assert!(Command::new("mount").args(["-i", "-n"]).args(arguments).arg(at).stdin(stdin).status().unwrap().success());
}

/// Mounts a file system whose requests come out of the file that is returned. The kernel keeps the open file, not its number, so mount(8) may have it as its own
/// standard input.
fn silent(at: &Path) -> File {
    let file = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = "fd=0,rootmode=040000,user_id=0,group_id=0";
    mount(&["-t", "fuse", "-o", options, "skep-test"], at, file.try_clone().unwrap().into());
    file
}

/// Answers as a file system with 100 blocks of 4096 bytes. Source: the kernel's `include/uapi/linux/fuse.h`: a request begins with its length, what is asked
/// (26 is `INIT`, 17 `STATFS`) and its number; an answer with its length, an error and the same number.
fn answer(mut file: File) {
    let mut request = vec![0; 1 << 20];
    while file.read(&mut request).is_ok() {
        let number = &request[8..16];
        let body: Vec<u8> = match u32::from_ne_bytes(request[4..8].try_into().unwrap()) {
            26 => [7u32, 31, 0, 0, 0, 1 << 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat(),
            17 => {
                let counts = [100u64, 50, 40, 10, 9].map(u64::to_ne_bytes).concat();
                [counts, [4096u32, 255, 4096, 0, 0, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat()].concat()
            }
            _ => Vec::new(),
        };
        // ENOSYS for all else.
        let error = if body.is_empty() { -38i32 } else { 0 };
        let length = u32::try_from(16 + body.len()).unwrap();
        let reply = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), number, &body].concat();
        // A request that was given up meanwhile is not there any more.
        drop(file.write(&reply));
    }
}
