//! What happens to containers, as the engine tells it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use serde::Deserialize;

use super::api::Body;
use super::error::{EngineError, explain};
use super::json::lenient;

/// What happens to containers and matters here. Never all: a health check each second makes three events of `exec_*` a second. `restart` is told by `die` and
/// `start` already.
const ACTIONS: [&str; 10] = ["create", "start", "die", "destroy", "rename", "update", "pause", "unpause", "oom", "health_status"];
/// What happens to networks and matters to the containers in them.
const OF_NETWORKS: [&str; 2] = ["connect", "disconnect"];
/// The largest event. Its attributes are the container's labels.
const LARGEST_EVENT: usize = 1 << 20;
/// What the engine puts among the labels in an event's attributes. A label of such a name is not told apart from it.
const ATTRIBUTES: [&str; 7] = ["name", "image", "exitCode", "execDuration", "signal", "oldName", "execID"];

/// The query's `filters` that ask for what matters.
pub(super) fn filters() -> String {
    let quoted: Vec<String> = ACTIONS.iter().chain(&OF_NETWORKS).map(|action| format!("\"{action}\"")).collect();
    format!("{{\"type\":[\"container\",\"network\"],\"event\":[{}]}}", quoted.join(","))
}

/// Something that happened to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container.
    pub id: String,
    /// What happened, as the engine words it: `start`, `health_status: healthy`. `connect` and `disconnect` are those of a network.
    pub action: String,
    /// When, by the engine's clock, nanoseconds since the epoch.
    pub time_nano: i64,
    /// The container's labels, and what the action brings: `exitCode`, `oldName`. Those of `connect` and `disconnect` are the network's.
    pub attributes: BTreeMap<String, String>,
}

impl ContainerEvent {
    /// The action without what stands behind its colon (`exec_create: /bin/sh`, `health_status: healthy`), and that.
    #[must_use]
    pub fn words(&self) -> (&str, &str) {
        self.action.split_once(": ").unwrap_or((&self.action, ""))
    }

    /// Whether it happened to a network that the container is in.
    #[must_use]
    pub fn is_of_network(&self) -> bool {
        OF_NETWORKS.contains(&&*self.action)
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let name = self.attributes.get("name").filter(|_| !self.is_of_network())?;
        Some(name.strip_prefix('/').unwrap_or(name)).filter(|name| !name.is_empty())
    }

