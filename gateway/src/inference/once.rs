//! Answers that are generated once, however often they are asked for: a caller who lost the connection sends the same
//! call with the same Idempotency-Key, and gets the same answer, to the byte, without paying again.
//!
//! ```text
//! here already    the log is joined: the answer goes on where it is, from its first event
//! claimed         in the database, for this request: it is generated, outlives its readers, and is kept for a day in
//!                 the transaction that settles it
//! kept            it is given again
//! elsewhere       another replica generates it: come back
//! ```
//!
//! Only whole answers are kept. A request that fails, or is ended before its end, gives its claim back, so that the
//! next call tries anew. Should the gateway die, its request is settled by recovery and its answer is lost: then the next
//! call takes the claim over and generates again.

use super::infer::{self, Call};
use super::log::{FrameLog, Reader, Readers};
use super::state::Entered;
use super::{Event, NO_EVENTS, Request, State, refused};
use crate::app::App;
use crate::auth::{Admission, Principal};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RequestId;
use crate::secrets::{SecretText, Secrets};
use crate::store::{AnswerClaim, AnswerKey, AnswerRow, AnswerToKeep, IDEMPOTENCY_US, NewAnswerClaim};
use http::Method;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long an answer goes on that nobody reads, for its caller to come back.
const LINGER: Duration = Duration::from_secs(60);
/// A claim of another replica whose request has no row gets this old before it is taken for dead, in µs: longer than
/// all that may happen between the two.
const CLAIM_PATIENCE_US: i64 = 120 * 1_000_000;
/// A claim that changes hands under us is looked at again this often.
const CLAIM_TRIES: usize = 5;
/// Most bytes of a kept answer's JSON: some 400,000 tokens. Longer ones are not kept.
const MAX_KEPT_BYTES: usize = 32 << 20;
/// Between two rounds of forgetting.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

/// A call that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    key: String,
    digest: String,
}

/// Answers that are generated, or given again, here and now.
#[derive(Debug, Clone, Default)]
pub(super) struct Here(Arc<Mutex<HashMap<AnswerKey, Running>>>);

#[derive(Debug)]
struct Running {
    digest: String,
    readers: Readers,
}

/// One of them, until dropped.
struct Place {
    key: AnswerKey,
    all: Here,
}

/// The right to generate the answer of a key.
#[derive(Debug)]
pub(super) struct Claim {
    key: AnswerKey,
    request_id: RequestId,
}

enum Turn {
    Ours(Claim),
    Kept(Vec<Event>),
}

impl Once {
    /// Of a call with the caller's key. What makes two calls the same: method, path and body.
    pub fn new(key: &str, method: &Method, path: &str, body: &[u8]) -> Once {
        let mut hash = Sha256::new();
        // Method and path can't hold a line break, so the three can't run into each other.
        hash.update(format!("{method}\n{path}\n"));
        hash.update(body);
        Once { key: key.to_owned(), digest: hex::encode(hash.finalize()) }
    }

    #[cfg(test)]
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}

/// As [`super::start`], for a call that may be repeated.
pub(super) fn start(app: &Arc<App>, admission: Admission, request: Request, once: Once) -> Reader {
    let key = key(admission.principal(), once.key);
    let here = &app.inference.here;
    let mut all = here.0.lock().unwrap_or_else(PoisonError::into_inner);
    let vacant = match all.entry(key.clone()) {
        Entry::Occupied(known) if known.get().digest == once.digest => return known.get().readers.join(),
        Entry::Occupied(_) => return refused(app, &request, another_call()),
        Entry::Vacant(vacant) => vacant,
    };
    let permit = match app.inference.admit() {
        Ok(permit) => permit,
        Err(error) => return refused(app, &request, error),
    };
    let stall = Duration::from_millis(app.config.gateway.reader_stall_ms);
    let (log, reader) = FrameLog::lingering(NO_EVENTS, stall, LINGER);
    vacant.insert(Running { digest: once.digest.clone(), readers: log.readers() });
    drop(all);
    let place = Place { key: key.clone(), all: here.clone() };
    let entered = app.inference.enter(&admission);
    let claim = NewAnswerClaim {
        key,
        call_digest: once.digest,
        request_id: request.id.clone(),
        gateway_id: app.config.gateway.id.clone(),
        created_at: app.clock.now(),
    };
    let call = Call::new(admission, request, claim.created_at);
    app.tasks.spawn(carry_out(Arc::clone(app), call, claim, log, (permit, entered), place));
    reader
}

async fn carry_out(
    app: Arc<App>,
    call: Call,
    claim: NewAnswerClaim,
    log: FrameLog,
    work: (OwnedSemaphorePermit, Entered),
    _place: Place,
) {
    match turn(&app, &claim).await {
        Ok(Turn::Ours(claim)) => infer::run(app, call.claims(claim), log, work).await,
        Ok(Turn::Kept(events)) => replay(&log, events),
        Err(error) => {
            app.metrics.inference.refused(call.dialect());
            log.end(Event::Failed(error));
        }
    }
}

