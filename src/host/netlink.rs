//! Questions to the kernel over netlink sockets, and how its answers are taken apart. Format: netlink(7), `include/uapi/linux/netlink.h`; generic netlink:
//! `include/uapi/linux/genetlink.h`. A socket sees the network namespace that this process lives in and no other.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::wait::Patience;

/// The kernel fills dumps in pieces of at most 32 KiB.
const PIECE: usize = 64 << 10;
/// An answer larger than this is broken off. It is read piece by piece; a router's whole table of the Internet has some 100 MB.
const LARGEST_ANSWER: usize = 256 << 20;

const HEADER: usize = 16;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_MULTI: u16 = 0x2;
const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The message type of the controller of generic netlink, which knows the other families' types.
const GENERIC_CONTROLLER: u16 = 16;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    patience: Patience,
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows the netlink header.
    pub body: &'a [u8],
}

impl Netlink {
    /// A socket for links, addresses, queueing disciplines (`NETLINK_ROUTE`), which gives up shortly before `deadline`.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` or `EAFNOSUPPORT` under a seccomp profile that forbids it.
    pub fn route(deadline: Option<Instant>) -> io::Result<Self> {
        Self::open(None, deadline)
    }

    /// A socket for generic netlink, as [`Netlink::route`].
    ///
    /// # Errors
    /// As [`Netlink::route`].
    pub fn generic(deadline: Option<Instant>) -> io::Result<Self> {
        Self::open(Some(netlink::GENERIC), deadline)
    }

    fn open(protocol: Option<rustix::net::Protocol>, deadline: Option<Instant>) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; PIECE], patience: Patience::until(deadline) })
    }

    /// The name of an interface of the socket's network namespace.
    ///
    /// # Errors
    /// `ENODEV` when there is none of this number any more.
    pub fn interface_name(&self, number: u32) -> io::Result<String> {
        Ok(rustix::net::netdevice::index_to_name(&self.socket, number)?)
    }

    /// Asks for all there is of a kind, and gives each message of the answer to `each`.
    ///
    /// # Errors
    /// What the kernel says, that it does not answer in time, or that its answer has no form.
    pub fn dump(&mut self, kind: u16, request: &[u8], each: &mut dyn FnMut(Message<'_>)) -> io::Result<()> {
        self.ask(kind, FLAG_DUMP, request, each)
    }

    /// The message type of a family of generic netlink; `None` when this kernel has no such family (loaded).
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub fn family(&mut self, name: &str) -> io::Result<Option<u16>> {
        const GET_FAMILY: u8 = 3;
        const FAMILY_ID: u16 = 1;
        const FAMILY_NAME: u16 = 2;
        let mut request = generic(GET_FAMILY, 1);
        push_attribute(&mut request, FAMILY_NAME, &[name.as_bytes(), b"\0"].concat());
        let mut found = None;
        let mut each = |message: Message<'_>| {
            let id = generic_attributes(message.body).find(|(kind, _)| *kind == FAMILY_ID);
            found = id.and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?))).or(found);
        };
        match self.ask(GENERIC_CONTROLLER, FLAG_ACK, &request, &mut each) {
            Ok(()) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, request: &[u8], each: &mut dyn FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(kind, FLAG_REQUEST | flags, self.sequence, request)?;
        set_socket_timeout(&self.socket, Timeout::Send, Some(self.patience.left()?))?;
        send(&self.socket, &question, SendFlags::empty())?;
        let mut total = 0;
        loop {
            set_socket_timeout(&self.socket, Timeout::Recv, Some(self.patience.left()?))?;
            let (read, length) = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer over netlink"));
                }
                Err(error) => return Err(error.into()),
            };
            total += read;
            if length > read || total > LARGEST_ANSWER {
                return Err(broken("is larger than any answer of this kind"));
            }
            if take(self.buffer.get(..read).unwrap_or_default(), self.sequence, each)? {
                return Ok(());
            }
        }
    }
}

