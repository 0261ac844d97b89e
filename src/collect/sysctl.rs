//! `node_sysctl_*`: the kernel's settings that a user asks for by name, from `/proc/sys`. Source: sysctl(8), the kernel's `Documentation/admin-guide/sysctl`.
//!
//! What is below `net` belongs to the network namespace of whoever reads, whatever tree it is read in, so it is exported only where that is the host's.
//! The names of host and domain, the limits of System V IPC and `kernel.pid_max` (6.14 and later) are likewise those of the reader's own namespaces.

use super::families::Families;
use super::{CollectError, Collector, Entry, Pass, Presence, attribute, entry, names};
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Namespace, Reader, parse};
use crate::model::{Kind, Value};

const INCLUDE: Flag = Flag::new(
    "collector.sysctl.include",
    FlagKind::Many("NAME[:FIELD,...]"),
    None,
    "A sysctl of numbers to export, as vm.swappiness or fs.file-nr:total,current,max; repeatable.",
);
const INFO: Flag = Flag::new(
    "collector.sysctl.include-info",
    FlagKind::Many("NAME"),
    None,
    "A sysctl whose words are exported as labels of node_sysctl_info, as kernel.seccomp.actions_avail; repeatable.",
);

pub(super) const ENTRY: Entry = entry!("sysctl", off, &[INCLUDE, INFO], build);

/// More values than any sysctl that makes sense as metrics has.
const MOST_VALUES: usize = 1024;

fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (flag, is_number) in [(&INCLUDE, true), (&INFO, false)] {
        for given in rejoined(settings.many(flag.name)) {
            let new = Wanted::of(&given, is_number).map_err(|why| format!("--{}={given}: {why}", flag.name))?;
            // Twice the same is once.
            if !wanted.contains(&new) {
                wanted.push(new);
            }
        }
    }
    Ok(Box::new(Sysctl { wanted }))
}

/// What was given, with the fields of one sysctl together again: a list in the environment is taken apart at every comma, also at those between fields. Every
/// sysctl is in a directory, so a word without a separator behind one with fields is a field.
fn rejoined(given: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    for part in given.iter().filter(|part| !part.is_empty()) {
        match whole.last_mut().filter(|last| last.contains(':') && !part.contains(['.', '/', ':'])) {
            Some(last) => {
                last.push(',');
                last.push_str(part);
            }
            None => whole.push(part.clone()),
        }
    }
    whole
}

struct Sysctl {
    wanted: Vec<Wanted>,
}

/// One that was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// As it was given.
    name: String,
    /// Below `<proc>`.
    path: String,
    family: String,
    fields: Vec<String>,
    is_number: bool,
}

impl Wanted {
    /// Reads `vm.swappiness` or `fs.file-nr:total,current,max`. An error is the rest of a sentence that begins with what was given.
    fn of(given: &str, is_number: bool) -> Result<Self, String> {
        let (name, fields) = given.split_once(':').map_or((given, None), |(name, fields)| (name, Some(fields)));
        let fields: Vec<String> = fields.map(|fields| fields.split(',').map(str::to_owned).collect()).unwrap_or_default();
        if !fields.is_empty() && !is_number {
            return Err("words have no names for fields; give the name alone, without a colon".to_owned());
        }
        if let Some(odd) = fields.iter().find(|field| !names::is_part(field.as_bytes())) {
            return Err(format!(
                "the field {odd:?} cannot end a metric's name; give letters, digits and _, as in fs.file-nr:total,current,max"
            ));
        }
        if fields.iter().enumerate().any(|(index, field)| fields.iter().skip(index + 1).any(|other| other == field)) {
            return Err("a field stands twice, and would be one metric with two values; give each its own name".to_owned());
        }
        Ok(Self { name: name.to_owned(), path: path(name)?, family: format!("node_sysctl_{}", names::part(name)), fields, is_number })
    }
}

