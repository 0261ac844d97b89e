//! The engine's API, by bollard: a negotiated version, a time limit on every call, a bound on every answer, and structs that no unknown value breaks.
//!
//! Bollard's own models have closed enums: one container in a state that it does not know fails the whole list. It also never puts an API version
//! into a request, so that answers would change their shape with the engine. Both are mended in one place, [`Engine::raw`]: bollard makes
//! the connection, TLS and HTTP, and hands over a body as it came; the address of the request is replaced on its way.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::http::uri::PathAndQuery;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answers::{EngineInfo, InfoAnswer, Listed, ListedContainer, NetworkAnswer, VersionAnswer};
use super::error::{EngineError, cut, explain, explain_io};
use super::events::{self, Events};
use super::inspected::{InspectAnswer, Inspected};

/// The newest API version whose answers were read (engine 29). An older engine is asked in its own.
const NEWEST_API: (u16, u16) = (1, 55);
/// How long a call may take. The slowest at rest is `/info`, with 35 ms; a Swarm without a quorum lets calls hang for 20 s.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is taken: 5 kB a container leaves room for thirteen thousand.
const LARGEST_ANSWER: usize = 64 << 20;
/// An engine that answers. Cloning gives another handle on the same engine.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    host: Arc<str>,
    prefix: Arc<str>,
    limit: Duration,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("host", &self.host).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The body of an answer, as it comes.
pub(super) type Body = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, bollard::errors::Error>> + Send>>;

impl Engine {
    /// Connects, and settles the API version: the engine's own, and at most the newest that is known here. Engines 20.10 to 29 have none in
    /// common (1.41 is the highest of the one, 1.44 the lowest of some of the others), so none is written down.
    ///
    /// `host` is `unix:///path`, `tcp://host:port`, or, with `DOCKER_TLS_VERIFY` set, `tcp://` over TLS with `ca.pem`, `cert.pem` and `key.pem`
    /// in `DOCKER_CERT_PATH`.
    ///
    /// # Errors
    /// [`EngineError`]; connecting again may do.
    pub async fn connect(host: &str) -> Result<Self, EngineError> {
        Self::connect_within(host, TIME_LIMIT).await
    }

