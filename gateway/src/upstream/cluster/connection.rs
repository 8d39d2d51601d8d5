//! One authenticated connection to a worker. It carries one request at a time; dropping it cancels that request.

use super::failure::LinkError;
use cluster_protocol::{ClusterSecret, Codec, Hello, Message, PROTOCOL_VERSION, PeerKind, Proof, Welcome, WorkerInfo};
use futures::{FutureExt, SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;

/// How the gateway introduces itself, and how long it waits for workers.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// This gateway's id, for the worker's logs.
    pub(crate) gateway_id: String,
    /// Shared with workers.
    pub(crate) secret: ClusterSecret,
    /// Bounds of every wait.
    pub(crate) deadlines: Deadlines,
}

/// Bounds of every wait for a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// To connect; a worker on the same network answers in well under a second.
    pub(crate) connect: Duration,
    /// From connected to authenticated.
    pub(crate) handshake: Duration,
    /// To write one frame.
    pub(crate) send: Duration,
    /// From `Generate` to `Accepted`: waiting for a slot.
    pub(crate) accept: Duration,
    /// From `Accepted` to the first token: computing the prompt.
    pub(crate) first_token: Duration,
    /// Between two frames of an answer.
    pub(crate) frame: Duration,
    /// For an answer to a question: token ids, a receipt, a model card.
    pub(crate) ask: Duration,
    /// For any worker to become healthy, before a request is refused.
    pub(crate) healthy: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            connect: Duration::from_secs(2),
            handshake: Duration::from_secs(2),
            send: Duration::from_secs(5),
            accept: Duration::from_secs(30),
            first_token: Duration::from_secs(120),
            frame: Duration::from_secs(30),
            ask: Duration::from_secs(10),
            healthy: Duration::from_secs(3),
        }
    }
}

/// A connection whose two ends have proved that they hold the cluster secret.
#[derive(Debug)]
pub(crate) struct Connection {
    framed: Framed<TcpStream, Codec>,
    info: WorkerInfo,
    send_deadline: Duration,
    used_at: Instant,
}

impl Connection {
    /// Connects to `address` and checks that worker `worker_id` answers there.
    ///
    /// # Errors
    /// Every [`LinkError`]. Cancelling closes the connection.
    pub(crate) async fn open(address: &str, worker_id: &str, peer: &Peer) -> Result<Connection, LinkError> {
        let deadlines = &peer.deadlines;
        let socket = timeout(deadlines.connect, TcpStream::connect(address))
            .await
            .map_err(|_| LinkError::Silent("connecting"))?
            .map_err(LinkError::Connect)?;
        // A token frame is smaller than a segment: waiting to fill one would delay every token.
        socket.set_nodelay(true).map_err(LinkError::Connect)?;
        let (framed, info) = timeout(deadlines.handshake, handshake(socket, peer))
            .await
            .map_err(|_| LinkError::Silent("handshake"))??;
        if info.worker_id != worker_id {
            return Err(LinkError::WrongWorker(info.worker_id));
        }
        Ok(Connection { framed, info, send_deadline: deadlines.send, used_at: Instant::now() })
    }

    /// What the worker said of itself when this connection was made.
    pub(crate) fn info(&self) -> &WorkerInfo {
        &self.info
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// Every [`LinkError`]; the connection can't be used after one. Cancelling may leave half a frame unsent, so close
    /// the connection then.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        timeout(self.send_deadline, self.framed.send(message)).await.map_err(|_| LinkError::Silent("send"))??;
        Ok(())
    }

    /// Reads one frame; waits as long as it takes. Cancelling loses nothing.
    ///
    /// # Errors
    /// Every [`LinkError`]; the connection can't be used after one.
    pub(crate) async fn receive(&mut self) -> Result<Message, LinkError> {
        let message = self.framed.next().await.ok_or(LinkError::Closed)??;
        self.used_at = Instant::now();
        Ok(message)
    }

    /// One question, one answer.
    ///
    /// # Errors
    /// Every [`LinkError`].
    pub(crate) async fn ask(&mut self, question: Message, within: Duration) -> Result<Message, LinkError> {
        self.send(question).await?;
        timeout(within, self.receive()).await.map_err(|_| LinkError::Silent("answer"))?
    }

    /// Whether it may carry another request: used lately, still open, and nothing unasked-for has come.
    pub(crate) fn is_reusable(&mut self, idle_limit: Duration) -> bool {
        self.used_at.elapsed() < idle_limit && self.framed.next().now_or_never().is_none()
    }
}

async fn handshake(socket: TcpStream, peer: &Peer) -> Result<(Framed<TcpStream, Codec>, WorkerInfo), LinkError> {
    let mut framed = Framed::new(socket, Codec::default());
    let hello = Hello::new(PeerKind::Gateway, peer.gateway_id.as_str());
    framed.send(Message::Hello(hello.clone())).await?;
    let welcome: Welcome = match framed.next().await.ok_or(LinkError::Closed)?? {
        Message::Welcome(welcome) => *welcome,
        Message::Error(error) => return Err(LinkError::Refused(error)),
        other => return Err(LinkError::Unexpected(other.kind())),
    };
    if welcome.version != PROTOCOL_VERSION {
        return Err(LinkError::Version(welcome.version));
    }
    let session = peer.secret.session(&hello, &welcome.nonce, &welcome.worker);
    if !session.accepts_server(&welcome.proof) {
        return Err(LinkError::WrongSecret);
    }
    framed.send(Message::Proof(Proof { proof: session.client_proof() })).await?;
    framed.codec_mut().secure_client(&session);
    framed.codec_mut().limit_kv_chunk(0); // they go to decode workers only
    Ok((framed, welcome.worker))
}
