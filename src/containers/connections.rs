//! The connections of a container: `net/tcp`, `net/udp`, `net/netstat` and `net/snmp` of its first process.
//!
//! Source: the kernel's `Documentation/networking/proc_net_tcp.rst` and `Documentation/networking/snmp_counter.rst`.

use crate::host::parse::{fields, lines, signed, socket, text, unsigned};
use crate::model::Value;

/// The states by their numbers from 1 (`include/net/tcp_states.h`), in cAdvisor's words.
pub(crate) const STATES: [&str; 11] =
    ["established", "synsent", "synrecv", "finwait1", "finwait2", "timewait", "close", "closewait", "lastack", "listen", "closing"];
/// `TCP_NEW_SYN_RECV`, which the kernel has for itself and shows as the other.
const NEW_SYN_RECEIVED: u64 = 12;
const SYN_RECEIVED: u64 = 3;

/// How many connections are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TcpStates(pub(crate) [u64; STATES.len()]);

/// Sockets of UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UdpSockets {
    /// All of them: UDP knows no listening, and cAdvisor calls so whatever is open.
    pub(crate) open: u64,
    /// Datagrams that found no room.
    pub(crate) dropped: u64,
    /// Bytes that wait to be read.
    pub(crate) received: u64,
    /// Bytes that wait to be sent.
    pub(crate) sent: u64,
}

impl TcpStates {
    /// Counts a line; false when it cannot be understood.
    pub(crate) fn line(&mut self, line: &[u8]) -> bool {
        let Some((state, ..)) = socket(line) else { return false };
        let shown = if state == NEW_SYN_RECEIVED { SYN_RECEIVED } else { state };
        let place = usize::try_from(shown.wrapping_sub(1)).unwrap_or(usize::MAX);
        let Some(count) = self.0.get_mut(place) else { return false };
        *count += 1;
        true
    }
}

impl UdpSockets {
    /// Counts a line; false when it cannot be understood. Its last column are the drops.
    pub(crate) fn line(&mut self, line: &[u8]) -> bool {
        let Some(((_, sent, received), dropped)) = socket(line).zip(fields(line).nth(12).and_then(unsigned)) else { return false };
        self.open += 1;
        self.sent = self.sent.saturating_add(sent);
        self.received = self.received.saturating_add(received);
        self.dropped = self.dropped.saturating_add(dropped);
        true
    }
}

/// Adds the counters of the protocol `head` (`TcpExt:` of `netstat`, `Tcp:` of `snmp`) to `out`, by the kernel's names in small letters, which are cAdvisor's
/// labels. False when the two lines are not there or do not fit each other.
pub(crate) fn counters(bytes: &[u8], head: &[u8], out: &mut Vec<(String, Value)>) -> bool {
    let mut of_protocol = lines(bytes).filter(|line| fields(line).next() == Some(head));
    let (Some(names), Some(values)) = (of_protocol.next(), of_protocol.next()) else { return false };
    if fields(names).count() != fields(values).count() {
        return false;
    }
    for (name, value) in fields(names).zip(fields(values)).skip(1) {
        // `MaxConn` is -1 where there is no bound.
        let Some(value) = unsigned(value).map(Value::from).or_else(|| signed(value).map(Value::from)) else { continue };
        let name = text(name).to_ascii_lowercase();
        // Two of one name would be two samples of one identity.
        if !out.iter().any(|(known, _)| *known == name) {
            out.push((name, value));
        }
    }
    true
}

/// The soft limit of open files of a `limits`; -1 is none, as cAdvisor words it.
pub(crate) fn open_files_limit(bytes: &[u8]) -> Option<i64> {
    let soft = lines(bytes).find_map(|line| fields(line.strip_prefix(b"Max open files")?).next())?;
    if soft == b"unlimited" { Some(-1) } else { signed(soft).filter(|limit| *limit >= 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_by_state() {
        let mut states = TcpStates::default();
        for state in ["01", "0A", "0C", "03"] {
            assert!(
                states
                    .line(format!("   0: 0100007F:0016 00000000:0000 {state} 0:0 00:00000000 00000000     0        0 2740 1 0").as_bytes())
            );
        }
        assert_eq!(states.0, [1, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0]);
        for odd in ["   0: a b 00 0:0", "   0: a b 0D 0:0", "   0: a b 01 0", "0:", ""] {
            assert!(!states.line(odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn sockets_of_udp() {
        let mut sockets = UdpSockets::default();
        let line = "  512: 00000000:0035 00000000:0000 07 00000010:00000020 00:00000000 00000000     0        0 12345 2 0000000000000000 7";
        assert!(sockets.line(line.as_bytes()) && sockets.line(line.as_bytes()));
        assert_eq!(sockets, UdpSockets { open: 2, dropped: 14, received: 64, sent: 32 });
        assert!(!sockets.line(line.trim_end_matches(" 7").as_bytes()));
    }

    #[test]
    fn counters_by_name() {
        let mut found = Vec::new();
        let bytes = b"Ip: A\nIp: 1\nTcp: RtoMin MaxConn Odd RtoMin\nTcp: 200 -1 x 3\nTcpLoss: A\n";
        assert!(counters(bytes, b"Tcp:", &mut found));
        assert_eq!(found, [("rtomin".to_owned(), Value::Unsigned(200)), ("maxconn".to_owned(), Value::Signed(-1))]);
        for odd in [&b""[..], b"Tcp: A\n", b"Tcp: A B\nTcp: 1\n"] {
            assert!(!counters(odd, b"Tcp:", &mut found));
        }
    }

    #[test]
    fn limits_of_open_files() {
        let text = |soft| {
            format!(
                "Limit      Soft Limit   Hard Limit  Units\nMax open files            {soft}              524288               files     \n"
            )
        };
        for (soft, limit) in [("1024", Some(1024)), ("unlimited", Some(-1)), ("-5", None), ("x", None)] {
            assert_eq!(open_files_limit(text(soft).as_bytes()), limit, "{soft}");
        }
        assert_eq!((open_files_limit(b""), open_files_limit(b"Max open files\n")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>) {
            TcpStates::default().line(&bytes);
            UdpSockets::default().line(&bytes);
            counters(&bytes, b"Tcp:", &mut Vec::new());
            open_files_limit(&bytes);
        }
    }
}
