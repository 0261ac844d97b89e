//! A client of D-Bus that asks and waits, for what systemd and logind know. Format: the D-Bus specification 0.43, "Message Protocol", "Type System",
//! "Authentication Protocol". Everything that comes in is bounded: a message's size, the time that it may take.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Root;
use super::wait::Patience;

/// The specification allows 128 MiB. systemd's list of ten thousand units has 3 MiB.
const LARGEST_MESSAGE: usize = 16 << 20;
/// A line while authenticating: `OK` and 32 digits.
const LONGEST_LINE: usize = 1024;
/// Questions that are under way at the same time. Less than any bus lets a connection have.
const UNDER_WAY: usize = 32;

const RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A connection that failed, in a sentence.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no socket at any of the places.
    #[error("there is no D-Bus socket at {0}: mount the host's, or its whole file system, or start a bus")]
    NoSocket(String),
    /// The connection is of no use any more.
    #[error("D-Bus at {0}: {1}")]
    Broken(String, io::Error),
}

/// What one question was refused with: the rest of the connection is as good as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {text}")]
pub struct Refused {
    /// The name of the error: `org.freedesktop.DBus.Error.ServiceUnknown`.
    pub name: String,
    /// What it says to people.
    pub text: String,
}

impl Refused {
    /// Whether nobody has the name that was asked: the service is not on this machine, or does not run.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(&*self.name, "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner")
    }
}

/// A question: a method with text for arguments.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Who is asked: a name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface that has the method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Its arguments.
    pub arguments: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// Asks for one property of an object.
    #[must_use]
    pub fn property(destination: &'a str, path: &'a str, interface: &'a str, name: &'a str) -> Self {
        Self { destination, path, interface: "org.freedesktop.DBus.Properties", member: "Get", arguments: vec![interface, name] }
    }
}

/// A connection to a bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    place: String,
    patience: Patience,
    serial: u32,
    inbox: Vec<u8>,
}

/// Where the host's system bus may be found: below its root file system, where `DBUS_SYSTEM_BUS_ADDRESS` says, and at the place that the specification
/// gives it.
#[must_use]
pub fn system_bus(root: &Root) -> Vec<PathBuf> {
    const PLACE: &str = "run/dbus/system_bus_socket";
    let mut places = vec![root.rootfs.join(PLACE)];
    if let Ok(address) = std::env::var("DBUS_SYSTEM_BUS_ADDRESS") {
        places.extend(paths(&address));
    }
    let own = Path::new(std::path::MAIN_SEPARATOR_STR).join(PLACE);
    if !places.contains(&own) {
        places.push(own);
    }
    places
}

/// systemd's own socket, at which only root is heard.
#[must_use]
pub fn systemd_private(root: &Root) -> Vec<PathBuf> {
    vec![root.rootfs.join("run/systemd/private")]
}

/// The paths in a list of addresses: `unix:path=/run/a,guid=1;unix:path=/run/b`. Other transports are left out.
fn paths(addresses: &str) -> impl Iterator<Item = PathBuf> {
    let of_one = |address: &str| address.strip_prefix("unix:")?.split(',').find_map(|part| part.strip_prefix("path=")).map(PathBuf::from);
    addresses.split(';').filter_map(of_one)
}

impl Bus {
    /// Connects to the first of `places` that answers. A bus gives a name to whoever says hello; a socket of one program (systemd's private one) is not greeted.
    ///
    /// # Errors
    /// [`BusError`] when none can be reached, or when it does not let this user in.
    pub fn connect(places: &[PathBuf], greet: bool, deadline: Option<Instant>) -> Result<Self, BusError> {
        let patience = Patience::until(deadline);
        let mut failure = None;
        for place in places {
            let name = place.display().to_string();
            match reach(place, patience) {
                Ok(stream) => {
                    let mut bus = Self { stream, place: name, patience, serial: 0, inbox: Vec::new() };
                    bus.begin(greet)?;
                    return Ok(bus);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => failure = failure.or(Some(BusError::Broken(name, error))),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let names: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            BusError::NoSocket(names.join(", "))
        }))
    }

