//! skep's own counters. A handle is taken once, at start, and counting is an atomic addition.

use prometheus::{
    Counter, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::logs::steer::Encoded;

/// All of skep's own metrics. Cloning gives another handle on the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// How each part is: 1 works, 0 does not. Label `part`.
    pub part_up: IntGaugeVec,
    /// What collectors could not understand while the rest went on. Label `collector`.
    pub collector_oddities: IntCounterVec,
    /// Collector runs that ended in a panic. Label `collector`.
    pub collector_panics: IntCounterVec,
    /// Collector runs that missed the deadline. Label `collector`.
    pub collector_timeouts: IntCounterVec,
    /// Scrapes answered, by `group`.
    pub scrapes: IntCounterVec,
    /// Scrapes that took the result of one under way.
    pub scrapes_shared: IntCounter,
    http_refused: IntCounterVec,
    ledger_losses: IntCounterVec,
    /// Docker API requests that failed. Label `call`.
    pub docker_errors: IntCounterVec,
    /// Docker events taken.
    pub docker_events: IntCounter,
    /// Inventories taken anew by list, after a start, a reconnect or an odd event.
    pub docker_resyncs: IntCounter,
    /// Questions for a single container.
    pub docker_inspects: IntCounter,
    /// Containers known from the engine, by `state`.
    pub docker_containers: IntGaugeVec,
    /// Containers that cannot be inspected at the moment, so that only the list and the events tell of them.
    pub docker_containers_incomplete: IntGauge,
    /// Seconds since the epoch at which the inventory was last known to be right.
    pub docker_inventory_time: GaugeVec,
    /// Questions to the engine for the size of a layer.
    pub docker_sizes: IntCounter,
    /// Seconds that they took.
    pub docker_size_seconds: Counter,
    /// Walks through layers and through the engine's directories of containers, by how they ended. Label `state`.
    pub disk_walks: IntCounterVec,
    /// Seconds of work that they took, rests not counted.
    pub disk_walk_seconds: Counter,
    log: LogVecs,
}

#[derive(Debug, Clone)]
struct LogVecs {
    read: IntCounterVec,
    read_bytes: IntCounterVec,
    acknowledged: IntCounterVec,
    dropped: IntCounterVec,
    duplicates: IntCounterVec,
    possible_duplicates: IntCounterVec,
    gaps: IntCounterVec,
    retries: IntCounterVec,
    dead_letters: IntCounterVec,
    truncated: IntCounterVec,
    parsed: IntCounterVec,
    joined: IntCounterVec,
    withheld: IntCounterVec,
    redactions: IntCounterVec,
    unparsed: IntCounterVec,
    labels_refused: IntCounterVec,
    lag_seconds: GaugeVec,
    lag_bytes: IntGaugeVec,
    sink_up: IntGaugeVec,
    request_duration: HistogramVec,
    cursor_errors: IntCounterVec,
    pinned_bytes: IntGauge,
    spool_bytes: IntGauge,
    spool_given_up: IntCounterVec,
    containers: IntGaugeVec,
    rescans: IntCounterVec,
    file_errors: IntCounterVec,
    feed_errors: IntCounterVec,
    feed_repeated: IntCounter,
}

/// The numbers of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    /// Records read and encoded.
    pub read: IntCounter,
    /// Bytes of log files read.
    pub read_bytes: IntCounter,
    /// Records that the sink has acknowledged.
    pub acknowledged: IntCounter,
    /// Records that the sink said it had already.
    pub duplicates: IntCounter,
    /// Records sent again and stored in another backing index of the data stream than the one that was written before.
    pub possible_duplicates: IntCounter,
    /// Records cut at `logs.max-record-bytes`.
    pub truncated: IntCounter,
    /// Records whose fields were parsed.
    pub parsed: IntCounter,
    /// Lines that became part of the record of the line before.
    pub joined: IntCounter,
    /// Records that are not in the sample that a label asks for.
    pub sampled: IntCounter,
    /// Records beyond the rate that a label asks for.
    pub rate_limited: IntCounter,
    /// Cursor files that could not be written.
    pub cursor_errors: IntCounter,
    /// Age of the oldest record read and not acknowledged, seconds; 0 when there is none.
    pub lag_seconds: prometheus::Gauge,
    /// Bytes of log files written and not acknowledged.
    pub lag_bytes: IntGauge,
    /// Seconds that a request to the sink took.
    pub request_duration: prometheus::Histogram,
    route: String,
    vecs: LogVecs,
}

