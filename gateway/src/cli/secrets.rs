//! `caprock secrets`: which versions of pepper and master key there are, and making the next one.

use super::explain;
use crate::config::Config;
use crate::secrets::{self, Rotated, Rotation, Secrets, VersionsStatus};
use clap::{Subcommand, ValueEnum};
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows which versions are loaded, from where, and which is current; never a secret.
    Status,
    /// Makes the next version's file in the state folder, and says what to do with it.
    Rotate {
        /// What gets a new version.
        what: What,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum What {
    /// Keys the digests of API keys and admin tokens.
    Pepper,
    /// Encrypts SigV4 secrets at rest.
    MasterKey,
}

/// Does it and prints.
pub(super) fn run(command: &Command, config: &Config) -> Result<(), String> {
    let state_dir = &config.gateway.state_dir;
    let text = match command {
        Command::Status => {
            let secrets = Secrets::load(state_dir, &config.secrets).map_err(explain)?;
            secrets.status().iter().map(line).collect()
        }
        Command::Rotate { what } => {
            let what = match what {
                What::Pepper => Rotated::Pepper,
                What::MasterKey => Rotated::MasterKey,
            };
            advice(&secrets::rotate(state_dir, &config.secrets, what).map_err(explain)?)
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn line(status: &VersionsStatus) -> String {
    let versions: Vec<String> = status.versions.iter().map(|at| format!("{} ({})", at.version, at.from)).collect();
    let why = if status.pinned { "pinned" } else { "the highest" };
    format!("{:<12}current {}, {why}; loaded {}\n", status.name, status.current, versions.join(", "))
}

fn advice(made: &Rotation) -> String {
    let setting = format!("{}_version", made.name.replace('-', "_"));
    let Rotation { name, version, variable, before, .. } = made;
    let path = made.path.display();
    let held = if made.pinned {
        format!("{setting} = {before} in [secrets] holds it back until you take that line out.\n\n")
    } else {
        String::new()
    };
    let stays = match *name {
        "pepper" => "credentials made under it are refused without it",
        _ => "what it sealed can't be opened without it",
    };
    format!(
        "Made {path}: {name} version {version}. Nothing uses it yet; version {before} is current.\n\n\
         {held}\
         One gateway: restart it.\n\
         Several on one database, so that none meets a version that it does not have:\n\
         \x20 1. before any restarts, give each {setting} = {before} in [secrets] and the file (or its text as\n\
         \x20    {variable}); then restart each\n\
         \x20 2. take {setting} out again; restart each\n\
         `caprock secrets status` shows what a gateway would load.\n\n\
         Keep version {before}: {stays}.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::VersionStatus;

    #[test]
    fn the_status_names_versions_places_and_the_current_one() {
        let from = |version, from: &str| VersionStatus { version, from: from.into() };
        let versions = vec![from(1, "CAPROCK_PEPPER"), from(2, "secrets/pepper.2")];
        let status = VersionsStatus { name: "pepper", versions, current: 1, pinned: true };
        assert_eq!(line(&status), "pepper      current 1, pinned; loaded 1 (CAPROCK_PEPPER), 2 (secrets/pepper.2)\n");
    }

    #[test]
    fn the_advice_names_file_variable_and_setting_and_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::load(None).unwrap();
        Secrets::load_or_create_with(dir.path(), |_| None).unwrap();
        let made = secrets::rotate(dir.path(), &config.secrets, Rotated::MasterKey).unwrap();
        let text = advice(&made);
        for part in ["secrets/master-key.2", "CAPROCK_MASTER_KEY_2", "master_key_version = 1", "Keep version 1"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let secret = std::fs::read_to_string(&made.path).unwrap();
        assert!(!text.contains(secret.trim()));
    }
}
