//! `node_zoneinfo_*` from `/proc/zoneinfo`: the pages of each zone of each node. What the kernel tells once for a node stands at the node's first zone.
//! Sources: the kernel's `Documentation/admin-guide/sysctl/vm.rst` and `mm/vmstat.c`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind::{self, Counter, Gauge};

pub(super) const ENTRY: Entry = entry!("zoneinfo", off, &[], |_| Ok(Box::new(ZoneInfo)));

struct ZoneInfo;

/// The words of the file with their families. What has another word is not exported.
const FAMILIES: [(&[u8], &str, Kind, &str); 34] = [
    (b"nr_free_pages", "node_zoneinfo_nr_free_pages", Gauge, "Total number of free pages in the zone"),
    (b"min", "node_zoneinfo_min_pages", Gauge, "Zone watermark pages_min"),
    (b"low", "node_zoneinfo_low_pages", Gauge, "Zone watermark pages_low"),
    (b"high", "node_zoneinfo_high_pages", Gauge, "Zone watermark pages_high"),
    (b"scanned", "node_zoneinfo_scanned_pages", Gauge, "Pages scanned since last reclaim"),
    (b"spanned", "node_zoneinfo_spanned_pages", Gauge, "Total pages spanned by the zone, including holes"),
    (b"present", "node_zoneinfo_present_pages", Gauge, "Physical pages existing within the zone"),
    (b"managed", "node_zoneinfo_managed_pages", Gauge, "Present pages managed by the buddy system"),
    (b"nr_active_anon", "node_zoneinfo_nr_active_anon_pages", Gauge, "Number of anonymous pages recently more used"),
    (b"nr_inactive_anon", "node_zoneinfo_nr_inactive_anon_pages", Gauge, "Number of anonymous pages recently less used"),
    (b"nr_isolated_anon", "node_zoneinfo_nr_isolated_anon_pages", Gauge, "Temporary isolated pages from anon lru"),
    (b"nr_anon_pages", "node_zoneinfo_nr_anon_pages", Gauge, "Number of anonymous pages currently used by the system"),
    (
        b"nr_anon_transparent_hugepages",
        "node_zoneinfo_nr_anon_transparent_hugepages",
        Gauge,
        "Number of anonymous transparent huge pages currently used by the system",
    ),
    (b"nr_active_file", "node_zoneinfo_nr_active_file_pages", Gauge, "Number of active pages with file-backing"),
    (b"nr_inactive_file", "node_zoneinfo_nr_inactive_file_pages", Gauge, "Number of inactive pages with file-backing"),
    (b"nr_isolated_file", "node_zoneinfo_nr_isolated_file_pages", Gauge, "Temporary isolated pages from file lru"),
    (b"nr_file_pages", "node_zoneinfo_nr_file_pages", Gauge, "Number of file pages"),
    (b"nr_slab_reclaimable", "node_zoneinfo_nr_slab_reclaimable_pages", Gauge, "Number of reclaimable slab pages"),
    (b"nr_slab_unreclaimable", "node_zoneinfo_nr_slab_unreclaimable_pages", Gauge, "Number of unreclaimable slab pages"),
    (b"nr_mlock_stack", "node_zoneinfo_nr_mlock_stack_pages", Gauge, "mlock()ed pages found and moved off LRU"),
    (b"nr_kernel_stack", "node_zoneinfo_nr_kernel_stacks", Gauge, "Number of kernel stacks"),
    (b"nr_mapped", "node_zoneinfo_nr_mapped_pages", Gauge, "Number of mapped pages"),
    (b"nr_dirty", "node_zoneinfo_nr_dirty_pages", Gauge, "Number of dirty pages"),
    (b"nr_writeback", "node_zoneinfo_nr_writeback_pages", Gauge, "Number of writeback pages"),
    (b"nr_unevictable", "node_zoneinfo_nr_unevictable_pages", Gauge, "Number of unevictable pages"),
    (b"nr_shmem", "node_zoneinfo_nr_shmem_pages", Gauge, "Number of shmem pages (included tmpfs/GEM pages)"),
    (b"nr_dirtied", "node_zoneinfo_nr_dirtied_total", Counter, "Page dirtyings since bootup"),
    (b"nr_written", "node_zoneinfo_nr_written_total", Counter, "Page writings since bootup"),
    (b"numa_hit", "node_zoneinfo_numa_hit_total", Counter, "Allocated in intended node"),
    (b"numa_miss", "node_zoneinfo_numa_miss_total", Counter, "Allocated in non intended node"),
    (b"numa_foreign", "node_zoneinfo_numa_foreign_total", Counter, "Was intended here, hit elsewhere"),
    (b"numa_interleave", "node_zoneinfo_numa_interleave_total", Counter, "Interleaver preferred this zone"),
    (b"numa_local", "node_zoneinfo_numa_local_total", Counter, "Allocation from local node"),
    (b"numa_other", "node_zoneinfo_numa_other_total", Counter, "Allocation from other node"),
];

