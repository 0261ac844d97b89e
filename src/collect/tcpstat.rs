//! `node_tcp_connection_states` from the host's `net/tcp` and `net/tcp6`: how many connections are in which state, and the bytes that wait in their queues.
//!
//! A line for each connection, which is why it is off by default: 100 000 connections take the kernel about 0.1 s. node_exporter asks `sock_diag(7)`, which
//! shows only the namespace of whoever asks. Source: the kernel's `Documentation/networking/proc_net_tcp.rst`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("tcpstat", off, &[], |_| Ok(Box::new(TcpStat)));

/// The states by their numbers from 1 (`include/net/tcp_states.h`).
const STATES: [&str; 11] =
    ["established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait", "last_ack", "listen", "closing"];
const LISTEN: u64 = 10;
/// `TCP_NEW_SYN_RECV`, which the kernel has for itself and shows as the other.
const NEW_SYN_RECEIVED: u64 = 12;
const SYN_RECEIVED: u64 = 3;

struct TcpStat;

/// What was counted: by state, and the bytes to be read and to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    states: [u64; STATES.len()],
    received: u64,
    sent: u64,
}

impl Counts {
    /// Counts a line; false when it cannot be understood.
    fn line(&mut self, line: &[u8]) -> bool {
        let Some((state, tx, rx)) = parse::socket(line) else { return false };
        let shown = if state == NEW_SYN_RECEIVED { SYN_RECEIVED } else { state };
        let place = usize::try_from(shown.wrapping_sub(1)).unwrap_or(usize::MAX);
        let Some(count) = self.states.get_mut(place) else { return false };
        *count += 1;
        // A listener's columns are connections that wait to be accepted, and no bytes; node_exporter adds them up all the same.
        if shown != LISTEN {
            self.received = self.received.saturating_add(rx);
            self.sent = self.sent.saturating_add(tx);
        }
        true
    }
}

impl Collector for TcpStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut counts = Counts::default();
        let mut found = false;
        for file in ["tcp", "tcp6"] {
            let mut is_head = true;
            let read = host.net_lines(file, |line| {
                if !std::mem::take(&mut is_head) && !counts.line(line) {
                    odd.line(file, line);
                }
            });
            match read {
                Ok(_) => found = true,
                Err(error) if error.is_absent() => {}
                // A sum that lacks half of its parts is a wrong number.
                Err(error) => return Err(error.into()),
            }
        }
        if !found {
            return Ok(Presence::Absent);
        }
        let mut family = out.family("node_tcp_connection_states", Kind::Gauge, "Number of connection states.");
        for (state, count) in STATES.iter().zip(counts.states) {
            family.sample(&[("state", state)], count);
        }
        family.sample(&[("state", "rx_queued_bytes")], counts.received).sample(&[("state", "tx_queued_bytes")], counts.sent);
        Ok(Presence::Present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connections_are_counted_by_state() {
        let mut counts = Counts::default();
        for (state, queues) in [("01", "00000010:00000002"), ("0A", "00000000:00000005"), ("0C", "0:0"), ("03", "0:0")] {
            let line = format!("   0: 0100007F:0016 00000000:0000 {state} {queues} 00:00000000 00000000     0        0 2740 1 0");
            assert!(counts.line(line.as_bytes()));
        }
        assert_eq!(counts, Counts { states: [1, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0], received: 2, sent: 16 });
        for odd in ["   0: 0100007F:0016 00000000:0000 00 0:0", "   0: a b 0D 0:0", "   0: a b 01 0", "0:"] {
            assert!(!counts.line(odd.as_bytes()), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Counts::default().line(&bytes);
        }
    }
}
