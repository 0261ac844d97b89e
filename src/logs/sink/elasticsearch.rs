//! Elasticsearch and OpenSearch: batches by `_bulk`, each record to its verdict.
//!
//! The crate's transport carries requests and TLS, one for each host. Encoding, compression, credentials, repetition, verdicts and the choice of the host
//! are done here. No product is asked for, so that OpenSearch is as good.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use elasticsearch::http::Method;
use elasticsearch::http::headers::HeaderValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bulk::{Refusal, Verdict, Verdicts};
use super::dead_letter::Letter;
use super::hosts::{Hosts, Request};
use super::part::WorkerPart;
use super::retry::{self, Fault, Outcome, Pace, Step};
use super::{DeadLetter, Delivery, off_the_workers, secrets, template};
use crate::config::{ElasticsearchSpec, Schema};
use crate::deflate::gzip::Gzip;
use crate::logs::batch::Batch;
use crate::telemetry::RouteMetrics;

/// Only this of an answer is of use; it makes it some thirty bytes a record.
const FILTER: &str = "errors,items.*.status,items.*.error";
/// Of a data stream also which of its backing indices took a record.
const FILTER_OF_STREAM: &str = "errors,items.*.status,items.*.error,items.*._index,items.*.failure_store";
/// Bytes of an answer that are read at most; a request whose answer is longer is divided.
const LONGEST_ANSWER: u64 = 32 << 20;
/// Bytes from which compression takes milliseconds.
const LONG: usize = 64 << 10;
/// Repetitions after which it is told that the sink has too much to do; before that it is its way of asking for patience.
const PATIENCE: u32 = 3;
/// How long a dead letter file that cannot be written is tried before its records are dropped: a route must not stand still for records that are refused.
const DEAD_LETTER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a single record that is refused is held to be a sign of a fault of the whole, while nothing was taken yet that would tell. A batch of that one
/// record has no other that could: without a bound, a route that begins with a record too large for its sink would stand still for ever.
const DOUBT: Duration = Duration::from_secs(300);

/// The sink of an `elasticsearch://` route.
pub struct ElasticsearchSink {
    spec: ElasticsearchSpec,
    schema: Schema,
    part: WorkerPart,
    metrics: RouteMetrics,
    pub(super) dead_letter: DeadLetter,
    reload: AtomicBool,
    /// [`DEAD_LETTER_PATIENCE`], but for tests.
    pub(super) dead_letter_patience: Duration,
    /// [`DOUBT`], but for tests.
    pub(super) doubt: Duration,
    state: tokio::sync::Mutex<State>,
}

/// What changes from request to request; held by the one delivery under way.
struct State {
    hosts: Hosts,
    authorization: Option<HeaderValue>,
    /// The template has been put, or refused, or is not asked for.
    template_done: bool,
    /// Which form of it is tried: not every server has what the first asks for.
    template_form: usize,
    /// The files of secrets and certificates have been read; before that nothing is sent.
    opened: bool,
    /// Why one of them could not be read again. What was read before goes on.
    stale: Option<String>,
    /// Something has been taken since the start. Until then a request that is refused whole speaks of the configuration, not of a record.
    proven: bool,
    /// Faults in a row.
    faults: u32,
    /// The backing index of the data stream that took a record last.
    backing: Option<String>,
    /// What is not compressed goes through it: memory of this size that comes anew with each request is the kernel's work, page by page.
    buffer: BytesMut,
    /// With its table, kept from request to request.
    coder: Gzip,
    /// The length of the last body that was compressed.
    length: usize,
}

impl fmt::Debug for ElasticsearchSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchSink").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Sums of verdicts.
#[derive(Default)]
struct Sums {
    taken: u64,
    duplicates: u64,
    refused: u64,
}

impl ElasticsearchSink {
    pub(super) fn open(
        spec: &ElasticsearchSpec,
        schema: Schema,
        part: WorkerPart,
        metrics: RouteMetrics,
        dead_letter: DeadLetter,
    ) -> Result<Self, String> {
        let mut state = State {
            hosts: Hosts::open(spec, None)?,
            authorization: None,
            opened: false,
            stale: None,
            template_done: !spec.manage_template,
            template_form: 0,
            proven: false,
            faults: 0,
            backing: None,
            buffer: BytesMut::new(),
            coder: Gzip::default(),
            length: 0,
        };
        if let Err(why) = load(spec, &mut state) {
            part.degraded(why);
        }
        let state = tokio::sync::Mutex::new(state);
        let (spec, reload) = (spec.clone(), AtomicBool::new(false));
        Ok(Self { spec, schema, part, metrics, dead_letter, reload, dead_letter_patience: DEAD_LETTER_PATIENCE, doubt: DOUBT, state })
    }

