//! Settling until it is done, whatever the caller does meanwhile.

use super::state::Running;
use crate::app::App;
use crate::billing::{self, Settlement};
use crate::clock::Micros;
use crate::error::ErrorKind;
use crate::inference::Dialect;
use crate::money::Nanousd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a replica may be silent before others settle what it has left open, in µs.
pub(super) const LEASE_US: Micros = 60_000_000;

/// How long a caller waits for the price of a complete answer.
const CALLER_WAITS: Duration = Duration::from_secs(2);
/// How long a settlement is tried while the gateway stops; afterwards recovery settles from the worker's receipt.
const PATIENCE_STOPPING: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Settles in a tracked task of its own, and waits shortly for the amount; `None` when it takes longer or fails.
pub(super) async fn settle(
    app: &Arc<App>,
    dialect: Dialect,
    settlement: Settlement,
    running: Running,
) -> Option<Nanousd> {
    let task = app.tasks.spawn(until_settled(Arc::clone(app), dialect, settlement, running));
    match timeout(CALLER_WAITS, task).await {
        Ok(Ok(amount)) => amount,
        Ok(Err(panic)) => {
            tracing::error!(%panic, "settlement panicked; recovery will settle");
            None
        }
        Err(_) => {
            app.metrics.inference.settlements_late.inc();
            None
        }
    }
}

/// Tries until it is settled, or until the gateway stops and patience ends: what is known here is exact, and of a
/// receipt nobody knows how long a worker keeps it. `running` keeps recovery away for as long.
///
/// The tries are bounded in number by what is in work: while the store fails, no further request is opened.
async fn until_settled(app: Arc<App>, dialect: Dialect, settlement: Settlement, running: Running) -> Option<Nanousd> {
    let mut pause = FIRST_RETRY;
    let mut stopping_since = None;
    let settled = loop {
        let error = match billing::settle(&app.store, &settlement).await {
            Ok(settled) => break settled,
            Err(error) => error,
        };
        if app.stopping.is_cancelled() {
            stopping_since.get_or_insert_with(Instant::now);
        }
        let cause = error.cause().map(tracing::field::display);
        let out_of_patience = stopping_since.is_some_and(|since| since.elapsed() + pause > PATIENCE_STOPPING);
        if out_of_patience || error.kind == ErrorKind::NotFound {
            tracing::error!(request = %settlement.id, %error, cause, "not settled; recovery will");
            return None;
        }
        tracing::warn!(request = %settlement.id, %error, cause, "settling again");
        tokio::select! {
            () = sleep(pause) => {}
            // Not for a second time: from then on the pauses count.
            () = app.stopping.cancelled(), if stopping_since.is_none() => pause = FIRST_RETRY,
        }
        pause = (pause * 2).min(LAST_RETRY);
    };
    drop(running);
    if settled.first {
        ended(&app, dialect, &settlement);
    } else {
        tracing::warn!(request = %settlement.id, "somebody else had settled this request");
    }
    Some(settled.amount)
}

fn ended(app: &App, dialect: Dialect, settlement: &Settlement) {
    let Settlement { id, outcome, usage, detail, .. } = settlement;
    app.metrics.inference.ended(dialect.as_str(), *outcome, usage);
    tracing::info!(
        request = %id, outcome = outcome.as_str(), input_tokens = usage.input_tokens,
        output_tokens = usage.output_tokens, attempt = detail.attempt, ttft_ms = detail.ttft_ms,
        latency_ms = detail.latency_ms, "request ended"
    );
}
