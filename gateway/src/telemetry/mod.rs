//! Names of metrics, in one place. Labels are bounded: no tenant, key or request is one.

use crate::{inference, upstream};
use prometheus_client::registry::Registry;
use std::sync::Mutex;

/// The gateway's metrics, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    /// Encodes `/metrics`.
    pub registry: Mutex<Registry>,
    /// Requests.
    pub inference: inference::Metrics,
    /// Workers.
    pub upstream: upstream::Metrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("caprock");
        let inference = inference::Metrics::register(&mut registry);
        let upstream = upstream::Metrics::register(&mut registry);
        Metrics { registry: Mutex::new(registry), inference, upstream }
    }
}
