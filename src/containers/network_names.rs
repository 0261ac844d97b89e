//! Which of a container's interfaces is in which network: `container_network_info`.
//!
//! The engine tells a container's networks by name, with the address that it has in each, and never the interface; an interface's name (`eth0`, `eth1`) tells no
//! network, for their order is nobody's promise. What joins them is the container's own view of its network: an address of IPv6 stands with its interface in
//! `net/if_inet6`, and the subnet of an address of IPv4 with its interface in `net/route` (proc(5)). What more than one interface could be is left unnamed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::network::Interface;
use crate::collect::Pass;
use crate::docker::{Attachment, Container};
use crate::host::Process;
use crate::host::parse::{fields, hexadecimal, lines, text, unsigned};
use crate::model::{Kind, LabelSet};

/// The network that is given to interfaces of which the engine tells nothing, when they are in its subnet.
const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// A subnet: its address, and how many bits of it count.
pub(crate) type Subnet = (Ipv4Addr, u8);

/// The names of one container's networks, read when its interfaces or its networks change.
#[derive(Debug, Default)]
pub(crate) struct NetworkNames {
    container: Option<Arc<Container>>,
    gateway_bridge: Option<Subnet>,
    /// The interfaces that there were, in their order, each with its network.
    named: Vec<(String, Option<String>)>,
}

impl NetworkNames {
    /// Takes over which interfaces there are, and reads whose they are if that is not known.
    pub(crate) fn follow(
        &mut self,
        container: &Arc<Container>,
        process: &Process,
        interfaces: &[Interface],
        gateway_bridge: Option<Subnet>,
        pass: &mut Pass<'_>,
    ) {
        let of_this = |known: &Arc<Container>| {
            Arc::ptr_eq(known, container)
                || (known.networks == container.networks && known.pid == container.pid && known.started == container.started)
        };
        let is_known = self.container.as_ref().is_some_and(of_this)
            && self.gateway_bridge == gateway_bridge
            && self.named.len() == interfaces.len()
            && self.named.iter().zip(interfaces).all(|((name, _), interface)| *name == interface.name);
        if is_known {
            self.container = Some(container.clone());
            return;
        }
        self.container = None;
        let mut evidence = Evidence::default();
        match pass.host.of_process(process, "net/route") {
            Ok(bytes) => lines(bytes).filter_map(route).for_each(|route| evidence.routes.push(route)),
            // It ended, and the engine has yet to say so.
            Err(error) if error.is_absent() => return,
            Err(error) => return pass.odd(&error),
        }
        match pass.host.of_process(process, "net/if_inet6") {
            Ok(bytes) => lines(bytes).filter_map(address).for_each(|address| evidence.addresses.push(address)),
            // A kernel without IPv6.
            Err(error) if error.is_absent() => {}
            Err(error) => pass.odd(&error),
        }
        self.named = interfaces.iter().map(|interface| (interface.name.clone(), None)).collect();
        evidence.name(&container.networks, gateway_bridge, &mut self.named);
        (self.container, self.gateway_bridge) = (Some(container.clone()), gateway_bridge);
    }

    /// The container has no process to be asked, or no network of its own.
    pub(crate) fn forget(&mut self) {
        self.container = None;
        self.named.clear();
    }

    /// The interfaces whose network is known, and that.
    fn known(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named.iter().filter_map(|(interface, network)| Some((&**interface, network.as_deref()?)))
    }
}

/// Writes the names; joined by `id` and `interface` they say which network the counters of `container_network_*` are of.
pub(crate) fn write<'a>(containers: impl Iterator<Item = (&'a Arc<LabelSet>, &'a NetworkNames)>, pass: &mut Pass<'_>) {
    let mut family = pass.out.family("container_network_info", Kind::Gauge, "The network that an interface of the container is in.");
    for (series, names) in containers {
        for (interface, network) in names.known() {
            family.sample_shared(series, &[("interface", interface), ("network", network)], 1u64);
        }
    }
}

/// What a container's network tells of its interfaces.
#[derive(Debug, Default)]
struct Evidence {
    routes: Vec<(String, Subnet)>,
    addresses: Vec<(String, Ipv6Addr)>,
}

