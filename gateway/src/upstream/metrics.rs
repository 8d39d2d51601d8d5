//! What upstreams count. Labels are names from the configuration, so they are bounded by it.

use super::WorkerStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Attempts after a request's first.
    pub retries: Counter,
    worker_up: Family<WorkerLabels, Gauge>,
    worker_in_flight: Family<WorkerLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    cluster: String,
    worker: String,
    role: &'static str,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("upstream_retries", "Attempts after a request's first", metrics.retries.clone());
        registry.register("upstream_worker_up", "Whether the last probe went well", metrics.worker_up.clone());
        registry.register(
            "upstream_worker_in_flight",
            "Requests of this gateway on a worker, at the last probe",
            metrics.worker_in_flight.clone(),
        );
        metrics
    }

    pub(super) fn note(&self, status: &WorkerStatus) {
        let labels =
            WorkerLabels { cluster: status.cluster.clone(), worker: status.worker.clone(), role: status.role.as_str() };
        self.worker_up.get_or_create(&labels).set(i64::from(status.down.is_none()));
        self.worker_in_flight.get_or_create(&labels).set(status.in_flight.into());
    }
}
