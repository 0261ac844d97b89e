//! `node_filesystem_*`: the host's mounts from `<proc>/1/mountinfo`, their figures from statvfs(2).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::duration::duration;
use super::filter::Filter;
use super::statpool::{Ask, Figures, Outcome, Pool};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{self, Root, parse};
use crate::model::{Kind, LabelSet, Value};

const POINTS_INCLUDE: Flag = Flag::new(
    "collector.filesystem.mount-points-include",
    FlagKind::One("REGEX"),
    None,
    "Mount points to export; contradicts collector.filesystem.mount-points-exclude.",
);
const POINTS_EXCLUDE: Flag = Flag::new(
    "collector.filesystem.mount-points-exclude",
    FlagKind::One("REGEX"),
    Some("^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"),
    "Mount points to leave out; contradicts collector.filesystem.mount-points-include.",
)
.or(&["collector.filesystem.ignored-mount-points"]);
const TYPES_INCLUDE: Flag = Flag::new(
    "collector.filesystem.fs-types-include",
    FlagKind::One("REGEX"),
    None,
    "Types of file systems to export; contradicts collector.filesystem.fs-types-exclude.",
);
const TYPES_EXCLUDE: Flag = Flag::new(
    "collector.filesystem.fs-types-exclude",
    FlagKind::One("REGEX"),
    Some(
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$",
    ),
    "Types of file systems to leave out; contradicts collector.filesystem.fs-types-include.",
)
.or(&["collector.filesystem.ignored-fs-types"]);
const TIMEOUT: Flag = Flag::new(
    "collector.filesystem.mount-timeout",
    FlagKind::One("DURATION"),
    Some("5s"),
    "How long a mount may take to answer before it is told as hung.",
);
const WORKERS: Flag = Flag::new(
    "collector.filesystem.stat-workers",
    FlagKind::One("NUMBER"),
    Some("4"),
    "How many mounts are asked at the same time, at most.",
);

pub(super) const ENTRY: Entry =
    entry!("filesystem", on, &[POINTS_INCLUDE, POINTS_EXCLUDE, TYPES_INCLUDE, TYPES_EXCLUDE, TIMEOUT, WORKERS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let workers = match settings.one(WORKERS.name) {
        None => 4,
        Some(given) => given
            .parse()
            .ok()
            .filter(|workers| (1..=64).contains(workers))
            .ok_or_else(|| format!("--{}={given}: no number of threads; give one from 1 to 64", WORKERS.name))?,
    };
    Ok(Box::new(Filesystem {
        points: Filter::of(settings, &POINTS_INCLUDE, &POINTS_EXCLUDE)?,
        types: Filter::of(settings, &TYPES_INCLUDE, &TYPES_EXCLUDE)?,
        timeout: duration(settings, &TIMEOUT, Duration::from_secs(5))?,
        pool: Pool::new(workers, Arc::new(statvfs)),
        raw: Vec::new(),
        own: Vec::new(),
        mounts: Vec::new(),
        asks: Vec::new(),
        odd: Vec::new(),
    }))
}

/// Oddities of one file that are kept.
const MOST_ODD: usize = 64;

struct Filesystem {
    points: Filter,
    types: Filter,
    timeout: Duration,
    pool: Pool,
    /// The file as it was when `mounts` was made of it: it is taken apart only when it changed.
    raw: Vec<u8>,
    /// What this process itself has mounted, where the host's root is seen through a mount.
    own: Vec<u8>,
    mounts: Vec<Mount>,
    asks: Vec<Ask>,
    /// What of the file could not be understood, or cannot be asked; told at every scrape, for it is so until the file changes.
    odd: Vec<String>,
}

/// A mount that is exported.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    point: String,
    kind: String,
    labels: LabelSet,
    info: LabelSet,
    read_only: bool,
    /// The index of its question in `asks`; `None` of a mount that this process does not see, whose figures would be another's.
    ask: Option<usize>,
}