    /// Asks one question. The answer is given to `read`, with the inner error when the question was refused.
    ///
    /// # Errors
    /// [`BusError`] when the connection is of no use any more.
    pub fn call<T>(&mut self, call: Call<'_>, read: impl FnOnce(Reply<'_>) -> T) -> Result<Result<T, Refused>, BusError> {
        let mut read = Some(read);
        let mut result = None;
        self.call_each(&[call], &mut |_, reply| result = Some(reply.map(|reply| read.take().map(|read| read(reply)))))?;
        match result {
            Some(Ok(Some(value))) => Ok(Ok(value)),
            Some(Err(refused)) => Ok(Err(refused)),
            Some(Ok(None)) | None => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Asks many questions, some at a time. Each answer is given to `read` with the number of its question, in the order in which they come.
    ///
    /// # Errors
    /// [`BusError`] when the connection is of no use any more.
    pub fn call_each(&mut self, calls: &[Call<'_>], read: &mut dyn FnMut(usize, Result<Reply<'_>, Refused>)) -> Result<(), BusError> {
        self.ask(calls, read).map_err(|error| self.broken(error))
    }

    fn broken(&self, error: io::Error) -> BusError {
        BusError::Broken(self.place.clone(), error)
    }

    fn begin(&mut self, greet: bool) -> Result<(), BusError> {
        self.authenticate().map_err(|error| self.broken(error))?;
        if greet {
            const BUS: &str = "org.freedesktop.DBus";
            let hello = Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "Hello", arguments: Vec::new() };
            self.call(hello, |_| ())?.map_err(|refused| self.broken(io::Error::other(refused)))?;
        }
        Ok(())
    }

    /// `EXTERNAL` without a user id, so that the bus takes the one that the kernel tells it: in a user namespace this process' own is another.
    fn authenticate(&mut self) -> io::Result<()> {
        self.say(b"\0AUTH EXTERNAL\r\n")?;
        let mut line = self.line()?;
        if line == b"DATA" {
            self.say(b"DATA\r\n")?;
            line = self.line()?;
        }
        if !line.starts_with(b"OK") {
            let said = String::from_utf8_lossy(&line);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it does not let this user in ({said:?})")));
        }
        self.say(b"BEGIN\r\n")
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.inbox.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.inbox.len() > LONGEST_LINE {
                return Err(malformed());
            }
            self.fill()?;
        }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.patience.left()?))?;
        self.stream.write_all(bytes).map_err(late)
    }

    /// Takes in what has come, and waits for it.
    fn fill(&mut self) -> io::Result<()> {
        const STEP: usize = 16 << 10;
        self.stream.set_read_timeout(Some(self.patience.left()?))?;
        let length = self.inbox.len();
        self.inbox.resize(length + STEP, 0);
        let read = loop {
            match self.stream.read(self.inbox.get_mut(length..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.inbox.truncate(length + read.as_ref().copied().unwrap_or(0));
        match read.map_err(late)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
            _ => Ok(()),
        }
    }

    fn ask(&mut self, calls: &[Call<'_>], read: &mut dyn FnMut(usize, Result<Reply<'_>, Refused>)) -> io::Result<()> {
        let mut number = 0;
        for some in calls.chunks(UNDER_WAY) {
            let mut questions = Vec::new();
            let mut waiting = HashMap::new();
            for call in some {
                self.serial = self.serial.checked_add(1).ok_or_else(malformed)?;
                write_call(self.serial, call, &mut questions)?;
                waiting.insert(self.serial, number);
                number += 1;
            }
            self.say(&questions)?;
            while !waiting.is_empty() {
                let size = loop {
                    match size(&self.inbox)? {
                        Some(size) if self.inbox.len() >= size => break size,
                        _ => self.fill()?,
                    }
                };
                let message = self.inbox.get(..size).and_then(message).ok_or_else(malformed)?;
                // Signals and other peers' questions go by: nobody waits for an answer from here.
                if let Some(number) = message.answers.and_then(|serial| waiting.remove(&serial)) {
                    read(number, message.reply);
                }
                self.inbox.drain(..size);
            }
        }
        Ok(())
    }
}

fn reach(place: &Path, patience: Patience) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(place)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits as long as the other side takes nobody in.
    set_socket_timeout(&socket, Timeout::Send, Some(patience.left()?))?;
    connect(&socket, &address).map_err(|error| late(error.into()))?;
    Ok(UnixStream::from(socket))
}

/// A socket's timeout shows as `EAGAIN`.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::Error::new(io::ErrorKind::TimedOut, "it does not answer") } else { error }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it sent what is no D-Bus message")
}

