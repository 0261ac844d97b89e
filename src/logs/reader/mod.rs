//! Entries out of bytes.

pub mod frames;
pub mod json_file;
