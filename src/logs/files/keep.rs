//! What is kept of files that leave the disk: how much, and who goes first when it is too much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::chain::{self, Content, Kept, Tracked};
use super::file::LogFile;
use super::table::{Entry, Table};
use crate::logs::ContainerId;
use crate::logs::spool::{self, Copied, CopyJob, Job};

/// Everything that is kept, in the order in which it came, in bytes.
#[derive(Debug)]
pub(super) struct Ledger {
    bound: u64,
    total: u64,
    next: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    container: ContainerId,
    bytes: u64,
    is_copied: bool,
}

impl Ledger {
    pub(super) const fn new(bound: u64) -> Self {
        Self { bound, total: 0, next: 0, held: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, container: ContainerId, bytes: u64, is_copied: bool) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.total += bytes;
        self.held.insert(ticket, Held { container, bytes, is_copied });
        ticket
    }

    pub(super) fn bytes(&self, ticket: u64) -> u64 {
        self.held.get(&ticket).map_or(0, |held| held.bytes)
    }

    /// Sets how much is kept under a ticket.
    pub(super) fn resize(&mut self, ticket: u64, bytes: u64) {
        if let Some(held) = self.held.get_mut(&ticket) {
            self.total = self.total - held.bytes + bytes;
            held.bytes = bytes;
        }
    }

    /// Takes note that it stands in the spool.
    pub(super) fn set_copied(&mut self, ticket: u64) {
        if let Some(held) = self.held.get_mut(&ticket) {
            held.is_copied = true;
        }
    }

    pub(super) fn remove(&mut self, ticket: u64) {
        if let Some(held) = self.held.remove(&ticket) {
            self.total -= held.bytes;
        }
    }

    /// Whether so many bytes more are too many.
    pub(super) const fn exceeds(&self, bytes: u64) -> bool {
        self.total.saturating_add(bytes) > self.bound
    }

    fn oldest(&self) -> Option<(u64, ContainerId)> {
        self.held.iter().next().map(|(ticket, held)| (*ticket, held.container.clone()))
    }

    /// Bytes that stand in the spool.
    pub(super) fn copied(&self) -> i64 {
        i64::try_from(self.held.values().filter(|held| held.is_copied).map(|held| held.bytes).sum::<u64>()).unwrap_or(i64::MAX)
    }
}

impl Table {
    /// Goes through a container's files: lets go what everybody has acknowledged, and sees to it that nothing else is lost when it leaves the disk.
    pub(super) fn keep(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let consumers = entry.container.consumers();
        let needs = entry.chain.unacknowledged(&consumers);
        let max_file = entry.meta.as_ref().map_or(1, |meta| meta.max_file);
        // With one file the engines before 23.0 leave a `.1`, which goes with the next rotation.
        let last = max_file.saturating_sub(1).max(1);
        let mut wanted = Vec::new();
        let mut is_awaited = entry.is_removed;
        let files = std::mem::take(&mut entry.chain.files);
        for (mut file, need) in files.into_iter().zip(needs) {
            if let Some(log) = file.log().filter(|_| !file.is_hidden)
                && log.compressed().is_some_and(|compressed| compressed.take_broken())
            {
                self.metrics.file_error("compressed");
                let (container, file, decoded) = (id.as_str(), log.fingerprint(), log.len().unwrap_or(0));
                tracing::warn!(container, %file, decoded, "a compressed log file is damaged: what is behind its first part is lost");
            }
            let is_gone = file.number.is_none();
            // What the disk has less of than the spool is of no use once it goes.
            let Some(from) = need.filter(|_| !(is_gone && file.is_hidden)) else {
                release(&mut file, &mut self.ledger, &self.spool);
                if is_gone {
                    close(file, &self.spool);
                } else {
                    entry.chain.files.push(file);
                }
                continue;
            };
            if is_gone
                && file.is_held()
                && let Kept::Copied(_, path) = &file.kept
            {
                match spool::open(path) {
                    Ok(copy) => {
                        if let Content::Known(log) = file.replace(Arc::new(copy)) {
                            self.spool.send(Job::Close(log));
                        }
                    }
                    Err(_) => self.metrics.file_error("spool"),
                }
            }
            if let Some(log) = file.log().filter(|log| log.is_final() && !file.is_hidden) {
                let is_leaving = is_gone || file.number.is_some_and(|number| number >= last);
                let is_unkept = matches!(file.kept, Kept::No) || (is_gone && matches!(file.kept, Kept::Evicted));
                if is_leaving && is_unkept {
                    wanted.push((Arc::clone(log), from, is_gone));
                }
            }
            is_awaited |= is_gone || file.kept.ticket().is_some();
            entry.chain.files.push(file);
        }
        entry.container.set_awaited(is_awaited || !wanted.is_empty());
        for (log, from, is_gone) in wanted {
            self.keep_file(id, &log, from, is_gone);
        }
        self.metrics.spool_bytes.set(self.ledger.copied());
        self.count_pinned(id);
        self.publish(id);
        self.insure(id);
    }

