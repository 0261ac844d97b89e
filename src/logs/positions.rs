//! The cursor of a route as its workers share it: one file whatever their number, so that the number may change from start to start.
//!
//! ```text
//! worker 0 ─┐ put: its own positions        save: all positions, in one atomic write
//! worker 1 ─┼──────────────▶ memory ─────────────────────────▶ <state>/cursors/<route>.json
//! worker 2 ─┘
//! ```
//!
//! Memory is locked for moments only. While one worker waits for the disk another may put; what it put goes with the next write, and those whose positions
//! a write took along need none of their own.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::ContainerId;
use super::cursor::{Cursor, CursorFile, Found, Position};

/// The positions of one route.
#[derive(Debug)]
pub struct Positions {
    route: String,
    memory: Mutex<Memory>,
    disk: Mutex<Disk>,
    /// Whether there is a cursor on the disk.
    is_there: AtomicBool,
}

#[derive(Debug, Default)]
struct Memory {
    cursor: Cursor,
    /// Whether the cursor was looked for, and whether it was there.
    is_loaded: bool,
    was_found: bool,
    /// By worker, whether it has met the containers of the start.
    begun: Vec<bool>,
    /// Grows with every change.
    changes: u64,
    /// By worker, age in seconds of the oldest record that is not acknowledged, and bytes that are not.
    lags: Vec<(f64, u64)>,
}

#[derive(Debug, Default)]
struct Disk {
    file: Option<CursorFile>,
    /// The changes that it has.
    changes: u64,
}

/// What a worker put: a mark to save up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of so many workers a container belongs to: by its id alone, so that each stream stays with one.
#[must_use]
pub fn worker_of(id: &ContainerId, workers: usize) -> usize {
    if workers <= 1 {
        return 0;
    }
    usize::try_from(xxh3_64(id.as_str().as_bytes()) % workers as u64).unwrap_or(0)
}

impl Positions {
    /// No positions yet, for a route with so many workers.
    #[must_use]
    pub fn new(route: &str, workers: usize) -> Self {
        let workers = workers.max(1);
        let memory = Memory { begun: vec![false; workers], lags: vec![(0.0, 0); workers], ..Memory::default() };
        Self { route: route.to_owned(), memory: Mutex::new(memory), disk: Mutex::default(), is_there: AtomicBool::new(false) }
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        lock(&self.memory).begun.len()
    }

    /// Reads the cursor, if no worker has done so yet. Without a state directory there is none, and positions live as long as the process. Where the state
    /// directory does not work (`state_works`), a cursor that cannot be read is none: the logs are shipped all the same.
    ///
    /// # Errors
    /// A sentence, when it cannot be read: beginning anew would send everything twice.
    pub fn load(&self, state: Option<&Path>, state_works: bool) -> Result<(), String> {
        let route = self.route.as_str();
        let (mut disk, mut memory) = (lock(&self.disk), lock(&self.memory));
        if memory.is_loaded {
            return Ok(());
        }
        if let Some(state) = state {
            let file = CursorFile::new(state, route);
            match file.load(route) {
                Err(error) if state_works => return Err(format!("its cursor cannot be read: {error}")),
                Err(error) => tracing::warn!(route, "begins anew, for its cursor cannot be read: {error}"),
                Ok(Found::Cursor(found)) => {
                    memory.cursor = found;
                    memory.was_found = true;
                    self.is_there.store(true, Ordering::Release);
                }
                Ok(Found::Nothing) => {}
                Ok(Found::Odd(why)) => {
                    tracing::error!(route, "{why}; the route begins anew, and what is sent again is recognised by its id");
                }
            }
            disk.file = Some(file);
        }
        memory.is_loaded = true;
        Ok(())
    }

