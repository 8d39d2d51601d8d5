//! The bundled cluster: prefill and decode workers that run one model, reached over the cluster protocol.
//!
//! ```text
//! place   choose decode and prefill, least loaded first       (choice)
//! open    send Generate, wait for the first token, retry      (open)      the only place that retries
//! next    frames of the answer, counts checked                (stream)
//! ```
//!
//! Beside it each worker has a probe (`health`): a handshake a second says who is there, in which epoch, with which
//! fingerprint and load. A worker takes part only while its fingerprint equals its cluster's.

mod ask;
mod choice;
mod connection;
mod failure;
mod health;
mod open;
mod stream;
mod worker;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use ask::Told;
pub use choice::Placement;
pub use failure::Failure;
pub use open::{Attempt, Job};
pub use stream::{Frame, TokenStream};

use crate::clock::Micros;
use crate::config;
use crate::prompt::ModelText;
use crate::upstream::Metrics;
use arc_swap::ArcSwapOption;
use cluster_protocol::{Fingerprint, Role, WorkerInfo};
use connection::Connection;
pub(crate) use connection::{Deadlines, Peer};
use failure::LinkError;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use worker::{State, Worker, locked};

/// Workers that run one model.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    model: String,
    min_remote_prefill_tokens: u32,
    decode: Vec<Arc<Worker>>,
    prefill: Vec<Arc<Worker>>,
    peer: Peer,
    /// What its workers must be alike in; the first healthy one sets it.
    fingerprint: Mutex<Option<Fingerprint>>,
    text: ArcSwapOption<Text>,
    /// Changes whenever a worker becomes healthy.
    healthy: watch::Sender<()>,
    metrics: Metrics,
}

/// A model card made ready for use.
#[derive(Debug)]
pub struct Text {
    /// Names the card. A prompt goes only to workers with the same one: other ids would mean other words.
    pub card_digest: String,
    /// Template and tokenizer.
    pub model: ModelText,
}

/// What a worker has for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// One for each choice.
    pub slots: u32,
    /// One for each token of the prompt and of each choice.
    pub cells: u32,
}

/// A worker's state for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its cluster.
    pub cluster: String,
    /// Its id.
    pub worker: String,
    /// As configured.
    pub role: Role,
    /// Where it is reached, as configured.
    pub address: String,
    /// Why it is down; `None` while it is healthy.
    pub down: Option<String>,
    /// Since when it is healthy, or down; µs since 1970.
    pub since: Micros,
    /// Why it was last taken for down, and when.
    pub last_error: Option<(String, Micros)>,
    /// What it says of itself; `None` while it is down.
    pub info: Option<Box<WorkerInfo>>,
    /// Requests that this gateway has on it.
    pub in_flight: u32,
}

impl Cluster {
    pub(super) fn new(config: &config::Cluster, peer: Peer, metrics: Metrics) -> Cluster {
        let workers = |role, list: &[config::Worker]| list.iter().map(|w| Arc::new(Worker::new(role, w))).collect();
        Cluster {
            name: config.name.clone(),
            model: config.model.clone(),
            min_remote_prefill_tokens: config.min_remote_prefill_tokens,
            decode: workers(Role::Decode, &config.decode),
            prefill: workers(Role::Prefill, &config.prefill),
            peer,
            fingerprint: Mutex::new(None),
            text: ArcSwapOption::empty(),
            healthy: watch::Sender::new(()),
            metrics,
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Catalog id of the model that its workers run.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether a request could be answered now.
    pub fn is_ready(&self) -> bool {
        self.text.load().is_some() && self.decode.iter().any(|worker| worker.is_healthy())
    }

    /// Template and tokenizer of its model; `None` until a worker has told.
    pub fn text(&self) -> Option<Arc<Text>> {
        self.text.load_full()
    }

    /// Most tokens of prompt and answer together that every healthy decode worker takes; `None` while there is none.
    pub fn context_tokens(&self) -> Option<u32> {
        let longest = |info: WorkerInfo| info.context_tokens.min(info.cells);
        self.decode.iter().filter_map(|worker| worker.info()).map(longest).min()
    }

    /// Slots and cells that every healthy decode worker has at least; `None` while there is none.
    pub fn room(&self) -> Option<Room> {
        let room = |info: WorkerInfo| Room { slots: info.slots, cells: info.cells };
        let least = |a: Room, b: Room| Room { slots: a.slots.min(b.slots), cells: a.cells.min(b.cells) };
        self.decode.iter().filter_map(|worker| worker.info()).map(room).reduce(least)
    }

    /// All workers, decode first.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.workers().map(|worker| self.status_of(worker)).collect()
    }

    fn status_of(&self, worker: &Worker) -> WorkerStatus {
        let known = worker.known();
        let (down, info) = match known.state {
            State::Down(reason) => (Some(reason), None),
            State::Healthy(info) => (None, Some(info)),
        };
        WorkerStatus {
            cluster: self.name.clone(),
            worker: worker.id.clone(),
            role: worker.role,
            address: worker.address().to_owned(),
            down,
            since: known.since,
            last_error: known.last_error,
            info,
            in_flight: worker.in_flight(),
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.decode.iter().chain(&self.prefill)
    }

    /// A kept connection, or a new one whose handshake is checked.
    async fn connection(&self, worker: &Arc<Worker>) -> Result<Connection, LinkError> {
        if let Some(connection) = worker.take_idle() {
            return Ok(connection);
        }
        let connected = worker.connect(&self.peer).await;
        let admitted = connected.and_then(|connection| self.admit(worker, &connection).map(|()| connection));
        if let Err(error) = &admitted {
            worker.mark_down(error);
            worker.suspect();
        }
        admitted
    }

    /// Notes what a worker says of itself, if it may take part.
    fn admit(&self, worker: &Arc<Worker>, connection: &Connection) -> Result<(), LinkError> {
        let info = connection.info();
        let mut fingerprint = locked(&self.fingerprint);
        let is_alike = fingerprint.as_ref().is_none_or(|known| *known == info.fingerprint);
        // A cluster may be restarted with another model: nobody healthy is left then who could differ.
        let is_alone = || !self.workers().any(|other| other.id != worker.id && other.is_healthy());
        if info.engine != info.fingerprint.engine || !(is_alike || is_alone()) {
            return Err(LinkError::WrongFingerprint);
        }
        *fingerprint = Some(info.fingerprint.clone());
        drop(fingerprint);
        worker.mark_healthy(info.clone());
        if self.lacks_card(&info.card_digest) {
            worker.suspected.notify_one();
        }
        self.healthy.send_replace(());
        Ok(())
    }

    fn lacks_card(&self, digest: &str) -> bool {
        self.text.load().as_ref().is_none_or(|text| text.card_digest != digest)
    }

    fn deadlines(&self) -> Deadlines {
        self.peer.deadlines
    }
}
