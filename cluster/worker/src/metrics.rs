//! Names and registry of the worker's metrics. One registry per worker, so several fit in a test.

use cluster_protocol::{FinishReason, LocalReason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Direction {
    direction: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) slots: Gauge,
    pub(crate) slots_used: Gauge,
    pub(crate) cells: Gauge,
    pub(crate) cells_reserved: Gauge,
    pub(crate) queue_waiting: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) input_tokens: Counter,
    pub(crate) output_tokens: Counter,
    pub(crate) prefill_tokens: Counter,
    pub(crate) prefill_chunk_seconds: Histogram,
    pub(crate) decode_step_seconds: Histogram,
    handoff_bytes: Family<Direction, Counter>,
    handoffs: Family<Outcome, Counter>,
    requests: Family<Outcome, Counter>,
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let seconds = || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let mut metrics = Metrics {
            slots: Gauge::default(),
            slots_used: Gauge::default(),
            cells: Gauge::default(),
            cells_reserved: Gauge::default(),
            queue_waiting: Gauge::default(),
            connections: Gauge::default(),
            input_tokens: Counter::default(),
            output_tokens: Counter::default(),
            prefill_tokens: Counter::default(),
            prefill_chunk_seconds: seconds(),
            decode_step_seconds: seconds(),
            handoff_bytes: Family::default(),
            handoffs: Family::default(),
            requests: Family::default(),
            registry: Registry::with_prefix("caprock_worker"),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("slots", "Sequences that fit at a time", self.slots.clone());
        r.register("slots_used", "Sequences that hold a slot", self.slots_used.clone());
        r.register("cells", "KV cells, one per token", self.cells.clone());
        r.register("cells_reserved", "KV cells held by requests", self.cells_reserved.clone());
        r.register("queue_waiting", "Requests waiting for slot and cells", self.queue_waiting.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register("input_tokens", "Prompt tokens of requests, remote prefill included", self.input_tokens.clone());
        r.register("output_tokens", "Tokens sampled", self.output_tokens.clone());
        r.register(
            "prefill_tokens",
            "Prompt tokens evaluated here, for answers and for hand-offs",
            self.prefill_tokens.clone(),
        );
        r.register("prefill_chunk_seconds", "Evaluation of one prompt chunk", self.prefill_chunk_seconds.clone());
        r.register("decode_step_seconds", "Evaluation of one step of all answers", self.decode_step_seconds.clone());
        r.register("handoff_bytes", "KV bytes sent and received", self.handoff_bytes.clone());
        r.register("handoffs", "Hand-offs asked of prefill workers, by outcome", self.handoffs.clone());
        r.register("requests", "Requests ended, by outcome", self.requests.clone());
    }

    pub(crate) fn kv_sent(&self, bytes: usize) {
        self.handoff_bytes.get_or_create(&Direction { direction: "sent" }).inc_by(bytes as u64);
    }

    pub(crate) fn kv_received(&self, bytes: usize) {
        self.handoff_bytes.get_or_create(&Direction { direction: "received" }).inc_by(bytes as u64);
    }

    pub(crate) fn handoff_committed(&self) {
        self.handoffs.get_or_create(&Outcome { outcome: "committed" }).inc();
    }

    pub(crate) fn handoff_failed(&self, reason: LocalReason) {
        self.handoffs.get_or_create(&Outcome { outcome: reason.as_str() }).inc();
    }

    pub(crate) fn request_ended(&self, outcome: &'static str) {
        self.requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}

pub(crate) fn outcome_of(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::EndOfTurn => "end_of_turn",
        FinishReason::StopSequence { .. } => "stop_sequence",
        FinishReason::MaxTokens => "max_tokens",
        FinishReason::ContextFull => "context_full",
        FinishReason::Stopped => "stopped",
    }
}
