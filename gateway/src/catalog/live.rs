//! The catalog in force: read from the database at the start, and again whenever the feed of changes tells of a model or
//! an alias.

use super::{MAX_OVERRIDES, Snapshot};
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::Store;
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// One row more than a catalog takes, so that one too many is noticed.
pub(super) const MOST_ROWS: i64 = MAX_OVERRIDES as i64 + 1;
/// Between two tries to read the catalog anew.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The catalog in force, swapped whole.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    /// Calls of [`Live::reload`].
    asked: AtomicU64,
    /// One read at a time, so that an older one can't be swapped in after a newer one. Holds how many calls the last read
    /// has answered: those that were made before it began.
    answered: Mutex<u64>,
    /// Asks [`follow`] to try again.
    again: Notify,
}

impl Live {
    /// With this one in force.
    pub fn new(snapshot: Snapshot) -> Live {
        let (asked, answered) = (AtomicU64::new(0), Mutex::new(0));
        Live { snapshot: ArcSwap::from_pointee(snapshot), asked, answered, again: Notify::new() }
    }

    /// The one in force.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts another one in force.
    pub fn swap_in(&self, snapshot: Snapshot) {
        let before = self.snapshot.swap(Arc::new(snapshot));
        let now = self.snapshot.load();
        if now.complaints() != before.complaints() {
            for complaint in now.complaints() {
                tracing::warn!(%complaint, "left out of the catalog");
            }
        }
        if now.ignored() != before.ignored() && !now.ignored().is_empty() {
            let (rows, first) = (now.ignored().len(), &now.ignored()[0]);
            tracing::warn!(rows, first, "the catalog is locked; what the admin API has set is ignored");
        }
    }

    /// Reads the catalog anew. Everything that was committed before the call is in force when it returns; of calls at
    /// the same time one reads for all that wait. Cancelling it leaves the catalog as it is.
    ///
    /// # Errors
    /// Those of the store; then the catalog stays as it is.
    pub async fn reload(&self, store: &Store, config: &Config) -> Result<()> {
        let call = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut answered = self.answered.lock().await;
        if *answered >= call {
            return Ok(());
        }
        let answers = self.asked.load(Ordering::SeqCst);
        let rows = store.catalog_rows(MOST_ROWS).await?;
        let config = config.clone();
        self.swap_in(apart(move || Snapshot::of_rows(&config, &rows)).await?);
        *answered = answers;
        Ok(())
    }
}

/// Puts what was committed before the call in force here. When the database can't be read, the former catalog stays, and
/// [`follow`] tries again.
pub async fn refresh(app: &App) {
    if let Err(error) = app.catalog.reload(&app.store, &app.config).await {
        complain(&error);
        app.catalog.again.notify_one();
    }
}

/// Follows the feed of changes until the gateway stops. To be called when the gateway has its place in the feed, and
/// before it follows it: what is committed from then on is noticed.
pub fn follow(app: &Arc<App>, tasks: &TaskTracker) {
    let (app, mut changed) = (Arc::clone(app), app.changes.catalog());
    tasks.spawn(async move {
        let following = async {
            loop {
                tokio::select! {
                    // The feed is a part of the app, which we hold.
                    _ = changed.changed() => {}
                    () = app.catalog.again.notified() => {}
                }
                reload_at_last(&app).await;
            }
        };
        app.stopping.run_until_cancelled(following).await;
    });
}

async fn reload_at_last(app: &App) {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = app.catalog.reload(&app.store, &app.config).await {
        complain(&error);
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn complain(error: &Error) {
    let cause = error.cause().map(tracing::field::display);
    tracing::warn!(%error, cause, "the catalog can't be read anew; the former one stays in force");
}

/// Reading thousands of rows takes milliseconds, in which this thread's answers would stand still.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
