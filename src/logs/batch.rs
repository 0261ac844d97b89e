//! Encoded records, and what acknowledging them means.

use super::record::RecordId;

/// Where one record of a batch stands.
#[derive(Debug, Clone, Copy)]
pub struct RecordSpan {
    /// Where its action line begins.
    pub start: u32,
    /// Where its document begins: the end of the action line.
    pub document: u32,
    /// Behind the document's line feed.
    pub end: u32,
    /// The record's time, nanoseconds since the epoch.
    pub time: i64,
    /// The record's id.
    pub id: RecordId,
}

/// Records, encoded for their sink.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<RecordSpan>,
}

impl Batch {
    /// Action lines and documents, each with its line feed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[RecordSpan] {
        &self.records
    }

    /// Adds a record.
    pub fn push(&mut self, action: &[u8], document: &[u8]) {
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(action);
        let middle = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(document);
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.records.push(RecordSpan { start, document: middle, end, time: 0, id: RecordId });
    }
}
