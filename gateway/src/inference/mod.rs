//! The life of one inference request, from a canonical request to canonical events.
//!
//! ```text
//! start     takes a permit, makes the log, spawns the tracked task, returns the log's reader
//! └ run     supervises: whatever `infer` comes to, a panic included, is settled once
//!   ├ infer     is the credential still good? → catalog.resolve → limiter.reserve_request → prompt.build → reservation.add_tokens → cluster.place
//!   │           → billing.open_request → cluster.open → meter                 each output is the next one's input
//!   ├ tally     what the engine computed: its last word, else the worker's receipt, else its frames
//!   ├ verdict   what is charged, which outcome, which last event               pure
//!   └ settle    usage record and ledger entry, tried until done; then the last event
//! recover   settles what an earlier process, or a dead replica, has left open
//! ```
//!
//! The row is durable before a worker is asked. The caller's connection is only a reader of the log: when it goes,
//! [`FrameLog::abandoned`] tells the task, which stops the engine, waits shortly for its exact count and settles.
//! Nothing here waits for a reader, and no call to the database runs where a caller, a timeout or a `select!` could
//! cancel it.

pub mod event;
mod infer;
pub mod json;
mod limits;
pub mod log;
mod meter;
mod metrics;
pub mod once;
pub mod recover;
pub mod request;
mod settle;
mod state;
mod tally;
pub mod tools;
mod verdict;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use event::{Event, Finish, Finished, Started, ToolStep, Usage};
pub use json::Json;
pub use log::{FrameLog, Reader};
pub use metrics::Metrics;
pub use once::Once;
pub use request::{AnswerForm, Content, Dialect, Message, Request, Role, Sampling};
pub use state::State;
pub use tools::{Tool, ToolCall, ToolChoice, ToolResult, Tools};

use crate::app::App;
use crate::auth::Admission;
use crate::error::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// Before the bound of a request's log is known: room for nothing but its end.
const NO_EVENTS: usize = 0;

/// Starts a request in a tracked task of its own and returns its reader.
///
/// The task owns reservation, worker connection and settlement, so nothing is lost when the caller's connection, and
/// with it the reader, goes away: then generation is cancelled and what was generated is settled.
///
/// When the caller's credential ends under it, generation is stopped, what was generated is settled, and the last event
/// says so.
///
/// A call that may be repeated (`once`) is generated once: see [`once`].
///
/// With `max_requests` in work the reader's only event is `Failed` with `Overloaded`.
pub fn start(app: &Arc<App>, admission: Admission, request: Request, once: Option<Once>) -> Reader {
    if app.stopping.is_cancelled() {
        return refused(app, &request, Error::new(ErrorKind::ShuttingDown, "This gateway is stopping. Try again."));
    }
    if let Some(once) = once {
        return once::start(app, admission, request, once);
    }
    let permit = match app.inference.admit() {
        Ok(permit) => permit,
        Err(error) => return refused(app, &request, error),
    };
    let stall = Duration::from_millis(app.config.gateway.reader_stall_ms);
    let (log, reader) = FrameLog::new(NO_EVENTS, stall);
    let entered = app.inference.enter(&admission);
    let call = infer::Call::new(admission, request, app.clock.now());
    app.tasks.spawn(infer::run(Arc::clone(app), call, log, (permit, entered)));
    reader
}

fn refused(app: &App, request: &Request, error: Error) -> Reader {
    app.metrics.inference.refused(request.dialect);
    Reader::from_events(vec![Event::Failed(error)])
}