/// The file of a sysctl. As in sysctl(8) the first separator says what the other one means: in `net.ipv4.conf.eth0/100.forwarding` and in
/// `net/ipv4/conf/eth0.100/forwarding` the interface is `eth0.100`.
fn path(name: &str) -> Result<String, String> {
    let Some(first) = name.find(['.', '/']) else {
        return Err("every sysctl is in a directory, and the name tells none; give it whole, as vm.swappiness".to_owned());
    };
    let dotted = name.as_bytes().get(first) == Some(&b'.');
    let swapped = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dotted { name.chars().map(swapped).collect() } else { name.to_owned() };
    if let Some(part) = path.split('/').find(|part| part.is_empty() || matches!(*part, "." | "..")) {
        return Err(format!(
            "the part {part:?} of the name leads to no file below /proc/sys; give a name as `sysctl -a` shows it, as vm.swappiness"
        ));
    }
    if path.chars().any(|character| character.is_control() || character.is_whitespace() || character == ',') {
        return Err(
            "the name has blanks, commas or control characters in it; give one name, as vm.swappiness, and the flag again for the next"
                .to_owned(),
        );
    }
    Ok(format!("sys/{path}"))
}

impl Collector for Sysctl {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let (host, out, odd) = pass.split();
        let mut families = Families::default();
        let mut failure = None;
        let mut host_network = None;
        for wanted in &self.wanted {
            let foreign = if wanted.path.starts_with("sys/net/") {
                (!*host_network.get_or_insert_with(|| host.in_host_network())).then_some("network")
            } else {
                foreign(host, &wanted.path)
            };
            if let Some(namespace) = foreign {
                odd.tell(&format_args!(
                    "{}: left out, for it would be of the agent's own {namespace} namespace and not of the host's",
                    wanted.name
                ));
                continue;
            }
            match host.proc(&wanted.path) {
                Ok(bytes) => {
                    if let Err(why) = add(wanted, bytes, &mut families) {
                        odd.tell(&format_args!("{}: {why}", wanted.name));
                    }
                }
                // It was asked for by name, so that it is not there has to be told.
                Err(error) => {
                    odd.tell(&error);
                    failure = failure.or(Some(error));
                }
            }
        }
        match failure {
            Some(error) if families.is_empty() => Err(error.into()),
            _ => {
                families.write(out);
                Ok(Presence::Present)
            }
        }
    }
}

/// The namespace that makes a sysctl one of this process' own and not of the host. Sources: `ipc/ipc_sysctl.c`, `ipc/mq_sysctl.c`, `kernel/utsname_sysctl.c`,
/// `kernel/pid.c`.
fn foreign(host: &Reader, path: &str) -> Option<&'static str> {
    const OF_IPC: [&str; 4] = ["sem", "shm", "msg", "auto_msgmni"];
    let (namespace, called) = match path.strip_prefix("sys/kernel/") {
        Some("hostname" | "domainname") => (Namespace::Uts, "UTS"),
        Some("pid_max" | "ns_last_pid") => (Namespace::Pid, "PID"),
        Some(name) if OF_IPC.iter().any(|prefix| name.starts_with(prefix)) => (Namespace::Ipc, "IPC"),
        _ if path.starts_with("sys/fs/mqueue/") => (Namespace::Ipc, "IPC"),
        _ => return None,
    };
    (!host.in_first(namespace)).then_some(called)
}

/// Adds what a file says.
fn add(wanted: &Wanted, bytes: &[u8], families: &mut Families) -> Result<(), String> {
    let words: Vec<&[u8]> = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words.is_empty() || words.len() > MOST_VALUES {
        return Err(format!("it has {} values", words.len()));
    }
    let index = |index: usize| itoa::Buffer::new().format(index).to_owned();
    let name = &*wanted.name;
    let mut all_new = true;
    if !wanted.is_number {
        for (position, word) in words.iter().enumerate() {
            let labels = [("name", name), ("value", &*parse::text(word)), ("index", &*index(position))];
            all_new &= families.gauge("node_sysctl_info", "sysctl info", &labels, 1u64);
        }
    } else {
        let numbers: Vec<Value> = words
            .iter()
            .map(|word| number(word).ok_or_else(|| format!("{:?} is no whole number; include-info exports words", parse::text(word))))
            .collect::<Result<_, _>>()?;
        let family = &*wanted.family;
        if wanted.fields.is_empty() {
            let help = format!("sysctl {name}");
            for (position, number) in numbers.iter().enumerate() {
                let index = index(position);
                let labels = [("index", &*index)];
                let labels = if numbers.len() == 1 { &[][..] } else { &labels[..] };
                all_new &= families.add(family, Kind::Untyped, &help, labels, *number);
            }
        } else if wanted.fields.len() == numbers.len() {
            for (position, (field, number)) in wanted.fields.iter().zip(numbers).enumerate() {
                all_new &=
                    families.add(&format!("{family}_{field}"), Kind::Untyped, &format!("sysctl {name}, field {position}"), &[], number);
            }
        } else {
            return Err(format!("it has {} values, and {} fields are named", numbers.len(), wanted.fields.len()));
        }
    }
    if all_new { Ok(()) } else { Err("another sysctl has the same metric name".to_owned()) }
}

