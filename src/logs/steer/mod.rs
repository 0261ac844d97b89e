//! What a service steers of its own logs, by labels of its containers. Each subject has a file; a container without such a label pays for none of them.
//!
//! ```text
//! entries ─▶ assemble (group, by multiline) ─▶ limit: sample, rate ─▶ redact ─▶ fields ─▶ record
//! ```
//!
//! Whatever is decided here follows from the line, from its id and from Docker's time, never from the wall clock: a replay decides as the first run did.

pub mod fields;
pub mod group;
pub mod labels;
pub mod limit;
pub mod multiline;
pub mod redact;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fields::{Fields, Format, Unparsed};
use group::Grouping;
pub use labels::Refused;
use limit::{Limits, Window, Withheld};
use multiline::Rule;
use redact::Redaction;

use super::assemble::Line;
use super::{ContainerId, ContainerMeta, Stream};
use crate::telemetry::RouteMetrics;

/// Of how many containers is remembered that what is wrong with their labels was told.
const REMEMBERED: usize = 4096;

/// What all routes have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The longest gap in Docker's time between two lines of one record.
    pub gap: Duration,
    /// The containers whose labels were told of, for each route meets them, and meets them again.
    told: Arc<Mutex<BTreeSet<ContainerId>>>,
}

impl Settings {
    /// With this gap.
    #[must_use]
    pub fn new(gap: Duration) -> Self {
        Self { gap, told: Arc::default() }
    }

    /// Tells of labels that cannot be taken, once for each container.
    pub fn tell(&self, id: &ContainerId, meta: &ContainerMeta, refused: &[Refused], metrics: &RouteMetrics) {
        if refused.is_empty() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.insert(id.clone()) {
            return;
        }
        if told.len() > REMEMBERED {
            told.pop_first();
        }
        drop(told);
        for refused in refused {
            metrics.label_refused(refused.kind);
            tracing::warn!(container = meta.name, id = ?id, "{refused}");
        }
    }
}

/// What the labels of one container ask for, and how far its limits are used up.
#[derive(Debug, Default)]
pub struct Steering {
    rule: Option<Rule>,
    limits: Option<Box<Limits>>,
    redaction: Option<Box<Redaction>>,
    keeps_colours: bool,
    format: Format,
}

impl Steering {
    /// What these labels ask for, and those that cannot be taken; for each of them holds what would without it, but for redaction, which then takes
    /// everything.
    #[must_use]
    pub fn of(meta: &ContainerMeta) -> (Self, Vec<Refused>) {
        labels::parse(&meta.labels)
    }

    /// How lines become groups, where they do.
    #[must_use]
    pub fn grouping(&self, settings: &Settings) -> Option<Grouping> {
        self.rule.clone().map(|rule| Grouping { rule, gap: settings.gap })
    }

    /// Whether a record is to be sent.
    ///
    /// # Errors
    /// Why it is not.
    #[inline]
    pub fn admit(&mut self, line: &Line<'_>) -> Result<(), Withheld> {
        match &mut self.limits {
            None => Ok(()),
            Some(limits) => limits.admit(line.stream, line.time, &line.id),
        }
    }

    /// What is to be taken out of messages.
    pub(super) fn redaction(&self) -> Option<&Redaction> {
        self.redaction.as_deref()
    }

    /// How lines are taken.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Whether colours stay.
    pub(super) const fn keeps_colours(&self) -> bool {
        self.keeps_colours
    }

    /// By stream, how far the rate is used up, for the cursor.
    #[must_use]
    pub fn windows(&self) -> [Option<Window>; Stream::ALL.len()] {
        self.limits.as_ref().map_or([None, None], |limits| limits.windows())
    }

    /// Goes on where a cursor says.
    pub fn resume(&mut self, windows: [Option<Window>; Stream::ALL.len()]) {
        if let Some(limits) = &mut self.limits {
            limits.resume(windows);
        }
    }
}

/// Memory for records that are not written as they are, used for one after the other.
#[derive(Debug, Default)]
pub struct Work {
    /// The text without what no one should see of it.
    pub(super) text: Vec<u8>,
    /// The text when it was redacted.
    pub(super) redacted: Vec<u8>,
    /// Where expressions matched.
    pub(super) spans: Vec<(usize, usize)>,
    /// The fields of the line.
    pub(super) fields: Fields,
}

/// What a record's encoding has to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Parts of the text that were replaced.
    pub redactions: u64,
    /// The text as a whole was replaced, for an expression cannot be taken.
    pub is_blanked: bool,
    /// The line has fields.
    pub is_parsed: bool,
    /// It seems to have them, and stays as it is.
    pub unparsed: Option<Unparsed>,
}
