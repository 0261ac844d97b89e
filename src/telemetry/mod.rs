//! What skep says of itself: the state of its parts, its own metrics, its log.

pub mod log;
mod metrics;
mod own;
mod parts;

pub use metrics::{Metrics, RouteMetrics, TableMetrics};
pub use own::OwnCollector;
pub use parts::{Part, Parts, State};
