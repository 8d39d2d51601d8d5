//! A worker process.

use crate::environment;
use crate::process::{Process, free_port, signal};
use crate::wait::{SOON, until};
use crate::wire::Wire;
use cluster_protocol::{ClusterSecret, Role, WorkerInfo};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a worker computes with.
#[derive(Debug, Clone)]
pub enum Engine {
    /// Deterministic words without a model; extra arguments such as `--sim-step-ms=20`.
    Sim(Vec<String>),
    /// The real model.
    Llama,
}

impl Engine {
    /// `sim` with settings, such as `step-ms=20`.
    pub fn sim(settings: &[&str]) -> Engine {
        Engine::Sim(settings.iter().map(|setting| format!("--sim-{setting}")).collect())
    }
}

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Prefill or decode.
    pub role: Role,
    /// Its id in the cluster.
    pub id: String,
    /// What it computes with.
    pub engine: Engine,
    /// Prefill workers it may ask: id and address.
    pub prefills: Vec<(String, String)>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl WorkerSpec {
    /// A worker that knows no other.
    pub fn new(role: Role, id: &str, engine: Engine) -> WorkerSpec {
        WorkerSpec { role, id: id.into(), engine, prefills: Vec::new(), arguments: Vec::new() }
    }

    /// Lets it ask a prefill worker.
    pub fn knows(mut self, id: &str, address: &str) -> WorkerSpec {
        self.prefills.push((id.into(), address.into()));
        self
    }

    /// One more argument.
    pub fn with(mut self, argument: &str) -> WorkerSpec {
        self.arguments.push(argument.into());
        self
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    spec: WorkerSpec,
    process: Process,
    address: String,
    secret_file: PathBuf,
    secret: ClusterSecret,
    log: PathBuf,
}

impl Worker {
    /// Starts it; [`Worker::ready`] waits until it answers. Its log goes to `dir`.
    pub fn start(spec: WorkerSpec, secret_file: &Path, dir: &Path) -> Worker {
        let text = std::fs::read_to_string(secret_file).unwrap();
        let secret = ClusterSecret::new(&text).expect("the cluster secret is long enough");
        let address = format!("127.0.0.1:{}", free_port());
        let log = dir.join(format!("{}.log", spec.id));
        let process = launch(&spec, &address, secret_file, &log);
        Worker { spec, process, address, secret_file: secret_file.into(), secret, log }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its id in the cluster.
    pub fn id(&self) -> &str {
        &self.spec.id
    }

    /// Waits until it answers `/readyz` with 200.
    pub async fn ready(&mut self) {
        let url = format!("http://{}/readyz", self.address);
        let process = &mut self.process;
        until("the worker is ready", Duration::from_secs(60), async || {
            assert!(process.ended().is_none(), "the worker ended while starting");
            reqwest::get(&url).await.is_ok_and(|reply| reply.status() == 200).then_some(())
        })
        .await;
    }

    /// A protocol connection.
    pub async fn connect(&self) -> Wire {
        Wire::connect(&self.address, &self.secret).await.unwrap()
    }

    /// What it says of itself now.
    pub async fn info(&self) -> WorkerInfo {
        self.connect().await.info
    }

    /// Waits until it holds no slot and no cell for anybody.
    pub async fn idle(&self) {
        let what = format!("slots and cells of {} come back", self.spec.id);
        until(&what, SOON, async || {
            let load = Wire::connect(&self.address, &self.secret).await.ok()?.info.load;
            (load.running + load.waiting + load.cells_reserved == 0).then_some(())
        })
        .await;
        assert_eq!(self.metric("caprock_worker_slots_used").await, 0.0);
        assert_eq!(self.metric("caprock_worker_cells_reserved").await, 0.0);
    }

    /// One sample of `/metrics`, by its name, labels included.
    pub async fn metric(&self, sample: &str) -> f64 {
        let url = format!("http://{}/metrics", self.address);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        value_of(&text, sample).unwrap_or_else(|| panic!("no {sample} in:\n{text}"))
    }

    /// SIGKILL to the program that restarts the engine, and with it to the engine.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGKILL to the engine's process only; the program restarts it.
    pub fn kill_engine(&self) {
        let children = self.process.children();
        assert!(!children.is_empty(), "the worker runs its engine in a child");
        children.into_iter().for_each(|child| signal(child, Signal::KILL));
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again at the same address, once it has ended.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = launch(&self.spec, &self.address, &self.secret_file, &self.log);
    }
}

fn launch(spec: &WorkerSpec, address: &str, secret_file: &Path, log: &Path) -> Process {
    let mut arguments: Vec<String> = vec![spec.role.as_str().into(), "--id".into(), spec.id.clone()];
    arguments.extend(["--listen".into(), address.into()]);
    arguments.extend(["--cluster-secret-file".into(), secret_file.display().to_string()]);
    for (id, address) in &spec.prefills {
        arguments.extend(["--prefill".into(), format!("{id}={address}")]);
    }
    match &spec.engine {
        Engine::Sim(settings) => {
            arguments.extend(["--engine".into(), "sim".into()]);
            arguments.extend(settings.iter().cloned());
        }
        Engine::Llama => arguments.extend(["--model".into(), environment::model().display().to_string()]),
    }
    arguments.extend(spec.arguments.iter().cloned());
    Process::start(&spec.id, &environment::worker_bin(), &arguments, &[], log)
}

/// The value of a sample in Prometheus or OpenMetrics text.
pub fn value_of(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.split(' ').next()?.parse().ok())
}
