//! The frames of one answer, from one worker.

use super::connection::{Connection, Deadlines};
use super::failure::{Cause, Failure};
use super::worker::Lease;
use cluster_protocol::{Counts, Done, Extend, Generate, Message, Paused, Token};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An answer as it comes. Dropping it closes the connection, which cancels the request in the worker.
#[derive(Debug)]
pub struct TokenStream {
    /// Gone once the answer has ended.
    connection: Option<Connection>,
    decode: Lease,
    /// Held until the prompt is computed.
    prefill: Option<Lease>,
    attempt: u32,
    engine: String,
    phase: Phase,
    waiting_since: Instant,
    deadlines: Deadlines,
    counts: Counts,
    prompt_tokens: u32,
    /// Of all choices together.
    max_tokens: u32,
    choices: u32,
    grant: u32,
    /// Read ahead by [`TokenStream::begin`].
    first: Option<Frame>,
}

/// A step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A piece of text, which may be empty, and its tokens.
    Token(Token),
    /// The grant is used up: extend it or stop.
    Paused(Paused),
    /// The answer is complete. The last frame.
    Done(Box<Done>),
}

/// What the stream waits for, which decides how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Prefilling,
    Started,
}

impl TokenStream {
    /// Sends `request`; nothing is read yet.
    pub(super) async fn send(
        mut connection: Connection,
        decode: Lease,
        prefill: Option<Lease>,
        request: Generate,
        deadlines: Deadlines,
    ) -> Result<TokenStream, Failure> {
        let prompt_tokens = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let (attempt, grant, choices) = (request.attempt, request.grant, request.choices);
        let max_tokens = request.max_tokens.saturating_mul(choices);
        if let Err(error) = connection.send(Message::Generate(Box::new(request))).await {
            decode.worker().suspect();
            return Err(Failure { exact: false, ..Failure::before_start(error) });
        }
        Ok(TokenStream {
            engine: connection.info().engine.clone(),
            connection: Some(connection),
            decode,
            prefill,
            attempt,
            phase: Phase::Queued,
            waiting_since: Instant::now(),
            deadlines,
            counts: Counts::default(),
            prompt_tokens,
            max_tokens,
            choices,
            grant,
            first: None,
        })
    }

    /// Waits for the first frame of the answer and keeps it for [`TokenStream::next`]. Cancelling loses nothing.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        if self.first.is_none() {
            self.first = Some(self.read().await?);
        }
        Ok(())
    }

    /// The next frame. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`Failure`], after which the answer is over: the worker reported an error, went silent or away, or sent values
    /// that can't be.
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        match self.first.take() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    /// Allows `grant` output tokens in all, within the request's maximum.
    ///
    /// # Errors
    /// [`Failure`] when the connection is gone. Cancelling may break the connection.
    pub async fn extend(&mut self, grant: u32) -> Result<(), Failure> {
        self.grant = self.grant.max(grant.min(self.max_tokens));
        self.tell(Message::Extend(Extend { grant: self.grant })).await
    }

    /// Asks for the end at the next step; frames go on until [`Frame::Done`].
    ///
    /// # Errors
    /// [`Failure`] when the connection is gone. Cancelling may break the connection.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        self.tell(Message::Stop).await
    }

    /// What was computed so far, by the engine's count.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Most output tokens, of all choices together, that the grant can be raised to.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Which try this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Id of the worker that answers.
    pub fn decode_id(&self) -> &str {
        &self.decode.worker().id
    }

    /// `llama` or `sim`.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    async fn tell(&mut self, message: Message) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match connection.send(message).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    async fn read(&mut self) -> Result<Frame, Failure> {
        loop {
            let (within, what) = self.patience();
            let deadline = self.waiting_since + within;
            let Some(connection) = &mut self.connection else {
                return Err(self.failed(Cause::Violation("read after its end")));
            };
            let message = match timeout_at(deadline, connection.receive()).await {
                Err(_) => return Err(self.broken(Cause::Silent(what))),
                Ok(Err(error)) => return Err(self.broken(error)),
                Ok(Ok(message)) => message,
            };
            self.waiting_since = Instant::now();
            if let Some(frame) = self.take(message)? {
                return Ok(frame);
            }
        }
    }

    fn patience(&self) -> (Duration, &'static str) {
        match self.phase {
            Phase::Queued => (self.deadlines.accept, "slot"),
            Phase::Prefilling => (self.deadlines.first_token, "first token"),
            Phase::Started => (self.deadlines.frame, "next token"),
        }
    }

    fn take(&mut self, message: Message) -> Result<Option<Frame>, Failure> {
        match (message, self.phase) {
            (Message::Accepted(_), Phase::Queued) => {
                self.phase = Phase::Prefilling;
                Ok(None)
            }
            (Message::Token(token), Phase::Prefilling | Phase::Started) => {
                if token.choice >= self.choices {
                    return Err(self.broken(Cause::Violation("a choice that was not asked for")));
                }
                self.count(token.counts)?;
                self.start();
                Ok(Some(Frame::Token(token)))
            }
            (Message::Paused(paused), Phase::Prefilling | Phase::Started) => {
                self.count(paused.counts)?;
                Ok(Some(Frame::Paused(paused)))
            }
            // Also while queued: a request may be stopped before it had its slot.
            (Message::Done(done), _) => {
                if done.finishes.len() != self.choices as usize {
                    return Err(self.broken(Cause::Violation("an end of other choices than were asked for")));
                }
                self.count(done.counts)?;
                self.release();
                Ok(Some(Frame::Done(done)))
            }
            (Message::Error(error), _) => {
                // The error matters more than its counts: impossible ones leave the last possible ones standing.
                let exact = self.is_possible(error.counts);
                if exact {
                    self.counts = error.counts;
                }
                self.release();
                Err(Failure { exact, ..self.failed(error) })
            }
            (_, _) => Err(self.broken(Cause::Violation("a message that does not belong here"))),
        }
    }

    /// Counts are money: what they can't be is a failure, and the last possible ones stand.
    fn count(&mut self, counts: Counts) -> Result<(), Failure> {
        if !self.is_possible(counts) {
            return Err(self.broken(Cause::Violation("counts that shrink, or exceed prompt or grant")));
        }
        self.counts = counts;
        Ok(())
    }

    fn is_possible(&self, counts: Counts) -> bool {
        (self.counts.input_tokens..=self.prompt_tokens).contains(&counts.input_tokens)
            && (self.counts.output_tokens..=self.grant).contains(&counts.output_tokens)
    }

    fn start(&mut self) {
        self.phase = Phase::Started;
        self.prefill = None;
    }

    /// The request ended cleanly, so its connection may carry another.
    fn release(&mut self) {
        self.prefill = None;
        if let Some(connection) = self.connection.take() {
            self.decode.worker().give_back(connection);
        }
    }

    /// The connection can't be trusted any more; closing it cancels what the worker may still be doing.
    fn broken(&mut self, cause: impl Into<Cause>) -> Failure {
        self.connection = None;
        self.decode.worker().suspect();
        self.failed(cause)
    }

    fn failed(&self, cause: impl Into<Cause>) -> Failure {
        let started = self.phase == Phase::Started;
        let failure = Failure { counts: self.counts, exact: false, started, ..Failure::before_start(cause) };
        failure.at(self.attempt, self.decode_id())
    }
}
