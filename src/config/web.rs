//! The file of `--web.config.file`: exporter-toolkit's format, taken apart and checked as far as it can be without the files that it names.
//!
//! Source: exporter-toolkit's docs/web-configuration.md. What it ignores in silence is refused here in a sentence: a client CA without a policy, an allow list
//! of names that nobody verifies, TLS settings without a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::yaml::{self, Node, Value};

/// The largest file that is read: an inline chain is a few KiB.
pub const FILE_BYTES: u64 = 1 << 20;
/// A cost of 18 takes a core some 15 seconds; what is above it looks like a slip, and would hold up every other password.
const HIGHEST_COST: u32 = 18;

/// The file, understood.
#[derive(Debug, Clone, Default)]
pub struct WebFile {
    /// TLS; `None` is plain HTTP.
    pub tls: Option<TlsFile>,
    /// Headers for every answer.
    pub headers: Vec<(&'static str, String)>,
    /// Users with their passwords' hashes; none is no password.
    pub users: Vec<User>,
    /// The limit of requests.
    pub rate: Option<Rate>,
    /// What stands in the file and has no effect here, in sentences.
    pub notes: Vec<String>,
}

/// A user of basic authentication.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// bcrypt's hash of the password.
    pub hash: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A token comes each time this has passed.
    pub interval: Duration,
    /// Tokens at most.
    pub burst: u32,
}

/// Where PEM comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// It stands in the file itself.
    Inline(String),
    /// In another file.
    File(PathBuf),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// What is asked of a client's certificate: Go's five `ClientAuthType`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    None,
    /// Asked for, not needed, not verified.
    Request,
    /// Needed, not verified.
    RequireAny,
    /// Not needed, verified when given.
    VerifyIfGiven,
    /// Needed and verified.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a certificate is verified against the client CA.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// `tls_server_config`.
#[derive(Debug, Clone)]
pub struct TlsFile {
    /// The certificate and its chain.
    pub cert: Source,
    /// Its key.
    pub key: Source,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Who signs their certificates.
    pub client_ca: Option<Source>,
    /// The names of which a client's certificate must bear one.
    pub client_sans: Option<Vec<String>>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version.
    pub max_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by Go's names, in order; those that are known here. `None` is all.
    pub suites: Option<Vec<&'static str>>,
    /// Whether the order of `suites` wins over the client's.
    pub prefer_own_order: bool,
    /// Curves by Go's names, in order. `None` is all.
    pub curves: Option<Vec<&'static str>>,
}

/// Cipher suites by Go's names that rustls has, for TLS 1.2.
const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// Those of TLS 1.3: as with Go, they cannot be chosen and are always on.
const SUITES_13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Go's, of the old kind (CBC with SHA-1), which rustls does not have.
const SUITES_OLD: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];
const CURVES: [&str; 3] = ["X25519", "CurveP256", "CurveP384"];
/// The only headers that exporter-toolkit lets be set, with their values where only some are allowed.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Takes the file's text apart. Paths in it are relative to `folder`.
///
/// # Errors
/// A sentence that says what is refused and what would do, without any secret.
pub fn parse(text: &str, folder: &Path) -> Result<WebFile, String> {
    let mut file = WebFile::default();
    let Some(root) = yaml::parse(text)? else { return Ok(file) };
    let (mut tls, mut http, mut users, mut rate) = (None, None, None, None);
    for (key, value) in map(root, "the file")? {
        match &*key {
            "tls_server_config" => tls = Some(value),
            "http_server_config" => http = Some(value),
            "basic_auth_users" => users = Some(value),
            "rate_limit" => rate = Some(value),
            _ => {
                let known = "tls_server_config, http_server_config, basic_auth_users and rate_limit are";
                return Err(format!("line {}: '{key}' is not a key of this file; {known}", value.line));
            }
        }
    }
    if let Some(tls) = tls {
        file.tls = tls_of(tls, folder, &mut file.notes)?;
    }
    if let Some(http) = http {
        http_of(http, &mut file)?;
    }
    if let Some(users) = users {
        for (name, hash) in map(users, "basic_auth_users")? {
            let line = hash.line;
            let hash = string(hash, "basic_auth_users", "a user's hash")?;
            check_user(&name, &hash).map_err(|why| format!("line {line}: basic_auth_users: {why}"))?;
            file.users.push(User { name, hash });
        }
    }
    if let Some(rate) = rate {
        file.rate = rate_of(rate)?;
    }
    Ok(file)
}