fn write_call(serial: u32, call: &Call<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    // A question with a zero byte would be another one; nothing of that kind is asked.
    let mut body = Vec::new();
    for argument in &call.arguments {
        write_text(argument, &mut body)?;
    }
    let mut fields = Vec::new();
    let signature = "s".repeat(call.arguments.len());
    for (code, kind, text) in [(1, b'o', call.path), (6, b's', call.destination), (2, b's', call.interface), (3, b's', call.member)] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend_from_slice(&[code, 1, kind, 0]);
        write_text(text, &mut fields)?;
    }
    if !signature.is_empty() {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend_from_slice(&[8, 1, b'g', 0, u8::try_from(signature.len()).map_err(io::Error::other)?]);
        fields.extend_from_slice(signature.as_bytes());
        fields.push(0);
    }
    // Little-endian, a call, which starts no service (2), version 1.
    out.extend_from_slice(&[b'l', 1, 2, 1]);
    for number in [length(&body)?, serial, length(&fields)?] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    fields.resize(fields.len().next_multiple_of(8), 0);
    out.extend_from_slice(&fields);
    out.extend_from_slice(&body);
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(&length(text.as_bytes())?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    Ok(())
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

/// How long the message is that `bytes` begin with; `None` while its head is not there.
fn size(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = bytes.first_chunk::<16>() else { return Ok(None) };
    let mut fields = Fields { bytes: head, at: 0, big: big(head).ok_or_else(malformed)? };
    let mut parts = || -> Option<usize> {
        fields.skip(4)?;
        let body = usize::try_from(fields.u32()?).ok()?;
        fields.skip(4)?;
        let header = usize::try_from(fields.u32()?).ok()?;
        16usize.checked_add(header.checked_next_multiple_of(8)?)?.checked_add(body)
    };
    match parts() {
        Some(size) if size <= LARGEST_MESSAGE => Ok(Some(size)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it sent a message larger than 16 MiB")),
    }
}

fn big(bytes: &[u8]) -> Option<bool> {
    match bytes.first()? {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

struct Incoming<'a> {
    answers: Option<u32>,
    reply: Result<Reply<'a>, Refused>,
}

fn message(bytes: &[u8]) -> Option<Incoming<'_>> {
    let mut fields = Fields { bytes, at: 1, big: big(bytes)? };
    let kind = fields.u8()?;
    fields.skip(10)?;
    let (mut answers, mut name, mut signature) = (None, String::new(), Cow::Borrowed(""));
    let mut header = fields.array(8)?;
    while header.more() {
        header.align(8)?;
        match (header.u8()?, header.variant()?) {
            (4, Value::Text(text)) => name = text.into_owned(),
            (5, Value::Unsigned(serial)) => answers = u32::try_from(serial).ok(),
            (8, Value::Text(text)) => signature = text,
            _ => {}
        }
    }
    fields.align(8)?;
    let reply = Reply { signature, fields: Fields { bytes: bytes.get(fields.at..)?, at: 0, big: fields.big } };
    match kind {
        RETURN => Some(Incoming { answers, reply: Ok(reply) }),
        ERROR => {
            let text = reply.fields("s").and_then(|mut fields| fields.text()).unwrap_or_default().into_owned();
            Some(Incoming { answers, reply: Err(Refused { name, text }) })
        }
        _ => Some(Incoming { answers: None, reply: Ok(reply) }),
    }
}

/// What is made of bytes that a bus sends, for tests/fuzz.
#[doc(hidden)]
#[must_use]
pub fn reply(bytes: &[u8]) -> Option<Result<Reply<'_>, Refused>> {
    size(bytes).ok().flatten()?;
    message(bytes).map(|message| message.reply)
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply<'a> {
    signature: Cow<'a, str>,
    fields: Fields<'a>,
}

impl<'a> Reply<'a> {
    /// What it says, when that has the types of `signature`.
    #[must_use]
    pub fn fields(&self, signature: &str) -> Option<Fields<'a>> {
        (self.signature == signature).then(|| self.fields.clone())
    }

    /// The one value of a property.
    #[must_use]
    pub fn value(&self) -> Option<Value<'a>> {
        self.fields("v")?.variant()
    }
}

