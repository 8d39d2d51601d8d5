//! One request from its model's name to its settlement.

use super::event::{Event, Finished, Started};
use super::log::FrameLog;
use super::meter::{Interrupts, Meter, interrupts};
use super::once::{self, Claim};
use super::settle::{LEASE_US, settle};
use super::state::{Entered, Running};
use super::tally::{Asked, Tally, Unanswered};
use super::verdict::{Facts, Verdict, verdict};
use super::writer::{EVENTS_PER_READ_TOKEN, Writer};
use super::{AnswerForm, Dialect, Request, Usage, limits};
use crate::app::App;
use crate::auth::{Admission, Principal};
use crate::billing::{self, Detail, OpenRequest, Settlement};
use crate::catalog::Route;
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::Output;
use crate::quota::Reservation;
use crate::store::AnswerToKeep;
use crate::upstream::{Attempt, Cluster, Failure, Job, Placement, TokenStream};
use cluster_protocol::{Counts, Done};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

/// Events beside those of the output tokens: the first, and text that was held back until the end.
const EVENTS_BESIDE_TOKENS: usize = 4;

/// How long the reader of a broken answer waits for its exact count.
const READER_WAITS: Duration = Duration::from_secs(1);

/// Who asks for what, since when.
#[derive(Debug)]
pub(super) struct Call {
    admission: Admission,
    request: Arc<Request>,
    accepted_at: Micros,
    since: Instant,
    /// Set where the answer is to be kept.
    claim: Option<Claim>,
}

/// What is known of a request so far: enough to settle it, however it ends.
struct Case {
    /// Set once the row is durable, and with it the duty to settle.
    opened: Option<Running>,
    reservation: Option<Reservation>,
    meter: Meter,
    decode: Option<String>,
    attempt: u32,
    /// Set while a worker is asked, and left so when it gave no last word.
    unanswered: Option<Unanswered>,
}

/// Token ids and the room for an answer.
struct Prompt {
    card_digest: String,
    ids: Vec<u32>,
    /// Of each choice.
    max_tokens: u32,
    choices: u32,
    output: Output,
}

impl Call {
    pub(super) fn new(admission: Admission, request: Request, accepted_at: Micros) -> Call {
        Call { admission, request: Arc::new(request), accepted_at, since: Instant::now(), claim: None }
    }

    /// The answer is to be kept under this claim.
    pub(super) fn claims(self, claim: Claim) -> Call {
        Call { claim: Some(claim), ..self }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.request.dialect
    }

    fn principal(&self) -> &Principal {
        self.admission.principal()
    }
}

/// Runs a request to its settlement. Never cancelled: it ends by itself, within the deadlines of its steps.
pub(super) async fn run(app: Arc<App>, mut call: Call, log: FrameLog, place: (OwnedSemaphorePermit, Entered)) {
    app.metrics.inference.running.inc();
    let mut case = Case {
        opened: None,
        reservation: None,
        meter: Meter::new(call.since, app.metrics.inference.clone()),
        decode: None,
        attempt: 0,
        unanswered: None,
    };
    let (result, interrupt) = {
        let interrupts = interrupts(&log, &app.stopping, &place.1.revoked);
        // A panic must not lose the settlement: what `case` knows by then is settled as a failure.
        let result = AssertUnwindSafe(infer(&app, &call, &log, &mut case, &interrupts)).catch_unwind().await;
        (result.unwrap_or_else(|_| Err(panicked())), interrupts.peek().copied())
    };
    if let Err(error) = &result {
        let cause = error.cause().map(tracing::field::display);
        let (request_id, kind) = (&call.request.id, error.kind.as_str());
        if case.meter.started() {
            tracing::warn!(%request_id, kind, cause, "request failed in mid-answer");
        } else {
            // The reply carries it to the edge, which logs it once.
            tracing::debug!(%request_id, kind, cause, "request failed");
        }
    }
    let facts = Facts { interrupt, started: case.meter.started(), counts: case.meter.counts() };
    let tally = tally(&app, &call, &mut case, || verdict(facts, result.as_deref()), &log).await;
    let verdict = verdict(Facts { counts: tally.counts, ..facts }, result.as_deref());
    let claim = call.claim.take();
    conclude(&app, &call, case, (result, verdict), tally, (&log, claim)).await;
    app.metrics.inference.running.dec();
    drop(place);
}

