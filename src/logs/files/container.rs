//! One container as consumers see it: who it is, its files in order, and how far each consumer has acknowledged it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::LogFile;
use super::signal::Kick;
use crate::logs::{ContainerId, ContainerMeta, Fingerprint, Place};

/// A container whose log is read: json-file driver, not excluded. The table publishes into it, consumers read and acknowledge; nobody waits for anybody.
#[derive(Debug)]
pub struct LoggedContainer {
    id: ContainerId,
    meta: Mutex<Arc<ContainerMeta>>,
    chain: Mutex<Arc<Vec<Arc<LogFile>>>>,
    changed: AtomicU64,
    is_ended: AtomicBool,
    is_removed: AtomicBool,
    consumers: Mutex<Vec<Consumer>>,
    /// An acknowledgement came since the table looked.
    is_acknowledged: AtomicBool,
    /// Files are kept only because they are not acknowledged, so the table wants to hear of it at once.
    is_awaited: AtomicBool,
    kick: Arc<Kick>,
}

/// What a consumer has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) acknowledged: Option<Place>,
    pub(super) is_finished: bool,
    /// It has nothing to do with this container.
    pub(super) is_unwanted: bool,
    /// At the bound of what is kept it gives way to others.
    pub(super) gives_way: bool,
}

impl Consumer {
    /// Whether nothing has to be kept for it.
    pub(super) const fn is_done(&self) -> bool {
        self.is_finished || self.is_unwanted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoggedContainer {
    pub(super) fn new(id: ContainerId, consumers: usize, kick: Arc<Kick>) -> Self {
        Self {
            id,
            meta: Mutex::default(),
            chain: Mutex::default(),
            changed: AtomicU64::new(0),
            is_ended: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            consumers: Mutex::new(vec![Consumer::default(); consumers]),
            is_acknowledged: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
            kick,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Who it is. Replaced when the files beside the log change: a rename, a start, an end.
    #[must_use]
    pub fn meta(&self) -> Arc<ContainerMeta> {
        Arc::clone(&lock(&self.meta))
    }

    /// Its files, oldest first: those on the disk, those in the spool, and removed ones that someone still needs.
    ///
    /// Go by the fingerprint when the chain is another: a copy in the spool takes the place of a file that is gone. What was taken from an older chain stays
    /// readable.
    #[must_use]
    pub fn chain(&self) -> Arc<Vec<Arc<LogFile>>> {
        Arc::clone(&lock(&self.chain))
    }

    /// Grows with every write, rotation and change of state: a cheap question at each wake-up. Ask before reading.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    /// Whether it does not run, or is removed: what is in the chain is all there will be until it is started again. Ask before reading to the end.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Whether its directory is gone. The chain then is complete: ask before taking it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Tells that everything before `at`, in the order of the chain, is acknowledged for this consumer. Until the first call nothing is. A place in a file
    /// that is not in the chain stands before all that are.
    pub fn acknowledge(&self, consumer: usize, at: Place) {
        self.update(consumer, |consumer| consumer.acknowledged = Some(at));
    }

    /// Tells that this removed container was read to its end and is acknowledged. When all consumers said so, it is forgotten; it may stand in the list for
    /// a moment more.
    pub fn finished(&self, consumer: usize) {
        self.update(consumer, |consumer| consumer.is_finished = true);
    }

    /// Tells that at the bound of what is kept this consumer's goes before that of others.
    pub fn gives_way(&self, consumer: usize) {
        self.update(consumer, |consumer| consumer.gives_way = true);
    }

    /// Tells whether this consumer reads this container at all. Of one that it does not want nothing is kept for it. Until the first call it does.
    pub fn set_wanted(&self, consumer: usize, is_wanted: bool) {
        self.update(consumer, |consumer| consumer.is_unwanted = !is_wanted);
    }

    fn update(&self, consumer: usize, change: impl FnOnce(&mut Consumer)) {
        if let Some(consumer) = lock(&self.consumers).get_mut(consumer) {
            change(consumer);
        }
        if !self.is_acknowledged.swap(true, Ordering::AcqRel) && self.is_awaited.load(Ordering::Acquire) {
            self.kick.kick();
        }
    }

    /// What is still needed: the bytes behind what the slowest consumer has acknowledged, and the first file of those in the chain that has such. What stands
    /// before that file may go.
    #[must_use]
    pub fn outstanding(&self) -> (u64, Option<Fingerprint>) {
        let chain = self.chain();
        let rank = |consumer: &Consumer| {
            let place = consumer.acknowledged?;
            Some((chain.iter().position(|file| file.fingerprint() == place.file)?, place.offset))
        };
        let slowest = self.consumers().iter().filter(|consumer| !consumer.is_finished).map(rank).min();
        // Without a consumer that has begun, all of it is needed; without any consumer, nothing.
        let (at, offset) = match slowest {
            Some(place) => place.unwrap_or((0, 0)),
            None => return (0, None),
        };
        let bytes: u64 = chain.iter().skip(at).filter_map(|file| file.len().ok()).sum();
        (bytes.saturating_sub(offset), chain.get(at).map(|file| file.fingerprint()))
    }

    pub(super) fn consumers(&self) -> Vec<Consumer> {
        lock(&self.consumers).clone()
    }

    /// Takes note whether something was acknowledged since the last call.
    pub(super) fn take_acknowledged(&self) -> bool {
        self.is_acknowledged.swap(false, Ordering::AcqRel)
    }

    /// Says whether the table is to be told of acknowledgements at once.
    pub(super) fn set_awaited(&self, is_awaited: bool) {
        self.is_awaited.store(is_awaited, Ordering::Release);
    }

    pub(super) fn set_meta(&self, meta: ContainerMeta) {
        *lock(&self.meta) = Arc::new(meta);
    }

    pub(super) fn set_chain(&self, chain: Vec<Arc<LogFile>>) {
        *lock(&self.chain) = Arc::new(chain);
    }

    /// Sets the state, after the chain that belongs to it. Says whether it is another than before.
    pub(super) fn set_state(&self, is_ended: bool, is_removed: bool) -> bool {
        let was_removed = self.is_removed.swap(is_removed, Ordering::AcqRel);
        let was_ended = self.is_ended.swap(is_ended, Ordering::AcqRel);
        if was_removed && !is_removed {
            lock(&self.consumers).iter_mut().for_each(|consumer| consumer.is_finished = false);
        }
        (was_ended, was_removed) != (is_ended, is_removed)
    }

    pub(super) fn touch(&self) {
        self.changed.fetch_add(1, Ordering::AcqRel);
    }
}
