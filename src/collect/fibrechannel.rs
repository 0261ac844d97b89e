//! `node_fibrechannel_*` from `/sys/class/fc_host`: the ports of Fibre Channel adapters.
//! Source: the kernel's `drivers/scsi/scsi_transport_fc.c` and `Documentation/scsi/scsi_fc_transport.rst`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry};
use crate::present;

pub(super) const ENTRY: Entry = entry!("fibrechannel", on, &[], |_| Ok(Box::new(FibreChannel)));

const CLASS: &str = "class/fc_host";

/// The counters below `statistics`: file, family, help.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("dumped_frames", "node_fibrechannel_dumped_frames_total", "Number of dumped frames"),
    ("error_frames", "node_fibrechannel_error_frames_total", "Number of errors in frames"),
    ("invalid_crc_count", "node_fibrechannel_invalid_crc_total", "Invalid Cyclic Redundancy Check count"),
    ("rx_frames", "node_fibrechannel_rx_frames_total", "Number of frames received"),
    ("rx_words", "node_fibrechannel_rx_words_total", "Number of words received by host port"),
    ("tx_frames", "node_fibrechannel_tx_frames_total", "Number of frames transmitted by host port"),
    ("tx_words", "node_fibrechannel_tx_words_total", "Number of words transmitted by host port"),
    ("seconds_since_last_reset", "node_fibrechannel_seconds_since_last_reset_total", "Number of seconds since last host port reset"),
    ("invalid_tx_word_count", "node_fibrechannel_invalid_tx_words_total", "Number of invalid words transmitted by host port"),
    ("link_failure_count", "node_fibrechannel_link_failure_total", "Number of times the host port link has failed"),
    ("loss_of_sync_count", "node_fibrechannel_loss_of_sync_total", "Number of failures on either bit or transmission word boundaries"),
    ("loss_of_signal_count", "node_fibrechannel_loss_of_signal_total", "Number of times signal has been lost"),
    ("nos_count", "node_fibrechannel_nos_total", "Number Not_Operational Primitive Sequence received by host port"),
    ("fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets"),
];

/// The labels of `node_fibrechannel_info` beside the host; empty where a driver does not say (node_exporter issue 2919). True: a hexadecimal number, shown
/// without the `0x` before it.
const TEXTS: [(&str, bool); 10] = [
    ("speed", false),
    ("port_state", false),
    ("port_type", false),
    ("port_id", true),
    ("port_name", true),
    ("fabric_name", true),
    ("symbolic_name", false),
    ("supported_classes", false),
    ("supported_speeds", false),
    ("dev_loss_tmo", false),
];

struct FibreChannel;

impl Collector for FibreChannel {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_names(CLASS));
        if names.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut families = Families::default();
        for name in &names {
            let texts = TEXTS.map(|(file, is_number)| {
                let text = attribute::text(host, odd, &format!("{CLASS}/{name}/{file}")).unwrap_or_default();
                let bare = text.strip_prefix("0x").filter(|_| is_number).map(str::to_owned);
                (file, bare.unwrap_or(text))
            });
            let mut labels = vec![("fc_host", name.as_str())];
            labels.extend(texts.iter().map(|(file, text)| (*file, text.as_str())));
            let help = "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.";
            families.gauge("node_fibrechannel_info", help, &labels, 1u64);
            for (file, family, help) in COUNTERS {
                let count = attribute::parsed(host, odd, &format!("{CLASS}/{name}/statistics/{file}"), attribute::unsigned);
                // All ones: the adapter does not count this. A port that is down has no statistics, and not zeros.
                if let Some(count) = count.filter(|count| *count != u64::MAX) {
                    families.counter(family, help, &[("fc_host", name)], count);
                }
            }
        }
        families.write(out);
        Ok(Presence::Present)
    }
}
