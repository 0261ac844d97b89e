//! A container's cgroup, found by its id in the mounted tree.
//!
//! Never from `/proc/<pid>/cgroup`: that path is relative to the reader's own cgroup namespace. Nor is a parent written down for good: the driver
//! decides between `/docker/<id>` and `/system.slice/docker-<id>.scope`, and `--cgroup-parent`, of a container or of the engine, puts it anywhere.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::Layout;
use crate::host::Reader;

/// How many directories a walk looks at before it gives up.
const LARGEST_WALK: usize = 20_000;
/// How deep it goes. A systemd slice of slices has five.
const DEEPEST_WALK: usize = 12;
/// Containers that a walk did not find are walked for again after so many rounds.
const ROUNDS_BETWEEN_WALKS: u32 = 4;
/// Parents that were learned and are tried before walking.
const MOST_PARENTS: usize = 64;

/// What stands before and after the id in a path of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    before: String,
    after: String,
}

impl Pattern {
    fn path(&self, id: &str) -> PathBuf {
        PathBuf::from(format!("{}{id}{}", self.before, self.after))
    }
}

/// Finds cgroups and remembers where containers usually are.
#[derive(Debug)]
pub struct Finder {
    patterns: Vec<Pattern>,
    /// What the last walk found and nobody has asked for yet. Who asks keeps the path; to keep it here too would cost a quarter of a kilobyte for each container.
    found: HashMap<String, PathBuf>,
    missed: HashSet<String>,
    round: u32,
    walked: Option<u32>,
    /// How many directories a walk looks at.
    largest_walk: usize,
    gave_up: bool,
}

impl Default for Finder {
    fn default() -> Self {
        let pattern = |before: &str, after: &str| Pattern { before: before.to_owned(), after: after.to_owned() };
        Self {
            patterns: vec![pattern("docker/", ""), pattern("system.slice/docker-", ".scope")],
            found: HashMap::new(),
            missed: HashSet::new(),
            round: 0,
            walked: None,
            largest_walk: LARGEST_WALK,
            gave_up: false,
        }
    }
}

impl Finder {
    /// Begins a scrape: within one, the tree is walked once at most.
    pub fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.walked.is_some_and(|walked| self.round.wrapping_sub(walked) >= ROUNDS_BETWEEN_WALKS) {
            self.missed.clear();
            self.walked = None;
        }
    }

    /// Where the container's cgroup is, relative to the tree (`docker/<id>`); `None` when there is none.
    pub fn find(&mut self, host: &Reader, layout: &Layout, id: &str) -> Option<PathBuf> {
        let tree = layout.main_tree()?;
        if let Some(path) = self.found.remove(id) {
            return Some(path);
        }
        // The parent that was learned last is that of the last containers.
        let usual = self.patterns.iter().rev().map(|pattern| pattern.path(id)).find(|path| host.is_directory(&tree.join(path)));
        if let Some(path) = usual {
            return Some(path);
        }
        if self.missed.contains(id) {
            return None;
        }
        if self.walked != Some(self.round) {
            self.walked = Some(self.round);
            self.walk(host, tree);
        }
        let path = self.found.remove(id);
        if path.is_none() {
            self.missed.insert(id.to_owned());
        }
        path
    }

    /// Whether the last walk ended at its bound, so that a container that was not found may be there all the same; and the bound, in directories.
    #[must_use]
    pub const fn gave_up(&self) -> Option<usize> {
        if self.gave_up { Some(self.largest_walk) } else { None }
    }

    /// Forgets a container: it is gone, or its cgroup turned out to be.
    pub fn forget(&mut self, id: &str) {
        self.found.remove(id);
        self.missed.remove(id);
    }

    /// Forgets all containers but those that `keep` names.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.found.retain(|id, _| keep(id));
        self.missed.retain(|id| keep(id));
    }

    /// Looks at the tree breadth first and takes every directory that is named after a container. What is below one belongs to it (an engine in a container).
    fn walk(&mut self, host: &Reader, tree: &Path) {
        let mut level = vec![String::new()];
        let mut looked_at = 0;
        self.gave_up = false;
        for _ in 0..DEEPEST_WALK {
            let mut next = Vec::new();
            for parent in level {
                for name in host.names(&tree.join(&parent), true) {
                    looked_at += 1;
                    if looked_at > self.largest_walk {
                        self.gave_up = true;
                        return;
                    }
                    let path = if parent.is_empty() { name.clone() } else { format!("{parent}/{name}") };
                    match id_in(&name) {
                        Some(id) => self.learn(id, &path),
                        None => next.push(path),
                    }
                }
            }
            if next.is_empty() {
                return;
            }
            level = next;
        }
    }

    fn learn(&mut self, id: &str, path: &str) {
        self.found.entry(id.to_owned()).or_insert_with(|| PathBuf::from(path));
        let Some((before, after)) = path.rsplit_once(id) else { return };
        let pattern = Pattern { before: before.to_owned(), after: after.to_owned() };
        if self.patterns.len() < MOST_PARENTS && !self.patterns.contains(&pattern) {
            self.patterns.push(pattern);
        }
    }
}

