//! A decode worker and a prefill worker without a gateway, spoken to in their own protocol.

use crate::wire::{Answer, Wire, greedy};
use crate::worker::{Engine, Worker, WorkerSpec};
use cluster_protocol::{ClusterSecret, LocalReason, PrefillPath, PrefillPlan, Role, WorkerError};
use std::path::PathBuf;
use tempfile::TempDir;

/// Two workers. Decode finds prefill at the address that [`Pair::start`] is told to give it.
#[derive(Debug)]
pub struct Pair {
    /// `decode-1`
    pub decode: Worker,
    /// `prefill-1`
    pub prefill: Worker,
    dir: TempDir,
}

/// A folder with a cluster secret.
#[derive(Debug)]
pub struct Secret {
    dir: TempDir,
}

impl Secret {
    /// A secret for one test.
    pub fn new() -> Secret {
        let dir = tempfile::Builder::new().prefix("caprock-test-").tempdir().unwrap();
        std::fs::write(dir.path().join("cluster"), format!("{:064x}\n", std::process::id())).unwrap();
        Secret { dir }
    }

    /// Its file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// As the protocol takes it.
    pub fn key(&self) -> ClusterSecret {
        ClusterSecret::new(&std::fs::read_to_string(self.file()).unwrap()).unwrap()
    }

    /// A worker with this secret, whose log is in this folder; not ready yet.
    pub fn worker(&self, spec: WorkerSpec) -> Worker {
        Worker::start(spec, &self.file(), self.dir.path())
    }
}

impl Default for Secret {
    fn default() -> Self {
        Secret::new()
    }
}

impl Pair {
    /// Starts both and waits until they are ready; decode asks prefill directly.
    pub async fn start(engine: Engine) -> Pair {
        let secret = Secret::new();
        let mut prefill = secret.worker(WorkerSpec::new(Role::Prefill, "prefill-1", engine.clone()));
        let spec = WorkerSpec::new(Role::Decode, "decode-1", engine).knows("prefill-1", prefill.address());
        let mut decode = secret.worker(spec);
        prefill.ready().await;
        decode.ready().await;
        Pair { decode, prefill, dir: secret.dir }
    }

    /// Where the logs are.
    pub fn logs(&self) -> PathBuf {
        self.dir.path().into()
    }
}

/// Generates greedily with the prompt computed by `prefill-1`.
///
/// # Errors
/// The worker's own.
pub async fn remotely(wire: &mut Wire, id: &str, prompt: &[u32], max_tokens: u32) -> Result<Answer, WorkerError> {
    let plan = PrefillPlan::Remote { prefill_id: "prefill-1".into() };
    wire.generate(greedy(id, prompt.to_vec(), max_tokens, plan)).await
}

/// Generates greedily with the prompt computed by the same worker.
///
/// # Errors
/// The worker's own.
pub async fn locally(wire: &mut Wire, id: &str, prompt: &[u32], max_tokens: u32) -> Result<Answer, WorkerError> {
    let plan = PrefillPlan::Local { reason: LocalReason::ShortPrompt };
    wire.generate(greedy(id, prompt.to_vec(), max_tokens, plan)).await
}

/// Why the prompt was computed locally, or `None` when it was not.
pub fn local_reason(answer: &Answer) -> Option<LocalReason> {
    match &answer.done.path.prefill {
        PrefillPath::Local { reason } => Some(*reason),
        PrefillPath::Remote { .. } => None,
    }
}
