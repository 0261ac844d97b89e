//! Which containers and streams a route wants: `filter.name`, `filter.id`, `filter.labels` and `filter.sources` as logspout has them, `filter.service` and
//! `filter.stack` beside them.

use super::glob::Glob;
use crate::logs::{ContainerId, ContainerMeta, Stream};

/// The label of the service that a task's container has.
const SERVICE: &str = "com.docker.swarm.service.name";
/// The label of the stack that a container has.
const STACK: &str = "com.docker.stack.namespace";

/// What a route wants. The default is everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub(super) name: Option<Glob>,
    /// The beginning of an id, in small letters.
    pub(super) id: Option<String>,
    pub(super) labels: Vec<(String, Glob)>,
    pub(super) sources: Option<Vec<Stream>>,
    pub(super) service: Option<Glob>,
    pub(super) stack: Option<Glob>,
}

impl Filter {
    /// The options that make it.
    pub(super) const OPTIONS: [&'static str; 6] =
        ["filter.name", "filter.id", "filter.labels", "filter.sources", "filter.service", "filter.stack"];

    /// Takes an option in. An empty value filters nothing, as with logspout.
    ///
    /// # Errors
    /// A sentence: which option, what is wrong with it, what would do.
    pub(super) fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Ok(());
        }
        let glob = |text: &str| Glob::parse(text).map_err(|why| format!("the pattern in {option}= {why}; one like web* would do"));
        match option {
            "filter.name" => self.name = Some(glob(value)?),
            "filter.service" => self.service = Some(glob(value)?),
            "filter.stack" => self.stack = Some(glob(value)?),
            "filter.id" => {
                if value.len() > 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err("filter.id= takes the beginning of a container's id: up to 64 digits 0 to 9 and a to f".to_owned());
                }
                self.id = Some(value.to_ascii_lowercase());
            }
            "filter.labels" => {
                for part in value.split(',') {
                    match part.split_once(':') {
                        Some((label, pattern)) if !label.is_empty() && !pattern.is_empty() => {
                            self.labels.push((label.to_owned(), glob(pattern)?));
                        }
                        _ => return Err("filter.labels= takes labels with a pattern each: label:pattern,label:pattern".to_owned()),
                    }
                }
            }
            _ => {
                let streams = value.split(',').map(|name| Stream::ALL.into_iter().find(|stream| stream.as_str() == name));
                let streams: Option<Vec<Stream>> = streams.collect();
                self.sources = Some(streams.ok_or("filter.sources= takes stdout, stderr, or both with a comma between them")?);
            }
        }
        Ok(())
    }

    /// The options as they were given.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let labels = self.labels.iter().map(|(label, glob)| format!("{label}:{}", glob.as_str())).collect::<Vec<_>>().join(",");
        let sources = self.sources.iter().flatten().map(|stream| stream.as_str()).collect::<Vec<_>>().join(",");
        let text = |glob: &Option<Glob>| glob.as_ref().map_or("", Glob::as_str).to_owned();
        let values = [text(&self.name), self.id.clone().unwrap_or_default(), labels, sources, text(&self.service), text(&self.stack)];
        Self::OPTIONS.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// Whether a container's description decides, and not its id alone.
    #[must_use]
    pub const fn asks_who(&self) -> bool {
        self.name.is_some() || !self.labels.is_empty() || self.service.is_some() || self.stack.is_some()
    }

    /// Whether the route wants this container. A label that a container does not have is empty, as with logspout, so that `label:*` takes every container;
    /// a container of no service or no stack fits no pattern of one.
    #[must_use]
    pub fn wants(&self, id: &ContainerId, meta: &ContainerMeta) -> bool {
        let label = |name: &str| meta.labels.get(name).map(String::as_str);
        let fits = |glob: &Option<Glob>, text: Option<&str>| {
            glob.as_ref().is_none_or(|glob| text.is_some_and(|text| !text.is_empty() && glob.is_match(text)))
        };
        self.id.as_ref().is_none_or(|start| id.as_str().starts_with(start.as_str()))
            && fits(&self.name, Some(&meta.name))
            && self.labels.iter().all(|(name, glob)| glob.is_match(label(name).unwrap_or_default()))
            && fits(&self.service, label(SERVICE))
            && fits(&self.stack, label(STACK))
    }

    /// By [`Stream::index`], whether the route wants what is written to a stream.
    #[must_use]
    pub fn streams(&self) -> [bool; 2] {
        Stream::ALL.map(|stream| self.sources.as_ref().is_none_or(|wanted| wanted.contains(&stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(options: &[(&str, &str)]) -> Filter {
        let mut filter = Filter::default();
        options.iter().for_each(|(option, value)| filter.take(option, value).unwrap());
        filter
    }

    fn wants(options: &[(&str, &str)], name: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let meta = ContainerMeta { name: name.to_owned(), labels, ..ContainerMeta::default() };
        filter(options).wants(&ContainerId::new(&"0123456789abcdef".repeat(4)).unwrap(), &meta)
    }

    #[test]
    fn what_a_route_wants() {
        assert!(wants(&[], "", &[]), "everything, where nothing is asked for");
        assert!(wants(&[("filter.name", ""), ("filter.labels", "")], "x", &[]), "what is empty filters nothing");
        assert!(wants(&[("filter.name", "*_db")], "shop_db", &[]) && !wants(&[("filter.name", "*_db")], "shop_db2", &[]));
        assert!(wants(&[("filter.id", "0123456789AB")], "", &[]) && !wants(&[("filter.id", "123")], "", &[]));
        let both = [("filter.labels", "a:x*,b:?")];
        assert!(wants(&both, "", &[("a", "x1"), ("b", "2")]));
        assert!(!wants(&both, "", &[("a", "x1")]) && !wants(&both, "", &[("a", "y"), ("b", "2")]), "all of them have to fit");
        assert!(wants(&[("filter.labels", "a:*")], "", &[]), "a label that is not there is empty");
        assert!(wants(&[("filter.labels", "a:b:c")], "", &[("a", "b:c")]), "the pattern begins behind the first colon");
        assert!(wants(&[("filter.service", "shop_*")], "", &[(SERVICE, "shop_web")]));
        assert!(!wants(&[("filter.service", "*")], "", &[]) && !wants(&[("filter.stack", "*")], "", &[(SERVICE, "x")]));
        assert!(wants(&[("filter.stack", "shop")], "", &[(STACK, "shop")]) && !wants(&[("filter.stack", "sho")], "", &[(STACK, "shop")]));
        assert!(!wants(&[("filter.name", "web*"), ("filter.stack", "shop")], "db", &[(STACK, "shop")]));
    }

    #[test]
    fn streams() {
        assert_eq!(filter(&[]).streams(), [true, true]);
        assert_eq!(filter(&[("filter.sources", "stderr")]).streams(), [false, true]);
        assert_eq!(filter(&[("filter.sources", "stdout,stderr")]).streams(), [true, true]);
    }

    #[test]
    fn what_is_refused_is_told() {
        for (option, value) in [
            ("filter.name", "web["),
            ("filter.labels", "a"),
            ("filter.labels", "a:"),
            ("filter.labels", "a:b,"),
            ("filter.labels", "a:[b-]"),
            ("filter.id", "web"),
            ("filter.sources", "stdin"),
            ("filter.sources", "stdout,"),
        ] {
            let refused = Filter::default().take(option, value).unwrap_err();
            assert!(refused.contains(&format!("{option}=")), "{refused}");
        }
    }
}
