//! How many requests are in work, and which.

use crate::config::Config;
use crate::id::RequestId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all requests of a gateway share.
#[derive(Debug)]
pub struct State {
    permits: Arc<Semaphore>,
    /// Turns on the blocking pool: templates and tokenizers never hold more threads than there are cores.
    pub(super) cpu: Semaphore,
    running: Arc<Mutex<HashSet<RequestId>>>,
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
        }
    }

    /// `None` when as many requests are in work as may be.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
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
        assert!(one.is_some() && two.is_some() && state.admit().is_none());
        drop(one);
        assert!(state.admit().is_some());
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
