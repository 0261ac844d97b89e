//! `net/dev` of the containers' network namespaces, kept open between scrapes: opening it is three quarters of what reading it costs.
//!
//! An open one holds its namespace, and what is in it, though the container has ended. So it is closed as soon as the engine tells of the end, and not at the next
//! scrape, which may never come ([`OpenNetworks::follow`]); while the engine tells nothing, the next scrape sees that the cgroup has gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::docker::Inventory;
use crate::host::{Kept, Process, ReadError, Reader};
use crate::logs::ContainerId;

/// The open files, each of the first process that had this number. A handle of one table.
#[derive(Debug, Clone, Default)]
pub struct OpenNetworks {
    files: Arc<Mutex<BTreeMap<ContainerId, (u32, Kept)>>>,
}

impl OpenNetworks {
    /// Closes the files of containers that do not run any more, or have another first process, as soon as the inventory says so; until nobody tells of it.
    pub async fn follow(self, mut inventory: watch::Receiver<Arc<Inventory>>) {
        while inventory.changed().await.is_ok() {
            let now = inventory.borrow_and_update().clone();
            self.files().retain(|id, (pid, _)| now.containers.get(id).is_some_and(|container| container.pid == Some(*pid)));
        }
        self.files().clear();
    }

    /// Reads `net/dev` of the container's first process, and leaves it open.
    ///
    /// # Errors
    /// As [`Reader::of_process`].
    pub(super) fn read<'a>(&self, id: &ContainerId, pid: u32, process: &Process, host: &'a mut Reader) -> Result<&'a [u8], ReadError> {
        let mut files = self.files();
        if files.get(id).is_none_or(|(of, _)| *of != pid) {
            files.insert(id.clone(), (pid, Kept::default()));
        }
        match files.get_mut(id) {
            Some((_, slot)) => host.kept_of_process(process, "net/dev", slot),
            None => host.of_process(process, "net/dev"),
        }
    }

    /// Closes the container's.
    pub(super) fn close(&self, id: &ContainerId) {
        self.files().remove(id);
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<ContainerId, (u32, Kept)>> {
        // The table is whole between any two statements.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::docker::{Container, Inspected, Labelling};
    use crate::host::Root;

    fn container(digit: char, pid: Option<u32>) -> Arc<Container> {
        let state = if pid.is_some() { "running" } else { "exited" };
        let told = Inspected { id: digit.to_string().repeat(64), pid, state: state.to_owned(), ..Inspected::default() };
        Arc::new(Labelling::default().container(told).unwrap())
    }

    fn inventory(containers: &[Arc<Container>]) -> Arc<Inventory> {
        let containers = containers.iter().map(|container| (container.id.clone(), Arc::clone(container))).collect();
        Arc::new(Inventory { containers, ..Inventory::default() })
    }

    /// A namespace is not held longer than its container lives, though nobody scrapes.
    #[tokio::test]
    async fn what_has_ended_is_closed_at_once() {
        let pid = std::process::id();
        let mut host = Reader::new(Arc::new(Root::find(None, None, None, None)));
        let process = host.process(pid).unwrap();
        let living: Vec<_> = ['a', 'b', 'c', 'd'].into_iter().map(|digit| container(digit, Some(pid))).collect();
        let (told, inventory_of) = watch::channel(inventory(&living));
        let open = OpenNetworks::default();
        for container in &living {
            for _ in 0..2 {
                assert!(open.read(&container.id, pid, &process, &mut host).unwrap().starts_with(b"Inter-"));
            }
        }
        assert_eq!(open.files().len(), 4);
        let follows = tokio::spawn(open.clone().follow(inventory_of));
        // One lives on, one was started anew, one has ended, one is gone.
        told.send_replace(inventory(&[Arc::clone(&living[0]), container('b', Some(1)), container('c', None)]));
        let left = async {
            while open.files().len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), left).await.expect("they are closed");
        assert!(open.files().contains_key(&living[0].id));
        open.close(&living[0].id);
        assert!(open.files().is_empty());
        drop(told);
        follows.await.unwrap();
    }
}
