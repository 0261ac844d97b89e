//! `node_sockstat_*` from the host's `net/sockstat` and `net/sockstat6`.
//! Source: the kernel's `net/ipv4/proc.c` and `net/ipv6/proc.c`.

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::exposition::Writer;
use crate::host::{ReadError, parse};
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("sockstat", on, &[], |_| {
    Ok(Box::new(SockStat { names: Names::default(), key: Vec::new(), page: i64::try_from(rustix::param::page_size()).unwrap_or(4096) }))
});

/// The states that are exported. Others, which a kernel to come may tell, wait until somebody knows what they count.
const STATES: [&[u8]; 6] = [b"inuse", b"orphan", b"tw", b"alloc", b"mem", b"memory"];

struct SockStat {
    names: Names,
    key: Vec<u8>,
    page: i64,
}

impl Collector for SockStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        self.names.begin();
        let mut found = false;
        let mut failure: Option<ReadError> = None;
        for file in ["sockstat", "sockstat6"] {
            match host.net(file) {
                Ok((_, bytes)) => {
                    found = true;
                    for line in parse::lines(bytes) {
                        self.line(file, line, out, odd);
                    }
                }
                // A kernel without IPv6 has no sockstat6.
                Err(error) if error.is_absent() => {}
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                }
            }
        }
        Presence::of_files(found, failure)
    }
}

impl SockStat {
    /// A line: `TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1`.
    fn line(&mut self, file: &str, line: &[u8], out: &mut Writer, odd: &mut Oddities) {
        let mut fields = parse::fields(line);
        let Some(protocol) = fields.next().and_then(|head| head.strip_suffix(b":")) else { return odd.line(file, line) };
        while let Some(state) = fields.next() {
            let Some(value) = fields.next().and_then(parse::signed) else { return odd.line(file, line) };
            if protocol == b"sockets" {
                if state == b"used" && file == "sockstat" {
                    out.gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.", value);
                }
                continue;
            }
            if !STATES.contains(&state) {
                continue;
            }
            self.write(file, protocol, state, value, out, odd);
            if state == b"mem" {
                // Counted in pages of the running kernel.
                self.write(file, protocol, b"mem_bytes", value.saturating_mul(self.page), out, odd);
            }
        }
    }

    fn write(&mut self, file: &str, protocol: &[u8], state: &[u8], value: i64, out: &mut Writer, odd: &mut Oddities) {
        self.key.clear();
        self.key.extend_from_slice(protocol);
        self.key.push(b'_');
        self.key.extend_from_slice(state);
        let split = protocol.len();
        let named = |key: &str| {
            let (protocol, state) = key.split_at_checked(split)?;
            let help = format!("Number of {protocol} sockets in state {}.", state.trim_start_matches('_'));
            Some(Named { name: format!("node_sockstat_{key}"), help })
        };
        match self.names.find(&self.key, named) {
            Found::Wanted(Named { name, help }) => {
                out.family(name, Kind::Gauge, help).sample(&[], value);
            }
            Found::Unwanted => {}
            Found::Odd => odd.line(file, &self.key),
        }
    }
}
