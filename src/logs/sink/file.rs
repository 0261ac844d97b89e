//! Stub.
use tokio_util::sync::CancellationToken;

use super::Delivery;
use crate::config::FileSpec;
use crate::logs::batch::Batch;
use crate::telemetry::{Part, RouteMetrics};

/// Stub.
#[derive(Debug)]
pub struct FileSink;
impl FileSink {
    pub(super) fn open(_route: &str, _spec: &FileSpec, _part: Part, _metrics: RouteMetrics) -> Result<Self, String> {
        Ok(Self)
    }
    pub(super) async fn deliver(&self, _batch: &Batch, _stop: &CancellationToken) -> Delivery {
        Delivery::Interrupted
    }
    pub(super) fn checkpoint(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    pub(super) fn restore(&self, _checkpoint: Option<&serde_json::Value>) -> Result<(), String> {
        Ok(())
    }
}
