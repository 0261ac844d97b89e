//! What the kernel says of the network by rtnetlink, for what no file has. A socket sees the namespace of the process that made it, and no other: what comes
//! of it is the host's only where [`Reader::in_host_network`](super::Reader::in_host_network) says so.
//!
//! Source: the kernel's `Documentation/userspace-api/netlink/intro.rst`, rtnetlink(7), `include/uapi/linux/{rtnetlink,if_link,if_addr}.h`.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Asks for all links: `RTM_GETLINK`.
pub const LINKS: u16 = 18;
/// Asks for all addresses: `RTM_GETADDR`.
pub const ADDRESSES: u16 = 22;
/// Asks for all routes: `RTM_GETROUTE`.
pub const ROUTES: u16 = 26;

const DONE: u16 = 3;
const ERROR: u16 = 2;
const HEAD: usize = 16;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// What the kernel fills at most at one go (`NLMSG_GOODSIZE` and the reader's own room, `net/netlink/af_netlink.c`).
const ROOM: usize = 32 << 10;
/// A dump larger than this is broken off: a router's whole table of the Internet has some 100 MB.
const LARGEST: usize = 256 << 20;

/// Asks the kernel for all objects of a kind (`LINKS`, `ADDRESSES`, `ROUTES`), and gives `take` the body of each message: the fixed head of its kind and then
/// its [attributes].
///
/// # Errors
/// What the kernel says: no rtnetlink in this kernel or sandbox, no answer for two seconds, or an answer that is none.
pub fn dump(kind: u16, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    // `NETLINK_ROUTE` is protocol 0.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(2)))?;
    // A header, and `struct ifinfomsg`, which no other kind's head is longer than, all zero: every family, every object.
    let mut request = [0u8; HEAD + 16];
    let parts = [(0, &32u32.to_ne_bytes()[..]), (4, &kind.to_ne_bytes()), (6, &DUMP.to_ne_bytes()), (8, &1u32.to_ne_bytes())];
    for (at, bytes) in parts {
        if let Some(place) = request.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; ROOM];
    let mut read = 0;
    loop {
        let (count, whole) = match rustix::net::recv(&socket, &mut buffer, RecvFlags::TRUNC) {
            Ok(counts) => counts,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        read += count;
        if count == 0 || whole > count || read > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "rtnetlink: an answer that is too long or none"));
        }
        if messages(buffer.get(..count).unwrap_or_default(), &mut take)? {
            return Ok(());
        }
    }
}

/// Gives the messages of one answer; whether it was the last.
fn messages(mut bytes: &[u8], take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (number::<4>(bytes, 0).map(u32::from_ne_bytes), number::<2>(bytes, 4).map(u16::from_ne_bytes)) {
        let length = length as usize;
        let body =
            bytes.get(HEAD..length).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "rtnetlink: a message that is cut off"))?;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = number::<4>(body, 0).map_or(0, i32::from_ne_bytes);
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) };
            }
            _ => take(body),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes behind a head of `head` bytes: number and value of each. What is cut off ends them.
pub fn attributes(body: &[u8], head: usize) -> impl Iterator<Item = (u16, &[u8])> {
    /// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const NUMBER: u16 = 0x3fff;
    let mut rest = body.get(head..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(number::<2>(rest, 0).map(u16::from_ne_bytes)?);
        let kind = number::<2>(rest, 2).map(u16::from_ne_bytes)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NUMBER, value))
    })
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

/// The length of `struct ifinfomsg`, the head of a link.
pub const LINK_HEAD: usize = 16;
/// `IFLA_IFNAME`.
pub const LINK_NAME: u16 = 3;
/// `IFLA_STATS64`: `struct rtnl_link_stats64`.
pub const LINK_STATISTICS: u16 = 23;

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

    #[test]
    fn an_error_is_told() {
        let mut message = 20u32.to_ne_bytes().to_vec();
        message.extend(ERROR.to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-1i32).to_ne_bytes());
        let error = messages(&message, &mut |_: &[u8]| {}).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1));
        assert!(messages(&message[..18], &mut |_: &[u8]| {}).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, head in 0usize..20) {
            let mut links = 0;
            let read = messages(&bytes, &mut |body: &[u8]| links += usize::from(link(body).is_some()));
            prop_assert!(read.is_err() || links <= bytes.len());
            prop_assert!(attributes(&bytes, head).count() <= bytes.len());
        }
    }
}
