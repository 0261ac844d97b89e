//! Container metrics: the inventory's names on the cgroup's numbers, in cAdvisor's families.
//!
//! Everything is read at the scrape. Which containers there are is taken from the inventory, which never waits for this one.

pub mod disk;
mod activity;
mod connections;
mod disks;
mod extra;
mod families;
mod groups;
pub mod ledger;
mod machine;
mod network;
mod network_names;
mod open_networks;
mod states;
mod topology;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use self::activity::{Activities, is_in_root};
use self::disk::DiskTable;
use self::extra::Extra;
use self::families::Row;
pub use self::groups::Groups;
use self::ledger::Ledger;
use self::machine::Machine;
use self::network::Interface;
use self::network_names::{NetworkNames, Subnet};
pub use self::open_networks::OpenNetworks;
use crate::cgroup::extras::huge_page_sizes;
use crate::cgroup::{DeviceIo, Finder, Group, KEPT_FILES, Layout, Schedulers, Totals, Usage};
use crate::collect::{CollectError, Collector, Pass, Presence};
use crate::docker::{Container, Inventory};
use crate::host::{NetSource, Process, Reader};
use crate::logs::ContainerId;
use crate::model::{Kind, LabelSet};
use crate::swarm::identity::own_container_id;

/// After so many scrapes the limits of a container are read again, though the engine said nothing of a change.
const SCRAPES_BETWEEN_LIMITS: u32 = 100;
/// After so many scrapes the names of block devices are looked up again.
const SCRAPES_BETWEEN_DEVICES: u32 = 100;

/// What a container takes of them at most: its files, its first process, and the interfaces of that.
const DESCRIPTORS: u64 = KEPT_FILES as u64 + 2;

/// Descriptors that are left to the host's collectors, the web and the sinks.
const OTHERS: u64 = 1024;

/// What the collector may use.
#[derive(Debug, Clone, Copy)]
pub struct ContainersOptions {
    /// How many descriptors may be kept open between scrapes, at most 20 for each container, 17 where it has no quota and writes nothing; beyond it files are opened at each
    /// scrape, which takes three times as long. An open one takes 4.4 kB of the kernel's memory, which counts as the agent's: 7 MB with a hundred containers, 54 MB
    /// at the bound. Never more than is left of what the process may open without a quarter, which is for logs, and without a thousand for all else.
    pub kept_files: u64,
    /// Families that are off by default.
    pub groups: Groups,
}

impl Default for ContainersOptions {
    fn default() -> Self {
        Self { kept_files: 12_288, groups: Groups::default() }
    }
}

/// Reads the containers of the inventory and writes `container_*` and `machine_*`.
#[derive(Debug)]
pub struct ContainersCollector {
    inventory: watch::Receiver<Arc<Inventory>>,
    most_kept: u64,
    layout: Option<Arc<Layout>>,
    finder: Finder,
    /// Each in a place of its own: in the nodes of the tree, of which half are empty, it would take twice as much.
    tracked: BTreeMap<ContainerId, Box<Tracked>>,
    /// What `tracked` was made of.
    followed: Option<Arc<Inventory>>,
    root: Option<(Group, Usage)>,
    root_series: Arc<LabelSet>,
    root_interfaces: Vec<Interface>,
    machine: Machine,
    groups: Groups,
    /// The sizes that this machine has; looked up once, where they are asked for.
    huge_pages: Option<Vec<String>>,
    activities: Activities,
    /// The container that skep itself is in.
    own: Option<ContainerId>,
    devices: HashMap<(u32, u32), String>,
    scrapes: u32,
    disk: DiskTable,
    ledger: Ledger,
    networks: OpenNetworks,
}

/// A running container between two scrapes.
#[derive(Debug)]
struct Tracked {
    container: Arc<Container>,
    group: Option<Group>,
    keeps_files: bool,
    usage: Usage,
    /// The first process, when it was seen to be the container's.
    process: Option<Process>,
    /// Whether it is in the root of the cgroup namespace that skep sees, as skep's own container is in a private one.
    in_root: bool,
    interfaces: Vec<Interface>,
    network_names: NetworkNames,
    /// What the groups that are on tell; `None` where none is.
    extra: Option<Box<Extra>>,
    /// What `net/dev` said last, as a hash.
    network_told: Option<u64>,
    /// Whether the cgroup was there at this scrape.
    there: bool,
    /// What it used, and which cgroup that was.
    totals: Option<Totals>,
    /// Scrapes since the limits were read.
    limits_age: Option<u32>,
    /// It was said that its cgroup or its process is not to be found: once, for while the engine hangs nobody tells that it ended.
    told_missing: bool,
}

