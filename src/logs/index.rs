//! Which index a record goes to, and Elasticsearch's action line.

use super::assemble::Line;

/// An index name with parts of the record's time in UTC: `docker-logs-%Y.%m.%d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
}

impl IndexPattern {
    /// Reads a pattern: text, `%Y`, `%m`, `%d` and `%H`.
    ///
    /// # Errors
    /// A sentence: what was given, why it is refused, what would do.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        Ok(Self { pieces: vec![Piece::Text(pattern.to_owned())] })
    }
}

/// Appends Elasticsearch's line before the document: `{"create":{"_index":"docker-logs-2026.11.20","_id":"..."}}` and a line feed.
pub fn action(index: &IndexPattern, line: &Line<'_>, out: &mut Vec<u8>) {
    let _ = (index, line, out);
}
