//! `node_ipvs_*` from the host's `net/ip_vs_stats` and `net/ip_vs`. The services that Swarm balances live in network namespaces of their own and are not the
//! host's. Source: the kernel's `net/netfilter/ipvs/ip_vs_ctl.c`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::parse;
use crate::model::Kind;
use crate::present;

const LABELS: Flag = Flag::new(
    "collector.ipvs.backend-labels",
    FlagKind::One("LABELS"),
    Some("local_address,local_port,remote_address,remote_port,proto,local_mark"),
    "Labels of the backends' series, between commas; backends that agree in them are added up.",
);

pub(super) const ENTRY: Entry = entry!("ipvs", on, &[LABELS], build);

/// The labels that there are, in the order in which they are written.
const ALL: [&str; 6] = ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"];

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let wanted = match settings.many(LABELS.name).last() {
        // Empty asks for no labels: one sum of everything.
        None => [true; ALL.len()],
        Some(given) => {
            let names = || given.split(',').map(str::trim).filter(|name| !name.is_empty());
            if let Some(unknown) = names().find(|name| !ALL.contains(name)) {
                return Err(format!("--{}={given}: there is no label {unknown}; give some of {}", LABELS.name, ALL.join(",")));
            }
            ALL.map(|label| names().any(|name| name == label))
        }
    };
    Ok(Box::new(Ipvs { wanted }))
}

struct Ipvs {
    wanted: [bool; ALL.len()],
}

/// The values of [`ALL`] of one backend, empty where they are not wanted.
type Labels = [String; ALL.len()];
/// Weight, active and inactive connections.
type Numbers = [u64; 3];

const TOTALS: [(&str, &str); 5] = [
    ("node_ipvs_connections_total", "The total number of connections made."),
    ("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    ("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];

/// By the index of [`Numbers`].
const BACKENDS: [(&str, &str); 3] = [
    ("node_ipvs_backend_weight", "The current backend weight by local and remote address."),
    ("node_ipvs_backend_connections_active", "The current active connections by local and remote address."),
    ("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address."),
];

impl Collector for Ipvs {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (_, bytes) = present!(host.net("ip_vs_stats"));
        match totals(bytes) {
            Some(totals) => {
                for ((name, help), number) in TOTALS.iter().zip(totals) {
                    out.counter(name, help, number);
                }
            }
            None => odd.line("ip_vs_stats", bytes),
        }
        let backends = match host.net("ip_vs") {
            Ok((_, bytes)) => backends(bytes, &self.wanted, odd),
            Err(error) => {
                odd.tell(&error);
                return Ok(Presence::Present);
            }
        };
        for (index, (name, help)) in BACKENDS.iter().enumerate() {
            let mut family = out.family(name, Kind::Gauge, help);
            for (values, numbers) in &backends {
                let mut labels = [("", ""); ALL.len()];
                let mut count = 0;
                for ((label, value), _) in ALL.iter().zip(values).zip(self.wanted).filter(|(_, wanted)| *wanted) {
                    if let Some(slot) = labels.get_mut(count) {
                        *slot = (label, value);
                        count += 1;
                    }
                }
                if let (Some(labels), Some(number)) = (labels.get(..count), numbers.get(index)) {
                    family.sample(labels, *number);
                }
            }
        }
        Ok(Presence::Present)
    }
}

/// The third line of `ip_vs_stats`, behind two of headings: hexadecimal sums since the module was loaded.
fn totals(bytes: &[u8]) -> Option<[u64; TOTALS.len()]> {
    let mut numbers = parse::fields(bytes.split(|byte| *byte == b'\n').nth(2)?).map(parse::hexadecimal);
    let mut totals = [0; TOTALS.len()];
    for slot in &mut totals {
        *slot = numbers.next()??;
    }
    numbers.next().is_none().then_some(totals)
}

/// A service: what a line of `ip_vs` that is not indented says.
struct Service {
    proto: &'static str,
    address: String,
    port: u16,
    mark: String,
}

/// The backends of `ip_vs`, those that have the same labels added up.
fn backends(bytes: &[u8], wanted: &[bool; ALL.len()], odd: &mut Oddities) -> BTreeMap<Labels, Numbers> {
    let mut sums: BTreeMap<Labels, Numbers> = BTreeMap::new();
    let mut current: Option<Service> = None;
    for line in parse::lines(bytes) {
        let first = parse::fields(line).next();
        let heading = |field: &[u8]| parse::fields(line).nth(1) == Some(field);
        match first {
            Some(b"IP" | b"Prot") | None => {}
            Some(b"->") if heading(b"RemoteAddress:Port") => {}
            Some(b"->") => {
                // Behind a service that could not be read, nobody knows whose it is: that was told.
                let Some(service) = &current else { continue };
                let Some((address, port, numbers)) = backend(line) else {
                    odd.line("ip_vs", line);
                    continue;
                };
                let mut values = [
                    service.address.clone(),
                    service.port.to_string(),
                    address.to_string(),
                    port.to_string(),
                    service.proto.to_owned(),
                    service.mark.clone(),
                ];
                for (value, _) in values.iter_mut().zip(wanted).filter(|(_, wanted)| !**wanted) {
                    value.clear();
                }
                let sum = sums.entry(values).or_default();
                for (sum, number) in sum.iter_mut().zip(numbers) {
                    *sum = sum.saturating_add(number);
                }
            }
            Some(_) => {
                current = service(line);
                if current.is_none() {
                    odd.line("ip_vs", line);
                }
            }
        }
    }
    sums
}