fn check_user(name: &str, hash: &str) -> Result<(), String> {
    if name.contains(':') {
        return Err(format!("the name '{name}' has a colon in it, which basic authentication cannot send"));
    }
    match hash.parse::<bcrypt::HashParts>() {
        Ok(parts) if (4..=HIGHEST_COST).contains(&parts.get_cost()) => Ok(()),
        Ok(parts) => {
            Err(format!("the hash of '{name}' has a cost of {}: 4 to {HIGHEST_COST} are taken, and 10 would do", parts.get_cost()))
        }
        Err(_) => Err(format!("what stands for '{name}' is not a hash of bcrypt, as htpasswd -nBC 10 '{name}' makes it")),
    }
}

fn tls_of(value: Value, folder: &Path, notes: &mut Vec<String>) -> Result<Option<TlsFile>, String> {
    const SECTION: &str = "tls_server_config";
    let first = value.line;
    let (mut cert, mut key, mut client_ca) = ([const { None::<String> }; 2], [const { None::<String> }; 2], [const { None::<String> }; 2]);
    let (mut client_auth, mut client_sans, mut suites, mut curves) = (None, None, None, None);
    let (mut min_version, mut max_version, mut prefer_own_order) = (TlsVersion::Tls12, TlsVersion::Tls13, true);
    let mut is_set = false;
    for (name, value) in map(value, SECTION)? {
        let line = value.line;
        let at = |why: String| format!("line {line}: {SECTION}: {name}: {why}");
        is_set |= !matches!(value.node, Node::Null);
        match &*name {
            "cert" => cert[0] = filled(value, &name)?,
            "cert_file" => cert[1] = filled(value, &name)?,
            "key" => key[0] = filled(value, &name)?,
            "key_file" => key[1] = filled(value, &name)?,
            "client_ca" => client_ca[0] = filled(value, &name)?,
            "client_ca_file" => client_ca[1] = filled(value, &name)?,
            "client_auth_type" => client_auth = filled(value, &name)?.map(|text| auth_of(&text).map_err(at)).transpose()?,
            "client_allowed_sans" => client_sans = strings(value, &name)?,
            "min_version" => min_version = filled(value, &name)?.map_or(Ok(min_version), |text| version_of(&text).map_err(at))?,
            "max_version" => max_version = filled(value, &name)?.map_or(Ok(max_version), |text| version_of(&text).map_err(at))?,
            "cipher_suites" => {
                suites = strings(value, &name)?
                    .filter(|names| !names.is_empty())
                    .map(|names| suites_of(&names, notes).map_err(at))
                    .transpose()?
            }
            "curve_preferences" => {
                curves = strings(value, &name)?
                    .filter(|names| !names.is_empty())
                    .map(|names| curves_of(&names, notes).map_err(at))
                    .transpose()?
            }
            "prefer_server_cipher_suites" => prefer_own_order = boolean(value, SECTION, &name)?.unwrap_or(true),
            _ => {
                return Err(format!(
                    "line {line}: '{name}' is not a key of {SECTION}; cert, cert_file, key, key_file, client_ca, client_ca_file, client_auth_type, \
                     client_allowed_sans, min_version, max_version, cipher_suites, prefer_server_cipher_suites and curve_preferences are"
                ));
            }
        }
    }
    if !is_set {
        return Ok(None);
    }
    let refused = |why: &str| Err(format!("line {first}: {SECTION}: {why}"));
    let Some(cert) = source("cert", cert, folder)? else { return refused("neither cert_file nor cert is given") };
    let Some(key) = source("key", key, folder)? else { return refused("neither key_file nor key is given") };
    let client_ca = source("client_ca", client_ca, folder)?;
    let client_auth = client_auth.unwrap_or(ClientAuth::None);
    if client_ca.is_some() && client_auth == ClientAuth::None {
        return refused("a client CA is given and no client_auth_type; RequireAndVerifyClientCert would do");
    }
    if client_auth.verifies() && client_ca.is_none() {
        return refused("clients' certificates are to be verified and neither client_ca_file nor client_ca is given");
    }
    if let Some(sans) = &client_sans {
        if sans.is_empty() {
            return refused("client_allowed_sans is empty: nobody would be let in");
        }
        if !client_auth.verifies() {
            return refused(
                "client_allowed_sans: names in a certificate that nobody verifies prove nothing; client_auth_type RequireAndVerifyClientCert would do",
            );
        }
    }
    if min_version > max_version {
        return refused("min_version is newer than max_version");
    }
    if max_version == TlsVersion::Tls12 && suites.as_ref().is_some_and(Vec::is_empty) {
        return refused("cipher_suites has none for TLS 1.2, and max_version leaves no newer version");
    }
    Ok(Some(TlsFile { cert, key, client_auth, client_ca, client_sans, min_version, max_version, suites, prefer_own_order, curves }))
}

