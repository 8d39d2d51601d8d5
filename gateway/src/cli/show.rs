//! One request for people, as `caprock request show` shows it.

use super::table::fields;
use super::units::usd;
use crate::admin::view::{PrefillView, RequestView};

/// Its outcome, tokens, worker path and ledger entry.
pub(super) fn table(view: &RequestView) -> String {
    let mut rows = vec![
        ("request", view.request_id.clone()),
        ("state", view.outcome.as_ref().map_or(view.state.clone(), |outcome| format!("{}, {outcome}", view.state))),
        ("model", model(view)),
        ("dialect", view.dialect.clone()),
        ("tokens", format!("{} in, {} out", view.input_tokens, view.output_tokens)),
    ];
    rows.extend(view.finish.clone().map(|finish| ("finish", finish)));
    rows.extend(view.error.clone().map(|error| ("error", error)));
    if let (Some(ttft), Some(latency)) = (view.ttft_ms, view.latency_ms) {
        rows.push(("time", format!("{ttft} ms to the first token, {latency} ms to the last")));
    }
    if let Some(path) = &view.path {
        rows.push(("engine", path.engine.clone()));
        rows.push(("prefill", prefill(&path.prefill, &path.decode)));
        rows.push(("decode", path.decode.clone()));
    }
    if let Some(timings) = &view.timings {
        let ms = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
        let stages = [
            ("queue", timings.queue_us),
            ("prefill", timings.prefill_us),
            ("hand-off", timings.handoff_us),
            ("decode", timings.decode_us),
        ];
        let stages: Vec<String> = stages.iter().map(|(name, us)| format!("{name} {}", ms(*us))).collect();
        rows.push(("stages", stages.join(", ")));
    }
    if view.attempt > 1 {
        rows.push(("attempt", view.attempt.to_string()));
    }
    match &view.ledger_entry {
        Some(entry) => {
            rows.push(("cost", format!("{} ({} nano-USD)", usd(entry.amount_nanousd), entry.amount_nanousd)));
            let (input, output) = (entry.input_picousd_per_token, entry.output_picousd_per_token);
            rows.push(("price", format!("{input} in, {output} out, in pico-USD per token; {}", entry.price_source)));
            rows.push(("ledger entry", entry.entry_id.clone()));
        }
        None => rows.push(("ledger entry", "none yet".into())),
    }
    rows.push(("tenant", format!("{}, {}, {}", view.tenant_id, view.project_id, view.key_id)));
    rows.push(("accepted", view.accepted_at.to_string()));
    rows.extend(view.settled_at.map(|at| ("settled", at.to_string())));
    fields(&rows)
}

fn model(view: &RequestView) -> String {
    if view.model == view.model_asked {
        return view.model.clone();
    }
    format!("{} answered for {}", view.model, view.model_asked)
}

fn prefill(path: &PrefillView, decode: &str) -> String {
    match path {
        PrefillView::Remote { prefill_id, kv_bytes, chunks } => {
            format!("{prefill_id}, {kv_bytes} bytes of KV cache handed over in {chunks} chunks")
        }
        PrefillView::Local { reason } => format!("{decode} itself: {reason}"),
    }
}
