//! The index template: `@timestamp` to the nanosecond, strings that are not the message as keywords.

use serde_json::{Value, json};

/// Above Elasticsearch's default and below what an operator would choose for a template of their own, which then wins.
const PRIORITY: u32 = 50;

/// What a template for an index pattern is called, and what it matches; `None` when the pattern has no fixed beginning, for then the template would
/// match everybody's indices.
pub(super) fn template(pattern: &str) -> Option<(String, Value)> {
    let fixed = pattern.split('%').next().unwrap_or_default();
    let name = fixed.trim_end_matches(['-', '.', '_']);
    if name.is_empty() {
        return None;
    }
    let matches = if pattern.contains('%') { format!("{fixed}*") } else { pattern.to_owned() };
    let body = json!({
        "index_patterns": [matches],
        "priority": PRIORITY,
        "version": 1,
        "_meta": { "description": "Container logs of skep; written at each of its starts unless the route says manage_template=false." },
        "template": { "mappings": {
            "date_detection": false,
            "dynamic_templates": [{
                "strings": { "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } }
            }],
            "properties": {
                "@timestamp": { "type": "date_nanos" },
                "message": { "type": "text" },
                "event": { "properties": { "id": { "type": "keyword" } } },
                "log": { "properties": { "offset": { "type": "long" } } }
            }
        } }
    });
    Some((format!("skep-{name}"), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_matches_the_indices_of_its_pattern_only() {
        let of = |pattern| template(pattern).map(|(name, body)| (name, body["index_patterns"][0].as_str().unwrap().to_owned()));
        assert_eq!(of("docker-logs-%Y.%m.%d"), Some(("skep-docker-logs".into(), "docker-logs-*".into())));
        assert_eq!(of("logs.%Y"), Some(("skep-logs".into(), "logs.*".into())));
        assert_eq!(of("one"), Some(("skep-one".into(), "one".into())));
        assert_eq!(of("%Y.%m.%d"), None);
    }
}