/// The steps of the house, each step's output being the next one's input.
async fn infer(
    app: &Arc<App>,
    call: &Call,
    log: &FrameLog,
    case: &mut Case,
    interrupts: &Interrupts<'_>,
) -> Result<Box<Done>> {
    // After it was entered among those in work: see `State::enter`.
    call.admission.check_again(app).await?;
    let route = app.catalog.load().resolve(call.principal(), &call.request.model, app.clock.now())?;
    let cluster = app.upstreams.cluster(&route.upstream)?;
    limits::check(&call.request)?;
    check_schemas(app, call, interrupts).await?;
    // Before the prompt is rendered and tokenised: that is work too, and may be refused.
    case.reservation = Some(app.limiter.reserve_request(call.principal()).await?);
    let prompt = prompt(app, cluster, &route, &call.request, interrupts).await?;
    case.add_tokens(prompt.most_tokens()).await?;
    let placement = cluster.place(prompt.ids.len()).await?;
    case.open(app, call, &route, &prompt, &placement).await?;
    log.allow(prompt.most_events());
    case.meter.write_with(Writer::new(prompt.output.reading.clone(), call_ids(call)));
    let job = job(call, prompt);
    case.unanswered = Some(Unanswered { cluster: Arc::clone(cluster), most: most(&job) });
    let opened = cluster.open(&job, placement, note(app, call), &mut interrupts.clone()).await;
    let stream = case.note(opened)?;
    let started = started(call, &route, &job, &stream);
    let read = case.meter.read(stream, started, log, interrupts).await;
    if read.as_ref().map_or_else(|failure| failure.exact, |_| true) {
        case.unanswered = None;
    }
    read.map_err(Error::from)
}

/// Compiles the caller's schemas once, without a vocabulary, before anything is reserved. Those of tools that are not
/// strict are no error: what can't be enforced of them is not.
///
/// # Errors
/// `Invalid`, naming the place in the schema and why.
async fn check_schemas(app: &App, call: &Call, interrupts: &Interrupts<'_>) -> Result<()> {
    let request = &call.request;
    if request.answer == AnswerForm::Text && !request.tools.callable().iter().any(|tool| tool.strict) {
        return Ok(());
    }
    let _turn = tokio::select! {
        turn = app.inference.cpu.acquire() => turn.map_err(Error::internal)?,
        _ = interrupts.clone() => return Err(Failure::interrupted().into()),
    };
    let request = Arc::clone(request);
    tokio::task::spawn_blocking(move || limits::check_schemas(&request)).await.map_err(Error::internal)?
}

/// Renders and tokenises: here when the vocabulary is one of ours, else by a worker.
async fn prompt(
    app: &App,
    cluster: &Cluster,
    route: &Route,
    request: &Arc<Request>,
    interrupts: &Interrupts<'_>,
) -> Result<Prompt> {
    let (Some(text), Some(context_tokens)) = (cluster.text(), cluster.context_tokens()) else {
        return Err(Failure::none_healthy().into());
    };
    let turn = tokio::select! {
        turn = app.inference.cpu.acquire() => turn.map_err(Error::internal)?,
        _ = interrupts.clone() => return Err(Failure::interrupted().into()),
    };
    let card_digest = text.card_digest.clone();
    let (asked, model) = (Arc::clone(request), Arc::clone(&route.model));
    let (rendered, ids) = tokio::task::spawn_blocking(move || {
        limits::may_fit(text.model.least_tokens(&asked), &model, context_tokens)?;
        let rendered = text.model.render(&asked)?;
        let ids = text.model.encode(&rendered.parts);
        Ok::<_, Error>((rendered, ids))
    })
    .await
    .map_err(Error::internal)??;
    drop(turn);
    let ids = match ids {
        Some(ids) => ids,
        None => cluster.tokenize(&rendered.parts).await?,
    };
    let max_tokens = limits::max_tokens(request.max_tokens, &route.model, ids.len(), context_tokens)?;
    let choices = request.choices;
    let max_tokens = limits::share(max_tokens, choices, ids.len(), cluster.room())?;
    Ok(Prompt { card_digest, ids, max_tokens, choices, output: rendered.output })
}

impl Prompt {
    fn most_tokens(&self) -> u64 {
        self.ids.len() as u64 + u64::from(self.max_output_tokens())
    }

    /// Of all choices together.
    fn max_output_tokens(&self) -> u32 {
        self.max_tokens.saturating_mul(self.choices)
    }

