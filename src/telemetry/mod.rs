//! What skep says of itself: the state of its parts, its own metrics, its log.

mod metrics;
mod parts;

pub use metrics::{Metrics, RouteMetrics, TableMetrics};
pub use parts::{Part, Parts, State};
