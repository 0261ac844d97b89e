//! `node_bonding_*` from sysfs: how many members a bond has, and how many of them are up.
//! Source: the kernel's `Documentation/networking/bonding.rst`, section 3.4.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("bonding", on, &[], |_| Ok(Box::new(Bonding)));

struct Bonding;

impl Collector for Bonding {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let masters = parse::text(present!(host.sys("class/net/bonding_masters"))).into_owned();
        let mut families = Families::default();
        for master in names(&masters) {
            let slaves = match host.sys(&format!("class/net/{master}/bonding/slaves")) {
                Ok(bytes) => parse::text(bytes).into_owned(),
                Err(error) => {
                    // Gone since the list was read.
                    odd.unless_absent(&error);
                    continue;
                }
            };
            let (mut count, mut active) = (0u64, 0u64);
            for slave in names(&slaves) {
                count += 1;
                // Older kernels call the link `slave_`.
                let mut status = host.sys(&format!("class/net/{master}/lower_{slave}/bonding_slave/mii_status")).map(<[u8]>::to_vec);
                if status.as_ref().is_err_and(|error| error.is_absent()) {
                    status = host.sys(&format!("class/net/{master}/slave_{slave}/bonding_slave/mii_status")).map(<[u8]>::to_vec);
                }
                match status {
                    Ok(status) => active += u64::from(parse::trimmed(&status) == b"up"),
                    Err(error) => odd.tell(&error),
                }
            }
            families.gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.", &[("master", master)], count);
            families.gauge("node_bonding_active", "Number of active slaves per bonding interface.", &[("master", master)], active);
        }
        families.write(out);
        Ok(Presence::Present)
    }
}

/// The names in a list of interfaces. What could lead out of the directory is none.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split_ascii_whitespace().filter(|name| !name.contains('/') && *name != "." && *name != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lead_elsewhere() {
        assert_eq!(names("bond0 .. a/b bond1\n").collect::<Vec<_>>(), ["bond0", "bond1"]);
    }
}