    /// Counts what descriptors keep of files that are gone.
    fn count_pinned(&mut self, id: &ContainerId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let held = entry.chain.files.iter().filter(|file| file.is_held());
        let pinned = held.filter_map(|file| file.log()?.len().ok()).sum();
        self.pinned = self.pinned - std::mem::replace(&mut entry.pinned, pinned) + pinned;
        self.metrics.pinned_bytes.set(i64::try_from(self.pinned).unwrap_or(i64::MAX));
    }

    /// Has a file copied, or its descriptor kept. At the bound the oldest are given up for it, if it is gone from the disk; one that is still there can wait.
    fn keep_file(&mut self, id: &ContainerId, log: &Arc<LogFile>, from: u64, is_gone: bool) {
        let has_spool = self.spool_dir.is_some();
        if !is_gone && !has_spool {
            return;
        }
        let bytes = log.len().unwrap_or(from).saturating_sub(from);
        while is_gone
            && self.ledger.exceeds(bytes)
            && let Some((ticket, container)) = self.next_to_go()
        {
            self.give_up(&container, ticket);
        }
        let is_too_much = self.ledger.exceeds(bytes);
        let Some(entry) = self.entries.get_mut(id) else { return };
        let order = chain::order(&entry.chain);
        let Some(at) = entry.chain.files.iter().position(|file| file.log().is_some_and(|other| Arc::ptr_eq(other, log))) else { return };
        let Some(file) = entry.chain.files.get_mut(at) else { return };
        if is_too_much {
            if is_gone {
                entry.chain.files.remove(at);
                self.spool.send(Job::GiveUp(Arc::clone(log), from, None));
            }
            return;
        }
        let ticket = self.ledger.add(id.clone(), bytes, false);
        if !has_spool {
            file.kept = Kept::Pinned(ticket);
            return;
        }
        let is_cancelled = Arc::new(AtomicBool::new(false));
        file.kept = Kept::Copying(ticket, Arc::clone(&is_cancelled));
        let meta = entry.meta.clone().unwrap_or_default();
        self.spool.send(Job::Copy(CopyJob {
            ticket,
            container: id.clone(),
            log: Arc::clone(log),
            from,
            meta,
            order,
            is_cancelled,
            is_part: false,
        }));
    }

    /// What goes at the bound: the oldest that only consumers need which give way, else the oldest of all.
    fn next_to_go(&self) -> Option<(u64, ContainerId)> {
        let is_given = |ticket: u64, container: &ContainerId| {
            let entry = self.entries.get(container)?;
            let mut consumers = entry.container.consumers();
            if !consumers.iter().any(|consumer| consumer.gives_way) {
                return None;
            }
            consumers.retain(|consumer| !consumer.gives_way);
            let at = entry.chain.files.iter().position(|file| file.kept.ticket() == Some(ticket))?;
            entry.chain.unacknowledged(&consumers).get(at)?.is_none().then_some(())
        };
        let mut held = self.ledger.held.iter();
        let given = held.find(|(ticket, held)| is_given(**ticket, &held.container).is_some());
        given.map(|(ticket, held)| (*ticket, held.container.clone())).or_else(|| self.ledger.oldest())
    }

