//! `node_swap_*` from `/proc/swaps`: size, use and priority of each device and file that memory is swapped to.
//! Source: the kernel's `Documentation/filesystems/proc.rst` and `mm/swapfile.c`. A kernel without `CONFIG_SWAP` has no such file.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::{Mount, parse};
use crate::model::{Kind, LabelSet, Value};
use crate::present;

pub(super) const ENTRY: Entry = entry!("swap", off, &[], |_| Ok(Box::new(Swap)));

struct Swap;

const FAMILIES: [(&str, &str); 3] = [
    ("node_swap_size_bytes", "Swap device size in bytes."),
    ("node_swap_used_bytes", "Swap device used in bytes."),
    ("node_swap_priority", "Swap device priority."),
];

impl Collector for Swap {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc("swaps"));
        let mut devices: Vec<(LabelSet, [Value; FAMILIES.len()])> = Vec::new();
        for line in parse::lines(bytes).filter(|line| !line.starts_with(b"Filename")) {
            match device(line).filter(|(labels, _)| devices.iter().all(|(known, _)| known != labels)) {
                Some(device) => devices.push(device),
                None => odd.line("swaps", line),
            }
        }
        for (column, (name, help)) in FAMILIES.iter().enumerate() {
            let mut family = out.family(name, Kind::Gauge, help);
            for (labels, values) in &devices {
                if let Some(value) = values.get(column) {
                    family.sample_of(labels, &[], *value);
                }
            }
        }
        Ok(Presence::Present)
    }
}

/// `/dev/sda2 partition 8388604 76 -2`: the labels, and size and use, which the kernel tells in units of 1024 bytes, and priority. Blanks in the name are
/// escaped (`\040`); node_exporter leaves them so, and nobody would find the file under that name.
fn device(line: &[u8]) -> Option<(LabelSet, [Value; FAMILIES.len()])> {
    let mut fields = parse::fields(line);
    let name = Mount::unescaped(fields.next()?);
    let kind = fields.next()?;
    let mut bytes = || parse::unsigned(fields.next()?)?.checked_mul(1024);
    let (size, used) = (bytes()?, bytes()?);
    let priority = parse::signed(fields.next()?)?;
    let labels = LabelSet::of([("device", &*parse::text(&name)), ("swap_type", &*parse::text(kind))]);
    Some((labels, [size.into(), used.into(), priority.into()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_is_a_line() {
        let (labels, values) = device(b"/srv/swap\\040file\\040(deleted)    file\t\t1024\t\t3\t\t-2").unwrap();
        assert_eq!(labels.as_str(), r#"device="/srv/swap file (deleted)",swap_type="file""#);
        assert_eq!(values, [Value::Unsigned(1 << 20), Value::Unsigned(3072), Value::Signed(-2)]);
        for odd in [&b"/dev/sda2 partition 1 2"[..], b"/dev/sda2 partition -1 2 3", b"/dev/sda2 partition 18446744073709551615 2 3", b""] {
            assert!(device(odd).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = device(&line);
        }
    }
}
