//! A route from text to its spec: the grammar, the options each adapter takes, and what is refused in which words.

use std::path::PathBuf;
use std::time::Duration;

use super::{Adapter, ElasticsearchSpec, FileSpec, Filter, Host, RouteSpec, Schema, Secret, WhenFull};
use crate::config::units;
use crate::logs::index::IndexPattern;

/// The index where none is asked for: dated by the record's own time in UTC, so that a resend finds its first copy whenever it comes.
const DEFAULT_INDEX: &str = "docker-logs-%Y.%m.%d";
const DEFAULT_PORT: u16 = 9200;
const COMMON: [&str; 6] = ["name", "schema", "when_full", "flush", "batch_bytes", "batch_records"];
const ELASTICSEARCH: [&str; 11] = [
    "workers",
    "index",
    "data_stream",
    "manage_template",
    "user",
    "password_file",
    "api_key_file",
    "ca_file",
    "gzip",
    "timeout",
    "dead_letter",
];
const FILE: [&str; 3] = ["max_bytes", "max_age", "keep"];
/// Adapters that the interface names and that are not there yet.
const LATER_ADAPTERS: [&str; 13] = [
    "lumberjack",
    "lumberjack+tls",
    "logstash+http",
    "logstash+https",
    "syslog",
    "syslog+tcp",
    "syslog+tls",
    "json+tcp",
    "json+tls",
    "logstash+tcp",
    "raw+udp",
    "raw+tcp",
    "raw+tls",
];
/// Each worker has two batches and connections of its own.
const MOST_WORKERS: u64 = 16;

