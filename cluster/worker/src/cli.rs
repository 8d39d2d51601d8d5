//! The command line. Every option is also an environment variable.

use crate::config::{Config, EngineChoice, Patience};
use crate::crash::CrashPlan;
use crate::engine::EngineLimits;
use crate::engine::sim::SimOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cluster_protocol::{ClusterSecret, Role};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The environment variable that may hold the secret itself. Never an argument, which every user could read.
pub const SECRET_ENV: &str = "CAPROCK_CLUSTER_SECRET";

/// A worker of Caprock's cluster.
#[derive(Debug, Parser)]
#[command(name = "caprock-worker", version)]
pub struct Cli {
    /// What it is there for.
    #[command(subcommand)]
    pub role: RoleCommand,
}

/// The role: policy only, both can do everything.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Computes prompts and hands their KV caches over.
    Prefill(Options),
    /// Generates answers.
    Decode(Options),
}

/// Options of both roles.
#[derive(Debug, Args)]
pub struct Options {
    /// Its id in the cluster's configuration.
    #[arg(long, env = "CAPROCK_WORKER_ID")]
    id: String,
    /// Address and port for the protocol and for /healthz, /readyz and /metrics.
    #[arg(long, env = "CAPROCK_WORKER_LISTEN", default_value = "127.0.0.1:8091")]
    pub listen: String,
    /// File with the cluster secret, at least 32 bytes; or set CAPROCK_CLUSTER_SECRET.
    #[arg(long, env = "CAPROCK_WORKER_CLUSTER_SECRET_FILE")]
    cluster_secret_file: Option<PathBuf>,
    /// A prefill worker as ID=HOST:PORT; may be repeated, or separated by commas.
    #[arg(long = "prefill", env = "CAPROCK_WORKER_PREFILL", value_delimiter = ',', value_parser = parse_prefill)]
    prefills: Vec<(String, String)>,
    /// What computes. `sim` is for tests: words without a model.
    #[arg(long, env = "CAPROCK_WORKER_ENGINE", value_enum, default_value_t = EngineName::Llama)]
    engine: EngineName,
    /// GGUF file of the model.
    #[arg(long, env = "CAPROCK_WORKER_MODEL")]
    model: Option<PathBuf>,
    /// Sequences at a time.
    #[arg(long, env = "CAPROCK_WORKER_SLOTS", default_value_t = 8)]
    slots: u32,
    /// KV cells, one per token, shared by all sequences.
    #[arg(long, env = "CAPROCK_WORKER_CELLS", default_value_t = 16_384)]
    cells: u32,
    /// Most tokens of one sequence; cut to what the model was trained for.
    #[arg(long, env = "CAPROCK_WORKER_CONTEXT", default_value_t = 8192)]
    context: u32,
    /// Prompt tokens evaluated at a time; must be equal on all workers.
    #[arg(long, env = "CAPROCK_WORKER_CHUNK", default_value_t = 256)]
    chunk: u32,
    /// Threads of one evaluation. On a small machine the sum over all workers must not exceed its cores.
    #[arg(long, env = "CAPROCK_WORKER_THREADS", default_value_t = 1)]
    threads: u32,
    /// Most requests that wait for a slot.
    #[arg(long, env = "CAPROCK_WORKER_QUEUE", default_value_t = 64)]
    queue: usize,
    /// Most open connections.
    #[arg(long, env = "CAPROCK_WORKER_CONNECTIONS", default_value_t = 1024)]
    connections: usize,
    /// sim: another seed is another model.
    #[arg(long, env = "CAPROCK_WORKER_SIM_SEED", default_value_t = 1)]
    sim_seed: u64,
    /// sim: prompt tokens per second; 0 is no delay.
    #[arg(long, env = "CAPROCK_WORKER_SIM_PREFILL_RATE", default_value_t = 0)]
    sim_prefill_rate: u32,
    /// sim: time of a decode step in ms.
    #[arg(long, env = "CAPROCK_WORKER_SIM_STEP_MS", default_value_t = 0)]
    sim_step_ms: u32,
    /// sim: words of an answer before it ends its turn.
    #[arg(long, env = "CAPROCK_WORKER_SIM_ANSWER_TOKENS", default_value_t = 16)]
    sim_answer_tokens: u32,
    /// sim: die at the n-th passing of a point, as POINT[:N]; only once, a restarted worker stays alive.
    #[arg(long, env = "CAPROCK_WORKER_SIM_CRASH")]
    sim_crash: Option<CrashPlan>,
}

/// Names of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    Llama,
    Sim,
}

impl RoleCommand {
    /// Its options.
    pub fn options(&self) -> &Options {
        match self {
            RoleCommand::Prefill(options) | RoleCommand::Decode(options) => options,
        }
    }

    /// The checked configuration; reads the secret.
    ///
    /// # Errors
    /// In words for an operator.
    pub fn config(&self) -> Result<Config, String> {
        let role = match self {
            RoleCommand::Prefill(_) => Role::Prefill,
            RoleCommand::Decode(_) => Role::Decode,
        };
        let options = self.options();
        let config = Config {
            worker_id: options.id.clone(),
            role,
            secret: options.secret()?,
            prefills: options.prefills.iter().cloned().collect::<BTreeMap<_, _>>(),
            engine: options.engine()?,
            limits: EngineLimits {
                slots: options.slots,
                cells: options.cells,
                context_tokens: options.context,
                chunk_tokens: options.chunk,
                threads: options.threads,
            },
            queue: options.queue,
            connections: options.connections,
            patience: Patience::default(),
            crash: options.sim_crash,
        };
        config.check()?;
        Ok(config)
    }
}

impl Options {
    fn secret(&self) -> Result<ClusterSecret, String> {
        let text = match &self.cluster_secret_file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
            None => std::env::var(SECRET_ENV)
                .map_err(|_| format!("give --cluster-secret-file, or the secret in {SECRET_ENV}"))?,
        };
        ClusterSecret::new(&text)
            .ok_or_else(|| format!("the cluster secret must have at least {} bytes", ClusterSecret::MIN_BYTES))
    }

    fn engine(&self) -> Result<EngineChoice, String> {
        match (self.engine, &self.model) {
            (EngineName::Sim, _) => Ok(EngineChoice::Sim(SimOptions {
                seed: self.sim_seed,
                prefill_tokens_per_s: self.sim_prefill_rate,
                step_ms: self.sim_step_ms,
                answer_tokens: self.sim_answer_tokens,
            })),
            #[cfg(feature = "llama")]
            (EngineName::Llama, Some(model)) => Ok(EngineChoice::Llama { model: model.clone() }),
            #[cfg(feature = "llama")]
            (EngineName::Llama, None) => Err("give --model, a GGUF file".into()),
            #[cfg(not(feature = "llama"))]
            (EngineName::Llama, _) => Err("this build has no llama engine".into()),
        }
    }
}

fn parse_prefill(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((id, address)) if !id.is_empty() && address.contains(':') => Ok((id.to_owned(), address.to_owned())),
        Some(_) | None => Err("must be ID=HOST:PORT".into()),
    }
}
