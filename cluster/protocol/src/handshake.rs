//! Who is at the other end: version, shared secret, model fingerprint, epoch.

use crate::model::Fingerprint;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Raised with every change of frames or messages; both sides must speak the same one.
pub const PROTOCOL_VERSION: u16 = 2;

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

    /// Keys and proofs of one connection. They depend on every field that both sides said, so one changed on its way
    /// (its frames carry but a checksum yet) makes the proofs and keys differ.
    pub fn session(&self, hello: &Hello, server_nonce: &str, worker: &WorkerInfo) -> Session {
        let derive = |label: &str| {
            let mut hasher = blake3::Hasher::new_keyed(&self.0);
            for part in [label.as_bytes(), &json(hello), server_nonce.as_bytes(), &json(worker)] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
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

/// What both ends derive from the secret and from what each said of itself.
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

/// The very bytes on the wire: fields in their order, numbers and texts that have one form only.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default() // can't fail: no maps, no floats
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
        let session = secret.session(hello, &nonce, &worker);
        let proof = session.server_proof();
        (Welcome { version: PROTOCOL_VERSION, nonce, worker, proof }, session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(letter: &str) -> ClusterSecret {
        ClusterSecret::new(&letter.repeat(32)).unwrap()
    }

    fn hello() -> Hello {
        Hello { version: PROTOCOL_VERSION, peer: PeerKind::Gateway, peer_id: "g1".into(), nonce: "aa".into() }
    }

    fn worker() -> WorkerInfo {
        let fingerprint = Fingerprint {
            engine: "llama".into(),
            build: "1".into(),
            model_sha256: "00".into(),
            kv_type: "f16".into(),
            flash_attention: true,
            kv_unified: true,
            chunk_tokens: 256,
        };
        WorkerInfo {
            worker_id: "d1".into(),
            role: Role::Decode,
            engine: "llama".into(),
            model: "m".into(),
            fingerprint,
            card_digest: "11".into(),
            epoch: 7,
            context_tokens: 1024,
            slots: 8,
            cells: 4096,
            load: Load::default(),
        }
    }

    #[test]
    fn only_the_same_secret_and_nonces_prove() {
        let session = secret("s").session(&hello(), "bb", &worker());
        assert!(session.accepts_client(&secret("s").session(&hello(), "bb", &worker()).client_proof()));
        assert!(!session.accepts_client(&secret("t").session(&hello(), "bb", &worker()).client_proof()));
        assert!(!session.accepts_client(&secret("s").session(&hello(), "b", &worker()).client_proof()));
        assert!(!session.accepts_client(&session.server_proof()), "a reflected proof");
        assert!(!session.accepts_server("not hex"));
    }

    #[test]
    fn a_change_of_any_field_of_hello_or_worker_fails_proofs_and_keys() {
        let session = secret("s").session(&hello(), "bb", &worker());
        let differs = |hello: &Hello, worker: &WorkerInfo, what: &str| {
            let other = secret("s").session(hello, "bb", worker);
            assert!(!session.accepts_server(&other.server_proof()), "{what}");
            assert!(!session.accepts_client(&other.client_proof()), "{what}");
            assert!(session.client_key != other.client_key && session.server_key != other.server_key, "{what}");
        };
        for (path, edited) in edits(&hello()) {
            differs(&edited, &worker(), &path);
        }
        let edits = edits(&worker());
        assert_eq!(edits.len(), 19, "every leaf of the worker's fields");
        for (path, edited) in edits {
            differs(&hello(), &edited, &path);
        }
    }

    /// `value` with each of its leaves changed, one at a time, named by the leaf's path.
    fn edits<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> Vec<(String, T)> {
        use serde_json::Value;
        fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(k, v)| leaves(v, &format!("{path}/{k}"), out)),
                _ => out.push(path.to_owned()),
            }
        }
        let json = serde_json::to_value(value).unwrap();
        let mut paths = Vec::new();
        leaves(&json, "", &mut paths);
        let edit = |path: String| {
            let mut edited = json.clone();
            let leaf = edited.pointer_mut(&path).unwrap();
            *leaf = match &*leaf {
                Value::Bool(flag) => Value::Bool(!flag),
                Value::Number(number) => Value::from(number.as_u64().unwrap() + 1),
                Value::String(text) if text == "decode" => "prefill".into(),
                Value::String(text) if text == "gateway" => "tool".into(),
                Value::String(text) => format!("{text}x").into(),
                other => panic!("{other} at {path}"),
            };
            let edited = serde_json::from_value(edited).unwrap();
            (path, edited)
        };
        paths.into_iter().map(edit).collect()
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_printed() {
        assert!(ClusterSecret::new("short").is_none());
        let secret = ClusterSecret::new(&"s".repeat(40)).unwrap();
        assert!(!format!("{secret:?}").contains('s'.to_string().repeat(4).as_str()));
    }
}
