//! Whole requests: real store, real limiter, scripted workers over real sockets.

use super::*;
use crate::auth::{Affected, Principal};
use crate::billing::{self, OpenRequest, RequestRecord};
use crate::catalog::{self, Price, Snapshot};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::error::AuthFailure;
use crate::id::RequestId;
use crate::money::PicousdPerToken;
use crate::quota::{Hierarchy, Limiter, Limits};
use crate::secrets::Secrets;
use crate::store::testing::{principal, sqlite};
use crate::tenants;
use crate::upstream::cluster::fake::*;
use cluster_protocol::{Counts, ErrorCode, FinishReason, Message as Frame, Receipt, Role as WorkerRole, WorkerError};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) const MODEL: &str = "huggingface.smollm2-135m-instruct";

pub(crate) struct Gateway {
    pub(crate) app: Arc<App>,
    caller: Principal,
    pub(crate) worker: FakeWorker,
    /// Ends the probes with the test.
    _probes: tokio_util::sync::DropGuard,
    _state: TempDir,
}

pub(crate) async fn gateway() -> Gateway {
    gateway_with(|_| {}).await
}

/// A gateway whose one worker is healthy, and a caller of it.
async fn gateway_with(edit: impl FnOnce(&mut Config)) -> Gateway {
    let worker = FakeWorker::start("decode-1", WorkerRole::Decode).await;
    let (fixture, state) = sqlite().await;
    let mut config = fixture.config;
    config.cluster = vec![config::Cluster {
        name: "bundled".into(),
        model: MODEL.into(),
        stands_in_for: vec![],
        decode: vec![config::Worker { id: "decode-1".into(), address: worker.address.to_string() }],
        prefill: vec![],
        min_remote_prefill_tokens: 0,
    }];
    edit(&mut config);
    let given = |name: &str| (name == "CAPROCK_CLUSTER_SECRET").then(|| SECRET.to_owned());
    let secrets = Secrets::load_or_create_with(state.path(), given).unwrap();
    let app = crate::serve::assemble(config, secrets, fixture.store).unwrap();
    let probes = CancellationToken::new();
    app.upstreams.watch(&TaskTracker::new(), &probes);
    within_30_s("ready workers", || async { app.upstreams.ready() }).await;
    let caller = principal(&app.store, "acme").await;
    Gateway { app, caller, worker, _probes: probes.drop_guard(), _state: state }
}

async fn within_30_s<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(tokio::time::Instant::now() < until, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Three tokens by these workers' count.
fn request() -> Request {
    Request {
        id: RequestId::new(),
        dialect: Dialect::OpenaiChat,
        model: MODEL.into(),
        messages: vec![Message { role: Role::User, content: vec![Content::Text("abc".into())] }],
        tools: Tools::default(),
        answer: AnswerForm::Text,
        sampling: Sampling::default(),
        logprobs: None,
        choices: 1,
        stop: vec![],
        max_tokens: Some(10),
        stream: true,
    }
}

impl Gateway {
    pub(crate) fn start(&self, request: Request) -> Reader {
        start(&self.app, Admission::of(&self.app, self.caller.clone()), request, None)
    }

    /// Waits for every request's task, and their settlements.
    async fn settled(&self) {
        self.app.tasks.close();
        self.app.tasks.wait().await;
        self.app.tasks.reopen();
    }

    pub(crate) async fn record(&self, id: &RequestId) -> RequestRecord {
        billing::request_record(&self.app.store, id).await.unwrap()
    }

    /// From outside of the program.
    async fn sql(&self, sql: &'static str) {
        let file = self.app.config.gateway.state_dir.join("caprock.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// Of the caller's tokens per minute.
    async fn tokens_left(&self) -> u64 {
        self.tokens_left_of(self.caller.limits).await
    }

    async fn tokens_left_of(&self, limits: Hierarchy) -> u64 {
        let caller = Principal { limits, ..self.caller.clone() };
        let standing = self.app.limiter.reserve(&caller, 0).await.unwrap().standing();
        standing.tokens_per_minute.unwrap().remaining
    }

    /// As if a gateway had died with this request sent to the worker.
    async fn orphan(&self, gateway_id: &str, lease_until: i64) -> RequestId {
        self.orphan_accepted(gateway_id, lease_until, 1).await
    }

    async fn orphan_accepted(&self, gateway_id: &str, lease_until: i64, accepted_at: i64) -> RequestId {
        let price = PicousdPerToken(1_000_000);
        let open = OpenRequest {
            id: RequestId::new(),
            principal: self.caller.clone(),
            dialect: Dialect::OpenaiChat,
            model_asked: MODEL.into(),
            model: MODEL.into(),
            price: Price { input: price, output: price, cache_read: None, cache_write: None, source: "test".into() },
            input_tokens: 3,
            max_output_tokens: 10,
            accepted_at,
            decode: "decode-1".into(),
            gateway_id: gateway_id.into(),
            lease_until,
        };
        billing::open_request(&self.app.store, &open).await.unwrap();
        open.id
    }
}

/// All text, and the last event.
async fn read(reader: &mut Reader) -> (String, Event) {
    let mut text = String::new();
    loop {
        match reader.next().await.expect("an end") {
            Event::Started(_) | Event::Reasoning { .. } | Event::Tool { .. } => {}
            Event::Text { text: piece, .. } => text.push_str(&piece),
            end @ (Event::Finished(_) | Event::Failed(_)) => return (text, end),
        }
    }
}

fn failure(end: Event) -> ErrorKind {
    match end {
        Event::Failed(error) => error.kind,
        other => panic!("{other:?}"),
    }
}

mod answers;
mod endings;
mod once;
mod recovery;
mod refusals;
mod revocation;