async fn turn(app: &App, claim: &NewAnswerClaim) -> Result<Turn> {
    let ours = || Turn::Ours(Claim { key: claim.key.clone(), request_id: claim.request_id.clone() });
    for _ in 0..CLAIM_TRIES {
        let oldest = claim.created_at - IDEMPOTENCY_US;
        let row = match app.store.answer_claim(claim.clone(), oldest).await? {
            AnswerClaim::Ours => return Ok(ours()),
            AnswerClaim::Taken(row) => row,
            AnswerClaim::GivenBack => continue,
        };
        if row.call_digest != claim.call_digest {
            return Err(another_call());
        }
        if let Some(events) = kept(&app.secrets, &claim.key, &row)? {
            return Ok(Turn::Kept(events));
        }
        if !is_dead(&row, claim) {
            let text = "This call is being answered, elsewhere or to its end. Repeat it shortly for its answer.";
            return Err(Error::new(ErrorKind::Conflict, text).retry_after(Duration::from_secs(1)));
        }
        if app.store.answer_take_over(claim.clone(), row.request_id).await? {
            return Ok(ours());
        }
    }
    Err(Error::new(ErrorKind::Conflict, "Too many calls with this Idempotency-Key at once.")
        .retry_after(Duration::from_secs(1)))
}

/// Whether a claim without an answer will never have one. On this replica nobody else works on this key: we hold its
/// place.
fn is_dead(row: &AnswerRow, claim: &NewAnswerClaim) -> bool {
    match row.request_state.as_deref() {
        // An answer is kept by the transaction that settles its request.
        Some("settled") => true,
        Some(_) => false,
        None => row.gateway_id == claim.gateway_id || row.created_at < claim.created_at - CLAIM_PATIENCE_US,
    }
}

fn replay(log: &FrameLog, mut events: Vec<Event>) {
    log.allow(events.len());
    let last = events.pop().unwrap_or_else(|| Event::Failed(unreadable()));
    for event in events {
        if log.append(event).is_err() {
            break;
        }
    }
    log.end(last);
}

/// An answer as it is kept; `None` when it is too long for that.
///
/// # Errors
/// `Internal` when it can't be written or sealed.
pub(super) fn keep(secrets: &Secrets, claim: &Claim, events: &[Event]) -> Result<Option<AnswerToKeep>> {
    let json = serde_json::to_string(events).map_err(Error::internal)?;
    if json.len() > MAX_KEPT_BYTES {
        tracing::warn!(request = %claim.request_id, bytes = json.len(), "an answer is too long to be kept");
        return Ok(None);
    }
    let answer = secrets.seal(&SecretText::new(json), &owner(&claim.key))?;
    Ok(Some(AnswerToKeep { key: claim.key.clone(), answer }))
}

fn kept(secrets: &Secrets, key: &AnswerKey, row: &AnswerRow) -> Result<Option<Vec<Event>>> {
    let Some(sealed) = &row.answer else { return Ok(None) };
    let json = secrets.open(sealed, &owner(key))?;
    let mut events: Vec<Event> = serde_json::from_str(json.expose()).map_err(Error::internal)?;
    for event in &mut events {
        match event {
            Event::Started(started) => started.replayed = true,
            Event::Finished(finished) => finished.cost = row.amount_nanousd,
            Event::Text { .. } | Event::Reasoning { .. } | Event::Tool { .. } | Event::Failed(_) => {}
        }
    }
    Ok(Some(events))
}

/// Gives back what brought no answer. A failure is logged: the claim is found dead by the next call.
pub(super) async fn release(app: &App, claim: Claim) {
    let id = claim.request_id.clone();
    if let Err(error) = app.store.answer_release(claim.key, claim.request_id).await {
        let cause = error.cause().map(tracing::field::display);
        tracing::warn!(request = %id, %error, cause, "the claim of an Idempotency-Key was not given back");
    }
}

/// Forgets answers that are older than a day: at start and then every hour, until the gateway stops.
pub async fn forget_old(app: Arc<App>) {
    loop {
        match app.store.answers_forget(app.clock.now() - IDEMPOTENCY_US).await {
            Ok(0) => {}
            Ok(answers) => tracing::info!(answers, "answers under idempotency keys forgotten"),
            Err(error) => {
                let cause = error.cause().map(tracing::field::display);
                tracing::warn!(%error, cause, "answers under idempotency keys not forgotten");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FORGET_INTERVAL) => {}
            () = app.stopping.cancelled() => return,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl State {
    /// How many answers under an Idempotency-Key are generated, or given again, at the moment.
    #[cfg(test)]
    pub(super) fn once_here(&self) -> usize {
        self.here.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn key(principal: &Principal, idempotency_key: String) -> AnswerKey {
    AnswerKey { tenant_id: principal.tenant.clone(), key_id: principal.key.clone(), idempotency_key }
}

/// Binds a sealed answer to its key, so that moved to another row it does not open.
fn owner(key: &AnswerKey) -> String {
    format!("answer {} {} {}", key.tenant_id, key.key_id, key.idempotency_key)
}

fn another_call() -> Error {
    let text = "This Idempotency-Key was used for another request. Use a new key for each.";
    Error::new(ErrorKind::IdempotencyMismatch, text)
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Internal, "The kept answer can't be read. Use a new Idempotency-Key.")
}
