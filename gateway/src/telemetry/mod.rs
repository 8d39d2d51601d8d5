//! The gateway's metrics in one registry. Labels are bounded: no tenant, key, model or request is one.

pub mod edge;

use crate::{audit, auth, changes, inference, upstream};
use prometheus_client::registry::Registry;
use std::sync::{Mutex, PoisonError};

/// The gateway's metrics, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    /// Encodes `/metrics`.
    pub registry: Mutex<Registry>,
    /// Connections and replies.
    pub edge: edge::Metrics,
    /// Requests.
    pub inference: inference::Metrics,
    /// Workers.
    pub upstream: upstream::Metrics,
    /// Look-ups of credentials.
    pub credentials: auth::Metrics,
    /// Last uses.
    pub uses: auth::uses::Metrics,
    /// The feed of changes.
    pub changes: changes::Metrics,
    /// The audit log.
    pub audit: audit::Metrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("caprock");
        let edge = edge::Metrics::register(&mut registry);
        let inference = inference::Metrics::register(&mut registry);
        let upstream = upstream::Metrics::register(&mut registry);
        let credentials = auth::Metrics::register(&mut registry);
        let uses = auth::uses::Metrics::register(&mut registry);
        let changes = changes::Metrics::register(&mut registry);
        let audit = audit::Metrics::register(&mut registry);
        Metrics { registry: Mutex::new(registry), edge, inference, upstream, credentials, uses, changes, audit }
    }
}

impl Metrics {
    /// The text of `/metrics`.
    ///
    /// # Errors
    /// Never in practice: formatting into memory.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Limit};
    use std::time::Duration;

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::default();
        let running = metrics.edge.request_begins("openai");
        metrics.edge.replied("openai", 429);
        metrics.edge.failed("openai", ErrorKind::QuotaExceeded(Limit::Concurrency));
        metrics.edge.reply_ended("openai", Duration::from_millis(20));
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"caprock_http_requests_total{surface="openai",status="4xx"} 1"#), "{text}");
        assert!(text.contains(r#"caprock_http_errors_total{surface="openai",kind="quota_exceeded"} 1"#), "{text}");
        assert!(text.contains(r#"caprock_http_requests_in_flight{surface="openai"} 1"#), "{text}");
        assert!(text.contains(r#"caprock_http_request_duration_seconds_count{surface="openai"} 1"#), "{text}");
        drop(running);
        assert!(metrics.encode().unwrap().contains(r#"caprock_http_requests_in_flight{surface="openai"} 0"#));
    }

    #[test]
    fn two_gateways_count_apart() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.edge.replied("openai", 200);
        assert!(!other.encode().unwrap().contains("2xx"));
    }
}
