//! `node_slabinfo_*` from `/proc/slabinfo`: the kernel's own caches. Source: slabinfo(5). The file is root's (mode 0400): for any other user this fails.

use std::collections::HashSet;

use regex::bytes::Regex;

use super::{CollectError, Collector, Entry, Pass, Presence, entry, filter};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::model::{Kind, LabelSet};
use crate::present;

const INCLUDE: Flag =
    Flag::new("collector.slabinfo.slabs-include", FlagKind::One("REGEX"), Some(".*"), "Slabs to export, of those that are not left out.");
const EXCLUDE: Flag = Flag::new("collector.slabinfo.slabs-exclude", FlagKind::One("REGEX"), None, "Slabs to leave out.");

pub(super) const ENTRY: Entry = entry!("slabinfo", off, &[INCLUDE, EXCLUDE], build);

// The two flags may be given together, as node_exporter has it for this collector.
fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(SlabInfo { include: filter::pattern(settings, &INCLUDE)?, exclude: filter::pattern(settings, &EXCLUDE)? }))
}

/// The columns behind the name, with their families.
const COLUMNS: [(&str, &str); 5] = [
    ("node_slabinfo_active_objects", "The number of objects that are currently active (i.e., in use)."),
    ("node_slabinfo_objects", "The total number of allocated objects (i.e., objects that are both in use and not in use)."),
    ("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    ("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    ("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];

struct SlabInfo {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Collector for SlabInfo {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc("slabinfo"));
        let mut seen = HashSet::new();
        let mut rows = Vec::new();
        for line in parse::lines(bytes).filter(|line| !line.starts_with(b"slabinfo - version") && !line.starts_with(b"#")) {
            let Some((name, numbers)) = slab(line).filter(|(name, _)| seen.insert(parse::text(name))) else {
                odd.line("slabinfo", line);
                continue;
            };
            let included = self.include.as_ref().is_none_or(|pattern| pattern.is_match(name));
            if included && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
                rows.push((LabelSet::of([("slab", &*parse::text(name))]), numbers));
            }
        }
        for (column, (name, help)) in COLUMNS.iter().enumerate() {
            let mut family = out.family(name, Kind::Gauge, help);
            for (labels, numbers) in &rows {
                if let Some(number) = numbers.get(column) {
                    family.sample_of(labels, &[], *number);
                }
            }
        }
        Ok(Presence::Present)
    }
}

/// `kmalloc-8192 132 148 8192 4 8 : tunables ...`: the name and the numbers before the first colon.
fn slab(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS.len()])> {
    let mut fields = parse::fields(line);
    let name = fields.next()?;
    let mut numbers = [0; COLUMNS.len()];
    for slot in &mut numbers {
        *slot = parse::unsigned(fields.next()?)?;
    }
    (fields.next() == Some(b":")).then_some((name, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slab_is_a_line() {
        let line = b"kmalloc-8k  132 148 8192 4 8 : tunables 0 0 0 : slabdata 37 37 0";
        assert_eq!(slab(line), Some((&b"kmalloc-8k"[..], [132, 148, 8192, 4, 8])));
        for odd in [&b"kmalloc 1 2 3 4 : tunables"[..], b"kmalloc 1 2 3 4 5", b"kmalloc 1 2 x 4 5 :", b""] {
            assert_eq!(slab(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = slab(&line);
        }
    }
}
