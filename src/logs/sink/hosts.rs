//! The hosts of an Elasticsearch route: one transport for each, asked in turn; one that does not answer is left alone for a while.

use std::time::{Duration, Instant};

use bytes::Bytes;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};

use super::retry::{self, Outcome};
use crate::config::{ElasticsearchSpec, Host};

/// How long a host is left alone after its first fault in a row, and at most. It matters only where there are others.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// How long a host that has not answered yet, or not the last time, may take to accept a connection: an address behind which there is nobody would
/// else cost the whole time limit of a request.
const CONNECT: Duration = Duration::from_secs(5);

/// All hosts of a route.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Vec<Node>,
    next: usize,
    last: usize,
}

#[derive(Debug)]
struct Node {
    host: Host,
    transport: Transport,
    /// Whether it answered the last request.
    answers: bool,
    /// Faults in a row.
    faults: u32,
    /// Until when it is left alone.
    rests_until: Option<Instant>,
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Relative to the route's own path.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) content_type: &'static str,
    /// Whether the body is compressed.
    pub(super) gzip: bool,
    pub(super) body: Bytes,
    /// Bytes of the longest answer that is read. It holds for an answer that tells its length; the crate gives a body only as a whole, so one in chunks is
    /// bounded by `filter_path` and the time limit alone.
    pub(super) longest_answer: u64,
}

impl Hosts {
    /// Makes the transports, which trust `authorities` (PEM) beside the public ones; connects to nobody.
    ///
    /// # Errors
    /// A sentence: without authorities only for what can never work.
    pub(super) fn open(spec: &ElasticsearchSpec, authorities: Option<&[u8]>) -> Result<Self, String> {
        let node = |host: &Host| -> Result<Node, String> {
            let scheme = if spec.tls { "https" } else { "http" };
            let mut url =
                Url::parse(&format!("{scheme}://{host}/")).map_err(|error| format!("the host {host} cannot be part of a URL: {error}"))?;
            url.set_path(&spec.path);
            let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url)).disable_proxy().enable_meta_header(false);
            if let Some(pem) = authorities {
                let certificates = Certificate::from_pem(pem).map_err(|_| "ca_file has no certificate in PEM form in it".to_owned())?;
                builder = builder.cert_validation(CertificateValidation::Full(certificates));
            }
            let transport = builder.build().map_err(|error| format!("no transport to {host} can be made: {error}"))?;
            Ok(Node { host: host.clone(), transport, answers: false, faults: 0, rests_until: None })
        };
        let hosts = spec.hosts.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        // Agents of many nodes begin with different hosts.
        let next = usize::try_from(retry::random() % hosts.len().max(1) as u64).unwrap_or(0);
        Ok(Self { hosts, next, last: next })
    }

    /// The host that was asked last, as a user knows it.
    pub(super) fn last(&self) -> String {
        self.hosts.get(self.last).map(|node| node.host.to_string()).unwrap_or_default()
    }

    /// Whether there is a host that may be asked now.
    pub(super) fn another(&self) -> bool {
        let now = Instant::now();
        self.hosts.iter().any(|node| node.rests_until.is_none_or(|until| until <= now))
    }

    /// A host that did not answer when it was asked last.
    pub(super) fn dead(&self) -> Option<&Host> {
        self.hosts.iter().find(|node| node.faults > 0).map(|node| &node.host)
    }

    /// The next host in turn that does not rest; when all do, the one whose rest ends first: the pace of the repetitions is the caller's.
    fn choose(&self, now: Instant) -> Option<usize> {
        let turn = (0..self.hosts.len()).map(|step| (self.next + step) % self.hosts.len().max(1));
        turn.min_by_key(|&at| self.hosts.get(at).and_then(|node| node.rests_until).filter(|until| *until > now))
    }

    /// Sends to the next host.
    pub(super) async fn send(&mut self, request: Request<'_>, authorization: Option<&HeaderValue>, timeout: Duration) -> Outcome {
        let chosen = self.choose(Instant::now());
        let Some((at, node)) = chosen.and_then(|at| Some((at, self.hosts.get_mut(at)?))) else {
            return Outcome::Away("the route has no host".to_owned());
        };
        (self.last, self.next) = (at, at + 1);
        let outcome = node.send(request, authorization, timeout).await;
        if matches!(outcome, Outcome::Timeout | Outcome::Away(_) | Outcome::Broken(_) | Outcome::Answered(502..=504, _)) {
            let rest = FIRST_REST.saturating_mul(2u32.saturating_pow(node.faults)).min(LONGEST_REST);
            let jitter = rest.mul_f64(f64::from(u8::try_from(retry::random() % 64).unwrap_or(0)) / 128.0);
            node.faults = node.faults.saturating_add(1);
            node.rests_until = Some(Instant::now() + rest - jitter);
            node.answers = false;
        } else {
            (node.faults, node.rests_until, node.answers) = (0, None, true);
        }
        outcome
    }
}

