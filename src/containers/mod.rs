//! Container metrics: the inventory's names on the cgroup's numbers, in cAdvisor's families.

/// Stand-in.
#[derive(Debug)]
pub struct ContainersCollector;
impl ContainersCollector {
    /// Stand-in.
    pub fn new(_: tokio::sync::watch::Receiver<std::sync::Arc<crate::docker::Inventory>>) -> Self {
        Self
    }
}
impl crate::collect::Collector for ContainersCollector {
    fn collect(&mut self, _: &mut crate::collect::Pass<'_>) -> Result<crate::collect::Presence, crate::collect::CollectError> {
        Ok(crate::collect::Presence::Absent)
    }
}
