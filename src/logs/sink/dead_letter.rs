//! Records that a sink refused for good, and why.

use std::path::Path;

use crate::telemetry::RouteMetrics;

/// The dead letter file of one route: `<state>/dead-letters/<route>.ndjson`.
#[derive(Debug)]
pub struct DeadLetter {}

impl DeadLetter {
    /// The file of the route `route` under the state directory; without one, refused records are counted as dropped.
    #[must_use]
    pub fn new(_state: Option<&Path>, _route: &str, _metrics: RouteMetrics) -> Self {
        Self {}
    }
}
