//! Settling what nobody else will: requests that an earlier process of this gateway, or a dead replica, left open.
//!
//! The decode worker remembers what each request came to, so the count is exact even though the gateway that asked is
//! gone. A worker that restarted since, or has forgotten, says so: then, after some seconds' patience,
//! nothing is charged.

use super::settle::LEASE_US;
use crate::app::App;
use crate::billing::{self, Detail, OpenRow, Outcome, Settlement};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::RequestId;
use crate::quota::Past;
use crate::upstream::Told;
use cluster_protocol::{Counts, FinishReason, Receipt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two rounds of either task.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two rounds while something is still to be asked.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// For how long the same engine must say that it knows nothing of a request: one that was sent just before its gateway
/// died may still be on its way, or wait to be admitted.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(5);
/// How long an unreachable worker is waited for; then its requests count as lost.
const WORKER_PATIENCE: Duration = Duration::from_secs(120);
/// What limits look back on: a minute, and the second that it may begin in. In µs.
const LIMITS_US: Micros = 62_000_000;
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

/// Counts in the limits what an earlier process of this gateway admitted within the last minute: a restart must not
/// give anybody a second one. Before the first request.
///
/// # Errors
/// Those of the store.
pub async fn restore_limits(app: &App) -> Result<()> {
    let now = app.clock.now();
    let rows = billing::admitted_since(&app.store, &app.config.gateway.id, now - LIMITS_US).await?;
    let past = rows.into_iter().map(|row| Past {
        // The second's end: rather counted too long than too short.
        ago: Duration::from_micros(u64::try_from(now - row.second.saturating_add(1) * 1_000_000).unwrap_or(0)),
        tenant: row.tenant_id,
        project: row.project_id,
        key: row.key_id,
        requests: row.requests,
        tokens: row.tokens,
    });
    app.limiter.restore(&past.collect::<Vec<_>>());
    Ok(())
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

/// How long an orphan is asked for already.
#[derive(Debug)]
struct Asked {
    since: Instant,
    /// The engine that last knew nothing of it, by its epoch, and since when.
    unknown: Option<(u64, Instant)>,
}

impl Asked {
    fn new() -> Asked {
        Asked { since: Instant::now(), unknown: None }
    }

    /// How long the same engine has been saying that it knows nothing.
    fn unknown_for(&mut self, told: &Result<Told>) -> Duration {
        let epoch = match told {
            Ok(Told { receipt: Receipt::Unknown, epoch }) => *epoch,
            Ok(Told { receipt: Receipt::Running { .. } | Receipt::Ended { .. }, .. }) | Err(_) => {
                self.unknown = None;
                return Duration::ZERO;
            }
        };
        match self.unknown {
            Some((same, since)) if same == epoch => since.elapsed(),
            Some(_) | None => {
                self.unknown = Some((epoch, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

/// Settles an orphan if its count is known by now; otherwise remembers since when it is asked for.
async fn settle(app: &App, row: OpenRow, since: &mut HashMap<RequestId, Asked>) {
    let asked = since.entry(row.id.clone()).or_insert_with(Asked::new);
    let told = receipt(app, &row).await;
    let unknown_for = asked.unknown_for(&told);
    let Some(end) = judge(told.map(|told| told.receipt), asked.since.elapsed(), unknown_for) else { return };
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
        keep: None,
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
async fn receipt(app: &App, row: &OpenRow) -> Result<Told> {
    match (&row.decode_worker, app.upstreams.cluster_of(&row.model)) {
        (Some(decode), Some(cluster)) => cluster.receipt(decode, row.id.as_str(), row.attempt).await,
        (None, _) | (_, None) => Ok(Told { receipt: Receipt::Unknown, epoch: 0 }),
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
fn judge(receipt: Result<Receipt>, asked_for: Duration, unknown_for: Duration) -> Option<End> {
    let patient = asked_for < WORKER_PATIENCE;
    let lost = End { outcome: Outcome::Lost, counts: Counts::default(), finish: None };
    let recovered = |counts, finish| End { outcome: Outcome::Recovered, counts: charged(counts, &finish), finish };
    match receipt {
        Ok(Receipt::Ended { counts, finish }) => Some(recovered(counts, finish)),
        Ok(Receipt::Unknown) => (unknown_for >= UNKNOWN_PATIENCE).then_some(lost),
        Ok(Receipt::Running { counts }) => (!patient).then_some(recovered(counts, None)),
        Err(_) => (!patient).then_some(lost),
    }
}

/// A request that fails before its first token costs nothing, and one whose gateway died under it has failed.
fn charged(counts: Counts, finish: &Option<FinishReason>) -> Counts {
    if counts.output_tokens == 0 && finish.is_none() { Counts::default() } else { counts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    const COUNTS: Counts = Counts { input_tokens: 7, output_tokens: 2 };
    const NEVER: Duration = Duration::ZERO;
    const SOON: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn an_ended_request_is_recovered_with_its_exact_count() {
        let end = judge(Ok(Receipt::Ended { counts: COUNTS, finish: Some(FinishReason::EndOfTurn) }), SOON, NEVER);
        let end = end.unwrap();
        assert_eq!((end.outcome, end.counts), (Outcome::Recovered, COUNTS));
        assert_eq!(end.finish, Some(FinishReason::EndOfTurn));
    }

    #[test]
    fn a_request_that_ended_before_its_first_token_costs_nothing_unless_it_was_stopped() {
        let prompt = Counts { input_tokens: 7, output_tokens: 0 };
        let ended = |finish| judge(Ok(Receipt::Ended { counts: prompt, finish }), SOON, NEVER).unwrap();
        assert_eq!((ended(None).outcome, ended(None).counts), (Outcome::Recovered, Counts::default()));
        assert_eq!(ended(Some(FinishReason::Stopped)).counts, prompt, "its caller had left");
        let running = judge(Ok(Receipt::Running { counts: prompt }), LATE, NEVER).unwrap();
        assert_eq!(running.counts, Counts::default());
    }

    #[test]
    fn a_request_that_stays_unknown_is_lost_and_costs_nothing() {
        assert_eq!(judge(Ok(Receipt::Unknown), LATE, NEVER), None, "it may be on its way");
        assert_eq!(judge(Ok(Receipt::Unknown), LATE, UNKNOWN_PATIENCE - SOON), None);
        let end = judge(Ok(Receipt::Unknown), SOON, UNKNOWN_PATIENCE).unwrap();
        assert_eq!((end.outcome, end.counts), (Outcome::Lost, Counts::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_with_the_unknown_begins_anew_with_every_engine_and_other_answer() {
        let unknown = |epoch| Ok(Told { receipt: Receipt::Unknown, epoch });
        let mut asked = Asked::new();
        assert_eq!(asked.unknown_for(&unknown(1)), NEVER);
        tokio::time::advance(SOON * 3).await;
        assert_eq!(asked.unknown_for(&unknown(1)), SOON * 3);
        assert_eq!(asked.unknown_for(&unknown(2)), NEVER, "a restarted worker");
        tokio::time::advance(SOON).await;
        assert_eq!(asked.unknown_for(&Err(Error::new(ErrorKind::UpstreamUnavailable, "x"))), NEVER);
        assert_eq!(asked.unknown_for(&unknown(2)), NEVER);
        tokio::time::advance(SOON).await;
        assert_eq!(asked.unknown_for(&unknown(2)), SOON);
    }

    #[test]
    fn running_and_unreachable_are_asked_again_for_a_bounded_time() {
        let unreachable = || Err(Error::new(ErrorKind::UpstreamUnavailable, "x"));
        assert_eq!(judge(Ok(Receipt::Running { counts: COUNTS }), SOON, NEVER), None);
        assert_eq!(judge(unreachable(), SOON, NEVER), None);
        assert_eq!(judge(Ok(Receipt::Running { counts: COUNTS }), LATE, NEVER).unwrap().counts, COUNTS);
        assert_eq!(judge(unreachable(), LATE, NEVER).unwrap().outcome, Outcome::Lost);
    }
}
