//! The database: whether it is there, current, on time, and what its credentials were made with.

use super::files::mode;
use super::{Finding, causes};
use crate::audit::{self, Anchor, Comparison};
use crate::clock::{Clock, Micros};
use crate::config::Config;
use crate::secrets::{Secrets, VersionsStatus};
use crate::store::Store;
use std::path::{Path, PathBuf};

const SECOND: Micros = 1_000_000;
/// More than this is worth a look: replicas compare times.
const SKEW: Micros = SECOND;
/// More than this breaks things: leases of requests, expiry of credentials.
const LARGE_SKEW: Micros = 30 * SECOND;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    if let Some(file) = missing_file(&config.store_url()) {
        // Connecting would make an empty one.
        let text = format!("{} is not there", file.display());
        return vec![Finding::fail(
            "database",
            text,
            "`caprock migrate` or `caprock bootstrap` makes it; store.url says where.",
        )];
    }
    let store = match Store::connect(config).await {
        Ok(store) => store,
        Err(error) => {
            let hint = "Check store.url, that the server runs, and that it lets this user in.";
            return vec![Finding::fail("database", causes(error), hint)];
        }
    };
    let mut found = vec![Finding::ok("database", store.place_in_words())];
    found.extend(sqlite_files(&config.store_url()));
    match store.schema_is_current().await {
        Err(error) => found.push(Finding::fail("schema", causes(error), "The gateway would refuse to start.")),
        Ok(()) => {
            found.push(Finding::ok("schema", "current"));
            found.push(clock(&store).await);
            found.extend(credentials(&store, config).await);
            found.push(issuers(&store, config).await);
            found.push(anchor(&store, &config.gateway.state_dir).await);
        }
    }
    store.close().await;
    found
}

/// The file of a SQLite address.
fn sqlite_file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
}

fn missing_file(url: &str) -> Option<PathBuf> {
    sqlite_file(url).filter(|file| !file.exists())
}

fn sqlite_files(url: &str) -> Option<Finding> {
    let file = sqlite_file(url)?;
    let beside = |suffix: &str| {
        let mut path = file.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    };
    let all = [file.clone(), beside("-wal"), beside("-shm")];
    let open = all.iter().find(|file| std::fs::metadata(file).is_ok_and(|found| mode(&found) & 0o077 != 0));
    Some(match open {
        None => Finding::ok("database_files", "for their owner only"),
        Some(file) => Finding::fail(
            "database_files",
            format!("others may read {}: everybody's usage, and sealed secrets", file.display()),
            format!("chmod 600 {}", file.display()),
        ),
    })
}

async fn clock(store: &Store) -> Finding {
    let before = Clock::System.now();
    let server = match store.server_clock().await {
        Ok(Some(server)) => server,
        Ok(None) => return Finding::ok("clock", "the database has this machine's"),
        Err(error) => return Finding::fail("clock", causes(error), "See the database's log."),
    };
    // The server read its clock somewhere in between.
    let after = Clock::System.now();
    skew(server - before.midpoint(after))
}

fn skew(skew: Micros) -> Finding {
    let text =
        format!("{}.{:03} s between this machine and the database", skew.abs() / SECOND, skew.abs() % SECOND / 1_000);
    let hint = "Set both machines' clocks by NTP.";
    match skew.abs() {
        0..=SKEW => Finding::ok("clock", text),
        skew if skew <= LARGE_SKEW => Finding::warn("clock", text, hint),
        _ => Finding::fail("clock", text, hint),
    }
}

async fn credentials(store: &Store, config: &Config) -> Vec<Finding> {
    let Ok(secrets) = Secrets::load(&config.gateway.state_dir, &config.secrets) else {
        return vec![Finding::fail("credentials", "not looked at", "The secrets come first.")];
    };
    let [peppers, master_keys] = secrets.status();
    let loaded = |of: VersionsStatus| of.versions.iter().map(|at| i64::from(at.version)).collect::<Vec<i64>>();
    let bearers = match store.credentials_by_pepper().await {
        Ok(counts) => by_pepper(&counts, &loaded(peppers), secrets.pepper_version()),
        Err(error) => Finding::fail("credentials", causes(error), "See the database's log."),
    };
    let access_keys = match store.access_keys_by_seal().await {
        Ok(counts) => by_master_key(&counts, &loaded(master_keys), secrets.master_key_version().into()),
        Err(error) => Finding::fail("access_keys", causes(error), "See the database's log."),
    };
    vec![bearers, access_keys]
}