    /// Looks at the cursor. Nothing that waits may be done meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Cursor) -> T) -> T {
        look(&lock(&self.memory).cursor)
    }

    /// Whether a container that the cursor does not know is newer than it: there was a cursor, or this worker has met the containers of the start.
    #[must_use]
    pub fn has_history(&self, worker: usize) -> bool {
        let memory = lock(&self.memory);
        memory.was_found || memory.begun.get(worker).copied().unwrap_or(false)
    }

    /// This worker has met the containers of the start, and puts their positions next.
    pub fn begin(&self, worker: usize) {
        if let Some(begun) = lock(&self.memory).begun.get_mut(worker) {
            *begun = true;
        }
    }

    /// Takes positions in, and what the sink wants to be kept with them. `None` when the cursor on the disk has all of it already.
    pub fn put(&self, positions: &[(ContainerId, Position)], sink: Option<serde_json::Value>) -> Option<Mark> {
        let is_there = self.is_there();
        let mut memory = lock(&self.memory);
        if positions.is_empty() && sink == memory.cursor.sink && is_there {
            return None;
        }
        for (id, position) in positions {
            memory.cursor.containers.insert(id.clone(), position.clone());
        }
        memory.cursor.sink = sink;
        memory.changes += 1;
        Some(Mark(memory.changes))
    }

    /// Forgets the oldest position of those that `is_gone` has, when they are more than `kept`.
    pub fn forget_oldest(&self, kept: usize, is_gone: impl Fn(&ContainerId) -> bool) {
        let mut memory = lock(&self.memory);
        if memory.cursor.containers.len() <= kept {
            return;
        }
        let gone = || memory.cursor.containers.iter().filter(|(id, _)| is_gone(id));
        if gone().count() <= kept {
            return;
        }
        let oldest = gone().min_by_key(|(_, position)| position.time).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            memory.cursor.containers.remove(&id);
        }
    }

    /// Brings what was put, up to a mark at least, to the disk. Before all workers of a new route have begun nothing is written: containers that one of
    /// them has not met yet would seem to be new at the next start, and be read from their beginning whatever `logs.backfill` says.
    ///
    /// # Errors
    /// What the system said. The old cursor is then still there.
    pub fn save(&self, mark: Mark) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        if self.is_there() && disk.changes >= mark.0 {
            return Ok(());
        }
        let (cursor, changes) = {
            let memory = lock(&self.memory);
            if !memory.was_found && !memory.begun.iter().all(|begun| *begun) {
                return Ok(());
            }
            (memory.cursor.clone(), memory.changes)
        };
        let Some(file) = &mut disk.file else { return Ok(()) };
        file.save(&self.route, &cursor)?;
        disk.changes = changes;
        self.is_there.store(true, Ordering::Release);
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Acquire)
    }

    /// Whether the sink is cut back to the cursor at the next start. What is written beyond the cursor is lost then, when the files that it came from
    /// are gone.
    #[must_use]
    pub fn is_cut_back(&self) -> bool {
        self.is_there() && lock(&self.memory).cursor.sink.is_some()
    }

    /// Takes what one worker measured; gives the age of the oldest record that any of them has, and the bytes of all together.
    pub fn measure(&self, worker: usize, age: f64, bytes: Option<u64>) -> (f64, u64) {
        let mut memory = lock(&self.memory);
        if let Some(lag) = memory.lags.get_mut(worker) {
            *lag = (age, bytes.unwrap_or(lag.1));
        }
        memory.lags.iter().fold((0.0, 0), |(oldest, sum), (age, bytes)| (age.max(oldest), bytes.saturating_add(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Fingerprint, Place};
    use proptest::prelude::*;

    fn id(number: u64) -> ContainerId {
        ContainerId::new(&format!("{number:064x}")).unwrap()
    }

    fn position(offset: u64) -> Position {
        let place = Place { file: Fingerprint { first_time: 1, hash: 1 }, offset };
        Position { place, time: i64::try_from(offset).unwrap(), held: [None, None], runs: [None, None], windows: [None, None] }
    }

    fn opened(state: &Path, workers: usize) -> Positions {
        let positions = Positions::new("es", workers);
        positions.load(Some(state), true).unwrap();
        positions
    }

    fn on_disk(state: &Path) -> Option<Cursor> {
        match CursorFile::new(state, "es").load("es").unwrap() {
            Found::Cursor(cursor) => Some(cursor),
            _ => None,
        }
    }

    /// The number of workers changes from start to start, and every position is found again.
    #[test]
    fn one_cursor_whatever_the_number_of_workers() {
        let state = tempfile::tempdir().unwrap();
        for (start, workers) in [1usize, 4, 2, 1].into_iter().enumerate() {
            let positions = opened(state.path(), workers);
            let offset = start as u64;
            positions.read(|cursor| assert!(cursor.containers.values().all(|position| position.place.offset + 1 == offset)));
            assert_eq!(positions.has_history(workers - 1), start > 0);
            (0..workers).for_each(|worker| positions.begin(worker));
            std::thread::scope(|scope| {
                for worker in 0..workers {
                    let positions = &positions;
                    scope.spawn(move || {
                        for number in (0..100).filter(|number| worker_of(&id(*number), workers) == worker) {
                            let mark = positions.put(&[(id(number), position(offset))], None).unwrap();
                            positions.save(mark).unwrap();
                        }
                    });
                }
            });
            let cursor = on_disk(state.path()).unwrap();
            assert_eq!(cursor.containers.len(), 100);
            assert!(cursor.containers.values().all(|position| position.place.offset == offset));
        }
    }

    /// A cursor that knows the containers of some workers only would make those of the others seem new.
    #[test]
    fn a_new_route_is_saved_when_all_workers_have_begun() {
        let state = tempfile::tempdir().unwrap();
        let positions = opened(state.path(), 2);
        positions.begin(0);
        assert!(positions.has_history(0) && !positions.has_history(1));
        let mark = positions.put(&[(id(1), position(1))], None).unwrap();
        positions.save(mark).unwrap();
        assert_eq!(on_disk(state.path()), None);
        positions.begin(1);
        let mark = positions.put(&[], None).unwrap();
        positions.save(mark).unwrap();
        assert_eq!(on_disk(state.path()).unwrap().containers.len(), 1);
        assert_eq!(positions.put(&[], None), None, "there is nothing new");
    }

    #[test]
    fn a_save_that_fails_is_told_to_whoever_waits_for_it() {
        let state = tempfile::tempdir().unwrap();
        let positions = opened(state.path(), 1);
        positions.begin(0);
        std::fs::write(state.path().join("cursors"), "").unwrap();
        let mark = positions.put(&[(id(1), position(1))], None).unwrap();
        positions.save(mark).unwrap_err();
        std::fs::remove_file(state.path().join("cursors")).unwrap();
        positions.save(mark).unwrap();
        assert_eq!(on_disk(state.path()).unwrap().containers.len(), 1);
    }

    #[test]
    fn the_oldest_of_those_that_are_gone_is_forgotten() {
        let positions = Positions::new("es", 1);
        positions.put(&(0..5).map(|number| (id(number), position(9 - number))).collect::<Vec<_>>(), None);
        let is_gone = |of: &ContainerId| *of != id(4);
        positions.forget_oldest(3, is_gone);
        positions.forget_oldest(3, is_gone);
        let left = positions.read(|cursor| cursor.containers.keys().cloned().collect::<Vec<_>>());
        assert_eq!(left, [id(0), id(1), id(2), id(4)]);
    }

    #[test]
    fn lags_of_all_workers() {
        let positions = Positions::new("es", 2);
        assert_eq!(positions.measure(0, 3.0, Some(10)), (3.0, 10));
        assert_eq!(positions.measure(1, 1.0, Some(5)), (3.0, 15));
        assert_eq!(positions.measure(0, 0.0, None), (1.0, 15));
    }

    proptest! {
        #[test]
        fn every_container_has_one_worker(number: u64, workers in 0usize..20) {
            prop_assert!(worker_of(&id(number), workers) < workers.max(1));
        }
    }
}
