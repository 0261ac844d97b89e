//! `node_edac_*` from `/sys/devices/system/edac/mc`: memory errors that the controllers corrected or could not.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-devices-edac`.

use super::families::Families;
use super::{CollectError, Collector, Entry, Oddities, Pass, Presence, attribute, entry};
use crate::host::{Reader, parse};
use crate::present;

pub(super) const ENTRY: Entry = entry!("edac", on, &[], |_| Ok(Box::new(Edac)));

const DIRECTORY: &str = "devices/system/edac/mc";

struct Edac;

/// Corrected and not corrected: the beginning of the file's name, and family and help of controller, row and channel.
const ERRORS: [(&str, [(&str, &str); 3]); 2] = [
    (
        "ce",
        [
            ("node_edac_correctable_errors_total", "Total correctable memory errors."),
            ("node_edac_csrow_correctable_errors_total", "Total correctable memory errors for this csrow."),
            ("node_edac_channel_correctable_errors_total", "Total correctable memory errors for this channel."),
        ],
    ),
    (
        "ue",
        [
            ("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors."),
            ("node_edac_csrow_uncorrectable_errors_total", "Total uncorrectable memory errors for this csrow."),
            ("node_edac_channel_uncorrectable_errors_total", "Total uncorrectable memory errors for this channel."),
        ],
    ),
];

impl Collector for Edac {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let controllers = present!(host.sys_numbered(DIRECTORY, "mc"));
        if controllers.is_empty() {
            return Ok(Presence::Absent);
        }
        let mut families = Families::default();
        for name in controllers {
            let directory = format!("{DIRECTORY}/{name}");
            let controller = ("controller", name.strip_prefix("mc").unwrap_or_default());
            for (what, [(total, total_help), (row, row_help), _]) in ERRORS {
                if let Some(count) = count(host, odd, &format!("{directory}/{what}_count")) {
                    families.counter(total, total_help, &[controller], count);
                }
                // Errors that no row could be found for.
                if let Some(count) = count(host, odd, &format!("{directory}/{what}_noinfo_count")) {
                    families.counter(row, row_help, &[controller, ("csrow", "unknown")], count);
                }
            }
            for name in attribute::names(host, odd, &directory) {
                let Some(number) = name.strip_prefix("csrow").filter(|number| parse::unsigned(number.as_bytes()).is_some()) else {
                    continue;
                };
                csrow(&format!("{directory}/{name}"), [controller, ("csrow", number)], host, odd, &mut families);
            }
        }
        families.write(out);
        Ok(Presence::Present)
    }
}

/// A row of chips, and its channels.
fn csrow(directory: &str, labels: [(&str, &str); 2], host: &mut Reader, odd: &mut Oddities, families: &mut Families) {
    let [controller, csrow] = labels;
    for (what, [_, (row, row_help), _]) in ERRORS {
        if let Some(count) = count(host, odd, &format!("{directory}/{what}_count")) {
            families.counter(row, row_help, &labels, count);
        }
    }
    for name in attribute::names(host, odd, directory) {
        let Some(channel) = name.strip_prefix("ch").and_then(|rest| rest.strip_suffix("_ce_count")) else { continue };
        if parse::unsigned(channel.as_bytes()).is_none() {
            continue;
        }
        let label = attribute::text(host, odd, &format!("{directory}/ch{channel}_dimm_label"));
        let label = label.map_or_else(|| "unknown".to_owned(), |label| dimm_label(&label));
        for (what, [_, _, (family, help)]) in ERRORS {
            if let Some(count) = count(host, odd, &format!("{directory}/ch{channel}_{what}_count")) {
                families.counter(family, help, &[controller, csrow, ("channel", channel), ("dimm_label", &label)], count);
            }
        }
    }
}

fn count(host: &mut Reader, odd: &mut Oddities, file: &str) -> Option<u64> {
    attribute::parsed(host, odd, file, parse::unsigned)
}

/// The kernel's own labels, `mc#0csrow#1channel#2`, as node_exporter writes them: `mc0_csrow1_channel2`.
fn dimm_label(label: &str) -> String {
    label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_dimms() {
        assert_eq!(dimm_label("mc#0csrow#1channel#2"), "mc0_csrow1_channel2");
        assert_eq!(dimm_label("CPU_SrcID#0_Ha#0_Chan#1_DIMM#0"), "CPU_SrcID0_Ha0_Chan1_DIMM0");
    }
}
