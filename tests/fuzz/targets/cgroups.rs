//! Any bytes in any file of a cgroup. Input: which file, in one byte, and then the bytes.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use skep::cgroup::extras::huge_page_sizes;
use skep::cgroup::{Extras, Group, Layout, Usage, Wanted};
use skep::host::{Reader, Root};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/containers");
const WEB: &str = "490b5cf3381c77b97a686975f5d9261628927e4ef055b4484f9b2f8aa9e43e42";

/// The trees of v1 and of v2 with a container's cgroup in them, and the files of that.
struct Trees {
    files: Vec<(usize, PathBuf, Vec<u8>)>,
    hosts: [(Arc<Root>, Arc<Layout>, PathBuf); 2],
}

static TREES: LazyLock<Trees> = LazyLock::new(|| {
    let place = skep_fuzz::place();
    let mut files = Vec::new();
    let v1 = (["v1", "groups"], format!("docker/{WEB}"));
    let v2 = (["v2-by-hand", "groups-v2"], format!("system.slice/docker-{WEB}.scope"));
    let mut version = 0;
    let hosts = [v1, v2].map(|(parts, relative)| {
        let to = place.join(format!("cgroup-v{version}"));
        for part in parts.iter().chain(&["groups/sys/kernel"]) {
            let to = if part.ends_with("kernel") { to.join("sys/kernel") } else { to.clone() };
            copy(&Path::new(FIXTURES).join(part), &to, &mut |path| {
                if path.to_string_lossy().contains(WEB) && !files.iter().any(|(_, known, _)| known == path) {
                    files.push((version, path.to_owned(), std::fs::read(path).unwrap()));
                }
            });
        }
        version += 1;
        let root = Arc::new(Root::find(Some(to.join("proc")), Some(to.join("sys")), Some(to.join("root")), None));
        let layout = Arc::new(Layout::detect(&Reader::new(Arc::clone(&root))).expect("a cgroup tree"));
        (root, layout, PathBuf::from(relative))
    });
    files.sort();
    Trees { files, hosts }
});

fn copy(from: &Path, to: &Path, each: &mut impl FnMut(&Path)) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target, each);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            each(&target);
        }
    }
}

libfuzzer_sys::fuzz_target!(init: { LazyLock::force(&TREES); }, |bytes: &[u8]| {
    let Some((number, bytes)) = bytes.split_first() else { return };
    let (version, path, whole) = &TREES.files[usize::from(*number) % TREES.files.len()];
    let (root, layout, relative) = &TREES.hosts[*version];
    std::fs::write(path, bytes).unwrap();
    let mut host = Reader::new(Arc::clone(root));
    let sizes = huge_page_sizes(&host);
    let mut group = Group::new(layout, relative, true);
    let (mut usage, mut extras) = (Usage::default(), Extras::default());
    let wanted = Wanted { hugetlb: true, numa: true, cpuset: true };
    for _ in 0..2 {
        assert!(group.read(&mut host, &mut usage, true));
        group.read_extras(&mut host, wanted, &sizes, &mut extras);
    }
    let mut devices: Vec<_> = usage.io.iter().map(|io| (io.major, io.minor)).collect();
    devices.sort_unstable();
    devices.dedup();
    assert_eq!(devices.len(), usage.io.len(), "a device twice");
    std::fs::write(path, whole).unwrap();
});
