//! One engine thread owns the engine; everyone else holds a [`Scheduler`] and gets a [`Ticket`] per request.
//!
//! Requests go in through a bounded channel, answers come out through one bounded channel each. Control that must
//! never be lost (cancel, stop, extend) goes through atomics, so no full channel can hold it up.

mod capacity;
mod choice;
mod endings;
mod engine_loop;
mod job;
mod sequence;
mod steps;

pub(crate) use job::{cells, most_tokens};

use crate::crash::CrashPlan;
use crate::engine::{Description, Engine, LoadError};
use crate::metrics::Metrics;
use crate::receipts::{Key, Receipts};
use crate::stops::Stops;
use cluster_constraint::Compiled;
use cluster_protocol::{
    Commit, Counts, ErrorCode, Generate, KvChunk, Load, LocalReason, Message, Prefill, TextPart, WorkerError,
};
use job::Job;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Messages that a request's channel holds. A sequence whose reader lags is left out of steps, so others don't wait.
const EVENTS: usize = 32;
/// The same for a prefill: each may be a KV chunk of some MB.
const PREFILL_EVENTS: usize = 5;
/// KV chunks that wait for the engine, per request.
const INBOX_CHUNKS: usize = 2;
/// Requests on their way to the engine thread; the queue proper is bounded by configuration.
const COMMANDS: usize = 256;
/// Stack of the engine thread. Reserved, not used: only an engine that recurses over a long text ever touches it.
const STACK_BYTES: usize = 512 << 20;
/// Ended requests whose receipts are kept.
const RECEIPTS: usize = 4096;

/// Bounds and times of the scheduler.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) worker_id: String,
    /// Most requests waiting for a slot.
    pub(crate) queue: usize,
    /// How long a paused answer waits for `Extend`, and a lagging reader is waited for.
    pub(crate) patience: Duration,
    pub(crate) crash: Option<CrashPlan>,
}

/// Handle to the engine thread.
#[derive(Clone)]
pub(crate) struct Scheduler {
    commands: mpsc::Sender<Command>,
    thread: std::thread::Thread,
    shared: Arc<Shared>,
}

/// What the engine thread and its clients both see.
pub(crate) struct Shared {
    pub(crate) description: Description,
    pub(crate) metrics: Metrics,
    receipts: Mutex<Receipts>,
    closing: AtomicBool,
}