/// A whole number as the kernel writes them: decimal, or hexadecimal behind `0x`.
fn number(word: &[u8]) -> Option<Value> {
    attribute::unsigned(word).map(Value::from).or_else(|| parse::signed(word).map(Value::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_sysctl() {
        for (name, file) in [
            ("vm.swappiness", "sys/vm/swappiness"),
            ("vm/swappiness", "sys/vm/swappiness"),
            ("net.ipv4.conf.eth0/100.forwarding", "sys/net/ipv4/conf/eth0.100/forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "sys/net/ipv4/conf/eth0.100/forwarding"),
        ] {
            assert_eq!(path(name).as_deref(), Ok(file));
        }
        for odd in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "/etc/passwd",
            "a/../b",
            "../stat",
            "kernel.//.x",
            "a b",
            "a\n",
            "a/./b",
            "kernel.\u{0}",
            "stat",
            "vm.a,vm.b",
        ] {
            assert!(path(odd).is_err(), "{odd}");
        }
        // In a dotted name a slash is a dot, and two of them are not the directory above.
        assert!(path("kernel.//.//.stat").is_err());
    }

    #[test]
    fn a_container_s_own_settings_are_known() {
        let host = Reader::new(std::sync::Arc::new(crate::host::Root::find(None, None, None, None)));
        // In the first namespaces nothing is left out, in others all of these are.
        for (path, namespace, called) in [
            ("sys/kernel/hostname", Namespace::Uts, "UTS"),
            ("sys/kernel/pid_max", Namespace::Pid, "PID"),
            ("sys/kernel/shmmax", Namespace::Ipc, "IPC"),
            ("sys/kernel/sem", Namespace::Ipc, "IPC"),
            ("sys/kernel/msgmni", Namespace::Ipc, "IPC"),
            ("sys/fs/mqueue/msg_max", Namespace::Ipc, "IPC"),
        ] {
            assert_eq!(foreign(&host, path), (!host.in_first(namespace)).then_some(called), "{path}");
        }
        assert!(["sys/vm/swappiness", "sys/kernel/threads-max", "sys/fs/file-nr"].iter().all(|path| foreign(&host, path).is_none()));
    }

    #[test]
    fn fields_find_together_again() {
        let given = ["fs.file-nr:total", "current", "max", "", "vm.swappiness", "odd"].map(str::to_owned);
        assert_eq!(rejoined(&given), ["fs.file-nr:total,current,max", "vm.swappiness", "odd"]);
    }

    #[test]
    fn refusals_say_what_would_do() {
        let refused = |flag: &Flag, value: &str| {
            let mut settings = Settings::default();
            settings.set(flag.name, vec![value.to_owned()]);
            build(&settings).err().unwrap()
        };
        let why = refused(&INCLUDE, "kernel/../../stat");
        assert!(
            why.starts_with("--collector.sysctl.include=kernel/../../stat: the part \"..\" of the name") && why.contains("; give "),
            "{why}"
        );
        assert!(refused(&INCLUDE, "fs.file-nr:total,a-b").contains("\"a-b\""));
        assert!(refused(&INCLUDE, "fs.file-nr:total,total").contains("twice"));
        assert!(refused(&INFO, "fs.file-nr:total").contains("without a colon"));
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"18446744073692774399"), Some(Value::Unsigned(18_446_744_073_692_774_399)));
        assert_eq!(number(b"-1"), Some(Value::Signed(-1)));
        assert_eq!(number(b"0x10"), Some(Value::Unsigned(16)));
        for odd in [&b"0x"[..], b"x", b"1.5", b"0x+1", b""] {
            assert_eq!(number(odd), None);
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes: Vec<u8>, name in "[a-z./:,_-]{0,20}", is_number: bool) {
            if let Ok(wanted) = Wanted::of(&name, is_number) {
                prop_assert!(wanted.path.starts_with("sys/") && wanted.path.split('/').all(|part| !matches!(part, "" | "." | "..")));
                let _added = add(&wanted, &bytes, &mut Families::default());
            }
        }
    }
}
