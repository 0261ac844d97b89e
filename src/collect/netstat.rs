//! `node_netstat_*` from the host's `net/netstat`, `net/snmp` and `net/snmp6`, untyped as node_exporter has them.

use regex::bytes::Regex;

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry, filter};
use crate::config::{Flag, FlagKind, Settings};
use crate::exposition::Writer;
use crate::host::{ReadError, parse};
use crate::model::{Kind, Value};

const FIELDS: Flag = Flag::new(
    "collector.netstat.fields",
    FlagKind::One("REGEX"),
    Some(
        "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
    ),
    "Fields of net/netstat, net/snmp and net/snmp6 to export, as Protocol_Field.",
);

pub(super) const ENTRY: Entry = entry!("netstat", on, &[FIELDS], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(NetStat { wanted: filter::pattern(settings, &FIELDS)?, names: Names::default(), key: Vec::new() }))
}

struct NetStat {
    wanted: Option<Regex>,
    names: Names,
    key: Vec<u8>,
}

impl Collector for NetStat {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        self.names.begin();
        let mut found = false;
        let mut failure: Option<ReadError> = None;
        for file in ["netstat", "snmp", "snmp6"] {
            let bytes = match host.net(file) {
                Ok((_, bytes)) => bytes,
                // A kernel without IPv6 has no snmp6.
                Err(error) if error.is_absent() => continue,
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                    continue;
                }
            };
            found = true;
            if file == "snmp6" {
                snmp6(bytes, |field| self.field(file, field, out, odd));
            } else {
                pairs(bytes, |field| self.field(file, field, out, odd));
            }
        }
        match failure {
            Some(error) if !found => Err(error.into()),
            _ if found => Ok(Presence::Present),
            _ => Ok(Presence::Absent),
        }
    }
}

impl NetStat {
    fn field(&mut self, file: &str, field: Result<Field<'_>, &[u8]>, out: &mut Writer, odd: &mut Oddities) {
        let Field { protocol, name, value } = match field {
            Ok(field) => field,
            Err(line) => return odd.line(file, line),
        };
        self.key.clear();
        self.key.extend_from_slice(protocol);
        self.key.push(b'_');
        self.key.extend_from_slice(name);
        let split = protocol.len();
        let named = |key: &str| {
            let wanted = self.wanted.as_ref().is_none_or(|pattern| pattern.is_match(key.as_bytes()));
            // HELP names the field without the line between protocol and name, as node_exporter does.
            let (protocol, name) = key.split_at_checked(split)?;
            let help = format!("Statistic {protocol}{}.", name.trim_start_matches('_'));
            wanted.then(|| Named { name: format!("node_netstat_{key}"), help })
        };
        match self.names.find(&self.key, named) {
            Found::Wanted(Named { name, help }) => match number(value) {
                Some(value) => {
                    out.family(name, Kind::Untyped, help).sample(&[], value);
                }
                None => odd.line(file, value),
            },
            Found::Unwanted => {}
            Found::Odd => odd.line(file, &self.key),
        }
    }
}

/// A field, in the words of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field<'a> {
    protocol: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

/// Most are counters; `Tcp_MaxConn` is -1 where there is no bound.
fn number(field: &[u8]) -> Option<Value> {
    parse::unsigned(field).map(Value::from).or_else(|| parse::signed(field).map(Value::from))
}

/// The pairs of lines of `netstat` and `snmp`: `Tcp: A B` and then `Tcp: 1 2`. Lines that are no pair, and pairs with another number of values than
/// names, are given as errors; the next pair is read all the same.
fn pairs<'a>(bytes: &'a [u8], mut each: impl FnMut(Result<Field<'a>, &'a [u8]>)) {
    let mut lines = parse::lines(bytes).peekable();
    while let Some(names) = lines.next() {
        let protocol = parse::fields(names).next().and_then(|head| head.strip_suffix(b":")).filter(|protocol| !protocol.is_empty());
        let Some(protocol) = protocol else {
            each(Err(names));
            continue;
        };
        let same = |line: &&[u8]| line.strip_prefix(protocol).is_some_and(|rest| rest.starts_with(b":"));
        let Some(values) = lines.next_if(same) else {
            each(Err(names));
            continue;
        };
        if parse::fields(names).count() != parse::fields(values).count() {
            each(Err(values));
            continue;
        }
        for (name, value) in parse::fields(names).zip(parse::fields(values)).skip(1) {
            each(Ok(Field { protocol, name, value }));
        }
    }
}

/// The lines of `snmp6`: `Ip6InReceives 7`; the protocol ends behind the first 6. A line without a 6 is none of these fields.
fn snmp6<'a>(bytes: &'a [u8], mut each: impl FnMut(Result<Field<'a>, &'a [u8]>)) {
    for line in parse::lines(bytes) {
        let mut fields = parse::fields(line);
        let (Some(key), Some(value)) = (fields.next(), fields.next()) else {
            each(Err(line));
            continue;
        };
        let Some(six) = key.iter().position(|byte| *byte == b'6') else { continue };
        let Some((protocol, name)) = key.split_at_checked(six + 1) else { continue };
        each(Ok(Field { protocol, name, value }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (Vec<(String, String)>, usize) {
        let (mut fields, mut odd) = (Vec::new(), 0);
        pairs(bytes, |field| match field {
            Ok(Field { protocol, name, value }) => {
                fields.push((format!("{}_{}", parse::text(protocol), parse::text(name)), parse::text(value).into_owned()));
            }
            Err(_) => odd += 1,
        });
        (fields, odd)
    }

    #[test]
    fn a_pair_that_does_not_fit_costs_only_itself() {
        let (fields, odd) = read(b"Ip: A B\nIp: 1\nTcp: C\nTcp: -1\nUdp: D\nIcmp: E\nIcmp: 5\nLast: F\n");
        assert_eq!(fields, [("Tcp_C".into(), "-1".into()), ("Icmp_E".into(), "5".into())]);
        assert_eq!(odd, 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            read(&bytes);
            snmp6(&bytes, |_| {});
        }
    }
}
