//! `node_uname_info` from uname(2).

use super::{CollectError, Collector, Entry, Pass, Presence, entry};
use crate::config::Settings;
use crate::model::{Kind, LabelSet};

pub(super) const ENTRY: Entry = entry!("uname", on, &[], build);

/// In a container uname(2) gives the container's name, the same on no two nodes and unknown to everybody (node_exporter issue 1237): the
/// node's identity takes its place wherever it is known.
fn build(settings: &Settings) -> Result<Box<dyn Collector>, String> {
    let system = rustix::system::uname();
    let sysname = system.sysname().to_string_lossy();
    let release = system.release().to_string_lossy();
    let version = system.version().to_string_lossy();
    let machine = system.machine().to_string_lossy();
    let nodename = system.nodename().to_string_lossy();
    let domainname = system.domainname().to_string_lossy();
    let labels = LabelSet::of([
        ("sysname", &*sysname),
        ("release", &*release),
        ("version", &*version),
        ("machine", &*machine),
        ("nodename", settings.one("node-name").unwrap_or(&nodename)),
        ("domainname", &*domainname),
    ]);
    Ok(Box::new(Uname { labels }))
}

/// What a kernel says of itself stays the same while it runs, so it is rendered once.
struct Uname {
    labels: LabelSet,
}

impl Collector for Uname {
    fn collect(&mut self, pass: &mut Pass<'_>) -> Result<Presence, CollectError> {
        let help = "Labeled system information as provided by the uname system call.";
        pass.out.family("node_uname_info", Kind::Gauge, help).sample_of(&self.labels, &[], 1u64);
        Ok(Presence::Present)
    }
}
