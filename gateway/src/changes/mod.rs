//! The feed of administrators' changes, by which this gateway forgets what is not so any more.

/// This gateway's place in the feed.
#[derive(Debug, Default)]
pub struct Feed {}

impl Feed {
    /// Waits until this gateway knows every change that was committed before the call.
    pub async fn catch_up(&self) {}
}
