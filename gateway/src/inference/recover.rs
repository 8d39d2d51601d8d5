//! Settling what nobody else will: requests that an earlier process of this gateway, or a dead replica, left open.
//!
//! The decode worker remembers what each request came to, so the count is exact even though the gateway that asked is
//! gone. A worker that restarted since, or has forgotten, says so: then nothing is charged.

use super::settle::LEASE_US;
use crate::app::App;
use crate::billing::{self, Detail, OpenRow, Outcome, Settlement};
use crate::error::Result;
use crate::id::RequestId;
use cluster_protocol::{Counts, FinishReason, Receipt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two rounds of either task.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two rounds while something is still to be asked.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an unreachable worker is waited for; then its requests count as lost.
const WORKER_PATIENCE: Duration = Duration::from_secs(120);
/// While the gateway drains, how soon it is noticed that the last request has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// Most own requests looked at in a round; what is left over comes in the next.
const MOST_OWN: usize = 10_000;

/// Starts both tasks: one renews the leases of this gateway's open requests until the last has ended, one settles
/// orphans, at once and then every 10 seconds, until `draining` is cancelled.
pub fn spawn(app: &Arc<App>) {
    app.tasks.spawn(renew(Arc::clone(app)));
    app.tasks.spawn(sweep(Arc::clone(app)));
}

async fn renew(app: Arc<App>) {
    while !app.draining.is_cancelled() || app.inference.is_any_running() {
        let until = app.clock.now() + LEASE_US;
        if let Err(error) = billing::renew_leases(&app.store, &app.config.gateway.id, until).await {
            tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "leases not renewed");
        }
        pause(&app, INTERVAL).await;
        let next = Instant::now() + INTERVAL;
        while app.draining.is_cancelled() && app.inference.is_any_running() && Instant::now() < next {
            sleep(DRAIN_LOOK).await;
        }
    }
}

async fn sweep(app: Arc<App>) {
    let mut since = HashMap::new();
    while !app.draining.is_cancelled() {
        match orphans(&app).await {
            Ok(rows) => {
                since.retain(|id, _| rows.iter().any(|row| row.id == *id));
                for row in rows {
                    if app.draining.is_cancelled() {
                        return;
                    }
                    settle(&app, row, &mut since).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "no sweep");
            }
        }
        pause(&app, if since.is_empty() { INTERVAL } else { SHORT_INTERVAL }).await;
    }
}

async fn pause(app: &App, time: Duration) {
    tokio::select! {
        () = sleep(time) => {}
        () = app.draining.cancelled() => {}
    }
}

/// Open requests that no living task will settle.
async fn orphans(app: &App) -> Result<Vec<OpenRow>> {
    let now = app.clock.now();
    let mut rows = own(app).await?;
    rows.extend(billing::expired_requests(&app.store, now).await?);
    // Looked up after the query: a request is marked before its row exists, and unmarked after it is settled, and
    // settling one that is settled already changes nothing.
    rows.retain(|row| !app.inference.is_running(&row.id));
    rows.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    rows.dedup_by(|a, b| a.id == b.id);
    Ok(rows)
}

/// All open requests of this gateway, in batches. Those in work come along, and are as many as may be in work.
async fn own(app: &App) -> Result<Vec<OpenRow>> {
    let mut rows: Vec<OpenRow> = Vec::new();
    while rows.len() < MOST_OWN {
        let after = rows.last().map(|row| row.id.clone());
        let batch = billing::open_requests(&app.store, &app.config.gateway.id, after.as_ref()).await?;
        if batch.is_empty() {
            break;
        }
        rows.extend(batch);
    }
    Ok(rows)
}

/// Settles an orphan if its count is known by now; otherwise remembers since when it is asked for.
async fn settle(app: &App, row: OpenRow, since: &mut HashMap<RequestId, Instant>) {
    let asked_since = *since.entry(row.id.clone()).or_insert_with(Instant::now);
    let receipt = receipt(app, &row).await;
    let Some(end) = judge(receipt, asked_since.elapsed()) else { return };
    let settlement = Settlement {
        id: row.id.clone(),
        outcome: end.outcome,
        usage: end.counts.into(),
        detail: Detail {
            finish: end.finish,
            error: Some("gateway_lost".into()),
            decode: row.decode_worker,
            attempt: row.attempt,
            ..Detail::default()
        },
        ended_at: app.clock.now(),
    };
    match billing::settle(&app.store, &settlement).await {
        Ok(settled) => {
            since.remove(&row.id);
            // Another replica may have been as quick.
            if settled.first {
                app.metrics.inference.ended("recovery", end.outcome, &settlement.usage);
                tracing::info!(request = %row.id, outcome = end.outcome.as_str(), "orphan settled");
            }
        }
        Err(error) => tracing::warn!(request = %row.id, %error, "orphan not settled"),
    }
}

/// `Err` while the worker can't be reached.
async fn receipt(app: &App, row: &OpenRow) -> Result<Receipt> {
    match (&row.decode_worker, app.upstreams.cluster_of(&row.model)) {
        (Some(decode), Some(cluster)) => cluster.receipt(decode, row.id.as_str(), row.attempt).await,
        (None, _) | (_, None) => Ok(Receipt::Unknown),
    }
}

/// How an orphan is settled.
#[derive(Debug, PartialEq, Eq)]
struct End {
    outcome: Outcome,
    counts: Counts,
    finish: Option<FinishReason>,
}

/// `None`: ask again. Its connection is gone, so a running request ends soon; but should a worker hold on to it,
/// what it has counted is settled in the end.
fn judge(receipt: Result<Receipt>, asked_for: Duration) -> Option<End> {
    let patient = asked_for < WORKER_PATIENCE;
    let lost = End { outcome: Outcome::Lost, counts: Counts::default(), finish: None };
    match receipt {
        Ok(Receipt::Ended { counts, finish }) => Some(End { outcome: Outcome::Recovered, counts, finish }),
        Ok(Receipt::Unknown) => Some(lost),
        Ok(Receipt::Running { counts }) => {
            (!patient).then_some(End { outcome: Outcome::Recovered, counts, finish: None })
        }
        Err(_) => (!patient).then_some(lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    const COUNTS: Counts = Counts { input_tokens: 7, output_tokens: 2 };
    const SOON: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn an_ended_request_is_recovered_with_its_exact_count() {
        let end = judge(Ok(Receipt::Ended { counts: COUNTS, finish: Some(FinishReason::EndOfTurn) }), SOON).unwrap();
        assert_eq!((end.outcome, end.counts), (Outcome::Recovered, COUNTS));
        assert_eq!(end.finish, Some(FinishReason::EndOfTurn));
    }

    #[test]
    fn an_unknown_request_is_lost_and_costs_nothing() {
        let end = judge(Ok(Receipt::Unknown), SOON).unwrap();
        assert_eq!((end.outcome, end.counts), (Outcome::Lost, Counts::default()));
    }

    #[test]
    fn running_and_unreachable_are_asked_again_for_a_bounded_time() {
        let unreachable = || Err(Error::new(ErrorKind::UpstreamUnavailable, "x"));
        assert_eq!(judge(Ok(Receipt::Running { counts: COUNTS }), SOON), None);
        assert_eq!(judge(unreachable(), SOON), None);
        assert_eq!(judge(Ok(Receipt::Running { counts: COUNTS }), LATE).unwrap().counts, COUNTS);
        assert_eq!(judge(unreachable(), LATE).unwrap().outcome, Outcome::Lost);
    }
}
