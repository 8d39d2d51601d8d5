//! The feed of administrators' changes, by which this gateway forgets what is not so any more.
//!
//! ```text
//! a change    its row in the audit log, in the change's own transaction; numbered in the order of commits
//! a poll      reads the rows past this gateway's position, at least every `poll_ms`, and at once when nudged
//! its rows    are applied: credentials forgotten, running requests of ended ones stopped, the catalog's readers woken
//! the lease   then lasts until `lease_ms` after the poll *began*: what it did not see was not committed by then
//! ```
//!
//! So a change is seen by every gateway within `lease_ms`, or the gateway knows that it may have missed one, and asks the
//! database about each credential. Redis only makes it faster; a message there says nothing but "look", and is believed
//! nothing else. A gateway that nobody nudges, and one that can't reach anything, keep the same bound.

mod effect;
mod metrics;
mod poll;
mod redis;

pub use metrics::Metrics;

use crate::app::App;
use crate::config;
use crate::error::Result;
use crate::store::{AuditHeadRow, Follower};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// How long a change's reply waits for this gateway's own look. The others are bound by their leases anyway.
const CATCH_UP: Duration = Duration::from_millis(500);

/// This gateway's place in the feed.
#[derive(Debug)]
pub struct Feed {
    settings: config::Changes,
    /// Everything up to here has been applied.
    position: Mutex<AuditHeadRow>,
    /// Asks for a poll now.
    look: Notify,
    /// Asks for the others to be told.
    tell: Notify,
    /// When the last poll that succeeded began.
    polled: watch::Sender<Option<Instant>>,
    /// Number of the last change of the catalog.
    catalog: watch::Sender<i64>,
    metrics: Metrics,
}

impl Feed {
    /// At no place yet.
    pub fn new(settings: &config::Changes, metrics: &Metrics) -> Feed {
        Feed {
            settings: settings.clone(),
            position: Mutex::new(AuditHeadRow { seq: 0, digest: String::new() }),
            look: Notify::new(),
            tell: Notify::new(),
            polled: watch::Sender::new(None),
            catalog: watch::Sender::new(0),
            metrics: metrics.clone(),
        }
    }

    /// Takes its place at the feed's end. To be called once, before anything is remembered that a change could touch.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin(&self, mut follower: Follower) -> Result<Follower> {
        self.go_to(follower.audit_head().await?);
        Ok(follower)
    }

    /// Waits until this gateway has applied every change that was committed before the call, at most half a second; and
    /// tells the other gateways to look.
    pub async fn catch_up(&self) {
        self.tell.notify_one();
        let (since, mut polled) = (Instant::now(), self.polled.subscribe());
        self.look();
        let caught_up = polled.wait_for(|begun| begun.is_some_and(|begun| begun >= since));
        if timeout(CATCH_UP, caught_up).await.is_err() {
            tracing::debug!("a change is answered before this gateway has applied it");
        }
    }

    /// Number of the last change of models and aliases that came by; a reader reloads whenever it moves.
    pub fn catalog(&self) -> watch::Receiver<i64> {
        self.catalog.subscribe()
    }

    /// Has the feed looked at now instead of at the next turn.
    fn look(&self) {
        self.look.notify_one();
    }

    fn position(&self) -> AuditHeadRow {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn go_to(&self, position: AuditHeadRow) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

/// Follows the feed until the gateway stops; with Redis configured also listens there, and tells.
pub fn spawn(app: &Arc<App>, follower: Follower, tasks: &TaskTracker) {
    tasks.spawn(poll::follow(Arc::clone(app), follower));
    redis::spawn(app, tasks);
}

/// Asks the Redis server of this address once whether it lives: where it is, and why it does not answer.
pub async fn look_once(redis_url: &str) -> (String, Option<String>) {
    redis::look_once(redis_url).await
}

#[cfg(test)]
mod tests;
