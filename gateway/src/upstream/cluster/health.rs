//! A probe per worker: a handshake a second, so that a dead worker is known dead and a restarted one is used again.

use super::connection::Connection;
use super::failure::LinkError;
use super::worker::Worker;
use super::{Cluster, Text, WorkerStatus};
use crate::error::Error;
use crate::prompt::ModelText;
use cluster_protocol::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two probes of a healthy worker.
const INTERVAL: Duration = Duration::from_secs(1);
/// After the first failure; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Between two probes of a dead worker, at most.
const LAST_RETRY: Duration = Duration::from_secs(1);

impl Cluster {
    /// Starts a probe for each worker; they end when `stopping` is cancelled.
    pub(in crate::upstream) fn watch(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        for worker in self.workers() {
            let probes = probes(Arc::clone(self), Arc::clone(worker));
            tasks.spawn(stopping.clone().run_until_cancelled_owned(probes));
        }
    }

    /// One handshake, its result noted; fetches the model card when it is new.
    pub(super) async fn probe(&self, worker: &Arc<Worker>) -> Result<(), LinkError> {
        let seen = self.look(worker).await;
        if let Err(error) = &seen {
            worker.mark_down(error);
        }
        self.metrics.note(&self.status_of(worker));
        let mut connection = seen?;
        let digest = connection.info().card_digest.clone();
        if self.lacks_card(&digest) {
            // The worker is well, only its cluster can't serve: so this does not mark it down.
            let learnt = self.learn(&mut connection, digest).await;
            learnt.inspect_err(|error| tracing::warn!(worker = %worker.id, %error, "no model card"))?;
        }
        // One warm connection saves a request the handshake; the others come back from requests.
        if worker.idle_len() == 0 {
            worker.give_back(connection);
        }
        Ok(())
    }

    /// Asks every worker once: its state, and what is wrong with it.
    pub(in crate::upstream) async fn look_once(&self) -> Vec<(WorkerStatus, Option<String>)> {
        let looks = self.workers().map(|worker| async {
            let seen = self.probe(worker).await;
            (self.status_of(worker), seen.err().map(|error| error.to_string()))
        });
        futures::future::join_all(looks).await
    }

    async fn look(&self, worker: &Arc<Worker>) -> Result<Connection, LinkError> {
        let connection = worker.connect(&self.peer).await?;
        self.admit(worker, &connection)?;
        Ok(connection)
    }

    /// Asks for the model card and makes template and tokenizer of it.
    async fn learn(&self, connection: &mut Connection, digest: String) -> Result<(), LinkError> {
        let card = match connection.ask(Message::DescribeModel, self.deadlines().ask).await? {
            Message::Model(card) => card,
            Message::Error(error) => return Err(LinkError::Refused(error)),
            other => return Err(LinkError::Unexpected(other.kind())),
        };
        // Digests and tables over tens of thousands of tokens: not on the threads that move bytes.
        let made = tokio::task::spawn_blocking(move || {
            if card.digest() != digest {
                return Err(LinkError::WrongCard);
            }
            let model = ModelText::from_card(&card).map_err(LinkError::BadCard)?;
            Ok(Text { card_digest: digest, model })
        });
        let text = made.await.map_err(|panic| LinkError::BadCard(Error::internal(panic)))??;
        tracing::info!(cluster = %self.name, card = %text.card_digest, "model card loaded");
        self.text.store(Some(Arc::new(text)));
        Ok(())
    }
}

async fn probes(cluster: Arc<Cluster>, worker: Arc<Worker>) {
    let mut retry = FIRST_RETRY;
    loop {
        let pause = match cluster.probe(&worker).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                INTERVAL
            }
            Err(error) => {
                tracing::debug!(worker = %worker.id, %error, "probe failed");
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        // A suspicion shortens the wait, never to nothing: failing requests must not become a storm of probes.
        sleep(pause.min(FIRST_RETRY)).await;
        tokio::select! {
            () = sleep(pause.saturating_sub(FIRST_RETRY)) => {}
            () = worker.suspected.notified() => {}
        }
    }
}
