//! The machine in cAdvisor's families: `machine_*`, and `cadvisor_version_info`.

use std::collections::{BTreeMap, BTreeSet};

use super::topology::Topology;
use crate::collect::Pass;
use crate::host::parse::{fields, lines, text, trimmed, unsigned};
use crate::model::{Kind, LabelSet};

/// After so many scrapes what is soldered to the machine is looked at again: a CPU may have been switched off, a huge page reserved.
const SCRAPES_BETWEEN_LOOKS: u32 = 20;

/// The machine's identity, read once, its parts, read seldom, and its memory, read at each scrape.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    labels: Option<LabelSet>,
    versions: LabelSet,
    /// Bytes; 0 when unknown.
    pub(crate) memory: u64,
    swap: Option<u64>,
    cores: u64,
    parts: Parts,
    topology: Option<Topology>,
    age: u32,
}

/// What the machine is made of.
#[derive(Debug, Default)]
struct Parts {
    physical_cores: Option<u64>,
    sockets: Option<u64>,
    books: u64,
    drawers: u64,
    /// Count and bytes by type of module.
    dimms: BTreeMap<String, (u64, u64)>,
    /// Bytes of persistent memory that programs address themselves.
    persistent: Option<u64>,
}

impl Machine {
    /// Reads the memory, and what is not known yet; with `topology` caches, threads, nodes and huge pages too.
    pub(crate) fn read(&mut self, topology: bool, pass: &mut Pass<'_>) {
        if self.labels.is_none() {
            self.labels = Some(labels(pass));
            self.versions = versions(pass);
        }
        (self.memory, self.swap) = (0, None);
        match pass.host.proc("meminfo") {
            Ok(bytes) => {
                for line in lines(bytes) {
                    let mut fields = fields(line);
                    let (key, kibibytes) = (fields.next().unwrap_or_default(), fields.next().and_then(unsigned));
                    match (key, kibibytes) {
                        (b"MemTotal:", Some(number)) => self.memory = number.saturating_mul(1024),
                        (b"SwapTotal:", Some(number)) => self.swap = Some(number.saturating_mul(1024)),
                        _ => {}
                    }
                }
            }
            Err(error) => pass.odd(&error),
        }
        let before = std::mem::take(&mut self.cores);
        match pass.host.proc("stat") {
            Ok(bytes) => {
                let is_cpu = |line: &&[u8]| line.strip_prefix(b"cpu").and_then(|rest| rest.first()).is_some_and(u8::is_ascii_digit);
                self.cores = lines(bytes).filter(is_cpu).count() as u64;
            }
            Err(error) => pass.odd(&error),
        }
        if self.cores != before || self.age == 0 {
            self.parts = Parts::read(pass);
            self.topology = topology.then(|| Topology::read(self.memory, pass));
            self.age = SCRAPES_BETWEEN_LOOKS;
        }
        self.age -= 1;
    }

    pub(crate) fn write(&self, pass: &mut Pass<'_>) {
        let none = LabelSet::new();
        let labels = self.labels.as_ref().unwrap_or(&none);
        let parts = &self.parts;
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                pass.out.family(name, Kind::Gauge, help).sample_of(labels, &[], value);
            }
        };
        gauge("machine_cpu_cores", "Number of logical CPU cores.", Some(self.cores).filter(|cores| *cores > 0));
        gauge("machine_cpu_physical_cores", "Number of physical CPU cores.", parts.physical_cores);
        gauge("machine_cpu_sockets", "Number of CPU sockets.", parts.sockets);
        gauge("machine_cpu_books", "Number of CPU books.", parts.sockets.and(Some(parts.books)));
        gauge("machine_cpu_drawers", "Number of CPU drawers.", parts.sockets.and(Some(parts.drawers)));
        gauge("machine_memory_bytes", "Amount of memory installed on the machine.", Some(self.memory).filter(|bytes| *bytes > 0));
        gauge("machine_swap_bytes", "Amount of swap memory available on the machine.", self.swap);
        let help = "Number of RAM DIMM (all types memory modules) value labeled by dimm type.";
        let mut family = pass.out.family("machine_dimm_count", Kind::Gauge, help);
        for (kind, (count, _)) in &parts.dimms {
            family.sample_of(labels, &[("type", kind)], *count);
        }
        let help = "Total RAM DIMM capacity (all types memory modules) value labeled by dimm type.";
        let mut family = pass.out.family("machine_dimm_capacity_bytes", Kind::Gauge, help);
        for (kind, (_, bytes)) in &parts.dimms {
            family.sample_of(labels, &[("type", kind)], *bytes);
        }
        if let Some(bytes) = parts.persistent {
            let help = "NVM capacity value labeled by NVM mode (memory mode or app direct mode).";
            pass.out.family("machine_nvm_capacity", Kind::Gauge, help).sample_of(labels, &[("mode", "app_direct_mode")], bytes);
        }
        if let Some(topology) = &self.topology {
            topology.write(labels, pass);
        }
        let help = "1 if there was an error while getting machine metrics, 0 otherwise.";
        pass.out.gauge("machine_scrape_error", help, self.memory == 0 || self.cores == 0);
        let help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.";
        pass.out.family("cadvisor_version_info", Kind::Gauge, help).sample_of(&self.versions, &[], 1u64);
    }
}

