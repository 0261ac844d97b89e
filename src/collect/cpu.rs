//! `node_cpu_*`: seconds for each CPU and mode from `/proc/stat`; throttles, isolated and online CPUs from sysfs.

use std::collections::BTreeMap;

use super::cpuinfo::{self, CpuInfo};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet};

const GUEST: Flag = Flag::new(
    "collector.cpu.guest",
    FlagKind::Switch,
    Some("true"),
    "Export node_cpu_guest_seconds_total, the time spent in virtual machines; it is part of user and nice too.",
);

pub(super) const ENTRY: Entry = entry!("cpu", on, &[GUEST, cpuinfo::INFO, cpuinfo::FLAGS_INCLUDE, cpuinfo::BUGS_INCLUDE], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Cpu {
        // A switch that nobody spoke of is as its default says.
        guest: settings.one(GUEST.name) != Some("false"),
        info: CpuInfo::of(settings)?,
        cores: BTreeMap::new(),
        pass: 0,
        topology: Topology::default(),
    }))
}

/// `USER_HZ`: 100 on every architecture that Linux runs Docker on.
const TICKS_PER_SECOND: f64 = 100.0;
/// A drop of a CPU's idle time by this much, three seconds, is a CPU that went and came back.
const JUMP_BACK: u64 = 300;
/// The numbers of a line in the order of the kernel's `Documentation/filesystems/proc.rst`: these modes, then guest and guest_nice.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const NUMBERS: usize = 10;

type Ticks = [u64; NUMBERS];

struct Cpu {
    guest: bool,
    info: Option<CpuInfo>,
    cores: BTreeMap<u64, Core>,
    pass: u64,
    topology: Topology,
}

/// A CPU of `/proc/stat`.
struct Core {
    labels: LabelSet,
    ticks: Ticks,
    seen: u64,
}

impl Collector for Cpu {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("stat")?;
        self.pass += 1;
        for line in parse::lines(bytes) {
            match cpu_line(line) {
                Line::Cpu(id, ticks) => self.take(id, &ticks),
                Line::Odd => odd.line("stat", line),
                Line::Other => {}
            }
        }
        // CPUs that went offline have no line, and no series.
        self.cores.retain(|_, core| core.seen == self.pass);
        self.write(out);
        if let Some(info) = &self.info {
            info.write(host, out, odd);
        }
        self.topology.write(host, out, odd);
        Ok(Presence::Present)
    }
}

impl Cpu {
    /// Keeps what a line says. The kernel's numbers step back by a tick or two now and then (idle and iowait above all, node_exporter issues 1686 and 1903); a counter must
    /// not, so the larger number stands. A CPU whose idle time fell by seconds was unplugged and begins anew.
    fn take(&mut self, id: u64, ticks: &Ticks) {
        let core = self.cores.entry(id).or_insert_with(|| Core {
            labels: LabelSet::of([("cpu", &*id.to_string())]),
            ticks: [0; NUMBERS],
            seen: 0,
        });
        core.seen = self.pass;
        let fell = |mode: usize| core.ticks.get(mode).zip(ticks.get(mode)).map_or(0, |(old, new)| old.saturating_sub(*new));
        if fell(IDLE) >= JUMP_BACK {
            core.ticks = *ticks;
            return;
        }
        for (old, new) in core.ticks.iter_mut().zip(ticks) {
            *old = (*old).max(*new);
        }
    }

