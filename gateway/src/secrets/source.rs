//! Where a secret's text comes from: a variable of the environment, else a file of the state folder.

use super::versions::MAX_VERSION;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Least length of a configured secret, in bytes, white space around it not counted.
const MIN_BYTES: usize = 32;

pub(super) const PEPPER: Source =
    Source { name: "pepper", variable: "CAPROCK_PEPPER", file: "pepper", context: "caprock pepper", versioned: true };
pub(super) const MASTER_KEY: Source = Source {
    name: "master-key",
    variable: "CAPROCK_MASTER_KEY",
    file: "master-key",
    context: "caprock master key",
    versioned: true,
};
pub(super) const CLUSTER: Source = Source {
    name: "cluster",
    variable: "CAPROCK_CLUSTER_SECRET",
    file: "cluster",
    context: "caprock cluster",
    versioned: false,
};

/// The environment, or a test's stand-in.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One secret's places.
pub(super) struct Source {
    pub(super) name: &'static str,
    variable: &'static str,
    file: &'static str,
    /// With the version, separates what is derived from equal texts.
    context: &'static str,
    versioned: bool,
}

/// A secret's text, and the variable or file that it came from.
pub(super) struct Found {
    pub(super) text: Zeroizing<String>,
    pub(super) from: String,
}

impl Source {
    /// The highest version that there may be.
    pub(super) fn versions(&self) -> u8 {
        if self.versioned { MAX_VERSION } else { 1 }
    }

    /// The variable's name. The first version has no number: it is older than versions are.
    pub(super) fn variable(&self, version: u8) -> String {
        if version == 1 { self.variable.to_owned() } else { format!("{}_{version}", self.variable) }
    }

    /// The file's name in `secrets/`.
    pub(super) fn file(&self, version: u8) -> String {
        if version == 1 { self.file.to_owned() } else { format!("{}.{version}", self.file) }
    }

    /// What `blake3::derive_key` is told. That of version 1 must stay: stored digests and seals depend on it.
    pub(super) fn context(&self, version: u8) -> String {
        format!("{} v{version}", self.context)
    }

    /// Its path in the state folder.
    pub(super) fn path(&self, version: u8, state_dir: &Path) -> PathBuf {
        state_dir.join("secrets").join(self.file(version))
    }

    /// Whether the version is set or its file is there, be it usable or not.
    pub(super) fn is_there(&self, version: u8, state_dir: &Path, env: Environment<'_>) -> bool {
        env(&self.variable(version)).is_some() || self.path(version, state_dir).exists()
    }

    /// The text, a variable going before the file; `None` when there is neither.
    ///
    /// # Errors
    /// A complaint about one that is there and can't be used.
    pub(super) fn read(&self, version: u8, state_dir: &Path, env: Environment<'_>) -> Result<Option<Found>, String> {
        let variable = self.variable(version);
        let (text, from) = match env(&variable) {
            // A variable that is set and empty is a mistake, not a wish for the file.
            Some(text) => (Zeroizing::new(text), variable),
            None => {
                let path = self.path(version, state_dir);
                match std::fs::read_to_string(&path) {
                    Ok(text) => (Zeroizing::new(text), format!("secrets/{}", self.file(version))),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => {
                        return Err(format!("{variable} is not set and {} can't be read ({error}).", path.display()));
                    }
                }
            }
        };
        let text = Zeroizing::new(text.trim().to_owned());
        if text.len() < MIN_BYTES { Err(self.short(version)) } else { Ok(Some(Found { text, from })) }
    }

    /// The text of the first version.
    ///
    /// # Errors
    /// A complaint when there is none that can be used.
    pub(super) fn required(&self, state_dir: &Path, env: Environment<'_>) -> Result<Zeroizing<String>, String> {
        self.read(1, state_dir, env)?.map(|found| found.text).ok_or_else(|| self.missing(state_dir))
    }

    pub(super) fn missing(&self, state_dir: &Path) -> String {
        format!(
            "{} is not set and {} is not there. Set it, or run `caprock bootstrap`, which makes it.",
            self.variable,
            self.path(1, state_dir).display()
        )
    }

    pub(super) fn short(&self, version: u8) -> String {
        format!(
            "{} (or secrets/{} in the state folder) is empty or shorter than {MIN_BYTES} characters. \
             `openssl rand -hex 32` makes a good one.",
            self.variable(version),
            self.file(version)
        )
    }

    /// A file of 64 random hex digits, unless there is one; whether it was made.
    ///
    /// It gets its name only once it is whole and on disk: an empty one, left by a crash in between, would be refused
    /// by every later start. Of two that make it at once the first one's stays.
    pub(super) fn create(&self, version: u8, state_dir: &Path) -> std::io::Result<bool> {
        let dir = state_dir.join("secrets");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let path = self.path(version, state_dir);
        if path.try_exists()? {
            return Ok(false);
        }
        let unnamed = dir.join(format!(".{}.{:016x}", self.file(version), rand::random::<u64>()));
        let named = write_whole(&unnamed).and_then(|()| std::fs::hard_link(&unnamed, &path));
        // Whatever became of it: the secret must not stay under a second name.
        let removed = std::fs::remove_file(&unnamed);
        let made = match named {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            named => named.map(|()| true)?,
        };
        removed?;
        std::fs::File::open(&dir)?.sync_all()?;
        Ok(made)
    }
}

fn write_whole(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(hex::encode(rand::random::<[u8; 32]>()));
    writeln!(file, "{}", text.as_str())?;
    file.sync_all()
}