impl Parts {
    fn read(pass: &mut Pass<'_>) -> Self {
        let mut parts = Self::default();
        parts.read_cpus(pass);
        parts.read_dimms(pass);
        parts.read_persistent(pass);
        parts
    }

    /// Source: `Documentation/ABI/stable/sysfs-devices-system-cpu`. A core's number is unique in its die, a die's in its package.
    fn read_cpus(&mut self, pass: &mut Pass<'_>) {
        let (mut cores, mut sockets, mut books, mut drawers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for cpu in pass.host.sys_numbered("devices/system/cpu", "cpu").unwrap_or_default() {
            let mut number = |file: &str| unsigned_attribute(&format!("devices/system/cpu/{cpu}/topology/{file}"), pass);
            // One that is offline has none.
            let (Some(package), Some(core)) = (number("physical_package_id"), number("core_id")) else { continue };
            cores.insert((package, number("die_id"), core));
            sockets.insert(package);
            books.extend(number("book_id"));
            drawers.extend(number("drawer_id"));
        }
        self.physical_cores = (!cores.is_empty()).then_some(cores.len() as u64);
        self.sockets = (!sockets.is_empty()).then_some(sockets.len() as u64);
        (self.books, self.drawers) = (books.len() as u64, drawers.len() as u64);
    }

    /// Source: `Documentation/ABI/testing/sysfs-devices-edac`. Sizes are in mebibytes.
    fn read_dimms(&mut self, pass: &mut Pass<'_>) {
        const DIRECTORY: &str = "devices/system/edac/mc";
        for controller in pass.host.sys_numbered(DIRECTORY, "mc").unwrap_or_default() {
            for dimm in pass.host.sys_numbered(&format!("{DIRECTORY}/{controller}"), "dimm").unwrap_or_default() {
                let of = |file: &str| format!("{DIRECTORY}/{controller}/{dimm}/{file}");
                let Some(mebibytes) = unsigned_attribute(&of("size"), pass) else { continue };
                let Ok(kind) = pass.host.attribute(&of("dimm_mem_type")).map(|kind| text(kind).into_owned()) else { continue };
                let (count, bytes) = self.dimms.entry(kind).or_default();
                *count += 1;
                *bytes = bytes.saturating_add(mebibytes.saturating_mul(1 << 20));
            }
        }
    }

    /// Source: `Documentation/driver-api/nvdimm/nvdimm.rst`. What serves as plain memory is not among the regions.
    fn read_persistent(&mut self, pass: &mut Pass<'_>) {
        for region in pass.host.sys_numbered("bus/nd/devices", "region").unwrap_or_default() {
            let of = |file: &str| format!("bus/nd/devices/{region}/{file}");
            let is_memory = pass.host.sys(&of("uevent")).is_ok_and(|bytes| lines(bytes).any(|line| line == b"DEVTYPE=nd_pmem"));
            if let Some(bytes) = unsigned_attribute(&of("size"), pass).filter(|_| is_memory) {
                self.persistent = Some(self.persistent.unwrap_or_default().saturating_add(bytes));
            }
        }
    }
}

/// An attribute of sysfs that is a number; `None` also where it is something else, as -1 for what a machine does not know of itself.
pub(super) fn unsigned_attribute(path: &str, pass: &mut Pass<'_>) -> Option<u64> {
    pass.host.attribute(path).ok().and_then(unsigned)
}

fn labels(pass: &mut Pass<'_>) -> LabelSet {
    let word = |bytes: &[u8]| text(trimmed(bytes)).into_owned();
    let machine = pass.host.rootfs("etc/machine-id").map(word).unwrap_or_default();
    let system = pass.host.sys("class/dmi/id/product_uuid").map(word).unwrap_or_default();
    let boot = pass.host.proc("sys/kernel/random/boot_id").map(word).unwrap_or_default();
    LabelSet::of([("boot_id", &*boot), ("machine_id", &*machine), ("system_uuid", &*system)])
}

/// `dockerVersion` is empty, as cAdvisor's has been for years: the engine may be updated, and this says what started with skep.
fn versions(pass: &mut Pass<'_>) -> LabelSet {
    let kernel = pass.host.proc("sys/kernel/osrelease").map(|bytes| text(trimmed(bytes)).into_owned()).unwrap_or_default();
    let mut system = String::new();
    for file in ["etc/os-release", "usr/lib/os-release"] {
        let Ok(bytes) = pass.host.rootfs(file) else { continue };
        let name = lines(bytes).find_map(|line| line.strip_prefix(b"PRETTY_NAME="));
        system = name.map(|name| text(name).trim_matches(['"', '\'']).to_owned()).unwrap_or_default();
        break;
    }
    let version = concat!("skep ", env!("CARGO_PKG_VERSION"));
    LabelSet::of([
        ("cadvisorRevision", ""),
        ("cadvisorVersion", version),
        ("dockerVersion", ""),
        ("kernelVersion", &kernel),
        ("osVersion", &system),
    ])
}
