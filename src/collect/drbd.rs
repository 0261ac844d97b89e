//! `node_drbd_*` from `/proc/drbd`, as DRBD up to 8.4 writes it. Source: its user's guide, "The /proc/drbd file". DRBD 9 writes its version there and nothing else.

use super::families::Families;
use super::{AS_NODE_EXPORTER, CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::Settings;
use crate::host::parse;
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("drbd", off, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Drbd { as_node_exporter: settings.is_on(AS_NODE_EXPORTER.name) }))
}

struct Drbd {
    as_node_exporter: bool,
}

/// A number: its word, the factor to its unit, and its family.
type Number = (&'static str, u64, Kind, &'static str, &'static str);

const KIBIBYTES: u64 = 1024;

const NUMBERS: [Number; 12] = [
    ("ns", KIBIBYTES, Kind::Counter, "node_drbd_network_sent_bytes_total", "Total number of bytes sent via the network."),
    // In KiB as the three around it, says the guide. node_exporter exports it as if it were bytes.
    ("nr", KIBIBYTES, Kind::Counter, "node_drbd_network_received_bytes_total", "Total number of bytes received via the network."),
    ("dw", KIBIBYTES, Kind::Counter, "node_drbd_disk_written_bytes_total", "Net data written on local hard disk; in bytes."),
    ("dr", KIBIBYTES, Kind::Counter, "node_drbd_disk_read_bytes_total", "Net data read from local hard disk; in bytes."),
    ("al", 1, Kind::Counter, "node_drbd_activitylog_writes_total", "Number of updates of the activity log area of the meta data."),
    ("bm", 1, Kind::Counter, "node_drbd_bitmap_writes_total", "Number of updates of the bitmap area of the meta data."),
    ("lo", 1, Kind::Gauge, "node_drbd_local_pending", "Number of open requests to the local I/O sub-system."),
    (
        "pe",
        1,
        Kind::Gauge,
        "node_drbd_remote_pending",
        "Number of requests sent to the peer, but that have not yet been answered by the latter.",
    ),
    (
        "ua",
        1,
        Kind::Gauge,
        "node_drbd_remote_unacknowledged",
        "Number of requests received by the peer via the network connection, but that have not yet been answered.",
    ),
    (
        "ap",
        1,
        Kind::Gauge,
        "node_drbd_application_pending",
        "Number of block I/O requests forwarded to DRBD, but not yet answered by DRBD.",
    ),
    ("ep", 1, Kind::Gauge, "node_drbd_epochs", "Number of Epochs currently on the fly."),
    ("oos", KIBIBYTES, Kind::Gauge, "node_drbd_out_of_sync_bytes", "Amount of data known to be out of sync; in bytes."),
];

/// A pair of this node's and the other's, `Primary/Secondary`: its word, what counts as 1, and its family.
const PAIRS: [(&str, &str, &str, &str); 2] = [
    ("ro", "Primary", "node_drbd_node_role_is_primary", "Whether the role of the node is in the primary state."),
    ("ds", "UpToDate", "node_drbd_disk_state_is_up_to_date", "Whether the disk of the node is up to date."),
];

impl Collector for Drbd {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let families = read(present!(host.proc("drbd")), self.as_node_exporter, odd);
        families.write(out);
        Ok(if families.is_empty() { Presence::Absent } else { Presence::Present })
    }
}

/// The devices of a file: each begins with its number, ` 1: cs:Connected ro:Primary/Secondary ...`, and goes on in words of the form `key:value`.
fn read(bytes: &[u8], as_node_exporter: bool, odd: &mut Oddities) -> Families {
    let mut families = Families::default();
    let mut device = None;
    for line in parse::lines(bytes) {
        let text = parse::text(line);
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            let Some((key, value)) = word.split_once(':') else { continue };
            if index == 0 && value.is_empty() && parse::unsigned(key.as_bytes()).is_some() {
                device = Some(format!("drbd{key}"));
                continue;
            }
            // Before the first device stand versions.
            if let Some(device) = &device
                && !add(&mut families, device, (key, value), as_node_exporter)
            {
                odd.tell(&format_args!("drbd: {device}: {word:?}"));
            }
        }
    }
    families
}

/// Adds what a word says; false when its key is known and its value cannot be understood, or is there twice.
fn add(families: &mut Families, device: &str, (key, value): (&str, &str), as_node_exporter: bool) -> bool {
    let labels = [("device", device)];
    if key == "cs" {
        return families.gauge("node_drbd_connected", "Whether DRBD is connected to the peer.", &labels, value == "Connected");
    }
    if let Some((_, factor, kind, name, help)) = NUMBERS.iter().find(|(known, ..)| *known == key) {
        let factor = if key == "nr" && as_node_exporter { 1 } else { *factor };
        let number = parse::unsigned(value.as_bytes()).and_then(|number| number.checked_mul(factor));
        return number.is_some_and(|number| families.add(name, *kind, help, &labels, number));
    }
    let Some((_, good, name, help)) = PAIRS.iter().find(|(known, ..)| *known == key) else { return true };
    let Some((local, remote)) = value.split_once('/') else { return false };
    [("local", local), ("remote", remote)]
        .into_iter()
        .all(|(node, state)| families.gauge(name, help, &[("device", device), ("node", node)], state == *good))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "( [0-2]:)?( (cs|ro|ds|ns|oos|x):[A-Za-z0-9/]{0,22}){0,5}\n") {
            let _ = (read(&bytes, true, &mut Oddities::default()), read(text.as_bytes(), false, &mut Oddities::default()));
        }
    }
}
