//! The level of a line, where it tells one.
