//! HTTP/2 streams and their readers. A stream whose window stays shut keeps its reply for as long as the connection
//! lives, and pings keep that alive: so each has a deadline of its own. HTTP/1.1 needs none: there a reader that
//! doesn't read blocks the socket, which [`super::pulse`] sees.

use crate::telemetry::edge::Metrics;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    static READER: Arc<Reader>;
}

/// Runs streams, and resets one whose reader takes nothing of its reply for `stall`; the others go on.
#[derive(Debug, Clone)]
pub struct Streams {
    stall: Duration,
    metrics: Metrics,
}

impl Streams {
    /// With the patience that readers get.
    pub fn new(stall: Duration, metrics: Metrics) -> Streams {
        Streams { stall, metrics }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let Streams { stall, metrics } = self.clone();
        let reader = Arc::<Reader>::default();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = READER.scope(reader.clone(), stream) => {}
                // Dropping the stream resets it.
                () = reader.stalls_for(stall) => metrics.connection_expired("stream_reader"),
            }
        });
    }
}

/// Whoever takes one stream's reply.
#[derive(Debug, Default)]
pub struct Reader {
    /// When the last piece was given to a reader who hasn't asked for the next one.
    given: Mutex<Option<Instant>>,
}

impl Reader {
    /// Of the stream whose task this is.
    pub fn of_this_stream() -> Option<Arc<Reader>> {
        READER.try_with(Arc::clone).ok()
    }

    /// A piece was given; the next will be asked for when the stream's window has taken this one.
    pub fn is_given(&self) {
        self.set(Some(Instant::now()));
    }

    /// The next piece is asked for; from now on the reader waits for us.
    pub fn asks(&self) {
        self.set(None);
    }

    async fn stalls_for(&self, stall: Duration) {
        loop {
            let given = self.given.lock().unwrap_or_else(PoisonError::into_inner).to_owned();
            let now = Instant::now();
            // A piece that is given later has its deadline later, so nothing needs to wake this earlier.
            let deadline = given.unwrap_or(now) + stall;
            if deadline <= now {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    fn set(&self, given: Option<Instant>) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = given;
    }
}