impl Node {
    async fn send(&self, request: Request<'_>, authorization: Option<&HeaderValue>, timeout: Duration) -> Outcome {
        if !self.answers {
            // The name is resolved here as it is for every new connection of the transport: anew.
            match tokio::time::timeout(CONNECT.min(timeout), tokio::net::TcpStream::connect((&*self.host.name, self.host.port))).await {
                Ok(Ok(_connection)) => {}
                Ok(Err(error)) => return Outcome::Away(error.to_string()),
                Err(_) => return Outcome::Away("no connection in time".to_owned()),
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.content_type));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
        // Uncompressed, so that the length of the answer is known before it is read.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if request.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let query = (!request.query.is_empty()).then_some(request.query);
        let sent = self.transport.send(request.method, request.path, headers, query, Some(request.body), Some(timeout)).await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Outcome::Timeout,
            Err(error) => return Outcome::Broken(deepest(&error)),
        };
        let status = response.status_code().as_u16();
        if response.content_length().is_some_and(|length| length > request.longest_answer) {
            // What an error page says beyond its status is of no use.
            return if matches!(status, 200..=299) { Outcome::TooLong } else { Outcome::Answered(status, Bytes::new()) };
        }
        match response.bytes().await {
            Ok(body) => Outcome::Answered(status, body),
            Err(error) if error.is_timeout() => Outcome::Timeout,
            // The request may have been taken; its status alone says nothing of the records.
            Err(error) => Outcome::Broken(deepest(&error)),
        }
    }
}

/// The deepest cause of a fault, which says what the outer ones wrap: `Connection refused`, `invalid peer certificate: UnknownIssuer`.
fn deepest(error: &elasticsearch::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let mut text = cause.to_string();
    text.truncate(text.floor_char_boundary(200));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Adapter, RouteSpec};

    #[test]
    fn hosts_are_asked_in_turn_but_for_those_that_rest() {
        let Adapter::Elasticsearch(spec) = RouteSpec::parse("elasticsearch://a,b,c").unwrap().adapter else { panic!() };
        let mut hosts = Hosts::open(&spec, None).unwrap();
        let now = Instant::now();
        let turn = |hosts: &mut Hosts, now| {
            let at = hosts.choose(now).unwrap();
            hosts.next = at + 1;
            at
        };
        hosts.next = 1;
        assert_eq!([turn(&mut hosts, now), turn(&mut hosts, now), turn(&mut hosts, now), turn(&mut hosts, now)], [1, 2, 0, 1]);
        hosts.hosts[2].rests_until = Some(now + Duration::from_secs(2));
        assert_eq!([turn(&mut hosts, now), turn(&mut hosts, now), turn(&mut hosts, now)], [0, 1, 0]);
        let later = now + Duration::from_secs(2);
        assert_eq!([turn(&mut hosts, later), turn(&mut hosts, later)], [1, 2]);
        hosts.hosts[0].rests_until = Some(now + Duration::from_secs(3));
        hosts.hosts[1].rests_until = Some(now + Duration::from_secs(1));
        assert_eq!([turn(&mut hosts, now), turn(&mut hosts, now)], [1, 1], "the one that will be back first");
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let Adapter::Elasticsearch(spec) = RouteSpec::parse("elasticsearch+https://a?ca_file=/ca").unwrap().adapter else { panic!() };
        assert!(Hosts::open(&spec, Some(b"")).unwrap_err().contains("no certificate"));
    }
}
