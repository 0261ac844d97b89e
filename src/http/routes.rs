//! What each path answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, watch};

pub use super::coding::Body;
use super::coding::Coding;
use super::page;
use crate::docker::inventory::Inventory;
use crate::exposition::{Group, Scraper, Selection, format};
use crate::swarm::node::NodeIdentity;
use crate::telemetry::{Metrics, Parts, State};

/// What Prometheus' own limit is shortened by, so that the answer is there before it hangs up.
const MARGIN: Duration = Duration::from_millis(500);

/// Everything that the pages are made of.
#[derive(Debug)]
pub struct Pages {
    /// The collectors.
    pub scraper: Arc<Scraper>,
    /// How the parts are.
    pub parts: Parts,
    /// Who this node is.
    pub node: NodeIdentity,
    /// The node's containers.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// skep's own counters.
    pub metrics: Metrics,
    /// Where the metrics are.
    pub telemetry_path: String,
    /// When a scrape answers at the latest.
    pub scrape_timeout: Duration,
    /// The names of the routes.
    pub routes: Vec<String>,
    /// Scrapes at one time.
    pub places: Semaphore,
}

impl Pages {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        // The two that tell whether the agent lives are answered however busy it is.
        match request.uri().path() {
            "/healthz" => return text(StatusCode::OK, "ok\n"),
            "/readyz" => return self.readyz(),
            _ => {}
        }
        let path = request.uri().path();
        // A telemetry path of / leaves the page no place, as with node_exporter.
        if let Some(group) = path.strip_prefix(self.telemetry_path.trim_end_matches('/'))
            && (group.is_empty() || group.starts_with('/'))
        {
            // As node_exporter counts them: scrapes only.
            let Ok(_place) = self.places.try_acquire() else {
                self.metrics.http_refused("max_requests");
                return text(StatusCode::SERVICE_UNAVAILABLE, "as many scrapes as --web.max-requests allows are being answered\n");
            };
            return self.scrape(group, &request).await;
        }
        match path {
            "/" => html(page::render(self)),
            _ => text(StatusCode::NOT_FOUND, "there is no such page; / lists them\n"),
        }
    }

    async fn scrape(&self, group: &str, request: &Request<Incoming>) -> Response<Body> {
        let (label, selection) = match self.selection(group, request.uri().query().unwrap_or_default()) {
            Ok(selection) => selection,
            Err((status, why)) => return text(status, &why),
        };
        let Some(coding) = Coding::wanted(request.headers()) else {
            return text(StatusCode::NOT_ACCEPTABLE, "Accept-Encoding refuses all that there is here: zstd, gzip and identity\n");
        };
        let limit = limit(request.headers(), self.scrape_timeout);
        let Some(answer) = self.scraper.answer(selection, limit).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "a fault of skep's own ended the scrape; its log says more\n");
        };
        self.metrics.scrapes.with_label_values(&[label]).inc();
        let format = format(request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()));
        let Some(body) = coding.coded(format, answer).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be compressed; skep's log says more\n");
        };
        let mut answer = Response::new(body);
        if coding != Coding::Identity {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        }
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        answer
    }

    /// The collectors of a path (`/node`) that the query (`collect[]`, `exclude[]`) leaves.
    fn selection(&self, path: &str, query: &str) -> Result<(&'static str, Selection), (StatusCode, String)> {
        let group = match path.trim_matches('/') {
            "" => None,
            name => Some(*Group::ALL.iter().find(|group| group.as_str() == name).ok_or_else(|| {
                (StatusCode::NOT_FOUND, "there is no such group; there are node, containers, swarm and skep\n".to_owned())
            })?),
        };
        let (mut collect, mut exclude, mut excludes) = (Vec::new(), Vec::new(), false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(value);
            let known = self.scraper.collectors().map(|(name, _)| name).find(|known| *known == name);
            match (decoded(key).as_str(), known) {
                ("collect[]", Some(known)) => collect.push(known),
                ("collect[]", None) => return Err((StatusCode::BAD_REQUEST, self.not_collected(&name))),
                // What does not run is left out already, as in node_exporter.
                ("exclude[]", known) => {
                    excludes = true;
                    exclude.extend(known);
                }
                _ => {}
            }
        }
        if !collect.is_empty() && excludes {
            return Err((StatusCode::BAD_REQUEST, "collect[] and exclude[] cannot stand together\n".to_owned()));
        }
        let selection = self.scraper.select(|name, of| {
            group.is_none_or(|group| group == of) && (collect.is_empty() || collect.contains(&name)) && !exclude.contains(&name)
        });
        Ok((group.map_or("all", Group::as_str), selection))
    }

    /// Why `collect[]` cannot have what it asks for.
    fn not_collected(&self, name: &str) -> String {
        let names: Vec<&str> = self.scraper.collectors().map(|(name, _)| name).collect();
        let shown: String = name.chars().filter(|character| !character.is_control()).take(60).collect();
        let why = if crate::collect::ENTRIES.iter().any(|entry| entry.name == name) {
            format!("the collector '{shown}' is switched off (--collector.{shown} switches it on)")
        } else {
            format!("there is no collector '{shown}'")
        };
        format!("{why}; those that run are {}\n", names.join(", "))
    }

    /// Every part's state as JSON. 503 when a part that was asked for does not work.
    fn readyz(&self) -> Response<Body> {
        let mut ready = true;
        let mut parts = serde_json::Map::new();
        for (name, state) in self.parts.all() {
            let (word, why) = match state {
                State::Ok => ("ok", None),
                State::Degraded(why) => {
                    ready = false;
                    ("degraded", Some(why))
                }
                State::Starting => {
                    ready = false;
                    ("starting", None)
                }
                State::Off(why) => ("off", Some(why)),
            };
            parts.insert(name, serde_json::json!({ "state": word, "why": why }));
        }
        let body = serde_json::json!({ "ready": ready, "node": self.node, "parts": parts });
        let mut answer = Response::new(Body::from(Bytes::from(format!("{body:#}\n"))));
        *answer.status_mut() = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

/// The shorter of skep's own limit and the one that Prometheus tells, less a margin.
fn limit(headers: &HeaderMap, own: Duration) -> Duration {
    let told = headers.get("x-prometheus-scrape-timeout-seconds").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match told.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok()) {
        Some(told) => own.min(told.saturating_sub(MARGIN).max(told / 2)),
        None => own,
    }
}

/// Percent-decodes a part of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let hexadecimal =
            behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, hexadecimal) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn html(body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_limit_wins_when_it_is_shorter() {
        let own = Duration::from_secs(8);
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(
                header::HeaderName::from_static("x-prometheus-scrape-timeout-seconds"),
                HeaderValue::from_static(value),
            )])
        };
        assert_eq!(limit(&HeaderMap::new(), own), own);
        assert_eq!(limit(&headers("3"), own), Duration::from_millis(2500));
        assert_eq!(limit(&headers("0.4"), own), Duration::from_millis(200));
        assert_eq!(limit(&headers("30"), own), own);
        assert_eq!(limit(&headers("soon"), own), own);
        assert_eq!(limit(&headers("-1"), own), own);
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decoded("collect%5B%5D"), "collect[]");
        assert_eq!(decoded("a+b%2"), "a b%2");
    }
}