impl Collector for Filesystem {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let deadline = pass.deadline;
        let (host, out, odd) = pass.split();
        // Those of the first process are the host's. Where it is hidden (hidepid=), this process sees at least what is mounted into its own namespace.
        let raw = &mut self.raw;
        let (mut changed, is_first) = match host.proc("1/mountinfo").map(|bytes| keep(raw, bytes)) {
            Ok(changed) => (changed, true),
            Err(first) => match host.proc("self/mountinfo").map(|bytes| keep(raw, bytes)) {
                Ok(changed) => (changed, false),
                Err(second) => return Err(if second.is_absent() { first } else { second }.into()),
            },
        };
        // Where the trees are mounts, those that are there now may not be those of the start: a mount of the host's comes in only where it is propagated.
        let (proc, rootfs) = (host.root().is_mounted(), !host.root().is_own_rootfs());
        if is_first && (proc || rootfs) && (changed || self.mounts.iter().any(|mount| mount.ask.is_none())) {
            match host.proc("self/mountinfo") {
                Ok(bytes) => changed |= keep(&mut self.own, bytes),
                Err(_) => self.own.clear(),
            }
        }
        if changed {
            self.read(host.root());
        }
        self.odd.iter().for_each(|what| odd.tell(what));
        let is_host = is_first && host.shows_host_processes();
        let help = "Whether the filesystem metrics are of the host's mounts (1) or of those that the agent sees (0).";
        out.gauge("node_mounts_host", help, is_host);
        // The pool takes a fifth more than its time, and the rest of the scrape wants some too.
        let left = deadline.map_or(self.timeout, |deadline| deadline.saturating_duration_since(Instant::now()) * 3 / 4);
        let outcomes = self.pool.ask(&self.asks, self.timeout.min(left));
        self.write(&outcomes, out);
        Ok(Presence::Present)
    }
}

/// Who answers for a mount from the network: the server of `server:/export` and of `//server/share`; else the whole source.
fn peer(source: &[u8]) -> &[u8] {
    let rest = source.strip_prefix(b"//").unwrap_or(source);
    // An address of IPv6 stands in brackets.
    let from = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
    let end = rest.iter().skip(from).position(|byte| matches!(byte, b':' | b'/')).map_or(rest.len(), |end| from + end);
    rest.get(..end).filter(|server| !server.is_empty()).unwrap_or(source)
}

/// Keeps `bytes` in `raw`, and says whether they are others than before.
fn keep(raw: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let changed = raw != bytes;
    if changed {
        raw.clear();
        raw.extend_from_slice(bytes);
    }
    changed
}

