//! What requests count. Labels are closed sets: no tenant, key or request is one.

use crate::billing::Outcome;
use crate::inference::{Dialect, Usage};
use cluster_protocol::PrefillPath;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Upper bounds in seconds: a token gap on a fast accelerator up to a long prompt on a slow CPU.
const TTFT_BUCKETS: [f64; 14] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0, 120.0];
const ITL_BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5, 1.0, 5.0, 30.0];

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests in work.
    pub running: Gauge,
    /// From a request's head to its first token.
    pub ttft: Histogram,
    /// Between two pieces of an answer.
    pub itl: Histogram,
    /// Settlements that are still being tried after the caller was answered.
    pub settlements_late: Counter,
    ended: Family<EndedLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    prefill: Family<PrefillLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabels {
    dialect: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    dialect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PrefillLabels {
    at: &'static str,
    reason: &'static str,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            running: Gauge::default(),
            ttft: Histogram::new(TTFT_BUCKETS),
            itl: Histogram::new(ITL_BUCKETS),
            settlements_late: Counter::default(),
            ended: Family::default(),
            refused: Family::default(),
            tokens: Family::default(),
            prefill: Family::default(),
        };
        registry.register("inference_running", "Inference requests in work", metrics.running.clone());
        registry.register("inference_ended", "Inference requests by how they ended", metrics.ended.clone());
        registry.register("inference_refused", "Requests refused before a worker was asked", metrics.refused.clone());
        registry.register("inference_tokens", "Tokens settled", metrics.tokens.clone());
        registry.register("inference_prefill_path", "Where prompts were computed, and why", metrics.prefill.clone());
        registry.register(
            "inference_settlements_late",
            "Settlements not done in time",
            metrics.settlements_late.clone(),
        );
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "inference_ttft",
            "From a request to its first token",
            seconds(),
            metrics.ttft.clone(),
        );
        registry.register_with_unit("inference_itl", "Between two pieces of an answer", seconds(), metrics.itl.clone());
        metrics
    }

    pub(super) fn first_token(&self, after: Duration) {
        self.ttft.observe(after.as_secs_f64());
    }

    pub(super) fn next_token(&self, after: Duration) {
        self.itl.observe(after.as_secs_f64());
    }

    pub(super) fn refused(&self, dialect: Dialect) {
        self.refused.get_or_create(&RefusedLabels { dialect: dialect.as_str() }).inc();
    }

    pub(super) fn ended(&self, dialect: &'static str, outcome: Outcome, usage: &Usage) {
        self.ended.get_or_create(&EndedLabels { dialect, outcome: outcome_str(outcome) }).inc();
        self.tokens.get_or_create(&TokenLabels { direction: "input" }).inc_by(usage.input_tokens);
        self.tokens.get_or_create(&TokenLabels { direction: "output" }).inc_by(usage.output_tokens);
    }

    pub(super) fn prefilled(&self, path: &PrefillPath) {
        let labels = match path {
            PrefillPath::Remote { .. } => PrefillLabels { at: "remote", reason: "" },
            PrefillPath::Local { reason } => PrefillLabels { at: "local", reason: reason.as_str() },
        };
        self.prefill.get_or_create(&labels).inc();
    }
}

fn outcome_str(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::ClientGone => "client_gone",
        Outcome::Failed => "failed",
        Outcome::Revoked => "revoked",
        Outcome::Shutdown => "shutdown",
        Outcome::Recovered => "recovered",
        Outcome::Lost => "lost",
    }
}