    /// Gives up what is kept under a ticket. If the file is still on the disk nothing is lost with it.
    pub(super) fn give_up(&mut self, id: &ContainerId, ticket: u64) {
        self.ledger.remove(ticket);
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(part) = entry.part.take_if(|part| part.ticket == ticket) {
            self.release_part(part);
            return;
        }
        let needs = entry.chain.unacknowledged(&entry.container.consumers());
        let Some(at) = entry.chain.files.iter().position(|file| file.kept.ticket() == Some(ticket)) else { return };
        let need = needs.get(at).copied().flatten();
        let Some(file) = entry.chain.files.get_mut(at) else { return };
        let kept = std::mem::replace(&mut file.kept, Kept::Evicted);
        if let Kept::Copying(_, is_cancelled) = &kept {
            is_cancelled.store(true, Ordering::Release);
        }
        let copy = if let Kept::Copied(_, path) = kept { Some(path) } else { None };
        if file.number.is_some() {
            if let Some(path) = copy {
                self.spool.send(Job::Remove(path));
            }
            return;
        }
        let file = entry.chain.files.remove(at);
        if let Some(log) = file.log() {
            let from = need.unwrap_or_else(|| log.len().unwrap_or(u64::MAX));
            self.spool.send(Job::GiveUp(Arc::clone(log), from, copy));
        }
        self.count_pinned(id);
        self.publish(id);
    }

    /// At the start the bound may be another than before.
    pub(super) fn give_up_excess(&mut self) {
        while self.ledger.exceeds(0)
            && let Some((ticket, container)) = self.ledger.oldest()
        {
            self.give_up(&container, ticket);
        }
        self.metrics.spool_bytes.set(self.ledger.copied());
    }

    /// Takes what the spool's thread has done.
    pub(super) fn take_copies(&mut self) {
        for Copied { container, ticket, result } in self.spool.results() {
            if self.take_part(&container, ticket, &result) {
                self.update(&container);
                continue;
            }
            let file = self.entries.get_mut(&container).and_then(|entry| {
                let is_it = |file: &&mut Tracked| matches!(&file.kept, Kept::Copying(of, _) if *of == ticket);
                entry.chain.files.iter_mut().find(is_it)
            });
            match (result, file) {
                (Ok(Some(path)), Some(file)) => {
                    file.kept = Kept::Copied(ticket, path);
                    self.ledger.set_copied(ticket);
                    self.spool_part.ok();
                }
                // Acknowledged or given up while it was copied.
                (Ok(Some(path)), None) => self.spool.send(Job::Remove(path)),
                (Ok(None), _) => {}
                (Err(error), file) => {
                    self.metrics.file_error("spool");
                    self.spool_part.degraded(format!(
                        "a log file that is leaving the disk cannot be copied to the state directory ({error}); it is kept open until it is acknowledged, and the copy tried again"
                    ));
                    if let Some(file) = file {
                        file.kept = Kept::Pinned(ticket);
                    }
                }
            }
            self.keep(&container);
        }
    }

    /// Tries again what could not be copied.
    pub(super) fn retry_copies(&mut self, id: &ContainerId) {
        if self.spool_dir.is_none() {
            return;
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let mut is_any = false;
        for file in &mut entry.chain.files {
            if let Kept::Pinned(ticket) = file.kept {
                self.ledger.remove(ticket);
                file.kept = Kept::No;
                is_any = true;
            }
        }
        if is_any {
            self.keep(id);
        }
    }

    /// Lets go of files for which others stand.
    pub(super) fn let_go(&mut self, files: Vec<Tracked>) {
        for mut file in files {
            release(&mut file, &mut self.ledger, &self.spool);
            close(file, &self.spool);
        }
    }

    /// Lets go of everything of a container.
    pub(super) fn release_all(&mut self, entry: &mut Entry) {
        for mut file in std::mem::take(&mut entry.chain).into_files() {
            release(&mut file, &mut self.ledger, &self.spool);
            close(file, &self.spool);
        }
        if let Some(part) = entry.part.take() {
            self.release_part(part);
        }
        self.pinned -= entry.pinned;
        entry.pinned = 0;
        self.metrics.pinned_bytes.set(i64::try_from(self.pinned).unwrap_or(i64::MAX));
        self.metrics.spool_bytes.set(self.ledger.copied());
    }
}

/// Ends what was done to keep a file.
fn release(file: &mut Tracked, ledger: &mut Ledger, spool: &spool::Spool) {
    if let Some(ticket) = file.kept.ticket() {
        ledger.remove(ticket);
    }
    match std::mem::replace(&mut file.kept, Kept::No) {
        Kept::Copying(_, is_cancelled) => is_cancelled.store(true, Ordering::Release),
        Kept::Copied(_, path) => spool.send(Job::Remove(path)),
        Kept::No | Kept::Pinned(_) | Kept::Evicted => {}
    }
}

/// Closes a file, in the spool's thread where that may take long.
fn close(file: Tracked, spool: &spool::Spool) {
    if let Content::Known(log) = file.content {
        spool.send(Job::Close(log));
    }
}
