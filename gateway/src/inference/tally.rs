//! What the engine computed for a request, by whoever knows it best.
//!
//! A worker's last word, `Done` or `Error`, is exact. Where none came, because the link broke or the engine did not stop
//! in time, the frames that were read may be behind: by the tokens on their way, or by a whole prompt. Then the stream
//! is dropped, which cancels the request, and the worker's receipt says what it came to.

use crate::app::App;
use crate::id::RequestId;
use crate::upstream::Cluster;
use cluster_protocol::{Counts, FinishReason, Receipt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// For a cancelled request to end: a worker sees it between two chunks of a prompt.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same while the gateway stops.
const PATIENCE_STOPPING: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// Whether it is the engine's final count; otherwise it is the least that was computed.
    pub(super) exact: bool,
    /// Set when a receipt told it.
    pub(super) finish: Option<FinishReason>,
}

/// A request whose worker gave no last word.
#[derive(Debug, Clone)]
pub(super) struct Unanswered {
    pub(super) cluster: Arc<Cluster>,
    /// No count can be more: prompt and maximum.
    pub(super) most: Counts,
}

/// Names the request on its worker.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) id: &'a RequestId,
    pub(super) decode: &'a str,
    pub(super) attempt: u32,
    /// By the last frame.
    pub(super) seen: Counts,
}

impl Unanswered {
    /// Asks for the receipt until the request has ended. A worker that can't be reached, or knows nothing of the request,
    /// has died: then the frames' count stands, at once. Takes 15 seconds at most, 2 while the gateway stops. Cancelling
    /// it loses nothing.
    pub(super) async fn ask(&self, app: &App, asked: &Asked<'_>) -> Tally {
        let by_frames = || Tally { counts: asked.seen, exact: false, finish: None };
        let hurry = async {
            app.stopping.cancelled().await;
            sleep(PATIENCE_STOPPING).await;
        };
        tokio::select! {
            told = self.told(asked) => told.unwrap_or_else(by_frames),
            () = sleep(PATIENCE) => by_frames(),
            () = hurry => by_frames(),
        }
    }

    async fn told(&self, asked: &Asked<'_>) -> Option<Tally> {
        let mut pause = FIRST_PAUSE;
        loop {
            let told = self.cluster.receipt(asked.decode, asked.id.as_str(), asked.attempt).await;
            match told.ok()?.receipt {
                Receipt::Ended { counts, finish } => {
                    return self.is_possible(asked, counts).then_some(Tally { counts, exact: true, finish });
                }
                Receipt::Unknown => return None,
                Receipt::Running { .. } => sleep(pause).await,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Counts are money: a receipt may not shrink what was seen, nor exceed what was asked for.
    fn is_possible(&self, asked: &Asked<'_>, counts: Counts) -> bool {
        (asked.seen.input_tokens..=self.most.input_tokens).contains(&counts.input_tokens)
            && (asked.seen.output_tokens..=self.most.output_tokens).contains(&counts.output_tokens)
    }
}
