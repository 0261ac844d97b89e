//! Sinks: where records go, and the verdicts that come back.
