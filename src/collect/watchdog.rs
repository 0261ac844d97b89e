//! `node_watchdog_*` from `/sys/class/watchdog`. Source: the kernel's `Documentation/ABI/testing/sysfs-class-watchdog`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::present;

pub(super) const ENTRY: Entry = entry!("watchdog", on, &[], |_| Ok(Box::new(Watchdog)));

const CLASS: &str = "class/watchdog";

/// The numbers: attribute and family. The help names the attribute.
const NUMBERS: [(&str, &str); 7] = [
    ("bootstatus", "node_watchdog_bootstatus"),
    ("fw_version", "node_watchdog_fw_version"),
    ("nowayout", "node_watchdog_nowayout"),
    ("timeleft", "node_watchdog_timeleft_seconds"),
    ("timeout", "node_watchdog_timeout_seconds"),
    ("pretimeout", "node_watchdog_pretimeout_seconds"),
    ("access_cs0", "node_watchdog_access_cs0"),
];

/// The labels of `node_watchdog_info` beside the name; empty where the watchdog has no such attribute.
const TEXTS: [&str; 5] = ["options", "identity", "state", "status", "pretimeout_governor"];

struct Watchdog;

impl Collector for Watchdog {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_names(CLASS));
        if names.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut families = Families::default();
        for name in &names {
            for (file, family) in NUMBERS {
                if let Some(number) = attribute::parsed(host, odd, &format!("{CLASS}/{name}/{file}"), attribute::signed) {
                    families.gauge(family, &format!("Value of /sys/class/watchdog/<watchdog>/{file}"), &[("name", name)], number);
                }
            }
            let texts = TEXTS.map(|file| (file, attribute::text(host, odd, &format!("{CLASS}/{name}/{file}")).unwrap_or_default()));
            let mut labels = vec![("name", name.as_str())];
            labels.extend(texts.iter().map(|(file, text)| (*file, text.as_str())));
            families.gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>", &labels, 1u64);
        }
        families.write(out);
        Ok(Presence::Present)
    }
}