/// A route under way from text: its scheme, what stands before the `?`, and its options.
pub(super) struct Parser<'a> {
    scheme: &'a str,
    body: &'a str,
    options: Vec<(String, String)>,
    /// An option that is given more than once.
    twice: Option<String>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err("a route begins with its adapter, as in elasticsearch://host:9200, file:///dir or stdout:".to_owned());
        };
        let (body, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password with one of these signs in it ends the authority early, and what is left of it would be taken for a path or an option, and shown.
        let behind = body.strip_prefix("//").and_then(|body| body.split_once('/')).map_or("", |(_, path)| path);
        if query.contains('@') || scheme != "file" && behind.contains('@') {
            return Err("an @ stands behind the hosts; signs like ? # / @ in a password or an option are written in percent encoding, %3F %23 %2F %40"
                .to_owned());
        }
        let (mut options, mut twice) = (Vec::new(), None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key)?;
            let value = if key == "index" { decode_pattern(value)? } else { decode(value)? };
            if options.iter().any(|(known, _)| *known == key) {
                twice = Some(key);
            } else {
                options.push((key, value));
            }
        }
        Ok(Self { scheme, body, options, twice })
    }

    /// The adapter is read first: before its hosts are known to be some, nothing of what stands behind them may be shown.
    pub(super) fn parse(mut self) -> Result<RouteSpec, String> {
        let (adapter, known): (Adapter, &[&str]) = match self.scheme {
            "stdout" => (self.stdout()?, &[]),
            "file" => (Adapter::File(self.file()?), &FILE),
            "elasticsearch" | "elasticsearch+https" => (Adapter::Elasticsearch(Box::new(self.elasticsearch()?)), &ELASTICSEARCH),
            later if LATER_ADAPTERS.contains(&later) => {
                return Err(format!(
                    "the adapter {later} is not there yet; elasticsearch://, elasticsearch+https://, file:// and stdout: are"
                ));
            }
            _ => {
                return Err("the adapter is not known; elasticsearch://, elasticsearch+https://, file:// and stdout: are".to_owned());
            }
        };
        let given_name = self.take("name");
        if given_name.as_deref().is_some_and(|name| name.is_empty() || name.chars().any(char::is_control)) {
            return Err("name= is empty or has a control character in it; a word would do".to_owned());
        }
        let when_full = match self.take("when_full").as_deref() {
            None | Some("block") => WhenFull::Block,
            Some("drop_oldest") => WhenFull::DropOldest,
            Some(_) => return Err("when_full= takes block or drop_oldest".to_owned()),
        };
        let dead_letter = match &adapter {
            Adapter::Elasticsearch(_) => self.take("dead_letter").map(PathBuf::from),
            Adapter::File(_) | Adapter::Stdout => None,
        };
        if dead_letter.as_ref().is_some_and(|path| !path.is_absolute() || path.file_name().is_none()) {
            return Err("dead_letter= takes the absolute path of a file".to_owned());
        }
        let schema = match self.take("schema").as_deref() {
            None | Some("ecs") => Schema::Ecs,
            Some("logstash") => Schema::Logstash,
            Some(_) => return Err("schema= takes ecs or logstash".to_owned()),
        };
        let flush = self.duration("flush", Duration::from_secs(1))?;
        let batch_bytes = usize::try_from(self.size("batch_bytes", 4 << 20)?).unwrap_or(usize::MAX);
        let batch_records = usize::try_from(self.number("batch_records", 5000)?).unwrap_or(usize::MAX);
        if !(4096..=64 << 20).contains(&batch_bytes) || !(1..=100_000).contains(&batch_records) {
            return Err("batch_bytes takes 4KiB to 64MiB, batch_records 1 to 100000".to_owned());
        }
        let workers = self.number("workers", 1)?;
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(format!("workers= takes 1 to {MOST_WORKERS}"));
        }
        if workers > 1 && !matches!(adapter, Adapter::Elasticsearch(_)) {
            return Err(format!("{} writes one output in one order, so one worker writes it: without workers= it would do", self.scheme));
        }
        let workers = usize::try_from(workers).unwrap_or(1);
        let mut filter = Filter::default();
        for option in Filter::OPTIONS {
            if let Some(value) = self.take(option) {
                filter.take(option, &value)?;
            }
        }
        if let Some(option) = &self.twice {
            return Err(format!("{} is given twice; once would do", called(option)));
        }
        if let Some((option, _)) = self.options.first() {
            let known = known.iter().chain(&COMMON).chain(&Filter::OPTIONS).copied().collect::<Vec<_>>().join(", ");
            return Err(format!("{} is not known; {} takes {known}", called(option), self.scheme));
        }
        Ok(RouteSpec { given_name, adapter, flush, batch_bytes, batch_records, dead_letter, schema, when_full, workers, filter })
    }

    fn stdout(&self) -> Result<Adapter, String> {
        if self.body.trim_matches('/').is_empty() { Ok(Adapter::Stdout) } else { Err("stdout has no host and no path".to_owned()) }
    }

    fn file(&mut self) -> Result<FileSpec, String> {
        let path = self.body.strip_prefix("//").unwrap_or(self.body);
        let directory = decode(path)?;
        if !directory.starts_with('/') || directory.contains('\0') {
            return Err("file takes an absolute directory, with three slashes: file:///var/log/out".to_owned());
        }
        let keep = u32::try_from(self.number("keep", 5)?).unwrap_or(u32::MAX);
        let max_bytes = self.size("max_bytes", 100 << 20)?;
        if keep == 0 || max_bytes == 0 {
            return Err("keep and max_bytes are 1 at least".to_owned());
        }
        let max_age = self.take("max_age").map(|text| parse_duration("max_age", &text)).transpose()?;
        Ok(FileSpec { directory: PathBuf::from(directory), max_bytes, max_age, keep })
    }

    fn elasticsearch(&mut self) -> Result<ElasticsearchSpec, String> {
        let Some(body) = self.body.strip_prefix("//") else {
            return Err(format!("{0} takes hosts behind two slashes: {0}://host:9200", self.scheme));
        };
        let (authority, path) = body.find('/').map_or((body, ""), |slash| body.split_at(slash));
        let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(of, hosts)| (Some(of), hosts));
        let hosts = hosts.split(',').map(|host| parse_host(host.trim())).collect::<Result<Vec<_>, _>>()?;
        // After decoding: an escaped slash at the end is one too.
        let path = decode(path)?.trim_end_matches('/').to_owned();
        let (mut user, mut password) = (None, None);
        if let Some(of) = credentials {
            let Some((name, secret)) = of.split_once(':') else {
                return Err("before the @ stands a user without a password; user= and password_file= would do".to_owned());
            };
            user = Some(decode(name)?);
            password = Some(Secret::new(decode(secret)?));
        }
        if let Some(name) = self.take("user") {
            if user.is_some() {
                return Err("the user is given twice, before the @ and as user=; once would do".to_owned());
            }
            user = Some(name);
        }
        let password_file = self.take("password_file").map(PathBuf::from);
        let api_key_file = self.take("api_key_file").map(PathBuf::from);
        let ca_file = self.take("ca_file").map(PathBuf::from);
        let tls = self.scheme == "elasticsearch+https";
        if password.is_some() && password_file.is_some() {
            return Err("the password is given twice, before the @ and as password_file=; once would do".to_owned());
        }
        if user.is_some() != (password.is_some() || password_file.is_some()) {
            return Err("user= and password_file= go together; one of them is missing".to_owned());
        }
        if user.as_ref().is_some_and(|name| name.contains(':')) {
            return Err("basic authentication knows no user with a colon in its name".to_owned());
        }
        if user.is_some() && api_key_file.is_some() {
            return Err("user and api_key_file are both given; one of them would do".to_owned());
        }
        if ca_file.is_some() && !tls {
            return Err("ca_file= is for TLS; elasticsearch+https:// would do".to_owned());
        }
        let (index, data_stream) = match (self.take("index"), self.take("data_stream")) {
            (Some(_), Some(_)) => return Err("index= and data_stream= are both given; one of them would do".to_owned()),
            (None, Some(name)) => {
                if name.contains('%') || name.starts_with(".ds-") {
                    return Err(
                        "data_stream= takes a name without a date and not that of a backing index, as logs-docker-default".to_owned()
                    );
                }
                (name, true)
            }
            (index, None) => (index.unwrap_or_else(|| DEFAULT_INDEX.to_owned()), false),
        };
        // Without a template a server would make an index of the data stream's name.
        let manage_template = self.switch("manage_template", data_stream || index == DEFAULT_INDEX)?;
        IndexPattern::parse(&index)?;
        let gzip = self.switch("gzip", true)?;
        let timeout = self.duration("timeout", Duration::from_secs(60))?;
        Ok(ElasticsearchSpec {
            tls,
            hosts,
            path,
            index,
            data_stream,
            manage_template,
            user,
            password,
            password_file,
            api_key_file,
            ca_file,
            gzip,
            timeout,
        })
    }

    /// Takes an option out, so that what is left at the end is not known.
    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.options.iter().position(|(known, _)| known == key)?;
        Some(self.options.remove(at).1)
    }

    fn switch(&mut self, key: &str, default: bool) -> Result<bool, String> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(format!("{key}= takes true or false")),
        }
    }

    fn duration(&mut self, key: &str, default: Duration) -> Result<Duration, String> {
        self.take(key).map_or(Ok(default), |text| parse_duration(key, &text))
    }

    fn size(&mut self, key: &str, default: u64) -> Result<u64, String> {
        self.take(key).map_or(Ok(default), |text| parse_size(key, &text))
    }

    fn number(&mut self, key: &str, default: u64) -> Result<u64, String> {
        self.take(key).map_or(Ok(default), |text| text.parse().map_err(|_| format!("{key}= takes a whole number")))
    }
}

