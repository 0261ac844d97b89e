//! `node_wifi_*`: wireless interfaces, the networks they are in and the stations they see, over nl80211 by generic netlink. Format:
//! `include/uapi/linux/nl80211.h`.

use base64::prelude::*;
use serde_json::{Map, Value as Json};

use super::families::Families;
use super::filter::Filter;
use super::interfaces::Interfaces;
use super::sockets::{field, fixture, host_network_only, number, objects, text};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::netlink::{Message, Netlink, attributes, generic, generic_attributes, name, number32, number64, push_attribute};
use crate::host::{Reader, parse};
use crate::model::{Kind, Value};

const FIXTURES: Flag = Flag::new(
    "collector.wifi.fixtures",
    FlagKind::One("DIR"),
    None,
    "For tests: read interfaces.json and the interfaces' bss.json and stationinfo.json of this directory and do not ask the kernel.",
);

pub(super) const ENTRY: Entry = entry!("wifi", off, &[FIXTURES], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let interfaces = Interfaces::of(settings, Filter::default())?;
    Ok(Box::new(Wifi { interfaces, fixtures: settings.one(FIXTURES.name).map(str::to_owned) }))
}

struct Wifi {
    interfaces: Interfaces,
    fixtures: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    index: u32,
    name: String,
    hardware: Vec<u8>,
    megahertz: Option<u64>,
}

/// The network that an interface is in.
#[derive(Debug, PartialEq, Eq)]
struct Bss {
    bssid: Vec<u8>,
    ssid: String,
    status: u64,
}

/// A station that an interface talks to. What the driver does not tell is `None`.
#[derive(Debug, Default, PartialEq)]
struct Station {
    hardware: Vec<u8>,
    numbers: [Option<Value>; STATION.len()],
}

/// The families of a station: name, type, help, name in the recorded answers.
const STATION: [(&str, Kind, &str, &str); 12] = [
    (
        "node_wifi_station_connected_seconds_total",
        Kind::Counter,
        "The total number of seconds a station has been connected to an access point.",
        "connected",
    ),
    (
        "node_wifi_station_inactive_seconds",
        Kind::Gauge,
        "The number of seconds since any wireless activity has occurred on a station.",
        "inactive",
    ),
    (
        "node_wifi_station_receive_bits_per_second",
        Kind::Gauge,
        "The current WiFi receive bitrate of a station, in bits per second.",
        "receivebitrate",
    ),
    (
        "node_wifi_station_transmit_bits_per_second",
        Kind::Gauge,
        "The current WiFi transmit bitrate of a station, in bits per second.",
        "transmitbitrate",
    ),
    ("node_wifi_station_receive_bytes_total", Kind::Counter, "The total number of bytes received by a WiFi station.", "receivedbytes"),
    (
        "node_wifi_station_transmit_bytes_total",
        Kind::Counter,
        "The total number of bytes transmitted by a WiFi station.",
        "transmittedbytes",
    ),
    ("node_wifi_station_signal_dbm", Kind::Gauge, "The current WiFi signal strength, in decibel-milliwatts (dBm).", "signal"),
    (
        "node_wifi_station_transmit_retries_total",
        Kind::Counter,
        "The total number of times a station has had to retry while sending a packet.",
        "transmitretries",
    ),
    (
        "node_wifi_station_transmit_failed_total",
        Kind::Counter,
        "The total number of times a station has failed to send a packet.",
        "transmitfailed",
    ),
    ("node_wifi_station_beacon_loss_total", Kind::Counter, "The total number of times a station has detected a beacon loss.", "beaconloss"),
    (
        "node_wifi_station_transmitted_packets_total",
        Kind::Counter,
        "The total number of packets transmitted by a station.",
        "transmittedpackets",
    ),
    ("node_wifi_station_received_packets_total", Kind::Counter, "The total number of packets received by a station.", "receivedpackets"),
];

impl Collector for Wifi {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let mut families = Families::default();
        match &self.fixtures {
            Some(directory) => recorded(pass.host, directory, &self.interfaces, &mut families)?,
            None => ask(pass, &self.interfaces, &mut families)?,
        }
        Ok(families.write(pass.out))
    }
}

