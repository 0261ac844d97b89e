//! Which network interfaces are exported: one rule for all collectors that have a `device`.

use super::filter::Filter;

/// The rule.
///
/// On a Swarm node every container has one or more `veth` interfaces, each with a random name that lives as long as the container: hundreds of series that
/// nobody asks for and that never come again (node_exporter issue 1446). They are left out unless they are asked for.
#[derive(Debug)]
pub(super) struct Interfaces {
    filter: Filter,
    containers: bool,
}

impl Interfaces {
    /// A rule of a filter, and of whether the containers' ends are wanted. An include pattern asks for what it names, `veth` or not.
    pub(super) const fn new(filter: Filter, containers: bool) -> Self {
        Self { filter, containers }
    }

    /// Whether the interface `name` is exported.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        (self.containers || self.filter.is_asked() || !name.starts_with(b"veth")) && self.filter.keeps(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, FlagKind, Settings};

    #[test]
    fn veth_is_left_out_unless_asked_for() {
        let include = Flag::new("in", FlagKind::One("REGEX"), None, "");
        let exclude = Flag::new("out", FlagKind::One("REGEX"), None, "");
        let mut settings = Settings::default();
        let plain = Interfaces::new(Filter::default(), false);
        assert!(plain.keeps(b"eth0") && plain.keeps(b"docker_gwbridge") && !plain.keeps(b"veth1234567"));
        assert!(Interfaces::new(Filter::default(), true).keeps(b"veth1234567"));
        settings.set("in", vec!["^veth".into()]);
        let asked = Interfaces::new(Filter::of(&settings, &include, &exclude).unwrap(), false);
        assert!(asked.keeps(b"veth1234567") && !asked.keeps(b"eth0"));
    }
}