/// What is the same for all containers of one scrape.
struct Round<'a> {
    layout: &'a Arc<Layout>,
    schedulers: Schedulers,
    groups: Groups,
    huge_pages: &'a [String],
    own: Option<&'a ContainerId>,
    networks: &'a OpenNetworks,
}

impl ContainersCollector {
    /// A collector of the containers that `inventory` tells.
    #[must_use]
    pub fn new(inventory: watch::Receiver<Arc<Inventory>>, options: ContainersOptions) -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            inventory,
            most_kept: options.kept_files.min((allowed / 4).max((allowed - allowed / 4).saturating_sub(OTHERS))),
            layout: None,
            finder: Finder::default(),
            tracked: BTreeMap::new(),
            followed: None,
            root: None,
            root_series: Arc::new(LabelSet::of([("id", "/")])),
            root_interfaces: Vec::new(),
            machine: Machine::default(),
            groups: options.groups,
            huge_pages: None,
            activities: Activities::default(),
            own: own_container_id(),
            devices: HashMap::new(),
            scrapes: 0,
            disk: DiskTable::default(),
            ledger: Ledger::default(),
            networks: OpenNetworks::default(),
        }
    }

    /// The files that the collector keeps open of containers' networks; who starts the collector has them [follow](OpenNetworks::follow) the inventory.
    #[must_use]
    pub fn networks(&self) -> OpenNetworks {
        self.networks.clone()
    }

    /// The same collector, which tells of disk usage what the table says.
    #[must_use]
    pub fn with_disk(mut self, disk: DiskTable) -> Self {
        self.disk = disk;
        self
    }

    /// The same collector, which writes and feeds `ledger` and not one of its own.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = ledger;
        self
    }

    /// Takes over which containers run; what is gone is closed.
    fn follow(&mut self, inventory: &Arc<Inventory>) {
        if self.followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, inventory)) {
            return;
        }
        self.followed = Some(Arc::clone(inventory));
        let runs = |container: &Container| container.is_running() && !container.is_excluded;
        self.tracked.retain(|id, _| {
            let stays = inventory.containers.get(id).is_some_and(|container| runs(container));
            if !stays {
                self.networks.close(id);
            }
            stays
        });
        let tracked = &self.tracked;
        self.finder.retain(|id| ContainerId::new(id).is_some_and(|id| tracked.contains_key(&id)));
        for (id, container) in inventory.containers.iter().filter(|(_, container)| runs(container)) {
            match self.tracked.get_mut(id) {
                Some(tracked) if Arc::ptr_eq(&tracked.container, container) => {}
                Some(tracked) => tracked.change(container),
                None => drop(self.tracked.insert(id.clone(), Box::new(Tracked::new(container, self.groups)))),
            }
        }
    }

    fn read(&mut self, gateway_bridge: Option<Subnet>, pass: &mut Pass<'_>) {
        let Some(layout) = &self.layout else { return };
        if self.scrapes.is_multiple_of(SCRAPES_BETWEEN_DEVICES) {
            self.devices.clear();
        }
        let (group, usage) = self.root.get_or_insert_with(|| (Group::new(layout, Path::new(""), true), Usage::default()));
        // The root has no limits of its own, and its processes are the host's: node families tell them.
        group.read(pass.host, usage, false);
        (usage.processes, usage.threads) = (None, None);
        // v1 does not count the root's: its 0 would be a lie.
        usage.oom_kills = None;
        (usage.pressure_cpu, usage.pressure_memory, usage.pressure_io) = (None, None, None);
        if usage.oddities > 0 {
            pass.odd(&usage.example);
        }
        // What the root's cgroup counts of disks is less than what the disks do.
        disks::read(pass, &mut usage.io, &mut self.devices);
        read_root_network(&mut self.root_interfaces, pass);
        if self.groups.hugetlb && self.huge_pages.is_none() {
            self.huge_pages = Some(huge_page_sizes(pass.host));
        }
        let round = Round {
            layout,
            schedulers: usage.schedulers,
            groups: self.groups,
            huge_pages: self.huge_pages.as_deref().unwrap_or_default(),
            own: self.own.as_ref(),
            networks: &self.networks,
        };
        let mut kept = self.tracked.values().map(|tracked| tracked.descriptors()).sum::<u64>();
        self.finder.begin();
        for tracked in self.tracked.values_mut() {
            if !tracked.keeps_files && kept + DESCRIPTORS <= self.most_kept {
                kept += DESCRIPTORS;
                tracked.keeps_files = true;
                tracked.group = None;
            }
            tracked.read(&round, &mut self.finder, pass);
            tracked.name_networks(gateway_bridge, pass);
        }
        let missing = self.tracked.values().filter(|tracked| !tracked.there).count();
        if missing > 0
            && let Some(bound) = self.finder.gave_up()
        {
            pass.odd(&format_args!("the cgroup tree has more than {bound} directories: containers were not looked for in all of it"));
        }
    }

    /// Why there are no numbers at all, though there should be.
    fn failure(&self, host: &Reader) -> Option<String> {
        let base = host.root().sys.join("fs/cgroup");
        if self.layout.is_none() {
            let remedy = "in a container, mount the host's /sys with the mounts below it (bind, rslave)";
            return Some(format!("{}: no cgroup tree; {remedy}", base.display()));
        }
        let running = self.tracked.len();
        (running > 0 && self.tracked.values().all(|tracked| !tracked.there)).then(|| {
            let which = if running == 1 { "the running container has no cgroup" } else { "no running container has a cgroup" };
            format!("{}: {which} in this tree; is the engine another host's, or the tree another's than the engine's?", base.display())
        })
    }

    /// Looks up the devices that are not known by name.
    fn name_devices(&mut self, pass: &mut Pass<'_>) {
        for io in self.tracked.values().flat_map(|tracked| &tracked.usage.io) {
            let number = (io.major, io.minor);
            if self.devices.contains_key(&number) {
                continue;
            }
            let uevent = pass.host.sys(&format!("dev/block/{}:{}/uevent", io.major, io.minor));
            let name = uevent.ok().and_then(|bytes| {
                let name = crate::host::parse::lines(bytes).find_map(|line| line.strip_prefix(b"DEVNAME="))?;
                Some(format!("/dev/{}", crate::host::parse::text(name)))
            });
            if let Some(name) = name {
                self.devices.insert(number, name);
            }
        }
    }
}

