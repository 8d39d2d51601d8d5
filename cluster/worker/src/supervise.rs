//! The binary runs its engine and server in a child of itself: any assertion inside llama.cpp ends a process, and then
//! only the child.

use crate::cli::{Cli, SECRET_ENV};
use crate::worker::Worker;
use clap::Parser;
use rustix::process::{Pid, Signal};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Set for the child: its parent's process id.
const SUPERVISOR_ENV: &str = "CAPROCK_WORKER_SUPERVISOR_PID";
/// Set for the child: how often it was started before.
const RESTARTS_ENV: &str = "CAPROCK_WORKER_RESTARTS";
/// The configuration or the model file is wrong: a restart would not help (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;
/// The engine ended (EX_SOFTWARE).
const EXIT_ENGINE: u8 = 70;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After so long alive, the next crash is a first one again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Longer than the child's own grace.
const CHILD_STOPS_WITHIN: Duration = Duration::from_secs(15);

/// The whole program: supervises, or is the supervised one.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    let supervisor = std::env::var(SUPERVISOR_ENV).ok();
    let runtime = match &supervisor {
        // One thread, the first: the kernel ties "parent died" to the thread that forked.
        None => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Some(_) => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_ENGINE, &format!("no runtime: {error}")),
    };
    // The parent checks as well: a wrong configuration ends here, before any child.
    let config = match cli.role.config() {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIG, &error),
    };
    match supervisor {
        None => runtime.block_on(supervise()),
        Some(pid) => runtime.block_on(serve(cli, config, &pid)),
    }
}

/// Keeps a child running until told to stop, or until it says that its configuration is wrong.
async fn supervise() -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return fail(EXIT_ENGINE, "no signal handlers");
    };
    let mut pause = FIRST_PAUSE;
    for restarts in 0u32.. {
        let started = Instant::now();
        let mut child = match spawn(restarts) {
            Ok(child) => child,
            Err(error) => return fail(EXIT_ENGINE, &format!("can't start the worker process: {error}")),
        };
        let status = tokio::select! {
            status = child.wait() => status,
            _ = terminate.recv() => return stop(child).await,
            _ = interrupt.recv() => return stop(child).await,
        };
        let code = status.as_ref().ok().and_then(ExitStatus::code);
        if code == Some(i32::from(EXIT_CONFIG)) {
            return ExitCode::from(EXIT_CONFIG);
        }
        if started.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        tracing::error!(?status, pause_ms = pause.as_millis() as u64, "the worker process ended; it is restarted");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminate.recv() => return ExitCode::SUCCESS,
            _ = interrupt.recv() => return ExitCode::SUCCESS,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    ExitCode::FAILURE
}

fn spawn(restarts: u32) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null()).kill_on_drop(true).env_clear();
    let needed = |name: &str| {
        name.starts_with("CAPROCK_WORKER_")
            || [SECRET_ENV, "RUST_LOG", "RUST_BACKTRACE", "LD_LIBRARY_PATH"].contains(&name)
    };
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(needed)));
    command
        .env(SUPERVISOR_ENV, std::process::id().to_string())
        .env(RESTARTS_ENV, restarts.to_string())
        .env("GGML_NO_BACKTRACE", "1") // else ggml attaches a debugger to a dying process
        .env("OMP_WAIT_POLICY", "passive"); // spinning threads starve the other workers of a small machine
    command.spawn()
}

/// Passes SIGTERM on, and waits longer than the child's own grace.
async fn stop(mut child: Child) -> ExitCode {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, Signal::TERM); // it may just have ended
    }
    match tokio::time::timeout(CHILD_STOPS_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(_) => {
            let _ = child.kill().await; // it had its time
            ExitCode::FAILURE
        }
    }
}

/// The child: engine and server.
async fn serve(cli: Cli, mut config: crate::config::Config, supervisor: &str) -> ExitCode {
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have died before the line above took effect.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if tied.is_err() || parent.as_deref() != Some(supervisor) {
        return fail(EXIT_ENGINE, "the supervisor is gone");
    }
    if std::env::var(RESTARTS_ENV).is_ok_and(|restarts| restarts != "0") {
        config.crash = None; // a planned crash happens once
    }
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return fail(EXIT_ENGINE, "no signal handlers");
    };
    let listen = &cli.role.options().listen;
    let listener = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => listener,
        // A port still held may be free in a moment; any other refusal is for good.
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return fail(EXIT_ENGINE, &format!("{listen}: {error}"));
        }
        Err(error) => return fail(EXIT_CONFIG, &format!("{listen}: {error}")),
    };
    let mut worker = match Worker::start(config, listener).await {
        Ok(worker) => worker,
        Err(error) => return fail(EXIT_CONFIG, &error.to_string()),
    };
    let info = worker.info();
    tracing::info!(
        worker_id = info.worker_id,
        role = info.role.as_str(),
        engine = info.engine,
        model = info.model,
        address = %worker.address(),
        context_tokens = info.context_tokens,
        slots = info.slots,
        cells = info.cells,
        "ready"
    );
    tokio::select! {
        () = worker.engine_ended() => return fail(EXIT_ENGINE, "the engine ended"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    worker.stop().await;
    ExitCode::SUCCESS
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,llama_cpp=error"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn fail(code: u8, why: &str) -> ExitCode {
    tracing::error!("{why}");
    ExitCode::from(code)
}
