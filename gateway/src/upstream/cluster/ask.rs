//! Questions with one answer: token ids, and what a request came to.

use super::Cluster;
use super::connection::Connection;
use super::failure::{Cause, Failure, LinkError};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use cluster_protocol::{Message, QueryReceipt, Receipt, TextPart, Tokenize, limits};
use std::sync::Arc;

/// A worker's receipt, and which of its lives it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What the request came to.
    pub receipt: Receipt,
    /// Start of the engine that told it, µs since 1970; 0 for a worker that is no longer configured.
    pub epoch: u64,
}

impl Cluster {
    /// Token ids of a rendered prompt, by a worker: for vocabularies that the gateway does not tokenise itself.
    ///
    /// # Errors
    /// `ContextExceeded` for more text than workers take, `UpstreamUnavailable`, `UpstreamTimeout`; `Internal` when the worker refuses the question.
    pub async fn tokenize(&self, parts: &[TextPart]) -> Result<Vec<u32>> {
        if !limits::takes_text(parts) {
            return Err(Error::new(ErrorKind::ContextExceeded, "The prompt is too long for this model."));
        }
        // Prefill first: its engine is not in the middle of anybody's answer.
        let mut last = Failure::before_start(Cause::NoneHealthy);
        for worker in self.prefill.iter().chain(&self.decode).filter(|worker| worker.is_healthy()).take(2) {
            match self.ask(worker, Message::Tokenize(Tokenize { parts: parts.to_vec() })).await {
                Ok((Message::Tokens(tokens), connection)) => {
                    worker.give_back(connection);
                    return Ok(tokens.ids);
                }
                Ok((Message::Error(error), connection)) => {
                    worker.give_back(connection);
                    last = Failure::before_start(error);
                }
                Ok((other, _)) => last = Failure::before_start(LinkError::Unexpected(other.kind())),
                Err(error) => last = Failure::before_start(error),
            }
        }
        Err(last.into())
    }

    /// What a request came to on the worker that was noted for it. [`Receipt::Unknown`] also for a worker that is no
    /// longer configured.
    ///
    /// # Errors
    /// `UpstreamUnavailable` while the worker can't be reached.
    pub async fn receipt(&self, decode_id: &str, request_id: &str, attempt: u32) -> Result<Told> {
        let Some(worker) = self.workers().find(|worker| worker.id == decode_id) else {
            return Ok(Told { receipt: Receipt::Unknown, epoch: 0 });
        };
        let question = QueryReceipt { request_id: request_id.to_owned(), attempt };
        match self.ask(worker, Message::QueryReceipt(question)).await {
            Ok((Message::Receipt(receipt), connection)) => {
                let epoch = connection.info().epoch;
                worker.give_back(connection);
                Ok(Told { receipt, epoch })
            }
            Ok((other, _)) => {
                let unexpected = LinkError::Unexpected(other.kind());
                Err(Error::new(ErrorKind::UpstreamUnavailable, "The worker gave no receipt.").caused_by(unexpected))
            }
            Err(error) => Err(Failure::before_start(error).into()),
        }
    }

    async fn ask(&self, worker: &Arc<Worker>, question: Message) -> Result<(Message, Connection), LinkError> {
        let mut connection = self.connection(worker).await?;
        match connection.ask(question, self.deadlines().ask).await {
            Ok(answer) => Ok((answer, connection)),
            Err(error) => {
                worker.suspect();
                Err(error)
            }
        }
    }
}
