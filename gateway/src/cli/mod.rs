//! The command line.

mod admin_token;
mod api;
mod audit;
mod client;
mod confirm;
mod credential;
mod doctor;
mod limit;
mod model;
mod model_access;
mod model_body;
mod project;
mod request;
mod scope;
mod secret;
mod secrets;
mod service_account;
mod show;
mod table;
mod tenant;
mod units;
mod usage;
mod worker;

use crate::bootstrap::{bootstrap, bootstrap_operator};
use crate::config::Config;
use crate::store::Store;
use crate::{Listeners, Shutdown, openapi, run};
use clap::{Parser, Subcommand, ValueEnum};
use credential::Kind;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A self-hosted inference API in front of a disaggregated cluster.
#[derive(Debug, Parser)]
#[command(name = "caprock", version, max_term_width = 100)]
struct Cli {
    /// Settings over the compiled-in defaults; the environment (CAPROCK__SECTION__KEY) goes over both.
    #[arg(long, global = true, env = "CAPROCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look on standard error. RUST_LOG chooses which.
    #[arg(long, global = true, env = "CAPROCK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until SIGTERM; a second SIGTERM ends the grace of running streams.
    Serve,
    /// Brings the database to this program's schema.
    Migrate,
    /// Makes secrets, schema and the first operator's token; what is there and works is left as it is.
    ///
    /// The token is printed once, as CAPROCK_ADMIN_TOKEN=… on standard output, and only when no platform administrator's
    /// token can be used. If CAPROCK_ADMIN_TOKEN is set, that one is registered and nothing is printed.
    Bootstrap {
        /// Makes a demo tenant and its credentials too, and puts them and the token here in place of standard output, as
        /// lines NAME=value; only its owner may read it.
        #[arg(long, value_name = "FILE")]
        credentials_file: Option<PathBuf>,
    },
    /// Writes the APIs' descriptions as JSON.
    Openapi {
        /// The folder for inference.json and admin.json.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The versions of this installation's secrets.
    #[command(subcommand)]
    Secrets(secrets::Command),
    Doctor(doctor::Doctor),
    /// Tenants: isolated and billed.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// A tenant's projects: units of keys, limits and reports.
    #[command(subcommand)]
    Project(project::Project),
    /// API keys.
    #[command(subcommand)]
    Key(credential::Credential),
    /// SigV4 access keys, as AWS SDKs want them.
    #[command(subcommand)]
    AccessKey(credential::Credential),
    /// Machines of a project.
    #[command(subcommand)]
    ServiceAccount(service_account::ServiceAccount),
    /// Limits of tenants, projects and keys, and which of them wins.
    #[command(subcommand)]
    Limit(limit::Limit),
    /// The catalog: models, prices, aliases, deprecations.
    #[command(subcommand)]
    Model(model::Model),
    /// Which models a tenant or a project may call.
    #[command(subcommand)]
    ModelAccess(model_access::ModelAccess),
    Usage(Box<usage::Usage>),
    /// What became of requests.
    #[command(subcommand)]
    Request(request::Request),
    /// Operators' tokens.
    #[command(subcommand)]
    AdminToken(admin_token::AdminToken),
    /// The cluster's workers.
    #[command(subcommand)]
    Worker(worker::Worker),
    /// The log of administrators' changes: lists, exports and checks it.
    #[command(subcommand)]
    Audit(audit::Audit),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the command; a failure is one line on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(execute(cli)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("caprock: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(cli: Cli) -> Result<(), String> {
    let config = || Config::load(cli.config.as_deref());
    match cli.command {
        Command::Serve => serve(config()?).await,
        Command::Migrate => {
            let store = Store::connect(&config()?).await.map_err(explain)?;
            store.migrate().await.map_err(explain)?;
            store.close().await;
            Ok(())
        }
        Command::Bootstrap { credentials_file: None } => {
            let made = bootstrap_operator(&config()?).await.map_err(explain)?;
            made.map_or(Ok(()), |token| print_once(token.expose()))
        }
        Command::Bootstrap { credentials_file: Some(credentials_file) } => {
            let done = bootstrap(&config()?, &credentials_file).await.map_err(explain)?;
            tracing::info!(tenant = %done.tenant, project = %done.project, renewed = ?done.renewed, "bootstrapped");
            Ok(())
        }
        Command::Openapi { out } => openapi::write(&out),
        Command::Secrets(command) => secrets::run(&command, &config()?),
        Command::Doctor(command) => doctor::run(command, cli.config.as_deref()).await,
        Command::Tenant(command) => tenant::run(command).await,
        Command::Project(command) => project::run(command).await,
        Command::Key(command) => credential::run(Kind::ApiKey, command).await,
        Command::AccessKey(command) => credential::run(Kind::AccessKey, command).await,
        Command::ServiceAccount(command) => service_account::run(command).await,
        Command::Limit(command) => limit::run(command).await,
        Command::Model(command) => model::run(command).await,
        Command::ModelAccess(command) => model_access::run(command).await,
        Command::Usage(command) => usage::run(*command).await,
        Command::Request(command) => request::run(command).await,
        Command::AdminToken(command) => admin_token::run(command).await,
        Command::Worker(command) => worker::run(command).await,
        Command::Audit(command) => audit::run(command).await,
    }
}

/// If it can't be shown it is of no use to anybody, and the operator must hear what to do about that.
fn print_once(token: &str) -> Result<(), String> {
    writeln!(io::stdout(), "CAPROCK_ADMIN_TOKEN={token}").map_err(|error| {
        format!(
            "the operator's token was made but can't be shown: {error}. Set CAPROCK_ADMIN_TOKEN to a token of your own and \
             run it again to register that one."
        )
    })
}

async fn serve(config: Config) -> Result<(), String> {
    let listeners = Listeners::bind(&config.listen).map_err(|error: io::Error| error.to_string())?;
    let shutdown = Shutdown::default();
    watch_signals(shutdown.clone()).map_err(|error| format!("can't watch signals: {error}"))?;
    run(config, listeners, shutdown).await.map_err(explain)
}

/// The first SIGTERM or SIGINT drains, the second ends the grace.
fn watch_signals(shutdown: Shutdown) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Ends with the process.
    tokio::spawn(async move {
        for step in [&shutdown.drain, &shutdown.hurry] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            step.cancel();
        }
    });
    Ok(())
}

/// With its causes: the operator at the terminal may see them.
fn explain(error: crate::error::Error) -> String {
    let mut text = error.message.clone();
    let mut cause = error.cause().map(|cause| cause as &dyn std::error::Error);
    while let Some(deeper) = cause {
        text.push_str(&format!("\n  because: {deeper}"));
        cause = deeper.source();
    }
    text
}

fn log_to_stderr(cli: &Cli) {
    // What the doctor's own look at workers is worth a line for is in its report.
    let default = if matches!(cli.command, Command::Doctor(_)) { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match cli.log_format {
        LogFormat::Text => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

#[cfg(test)]
mod tests;
