//! Who wrote a record: the part of a document that is the same for every line of a container.

use std::collections::BTreeSet;

use regex::Regex;

use super::json::{escape, member};
use super::{ContainerId, ContainerMeta};
use crate::model::whole;
use crate::swarm::identity::TaskIdentity;

/// The dataset of container logs, where no label tells another.
pub(super) const DATASET: &str = "docker.logs";
pub(super) const DATASET_LABEL: &str = "skep.logs.dataset";

/// The rendered part of the documents of one container. It is rendered once, and copied behind every line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrichment {
    tail: Vec<u8>,
    tty: bool,
}

impl Enrichment {
    /// Renders what is known of a container on a host: ECS field names, nested.
    ///
    /// `host_id` is the Swarm node id. Of the container's labels those become fields of `labels` whose whole name matches `labels`, with `_` for each dot
    /// (`a` and `a.b` could not stand in one index); without it none does. Of two names that become one, the first in the order of the alphabet
    /// stays. A field that is not known is left out. `event.dataset` is the label `skep.logs.dataset`, else `docker.logs`.
    #[must_use]
    pub fn new(id: &ContainerId, meta: &ContainerMeta, host_name: &str, host_id: Option<&str>, labels: Option<&Regex>) -> Self {
        let label = |name: &str| meta.labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let task = Task::of(label);
        let image = Image::of(&meta.image);

        let mut tail = b",".to_vec();
        member("dataset", label(DATASET_LABEL).unwrap_or(DATASET), &mut tail);
        tail.extend_from_slice(b"},\"host\":{");
        members(&[("name", Some(host_name)), ("id", host_id)], &mut tail);
        tail.extend_from_slice(b"},\"container\":{");
        members(&[("id", Some(id.as_str())), ("name", Some(&meta.name))], &mut tail);
        if !image.name.is_empty() {
            tail.extend_from_slice(b",\"image\":{");
            members(&[("name", Some(image.name)), ("tag", image.tag)], &mut tail);
            tail.push(b'}');
        }
        tail.push(b'}');
        if task.service_name.is_some() || task.service_id.is_some() {
            tail.extend_from_slice(b",\"service\":{");
            members(&[("id", task.service_id), ("name", task.service_name)], &mut tail);
            if let Some(slot) = TaskIdentity::from_labels(|name| meta.labels.get(name).map(String::as_str)).and_then(|task| task.slot) {
                tail.extend_from_slice(b",\"node\":{");
                member("name", &slot.to_string(), &mut tail);
                tail.push(b'}');
            }
            tail.push(b'}');
        }
        if task.id.is_some() || task.name.is_some() {
            tail.extend_from_slice(b",\"orchestrator\":{");
            members(&[("type", Some("swarm")), ("namespace", task.stack)], &mut tail);
            tail.extend_from_slice(b",\"resource\":{");
            members(&[("type", Some("task")), ("name", task.name), ("id", task.id)], &mut tail);
            tail.extend_from_slice(b"}}");
        }
        // Anchored here, where labels are let out, so that no caller can forget it. Rendered once for each state of a container, not for each line.
        if let Some(allowed) = labels.and_then(|labels| whole(labels.as_str()).ok()) {
            allowed_labels(meta, &allowed, &mut tail);
        }
        tail.push(b'}');
        Self { tail, tty: meta.tty }
    }

    /// With a tail that another schema rendered.
    pub(super) const fn of_tail(tail: Vec<u8>, tty: bool) -> Self {
        Self { tail, tty }
    }

    /// The rest of a document, from behind the value of `event.id` to the closing brace.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Whether the container has a terminal, whose lines end in a carriage return that nobody wrote.
    pub(super) const fn tty(&self) -> bool {
        self.tty
    }
}

/// Appends the members that have a value which is not empty.
pub(super) fn members(list: &[(&str, Option<&str>)], out: &mut Vec<u8>) {
    let mut first = true;
    for (name, value) in list {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if !first {
            out.push(b',');
        }
        first = false;
        member(name, value, out);
    }
}

pub(super) fn allowed_labels(meta: &ContainerMeta, allowed: &Regex, out: &mut Vec<u8>) {
    let mut names = BTreeSet::new();
    for (name, value) in &meta.labels {
        // Elasticsearch refuses the whole record for a field whose name is blank, and for one that comes twice.
        if name.trim().is_empty() || !allowed.is_match(name) || !names.insert(name.replace('.', "_")) {
            continue;
        }
        out.extend_from_slice(if names.len() == 1 { b",\"labels\":{" } else { b"," });
        out.push(b'"');
        escape(name.replace('.', "_").as_bytes(), out);
        out.extend_from_slice(b"\":\"");
        escape(value.as_bytes(), out);
        out.push(b'"');
    }
    if !names.is_empty() {
        out.push(b'}');
    }
}

/// What the labels say that Swarm puts on the container of a task.
struct Task<'a> {
    id: Option<&'a str>,
    name: Option<&'a str>,
    service_id: Option<&'a str>,
    service_name: Option<&'a str>,
    stack: Option<&'a str>,
}

