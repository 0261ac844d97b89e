//! `schema=logstash`: records as logspout's Logstash adapter and a pipeline with Logstash's syslog input made them.
//!
//! Like the other schema (see [`super::record`]) but for who wrote it: `host` is a string, and one index must never get two types for it. `program` is the
//! container's name, `docker.*` what the adapter told, and `severity` and `severity_label` are those of the line's level; where it tells none, those that
//! logspout gave its stream. The id is the same.

use regex::Regex;

use super::assemble::Line;
use super::enrich::{DATASET, DATASET_LABEL, Enrichment, allowed_labels, members};
use super::json::member;
use super::steer::{Encoded, Steering, Work};
use super::{ContainerId, ContainerMeta, Stream, record};
use crate::model::whole;

/// Renders what is known of a container on a host. The braces of the document stay open: see [`encode`].
///
/// Of the container's labels those become fields of `docker.labels` whose whole name matches `labels`, with `_` for each dot.
#[must_use]
pub fn enrichment(id: &ContainerId, meta: &ContainerMeta, host_name: &str, labels: Option<&Regex>) -> Enrichment {
    let dataset = meta.labels.get(DATASET_LABEL).map(String::as_str).filter(|value| !value.is_empty());
    let name = if meta.name.is_empty() { String::new() } else { format!("/{}", meta.name) };
    let mut tail = b",".to_vec();
    member("dataset", dataset.unwrap_or(DATASET), &mut tail);
    tail.extend_from_slice(b"},");
    members(&[("@version", Some("1")), ("host", Some(host_name)), ("program", Some(&meta.name))], &mut tail);
    tail.extend_from_slice(b",\"docker\":{");
    let of_docker = [("id", id.as_str()), ("name", &name), ("image", &meta.image), ("hostname", &meta.host_name)];
    members(&of_docker.map(|(name, value)| (name, Some(value))), &mut tail);
    if let Some(allowed) = labels.and_then(|labels| whole(labels.as_str()).ok()) {
        allowed_labels(meta, &allowed, &mut tail);
    }
    tail.push(b'}');
    Enrichment::of_tail(tail, meta.tty)
}

/// Appends the record as one JSON document without a line feed.
pub fn encode(line: &Line<'_>, of: &Enrichment, steering: &Steering, work: &mut Work, out: &mut Vec<u8>) -> Encoded {
    let (level, encoded) = record::encode(line, of, steering, work, out);
    out.extend_from_slice(severity(level, line.stream));
    encoded
}

/// The end of a document: what RFC 5424, 6.2.1, calls a level, and its name at Logstash.
fn severity(level: Option<&str>, stream: Stream) -> &'static [u8] {
    const INFORMATIONAL: &[u8] = b",\"severity\":6,\"severity_label\":\"Informational\"}";
    const ERROR: &[u8] = b",\"severity\":3,\"severity_label\":\"Error\"}";
    match (level, stream) {
        (Some("trace" | "debug"), _) => b",\"severity\":7,\"severity_label\":\"Debug\"}",
        (Some("info"), _) => INFORMATIONAL,
        (Some("notice"), _) => b",\"severity\":5,\"severity_label\":\"Notice\"}",
        (Some("warn"), _) => b",\"severity\":4,\"severity_label\":\"Warning\"}",
        (Some("error"), _) => ERROR,
        (Some("critical" | "fatal"), _) => b",\"severity\":2,\"severity_label\":\"Critical\"}",
        (Some("alert"), _) => b",\"severity\":1,\"severity_label\":\"Alert\"}",
        (Some("emergency"), _) => b",\"severity\":0,\"severity_label\":\"Emergency\"}",
        (_, Stream::Stdout) => INFORMATIONAL,
        (_, Stream::Stderr) => ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::record::RecordId;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn id() -> ContainerId {
        ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap()
    }

    fn meta() -> ContainerMeta {
        let labels = [("com.docker.stack.namespace", "shop"), ("x", "1")];
        ContainerMeta {
            name: "shop_web.1.k1".into(),
            image: "nginx:1.25".into(),
            host_name: "0123456789ab".into(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..ContainerMeta::default()
        }
    }

    fn encoded(bytes: &[u8], stream: Stream, meta: &ContainerMeta, labels: Option<&str>) -> Value {
        let labels = labels.map(|labels| Regex::new(labels).unwrap());
        let of = enrichment(&id(), meta, "node-1", labels.as_ref());
        let line =
            Line { stream, time: 1_795_168_800_123_456_789, bytes, offset: 7, id: RecordId::new(1, 2), cut: None, parts: 1, lines: 1 };
        let mut out = Vec::new();
        encode(&line, &of, &Steering::default(), &mut Work::default(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_document() {
        assert_eq!(
            encoded(b"hello", Stream::Stderr, &meta(), Some(r"com\..*")),
            json!({
                "@timestamp": "2026-11-20T10:00:00.123456789Z",
                "@version": "1",
                "message": "hello",
                "stream": "stderr",
                "host": "node-1",
                "program": "shop_web.1.k1",
                "severity": 3,
                "severity_label": "Error",
                "docker": {
                    "id": id().as_str(), "name": "/shop_web.1.k1", "image": "nginx:1.25", "hostname": "0123456789ab",
                    "labels": {"com_docker_stack_namespace": "shop"},
                },
                "log": {"offset": 7},
                "event": {"id": RecordId::new(1, 2).as_str(), "dataset": "docker.logs"},
            })
        );
    }

    #[test]
    fn a_container_that_nobody_knows() {
        let found = encoded(b"x", Stream::Stdout, &ContainerMeta::default(), None);
        assert_eq!((&found["docker"], &found["host"], found.get("program")), (&json!({"id": id().as_str()}), &json!("node-1"), None));
    }

    #[test]
    fn severities() {
        let label = |text: &str, stream| encoded(text.as_bytes(), stream, &meta(), None)["severity_label"].as_str().unwrap().to_owned();
        assert_eq!(label("plain", Stream::Stdout), "Informational");
        assert_eq!(label("plain", Stream::Stderr), "Error");
        for (word, expected) in [
            ("TRACE", "Debug"),
            ("DEBUG", "Debug"),
            ("INFO", "Informational"),
            ("NOTICE", "Notice"),
            ("WARN", "Warning"),
            ("ERR", "Error"),
            ("CRIT", "Critical"),
            ("FATAL", "Critical"),
            ("PANIC", "Critical"),
            ("ALERT", "Alert"),
            ("EMERG", "Emergency"),
        ] {
            assert_eq!((label(word, Stream::Stdout), label(word, Stream::Stderr)), (expected.to_owned(), expected.to_owned()), "{word}");
        }
    }

    proptest! {
        #[test]
        fn every_line_is_a_document(bytes: Vec<u8>, name: String, image: String) {
            let meta = ContainerMeta { name, image, ..ContainerMeta::default() };
            let found = encoded(&bytes, Stream::Stdout, &meta, None);
            prop_assert!(found["host"].is_string() && found["severity"].is_number());
        }
    }
}
