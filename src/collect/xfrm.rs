//! `node_xfrm_*_packets_total` from the host's `net/xfrm_stat`: packets that IPsec could not take. Source: the kernel's `Documentation/networking/xfrm_proc.rst`.

use super::names::{Found, Named, Names};
use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("xfrm", off, &[], |_| Ok(Box::new(Xfrm { names: Names::default() })));

struct Xfrm {
    names: Names,
}

impl Collector for Xfrm {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let (_, bytes) = present!(host.net("xfrm_stat"));
        self.names.begin();
        for line in parse::lines(bytes) {
            let mut fields = parse::fields(line);
            let (Some(field), Some(number), None) = (fields.next(), fields.next().and_then(parse::unsigned), fields.next()) else {
                odd.line("net/xfrm_stat", line);
                continue;
            };
            match self.names.find(field, |field| Some(named(field))) {
                Found::Wanted(Named { name, help }) => {
                    out.family(name, Kind::Counter, help).sample(&[], number);
                }
                Found::Unwanted => {}
                Found::Odd => odd.line("net/xfrm_stat", line),
            }
        }
        Ok(Presence::Present)
    }
}

/// `XfrmInStateSeqError` is `node_xfrm_in_state_seq_error_packets_total`. Fields that node_exporter does not know are exported too, by the same rule.
fn named(field: &str) -> Named {
    let mut name = String::from("node_xfrm");
    let rest = field.strip_prefix("Xfrm").unwrap_or(field);
    for letter in rest.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name.push_str("_packets_total");
    let help =
        HELP.iter().find(|(known, _)| *known == rest).map_or_else(|| format!("Field {field} of xfrm_stat"), |(_, help)| (*help).to_owned());
    Named { name, help }
}

/// What node_exporter says of a field, and for those that it does not know the kernel's document.
const HELP: [(&str, &str); 30] = [
    ("InError", "All errors not matched by other"),
    ("InBufferError", "No buffer is left"),
    ("InHdrError", "Header error"),
    ("InNoStates", "No state is found i.e. Either inbound SPI, address, or IPsec protocol at SA is wrong"),
    ("InStateProtoError", "Transformation protocol specific error e.g. SA key is wrong"),
    ("InStateModeError", "Transformation mode specific error"),
    ("InStateSeqError", "Sequence error i.e. Sequence number is out of window"),
    ("InStateExpired", "State is expired"),
    ("InStateMismatch", "State has mismatch option e.g. UDP encapsulation type is mismatch"),
    ("InStateInvalid", "State is invalid"),
    ("InTmplMismatch", "No matching template for states e.g. Inbound SAs are correct but SP rule is wrong"),
    ("InNoPols", "No policy is found for states e.g. Inbound SAs are correct but no SP is found"),
    ("InPolBlock", "Policy discards"),
    ("InPolError", "Policy error"),
    ("InStateDirError", "State direction mismatch (lookup found an output state on the input path, expected input or no direction)"),
    ("OutError", "All errors which is not matched others"),
    ("OutBundleGenError", "Bundle generation error"),
    ("OutBundleCheckError", "Bundle check error"),
    ("OutNoStates", "No state is found"),
    ("OutStateProtoError", "Transformation protocol specific error"),
    ("OutStateModeError", "Transformation mode specific error"),
    ("OutStateSeqError", "Sequence error i.e. Sequence number overflow"),
    ("OutStateExpired", "State is expired"),
    ("OutPolBlock", "Policy discards"),
    ("OutPolDead", "Policy is dead"),
    ("OutPolError", "Policy error"),
    ("OutStateDirError", "State direction mismatch (lookup found an input state on the output path, expected output or no direction)"),
    ("FwdHdrError", "Forward routing of a packet is not allowed"),
    ("OutStateInvalid", "State is invalid, perhaps expired"),
    ("AcquireError", "State hasn’t been fully acquired before use"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_kernel_s() {
        assert_eq!(named("XfrmInTmplMismatch").name, "node_xfrm_in_tmpl_mismatch_packets_total");
        let iptfs = named("XfrmInIptfsError");
        assert_eq!((&*iptfs.name, &*iptfs.help), ("node_xfrm_in_iptfs_error_packets_total", "Field XfrmInIptfsError of xfrm_stat"));
    }
}