fn ask(pass: &mut Pass<'_>, wanted: &Interfaces, families: &mut Families) -> Result<(), CollectError> {
    const GET_INTERFACE: u8 = 5;
    const GET_STATION: u8 = 17;
    const GET_SCAN: u8 = 32;
    const IFINDEX: u16 = 3;
    const MAC: u16 = 6;
    host_network_only(pass.host, "the wireless interfaces")?;
    let failed = |error: std::io::Error| CollectError::Other(format!("asking the kernel for wireless interfaces: {error}"));
    let mut netlink = Netlink::generic(pass.deadline).map_err(failed)?;
    // Without cfg80211 there is no such family, and no wireless interface.
    let Some(family) = netlink.family("nl80211").map_err(failed)? else { return Ok(()) };
    let mut interfaces = Vec::new();
    netlink.dump(family, &generic(GET_INTERFACE, 0), &mut |message| interfaces.push(interface(message.body))).map_err(failed)?;
    // Some virtual devices (that of Wi-Fi Direct) have no name.
    for interface in interfaces.iter().filter(|interface| !interface.name.is_empty() && wanted.keeps(interface.name.as_bytes())) {
        let question = |command| {
            let mut request = generic(command, 0);
            push_attribute(&mut request, IFINDEX, &interface.index.to_ne_bytes());
            if !interface.hardware.is_empty() {
                push_attribute(&mut request, MAC, &interface.hardware);
            }
            request
        };
        let mut network = None;
        let mut stations = Vec::new();
        let networks = netlink.dump(family, &question(GET_SCAN), &mut |message: Message<'_>| {
            network = network.take().or_else(|| bss(message.body));
        });
        let seen = netlink.dump(family, &question(GET_STATION), &mut |message: Message<'_>| stations.extend(station(message.body)));
        for error in [networks, seen].into_iter().filter_map(Result::err) {
            let errno = rustix::io::Errno::from_io_error(&error);
            // An interface whose kind has none of it, or that is gone.
            if !matches!(
                errno,
                Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NODEV | rustix::io::Errno::NOENT | rustix::io::Errno::NETDOWN)
            ) {
                pass.odd(&format_args!("{}: {error}", interface.name));
            }
        }
        write(interface, network.as_ref(), &stations, families);
    }
    Ok(())
}

fn write(interface: &Interface, bss: Option<&Bss>, stations: &[Station], families: &mut Families) {
    let device = ("device", &*interface.name);
    if let Some(megahertz) = interface.megahertz {
        let help = "The current frequency a WiFi interface is operating at, in hertz.";
        families.gauge("node_wifi_interface_frequency_hertz", help, &[device], megahertz.saturating_mul(1_000_000));
    }
    if let Some(bss) = bss {
        let mode = match bss.status {
            0 | 1 => "client",
            2 => "ad-hoc",
            _ => "unknown",
        };
        let labels = [device, ("bssid", &*address(&bss.bssid)), ("ssid", &*bss.ssid), ("mode", mode)];
        let help = "Labeled WiFi interface station information as provided by the operating system.";
        families.gauge("node_wifi_station_info", help, &labels, 1u64);
    }
    for station in stations {
        let hardware = address(&station.hardware);
        for ((name, kind, help, _), number) in STATION.iter().zip(station.numbers) {
            if let Some(number) = number {
                families.add(name, *kind, help, &[device, ("mac_address", &hardware)], number);
            }
        }
    }
}