impl Shared {
    pub(crate) fn receipts(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request asks for.
pub(crate) enum Request {
    Generate(Box<Generate>),
    Prefill(Box<Prefill>),
}

/// A step of a hand-off, in the order in which the engine takes them.
pub(crate) enum HandoffStep {
    /// Checked by `cluster_protocol::Handoff`, not yet by the engine.
    Chunk(KvChunk),
    /// The set is complete; the answer may start.
    Commit { commit: Box<Commit>, begun: Instant },
    /// Compute the prompt here.
    Failed(LocalReason),
}

enum Command {
    Run(Box<Job>),
    Tokenize(Text),
}

/// A text to tokenise.
struct Text {
    parts: Vec<TextPart>,
    reply: oneshot::Sender<Result<Vec<u32>, WorkerError>>,
}

impl Text {
    fn answer(self, ids: Result<Vec<u32>, WorkerError>) {
        let _ = self.reply.send(ids); // nobody waits for it any more: fine
    }
}

/// Set by the ticket, read by the engine thread between steps.
#[derive(Default)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    stopped: AtomicBool,
    grant: AtomicU32,
}

/// A request in the engine. Dropping it cancels: within a chunk or a step, slot and cells are free again.
pub(crate) struct Ticket {
    events: mpsc::Receiver<Message>,
    control: Arc<Control>,
    thread: std::thread::Thread,
}

/// The sending end of a request's hand-off. Dropping it before the commit makes the prompt be computed locally.
pub(crate) struct Inbox {
    /// Taken on drop: the engine must be woken after the channel closed, not before.
    steps: Option<mpsc::Sender<HandoffStep>>,
    thread: std::thread::Thread,
}

impl Scheduler {
    /// Starts the engine thread; `build` runs on it. The receiver completes when the thread ends, which is an error
    /// unless [`Scheduler::close`] was called.
    ///
    /// # Errors
    /// When the engine can't be built.
    pub(crate) async fn start(
        options: Options,
        build: impl FnOnce() -> Result<Box<dyn Engine>, LoadError> + Send + 'static,
    ) -> Result<(Scheduler, oneshot::Receiver<()>), LoadError> {
        let (ready, is_ready) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let (commands, incoming) = mpsc::channel(COMMANDS);
        let spawned = std::thread::Builder::new().name("engine".into()).stack_size(STACK_BYTES).spawn(move || {
            let _ended: oneshot::Sender<()> = ended; // dropped with this thread, however it ends
            let engine = match build() {
                Ok(engine) => engine,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let shared = Arc::new(Shared {
                description: engine.describe().clone(),
                metrics: Metrics::new(),
                receipts: Mutex::new(Receipts::new(RECEIPTS)),
                closing: AtomicBool::new(false),
            });
            if ready.send(Ok(Arc::clone(&shared))).is_ok() {
                engine_loop::EngineLoop::new(engine, shared, incoming, options).run();
            }
        });
        let thread = spawned.map_err(|error| LoadError(format!("no engine thread: {error}")))?.thread().clone();
        let shared = is_ready.await.map_err(|_| LoadError("the engine died while loading".into()))??;
        Ok((Scheduler { commands, thread, shared }, has_ended))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Hands a request over. Its first message is `Accepted` (or `KvBegin`) or `Error`; the last is `Done`, `KvCommit`
    /// or `Error`. With `remote_prefill` the prompt comes through the inbox.
    ///
    /// # Errors
    /// Overloaded, shutting down, or stop texts that can't be looked for.
    pub(crate) fn submit(
        &self,
        mut request: Request,
        constraint: Option<Compiled>,
        remote_prefill: bool,
    ) -> Result<(Ticket, Option<Inbox>), WorkerError> {
        let (events, receiver) = mpsc::channel(match &request {
            Request::Generate(_) => EVENTS,
            Request::Prefill(_) => PREFILL_EVENTS,
        });
        let control = Arc::new(Control::default());
        let (inbox, steps) = if remote_prefill {
            let (sender, steps) = mpsc::channel(INBOX_CHUNKS);
            (Some(Inbox { steps: Some(sender), thread: self.thread.clone() }), Some(steps))
        } else {
            (None, None)
        };
        if let Request::Generate(generate) = &request {
            control.grant.store(generate.grant, Ordering::Relaxed);
        }
        let stops = match &mut request {
            Request::Generate(generate) => Stops::new(std::mem::take(&mut generate.stop)),
            Request::Prefill(prefill) => Stops::new(std::mem::take(&mut prefill.stop)),
        };
        let stops = stops.ok_or_else(|| failure(ErrorCode::BadRequest, "the stop texts are too many to look for"))?;
        let job = Job {
            request,
            stops,
            constraint,
            events,
            control: Arc::clone(&control),
            inbox: steps,
            submitted: Instant::now(),
        };
        self.commands.try_send(Command::Run(Box::new(job))).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => failure(ErrorCode::Overloaded, "the worker's queue is full"),
            mpsc::error::TrySendError::Closed(_) => failure(ErrorCode::ShuttingDown, "the engine has ended"),
        })?;
        self.thread.unpark();
        Ok((Ticket { events: receiver, control, thread: self.thread.clone() }, inbox))
    }

    /// Ids of texts, one part after the other.
    ///
    /// # Errors
    /// When a part can't be tokenised, too many texts wait already, or the engine has ended.
    pub(crate) async fn tokenize(&self, parts: Vec<TextPart>) -> Result<Vec<u32>, WorkerError> {
        let (reply, ids) = oneshot::channel();
        let ended = |_| failure(ErrorCode::ShuttingDown, "the engine has ended");
        self.commands.send(Command::Tokenize(Text { parts, reply })).await.map_err(|_| ended(()))?;
        self.thread.unpark();
        ids.await.map_err(|_| ended(()))?
    }

    pub(crate) fn load(&self) -> Load {
        let metrics = &self.shared.metrics;
        Load {
            running: metrics.slots_used.get() as u32,
            waiting: metrics.queue_waiting.get() as u32,
            cells_reserved: metrics.cells_reserved.get() as u32,
        }
    }

    pub(crate) fn receipt(&self, key: &Key) -> cluster_protocol::Receipt {
        self.shared.receipts().get(key)
    }

    /// Ends every request with `ShuttingDown` and its counts, then the engine thread.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Ticket {
    /// The next message; `None` after the last one, or when the engine died. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = self.events.recv().await;
        self.thread.unpark(); // there is room in the channel again
        message
    }

