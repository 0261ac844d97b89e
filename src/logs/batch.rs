//! Encoded records, and what acknowledging them means.
