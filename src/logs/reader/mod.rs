//! Entries out of bytes.

pub mod json_file;
