//! A container's log, as the engine gives it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;

use super::api::{Body, Engine};
use super::error::{EngineError, explain};
use super::json::lenient;

/// What the engine sends of a log: frames, or raw bytes of a container with a terminal. There is no limit of time, for a quiet container says nothing for days.
pub struct LogStream {
    body: Body,
    host: Arc<str>,
    limit: Duration,
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").field("host", &self.host).finish_non_exhaustive()
    }
}

impl LogStream {
    /// The next bytes; `None` when the engine ended the stream. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`EngineError`], which ends the stream.
    pub async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        Some(self.body.next().await?.map_err(|error| explain(&self.host, "logs", self.limit, &error)))
    }
}

/// How much of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What is written by now.
    Written,
    /// That, and what is written from now on, as it is written.
    Followed,
    /// Only what is written from now on.
    New,
}

/// What reading a container's log needs to know of it, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSubject {
    /// The name, with its slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Labels, as the engine's JSON.
    pub labels: serde_json::Value,
    /// Whether it has a terminal: then its log has no frames.
    pub tty: bool,
    /// `LOGSPOUT=...` of its environment, of which nothing else is kept.
    pub logspout: Option<String>,
    /// `json-file`, `local`, `journald`, ...
    pub log_driver: String,
    /// How many bytes of its log the engine keeps: `max-size` and `max-file` of the driver, as texts.
    pub kept: (Option<String>, Option<String>),
    /// Whether it runs.
    pub running: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SubjectAnswer {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    config: ConfigAnswer,
    #[serde(deserialize_with = "lenient")]
    host_config: HostConfigAnswer,
    #[serde(deserialize_with = "lenient")]
    state: StateAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    image: String,
    labels: serde_json::Value,
    #[serde(deserialize_with = "lenient")]
    tty: bool,
    #[serde(deserialize_with = "lenient")]
    env: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfigAnswer {
    #[serde(deserialize_with = "lenient")]
    log_config: LogConfigAnswer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct LogConfigAnswer {
    #[serde(rename = "Type", deserialize_with = "lenient")]
    driver: String,
    #[serde(rename = "Config", deserialize_with = "lenient")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StateAnswer {
    #[serde(deserialize_with = "lenient")]
    running: bool,
}

impl Engine {
    /// The log of a container on both streams, each entry with its time, from `since` on: nanoseconds since the epoch, inclusive. The request is sent when the
    /// stream is first asked.
    #[must_use]
    pub fn logs(&self, id: &str, since: Option<i64>, reading: Reading) -> LogStream {
        let query = match reading {
            Reading::Written => "follow=0",
            Reading::Followed => "follow=1",
            Reading::New => "follow=1&tail=0",
        };
        let mut path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&{query}");
        // Times before the epoch are none of a log's.
        if let Some(since) = since.filter(|since| *since > 0) {
            path.push_str(&format!("&since={}.{:09}", since / 1_000_000_000, since % 1_000_000_000));
        }
        LogStream { body: self.raw(&path), host: self.host().clone(), limit: self.limit() }
    }

    /// Whether whoever follows a log gets all of it, also when it is rotated: from 23.0 on.
    #[must_use]
    pub fn follows_rotations(&self) -> bool {
        self.api().is_none_or(|api| api >= (1, 42))
    }

    /// Whose log that is.
    ///
    /// # Errors
    /// [`EngineError`]; it [is gone](EngineError::is_gone) when there is no such container.
    pub async fn log_subject(&self, id: &str) -> Result<LogSubject, EngineError> {
        let SubjectAnswer { name, config, host_config, state } = self.get("inspect", &format!("/containers/{id}/json")).await?;
        let logspout = config.env.iter().find_map(|variable| variable.strip_prefix("LOGSPOUT=")).map(str::to_owned);
        let mut options = host_config.log_config.options;
        Ok(LogSubject {
            kept: (options.remove("max-size"), options.remove("max-file")),
            name,
            image: config.image,
            labels: config.labels,
            tty: config.tty,
            logspout,
            log_driver: host_config.log_config.driver,
            running: state.running,
        })
    }
}
