//! `node_network_address_info`: the addresses of the interfaces, for the netdev collector. By rtnetlink in the host's network namespace; elsewhere those of IPv6
//! from the host's `net/if_inet6`, for no file has those of IPv4 with their interfaces. Sources: rtnetlink(7), `net/ipv6/addrconf.c`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Pass;
use super::families::Families;
use super::interfaces::Interfaces;
use crate::host::{parse, rtnetlink};

/// Writes the family. What cannot be read is told, for the addresses are but one part of the collector.
pub(super) fn write(pass: &mut Pass<'_>, interfaces: &Interfaces) {
    let deadline = pass.deadline;
    let (host, out, odd) = pass.split();
    let mut found: Vec<(String, IpAddr, u8)> = Vec::new();
    if host.in_host_network() {
        let mut names = BTreeMap::new();
        let read = rtnetlink::dump(rtnetlink::LINKS, deadline, |body| {
            if let Some((number, name)) = rtnetlink::link(body) {
                names.insert(number, parse::text(name).into_owned());
            }
        })
        .and_then(|()| {
            rtnetlink::dump(rtnetlink::ADDRESSES, deadline, |body| {
                if let Some((number, address, bits)) = of_message(body)
                    && let Some(name) = names.get(&number)
                {
                    found.push((name.clone(), address, bits));
                }
            })
        });
        if let Err(error) = read {
            odd.tell(&format_args!("rtnetlink: {error}"));
        }
    } else {
        let read = host.net_lines("if_inet6", |line| match of_line(line) {
            Some(address) => found.push(address),
            None => odd.line("net/if_inet6", line),
        });
        if let Err(error) = read
            && !error.is_absent()
        {
            odd.tell(&error);
        }
    }
    let mut families = Families::default();
    for (device, address, bits) in found {
        if interfaces.keeps(device.as_bytes()) && !interfaces.is_containers(host, device.as_bytes()) {
            families.gauge(
                "node_network_address_info",
                "node network address by device",
                &[("device", &device), ("address", &address.to_string()), ("netmask", &bits.to_string()), ("scope", scope(address))],
                1u64,
            );
        }
    }
    families.write(out);
}

/// The interface's number, the address and the bits of its network in a message `RTM_NEWADDR`.
fn of_message(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    /// `struct ifaddrmsg`: family, bits, flags, scope, interface.
    const HEAD: usize = 8;
    let [bits] = rtnetlink::number(body, 1)?;
    let number = rtnetlink::u32_at(body, 4)?;
    let of_kind = |wanted| rtnetlink::attributes(body, HEAD).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| address(value));
    // Of a link between two points `IFA_ADDRESS` is the other end, and `IFA_LOCAL` is this one.
    Some((number, of_kind(2).or_else(|| of_kind(1))?, bits))
}

/// An address of 4 or of 16 bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

/// An address of 32 hexadecimal digits.
pub(super) fn address6(field: &[u8]) -> Option<Ipv6Addr> {
    let digits =
        std::str::from_utf8(field).ok().filter(|digits| digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
}

/// A line of `net/if_inet6`: address, interface's number, bits, scope, flags, interface.
fn of_line(line: &[u8]) -> Option<(String, IpAddr, u8)> {
    let mut fields = parse::fields(line);
    let address = address6(fields.next()?)?;
    let bits = u8::try_from(parse::hexadecimal(fields.nth(1)?)?).ok()?;
    let name = fields.nth(2)?;
    Some((parse::text(name).into_owned(), address.into(), bits))
}

/// How far an address reaches, in node_exporter's words.
fn scope(address: IpAddr) -> &'static str {
    let (near, here, nowhere) = match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            let near = address.is_loopback() || address.is_link_local() || (first, second, third) == (224, 0, 0);
            (near, false, address.is_unspecified() || address.is_multicast() || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            let multicast = address.is_multicast().then_some(address.segments()[0] & 0xf);
            let near = address.is_loopback() || address.is_unicast_link_local() || multicast == Some(2);
            (near, multicast == Some(1), address.is_unspecified() || multicast.is_some())
        }
    };
    match (near, here, nowhere) {
        (true, ..) => "link-local",
        (_, true, _) => "interface-local",
        (_, _, false) => "global",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scopes() {
        for (address, expected) in [
            ("127.0.0.1", "link-local"),
            ("169.254.1.1", "link-local"),
            ("192.0.2.1", "global"),
            ("10.0.0.1", "global"),
            ("0.0.0.0", ""),
            ("255.255.255.255", ""),
            ("::1", "link-local"),
            ("fe80::1", "link-local"),
            ("2001:db8::1", "global"),
            ("ff01::1", "interface-local"),
            ("ff0e::1", ""),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn this_end_of_a_link_between_two_points() {
        let mut message = vec![2, 32, 0, 0, 7, 0, 0, 0];
        for (kind, last) in [(1u16, 2u8), (2, 1)] {
            message.extend(8u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend([192, 0, 2, last]);
        }
        assert_eq!(of_message(&message), Some((7, "192.0.2.1".parse().unwrap(), 32)));
        assert_eq!(of_message(&message[..12]), None);
        let line = of_line(b"fe8000000000000000fc00fffe000001 02 40 20 80     eth0").unwrap();
        assert_eq!(line, ("eth0".to_owned(), "fe80::fc:ff:fe00:1".parse().unwrap(), 64));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (of_message(&bytes), of_line(&bytes));
        }
    }
}
