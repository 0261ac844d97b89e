//! The files that a route names: credentials, and certificates of authorities. They may come later than the agent, and change while it runs.

use std::fs;
use std::path::Path;

use base64::Engine;
use elasticsearch::http::headers::HeaderValue;

use crate::config::ElasticsearchSpec;

/// What they hold.
#[derive(Debug)]
pub(super) struct Secrets {
    /// PEM certificates.
    pub(super) authorities: Option<Vec<u8>>,
    /// The header that the credentials make.
    pub(super) authorization: Option<HeaderValue>,
}

/// Reads all of them; waits for the disk.
///
/// # Errors
/// A sentence that names the file.
pub(super) fn read(spec: &ElasticsearchSpec) -> Result<Secrets, String> {
    let authorities = match &spec.ca_file {
        Some(path) => Some(fs::read(path).map_err(|error| unreadable("ca_file", path, &error))?),
        None => None,
    };
    Ok(Secrets { authorities, authorization: authorization(spec)? })
}

/// The header that the credentials make, read from their files now; blanks and line feeds around them are not part of them.
pub(super) fn authorization(spec: &ElasticsearchSpec) -> Result<Option<HeaderValue>, String> {
    let value = if let Some(path) = &spec.api_key_file {
        format!("ApiKey {}", word("api_key_file", path)?)
    } else if let Some(user) = &spec.user {
        let password = match (&spec.password_file, &spec.password) {
            (Some(path), _) => word("password_file", path)?,
            (None, Some(password)) => password.reveal().to_owned(),
            (None, None) => return Ok(None),
        };
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    } else {
        return Ok(None);
    };
    let mut header =
        HeaderValue::from_str(&value).map_err(|_| "the API key has a line feed or another sign in it that no key has".to_owned())?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn word(what: &str, path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(what, path, &error))?;
    let text = text.trim();
    if text.is_empty() { Err(format!("{what}={} is empty", path.display())) } else { Ok(text.to_owned()) }
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("{what}={} cannot be read: {}", path.display(), error.kind())
}
