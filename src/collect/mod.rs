//! Host metrics: one collector a file, named as node_exporter names it, and the registry of all of them.
//!
//! A collector is synchronous, reads the host when it is asked, and knows nothing of Docker or HTTP. To add one: a file here, a line in [`ENTRIES`], a golden
//! test with a recording of a real machine.
//!
//! Beside the collectors lies what several of them need. Before it is written again:
//!
//! - Flags: `filter` (include and exclude), `interfaces` (which network interfaces, for all collectors), `duration`.
//! - Reading: `attribute` (files that hold one value), `storage` (sizes and names of storage devices), `percpu` (tables with a column for each CPU), `rpcstats`
//!   (NFS), `addresses` (of interfaces), `zone` (the time zone), `pciids`, `sockets` (who asks over sockets), `statpool` (statvfs that may hang),
//!   `rescan` (when to look for devices again). Files are opened, and their fields taken apart, in [`host`](crate::host).
//! - Writing: `families` (gathered in any order), `names` (names that come out of the host).

use std::fmt;
use std::time::Instant;

mod addresses;
mod arp;
mod attribute;
mod bcache;
mod bcachefs;
mod bonding;
mod btrfs;
mod buddyinfo;
mod cgroups;
mod conntrack;
mod cpu;
mod cpu_vulnerabilities;
mod cpufreq;
mod cpuinfo;
mod diskstats;
mod dmi;
mod dmmultipath;
mod drbd;
mod drm;
mod duration;
mod edac;
mod entropy;
mod ethtool;
mod families;
mod fibrechannel;
mod filefd;
mod filesystem;
mod filter;
mod hwmon;
mod infiniband;
mod interfaces;
mod interrupts;
mod ipvs;
mod kernel_hung;
mod ksmd;
mod lnstat;
mod loadavg;
mod logind;
mod mdadm;
mod meminfo;
mod meminfo_numa;
mod mountstats;
mod names;
mod netclass;
mod netdev;
mod netstat;
mod network_route;
mod nfs;
mod nfsd;
mod nvme;
mod nvmesubsystem;
mod os;
mod pcidevice;
mod pciids;
mod percpu;
mod powersupplyclass;
mod pressure;
mod processes;
mod qdisc;
mod rapl;
mod rescan;
mod rpcstats;
mod schedstat;
mod selinux;
mod slabinfo;
mod sockets;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod statpool;
mod storage;
mod swap;
mod sysctl;
mod systemd;
mod tapestats;
mod tcpstat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod wifi;
mod xfrm;
mod xfs;
mod zfs;
mod zone;
mod zoneinfo;

use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{ReadError, Reader};

/// Reads one subject and writes its families.
pub trait Collector: Send {
    /// Reads and writes. Buffers that it needs belong to it and are kept.
    ///
    /// # Errors
    /// [`CollectError`] when nothing of the subject could be read. What could be read is written all the same, and one odd line or device is
    /// no failure: it is told to [`Pass::odd`].
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError>;
}

/// Whether a machine has what a collector reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has, and it was read.
    Present,
    /// It has no such thing (no such hardware, a kernel without it): nothing was written and nothing is wrong. A tree that is not mounted is no such case.
    Absent,
}

impl Presence {
    /// What a collector of several files comes to, of which a machine may have any: it has nothing to say when none was `found`, because it failed if there is
    /// a `failure`. Beside files that were found a failure is an oddity only, which was told when it was met.
    fn of_files(found: bool, failure: Option<ReadError>) -> Result<Self, CollectError> {
        match failure {
            _ if found => Ok(Self::Present),
            Some(error) => Err(error.into()),
            None => Ok(Self::Absent),
        }
    }
}

/// Why a collector has nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something else, in a sentence.
    #[error("{0}")]
    Other(String),
}

/// What a collector could not understand while the rest went on.
#[derive(Debug, Default)]
pub struct Oddities {
    count: u64,
    example: String,
}

impl Oddities {
    /// Tells that a line, a device or a sensor could not be understood. Counted; the first of a scrape is kept as the example.
    pub fn tell(&mut self, what: &dyn fmt::Display) {
        self.count += 1;
        if self.count == 1 {
            self.example = what.to_string();
        }
    }

    /// Tells of a file that could not be read, where one that is not there is nothing to tell of.
    fn unless_absent(&mut self, error: &ReadError) {
        if !error.is_absent() {
            self.tell(error);
        }
    }

    /// Tells of a line, which is shown cut at 120 bytes.
    pub fn line(&mut self, file: &str, line: &[u8]) {
        let shown = line.get(..120).unwrap_or(line);
        self.tell(&format_args!("{file}: {:?}", String::from_utf8_lossy(shown)));
    }
}