    fn write(&self, out: &mut Writer) {
        let mut family = out.family("node_cpu_seconds_total", Kind::Counter, "Seconds the CPUs spent in each mode.");
        for core in self.cores.values() {
            for (mode, ticks) in MODES.iter().zip(&core.ticks) {
                family.sample_of(&core.labels, &[("mode", mode)], *ticks as f64 / TICKS_PER_SECOND);
            }
        }
        if !self.guest {
            return;
        }
        let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
        let mut family = out.family("node_cpu_guest_seconds_total", Kind::Counter, help);
        for core in self.cores.values() {
            for (mode, ticks) in ["user", "nice"].iter().zip(core.ticks.iter().skip(MODES.len())) {
                family.sample_of(&core.labels, &[("mode", mode)], *ticks as f64 / TICKS_PER_SECOND);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Cpu(u64, Ticks),
    Odd,
    Other,
}

/// `cpu7 29098 268 10164 1139282 555 0 31 0 9 8`. The line `cpu`, without a number, is the sum. Kernels before 2.6.33 end earlier: what is not there is 0.
fn cpu_line(line: &[u8]) -> Line {
    let mut fields = parse::fields(line);
    let Some(id) = fields.next().and_then(|word| word.strip_prefix(b"cpu")) else { return Line::Other };
    if id.is_empty() {
        return Line::Other;
    }
    let Some(id) = parse::unsigned(id) else { return Line::Odd };
    let mut ticks = [0; NUMBERS];
    let mut count = 0;
    for (slot, field) in ticks.iter_mut().zip(fields) {
        let Some(number) = parse::unsigned(field) else { return Line::Odd };
        *slot = number;
        count += 1;
    }
    if count > IDLE { Line::Cpu(id, ticks) } else { Line::Odd }
}

const DIRECTORY: &str = "devices/system/cpu";

/// What sysfs says of the CPUs. Which files there are is looked up again only when a CPU comes or goes: reading four files for each of many CPUs at every
/// scrape would cost more than all the rest of this collector.
#[derive(Default)]
struct Topology {
    online: Vec<u8>,
    known: bool,
    hotplug: bool,
    cpus: Vec<(u64, LabelSet)>,
    cores: Vec<Throttle>,
    packages: Vec<Throttle>,
    isolated: Vec<u8>,
    isolated_cpus: Vec<LabelSet>,
}

/// A file that counts throttles, with its labels.
struct Throttle {
    file: String,
    labels: LabelSet,
}

impl Topology {
    fn write(&mut self, host: &mut Reader, out: &mut Writer, odd: &mut Oddities) {
        let online = host.sys("devices/system/cpu/online").unwrap_or_default();
        if !self.known || online != self.online {
            self.online.clear();
            self.online.extend_from_slice(online);
            self.look(host, odd);
        }
        write_throttles(
            &self.packages,
            host,
            out,
            "node_cpu_package_throttles_total",
            "Number of times this CPU package has been throttled.",
        );
        write_throttles(&self.cores, host, out, "node_cpu_core_throttles_total", "Number of times this CPU core has been throttled.");
        self.write_isolated(host, out, odd);
        if self.hotplug {
            let Some(online) = ranges(&self.online) else { return odd.line("cpu/online", &self.online) };
            let mut family = out.family("node_cpu_online", Kind::Gauge, "CPUs that are online and being scheduled.");
            for (id, labels) in &self.cpus {
                family.sample_of(labels, &[], online.contains(id));
            }
        }
    }

    fn write_isolated(&mut self, host: &mut Reader, out: &mut Writer, odd: &mut Oddities) {
        let isolated = host.sys("devices/system/cpu/isolated").unwrap_or_default();
        if isolated != self.isolated {
            self.isolated.clear();
            self.isolated.extend_from_slice(isolated);
            self.isolated_cpus.clear();
            match ranges(isolated) {
                Some(ids) => self.isolated_cpus.extend(ids.iter().map(|id| LabelSet::of([("cpu", &*id.to_string())]))),
                None => odd.line("cpu/isolated", isolated),
            }
        }
        let help = "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.";
        let mut family = out.family("node_cpu_isolated", Kind::Gauge, help);
        for labels in &self.isolated_cpus {
            family.sample_of(labels, &[], 1u64);
        }
    }

    /// Finds the CPUs and their files. Siblings share their core's and their package's counter, so the first that has one speaks for all.
    fn look(&mut self, host: &mut Reader, odd: &mut Oddities) {
        self.known = true;
        self.cpus.clear();
        self.cores.clear();
        self.packages.clear();
        let names = match host.sys_numbered(DIRECTORY, "cpu") {
            Ok(names) => names,
            Err(error) => {
                if !error.is_absent() {
                    odd.tell(&error);
                }
                return;
            }
        };
        // Only where CPUs can be unplugged, cpu0 among them, node_exporter tells who is online.
        self.hotplug = host.sys("devices/system/cpu/cpu0/online").is_ok();
        let mut cores: BTreeMap<(u64, u64), Throttle> = BTreeMap::new();
        let mut packages: BTreeMap<u64, Throttle> = BTreeMap::new();
        for name in names {
            if let Some(id) = name.strip_prefix("cpu").and_then(|id| parse::unsigned(id.as_bytes())) {
                self.cpus.push((id, LabelSet::of([("cpu", &*id.to_string())])));
            }
            let mut number = |file: &str| {
                let read = host.sys(&format!("{DIRECTORY}/{name}/{file}"));
                read.ok().and_then(|bytes| parse::unsigned(parse::trimmed(bytes)))
            };
            let (Some(package), Some(core)) = (number("topology/physical_package_id"), number("topology/core_id")) else { continue };
            if !cores.contains_key(&(package, core)) && number("thermal_throttle/core_throttle_count").is_some() {
                let labels = LabelSet::of([("package", &*package.to_string()), ("core", &*core.to_string())]);
                cores
                    .insert((package, core), Throttle { file: format!("{DIRECTORY}/{name}/thermal_throttle/core_throttle_count"), labels });
            }
            if !packages.contains_key(&package) && number("thermal_throttle/package_throttle_count").is_some() {
                let labels = LabelSet::of([("package", &*package.to_string())]);
                packages.insert(package, Throttle { file: format!("{DIRECTORY}/{name}/thermal_throttle/package_throttle_count"), labels });
            }
        }
        self.cores.extend(cores.into_values());
        self.packages.extend(packages.into_values());
        self.cpus.sort_unstable_by_key(|(id, _)| *id);
    }
}

fn write_throttles(throttles: &[Throttle], host: &mut Reader, out: &mut Writer, name: &str, help: &str) {
    let mut family = out.family(name, Kind::Counter, help);
    for Throttle { file, labels } in throttles {
        // A CPU that goes offline between two lines of this function takes its file along.
        if let Some(count) = host.sys(file).ok().and_then(|bytes| parse::unsigned(parse::trimmed(bytes))) {
            family.sample_of(labels, &[], count);
        }
    }
}

/// A list of CPUs as the kernel writes it: `1,3-5,9`. `None` when it is no such list, or names more than any kernel runs.
pub(super) fn ranges(list: &[u8]) -> Option<Vec<u64>> {
    const MOST: u64 = 1 << 16;
    let mut ids = Vec::new();
    for part in parse::trimmed(list).split(|byte| *byte == b',').filter(|part| !part.is_empty()) {
        let mut ends = part.splitn(2, |byte| *byte == b'-').map(parse::unsigned);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        if last >= MOST {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpu() -> Cpu {
        Cpu { guest: true, info: None, cores: BTreeMap::new(), pass: 0, topology: Topology::default() }
    }

    fn ticks(user: u64, idle: u64) -> Ticks {
        [user, 0, 0, idle, 0, 0, 0, 0, 0, 0]
    }

    #[test]
    fn counters_never_step_back() {
        let mut cpu = cpu();
        cpu.take(0, &ticks(1000, 5000));
        cpu.take(0, &ticks(999, 4701));
        assert_eq!(cpu.cores[&0].ticks, ticks(1000, 5000));
        cpu.take(0, &ticks(1001, 5001));
        assert_eq!(cpu.cores[&0].ticks, ticks(1001, 5001));
    }

    #[test]
    fn a_cpu_that_came_back_begins_anew() {
        let mut cpu = cpu();
        cpu.take(0, &ticks(1000, 5000));
        cpu.take(0, &ticks(10, 4700));
        assert_eq!(cpu.cores[&0].ticks, ticks(10, 4700));
    }

    #[test]
    fn lines() {
        assert_eq!(cpu_line(b"cpu7 1 2 3 4"), Line::Cpu(7, [1, 2, 3, 4, 0, 0, 0, 0, 0, 0]));
        assert_eq!(cpu_line(b"cpu7 1 2 3 4 5 6 7 8 9 10 11"), Line::Cpu(7, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
        assert_eq!(cpu_line(b"cpu  1 2 3 4"), Line::Other);
        assert_eq!(cpu_line(b"ctxt 1"), Line::Other);
        for odd in [&b"cpu7 1 2 3"[..], b"cpu7 1 2 3 x", b"cpux 1 2 3 4"] {
            assert_eq!(cpu_line(odd), Line::Odd);
        }
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(ranges(b"1,3-5,9\n"), Some(vec![1, 3, 4, 5, 9]));
        assert_eq!(ranges(b"\n"), Some(vec![]));
        for odd in [&b"1-"[..], b"a", b"0-99999999", b"1-2-3"] {
            assert_eq!(ranges(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (cpu_line(&bytes), ranges(&bytes));
        }
    }
}
