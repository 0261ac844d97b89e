//! How the machine's CPUs, caches and memory belong together: the group `cpu_topology`.
//!
//! Source: `Documentation/ABI/stable/sysfs-devices-system-cpu`, `Documentation/ABI/stable/sysfs-devices-node` and
//! `Documentation/ABI/testing/sysfs-devices-system-cpu` of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::unsigned_attribute;
use crate::collect::Pass;
use crate::host::parse::{fields, lines, text, unsigned};
use crate::model::{Kind, LabelSet};

const CPUS: &str = "devices/system/cpu";
const NODES: &str = "devices/system/node";

/// What was found, by the labels of its samples.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// Bytes by node, core, type, level; of a cache of the whole node the core is empty.
    caches: BTreeMap<(u64, String, String, u64), u64>,
    /// How many threads the core has, by node, core, thread.
    siblings: BTreeMap<(u64, u64, u64), u64>,
    /// Bytes by node.
    memory: BTreeMap<u64, u64>,
    /// Pages by node and size in kibibytes.
    huge_pages: BTreeMap<(u64, u64), u64>,
    /// By node and target.
    distances: BTreeMap<(u64, u64), u64>,
}

/// A CPU that is online.
struct Cpu {
    name: String,
    number: u64,
    node: u64,
    package: u64,
    core: u64,
}

impl Topology {
    /// Reads all of it; `memory` is what the one node has of a kernel that knows no nodes.
    pub(crate) fn read(memory: u64, pass: &mut Pass<'_>) -> Self {
        let mut topology = Self::default();
        let cpus = online(pass);
        for cpu in &cpus {
            let threads = cpus.iter().filter(|other| (other.node, other.package, other.core) == (cpu.node, cpu.package, cpu.core));
            topology.siblings.insert((cpu.node, cpu.core, cpu.number), threads.count() as u64);
            topology.read_caches(cpu, &cpus, pass);
        }
        topology.read_nodes(memory, pass);
        topology
    }

    fn read_caches(&mut self, cpu: &Cpu, cpus: &[Cpu], pass: &mut Pass<'_>) {
        let directory = format!("{CPUS}/{}/cache", cpu.name);
        for index in pass.host.sys_numbered(&directory, "index").unwrap_or_default() {
            let of = |file: &str| format!("{directory}/{index}/{file}");
            let Some(level) = unsigned_attribute(&of("level"), pass) else { continue };
            let Some(bytes) = pass.host.attribute(&of("size")).ok().and_then(size) else { continue };
            let Ok(kind) = pass.host.attribute(&of("type")).map(|kind| text(kind).into_owned()) else { continue };
            let shared = pass.host.attribute(&of("shared_cpu_list")).map(list).unwrap_or_default();
            let mut of_node = cpus.iter().filter(|other| other.node == cpu.node);
            let is_one_core = cpus.iter().filter(|other| shared.contains(&other.number)).all(|other| other.core == cpu.core);
            let core =
                if !is_one_core && of_node.all(|other| shared.contains(&other.number)) { String::new() } else { cpu.core.to_string() };
            self.caches.entry((cpu.node, core, kind, level)).or_insert(bytes);
        }
    }

