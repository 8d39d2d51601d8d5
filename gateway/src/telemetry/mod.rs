//! Names of metrics, in one place. Labels are bounded: no tenant, key or request is one.

use prometheus_client::registry::Registry;
use std::sync::Mutex;

/// The gateway's metrics, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    /// Encodes `/metrics`.
    pub registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { registry: Mutex::new(Registry::with_prefix("caprock")) }
    }
}
