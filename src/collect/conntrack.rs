//! `node_nf_conntrack_*`: how full the table of tracked connections is, and what became of packets.
//!
//! `net/stat/nf_conntrack` belongs to a namespace and has its number of entries in the first column, on every CPU's line the same. `/proc/sys/net` shows the
//! namespace of the process that reads it, whatever tree it is read through: `nf_conntrack_count` there is 0 in every container that has no connections
//! (node_exporter issue 2264), so it is used only where the other file is of that namespace, too. The limit is one number for all namespaces
//! (`nf_conntrack_max` in `net/netfilter/nf_conntrack_core.c`) and may be read in any.

use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::host::{NetSource, parse};
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("conntrack", on, &[], |_| Ok(Box::new(Conntrack)));

struct Conntrack;

/// The columns by their headings (`net/netfilter/nf_conntrack_standalone.c`), with their families.
const COLUMNS: [(&[u8], &str, &str); 8] = [
    (b"found", "node_nf_conntrack_stat_found", "Number of searched entries which were successful."),
    (b"invalid", "node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."),
    (b"ignore", "node_nf_conntrack_stat_ignore", "Number of packets seen which are already connected to a conntrack entry."),
    (b"insert", "node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    (b"insert_failed", "node_nf_conntrack_stat_insert_failed", "Number of entries for which list insertion was attempted but failed."),
    (b"drop", "node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."),
    (
        b"early_drop",
        "node_nf_conntrack_stat_early_drop",
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
    ),
    (
        b"search_restart",
        "node_nf_conntrack_stat_search_restart",
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];

impl Collector for Conntrack {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (source, bytes) = present!(host.net("stat/nf_conntrack"));
        let (mut entries, sums) = sums(bytes, |line| odd.line("net/stat/nf_conntrack", line));
        if source == NetSource::Own {
            entries = attribute::of_proc(host, odd, "sys/net/netfilter/nf_conntrack_count").or(entries);
        }
        let limit = attribute::of_proc(host, odd, "sys/net/netfilter/nf_conntrack_max");
        if let Some(entries) = entries {
            out.gauge("node_nf_conntrack_entries", "Number of currently allocated flow entries for connection tracking.", entries);
        }
        if let Some(limit) = limit {
            out.gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.", limit);
        }
        // Counters, which node_exporter calls gauges: the type is the interface.
        for ((_, name, help), sum) in COLUMNS.iter().zip(sums) {
            if let Some(sum) = sum {
                out.family(name, Kind::Gauge, help).sample(&[], sum);
            }
        }
        Ok(Presence::Present)
    }
}

/// The number of entries, and the sums of the columns over all CPUs; `None` for a column that this kernel does not have.
fn sums(bytes: &[u8], mut odd: impl FnMut(&[u8])) -> (Option<u64>, [Option<u64>; COLUMNS.len()]) {
    let mut lines = parse::lines(bytes);
    let head = lines.next().unwrap_or_default();
    let places = COLUMNS.map(|(heading, ..)| parse::fields(head).position(|field| field == heading));
    let columns = parse::fields(head).count();
    let (mut entries, mut sums) = (None, [None; COLUMNS.len()]);
    let mut numbers: Vec<u64> = Vec::with_capacity(columns);
    for line in lines {
        numbers.clear();
        numbers.extend(parse::fields(line).map_while(parse::hexadecimal));
        if numbers.len() != columns || parse::fields(line).count() != columns {
            odd(line);
            continue;
        }
        entries = numbers.first().copied().or(entries);
        for (sum, place) in sums.iter_mut().zip(places) {
            if let Some(number) = place.and_then(|place| numbers.get(place)) {
                *sum = Some(sum.unwrap_or(0u64).wrapping_add(*number));
            }
        }
    }
    (entries, sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_found_by_their_headings() {
        let bytes =
            b"entries  clashres found new drop\n0000000a  00000000 00000001 00000000 00000010\n0000000a  0 2 0 1\n0000000a  0 2 0\nodd\n";
        let mut odd = 0;
        let (entries, sums) = sums(bytes, |_| odd += 1);
        assert_eq!((entries, odd), (Some(10), 2));
        assert_eq!(sums, [Some(3), None, None, None, None, Some(17), None, None]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = sums(&bytes, |_| {});
        }
    }
}
