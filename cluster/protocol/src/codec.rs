//! Messages in and out of a byte stream.

use crate::frame::{FrameError, Opener, Sealer};
use crate::handshake::Session;
use crate::message::Message;
use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

/// Both directions of one connection. Starts unkeyed; call [`Codec::secure_client`] or [`Codec::secure_server`] once
/// the proofs are exchanged.
#[derive(Debug, Default)]
pub struct Codec {
    sealer: Sealer,
    opener: Opener,
}

/// Why a connection must be closed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CodecError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the payload of a frame can't be read: {0}")]
    Payload(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Codec {
    /// On the connecting side, after its `Proof` is written.
    pub fn secure_client(&mut self, session: &Session) {
        self.sealer.rekey(session.client_key);
        self.opener.rekey(session.server_key);
    }

    /// Most bytes that a KV chunk frame may bring; see [`KvChunk::most_payload`](crate::KvChunk::most_payload). 0 where
    /// none belongs.
    pub fn limit_kv_chunk(&mut self, bytes: usize) {
        self.opener.limit_kv_chunk(bytes);
    }

    /// On the listening side, after the `Proof` was read and accepted.
    pub fn secure_server(&mut self, session: &Session) {
        self.sealer.rekey(session.server_key);
        self.opener.rekey(session.client_key);
    }
}

impl Decoder for Codec {
    type Item = Message;
    type Error = CodecError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Message>, CodecError> {
        match self.opener.open(input)? {
            None => Ok(None),
            Some((kind, payload)) => Message::decode(kind, payload).map(Some).map_err(CodecError::Payload),
        }
    }

    /// A stream that ends inside a frame is an error, never a shorter answer.
    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<Message>, CodecError> {
        match self.decode(input)? {
            Some(message) => Ok(Some(message)),
            None if input.is_empty() => Ok(None),
            None => Err(CodecError::Io(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Encoder<Message> for Codec {
    type Error = CodecError;

    fn encode(&mut self, message: Message, out: &mut BytesMut) -> Result<(), CodecError> {
        let (head, bulk) = message.encode().map_err(|error| CodecError::Payload(error.to_string()))?;
        Ok(self.sealer.seal(message.kind(), &[&head, &bulk], out)?)
    }
}
