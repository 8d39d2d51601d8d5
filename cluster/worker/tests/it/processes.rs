//! The binary as an operator runs it: supervised, crashing, stopped, misconfigured.

use crate::support::*;
use cluster_protocol::*;
use cluster_worker::connection::Connection;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const SECRET: &str = "a secret for tests of the worker, long enough";

/// A supervised worker process; dropping it kills the supervisor, and the kernel then kills its child.
struct Process {
    supervisor: Child,
    address: std::net::SocketAddr,
}

fn command(role: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caprock-worker"));
    command.arg(role).args(["--engine", "sim", "--chunk", "64"]).args(arguments);
    command.env_clear().env("CAPROCK_CLUSTER_SECRET", SECRET).stdin(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true);
    command
}

impl Process {
    async fn start(role: &str, id: &str, arguments: &[&str]) -> Process {
        // Taken and given back: another process could steal it in between, then the start below times out.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = address.to_string();
        let arguments = [&["--id", id, "--listen", &listen][..], arguments].concat();
        let process = Process { supervisor: command(role, &arguments).spawn().unwrap(), address };
        process.connect().await;
        process
    }

    /// Retries while the process starts, or starts again.
    async fn connect(&self) -> (Connection, WorkerInfo) {
        let attempt = async {
            loop {
                let hello = Hello::new(PeerKind::Gateway, "test");
                match Connection::connect(self.address, &secret(), hello).await {
                    Ok(connected) => return connected,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), attempt).await.unwrap()
    }

    fn child_pid(&self) -> Option<u32> {
        let supervisor = self.supervisor.id().unwrap();
        let children = PathBuf::from(format!("/proc/{supervisor}/task/{supervisor}/children"));
        std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.supervisor.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

#[tokio::test]
async fn a_crash_at_any_point_is_survived_by_both_sides() {
    let points = ["prefill.before_chunk:2", "prefill.mid_transfer", "prefill.before_commit"];
    for point in points {
        let prefill = Process::start("prefill", "p1", &["--sim-crash", point]).await;
        let known = format!("p1={}", prefill.address);
        let decode = Process::start("decode", "d1", &["--prefill", &known]).await;
        let (mut connection, _) = decode.connect().await;
        let epoch = prefill.connect().await.1.epoch;
        let local = run(&mut connection, request("l", prompt(300, 1), LOCAL)).await;
        let handed = run(&mut connection, request("r1", prompt(300, 1), remote())).await;
        assert_eq!(handed.text, local.text, "{point}");
        assert_eq!(handed.local_reason(), Some(LocalReason::Interrupted), "{point}");
        let (_, restarted) = prefill.connect().await;
        assert!(restarted.epoch > epoch, "it was started again");
        let again = run(&mut connection, request("r2", prompt(300, 1), remote())).await;
        assert_eq!((again.local_reason(), again.text), (None, local.text), "{point}");
    }
    for point in ["handoff.after_chunk:2", "handoff.before_commit", "decode.step:3", "decode.before_done"] {
        let prefill = Process::start("prefill", "p1", &[]).await;
        let known = format!("p1={}", prefill.address);
        let decode = Process::start("decode", "d1", &["--prefill", &known, "--sim-crash", point]).await;
        let (mut connection, _) = decode.connect().await;
        connection.send(Message::Generate(Box::new(request("1", prompt(300, 1), remote())))).await.unwrap();
        while connection.next_within(Duration::from_secs(10)).await.is_ok() {}
        let (mut connection, info) = decode.connect().await;
        assert_eq!(info.load, Load::default(), "{point}");
        let again = run(&mut connection, request("1", prompt(300, 1), remote())).await;
        assert_eq!(again.local_reason(), None, "{point}");
    }
}

#[tokio::test]
async fn a_killed_child_is_restarted_and_a_killed_supervisor_takes_its_child_along() {
    let mut worker = Process::start("decode", "d1", &[]).await;
    let (_, before) = worker.connect().await;
    let child = worker.child_pid().unwrap();
    let pid = rustix::process::Pid::from_raw(child.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let after = loop {
        let (_, info) = worker.connect().await;
        if info.epoch != before.epoch {
            break info;
        }
    };
    assert!(after.epoch > before.epoch);
    worker.supervisor.kill().await.unwrap();
    let gone = async {
        while tokio::net::TcpStream::connect(worker.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn a_terminated_worker_finishes_its_answer_and_exits_cleanly() {
    let mut worker = Process::start("decode", "d1", &["--sim-step-ms", "10", "--sim-answer-tokens", "40"]).await;
    let (mut connection, _) = worker.connect().await;
    connection.send(Message::Generate(Box::new(request("1", prompt(10, 0), LOCAL)))).await.unwrap();
    assert!(matches!(next(&mut connection).await, Message::Accepted(_)));
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(*finish(&mut connection).await.done().finish(), FinishReason::EndOfTurn);
    let status = tokio::time::timeout(Duration::from_secs(10), worker.supervisor.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_wrong_configuration_exits_and_is_not_tried_again() {
    let wrong = [
        vec!["--id", "x", "--slots", "0"],
        vec!["--id", "x", "--listen", "not an address"],
        vec!["--id", "x", "--sim-crash", "nowhere"],
        vec!["--id", "x", "--cluster-secret-file", "/nonexistent"],
        vec!["--id", "x", "--engine", "llama"],
        vec![],
    ];
    for arguments in wrong {
        let mut child = command("decode", &[]);
        child.args(&arguments);
        let status = tokio::time::timeout(Duration::from_secs(10), child.status()).await.unwrap().unwrap();
        assert!(matches!(status.code(), Some(2 | 78)), "{arguments:?}: {status}");
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_answer_on_the_same_port() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    run(&mut connection, request("1", prompt(100, 0), LOCAL)).await;
    for (path, expected) in [
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/metrics", "caprock_worker_requests_total{outcome=\"end_of_turn\"} 1"),
        ("/metrics", "caprock_worker_input_tokens_total 100"),
        ("/metrics", "caprock_worker_slots_used 0"),
    ] {
        let body = get(worker.address(), path).await;
        assert!(body.starts_with("HTTP/1.1 200"), "{path}: {body}");
        assert!(body.contains(expected), "{path}: {body}");
    }
    assert!(get(worker.address(), "/nothing").await.starts_with("HTTP/1.1 404"));
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}
