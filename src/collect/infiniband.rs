//! `node_infiniband_*` from `/sys/class/infiniband`: ports of RDMA adapters.
//! Source: the kernel's `Documentation/ABI/stable/sysfs-class-infiniband`; the vendor's page on the mlx5 counters for `hw_counters`.

use super::families::Families;
use super::filter::Filter;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Reader, parse};
use crate::present;

const INCLUDE: Flag = Flag::new(
    "collector.infiniband.device-include",
    FlagKind::One("REGEX"),
    None,
    "Devices to export; contradicts collector.infiniband.device-exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.infiniband.device-exclude",
    FlagKind::One("REGEX"),
    None,
    "Devices to leave out; contradicts collector.infiniband.device-include.",
);

pub(super) const ENTRY: Entry = entry!("infiniband", on, &[INCLUDE, EXCLUDE], build);

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Infiniband { filter: Filter::of(settings, &INCLUDE, &EXCLUDE)? }))
}

const CLASS: &str = "class/infiniband";

/// Where a port has its counters. Kernels before 4.5 have those of 64 bits in `counters_ext`.
const DIRECTORIES: [&str; 3] = ["counters", "counters_ext", "hw_counters"];

/// The counters: file, family, help.
const COUNTERS: &[(&str, &str, &str)] = &[
    (
        "counters_ext/port_multicast_rcv_packets",
        "node_infiniband_legacy_multicast_packets_received_total",
        "Number of multicast packets received",
    ),
    (
        "counters_ext/port_multicast_xmit_packets",
        "node_infiniband_legacy_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted",
    ),
    ("counters_ext/port_rcv_data_64", "node_infiniband_legacy_data_received_bytes_total", "Number of data octets received on all links"),
    ("counters_ext/port_rcv_packets_64", "node_infiniband_legacy_packets_received_total", "Number of data packets received on all links"),
    (
        "counters_ext/port_unicast_rcv_packets",
        "node_infiniband_legacy_unicast_packets_received_total",
        "Number of unicast packets received",
    ),
    (
        "counters_ext/port_unicast_xmit_packets",
        "node_infiniband_legacy_unicast_packets_transmitted_total",
        "Number of unicast packets transmitted",
    ),
    (
        "counters_ext/port_xmit_data_64",
        "node_infiniband_legacy_data_transmitted_bytes_total",
        "Number of data octets transmitted on all links",
    ),
    (
        "counters_ext/port_xmit_packets_64",
        "node_infiniband_legacy_packets_transmitted_total",
        "Number of data packets received on all links",
    ),
    (
        "counters/excessive_buffer_overrun_errors",
        "node_infiniband_excessive_buffer_overrun_errors_total",
        "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at least one overrun error.",
    ),
    (
        "counters/link_downed",
        "node_infiniband_link_downed_total",
        "Number of times the link failed to recover from an error state and went down",
    ),
    (
        "counters/link_error_recovery",
        "node_infiniband_link_error_recovery_total",
        "Number of times the link successfully recovered from an error state",
    ),
    (
        "counters/local_link_integrity_errors",
        "node_infiniband_local_link_integrity_errors_total",
        "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
    ),
    (
        "counters/multicast_rcv_packets",
        "node_infiniband_multicast_packets_received_total",
        "Number of multicast packets received (including errors)",
    ),
    (
        "counters/multicast_xmit_packets",
        "node_infiniband_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted (including errors)",
    ),
    (
        "counters/port_rcv_constraint_errors",
        "node_infiniband_port_constraint_errors_received_total",
        "Number of packets received on the switch physical port that are discarded",
    ),
    (
        "counters/port_xmit_constraint_errors",
        "node_infiniband_port_constraint_errors_transmitted_total",
        "Number of packets not transmitted from the switch physical port",
    ),
    ("counters/port_rcv_data", "node_infiniband_port_data_received_bytes_total", "Number of data octets received on all links"),
    ("counters/port_xmit_data", "node_infiniband_port_data_transmitted_bytes_total", "Number of data octets transmitted on all links"),
    (
        "counters/port_rcv_discards",
        "node_infiniband_port_discards_received_total",
        "Number of inbound packets discarded by the port because the port is down or congested",
    ),
    (
        "counters/port_xmit_discards",
        "node_infiniband_port_discards_transmitted_total",
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    (
        "counters/port_rcv_errors",
        "node_infiniband_port_errors_received_total",
        "Number of packets containing an error that were received on this port",
    ),
    (
        "counters/port_rcv_packets",
        "node_infiniband_port_packets_received_total",
        "Number of packets received on all VLs by this port (including errors)",
    ),
    (
        "counters/port_xmit_packets",
        "node_infiniband_port_packets_transmitted_total",
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    (
        "counters/port_xmit_wait",
        "node_infiniband_port_transmit_wait_total",
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    ),
    (
        "counters/unicast_rcv_packets",
        "node_infiniband_unicast_packets_received_total",
        "Number of unicast packets received (including errors)",
    ),
    (
        "counters/unicast_xmit_packets",
        "node_infiniband_unicast_packets_transmitted_total",
        "Number of unicast packets transmitted (including errors)",
    ),
    (
        "counters/port_rcv_remote_physical_errors",
        "node_infiniband_port_receive_remote_physical_errors_total",
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    ),
    (
        "counters/port_rcv_switch_relay_errors",
        "node_infiniband_port_receive_switch_relay_errors_total",
        "Number of packets that could not be forwarded by the switch.",
    ),
    ("counters/symbol_error", "node_infiniband_symbol_error_total", "Number of minor link errors detected on one or more physical lanes."),
    ("counters/VL15_dropped", "node_infiniband_vl15_dropped_total", "Number of incoming VL15 packets dropped due to resource limitations."),
    (
        "hw_counters/duplicate_request",
        "node_infiniband_duplicate_requests_packets_total",
        "The number of received packets. A duplicate request is a request that had been previously executed.",
    ),
    (
        "hw_counters/implied_nak_seq_err",
        "node_infiniband_implied_nak_seq_errors_total",
        "The number of time the requested decided an ACK. with a PSN larger than the expected PSN for an RDMA read or response.",
    ),
    (
        "hw_counters/local_ack_timeout_err",
        "node_infiniband_local_ack_timeout_errors_total",
        "The number of times QP's ack timer expired for RC, XRC, DCT QPs at the sender side. The QP retry limit was not exceed, therefore it is still recoverable error.",
    ),
    (
        "hw_counters/np_cnp_sent",
        "node_infiniband_np_cnp_packets_sent_total",
        "The number of CNP packets sent by the Notification Point when it noticed congestion experienced in the RoCEv2 IP header (ECN bits). The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/np_ecn_marked_roce_packets",
        "node_infiniband_np_ecn_marked_roce_packets_received_total",
        "The number of RoCEv2 packets received by the notification point which were marked for experiencing the congestion (ECN bits where '11' on the ingress RoCE traffic) . The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/out_of_buffer",
        "node_infiniband_out_of_buffer_drops_total",
        "The number of drops occurred due to lack of WQE for the associated QPs.",
    ),
    (
        "hw_counters/out_of_sequence",
        "node_infiniband_out_of_sequence_packets_received_total",
        "The number of out of sequence packets received.",
    ),
    (
        "hw_counters/packet_seq_err",
        "node_infiniband_packet_sequence_errors_total",
        "The number of received NAK sequence error packets. The QP retry limit was not exceeded.",
    ),
    (
        "hw_counters/req_cqe_error",
        "node_infiniband_req_cqes_errors_total",
        "The number of times requester detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/req_cqe_flush_error",
        "node_infiniband_req_cqes_flush_errors_total",
        "The number of times requester detected CQEs completed with flushed errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/req_remote_access_errors",
        "node_infiniband_req_remote_access_errors_total",
        "The number of times requester detected remote access errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/req_remote_invalid_request",
        "node_infiniband_req_remote_invalid_request_errors_total",
        "The number of times requester detected remote invalid request errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/resp_cqe_error",
        "node_infiniband_resp_cqes_errors_total",
        "The number of times responder detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/resp_cqe_flush_error",
        "node_infiniband_resp_cqes_flush_errors_total",
        "The number of times responder detected CQEs completed with flushed errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/resp_local_length_error",
        "node_infiniband_resp_local_length_errors_total",
        "The number of times responder detected local length errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/resp_remote_access_errors",
        "node_infiniband_resp_remote_access_errors_total",
        "The number of times responder detected remote access errors. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/rnr_nak_retry_err",
        "node_infiniband_rnr_nak_retry_packets_received_total",
        "The number of received RNR NAK packets. The QP retry limit was not exceeded.",
    ),
    (
        "hw_counters/roce_adp_retrans",
        "node_infiniband_roce_adp_retransmits_total",
        "The number of adaptive retransmissions for RoCE traffic. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    (
        "hw_counters/roce_adp_retrans_to",
        "node_infiniband_roce_adp_retransmits_timeout_total",
        "The number of times RoCE traffic reached timeout due to adaptive retransmission. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    (
        "hw_counters/roce_slow_restart",
        "node_infiniband_roce_slow_restart_used_total",
        "The number of times RoCE slow restart was used. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    (
        "hw_counters/roce_slow_restart_cnps",
        "node_infiniband_roce_slow_restart_cnps_total",
        "The number of times RoCE slow restart generated CNP packets. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    (
        "hw_counters/roce_slow_restart_trans",
        "node_infiniband_roce_slow_restart_total",
        "The number of times RoCE slow restart changed state to slow restart. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    (
        "hw_counters/rp_cnp_handled",
        "node_infiniband_rp_cnp_packets_handled_total",
        "The number of CNP packets handled by the Reaction Point HCA to throttle the transmission rate. The counters was added in MLNX_OFED 4.1",
    ),
    (
        "hw_counters/rp_cnp_ignored",
        "node_infiniband_rp_cnp_ignored_packets_received_total",
        "The number of CNP packets received and ignored by the Reaction Point HCA. This counter should not raise if RoCE Congestion Control was enabled in the network. If this counter raise, verify that ECN was enabled on the adapter.",
    ),
    (
        "hw_counters/rx_atomic_requests",
        "node_infiniband_rx_atomic_requests_total",
        "The number of received ATOMIC request for the associated QPs.",
    ),
    (
        "hw_counters/rx_dct_connect",
        "node_infiniband_rx_dct_connect_requests_total",
        "The number of received connection requests for the associated DCTs.",
    ),
    (
        "hw_counters/rx_read_requests",
        "node_infiniband_rx_read_requests_total",
        "The number of received READ requests for the associated QPs.",
    ),
    (
        "hw_counters/rx_write_requests",
        "node_infiniband_rx_write_requests_total",
        "The number of received WRITE requests for the associated QPs.",
    ),
    (
        "hw_counters/rx_icrc_encapsulated",
        "node_infiniband_rx_icrc_encapsulated_errors_total",
        "The number of RoCE packets with ICRC errors. This counter was added in MLNX_OFED 4.4 and kernel 4.19",
    ),
];

struct Infiniband {
    filter: Filter,
}

impl Collector for Infiniband {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut devices = present!(host.sys_names(CLASS));
        devices.retain(|device| self.filter.keeps(device.as_bytes()));
        if devices.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut families = Families::default();
        for device in &devices {
            let [board, firmware, kind] = ["board_id", "fw_ver", "hca_type"]
                .map(|file| attribute::text(host, odd, &format!("{CLASS}/{device}/{file}")).unwrap_or_default());
            let labels = [("device", device.as_str()), ("board_id", &board), ("firmware_version", &firmware), ("hca_type", &kind)];
            let help = "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.";
            families.gauge("node_infiniband_info", help, &labels, 1u64);
            for port in attribute::names(host, odd, &format!("{CLASS}/{device}/ports")) {
                if parse::unsigned(port.as_bytes()).is_some() {
                    read_port(device, &port, host, odd, &mut families);
                }
            }
        }
        families.write(out);
        Ok(Presence::Present)
    }
}

fn read_port(device: &str, port: &str, host: &mut Reader, odd: &mut Oddities, families: &mut Families) {
    let directory = format!("{CLASS}/{device}/ports/{port}");
    let labels = [("device", device), ("port", port)];
    let help = "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)";
    if let Some(id) = attribute::parsed(host, odd, &format!("{directory}/state"), state) {
        families.gauge("node_infiniband_state_id", help, &labels, id);
    }
    let help = "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, 6: link error recover, 7: phytest)";
    if let Some(id) = attribute::parsed(host, odd, &format!("{directory}/phys_state"), state) {
        families.gauge("node_infiniband_physical_state_id", help, &labels, id);
    }
    if let Some(rate) = attribute::parsed(host, odd, &format!("{directory}/rate"), rate) {
        families.gauge("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate", &labels, rate);
    }
    let files = DIRECTORIES.map(|kind| (kind, attribute::names(host, odd, &format!("{directory}/{kind}"))));
    let has = |file: &str| {
        let Some((kind, name)) = file.split_once('/') else { return false };
        files.iter().any(|(known, names)| *known == kind && names.binary_search_by(|known| known.as_str().cmp(name)).is_ok())
    };
    for (file, family, help) in COUNTERS.iter().filter(|(file, ..)| has(file)) {
        let Some(Some(count)) = attribute::parsed(host, odd, &format!("{directory}/{file}"), counter) else { continue };
        // Counted in words of four bytes. A word counter that is full begins anew, and so does the product.
        let words = file.contains("port_rcv_data") || file.contains("port_xmit_data");
        families.counter(family, help, &labels, if words { count.wrapping_mul(4) } else { count });
    }
    if has("hw_counters/lifespan")
        && let Some(milliseconds) = attribute::parsed(host, odd, &format!("{directory}/hw_counters/lifespan"), parse::unsigned)
    {
        // In whole seconds, as node_exporter divides, the usual 10 ms would be 0.
        let help = "The maximum period in ms which defines the aging of the counter reads. Two consecutive reads within this period might return the same values.";
        families.gauge("node_infiniband_lifespan_seconds", help, &labels, milliseconds as f64 / 1000.0);
    }
}

/// `4: ACTIVE`.
fn state(bytes: &[u8]) -> Option<u64> {
    parse::unsigned(parse::trimmed(parse::split(bytes, b':')?.0))
}

/// `40 Gb/sec (4X QDR)` in bytes a second; `2.5 Gb/sec (1X SDR)`.
fn rate(bytes: &[u8]) -> Option<f64> {
    let mut fields = parse::fields(bytes);
    let rate = parse::float(fields.next()?).filter(|rate| rate.is_finite() && *rate >= 0.0)?;
    fields.next().filter(|unit| unit.starts_with(b"Gb"))?;
    Some((rate * 125_000_000.0).trunc())
}

/// A counter; `Some(None)` where the port does not count: `N/A (no PMA)` (node_exporter issue 966).
fn counter(bytes: &[u8]) -> Option<Option<u64>> {
    if bytes.starts_with(b"N/A") {
        return Some(None);
    }
    attribute::unsigned(bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states_rates_and_counters() {
        assert_eq!(state(b"4: ACTIVE"), Some(4));
        assert_eq!(state(b"ACTIVE"), None);
        assert_eq!(rate(b"40 Gb/sec (4X QDR)"), Some(5e9));
        assert_eq!(rate(b"2.5 Gb/sec (1X SDR)"), Some(312_500_000.0));
        assert_eq!(rate(b"2.5"), None);
        assert_eq!(rate(b"-1 Gb/sec"), None);
        assert_eq!(counter(b"N/A (no PMA)"), Some(None));
        assert_eq!(counter(b"7"), Some(Some(7)));
        assert_eq!(counter(b"seven"), None);
    }

    #[test]
    fn every_counter_is_in_a_known_directory_and_has_a_family_of_its_own() {
        let mut families = std::collections::BTreeSet::new();
        for (file, family, _) in COUNTERS {
            assert!(DIRECTORIES.contains(&file.split_once('/').unwrap().0), "{file}");
            assert!(families.insert(family), "{family}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (state(&bytes), rate(&bytes), counter(&bytes));
        }
    }
}