impl Collector for ContainersCollector {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let inventory = self.inventory.borrow().clone();
        if self.layout.is_none() {
            self.layout = Layout::detect(pass.host).map(Arc::new);
        }
        self.follow(&inventory);
        let began = SystemTime::now();
        self.machine.read(self.groups.cpu_topology, pass);
        self.read(inventory.gateway_bridge, pass);
        if self.groups.reads_all_processes() {
            let tracked = &self.tracked;
            let own = self.own.as_ref().filter(|own| tracked.get(own).is_some_and(|tracked| tracked.in_root));
            self.activities.read(self.groups, own, |id| tracked.get(id).is_some_and(|tracked| tracked.there), pass);
        }
        self.name_devices(pass);
        self.scrapes = self.scrapes.wrapping_add(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let root = self.root.iter().map(|(_, usage)| Row {
            series: &self.root_series,
            container: None,
            usage,
            interfaces: &self.root_interfaces,
            extra: None,
            activity: None,
            machine_memory: self.machine.memory,
            now,
        });
        let containers = self.tracked.values().filter(|tracked| tracked.there).map(|tracked| Row {
            series: &tracked.container.series,
            container: Some(&tracked.container),
            usage: &tracked.usage,
            interfaces: &tracked.interfaces,
            extra: tracked.extra.as_deref(),
            activity: self.activities.get(&tracked.container.id),
            machine_memory: self.machine.memory,
            now,
        });
        let rows: Vec<Row<'_>> = root.chain(containers).collect();
        // What has no name is told by its number: an empty label would make two devices one.
        let device =
            |io: &DeviceIo| self.devices.get(&(io.major, io.minor)).cloned().unwrap_or_else(|| format!("{}:{}", io.major, io.minor));
        families::write(&rows, &device, pass);
        drop(rows);
        let living = self.tracked.iter().filter(|(_, tracked)| tracked.there);
        let killed = self.ledger.scrape(&inventory, living.filter_map(|(id, tracked)| Some((id, tracked.totals?))), began, pass);
        let told = inventory.containers.values().map(|container| &**container).filter(|container| !container.is_excluded);
        disk::write(told.clone(), &self.disk, pass);
        states::write(told, &killed, pass);
        network_names::write(self.tracked.values().map(|tracked| (&tracked.container.series, &tracked.network_names)), pass);
        self.machine.write(pass);
        let failure = self.failure(pass.host);
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        pass.out.family("container_scrape_error", Kind::Gauge, help).sample(&[], failure.is_some());
        if let Some(why) = failure {
            // What was mounted since may be another version.
            (self.layout, self.root) = (None, None);
            return Err(CollectError::Other(why));
        }
        Ok(Presence::Present)
    }
}

