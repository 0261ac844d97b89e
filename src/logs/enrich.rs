//! Who wrote a record: the part of a document that is the same for every line of a container.

use regex::Regex;

use super::{ContainerId, ContainerMeta};

/// The rendered part of the documents of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrichment {
    tail: Vec<u8>,
    tty: bool,
}

impl Enrichment {
    /// Renders what is known of a container on a host. `host_id` is the Swarm node id. Of the labels those go into the record whose name `labels`
    /// matches; without it none does.
    #[must_use]
    pub fn new(id: &ContainerId, meta: &ContainerMeta, host_name: &str, host_id: Option<&str>, labels: Option<&Regex>) -> Self {
        let _ = (id, host_name, host_id, labels);
        Self { tail: Vec::new(), tty: meta.tty }
    }
}