impl Evidence {
    /// Finds the interfaces of `networks` among `named`, and gives what none of them is and the bridge's subnet has to the bridge.
    fn name(&self, networks: &[Attachment], gateway_bridge: Option<Subnet>, named: &mut [(String, Option<String>)]) {
        let found: Vec<(&str, &str)> =
            networks.iter().filter_map(|attachment| Some((self.interface_of(attachment)?, &*attachment.network))).collect();
        for (interface, network) in &found {
            // Two networks on one interface: neither is told.
            let is_the_only = found.iter().filter(|(other, _)| other == interface).count() == 1;
            if let Some((_, name)) = named.iter_mut().find(|(name, _)| name == interface).filter(|_| is_the_only) {
                *name = Some((*network).to_owned());
            }
        }
        let Some(subnet) = gateway_bridge else { return };
        let bridge = only(self.routes.iter().filter(|(_, route)| *route == subnet).map(|(interface, _)| &**interface));
        let is_free = |interface: &str| !found.iter().any(|(other, _)| *other == interface);
        if let Some((_, name)) = named.iter_mut().find(|(name, _)| bridge == Some(name) && is_free(name)) {
            *name = Some(GATEWAY_BRIDGE.to_owned());
        }
    }

    /// The interface that has the address, by what is surest: an address of IPv6, the one that an interface makes of its hardware address, a subnet.
    fn interface_of(&self, attachment: &Attachment) -> Option<&str> {
        let with = |address: Option<Ipv6Addr>| {
            let address = address?;
            only(self.addresses.iter().filter(|(_, other)| *other == address).map(|(interface, _)| &**interface))
        };
        let by_route = || {
            let (address, bits) = attachment.ipv4?;
            let subnet = (network_of(address, bits), bits);
            only(self.routes.iter().filter(|(_, route)| *route == subnet).map(|(interface, _)| &**interface))
        };
        with(attachment.ipv6).or_else(|| with(attachment.mac.map(link_local))).or_else(by_route)
    }
}

/// The one that there is; `None` when they are not the same.
fn only<'a>(mut found: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// The address that an interface gives itself: RFC 4291, appendix A.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

fn network_of(address: Ipv4Addr, bits: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & mask)
}

/// A line of `net/route` that is a subnet of its interface's own, without a gateway: interface, destination, gateway, flags, three numbers, mask. Numbers are
/// written as the machine sees the bytes as they go over the wire.
fn route(line: &[u8]) -> Option<(String, Subnet)> {
    let address =
        |field: &[u8]| hexadecimal(field).and_then(|number| u32::try_from(number).ok()).map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    let mut fields = fields(line);
    let interface = fields.next()?;
    let (destination, gateway) = (address(fields.next()?)?, address(fields.next()?)?);
    unsigned(fields.nth(1)?)?;
    let mask = u32::from(address(fields.nth(2)?)?);
    let bits = u8::try_from(mask.leading_ones()).ok().filter(|bits| *bits > 0)?;
    gateway.is_unspecified().then(|| (text(interface).into_owned(), (destination, bits)))
}

