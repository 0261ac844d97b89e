//! `node_cpu_frequency_*`, `node_cpu_scaling_*` from `/sys/devices/system/cpu/cpu*/cpufreq`: how fast the CPUs run and may run.
//! Source: the kernel's `Documentation/admin-guide/pm/cpufreq.rst`.

use std::time::Instant;

use super::cpuinfo::CpuInfo;
use super::rescan::Rescan;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, cpu, entry};
use crate::config::Settings;
use crate::host::{Reader, parse};
use crate::model::{Kind, LabelSet};

pub(super) const ENTRY: Entry = entry!("cpufreq", on, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let with_cpuinfo = super::runs(&cpu::ENTRY, settings) && CpuInfo::of(settings)?.is_some();
    Ok(Box::new(CpuFreq { with_cpuinfo, in_cpuinfo: None, rescan: Rescan::default(), cpus: Vec::new() }))
}

const DIRECTORY: &str = "devices/system/cpu";

/// The files, in kHz: file, family, help.
const FREQUENCIES: [(&str, &str, &str); 7] = [
    ("cpuinfo_cur_freq", HERTZ, "Current CPU thread frequency in hertz."),
    ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz", "Average CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
];

/// The family that the cpu collector writes too, from `/proc/cpuinfo` and with other labels.
const HERTZ: &str = "node_cpu_frequency_hertz";

struct CpuFreq {
    /// Whether the cpu collector exports `/proc/cpuinfo`.
    with_cpuinfo: bool,
    /// Whether there are frequencies in it, once that is known.
    in_cpuinfo: Option<bool>,
    rescan: Rescan,
    cpus: Vec<Cpu>,
}

/// A CPU that has frequencies. Its files are those that could be read when it was found: `cpuinfo_cur_freq` is root's alone, `cpuinfo_avg_freq` is new.
struct Cpu {
    number: u64,
    labels: LabelSet,
    files: [Option<String>; FREQUENCIES.len()],
    kilohertz: [Option<u64>; FREQUENCIES.len()],
    governor_file: String,
    governor: Vec<u8>,
    /// The governors that can be chosen.
    governors: Vec<String>,
}

impl Collector for CpuFreq {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let deadline = pass.deadline;
        let (host, out, odd) = pass.split();
        let mut names = host.sys_numbered(DIRECTORY, "cpu")?;
        let offline = attribute::bytes(host, odd, "devices/system/cpu/offline").unwrap_or_default().to_vec();
        // A CPU that comes or goes is a reason to look around.
        let devices = names.len();
        names.push(parse::text(&offline).into_owned());
        if self.rescan.is_due(names.clone()) {
            names.truncate(devices);
            self.look(&names, &offline, host, odd);
        }
        if self.cpus.is_empty() {
            return Ok(Presence::Absent);
        }
        let hertz = !self.is_in_cpuinfo(host);
        let mut read = 0;
        for cpu in &mut self.cpus {
            // Some kernels sleep 10 to 50 ms for a CPU before they answer (node_exporter issue 1086).
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                odd.tell(&format_args!("cpufreq: the scrape's time is over before cpu{}", cpu.number));
                break;
            }
            cpu.read(hertz, host, odd);
            read += 1;
        }
        let cpus = self.cpus.get(..read).unwrap_or_default();
        for (column, (_, name, help)) in FREQUENCIES.into_iter().enumerate() {
            let mut family = out.family(name, Kind::Gauge, help);
            for cpu in cpus {
                if let Some(kilohertz) = cpu.kilohertz.get(column).copied().flatten() {
                    family.sample_of(&cpu.labels, &[], kilohertz.saturating_mul(1000));
                }
            }
        }
        let mut family = out.family("node_cpu_scaling_governor", Kind::Gauge, "Current enabled CPU frequency governor.");
        for cpu in cpus.iter().filter(|cpu| !cpu.governor.is_empty()) {
            for governor in &cpu.governors {
                family.sample_of(&cpu.labels, &[("governor", governor)], governor.as_bytes() == cpu.governor);
            }
        }
        Ok(Presence::Present)
    }
}

