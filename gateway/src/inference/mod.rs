//! The life of one inference request, from a canonical request to canonical events.

pub mod event;
pub mod log;
pub mod request;

pub use event::{Event, Finished, Started, Usage};
pub use log::{FrameLog, Reader};
pub use request::{Content, Dialect, Message, Request, Role, Sampling};

use crate::app::App;
use crate::auth::Principal;
use std::sync::Arc;

/// Starts a request in a tracked task of its own and returns its reader.
///
/// The task owns reservation, worker connection and settlement, so nothing is lost when the caller's connection, and
/// with it the reader, goes away: then generation is cancelled and what was generated is settled.
pub fn start(app: &Arc<App>, principal: Principal, request: Request) -> Reader {
    let _ = (app, principal, request);
    todo!("G3")
}
