//! What orchestrators ask, on both ports, without credentials.

use crate::app::App;
use crate::error::Result;
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

/// A probe must not hang with the database.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// Less than the time between two probes of one orchestrator.
const STORE_ANSWER_HOLDS: Duration = Duration::from_secs(1);

/// Whether this gateway can answer inference, part by part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({ "ready": true, "accepting": true, "store": true, "upstreams": true })))]
pub struct Readiness {
    /// All of the others.
    pub ready: bool,
    /// It is not stopping.
    pub accepting: bool,
    /// The database answers.
    pub store: bool,
    /// Changes are followed, so that credentials can be remembered; without it each is read from the database.
    pub credentials: bool,
    /// A decode worker of a cluster is up.
    pub upstreams: bool,
}

/// What the database last said. Probes need no credentials, so they must not cost a query each.
#[derive(Debug, Default)]
pub struct StoreProbe(Mutex<Option<(Instant, bool)>>);

impl StoreProbe {
    /// Whether the database answers; asks it only when the last answer is old. Those who come while it is being asked
    /// wait for that answer.
    async fn answers(&self, ask: impl Future<Output = Result<()>>) -> bool {
        let mut last = self.0.lock().await;
        if let Some((_, answers)) = last.filter(|(at, _)| at.elapsed() < STORE_ANSWER_HOLDS) {
            return answers;
        }
        let answers = matches!(timeout(STORE_PATIENCE, ask).await, Ok(Ok(())));
        *last = Some((Instant::now(), answers));
        answers
    }
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "`ok`", body = String)), security())]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether to send requests here.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready; says which part", body = Readiness)),
    security()
)]
pub async fn readyz(State(app): State<Arc<App>>, Extension(store): Extension<Arc<StoreProbe>>) -> Response {
    let mut readiness = Readiness {
        ready: false,
        accepting: !app.draining.is_cancelled(),
        store: store.answers(app.store.schema_is_current()).await,
        credentials: app.credentials.lease().is_fresh(),
        upstreams: app.upstreams.ready(),
    };
    readiness.ready = readiness.accepting && readiness.store && readiness.credentials && readiness.upstreams;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn probes_cost_one_query_a_second_however_many_they_are() {
        let (probe, asked) = (StoreProbe::default(), AtomicU32::new(0));
        let ask = async |up: bool| {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if up { Ok(()) } else { Err(Error::new(ErrorKind::Internal, "down")) }
        };
        let together = futures::future::join_all((0..100).map(|_| probe.answers(ask(true)))).await;
        assert!(together.into_iter().all(|answers| answers));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(probe.answers(ask(false)).await, "asked too soon");

        tokio::time::advance(STORE_ANSWER_HOLDS).await;
        assert!(!probe.answers(ask(false)).await);
        assert!(!probe.answers(ask(true)).await, "a failure holds as long");
        tokio::time::advance(STORE_ANSWER_HOLDS).await;
        assert!(!probe.answers(std::future::pending()).await, "it must not hang");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
