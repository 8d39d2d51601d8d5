//! `caprock doctor`: looks at an installation with its own configuration, and says what is wrong and what to do.
//!
//! It changes nothing: it makes no database, no secret and no certificate. It prints no secret.

mod certificates;
mod database;
mod files;
mod network;

use super::api::print;
use crate::config::Config;
use clap::Args;
use serde::Serialize;
use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// For one check; those that wait for somebody have shorter bounds of their own.
const PATIENCE: Duration = Duration::from_secs(15);

/// Checks an installation where it runs, with the configuration that `caprock serve` would have: files and their modes,
/// secrets, database and schema, clocks, certificates, workers, Redis, trusted issuers, the audit log's anchor, and the running
/// gateway. Ends with 1 when a check fails.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// JSON in place of lines: `{"ok", "checks": [{"check", "status", "detail", "hint"}]}`.
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// It works, and may not be what is wanted.
    Warn,
    /// It does not work, or is not safe.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Finding>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Display) -> Finding {
        Finding { check, status: Status::Ok, detail: detail.to_string(), hint: None }
    }

    fn warn(check: &'static str, detail: impl Display, hint: impl Display) -> Finding {
        Finding { check, status: Status::Warn, detail: detail.to_string(), hint: Some(hint.to_string()) }
    }

    fn fail(check: &'static str, detail: impl Display, hint: impl Display) -> Finding {
        Finding { check, status: Status::Fail, detail: detail.to_string(), hint: Some(hint.to_string()) }
    }
}

/// Runs all checks and prints what they found.
///
/// # Errors
/// Names the checks that failed.
pub(super) async fn run(command: Doctor, file: Option<&Path>) -> Result<(), String> {
    let checks = examine(file).await;
    let failed: Vec<&str> = checks.iter().filter(|finding| finding.status == Status::Fail).map(|f| f.check).collect();
    let verdict = match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("failed: {}", failed.join(", "))),
    };
    let text = if command.json {
        let report = Report { ok: verdict.is_ok(), checks };
        serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n"
    } else {
        lines(&checks)
    };
    print(&text)?;
    verdict
}

async fn examine(file: Option<&Path>) -> Vec<Finding> {
    let named = file.map_or("the defaults and the environment".to_owned(), |file| file.display().to_string());
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            let hint =
                "Correct it: nothing else can be checked without it. `--config FILE` or CAPROCK_CONFIG names the file.";
            return vec![Finding::fail("config", format!("{named}: {}", error.replace('\n', "; ")), hint)];
        }
    };
    let mut found = vec![Finding::ok("config", named)];
    found.extend(files::check(&config));
    found.extend(certificates::check(&config));
    found.extend(network::exposure(&config));
    found.extend(within("database", database::check(&config)).await);
    found.extend(within("workers", network::workers(&config)).await);
    found.extend(within("redis", network::redis(&config)).await);
    found.extend(within("jwt_issuers", network::issuers(&config)).await);
    found.extend(within("gateway", network::gateway(&config)).await);
    found
}

/// A check that takes too long is a finding, too.
async fn within(check: &'static str, findings: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let late = || {
        let text = format!("no answer within {} s", PATIENCE.as_secs());
        vec![Finding::fail(check, text, "See whether the machine or the network is overloaded, or blocks it.")]
    };
    timeout(PATIENCE, findings).await.unwrap_or_else(|_| late())
}

fn lines(checks: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, status, detail, hint } in checks {
        let status = match status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{status}  {check:<16}{detail}");
        if let Some(hint) = hint {
            let _ = writeln!(text, "      {:<16}-> {hint}", "");
        }
    }
    let count = |status| checks.iter().filter(|finding| finding.status == status).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} to look at, {} failed",
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail)
    );
    text
}

/// An error with its causes, in one line.
fn causes(error: crate::error::Error) -> String {
    super::explain(error).lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