/// More zones than any kernel has at the back of `protection` (`MAX_NR_ZONES` is 6 at most).
const MOST_ZONES: usize = 16;

impl Collector for ZoneInfo {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("zoneinfo")?;
        let mut families = Families::default();
        let mut current = None;
        for line in parse::lines(bytes) {
            if line.starts_with(b"Node") {
                current = zone(line).map(|(node, zone)| (parse::text(node), parse::text(zone)));
                if current.is_none() {
                    odd.line("zoneinfo", line);
                }
                continue;
            }
            // What follows a heading that cannot be understood is nobody's.
            let Some((node, zone)) = &current else { continue };
            let labels = [("node", &**node), ("zone", &**zone)];
            let mut fields = parse::fields(line);
            let Some(word) = fields.next() else { continue };
            let added = if let Some((_, name, kind, help)) = FAMILIES.iter().find(|(known, ..)| *known == word) {
                number(fields.next()).is_some_and(|pages| families.add(name, *kind, help, &labels, pages))
            } else if word == b"protection:" {
                protection(line).is_some_and(|pages| {
                    pages.into_iter().enumerate().all(|(index, pages)| {
                        let (name, help) = (format!("node_zoneinfo_protection_{index}"), format!("Protection array {index}. field"));
                        families.gauge(&name, &help, &labels, pages)
                    })
                })
            } else {
                true
            };
            if !added {
                odd.line("zoneinfo", line);
            }
        }
        families.write(out);
        Ok(Presence::Present)
    }
}

/// `Node 0, zone DMA32`.
fn zone(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = parse::fields(line);
    fields.next().filter(|word| *word == b"Node")?;
    let node = fields.next()?.strip_suffix(b",")?;
    fields.next().filter(|word| *word == b"zone")?;
    Some((node, fields.next()?))
}

/// `protection: (0, 3017, 24088)`: how many pages are kept from those who could as well take them from a higher zone.
fn protection(line: &[u8]) -> Option<Vec<i64>> {
    let (_, rest) = parse::split(line, b'(')?;
    let (list, _) = parse::split(rest, b')')?;
    let pages: Vec<i64> = list.split(|byte| *byte == b',').map(|pages| parse::signed(parse::trimmed(pages))).collect::<Option<_>>()?;
    (pages.len() <= MOST_ZONES).then_some(pages)
}

/// Some of the numbers are differences of what each CPU has counted, and may be below zero for a moment.
fn number(field: Option<&[u8]>) -> Option<i64> {
    parse::signed(field?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zones_and_their_protection() {
        assert_eq!(zone(b"Node 0, zone    DMA32"), Some((&b"0"[..], &b"DMA32"[..])));
        assert_eq!(protection(b"        protection: (0, 3017, 24088)"), Some(vec![0, 3017, 24088]));
        for odd in [&b"Node 0 zone DMA"[..], b"Node 0, zone", b"Nodes 0, zone DMA"] {
            assert_eq!(zone(odd), None);
        }
        for odd in [&b"protection: 0, 1"[..], b"protection: (0, x)", b"protection: (", b"protection: ()"] {
            assert_eq!(protection(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, text in "protection: [(), 0-9]{0,20}") {
            let _ = (zone(&line), protection(&line), protection(text.as_bytes()));
        }
    }
}
