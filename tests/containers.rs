//! Containers from the engine's answers to the exposition: recordings of a real engine and of real cgroups, an engine that answers by script, and, where
//! there is one, a real engine.

#[path = "support/fake_engine.rs"]
mod fake_engine;

#[path = "containers/engine.rs"]
mod engine;
#[path = "containers/exposition.rs"]
mod exposition;
#[path = "containers/live.rs"]
mod live;
#[path = "containers/recording.rs"]
mod recording;
