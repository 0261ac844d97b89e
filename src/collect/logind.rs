//! `node_logind_sessions`: the sessions of users, over D-Bus. Interface: org.freedesktop.login1(5).

use std::collections::{BTreeMap, BTreeSet};

use super::sockets::is_without_systemd;
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::dbus::{self, Bus, BusError, Call, Fields, Value};
use crate::model::Kind;

pub(super) const ENTRY: Entry = entry!("logind", off, &[], |_| Ok(Box::new(Logind)));

struct Logind;

const DESTINATION: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";

const REMOTE: [&str; 2] = ["true", "false"];
/// Whatever else there is counts as `other`.
const TYPES: [&str; 7] = ["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];
const PROPERTIES: [&str; 3] = ["Remote", "Type", "Class"];

/// What was told of a session.
#[derive(Default)]
struct Session {
    seat: String,
    path: String,
    remote: Option<bool>,
    kind: Option<&'static str>,
    class: Option<&'static str>,
}

impl Collector for Logind {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let mut bus = match Bus::connect(&dbus::system_bus(pass.host.root()), true, pass.deadline) {
            Err(BusError::NoSocket(_)) if is_without_systemd(pass.host) => return Ok(Presence::Absent),
            other => other?,
        };
        let list = |member| Call { destination: DESTINATION, path: PATH, interface: MANAGER, member, arguments: Vec::new() };
        let mut seats = match bus.call(list("ListSeats"), |reply| reply.fields("a(so)").and_then(seats))? {
            Ok(Some(seats)) => seats,
            Ok(None) => return Err(CollectError::Other("logind's list of seats has another form than it should".to_owned())),
            // No logind on this machine.
            Err(refused) if refused.is_absent() => return Ok(Presence::Absent),
            Err(refused) => return Err(CollectError::Other(format!("logind does not list its seats: {refused}"))),
        };
        // Sessions from afar have no seat.
        seats.insert(String::new());
        let mut sessions = match bus.call(list("ListSessions"), |reply| reply.fields("a(susso)").and_then(sessions))? {
            Ok(Some(sessions)) => sessions,
            Ok(None) => return Err(CollectError::Other("logind's list of sessions has another form than it should".to_owned())),
            Err(refused) => return Err(CollectError::Other(format!("logind does not list its sessions: {refused}"))),
        };
        let paths: Vec<String> = sessions.iter().map(|session| session.path.clone()).collect();
        let calls: Vec<Call<'_>> =
            paths.iter().flat_map(|path| PROPERTIES.map(|name| Call::property(DESTINATION, path, SESSION, name))).collect();
        let (_, out, odd) = pass.split();
        bus.call_each(&calls, &mut |number, reply| {
            let (Ok(reply), Some(session)) = (reply, sessions.get_mut(number / PROPERTIES.len())) else { return };
            match (number % PROPERTIES.len(), reply.value()) {
                (0, Some(Value::Bool(remote))) => session.remote = Some(remote),
                (1, Some(Value::Text(kind))) => session.kind = Some(known(&kind, &TYPES)),
                (2, Some(Value::Text(class))) => session.class = Some(known(&class, &CLASSES)),
                _ => odd.tell(&format_args!("{}: a property has another form than it should", session.path)),
            }
        })?;
        let mut counts: BTreeMap<(&str, &str, &str, &str), u64> = BTreeMap::new();
        for session in &sessions {
            // A session that ended meanwhile tells nothing any more.
            let (Some(remote), Some(kind), Some(class)) = (session.remote, session.kind, session.class) else { continue };
            *counts.entry((&session.seat, if remote { "true" } else { "false" }, kind, class)).or_default() += 1;
            seats.insert(session.seat.clone());
        }
        let mut family = out.family("node_logind_sessions", Kind::Gauge, "Number of sessions registered in logind.");
        for seat in &seats {
            for remote in REMOTE {
                for kind in TYPES {
                    for class in CLASSES {
                        let count = counts.get(&(&**seat, remote, kind, class)).copied().unwrap_or_default();
                        family.sample(&[("seat", seat), ("remote", remote), ("type", kind), ("class", class)], count);
                    }
                }
            }
        }
        Ok(Presence::Present)
    }
}

fn known(value: &str, names: &[&'static str]) -> &'static str {
    names.iter().find(|name| **name == value).copied().unwrap_or("other")
}

/// The names of `ListSeats`.
fn seats(mut fields: Fields<'_>) -> Option<BTreeSet<String>> {
    let mut seats = BTreeSet::new();
    let mut list = fields.array(8)?;
    while list.more() {
        list.align(8)?;
        seats.insert(list.text()?.into_owned());
        list.text()?;
    }
    Some(seats)
}

/// The sessions of `ListSessions`: id, user's number and name, seat, object.
fn sessions(mut fields: Fields<'_>) -> Option<Vec<Session>> {
    let mut sessions = Vec::new();
    let mut list = fields.array(8)?;
    while list.more() {
        list.align(8)?;
        list.text()?;
        list.u32()?;
        list.text()?;
        let seat = list.text()?.into_owned();
        let path = list.text()?.into_owned();
        sessions.push(Session { seat, path, ..Session::default() });
    }
    Some(sessions)
}