/// A value whose type came with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A string, an object's path or a signature.
    Text(Cow<'a, str>),
    /// A whole number that is never negative.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

/// Marshalled values, read one after the other. Places are counted from the beginning of the message or its body, on which alignment depends.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Fields<'a> {
    /// Goes on to a multiple of `alignment`. A structure begins at one of 8.
    #[must_use]
    pub fn align(&mut self, alignment: usize) -> Option<()> {
        self.skip(self.at.checked_next_multiple_of(alignment)?.checked_sub(self.at)?)
    }

    /// Whether anything follows.
    #[must_use]
    pub const fn more(&self) -> bool {
        self.at < self.bytes.len()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.align(2)?;
        let bytes = *self.take(2)?.first_chunk()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// A `u`.
    #[must_use]
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = *self.take(4)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(&mut self) -> Option<u64> {
        self.align(8)?;
        let bytes = *self.take(8)?.first_chunk()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// An `s` or an `o`.
    #[must_use]
    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.ended(length)
    }

    /// `length` bytes and the zero byte behind them.
    fn ended(&mut self, length: usize) -> Option<Cow<'a, str>> {
        let text = self.take(length)?;
        (self.u8()? == 0).then(|| String::from_utf8_lossy(text))
    }

    /// The elements of an array, whose type is aligned to `alignment`.
    #[must_use]
    pub fn array(&mut self, alignment: usize) -> Option<Self> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.align(alignment)?;
        let start = self.at;
        self.skip(length)?;
        Some(Self { bytes: self.bytes.get(..self.at)?, at: start, big: self.big })
    }

    /// A `v`, when there is a single value in it.
    #[must_use]
    pub fn variant(&mut self) -> Option<Value<'a>> {
        let length = usize::from(self.u8()?);
        let signature = self.ended(length)?;
        Some(match &*signature {
            "s" | "o" => Value::Text(self.text()?),
            "g" => {
                let length = usize::from(self.u8()?);
                Value::Text(self.ended(length)?)
            }
            "y" => Value::Unsigned(self.u8()?.into()),
            "q" => Value::Unsigned(self.u16()?.into()),
            "n" => Value::Signed(self.u16()?.cast_signed().into()),
            "b" => Value::Bool(self.u32()? != 0),
            "u" => Value::Unsigned(self.u32()?.into()),
            "i" => Value::Signed(self.u32()?.cast_signed().into()),
            "t" => Value::Unsigned(self.u64()?),
            "x" => Value::Signed(self.u64()?.cast_signed()),
            "d" => Value::Float(f64::from_bits(self.u64()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn property() -> Call<'static> {
        Call::property("org.example", "/org/example", "org.example.Thing", "Name")
    }

    fn written(call: &Call<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_call(7, call, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_question_has_the_form_that_is_read_here() {
        let bytes = written(&property());
        assert_eq!(size(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(size(&bytes[..15]).unwrap(), None);
        let question = message(&bytes).unwrap();
        assert_eq!(question.answers, None);
        let mut fields = question.reply.unwrap().fields("ss").unwrap();
        assert_eq!(fields.text().unwrap(), "org.example.Thing");
        assert_eq!(fields.text().unwrap(), "Name");
        assert!(!fields.more());
        assert!(message(&bytes[..bytes.len() - 40]).is_none());
    }

    #[test]
    fn messages_that_are_too_large_are_refused_before_they_are_read() {
        let mut bytes = written(&property());
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(size(&bytes).unwrap_err().to_string().contains("16 MiB"));
        bytes[0] = b'x';
        assert!(size(&bytes).is_err());
    }

    #[test]
    fn both_byte_orders_are_read() {
        let mut little = Fields { bytes: b"\x01u\0\0\x01\x02\0\0", at: 0, big: false };
        assert_eq!(little.variant(), Some(Value::Unsigned(0x201)));
        let mut big = Fields { bytes: b"\x01i\0\0\xff\xff\xff\xfe", at: 0, big: true };
        assert_eq!(big.variant(), Some(Value::Signed(-2)));
        // An array of structures, for which there is nothing to read here.
        let mut other = Fields { bytes: b"\x01a\0\0\0\0\0\0", at: 0, big: false };
        assert_eq!(other.variant(), None);
    }

    #[test]
    fn addresses_are_taken_apart() {
        let found: Vec<PathBuf> = paths("tcp:host=x;unix:guid=1,path=/a/b;unix:abstract=c;;unix:path=/d").collect();
        assert_eq!(found, [Path::new("/a/b"), Path::new("/d")]);
    }

    #[test]
    fn nobody_there_and_nobody_answering_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("bus");
        let missing = Bus::connect(std::slice::from_ref(&place), true, None).unwrap_err();
        assert!(matches!(missing, BusError::NoSocket(_)), "{missing}");
        let _listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
        let soon = Instant::now() + std::time::Duration::from_millis(200);
        let silent = Bus::connect(&[place], true, Some(soon)).unwrap_err().to_string();
        assert!(silent.contains("does not answer"), "{silent}");
        assert!(Instant::now() < soon + std::time::Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in any::<bool>()) {
            let bytes = if start { [b"l\x02\0\x01", &bytes[..]].concat() } else { bytes };
            size(&bytes).ok();
            if let Some(Incoming { reply: Ok(reply), .. }) = message(&bytes) {
                drop(reply.value());
                let mut fields = reply.fields.clone();
                if let Some(mut array) = fields.array(8) {
                    while array.more() && array.align(8).is_some() && array.text().is_some() {}
                }
            }
        }

        #[test]
        fn a_byte_gone_wrong_is_no_harm(place in 0..200usize, byte in any::<u8>()) {
            let mut bytes = written(&property());
            let place = place % bytes.len();
            bytes[place] = byte;
            size(&bytes).ok();
            if let Some(Incoming { reply: Ok(reply), .. }) = message(&bytes) {
                let _ = reply.fields("ss").map(|mut fields| (fields.text(), fields.text()));
            }
        }
    }
}
