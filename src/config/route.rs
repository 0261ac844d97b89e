//! A route as a user writes it: `adapter://host[:port][,host...][/path][?option=value&...]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod filter;
mod glob;
mod parse;

pub use filter::Filter;

/// One route: where records go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// `name=`, where it was given; [`RouteSpec::name`] always has one.
    pub given_name: Option<String>,
    /// Where to.
    pub adapter: Adapter,
    /// How long a record may wait for others before its batch is sent.
    pub flush: Duration,
    /// Bytes at which a batch is sent.
    pub batch_bytes: usize,
    /// Records at which a batch is sent.
    pub batch_records: usize,
    /// The file for records that the sink refuses for good, where it is not to be the one in the state directory.
    pub dead_letter: Option<PathBuf>,
    /// What its documents are made like.
    pub schema: Schema,
    /// What becomes of its lines when the spool is full.
    pub when_full: WhenFull,
    /// How many threads share its containers out; at least one.
    pub workers: usize,
    /// Which containers and streams it wants.
    pub filter: Filter,
}

/// What becomes of a route's lines when its sink does not take them and the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// They stay as long as there is anything of a route that gives way; the engine itself cannot be held back.
    #[default]
    Block,
    /// They give way.
    DropOldest,
}

/// What documents are made like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schema {
    /// Field names of the Elastic Common Schema.
    #[default]
    Ecs,
    /// As logspout's Logstash adapter and Logstash's syslog input make them.
    Logstash,
}

/// Where a route's records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapter {
    /// `stdout:`, NDJSON.
    Stdout,
    /// `file:///dir`, NDJSON.
    File(FileSpec),
    /// `elasticsearch://` and `elasticsearch+https://`; OpenSearch as well.
    Elasticsearch(Box<ElasticsearchSpec>),
}

/// `file:///dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// Bytes at which a new file is begun.
    pub max_bytes: u64,
    /// Age at which a new file is begun.
    pub max_age: Option<Duration>,
    /// How many full files are kept; at least one.
    pub keep: u32,
}

/// `elasticsearch://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchSpec {
    /// Whether it is `elasticsearch+https://`.
    pub tls: bool,
    /// The hosts; at least one.
    pub hosts: Vec<Host>,
    /// The path before `/_bulk`, without a slash at its end: empty, or `/es`.
    pub path: String,
    /// Whether `index` names a data stream.
    pub data_stream: bool,
    /// The pattern of the index's name, with `%Y`, `%m`, `%d` and `%H` of the record's time; one that [`crate::logs::index::IndexPattern`] takes.
    pub index: String,
    /// Whether the index template is put before the first request.
    pub manage_template: bool,
    /// The user for basic authentication.
    pub user: Option<String>,
    /// A password that stood in the route itself.
    pub password: Option<Secret>,
    /// The file that the password is read from.
    pub password_file: Option<PathBuf>,
    /// The file that an API key (`base64(id:key)`) is read from.
    pub api_key_file: Option<PathBuf>,
    /// PEM certificates of authorities that are trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// How long a request may take, its answer included.
    pub timeout: Duration,
}

/// A host and its port. Displays as it is written in a URL: an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name or an address, an IPv6 address without brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl RouteSpec {
    /// Reads a route.
    ///
    /// # Errors
    /// A sentence: what was given (without a secret), why it is refused, what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::Parser::new(text)?.parse()
    }

    /// The route's name, by which its cursors and numbers go: `name=`, or else adapter, hosts and index, or directory. Never a credential.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(name) = &self.given_name {
            return name.clone();
        }
        match &self.adapter {
            Adapter::Stdout => "stdout".to_owned(),
            Adapter::File(of) => format!("file:{}", of.directory.display()),
            Adapter::Elasticsearch(of) => format!("{}://{}{}/{}", of.scheme(), of.hosts_text(), of.path, of.index),
        }
    }
}

/// Splits a list of routes at commas, but only at a comma before the next `scheme:`, for hosts are lists too. Blanks around a route and empty parts are
/// not part of one.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    let mut routes = Vec::new();
    let mut rest = text;
    let mut searched = 0;
    while let Some(at) = memchr::memchr(b',', rest.as_bytes().get(searched..).unwrap_or_default()) {
        let comma = searched + at;
        let (before, behind) = (rest.get(..comma).unwrap_or_default(), rest.get(comma + 1..).unwrap_or_default());
        if starts_with_scheme(behind.trim_start()) {
            routes.push(before);
            rest = behind;
            searched = 0;
        } else {
            searched = comma + 1;
        }
    }
    routes.push(rest);
    routes.into_iter().map(|route| route.trim().trim_end_matches(',').trim_end()).filter(|route| !route.is_empty()).collect()
}

/// Whether `text` begins as a route does: `word://` or `stdout:`. `host:9200` does not.
fn starts_with_scheme(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let word = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    word && (rest.starts_with("//") || scheme == "stdout")
}