/// A counter with a label begins at 0 for every value that is known beforehand: a series that begins with its first event has no increase for Prometheus
/// to see, and the first loss would raise no alert. Each list belongs to the method of the same name.
const DROPPED: [&str; 4] = ["malformed", "batch_overflow", "dead_letter_failed", "dead_letter_rotated"];
const GAPS: [&str; 5] = ["rotated_away", "spool_full", "truncated_file", "damaged_file", "unknown_container"];
const REDACTED: [&str; 2] = ["match", "bad_expression"];
const UNPARSED: [&str; 5] = ["invalid", "duplicate_key", "too_deep", "too_many_fields", "too_large"];
const LABELS_REFUSED: [&str; 7] = ["ansi", "format", "multiline", "rate", "redact", "sample", "unknown"];
/// Another status begins with its first event.
const RETRIED: [&str; 14] =
    ["connect", "timeout", "answer", "write", "file", "400", "401", "403", "404", "413", "429", "500", "502", "503"];
/// What else a sink says is `other`, for a label takes no text from outside.
const DEAD_LETTERS: [&str; 10] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "illegal_argument_exception",
    "strict_dynamic_mapping_exception",
    "json_parse_exception",
    "x_content_parse_exception",
    "parse_exception",
    "failure_store",
    "too_large",
    OTHER,
];
const OTHER: &str = "other";
const RESCANS: [&str; 4] = ["start", "overflow", "no_inotify", "periodic"];
const FILE_ERRORS: [&str; 5] = ["open", "read", "spool", "watch", "compressed"];
const FEED_ERRORS: [&str; 4] = ["broken", "engine", "store", "rotated_away"];
const SPOOL_GIVEN_UP: [&str; 2] = ["bytes", "lines"];

const DISK_WALKS: [&str; 5] = ["done", "refused", "gone", "too_large", "failed"];
const LEDGER_LOSSES: [&str; 10] = [
    "event_gap",
    "no_end",
    "no_last_reading",
    "queue_overflow",
    "no_watch",
    "unknown_container",
    "gone_containers",
    "sums",
    "odd_file",
    "save",
];

const HTTP_REFUSED: [&str; 8] = ["unauthorized", "busy", "rate_limit", "max_requests", "tls", "plain_http", "slow", "evicted"];

impl RouteMetrics {
    fn begin(self) -> Self {
        let of = &self.vecs;
        let families: [(&IntCounterVec, &[&str]); 6] = [
            (&of.dropped, &DROPPED),
            (&of.gaps, &GAPS),
            (&of.retries, &RETRIED),
            (&of.dead_letters, &DEAD_LETTERS),
            (&of.redactions, &REDACTED),
            (&of.unparsed, &UNPARSED),
        ];
        for (family, values) in families {
            for value in values {
                family.with_label_values(&[&*self.route, value]).inc_by(0);
            }
        }
        for label in LABELS_REFUSED {
            of.labels_refused.with_label_values(&[label]).inc_by(0);
        }
        self
    }

    /// A line lost for good, by a bounded reason: `malformed`, `dead_letter_failed`, ...
    pub fn dropped(&self, reason: &'static str, lines: u64) {
        self.vecs.dropped.with_label_values(&[&*self.route, reason]).inc_by(lines);
    }

    /// A place where lines were, and are no more: `rotated_away`, `spool_full`, `truncated_file`, `damaged_file`; or a log that a filter cannot judge:
    /// `unknown_container`.
    pub fn gap(&self, reason: &'static str) {
        self.vecs.gaps.with_label_values(&[&*self.route, reason]).inc();
    }

    /// Whether the last request reached the sink. Nothing is told before the first: a sink that was not asked is neither up nor down.
    pub fn sink_up(&self, is_up: bool) {
        self.vecs.sink_up.with_label_values(&[&*self.route]).set(i64::from(is_up));
    }