impl CpuFreq {
    /// Whether the cpu collector writes [`HERTZ`], which must not be there twice: it does where `/proc/cpuinfo` has frequencies, as on x86 and not on Arm.
    /// node_exporter writes both.
    fn is_in_cpuinfo(&mut self, host: &mut Reader) -> bool {
        if !self.with_cpuinfo {
            return false;
        }
        if let Some(known) = self.in_cpuinfo {
            return known;
        }
        // Costly on machines with many CPUs, so it is asked once: the architecture stays.
        let Ok(cpuinfo) = host.proc("cpuinfo") else { return true };
        *self.in_cpuinfo.insert(parse::lines(cpuinfo).any(|line| line.starts_with(b"cpu MHz")))
    }

    /// Finds the CPUs that are online and have frequencies.
    fn look(&mut self, names: &[String], offline: &[u8], host: &mut Reader, odd: &mut Oddities) {
        let offline = cpu::ranges(offline).unwrap_or_else(|| {
            odd.line("cpu/offline", offline);
            Vec::new()
        });
        self.cpus.clear();
        for name in names {
            let Some(number) = name.strip_prefix("cpu").and_then(|number| parse::unsigned(number.as_bytes())) else { continue };
            let directory = format!("{DIRECTORY}/{name}/cpufreq");
            if offline.contains(&number) || !host.sys_has(&directory) {
                continue;
            }
            let files = FREQUENCIES.map(|(file, ..)| {
                let file = format!("{directory}/{file}");
                let is_there = match host.attribute(&file) {
                    Ok(_) => true,
                    Err(error) => !error.is_absent() && error.source.kind() != std::io::ErrorKind::PermissionDenied,
                };
                is_there.then_some(file)
            });
            let mut governors: Vec<String> = Vec::new();
            let available = attribute::bytes(host, odd, &format!("{directory}/scaling_available_governors")).unwrap_or_default();
            for governor in parse::fields(available).map(parse::text) {
                if !governors.iter().any(|known| *known == governor) {
                    governors.push(governor.into_owned());
                }
            }
            self.cpus.push(Cpu {
                number,
                labels: LabelSet::of([("cpu", name.strip_prefix("cpu").unwrap_or(name))]),
                files,
                kilohertz: [None; FREQUENCIES.len()],
                governor_file: format!("{directory}/scaling_governor"),
                governor: Vec::new(),
                governors,
            });
        }
    }
}

impl Cpu {
    fn read(&mut self, hertz: bool, host: &mut Reader, odd: &mut Oddities) {
        for ((file, slot), (_, name, _)) in self.files.iter().zip(&mut self.kilohertz).zip(FREQUENCIES) {
            *slot =
                file.as_ref().filter(|_| hertz || name != HERTZ).and_then(|file| attribute::parsed(host, odd, file, kilohertz).flatten());
        }
        let governor = attribute::bytes(host, odd, &self.governor_file).unwrap_or_default();
        if governor != self.governor {
            self.governor.clear();
            self.governor.extend_from_slice(governor);
            // One that the kernel does not list is the one in force all the same.
            let text = parse::text(governor);
            if !text.is_empty() && !self.governors.iter().any(|known| *known == text) {
                self.governors.push(text.into_owned());
            }
        }
    }
}

/// A frequency; `Some(None)` where the driver cannot tell: `<unknown>`.
fn kilohertz(bytes: &[u8]) -> Option<Option<u64>> {
    if bytes == b"<unknown>" {
        return Some(None);
    }
    parse::unsigned(bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frequencies() {
        assert_eq!(kilohertz(b"2400000"), Some(Some(2_400_000)));
        assert_eq!(kilohertz(b"<unknown>"), Some(None));
        assert_eq!(kilohertz(b"fast"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            kilohertz(&bytes);
        }
    }
}
