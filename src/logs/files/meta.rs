//! Who wrote a log: `config.v2.json` and `hostconfig.json`, which the engine keeps beside it and replaces by a rename at every change.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::chain::Refused;
use crate::logs::{ContainerId, ContainerMeta};
use crate::model::is_off;

const CONFIG: &str = "config.v2.json";
const HOST_CONFIG: &str = "hostconfig.json";
/// The engine's files have some 10 KiB; a label may be long, but not this long.
const LARGEST: u64 = 16 << 20;
const SERVICE: &str = "com.docker.swarm.service.id";

/// Whether this is one of the two files.
pub(super) fn is_name(name: &[u8]) -> bool {
    name == CONFIG.as_bytes() || name == HOST_CONFIG.as_bytes()
}

/// What was read of a container's two files, each kept while it cannot be read anew.
#[derive(Debug, Default)]
pub(super) struct Described {
    config: Option<(Stamp, Value)>,
    host: Option<(Stamp, Value)>,
}

/// Which version of a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// What [`Described::refresh`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    /// One of them is another than before.
    pub(super) is_changed: bool,
    /// One of them could not be read: what was known of it stays.
    pub(super) is_unreadable: bool,
    /// Which the kernel refused, and not only that it is not there or not whole.
    pub(super) refused: Option<Refused>,
}

impl Described {
    /// Reads what changed on the disk.
    pub(super) fn refresh(&mut self, dir: &Path) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for (slot, name, pick) in
            [(&mut self.config, CONFIG, pick_config as fn(Value) -> Value), (&mut self.host, HOST_CONFIG, pick_host as fn(Value) -> Value)]
        {
            let path = dir.join(name);
            match read(&path, slot.as_ref().map(|(stamp, _)| *stamp)) {
                Ok(None) => {}
                Ok(Some((stamp, value))) => {
                    *slot = Some((stamp, pick(value)));
                    refreshed.is_changed = true;
                }
                Err(error) => {
                    refreshed.is_unreadable = true;
                    if error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound {
                        refreshed.refused.get_or_insert_with(|| Refused::new(path, &error));
                    }
                }
            }
        }
        refreshed
    }

    /// What is known, once `config.v2.json` was read. Without a readable `hostconfig.json` the log driver is empty.
    pub(super) fn meta(&self) -> Option<ContainerMeta> {
        let (_, config) = self.config.as_ref()?;
        let host = self.host.as_ref().map(|(_, value)| value);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = config.get("Labels").and_then(Value::as_object);
        let max_file = host.and_then(|host| host.get("max-file")?.as_str()?.trim().parse().ok());
        Some(ContainerMeta {
            name: text(config.get("Name")?).trim_start_matches('/').to_owned(),
            image: config.get("Image").map(text).unwrap_or_default(),
            host_name: config.get("Hostname").map(text).unwrap_or_default(),
            labels: labels.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
            tty: config.get("Tty").and_then(Value::as_bool).unwrap_or(false),
            log_driver: host.and_then(|host| host.get("Type")).map(text).unwrap_or_default(),
            max_file: max_file.unwrap_or(1),
            max_size: host.and_then(|host| bytes(host.get("max-size")?.as_str()?)),
            // A container that does not say that it ended may still write.
            running: config.get("Running").and_then(Value::as_bool).unwrap_or(true),
            logspout: config.get("Logspout").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// Reads a file, unless it is the version that is known.
fn read(path: &Path, known: Option<Stamp>) -> io::Result<Option<(Stamp, Value)>> {
    let file = File::open(path)?;
    let data = file.metadata()?;
    let stamp = Stamp { inode: data.ino(), length: data.len(), seconds: data.mtime(), nanoseconds: data.mtime_nsec() };
    if known == Some(stamp) {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(Some((stamp, serde_json::from_slice(&text)?)))
}

/// Of `config.v2.json` what is wanted and nothing else: the environment holds secrets.
fn pick_config(mut value: Value) -> Value {
    let logspout = value.pointer("/Config/Env").and_then(Value::as_array).and_then(|variables| {
        variables.iter().filter_map(Value::as_str).find_map(|variable| variable.strip_prefix("LOGSPOUT=")).map(str::to_owned)
    });
    let mut take = |pointer: &str| value.pointer_mut(pointer).map(Value::take).unwrap_or_default();
    serde_json::json!({
        "Name": take("/Name"),
        "Image": take("/Config/Image"),
        "Hostname": take("/Config/Hostname"),
        "Labels": take("/Config/Labels"),
        "Tty": take("/Config/Tty"),
        "Running": take("/State/Running"),
        "Logspout": logspout,
    })
}

fn pick_host(mut value: Value) -> Value {
    let mut take = |pointer: &str| value.pointer_mut(pointer).map(Value::take).unwrap_or_default();
    serde_json::json!({ "Type": take("/LogConfig/Type"), "max-file": take("/LogConfig/Config/max-file"), "max-size": take("/LogConfig/Config/max-size") })
}

/// A size as the engine takes it (`10m`, `1.5 GiB`, `4096`): a number, and a power of 1024. Without a limit (`-1`) there is none.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let power = match &*unit.trim_start().to_ascii_lowercase() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << power),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the engine does the same"
        )]
        Err(_) => Some((number.parse::<f64>().ok()? * (1u64 << power) as f64) as u64),
    }
}

