//! A whole Caprock: prefill, decode, gateway.

use crate::client::Client;
use crate::gateway::{Database, Gateway};
use crate::worker::{Engine, Worker, WorkerSpec};
use cluster_protocol::Role;
use tempfile::TempDir;

/// What to start.
#[derive(Debug, Clone)]
pub struct StackSpec {
    /// Where the books are.
    pub database: Database,
    /// What prefill computes with.
    pub prefill: Engine,
    /// What decode computes with.
    pub decode: Engine,
    /// More arguments of the decode worker.
    pub decode_arguments: Vec<String>,
    /// Lines for the configuration's `[gateway]`.
    pub gateway: String,
}

impl StackSpec {
    /// Simulated workers, SQLite. `settings` such as `step-ms=20` hold for both.
    pub fn sim(settings: &[&str]) -> StackSpec {
        StackSpec {
            database: Database::Sqlite,
            prefill: Engine::sim(settings),
            decode: Engine::sim(settings),
            decode_arguments: Vec::new(),
            gateway: String::new(),
        }
    }

    /// The real model, SQLite.
    pub fn real() -> StackSpec {
        StackSpec { prefill: Engine::Llama, decode: Engine::Llama, ..StackSpec::sim(&[]) }
    }

    /// On a database.
    pub fn on(mut self, database: Database) -> StackSpec {
        self.database = database;
        self
    }

    /// Starts all, and waits until all is ready.
    pub async fn start(self) -> Stack {
        let dir = tempfile::Builder::new().prefix("caprock-test-").tempdir().unwrap();
        let mut gateway = Gateway::prepare(dir.path(), self.database).await;
        let secret = gateway.cluster_secret_file();
        let prefill = WorkerSpec::new(Role::Prefill, "prefill-1", self.prefill);
        let mut prefill = Worker::start(prefill, &secret, dir.path());
        let mut decode = WorkerSpec::new(Role::Decode, "decode-1", self.decode).knows("prefill-1", prefill.address());
        decode.arguments = self.decode_arguments;
        let mut decode = Worker::start(decode, &secret, dir.path());
        prefill.ready().await;
        decode.ready().await;
        let named = |worker: &Worker| (worker.id().to_owned(), worker.address().to_owned());
        gateway.write_config(&[named(&decode)], &[named(&prefill)], &self.gateway);
        gateway.serve().await;
        Stack { gateway, decode, prefill, dir }
    }
}

/// A running Caprock. Fields drop in order: first who calls, then who is called, last the files.
#[derive(Debug)]
pub struct Stack {
    /// The gateway.
    pub gateway: Gateway,
    /// The decode worker, `decode-1`.
    pub decode: Worker,
    /// The prefill worker, `prefill-1`.
    pub prefill: Worker,
    /// State and logs.
    pub dir: TempDir,
}

impl Stack {
    /// A caller with the demo tenant's key.
    pub fn client(&self) -> Client {
        self.gateway.client()
    }

    /// Waits until nothing is held anywhere, and checks the books: one terminal record for each request.
    pub async fn at_rest(&self) -> Vec<crate::books::Line> {
        self.decode.idle().await;
        self.prefill.idle().await;
        self.gateway.books().await.closed().await
    }

    /// As [`Stack::at_rest`], and the books hold, to the token, what the engine says it sampled. For a decode worker that
    /// was not restarted: its count begins with its process.
    pub async fn balanced(&self) -> Vec<crate::books::Line> {
        let lines = self.at_rest().await;
        let booked: i64 = lines.iter().map(|line| line.output_tokens).sum();
        let sampled = self.decode.metric("caprock_worker_output_tokens_total").await;
        assert_eq!(booked as f64, sampled, "output tokens on the ledger and out of the engine: {lines:?}");
        lines
    }
}
