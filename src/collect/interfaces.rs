//! Which network interfaces are exported: one rule for all collectors that have a `device`.

use super::filter::Filter;
use crate::config::{Flag, FlagKind, Settings};
use crate::host::{Reader, parse};

const CONTAINERS: Flag = Flag::new(
    "collector.interfaces.containers",
    FlagKind::Switch,
    Some("false"),
    "Export the containers' interfaces too (veth, members of Docker's bridges), which come and go with them; node_exporter does.",
)
.or(&["collector.netdev.container-interfaces"]);
const INCLUDE: Flag = Flag::new(
    "collector.interfaces.include",
    FlagKind::One("REGEX"),
    None,
    "Network interfaces to export, for all collectors at once; contradicts collector.interfaces.exclude.",
);
const EXCLUDE: Flag = Flag::new(
    "collector.interfaces.exclude",
    FlagKind::One("REGEX"),
    None,
    "Network interfaces to leave out, for all collectors at once; contradicts collector.interfaces.include.",
);

/// The flags of the rule, which belong to no one collector.
pub(super) const FLAGS: &[Flag] = &[CONTAINERS, INCLUDE, EXCLUDE];

/// The rule.
///
/// On a Swarm node every container has one or more interfaces on the host, each with a random name that lives as long as the container: hundreds of series that
/// nobody asks for and that never come again (node_exporter issue 1446). They are left out unless they are asked for. An interface is a container's
///
/// - when its name begins with `veth`, as Docker's, containerd's and podman's do (the kernel does not tell a veth in sysfs: it has no `DEVTYPE`);
/// - when it is the member of a bridge that Docker made (`docker0`, `docker_gwbridge`, `br-` and twelve hexadecimal digits) and has no hardware behind it: a
///   macvlan or a tap that an engine was told to name otherwise. A network card stays, whatever bridge it was put into.
///
/// A pattern that includes asks for what it names, a container's or not.
#[derive(Debug)]
pub(super) struct Interfaces {
    own: Filter,
    shared: Filter,
    all: bool,
}

impl Interfaces {
    /// The rule for a collector that has a filter of its own beside the shared one.
    ///
    /// # Errors
    /// When the shared patterns are none, or contradict each other.
    pub(super) fn of(settings: &Settings, own: Filter) -> Result<Self, String> {
        let shared = Filter::of(settings, &INCLUDE, &EXCLUDE)?;
        let all = settings.is_on(CONTAINERS.name) || settings.is_on(super::AS_NODE_EXPORTER.name) || own.is_asked() || shared.is_asked();
        Ok(Self { own, shared, all })
    }

    /// Whether the interface `name` is exported, as far as its name tells.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        (self.all || !name.starts_with(b"veth")) && self.own.keeps(name) && self.shared.keeps(name)
    }

    /// Whether there is a bridge of Docker's among all interfaces: without one no interface [is a container's](Interfaces::is_containers) by its bridge.
    pub(super) fn has_bridge<'n>(mut names: impl Iterator<Item = &'n [u8]>) -> bool {
        names.any(|name| std::str::from_utf8(name).is_ok_and(is_dockers))
    }

    /// Whether an interface that [`Interfaces::keeps`] lets through is left out after all, for it is a member of a container's bridge. One `readlink(2)`; the
    /// sysfs that is read must be of the interface's namespace.
    pub(super) fn is_containers(&self, host: &Reader, name: &[u8]) -> bool {
        // A name with a slash cannot be one of the kernel's, and must not lead out of the directory.
        let Ok(text) = std::str::from_utf8(name) else { return false };
        if self.all || text.contains('/') {
            return false;
        }
        host.sys_link(&format!("class/net/{text}/master")).is_ok_and(|link| {
            let bridge = link.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            is_dockers(bridge) && !host.sys_has(&format!("class/net/{text}/device"))
        })
    }
}

/// Whether a bridge has a name that Docker gives.
fn is_dockers(bridge: &str) -> bool {
    let is_id = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(bridge, "docker0" | "docker_gwbridge") || bridge.strip_prefix("br-").is_some_and(is_id)
}

/// The name of an interface as it stands in a path of sysfs: a slash, which no interface of the kernel's has in its name, does not lead out of the directory.
pub(super) fn path_name(name: &[u8]) -> String {
    parse::text(name).replace('/', "!")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::host::Root;

    const IN: Flag = Flag::new("in", FlagKind::One("REGEX"), None, "");
    const OUT: Flag = Flag::new("out", FlagKind::One("REGEX"), None, "");

    fn rule(given: &[(&str, &str)]) -> Interfaces {
        let mut settings = Settings::default();
        for (name, value) in given {
            settings.set(name, vec![(*value).to_owned()]);
        }
        Interfaces::of(&settings, Filter::of(&settings, &IN, &OUT).unwrap()).unwrap()
    }

    #[test]
    fn veth_is_left_out_unless_asked_for() {
        let plain = rule(&[]);
        assert!(plain.keeps(b"eth0") && plain.keeps(b"docker_gwbridge") && !plain.keeps(b"veth1234567"));
        assert!(rule(&[(CONTAINERS.name, "true")]).keeps(b"veth1234567"));
        for include in ["in", INCLUDE.name] {
            let asked = rule(&[(include, "^veth")]);
            assert!(asked.keeps(b"veth1234567") && !asked.keeps(b"eth0"));
        }
    }

    #[test]
    fn both_filters_have_a_say() {
        let rule = rule(&[("out", "^a"), (EXCLUDE.name, "^b")]);
        assert!(rule.keeps(b"c") && !rule.keeps(b"a") && !rule.keeps(b"b"));
    }

    #[test]
    fn members_of_dockers_bridges_are_containers() {
        let directory = tempfile::tempdir().unwrap();
        let members = [("c1", "docker0"), ("c2", "br-0123456789ab"), ("card", "docker0"), ("vm", "br-lan"), ("bad", "br-0123456789xy")];
        for (name, bridge) in members {
            let path = directory.path().join("class/net").join(name);
            std::fs::create_dir_all(&path).unwrap();
            symlink(format!("../{bridge}"), path.join("master")).unwrap();
        }
        std::fs::create_dir(directory.path().join("class/net/card/device")).unwrap();
        let reader = Reader::new(Arc::new(Root::find(None, Some(directory.path().into()), None, None)));
        let left_out = |rule: &Interfaces| -> Vec<&str> {
            members.iter().map(|(name, _)| *name).filter(|name| rule.is_containers(&reader, name.as_bytes())).collect()
        };
        assert_eq!(left_out(&rule(&[])), ["c1", "c2"]);
        assert!(left_out(&rule(&[(CONTAINERS.name, "true")])).is_empty());
        assert!(!rule(&[]).is_containers(&reader, b"nothing") && !rule(&[]).is_containers(&reader, b"../net/c1"));
    }
}
