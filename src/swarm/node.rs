//! Who this node is: decided once, at start, for metrics and logs alike.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::Config;
use crate::docker::EngineInfo;
use crate::host::Reader;
use crate::model::LabelSet;
use crate::swarm::identity::own_container_id;

/// A node's name and id, and where they were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeIdentity {
    /// The node's name: the value of the constant label, and `host.name` of records.
    pub name: String,
    /// What told the name, for people.
    pub name_from: String,
    /// The node's id in the Swarm: `host.id` of records.
    pub id: Option<String>,
    /// What told the id, for people.
    pub id_from: Option<String>,
}

impl NodeIdentity {
    /// Decides: what was told (the Swarm templates `{{.Node.Hostname}}` and `{{.Node.ID}}` through the environment), else what the engine says of
    /// itself, else the host's files. The agent's own host name is the container's id, so it is asked last and only on a bare machine.
    ///
    /// # Errors
    /// A sentence, when the engine belongs to another node than the one that was told: every label would be wrong.
    pub fn decide(config: &Config, engine: Option<&EngineInfo>, host: &mut Reader) -> Result<Self, String> {
        let engine_id = engine.and_then(|info| info.node_id.as_deref()).filter(|id| !id.is_empty());
        if let (Some(told), Some(said)) = (config.node_id.as_deref(), engine_id)
            && told != said
        {
            return Err(format!(
                "node-id: '{told}' was told, but the engine at {} is node '{said}': every label would be wrong; tell the id of this node, or mount this \
                     node's engine",
                config.docker.host
            ));
        }
        let (id, id_from) = match (config.node_id.as_deref(), engine_id) {
            (Some(told), _) => (Some(told.to_owned()), Some("--node-id or NODE_ID".to_owned())),
            (None, Some(said)) => (Some(said.to_owned()), Some("the engine".to_owned())),
            (None, None) => (None, None),
        };
        let (name, name_from) = if let Some(told) = &config.node_name {
            (told.clone(), "--node-name or NODE_NAME".to_owned())
        } else if let Some(said) = engine.map(|info| info.name.clone()).filter(|name| !name.is_empty()) {
            (said, "the engine".to_owned())
        } else {
            from_files(config, host, own_container_id().is_some())
        };
        Ok(Self { name, name_from, id, id_from })
    }

    /// The label that goes onto every series.
    #[must_use]
    pub fn label(&self, config: &Config) -> LabelSet {
        config.host_label.iter().map(|name| (&**name, &*self.name)).fold(LabelSet::new(), |mut set, (name, value)| {
            set.push(name, value);
            set
        })
    }
}

fn from_files(config: &Config, host: &mut Reader, in_container: bool) -> (String, String) {
    // What a container has of its own says `/etc/hostname` too: the container's id, which names nobody.
    if in_container && config.root.is_own_rootfs() {
        return (
            String::from("unknown"),
            "nothing: / is the container's own and no engine answers; mount the host's / at /host/root, or set --node-name".to_owned(),
        );
    }
    let named = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        (!text.is_empty() && !text.contains(char::is_whitespace)).then_some(text)
    };
    let path: PathBuf = config.root.rootfs.join("etc/hostname");
    if let Some(name) = host.rootfs("etc/hostname").ok().and_then(named) {
        return (name, path.display().to_string());
    }
    // Of a bare machine only: seen from a container, <proc>/sys/kernel/hostname is the reader's own.
    if !in_container
        && !config.root.is_mounted()
        && let Some(name) = host.proc("sys/kernel/hostname").ok().and_then(named)
    {
        return (name, "the kernel".to_owned());
    }
    (String::from("unknown"), format!("nothing: {} cannot be read and no engine answers; set --node-name", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;

    fn named(rootfs: &std::path::Path, in_container: bool) -> (String, String) {
        let mut settings = Settings::default();
        settings.set("web.listen-address", vec![":7537".to_owned()]);
        settings.set("path.rootfs", vec![rootfs.display().to_string()]);
        let config = Config::of(settings).unwrap();
        let mut reader = Reader::new(Arc::new(config.root.clone()));
        from_files(&config, &mut reader, in_container)
    }

    #[test]
    fn a_container_s_own_host_name_names_no_node() {
        let (name, from) = named(std::path::Path::new("/"), true);
        assert_eq!(name, "unknown");
        assert!(from.contains("mount the host's /"), "{from}");
    }

    #[test]
    fn a_mounted_host_s_does() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/hostname"), "node-7\n").unwrap();
        for in_container in [true, false] {
            assert_eq!(named(directory.path(), in_container).0, "node-7");
        }
    }
}
