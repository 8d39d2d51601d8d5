//! From a worker's frames to the log's events, counting and timing on the way.

use super::event::{Event, Started};
use super::log::FrameLog;
use super::metrics::Metrics;
use super::verdict::Interrupt;
use super::writer::Writer;
use crate::upstream::{Failure, Frame, TokenStream};
use cluster_protocol::{Counts, Done};
use futures::future::{BoxFuture, FutureExt, Shared};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// For the engine to stop and tell its exact count.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Ready when a request shall end from our side. Every clone gives the same answer.
pub(super) type Interrupts<'a> = Shared<BoxFuture<'a, Interrupt>>;

/// Watches for the reasons to end a request early.
pub(super) fn interrupts<'a>(
    log: &'a FrameLog,
    stopping: &'a CancellationToken,
    revoked: &'a CancellationToken,
) -> Interrupts<'a> {
    let first = async move {
        tokio::select! {
            why = log.abandoned() => Interrupt::Abandoned(why),
            () = revoked.cancelled() => Interrupt::Revoked,
            () = stopping.cancelled() => Interrupt::Stopping,
        }
    };
    first.boxed().shared()
}

/// What is counted and timed of one answer.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    first_at: Option<Instant>,
    last_at: Instant,
    counts: Counts,
    metrics: Metrics,
    writer: Writer,
}

impl Meter {
    /// `since`: when the request's head was read.
    pub(super) fn new(since: Instant, metrics: Metrics) -> Meter {
        Meter { since, first_at: None, last_at: since, counts: Counts::default(), metrics, writer: Writer::default() }
    }

    /// How the answer's pieces become events; until this is said, as they are.
    pub(super) fn write_with(&mut self, writer: Writer) {
        self.writer = writer;
    }

    /// What was written of the answer.
    pub(super) fn written(&self) -> &Writer {
        &self.writer
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn started(&self) -> bool {
        self.first_at.is_some()
    }

    /// To the first token.
    pub(super) fn ttft_ms(&self) -> Option<u64> {
        self.first_at.map(|at| millis(at - self.since))
    }

    /// To the last token, or to now when there was none.
    pub(super) fn latency_ms(&self) -> u64 {
        let until = if self.started() { self.last_at } else { Instant::now() };
        millis(until - self.since)
    }

    /// Keeps a failed opening's count.
    pub(super) fn keep(&mut self, failure: &Failure) {
        self.counts = failure.counts;
    }

    /// Reads the answer to its end, or stops it when interrupted: then its frames still come until the engine has
    /// told its final count, which takes two seconds at most. `started` is the first event.
    ///
    /// # Errors
    /// The stream's [`Failure`]; also when the log is full, since then the worker sent more than was asked for.
    pub(super) async fn read(
        &mut self,
        mut stream: TokenStream,
        started: Started,
        log: &FrameLog,
        interrupts: &Interrupts<'_>,
    ) -> Result<Box<Done>, Failure> {
        let mut interrupted = interrupts.clone();
        loop {
            let frame = tokio::select! {
                frame = stream.next() => frame,
                _ = &mut interrupted => return self.stop(stream, log).await,
            };
            let frame = self.count(&stream, frame)?;
            match (self.started(), &frame) {
                (false, _) => self.start(started.clone(), log),
                (true, Frame::Token(_)) => self.beat(),
                (true, Frame::Paused(_) | Frame::Done(_)) => {}
            }
            if let Some(done) = self.pass_on(frame, &mut stream, log).await? {
                return Ok(done);
            }
        }
    }

    async fn stop(&mut self, mut stream: TokenStream, log: &FrameLog) -> Result<Box<Done>, Failure> {
        let told = async {
            stream.stop().await?;
            loop {
                let frame = stream.next().await;
                let frame = self.count(&stream, frame)?;
                // Before the first token there is nothing to go on with: the caller gets a plain error.
                if let Some(done) = self.pass_on(frame, &mut stream, log).await? {
                    return Ok(done);
                }
            }
        };
        match timeout(STOP_WAIT, told).await {
            Ok(result) => result,
            Err(_) => Err(Failure::unstoppable(self.counts, self.started())),
        }
    }

    fn count(&mut self, stream: &TokenStream, frame: Result<Frame, Failure>) -> Result<Frame, Failure> {
        self.counts = stream.counts();
        frame
    }

    fn start(&mut self, started: Started, log: &FrameLog) {
        let now = Instant::now();
        self.first_at = Some(now);
        self.last_at = now;
        self.metrics.first_token(now - self.since);
        // The bound counts this event, and it is the first.
        let _ = log.append(Event::Started(started));
    }

    fn beat(&mut self) {
        let now = Instant::now();
        self.metrics.next_token(now - self.last_at);
        self.last_at = now;
    }

    async fn pass_on(
        &mut self,
        frame: Frame,
        stream: &mut TokenStream,
        log: &FrameLog,
    ) -> Result<Option<Box<Done>>, Failure> {
        match frame {
            Frame::Done(done) => {
                if self.started() {
                    self.writer.finish(done.counts, log).map_err(|_| Failure::overflow(done.counts))?;
                }
                Ok(Some(done))
            }
            Frame::Paused(_) => {
                // Everything is reserved at once today; slice by slice, this is where the reservation grows.
                stream.extend(stream.max_tokens()).await?;
                Ok(None)
            }
            Frame::Token(token) => {
                if self.started() {
                    let counts = token.counts;
                    self.writer.write(token, log).map_err(|_| Failure::overflow(counts))?;
                }
                Ok(None)
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
