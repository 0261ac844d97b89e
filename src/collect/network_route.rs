//! `node_network_routes` and `node_network_route_info`: the routes to somewhere (unicast), of IPv4 and IPv6, by interface.
//!
//! In the host's network namespace by rtnetlink, which has all of them. Elsewhere from the host's `net/route` (the main table of IPv4, of a route over several
//! gateways the first) and `net/ipv6_route`, which know no source address, protocol and weight: these labels are then empty.
//! Sources: rtnetlink(7), `net/ipv4/fib_trie.c`, `net/ipv6/route.c`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::addresses::{address, address6};
use super::families::Families;
use super::filter::Filter;
use super::interfaces::Interfaces;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, entry};
use crate::config::Settings;
use crate::host::{parse, rtnetlink};

pub(super) const ENTRY: Entry = entry!("network_route", off, &[], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(NetworkRoute { interfaces: Interfaces::of(settings, Filter::default())? }))
}

struct NetworkRoute {
    interfaces: Interfaces,
}

/// A route, or one of the ways that a route has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Route {
    device: Device,
    source: Option<IpAddr>,
    /// Where to, and how many bits of it count; 0 is everywhere.
    destination: Option<(IpAddr, u8)>,
    gateway: Option<IpAddr>,
    priority: u32,
    protocol: Option<u8>,
    weight: Option<u16>,
}

/// By its number in netlink, by its name in files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    Number(u32),
    Name(String),
}

impl Default for Device {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// More routes than this are a table of the Internet's: they are counted by interface, and not told one by one.
const MOST: usize = 1024;

impl Collector for NetworkRoute {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let deadline = pass.deadline;
        let (host, out, odd) = pass.split();
        let mut table = Table { interfaces: &self.interfaces, names: BTreeMap::new(), counts: BTreeMap::new(), told: Vec::new() };
        let mut is_whole = true;
        if host.in_host_network() {
            let failed = |error| CollectError::Other(format!("rtnetlink: {error}"));
            rtnetlink::dump(rtnetlink::LINKS, deadline, |body| {
                if let Some((number, name)) = rtnetlink::link(body) {
                    table.names.insert(number, parse::text(name).into_owned());
                }
            })
            .map_err(failed)?;
            rtnetlink::dump(rtnetlink::ROUTES, deadline, |body| of_message(body, |route| table.add(route))).map_err(failed)?;
        } else {
            let (mut found, mut failure) = (false, None);
            for (file, of_line) in [("route", of_line4 as OfLine), ("ipv6_route", of_line6)] {
                let read = host.net_lines(file, |line| match of_line(line) {
                    Some(Some(route)) => table.add(route),
                    Some(None) => {}
                    None => odd.line(file, line),
                });
                match read {
                    Ok(_) => found = true,
                    Err(error) if error.is_absent() => {}
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            match failure {
                Some(error) if !found => return Err(error.into()),
                // Routes of the one protocol are no number of routes.
                Some(error) => {
                    odd.tell(&error);
                    is_whole = false;
                }
                None if !found => return Ok(Presence::Absent),
                None => {}
            }
        }
        let Table { mut counts, told, .. } = table;
        let left_out: Vec<String> = counts.keys().filter(|name| self.interfaces.is_containers(host, name.as_bytes())).cloned().collect();
        if !is_whole {
            counts.clear();
        }
        write(&counts, &told, &left_out, odd).write(out);
        Ok(Presence::Present)
    }
}

type OfLine = fn(&[u8]) -> Option<Option<Route>>;

struct Table<'a> {
    interfaces: &'a Interfaces,
    names: BTreeMap<u32, String>,
    counts: BTreeMap<String, u64>,
    told: Vec<(String, Route)>,
}

impl Table<'_> {
    fn add(&mut self, route: Route) {
        let name = match &route.device {
            Device::Number(number) => self.names.get(number).cloned().unwrap_or_default(),
            Device::Name(name) => name.clone(),
        };
        if !self.interfaces.keeps(name.as_bytes()) {
            return;
        }
        *self.counts.entry(name.clone()).or_default() += 1;
        if self.told.len() <= MOST {
            self.told.push((name, route));
        }
    }
}

