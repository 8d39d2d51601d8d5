//! What gateway, decode and prefill say to each other: messages, framing and hand-off bookkeeping.
//!
//! Pure types, no I/O: [`Codec`] plugs into `tokio_util::codec::Framed` or any other loop that has bytes.
//!
//! One connection carries one request at a time. The side that connects (gateway, or decode towards prefill) is the
//! *client*, the worker that listens is the *server*:
//!
//! ```text
//! client                              server
//!   Hello{version, nonce}        ─▶
//!                                ◀─   Welcome{version, nonce, worker, proof}
//!   Proof{proof}                 ─▶                                  both sides now seal with session keys
//!
//!   Generate{…, grant}           ─▶
//!                                ◀─   Accepted, Token*, (Paused)     counts are cumulative in every frame
//!   Extend{grant} | Stop         ─▶
//!                                ◀─   Done | Error                   the connection may be reused after either
//!
//!   Prefill{…}                   ─▶                                  decode asks prefill
//!                                ◀─   KvBegin, KvChunk*, KvCommit    chunks in any order; the commit names them all
//! ```
//!
//! Closing the connection cancels whatever runs on it.

mod codec;
mod constraint;
mod frame;
mod generate;
mod handshake;
mod kv;
pub mod limits;
mod message;
mod model;

pub use codec::{Codec, CodecError};
pub use constraint::{Constraint, Grammar, Trigger};
pub use frame::{
    FrameError, HEADER_BYTES, Kind, MAX_CONTROL_BYTES, MAX_KV_CHUNK_BYTES, MAX_MODEL_BYTES, Opener, Sealer,
};
pub use generate::{
    Accepted, Counts, Done, ErrorCode, Extend, FinishReason, Generate, LocalReason, LogitBias, Logprob, Path, Paused,
    PrefillPath, PrefillPlan, QueryReceipt, Receipt, Sampling, TextPart, Timings, Token, TokenLogprobs, Tokenize,
    Tokens, WorkerError,
};
pub use handshake::{
    ClusterSecret, Hello, Load, PROTOCOL_VERSION, PeerKind, Proof, Role, Session, Welcome, WorkerInfo,
};
pub use kv::{Binding, ChunkRef, Commit, FirstToken, Handoff, HandoffError, KvBegin, KvChunk, Prefill};
pub use message::Message;
pub use model::{Fingerprint, ModelCard, TokenKind, TokenizerCard, prompt_digest};