/// The id in the name of a container's cgroup: `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`. Not that of a systemd mount unit.
#[must_use]
pub fn id_in(name: &str) -> Option<&str> {
    if name.ends_with(".mount") {
        return None;
    }
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let bytes = name.as_bytes();
    let mut start = 0;
    while let Some(rest) = bytes.get(start..) {
        let length = rest.iter().take_while(|byte| is_digit(byte)).count();
        if length == 64 {
            return name.get(start..start + 64);
        }
        start += length + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn host(directories: &[String]) -> (tempfile::TempDir, Reader, Layout) {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().join("fs/cgroup");
        for directory in directories {
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        let sys = || Some(temporary.path().to_path_buf());
        let reader = Reader::new(Arc::new(Root::find(sys(), sys(), sys(), None)));
        (temporary, reader, Layout::V2 { root: base })
    }

    /// One tree of v1, in which the rest of the host is too.
    fn host_v1(directories: &[String]) -> (tempfile::TempDir, Reader, Layout) {
        let (temporary, reader, _) = host(&[]);
        let base = temporary.path().join("fs/cgroup");
        for controller in ["cpu,cpuacct", "memory", "pids", "systemd"] {
            std::fs::create_dir_all(base.join(controller).join("system.slice/docker.service")).unwrap();
            for directory in directories {
                std::fs::create_dir_all(base.join(controller).join(directory)).unwrap();
            }
        }
        let layout = Layout::detect(&reader).unwrap();
        (temporary, reader, layout)
    }

    /// Where engines put the container of `id`: by driver, `--cgroup-parent` and user.
    fn places(id: &str) -> [String; 10] {
        [
            // The driver cgroupfs, and `--cgroup-parent=/lab`, `--cgroup-parent=/a/b/c`.
            format!("docker/{id}"),
            format!("lab/{id}"),
            format!("a/b/c/{id}"),
            // The driver systemd, and `--cgroup-parent=shop.slice`, `--cgroup-parent=shop-web.slice`, which is a slice of a slice.
            format!("system.slice/docker-{id}.scope"),
            format!("shop.slice/docker-{id}.scope"),
            format!("shop.slice/shop-web.slice/docker-{id}.scope"),
            // Rootless, by either driver and with a parent.
            format!("user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope"),
            format!("user.slice/user-1000.slice/user@1000.service/app.slice/docker.service/docker/{id}"),
            format!("user.slice/user-1000.slice/user@1000.service/shop.slice/docker-{id}.scope"),
            // An engine that is itself in a scope of a service manager.
            format!("system.slice/docker.service/docker/{id}"),
        ]
    }

    #[test]
    fn drivers_and_parents() {
        for place in places(&id('a')) {
            for (_directory, reader, layout) in [host(std::slice::from_ref(&place)), host_v1(std::slice::from_ref(&place))] {
                let mut finder = Finder::default();
                finder.begin();
                assert_eq!(finder.find(&reader, &layout, &id('a')).as_deref(), Some(Path::new(&place)), "{layout:?}");
                assert_eq!(finder.find(&reader, &layout, &id('e')), None);
            }
        }
    }

    /// All at once, as when an engine was given another driver while containers of the old one ran on.
    #[test]
    fn engines_side_by_side() {
        let digits = "0123456789".chars();
        let all: Vec<(char, String)> = digits.enumerate().map(|(index, digit)| (digit, places(&id(digit))[index].clone())).collect();
        let directories: Vec<String> = all.iter().map(|(_, place)| place.clone()).collect();
        let (_directory, reader, layout) = host(&directories);
        let mut finder = Finder::default();
        finder.begin();
        for (digit, place) in &all {
            assert_eq!(finder.find(&reader, &layout, &id(*digit)).as_deref(), Some(Path::new(place)));
        }
    }

    #[test]
    fn a_parent_is_learned() {
        let (directory, reader, layout) = host(&[format!("lab1/{}", id('a'))]);
        let mut finder = Finder::default();
        finder.begin();
        assert!(finder.find(&reader, &layout, &id('a')).is_some());
        assert!(finder.find(&reader, &layout, &id('b')).is_none());
        // It comes into the same parent, in the same round, in which no second walk is made.
        std::fs::create_dir_all(directory.path().join("fs/cgroup/lab1").join(id('b'))).unwrap();
        assert!(finder.find(&reader, &layout, &id('b')).is_some());
    }

    #[test]
    fn what_is_not_found_is_looked_for_again_later() {
        let (directory, reader, layout) = host(&[]);
        let mut finder = Finder::default();
        finder.begin();
        assert_eq!(finder.find(&reader, &layout, &id('a')), None);
        std::fs::create_dir_all(directory.path().join("fs/cgroup/elsewhere").join(id('a'))).unwrap();
        finder.begin();
        assert_eq!(finder.find(&reader, &layout, &id('a')), None);
        for _ in 0..ROUNDS_BETWEEN_WALKS {
            finder.begin();
        }
        assert!(finder.find(&reader, &layout, &id('a')).is_some());
    }

    /// Under every driver: what an engine in a container runs is that container's, and so is what its service manager makes. Nothing of it is learned as a
    /// place where containers are.
    #[test]
    fn an_engine_in_a_container_keeps_its_containers() {
        for outer in places(&id('a')) {
            let inner: Vec<String> = places(&id('b')).iter().map(|place| format!("{outer}/{place}")).collect();
            let (directory, reader, layout) = host(&inner);
            let mut finder = Finder::default();
            finder.begin();
            assert_eq!(finder.find(&reader, &layout, &id('b')), None);
            assert_eq!(finder.find(&reader, &layout, &id('a')).as_deref(), Some(Path::new(&outer)));
            assert!(finder.patterns.iter().all(|pattern| !pattern.before.contains(&id('a'))));
            // The host's own container of that name is found all the same, and is not the inner one.
            let own = format!("docker/{}", id('c'));
            std::fs::create_dir_all(directory.path().join("fs/cgroup").join(&own)).unwrap();
            assert_eq!(finder.find(&reader, &layout, &id('c')).as_deref(), Some(Path::new(&own)));
        }
    }

    /// Units that carry a container's id and are not its cgroup.
    #[test]
    fn mounts_are_no_containers() {
        let mount = format!("system.slice/var-lib-docker-containers-{}-mounts-shm.mount", id('a'));
        let (directory, reader, layout) = host(std::slice::from_ref(&mount));
        let mut finder = Finder::default();
        finder.begin();
        assert_eq!(finder.find(&reader, &layout, &id('a')), None);
        let scope = format!("machine.slice/docker-{}.scope", id('b'));
        std::fs::create_dir_all(directory.path().join("fs/cgroup").join(&scope)).unwrap();
        let mut finder = Finder::default();
        finder.begin();
        assert_eq!(finder.find(&reader, &layout, &id('b')).as_deref(), Some(Path::new(&scope)));
    }

    #[test]
    fn a_walk_that_gives_up_says_so() {
        let many: Vec<String> = (0..9).map(|number| format!("slice-{number}")).chain([format!("zone/deep/{}", id('a'))]).collect();
        let (_directory, reader, layout) = host(&many);
        let mut finder = Finder { largest_walk: 10, ..Finder::default() };
        finder.begin();
        assert_eq!(finder.gave_up(), None);
        assert_eq!(finder.find(&reader, &layout, &id('a')), None);
        assert_eq!(finder.gave_up(), Some(10));
        let mut finder = Finder { largest_walk: 12, ..Finder::default() };
        finder.begin();
        assert!(finder.find(&reader, &layout, &id('a')).is_some());
        assert_eq!(finder.gave_up(), None);
    }

    #[test]
    fn ids_in_names() {
        for name in [id('0'), format!("docker-{}.scope", id('0')), format!("crio-{}", id('0'))] {
            assert_eq!(id_in(&name), Some(&*id('0')), "{name}");
        }
        for name in ["", "docker", &"0".repeat(63), &format!("{}0", id('0')), &format!("x-{}.mount", id('0')), &id('A')] {
            assert_eq!(id_in(name), None, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_name_is_a_fault(name in ".*") {
            proptest::prop_assert!(id_in(&name).is_none_or(|id| id.len() == 64));
        }
    }
}
