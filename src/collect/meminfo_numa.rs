//! `node_memory_numa_*` from `/sys/devices/system/node/node*/{meminfo,numastat}`: the memory of each node, and where what it was asked for came from.
//! Source: the kernel's `Documentation/admin-guide/numastat.rst` and `drivers/base/node.c`. A kernel without `CONFIG_NUMA` has no nodes.

use super::families::Families;
use super::names::is_part;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("meminfo_numa", off, &[], |_| Ok(Box::new(MemoryOfNodes)));

const DIRECTORY: &str = "devices/system/node";

struct MemoryOfNodes;

/// How the lines of a file are read.
type Line = fn(&[u8]) -> Option<(String, u64)>;

impl Collector for MemoryOfNodes {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let nodes = present!(host.sys_numbered(DIRECTORY, "node"));
        let mut families = Families::default();
        let files: [(&str, Kind, Line); 2] = [("meminfo", Kind::Gauge, memory), ("numastat", Kind::Counter, allocations)];
        for node in &nodes {
            let number = node.strip_prefix("node").unwrap_or(node);
            for (file, kind, read) in files {
                let path = format!("{DIRECTORY}/{node}/{file}");
                let bytes = match host.sys(&path) {
                    Ok(bytes) => bytes,
                    Err(error) if error.is_absent() => continue,
                    Err(error) => {
                        odd.tell(&error);
                        continue;
                    }
                };
                for line in parse::lines(bytes) {
                    let added = read(line).is_some_and(|(field, value)| {
                        let help = format!("Memory information field {field}.");
                        families.add(&format!("node_memory_numa_{field}"), kind, &help, &[("node", number)], value)
                    });
                    if !added {
                        odd.line(&path, line);
                    }
                }
            }
        }
        families.write(out);
        Ok(if nodes.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

/// `Node 0 Active(anon): 691324 kB`: `Active_anon` and bytes. The counts of huge pages have no unit.
fn memory(line: &[u8]) -> Option<(String, u64)> {
    let mut fields = parse::fields(line).skip(2);
    let field = std::str::from_utf8(fields.next()?.strip_suffix(b":")?).ok()?.replace('(', "_").replace(')', "");
    let value = parse::unsigned(fields.next()?)?;
    let value = match fields.next() {
        None => value,
        Some(b"kB") => value.checked_mul(1024)?,
        Some(_) => return None,
    };
    (is_part(field.as_bytes()) && fields.next().is_none()).then_some((field, value))
}

/// `numa_hit 12`: the name of a counter, and its number.
fn allocations(line: &[u8]) -> Option<(String, u64)> {
    let mut fields = parse::fields(line);
    let field = format!("{}_total", std::str::from_utf8(fields.next()?).ok()?);
    let value = parse::unsigned(fields.next()?)?;
    (is_part(field.as_bytes()) && fields.next().is_none()).then_some((field, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_and_units() {
        let found = |name: &str, value| Some((name.to_owned(), value));
        assert_eq!(memory(b"Node 0 MemTotal:       3 kB"), found("MemTotal", 3072));
        assert_eq!(memory(b"Node 12 Inactive(file): 1 kB"), found("Inactive_file", 1024));
        assert_eq!(memory(b"Node 0 HugePages_Free:     7"), found("HugePages_Free", 7));
        assert_eq!(allocations(b"numa_hit 12"), found("numa_hit_total", 12));
        for odd in
            [&b"Node 0 MemTotal 3 kB"[..], b"Node 0 MemTotal: 3 MB", b"Node 0 MemTotal:", b"Node 0 Mem-Total: 3 kB", b"Node 0 a: 1 kB x"]
        {
            assert_eq!(memory(odd), None);
        }
        for odd in [&b"numa_hit"[..], b"numa_hit x", b"numa_hit 1 2", b"numa-hit 1"] {
            assert_eq!(allocations(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = (memory(&line), allocations(&line));
        }
    }
}
