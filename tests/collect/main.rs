//! The host collectors over recordings of real machines and over trees made by hand, compared with golden files; and over files that no machine would write.

// Helpers of tests are no tests to clippy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod exposition;
mod hardware;
mod hung;
mod kernel;
mod net;
mod recorded;
mod sockets;
mod storage;
mod tables;
