//! A record: its id and its document.

/// A record's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId;

impl RecordId {
    /// The id of what happened at `time` and has this hash.
    #[must_use]
    pub fn new(_time: i64, _hash: u128) -> Self {
        Self
    }
}
