//! The part of a route, of which all its workers tell.

use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::Part;

/// The part as one worker tells of it: the route works when all of its workers do.
#[derive(Debug, Clone)]
pub(super) struct WorkerPart {
    part: Part,
    worker: usize,
    /// By worker, what is wrong.
    faults: Arc<Mutex<Vec<Option<String>>>>,
}

impl WorkerPart {
    /// For a route of one worker.
    pub(super) fn new(part: Part) -> Self {
        Self { part, worker: 0, faults: Arc::new(Mutex::new(vec![None])) }
    }

    /// One for each of so many workers.
    pub(super) fn share(part: &Part, workers: usize) -> Vec<Self> {
        let faults = Arc::new(Mutex::new(vec![None; workers]));
        (0..workers).map(|worker| Self { part: part.clone(), worker, faults: Arc::clone(&faults) }).collect()
    }

    /// This worker works.
    pub(super) fn ok(&self) {
        self.tell(None);
    }

    /// This worker does not work, or not wholly.
    pub(super) fn degraded(&self, why: impl Into<String>) {
        self.tell(Some(why.into()));
    }

    /// Told under the lock, so that what is told last is what is true last.
    fn tell(&self, fault: Option<String>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = faults.get_mut(self.worker) {
            *of = fault;
        }
        match faults.iter().flatten().next() {
            Some(why) => self.part.degraded(why.clone()),
            None => self.part.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Parts, State};

    #[test]
    fn a_route_works_when_all_its_workers_do() {
        let parts = Parts::default();
        let workers = WorkerPart::share(&parts.part("route:x"), 2);
        let told = || parts.all().pop().map(|(_, state)| state);
        workers[0].ok();
        assert_eq!(told(), Some(State::Ok));
        workers[1].degraded("b");
        workers[0].ok();
        assert_eq!(told(), Some(State::Degraded("b".into())), "one that works does not hide one that does not");
        workers[0].degraded("a");
        workers[1].ok();
        assert_eq!(told(), Some(State::Degraded("a".into())));
        workers[0].ok();
        assert_eq!(told(), Some(State::Ok));
    }
}