    /// The last event not counted.
    fn most_events(&self) -> usize {
        let of_a_token = if self.output.reading.is_some() { EVENTS_PER_READ_TOKEN } else { 1 };
        self.max_output_tokens() as usize * of_a_token + EVENTS_BESIDE_TOKENS * self.choices as usize
    }
}

impl Case {
    /// The other half of the reservation; refused, the first is given back as well.
    async fn add_tokens(&mut self, tokens: u64) -> Result<()> {
        if let Some(reservation) = self.reservation.take() {
            self.reservation = Some(reservation.add_tokens(tokens).await?);
        }
        Ok(())
    }

    /// Makes the row durable, the worker of the first attempt named in it.
    async fn open(
        &mut self,
        app: &App,
        call: &Call,
        route: &Route,
        prompt: &Prompt,
        placement: &Placement,
    ) -> Result<()> {
        let request = OpenRequest {
            id: call.request.id.clone(),
            principal: call.principal().clone(),
            dialect: call.request.dialect,
            model_asked: route.asked.clone(),
            model: route.model.id.clone(),
            price: route.model.price.clone(),
            input_tokens: prompt.ids.len() as u64,
            max_output_tokens: prompt.max_output_tokens().into(),
            accepted_at: call.accepted_at,
            decode: placement.decode_id().to_owned(),
            gateway_id: app.config.gateway.id.clone(),
            lease_until: app.clock.now() + LEASE_US,
        };
        // Marked first: recovery must never take a row for an orphan that has just become durable.
        let running = app.inference.running(&request.id);
        billing::open_request(&app.store, &request).await?;
        self.decode = Some(request.decode);
        self.attempt = 1;
        self.opened = Some(running);
        Ok(())
    }

    /// Keeps which worker was asked last, and what it counted.
    fn note(&mut self, opened: Result<TokenStream, Failure>) -> Result<TokenStream> {
        match opened {
            Ok(stream) => {
                self.decode = Some(stream.decode_id().to_owned());
                self.attempt = stream.attempt();
                Ok(stream)
            }
            Err(failure) => {
                self.decode = failure.decode.clone().or(self.decode.take());
                self.attempt = failure.attempt.max(1);
                self.meter.keep(&failure);
                if failure.exact {
                    self.unanswered = None;
                }
                Err(failure.into())
            }
        }
    }

    fn detail(&self, done: Option<&Done>, verdict: &Verdict, tally: &Tally) -> Detail {
        Detail {
            finish: done.map(|done| done.finish().clone()).or_else(|| tally.finish.clone()),
            error: verdict.error.as_ref().map(|error| error.kind.as_str().to_owned()),
            path: done.map(|done| done.path.clone()),
            decode: self.decode.clone(),
            attempt: self.attempt,
            timings: done.map(|done| done.timings),
            ttft_ms: self.meter.ttft_ms(),
            latency_ms: Some(self.meter.latency_ms()),
        }
    }
}

fn job(call: &Call, prompt: Prompt) -> Job {
    let grant = prompt.max_output_tokens();
    Job {
        request_id: call.request.id.clone(),
        tenant: call.principal().tenant.clone(),
        card_digest: prompt.card_digest,
        prompt: prompt.ids,
        sampling: limits::sampling(&call.request.sampling),
        constraint: prompt.output.constraint,
        shown: prompt.output.shown,
        logprobs: call.request.logprobs,
        choices: call.request.choices,
        stop: call.request.stop.clone(),
        max_tokens: prompt.max_tokens,
        grant,
    }
}

/// What the ids of this answer's tool calls begin with: the same when a request is told again.
fn call_ids(call: &Call) -> String {
    let id = call.request.id.as_str();
    format!("call_{}_", id.split_once('_').map_or(id, |(_, bare)| bare))
}

fn most(job: &Job) -> Counts {
    Counts { input_tokens: u32::try_from(job.prompt.len()).unwrap_or(u32::MAX), output_tokens: job.grant }
}

fn started(call: &Call, route: &Route, job: &Job, stream: &TokenStream) -> Started {
    Started {
        request_id: call.request.id.clone(),
        accepted_at: call.accepted_at,
        replayed: false,
        model: route.model.id.clone(),
        stand_in: route.stand_in().map(str::to_owned),
        deprecation: route.entry.deprecation.clone(),
        engine: stream.engine().to_owned(),
        input_tokens: most(job).input_tokens,
    }
}