/// Gives each message of one piece of an answer to `each`; true when the answer is at its end.
fn take(piece: &[u8], sequence: u32, each: &mut dyn FnMut(Message<'_>)) -> io::Result<bool> {
    if piece.is_empty() {
        return Err(broken("is empty"));
    }
    for message in messages(piece) {
        let message = message?;
        // What is left of a question that was given up.
        if message.sequence != sequence {
            continue;
        }
        match message.kind {
            ERROR | DONE => {
                // An error of 0 acknowledges. A dump may fail half way, and says so at its end.
                let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code < 0 { Err(io::Error::from_raw_os_error(code.saturating_neg())) } else { Ok(true) };
            }
            // Below 16 stand messages about messages (`NLMSG_NOOP`).
            kind if kind >= 16 => each(message),
            _ => {}
        }
    }
    Ok(false)
}

fn question(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// The header of a generic netlink message.
#[must_use]
pub fn generic(command: u8, version: u8) -> Vec<u8> {
    vec![command, version, 0, 0]
}

/// Appends an attribute to a request; one that is longer than an attribute can be is left out.
pub fn push_attribute(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let Ok(length) = u16::try_from(4 + value.len()) else { return };
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's answer over netlink {what}"))
}

/// The messages of one piece of an answer. One whose length is impossible is the last.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((message, rest)) = split_message(bytes) else {
            bytes = &[];
            return Some(Err(broken("has a message of an impossible length")));
        };
        bytes = rest;
        Some(Ok(message))
    })
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(number32(bytes)?).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let sequence = number32(bytes.get(8..)?)?;
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind, flags, sequence, body }, rest))
}

impl Message<'_> {
    /// Whether more messages of the same answer follow, of which the last is a message of its own.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        self.flags & FLAG_MULTI != 0
    }
}

/// The attributes in `bytes`: type without its flag bits, and value. What has no form ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        // The two highest bits tell of nesting and byte order.
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attributes of a generic netlink message, behind its own header.
pub fn generic_attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(body.get(4..).unwrap_or_default())
}

/// A name in an answer of the kernel's: without the zero at its end, and what may stand behind that.
#[must_use]
pub fn name(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The number that `bytes` begin with, as this machine writes it.
#[must_use]
pub fn number32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// As [`number32`], of eight bytes.
#[must_use]
pub fn number64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = question(kind, 0, sequence, body).unwrap();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn taken(piece: &[u8]) -> (io::Result<bool>, Vec<u16>) {
        let mut kinds = Vec::new();
        let end = take(piece, 7, &mut |message| kinds.push(message.kind));
        (end, kinds)
    }

    #[test]
    fn an_answer_ends_with_done_or_an_error() {
        let parts = [message(20, 7, b"abc"), message(21, 7, b""), message(22, 6, b"of another question")].concat();
        let (end, kinds) = taken(&parts);
        assert!(!end.unwrap());
        assert_eq!(kinds, [20, 21]);
        assert!(taken(&[parts, message(DONE, 7, &0i32.to_ne_bytes())].concat()).0.unwrap());
        assert!(taken(&message(ERROR, 7, &0i32.to_ne_bytes())).0.unwrap());
        let missing = taken(&message(ERROR, 7, &(-2i32).to_ne_bytes())).0.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(taken(&message(ERROR, 7, &i32::MIN.to_ne_bytes())).0.is_err());
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for bytes in [&b""[..], b"abc", &[0; 16], &[255; 16]] {
            assert!(taken(bytes).0.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn attributes_are_taken_apart() {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, 0x8001, b"abc");
        push_attribute(&mut bytes, 2, b"");
        let whole: Vec<_> = attributes(&bytes).collect();
        assert_eq!(whole, [(1, &b"abc"[..]), (2, b"")]);
        // Cut off in the middle of the first; and one that says it has no length.
        assert_eq!(attributes(&bytes[..6]).count(), 0);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }

    #[test]
    fn the_kernel_answers() {
        // RTM_GETLINK with an empty `struct ifinfomsg`; a sandbox may forbid netlink.
        let Ok(mut netlink) = Netlink::route(None) else { return };
        let mut links = 0;
        netlink.dump(18, &[0; 16], &mut |_| links += 1).unwrap();
        assert!(links > 0, "there is lo at least");
        let mut generic = Netlink::generic(None).unwrap();
        assert_eq!(generic.family("nlctrl").unwrap(), Some(GENERIC_CONTROLLER));
        assert_eq!(generic.family("nobody").unwrap(), None);
        let late = Netlink::route(Some(Instant::now())).unwrap().dump(18, &[0; 16], &mut |_| {});
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER + 1);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
            let _ = taken(&bytes).1;
        }
    }
}
