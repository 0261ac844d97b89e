//! `node_cgroups_*` from `/proc/cgroups`: the controllers that the kernel has, and how many cgroups use each. Source: cgroups(7).
//! A machine of cgroup v2 has the numbers of the one hierarchy, or since 6.14 only the controllers that v1 still has.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, LabelSet};
use crate::present;

pub(super) const ENTRY: Entry = entry!("cgroups", off, &[], |_| Ok(Box::new(Cgroups)));

struct Cgroups;

impl Collector for Cgroups {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc("cgroups"));
        let mut rows: Vec<(LabelSet, u64, u64)> = Vec::new();
        for line in parse::lines(bytes).filter(|line| !line.starts_with(b"#")) {
            let row =
                controller(line).map(|(name, cgroups, enabled)| (LabelSet::of([("subsys_name", &*parse::text(name))]), cgroups, enabled));
            match row.filter(|(labels, ..)| rows.iter().all(|(known, ..)| known != labels)) {
                Some(row) => rows.push(row),
                None => odd.line("cgroups", line),
            }
        }
        // Both have the same help text in node_exporter.
        let help = "Current cgroup number of the subsystem.";
        let mut family = out.family("node_cgroups_cgroups", Kind::Gauge, help);
        for (labels, cgroups, _) in &rows {
            family.sample_of(labels, &[], *cgroups);
        }
        let mut family = out.family("node_cgroups_enabled", Kind::Gauge, help);
        for (labels, _, enabled) in &rows {
            family.sample_of(labels, &[], *enabled);
        }
        Ok(Presence::Present)
    }
}

/// `cpuset 5 47 1`: name, hierarchy, number of cgroups, whether it is enabled.
fn controller(line: &[u8]) -> Option<(&[u8], u64, u64)> {
    let mut fields = parse::fields(line);
    let name = fields.next()?;
    let mut numbers = fields.map(parse::unsigned);
    numbers.next()??;
    Some((name, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_controller_is_a_line() {
        assert_eq!(controller(b"cpuset\t5\t47\t1"), Some((&b"cpuset"[..], 47, 1)));
        for odd in [&b"cpuset\t5\t47"[..], b"cpuset\tx\t47\t1", b""] {
            assert_eq!(controller(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = controller(&line);
        }
    }
}
