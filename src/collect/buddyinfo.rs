//! `node_buddyinfo_blocks` from `/proc/buddyinfo`: how many free blocks of 2^size pages each zone of memory has.
//! Source: the kernel's `Documentation/filesystems/proc.rst`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, LabelSet};

pub(super) const ENTRY: Entry = entry!("buddyinfo", off, &[], |_| Ok(Box::new(BuddyInfo)));

struct BuddyInfo;

impl Collector for BuddyInfo {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("buddyinfo")?;
        let mut family = out.family("node_buddyinfo_blocks", Kind::Gauge, "Count of free blocks according to size.");
        let mut seen = Vec::new();
        for line in parse::lines(bytes) {
            let row =
                zone(line).map(|(node, zone, sizes)| (LabelSet::of([("node", &*parse::text(node)), ("zone", &*parse::text(zone))]), sizes));
            let Some((labels, sizes)) = row.filter(|(labels, _)| !seen.contains(labels)) else {
                odd.line("buddyinfo", line);
                continue;
            };
            for (size, blocks) in sizes.into_iter().enumerate() {
                family.sample_of(&labels, &[("size", itoa::Buffer::new().format(size))], blocks);
            }
            seen.push(labels);
        }
        Ok(Presence::Present)
    }
}

/// `Node 0, zone DMA 1 0 1`: the node, the zone and the blocks of each size.
fn zone(line: &[u8]) -> Option<(&[u8], &[u8], Vec<u64>)> {
    let mut fields = parse::fields(line);
    fields.next().filter(|word| *word == b"Node")?;
    let node = fields.next()?.strip_suffix(b",")?;
    fields.next().filter(|word| *word == b"zone")?;
    let zone = fields.next()?;
    Some((node, zone, fields.map(parse::unsigned).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zone_is_a_line() {
        assert_eq!(zone(b"Node 1, zone   DMA32   7  0 2 "), Some((&b"1"[..], &b"DMA32"[..], vec![7, 0, 2])));
        for odd in [&b"Node 1 zone DMA 1"[..], b"Node 1, zone", b"Node 1, zone DMA x", b"node 1, zone DMA 1"] {
            assert_eq!(zone(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = zone(&line);
        }
    }
}
