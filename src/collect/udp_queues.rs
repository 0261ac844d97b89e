//! `node_udp_queues` from the host's `net/udp` and `net/udp6`: the bytes that wait in the queues of all sockets.
//! Source: the kernel's `Documentation/networking/proc_net_tcp.rst`, whose columns `net/udp` shares.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("udp_queues", on, &[], |_| Ok(Box::new(UdpQueues)));

struct UdpQueues;

impl Collector for UdpQueues {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut found = Presence::Absent;
        let mut family = out.family("node_udp_queues", Kind::Gauge, "Number of allocated memory in the kernel for UDP datagrams in bytes.");
        for (file, ip) in [("udp", "v4"), ("udp6", "v6")] {
            let (mut sent, mut received) = (0u64, 0u64);
            let mut is_head = true;
            let read = host.net_lines(file, |line| {
                if std::mem::take(&mut is_head) {
                    return;
                }
                match parse::socket(line) {
                    Some((_, tx, rx)) => {
                        sent = sent.saturating_add(tx);
                        received = received.saturating_add(rx);
                    }
                    None => odd.line(file, line),
                }
            });
            match read {
                Ok(_) => {}
                Err(error) if error.is_absent() => continue,
                // IPv4's was written, and stays.
                Err(error) if found == Presence::Present => {
                    odd.tell(&error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            found = Presence::Present;
            family.sample(&[("queue", "tx"), ("ip", ip)], sent).sample(&[("queue", "rx"), ("ip", ip)], received);
        }
        Ok(found)
    }
}
