//! `node_os_*` from the host's `etc/os-release`, or where there is none `usr/lib/os-release`. Source: os-release(5).

use std::path::Path;

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::host::{ReadError, Reader, parse};
use crate::model::time::parse_rfc3339;
use crate::model::{Kind, LabelSet};

pub(super) const ENTRY: Entry = entry!("os", on, &[], |_| Ok(Box::new(Os::default())));

/// What a distribution says stays the same between its updates, so it is taken apart again only when the file has changed.
#[derive(Default)]
struct Os {
    bytes: Vec<u8>,
    read: Option<Release>,
}

/// What is written of a file.
#[derive(Debug, Default)]
struct Release {
    info: LabelSet,
    names: LabelSet,
    version: Option<f64>,
    support_end: Option<i64>,
    odd_lines: Vec<Vec<u8>>,
}

/// The labels of `node_os_info` with their keys.
const LABELS: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];

impl Collector for Os {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        host.needs_host_rootfs()?;
        // A link to the second with `..` in it, as most have it, stays below the root by itself; an absolute one is led back there.
        let bytes = match host.rootfs_linked("etc/os-release") {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => match host.rootfs_linked("usr/lib/os-release") {
                Ok(bytes) => bytes,
                Err(error) => return absent(host, error),
            },
            Err(error) => return Err(error.into()),
        };
        if self.read.is_none() || self.bytes != bytes {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
            self.read = Some(release(bytes));
        }
        let Some(release) = &self.read else { return Ok(Presence::Absent) };
        for line in &release.odd_lines {
            odd.line("os-release", line);
        }
        let help = "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, pretty_name, variant, variant_id, \
                    version, version_codename, version_id.";
        out.family("node_os_info", Kind::Gauge, help).sample_of(&release.info, &[], 1u64);
        if let Some(version) = release.version {
            let help = "Metric containing the major.minor part of the OS version.";
            out.family("node_os_version", Kind::Gauge, help).sample_of(&release.names, &[], version);
        }
        if let Some(end) = release.support_end {
            out.gauge("node_os_support_end_timestamp_seconds", "Metric containing the end-of-life date timestamp of the OS.", end);
        }
        Ok(Presence::Present)
    }
}

/// Neither file is there: nothing to tell, where there is a root at all. A root without `etc` is none, and nothing is mounted there.
fn absent(host: &Reader, error: ReadError) -> Result<Presence, CollectError> {
    let is_root = host.is_directory(&host.root().on_rootfs(Path::new("etc")));
    if error.is_absent() && is_root { Ok(Presence::Absent) } else { Err(error.into()) }
}

fn release(bytes: &[u8]) -> Release {
    let mut release = Release::default();
    let mut known: Vec<(&[u8], String)> = Vec::new();
    for line in parse::lines(bytes) {
        let line = parse::trimmed(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match assignment(line) {
            // As in a shell the last one counts.
            Some((key, value)) => known.push((key, value)),
            None => release.odd_lines.push(line.to_vec()),
        }
    }
    let value = |key: &str| known.iter().rev().find(|(known, _)| *known == key.as_bytes()).map_or("", |(_, value)| value.as_str());
    for (label, key) in LABELS {
        release.info.push(label, value(key));
        if matches!(label, "id" | "id_like" | "name") {
            release.names.push(label, value(key));
        }
    }
    release.version = version(value("VERSION_ID"));
    let end = value("SUPPORT_END");
    if !end.is_empty() {
        release.support_end = parse_rfc3339(format!("{end}T00:00:00Z").as_bytes()).map(|nanoseconds| nanoseconds.div_euclid(1_000_000_000));
        if release.support_end.is_none() {
            release.odd_lines.push(format!("SUPPORT_END={end}").into_bytes());
        }
    }
    release
}

/// `KEY=value` as a shell reads it: quotes of both kinds are taken off, and so are backslashes; between double quotes only those before `"`, `$`, `\` and
/// the back quote.
fn assignment(line: &[u8]) -> Option<(&[u8], String)> {
    let (key, value) = parse::split(line, b'=')?;
    if key.is_empty() || !key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return None;
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut quote = None;
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            (None, b'\\') => plain.push(bytes.next()?),
            (Some(b'"'), b'\\') => plain.push(bytes.next_if(|next| b"\"$\\`".contains(next)).unwrap_or(byte)),
            // What a shell would take for the end of the value.
            (None, b' ' | b'\t') => break,
            _ => plain.push(byte),
        }
    }
    quote.is_none().then(|| (key, parse::text(&plain).into_owned()))
}

/// The first two numbers of a version: 22.04 of `22.04.1`, 12 of `12`. A version that does not begin with a number has none, and 0 is none.
fn version(id: &str) -> Option<f64> {
    let mut points = 0;
    let number = |byte: &u8| {
        points += u8::from(*byte == b'.');
        byte.is_ascii_digit() || (*byte == b'.' && points == 1)
    };
    let length = id.bytes().take_while(number).count();
    id.get(..length).filter(|number| !number.starts_with('.')).and_then(|number| number.parse().ok()).filter(|version| *version > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(line: &str) -> Option<String> {
        assignment(line.as_bytes()).map(|(_, value)| value)
    }

    #[test]
    fn values_are_a_shell_s() {
        for (line, plain) in [
            ("A=debian", "debian"),
            (r#"A="a \"b\" \$c \\ \d""#, r#"a "b" $c \ \d"#),
            (r"A='a \b'", r"a \b"),
            (r"A=a\ b c", "a b"),
            ("A=", ""),
            (r#"A="a"'b'c"#, "abc"),
        ] {
            assert_eq!(value(line).as_deref(), Some(plain), "{line}");
        }
        for odd in ["A", "=a", "A B=c", "A=\"open", "A=\\"] {
            assert_eq!(value(odd), None, "{odd}");
        }
    }

    #[test]
    fn versions() {
        for (id, number) in
            [("22.04.1", Some(22.04)), ("12", Some(12.0)), ("12.", Some(12.0)), ("rolling", None), ("", None), (".5", None), ("0", None)]
        {
            assert_eq!(version(id), number, "{id}");
        }
    }

    #[test]
    fn a_date_that_is_none_costs_only_itself() {
        let read = release(b"ID=x\nSUPPORT_END=2030-02-30\nodd line\n# comment\n\nID=y\n");
        assert_eq!((read.support_end, read.odd_lines.len()), (None, 2));
        assert!(read.info.as_str().contains("id=\"y\""));
        assert_eq!(release(b"SUPPORT_END=2026-11-21").support_end, Some(20_778 * 86_400));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "[A-Z_]{0,5}=[\"' a\\\\.0-9]{0,12}") {
            let _ = (release(&bytes), release(text.as_bytes()), version(&text));
        }
    }
}
