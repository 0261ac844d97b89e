//! The index template: `@timestamp` to the nanosecond, strings that are not the message as keywords.

use serde_json::{Value, json};

use crate::config::Schema;

/// Above Elasticsearch's default and below what an operator would choose for a template of their own, which then wins.
const PRIORITY: u32 = 50;
/// The same for a data stream: above the 100 of Elasticsearch's own for `logs-*-*`, whose `@timestamp` has milliseconds. It is for that one name only.
const PRIORITY_OF_STREAM: u32 = 150;

/// How the fields of lines (`app`) are mapped: as one field that holds all of them as words, so that neither their types nor their number can make the index
/// refuse a record. Elasticsearch from 7.3 on has the first, OpenSearch from 2.7 on the second; a server that has neither stores them without looking into them.
const APP_FORMS: [&str; 3] = ["flattened", "flat_object", "object"];

/// How many forms of the template there are, to be tried in this order.
pub(super) const FORMS: usize = APP_FORMS.len();

fn app(form: usize) -> Value {
    match APP_FORMS.get(form) {
        // Longer texts are stored, and cannot be searched: Lucene takes no word of more than 32 766 bytes.
        Some(&"flattened") => json!({ "type": "flattened", "ignore_above": 8191 }),
        Some(&"flat_object") => json!({ "type": "flat_object" }),
        _ => json!({ "type": "object", "enabled": false }),
    }
}

/// What a template for an index pattern is called, and what it matches; `None` when the pattern has no fixed beginning, for then the template would
/// match everybody's indices.
pub(super) fn template(pattern: &str, is_data_stream: bool, schema: Schema, form: usize) -> Option<(String, Value)> {
    let fixed = pattern.split('%').next().unwrap_or_default();
    let name = fixed.trim_end_matches(['-', '.', '_']);
    if name.is_empty() {
        return None;
    }
    let matches = if pattern.contains('%') { format!("{fixed}*") } else { pattern.to_owned() };
    let strings = match schema {
        Schema::Ecs => json!({ "type": "keyword", "ignore_above": 1024 }),
        // As Logstash's own template has them: searched by word, and by FIELD.keyword as a whole.
        Schema::Logstash => {
            json!({ "type": "text", "norms": false, "fields": { "keyword": { "type": "keyword", "ignore_above": 256 } } })
        }
    };
    let mut body = json!({
        "index_patterns": [matches],
        "priority": if is_data_stream { PRIORITY_OF_STREAM } else { PRIORITY },
        "version": 1,
        "_meta": { "description": "Container logs of skep; written at each of its starts unless the route says manage_template=false." },
        "template": { "mappings": {
            "date_detection": false,
            "dynamic_templates": [{
                "strings": { "match_mapping_type": "string", "mapping": strings }
            }],
            "properties": {
                "@timestamp": { "type": "date_nanos" },
                "message": { "type": "text" },
                "app": app(form),
                "event": { "properties": { "id": { "type": "keyword" } } },
                "log": { "properties": { "offset": { "type": "long" } } }
            }
        } }
    });
    if is_data_stream && let Some(body) = body.as_object_mut() {
        body.insert("data_stream".to_owned(), json!({}));
    }
    Some((format!("skep-{name}"), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_matches_the_indices_of_its_pattern_only() {
        let of = |pattern| {
            template(pattern, false, Schema::Ecs, 0).map(|(name, body)| (name, body["index_patterns"][0].as_str().unwrap().to_owned()))
        };
        assert_eq!(of("docker-logs-%Y.%m.%d"), Some(("skep-docker-logs".into(), "docker-logs-*".into())));
        assert_eq!(of("logs.%Y"), Some(("skep-logs".into(), "logs.*".into())));
        assert_eq!(of("one"), Some(("skep-one".into(), "one".into())));
        assert_eq!(of("%Y.%m.%d"), None);
    }

    #[test]
    fn fields_of_lines_are_one_field() {
        let of = |form| template("one", false, Schema::Ecs, form).unwrap().1["template"]["mappings"]["properties"]["app"].clone();
        let types: Vec<_> = (0..FORMS).map(|form| of(form)["type"].as_str().unwrap().to_owned()).collect();
        assert_eq!((types, of(2)["enabled"].clone()), (vec!["flattened".into(), "flat_object".into(), "object".to_owned()], json!(false)));
    }

    #[test]
    fn that_of_a_data_stream_says_so() {
        let (name, body) = template("logs-docker-default", true, Schema::Ecs, 0).unwrap();
        assert_eq!(
            (&*name, &body["data_stream"], &body["index_patterns"]),
            ("skep-logs-docker-default", &json!({}), &json!(["logs-docker-default"]))
        );
        assert_eq!(template("one", false, Schema::Ecs, 0).unwrap().1.get("data_stream"), None);
    }

    #[test]
    fn strings_of_logstash_are_searched_by_word() {
        let (_, body) = template("logstash-%Y.%m.%d", false, Schema::Logstash, 0).unwrap();
        let strings = &body["template"]["mappings"]["dynamic_templates"][0]["strings"]["mapping"];
        assert_eq!((&strings["type"], &strings["fields"]["keyword"]["type"]), (&json!("text"), &json!("keyword")));
    }
}