    /// As [`Engine::connect`], with another time limit for each call; whole seconds, at least one.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn connect_within(host: &str, limit: Duration) -> Result<Self, EngineError> {
        let limit = limit.max(Duration::from_secs(1));
        let docker = client(host, limit)?;
        let unversioned = Self { docker, host: host.into(), prefix: "".into(), limit };
        let version: VersionAnswer = unversioned.get("version", "/version").await?;
        let parse = |text: &str| text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let newest: (u16, u16) = parse(&version.api_version).ok_or_else(|| EngineError::Garbled {
            host: host.into(),
            call: "version",
            what: format!("its API version is {:?}", cut(&version.api_version)),
        })?;
        // An engine of the future refuses what is known here: then its oldest is the nearest.
        let least = parse(&version.least_api_version).filter(|least| *least <= newest).unwrap_or_default();
        let (major, minor) = newest.min(NEWEST_API).max(least);
        Ok(Self { prefix: format!("/v{major}.{minor}").into(), ..unversioned })
    }

    /// What the engine says of itself and of its node.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        Ok(self.get::<InfoAnswer>("info", "/info").await?.into())
    }

    /// Whether the engine answers: any answer will do, for a proxy may refuse the question.
    ///
    /// # Errors
    /// [`EngineError`] where none comes.
    pub async fn ping(&self) -> Result<(), EngineError> {
        match self.bytes("ping", "/_ping").await {
            Err(EngineError::Status { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All containers, in whatever state.
    ///
    /// # Errors
    /// [`EngineError`]; an odd entry is counted and costs no other.
    pub async fn list(&self) -> Result<Listed, EngineError> {
        let entries: Vec<Box<RawValue>> = self.get("list", "/containers/json?all=1").await?;
        let mut listed = Listed::default();
        for entry in entries {
            match serde_json::from_str::<ListedContainer>(entry.get()) {
                Ok(container) if !container.id.is_empty() => listed.containers.push(container),
                _ => listed.odd += 1,
            }
        }
        Ok(listed)
    }

    /// One container.
    ///
    /// # Errors
    /// [`EngineError`]; it [is gone](EngineError::is_gone) when there is no such container.
    pub async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let answer: InspectAnswer = self.get("inspect", &format!("/containers/{id}/json")).await?;
        if answer.id != id {
            return Err(EngineError::Garbled { host: self.host.clone(), call: "inspect", what: "it is another container".to_owned() });
        }
        Ok(answer.into())
    }

    /// The subnet of a network (IPv4): its address, and how many bits of it count. `None` when it has none.
    ///
    /// # Errors
    /// [`EngineError`]; it [is gone](EngineError::is_gone) when there is no such network.
    pub async fn subnet(&self, network: &str) -> Result<Option<(Ipv4Addr, u8)>, EngineError> {
        Ok(self.get::<NetworkAnswer>("network", &format!("/networks/{network}")).await?.subnet())
    }

    /// What happens to containers from `since` on (nanoseconds since the epoch by the engine's clock, inclusive). The engine keeps the last 256 events.
    /// The request is sent when the stream is first asked.
    #[must_use]
    pub fn events(&self, since: Option<i64>) -> Events {
        let mut path = format!("/events?filters={}", escaped(&events::filters()));
        if let Some(since) = since {
            path.push_str(&format!("&since={}.{:09}", since.div_euclid(1_000_000_000), since.rem_euclid(1_000_000_000)));
        }
        Events::new(self.raw(&path), self.host.clone(), self.limit)
    }

    /// Asks for `path` (with its query, escaped) below the negotiated version and decodes the JSON of the answer. `call` names it in errors and counters.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn get<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<T, EngineError> {
        let answer = self.bytes(call, path).await?;
        serde_json::from_slice(&answer).map_err(|error| self.garbled(call, &error))
    }

    async fn bytes(&self, call: &'static str, path: &str) -> Result<BytesMut, EngineError> {
        let read = async {
            let mut body = self.raw(path);
            let mut answer = BytesMut::new();
            while let Some(chunk) = body.next().await {
                answer.extend_from_slice(&chunk.map_err(|error| explain(&self.host, call, self.limit, &error))?);
                if answer.len() > LARGEST_ANSWER {
                    return Err(self.garbled(call, &"it is larger than 64 MiB"));
                }
            }
            Ok(answer)
        };
        // Bollard's own limit ends with the head of the answer; a body may hang as well.
        match tokio::time::timeout(self.limit, read).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::Timeout { host: self.host.clone(), call, seconds: self.limit.as_secs() }),
        }
    }

    /// The body of the answer to a GET. `export_container` is the call of bollard that hands a body over undecoded; its address is replaced.
    pub(super) fn raw(&self, path: &str) -> Body {
        let address = format!("{}{path}", self.prefix);
        let Ok(address) = PathAndQuery::try_from(address) else {
            return Box::pin(futures_util::stream::empty());
        };
        let docker = self.docker.clone().with_request_modifier(move |mut request| {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(address.clone());
            if let Ok(uri) = hyper::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
            request
        });
        Box::pin(docker.export_container("-"))
    }

    /// The version that was settled, where there is one.
    pub(super) fn api(&self) -> Option<(u16, u16)> {
        let (major, minor) = self.prefix.strip_prefix("/v")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    pub(super) const fn host(&self) -> &Arc<str> {
        &self.host
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// The error for a stream that the engine ended.
    pub(crate) fn ended(&self, call: &'static str) -> EngineError {
        EngineError::Broken { host: self.host.clone(), call, what: "the engine ended it".to_owned() }
    }

    pub(super) fn garbled(&self, call: &'static str, what: &dyn fmt::Display) -> EngineError {
        EngineError::Garbled { host: self.host.clone(), call, what: what.to_string() }
    }
}

/// Bollard's client for an address. Nothing is sent yet.
fn client(host: &str, limit: Duration) -> Result<Docker, EngineError> {
    let refuse = |why: String| EngineError::Host { host: host.to_owned(), why };
    let seconds = limit.as_secs();
    if let Some(path) = host.strip_prefix("unix://") {
        // Bollard looks whether the path exists, which hides why it cannot be reached.
        if let Err(error) = std::fs::metadata(Path::new(path)) {
            return Err(explain_io(&host.into(), "connect", &error));
        }
        return Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()));
    }
    if !(host.starts_with("tcp://") || host.starts_with("http://") || host.starts_with("https://")) {
        return Err(refuse("it must begin with unix:// or tcp://".to_owned()));
    }
    let verify = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    if !verify && !host.starts_with("https://") {
        return Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()));
    }
    let Some(directory) = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from) else {
        return Err(refuse("TLS needs DOCKER_CERT_PATH, a directory with ca.pem, cert.pem and key.pem".to_owned()));
    };
    let [key, certificate, authority] = ["key.pem", "cert.pem", "ca.pem"].map(|name| directory.join(name));
    for file in [&key, &certificate, &authority] {
        std::fs::metadata(file).map_err(|error| refuse(format!("{}: {error}", file.display())))?;
    }
    Docker::connect_with_ssl(host, &key, &certificate, &authority, seconds, API_DEFAULT_VERSION).map_err(|error| refuse(error.to_string()))
}

/// A query's value, percent-escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_work_is_refused_with_a_reason() {
        let error = Engine::connect("ssh://somewhere").await.unwrap_err();
        assert_eq!(error.to_string(), "docker host ssh://somewhere: it must begin with unix:// or tcp://");
        let directory = tempfile::tempdir().unwrap();
        let missing = format!("unix://{}", directory.path().join("docker.sock").display());
        assert!(matches!(Engine::connect(&missing).await.unwrap_err(), EngineError::NotThere { .. }));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("{\"a\":[1]}"), "%7B%22a%22%3A%5B1%5D%7D");
    }
}