impl Filesystem {
    /// Makes `mounts` and `asks` of `raw`. A mount on whose root another one stands is left out, for nobody can ask it any more: at its point the other one
    /// answers. What is left of mounts with the same labels is exported once, as the last of them (node_exporter issues 377, 2514, 2805 and 3261).
    fn read(&mut self, root: &Root) {
        self.odd.clear();
        let found: Vec<host::Mount<'_>> = parse::lines(&self.raw)
            .filter_map(|line| {
                let mount = host::Mount::of(line);
                if mount.is_none() && self.odd.len() < MOST_ODD {
                    let shown = line.get(..120).unwrap_or(line);
                    self.odd.push(format!("mountinfo: {:?}", String::from_utf8_lossy(shown)));
                }
                mount
            })
            .collect();
        let hiding: HashSet<(u64, &[u8])> = found.iter().map(|mount| (mount.number.1, &*mount.point)).collect();
        let view = View::of(root, found.iter().map(|mount| &*mount.point));
        let seen = if view == View::Host { Seen::of(root, &self.own) } else { None };
        self.mounts.clear();
        self.asks.clear();
        let slow: Vec<&[u8]> = found
            .iter()
            .filter(|mount| !mount.answers_at_once())
            .map(|mount| mount.point.strip_suffix(b"/").unwrap_or(&mount.point))
            .collect();
        let mut known: HashMap<(String, String, String), usize> = HashMap::new();
        let mut asked: HashMap<Vec<u8>, usize> = HashMap::new();
        for mount in found.iter().filter(|mount| !hiding.contains(&(mount.number.0, &*mount.point))) {
            let Some(point) = view.on_host(&mount.point) else { continue };
            let [device, label, kind] = [&*mount.source, point, &*mount.kind].map(|bytes| parse::text(bytes).into_owned());
            if !self.points.keeps(label.as_bytes()) || !self.types.keeps(kind.as_bytes()) {
                continue;
            }
            let (major, minor) = mount.device_number;
            let is_seen = seen.as_ref().is_none_or(|seen| seen.has(point, mount.device_number));
            if !is_seen && self.odd.len() < MOST_ODD {
                let path = root.on_rootfs(Path::new(OsStr::from_bytes(point)));
                self.odd.push(format!(
                    "{label} of the host is not mounted at {} for the agent; mount the host's / at /host/root with propagation rslave, or set --path.rootfs",
                    path.display()
                ));
            }
            let exported = Mount {
                labels: LabelSet::of([("device", &*device), ("mountpoint", &*label), ("fstype", &*kind), ("device_error", "")]),
                info: LabelSet::of([
                    ("device", &*device),
                    ("major", &*major.to_string()),
                    ("minor", &*minor.to_string()),
                    ("mountpoint", &*label),
                ]),
                read_only: mount.read_only,
                ask: is_seen.then(|| *asked.entry(point.to_vec()).or_insert(self.asks.len())),
                device,
                point: label,
                kind,
            };
            // Several at one point (of another type, or by another name) are one question.
            let may_hang = mount.may_hang();
            // The way to a mount leads through those above it.
            let at_once = mount.answers_at_once() && !slow.iter().any(|above| below(&mount.point, above).is_some());
            match exported.ask.map(|ask| self.asks.get_mut(ask)) {
                None => {}
                Some(Some(ask)) => {
                    ask.may_hang |= may_hang;
                    ask.at_once &= at_once;
                }
                Some(None) => self.asks.push(Ask {
                    path: root.on_rootfs(Path::new(OsStr::from_bytes(point))).into(),
                    may_hang,
                    at_once,
                    peer: peer(&mount.source).into(),
                }),
            }
            let key = (exported.device.clone(), exported.point.clone(), exported.kind.clone());
            match known.get(&key).and_then(|index| self.mounts.get_mut(*index)) {
                Some(before) => *before = exported,
                None => {
                    known.insert(key, self.mounts.len());
                    self.mounts.push(exported);
                }
            }
        }
    }

    fn write(&self, outcomes: &[Outcome], out: &mut Writer) {
        let rows = || self.mounts.iter().map(|mount| (mount, mount.ask.and_then(|ask| outcomes.get(ask))));
        for (name, help, figure) in FIGURES {
            let mut family = out.family(name, Kind::Gauge, help);
            for (mount, outcome) in rows() {
                if let Some(Outcome::Answered(Ok(figures))) = outcome {
                    family.sample_of(&mount.labels, &[], figure(figures));
                }
            }
        }
        let readonly = ("node_filesystem_readonly", "Filesystem read-only status.");
        let error = ("node_filesystem_device_error", "Whether an error occurred while getting statistics for the given device.");
        for ((name, help), is_error) in [(readonly, false), (error, true)] {
            let mut family = out.family(name, Kind::Gauge, help);
            for (mount, outcome) in rows() {
                match why(outcome) {
                    None => {
                        family.sample_of(&mount.labels, &[], if is_error { false } else { mount.read_only });
                    }
                    Some(why) => {
                        let labels =
                            [("device", &*mount.device), ("mountpoint", &*mount.point), ("fstype", &*mount.kind), ("device_error", why)];
                        family.sample(&labels, if is_error { true } else { mount.read_only });
                    }
                }
            }
        }
        let mut family = out.family("node_filesystem_mount_info", Kind::Gauge, "Filesystem mount information.");
        let mut written: Vec<&LabelSet> = Vec::with_capacity(self.mounts.len());
        for (mount, outcome) in rows() {
            // Its labels have no type: two file systems of one source at one point would be one series twice.
            if matches!(outcome, Some(Outcome::Answered(Ok(_)))) && !written.contains(&&mount.info) {
                family.sample_of(&mount.info, &[], 1u64);
                written.push(&mount.info);
            }
        }
    }
}

type Figure = fn(&Figures) -> Value;