    /// What was done to a record before it was sent.
    pub fn encoded(&self, encoded: &Encoded) {
        let redacted = |reason, count| {
            if count > 0 {
                self.vecs.redactions.with_label_values(&[&*self.route, reason]).inc_by(count);
            }
        };
        redacted("match", encoded.redactions);
        redacted("bad_expression", encoded.is_blanked.into());
        if encoded.is_parsed {
            self.parsed.inc();
        }
        if let Some(why) = encoded.unparsed {
            self.vecs.unparsed.with_label_values(&[&*self.route, why.as_str()]).inc();
        }
    }

    /// A container's label that cannot be taken: `ansi`, `format`, `multiline`, `rate`, `redact`, `sample`, or `unknown`.
    pub fn label_refused(&self, label: &'static str) {
        self.vecs.labels_refused.with_label_values(&[label]).inc();
    }

    /// A log file that could not be read; it is tried again.
    pub fn read_error(&self) {
        self.vecs.file_errors.with_label_values(&["read"]).inc();
    }

    /// Records sent again, by the status that asked for it (`429`, `503`) or `connect`, `timeout`, `answer` (not understood), `write`, `file` (of secrets).
    pub fn retried(&self, code: &str, records: u64) {
        self.vecs.retries.with_label_values(&[&*self.route, code]).inc_by(records);
    }

    /// A record that the sink refused for good and that lies in the dead letter file, by the sink's type of error.
    pub fn dead_letter(&self, reason: &str) {
        let reason = DEAD_LETTERS.into_iter().find(|known| *known == reason).unwrap_or(OTHER);
        self.vecs.dead_letters.with_label_values(&[&*self.route, reason]).inc();
    }
}

/// The numbers of the file table and the spool.
#[derive(Debug, Clone)]
pub struct TableMetrics {
    /// Bytes of removed files that an open descriptor keeps on the disk.
    pub pinned_bytes: IntGauge,
    /// Bytes in the spool.
    pub spool_bytes: IntGauge,
    vecs: LogVecs,
}

impl TableMetrics {
    fn begin(self) -> Self {
        let of = &self.vecs;
        let families: [(&IntCounterVec, &[&str]); 4] = [
            (&of.rescans, &RESCANS),
            (&of.file_errors, &FILE_ERRORS),
            (&of.feed_errors, &FEED_ERRORS),
            (&of.spool_given_up, &SPOOL_GIVEN_UP),
        ];
        for (family, values) in families {
            for value in values {
                family.with_label_values(&[value]).inc_by(0);
            }
        }
        self
    }

    /// The same for the files of the feed, which are in no spool and are not counted twice.
    #[must_use]
    pub fn of_feed(&self) -> Self {
        let detached = |name: &str| IntGauge::new(name, name).unwrap_or_else(|_| self.spool_bytes.clone());
        Self { pinned_bytes: detached("pinned"), spool_bytes: detached("spool"), vecs: self.vecs.clone() }
    }

    /// A stream of a log from the engine's API that ended, by `broken` (bytes that are no frames), `engine` (what the engine said or how it ended),
    /// `store` (what was taken could not be written), or that went on behind a gap, by `rotated_away`.
    pub fn feed_error(&self, reason: &'static str) {
        self.vecs.feed_errors.with_label_values(&[reason]).inc();
    }

    /// Entries that came from the engine's API and were there already.
    pub fn feed_repeated(&self, entries: u64) {
        self.vecs.feed_repeated.inc_by(entries);
    }

    /// Containers by `source` (`file`, `api`) and `state` (`tailed`, `unreadable`, `other_driver`, `excluded`; `no_reading`).
    pub fn containers(&self, source: &'static str, state: &'static str, count: i64) {
        self.vecs.containers.with_label_values(&[source, state]).set(count);
    }

    /// A scan of all directories, by `start`, `overflow`, `no_inotify`, `periodic`.
    pub fn rescan(&self, reason: &'static str) {
        self.vecs.rescans.with_label_values(&[reason]).inc();
    }

    /// A file operation that failed: `open`, `read`, `spool`, `watch`; `compressed` for a compressed predecessor that is damaged.
    pub fn file_error(&self, operation: &'static str) {
        self.vecs.file_errors.with_label_values(&[operation]).inc();
    }