    pub(super) fn index(&self) -> &str {
        &self.spec.index
    }

    pub(super) fn reload(&self) {
        self.reload.store(true, Ordering::Release);
    }

    pub(super) async fn deliver(&self, batch: &Batch, stop: &CancellationToken) -> Delivery {
        let all = async {
            let mut state = self.state.lock().await;
            self.open_files(&mut state, batch.len()).await;
            self.put_template(&mut state, batch.len()).await;
            self.send_all(&mut state, batch).await
        };
        match stop.run_until_cancelled(all).await {
            Some(Sums { taken, duplicates, refused }) => Delivery::Done { taken, duplicates, refused },
            None => Delivery::Interrupted,
        }
    }

    /// Asks the server who it is, with the route's credentials and certificates.
    ///
    /// # Errors
    /// A sentence, when it does not answer as one that would take records.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let mut state = self.state.lock().await;
        if !state.opened {
            load(&self.spec, &mut state)?;
        }
        let (content_type, body) = ("application/json", Bytes::new());
        let request = Request { method: Method::Get, path: "", query: &[], content_type, gzip: false, body, longest_answer: 64 << 10 };
        let outcome = self.request(&mut state, request).await;
        let host = state.hosts.last();
        match outcome {
            Outcome::Answered(200, answer) => {
                let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
                let version = |field: &str| answer.pointer(field).and_then(serde_json::Value::as_str);
                let product = version("/version/distribution").unwrap_or("elasticsearch");
                Ok(format!("{host} is {product} {}", version("/version/number").unwrap_or("of an unknown version")))
            }
            // A user who may only write must not be refused here: that it is known is enough.
            Outcome::Answered(403, _) => Ok(format!("{host} knows the user, and does not tell its version")),
            Outcome::Answered(401, _) => Err(format!("{host} does not accept the credentials")),
            Outcome::Answered(status, _) => Err(format!("{host} answers {status} where Elasticsearch tells its version")),
            Outcome::TooLong => Err(format!("{host} answers with more than a server's description")),
            Outcome::Timeout => Err(format!("{host} does not answer in time")),
            Outcome::Away(why) | Outcome::Broken(why) => Err(format!("{host}: {why}")),
        }
    }

    /// Reads the files of secrets and certificates, if they were not there yet when the route was opened.
    async fn open_files(&self, state: &mut State, records: usize) {
        let mut attempt = 0;
        while !state.opened {
            let Err(why) = load(&self.spec, state) else { return };
            self.part.degraded(format!("{why}; records wait in their log files"));
            self.metrics.retried("file", records as u64);
            tokio::time::sleep(Pace::SLOW.delay(attempt, retry::random())).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Sends the batch until nothing is left. Groups of records are sent one after the other; one group, unless the sink will not have them together.
    async fn send_all(&self, state: &mut State, batch: &Batch) -> Sums {
        let mut sums = Sums::default();
        let mut groups = VecDeque::from([(0..batch.records().len()).collect::<Vec<usize>>()]);
        let mut doubtful_since = None;
        // The backing index that a first copy may have gone to, and the records of which the sink did not say whether it took them.
        let expected = state.backing.clone();
        let mut unknown = BTreeSet::new();
        while let Some(group) = groups.pop_front() {
            if group.is_empty() {
                continue;
            }
            let outcome = self.post(state, batch, &group).await;
            let may_be_taken = outcome.may_be_taken();
            match retry::decide(outcome, group.len(), expected.as_deref()) {
                Step::Verdicts(answer) => {
                    self.compare(state, &group, &answer, &unknown);
                    let again = self.settle(state, batch, &group, answer.verdicts, &mut sums).await;
                    groups.push_front(again);
                }
                Step::Again(fault) => {
                    self.metrics.retried(&fault.code, group.len() as u64);
                    if may_be_taken && self.spec.data_stream {
                        unknown.extend(group.iter().copied());
                    }
                    groups.push_front(group);
                    self.recover(state, &fault).await;
                }
                Step::Halve(refusal) if group.len() > 1 => {
                    self.metrics.retried(&refusal.status.to_string(), group.len() as u64);
                    if may_be_taken && self.spec.data_stream {
                        unknown.extend(group.iter().copied());
                    }
                    // What was taken before says nothing of a fault that meets the whole batch: its own records will.
                    state.proven &= group.len() < batch.records().len();
                    let (first, second) = group.split_at(group.len() / 2);
                    groups.push_front(second.to_vec());
                    groups.push_front(first.to_vec());
                }
                Step::Halve(refusal) if state.proven => {
                    self.bury(batch, vec![(group, refusal)], &mut sums).await;
                }
                // Nothing was ever taken: not this record seems to be at fault but the whole. It waits behind the others, which will tell; for a
                // while, and then it is this record, and the next one has the same time.
                Step::Halve(refusal) if doubtful_since.get_or_insert_with(Instant::now).elapsed() >= self.doubt => {
                    doubtful_since = None;
                    self.bury(batch, vec![(group, refusal)], &mut sums).await;
                }
                Step::Halve(refusal) => {
                    self.metrics.retried(&refusal.status.to_string(), 1);
                    let others: Vec<usize> = groups.drain(..).flatten().collect();
                    groups.push_back(others);
                    groups.push_back(group);
                    let why = format!("it refuses every request ({} {})", refusal.status, known(&refusal.kind));
                    self.recover(state, &Fault { code: String::new(), pace: Pace::SLOW, other_host: false, why }).await;
                }
            }
        }
        sums
    }

    /// A data stream knows the ids of its newest backing index only. A record of which it was not known whether it was taken, and that another index took
    /// than the one written before, may be there twice.
    fn compare(&self, state: &mut State, group: &[usize], answer: &Verdicts, unknown: &BTreeSet<usize>) {
        let Some(index) = answer.index.as_ref().filter(|_| self.spec.data_stream) else { return };
        let elsewhere =
            group.iter().zip(&answer.verdicts).filter(|(record, verdict)| **verdict == Verdict::Elsewhere && unknown.contains(record));
        self.metrics.possible_duplicates.inc_by(elsewhere.count() as u64);
        if state.backing.as_ref() != Some(index) {
            if *index == self.spec.index {
                tracing::warn!(index, "data_stream= names an index that is no data stream; records are stored there all the same");
            }
            state.backing = Some(index.clone());
        }
    }

    /// Takes the verdicts of a request to account, and waits if some records have to be sent again; gives those.
    async fn settle(&self, state: &mut State, batch: &Batch, group: &[usize], verdicts: Vec<Verdict>, sums: &mut Sums) -> Vec<usize> {
        let mut again = Vec::new();
        let mut refused = Vec::new();
        let mut fault: Option<Fault> = None;
        let (taken, duplicates) = (sums.taken, sums.duplicates);
        for (&record, verdict) in group.iter().zip(verdicts) {
            match verdict {
                Verdict::Taken | Verdict::Elsewhere => sums.taken += 1,
                Verdict::Duplicate => sums.duplicates += 1,
                Verdict::Refused(refusal) => refused.push((vec![record], refusal)),
                Verdict::Again(status) => {
                    again.push(record);
                    self.metrics.retried(&status.to_string(), 1);
                    let why = format!("it has too much to do, or no room ({status})");
                    fault.get_or_insert(Fault { code: String::new(), pace: Pace::PATIENT, other_host: false, why });
                }
                Verdict::Configuration(refusal) => {
                    again.push(record);
                    self.metrics.retried(&refusal.status.to_string(), 1);
                    let why = format!(
                        "it does not take records as it is set up ({} {}); its own log tells more",
                        refusal.status,
                        known(&refusal.kind)
                    );
                    fault = Some(Fault { code: String::new(), pace: Pace::SLOW, other_host: false, why });
                }
            }
        }
        self.metrics.duplicates.inc_by(sums.duplicates - duplicates);
        let progress = sums.taken + sums.duplicates > taken + duplicates;
        if progress {
            state.proven = true;
            state.faults = state.faults.min(1);
        }
        self.bury(batch, refused, sums).await;
        match fault {
            Some(fault) => self.recover(state, &fault).await,
            None => self.well(state),
        }
        again
    }

    /// Refused for good: to the dead letter file, and only then they count. A disk that is full is waited for, for a while; then they are dropped and
    /// counted, so that a state directory that cannot be written does not stop the records that the sink takes.
    async fn bury(&self, batch: &Batch, refused: Vec<(Vec<usize>, Refusal)>, sums: &mut Sums) {
        let document = |record: &usize| batch.records().get(*record).map(|span| batch.document(span));
        let letters: Vec<Letter> = refused
            .into_iter()
            .flat_map(|(group, refusal)| {
                group
                    .iter()
                    .filter_map(document)
                    .map(|text| Letter { refusal: refusal.clone(), document: text.to_vec() })
                    .collect::<Vec<_>>()
            })
            .collect();
        if letters.is_empty() {
            return;
        }
        let mut attempt = 0;
        let since = Instant::now();
        while let Err(error) = self.dead_letter.write(&letters).await {
            let left = self.dead_letter_patience.saturating_sub(since.elapsed());
            let why = format!("the sink refuses records for good, and the dead letter file cannot be written ({})", error.kind());
            if left.is_zero() {
                self.part.degraded(format!("{why}; they are dropped, and counted as dead_letter_failed"));
                self.metrics.dropped("dead_letter_failed", letters.len() as u64);
                break;
            }
            self.part.degraded(format!("{why}; it is tried for {} s, then they are dropped", self.dead_letter_patience.as_secs()));
            tokio::time::sleep(Pace::SLOW.delay(attempt, retry::random()).min(left)).await;
            attempt += 1;
        }
        sums.refused += letters.len() as u64;
    }

    /// Puts the index template, before the first request: an index keeps the mapping it was made with. Where the right to it is missing it goes on, for
    /// somebody else may have put one.
    /// The `records` that wait for it are counted as sent again with each repetition.
    async fn put_template(&self, state: &mut State, records: usize) {
        while !state.template_done {
            let Some((name, body)) = template::template(&self.spec.index, self.spec.data_stream, self.schema, state.template_form) else {
                tracing::warn!(
                    "index={} has no fixed beginning that a template could go by; manage_template=false would say so",
                    self.spec.index
                );
                state.template_done = true;
                return;
            };
            let request = Request {
                method: Method::Put,
                path: &format!("_index_template/{name}"),
                query: &[],
                content_type: "application/json",
                gzip: false,
                body: Bytes::from(body.to_string()),
                longest_answer: 1 << 20,
            };
            match self.request(state, request).await {
                Outcome::Answered(200..=299, _) => state.template_done = true,
                Outcome::Answered(400, _) if state.template_form + 1 < template::FORMS => state.template_form += 1,
                Outcome::Answered(status @ (400 | 402..=407 | 409..=428), body) => {
                    let refusal = super::bulk::parse_error(status, &body);
                    let kind = refusal.as_ref().map_or("", |refusal| known(&refusal.kind));
                    tracing::warn!(
                        template = name,
                        status,
                        kind,
                        "the index template is refused; @timestamp may lose its nanoseconds and order. The right manage_index_templates, or a template of your own and manage_template=false, would do"
                    );
                    state.template_done = true;
                }
                // Nothing is sent in bytes of records here, so there is nothing to halve.
                outcome => {
                    let fault = match retry::decide(outcome, 1, None) {
                        Step::Again(fault) => fault,
                        Step::Verdicts(_) | Step::Halve(_) => Fault {
                            code: "answer".to_owned(),
                            pace: Pace::SLOW,
                            other_host: true,
                            why: "its answer cannot be understood".to_owned(),
                        },
                    };
                    self.metrics.retried(&fault.code, records as u64);
                    self.recover(state, &fault).await;
                }
            }
        }
    }

    /// Posts a group of records.
    async fn post(&self, state: &mut State, batch: &Batch, group: &[usize]) -> Outcome {
        let body = match self.spec.gzip {
            true if batch.bytes_len() > LONG => off_the_workers(|| compressed(state, batch, group)),
            true => compressed(state, batch, group),
            false => {
                state.buffer.extend_from_slice(&plain(batch, group));
                state.buffer.split().freeze()
            }
        };
        // An error with its reason is some hundred bytes; a kibibyte of quoted document and its cause are more.
        let longest_answer = ((64 << 10) + 8192 * group.len() as u64).min(LONGEST_ANSWER);
        let (content_type, gzip) = ("application/x-ndjson", self.spec.gzip);
        let query = &[("filter_path", if self.spec.data_stream { FILTER_OF_STREAM } else { FILTER })];
        let request = Request { method: Method::Post, path: "_bulk", query, content_type, gzip, body, longest_answer };
        self.request(state, request).await
    }

    /// One request to the next host, with the credentials as they are now.
    async fn request(&self, state: &mut State, request: Request<'_>) -> Outcome {
        if self.reload.swap(false, Ordering::AcqRel) {
            state.stale = load(&self.spec, state).err();
            // Until it succeeds.
            self.reload.fetch_or(state.stale.is_some(), Ordering::AcqRel);
        }
        let started = std::time::Instant::now();
        let outcome = state.hosts.send(request, state.authorization.as_ref(), self.spec.timeout).await;
        self.metrics.request_duration.observe(started.elapsed().as_secs_f64());
        self.metrics.sink_up(matches!(outcome, Outcome::Answered(..) | Outcome::TooLong));
        if matches!(outcome, Outcome::Answered(401, _)) {
            match off_the_workers(|| secrets::authorization(&self.spec)) {
                Ok(authorization) => state.authorization = authorization,
                Err(why) => {
                    state.stale = Some(why);
                    self.reload();
                }
            }
        }
        outcome
    }

    /// Tells what is wrong, and waits; neither where another host can be asked at once.
    async fn recover(&self, state: &mut State, fault: &Fault) {
        if fault.other_host && state.hosts.another() {
            return;
        }
        if fault.pace != Pace::PATIENT || state.faults >= PATIENCE {
            let stale = state.stale.as_deref().map(|why| format!("; {why}")).unwrap_or_default();
            self.part.degraded(format!("{}: {}{stale}; records wait in their log files", state.hosts.last(), fault.why));
        }
        let delay = fault.pace.delay(state.faults, retry::random());
        state.faults = state.faults.saturating_add(1);
        tokio::time::sleep(delay).await;
    }

    fn well(&self, state: &mut State) {
        state.faults = 0;
        match (state.hosts.dead(), &state.stale) {
            (_, Some(why)) => self.part.degraded(format!("{why}; what was read before is used until it can be")),
            (Some(host), None) => self.part.degraded(format!("{host} does not answer; the other hosts take its share")),
            (None, None) => self.part.ok(),
        }
    }
}

/// An error type as it may be told: a sink's own word, if it is one.
fn known(kind: &str) -> &str {
    let word = kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if word { kind } else { "" }
}

/// The body of a request with these records.
fn plain<'a>(batch: &'a Batch, group: &[usize]) -> Cow<'a, [u8]> {
    let mut parts = runs(batch, group).filter_map(|range| batch.bytes().get(range));
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        None => Cow::Borrowed(first),
        Some(second) => Cow::Owned([first, second].into_iter().chain(parts).collect::<Vec<_>>().concat()),
    }
}

