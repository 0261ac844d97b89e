//! `node_cpu_vulnerabilities_info` from `/sys/devices/system/cpu/vulnerabilities`: what the kernel knows of the CPU's weaknesses, and what it does about each.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-devices-system-cpu`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;
use crate::model::Kind;
use crate::present;

pub(super) const ENTRY: Entry = entry!("cpu_vulnerabilities", off, &[], |_| Ok(Box::new(Vulnerabilities)));

const DIRECTORY: &str = "devices/system/cpu/vulnerabilities";

struct Vulnerabilities;

impl Collector for Vulnerabilities {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let names = present!(host.sys_names(DIRECTORY));
        let help = "Details of each CPU vulnerability reported by sysfs. The value of the series is an int encoded state of the vulnerability. The same state is \
                    stored as a string in the label";
        let mut family = out.family("node_cpu_vulnerabilities_info", Kind::Gauge, help);
        for name in &names {
            match host.attribute(&format!("{DIRECTORY}/{name}")) {
                Ok(bytes) => {
                    let text = parse::text(bytes);
                    let (state, mitigation) = state(&text);
                    family.sample(&[("codename", name), ("state", state), ("mitigation", &mitigation)], 1u64);
                }
                Err(error) => odd.tell(&error),
            }
        }
        Ok(Presence::Present)
    }
}

/// The state, and the words behind it. What begins otherwise (`KVM: Mitigation: ...`) is unknown, and is shown whole.
fn state(text: &str) -> (&'static str, String) {
    const STATES: [&str; 4] = ["not affected", "vulnerable", "mitigation", "unknown"];
    let begins = |state: &&str| text.get(..state.len()).is_some_and(|start| start.eq_ignore_ascii_case(state));
    match STATES.into_iter().find(begins) {
        Some("not affected") => ("not affected", String::new()),
        Some(state) => (state, text.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")),
        None => ("unknown", text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states() {
        for (text, expected, mitigation) in [
            ("Not affected", "not affected", ""),
            ("Vulnerable", "vulnerable", ""),
            ("Vulnerable: Safe RET, no microcode", "vulnerable", "Safe RET, no microcode"),
            ("Mitigation: Clear CPU buffers; SMT  disabled", "mitigation", "Clear CPU buffers; SMT disabled"),
            ("Unknown: No mitigations", "unknown", "No mitigations"),
            ("KVM: Mitigation: VMX disabled", "unknown", "KVM: Mitigation: VMX disabled"),
            ("", "unknown", ""),
        ] {
            assert_eq!(state(text), (expected, mitigation.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_state(text: String) {
            let _ = state(&text);
        }
    }
}