/// The host's interfaces, for `id="/"`: never those of the namespace that skep runs in.
fn read_root_network(interfaces: &mut Vec<Interface>, pass: &mut Pass<'_>) {
    interfaces.clear();
    match pass.host.interfaces() {
        Ok((NetSource::Host, bytes)) => {
            if network::parse(bytes, interfaces) > 0 {
                pass.odd(&"net/dev of the host has lines that cannot be understood");
            }
        }
        Ok((NetSource::Own, _)) => {}
        Err(error) if error.is_absent() => {}
        Err(error) => pass.odd(&error),
    }
}

impl Tracked {
    fn new(container: &Arc<Container>, groups: Groups) -> Self {
        Self {
            container: container.clone(),
            group: None,
            keeps_files: false,
            usage: Usage::default(),
            process: None,
            in_root: false,
            interfaces: Vec::new(),
            network_names: NetworkNames::default(),
            network_told: None,
            extra: groups.any_of_container().then(Box::default),
            there: false,
            totals: None,
            limits_age: None,
            told_missing: false,
        }
    }

    /// How many it holds, and how many it may come to hold at this scrape.
    fn descriptors(&self) -> u64 {
        match &self.group {
            Some(group) if self.keeps_files => group.open_files() as u64 + 2,
            None if self.keeps_files => DESCRIPTORS,
            _ => 1,
        }
    }

    /// Takes over another state of the same container.
    fn change(&mut self, container: &Arc<Container>) {
        if self.container.pid != container.pid || self.container.started != container.started {
            self.process = None;
            // A start makes a new cgroup, of the same name or of another.
            self.group = None;
            self.network_told = None;
        }
        self.limits_age = None;
        self.told_missing = false;
        self.container = container.clone();
    }

    /// Tells of something that is missing, once for each state of the container.
    fn missing(&mut self, what: &dyn std::fmt::Display, pass: &mut Pass<'_>) {
        if !std::mem::replace(&mut self.told_missing, true) {
            pass.odd(what);
        }
    }

    fn read(&mut self, round: &Round<'_>, finder: &mut Finder, pass: &mut Pass<'_>) {
        let limits = self.limits_age.is_none_or(|age| age >= SCRAPES_BETWEEN_LIMITS);
        self.there = self.read_group(round, finder, limits, pass);
        if !self.there {
            // It ended, and the engine has yet to say so; or it was started anew, elsewhere in the tree.
            self.group = None;
            finder.forget(self.container.id.as_str());
            self.there = self.read_group(round, finder, true, pass);
        }
        if !self.there {
            (self.group, self.process) = (None, None);
            self.forget_network(round.networks);
            let id = self.container.id.clone();
            self.missing(&format_args!("container {id:?} is running, and its cgroup is not in the tree"), pass);
            return;
        }
        // At once, for another cgroup of its name may take its place.
        self.totals = self.group.as_ref().and_then(|group| group.totals(pass.host, &self.usage));
        self.limits_age = Some(match self.limits_age {
            // Each at its own scrape, or each hundredth would be a slow one.
            None => self.container.id.as_str().bytes().take(4).map(u32::from).sum::<u32>() % SCRAPES_BETWEEN_LIMITS,
            Some(_) if limits => 0,
            Some(age) => age.saturating_add(1),
        });
        if self.usage.oddities > 0 {
            pass.odd(&self.usage.example);
        }
        if let (Some(group), Some(extra)) = (&self.group, &mut self.extra) {
            extra.clear();
            group.read_extras(pass.host, round.groups.of_cgroup(), round.huge_pages, &mut extra.cgroup);
            if extra.cgroup.oddities > 0 {
                pass.odd(&extra.cgroup.example);
            }
        }
        let own_network = self.container.has_own_network();
        let process_is_known = (own_network || round.groups.process) && self.find_process(round.own, pass);
        if process_is_known && own_network {
            self.read_network(round.networks, pass);
        } else {
            self.forget_network(round.networks);
        }
        if process_is_known && let (Some(extra), Some(process), true) = (&mut self.extra, &self.process, round.groups.reads_process()) {
            extra.read(round.groups, process, &self.container, pass);
        }
    }