/// `aa:bb:cc:dd:ee:ff`.
fn address(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn interface(body: &[u8]) -> Interface {
    let mut found = Interface::default();
    for (attribute, value) in generic_attributes(body) {
        match attribute {
            3 => found.index = number32(value).unwrap_or_default(),
            4 => found.name = parse::text(name(value)).into_owned(),
            6 => found.hardware = value.to_vec(),
            38 => found.megahertz = number32(value).map(u64::from),
            _ => {}
        }
    }
    found
}

/// The network of a scan's result, when it is the one that the interface is in: only that has a status.
fn bss(body: &[u8]) -> Option<Bss> {
    let (_, value) = generic_attributes(body).find(|(attribute, _)| *attribute == 47)?;
    let (mut bssid, mut ssid, mut status) = (Vec::new(), String::new(), None);
    for (attribute, value) in attributes(value) {
        match attribute {
            1 => bssid = value.to_vec(),
            6 => ssid = element(value, 0).map(|name| parse::text(name).into_owned()).unwrap_or_default(),
            9 => status = number32(value),
            _ => {}
        }
    }
    Some(Bss { bssid, ssid, status: status?.into() })
}

/// An information element of IEEE 802.11: a byte that says which, one that says how long it is, and itself.
fn element(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let (&[id, length], rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(length.into())?;
        if id == wanted {
            return Some(value);
        }
        bytes = rest;
    }
}

/// What is told of a station; `None` when that is nothing.
fn station(body: &[u8]) -> Option<Station> {
    let mut found = Station::default();
    let mut info = None;
    for (attribute, value) in generic_attributes(body) {
        match attribute {
            6 => found.hardware = value.to_vec(),
            21 => info = Some(value),
            _ => {}
        }
    }
    let (mut received, mut sent) = (None, None);
    let [connected, inactive, receive, transmit, bytes_in, bytes_out, signal, retries, failed, beacons, packets_out, packets_in] =
        &mut found.numbers;
    for (attribute, value) in attributes(info?) {
        let small = || number32(value).map(Value::from);
        match attribute {
            1 => *inactive = number32(value).map(|milliseconds| seconds(u64::from(milliseconds) * 1_000_000)),
            2 => received = small(),
            3 => sent = small(),
            // A byte that stands for a number with a sign.
            7 => *signal = value.first().map(|byte| Value::Signed(byte.cast_signed().into())),
            8 => *transmit = rate(value),
            9 => *packets_in = small(),
            10 => *packets_out = small(),
            11 => *retries = small(),
            12 => *failed = small(),
            14 => *receive = rate(value),
            16 => *connected = small(),
            18 => *beacons = small(),
            23 => *bytes_in = number64(value).map(Value::from),
            24 => *bytes_out = number64(value).map(Value::from),
            _ => {}
        }
    }
    // Drivers of before 3.18 know 32 bits of them.
    *bytes_in = bytes_in.or(received);
    *bytes_out = bytes_out.or(sent);
    Some(found)
}

/// Bits in a second, which stand in hundreds of kilobits: in 32 bits, or in 16 where those are enough.
fn rate(value: &[u8]) -> Option<Value> {
    let (mut wide, mut narrow) = (None, None);
    for (attribute, value) in attributes(value) {
        match attribute {
            1 => narrow = value.first_chunk().map(|bytes| u64::from(u16::from_ne_bytes(*bytes))),
            5 => wide = number32(value).map(u64::from),
            _ => {}
        }
    }
    wide.or(narrow).map(|hundreds| Value::Unsigned(hundreds * 100_000))
}

/// Whole seconds and the rest apart, so that the last bit is that of node_exporter's number.
fn seconds(nanoseconds: u64) -> Value {
    Value::Float((nanoseconds / 1_000_000_000) as f64 + (nanoseconds % 1_000_000_000) as f64 / 1e9)
}

fn recorded(host: &mut Reader, directory: &str, wanted: &Interfaces, families: &mut Families) -> Result<(), CollectError> {
    let interfaces = fixture(host, directory, "interfaces.json")?
        .ok_or_else(|| CollectError::Other(format!("--{}={directory}: there is no interfaces.json", FIXTURES.name)))?;
    for object in objects(Some(&interfaces)) {
        let interface =
            Interface { name: text(object, "name").to_owned(), megahertz: Some(number(object, "frequency")), ..Interface::default() };
        if interface.name.is_empty() || interface.name.contains('/') || !wanted.keeps(interface.name.as_bytes()) {
            continue;
        }
        let bss = fixture(host, directory, &format!("{}/bss.json", interface.name))?;
        let bss = bss.as_ref().and_then(Json::as_object).map(|object| Bss {
            bssid: bytes(object, "bssid"),
            ssid: text(object, "ssid").to_owned(),
            status: number(object, "status"),
        });
        let stations = fixture(host, directory, &format!("{}/stationinfo.json", interface.name))?;
        let stations: Vec<Station> = objects(stations.as_ref()).map(recorded_station).collect();
        write(&interface, bss.as_ref(), &stations, families);
    }
    Ok(())
}

fn recorded_station(object: &Map<String, Json>) -> Station {
    let numbers = STATION.map(|(_, _, _, name)| {
        Some(match name {
            "connected" | "inactive" => seconds(number(object, name)),
            "signal" => Value::Signed(field(object, name).and_then(Json::as_i64).unwrap_or_default()),
            _ => Value::Unsigned(number(object, name)),
        })
    });
    Station { hardware: bytes(object, "hardwareaddr"), numbers }
}

fn bytes(object: &Map<String, Json>, name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(object, name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, kind, value);
        bytes
    }

    /// A message by hand, after nl80211.h: no machine of the tests has a wireless interface.
    fn station_message() -> Vec<u8> {
        let info = [
            attribute(16, &61u32.to_ne_bytes()),
            attribute(1, &400u32.to_ne_bytes()),
            attribute(2, &5u32.to_ne_bytes()),
            attribute(23, &(1u64 << 40).to_ne_bytes()),
            attribute(3, &6u32.to_ne_bytes()),
            attribute(7, &[0xcc]),
            attribute(8, &[attribute(5, &70_000u32.to_ne_bytes()), attribute(1, &0u16.to_ne_bytes())].concat()),
            attribute(14, &attribute(1, &1300u16.to_ne_bytes())),
            attribute(18, &[1]),
        ];
        [vec![0; 4], attribute(6, &[0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]), attribute(0x8015, &info.concat())].concat()
    }

    #[test]
    fn messages_are_read() {
        let found = interface(
            &[vec![0; 4], attribute(3, &7u32.to_ne_bytes()), attribute(4, b"wlan0\0"), attribute(38, &5180u32.to_ne_bytes())].concat(),
        );
        assert_eq!(found, Interface { index: 7, name: "wlan0".into(), hardware: vec![], megahertz: Some(5180) });

        let elements = [&[1, 2, 9, 9][..], &[0, 4], b"Cafe", &[7, 200]].concat();
        let mine = [attribute(1, &[0, 1, 2, 3, 4, 5]), attribute(6, &elements), attribute(9, &1u32.to_ne_bytes())].concat();
        let scanned = bss(&[vec![0; 4], attribute(47, &mine)].concat()).unwrap();
        assert_eq!(scanned, Bss { bssid: vec![0, 1, 2, 3, 4, 5], ssid: "Cafe".into(), status: 1 });
        let neighbour = [vec![0; 4], attribute(47, &attribute(1, &[0; 6]))].concat();
        assert_eq!(bss(&neighbour), None);

        let mut families = Families::default();
        write(&found, Some(&scanned), &[station(&station_message()).unwrap()], &mut families);
        let mut out = crate::exposition::Writer::new(Arc::default());
        families.write(&mut out);
        let text = std::str::from_utf8(out.text()).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"node_wifi_interface_frequency_hertz{device="wlan0"} 5180000000"#,
                r#"node_wifi_station_connected_seconds_total{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 61"#,
                r#"node_wifi_station_inactive_seconds{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 0.4"#,
                r#"node_wifi_station_info{device="wlan0",bssid="00:01:02:03:04:05",ssid="Cafe",mode="client"} 1"#,
                r#"node_wifi_station_receive_bits_per_second{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 130000000"#,
                r#"node_wifi_station_receive_bytes_total{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 1099511627776"#,
                r#"node_wifi_station_signal_dbm{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} -52"#,
                r#"node_wifi_station_transmit_bits_per_second{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 7000000000"#,
                r#"node_wifi_station_transmit_bytes_total{device="wlan0",mac_address="aa:bb:cc:dd:ee:ff"} 6"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in prop::sample::select(vec![6u16, 21, 47])) {
            let framed = [vec![0; 4], attribute(kind, &bytes)].concat();
            for body in [&bytes, &framed] {
                let _ = (interface(body), bss(body), station(body));
            }
            let _ = element(&bytes, 0);
        }

        #[test]
        fn a_byte_gone_wrong_is_no_harm(place in 0..500usize, byte in any::<u8>()) {
            let mut message = station_message();
            let place = place % message.len();
            message[place] = byte;
            let _ = station(&message);
        }
    }
}
