//! What the collectors share that ask over sockets: when they may ask at all, and the recorded answers of node_exporter's end-to-end test.

use serde_json::{Map, Value};

use super::CollectError;
use crate::host::Reader;

/// Refuses where the kernel would tell of another network namespace than the host's.
pub(super) fn host_network_only(host: &Reader, what: &str) -> Result<(), CollectError> {
    if host.in_host_network() {
        return Ok(());
    }
    Err(CollectError::Other(format!(
        "the agent is not in the host's network namespace; {what} of the host can be asked for only there: run it with network: host"
    )))
}

/// A file of the directory that a `fixtures` flag names. Names of fields are compared without regard to case, as Go does.
pub(super) fn fixture(host: &mut Reader, directory: &str, file: &str) -> Result<Option<Value>, CollectError> {
    let path = std::path::Path::new(directory).join(file);
    let bytes = match host.at(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(bytes).map(Some).map_err(|error| CollectError::Other(format!("{}: {error}", path.display())))
}

/// The objects of a list.
pub(super) fn objects(list: Option<&Value>) -> impl Iterator<Item = &Map<String, Value>> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// A field of an object.
pub(super) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A number of an object, 0 when it is not there: so a Go structure reads it.
pub(super) fn number(object: &Map<String, Value>, name: &str) -> u64 {
    field(object, name).and_then(Value::as_u64).unwrap_or_default()
}

/// A text of an object.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    field(object, name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the machine was started by something else than systemd, so that it has neither systemd nor, but for rarities, logind.
pub(super) fn is_without_systemd(host: &mut Reader) -> bool {
    host.shows_host_processes() && host.proc("1/comm").is_ok_and(|name| name.trim_ascii() != b"systemd")
}
