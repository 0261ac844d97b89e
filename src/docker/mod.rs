//! The engine: its API, its events, and the inventory of containers that they feed.

pub mod answers;
pub mod api;
mod backoff;
pub mod container;
mod error;
pub mod inventory;
mod json;
mod size;
mod time;

pub use answers::{ContainerEvent, EngineInfo, Inspected, Listed, ListedContainer};
pub use api::{Engine, Events};
pub use container::{Container, Labelling};
pub use error::EngineError;
pub use inventory::{Inventory, InventoryTask, Timing};
