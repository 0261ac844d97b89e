//! `node_selinux_*`: whether the kernel enforces SELinux, from selinuxfs below sysfs, and whether it is to at the next boot, from the host's `etc/selinux/config`.
//! Sources: selinux(8), selinux_config(5), the kernel's `security/selinux/selinuxfs.c`.

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::parse;

pub(super) const ENTRY: Entry = entry!("selinux", on, &[], |_| Ok(Box::new(SeLinux)));

const ENFORCE: &str = "fs/selinux/enforce";
const CONFIG: &str = "etc/selinux/config";

struct SeLinux;

impl Collector for SeLinux {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let current = match host.attribute(ENFORCE) {
            Ok(bytes) => {
                let mode = parse::unsigned(bytes).filter(|mode| *mode <= 1);
                if mode.is_none() {
                    odd.line(ENFORCE, bytes);
                }
                Some(mode)
            }
            // A kernel without SELinux, or one booted with selinux=0: it has no selinuxfs.
            Err(error) if error.is_absent() => None,
            // selinuxfs is there, so SELinux is on, and its policy may hide the file.
            Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                odd.tell(&error);
                Some(None)
            }
            Err(error) => return Err(error.into()),
        };
        // Until a policy is loaded every process has the context `kernel` and nothing is asked: that is off, as libselinux has it.
        let without_policy = |host: &mut crate::host::Reader| {
            host.proc("1/attr/current").is_ok_and(|context| context.trim_ascii_end() == b"kernel" || context == b"kernel\0")
        };
        let current = current.filter(|_| !without_policy(host));
        out.gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false", current.is_some());
        let Some(current) = current else { return Ok(Presence::Present) };
        match host.rootfs_linked(CONFIG) {
            Ok(bytes) => match configured(bytes) {
                Ok(mode) => out.gauge("node_selinux_config_mode", "Configured SELinux enforcement mode", mode),
                Err(line) => odd.line(CONFIG, line),
            },
            // Without the host's root nothing is known of it, and -1 would say that it is off.
            Err(error) if error.is_absent() => {}
            Err(error) => odd.tell(&error),
        }
        if let Some(mode) = current {
            out.gauge("node_selinux_current_mode", "Current SELinux enforcement mode", mode);
        }
        Ok(Presence::Present)
    }
}

/// 1 enforcing, 0 permissive, -1 disabled, which is also what a file without a word about it means; the line that says something else. Its first `SELINUX=`
/// counts, in capitals or not, as in libselinux.
fn configured(bytes: &[u8]) -> Result<i64, &[u8]> {
    let line = parse::lines(bytes).map(parse::trimmed).find(|line| line.starts_with(b"SELINUX="));
    let Some((line, word)) = line.and_then(|line| Some((line, line.strip_prefix(b"SELINUX=")?))) else { return Ok(-1) };
    let word = parse::trimmed(word);
    let word = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word);
    let modes: [(&[u8], i64); 3] = [(b"enforcing", 1), (b"permissive", 0), (b"disabled", -1)];
    modes.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, mode)| *mode).ok_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_word_counts() {
        assert_eq!(configured(b"# SELINUX=disabled\n  SELINUX=Enforcing \nSELINUX=permissive\nSELINUXTYPE=targeted\n"), Ok(1));
        assert_eq!(configured(b"SELINUX=\"permissive\""), Ok(0));
        assert_eq!(configured(b"SELINUX=disabled"), Ok(-1));
        assert_eq!(configured(b"SELINUXTYPE=targeted\n"), Ok(-1));
        assert_eq!(configured(b"SELINUX=on\n"), Err(&b"SELINUX=on"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _mode = configured(&bytes);
        }
    }
}