impl<'a> Task<'a> {
    fn of(label: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            id: label("com.docker.swarm.task.id"),
            name: label("com.docker.swarm.task.name"),
            service_id: label("com.docker.swarm.service.id"),
            service_name: label("com.docker.swarm.service.name"),
            stack: label("com.docker.stack.namespace"),
        }
    }
}

/// A reference to an image, taken apart.
struct Image<'a> {
    name: &'a str,
    tag: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// `registry:5000/team/app:1.2@sha256:…` is the name `registry:5000/team/app` with the tag `1.2`. A bare image id (`sha256:…`) is a name as a
    /// whole. Where no tag was asked for, none is told.
    fn of(reference: &'a str) -> Self {
        let named = reference.split_once('@').map_or(reference, |(named, _)| named);
        match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && name != "sha256" && !name.is_empty() => {
                Self { name, tag: Some(tag).filter(|tag| !tag.is_empty()) }
            }
            _ => Self { name: named, tag: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn id() -> ContainerId {
        ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap()
    }

    fn meta(labels: &[(&str, &str)]) -> ContainerMeta {
        ContainerMeta {
            name: "web.2.k1".into(),
            image: "nginx:1.25@sha256:00".into(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..ContainerMeta::default()
        }
    }

    fn document(of: &Enrichment) -> Value {
        let mut text = b"{\"event\":{\"id\":\"x\"".to_vec();
        text.extend_from_slice(of.tail());
        serde_json::from_slice(&text).unwrap()
    }

    const TASK: [(&str, &str); 7] = [
        ("com.docker.stack.namespace", "shop"),
        ("com.docker.swarm.node.id", "n0d3"),
        ("com.docker.swarm.service.id", "s1"),
        ("com.docker.swarm.service.name", "shop_web.front"),
        ("com.docker.swarm.task", ""),
        ("com.docker.swarm.task.id", "t1"),
        ("com.docker.swarm.task.name", "shop_web.front.2.t1"),
    ];

    #[test]
    fn a_task_of_a_stack() {
        let of = Enrichment::new(&id(), &meta(&TASK), "node-1", Some("n0d3"), None);
        assert_eq!(
            document(&of),
            json!({
                "event": {"id": "x", "dataset": "docker.logs"},
                "host": {"name": "node-1", "id": "n0d3"},
                "container": {"id": id().as_str(), "name": "web.2.k1", "image": {"name": "nginx", "tag": "1.25"}},
                "service": {"id": "s1", "name": "shop_web.front", "node": {"name": "2"}},
                "orchestrator": {"type": "swarm", "namespace": "shop", "resource": {"type": "task", "name": "shop_web.front.2.t1", "id": "t1"}},
            })
        );
    }

    #[test]
    fn a_task_of_a_global_service_has_no_slot() {
        let mut labels = TASK;
        labels[6].1 = "shop_web.front.n0d3.t1";
        let of = Enrichment::new(&id(), &meta(&labels), "node-1", Some("n0d3"), None);
        assert_eq!(document(&of)["service"], json!({"id": "s1", "name": "shop_web.front"}));
        labels[1].1 = "123";
        labels[6].1 = "shop_web.front.123.t1";
        let of = Enrichment::new(&id(), &meta(&labels), "node-1", Some("123"), None);
        assert_eq!(document(&of)["service"].get("node"), None);
    }

    #[test]
    fn a_plain_container() {
        let of = Enrichment::new(&id(), &meta(&[("skep.logs.dataset", "nginx.\"access\"")]), "node-1", None, None);
        assert_eq!(
            document(&of),
            json!({
                "event": {"id": "x", "dataset": "nginx.\"access\""},
                "host": {"name": "node-1"},
                "container": {"id": id().as_str(), "name": "web.2.k1", "image": {"name": "nginx", "tag": "1.25"}},
            })
        );
    }

    #[test]
    fn labels_by_choice() {
        let labels = [(" ", "0"), ("a.b", "1"), ("a_b", "2"), ("other", "3"), ("a\"c", "4\n")];
        let of = Enrichment::new(&id(), &meta(&labels), "h", None, Some(&Regex::new("a.*| ").unwrap()));
        assert_eq!(document(&of)["labels"], json!({"a\"c": "4\n", "a_b": "1"}));
        // "a" is not the whole of any of these names.
        let none = Enrichment::new(&id(), &meta(&labels), "h", None, Some(&Regex::new("a").unwrap()));
        assert_eq!(document(&none).get("labels"), None);
    }

    #[test]
    fn images() {
        for (reference, name, tag) in [
            ("nginx", "nginx", None),
            ("nginx:1.25", "nginx", Some("1.25")),
            ("nginx@sha256:00", "nginx", None),
            ("registry:5000/team/app", "registry:5000/team/app", None),
            ("registry:5000/team/app:1.2-rc@sha256:00", "registry:5000/team/app", Some("1.2-rc")),
            ("sha256:0123", "sha256:0123", None),
            ("", "", None),
            (":x", ":x", None),
        ] {
            let image = Image::of(reference);
            assert_eq!((image.name, image.tag), (name, tag), "{reference}");
        }
    }
}
