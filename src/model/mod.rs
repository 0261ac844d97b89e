//! What metrics and records are made of: kinds, values, rendered label sets, a container's id, and times. No input or output, no async, no dependency.

mod container_id;
mod labels;
pub mod time;
mod value;

pub use container_id::ContainerId;
pub use labels::{LabelSet, escape_help, escape_label, is_off, whole};
pub use value::Value;

/// The type of a family, as Prometheus' text format names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that only grows, or starts anew at 0.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A value whose type is not told (node_exporter's netstat and vmstat).
    Untyped,
    /// Quantiles, a sum and a count.
    Summary,
    /// Buckets that count what is not above their bound, a sum and a count.
    Histogram,
}

impl Kind {
    /// The word that stands behind `# TYPE name` in text format 0.0.4.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Untyped => "untyped",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }
}