impl ElasticsearchSpec {
    /// `elasticsearch` or `elasticsearch+https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls { "elasticsearch+https" } else { "elasticsearch" }
    }

    /// The hosts as they stand in the route: `a:9200,b:9200`.
    #[must_use]
    pub fn hosts_text(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the request that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') { write!(f, "[{}]:{}", self.name, self.port) } else { write!(f, "{}:{}", self.name, self.port) }
    }
}

/// The route as it would be given, every option that is not the default spelled out. A password in it reads `***`.
impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<(&str, String)> = Vec::new();
        if let Some(name) = &self.given_name {
            options.push(("name", name.clone()));
        }
        match &self.adapter {
            Adapter::Stdout => f.write_str("stdout:")?,
            Adapter::File(of) => {
                write!(f, "file://{}", encode(&of.directory.to_string_lossy(), "/"))?;
                options.push(("max_bytes", of.max_bytes.to_string()));
                if let Some(age) = of.max_age {
                    options.push(("max_age", duration_text(age)));
                }
                options.push(("keep", of.keep.to_string()));
            }
            Adapter::Elasticsearch(of) => {
                write!(f, "{}://", of.scheme())?;
                if let (Some(user), Some(_)) = (&of.user, &of.password) {
                    write!(f, "{}:***@", encode(user, ""))?;
                }
                write!(f, "{}{}", of.hosts_text(), encode(&of.path, "/"))?;
                options.push((if of.data_stream { "data_stream" } else { "index" }, of.index.clone()));
                options.push(("manage_template", of.manage_template.to_string()));
                if let (Some(user), None) = (&of.user, &of.password) {
                    options.push(("user", user.clone()));
                }
                let files = [("password_file", &of.password_file), ("api_key_file", &of.api_key_file), ("ca_file", &of.ca_file)];
                for (key, file) in files {
                    options.extend(file.iter().map(|file| (key, file.to_string_lossy().into_owned())));
                }
                options.push(("gzip", of.gzip.to_string()));
                options.push(("timeout", duration_text(of.timeout)));
            }
        }
        options.push(("flush", duration_text(self.flush)));
        options.push(("batch_bytes", self.batch_bytes.to_string()));
        options.push(("batch_records", self.batch_records.to_string()));
        if let Some(path) = &self.dead_letter {
            options.push(("dead_letter", path.to_string_lossy().into_owned()));
        }
        if self.schema == Schema::Logstash {
            options.push(("schema", "logstash".to_owned()));
        }
        if self.when_full == WhenFull::DropOldest {
            options.push(("when_full", "drop_oldest".to_owned()));
        }
        if self.workers > 1 {
            options.push(("workers", self.workers.to_string()));
        }
        let filters = self.filter.options();
        // In a list of routes a comma before what looks like a scheme would begin another.
        let shown = options.iter().map(|(key, value)| (key, encode(value, "/:,")));
        let shown = shown.chain(filters.iter().map(|(key, value)| (key, encode(value, ":*"))));
        for (number, (key, value)) in shown.enumerate() {
            write!(f, "{}{key}={value}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

fn duration_text(value: Duration) -> String {
    format!("{}ms", value.as_millis())
}

/// Percent-encoding of all but letters, digits, `-._~` and what is in `also`.
fn encode(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let sign = char::from(byte);
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || byte.is_ascii() && also.contains(sign) {
            out.push(sign);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elasticsearch(text: &str) -> ElasticsearchSpec {
        match RouteSpec::parse(text).unwrap().adapter {
            Adapter::Elasticsearch(of) => *of,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_shortest_route_has_the_defaults() {
        let route = RouteSpec::parse("elasticsearch://es").unwrap();
        assert_eq!((route.flush, route.batch_bytes, route.batch_records), (Duration::from_secs(1), 4 << 20, 5000));
        assert_eq!(route.name(), "elasticsearch://es:9200/docker-logs-%Y.%m.%d");
        let of = elasticsearch("elasticsearch://es");
        assert_eq!((of.tls, of.gzip, of.manage_template, of.timeout), (false, true, true, Duration::from_secs(60)));
        assert_eq!(elasticsearch("elasticsearch://es/a/%2f").path, "/a", "a slash at the end is none, encoded or not");
        assert_eq!(RouteSpec::parse("stdout:").unwrap().name(), "stdout");
        let file = RouteSpec::parse("file:///var/log/out?max_bytes=10MB&max_age=1d&keep=3").unwrap();
        assert_eq!(file.name(), "file:/var/log/out");
        let spec = FileSpec {
            directory: PathBuf::from("/var/log/out"),
            max_bytes: 10_000_000,
            max_age: Some(Duration::from_secs(86_400)),
            keep: 3,
        };
        assert_eq!(file.adapter, Adapter::File(spec));
    }

    #[test]
    fn a_route_with_everything() {
        let text = "elasticsearch+https://u%40x:p%3Aw@a,[::1]:9201,c.d:1/es/?index=logstash-%Y.%m.%d&ca_file=/run/secrets/ca&gzip=false\
                    &timeout=500ms&flush=2m&batch_bytes=1MiB&batch_records=7&name=one%26only&when_full=block&schema=ecs";
        let route = RouteSpec::parse(text).unwrap();
        let of = elasticsearch(text);
        assert_eq!(of.hosts_text(), "a:9200,[::1]:9201,c.d:1");
        assert_eq!((of.user.as_deref(), of.password.as_ref().map(Secret::reveal)), (Some("u@x"), Some("p:w")));
        assert_eq!((&*of.path, &*of.index, of.manage_template), ("/es", "logstash-%Y.%m.%d", false));
        assert_eq!((route.flush, route.batch_bytes, route.name().as_str()), (Duration::from_secs(120), 1 << 20, "one&only"));
        for shown in [route.to_string(), format!("{route:?}")] {
            assert!(!shown.contains("p:w") && !shown.contains("p%3A") && shown.contains("***"), "{shown}");
        }
    }

    #[test]
    fn a_list_is_split_only_before_a_scheme() {
        assert_eq!(
            split_list("elasticsearch://a,b:9200,c/x?index=i, file:///d ,stdout:,"),
            ["elasticsearch://a,b:9200,c/x?index=i", "file:///d", "stdout:"]
        );
        assert_eq!(split_list("elasticsearch+https://u:p@a,elasticsearch://b"), ["elasticsearch+https://u:p@a", "elasticsearch://b"]);
        assert!(split_list(" , ").is_empty());
    }

    #[test]
    fn data_streams_and_schemas() {
        let route = RouteSpec::parse(
            "elasticsearch://a?data_stream=logs-docker-default&schema=logstash&workers=3&filter.name=w*,x&when_full=drop_oldest&dead_letter=/d/l.ndjson",
        )
        .unwrap();
        assert_eq!((route.schema, route.workers, &*route.name()), (Schema::Logstash, 3, "elasticsearch://a:9200/logs-docker-default"));
        let of = elasticsearch("elasticsearch://a?data_stream=logs-docker-default");
        assert_eq!((of.data_stream, of.manage_template), (true, true));
        assert!(!elasticsearch("elasticsearch://a?index=logstash-%Y.%m.%d&schema=logstash").manage_template);
        assert_eq!(RouteSpec::parse(&route.to_string()).unwrap(), route);
        let listed = RouteSpec::parse("stdout:?filter.labels=a:b%2Cstdout:c").unwrap().to_string();
        assert_eq!(split_list(&listed), [&*listed]);
    }

    fn options() -> impl Strategy<Value = String> {
        let pairs = (
            proptest::option::of("[a-z%&=/ äß]{1,9}"),
            proptest::option::of("[a-z0-9][a-z0-9.-]{0,8}-%Y"),
            any::<bool>(),
            1u64..100_000,
            1usize..100_000,
        );
        pairs.prop_map(|(name, index, gzip, flush, records)| {
            let name = name.map(|name| format!("&name={}", encode(&name, ""))).unwrap_or_default();
            let index = index.map(|index| format!("&index={}", encode(&index, ""))).unwrap_or_default();
            format!("?gzip={gzip}&flush={flush}ms&batch_records={records}{name}{index}")
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            prop_assert!(split_list(&text).iter().all(|route| !route.is_empty()));
            RouteSpec::parse(&text).ok();
        }

        #[test]
        fn nothing_like_a_route_makes_it_panic(text in "(elasticsearch|elasticsearch\\+https|file|stdout):(//)?[a-z@:,/\\[\\]0-9%]{0,20}(\\?[a-z_=&%0-9äÿ]{0,30})?") {
            if let Ok(route) = RouteSpec::parse(&text) {
                prop_assert!(!route.name().is_empty());
            }
        }

        #[test]
        fn what_is_shown_is_what_was_meant(hosts in proptest::collection::vec("([a-z][a-z0-9.-]{0,8}|\\[::[1-9]\\])(:[1-9][0-9]{0,3})?", 1..4), path in "(/[a-z%2C]{1,5}){0,2}", options in options()) {
            let route = RouteSpec::parse(&format!("elasticsearch://{}{path}{options}", hosts.join(",")));
            prop_assume!(route.is_ok());
            let route = route.unwrap();
            prop_assert_eq!(RouteSpec::parse(&route.to_string()).unwrap(), route.clone());
            let shown = route.to_string();
            prop_assert_eq!(split_list(&shown), [&*shown]);
        }

        #[test]
        fn a_secret_stays_one(secret in "[a-zA-Z0-9]{12}") {
            let route = RouteSpec::parse(&format!("elasticsearch://user:{secret}@host?name=x")).unwrap();
            let secret = &*secret;
            let texts = [route.to_string(), format!("{route:?}"), route.name()];
            prop_assert!(texts.iter().all(|text| !text.contains(secret)));
        }
    }
}
