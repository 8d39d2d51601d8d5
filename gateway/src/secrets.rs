//! The secrets of one installation, given by environment or kept in files of the state folder. Never in the database.

use crate::error::{Error, ErrorKind, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use cluster_protocol::ClusterSecret;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

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
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

/// Text that never prints by accident and is wiped on drop: a key that is shown once, or a SigV4 secret in use.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

/// Which pepper makes new digests. Stored beside each, so that a later pepper can take over key by key.
pub const PEPPER_VERSION: i64 = 1;

/// Which master key seals; the text form begins with it.
const SEAL_VERSION: &str = "v1";
/// Least length of a configured secret, in bytes, white space around it not counted.
const MIN_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// One secret's two places.
struct Source {
    variable: &'static str,
    file: &'static str,
}

const PEPPER: Source = Source { variable: "CAPROCK_PEPPER", file: "pepper" };
const MASTER_KEY: Source = Source { variable: "CAPROCK_MASTER_KEY", file: "master-key" };
const CLUSTER: Source = Source { variable: "CAPROCK_CLUSTER_SECRET", file: "cluster" };

impl Secrets {
    /// From CAPROCK_PEPPER, CAPROCK_MASTER_KEY and CAPROCK_CLUSTER_SECRET, and each that is not set there from
    /// `secrets/` in the state folder.
    ///
    /// # Errors
    /// `Invalid`, naming every one that is missing, empty or short, and what to do.
    pub fn load(state_dir: &Path) -> Result<Secrets> {
        Self::load_with(state_dir, |name| std::env::var(name).ok())
    }

    /// As [`Secrets::load`], after making a random file for each that is neither set nor there. For bootstrap only: a
    /// gateway that made itself a new pepper would refuse every key there is.
    ///
    /// # Errors
    /// `Invalid` for those that are there and can't be used; `Internal` when a file can't be written.
    pub fn load_or_create(state_dir: &Path) -> Result<Secrets> {
        Self::load_or_create_with(state_dir, |name| std::env::var(name).ok())
    }

    pub(crate) fn load_or_create_with(state_dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
        for source in [&PEPPER, &MASTER_KEY, &CLUSTER] {
            if env(source.variable).is_none() {
                create(state_dir, source).map_err(|error| {
                    let text = format!("secrets/{} can't be made in the state folder.", source.file);
                    Error::new(ErrorKind::Internal, text).caused_by(error)
                })?;
            }
        }
        Self::load_with(state_dir, env)
    }

    pub(crate) fn load_with(state_dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Secrets> {
        let read = |source: &Source| read(state_dir, source, env(source.variable));
        match (read(&PEPPER), read(&MASTER_KEY), read(&CLUSTER)) {
            (Ok(pepper), Ok(master_key), Ok(cluster)) => Ok(Secrets {
                pepper: Secret(blake3::derive_key("caprock pepper v1", pepper.as_bytes())),
                master_key: Secret(blake3::derive_key("caprock master key v1", master_key.as_bytes())),
                cluster: ClusterSecret::new(&cluster).ok_or_else(|| Error::new(ErrorKind::Invalid, short(&CLUSTER)))?,
            }),
            (pepper, master_key, cluster) => {
                let complaints: Vec<String> =
                    [pepper.err(), master_key.err(), cluster.err()].into_iter().flatten().collect();
                Err(Error::new(ErrorKind::Invalid, complaints.join("\n")))
            }
        }
    }

    /// HMAC-SHA256 of a credential under the pepper of `version`; `id` has a fixed length, so the two can't run into
    /// each other. `None` for a version that this program does not have.
    pub fn digest(&self, version: i64, id: &str, secret: &str) -> Option<[u8; 32]> {
        if version != PEPPER_VERSION {
            return None;
        }
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.pepper.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(secret.as_bytes());
        Some(mac.finalize().into_bytes().into())
    }

    /// Encrypts for storage, bound to `owner`: sealed text moved to another row does not open.
    ///
    /// # Errors
    /// `Internal`; only beyond the cipher's limit of 256 GiB.
    pub fn seal(&self, secret: &SecretText, owner: &str) -> Result<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random(); // 192 bits: random nonces don't meet
        let payload = Payload { msg: secret.0.as_bytes(), aad: owner.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(Error::internal)?;
        Ok(format!("{SEAL_VERSION}.{}", URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())))
    }

    /// Decrypts what [`Secrets::seal`] made for the same `owner`.
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
        let (version, text) = sealed.split_once('.').ok_or_else(refuse)?;
        if version != SEAL_VERSION {
            return Err(refuse());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| refuse().caused_by(error))?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(refuse)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|e| refuse().caused_by(e))?;
        String::from_utf8(opened).map(SecretText).map_err(|_| refuse())
    }

    /// Keys of the audit log's seals, by the version of the master key that each comes from; the last one seals.
    pub fn audit_keys(&self) -> Vec<(u32, [u8; 32])> {
        vec![(1, blake3::derive_key("caprock audit seal v1", &self.master_key.0))]
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.master_key.0.into())
    }
}

impl SecretText {
    /// Takes the text over.
    pub fn new(text: String) -> SecretText {
        SecretText(text)
    }

    /// The text itself: to be shown once to its owner, or to be used, never to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn read(state_dir: &Path, source: &Source, variable: Option<String>) -> Result<Zeroizing<String>, String> {
    let text = match variable {
        // A variable that is set and empty is a mistake, not a wish for the file.
        Some(text) => Zeroizing::new(text),
        None => {
            let path = state_dir.join("secrets").join(source.file);
            Zeroizing::new(std::fs::read_to_string(&path).map_err(|error| {
                format!(
                    "{} is not set and {} can't be read ({error}). Set it, or run `caprock bootstrap`, which makes it.",
                    source.variable,
                    path.display()
                )
            })?)
        }
    };
    let text = Zeroizing::new(text.trim().to_owned());
    if text.len() < MIN_BYTES { Err(short(source)) } else { Ok(text) }
}

