//! Settling until it is done, whatever the caller does meanwhile.

use super::state::Running;
use crate::app::App;
use crate::billing::{self, Settlement};
use crate::clock::Micros;
use crate::money::Nanousd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a replica may be silent before others settle what it has left open, in µs.
pub(super) const LEASE_US: Micros = 60_000_000;

/// How long a caller waits for the price of a complete answer.
const CALLER_WAITS: Duration = Duration::from_secs(2);
/// How long a settlement is tried; afterwards recovery settles from the worker's receipt.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same while the gateway stops.
const PATIENCE_STOPPING: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Settles in a tracked task of its own, and waits shortly for the amount; `None` when it takes longer or fails.
pub(super) async fn settle(app: &Arc<App>, settlement: Settlement, running: Running) -> Option<Nanousd> {
    let task = app.tasks.spawn(until_settled(Arc::clone(app), settlement, running));
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

/// Tries until it is settled or patience ends. `running` keeps recovery away for as long.
async fn until_settled(app: Arc<App>, settlement: Settlement, running: Running) -> Option<Nanousd> {
    let since = Instant::now();
    let mut pause = FIRST_RETRY;
    let amount = loop {
        let error = match billing::settle(&app.store, &settlement).await {
            Ok(amount) => break Some(amount),
            Err(error) => error,
        };
        let patience = if app.stopping.is_cancelled() { PATIENCE_STOPPING } else { PATIENCE };
        let cause = error.cause().map(tracing::field::display);
        if since.elapsed() + pause > patience {
            tracing::error!(request = %settlement.id, %error, cause, "not settled; recovery will");
            break None;
        }
        tracing::warn!(request = %settlement.id, %error, cause, "settling again");
        sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    };
    drop(running);
    amount
}
