//! The machine in cAdvisor's families: `machine_*`.

use crate::collect::Pass;
use crate::host::parse::{fields, lines, text, trimmed, unsigned};
use crate::model::{Kind, LabelSet};

/// The machine's identity, read once, and its memory, read at each scrape.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    labels: Option<LabelSet>,
    /// Bytes; 0 when unknown.
    pub(crate) memory: u64,
    swap: Option<u64>,
    cores: u64,
}

impl Machine {
    /// Reads the memory, and the identity when it is not known yet.
    pub(crate) fn read(&mut self, pass: &mut Pass<'_>) {
        if self.labels.is_none() {
            self.labels = Some(labels(pass));
        }
        (self.memory, self.swap, self.cores) = (0, None, 0);
        match pass.host.proc("meminfo") {
            Ok(bytes) => {
                for line in lines(bytes) {
                    let mut fields = fields(line);
                    let (key, kibibytes) = (fields.next().unwrap_or_default(), fields.next().and_then(unsigned));
                    match (key, kibibytes) {
                        (b"MemTotal:", Some(number)) => self.memory = number.saturating_mul(1024),
                        (b"SwapTotal:", Some(number)) => self.swap = Some(number.saturating_mul(1024)),
                        _ => {}
                    }
                }
            }
            Err(error) => pass.odd(&error),
        }
        match pass.host.proc("stat") {
            Ok(bytes) => {
                let is_cpu = |line: &&[u8]| line.strip_prefix(b"cpu").and_then(|rest| rest.first()).is_some_and(u8::is_ascii_digit);
                self.cores = lines(bytes).filter(is_cpu).count() as u64;
            }
            Err(error) => pass.odd(&error),
        }
    }

    pub(crate) fn write(&self, pass: &mut Pass<'_>) {
        let none = LabelSet::new();
        let labels = self.labels.as_ref().unwrap_or(&none);
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                pass.out.family(name, Kind::Gauge, help).sample_of(labels, &[], value);
            }
        };
        gauge("machine_cpu_cores", "Number of logical CPU cores.", Some(self.cores).filter(|cores| *cores > 0));
        gauge("machine_memory_bytes", "Amount of memory installed on the machine.", Some(self.memory).filter(|bytes| *bytes > 0));
        gauge("machine_swap_bytes", "Amount of swap memory available on the machine.", self.swap);
    }
}

fn labels(pass: &mut Pass<'_>) -> LabelSet {
    let word = |bytes: &[u8]| text(trimmed(bytes)).into_owned();
    let machine = pass.host.rootfs("etc/machine-id").map(word).unwrap_or_default();
    let system = pass.host.sys("class/dmi/id/product_uuid").map(word).unwrap_or_default();
    let boot = pass.host.proc("sys/kernel/random/boot_id").map(word).unwrap_or_default();
    LabelSet::of([("boot_id", &*boot), ("machine_id", &*machine), ("system_uuid", &*system)])
}