/// The same, compressed.
fn compressed(state: &mut State, batch: &Batch, group: &[usize]) -> Bytes {
    // One batch becomes as small as the one before, nearly.
    let mut out = Vec::with_capacity(state.length + state.length / 8);
    state.coder.write(&plain(batch, group), &mut out);
    state.length = out.len();
    Bytes::from(out)
}

/// The byte ranges of these records; neighbours make one.
fn runs<'a>(batch: &'a Batch, group: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut spans = group.iter().filter_map(|&record| batch.records().get(record)).peekable();
    std::iter::from_fn(move || {
        let mut range = spans.next()?.whole();
        while let Some(next) = spans.next_if(|next| next.whole().start == range.end) {
            range.end = next.whole().end;
        }
        Some(range)
    })
}

/// Reads the files of secrets and certificates, and makes the transports anew with them; when one of them cannot be read, all stays as it was.
fn load(spec: &ElasticsearchSpec, state: &mut State) -> Result<(), String> {
    let (hosts, authorization) = off_the_workers(|| {
        let read = secrets::read(spec)?;
        Hosts::open(spec, read.authorities.as_deref()).map(|hosts| (hosts, read.authorization))
    })?;
    (state.hosts, state.authorization, state.opened) = (hosts, authorization, true);
    Ok(())
}
