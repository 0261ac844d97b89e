//! Docker's times, in which every entry of a log is told: those of [`crate::model::time`].

pub use crate::model::time::{parse_rfc3339, write_rfc3339};