/// Secrets that SigV4 signatures are checked with.
fn by_master_key(counts: &[(String, i64)], loaded: &[i64], current: i64) -> Finding {
    let version = |seal: &str| seal.strip_prefix('v')?.trim_end_matches('.').parse::<i64>().ok();
    let of = |which: &dyn Fn(Option<i64>) -> bool| -> i64 {
        counts.iter().filter(|(seal, _)| which(version(seal))).map(|(_, count)| count).sum()
    };
    let is_loaded = |version: Option<i64>| version.is_some_and(|version| loaded.contains(&version));
    let (all, refused) = (of(&|_| true), of(&|version| !is_loaded(version)));
    let older = of(&|version| is_loaded(version) && version < Some(current));
    if refused > 0 {
        return Finding::fail(
            "access_keys",
            format!("{refused} of {all} are sealed with a master key that is not there"),
            "Bring that master key back: without it they are refused. If it is lost, revoke them and make new ones.",
        );
    }
    if older > 0 {
        return Finding::warn(
            "access_keys",
            format!("{older} of {all} are sealed with a master key older than version {current}"),
            "Keep the older master key until they are sealed anew: `caprock secrets rotate` says how.",
        );
    }
    Finding::ok("access_keys", format!("{all} not revoked, all sealed with master key version {current}"))
}

async fn issuers(store: &Store, config: &Config) -> Finding {
    let trusted: Vec<&str> = config.jwt_issuer.iter().map(|issuer| issuer.issuer.as_str()).collect();
    match store.service_accounts_by_issuer().await {
        Ok(counts) => by_issuer(&counts, &trusted),
        Err(error) => Finding::fail("federated", causes(error), "See the database's log."),
    }
}

/// Service accounts that are somebody's at an issuer of JWTs.
fn by_issuer(counts: &[(String, i64)], trusted: &[&str]) -> Finding {
    let unknown: Vec<&(String, i64)> =
        counts.iter().filter(|(issuer, _)| !trusted.contains(&issuer.as_str())).collect();
    let (all, refused) =
        (counts.iter().map(|(_, count)| count).sum::<i64>(), unknown.iter().map(|(_, count)| count).sum::<i64>());
    if refused == 0 {
        return Finding::ok("federated", format!("{all} service accounts, all of issuers that are trusted"));
    }
    let names: Vec<&str> = unknown.iter().take(5).map(|(issuer, _)| issuer.as_str()).collect();
    let more = if unknown.len() > names.len() { ", …" } else { "" };
    Finding::warn(
        "federated",
        format!("{refused} of {all} service accounts are of issuers that are not trusted: {}{more}", names.join(", ")),
        "Their tokens are refused. Name the issuer in a [[jwt_issuer]], or delete the accounts.",
    )
}

fn by_pepper(counts: &[(i64, i64)], loaded: &[i64], current: i64) -> Finding {
    let of = |which: &dyn Fn(i64) -> bool| -> i64 {
        counts.iter().filter(|(version, _)| which(*version)).map(|(_, count)| count).sum()
    };
    let (all, refused) = (of(&|_| true), of(&|version| !loaded.contains(&version)));
    let older = of(&|version| version < current && loaded.contains(&version));
    if refused > 0 {
        let lost: Vec<String> =
            counts.iter().filter(|(version, _)| !loaded.contains(version)).map(|(v, _)| v.to_string()).collect();
        return Finding::fail(
            "credentials",
            format!("{refused} of {all} were made with a pepper that is not there: version {}", lost.join(", ")),
            "Bring that pepper back: without it they are refused. If it is lost, revoke them and make new ones.",
        );
    }
    if older > 0 {
        return Finding::warn(
            "credentials",
            format!("{older} of {all} were made with a pepper older than version {current}"),
            "Keep the older pepper until they are rotated, such as by `caprock key rotate`.",
        );
    }
    Finding::ok("credentials", format!("{all} not revoked, all by pepper version {current}"))
}

