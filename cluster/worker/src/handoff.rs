//! The decode worker's side of a hand-off: asks a prefill worker, checks every frame, feeds the engine.
//!
//! Whatever goes wrong becomes a [`LocalReason`] and the prompt is computed here. Nothing of a hand-off starts an
//! answer before its commit has named exactly the chunks that came.

use crate::connection::{Connection, ConnectionError};
use crate::engine::Description;
use crate::pool::Pool;
use crate::scheduler::{HandoffStep, Inbox, most_tokens};
use cluster_protocol::{
    Binding, ClusterSecret, CodecError, ErrorCode, Generate, Handoff, Hello, KvChunk, LocalReason, Message, PeerKind,
    Prefill, WorkerInfo, prompt_digest,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The prefill workers this worker knows, by id.
pub(crate) struct PrefillPeers {
    addresses: BTreeMap<String, String>,
    secret: ClusterSecret,
    own_id: String,
    connect_within: Duration,
    /// Longest wait for the next frame.
    frame_within: Duration,
    pool: Pool<Peer>,
}

struct Peer {
    connection: Connection,
    info: WorkerInfo,
}

/// What of a request its hand-off needs.
pub(crate) struct Wanted {
    prefill_id: String,
    generate: Generate,
    /// Output tokens of each choice, cut to what this worker has room for.
    most_tokens: u32,
}

impl Wanted {
    pub(crate) fn new(prefill_id: &str, generate: &Generate, worker: &Description) -> Wanted {
        let most_tokens = most_tokens(generate, worker.limits.context_tokens);
        Wanted { prefill_id: prefill_id.to_owned(), generate: generate.clone(), most_tokens }
    }

    fn prefill(&self, worker: &Description, epoch: u64) -> Prefill {
        let generate = &self.generate;
        let binding = Binding {
            request_id: generate.request_id.clone(),
            attempt: generate.attempt,
            tenant: generate.tenant.clone(),
            prompt_digest: prompt_digest(&generate.prompt),
            prompt_tokens: generate.prompt.len() as u32,
            fingerprint: worker.fingerprint.clone(),
            epoch,
        };
        Prefill {
            binding,
            prompt: generate.prompt.clone(),
            sampling: generate.sampling.clone(),
            constraint: generate.constraint.clone(),
            logprobs: generate.logprobs,
            choices: generate.choices,
            stop: generate.stop.clone(),
            max_tokens: self.most_tokens,
        }
    }
}

impl PrefillPeers {
    pub(crate) fn new(
        addresses: BTreeMap<String, String>,
        secret: ClusterSecret,
        own_id: String,
        connect_within: Duration,
        frame_within: Duration,
    ) -> PrefillPeers {
        PrefillPeers { addresses, secret, own_id, connect_within, frame_within, pool: Pool::default() }
    }

    /// Fetches a prompt's KV cache into `inbox`, to its commit or to a reason why not. Dropping the future closes the
    /// connection, which stops the prefill worker within a chunk.
    pub(crate) async fn fetch(&self, wanted: Wanted, worker: &Description, inbox: Inbox) {
        let Err(failed) = self.pull(&wanted, worker, &inbox).await else {
            return;
        };
        if failed.is_transport() {
            self.pool.forget(&wanted.prefill_id);
        }
        tracing::warn!(
            request_id = wanted.generate.request_id,
            prefill_id = wanted.prefill_id,
            reason = failed.reason.as_str(),
            detail = failed.detail,
            "hand-off failed"
        );
        inbox.send(HandoffStep::Failed(failed.reason)).await;
    }

    async fn pull(&self, wanted: &Wanted, worker: &Description, inbox: &Inbox) -> Result<(), Failed> {
        let address = self.addresses.get(&wanted.prefill_id);
        let address = address.ok_or_else(|| Failed::new(LocalReason::UnknownPrefill, "no such id"))?;
        if let Some(peer) = self.pool.take(&wanted.prefill_id, Instant::now()) {
            match self.begin(peer, wanted, worker).await {
                Ok((peer, handoff)) => return self.receive(peer, handoff, wanted, inbox).await,
                // It died in the pool, which shows only now, and so most likely did the others: once, a fresh one.
                Err(failed) if failed.reason == LocalReason::Interrupted => self.pool.forget(&wanted.prefill_id),
                Err(failed) => return Err(failed),
            }
        }
        let peer = self.connect(address, worker).await?;
        let (peer, handoff) = self.begin(peer, wanted, worker).await?;
        self.receive(peer, handoff, wanted, inbox).await
    }

    async fn connect(&self, address: &str, worker: &Description) -> Result<Peer, Failed> {
        let hello = Hello::new(PeerKind::Decode, self.own_id.clone());
        let connected = tokio::time::timeout(self.connect_within, Connection::connect(address, &self.secret, hello));
        let connected = connected.await.map_err(|_| Failed::new(LocalReason::Unreachable, "timed out"))?;
        let (mut connection, info) =
            connected.map_err(|error| Failed { reason: LocalReason::Unreachable, detail: error.to_string() })?;
        if info.fingerprint != worker.fingerprint {
            return Err(Failed::new(LocalReason::FingerprintMismatch, "another model, build or setting"));
        }
        let chunk_tokens = worker.fingerprint.chunk_tokens;
        connection.limit_kv_chunk(KvChunk::most_payload(chunk_tokens, worker.kv_bytes_per_token));
        Ok(Peer { connection, info })
    }

    /// Asks, and checks that the worker understood the same.
    async fn begin(
        &self,
        mut peer: Peer,
        wanted: &Wanted,
        worker: &Description,
    ) -> Result<(Peer, (Handoff, Instant)), Failed> {
        let prefill = wanted.prefill(worker, peer.info.epoch);
        let handoff = Handoff::new(&prefill.binding, worker.kv_bytes_per_token);
        peer.connection.send(Message::Prefill(Box::new(prefill))).await?;
        match peer.connection.next_within(self.frame_within).await? {
            Message::KvBegin(begin) => handoff.begin(&begin).map_err(Failed::bad)?,
            other => return Err(Failed::out_of_turn(&other)),
        }
        Ok((peer, (handoff, Instant::now())))
    }

    async fn receive(
        &self,
        mut peer: Peer,
        (mut handoff, begun): (Handoff, Instant),
        wanted: &Wanted,
        inbox: &Inbox,
    ) -> Result<(), Failed> {
        loop {
            match peer.connection.next_within(self.frame_within).await? {
                Message::KvChunk(chunk) => {
                    handoff.accept(&chunk).map_err(Failed::bad)?;
                    if !inbox.send(HandoffStep::Chunk(chunk)).await {
                        return Ok(()); // the engine refused a chunk, or the request ended: it knows better why
                    }
                }
                Message::KvCommit(commit) => {
                    handoff.commit(&commit).map_err(Failed::bad)?;
                    inbox.send(HandoffStep::Commit { commit, begun }).await;
                    self.pool.put_back(&wanted.prefill_id, peer, Instant::now());
                    return Ok(());
                }
                other => return Err(Failed::out_of_turn(&other)),
            }
        }
    }
}

struct Failed {
    reason: LocalReason,
    /// For logs.
    detail: String,
}

impl Failed {
    fn new(reason: LocalReason, detail: &str) -> Failed {
        Failed { reason, detail: detail.to_owned() }
    }

    /// Whether the way to the worker failed, rather than what came on it.
    fn is_transport(&self) -> bool {
        match self.reason {
            LocalReason::Unreachable | LocalReason::TimedOut | LocalReason::Interrupted => true,
            LocalReason::NoneConfigured
            | LocalReason::NoneHealthy
            | LocalReason::ShortPrompt
            | LocalReason::UnknownPrefill
            | LocalReason::FingerprintMismatch
            | LocalReason::Refused
            | LocalReason::BadHandoff => false,
        }
    }

    fn bad(error: cluster_protocol::HandoffError) -> Failed {
        Failed { reason: LocalReason::BadHandoff, detail: error.to_string() }
    }

    fn out_of_turn(message: &Message) -> Failed {
        let Message::Error(error) = message else {
            return Failed { reason: LocalReason::BadHandoff, detail: format!("{:?} out of turn", message.kind()) };
        };
        let reason = match error.code {
            ErrorCode::FingerprintMismatch => LocalReason::FingerprintMismatch,
            ErrorCode::Unauthenticated
            | ErrorCode::BadRequest
            | ErrorCode::TooLong
            | ErrorCode::Overloaded
            | ErrorCode::Engine
            | ErrorCode::Constraint
            | ErrorCode::ShuttingDown => LocalReason::Refused,
        };
        Failed { reason, detail: error.to_string() }
    }
}

impl From<ConnectionError> for Failed {
    fn from(error: ConnectionError) -> Failed {
        let reason = match &error {
            ConnectionError::Codec(CodecError::Frame(_) | CodecError::Payload(_)) => LocalReason::BadHandoff,
            ConnectionError::Codec(CodecError::Io(_)) | ConnectionError::Closed => LocalReason::Interrupted,
            ConnectionError::TimedOut => LocalReason::TimedOut,
            ConnectionError::Handshake(_) => LocalReason::Unreachable,
        };
        Failed { reason, detail: error.to_string() }
    }
}
