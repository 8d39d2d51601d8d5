//! What the HTTP edge counts. Labels are closed sets of ours: no tenant, key, model or request is one.

use crate::error::ErrorKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    in_flight: Family<SurfaceLabels, Gauge>,
    duration: Family<SurfaceLabels, Histogram>,
    connections: Family<ListenerLabels, Gauge>,
    expired: Family<ExpiryLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    surface: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    surface: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SurfaceLabels {
    surface: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpiryLabels {
    waiting_for: &'static str,
}

/// From 1 ms to about 2 minutes, doubling.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.001, 2.0, 18))
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            requests: Family::default(),
            errors: Family::default(),
            in_flight: Family::default(),
            duration: Family::new_with_constructor(seconds),
            connections: Family::default(),
            expired: Family::default(),
        };
        metrics.name(registry);
        metrics
    }

    pub(crate) fn name(&self, registry: &mut Registry) {
        registry.register("http_requests", "Replies, by surface and class of status", self.requests.clone());
        registry.register("http_errors", "Failures told to callers, by kind", self.errors.clone());
        registry.register("http_requests_in_flight", "Requests whose reply has not ended", self.in_flight.clone());
        registry.register(
            "http_request_duration_seconds",
            "From the end of a request's head to the end of its reply",
            self.duration.clone(),
        );
        registry.register("connections", "Open connections, by listener", self.connections.clone());
        registry.register(
            "connections_expired",
            "Connections and HTTP/2 streams closed because the peer was too slow, by what was awaited",
            self.expired.clone(),
        );
    }

    /// A request's head has been read; the guard counts it as running until dropped.
    pub fn request_begins(&self, surface: &'static str) -> InFlight {
        let gauge = self.in_flight.get_or_create_owned(&SurfaceLabels { surface });
        gauge.inc();
        InFlight(gauge)
    }

    /// A reply's status is known.
    pub fn replied(&self, surface: &'static str, status: u16) {
        let status = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { surface, status }).inc();
    }

    /// A failure was told to a caller.
    pub fn failed(&self, surface: &'static str, kind: ErrorKind) {
        self.errors.get_or_create(&ErrorLabels { surface, kind: kind.as_str() }).inc();
    }

    /// A reply has been sent to its end, or given up.
    pub fn reply_ended(&self, surface: &'static str, after: Duration) {
        self.duration.get_or_create(&SurfaceLabels { surface }).observe(after.as_secs_f64());
    }

    /// A connection was accepted; the guard counts it as open until dropped.
    pub fn connection_opens(&self, listener: &'static str) -> InFlight {
        let gauge = self.connections.get_or_create_owned(&ListenerLabels { listener });
        gauge.inc();
        InFlight(gauge)
    }

    /// A connection, or one of its streams, was closed because its peer was too slow.
    pub fn connection_expired(&self, waiting_for: &'static str) {
        self.expired.get_or_create(&ExpiryLabels { waiting_for }).inc();
    }
}

/// Counts one thing as present until dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
