//! Looking, and doing what follows from what is seen.

use super::effect::effect;
use crate::app::App;
use crate::auth::Affected;
use crate::error::{Error, Result};
use crate::store::{AuditHeadRow, ChangeRow, Follower};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Most rows that are read at once. A gateway that is further behind reads on at once, without a pause.
const BATCH: i64 = 1_000;
/// Between two polls however often we are nudged: whoever floods Redis costs the database no more than this.
const LEAST_GAP: Duration = Duration::from_millis(10);

/// Polls until the gateway stops: its draining requests can be revoked too.
pub(super) async fn follow(app: Arc<App>, mut follower: Follower) {
    let feed = &app.changes;
    let every = Duration::from_millis(feed.settings.poll_ms);
    // A poll that hangs must leave time for another one within the lease.
    let patience = Duration::from_millis(feed.settings.lease_ms / 2);
    let mut follows = true;
    while !app.stopping.is_cancelled() {
        let begun = Instant::now();
        let polled = poll(&app, &mut follower, patience).await;
        feed.metrics.polled(polled.is_ok());
        feed.metrics.lease.set(i64::from(app.credentials.lease().is_fresh()));
        match (&polled, follows) {
            (Err(error), true) => {
                let cause = error.cause().map(tracing::field::display);
                tracing::warn!(%error, cause, "changes are not followed; credentials are read from the database");
            }
            (Ok(()), false) => tracing::info!("changes are followed again"),
            (Ok(()), true) | (Err(_), false) => {}
        }
        follows = polled.is_ok();
        tokio::select! {
            () = sleep_until(begun + every) => {}
            () = nudged(&app, begun) => {}
            () = app.stopping.cancelled() => {}
        }
    }
}

async fn nudged(app: &App, begun: Instant) {
    app.changes.look.notified().await;
    sleep_until(begun + LEAST_GAP).await;
}

/// Reads and applies all that is new, then renews the lease from when the last read began: all rows that were committed
/// before that have been applied.
async fn poll(app: &App, follower: &mut Follower, patience: Duration) -> Result<()> {
    loop {
        let (begun, now, position) = (Instant::now(), app.clock.now(), app.changes.position());
        // The row that we are at comes along: it tells whether this is still the history that we know.
        let rows = within(patience, follower.changes_from(position.seq, BATCH)).await?;
        let Some(new) = after(&position, &rows) else {
            return start_over(app, within(patience, follower.audit_head()).await?);
        };
        apply(app, new);
        if let Some(last) = new.last() {
            app.changes.go_to(AuditHeadRow { seq: last.seq, digest: last.digest.clone() });
        }
        if i64::try_from(rows.len()).is_ok_and(|read| read < BATCH) {
            app.credentials.lease().renew(begun);
            app.changes.metrics.last_poll.set(now as f64 / 1e6);
            app.changes.polled.send_replace(Some(begun));
            return Ok(());
        }
    }
}

async fn within<T>(patience: Duration, read: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(patience, read).await.unwrap_or_else(|elapsed| Err(Error::internal(elapsed)))
}

/// The rows after the one that we are at; `None` when that one is not there, or is another one.
fn after<'r>(position: &AuditHeadRow, rows: &'r [ChangeRow]) -> Option<&'r [ChangeRow]> {
    if position.seq == 0 {
        return Some(rows);
    }
    let (first, new) = rows.split_first()?;
    (first.seq == position.seq && first.digest == position.digest).then_some(new)
}

/// The database was put back to an earlier state, or taken over by a replica that had not got everything. What is
/// remembered may never have been; the next poll goes on from the end of this history.
fn start_over(app: &App, head: AuditHeadRow) -> Result<()> {
    tracing::error!(
        at = app.changes.position().seq,
        head = head.seq,
        "the log of changes is not the one that was followed"
    );
    app.changes.go_to(head);
    app.credentials.forget(&Affected::Everything);
    app.changes.look();
    Ok(())
}

fn apply(app: &App, rows: &[ChangeRow]) {
    let metrics = &app.changes.metrics;
    for row in rows {
        let effect = effect(row);
        if let Some(affected) = &effect.forget {
            // In this order: see `inference::State::enter`.
            app.credentials.forget(affected);
            if effect.ends {
                let ended = app.inference.revoke(affected);
                metrics.ended.inc_by(ended as u64);
            }
        }
        if effect.catalog {
            app.changes.catalog.send_replace(row.seq);
        }
        metrics.applied.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, digest: &str) -> ChangeRow {
        ChangeRow {
            seq,
            tenant_id: None,
            action: "tenant.create".into(),
            target_kind: "tenant".into(),
            target_id: "ten_a".into(),
            digest: digest.into(),
        }
    }

    #[test]
    fn a_history_that_is_another_one_is_noticed() {
        let at = |seq, digest: &str| AuditHeadRow { seq, digest: digest.into() };
        let rows = [row(5, "five"), row(6, "six")];
        assert_eq!(after(&at(5, "five"), &rows), Some(&rows[1..]));
        assert_eq!(after(&at(5, "five"), &rows[..1]), Some(&rows[2..]), "nothing new");
        assert_eq!(after(&at(0, ""), &rows), Some(&rows[..]), "before the first entry");
        assert_eq!(after(&at(0, ""), &[]), Some(&rows[..0]));
        assert_eq!(after(&at(5, "another"), &rows), None, "an entry was replaced");
        assert_eq!(after(&at(7, "seven"), &[]), None, "the log was longer");
        assert_eq!(after(&at(4, "four"), &rows), None, "ours is missing");
    }
}
