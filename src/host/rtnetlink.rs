//! Links, addresses and routes, as the kernel tells them by rtnetlink, for what no file has. A socket sees the network namespace of the process that made it, and
//! no other: what comes of it is the host's only where [`Reader::in_host_network`](super::Reader::in_host_network) says so.
//!
//! Source: rtnetlink(7), the kernel's `include/uapi/linux/{rtnetlink,if_link,if_addr}.h`.

use std::io;

use super::netlink::{self, Netlink};

/// Asks for all links: `RTM_GETLINK`.
pub const LINKS: u16 = 18;
/// Asks for all addresses: `RTM_GETADDR`.
pub const ADDRESSES: u16 = 22;
/// Asks for all routes: `RTM_GETROUTE`.
pub const ROUTES: u16 = 26;

/// The length of `struct ifinfomsg`, the head of a link, which no other kind's head is longer than.
pub const LINK_HEAD: usize = 16;
/// `IFLA_IFNAME`.
pub const LINK_NAME: u16 = 3;
/// `IFLA_STATS64`: `struct rtnl_link_stats64`.
pub const LINK_STATISTICS: u16 = 23;

/// Asks the kernel for all objects of a kind (`LINKS`, `ADDRESSES`, `ROUTES`), and gives `take` the body of each message: the fixed head of its kind and then
/// its [attributes].
///
/// # Errors
/// What the kernel says: no rtnetlink in this kernel or sandbox, no answer in time, or an answer that is none.
pub fn dump(kind: u16, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    // A head of all zeros: every family, every object.
    Netlink::route(None)?.dump(kind, &[0; LINK_HEAD], &mut |message| take(message.body))
}

/// The attributes behind a head of `head` bytes: number and value of each. What is cut off ends them.
pub fn attributes(body: &[u8], head: usize) -> impl Iterator<Item = (u16, &[u8])> {
    netlink::attributes(body.get(head..).unwrap_or_default())
}

/// `N` bytes of a message, to be made a number of.
#[must_use]
pub fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A `u32` of a message.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number::<4>(bytes, at).map(u32::from_ne_bytes)
}

/// A name in a message: without the zero at its end.
#[must_use]
pub fn name(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The number and the name of a link.
#[must_use]
pub fn link(body: &[u8]) -> Option<(u32, &[u8])> {
    let (_, value) = attributes(body, LINK_HEAD).find(|(kind, _)| *kind == LINK_NAME)?;
    Some((u32_at(body, 4)?, name(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_machine_has_a_loopback() {
        let mut names = Vec::new();
        match dump(LINKS, |body| names.extend(link(body).map(|(index, name)| (index, name.to_vec())))) {
            Ok(()) => assert!(names.contains(&(1, b"lo".to_vec())), "{names:?}"),
            // A sandbox may forbid the socket; then it says so.
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, head in 0usize..20) {
            prop_assert!(attributes(&bytes, head).count() <= bytes.len());
            let _link = link(&bytes);
        }
    }
}