fn short(source: &Source) -> String {
    format!(
        "{} (or secrets/{} in the state folder) is empty or shorter than {MIN_BYTES} characters. \
         `openssl rand -hex 32` makes a good one.",
        source.variable, source.file
    )
}

/// A file of 64 random hex digits, unless there is one.
///
/// It gets its name only once it is whole and on disk: an empty one, left by a crash in between, would be refused by
/// every later start. Of two that make it at once the first one's stays.
fn create(state_dir: &Path, source: &Source) -> std::io::Result<()> {
    let dir = state_dir.join("secrets");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let path = dir.join(source.file);
    if path.try_exists()? {
        return Ok(());
    }
    let unnamed = dir.join(format!(".{}.{:016x}", source.file, rand::random::<u64>()));
    let named = write_whole(&unnamed).and_then(|()| std::fs::hard_link(&unnamed, &path));
    // Whatever became of it: the secret must not stay under a second name.
    let removed = std::fs::remove_file(&unnamed);
    match named {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        named => named?,
    }
    removed?;
    std::fs::File::open(&dir)?.sync_all()
}

fn write_whole(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(hex::encode(rand::random::<[u8; 32]>()));
    writeln!(file, "{}", text.as_str())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn nothing_set(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn missing_secrets_are_named_together_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let text = Secrets::load_with(dir.path(), nothing_set).unwrap_err().message;
        for name in ["CAPROCK_PEPPER", "CAPROCK_MASTER_KEY", "CAPROCK_CLUSTER_SECRET", "caprock bootstrap"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn an_empty_or_short_secret_is_refused_even_when_a_good_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        for bad in ["", "   ", &"x".repeat(31), &format!(" {} ", "x".repeat(31))] {
            let set = |name: &str| (name == "CAPROCK_PEPPER").then(|| bad.to_owned());
            let text = Secrets::load_with(dir.path(), set).unwrap_err().message;
            assert!(text.contains("CAPROCK_PEPPER") && !text.contains("MASTER"), "{text}");
            assert!(bad.trim().is_empty() || !text.contains(bad.trim()), "an error repeats a secret");
        }
        std::fs::write(dir.path().join("secrets/pepper"), "\n").unwrap();
        assert!(Secrets::load_with(dir.path(), nothing_set).unwrap_err().message.contains("CAPROCK_PEPPER"));
    }

    #[test]
    fn made_secrets_are_private_and_stay_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        let again = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        assert_eq!(first.pepper.0, again.pepper.0);
        assert_ne!(first.pepper.0, first.master_key.0);
        for file in ["pepper", "master-key", "cluster"] {
            let mode = std::fs::metadata(dir.path().join("secrets").join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn whoever_sees_a_secrets_file_sees_it_whole_and_all_makers_agree_on_it() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("secrets/pepper");
            let texts: Vec<String> = std::thread::scope(|scope| {
                let watcher = scope.spawn(|| {
                    loop {
                        if let Ok(text) = std::fs::read_to_string(&path) {
                            return text;
                        }
                    }
                });
                let makers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            create(dir.path(), &PEPPER).unwrap();
                            std::fs::read_to_string(&path).unwrap()
                        })
                    })
                    .collect();
                makers.into_iter().chain([watcher]).map(|thread| thread.join().unwrap()).collect()
            });
            assert!(texts.iter().all(|text| text.len() == 65 && *text == texts[0]), "{texts:?}");
            assert_eq!(std::fs::read_dir(dir.path().join("secrets")).unwrap().count(), 1, "a second name was left");
        }
    }

    #[test]
    fn a_variable_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let from_file = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        let set = |name: &str| (name == "CAPROCK_PEPPER").then(|| "p".repeat(32));
        let from_both = Secrets::load_with(dir.path(), set).unwrap();
        assert_ne!(from_file.pepper.0, from_both.pepper.0);
        assert_eq!(from_file.master_key.0, from_both.master_key.0);
    }

    #[test]
    fn a_sealed_secret_opens_only_whole_with_its_key_and_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        let sealed = secrets.seal(&SecretText::new("wJalr".into()), "CKIA1").unwrap();
        assert!(sealed.starts_with("v1.") && !sealed.contains("wJalr"));
        assert_eq!(secrets.open(&sealed, "CKIA1").unwrap().expose(), "wJalr");
        assert_ne!(sealed, secrets.seal(&SecretText::new("wJalr".into()), "CKIA1").unwrap(), "a nonce was used twice");

        assert!(secrets.open(&sealed, "CKIA2").is_err(), "another owner");
        assert!(secrets.open(&sealed.replacen("v1", "v2", 1), "CKIA1").is_err(), "another key version");
        for broken in ["", "v1", "v1.", "v1.AAAA", &sealed[..sealed.len() - 4]] {
            assert!(secrets.open(broken, "CKIA1").is_err(), "{broken}");
        }
        let other = Secrets { master_key: Secret([7; 32]), pepper: Secret([7; 32]), cluster: secrets.cluster.clone() };
        assert!(other.open(&sealed, "CKIA1").is_err(), "another master key");
    }

    #[test]
    fn nothing_secret_prints() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create_with(dir.path(), nothing_set).unwrap();
        let printed = format!("{secrets:?} {:?}", SecretText::new("hunter2".into()));
        assert_eq!(
            printed,
            "Secrets { pepper: Secret(…), master_key: Secret(…), cluster: ClusterSecret(…) } SecretText(…)"
        );
    }
}
