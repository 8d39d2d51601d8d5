//! What the feed counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// When the last poll that succeeded began, in seconds since 1970; its age is for whoever reads it.
    pub(super) last_poll: Gauge<f64, AtomicU64>,
    /// 1 while what is remembered of credentials may be used.
    pub(super) lease: Gauge,
    /// Changes that were applied.
    pub(super) applied: Counter,
    /// Running requests that were ended because their credential was.
    pub(super) ended: Counter,
    /// Messages from other gateways to look.
    pub(super) nudges: Counter,
    polls: Family<PollLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    result: &'static str,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            last_poll: Gauge::default(),
            lease: Gauge::default(),
            applied: Counter::default(),
            ended: Counter::default(),
            nudges: Counter::default(),
            polls: Family::default(),
        };
        let help = "When the last successful poll of the feed of changes began, in seconds since 1970";
        registry.register("changes_last_poll_timestamp_seconds", help, metrics.last_poll.clone());
        let help = "1 while credentials may be remembered, 0 while each is read from the database";
        registry.register("changes_lease_valid", help, metrics.lease.clone());
        registry.register("changes_applied", "Administrators' changes that were applied", metrics.applied.clone());
        let help = "Running requests ended because their credential was";
        registry.register("changes_requests_ended", help, metrics.ended.clone());
        registry.register("changes_nudges", "Messages from other gateways to look", metrics.nudges.clone());
        registry.register("changes_polls", "Polls of the feed of changes", metrics.polls.clone());
        metrics
    }

    pub(super) fn polled(&self, ok: bool) {
        self.polls.get_or_create(&PollLabels { result: if ok { "ok" } else { "failed" } }).inc();
    }
}
