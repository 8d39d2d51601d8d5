//! The secrets of one installation, given by environment or kept in files of the state folder. Never in the database.
//!
//! Pepper and master key have versions, 1 to 99, so that a new one can take over while what an older one made still
//! works. One of each is current: it makes new digests and seals. All that are loaded check digests and open seals.

mod rotate;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod versions;

pub use rotate::{Rotated, Rotation, rotate};
pub use text::{Secret, SecretText};
pub use versions::{MAX_VERSION, VersionStatus, VersionsStatus};

use crate::config::SecretVersions;
use crate::error::{Error, ErrorKind, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use cluster_protocol::ClusterSecret;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use source::{CLUSTER, MASTER_KEY, PEPPER};
use std::path::Path;
use versions::{Versions, canonical};

/// What the process must know and nobody else may.
#[derive(Debug)]
pub struct Secrets {
    /// Key the digests of API keys.
    peppers: Versions,
    /// Encrypt SigV4 secrets at rest.
    master_keys: Versions,
    /// Shared with workers.
    pub cluster: ClusterSecret,
}

const NONCE_BYTES: usize = 24;

#[derive(Debug, thiserror::Error)]
#[error("it was sealed with master key version {0}, which this gateway does not have")]
struct NotLoaded(u8);

impl Secrets {
    /// From CAPROCK_PEPPER, CAPROCK_MASTER_KEY and CAPROCK_CLUSTER_SECRET, and each that is not set there from
    /// `secrets/` in the state folder. Later versions: CAPROCK_PEPPER_2 or `secrets/pepper.2`, and so on.
    ///
    /// # Errors
    /// `Invalid`, naming every one that is missing, empty or short, or pinned and not there, and what to do.
    pub fn load(state_dir: &Path, pinned: &SecretVersions) -> Result<Secrets> {
        Self::load_from(state_dir, pinned, |name| std::env::var(name).ok())
    }

    /// As [`Secrets::load`], after making a random file for each secret of which there is no version at all. For
    /// bootstrap only: a gateway that made itself a new pepper would refuse every key there is.
    ///
    /// # Errors
    /// `Invalid` for those that are there and can't be used; `Internal` when a file can't be written.
    pub(crate) fn load_or_create_from(
        state_dir: &Path,
        pinned: &SecretVersions,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Secrets> {
        for source in [&PEPPER, &MASTER_KEY, &CLUSTER] {
            let is_there = |version| source.is_there(version, state_dir, &env);
            if (1..=source.versions()).any(is_there) {
                continue;
            }
            source.create(1, state_dir).map_err(|error| {
                let text = format!("secrets/{} can't be made in the state folder.", source.file(1));
                Error::new(ErrorKind::Internal, text).caused_by(error)
            })?;
        }
        Self::load_from(state_dir, pinned, env)
    }

    pub(crate) fn load_from(
        state_dir: &Path,
        pinned: &SecretVersions,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Secrets> {
        let peppers = Versions::load(&PEPPER, pinned.pepper_version, state_dir, &env);
        let master_keys = Versions::load(&MASTER_KEY, pinned.master_key_version, state_dir, &env);
        let cluster = CLUSTER.required(state_dir, &env).map_err(|complaint| vec![complaint]);
        match (peppers, master_keys, cluster) {
            (Ok(peppers), Ok(master_keys), Ok(cluster)) => Ok(Secrets {
                peppers,
                master_keys,
                cluster: ClusterSecret::new(&cluster)
                    .ok_or_else(|| Error::new(ErrorKind::Invalid, CLUSTER.short(1)))?,
            }),
            (peppers, master_keys, cluster) => {
                let complaints = [peppers.err(), master_keys.err(), cluster.err()].into_iter().flatten().flatten();
                Err(Error::new(ErrorKind::Invalid, complaints.collect::<Vec<String>>().join("\n")))
            }
        }
    }

    /// [`Secrets::load_from`] with nothing pinned.
    #[cfg(test)]
    pub(crate) fn load_with(state_dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
        Self::load_from(state_dir, &SecretVersions::default(), env)
    }

    /// [`Secrets::load_or_create_from`] with nothing pinned.
    #[cfg(test)]
    pub(crate) fn load_or_create_with(state_dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
        Self::load_or_create_from(state_dir, &SecretVersions::default(), env)
    }

    /// Which pepper makes new digests. Stored beside each, so that a later pepper can take over key by key.
    pub fn pepper_version(&self) -> i64 {
        i64::from(self.peppers.current())
    }

    /// Which master key makes new seals.
    pub fn master_key_version(&self) -> u8 {
        self.master_keys.current()
    }

    /// Key the seals of the audit log, by version; the last one is current.
    pub fn audit_keys(&self) -> Vec<(u32, [u8; 32])> {
        let key = |secret: &Secret| blake3::derive_key("caprock audit seal v1", &secret.0);
        let mut keys: Vec<_> = self.master_keys.all().map(|(version, secret)| (version.into(), key(secret))).collect();
        let current = u32::from(self.master_keys.current());
        keys.sort_by_key(|(version, _)| *version == current);
        keys
    }

    /// HMAC-SHA256 of a credential under the pepper of `version`; `id` has a fixed length, so the two can't run into
    /// each other. `None` for a version that this gateway does not have.
    pub fn digest(&self, version: i64, id: &str, secret: &str) -> Option<[u8; 32]> {
        let pepper = self.peppers.get(u8::try_from(version).ok()?)?;
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&pepper.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(secret.as_bytes());
        Some(mac.finalize().into_bytes().into())
    }

    /// Encrypts for storage under the current master key, whose version the text begins with (`v2.…`), bound to
    /// `owner`: sealed text moved to another row does not open. An owner is a text that names the row and its use; two
    /// uses must not share one.
    ///
    /// # Errors
    /// `Internal`; only beyond the cipher's limit of 256 GiB.
    pub fn seal(&self, secret: &SecretText, owner: &str) -> Result<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random(); // 192 bits: random nonces don't meet
        let payload = Payload { msg: secret.expose().as_bytes(), aad: owner.as_bytes() };
        let cipher = XChaCha20Poly1305::new(&self.master_keys.current_secret().0.into());
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(Error::internal)?;
        Ok(format!("v{}.{}", self.master_keys.current(), URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())))
    }

    /// Decrypts what [`Secrets::seal`] made for the same `owner`, under any master key that is loaded.
    ///
    /// # Errors
    /// `Internal` when it was made with another master key or for another owner, or was changed.
    pub fn open(&self, sealed: &str, owner: &str) -> Result<SecretText> {
        let refuse = || {
            Error::new(
                ErrorKind::Internal,
                "A stored secret can't be opened. CAPROCK_MASTER_KEY must be the key that sealed it.",
            )
        };
        let (version, text) = split(sealed).ok_or_else(refuse)?;
        let key = self.master_keys.get(version).ok_or_else(|| refuse().caused_by(NotLoaded(version)))?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| refuse().caused_by(error))?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(refuse)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let opened = XChaCha20Poly1305::new(&key.0.into())
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|error| refuse().caused_by(error))?;
        String::from_utf8(opened).map(SecretText::new).map_err(|_| refuse())
    }

    /// Whether it was sealed with the current master key; what was not is due for [`Secrets::reseal`].
    pub fn seal_is_current(&self, sealed: &str) -> bool {
        split(sealed).is_some_and(|(version, _)| version == self.master_keys.current())
    }

    /// Opens and seals again under the current master key; `None` when it already is.
    ///
    /// # Errors
    /// Those of [`Secrets::open`] and [`Secrets::seal`].
    pub fn reseal(&self, sealed: &str, owner: &str) -> Result<Option<String>> {
        if self.seal_is_current(sealed) {
            return Ok(None);
        }
        self.seal(&self.open(sealed, owner)?, owner).map(Some)
    }

    /// Which versions are loaded, from where, and which is current: pepper, then master key. Nothing secret.
    pub fn status(&self) -> [VersionsStatus; 2] {
        [self.peppers.status(), self.master_keys.status()]
    }
}

/// Version and ciphertext.
fn split(sealed: &str) -> Option<(u8, &str)> {
    let (version, text) = sealed.strip_prefix('v')?.split_once('.')?;
    Some((canonical(version)?, text))
}
