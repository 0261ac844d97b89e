//! JSON strings out of bytes.
