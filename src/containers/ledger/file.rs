//! The ledger's file: `<state-dir>/containers.ledger`, JSON, written as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::book::{Book, labels_of};
use super::entry::{Entry, Key, Run, Sums, Who};
use crate::logs::ContainerId;
use crate::model::LabelSet;

/// The form of the file. A file of another form is not guessed at.
const VERSION: u32 = 1;
/// What there may be of it, in bytes: many times what the bounds of the book come to.
pub(super) const LARGEST: u64 = 64 << 20;

/// What is written: a copy of the book as it was at one moment, which nobody has to wait for.
#[derive(Serialize, Deserialize)]
pub(super) struct OnDisk {
    version: u32,
    /// The kernel's id of this boot: with another one no cgroup is the same.
    boot: String,
    begun: i64,
    last_event: i64,
    seen: Vec<u64>,
    sums: Vec<(Key, Sums)>,
    containers: BTreeMap<String, EntryOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct EntryOnDisk {
    labels: Labels,
    key: Key,
    base: Sums,
    runs: Vec<Run>,
    booked: Sums,
    folded: Vec<u64>,
    oom_events: Vec<i64>,
    knows_oom_kills: bool,
    last_start: i64,
    last_end: i64,
    is_end_inspected: bool,
    #[serde(default)]
    is_starting: bool,
    #[serde(default)]
    failed_start: Option<(i64, i64)>,
    gone: Option<i64>,
    heard: i64,
}

/// The labels of a container's series, as pairs. They are taken apart when they are written, and not while the book is held.
#[derive(Deserialize)]
#[serde(from = "Vec<(String, String)>")]
struct Labels(Arc<LabelSet>);

impl From<Vec<(String, String)>> for Labels {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(Arc::new(LabelSet::of(pairs.iter().map(|(name, value)| (&**name, &**value)))))
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.pairs().serialize(serializer)
    }
}

/// The file's text.
///
/// # Errors
/// What the encoder says.
pub(super) fn text(copy: &OnDisk) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(copy)
}

/// What is to be written. Containers of which nobody knows who they are, and those that nobody should hear of, are left out.
pub(super) fn copy(book: &Book, boot: &str) -> OnDisk {
    let entry = |id: &ContainerId, entry: &Entry| {
        let (series, key) = (entry.series()?, entry.key.clone()?);
        if entry.gone.is_some() && entry.is_without_trace() {
            return None;
        }
        let entry = EntryOnDisk {
            labels: Labels(series.clone()),
            key,
            base: entry.base,
            runs: entry.runs.clone(),
            booked: entry.booked,
            folded: entry.folded.clone(),
            oom_events: entry.oom_events.clone(),
            knows_oom_kills: entry.knows_oom_kills,
            last_start: entry.last_start,
            last_end: entry.last_end,
            is_end_inspected: entry.is_end_inspected,
            is_starting: entry.is_starting,
            failed_start: entry.failed_start,
            gone: entry.gone,
            heard: entry.heard,
        };
        Some((id.as_str().to_owned(), entry))
    };
    OnDisk {
        version: VERSION,
        boot: boot.to_owned(),
        begun: book.begun,
        last_event: book.last_event,
        seen: book.seen.iter().copied().collect(),
        sums: book.sums.iter().map(|(key, (_, sums))| (key.clone(), *sums)).collect(),
        containers: book.entries.iter().filter_map(|(id, of)| entry(id, of)).collect(),
    }
}

/// The book of a file's text.
///
/// # Errors
/// A part of a sentence that says why it is none.
pub(super) fn read(text: &[u8], boot: &str) -> Result<Book, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    if text.len() as u64 > LARGEST {
        return Err("it is too large".to_owned());
    }
    let odd = |error: serde_json::Error| format!("it is no whole ledger ({error})");
    let Version { version } = serde_json::from_slice(text).map_err(odd)?;
    if version != VERSION {
        return Err(format!("it is a ledger of form {version}, and this skep reads form {VERSION}"));
    }
    let file: OnDisk = serde_json::from_slice(text).map_err(odd)?;
    let mut book = Book::default();
    (book.begun, book.last_event) = (file.begun, file.last_event);
    for hash in file.seen {
        book.remember(hash);
    }
    for (key, sums) in file.sums {
        let labels = labels_of(&key);
        book.sums.insert(key, (labels, sums));
    }
    for (id, told) in file.containers {
        let id = ContainerId::new(&id).ok_or_else(|| format!("'{id}' in it is no id of a container"))?;
        let mut entry = Entry {
            who: Some(Who::Told(told.labels.0)),
            key: Some(told.key),
            base: told.base,
            runs: told.runs,
            booked: told.booked,
            folded: told.folded,
            oom_events: told.oom_events,
            knows_oom_kills: told.knows_oom_kills,
            last_start: told.last_start,
            last_end: told.last_end,
            is_end_inspected: told.is_end_inspected,
            is_starting: told.is_starting,
            failed_start: told.failed_start,
            gone: told.gone,
            heard: told.heard,
            ..Entry::default()
        };
        if file.boot != boot {
            // The numbers of cgroups begin anew with the kernel. What they were is not needed: none of them is there any more.
            for run in &mut entry.runs {
                (run.has_ended, run.cgroup) = (true, FROM_ANOTHER_BOOT);
            }
            entry.folded.clear();
        }
        book.entries.insert(id, Box::new(entry));
    }
    Ok(book)
}

/// No inode has this number.
const FROM_ANOTHER_BOOT: u64 = u64::MAX;
