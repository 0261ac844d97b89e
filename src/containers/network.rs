//! The network counters of a container: `net/dev` of its first process.

use crate::host::parse::{interfaces, text};

/// An interface and its counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) receive: Direction,
    pub(crate) transmit: Direction,
}

/// The counters of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// Puts the interfaces of `net/dev` into `out`, without loopback and without those of an engine that runs in the container (veth, docker). Says how
/// many lines could not be understood.
pub(crate) fn parse(bytes: &[u8], out: &mut Vec<Interface>) -> u64 {
    out.clear();
    let mut odd = 0;
    for interface in interfaces(bytes) {
        let Ok((name, numbers)) = interface else {
            odd += 1;
            continue;
        };
        let name = text(name);
        if is_skipped(&name) {
            continue;
        }
        // Two of one name would be two samples of one identity.
        if out.iter().any(|known| known.name == name) {
            odd += 1;
            continue;
        }
        let [bytes, packets, errors, dropped, _, _, _, _, sent_bytes, sent_packets, sent_errors, sent_dropped, ..] = numbers;
        // One by one: most have one, and there may be a thousand containers.
        out.reserve_exact(1);
        out.push(Interface {
            name: name.into_owned(),
            receive: Direction { bytes, packets, errors, dropped },
            transmit: Direction { bytes: sent_bytes, packets: sent_packets, errors: sent_errors, dropped: sent_dropped },
        });
    }
    odd
}

fn is_skipped(name: &str) -> bool {
    name == "lo" || name.starts_with("veth") || name.starts_with("docker")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    #[test]
    fn columns() {
        let text = format!(
            "{HEAD}    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:10 11 12 13 14 15 16 17 20 21 22 23 24 25 26 27\nveth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\nodd\n"
        );
        let mut found = Vec::new();
        assert_eq!(parse(text.as_bytes(), &mut found), 1);
        let receive = Direction { bytes: 10, packets: 11, errors: 12, dropped: 13 };
        let transmit = Direction { bytes: 20, packets: 21, errors: 22, dropped: 23 };
        assert_eq!(found, [Interface { name: "eth0".to_owned(), receive, transmit }]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>) {
            parse(&bytes, &mut Vec::new());
        }

        #[test]
        fn numbers_are_read_back(numbers in proptest::collection::vec(proptest::num::u64::ANY, 16)) {
            let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let mut found = Vec::new();
            proptest::prop_assert_eq!(parse(format!("{HEAD}eth0: {}\n", text.join(" ")).as_bytes(), &mut found), 0);
            proptest::prop_assert_eq!((found[0].receive.dropped, found[0].transmit.bytes), (numbers[3], numbers[8]));
        }
    }
}
