//! Every message as one closed enum, and its payload's encoding: JSON, but for KV chunks, which are binary.

use crate::frame::Kind;
use crate::generate::*;
use crate::handshake::{Hello, Proof, Welcome};
use crate::kv::{Commit, KvBegin, KvChunk, Prefill};
use crate::model::ModelCard;
use bytes::Bytes;
use serde::Serialize;

/// One frame's content.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // documented at each type
pub enum Message {
    Hello(Hello),
    Welcome(Box<Welcome>),
    Proof(Proof),
    Generate(Box<Generate>),
    Extend(Extend),
    /// End the answer at the next step; `Done` with final counts follows.
    Stop,
    Prefill(Box<Prefill>),
    Tokenize(Tokenize),
    /// Ask for the [`ModelCard`].
    DescribeModel,
    QueryReceipt(QueryReceipt),
    Accepted(Accepted),
    Token(Token),
    Paused(Paused),
    Done(Box<Done>),
    Error(WorkerError),
    KvBegin(Box<KvBegin>),
    KvChunk(KvChunk),
    KvCommit(Box<Commit>),
    Tokens(Tokens),
    Model(Box<ModelCard>),
    Receipt(Receipt),
}

impl Message {
    /// The frame kind that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::Welcome(_) => Kind::Welcome,
            Message::Proof(_) => Kind::Proof,
            Message::Generate(_) => Kind::Generate,
            Message::Extend(_) => Kind::Extend,
            Message::Stop => Kind::Stop,
            Message::Prefill(_) => Kind::Prefill,
            Message::Tokenize(_) => Kind::Tokenize,
            Message::DescribeModel => Kind::DescribeModel,
            Message::QueryReceipt(_) => Kind::QueryReceipt,
            Message::Accepted(_) => Kind::Accepted,
            Message::Token(_) => Kind::Token,
            Message::Paused(_) => Kind::Paused,
            Message::Done(_) => Kind::Done,
            Message::Error(_) => Kind::Error,
            Message::KvBegin(_) => Kind::KvBegin,
            Message::KvChunk(_) => Kind::KvChunk,
            Message::KvCommit(_) => Kind::KvCommit,
            Message::Tokens(_) => Kind::Tokens,
            Message::Model(_) => Kind::Model,
            Message::Receipt(_) => Kind::Receipt,
        }
    }

    /// The payload in two parts: a head, and bulk bytes that need no copy here.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Bytes), serde_json::Error> {
        let json = |value: &dyn erased::Json| value.to_vec().map(|head| (head, Bytes::new()));
        match self {
            Message::Hello(m) => json(m),
            Message::Welcome(m) => json(m),
            Message::Proof(m) => json(m),
            Message::Generate(m) => json(m),
            Message::Extend(m) => json(m),
            Message::Prefill(m) => json(m),
            Message::Tokenize(m) => json(m),
            Message::QueryReceipt(m) => json(m),
            Message::Accepted(m) => json(m),
            Message::Token(m) => json(m),
            Message::Paused(m) => json(m),
            Message::Done(m) => json(m),
            Message::Error(m) => json(m),
            Message::KvBegin(m) => json(m),
            Message::KvCommit(m) => json(m),
            Message::Tokens(m) => json(m),
            Message::Model(m) => json(m),
            Message::Receipt(m) => json(m),
            Message::KvChunk(m) => Ok((m.encode_head().to_vec(), m.data.clone())),
            Message::Stop | Message::DescribeModel => Ok((Vec::new(), Bytes::new())),
        }
    }

    /// The reverse of `encode`. Unknown and missing fields are errors, since both ends run one version.
    pub(crate) fn decode(kind: Kind, payload: Bytes) -> Result<Message, String> {
        fn json<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
            serde_json::from_slice(payload).map_err(|error| error.to_string())
        }
        let empty = |message| -> Result<Message, String> {
            if payload.is_empty() { Ok(message) } else { Err("payload where none belongs".into()) }
        };
        Ok(match kind {
            Kind::Hello => Message::Hello(json(&payload)?),
            Kind::Welcome => Message::Welcome(json(&payload)?),
            Kind::Proof => Message::Proof(json(&payload)?),
            Kind::Generate => Message::Generate(json(&payload)?),
            Kind::Extend => Message::Extend(json(&payload)?),
            Kind::Stop => empty(Message::Stop)?,
            Kind::Prefill => Message::Prefill(json(&payload)?),
            Kind::Tokenize => Message::Tokenize(json(&payload)?),
            Kind::DescribeModel => empty(Message::DescribeModel)?,
            Kind::QueryReceipt => Message::QueryReceipt(json(&payload)?),
            Kind::Accepted => Message::Accepted(json(&payload)?),
            Kind::Token => Message::Token(json(&payload)?),
            Kind::Paused => Message::Paused(json(&payload)?),
            Kind::Done => Message::Done(json(&payload)?),
            Kind::Error => Message::Error(json(&payload)?),
            Kind::KvBegin => Message::KvBegin(json(&payload)?),
            Kind::KvChunk => Message::KvChunk(KvChunk::decode(payload)?),
            Kind::KvCommit => Message::KvCommit(json(&payload)?),
            Kind::Tokens => Message::Tokens(json(&payload)?),
            Kind::Model => Message::Model(json(&payload)?),
            Kind::Receipt => Message::Receipt(json(&payload)?),
        })
    }
}

/// Lets `encode` name "anything that serialises" without a generic per variant.
mod erased {
    use super::Serialize;

    pub(super) trait Json {
        fn to_vec(&self) -> Result<Vec<u8>, serde_json::Error>;
    }

    impl<T: Serialize> Json for T {
        fn to_vec(&self) -> Result<Vec<u8>, serde_json::Error> {
            serde_json::to_vec(self)
        }
    }
}