/// `TCP  C0A80016:0CEA wlc`, `FWM  10001000 wlc`.
fn service(line: &[u8]) -> Option<Service> {
    let mut fields = parse::fields(line);
    let proto = match fields.next()? {
        b"TCP" => "TCP",
        b"UDP" => "UDP",
        b"SCTP" => "SCTP",
        b"FWM" => "FWM",
        _ => return None,
    };
    let field = fields.next()?;
    if proto == "FWM" {
        return Some(Service { proto, address: String::new(), port: 0, mark: parse::text(field).into_owned() });
    }
    let (address, port) = endpoint(field)?;
    Some(Service { proto, address: address.to_string(), port, mark: String::new() })
}

/// `  -> C0A85216:0CEA      Tunnel  100    248        2`.
fn backend(line: &[u8]) -> Option<(IpAddr, u16, Numbers)> {
    let mut fields = parse::fields(line).skip(1);
    let (address, port) = endpoint(fields.next()?)?;
    let mut numbers = fields.skip(1).map(parse::unsigned);
    Some((address, port, [numbers.next()??, numbers.next()??, numbers.next()??]))
}

/// `C0A85216:0CEA` or `[2001:0db8:0000:0000:0000:0000:0000:0001]:0CEA`.
fn endpoint(field: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = field.split_at_checked(field.len().checked_sub(5)?)?;
    let port = u16::try_from(parse::hexadecimal(port.strip_prefix(b":")?)?).ok()?;
    let address = match address.strip_prefix(b"[") {
        Some(rest) => std::str::from_utf8(rest.strip_suffix(b"]")?).ok()?.parse::<Ipv6Addr>().ok()?.to_canonical(),
        None if address.len() == 8 => Ipv4Addr::from_bits(u32::try_from(parse::hexadecimal(address)?).ok()?).into(),
        None => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY: [bool; ALL.len()] = [true; ALL.len()];

    fn read(bytes: &[u8]) -> (Vec<(String, Numbers)>, u64) {
        let mut odd = Oddities::default();
        let found = backends(bytes, &EVERY, &mut odd);
        (found.into_iter().map(|(labels, numbers)| (labels.join(" "), numbers)).collect(), odd.count)
    }

    #[test]
    fn a_backend_belongs_to_the_service_before_it() {
        let (found, odd) = read(
            b"TCP  0A000001:0050 rr\n  -> 0A000002:1F90 Masq 1 2 3\n  -> 0A000002:1F90 Masq 1 2 3\n\
              ICMP x rr\n  -> 0A000003:1F90 Masq 1 2 3\n\
              UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 rr ops\n  -> odd Masq 1 2 3\n  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035 Route 4 5 6\n",
        );
        assert_eq!(
            found,
            [("10.0.0.1 80 10.0.0.2 8080 TCP ".to_owned(), [2, 4, 6]), ("2001:db8::1 53 2001:db8::2 53 UDP ".to_owned(), [4, 5, 6])]
        );
        assert_eq!(odd, 2);
    }

    #[test]
    fn labels_are_chosen_and_refused() {
        let with = |value: &str| {
            let mut settings = Settings::default();
            settings.set(LABELS.name, vec![value.to_owned()]);
            build(&settings).err()
        };
        assert_eq!(with("local_port,proto"), None);
        assert_eq!(with(""), None);
        assert!(
            with("proto,port")
                .unwrap()
                .starts_with("--collector.ipvs.backend-labels=proto,port: there is no label port; give some of local_")
        );
    }

    #[test]
    fn sums() {
        assert_eq!(totals(b"a\nb\n 16AA370 E33656E5 0 51D8C8883AB3 0\n"), Some([23_765_872, 3_811_989_221, 0, 89_991_519_156_915, 0]));
        for odd in [&b""[..], b"a\nb\n1 2 3 4\n", b"a\nb\n1 2 3 4 5 6\n", b"a\nb\n1 2 3 4 x\n"] {
            assert_eq!(totals(odd), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "((TCP|->|FWM|x)( [0-9A-F:\\[\\]]{1,14}){0,6}\n){0,6}") {
            let _ = (read(&bytes), read(text.as_bytes()), totals(&bytes), endpoint(&bytes));
        }
    }
}
