//! One protocol connection over TCP: handshake done, frames sealed, every wait bounded.

use cluster_protocol::{
    ClusterSecret, Codec, CodecError, Counts, ErrorCode, FrameError, Hello, Message, PROTOCOL_VERSION, Proof, Welcome,
    WorkerError, WorkerInfo,
};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_util::codec::Framed;

/// The handshake as a whole, connecting included.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// One frame on its way out, however slow the reader.
const WRITE: Duration = Duration::from_secs(30);

/// An open connection after the handshake. Dropping it closes it, which cancels what runs on it.
#[derive(Debug)]
pub struct Connection {
    framed: Framed<TcpStream, Codec>,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The bytes are not what the protocol demands, or the socket failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer took or sent nothing for too long.
    #[error("the peer was too slow")]
    TimedOut,
    /// The peer has another secret, version, or a message out of turn.
    #[error("the handshake failed: {0}")]
    Handshake(&'static str),
}

impl Connection {
    /// Connects and shakes hands as a client; gives what the worker says of itself.
    ///
    /// # Errors
    /// When it can't be reached in 10 s, or does not hold the secret.
    pub async fn connect(
        address: impl ToSocketAddrs,
        secret: &ClusterSecret,
        hello: Hello,
    ) -> Result<(Connection, WorkerInfo), ConnectionError> {
        let shake = async {
            let stream = TcpStream::connect(address).await.map_err(CodecError::Io)?;
            let mut connection = Connection::over(stream)?;
            connection.send(Message::Hello(hello.clone())).await?;
            let Message::Welcome(welcome) = connection.next().await? else {
                return Err(ConnectionError::Handshake("no welcome"));
            };
            let session = secret.session(&hello, &welcome.nonce, &welcome.worker);
            if welcome.version != PROTOCOL_VERSION {
                return Err(ConnectionError::Handshake("another protocol version"));
            }
            if !session.accepts_server(&welcome.proof) {
                return Err(ConnectionError::Handshake("the worker does not hold the cluster secret"));
            }
            connection.send(Message::Proof(Proof { proof: session.client_proof() })).await?;
            connection.framed.codec_mut().secure_client(&session);
            Ok((connection, welcome.worker))
        };
        timeout(HANDSHAKE, shake).await.map_err(|_| ConnectionError::TimedOut)?
    }

    /// Shakes hands as the worker `info`; gives what the client says of itself. A client without the secret is told so.
    ///
    /// # Errors
    /// When the client does not finish in 10 s, or does not hold the secret.
    pub async fn accept(
        stream: TcpStream,
        secret: &ClusterSecret,
        info: impl FnOnce() -> WorkerInfo,
    ) -> Result<(Connection, Hello), ConnectionError> {
        let shake = async {
            let mut connection = Connection::over(stream)?;
            let Some(Message::Hello(hello)) = connection.next_of_handshake().await? else {
                return connection.refuse("no hello").await;
            };
            if hello.version != PROTOCOL_VERSION {
                return connection.refuse("another protocol version").await;
            }
            let (welcome, session) = Welcome::new(secret, &hello, info());
            connection.send(Message::Welcome(Box::new(welcome))).await?;
            let Some(Message::Proof(proof)) = connection.next_of_handshake().await? else {
                return connection.refuse("no proof").await;
            };
            if !session.accepts_client(&proof.proof) {
                return connection.refuse("the client does not hold the cluster secret").await;
            }
            connection.framed.codec_mut().secure_server(&session);
            connection.limit_kv_chunk(0); // they only ever leave a server
            Ok((connection, hello))
        };
        timeout(HANDSHAKE, shake).await.map_err(|_| ConnectionError::TimedOut)?
    }

    /// Most bytes that a KV chunk's frame may bring from now on.
    pub(crate) fn limit_kv_chunk(&mut self, bytes: usize) {
        self.framed.codec_mut().limit_kv_chunk(bytes);
    }

    fn over(stream: TcpStream) -> Result<Connection, ConnectionError> {
        stream.set_nodelay(true).map_err(CodecError::Io)?;
        Ok(Connection { framed: Framed::new(stream, Codec::default()) })
    }

    /// `None` for a frame that is read only after the handshake: its sender is told so, not just cut off.
    async fn next_of_handshake(&mut self) -> Result<Option<Message>, ConnectionError> {
        match self.next().await {
            Err(ConnectionError::Codec(CodecError::Frame(FrameError::BeforeHandshake(_)))) => Ok(None),
            next => next.map(Some),
        }
    }

    async fn refuse<T>(mut self, why: &'static str) -> Result<T, ConnectionError> {
        let error =
            WorkerError { code: ErrorCode::Unauthenticated, message: why.to_owned(), counts: Counts::default() };
        self.send(Message::Error(error)).await?;
        Err(ConnectionError::Handshake(why))
    }

    /// Writes one frame out.
    ///
    /// # Errors
    /// When the socket fails, or the peer takes nothing for 30 s. The connection must be dropped.
    pub async fn send(&mut self, message: Message) -> Result<(), ConnectionError> {
        timeout(WRITE, self.framed.send(message)).await.map_err(|_| ConnectionError::TimedOut)?.map_err(Into::into)
    }

    /// The next frame. Cancel safe: a frame that has come in part is not lost.
    ///
    /// # Errors
    /// When it ends or is damaged. The connection must be dropped.
    pub async fn next(&mut self) -> Result<Message, ConnectionError> {
        self.framed.next().await.ok_or(ConnectionError::Closed)?.map_err(Into::into)
    }

    /// [`Connection::next`], at most so long.
    ///
    /// # Errors
    /// As `next`, and when the time is over.
    pub async fn next_within(&mut self, limit: Duration) -> Result<Message, ConnectionError> {
        timeout(limit, self.next()).await.map_err(|_| ConnectionError::TimedOut)?
    }
}