/// Names a further attempt's worker in the row, before that worker hears of the request.
fn note(app: &Arc<App>, call: &Call) -> impl Fn(Attempt) -> futures::future::BoxFuture<'static, Result<()>> + use<> {
    let (app, id) = (Arc::clone(app), call.request.id.clone());
    move |attempt| {
        let (app, id) = (Arc::clone(&app), id.clone());
        async move { billing::note_worker(&app.store, &id, &attempt.decode, attempt.number).await }.boxed()
    }
}

/// What the engine computed. Where the worker gave no last word it is asked; whoever still reads hears after a second at
/// the latest that the answer failed, and the rest of the wait is nobody's.
async fn tally(app: &App, call: &Call, case: &mut Case, verdict: impl FnOnce() -> Verdict, log: &FrameLog) -> Tally {
    let seen = case.meter.counts();
    let (Some(unanswered), Some(decode)) = (case.unanswered.take(), case.decode.as_deref()) else {
        return Tally { counts: seen, exact: true, finish: None };
    };
    let asked = Asked { id: &call.request.id, decode, attempt: case.attempt, seen };
    let mut told = pin!(unanswered.ask(app, &asked));
    if let Ok(tally) = timeout(READER_WAITS, &mut told).await {
        return tally;
    }
    log.end(Event::Failed(verdict().error.unwrap_or_else(panicked)));
    told.await
}

/// Settles, once, what has a row; then ends the log.
async fn conclude(
    app: &Arc<App>,
    call: &Call,
    mut case: Case,
    (result, verdict): (Result<Box<Done>>, Verdict),
    tally: Tally,
    (log, claim): (&FrameLog, Option<Claim>),
) {
    let dialect = call.dialect();
    let done = result.ok();
    let Some(running) = case.opened.take() else {
        // Nothing durable, and no worker was asked.
        if let Some(reservation) = case.reservation.take() {
            reservation.release_unused();
        }
        app.metrics.inference.refused(dialect);
        if let Some(claim) = claim {
            once::release(app, claim).await;
        }
        log.end(Event::Failed(verdict.error.unwrap_or_else(panicked)));
        return;
    };
    if let Some(done) = &done {
        app.metrics.inference.prefilled(&done.path.prefill);
    }
    let usage = Usage::with_reasoning(verdict.counts, case.meter.written().reasoning_tokens());
    let detail = case.detail(done.as_deref(), &verdict, &tally);
    let mut end = match (verdict.error, done) {
        (None, Some(done)) => Event::Finished(Box::new(Finished {
            reasons: case.meter.written().finish_as(done.finishes),
            usage,
            cost: None,
            latency_ms: detail.latency_ms.unwrap_or_default(),
            ttft_ms: detail.ttft_ms.unwrap_or_default(),
            timings: done.timings,
            path: done.path,
        })),
        (Some(error), _) => Event::Failed(error),
        (None, None) => Event::Failed(panicked()),
    };
    let keep = claim.as_ref().and_then(|claim| kept(app, claim, log, &end));
    let unkept = claim.filter(|_| keep.is_none());
    let (outcome, ended_at) = (verdict.outcome, app.clock.now());
    let settlement = Settlement { id: call.request.id.clone(), outcome, usage, detail, ended_at, keep };
    // The quota counts what was computed, charged or not. Only an exact count gives the rest back: else the reservation
    // is dropped, and all it holds counts as used.
    if let Some(reservation) = case.reservation.take().filter(|_| tally.exact) {
        reservation.settle(Usage::from(tally.counts).total_tokens());
    }
    let cost = settle(app, dialect, settlement, running).await;
    if let Some(claim) = unkept {
        once::release(app, claim).await;
    }
    if let Event::Finished(finished) = &mut end {
        finished.cost = cost;
    }
    log.end(end);
}

/// A whole answer, to be kept with its settlement. One that can't be is given all the same.
fn kept(app: &App, claim: &Claim, log: &FrameLog, end: &Event) -> Option<AnswerToKeep> {
    if matches!(end, Event::Failed(_)) {
        return None;
    }
    let mut events = log.events();
    events.push(end.clone());
    once::keep(&app.secrets, claim, &events).unwrap_or_else(|error| {
        tracing::error!(%error, cause = error.cause().map(tracing::field::display), "an answer was not kept");
        None
    })
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "An internal error occurred. If it persists, give the request id to the operator.")
}
