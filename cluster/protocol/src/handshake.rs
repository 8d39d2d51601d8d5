//! Who is at the other end: version, shared secret, model fingerprint, epoch.

use crate::model::Fingerprint;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Raised with every change of frames or messages; both sides must speak the same one.
pub const PROTOCOL_VERSION: u16 = 1;

/// The role a worker was started in. Role is policy: both can do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Role {
    Prefill,
    Decode,
}

impl Role {
    /// `prefill` or `decode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Prefill => "prefill",
            Role::Decode => "decode",
        }
    }
}

/// What kind of client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PeerKind {
    Gateway,
    Decode,
    Tool,
}

/// Client's opening frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u16,
    /// What connects.
    pub peer: PeerKind,
    /// Its name in its own configuration, for logs.
    pub peer_id: String,
    /// 32 random bytes in hex, fresh per connection.
    pub nonce: String,
}

/// Server's answer. The proof shows that it holds the cluster secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub version: u16,
    /// 32 random bytes in hex, fresh per connection.
    pub nonce: String,
    /// The worker that answers.
    pub worker: WorkerInfo,
    /// [`Session::server_proof`] in hex.
    pub proof: String,
}

/// Client's proof that it holds the cluster secret; session keys apply from the next frame on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// [`Session::client_proof`] in hex.
    pub proof: String,
}

/// What a worker says of itself at each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerInfo {
    /// Its id in the cluster's configuration.
    pub worker_id: String,
    /// Prefill or decode.
    pub role: Role,
    /// `llama` or `sim`.
    pub engine: String,
    /// Name of the model, from its file.
    pub model: String,
    /// What must be equal on two workers for a KV cache to move between them.
    pub fingerprint: Fingerprint,
    /// Digest of the [`crate::ModelCard`], so that a known card is not fetched again.
    pub card_digest: String,
    /// Start of this engine process, µs since 1970. Grows with every restart.
    pub epoch: u64,
    /// Most tokens of prompt and answer together in one sequence.
    pub context_tokens: u32,
    /// Sequences generated at the same time.
    pub slots: u32,
    /// KV cells, one per token, shared by all sequences.
    pub cells: u32,
    /// How busy it is at this moment.
    pub load: Load,
}

/// A worker's load when it answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Requests that hold a slot.
    pub running: u32,
    /// Requests that wait for one.
    pub waiting: u32,
    /// Cells reserved.
    pub cells_reserved: u32,
}

/// The secret shared by gateway and workers. Never printed.
#[derive(Clone)]
pub struct ClusterSecret([u8; 32]);

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

impl ClusterSecret {
    /// Least length of the configured text, in bytes.
    pub const MIN_BYTES: usize = 32;

    /// From the configured text; white space around it is ignored. `None` when it is shorter than
    /// [`ClusterSecret::MIN_BYTES`].
    pub fn new(text: &str) -> Option<ClusterSecret> {
        let text = text.trim();
        (text.len() >= Self::MIN_BYTES)
            .then(|| ClusterSecret(blake3::derive_key("caprock cluster secret v1", text.as_bytes())))
    }

    /// Keys and proofs of one connection; both nonces as sent (hex).
    pub fn session(&self, client_nonce: &str, server_nonce: &str) -> Session {
        let derive = |label: &str| {
            let mut hasher = blake3::Hasher::new_keyed(&self.0);
            for part in [label, client_nonce, server_nonce] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            *hasher.finalize().as_bytes()
        };
        Session {
            client_proof: derive("client proof"),
            server_proof: derive("server proof"),
            client_key: derive("client to server"),
            server_key: derive("server to client"),
        }
    }
}

/// What both ends derive from the secret and the two nonces.
#[derive(Clone)]
pub struct Session {
    client_proof: [u8; 32],
    server_proof: [u8; 32],
    /// Seals frames from client to server.
    pub client_key: [u8; 32],
    /// Seals frames from server to client.
    pub server_key: [u8; 32],
}

impl Session {
    /// Hex for [`Proof::proof`].
    pub fn client_proof(&self) -> String {
        hex::encode(self.client_proof)
    }

    /// Hex for [`Welcome::proof`].
    pub fn server_proof(&self) -> String {
        hex::encode(self.server_proof)
    }

    /// In constant time.
    pub fn accepts_client(&self, proof: &str) -> bool {
        matches(&self.client_proof, proof)
    }

    /// In constant time.
    pub fn accepts_server(&self, proof: &str) -> bool {
        matches(&self.server_proof, proof)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

fn matches(expected: &[u8; 32], hex_text: &str) -> bool {
    hex::decode(hex_text).is_ok_and(|given| bool::from(expected[..].ct_eq(&given)))
}

/// 32 fresh random bytes in hex.
pub(crate) fn nonce() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

impl Hello {
    /// An opening frame with a fresh nonce.
    pub fn new(peer: PeerKind, peer_id: impl Into<String>) -> Hello {
        Hello { version: PROTOCOL_VERSION, peer, peer_id: peer_id.into(), nonce: nonce() }
    }
}

impl Welcome {
    /// The answer to `hello`, with a fresh nonce, and the session that both now share.
    pub fn new(secret: &ClusterSecret, hello: &Hello, worker: WorkerInfo) -> (Welcome, Session) {
        let nonce = nonce();
        let session = secret.session(&hello.nonce, &nonce);
        let proof = session.server_proof();
        (Welcome { version: PROTOCOL_VERSION, nonce, worker, proof }, session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_and_nonces_prove() {
        let secret = ClusterSecret::new(&"s".repeat(32)).unwrap();
        let other = ClusterSecret::new(&"t".repeat(32)).unwrap();
        let session = secret.session("aa", "bb");
        assert!(session.accepts_client(&secret.session("aa", "bb").client_proof()));
        assert!(!session.accepts_client(&other.session("aa", "bb").client_proof()));
        assert!(!session.accepts_client(&secret.session("aab", "b").client_proof()));
        assert!(!session.accepts_client(&session.server_proof()), "a reflected proof");
        assert!(!session.accepts_server("not hex"));
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_printed() {
        assert!(ClusterSecret::new("short").is_none());
        let secret = ClusterSecret::new(&"s".repeat(40)).unwrap();
        assert!(!format!("{secret:?}").contains('s'.to_string().repeat(4).as_str()));
    }
}
