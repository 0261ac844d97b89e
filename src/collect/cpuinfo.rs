//! `node_cpu_info` and what goes with it, from `/proc/cpuinfo`. Off by default: the file is costly on machines with many CPUs.
//! Source: the kernel's `arch/x86/kernel/cpu/proc.c`; other architectures have other keys, and most of these labels empty.

use std::collections::BTreeSet;

use regex::bytes::Regex;

use super::{Oddities, filter};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::{Family, Writer};
use crate::host::{Reader, parse};
use crate::model::Kind;

pub(super) const INFO: Flag =
    Flag::new("collector.cpu.info", FlagKind::Switch, Some("false"), "Export node_cpu_info and the frequencies of /proc/cpuinfo.");
pub(super) const FLAGS_INCLUDE: Flag = Flag::new(
    "collector.cpu.info.flags-include",
    FlagKind::One("REGEX"),
    None,
    "Flags of the first CPU to export as node_cpu_flag_info; switches collector.cpu.info on.",
);
pub(super) const BUGS_INCLUDE: Flag = Flag::new(
    "collector.cpu.info.bugs-include",
    FlagKind::One("REGEX"),
    None,
    "Bugs of the first CPU to export as node_cpu_bug_info; switches collector.cpu.info on.",
);

/// What of `/proc/cpuinfo` is exported.
pub(super) struct CpuInfo {
    flags: Option<Regex>,
    bugs: Option<Regex>,
}

impl CpuInfo {
    /// By the settings; `None` when nothing of it is asked for.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, String> {
        let (flags, bugs) = (filter::pattern(settings, &FLAGS_INCLUDE)?, filter::pattern(settings, &BUGS_INCLUDE)?);
        let asked = settings.is_on(INFO.name) || flags.is_some() || bugs.is_some();
        Ok(asked.then_some(Self { flags, bugs }))
    }

    pub(super) fn write(&self, host: &mut Reader, out: &mut Writer, odd: &mut Oddities) {
        let bytes = match host.proc("cpuinfo") {
            Ok(bytes) => bytes,
            Err(error) => {
                odd.unless_absent(&error);
                return;
            }
        };
        let cpus = cpus(bytes);
        let mut family = out.family("node_cpu_info", Kind::Gauge, "CPU information from /proc/cpuinfo.");
        for cpu in &cpus {
            let labels = LABELS.map(|(label, key)| (label, cpu.get(key)));
            let texts = labels.map(|(label, bytes)| (label, parse::text(bytes)));
            let pairs = texts.each_ref().map(|(label, text)| (*label, &**text));
            family.sample(&pairs, 1u64);
        }
        let mut family = out.family("node_cpu_frequency_hertz", Kind::Gauge, "CPU frequency in hertz from /proc/cpuinfo.");
        for cpu in &cpus {
            let Some(megahertz) = parse::float(cpu.get(b"cpu MHz")) else { continue };
            let [package, core, processor] =
                [cpu.get(b"physical id"), cpu.get(b"core id"), cpu.get(b"processor")].map(|bytes| parse::text(bytes));
            family.sample(&[("package", &package), ("core", &core), ("cpu", &processor)], megahertz * 1e6);
        }
        let Some(first) = cpus.first() else { return };
        let help = "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.";
        write_words(self.flags.as_ref(), first.get(b"flags"), &mut out.family("node_cpu_flag_info", Kind::Gauge, help), "flag");
        let help = "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.";
        write_words(self.bugs.as_ref(), first.get(b"bugs"), &mut out.family("node_cpu_bug_info", Kind::Gauge, help), "bug");
    }
}

/// The words of a list that `wanted` matches, each once; none without a pattern.
fn write_words(wanted: Option<&Regex>, list: &[u8], family: &mut Family<'_>, label: &str) {
    let Some(wanted) = wanted else { return };
    let words: BTreeSet<&[u8]> = parse::fields(list).filter(|word| wanted.is_match(word)).collect();
    for word in words {
        family.sample(&[(label, &parse::text(word))], 1u64);
    }
}

/// The labels of `node_cpu_info`, each with its key in the file (x86's words).
const LABELS: [(&str, &[u8]); 10] = [
    ("package", b"physical id"),
    ("core", b"core id"),
    ("cpu", b"processor"),
    ("vendor", b"vendor_id"),
    ("family", b"cpu family"),
    ("model", b"model"),
    ("model_name", b"model name"),
    ("microcode", b"microcode"),
    ("stepping", b"stepping"),
    ("cachesize", b"cache size"),
];

/// The fields of one CPU.
struct Block<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Block<'a> {
    /// The value of a key, empty where it is missing.
    fn get(&self, key: &[u8]) -> &'a [u8] {
        self.0.iter().find(|(known, _)| *known == key).map_or(b"", |(_, value)| value)
    }
}

/// The CPUs: a line `processor : N` begins each. One number twice is one CPU.
fn cpus(bytes: &[u8]) -> Vec<Block<'_>> {
    let mut cpus: Vec<Block<'_>> = Vec::new();
    for line in parse::lines(bytes) {
        let Some((key, value)) = parse::split(line, b':') else { continue };
        let (key, value) = (parse::trimmed(key), parse::trimmed(value));
        if key == b"processor" {
            cpus.push(Block(Vec::with_capacity(32)));
        }
        if let Some(Block(fields)) = cpus.last_mut() {
            fields.push((key, value));
        }
    }
    let mut known = BTreeSet::new();
    cpus.retain(|cpu| known.insert(cpu.get(b"processor")));
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_begin_with_their_processor() {
        let found = cpus(b"processor\t: 0\nmodel name\t: A: B\n\nprocessor\t: 1\nflags\t\t: a b\n\nprocessor: 1\n\nrest: x\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get(b"model name"), b"A: B");
        assert_eq!(found[1].get(b"flags"), b"a b");
        assert_eq!(found[1].get(b"model name"), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            cpus(&bytes);
        }
    }
}