/// What a collector works with during one scrape.
pub struct Pass<'a> {
    /// Reads the host.
    pub host: &'a mut Reader,
    /// Takes the families.
    pub out: &'a mut Writer,
    /// When the scrape answers with what it has. A collector that waits for something gives up before; `None` where nobody waits.
    pub deadline: Option<Instant>,
    odd: Oddities,
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("odd", &self.odd).finish_non_exhaustive()
    }
}

impl<'a> Pass<'a> {
    /// A pass over `host` into `out`.
    pub const fn new(host: &'a mut Reader, out: &'a mut Writer) -> Self {
        Self { host, out, deadline: None, odd: Oddities { count: 0, example: String::new() } }
    }

    /// The same pass, of a scrape that answers at `deadline`.
    #[must_use]
    pub const fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The reader, the writer and the oddities, each for itself: what was read stays borrowed while the other two are used.
    pub fn split(&mut self) -> (&mut Reader, &mut Writer, &mut Oddities) {
        (self.host, self.out, &mut self.odd)
    }

    /// Tells that a line, a device or a sensor could not be understood, while the rest goes on. Counted; the first of a scrape is kept as the example.
    pub fn odd(&mut self, what: &dyn fmt::Display) {
        self.odd.tell(what);
    }

    /// How many oddities there were, and the first of them.
    #[must_use]
    pub fn oddities(self) -> (u64, String) {
        (self.odd.count, self.odd.example)
    }
}

/// Ends a collector with [`Presence::Absent`] when its file is not there, and with an error when the file cannot be read, or when the whole tree that it is
/// in is missing. For files that some kernel or some machine lacks: what every kernel has is read with `?`, for its absence is a fault.
#[macro_export]
macro_rules! present {
    ($read:expr) => {
        match $read {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok($crate::collect::Presence::Absent),
            Err(error) => return Err(error.into()),
        }
    };
}

/// A collector in the registry.
#[derive(Debug)]
pub struct Entry {
    /// The name in flags, in `collect[]` and in `node_scrape_collector_*`.
    pub name: &'static str,
    /// Whether it runs without being asked for.
    pub on_by_default: bool,
    /// `--collector.NAME`. It has no default value, so that a collector asked for is told from one that runs by default.
    pub switch: Flag,
    /// Its own flags, beside `--collector.NAME`.
    pub flags: &'static [Flag],
    /// Makes it. An error is a sentence that names the flag, the value, why it is refused and what would do.
    pub build: fn(&Settings) -> Result<Box<dyn Collector>, String>,
}

/// A line of the registry: name, whether it is on by default, its own flags, what builds it.
macro_rules! entry {
    ($name:literal, on, $flags:expr, $build:expr) => {
        $crate::collect::Entry {
            name: $name,
            on_by_default: true,
            switch: $crate::config::Flag::new(
                concat!("collector.", $name),
                $crate::config::FlagKind::Switch,
                None,
                concat!("Run the ", $name, " collector (it runs by default)."),
            ),
            flags: $flags,
            build: $build,
        }
    };
    ($name:literal, off, $flags:expr, $build:expr) => {
        $crate::collect::Entry {
            name: $name,
            on_by_default: false,
            switch: $crate::config::Flag::new(
                concat!("collector.", $name),
                $crate::config::FlagKind::Switch,
                None,
                concat!("Run the ", $name, " collector (it does not run by default)."),
            ),
            flags: $flags,
            build: $build,
        }
    };
}
use entry;

/// All collectors of the host, in the order of their names.
pub static ENTRIES: &[Entry] = &[
    arp::ENTRY,
    bcache::ENTRY,
    bcachefs::ENTRY,
    bonding::ENTRY,
    btrfs::ENTRY,
    buddyinfo::ENTRY,
    cgroups::ENTRY,
    conntrack::ENTRY,
    cpu::ENTRY,
    cpu_vulnerabilities::ENTRY,
    cpufreq::ENTRY,
    diskstats::ENTRY,
    dmi::ENTRY,
    dmmultipath::ENTRY,
    drbd::ENTRY,
    drm::ENTRY,
    edac::ENTRY,
    entropy::ENTRY,
    ethtool::ENTRY,
    fibrechannel::ENTRY,
    filefd::ENTRY,
    filesystem::ENTRY,
    hwmon::ENTRY,
    infiniband::ENTRY,
    interrupts::ENTRY,
    ipvs::ENTRY,
    kernel_hung::ENTRY,
    ksmd::ENTRY,
    lnstat::ENTRY,
    loadavg::ENTRY,
    logind::ENTRY,
    mdadm::ENTRY,
    meminfo::ENTRY,
    meminfo_numa::ENTRY,
    mountstats::ENTRY,
    netclass::ENTRY,
    netdev::ENTRY,
    netstat::ENTRY,
    network_route::ENTRY,
    nfs::ENTRY,
    nfsd::ENTRY,
    nvme::ENTRY,
    nvmesubsystem::ENTRY,
    os::ENTRY,
    pcidevice::ENTRY,
    powersupplyclass::ENTRY,
    pressure::ENTRY,
    processes::ENTRY,
    qdisc::ENTRY,
    rapl::ENTRY,
    schedstat::ENTRY,
    selinux::ENTRY,
    slabinfo::ENTRY,
    sockstat::ENTRY,
    softirqs::ENTRY,
    softnet::ENTRY,
    stat::ENTRY,
    swap::ENTRY,
    sysctl::ENTRY,
    systemd::ENTRY,
    tapestats::ENTRY,
    tcpstat::ENTRY,
    textfile::ENTRY,
    thermal_zone::ENTRY,
    time::ENTRY,
    timex::ENTRY,
    udp_queues::ENTRY,
    uname::ENTRY,
    vmstat::ENTRY,
    watchdog::ENTRY,
    wifi::ENTRY,
    xfrm::ENTRY,
    xfs::ENTRY,
    zfs::ENTRY,
    zoneinfo::ENTRY,
];

