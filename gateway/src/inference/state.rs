//! How many requests are in work, and which.

use super::once::Here;
use crate::auth::{Admission, Affected};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RequestId;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What all requests of a gateway share.
#[derive(Debug)]
pub struct State {
    permits: Arc<Semaphore>,
    /// Turns on the blocking pool: templates and tokenizers never hold more threads than there are cores.
    pub(super) cpu: Semaphore,
    running: Arc<Mutex<HashSet<RequestId>>>,
    /// Every request in work, by whom it was admitted for; as many as there are permits.
    in_work: Arc<Mutex<InWork>>,
    /// Answers under an Idempotency-Key; at most as many.
    pub(super) here: Here,
}

#[derive(Debug, Default)]
struct InWork {
    next: u64,
    entries: HashMap<u64, (Admission, CancellationToken)>,
}

/// A request's place among those in work, until dropped.
#[derive(Debug)]
pub(super) struct Entered {
    place: u64,
    all: Arc<Mutex<InWork>>,
    /// Cancelled when the credential ends.
    pub(super) revoked: CancellationToken,
}

/// Marks a request as this process's own, until dropped: recovery leaves it alone.
#[derive(Debug)]
pub(super) struct Running {
    id: RequestId,
    all: Arc<Mutex<HashSet<RequestId>>>,
}

impl State {
    /// At most `gateway.max_requests` at once.
    pub fn new(config: &Config) -> State {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        State {
            permits: Arc::new(Semaphore::new(config.gateway.max_requests.min(Semaphore::MAX_PERMITS))),
            cpu: Semaphore::new(cores),
            running: Arc::default(),
            in_work: Arc::default(),
            here: Here::default(),
        }
    }

    /// Enters a request among those in work. From here on [`State::revoke`] reaches it.
    ///
    /// A credential that ended between the look at it and here is reached by nobody: its end came by when there was
    /// nothing to end. So whoever enters asks [`Admission::check_again`] *afterwards*. Of any end, either it was applied
    /// before the request was entered, and then that question finds out, for what ends is forgotten, and counted, before
    /// it is searched here; or it is applied after, and then it finds the request.
    pub(super) fn enter(&self, admission: &Admission) -> Entered {
        let revoked = CancellationToken::new();
        let mut in_work = locked(&self.in_work);
        let place = in_work.next;
        in_work.next += 1;
        in_work.entries.insert(place, (admission.clone(), revoked.clone()));
        Entered { place, all: Arc::clone(&self.in_work), revoked }
    }

    /// Ends every request in work that depends on what ended. How many.
    pub fn revoke(&self, ended: &Affected) -> usize {
        let in_work = locked(&self.in_work);
        let depends = in_work.entries.values().filter(|(admission, _)| admission.depends_on(ended));
        depends.inspect(|(_, revoked)| revoked.cancel()).count()
    }

    /// # Errors
    /// `Overloaded` when as many requests are in work as may be.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            let text = "This gateway has as many requests as it takes. Try again shortly.";
            Error::new(ErrorKind::Overloaded, text).retry_after(Duration::from_secs(1))
        })
    }

    pub(super) fn running(&self, id: &RequestId) -> Running {
        locked(&self.running).insert(id.clone());
        Running { id: id.clone(), all: Arc::clone(&self.running) }
    }

    pub(super) fn is_any_running(&self) -> bool {
        !locked(&self.running).is_empty()
    }

    pub(super) fn is_running(&self, id: &RequestId) -> bool {
        locked(&self.running).contains(id)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        locked(&self.all).entries.remove(&self.place);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        locked(&self.all).remove(&self.id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_max_requests_are_admitted_at_once() {
        let mut config = Config::load(None).unwrap();
        config.gateway.max_requests = 2;
        let state = State::new(&config);
        let (one, two) = (state.admit(), state.admit());
        assert!(one.is_ok() && two.is_ok() && state.admit().is_err());
        drop(one);
        assert!(state.admit().is_ok());
    }

    #[test]
    fn a_request_is_running_until_its_mark_is_dropped() {
        let state = State::new(&Config::load(None).unwrap());
        let id = RequestId::new();
        let mark = state.running(&id);
        assert!(state.is_running(&id) && !state.is_running(&RequestId::new()));
        drop(mark);
        assert!(!state.is_running(&id));
    }
}