fn write(counts: &BTreeMap<String, u64>, told: &[(String, Route)], left_out: &[String], odd: &mut Oddities) -> Families {
    let mut families = Families::default();
    for (device, count) in counts.iter().filter(|(device, _)| !left_out.contains(device)) {
        families.gauge("node_network_routes", "network routes by interface", &[("device", device)], *count);
    }
    if told.len() > MOST {
        odd.tell(&format_args!("more than {MOST} routes: they are counted, and not told one by one"));
        return families;
    }
    for (device, route) in told.iter().filter(|(device, _)| !left_out.contains(device)) {
        let address = |address: Option<IpAddr>| address.map_or_else(String::new, |address| address.to_string());
        let labels = [
            address(route.source),
            match route.destination {
                Some((address, bits)) if bits > 0 => format!("{address}/{bits}"),
                _ => "default".to_owned(),
            },
            address(route.gateway),
            route.priority.to_string(),
            route.protocol.map_or_else(String::new, protocol),
            route.weight.map_or_else(String::new, |weight| weight.to_string()),
        ];
        let [source, destination, gateway, priority, protocol, weight] = &labels;
        // Once, though two tables may have the same route, which node_exporter writes twice.
        families.gauge(
            "node_network_route_info",
            "network routing table information",
            &[
                ("device", device),
                ("src", source),
                ("dest", destination),
                ("gw", gateway),
                ("priority", priority),
                ("proto", protocol),
                ("weight", weight),
            ],
            1u64,
        );
    }
    families
}

