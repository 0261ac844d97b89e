//! `node_interrupts_total` from `/proc/interrupts`: every interrupt with its count on every CPU, which on a large machine is many thousand samples.
//! Source: the kernel's `Documentation/filesystems/proc.rst`.

use std::collections::HashSet;

use super::filter::Filter;
use super::percpu::heading;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::model::{Kind, LabelSet};

const INCLUDE: Flag = Flag::new(
    "collector.interrupts.name-include",
    FlagKind::One("REGEX"),
    None,
    "Interrupts to export, by \"type;info;devices\"; contradicts collector.interrupts.name-exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.interrupts.name-exclude",
    FlagKind::One("REGEX"),
    None,
    "Interrupts to leave out, by \"type;info;devices\"; contradicts collector.interrupts.name-include.",
);
const ZEROS: Flag = Flag::new(
    "collector.interrupts.include-zeros",
    FlagKind::Switch,
    Some("true"),
    "Export also the CPUs on which an interrupt never happened.",
);

pub(super) const ENTRY: Entry = entry!("interrupts", off, &[INCLUDE, EXCLUDE, ZEROS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let zeros = settings.one(ZEROS.name) != Some("false");
    Ok(Box::new(Interrupts { filter: Filter::of(settings, &INCLUDE, &EXCLUDE)?, zeros }))
}

struct Interrupts {
    filter: Filter,
    zeros: bool,
}

impl Collector for Interrupts {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("interrupts")?;
        let mut lines = parse::lines(bytes);
        let Some(cpus) = lines.next().and_then(heading) else {
            return Err(CollectError::Other("interrupts: the first line names no CPUs".to_owned()));
        };
        let mut family = out.family("node_interrupts_total", Kind::Counter, "Interrupt details.");
        let mut seen = HashSet::new();
        for line in lines {
            let interrupt = match interrupt(line, cpus.len()) {
                Some(Found::Interrupt(interrupt)) if seen.insert(parse::text(interrupt.name)) => interrupt,
                Some(Found::Sum) => continue,
                _ => {
                    odd.line("interrupts", line);
                    continue;
                }
            };
            let (name, info, devices) = (parse::text(interrupt.name), &interrupt.info, &interrupt.devices);
            if !self.filter.keeps(format!("{name};{info};{devices}").as_bytes()) {
                continue;
            }
            let labels = LabelSet::of([("type", &*name), ("info", info), ("devices", devices)]);
            for (cpu, count) in cpus.iter().zip(interrupt.counts) {
                if count != 0 || self.zeros {
                    family.sample_of(&labels, &[("cpu", itoa::Buffer::new().format(*cpu))], count);
                }
            }
        }
        Ok(Presence::Present)
    }
}

/// What a line is.
enum Found<'a> {
    Interrupt(Interrupt<'a>),
    /// `ERR` and `MIS`: one number for the whole machine and no CPU. node_exporter leaves them out.
    Sum,
}

struct Interrupt<'a> {
    name: &'a [u8],
    counts: Vec<u64>,
    info: String,
    devices: String,
}

/// `24: 1 0 IO-APIC 5-edge ACPI:Ged`, or `NMI: 0 0 Non-maskable interrupts`: a number is followed by its controller, and that by the devices. On aarch64
/// no blank need stand behind the colon.
fn interrupt(line: &[u8], cpus: usize) -> Option<Found<'_>> {
    let (name, rest) = parse::split(line, b':')?;
    let name = parse::trimmed(name);
    let mut fields = parse::fields(rest);
    let mut counts = Vec::with_capacity(cpus);
    for field in fields.by_ref().take(cpus) {
        counts.push(parse::unsigned(field)?);
    }
    let rest: Vec<&[u8]> = fields.collect();
    if counts.len() == 1 && rest.is_empty() {
        return Some(Found::Sum);
    }
    if name.is_empty() || counts.len() < cpus || rest.is_empty() {
        return None;
    }
    let infos = if parse::unsigned(name).is_some() { 1 } else { rest.len() };
    let (info, devices) = rest.split_at_checked(infos)?;
    let joined = |words: &[&[u8]]| parse::text(&words.join(&b' ')).into_owned();
    Some(Found::Interrupt(Interrupt { name, counts, info: joined(info), devices: joined(devices) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(line: &str) -> Option<(String, Vec<u64>, String, String)> {
        match interrupt(line.as_bytes(), 2)? {
            Found::Interrupt(found) => Some((parse::text(found.name).into_owned(), found.counts, found.info, found.devices)),
            Found::Sum => None,
        }
    }

    #[test]
    fn numbers_have_devices_and_names_have_words() {
        let words = |name: &str, info: &str, devices: &str| Some((name.to_owned(), vec![1, 2], info.to_owned(), devices.to_owned()));
        assert_eq!(found(" 24:   1   2  IO-APIC   5-edge   ACPI:Ged"), words("24", "IO-APIC", "5-edge ACPI:Ged"));
        assert_eq!(found("NMI:   1   2  Non-maskable interrupts"), words("NMI", "Non-maskable interrupts", ""));
        assert_eq!(found("IPI0:1 2  Rescheduling"), words("IPI0", "Rescheduling", ""));
        assert!(matches!(interrupt(b"ERR:   0", 2), Some(Found::Sum)));
        for odd in ["24 1 2 x", "24: 1 x y", "24: 1 2", ": 1 2 x", "24: x"] {
            assert!(interrupt(odd.as_bytes(), 2).is_none(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "[A-Z0-9]{0,3}:?[ 0-9a-z]{0,20}", cpus in 0usize..4) {
            let _ = (interrupt(&line, cpus), interrupt(text.as_bytes(), cpus));
        }
    }
}
