//! Containers from the engine's answers to the exposition: recordings of a real engine and of real cgroups, an engine that answers by script, and, where
//! there is one, a real engine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::print_stdout,
    reason = "a test that fails may panic, and a client that went away is no fault"
)]

#[path = "support/fake_engine.rs"]
mod fake_engine;

#[path = "containers/disk.rs"]
mod disk;
#[path = "containers/contract.rs"]
mod contract;
#[path = "containers/engine.rs"]
mod engine;
#[path = "containers/engine29.rs"]
mod engine29;
#[path = "containers/exposition.rs"]
mod exposition;
#[path = "containers/identity.rs"]
mod identity;
#[path = "containers/live.rs"]
mod live;
#[path = "containers/networks.rs"]
mod networks;
#[path = "containers/ledger.rs"]
mod ledger;
#[path = "containers/live_endings.rs"]
mod live_endings;
#[path = "containers/recording.rs"]
mod recording;