/// The protocols of `include/uapi/linux/rtnetlink.h`, under node_exporter's names.
const PROTOCOLS: [(u8, &str); 21] = [
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (42, "babel"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

fn protocol(number: u8) -> String {
    PROTOCOLS.iter().find(|(known, _)| *known == number).map_or_else(|| "unknown".to_owned(), |(_, name)| (*name).to_owned())
}

/// Gives the unicast routes of a message `RTM_NEWROUTE`: one, or one for each way.
fn of_message(body: &[u8], mut take: impl FnMut(Route)) {
    /// `struct rtmsg`.
    const HEAD: usize = 12;
    const UNICAST: u8 = 1;
    /// `struct rtnexthop`: length, flags, weight less one, interface.
    const WAY: usize = 8;
    const GATEWAY: u16 = 5;
    const VIA: u16 = 18;
    let (Some([bits]), Some([protocol]), Some([UNICAST])) =
        (rtnetlink::number(body, 1), rtnetlink::number(body, 5), rtnetlink::number(body, 7))
    else {
        return;
    };
    // `struct rtvia` has the family before the address: IPv4 by way of IPv6.
    let gateway = |kind: u16, value: &[u8]| match kind {
        GATEWAY => address(value),
        VIA => value.get(2..).and_then(address),
        _ => None,
    };
    let mut route = Route { protocol: Some(protocol), ..Route::default() };
    let mut ways: &[u8] = &[];
    for (kind, value) in rtnetlink::attributes(body, HEAD) {
        match kind {
            1 => route.destination = address(value).map(|address| (address, bits)),
            4 => route.device = Device::Number(rtnetlink::u32_at(value, 0).unwrap_or_default()),
            6 => route.priority = rtnetlink::u32_at(value, 0).unwrap_or_default(),
            7 => route.source = address(value),
            9 => ways = value,
            _ => route.gateway = gateway(kind, value).or(route.gateway),
        }
    }
    if ways.is_empty() {
        take(route);
        return;
    }
    while let (Some(length), Some([hops])) = (rtnetlink::number(ways, 0).map(u16::from_ne_bytes), rtnetlink::number(ways, 3)) {
        let Some(way) = ways.get(..usize::from(length)).filter(|way| way.len() >= WAY) else { return };
        let mut of_way = route.clone();
        of_way.device = Device::Number(rtnetlink::u32_at(way, 4).unwrap_or_default());
        of_way.weight = Some(u16::from(hops) + 1);
        of_way.gateway = rtnetlink::attributes(way, WAY).find_map(|(kind, value)| gateway(kind, value));
        take(of_way);
        ways = ways.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
}

const REJECT: u64 = 0x200;

/// A line of `net/route`: interface, destination, gateway, flags, three numbers of which the last is the metric, mask, ... `Some(None)` is a line that is no
/// unicast route: the head, and routes that refuse.
fn of_line4(line: &[u8]) -> Option<Option<Route>> {
    let mut fields = parse::fields(line);
    let name = fields.next()?;
    // Written as the number that the machine sees in the bytes as they go over the wire.
    let address = |field: &[u8]| {
        parse::hexadecimal(field).and_then(|number| u32::try_from(number).ok()).map(|number| Ipv4Addr::from(number.to_ne_bytes()))
    };
    if name == b"Iface" {
        return Some(None);
    }
    let (destination, gateway) = (address(fields.next()?)?, address(fields.next()?)?);
    let flags = parse::hexadecimal(fields.next()?)?;
    let priority = u32::try_from(parse::unsigned(fields.nth(2)?)?).ok()?;
    let mask = u32::from(address(fields.next()?)?);
    if flags & REJECT != 0 {
        return Some(None);
    }
    let bits = u8::try_from(mask.leading_ones()).ok()?;
    Some(Some(Route {
        device: Device::Name(parse::text(name).into_owned()),
        destination: Some((destination.into(), bits)),
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        priority,
        ..Route::default()
    }))
}

/// A line of `net/ipv6_route`: destination, its bits, source, its bits, gateway, metric, two counts, flags, interface; all hexadecimal.
fn of_line6(line: &[u8]) -> Option<Option<Route>> {
    /// `RTF_LOCAL`, `RTF_ANYCAST` and `RTF_REJECT`: addresses of this machine, and routes that refuse.
    const OTHER: u64 = 0x8000_0000 | 0x0010_0000 | REJECT;
    let mut fields = parse::fields(line);
    let destination = address6(fields.next()?)?;
    let bits = u8::try_from(parse::hexadecimal(fields.next()?)?).ok().filter(|bits| *bits <= 128)?;
    let gateway = address6(fields.nth(2)?)?;
    let priority = u32::try_from(parse::hexadecimal(fields.next()?)?).ok()?;
    let flags = parse::hexadecimal(fields.nth(2)?)?;
    let name = fields.next()?;
    if flags & OTHER != 0 || destination.is_multicast() {
        return Some(None);
    }
    Some(Some(Route {
        device: Device::Name(parse::text(name).into_owned()),
        destination: Some((destination.into(), bits)),
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        priority,
        ..Route::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (u16::try_from(value.len()).unwrap() + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn routes(message: &[u8]) -> Vec<Route> {
        let mut found = Vec::new();
        of_message(message, |route| found.push(route));
        found
    }

    #[test]
    fn a_message_is_a_route_or_as_many_as_it_has_ways() {
        let head = |kind| [2, 24, 0, 0, 254, 4, 0, kind, 0, 0, 0, 0].to_vec();
        let mut one = head(1);
        one.extend(attribute(1, &[198, 51, 100, 0]));
        one.extend(attribute(7, &[192, 0, 2, 9]));
        one.extend(attribute(6, &100u32.to_ne_bytes()));
        one.extend(attribute(4, &3u32.to_ne_bytes()));
        let mut several = one.clone();
        one.extend(attribute(5, &[192, 0, 2, 1]));
        let expected = Route {
            device: Device::Number(3),
            source: Some([192, 0, 2, 9].into()),
            destination: Some(([198, 51, 100, 0].into(), 24)),
            gateway: Some([192, 0, 2, 1].into()),
            priority: 100,
            protocol: Some(4),
            weight: None,
        };
        assert_eq!(routes(&one), std::slice::from_ref(&expected));
        let way = |interface: u32, hops: u8, gateway: u8| {
            let gateway = attribute(5, &[192, 0, 2, gateway]);
            let mut way = (u16::try_from(gateway.len()).unwrap() + 8).to_ne_bytes().to_vec();
            way.extend([0, hops]);
            way.extend(interface.to_ne_bytes());
            way.extend(gateway);
            way
        };
        several.extend(attribute(9, &[way(3, 0, 1), way(4, 255, 2)].concat()));
        let second = Route { device: Device::Number(4), gateway: Some([192, 0, 2, 2].into()), weight: Some(256), ..expected.clone() };
        assert_eq!(routes(&several), [Route { weight: Some(1), ..expected }, second]);
        one[7] = 2;
        assert!(routes(&one).is_empty());
    }

    #[test]
    fn what_refuses_is_no_route() {
        assert_eq!(of_line4(b"*\t000200C0\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0"), Some(None));
        assert_eq!(of_line4(b"eth0\t000200C0\t00000000\t0201\t0\t0"), None);
        assert_eq!(of_line6(b"zz"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (routes(&bytes), of_line4(&bytes), of_line6(&bytes));
            let mut unicast = vec![2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
            unicast.extend(&bytes);
            let _ = routes(&unicast);
        }
    }
}
