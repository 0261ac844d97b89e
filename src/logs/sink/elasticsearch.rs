//! Stub.
use tokio_util::sync::CancellationToken;

use super::{DeadLetter, Delivery};
use crate::config::ElasticsearchSpec;
use crate::logs::batch::Batch;
use crate::telemetry::{Part, RouteMetrics};

/// Stub.
#[derive(Debug)]
pub struct ElasticsearchSink {
    index: String,
}
impl ElasticsearchSink {
    pub(super) fn open(
        _route: &str,
        spec: &ElasticsearchSpec,
        _part: Part,
        _metrics: RouteMetrics,
        _dead_letter: DeadLetter,
    ) -> Result<Self, String> {
        Ok(Self { index: spec.index.clone() })
    }
    pub(super) fn index(&self) -> &str {
        &self.index
    }
    pub(super) async fn deliver(&self, _batch: &Batch, _stop: &CancellationToken) -> Delivery {
        Delivery::Interrupted
    }
    pub(super) fn reload(&self) {}
}