/// A line of `net/if_inet6`: address, index, bits, scope, flags, interface.
fn address(line: &[u8]) -> Option<(String, Ipv6Addr)> {
    let mut fields = fields(line);
    let digits = std::str::from_utf8(fields.next()?).ok().filter(|digits| digits.len() == 32)?;
    let address = u128::from_str_radix(digits, 16).ok()?;
    let interface = fields.nth(4)?;
    Some((text(interface).into_owned(), Ipv6Addr::from(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    /// As the machine writes it.
    fn hex(address: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(address))
    }

    fn line(interface: &str, destination: [u8; 4], gateway: [u8; 4], mask: [u8; 4]) -> String {
        format!("{interface}\t{}\t{}\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(destination), hex(gateway), hex(mask))
    }

    fn attachment(network: &str, ipv4: Option<([u8; 4], u8)>) -> Attachment {
        Attachment { network: network.to_owned(), ipv4: ipv4.map(|(address, bits)| (address.into(), bits)), ipv6: None, mac: None }
    }

    fn named(routes: &str, addresses: &str, networks: &[Attachment], bridge: Option<Subnet>) -> Vec<(String, String)> {
        let evidence = Evidence {
            routes: lines(format!("{HEAD}{routes}").as_bytes()).filter_map(route).collect(),
            addresses: lines(addresses.as_bytes()).filter_map(address).collect(),
        };
        let mut named: Vec<_> = ["eth0", "eth1", "eth2"].map(|name| (name.to_owned(), None)).into();
        evidence.name(networks, bridge, &mut named);
        named.into_iter().filter_map(|(interface, network)| Some((interface, network?))).collect()
    }

    fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(interface, network)| ((*interface).to_owned(), (*network).to_owned())).collect()
    }

    const WIDE: [u8; 4] = [255, 255, 0, 0];
    const NARROW: [u8; 4] = [255, 255, 255, 0];

    #[test]
    fn by_the_subnet_and_nothing_else() {
        let routes = line("eth0", [0; 4], [172, 18, 0, 1], [0; 4])
            + &line("eth0", [172, 18, 0, 0], [0; 4], WIDE)
            + &line("eth1", [10, 0, 0, 0], [0; 4], [255, 0, 0, 0])
            + &line("eth2", [10, 0, 1, 0], [0; 4], NARROW);
        let networks = [
            attachment("front", Some(([172, 18, 0, 2], 16))),
            attachment("wide", Some(([10, 7, 0, 3], 8))),
            attachment("narrow", Some(([10, 0, 1, 3], 24))),
            attachment("left", None),
        ];
        assert_eq!(named(&routes, "", &networks, None), told(&[("eth0", "front"), ("eth1", "wide"), ("eth2", "narrow")]));
        // The way through a gateway says nothing of who is behind it.
        let behind = line("eth0", [10, 0, 1, 0], [172, 18, 0, 1], NARROW);
        assert_eq!(named(&behind, "", &networks, None), []);
    }

    #[test]
    fn what_could_be_either_is_not_named() {
        let twice = line("eth0", [10, 0, 1, 0], [0; 4], NARROW) + &line("eth1", [10, 0, 1, 0], [0; 4], NARROW);
        let one = [attachment("a", Some(([10, 0, 1, 3], 24)))];
        assert_eq!(named(&twice, "", &one, None), []);
        let two = [attachment("a", Some(([10, 0, 1, 3], 24))), attachment("b", Some(([10, 0, 1, 4], 24)))];
        assert_eq!(named(&line("eth0", [10, 0, 1, 0], [0; 4], NARROW), "", &two, None), []);
    }

    #[test]
    fn by_an_address_of_ipv6_where_subnets_say_nothing() {
        let twice = line("eth0", [10, 0, 1, 0], [0; 4], NARROW) + &line("eth1", [10, 0, 1, 0], [0; 4], NARROW);
        let addresses = "fd000000000000000000000000000002 05 40 00 80     eth0\n\
                         fe800000000000000042 0afffe000103 07 40 20 80     eth0\n\
                         fe80000000000000 odd\n\
                         fe8000000000000000420afffe000103 07 40 20 80     eth1\n";
        let mut networks = [attachment("a", Some(([10, 0, 1, 3], 24))), attachment("b", Some(([10, 0, 1, 4], 24)))];
        networks[0].ipv6 = Some("fd00::2".parse().unwrap());
        networks[1].mac = Some([0x02, 0x42, 0x0a, 0, 1, 3]);
        assert_eq!(named(&twice, addresses, &networks, None), told(&[("eth0", "a"), ("eth1", "b")]));
    }

    #[test]
    fn the_gateway_bridge_is_what_nobody_claims() {
        let routes = line("eth0", [10, 0, 1, 0], [0; 4], NARROW) + &line("eth1", [172, 18, 0, 0], [0; 4], WIDE);
        let overlay = [attachment("ov", Some(([10, 0, 1, 3], 24)))];
        let bridge = Some(([172, 18, 0, 0].into(), 16));
        assert_eq!(named(&routes, "", &overlay, bridge), told(&[("eth0", "ov"), ("eth1", "docker_gwbridge")]));
        assert_eq!(named(&routes, "", &overlay, None), told(&[("eth0", "ov")]));
        assert_eq!(named(&routes, "", &overlay, Some(([172, 19, 0, 0].into(), 16))), told(&[("eth0", "ov")]));
        let claimed = [attachment("ov", Some(([10, 0, 1, 3], 24))), attachment("user", Some(([172, 18, 0, 5], 16)))];
        assert_eq!(named(&routes, "", &claimed, bridge), told(&[("eth0", "ov"), ("eth1", "user")]));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes: Vec<u8>, text in "[0-9a-fA-F \teth]{0,80}") {
            for bytes in [&bytes, text.as_bytes()] {
                let _ = (route(bytes), address(bytes));
            }
        }

        #[test]
        fn an_address_is_in_its_subnet(octets: [u8; 4], bits in 1u8..=32) {
            let mask = u32::MAX << (32 - u32::from(bits));
            let subnet = network_of(octets.into(), bits);
            let route = route(line("eth0", subnet.octets(), [0; 4], mask.to_be_bytes()).trim_end().as_bytes());
            proptest::prop_assert_eq!(route, Some(("eth0".to_owned(), (subnet, bits))));
        }
    }
}