    /// Given up at the bound of the spool: bytes, and lines.
    pub fn spool_given_up(&self, bytes: u64, lines: u64) {
        self.vecs.spool_given_up.with_label_values(&["bytes"]).inc_by(bytes);
        self.vecs.spool_given_up.with_label_values(&["lines"]).inc_by(lines);
    }
}

impl Metrics {
    /// Registers all metrics, without a constant label.
    ///
    /// # Errors
    /// When two of them have one name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::labelled(None)
    }

    /// Registers all metrics, with `constant`, a label's name and value, on every series.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn labelled(constant: Option<(&str, &str)>) -> Result<Self, prometheus::Error> {
        let labels = constant.map(|(name, value)| std::iter::once((name.to_owned(), value.to_owned())).collect());
        let registry = Registry::new_custom(None, labels)?;
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let float = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec, prometheus::Error> {
            let family = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let request_duration = HistogramVec::new(
            HistogramOpts::new("skep_log_request_duration_seconds", "Seconds that a request to the sink took.")
                .buckets(vec![0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
            &["route"],
        )?;
        registry.register(Box::new(request_duration.clone()))?;
        let log = LogVecs {
            read: counter("skep_log_records_read_total", "Records read and encoded.", &["route"])?,
            read_bytes: counter("skep_log_read_bytes_total", "Bytes of log files read.", &["route"])?,
            acknowledged: counter("skep_log_records_acknowledged_total", "Records that the sink has acknowledged.", &["route"])?,
            dropped: counter("skep_log_records_dropped_total", "Lines lost for good, by reason.", &["route", "reason"])?,
            duplicates: counter("skep_log_duplicates_total", "Records that the sink said it had already.", &["route"])?,
            possible_duplicates: counter(
                "skep_log_possible_duplicates_total",
                "Records sent again and stored behind a rollover of the data stream, so that they may be there twice.",
                &["route"],
            )?,
            gaps: counter("skep_log_gaps_total", "Places where lines were and are no more, by reason.", &["route", "reason"])?,
            retries: counter(
                "skep_log_retries_total",
                "Records sent again, by the status or fault that asked for it.",
                &["route", "code"],
            )?,
            dead_letters: counter(
                "skep_log_dead_letters_total",
                "Records refused for good and kept in the dead letter file.",
                &["route", "reason"],
            )?,
            truncated: counter("skep_log_records_truncated_total", "Records cut at logs.max-record-bytes.", &["route"])?,
            parsed: counter("skep_log_records_parsed_total", "Records whose line had fields: JSON, or logfmt.", &["route"])?,
            joined: counter("skep_log_lines_joined_total", "Lines that became part of the record of the line before.", &["route"])?,
            withheld: counter(
                "skep_log_records_withheld_total",
                "Records not sent, for the service's own labels say so, by label.",
                &["route", "reason"],
            )?,
            redactions: counter(
                "skep_log_redactions_total",
                "Parts of messages that were redacted, by what asked for it.",
                &["route", "reason"],
            )?,
            unparsed: counter(
                "skep_log_records_unparsed_total",
                "Lines that seem to have fields and were left as they are, by reason.",
                &["route", "reason"],
            )?,
            labels_refused: counter(
                "skep_log_labels_refused_total",
                "Labels of containers that steer their logs and cannot be taken.",
                &["label"],
            )?,
            lag_seconds: float("skep_log_lag_seconds", "Age of the oldest record that is not acknowledged.", &["route"])?,
            lag_bytes: gauge("skep_log_lag_bytes", "Bytes of log files written and not acknowledged.", &["route"])?,
            sink_up: gauge("skep_log_sink_up", "Whether the last request reached the sink; not there before the first.", &["route"])?,
            request_duration,
            cursor_errors: counter("skep_log_cursor_errors_total", "Cursor files that could not be written.", &["route"])?,
            pinned_bytes: IntGauge::new(
                "skep_log_pinned_bytes",
                "Bytes of removed log files that are kept open until they are acknowledged.",
            )?,
            spool_bytes: IntGauge::new("skep_log_spool_bytes", "Bytes in the spool.")?,
            spool_given_up: counter(
                "skep_log_spool_given_up_total",
                "What was given up at the bound of the spool, in bytes and lines.",
                &["unit"],
            )?,
            containers: gauge(
                "skep_log_containers",
                "Containers by the source of their logs and how they are read.",
                &["source", "state"],
            )?,
            rescans: counter("skep_log_rescans_total", "Scans of all log directories, by reason.", &["reason"])?,
            file_errors: counter("skep_log_file_errors_total", "Operations on log files that failed.", &["operation"])?,
            feed_errors: counter("skep_log_feed_errors_total", "Streams of logs from the engine's API that failed.", &["reason"])?,
            feed_repeated: IntCounter::new(
                "skep_log_feed_repeated_total",
                "Entries that the engine's API gave once more, which were left out.",
            )?,
        };
        registry.register(Box::new(log.feed_repeated.clone()))?;
        registry.register(Box::new(log.pinned_bytes.clone()))?;
        registry.register(Box::new(log.spool_bytes.clone()))?;
        let scrapes_shared = IntCounter::new("skep_scrapes_shared_total", "Scrapes that took the result of one under way.")?;
        registry.register(Box::new(scrapes_shared.clone()))?;
        let docker_events = IntCounter::new("skep_docker_events_total", "Events taken from the engine.")?;
        registry.register(Box::new(docker_events.clone()))?;
        let docker_resyncs = IntCounter::new("skep_docker_resyncs_total", "Inventories taken anew by list.")?;
        registry.register(Box::new(docker_resyncs.clone()))?;
        let docker_sizes =
            IntCounter::new("skep_docker_size_requests_total", "Questions to the engine for the size of a container's layer.")?;
        registry.register(Box::new(docker_sizes.clone()))?;
        let docker_size_seconds = Counter::new("skep_docker_size_seconds_total", "Seconds that the engine took to tell sizes of layers.")?;
        registry.register(Box::new(docker_size_seconds.clone()))?;
        let disk_walks = counter("skep_disk_walks_total", "Walks through directories of containers, by how they ended.", &["state"])?;
        for state in DISK_WALKS {
            disk_walks.with_label_values(&[state]).inc_by(0);
        }
        let disk_walk_seconds = Counter::new("skep_disk_walk_seconds_total", "Seconds of work that these walks took, rests not counted.")?;
        registry.register(Box::new(disk_walk_seconds.clone()))?;
        let docker_inspects = IntCounter::new("skep_docker_inspects_total", "Containers that the engine was asked for one by one.")?;
        registry.register(Box::new(docker_inspects.clone()))?;
        let docker_containers_incomplete = IntGauge::new(
            "skep_docker_containers_incomplete",
            "Containers that cannot be inspected, so that only the list and the events tell of them.",
        )?;
        registry.register(Box::new(docker_containers_incomplete.clone()))?;
        let http_refused =
            counter("skep_http_refused_total", "Connections and requests that were not answered as asked, by reason.", &["reason"])?;
        for reason in HTTP_REFUSED {
            http_refused.with_label_values(&[reason]).inc_by(0);
        }
        let ledger_losses = counter(
            "skep_ledger_losses_total",
            "What containers left behind and was not, or may not have been, taken as it should, by reason.",
            &["reason"],
        )?;
        for reason in LEDGER_LOSSES {
            ledger_losses.with_label_values(&[reason]).inc_by(0);
        }
        Ok(Self {
            http_refused,
            ledger_losses,
            part_up: gauge(
                "skep_part_up",
                "Whether a part of the agent works, or is not asked for; /readyz says why it does not.",
                &["part"],
            )?,
            collector_oddities: counter(
                "skep_collector_oddities_total",
                "Lines, devices and sensors that a collector could not understand.",
                &["collector"],
            )?,
            collector_panics: counter("skep_collector_panics_total", "Collector runs that ended in a panic.", &["collector"])?,
            collector_timeouts: counter(
                "skep_collector_timeouts_total",
                "Collector runs that missed the deadline of the scrape.",
                &["collector"],
            )?,
            scrapes: counter("skep_scrapes_total", "Scrapes answered.", &["group"])?,
            scrapes_shared,
            docker_errors: counter("skep_docker_errors_total", "Requests to the engine that failed.", &["call"])?,
            docker_events,
            docker_resyncs,
            docker_inspects,
            docker_containers_incomplete,
            docker_containers: gauge("skep_docker_containers", "Containers known from the engine.", &["state"])?,
            docker_inventory_time: float("skep_docker_inventory_time_seconds", "When the inventory was last known to be right.", &[])?,
            docker_sizes,
            docker_size_seconds,
            disk_walks,
            disk_walk_seconds,
            registry,
            log,
        })
    }

    /// A connection or a request that was not answered as asked: `unauthorized`, `busy` (too many passwords to verify), `rate_limit`, `max_requests`, `tls`
    /// (a handshake that failed), `plain_http` (where TLS is), `slow`, `evicted` (it asked nothing, and another needed its place).
    pub fn http_refused(&self, reason: &'static str) {
        self.http_refused.with_label_values(&[reason]).inc();
    }

    /// Something that a container left behind and that was lost, or may have been: `event_gap` (the engine has the last event no more that was handled), `no_end`
    /// (a cgroup ended, its container is gone for an hour, and no engine told its exit), `no_last_reading` (a cgroup was removed before its last numbers were
    /// read), `queue_overflow` (of inotify), `no_watch` (inotify takes no more), `unknown_container` (numbers of a cgroup that no engine told the name of),
    /// `gone_containers` (forgotten before their hour, for there are too many), `sums` (summed with others, for there are too many services and images),
    /// `odd_file` (the ledger's file could not be understood), `save` (or not be written).
    pub fn ledger_lost(&self, reason: &'static str, count: u64) {
        self.ledger_losses.with_label_values(&[reason]).inc_by(count);
    }

    /// The numbers of the route `name`. Asking twice gives the same counters.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let of = &self.log;
        RouteMetrics {
            read: of.read.with_label_values(&[name]),
            read_bytes: of.read_bytes.with_label_values(&[name]),
            acknowledged: of.acknowledged.with_label_values(&[name]),
            duplicates: of.duplicates.with_label_values(&[name]),
            possible_duplicates: of.possible_duplicates.with_label_values(&[name]),
            truncated: of.truncated.with_label_values(&[name]),
            parsed: of.parsed.with_label_values(&[name]),
            joined: of.joined.with_label_values(&[name]),
            sampled: of.withheld.with_label_values(&[name, "sample"]),
            rate_limited: of.withheld.with_label_values(&[name, "rate"]),
            cursor_errors: of.cursor_errors.with_label_values(&[name]),
            lag_seconds: of.lag_seconds.with_label_values(&[name]),
            lag_bytes: of.lag_bytes.with_label_values(&[name]),
            request_duration: of.request_duration.with_label_values(&[name]),
            route: name.to_owned(),
            vecs: of.clone(),
        }
        .begin()
    }

    /// The numbers of the file table.
    #[must_use]
    pub fn table(&self) -> TableMetrics {
        TableMetrics { pinned_bytes: self.log.pinned_bytes.clone(), spool_bytes: self.log.spool_bytes.clone(), vecs: self.log.clone() }
            .begin()
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a family cannot be encoded; what was encoded until then is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), prometheus::Error> {
        TextEncoder::new().encode(&self.registry.gather(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_name() {
        let metrics = Metrics::new().unwrap();
        metrics.route("es").gap("rotated_away");
        let mut text = Vec::new();
        metrics.encode(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("skep_log_gaps_total{reason=\"rotated_away\",route=\"es\"} 1"));
    }

    /// `increase()` sees a first loss only where the series was 0 before.
    #[test]
    fn what_may_be_lost_is_0_before_it_is() {
        let metrics = Metrics::new().unwrap();
        let (route, _table) = (metrics.route("es"), metrics.table());
        route.dead_letter("a word of the sink's own");
        metrics.route("es").dead_letter("too_large");
        let mut text = Vec::new();
        metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "skep_log_records_dropped_total{reason=\"dead_letter_failed\",route=\"es\"} 0",
            "skep_log_gaps_total{reason=\"spool_full\",route=\"es\"} 0",
            "skep_log_retries_total{code=\"connect\",route=\"es\"} 0",
            "skep_log_dead_letters_total{reason=\"mapper_parsing_exception\",route=\"es\"} 0",
            "skep_log_dead_letters_total{reason=\"other\",route=\"es\"} 1",
            "skep_log_dead_letters_total{reason=\"too_large\",route=\"es\"} 1",
            "skep_log_file_errors_total{operation=\"compressed\"} 0",
            "skep_log_spool_given_up_total{unit=\"lines\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
