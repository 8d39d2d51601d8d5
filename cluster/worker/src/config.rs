//! What a worker is started with.

use crate::crash::CrashPlan;
use crate::engine::EngineLimits;
use crate::engine::sim::SimOptions;
use cluster_protocol::{ClusterSecret, Role};
use std::collections::BTreeMap;
use std::time::Duration;

/// A worker's whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its id in the cluster.
    pub worker_id: String,
    /// Its role, which is policy only.
    pub role: Role,
    /// Shared with gateways and the other workers.
    pub secret: ClusterSecret,
    /// Prefill workers by id, as `host:port`.
    pub prefills: BTreeMap<String, String>,
    /// Which mechanism computes.
    pub engine: EngineChoice,
    /// Its sizes.
    pub limits: EngineLimits,
    /// Most requests waiting for a slot; beyond it they are refused as overloaded.
    pub queue: usize,
    /// Most open connections; beyond it they are closed at once.
    pub connections: usize,
    /// Bounds on waiting.
    pub patience: Patience,
    /// Where to die, for tests of crashes; only with `sim`.
    pub crash: Option<CrashPlan>,
}

/// Which mechanism computes.
#[derive(Debug, Clone)]
pub enum EngineChoice {
    /// llama.cpp with a GGUF file.
    #[cfg(feature = "llama")]
    Llama {
        /// The file.
        model: std::path::PathBuf,
    },
    /// Deterministic words, no model.
    Sim(SimOptions),
}

/// How long a worker waits for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For `Extend` after `Paused`, and for a reader that takes nothing.
    pub client: Duration,
    /// For a prefill worker to be reached.
    pub prefill_connect: Duration,
    /// For the next frame of a hand-off.
    pub prefill_frame: Duration,
    /// For the next request on an idle connection.
    pub idle: Duration,
    /// For running requests when the worker is told to stop.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            client: Duration::from_secs(30),
            prefill_connect: Duration::from_secs(3),
            prefill_frame: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            grace: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// # Errors
    /// Every complaint at once, in words for an operator.
    pub fn check(&self) -> Result<(), String> {
        let limits = &self.limits;
        let rules = [
            (!self.worker_id.is_empty() && self.worker_id.len() <= 256, "the id must have 1 to 256 bytes"),
            ((1..=128).contains(&limits.slots), "slots must be from 1 to 128"),
            ((16..=2048).contains(&limits.chunk_tokens), "chunk must be from 16 to 2048"),
            (limits.slots < limits.chunk_tokens, "slots must be fewer than chunk"),
            ((64..=1 << 24).contains(&limits.cells), "cells must be from 64 to 16777216"),
            (limits.context_tokens >= 2, "context must be at least 2"),
            ((1..=256).contains(&limits.threads), "threads must be from 1 to 256"),
            (self.crash.is_none() || matches!(self.engine, EngineChoice::Sim(_)), "a crash plan needs the sim engine"),
        ];
        let complaints: Vec<&str> = rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule).collect();
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
    }
}