    /// The container's labels, without those that stand under a name of the engine's own.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let is_label = |name: &str| !self.is_of_network() && !ATTRIBUTES.contains(&name);
        self.attributes.iter().filter(|(name, _)| is_label(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// What the run ended with, of `die`.
    #[must_use]
    pub fn exit_code(&self) -> Option<i64> {
        self.attributes.get("exitCode")?.parse().ok()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    kind: String,
    #[serde(rename = "Action", deserialize_with = "lenient")]
    action: String,
    #[serde(rename = "Actor", deserialize_with = "lenient")]
    actor: ActorAnswer,
    #[serde(rename = "timeNano", deserialize_with = "lenient")]
    time_nano: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActorAnswer {
    #[serde(rename = "ID", deserialize_with = "lenient")]
    id: String,
    #[serde(rename = "Attributes", deserialize_with = "lenient")]
    attributes: BTreeMap<String, String>,
}

/// What happens to containers, as it happens.
pub struct Events {
    body: Body,
    buffer: BytesMut,
    searched: usize,
    /// What comes until the next line feed is the rest of an event that was too large.
    skips: bool,
    host: Arc<str>,
    limit: Duration,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(body: Body, host: Arc<str>, limit: Duration) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, skips: false, host, limit }
    }

    /// The next event; `None` when the engine ended the stream. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`EngineError::Garbled`] for one event that cannot be understood: the stream goes on, and what was missed is known from the list only. Any other
    /// error ends the stream.
    pub async fn next(&mut self) -> Option<Result<ContainerEvent, EngineError>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', self.buffer.get(self.searched..).unwrap_or_default()) {
                let line = self.buffer.split_to(self.searched + length + 1);
                self.searched = 0;
                if std::mem::take(&mut self.skips) || line.trim_ascii().is_empty() {
                    continue;
                }
                match decode(&line).transpose() {
                    Some(event) => return Some(event.map_err(|what| self.garbled(what))),
                    None => continue,
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LARGEST_EVENT {
                self.buffer.clear();
                self.searched = 0;
                // The stream goes on: the next one would begin with the same event.
                if !std::mem::replace(&mut self.skips, true) {
                    return Some(Err(self.garbled("an event larger than 1 MiB".to_owned())));
                }
            }
            match self.body.next().await? {
                Ok(chunk) => self.buffer.extend_from_slice(&chunk),
                Err(error) => return Some(Err(explain(&self.host, "events", self.limit, &error))),
            }
        }
    }

    fn garbled(&self, what: String) -> EngineError {
        EngineError::Garbled { host: self.host.clone(), call: "events", what }
    }
}

/// The event of a line; `None` for one of a service, an image or a network's own, which were not asked for, or not apart: a filter by type and action has no
/// pairs, and a proxy may drop it.
fn decode(line: &[u8]) -> Result<Option<ContainerEvent>, String> {
    let EventAnswer { kind, action, actor, time_nano } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let (id, attributes) = match &*kind {
        "container" | "" => (actor.id, actor.attributes),
        "network" if OF_NETWORKS.contains(&&*action) => match actor.attributes.get("container") {
            Some(container) => (container.clone(), actor.attributes),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    if kind.is_empty() || id.is_empty() || action.is_empty() {
        return Err("an event of nothing".to_owned());
    }
    Ok(Some(ContainerEvent { id, action, time_nano, attributes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_that_is_too_large_costs_itself_only() {
        let good = |number: u32| format!(r#"{{"Type":"container","Action":"die","Actor":{{"ID":"{number}"}},"timeNano":{number}}}"#);
        let large = format!("{}\n{}\n{}\n", good(1), "x".repeat(LARGEST_EVENT * 5 / 2), good(2)).into_bytes();
        let chunks: Vec<_> = large.chunks(100_000).map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk))).collect();
        let mut events = Events::new(Box::pin(futures_util::stream::iter(chunks)), "engine".into(), Duration::from_secs(1));
        assert_eq!(events.next().await.unwrap().unwrap().id, "1");
        assert!(events.next().await.unwrap().unwrap_err().is_garbled());
        assert_eq!(events.next().await.unwrap().unwrap().id, "2");
        assert!(events.next().await.is_none());
    }

    #[test]
    fn an_event_of_either_api() {
        // 20.10 repeats itself at the top, 1.52 and later do not.
        let old = r#"{"status":"die","id":"c","from":"bb:1","Type":"container","Action":"die","Actor":{"ID":"c","Attributes":{"exitCode":"137","image":"bb:1",
            "name":"web","com.example.a":"1"}},"scope":"local","time":1,"timeNano":7}"#;
        let event = decode(old.as_bytes()).unwrap().unwrap();
        assert_eq!((&*event.id, event.name(), event.exit_code(), event.time_nano), ("c", Some("web"), Some(137), 7));
        assert_eq!(event.labels().into_iter().collect::<Vec<_>>(), [("com.example.a".to_owned(), "1".to_owned())]);
        let new =
            r#"{"Type":"container","Action":"health_status: unhealthy","Actor":{"ID":"c","Attributes":null},"scope":"local","timeNano":7}"#;
        assert_eq!(decode(new.as_bytes()).unwrap().unwrap().words(), ("health_status", "unhealthy"));
    }

    #[test]
    fn an_event_of_a_network_is_of_its_container() {
        let network =
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{"container":"c","name":"bridge","type":"bridge"}}}"#;
        let event = decode(network.as_bytes()).unwrap().unwrap();
        assert_eq!((&*event.id, event.is_of_network(), event.name(), event.labels().len()), ("c", true, None, 0));
        for other in
            [network.replace("connect", "create"), network.replace("container", "other"), network.replace("\"network\"", "\"service\"")]
        {
            assert_eq!(decode(other.as_bytes()), Ok(None));
        }
        assert!(decode(b"{}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_a_fault(line: Vec<u8>, text in ".*") {
            for line in [&line, text.as_bytes()] {
                proptest::prop_assert!(!matches!(decode(line), Ok(Some(event)) if event.id.is_empty()));
            }
        }
    }
}
