//! The state folder, the secrets in it, and who may read them.

use super::{Finding, causes};
use crate::config::Config;
use crate::secrets::{Secrets, VersionsStatus};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Others may write.
const WRITABLE: u32 = 0o022;
/// Others may do anything with it.
const OTHERS: u32 = 0o077;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    vec![state_dir(&config.gateway.state_dir), secrets(config), secret_files(&config.gateway.state_dir)]
}

fn state_dir(dir: &Path) -> Finding {
    let named = dir.display();
    match fs::metadata(dir) {
        Err(error) => Finding::fail(
            "state_dir",
            format!("{named}: {error}"),
            "`caprock bootstrap` makes it; gateway.state_dir in the configuration says where.",
        ),
        Ok(found) if !found.is_dir() => Finding::fail(
            "state_dir",
            format!("{named} is no folder"),
            "Correct gateway.state_dir in the configuration.",
        ),
        Ok(found) => match mode(&found) {
            mode if mode & WRITABLE != 0 => Finding::fail(
                "state_dir",
                format!("{named} can be written by others (mode {mode:03o}): they could replace its secrets"),
                format!("chmod go-w {named}"),
            ),
            mode => Finding::ok("state_dir", format!("{named}, mode {mode:03o}")),
        },
    }
}

fn secrets(config: &Config) -> Finding {
    match Secrets::load(&config.gateway.state_dir, &config.secrets) {
        Err(error) => Finding::fail(
            "secrets",
            causes(error),
            "`caprock bootstrap` makes those that are missing; `caprock secrets status` shows what is there.",
        ),
        Ok(secrets) => Finding::ok("secrets", secrets.status().iter().map(versions).collect::<Vec<_>>().join("; ")),
    }
}

fn versions(status: &VersionsStatus) -> String {
    let loaded: Vec<String> = status.versions.iter().map(|at| at.version.to_string()).collect();
    let pinned = if status.pinned { " (pinned)" } else { "" };
    format!("{} {}{pinned} of {}", status.name, status.current, loaded.join(", "))
}

fn secret_files(state_dir: &Path) -> Finding {
    let mut files = match files_in(&state_dir.join("secrets")) {
        Ok(files) => files,
        Err(error) => {
            let text = format!("secrets/ in the state folder can't be looked at: {error}");
            return Finding::fail("secret_files", text, "Run doctor as the user that runs the gateway.");
        }
    };
    files.extend(["ca-key.pem", "key.pem"].map(|name| state_dir.join("tls").join(name)));
    let modes: Vec<(PathBuf, u32)> =
        files.into_iter().filter_map(|file| fs::metadata(&file).ok().map(|found| (file, mode(&found)))).collect();
    let open: Vec<String> = modes
        .iter()
        .filter(|(_, mode)| mode & OTHERS != 0)
        .map(|(file, mode)| format!("{} (mode {mode:03o})", file.display()))
        .collect();
    if !open.is_empty() {
        let text = format!("others may use {}", open.join(", "));
        return Finding::fail("secret_files", text, "chmod 600 them; if others have read them, make new ones.");
    }
    match modes.len() {
        0 => Finding::ok("secret_files", "none in the state folder"),
        count => Finding::ok("secret_files", format!("{count}, for their owner only")),
    }
}

fn files_in(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Who may do what: the last nine bits.
pub(super) fn mode(found: &fs::Metadata) -> u32 {
    found.permissions().mode() & 0o777
}
