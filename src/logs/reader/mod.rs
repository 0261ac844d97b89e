//! Entries out of bytes.