async fn anchor(store: &Store, state_dir: &Path) -> Finding {
    let delete = "If a backup was put back, delete audit.anchor in the state folder and restart the gateway. If not, see \
                  `caprock audit verify`.";
    let anchor = match Anchor::load(state_dir, audit::Metrics::default()) {
        Ok(anchor) => anchor,
        Err(error) => return Finding::fail("audit_anchor", causes(error), delete),
    };
    let Some(seen) = anchor.last() else {
        return Finding::ok("audit_anchor", "none yet: the first gateway that serves here makes it");
    };
    match anchor.compare(store).await {
        Ok(Comparison::Same) => Finding::ok("audit_anchor", format!("the log ends with entry {}, as seen", seen.seq)),
        Ok(Comparison::Ahead(end)) => Finding::ok(
            "audit_anchor",
            format!("the log ends with entry {}, after entry {} as seen", end.seq, seen.seq),
        ),
        Ok(Comparison::Contradicted(end)) => {
            let text =
                format!("the log ends with entry {}, and does not go on from entry {} as seen", end.seq, seen.seq);
            Finding::fail("audit_anchor", text, delete)
        }
        Err(error) => Finding::fail("audit_anchor", causes(error), "See the database's log."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_skew_is_small_large_or_too_large_either_way() {
        for (micros, status) in
            [(0, Status::Ok), (SECOND, Status::Ok), (2 * SECOND, Status::Warn), (31 * SECOND, Status::Fail)]
        {
            assert_eq!(skew(micros).status, status, "{micros}");
            assert_eq!(skew(-micros).status, status, "-{micros}");
        }
        assert!(skew(-1_234_567).detail.starts_with("1.234 s"));
    }

    #[test]
    fn credentials_of_a_lost_pepper_fail_and_of_an_older_one_are_worth_a_look() {
        let ok = by_pepper(&[(2, 5)], &[1, 2], 2);
        assert_eq!((ok.status, ok.detail.as_str()), (Status::Ok, "5 not revoked, all by pepper version 2"));
        let older = by_pepper(&[(1, 3), (2, 5)], &[1, 2], 2);
        assert_eq!((older.status, older.detail.starts_with("3 of 8")), (Status::Warn, true));
        let lost = by_pepper(&[(1, 3), (2, 5)], &[2], 2);
        assert_eq!((lost.status, lost.detail.ends_with("version 1")), (Status::Fail, true));
        assert_eq!(by_pepper(&[], &[1], 1).status, Status::Ok);
    }

    #[test]
    fn access_keys_of_a_lost_master_key_fail_and_of_an_older_one_are_worth_a_look() {
        let counts = |seals: &[(&str, i64)]| seals.iter().map(|(seal, count)| ((*seal).to_owned(), *count)).collect();
        let judged = |seals: &[(&str, i64)], loaded: &[i64], current| {
            let counts: Vec<_> = counts(seals);
            let found = by_master_key(&counts, loaded, current);
            (found.status, found.detail)
        };
        let (ok, warn, fail) = (Status::Ok, Status::Warn, Status::Fail);
        assert_eq!(judged(&[], &[1], 1).0, ok);
        assert_eq!(
            judged(&[("v2.", 5)], &[1, 2], 2),
            (ok, "5 not revoked, all sealed with master key version 2".into())
        );
        assert_eq!(
            judged(&[("v1.", 3), ("v12", 5)], &[1, 12], 12),
            (warn, "3 of 8 are sealed with a master key older than version 12".into())
        );
        assert_eq!(judged(&[("v12", 5)], &[1, 12], 1).0, ok, "a newer one while the old one is pinned");
        let lost = "3 of 8 are sealed with a master key that is not there".to_owned();
        assert_eq!(judged(&[("v1.", 3), ("v2.", 5)], &[2], 2), (fail, lost.clone()));
        assert_eq!(judged(&[("xyz", 3), ("v2.", 5)], &[2], 2), (fail, lost));
    }

    #[test]
    fn service_accounts_of_an_issuer_that_is_not_trusted_are_worth_a_look() {
        let counts = [("https://a.example".to_owned(), 2), ("https://b.example".to_owned(), 3)];
        assert_eq!(by_issuer(&[], &[]).status, Status::Ok);
        assert_eq!(by_issuer(&counts, &["https://b.example", "https://a.example"]).status, Status::Ok);
        let found = by_issuer(&counts, &["https://b.example", "https://a.example/"]);
        assert_eq!(found.status, Status::Warn);
        assert!(found.detail.starts_with("2 of 5") && found.detail.ends_with(": https://a.example"), "{found:?}");
    }

    #[test]
    fn a_sqlite_address_is_read_as_a_file() {
        for (url, file) in
            [("sqlite:a/b.db", "a/b.db"), ("sqlite:///a/b.db?mode=rwc", "/a/b.db"), ("sqlite:/a.db", "/a.db")]
        {
            assert_eq!(sqlite_file(url), Some(PathBuf::from(file)));
        }
        assert_eq!(sqlite_file("postgres://host/db"), None);
    }
}
