//! The secrets of one installation, kept in files of the state folder or given by environment. Never in the database.

use cluster_protocol::ClusterSecret;

/// What the process must know and nobody else may.
#[derive(Debug)]
pub struct Secrets {
    /// Keys the digests of API keys.
    pub pepper: Secret,
    /// Encrypts SigV4 secrets at rest.
    pub master_key: Secret,
    /// Shared with workers.
    pub cluster: ClusterSecret,
}

/// 32 bytes that never print and are wiped on drop.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
