//! All versions of one secret, and which of them is current.

use super::source::{Environment, Source};
use super::text::Secret;
use std::collections::BTreeMap;
use std::path::Path;

/// The highest version.
pub const MAX_VERSION: u8 = 99;

/// At least one.
#[derive(Debug)]
pub(super) struct Versions {
    name: &'static str,
    all: BTreeMap<u8, Version>,
    current: u8,
    /// A copy, so that there always is one.
    current_secret: Secret,
    pinned: bool,
}

#[derive(Debug)]
struct Version {
    secret: Secret,
    from: String,
}

/// What may be told about the versions of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsStatus {
    /// `pepper` or `master-key`.
    pub name: &'static str,
    /// Those that are loaded, lowest first.
    pub versions: Vec<VersionStatus>,
    /// Makes what is new.
    pub current: u8,
    /// Whether the configuration chose it; else it is the highest.
    pub pinned: bool,
}

/// One loaded version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    /// 1 to 99.
    pub version: u8,
    /// The variable, or the file in the state folder, that it came from.
    pub from: String,
}

impl Versions {
    /// Every version that is set or has a file; current is the pinned one, else the highest.
    ///
    /// # Errors
    /// Complaints: none there, one that can't be used, two alike, or a pinned one that is not there.
    pub(super) fn load(
        source: &Source,
        pinned: Option<u8>,
        state_dir: &Path,
        env: Environment<'_>,
    ) -> Result<Versions, Vec<String>> {
        let mut complaints = Vec::new();
        let mut texts = BTreeMap::new();
        for version in 1..=source.versions() {
            match source.read(version, state_dir, env) {
                Ok(Some(found)) => {
                    texts.insert(version, found);
                }
                Ok(None) => {}
                Err(complaint) => complaints.push(complaint),
            }
        }
        complaints.extend(misnamed(source, state_dir, env));
        for (version, found) in &texts {
            // A leaked secret is not replaced by setting it a second time.
            if let Some((twin, _)) = texts.range(..version).find(|(_, other)| *other.text == *found.text) {
                complaints.push(format!("{} is the same as {}.", source.variable(*version), source.variable(*twin)));
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let derive = |(version, found): (u8, super::source::Found)| {
            let secret = Secret(blake3::derive_key(&source.context(version), found.text.as_bytes()));
            (version, Version { secret, from: found.from })
        };
        let all: BTreeMap<u8, Version> = texts.into_iter().map(derive).collect();
        let Some(highest) = all.keys().next_back() else { return Err(vec![source.missing(state_dir)]) };
        let current = pinned.unwrap_or(*highest);
        let Some(chosen) = all.get(&current) else {
            let there: Vec<String> = all.keys().map(u8::to_string).collect();
            return Err(vec![format!(
                "secrets.{}_version is {current}, but neither {} nor secrets/{} is there (there is: {}).",
                source.name.replace('-', "_"),
                source.variable(current),
                source.file(current),
                there.join(", ")
            )]);
        };
        let current_secret = chosen.secret.clone();
        Ok(Versions { name: source.name, all, current, current_secret, pinned: pinned.is_some() })
    }

    /// All that are loaded, lowest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (u8, &Secret)> {
        self.all.iter().map(|(version, found)| (*version, &found.secret))
    }

    /// One of them, if it is loaded.
    pub(super) fn get(&self, version: u8) -> Option<&Secret> {
        self.all.get(&version).map(|version| &version.secret)
    }

    pub(super) fn current(&self) -> u8 {
        self.current
    }

    pub(super) fn current_secret(&self) -> &Secret {
        &self.current_secret
    }

    pub(super) fn highest(&self) -> u8 {
        self.all.keys().next_back().copied().unwrap_or(self.current)
    }

    pub(super) fn status(&self) -> VersionsStatus {
        let status =
            |(version, loaded): (&u8, &Version)| VersionStatus { version: *version, from: loaded.from.clone() };
        VersionsStatus {
            name: self.name,
            versions: self.all.iter().map(status).collect(),
            current: self.current,
            pinned: self.pinned,
        }
    }
}

/// `1`, not `01` or `+1`; within 1 to 99.
pub(super) fn canonical(text: &str) -> Option<u8> {
    let version = text.parse().ok().filter(|version| (1..=MAX_VERSION).contains(version))?;
    (version.to_string() == text).then_some(version)
}

/// A first version under a number would be passed over in silence, and with it every key that it made.
fn misnamed(source: &Source, state_dir: &Path, env: Environment<'_>) -> Vec<String> {
    let (variable, file) = (format!("{}_1", source.variable(1)), format!("{}.1", source.file(1)));
    let mut complaints = Vec::new();
    if env(&variable).is_some() {
        complaints.push(format!("{variable} is set: version 1 is named {}.", source.variable(1)));
    }
    if state_dir.join("secrets").join(&file).exists() {
        complaints.push(format!("secrets/{file} is there: version 1 is named secrets/{}.", source.file(1)));
    }
    complaints
}