/// Switches off what runs by default and was not asked for by name.
const DISABLE_DEFAULTS: Flag =
    Flag::new("collector.disable-defaults", FlagKind::Switch, Some("false"), "Run only the collectors that are asked for by name.");

/// node_exporter's ways where skep has others. `docs/host.md` lists them.
pub const AS_NODE_EXPORTER: Flag = Flag::new(
    "collector.as-node-exporter",
    FlagKind::Switch,
    Some("false"),
    "Do as node_exporter does where skep does otherwise: containers' interfaces, no node_scrape_collector_present, and the values that it gets wrong.",
);

/// Every flag of the collectors: `collector.disable-defaults`, those of the rule for network interfaces, and for each collector its switch and its own flags.
pub fn flags() -> impl Iterator<Item = Flag> {
    let of_each = ENTRIES.iter().flat_map(|entry| std::iter::once(entry.switch).chain(entry.flags.iter().copied()));
    [DISABLE_DEFAULTS, AS_NODE_EXPORTER].into_iter().chain(interfaces::FLAGS.iter().copied()).chain(of_each)
}

/// Collectors by their names.
pub type Collectors = Vec<(&'static str, Box<dyn Collector>)>;

/// Makes the collectors that `settings` ask for, in the order of their names.
///
/// A collector runs when its switch says so; without a word about it, when it is on by default and `collector.disable-defaults` is not given.
///
/// # Errors
/// One sentence for each collector that cannot be made from its flags: the flag, the value, why it is refused and what would do.
pub fn build(settings: &Settings) -> Result<Collectors, Vec<String>> {
    let mut made = Vec::new();
    let mut refused = Vec::new();
    for entry in ENTRIES {
        if !runs(entry, settings) {
            continue;
        }
        match (entry.build)(settings) {
            Ok(collector) => made.push((entry.name, collector)),
            // What is wrong with a flag that several collectors share is told once.
            Err(why) if refused.contains(&why) => {}
            Err(why) => refused.push(why),
        }
    }
    if refused.is_empty() { Ok(made) } else { Err(refused) }
}

/// Whether a collector is asked for, by name or as one that is on by default.
fn runs(entry: &Entry, settings: &Settings) -> bool {
    match settings.one(entry.switch.name) {
        Some(switch) => switch == "true",
        None => entry.on_by_default && !settings.is_on(DISABLE_DEFAULTS.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(settings: &Settings) -> Vec<&'static str> {
        build(settings).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn entries_are_in_order_and_every_flag_has_one_name() {
        assert!(ENTRIES.is_sorted_by(|a, b| a.name < b.name));
        // A scrape's selection has 128 bits, some of which are for containers and skep itself.
        assert!(ENTRIES.len() <= 120);
        let mut known = std::collections::BTreeSet::new();
        for flag in crate::config::flags::all() {
            assert!(known.insert(flag.name), "{}", flag.name);
            for alias in flag.aliases {
                assert!(known.insert(alias), "{alias}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_outlives_disabled_defaults() {
        let mut settings = Settings::default();
        assert_eq!(names(&settings).len(), ENTRIES.iter().filter(|entry| entry.on_by_default).count());
        settings.set("collector.cpu", vec!["false".into()]);
        assert!(!names(&settings).contains(&"cpu"));
        settings.set("collector.disable-defaults", vec!["true".into()]);
        settings.set("collector.stat", vec!["true".into()]);
        assert_eq!(names(&settings), ["stat"]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut settings = Settings::default();
        settings.set("collector.vmstat.fields", vec!["(".into()]);
        settings.set("collector.filesystem.mount-timeout", vec!["soon".into()]);
        let refused = build(&settings).err().unwrap();
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused.iter().any(|why| why.starts_with("--collector.vmstat.fields=(: ")));
    }
}
