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

    /// Begins a record.
    pub fn begin_record(&mut self) -> Draft<'_> {
        let start = self.bytes.len();
        Draft { batch: self, start, document: start }
    }
}

/// A record being written at the end of a batch.
#[derive(Debug)]
pub struct Draft<'b> {
    batch: &'b mut Batch,
    start: usize,
    document: usize,
}

impl Draft<'_> {
    /// The buffer to append to.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// Says that the document begins here.
    pub const fn document(&mut self) -> &mut Vec<u8> {
        self.document = self.batch.bytes.len();
        &mut self.batch.bytes
    }

    /// Ends the document with a line feed.
    ///
    /// # Errors
    /// When the batch would pass 4 GiB.
    pub fn commit(self, time: i64, id: RecordId) -> Result<(), std::num::TryFromIntError> {
        self.batch.bytes.push(b'\n');
        let end = u32::try_from(self.batch.bytes.len())?;
        self.batch.records.push(RecordSpan { start: u32::try_from(self.start)?, document: u32::try_from(self.document)?, end, time, id });
        Ok(())
    }
}