/// How a container's log is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Treatment {
    /// Nothing is known of it yet: its files are opened, and nobody reads them.
    Unknown,
    /// It is read.
    Tailed,
    /// Its driver writes no json-file.
    OtherDriver,
    /// It must not be read: skep itself, or somebody said so.
    Excluded,
}

/// What says that containers are skep's own.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) container: Option<ContainerId>,
    /// The Swarm service of that container.
    pub(super) service: Option<String>,
}

impl Own {
    /// Learns the own service from the own container: whether that is new.
    pub(super) fn learn(&mut self, id: &ContainerId, meta: &ContainerMeta) -> bool {
        if self.container.as_ref() != Some(id) {
            return false;
        }
        let service = meta.labels.get(SERVICE).map(|service| service.trim()).filter(|service| !service.is_empty());
        let is_new = service.is_some() && service != self.service.as_deref();
        if is_new {
            self.service = service.map(str::to_owned);
        }
        is_new
    }

    /// How the container is treated. skep reads neither itself nor another task of its service: that would never end.
    pub(super) fn treatment(&self, id: &ContainerId, meta: &ContainerMeta) -> Treatment {
        let label = |name: &str| meta.labels.get(name).map(|value| value.trim());
        let is_own = self.container.as_ref() == Some(id) || (self.service.is_some() && label(SERVICE) == self.service.as_deref());
        let is_switched_off = label("skep.logs").is_some_and(is_off);
        let is_ignored = meta.logspout.as_ref().is_some_and(|value| value.trim().eq_ignore_ascii_case("ignore"));
        if is_own || is_switched_off || is_ignored {
            return Treatment::Excluded;
        }
        match &*meta.log_driver {
            "json-file" | "" => Treatment::Tailed,
            _ => Treatment::OtherDriver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn described(config: &str, host: &str) -> Option<ContainerMeta> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        std::fs::write(dir.path().join(HOST_CONFIG), host).unwrap();
        let mut described = Described::default();
        described.refresh(dir.path());
        described.meta()
    }

    #[test]
    fn what_is_wanted_is_found() {
        let meta = described(
            r#"{"State":{"Running":true,"Paused":false},"ID":"x","Config":{"Tty":true,"Env":["PATH=/bin","SECRET=1","LOGSPOUT=ignore"],
                "Image":"nginx:1.27","Labels":{"a":"b"}},"Name":"/web.1.abc","Driver":"overlay2"}"#,
            r#"{"LogConfig":{"Type":"json-file","Config":{"max-file":"3","max-size":"1m"}}}"#,
        )
        .unwrap();
        assert_eq!(meta.name, "web.1.abc");
        assert_eq!(meta.image, "nginx:1.27");
        assert_eq!(meta.labels["a"], "b");
        assert_eq!((meta.tty, meta.running, meta.max_file), (true, true, 3));
        assert_eq!((&*meta.log_driver, meta.max_size), ("json-file", Some(1 << 20)));
        assert_eq!(meta.logspout.as_deref(), Some("ignore"));
    }

    #[test]
    fn what_is_odd_costs_only_itself() {
        let meta = described(
            r#"{"Name":"/a","Config":{"Labels":null,"Tty":"yes","Env":7},"State":[]}"#,
            r#"{"LogConfig":{"Type":"json-file","Config":null}}"#,
        );
        let meta = meta.unwrap();
        assert_eq!((&*meta.name, meta.tty, meta.running, meta.max_file, &*meta.log_driver), ("a", false, true, 1, "json-file"));
        assert_eq!(described("{", "{}"), None);
        assert_eq!(described("{\"Name\":\"/a\"}", "[").unwrap().log_driver, "");
    }

    #[test]
    fn the_old_is_kept_while_the_new_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut described = Described::default();
        assert_eq!(described.refresh(dir.path()), Refreshed { is_changed: false, is_unreadable: true, refused: None });
        std::fs::write(dir.path().join(HOST_CONFIG), "{}").unwrap();
        std::fs::write(dir.path().join(CONFIG), r#"{"Name":"/a"}"#).unwrap();
        assert_eq!(described.refresh(dir.path()), Refreshed { is_changed: true, ..Refreshed::default() });
        assert_eq!(described.refresh(dir.path()), Refreshed::default());
        std::fs::write(dir.path().join(CONFIG), r#"{"Name":"#).unwrap();
        assert_eq!(described.refresh(dir.path()), Refreshed { is_changed: false, is_unreadable: true, refused: None });
        assert_eq!(described.meta().unwrap().name, "a");
    }

    #[test]
    fn sizes_as_the_engine_takes_them() {
        for (text, size) in [
            ("4096", Some(4096)),
            ("10m", Some(10 << 20)),
            (" 1.5 GiB ", Some(3 << 29)),
            ("32kB", Some(32 << 10)),
            ("-1", None),
            ("", None),
            ("m", None),
            ("1x", None),
            ("99999999p", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn who_is_left_out() {
        let id = ContainerId::new(ID).unwrap();
        let other = ContainerId::new(&ID.replace('0', "f")).unwrap();
        let with = |labels: &[(&str, &str)], driver: &str, logspout: Option<&str>| ContainerMeta {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            log_driver: driver.to_owned(),
            logspout: logspout.map(str::to_owned),
            ..ContainerMeta::default()
        };
        let mut own = Own { container: Some(id.clone()), service: None };
        assert!(own.learn(&id, &with(&[(SERVICE, "svc")], "json-file", None)));
        assert!(!own.learn(&other, &with(&[(SERVICE, "web")], "json-file", None)));
        assert_eq!(own.treatment(&id, &with(&[], "json-file", None)), Treatment::Excluded);
        for (meta, expected) in [
            (with(&[], "json-file", None), Treatment::Tailed),
            (with(&[(SERVICE, "web")], "json-file", None), Treatment::Tailed),
            (with(&[(SERVICE, " svc ")], "json-file", None), Treatment::Excluded),
            (with(&[("skep.logs", " False ")], "json-file", None), Treatment::Excluded),
            (with(&[("skep.logs", "Off")], "json-file", None), Treatment::Excluded),
            (with(&[("skep.logs", "0")], "json-file", None), Treatment::Excluded),
            (with(&[("skep.logs", "true")], "json-file", Some("yes")), Treatment::Tailed),
            (with(&[], "json-file", Some("IGNORE")), Treatment::Excluded),
            (with(&[], "local", None), Treatment::OtherDriver),
        ] {
            assert_eq!(own.treatment(&other, &meta), expected, "{meta:?}");
        }
    }
}