const FIGURES: [(&str, &str, Figure); 5] = [
    ("node_filesystem_size_bytes", "Filesystem size in bytes.", |figures| figures.size.into()),
    ("node_filesystem_free_bytes", "Filesystem free space in bytes.", |figures| figures.free.into()),
    ("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.", |figures| figures.avail.into()),
    ("node_filesystem_files", "Filesystem total file nodes.", |figures| figures.files.into()),
    ("node_filesystem_files_free", "Filesystem total free file nodes.", |figures| figures.files_free.into()),
];

/// From whose root the points of a mountinfo are seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum View<'a> {
    /// The host's own: the point is what a user of the host calls it.
    Host,
    /// A container's, with the host's root mounted here: what lies below is the host's, the rest is the container's.
    Container(&'a [u8]),
}

impl<'a> View<'a> {
    pub(super) fn of<'p>(root: &'a Root, mut points: impl Iterator<Item = &'p [u8]>) -> Self {
        let prefix = root.rootfs.as_os_str().as_bytes();
        let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
        if !prefix.is_empty() && points.any(|point| below(point, prefix).is_some()) { Self::Container(prefix) } else { Self::Host }
    }

    /// The point as the host calls it; `None` for one that is not the host's.
    pub(super) fn on_host<'p>(&self, point: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            Self::Host => Some(point),
            Self::Container(prefix) => below(point, prefix),
        }
    }
}

/// The mounts that this process has below the root file system of the host. A mount that was made on the host since, and was not propagated, is none of them: at
/// its point lies the file system below it, and that one's figures under this one's name would be a wrong answer that nobody sees.
struct Seen {
    mounts: HashSet<(Vec<u8>, (u64, u64))>,
}

impl Seen {
    /// Those of this process' own mountinfo. `None` where the root is no mount: a directory is a copy or a recording, of which nothing can be said.
    fn of(root: &Root, own: &[u8]) -> Option<Self> {
        let prefix = root.rootfs.as_os_str().as_bytes();
        let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
        let mounts: HashSet<(Vec<u8>, (u64, u64))> = parse::lines(own)
            .filter_map(host::Mount::of)
            .filter_map(|mount| Some((below(&mount.point, prefix)?.to_vec(), mount.device_number)))
            .collect();
        mounts.iter().any(|(point, _)| point == b"/").then_some(Self { mounts })
    }

    /// Whether the file system `device` of the host's is mounted for this process where the host has it at `point`.
    fn has(&self, point: &[u8], device: (u64, u64)) -> bool {
        self.mounts.contains(&(point.to_vec(), device))
    }
}

/// `/host/root/srv` below `/host/root` is `/srv`, `/host/root` itself is `/`.
fn below<'p>(point: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    match point.strip_prefix(prefix)? {
        b"" => Some(b"/"),
        rest => rest.starts_with(b"/").then_some(rest),
    }
}

/// Blocks are counted in fragments (`f_frsize`), as df counts them. node_exporter multiplies by the block size for transfers, which is the same but for FUSE.
fn statvfs(path: &Path) -> io::Result<Figures> {
    let told = rustix::fs::statvfs(path)?;
    let unit = if told.f_frsize == 0 { told.f_bsize } else { told.f_frsize };
    Ok(Figures {
        size: told.f_blocks.saturating_mul(unit),
        free: told.f_bfree.saturating_mul(unit),
        avail: told.f_bavail.saturating_mul(unit),
        files: told.f_files,
        files_free: told.f_ffree,
    })
}