/// An option as it may be shown: only what looks like an option's name, for it may be a secret in the wrong place.
fn called(option: &str) -> String {
    let name = (1..=32).contains(&option.len()) && option.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
    if name { format!("option {option}") } else { "an option".to_owned() }
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`.
fn parse_host(text: &str) -> Result<Host, String> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or("an IPv6 address lacks its closing bracket, as in [::1]:9200")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("what stands in brackets is no IPv6 address; [::1]:9200 would do".to_owned());
            }
            match behind {
                "" => (address, None),
                _ => (address, Some(behind.strip_prefix(':').ok_or("behind a closing bracket stands a port, as in [::1]:9200")?)),
            }
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("a port is a number from 1 to 65535 (an IPv6 address stands in brackets)")?,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || !(name.bytes().all(plain) || text.starts_with('[')) {
        return Err("a host is missing or has a sign in it that no name has; host:9200 would do".to_owned());
    }
    Ok(Host { name: name.to_owned(), port })
}

fn parse_duration(key: &str, text: &str) -> Result<Duration, String> {
    let value = units::duration(text).map_err(|why| format!("{key}= takes a duration: {why}"))?;
    if value.is_zero() {
        return Err(format!("{key}= takes a duration like 500ms, 1s, 2m, 12h or 7d, and not 0"));
    }
    Ok(value)
}

fn parse_size(key: &str, text: &str) -> Result<u64, String> {
    units::size(text).map_err(|why| format!("{key}= takes a size: {why}"))
}

/// Percent-decoding. A `+` is a `+`, and a `%` without two hexadecimal digits behind it a `%`.
fn decode(text: &str) -> Result<String, String> {
    decode_but(text, None)
}

/// Percent-decoding of an index pattern: `%Y`, `%m`, `%d` and `%H` are the pattern's own, whatever stands behind them. Only `%d` could be meant as an
/// escape, and then of a sign beyond ASCII, which no index's name has.
fn decode_pattern(text: &str) -> Result<String, String> {
    decode_but(text, Some(b'd'))
}

/// Percent-decoding, but not of what begins with `kept`.
fn decode_but(text: &str, kept: Option<u8>) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut ahead = rest.clone();
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (first, second) = (ahead.next(), ahead.next());
        match (digit(first), digit(second)) {
            (Some(high), Some(low)) if kept.is_none() || first != kept => {
                bytes.push(high << 4 | low);
                rest = ahead;
            }
            _ => bytes.push(b'%'),
        }
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused_is_told() {
        for (text, part) in [
            ("", "begins with its adapter"),
            ("elasticsearch", "begins with its adapter"),
            ("redis://a", "not known"),
            ("syslog://logstash:51415", "syslog is not there yet"),
            (
                "elasticsearch://a?colour=red",
                "option colour is not known; elasticsearch takes workers, index, data_stream, manage_template",
            ),
            ("elasticsearch://a?workers=17", "1 to 16"),
            ("file:///out?workers=2", "one worker writes it"),
            ("stdout:?workers=2", "one worker writes it"),
            ("elasticsearch://a?keep=2", "option keep is not known"),
            ("elasticsearch://a?when_full=drop_newest", "takes block or drop_oldest"),
            ("stdout:?schema=gelf", "takes ecs or logstash"),
            ("elasticsearch://a?data_stream=x&index=y", "both given"),
            ("elasticsearch://a?data_stream=logs-%25Y", "without a date"),
            ("elasticsearch://a?data_stream=.ds-logs-000001", "without a date"),
            ("elasticsearch://a?data_stream=Logs", "small letters only"),
            ("elasticsearch://a?dead_letter=letters", "absolute path"),
            ("stdout:?dead_letter=/d", "option dead_letter is not known"),
            ("file:///out?data_stream=x", "option data_stream is not known"),
            ("elasticsearch://a?index=x&index=y", "given twice"),
            ("elasticsearch://a?X-Key=1", "an option is not known"),
            ("elasticsearch://a?X-Key=1&X-Key=2", "an option is given twice"),
            ("elasticsearch://user:12?34secret@host:9200", "percent encoding, %3F"),
            ("elasticsearch://user:12/34secret@host:9200", "percent encoding, %3F"),
            ("elasticsearch:a", "two slashes"),
            ("elasticsearch://", "a host is missing"),
            ("elasticsearch://a,,b", "a host is missing"),
            ("elasticsearch://::1", "a port is"),
            ("elasticsearch://[::1", "closing bracket"),
            ("elasticsearch://a:0", "a port is"),
            ("elasticsearch://user@a", "without a password"),
            ("elasticsearch://a?user=x", "go together"),
            ("elasticsearch://u:p@a?api_key_file=/k", "both given"),
            ("elasticsearch://a?ca_file=/x", "elasticsearch+https:// would do"),
            ("elasticsearch://a?gzip=yes", "true or false"),
            ("elasticsearch://a?timeout=fast", "takes a duration"),
            ("elasticsearch://a?timeout=0s", "takes a duration"),
            ("elasticsearch://a?batch_bytes=1TB", "takes a size"),
            ("elasticsearch://a?batch_records=0", "1 to 100000"),
            ("elasticsearch://a?index=Logs", "small letters only"),
            ("elasticsearch://a?index=", "it is empty"),
            ("elasticsearch://a?index=-logs", "nor begin with"),
            ("elasticsearch://a?index=logs-%25S", "only Y, m, d and H"),
            ("elasticsearch://a?index=logs-%DFx", "not UTF-8"),
            ("elasticsearch://a?index=a*", "cannot stand in the name"),
            ("file://out", "three slashes"),
            ("file:///out?keep=0", "1 at least"),
            ("stdout:?name=", "name="),
            ("stdout:?filter.name=web[", "the pattern in filter.name= has a [ without its ]"),
            ("stdout:?filter.labels=a", "label:pattern"),
            ("stdout:?filter.colour=a", "option filter.colour is not known"),
        ] {
            let error = RouteSpec::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn index(text: &str) -> Result<String, String> {
        match RouteSpec::parse(&format!("elasticsearch://a?index={text}"))?.adapter {
            Adapter::Elasticsearch(of) => Ok(of.index),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_day_in_an_index_is_no_escape() {
        assert_eq!(index("x-%da").as_deref(), Ok("x-%da"));
        assert_eq!(index("x-%Y.%m.%d00").as_deref(), Ok("x-%Y.%m.%d00"));
        assert_eq!(index("x-%25Y.%25m.%25dab%2Dy").as_deref(), Ok("x-%Y.%m.%dab-y"));
    }

    proptest! {
        #[test]
        fn a_date_survives_whatever_follows(behind in "[0-9a-f]{0,4}(%[YmdH][0-9a-f]{0,2}){0,2}") {
            let pattern = format!("logs-%Y.%m.%d{behind}");
            prop_assert_eq!(index(&pattern), Ok(pattern.clone()));
            prop_assert_eq!(index(&pattern.replace('%', "%25")), Ok(pattern));
        }

        /// What config takes, the route takes: nothing is refused only when it is opened.
        #[test]
        fn every_index_that_is_taken_is_one(text in "[a-zA-Z0-9%._+*, -]{0,12}") {
            if let Ok(index) = index(&text) {
                prop_assert!(IndexPattern::parse(&index).is_ok(), "{}", index);
            }
        }

        /// Whatever signs a password has, and wherever they make it end: no part of it is shown. Its letters are capitals and digits, which no sentence has.
        #[test]
        fn no_part_of_a_password_is_shown(
            scheme in "elasticsearch|elasticsearch\\+https|file|stdout|syslog|redis",
            signs in proptest::collection::vec("[?#/@:,&=%; \\[\\]0-9a-f]{0,4}", 4),
            behind in "|/es|\\?index=x|\\?colour=red|\\?name=x&name=y|,other:9200|/a@b",
        ) {
            let text = format!("{scheme}://user:{}Q7XZ9K{}W8VJ2T{}@host:9200{}{behind}", signs[0], signs[1], signs[2], signs[3]);
            for text in std::iter::once(&*text).chain(crate::config::split_list(&text)) {
                let shown = match RouteSpec::parse(text) {
                    Ok(route) => format!("{route} {route:?} {}", route.name()),
                    Err(why) => why,
                };
                prop_assert!(!shown.contains("Q7XZ9K") && !shown.contains("W8VJ2T"), "{text}: {shown}");
            }
        }
    }

    #[test]
    fn a_refusal_shows_no_password() {
        for text in
            ["elasticsearch://u:hunter2@a:x", "hunter2://u:hunter2@a", "elasticsearch://u:hunter2@a?x=hunter2", "elasticsearch:u:hunter2@a"]
        {
            assert!(!RouteSpec::parse(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }
}
