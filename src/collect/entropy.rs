//! `node_entropy_*` from `/proc/sys/kernel/random`: how many bits the kernel's random number generator holds, and how many it can.
//! Source: the kernel's `Documentation/admin-guide/sysctl/kernel.rst`. Since 5.18 both are always 256.

use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::host::parse;
use crate::present;

pub(super) const ENTRY: Entry = entry!("entropy", on, &[], |_| Ok(Box::new(Entropy { pool: None })));

const AVAILABLE: &str = "sys/kernel/random/entropy_avail";
const POOL: &str = "sys/kernel/random/poolsize";

struct Entropy {
    /// The size of the pool, once it is known: the kernel is built with it, and the file cannot be written (`drivers/char/random.c`).
    pool: Option<u64>,
}

impl Collector for Entropy {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let bytes = present!(host.proc(AVAILABLE));
        match parse::unsigned(parse::trimmed(bytes)) {
            Some(bits) => out.gauge("node_entropy_available_bits", "Bits of available entropy.", bits),
            None => odd.line(AVAILABLE, bytes),
        }
        if self.pool.is_none() {
            self.pool = attribute::of_proc(host, odd, POOL);
        }
        if let Some(bits) = self.pool {
            out.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.", bits);
        }
        Ok(Presence::Present)
    }
}
