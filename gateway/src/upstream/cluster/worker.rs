//! One configured worker: what is known of it, its idle connections, and how many requests this gateway has on it.

use super::connection::{Connection, Peer};
use super::failure::LinkError;
use crate::clock::{Clock, Micros};
use crate::config;
use cluster_protocol::{Role, WorkerInfo};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Most connections kept for later; more than a worker has slots is waste.
const MAX_IDLE: usize = 16;
/// A connection unused for this long is closed instead of used again.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// One worker as this gateway knows it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    /// What it is configured as here, which decides what it is asked for.
    pub(crate) role: Role,
    address: String,
    known: Mutex<Known>,
    in_flight: AtomicU32,
    idle: Mutex<Vec<Connection>>,
    /// Asks the probe not to wait for its turn.
    pub(super) suspected: Notify,
}

/// What is known of a worker's health.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) state: State,
    /// When it became healthy, or stopped being so; µs since 1970.
    pub(crate) since: Micros,
    /// Why it was last taken for down, and when.
    pub(crate) last_error: Option<(String, Micros)>,
}

/// Whether a worker may be asked.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Not reached yet, or no longer; with the reason.
    Down(String),
    /// The last handshake went well.
    Healthy(Box<WorkerInfo>),
}

impl Worker {
    pub(super) fn new(role: Role, worker: &config::Worker) -> Worker {
        Worker {
            id: worker.id.clone(),
            role,
            address: worker.address.clone(),
            known: Mutex::new(Known {
                state: State::Down("not reached yet".into()),
                since: Clock::System.now(),
                last_error: None,
            }),
            in_flight: AtomicU32::new(0),
            idle: Mutex::new(Vec::new()),
            suspected: Notify::new(),
        }
    }

    pub(crate) fn known(&self) -> Known {
        locked(&self.known).clone()
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it last said of itself, while it is healthy.
    pub(crate) fn info(&self) -> Option<WorkerInfo> {
        match &locked(&self.known).state {
            State::Healthy(info) => Some((**info).clone()),
            State::Down(_) => None,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        matches!(&locked(&self.known).state, State::Healthy(_))
    }

    /// Requests that this gateway has on it.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// For choosing the least loaded: own requests first, since they are known to the moment; then what it reported.
    pub(super) fn load(&self) -> Option<(u32, u32)> {
        let info = self.info()?;
        Some((self.in_flight(), info.load.running.saturating_add(info.load.waiting)))
    }

    /// A kept connection that is still good.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        let mut idle = locked(&self.idle);
        while let Some(mut connection) = idle.pop() {
            if connection.is_reusable(IDLE_LIMIT) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) async fn connect(&self, peer: &Peer) -> Result<Connection, LinkError> {
        Connection::open(&self.address, &self.id, peer).await
    }

    /// Keeps a connection whose request ended cleanly, unless there are enough or the engine has restarted since.
    pub(super) fn give_back(&self, connection: Connection) {
        let current = self.info().is_some_and(|info| info.epoch == connection.info().epoch);
        let mut idle = locked(&self.idle);
        if current && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// How many connections are kept.
    pub(super) fn idle_len(&self) -> usize {
        locked(&self.idle).len()
    }

    /// Notes a handshake that went well. Connections to an earlier epoch are closed: their engine is gone.
    pub(super) fn mark_healthy(&self, info: WorkerInfo) {
        let mut known = locked(&self.known);
        if let State::Down(_) = &known.state {
            known.since = Clock::System.now();
        }
        match &known.state {
            State::Healthy(before) if before.epoch == info.epoch => {}
            State::Healthy(_) | State::Down(_) => {
                tracing::info!(worker = %self.id, epoch = info.epoch, engine = %info.engine, "worker is up");
                locked(&self.idle).retain(|connection| connection.info().epoch == info.epoch);
            }
        }
        known.state = State::Healthy(Box::new(info));
    }

    /// Notes that it can't be asked, and closes what is idle.
    pub(super) fn mark_down(&self, reason: &LinkError) {
        let (mut known, now) = (locked(&self.known), Clock::System.now());
        if let State::Healthy(_) = &known.state {
            tracing::warn!(worker = %self.id, %reason, "worker is down");
            known.since = now;
        }
        known.last_error = Some((reason.to_string(), now));
        known.state = State::Down(reason.to_string());
        locked(&self.idle).clear();
    }

    /// A request broke on it: idle connections may be dead too, and its probe should look at once.
    pub(super) fn suspect(&self) {
        locked(&self.idle).clear();
        self.suspected.notify_one();
    }
}

/// Counts a request against a worker's load until dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Worker>);

impl Lease {
    pub(super) fn new(worker: &Arc<Worker>) -> Lease {
        worker.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(worker))
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What these locks guard stays valid between statements, so a panic elsewhere does not spoil it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
