//! Why an engine gave no answer, or none that can be used.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why the engine gave no answer, or none that can be used: which call, and in a sentence what would do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The address cannot be used.
    #[error("docker host {host}: {why}")]
    Host {
        /// The address as it was given.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such socket.
    #[error("{host} is not there: is the engine running, and is its socket mounted into the container?")]
    NotThere {
        /// The address.
        host: Arc<str>,
    },
    /// The socket may not be opened.
    #[error("{host} may not be opened: run as a user that may read and write it (root, or the socket's group)")]
    Permission {
        /// The address.
        host: Arc<str>,
    },
    /// Nothing listens.
    #[error("{host} refused the connection: the engine is not running")]
    Refused {
        /// The address.
        host: Arc<str>,
    },
    /// No answer in time.
    #[error("{host} gave no answer to {call} in {seconds} s")]
    Timeout {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// An answer that says no.
    #[error("{host} answered {call} with {status}: {message}")]
    Status {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the engine said, cut at 300 characters.
        message: String,
    },
    /// An answer that is not what was asked for.
    #[error("{host} answered {call} with what cannot be understood: {what}")]
    Garbled {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The connection broke.
    #[error("the connection to {host} broke during {call}: {what}")]
    Broken {
        /// The address.
        host: Arc<str>,
        /// The call.
        call: &'static str,
        /// What the system said.
        what: String,
    },
}

impl EngineError {
    /// Whether the thing that was asked for does not exist (any more): 404.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether an answer came that cannot be understood.
    #[must_use]
    pub const fn is_garbled(&self) -> bool {
        matches!(self, Self::Garbled { .. })
    }

    /// Whether the fault may lie with the one thing that was asked for, and not with the engine or the way to it. A hang is one: an engine can hang on
    /// a single container.
    #[must_use]
    pub const fn is_about_one(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Garbled { .. } | Self::Timeout { .. })
    }

    /// The call that failed, for a counter.
    #[must_use]
    pub const fn call(&self) -> &'static str {
        match self {
            Self::Timeout { call, .. } | Self::Status { call, .. } | Self::Garbled { call, .. } | Self::Broken { call, .. } => call,
            Self::Host { .. } | Self::NotThere { .. } | Self::Permission { .. } | Self::Refused { .. } => "connect",
        }
    }
}

/// What bollard says, by its cause.
pub(super) fn explain(host: &Arc<str>, call: &'static str, limit: Duration, error: &bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Status { host: host.clone(), call, status: *status_code, message: cut(message).to_owned() }
        }
        Error::IOError { err } => explain_io(host, call, err),
        Error::RequestTimeoutError => EngineError::Timeout { host: host.clone(), call, seconds: limit.as_secs() },
        other => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(other);
            let mut last = other.to_string();
            while let Some(error) = cause {
                if let Some(error) = error.downcast_ref::<io::Error>() {
                    return explain_io(host, call, error);
                }
                last = error.to_string();
                cause = error.source();
            }
            EngineError::Broken { host: host.clone(), call, what: last }
        }
    }
}

pub(super) fn explain_io(host: &Arc<str>, call: &'static str, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::NotFound => EngineError::NotThere { host: host.clone() },
        io::ErrorKind::PermissionDenied => EngineError::Permission { host: host.clone() },
        io::ErrorKind::ConnectionRefused => EngineError::Refused { host: host.clone() },
        _ => EngineError::Broken { host: host.clone(), call, what: error.to_string() },
    }
}

/// The first 300 characters.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(300).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
