//! A container with one log file (`max-file=1`): the engine throws it away at the very moment it is full. So what somebody has not acknowledged of a file
//! that is past half its `max-size` is copied while it is still written, and copied again as it grows. The copy is what remains when skep is killed in that
//! moment, or when the file is written anew in its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::chain::{self, Kept};
use super::table::Table;
use crate::logs::spool::{self, CopyJob, Job};
use crate::logs::{ContainerId, Fingerprint};

/// Into how many pieces `max-size` is divided: with each that is full the copy is made again.
const STEPS: u64 = 4;

/// The copy of a file that is still written.
#[derive(Debug)]
pub(super) struct PartCopy {
    file: Fingerprint,
    pub(super) ticket: u64,
    copy: Option<PathBuf>,
    /// How long the file was when it was last copied.
    length: u64,
    /// Set to end the copying that is under way.
    job: Option<Arc<AtomicBool>>,
}

impl Table {
    /// Copies what is written of a file that will be thrown away, when it is time to, and lets go of a copy that nobody needs any more.
    pub(super) fn insure(&mut self, id: &ContainerId) {
        if self.spool_dir.is_none() {
            return;
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(max_size) = entry.chain.max_size.filter(|size| *size > 0 && entry.chain.is_one_file) else { return };
        let log = entry.chain.live().filter(|log| !log.is_cut()).cloned();
        let length = log.as_ref().and_then(|log| log.len().ok()).unwrap_or(0);
        let known = entry.part.as_ref().map_or(0, |part| if part.job.is_some() { u64::MAX } else { part.length });
        if entry.part.is_none() && length < max_size / 2 {
            return;
        }
        let needs = entry.chain.unacknowledged(&entry.container.consumers());
        if let Some(part) = &entry.part {
            let of = entry.chain.files.iter().zip(&needs).find(|(file, _)| file.log().is_some_and(|log| log.fingerprint() == part.file));
            let is_needed = of.is_some_and(|(file, need)| need.is_some() && matches!(file.kept, Kept::No | Kept::Copying(..)));
            if !is_needed {
                self.drop_part(id);
                return;
            }
        }
        let Some((log, from)) = log.zip(needs.last().copied().flatten()) else { return };
        let is_time = length >= max_size / 2 && length >= known.saturating_add(max_size / STEPS);
        let is_other = entry.part.as_ref().is_some_and(|part| part.file != log.fingerprint());
        if !is_time || is_other || from >= length {
            return;
        }
        let bytes = length - from;
        let before = entry.part.as_ref().map_or(0, |part| self.ledger.bytes(part.ticket));
        if self.ledger.exceeds(bytes.saturating_sub(before)) {
            return;
        }
        let ticket = match &entry.part {
            Some(part) => part.ticket,
            None => self.ledger.add(id.clone(), bytes, false),
        };
        self.ledger.resize(ticket, bytes);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let copy = entry.part.take().and_then(|part| part.copy);
        entry.part = Some(PartCopy { file: log.fingerprint(), ticket, copy, length, job: Some(Arc::clone(&is_cancelled)) });
        let (meta, order) = (entry.meta.clone().unwrap_or_default(), chain::order(&entry.chain));
        self.spool.send(Job::Copy(CopyJob { ticket, container: id.clone(), log, from, meta, order, is_cancelled, is_part: true }));
    }

    /// Takes what came of a copy. False when it was none of these.
    pub(super) fn take_part(&mut self, id: &ContainerId, ticket: u64, result: &std::io::Result<Option<PathBuf>>) -> bool {
        let part = self.entries.get_mut(id).and_then(|entry| entry.part.as_mut());
        let Some(part) = part.filter(|part| part.ticket == ticket) else { return false };
        part.job = None;
        match result {
            Ok(Some(path)) => {
                if let Some(old) = part.copy.replace(path.clone()).filter(|old| old != path) {
                    self.spool.send(Job::Remove(old));
                }
                self.ledger.set_copied(ticket);
            }
            Ok(None) => {}
            Err(_) => self.metrics.file_error("spool"),
        }
        self.metrics.spool_bytes.set(self.ledger.copied());
        true
    }

    /// The file was written anew in its place: what was copied of it stands in the chain before it. Called before the file gets its new name.
    pub(super) fn save_part(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(file) = entry.chain.cut_file() else { return };
        if entry.part.as_ref().is_some_and(|part| part.file == file && part.job.is_some()) {
            // What is copied at this moment was, or was not, before the file was cut. The next look comes with the answer.
            entry.chain.postpone_cut();
            return;
        }
        let Some(part) = entry.part.take_if(|part| part.file == file) else { return };
        match part.copy.map(|path| (spool::open(&path), path)) {
            Some((Ok(log), path)) => entry.chain.put_before_live(Arc::new(log), Kept::Copied(part.ticket, path)),
            Some((Err(_), _)) => {
                self.metrics.file_error("spool");
                self.ledger.remove(part.ticket);
            }
            None => self.ledger.remove(part.ticket),
        }
    }

    /// Lets go of the copy of a container's file that is still written.
    pub(super) fn drop_part(&mut self, id: &ContainerId) {
        let Some(part) = self.entries.get_mut(id).and_then(|entry| entry.part.take()) else { return };
        self.release_part(part);
    }

    pub(super) fn release_part(&mut self, part: PartCopy) {
        self.ledger.remove(part.ticket);
        if let Some(job) = part.job {
            job.store(true, Ordering::Release);
        }
        if let Some(path) = part.copy {
            self.spool.send(Job::Remove(path));
        }
        self.metrics.spool_bytes.set(self.ledger.copied());
    }
}
