//! `node_memory_*` from `/proc/meminfo`: every field the kernel tells, also those that node_exporter 1.9 and later leave out.
//! Source: the kernel's `Documentation/filesystems/proc.rst` and `fs/proc/meminfo.c`.

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("meminfo", on, &[], |_| Ok(Box::new(Memory::default())));

#[derive(Default)]
struct Memory {
    names: Names,
}

impl Collector for Memory {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("meminfo")?;
        self.names.begin();
        for line in parse::lines(bytes) {
            let Some((field, value, unit)) = field(line) else {
                odd.line("meminfo", line);
                continue;
            };
            match self.names.find(field, |field| Some(named(field, unit))) {
                Found::Wanted(Named { name, help }) => {
                    let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
                    out.family(name, kind, help).sample(&[], value);
                }
                Found::Unwanted => {}
                Found::Odd => odd.line("meminfo", line),
            }
        }
        Ok(Presence::Present)
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Pages,
}

/// A line as field, value and unit. `kB` is 1024 bytes, and the only unit there is; the counts of huge pages have none.
fn field(line: &[u8]) -> Option<(&[u8], u64, Unit)> {
    let mut fields = parse::fields(line);
    let field = fields.next()?.strip_suffix(b":")?;
    let value = parse::unsigned(fields.next()?)?;
    let (value, unit) = match fields.next() {
        None => (value, Unit::Pages),
        Some(b"kB") => (value.checked_mul(1024)?, Unit::Bytes),
        Some(_) => return None,
    };
    (!field.is_empty() && fields.next().is_none()).then_some((field, value, unit))
}

/// `Active(anon)` is `Active_anon`, and what is in bytes says so.
fn named(field: &str, unit: Unit) -> Named {
    let mut field = field.replace('(', "_").replace(')', "");
    if unit == Unit::Bytes {
        field.push_str("_bytes");
    }
    Named { name: format!("node_memory_{field}"), help: format!("Memory information field {field}.") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_and_units() {
        assert_eq!(field(b"MemTotal:  3 kB"), Some((&b"MemTotal"[..], 3072, Unit::Bytes)));
        assert_eq!(field(b"HugePages_Total:       7"), Some((&b"HugePages_Total"[..], 7, Unit::Pages)));
        for odd in [&b"MemTotal 3 kB"[..], b"MemTotal: 3 MB", b"MemTotal:", b": 3 kB", b"MemTotal: 3 kB more"] {
            assert_eq!(field(odd), None);
        }
        assert_eq!(named("Active(anon)", Unit::Bytes).name, "node_memory_Active_anon_bytes");
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = field(&line);
        }
    }
}
