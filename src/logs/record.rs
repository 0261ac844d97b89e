//! A record: its id and its document.

/// A record's id.
#[derive(Debug, Clone, Copy)]
pub struct RecordId;