/// Why there are no figures, in the words of node_exporter; `None` when there are. The words are ours, not the C library's, which differ from one to the other.
fn why(outcome: Option<&Outcome>) -> Option<&'static str> {
    let Some(outcome) = outcome else { return Some("not mounted for the agent") };
    match outcome {
        Outcome::Answered(Ok(_)) => None,
        Outcome::Hangs => Some("mountpoint timeout"),
        Outcome::Refused => Some("not asked, too many mounts hang"),
        Outcome::Answered(Err(error)) => Some(match Errno::from_io_error(error) {
            Some(Errno::ACCESS) => "permission denied",
            Some(Errno::PERM) => "operation not permitted",
            Some(Errno::NOENT) => "no such file or directory",
            Some(Errno::NOTDIR) => "not a directory",
            Some(Errno::IO) => "input/output error",
            Some(Errno::STALE) => "stale NFS file handle",
            Some(Errno::NOTCONN) => "transport endpoint is not connected",
            Some(Errno::HOSTDOWN) => "host is down",
            Some(Errno::HOSTUNREACH) => "no route to host",
            Some(Errno::TIMEDOUT) => "connection timed out",
            Some(Errno::NODEV) => "no such device",
            Some(Errno::NXIO) => "no such device or address",
            Some(Errno::LOOP) => "too many levels of symbolic links",
            Some(Errno::NAMETOOLONG) => "file name too long",
            Some(Errno::INVAL) => "invalid argument",
            _ => "other error",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Reader;

    fn root(rootfs: &str) -> Root {
        Root { proc: "/host/proc".into(), sys: "/host/sys".into(), rootfs: rootfs.into(), udev: "/none".into() }
    }

    #[test]
    fn the_containers_own_mounts_are_not_the_hosts() {
        let root = root("/host/root");
        let container: [&[u8]; 4] = [b"/", b"/etc/hosts", b"/host/root", b"/host/root/srv"];
        let view = View::of(&root, container.into_iter());
        let seen: Vec<Option<&[u8]>> = container.iter().map(|point| view.on_host(point)).collect();
        assert_eq!(seen, [None, None, Some(&b"/"[..]), Some(b"/srv")]);
        let host: [&[u8]; 3] = [b"/", b"/srv", b"/host/rootless"];
        assert_eq!(View::of(&root, host.into_iter()), View::Host);
    }

    fn collected(mountinfo: &str, stat: impl Fn(&Path) -> io::Result<Figures> + Send + Sync + 'static) -> (String, u64) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("1")).unwrap();
        std::fs::write(directory.path().join("1/mountinfo"), mountinfo).unwrap();
        let mut root = root("/host/root");
        root.proc = directory.path().into();
        let mut reader = Reader::new(Arc::new(root));
        let mut writer = Writer::new(Arc::default());
        let mut collector = Filesystem {
            points: Filter::default(),
            types: Filter::default(),
            timeout: Duration::from_secs(60),
            pool: Pool::new(1, Arc::new(stat)),
            raw: Vec::new(),
            own: Vec::new(),
            mounts: Vec::new(),
            asks: Vec::new(),
            odd: Vec::new(),
        };
        // What is odd is so at every scrape, also when the file is not taken apart again.
        let odd = [(); 2].map(|()| {
            writer.clear();
            let mut pass = Pass::new(&mut reader, &mut writer);
            assert_eq!(collector.collect(&mut pass).unwrap(), Presence::Present);
            pass.oddities().0
        });
        assert_eq!(odd[0], odd[1]);
        let odd = odd[0];
        (String::from_utf8(writer.text().to_vec()).unwrap(), odd)
    }

    #[test]
    fn points_are_the_hosts_and_paths_lie_below_its_root() {
        let (text, odd) = collected("1 0 8:1 / /srv/a\\040b ro - ext4 /dev/sda1 rw\nodd\n2 0 0:9 / /n rw - nfs4 s:/x rw\n", |path| {
            if path == Path::new("/host/root/srv/a b") {
                return Ok(Figures { size: 10, free: 9, avail: 8, files: 7, files_free: 6 });
            }
            Err(Errno::STALE.into())
        });
        let good = r#"device="/dev/sda1",mountpoint="/srv/a b",fstype="ext4",device_error="""#;
        let bad = r#"device="s:/x",mountpoint="/n",fstype="nfs4",device_error="stale NFS file handle""#;
        for line in [
            format!("node_filesystem_size_bytes{{{good}}} 10\n"),
            format!("node_filesystem_avail_bytes{{{good}}} 8\n"),
            format!("node_filesystem_readonly{{{good}}} 1\n"),
            format!("node_filesystem_device_error{{{good}}} 0\n"),
            format!("node_filesystem_device_error{{{bad}}} 1\n"),
            format!("node_filesystem_readonly{{{bad}}} 0\n"),
            "node_filesystem_mount_info{device=\"/dev/sda1\",major=\"8\",minor=\"1\",mountpoint=\"/srv/a b\"} 1\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert_eq!(text.matches("\nnode_filesystem_size_bytes{").count(), 1);
        assert_eq!(odd, 1);
    }

    /// A mount that was made after the start and is not propagated, and another file system than the host's at the same place: what lies there is not what was
    /// asked for.
    #[test]
    fn what_is_not_mounted_here_has_no_figures_of_another() {
        let directory = tempfile::tempdir().unwrap();
        for process in ["1", "self"] {
            std::fs::create_dir_all(directory.path().join(process)).unwrap();
        }
        let host = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /late rw - ext4 /dev/b rw\n3 1 8:3 / /other rw - ext4 /dev/c rw\n";
        std::fs::write(directory.path().join("1/mountinfo"), host).unwrap();
        let mut root = root("/host/root");
        root.proc = directory.path().into();
        let mut reader = Reader::new(Arc::new(root));
        let mut collector = build(&Settings::default()).unwrap();
        let mut scrape = |own: &str| {
            std::fs::write(directory.path().join("self/mountinfo"), own).unwrap();
            let mut writer = Writer::new(Arc::default());
            let mut pass = Pass::new(&mut reader, &mut writer);
            assert_eq!(collector.collect(&mut pass).unwrap(), Presence::Present);
            let odd = pass.oddities();
            (String::from_utf8(writer.text().to_vec()).unwrap(), odd)
        };
        let missing = |text: &str| text.matches("device_error=\"not mounted for the agent\"} 1\n").count();
        let at_start =
            "9 0 0:99 / / rw - overlay o rw\n10 9 8:1 / /host/root rw - ext4 /dev/a rw\n11 10 0:50 / /host/root/other rw - tmpfs t rw\n";
        let (text, (count, example)) = scrape(at_start);
        assert_eq!((missing(&text), count), (2, 2), "{text}");
        assert!(example.contains("/late of the host is not mounted at /host/root/late") && example.contains("rslave"), "{example}");
        // It is looked at again until all of them are there.
        let (text, (count, _)) = scrape(&format!("{at_start}12 10 8:2 / /host/root/late rw - ext4 /dev/b rw\n"));
        assert_eq!((missing(&text), count), (1, 1), "{text}");
        // The container's own root is not the host's.
        assert!(Seen::of(&self::root("/"), at_start.as_bytes()).is_some_and(|seen| !seen.has(b"/", (8, 1))));
        // Below a directory that is no mount there is nothing to compare.
        assert!(Seen::of(&self::root("/fixture"), at_start.as_bytes()).is_none());
    }

    #[test]
    fn servers_are_told_apart() {
        for (source, server) in [
            (&b"s:/x"[..], &b"s"[..]),
            (b"[2001:db8::1]:/x", b"[2001:db8::1]"),
            (b"//s/share", b"s"),
            (b"sshfs", b"sshfs"),
            (b":/x", b":/x"),
            (b"", b""),
        ] {
            assert_eq!(peer(source), server);
        }
    }

    /// Of what stands on one point the last answers, and it is asked once, whatever the lines call it.
    #[test]
    fn a_point_is_asked_once() {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let (text, _) = collected(
            "1 0 8:1 / / rw - rootfs rootfs rw\n2 1 8:2 / / rw - ext4 /dev/x rw\n3 2 0:8 / /a rw - nfs s:/a rw\n4 2 0:9 / /a rw - nfs t:/a rw\n",
            move |_| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Figures { size: 1, free: 1, avail: 1, files: 1, files_free: 1 })
            },
        );
        // Two at each of two scrapes.
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 4);
        assert!(!text.contains("rootfs"), "{text}");
        assert_eq!(text.matches("\nnode_filesystem_size_bytes{").count(), 3);
    }

    #[test]
    fn what_is_mounted_twice_is_exported_once() {
        let (text, _) = collected("1 0 8:1 / /a rw - ext4 /dev/x rw\n2 1 8:2 / /a ro - ext4 /dev/x rw\n", |_| {
            Ok(Figures { size: 1, free: 1, avail: 1, files: 1, files_free: 1 })
        });
        assert_eq!(text.matches("\nnode_filesystem_readonly{").count(), 1);
        assert!(text.contains("node_filesystem_readonly{device=\"/dev/x\",mountpoint=\"/a\",fstype=\"ext4\",device_error=\"\"} 1\n"));
        assert!(text.contains("minor=\"2\""));
    }
}