fn source(name: &str, given: [Option<String>; 2], folder: &Path) -> Result<Option<Source>, String> {
    match given {
        [Some(_), Some(_)] => Err(format!("tls_server_config: {name} and {name}_file are both given: one of them would do")),
        [Some(text), None] => Ok(Some(Source::Inline(text))),
        [None, Some(path)] => Ok(Some(Source::File(folder.join(path)))),
        [None, None] => Ok(None),
    }
}

fn auth_of(text: &str) -> Result<ClientAuth, String> {
    match text {
        "NoClientCert" => Ok(ClientAuth::None),
        "RequestClientCert" => Ok(ClientAuth::Request),
        // The second is exporter-toolkit's name of former days.
        "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAny),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
        _ => Err(format!(
            "'{text}' is not known; NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven and RequireAndVerifyClientCert are"
        )),
    }
}

fn version_of(text: &str) -> Result<TlsVersion, String> {
    match text {
        "TLS12" => Ok(TlsVersion::Tls12),
        "TLS13" => Ok(TlsVersion::Tls13),
        "TLS10" | "TLS11" => Err(format!("{text} is broken (RFC 8996) and not served; TLS12 and TLS13 are")),
        _ => Err(format!("'{text}' is not known; TLS12 and TLS13 are")),
    }
}

fn suites_of(names: &[String], notes: &mut Vec<String>) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    for name in names {
        if let Some(known) = SUITES.iter().find(|known| *known == name) {
            found.push(*known);
        } else if SUITES_OLD.iter().any(|known| known == name) {
            notes.push(format!("cipher_suites: {name} is of the old kind (CBC with SHA-1) and is not offered"));
        } else if !SUITES_13.iter().any(|known| known == name) {
            return Err(format!("'{name}' is not known; {} are", SUITES.join(", ")));
        }
    }
    if found.is_empty() {
        notes.push("cipher_suites: none of them is for TLS 1.2, which is off therefore".to_owned());
    }
    Ok(found)
}

fn curves_of(names: &[String], notes: &mut Vec<String>) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    for name in names {
        match CURVES.iter().find(|known| *known == name) {
            Some(known) => found.push(*known),
            None if name == "CurveP521" => notes.push("curve_preferences: CurveP521 is not offered here".to_owned()),
            None => return Err(format!("'{name}' is not known; {} are", CURVES.join(", "))),
        }
    }
    if found.is_empty() { Err(format!("none of them is offered here; {} are", CURVES.join(", "))) } else { Ok(found) }
}

fn http_of(value: Value, file: &mut WebFile) -> Result<(), String> {
    const SECTION: &str = "http_server_config";
    for (name, value) in map(value, SECTION)? {
        let line = value.line;
        match &*name {
            // HTTP/1.1 is served in either case.
            "http2" => drop(boolean(value, SECTION, &name)?),
            "headers" => {
                for (header, value) in map(value, "headers")? {
                    let Some((known, allowed)) = HEADERS.iter().find(|(known, _)| *known == header) else {
                        let known: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
                        return Err(format!("line {line}: headers: '{header}' cannot be set; {} can", known.join(", ")));
                    };
                    let line = value.line;
                    let Some(text) = filled(value, &header)? else { continue };
                    if !allowed.is_empty() && !allowed.contains(&&*text) {
                        return Err(format!("line {line}: headers: {header} cannot be '{text}'; {} would do", allowed.join(" or ")));
                    }
                    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                        return Err(format!("line {line}: headers: {header} has a character in it that a header cannot have"));
                    }
                    file.headers.push((*known, text));
                }
            }
            _ => return Err(format!("line {line}: '{name}' is not a key of {SECTION}; http2 and headers are")),
        }
    }
    Ok(())
}

