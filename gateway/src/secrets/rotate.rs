//! Making the next version of a pepper or master key.

use super::source::{MASTER_KEY, PEPPER, Source};
use super::versions::{MAX_VERSION, Versions};
use crate::config::SecretVersions;
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// What can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// Keys the digests of API keys.
    Pepper,
    /// Encrypts SigV4 secrets at rest.
    MasterKey,
}

/// A new version, not yet in use by any gateway.
#[derive(Debug)]
pub struct Rotation {
    /// `pepper` or `master-key`.
    pub name: &'static str,
    /// The new one.
    pub version: u8,
    /// Its file.
    pub path: PathBuf,
    /// The variable that could hold it in place of the file.
    pub variable: String,
    /// The one that is current until a gateway starts that has the new one and pins none.
    pub before: u8,
    /// Whether the configuration pins the one before.
    pub pinned: bool,
}

/// Makes a random file for the version after the highest one that there is. Running gateways don't see it.
///
/// # Errors
/// `Invalid` when the versions that are there can't be used, or none is; `Conflict` when the last number is taken, or
/// somebody else makes one at the same moment; `Internal` when it can't be written.
pub fn rotate(state_dir: &Path, pinned: &SecretVersions, what: Rotated) -> Result<Rotation> {
    rotate_from(state_dir, pinned, what, |name| std::env::var(name).ok())
}

pub(super) fn rotate_from(
    state_dir: &Path,
    pinned: &SecretVersions,
    what: Rotated,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Rotation> {
    let (source, pinned): (&Source, _) = match what {
        Rotated::Pepper => (&PEPPER, pinned.pepper_version),
        Rotated::MasterKey => (&MASTER_KEY, pinned.master_key_version),
    };
    let there = Versions::load(source, pinned, state_dir, &env)
        .map_err(|complaints| Error::new(ErrorKind::Invalid, complaints.join("\n")))?;
    let version = there.highest() + 1;
    if version > MAX_VERSION {
        let text = format!("{} {MAX_VERSION} is there, and no version comes after it.", source.name);
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    let made = source.create(version, state_dir).map_err(|error| {
        let text = format!("secrets/{} can't be made in the state folder.", source.file(version));
        Error::new(ErrorKind::Internal, text).caused_by(error)
    })?;
    if !made {
        let text = format!("secrets/{} was made by somebody else just now.", source.file(version));
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    Ok(Rotation {
        name: source.name,
        version,
        path: source.path(version, state_dir),
        variable: source.variable(version),
        before: there.current(),
        pinned: pinned.is_some(),
    })
}
