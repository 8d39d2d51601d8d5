//! The listener: accepts, tells the protocol from HTTP by the first bytes, and serves one connection per task.

mod exchange;
mod http;

use crate::config::Config;
use crate::constraints::Constraints;
use crate::handoff::PrefillPeers;
use crate::scheduler::Scheduler;
use cluster_protocol::WorkerInfo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after a failed accept, which is nearly always want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) scheduler: Scheduler,
    pub(crate) prefills: PrefillPeers,
    pub(crate) constraints: Constraints,
    pub(crate) epoch: u64,
    pub(crate) card_digest: String,
    /// No new requests; idle connections close.
    pub(crate) draining: CancellationToken,
    /// Every connection closes.
    pub(crate) closed: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Context {
    pub(crate) fn info(&self) -> WorkerInfo {
        let description = &self.scheduler.shared().description;
        WorkerInfo {
            worker_id: self.config.worker_id.clone(),
            role: self.config.role,
            engine: description.fingerprint.engine.clone(),
            model: description.card.name.clone(),
            fingerprint: description.fingerprint.clone(),
            card_digest: self.card_digest.clone(),
            epoch: self.epoch,
            context_tokens: description.limits.context_tokens,
            slots: description.limits.slots,
            cells: description.limits.cells,
            load: self.scheduler.load(),
        }
    }
}

/// Accepts until draining begins.
pub(crate) async fn accept(context: Arc<Context>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(context.config.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.draining.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!("too many connections");
            continue; // drops it
        };
        let served = Arc::clone(&context);
        context.tasks.spawn(async move {
            let _permit = permit;
            let gauge = served.scheduler.shared().metrics.connections.clone();
            gauge.inc();
            tokio::select! {
                () = serve(&served, stream) => {}
                () = served.closed.cancelled() => {}
            }
            gauge.dec();
        });
    }
}

async fn serve(context: &Arc<Context>, stream: TcpStream) {
    let mut first = [0; 4];
    let peeked = tokio::time::timeout(crate::connection::HANDSHAKE, peek(&stream, &mut first)).await;
    match peeked {
        // As the length of a frame these letters would be far over any limit, so nothing is ambiguous.
        Ok(Ok(())) if first == *b"GET " || first == *b"HEAD" => http::serve(context, stream).await,
        Ok(Ok(())) => exchange::serve(context, stream).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Waits for the first bytes without taking them.
async fn peek(stream: &TcpStream, first: &mut [u8; 4]) -> std::io::Result<()> {
    loop {
        match stream.peek(first).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            4 => return Ok(()),
            // A peek returns at once while fewer are there; senders in four parts are rare enough to poll for.
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