fn rate_of(value: Value) -> Result<Option<Rate>, String> {
    const SECTION: &str = "rate_limit";
    let first = value.line;
    let (mut interval, mut burst) = (None, 0);
    for (name, value) in map(value, SECTION)? {
        let line = value.line;
        match &*name {
            "interval" => {
                interval = match filled(value, &name)? {
                    None => None,
                    Some(text) => go_duration(&text)
                        .ok_or_else(|| format!("line {line}: {SECTION}: interval: '{text}' is not a duration: 1s, 250ms and 0 are"))?,
                };
            }
            "burst" => {
                burst = match filled(value, &name)? {
                    None => 0,
                    Some(text) => {
                        text.parse().map_err(|_| format!("line {line}: {SECTION}: burst: '{text}' is not a number of requests"))?
                    }
                };
            }
            _ => return Err(format!("line {line}: '{name}' is not a key of {SECTION}; interval and burst are")),
        }
    }
    match interval {
        Some(_) if burst == 0 => Err(format!("line {first}: {SECTION}: with a burst of 0 no request is ever answered; 10 would do")),
        interval => Ok(interval.map(|interval| Rate { interval, burst })),
    }
}

/// Go's spelling, `1m30s` or `1.5s`; zero is `None`, no limit. A number without a unit would be nanoseconds to exporter-toolkit, which nobody means.
fn go_duration(text: &str) -> Option<Option<Duration>> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() && text != "0" {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let unit = behind.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(unit)?;
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = behind;
    }
    let found = Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())?;
    // A year at most, as everywhere: what is added to a clock must not overflow.
    (found <= Duration::from_secs(366 * 86_400)).then_some((!found.is_zero()).then_some(found))
}

fn map(value: Value, name: &str) -> Result<Vec<(String, Value)>, String> {
    match value.node {
        Node::Map(entries) => Ok(entries),
        Node::Null => Ok(Vec::new()),
        _ => Err(format!("line {}: {name} is not a table of keys and values", value.line)),
    }
}

fn string(value: Value, section: &str, name: &str) -> Result<String, String> {
    match value.node {
        Node::Text(text) => Ok(text),
        _ => Err(format!("line {}: {section}: {name} is not a text", value.line)),
    }
}

/// A text; an empty one is as good as none.
fn filled(value: Value, name: &str) -> Result<Option<String>, String> {
    match value.node {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        _ => Err(format!("line {}: {name} is not a text", value.line)),
    }
}

fn strings(value: Value, name: &str) -> Result<Option<Vec<String>>, String> {
    match value.node {
        Node::Null => Ok(None),
        Node::List(values) => values.into_iter().map(|value| string(value, name, "one of its entries")).collect::<Result<_, _>>().map(Some),
        _ => Err(format!("line {}: {name} is not a list", value.line)),
    }
}

