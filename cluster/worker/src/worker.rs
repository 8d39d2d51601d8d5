//! A worker from its start to its end; several fit in one process.

use crate::config::{Config, EngineChoice};
use crate::constraints::Constraints;
use crate::engine::sim::SimEngine;
use crate::engine::{Engine, LoadError};
use crate::handoff::PrefillPeers;
use crate::scheduler::{Options, Scheduler};
use crate::server::{self, Context};
use cluster_protocol::{Load, WorkerInfo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long connections may take to tell their clients that the worker stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running worker. Dropping it closes every connection and ends the engine.
pub struct Worker {
    context: Arc<Context>,
    address: SocketAddr,
    engine_ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Builds the engine, then serves on `listener`.
    ///
    /// # Errors
    /// When the configuration is wrong or the engine can't be built.
    pub async fn start(config: Config, listener: TcpListener) -> Result<Worker, LoadError> {
        config.check().map_err(LoadError)?;
        let address = listener.local_addr().map_err(|error| LoadError(error.to_string()))?;
        let options = Options {
            worker_id: config.worker_id.clone(),
            queue: config.queue,
            patience: config.patience.client,
            crash: config.crash,
        };
        let (choice, limits) = (config.engine.clone(), config.limits);
        let build = move || -> Result<Box<dyn Engine>, LoadError> {
            Ok(match choice {
                #[cfg(feature = "llama")]
                EngineChoice::Llama { model } => Box::new(crate::engine::llama::LlamaEngine::load(&model, limits)?),
                EngineChoice::Sim(options) => Box::new(SimEngine::new(options, limits)),
            })
        };
        let (scheduler, engine_ended) = Scheduler::start(options, build).await?;
        let prefills = PrefillPeers::new(
            config.prefills.clone(),
            config.secret.clone(),
            config.worker_id.clone(),
            config.patience.prefill_connect,
            config.patience.prefill_frame,
        );
        let card_digest = scheduler.shared().description.card.digest();
        let context = Arc::new(Context {
            config,
            scheduler,
            prefills,
            constraints: Constraints::default(),
            epoch: now_micros(),
            card_digest,
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        context.tasks.spawn(server::accept(Arc::clone(&context), listener));
        Ok(Worker { context, address, engine_ended })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of itself.
    pub fn info(&self) -> WorkerInfo {
        self.context.info()
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.context.scheduler.load()
    }

    /// Completes when the engine thread has ended, which it does only when it failed or the worker is closed.
    pub async fn engine_ended(&mut self) {
        let _ = (&mut self.engine_ended).await; // an error means just that: the sender is gone
    }

    /// Takes no more requests, lets the running ones end within the grace, then ends them with `ShuttingDown`. Returns
    /// when the engine has freed what it held, so that a process may exit.
    pub async fn stop(mut self) {
        let context = Arc::clone(&self.context);
        context.draining.cancel();
        context.tasks.close();
        let drained = tokio::time::timeout(context.config.patience.grace, context.tasks.wait()).await;
        context.scheduler.close();
        if drained.is_err() {
            let _ = tokio::time::timeout(FAREWELL, context.tasks.wait()).await; // those left are closed by the drop
        }
        let _ = tokio::time::timeout(FAREWELL, self.engine_ended()).await; // in the midst of a long chunk it is left
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.context.draining.cancel();
        self.context.closed.cancel();
        self.context.scheduler.close();
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
