//! The engine: its API, its events, and the inventory of containers that they feed.

pub mod api;
mod backoff;
pub mod container;
pub mod inventory;
mod json;
mod time;

pub use api::{ContainerEvent, Engine, EngineError, EngineInfo, Events};
pub use container::{Container, Labelling};
pub use inventory::{Inventory, InventoryTask, Timing};