    /// Raises the grant; a lower one changes nothing.
    pub(crate) fn extend(&self, grant: u32) {
        self.control.grant.fetch_max(grant, Ordering::Relaxed);
        self.thread.unpark();
    }

    /// Ends the answer at the next step.
    pub(crate) fn stop(&self) {
        self.control.stopped.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.control.cancelled.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Inbox {
    /// Waits while the engine has enough chunks to import. `false` when it wants no more of this hand-off.
    pub(crate) async fn send(&self, step: HandoffStep) -> bool {
        let Some(steps) = &self.steps else {
            return false;
        };
        let sent = steps.send(step).await.is_ok();
        self.thread.unpark();
        sent
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        drop(self.steps.take());
        self.thread.unpark();
    }
}

/// A failure before anything was computed.
pub(crate) fn failure(code: ErrorCode, message: &str) -> WorkerError {
    WorkerError { code, message: message.to_owned(), counts: Counts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineLimits;
    use crate::engine::sim::{SimEngine, SimOptions};
    use cluster_protocol::{Binding, FinishReason, PrefillPlan, Sampling, prompt_digest};

    const CHUNKS: usize = 16;

    async fn scheduler(patience: Duration) -> Scheduler {
        let limits = EngineLimits { slots: 2, cells: 4096, context_tokens: 2048, chunk_tokens: 64, threads: 1 };
        let options = Options { worker_id: "w".into(), queue: 4, patience, crash: None };
        let engine = SimOptions { answer_tokens: 100_000, ..SimOptions::default() };
        Scheduler::start(options, move || Ok(Box::new(SimEngine::new(engine, limits)))).await.unwrap().0
    }

    fn generate(id: &str, max_tokens: u32) -> Request {
        Request::Generate(Box::new(Generate {
            request_id: id.into(),
            attempt: 1,
            tenant: "ten_1".into(),
            prompt: vec![1, 2, 3],
            sampling: Sampling::GREEDY,
            constraint: None,
            logprobs: None,
            choices: 1,
            stop: Vec::new(),
            max_tokens,
            grant: max_tokens,
            prefill: PrefillPlan::Local { reason: LocalReason::NoneConfigured },
        }))
    }

    fn prefill(scheduler: &Scheduler) -> Request {
        let prompt = vec![7; CHUNKS * 64];
        let binding = Binding {
            request_id: "exported".into(),
            attempt: 1,
            tenant: "ten_1".into(),
            prompt_digest: prompt_digest(&prompt),
            prompt_tokens: prompt.len() as u32,
            fingerprint: scheduler.shared().description.fingerprint.clone(),
            epoch: 1,
        };
        Request::Prefill(Box::new(Prefill {
            binding,
            prompt,
            sampling: Sampling::GREEDY,
            constraint: None,
            logprobs: None,
            choices: 1,
            stop: Vec::new(),
            max_tokens: 2,
        }))
    }

    async fn finish(ticket: &mut Ticket) -> FinishReason {
        loop {
            match ticket.next().await.unwrap() {
                Message::Done(done) => return done.finish().clone(),
                Message::Accepted(_) | Message::Token(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_prompt_waits_for_its_reader_and_no_other_waits_for_it() {
        let scheduler = scheduler(Duration::from_secs(60)).await;
        let (mut exported, _) = scheduler.submit(prefill(&scheduler), None, false).unwrap();
        let (mut other, _) = scheduler.submit(generate("other", 200), None, false).unwrap();
        assert_eq!(finish(&mut other).await, FinishReason::MaxTokens);
        assert!(exported.events.len() <= PREFILL_EVENTS, "it went on without its reader");
        assert_eq!(scheduler.load().running, 1, "it is not done");
        let mut chunks = 0;
        loop {
            match exported.next().await.unwrap() {
                Message::KvBegin(_) => assert_eq!(chunks, 0),
                Message::KvChunk(_) => chunks += 1,
                Message::KvCommit(commit) => break assert_eq!(commit.chunks.len(), CHUNKS),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(chunks, CHUNKS);
        assert_eq!(scheduler.load(), Load::default());
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up_with_its_counts() {
        let scheduler = scheduler(Duration::from_millis(50)).await;
        let (mut lagging, _) = scheduler.submit(generate("lagging", 1000), None, false).unwrap();
        while !matches!(scheduler.receipt(&("lagging".into(), 1)), cluster_protocol::Receipt::Ended { .. }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut last = None;
        while let Some(message) = lagging.next().await {
            last = Some(message);
        }
        let Some(Message::Error(error)) = last else { panic!("{last:?}") };
        assert_eq!(error.code, ErrorCode::Engine);
        assert!(error.counts.output_tokens > 0 && (error.counts.output_tokens as usize) < EVENTS);
        assert_eq!(scheduler.load(), Load::default());
    }

    fn text() -> Vec<TextPart> {
        vec![TextPart { text: "the wind".into(), special: false }]
    }

    /// An answer that goes on, each of its steps long enough for all texts of a test to come within one turn.
    async fn slowly_answering(step_ms: u32) -> (Scheduler, Ticket) {
        let limits = EngineLimits { slots: 1, cells: 4096, context_tokens: 2048, chunk_tokens: 64, threads: 1 };
        let options = Options { worker_id: "w".into(), queue: 4, patience: Duration::from_secs(60), crash: None };
        let engine = SimOptions { answer_tokens: 100_000, step_ms, ..SimOptions::default() };
        let build = move || Ok(Box::new(SimEngine::new(engine, limits)) as Box<dyn Engine>);
        let scheduler = Scheduler::start(options, build).await.unwrap().0;
        let (mut answering, _) = scheduler.submit(generate("a", 1000), None, false).unwrap();
        while !matches!(answering.next().await, Some(Message::Token(_))) {}
        (scheduler, answering)
    }

    #[tokio::test]
    async fn texts_to_tokenise_take_turns_with_answers() {
        let (scheduler, _answering) = slowly_answering(5).await;
        let sampled = || match scheduler.receipt(&("a".into(), 1)) {
            cluster_protocol::Receipt::Running { counts } => counts.output_tokens,
            other => panic!("{other:?}"),
        };
        let before = sampled();
        let ids = futures::future::join_all((0..16).map(|_| scheduler.tokenize(text()))).await;
        assert!(ids.into_iter().all(|ids| !ids.unwrap().is_empty()));
        assert!(sampled() >= before + 15, "only {} steps between 16 texts", sampled() - before);
    }

    #[tokio::test]
    async fn texts_beyond_the_bound_are_refused_as_overloaded() {
        use futures::StreamExt;
        let (scheduler, _answering) = slowly_answering(50).await;
        let texts: futures::stream::FuturesUnordered<_> = (0..200).map(|_| scheduler.tokenize(text())).collect();
        // At most one is answered before: a turn may begin between two of them.
        let first: Vec<_> = texts.take(3).collect().await;
        let refused = |ids: &Result<_, WorkerError>| ids.as_ref().is_err_and(|e| e.code == ErrorCode::Overloaded);
        assert!(first.iter().filter(|ids| refused(ids)).count() >= 2, "{first:?}");
    }

    #[tokio::test]
    async fn a_closed_scheduler_ends_every_request_and_its_thread() {
        let limits = EngineLimits { slots: 1, cells: 4096, context_tokens: 2048, chunk_tokens: 64, threads: 1 };
        let options = Options { worker_id: "w".into(), queue: 4, patience: Duration::from_secs(60), crash: None };
        let build = move || Ok(Box::new(SimEngine::new(SimOptions::default(), limits)) as Box<dyn Engine>);
        let (scheduler, ended) = Scheduler::start(options, build).await.unwrap();
        let mut tickets: Vec<Ticket> =
            ["a", "b"].map(|id| scheduler.submit(generate_paused(id), None, false).unwrap().0).into();
        while scheduler.load() != (Load { running: 1, waiting: 1, cells_reserved: 13 }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        scheduler.close();
        assert!(ended.await.is_err(), "the thread has ended");
        for ticket in &mut tickets {
            let mut last = None;
            while let Some(message) = ticket.next().await {
                last = Some(message);
            }
            assert!(matches!(last, Some(Message::Error(error)) if error.code == ErrorCode::ShuttingDown));
        }
        assert!(scheduler.submit(generate("late", 1), None, false).is_err());
    }

    fn generate_paused(id: &str) -> Request {
        match generate(id, 10) {
            Request::Generate(mut generate) => {
                generate.grant = 1;
                Request::Generate(generate)
            }
            other @ Request::Prefill(_) => other,
        }
    }
}
