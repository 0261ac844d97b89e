//! Encoded records, one behind the other as the sink will get them, and where each begins.

use super::record::RecordId;

/// What a batch keeps of its memory when it is cleared. A batch that once held a few very long lines must not hold their memory for ever.
const KEPT_BYTES: usize = 16 << 20;
const KEPT_RECORDS: usize = 64 << 10;

/// One record of a batch, as offsets into its bytes.
///
/// ```text
/// start        document              end
///   {"create":…}\n  {"@timestamp":…}\n
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// Where the sink's own line before the document begins: the action line for Elasticsearch, nothing for the others.
    pub start: u32,
    /// Where the document begins.
    pub document: u32,
    /// Where it ends, behind its line feed. The next record starts here.
    pub end: u32,
    /// Docker's time of the record, nanoseconds since the epoch.
    pub time: i64,
    /// The record's id.
    pub id: RecordId,
}

impl RecordSpan {
    /// The bytes from `start` to `end`: what goes into a request body.
    #[must_use]
    pub const fn whole(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of the document, with its line feed.
    #[must_use]
    pub const fn document(&self) -> std::ops::Range<usize> {
        self.document as usize..self.end as usize
    }
}

/// A record that would end beyond 4 GiB of its batch; it was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch cannot hold more than 4 GiB")]
pub struct Overflow;

/// Records on their way to a sink: their bytes in one buffer, and a table of where each begins.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<RecordSpan>,
    oldest: Option<i64>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), records: Vec::new(), oldest: None }
    }

    /// Begins a record, which is written straight into the batch. It is part of it from [`Draft::commit`] on; a draft that is dropped before
    /// leaves no trace.
    pub fn begin_record(&mut self) -> Draft<'_> {
        let start = self.bytes.len();
        Draft { batch: self, start, document: start, committed: false }
    }

    /// The number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The number of bytes of all records.
    #[must_use]
    pub const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// All records, one behind the other: the body of a bulk request, or lines of JSON.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each record is, in the order in which they were added.
    #[must_use]
    pub fn records(&self) -> &[RecordSpan] {
        &self.records
    }

    /// The sink's own line and the document of a record of this batch; empty for a span of another.
    #[must_use]
    pub fn whole(&self, span: &RecordSpan) -> &[u8] {
        self.bytes.get(span.whole()).unwrap_or_default()
    }

    /// The document of a record of this batch, with its line feed; empty for a span of another.
    #[must_use]
    pub fn document(&self, span: &RecordSpan) -> &[u8] {
        self.bytes.get(span.document()).unwrap_or_default()
    }

    /// Whether it has reached one of the bounds. A record is never divided, so the bytes may be over their bound by one record.
    #[must_use]
    pub const fn is_full(&self, max_bytes: usize, max_records: usize) -> bool {
        self.bytes.len() >= max_bytes || self.records.len() >= max_records
    }

    /// The smallest of the records' times; `None` when there is no record.
    #[must_use]
    pub const fn oldest_time(&self) -> Option<i64> {
        self.oldest
    }

    /// Forgets the records and keeps the memory, up to 16 MiB of bytes and 65 536 records.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.records.clear();
        self.records.shrink_to(KEPT_RECORDS);
        self.oldest = None;
    }
}

/// A record being written at the end of a batch: first the sink's own line, if it has one, then [`Draft::document`], then the document.
#[derive(Debug)]
pub struct Draft<'b> {
    batch: &'b mut Batch,
    start: usize,
    document: usize,
    committed: bool,
}

impl Draft<'_> {
    /// The buffer to append to. What was in it before must be left as it is.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// Says that what was written until now is the sink's own line, and that the document begins here.
    pub const fn document(&mut self) -> &mut Vec<u8> {
        self.document = self.batch.bytes.len();
        &mut self.batch.bytes
    }

    /// Ends the document with a line feed and makes the record part of the batch.
    ///
    /// # Errors
    /// [`Overflow`] when the batch would pass 4 GiB; it is then as it was before the record began.
    pub fn commit(mut self, time: i64, id: RecordId) -> Result<(), Overflow> {
        self.batch.bytes.push(b'\n');
        let offset = |at: usize| u32::try_from(at).map_err(|_| Overflow);
        let (start, document, end) = (offset(self.start)?, offset(self.document)?, offset(self.batch.bytes.len())?);
        self.batch.records.push(RecordSpan { start, document, end, time, id });
        self.batch.oldest = Some(self.batch.oldest.map_or(time, |oldest| oldest.min(time)));
        self.committed = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.batch.bytes.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(batch: &mut Batch, action: &[u8], document: &[u8], time: i64) {
        let mut draft = batch.begin_record();
        draft.out().extend_from_slice(action);
        draft.document().extend_from_slice(document);
        draft.commit(time, RecordId::new(time, 7)).unwrap();
    }

    #[test]
    fn records_follow_each_other() {
        let mut batch = Batch::new();
        add(&mut batch, b"{\"create\":{}}\n", b"{\"a\":1}", 20);
        add(&mut batch, b"", b"{\"a\":2}", 10);
        assert_eq!(batch.bytes(), b"{\"create\":{}}\n{\"a\":1}\n{\"a\":2}\n");
        let [first, second] = batch.records() else { panic!("two records") };
        assert_eq!(batch.whole(first), b"{\"create\":{}}\n{\"a\":1}\n");
        assert_eq!(batch.document(first), b"{\"a\":1}\n");
        assert_eq!((batch.whole(second), batch.document(second)), (&b"{\"a\":2}\n"[..], &b"{\"a\":2}\n"[..]));
        assert_eq!((first.end, second.id), (second.start, RecordId::new(10, 7)));
        assert_eq!((batch.len(), batch.bytes_len(), batch.oldest_time()), (2, 30, Some(10)));
    }

    #[test]
    fn a_record_that_is_not_committed_leaves_no_trace() {
        let mut batch = Batch::new();
        add(&mut batch, b"", b"{}", 1);
        batch.begin_record().document().extend_from_slice(b"half");
        assert_eq!((batch.bytes(), batch.len()), (&b"{}\n"[..], 1));
    }

    #[test]
    fn full_at_either_bound() {
        let mut batch = Batch::new();
        assert!(!batch.is_full(3, 2));
        add(&mut batch, b"", b"{}", 1);
        assert!(batch.is_full(3, 2) && !batch.is_full(4, 2) && batch.is_full(4, 1));
    }

    #[test]
    fn clearing_gives_back_what_is_beyond_the_bound() {
        let mut batch = Batch::new();
        add(&mut batch, b"", &vec![b'x'; KEPT_BYTES * 2], 1);
        batch.clear();
        assert!(batch.is_empty() && batch.bytes().is_empty() && batch.oldest_time().is_none());
        assert!(batch.bytes.capacity() <= KEPT_BYTES * 2 && batch.bytes.capacity() >= 1 << 20);
        add(&mut batch, b"", b"{}", 1);
        let before = batch.bytes.capacity();
        batch.clear();
        assert_eq!(batch.bytes.capacity(), before);
    }
}
