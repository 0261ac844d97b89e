//! `node_lnstat_*_total` from the host's `net/stat/*`: the caches of the network layer (neighbours, connection tracking), a line for each CPU.
//! Source: the kernel's `net/core/neighbour.c` and `net/netfilter/nf_conntrack_standalone.c`.

use std::collections::BTreeMap;

use super::names::is_part;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::host::{ReadError, parse};
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("lnstat", off, &[], |_| Ok(Box::new(LnStat)));

struct LnStat;

/// A number, with the index of its file and of its line.
type Sample = (usize, usize, u64);

/// More columns than all these files have.
const MOST_COLUMNS: usize = 256;

impl Collector for LnStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = match host.proc_names("1/net/stat") {
            Err(_) => host.proc_names("net/stat"),
            names => names,
        };
        let files = present!(names);
        let mut columns: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        let mut failure: Option<ReadError> = None;
        for (index, file) in files.iter().enumerate() {
            match host.net(&format!("stat/{file}")) {
                Ok((_, bytes)) => read(bytes, file, index, &mut columns, odd),
                Err(error) if error.is_absent() => {}
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                }
            }
        }
        for (column, samples) in &columns {
            let name = format!("node_lnstat_{column}_total");
            let mut family = out.family(&name, Kind::Counter, "linux network cache stats");
            for (file, cpu, number) in samples {
                if let Some(file) = files.get(*file) {
                    family.sample(&[("subsystem", file), ("cpu", itoa::Buffer::new().format(*cpu))], *number);
                }
            }
        }
        Presence::of_files(!columns.is_empty(), failure)
    }
}

/// Reads a file: a line of names, then for each CPU a line of hexadecimal numbers. A line that has another number of them costs itself.
fn read(bytes: &[u8], file: &str, index: usize, columns: &mut BTreeMap<String, Vec<Sample>>, odd: &mut Oddities) {
    let mut lines = parse::lines(bytes);
    let Some(head) = lines.next() else { return };
    let mut names: Vec<Option<&str>> = Vec::new();
    for name in parse::fields(head) {
        let name = std::str::from_utf8(name).ok().filter(|name| is_part(name.as_bytes()) && !names.contains(&Some(name)));
        if name.is_none() {
            odd.line(file, head);
        }
        names.push(name);
    }
    for (cpu, line) in lines.enumerate() {
        let numbers: Option<Vec<u64>> = parse::fields(line).map(parse::hexadecimal).collect();
        let Some(numbers) = numbers.filter(|numbers| numbers.len() == names.len()) else {
            odd.line(file, line);
            continue;
        };
        for (name, number) in names.iter().zip(numbers) {
            let Some(name) = name else { continue };
            if let Some(samples) = columns.get_mut(*name) {
                samples.push((index, cpu, number));
            } else if columns.len() < MOST_COLUMNS {
                columns.insert((*name).to_owned(), vec![(index, cpu, number)]);
            } else {
                odd.tell(&format_args!("{file}: {name} is left out, for there are more than {MOST_COLUMNS} columns"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_costs_only_itself() {
        let (mut columns, mut odd) = (BTreeMap::new(), Oddities::default());
        read(b"entries  hits hits b-c\n0000000a 1 2 3\n1 2 3\nx 2 3 4\n1 ff 2 3\n", "arp_cache", 7, &mut columns, &mut odd);
        assert_eq!(
            columns.into_iter().collect::<Vec<_>>(),
            [("entries".to_owned(), vec![(7, 0, 10), (7, 3, 1)]), ("hits".to_owned(), vec![(7, 0, 1), (7, 3, 255)])]
        );
        assert_eq!(odd.count, 4);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "[a-f0-9 \n]{0,60}") {
            let (mut columns, mut odd) = (BTreeMap::new(), Oddities::default());
            read(&bytes, "x", 0, &mut columns, &mut odd);
            read(text.as_bytes(), "x", 0, &mut columns, &mut odd);
        }
    }
}
