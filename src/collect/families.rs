//! Families that are met out of order: for collectors whose outer loop is over devices, or whose names are known only when the host was read.

use std::collections::BTreeMap;

use super::Presence;
use crate::exposition::Writer;
use crate::model::{Kind, LabelSet, Value};

/// Samples by family, gathered in any order and written family by family. For collectors of few devices: each sample is a string of its own. A collector
/// that meets hundreds of devices at every scrape keeps rows instead, as netdev does.
#[derive(Debug, Default)]
pub(super) struct Families {
    by_name: BTreeMap<String, Gathered>,
}

#[derive(Debug)]
struct Gathered {
    kind: Kind,
    help: String,
    samples: Vec<(LabelSet, Value)>,
}

impl Families {
    /// Adds a sample. The first sample of a family settles its type and its help. False, and nothing is added, when a sample with the same labels is there
    /// already: two of them would cost Prometheus the whole scrape.
    pub(super) fn add(&mut self, name: &str, kind: Kind, help: &str, labels: &[(&str, &str)], value: impl Into<Value>) -> bool {
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), Gathered { kind, help: help.to_owned(), samples: Vec::new() });
        }
        let Some(family) = self.by_name.get_mut(name) else { return false };
        let labels = LabelSet::of(labels.iter().copied());
        if family.samples.iter().any(|(known, _)| *known == labels) {
            return false;
        }
        family.samples.push((labels, value.into()));
        true
    }

    /// Adds a gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Into<Value>) -> bool {
        self.add(name, Kind::Gauge, help, labels, value)
    }

    /// Adds a counter.
    pub(super) fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Into<Value>) -> bool {
        self.add(name, Kind::Counter, help, labels, value)
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Writes all families, in the order of their names. [`Presence::Absent`] when there is none, for a collector that has nothing else to go by.
    pub(super) fn write(&self, out: &mut Writer) -> Presence {
        for (name, gathered) in &self.by_name {
            let mut family = out.family(name, gathered.kind, &gathered.help);
            for (labels, value) in &gathered.samples {
                family.sample_of(labels, &[], *value);
            }
        }
        if self.is_empty() { Presence::Absent } else { Presence::Present }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn families_are_written_whole() {
        let mut families = Families::default();
        assert!(families.is_empty());
        assert!(families.gauge("b", "B.", &[("device", "0")], 1u64));
        assert!(families.counter("a", "A.", &[("device", "0")], 2u64));
        assert!(families.gauge("b", "B.", &[("device", "1")], 3u64));
        assert!(!families.gauge("b", "B.", &[("device", "1")], 4u64));
        let mut out = Writer::new(Arc::default());
        assert_eq!(families.write(&mut out), Presence::Present);
        assert_eq!(
            std::str::from_utf8(out.text()).unwrap(),
            "# HELP a A.\n# TYPE a counter\na{device=\"0\"} 2\n# HELP b B.\n# TYPE b gauge\nb{device=\"0\"} 1\nb{device=\"1\"} 3\n"
        );
    }
}
