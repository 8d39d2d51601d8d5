//! `caprock` as people and scripts call it, against a running gateway.

use crate::environment;
use crate::gateway::Gateway;
use crate::wait::within;
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// Longer than any command waits for a gateway.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Its exit code.
    pub code: i32,
}

impl Ran {
    /// Its standard output; panics when it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Its standard error; panics unless it ended with 1.
    pub fn failed(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.out, self.err);
        self.err
    }

    /// Its standard output as JSON; panics when it failed or wrote something else.
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// Runs `caprock` with words from `line`, the environment of `dev.env`, and no terminal.
pub async fn caprock(gateway: &Gateway, line: &str) -> Ran {
    caprock_with(gateway, line, &[]).await
}

/// As [`caprock`], with further variables, which may replace those of `dev.env`.
pub async fn caprock_with(gateway: &Gateway, line: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(environment::gateway_bin());
    command.args(line.split_whitespace()).env("CAPROCK_CONFIG", gateway.config_file());
    run(command, gateway, variables, line).await
}

/// Runs a bash script with the environment of `dev.env`, `caprock` on its path, in an empty folder.
pub async fn script(gateway: &Gateway, file: &Path, dir: &Path) -> Ran {
    let bin = environment::gateway_bin();
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    assert_eq!(bin.file_name().and_then(|name| name.to_str()), Some("caprock"), "scripts call it by this name");
    let mut command = Command::new("bash");
    command.arg(file).current_dir(dir);
    run(command, gateway, &[("PATH", &path)], &file.display().to_string()).await
}

async fn run(mut command: Command, gateway: &Gateway, variables: &[(&str, &str)], what: &str) -> Ran {
    let command = command.envs(gateway.dev_env()).envs(variables.iter().copied());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Output { status, stdout, stderr } = within(what, PATIENCE, output).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { out: text(stdout), err: text(stderr), code: status.code().unwrap_or(-1) }
}