    fn read_nodes(&mut self, memory: u64, pass: &mut Pass<'_>) {
        let names = pass.host.sys_numbered(NODES, "node").unwrap_or_default();
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| unsigned(name.strip_prefix("node")?.as_bytes())).collect();
        numbers.sort_unstable();
        if numbers.is_empty() {
            self.memory.insert(0, memory);
        }
        for node in &numbers {
            let directory = format!("{NODES}/node{node}");
            if let Ok(bytes) = pass.host.sys(&format!("{directory}/meminfo")) {
                // `Node 0 MemTotal:       16374584 kB`
                let total = lines(bytes).find_map(|line| {
                    let mut fields = fields(line).skip(2);
                    fields.next().filter(|key| *key == b"MemTotal:").and(fields.next()).and_then(unsigned)
                });
                self.memory.extend(total.map(|kibibytes| (*node, kibibytes.saturating_mul(1024))));
            }
            for pages in pass.host.sys_numbered(&format!("{directory}/hugepages"), "hugepages-").unwrap_or_default() {
                let kibibytes = pages.strip_prefix("hugepages-").and_then(|rest| unsigned(rest.strip_suffix("kB")?.as_bytes()));
                let count = unsigned_attribute(&format!("{directory}/hugepages/{pages}/nr_hugepages"), pass);
                self.huge_pages.extend(kibibytes.zip(count).map(|(size, count)| ((*node, size), count)));
            }
            // A number for each node that is online, in their order.
            if let Ok(bytes) = pass.host.attribute(&format!("{directory}/distance")) {
                let distances = fields(bytes).map(unsigned);
                self.distances.extend(numbers.iter().zip(distances).filter_map(|(target, distance)| Some(((*node, *target), distance?))));
            }
        }
    }

    /// Writes its families.
    pub(crate) fn write(&self, machine: &LabelSet, pass: &mut Pass<'_>) {
        let text = |number: &u64| number.to_string();
        let help = "Cache size in bytes assigned to NUMA node and CPU core.";
        let mut family = pass.out.family("machine_cpu_cache_capacity_bytes", Kind::Gauge, help);
        for ((node, core, kind, level), bytes) in &self.caches {
            family.sample_of(machine, &[("core_id", core), ("level", &text(level)), ("node_id", &text(node)), ("type", kind)], *bytes);
        }
        let mut family = pass.out.family("machine_thread_siblings_count", Kind::Gauge, "Number of CPU thread siblings.");
        for ((node, core, thread), count) in &self.siblings {
            family.sample_of(machine, &[("core_id", &text(core)), ("node_id", &text(node)), ("thread_id", &text(thread))], *count);
        }
        let help = "Amount of memory assigned to NUMA node.";
        let mut family = pass.out.family("machine_node_memory_capacity_bytes", Kind::Gauge, help);
        for (node, bytes) in &self.memory {
            family.sample_of(machine, &[("node_id", &text(node))], *bytes);
        }
        // cAdvisor's spelling.
        let help = "Numer of hugepages assigned to NUMA node.";
        let mut family = pass.out.family("machine_node_hugepages_count", Kind::Gauge, help);
        for ((node, size), count) in &self.huge_pages {
            family.sample_of(machine, &[("node_id", &text(node)), ("page_size", &text(size))], *count);
        }
        let help = "Distance between NUMA node and target NUMA node.";
        let mut family = pass.out.family("machine_node_distance", Kind::Gauge, help);
        for ((node, target), distance) in &self.distances {
            family.sample_of(machine, &[("node_id", &text(node)), ("target_node_id", &text(target))], *distance);
        }
    }
}

fn online(pass: &mut Pass<'_>) -> Vec<Cpu> {
    let mut cpus = Vec::new();
    for name in pass.host.sys_numbered(CPUS, "cpu").unwrap_or_default() {
        let Some(number) = name.strip_prefix("cpu").and_then(|digits| unsigned(digits.as_bytes())) else { continue };
        let mut topology = |file: &str| unsigned_attribute(&format!("{CPUS}/{name}/topology/{file}"), pass);
        let (Some(package), Some(core)) = (topology("physical_package_id"), topology("core_id")) else { continue };
        let nodes = pass.host.sys_numbered(&format!("{CPUS}/{name}"), "node").unwrap_or_default();
        let node = nodes.first().and_then(|node| unsigned(node.strip_prefix("node")?.as_bytes())).unwrap_or_default();
        cpus.push(Cpu { name, number, node, package, core });
    }
    cpus
}

/// `32K`, `1024K`, `36M`, in bytes.
fn size(field: &[u8]) -> Option<u64> {
    let (unit, digits) = field.split_last()?;
    let factor: u64 = match unit {
        b'K' => 1 << 10,
        b'M' => 1 << 20,
        b'G' => 1 << 30,
        _ => return unsigned(field),
    };
    unsigned(digits)?.checked_mul(factor)
}

/// `0-3,8`. What is longer than any machine is cut.
fn list(field: &[u8]) -> BTreeSet<u64> {
    const MOST: u64 = 1 << 16;
    let mut found = BTreeSet::new();
    for part in field.split(|byte| *byte == b',') {
        let (first, last) = crate::host::parse::split(part, b'-').unwrap_or((part, part));
        if let (Some(first), Some(last)) = (unsigned(first), unsigned(last)) {
            found.extend(first.min(MOST)..=last.min(MOST));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists() {
        assert_eq!(
            (size(b"32K"), size(b"36M"), size(b"512"), size(b"K"), size(b"")),
            (Some(32_768), Some(37_748_736), Some(512), None, None)
        );
        assert_eq!(list(b"0-2,8"), BTreeSet::from([0, 1, 2, 8]));
        assert_eq!((list(b""), list(b"3-1,x")), (BTreeSet::new(), BTreeSet::new()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>, text in "[0-9,-]{0,24}") {
            size(&bytes);
            list(&bytes);
            proptest::prop_assert!(list(text.as_bytes()).len() <= (1 << 16) + 1);
        }
    }
}
