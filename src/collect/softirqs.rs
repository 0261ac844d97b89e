//! `node_softirqs_functions_total` from `/proc/softirqs`: how often each kind of deferred work ran on each CPU.
//! Source: the kernel's `Documentation/filesystems/proc.rst`.

use super::percpu::heading;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::{Kind, LabelSet};

pub(super) const ENTRY: Entry = entry!("softirqs", off, &[], |_| Ok(Box::new(SoftIrqs)));

struct SoftIrqs;

impl Collector for SoftIrqs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = host.proc("softirqs")?;
        let mut lines = parse::lines(bytes);
        let Some(cpus) = lines.next().and_then(heading) else {
            return Err(CollectError::Other("softirqs: the first line names no CPUs".to_owned()));
        };
        let mut family = out.family("node_softirqs_functions_total", Kind::Counter, "Softirq counts per CPU.");
        let mut seen = Vec::new();
        for line in lines {
            let Some((name, counts)) = vector(line, cpus.len()).filter(|(name, _)| !seen.contains(&parse::text(name))) else {
                odd.line("softirqs", line);
                continue;
            };
            seen.push(parse::text(name));
            let labels = LabelSet::of([("type", &*parse::text(name))]);
            for (cpu, count) in cpus.iter().zip(counts) {
                family.sample_of(&labels, &[("cpu", itoa::Buffer::new().format(*cpu))], count);
            }
        }
        Ok(Presence::Present)
    }
}

/// `NET_RX: 1 2`: the name, and a count for each CPU.
fn vector(line: &[u8], cpus: usize) -> Option<(&[u8], Vec<u64>)> {
    let mut fields = parse::fields(line);
    let name = fields.next()?.strip_suffix(b":")?;
    let counts: Vec<u64> = fields.map(parse::unsigned).collect::<Option<_>>()?;
    (!name.is_empty() && counts.len() == cpus).then_some((name, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_vector_is_a_line() {
        assert_eq!(vector(b"      NET_RX:   1   2", 2), Some((&b"NET_RX"[..], vec![1, 2])));
        for odd in [&b"NET_RX 1 2"[..], b"NET_RX: 1", b"NET_RX: 1 2 3", b"NET_RX: 1 x", b": 1 2"] {
            assert_eq!(vector(odd, 2), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>) {
            let _ = vector(&line, 2);
        }
    }
}