fn boolean(value: Value, section: &str, name: &str) -> Result<Option<bool>, String> {
    let line = value.line;
    match filled(value, name)?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        // As YAML 1.1 has them, which exporter-toolkit reads.
        Some("true" | "yes" | "on" | "y") => Ok(Some(true)),
        Some("false" | "no" | "off" | "n") => Ok(Some(false)),
        Some(_) => Err(format!("line {line}: {section}: {name} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

    fn read(text: &str) -> Result<WebFile, String> {
        parse(text, Path::new("/etc/skep"))
    }

    fn refused(text: &str) -> String {
        read(text).unwrap_err()
    }

    #[test]
    fn a_whole_file() {
        let file = read(&format!(
            "tls_server_config:\n  cert_file: a/server.crt\n  key_file: /k.pem\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\n    PEM\n  \
             client_allowed_sans:\n  - one\n  - two\n  min_version: TLS13\n  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
             TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n  curve_preferences:\n  - CurveP521\n  - X25519\nhttp_server_config:\n  http2: no\n  headers:\n    \
             X-Frame-Options: deny\n    X-XSS-Protection: ''\nbasic_auth_users:\n  alice: {HASH}\nrate_limit:\n  interval: 1m0.5s\n  burst: 3\n"
        ))
        .unwrap();
        let tls = file.tls.unwrap();
        assert_eq!(tls.cert, Source::File("/etc/skep/a/server.crt".into()));
        assert_eq!(tls.key, Source::File("/k.pem".into()));
        assert_eq!(tls.client_ca, Some(Source::Inline("PEM\n".to_owned())));
        assert_eq!(
            (tls.client_auth, tls.min_version, tls.max_version),
            (ClientAuth::RequireAndVerify, TlsVersion::Tls13, TlsVersion::Tls13)
        );
        assert_eq!(tls.suites.unwrap(), ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
        assert_eq!(tls.curves.unwrap(), ["X25519"]);
        assert_eq!(tls.client_sans.unwrap(), ["one", "two"]);
        assert_eq!(file.headers, [("X-Frame-Options", "deny".to_owned())]);
        assert_eq!(file.rate, Some(Rate { interval: Duration::from_millis(60_500), burst: 3 }));
        assert_eq!(file.notes.len(), 2, "{:?}", file.notes);
        assert_eq!(format!("{:?}", file.users), "[User(alice)]", "no hash is shown");
    }

    #[test]
    fn files_that_ask_for_nothing() {
        for text in [
            "",
            "# nothing\n",
            "tls_server_config:\n",
            "tls_server_config: {}\nbasic_auth_users:\n",
            "rate_limit:\n  interval: 0\n  burst: 0\n",
        ] {
            let file = read(text).unwrap();
            assert!(file.tls.is_none() && file.users.is_empty() && file.rate.is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_said_in_a_sentence() {
        let tls = |further: &str| refused(&format!("tls_server_config:\n  cert_file: c\n  key_file: k\n  {further}\n"));
        for (said, expected) in [
            (refused("tls_config: 1"), "line 1: 'tls_config' is not a key of this file"),
            (refused("junk"), "line 1: the file is not a table"),
            (refused("tls_server_config:\n  cert_filse: c\n"), "line 2: 'cert_filse' is not a key of tls_server_config; cert, "),
            (refused("tls_server_config:\n  cert_file: c\n"), "neither key_file nor key"),
            (refused("tls_server_config:\n  min_version: TLS13\n"), "neither cert_file nor cert"),
            (tls("cert: x"), "cert and cert_file are both given"),
            (tls("client_auth_type: Maybe"), "'Maybe' is not known; NoClientCert, "),
            (tls("client_ca_file: ca"), "a client CA is given and no client_auth_type"),
            (tls("client_auth_type: RequireAndVerifyClientCert"), "neither client_ca_file nor client_ca is given"),
            (tls("client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a]"), "prove nothing"),
            (tls("client_ca: x\n  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: []"), "nobody would be let in"),
            (tls("min_version: TLS10"), "TLS10 is broken (RFC 8996)"),
            (tls("max_version: TLS9"), "'TLS9' is not known"),
            (tls("min_version: TLS13\n  max_version: TLS12"), "newer than max_version"),
            (tls("cipher_suites: [TLS_NONE]"), "'TLS_NONE' is not known"),
            (tls("cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12"), "leaves no newer version"),
            (tls("cipher_suites: TLS"), "is not a list"),
            (tls("curve_preferences: [CurveP521]"), "none of them is offered"),
            (tls("prefer_server_cipher_suites: perhaps"), "neither true nor false"),
            (refused("http_server_config:\n  headers:\n    Server: x\n"), "'Server' cannot be set; Content-Security-Policy, "),
            (refused("http_server_config:\n  headers:\n    X-Frame-Options: maybe\n"), "deny or sameorigin would do"),
            (refused("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n"), "a character in it"),
            (refused("http_server_config:\n  http3: true\n"), "http2 and headers are"),
            (refused(&format!("basic_auth_users:\n  a:b: {HASH}\n")), "colon"),
            (refused("rate_limit:\n  interval: 1s\n"), "burst of 0"),
            (refused("rate_limit:\n  interval: 5\n  burst: 1\n"), "'5' is not a duration"),
            (refused("rate_limit:\n  interval: 1s\n  burst: -1\n"), "'-1' is not a number"),
        ] {
            assert!(said.contains(expected), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_hash_that_is_none_is_refused_and_not_shown() {
        for hash in [
            "geheim",
            "$2y$10$geheim",
            "$2y$31$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG",
            "$5y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG",
        ] {
            let said = refused(&format!("basic_auth_users:\n  bob: {hash}\n"));
            assert!(said.contains("bob") && !said.contains("geheim") && !said.contains("X0h1"), "{said}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        assert_eq!(go_duration("0"), Some(None));
        assert_eq!(go_duration("0s"), Some(None));
        assert_eq!(go_duration("1h2m3s"), Some(Some(Duration::from_secs(3723))));
        assert_eq!(go_duration("250ms"), Some(Some(Duration::from_millis(250))));
        for odd in ["", "1", "s", "-1s", "1 s", "1e9h", "1..s"] {
            assert_eq!(go_duration(odd), None, "{odd}");
        }
    }
}