    fn read_group(&mut self, round: &Round<'_>, finder: &mut Finder, limits: bool, pass: &mut Pass<'_>) -> bool {
        if self.group.is_none() {
            let path = finder.find(pass.host, round.layout, self.container.id.as_str());
            self.group = path.map(|path| Group::new(round.layout, &path, self.keeps_files));
        }
        let Some(group) = &mut self.group else { return false };
        group.read_schedulers(round.schedulers);
        group.read(pass.host, &mut self.usage, limits)
    }

    /// Whether the first process is known. The number of a process that ended may be given to another one before the engine has told the end: so the process is
    /// held by its directory, once it was seen to be in the container's cgroup.
    fn find_process(&mut self, own: Option<&ContainerId>, pass: &mut Pass<'_>) -> bool {
        let Some(pid) = self.container.pid else { return false };
        if self.process.is_none() {
            let process = match pass.host.process(pid) {
                Ok(process) => process,
                // It ended, and the engine has yet to say so; or this is not the procfs of the engine's host.
                Err(error) => {
                    let id = self.container.id.clone();
                    self.missing(&format_args!("process {pid} of container {id:?}: {error}"), pass);
                    return false;
                }
            };
            let id = self.container.id.as_str().as_bytes();
            self.in_root = false;
            match pass.host.of_process(&process, "cgroup") {
                Ok(bytes) if memchr::memmem::find(bytes, id).is_some() => self.process = Some(process),
                Ok(bytes) if own == Some(&self.container.id) && is_in_root(bytes) => (self.process, self.in_root) = (Some(process), true),
                Ok(_) => {
                    let id = self.container.id.clone();
                    self.missing(&format_args!("process {pid} is not of container {id:?} any more"), pass);
                }
                Err(error) => self.missing(&error, pass),
            }
        }
        self.process.is_some()
    }

    /// The counters of the first process' network namespace.
    fn read_network(&mut self, networks: &OpenNetworks, pass: &mut Pass<'_>) {
        let (Some(process), Some(pid)) = (&self.process, self.container.pid) else { return };
        let read = match self.keeps_files {
            true => networks.read(&self.container.id, pid, process, pass.host),
            false => pass.host.of_process(process, "net/dev"),
        };
        match read {
            Ok(bytes) => {
                let told = Some(xxh3_64(bytes));
                if self.network_told == told {
                    return;
                }
                let odd = network::parse(bytes, &mut self.interfaces);
                // What is odd is told at each scrape.
                self.network_told = told.filter(|_| odd == 0);
                if odd > 0 {
                    pass.odd(&format_args!("net/dev of container {:?} has lines that cannot be understood", self.container.id));
                }
            }
            Err(error) => {
                self.process = None;
                self.forget_network(networks);
                pass.odd(&error);
            }
        }
    }

    fn forget_network(&mut self, networks: &OpenNetworks) {
        networks.close(&self.container.id);
        self.network_told = None;
        self.interfaces.clear();
    }

    /// The names of the networks that the interfaces are in.
    fn name_networks(&mut self, gateway_bridge: Option<Subnet>, pass: &mut Pass<'_>) {
        match &self.process {
            Some(process) if !self.interfaces.is_empty() => {
                self.network_names.follow(&self.container, process, &self.interfaces, gateway_bridge, pass);
            }
            _ => self.network_names.forget(),
        }
    }
}

#[cfg(test)]
#[path = "tests/devices.rs"]
mod device_tests;
