//! The engine: its API, its events, and the inventory of containers that they feed.

pub mod answers;
pub mod api;
mod backoff;
pub mod container;
mod error;
pub mod events;
pub mod inspected;
mod inspects;
pub mod inventory;
mod json;
mod labels;
mod size;
mod known;
mod logs;
mod time;

pub use answers::{EngineInfo, Listed, ListedContainer};
pub use api::Engine;
pub use container::{Container, Labelling};
pub use error::EngineError;
pub use events::{ContainerEvent, Events};
pub use inspected::{Allowed, Attachment, Inspected};
pub use inventory::{Inventory, InventoryTask, Timing, Witness};
pub use labels::Labels;
pub use logs::{LogStream, LogSubject, Reading};
