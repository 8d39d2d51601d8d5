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

const MODEL: &str = "huggingface.smollm2-135m-instruct";

struct Gateway {
    app: Arc<App>,
    caller: Principal,
    worker: FakeWorker,
    /// Ends the probes with the test.
    _probes: tokio_util::sync::DropGuard,
    _state: TempDir,
}

async fn gateway() -> Gateway {
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
        sampling: Sampling::default(),
        stop: vec![],
        max_tokens: Some(10),
        stream: true,
    }
}

impl Gateway {
    fn start(&self, request: Request) -> Reader {
        start(&self.app, Admission::of(&self.app, self.caller.clone()), request)
    }

    /// Waits for every request's task, and their settlements.
    async fn settled(&self) {
        self.app.tasks.close();
        self.app.tasks.wait().await;
        self.app.tasks.reopen();
    }

    async fn record(&self, id: &RequestId) -> RequestRecord {
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
            Event::Started(_) => {}
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

#[tokio::test]
async fn a_complete_answer_is_settled_before_its_end_is_told() {
    let gateway = gateway().await;
    let request = request();
    let id = request.id.clone();
    let (text, end) = read(&mut gateway.start(request)).await;
    let Event::Finished(finished) = end else { panic!("{end:?}") };
    assert_eq!((text.as_str(), &finished.reason), ("hello", &FinishReason::EndOfTurn));
    assert_eq!(finished.usage, Usage::from(counts(2)));

    let record = gateway.record(&id).await;
    assert_eq!(record.outcome.as_deref(), Some("completed"));
    assert_eq!((record.input_tokens, record.output_tokens), (3, 2));
    assert_eq!((record.detail.decode.as_deref(), record.detail.attempt), (Some("decode-1"), 1));
    assert_eq!(record.ledger_entry.map(|entry| entry.amount_nanousd), finished.cost);
    gateway.settled().await;
    assert!(!gateway.app.inference.is_any_running());
}

#[tokio::test]
async fn an_alias_is_what_was_asked_and_its_model_is_what_answers_and_is_paid() {
    let gateway = gateway().await;
    let alias = catalog::Override {
        id: "fast".into(),
        body: catalog::OverrideBody::Alias(catalog::Alias { target: MODEL.into() }),
    };
    let snapshot = Snapshot::build(&gateway.app.config, &[alias.stored().unwrap()]).unwrap();
    gateway.app.catalog.store(Arc::new(snapshot));
    let request = Request { model: "fast".into(), ..request() };
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    let Some(Event::Started(started)) = reader.next().await else { panic!("no start") };
    assert_eq!((started.model.as_str(), started.stand_in, started.deprecation), (MODEL, None, None));
    let (_, end) = read(&mut reader).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
    let record = gateway.record(&id).await;
    assert_eq!((record.model_asked.as_str(), record.model.as_str()), ("fast", MODEL));
}

#[tokio::test]
async fn a_model_out_of_reach_is_refused_before_anything_is_reserved_or_kept() {
    let mut gateway = gateway().await;
    gateway.caller.limits = Hierarchy::of_tenant(Limits { requests_per_minute: Some(1), ..Limits::default() });
    let open = gateway.caller.clone();
    let none = catalog::ModelAccess::only(vec![]).unwrap();
    gateway.caller.access = Arc::new(catalog::Access { key: none, ..catalog::Access::default() });
    for _ in 0..3 {
        let (_, end) = read(&mut gateway.start(request())).await;
        assert_eq!(failure(end), ErrorKind::Forbidden, "and not over its limit");
    }
    assert!(gateway.worker.seen().generates().is_empty());
    gateway.caller = open;
    let (_, end) = read(&mut gateway.start(request())).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
}

#[tokio::test]
async fn a_request_whose_caller_leaves_is_stopped_and_settled_exactly() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 3)]);
    let request = request();
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    drop(reader);
    gateway.settled().await;
    let record = gateway.record(&id).await;
    assert_eq!(record.outcome.as_deref(), Some("client_gone"));
    assert_eq!((record.input_tokens, record.output_tokens), (3, 3));
    assert!(record.ledger_entry.is_some());
}

#[tokio::test]
async fn a_worker_that_dies_in_mid_answer_is_told_and_what_came_is_charged() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), token("b", 2), Step::Close]);
    let request = request();
    let id = request.id.clone();
    let (text, end) = read(&mut gateway.start(request)).await;
    assert_eq!((text.as_str(), failure(end)), ("ab", ErrorKind::UpstreamFailed));
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.output_tokens), (Some("failed"), 2));
    assert_eq!(record.detail.error.as_deref(), Some("upstream_failed"));
}

#[tokio::test]
async fn a_request_that_never_begins_costs_nothing_and_names_its_last_attempt() {
    let gateway = gateway().await;
    for _ in 0..3 {
        gateway.worker.script([accepted(), error(ErrorCode::Engine)]);
    }
    let request = request();
    let id = request.id.clone();
    let (_, end) = read(&mut gateway.start(request)).await;
    assert_eq!(failure(end), ErrorKind::UpstreamUnavailable);
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens, record.output_tokens), (Some("failed"), 0, 0));
    assert_eq!(record.detail.attempt, 3);
}

fn asks_for_receipt(message: &Frame) -> bool {
    matches!(message, Frame::QueryReceipt(_))
}

#[tokio::test]
async fn a_caller_who_leaves_during_a_long_prefill_pays_for_the_prompt_by_the_workers_receipt() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), Step::Hang]);
    gateway.worker.set_receipt(Receipt::Running { counts: Counts::default() });
    let request = request();
    let id = request.id.clone();
    let reader = gateway.start(request);
    gateway.worker.until(|seen| !seen.generates().is_empty()).await;
    drop(reader);
    gateway.worker.until(|seen| seen.messages.iter().any(asks_for_receipt)).await;
    assert_eq!(gateway.record(&id).await.state, "open", "the engine is still in the middle of a chunk");
    gateway.worker.set_receipt(Receipt::Ended { counts: counts(0), finish: None });
    gateway.settled().await;
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens), (Some("client_gone"), 3));
}

#[tokio::test]
async fn a_broken_link_is_told_soon_and_settled_by_what_the_engine_computed_meanwhile() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant = Limits { tokens_per_minute: Some(100), ..Limits::default() };
    gateway.worker.script([accepted(), token("a", 1), Step::Close]);
    gateway.worker.set_receipt(Receipt::Running { counts: counts(1) });
    let request = request();
    let id = request.id.clone();
    let (text, end) = read(&mut gateway.start(request)).await;
    assert_eq!((text.as_str(), failure(end)), ("a", ErrorKind::UpstreamFailed));
    assert_eq!(gateway.record(&id).await.state, "open", "the caller does not wait for the engine");
    gateway.worker.set_receipt(Receipt::Ended { counts: counts(6), finish: None });
    gateway.settled().await;
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.output_tokens), (Some("failed"), 6));
    assert_eq!(gateway.tokens_left().await, 100 - 9, "exact, so the rest came back");
}

#[tokio::test]
async fn a_receipt_that_cannot_be_is_not_believed() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 2), Step::Close]);
    gateway.worker.set_receipt(Receipt::Ended { counts: counts(11), finish: None });
    let request = request();
    let id = request.id.clone();
    read(&mut gateway.start(request)).await;
    assert_eq!(gateway.record(&id).await.output_tokens, 2);
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_free_but_what_was_computed_counts_in_the_quota() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant = Limits { tokens_per_minute: Some(100), ..Limits::default() };
    let failed = WorkerError { code: ErrorCode::BadRequest, message: "scripted".into(), counts: counts(0) };
    gateway.worker.script([accepted(), Step::Send(Frame::Error(failed))]);
    let request = request();
    let id = request.id.clone();
    read(&mut gateway.start(request)).await;
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens), (Some("failed"), 0));
    gateway.settled().await;
    assert_eq!(gateway.tokens_left().await, 100 - 3);
}

#[tokio::test]
async fn a_count_that_is_not_exact_gives_no_tokens_back() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant = Limits { tokens_per_minute: Some(100), ..Limits::default() };
    gateway.worker.script([accepted(), token("a", 1), Step::Close]);
    read(&mut gateway.start(request())).await;
    gateway.settled().await;
    assert_eq!(gateway.tokens_left().await, 100 - 13, "the worker remembers nothing: all that was held stays counted");
}

#[tokio::test]
async fn an_exact_count_outlives_a_long_failure_of_the_store() {
    let gateway = gateway().await;
    let id = gateway.orphan(&gateway.app.config.gateway.id, i64::MAX).await;
    let settlement = billing::Settlement {
        id: id.clone(),
        outcome: billing::Outcome::ClientGone,
        usage: counts(2).into(),
        detail: billing::Detail::default(),
        ended_at: 2,
    };
    let running = gateway.app.inference.running(&id);
    gateway.sql("ALTER TABLE ledger_entries RENAME TO elsewhere").await;
    tokio::time::pause();
    let cost = settle::settle(&gateway.app, Dialect::OpenaiChat, settlement, running).await;
    assert_eq!(cost, None, "its caller does not wait for so long");
    tokio::time::sleep(Duration::from_secs(600)).await;
    tokio::time::resume();
    assert!(gateway.app.inference.is_running(&id), "recovery must leave it alone");
    gateway.sql("ALTER TABLE elsewhere RENAME TO ledger_entries").await;
    gateway.settled().await;
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.output_tokens), (Some("client_gone"), 2));
    let ended = gateway.app.metrics.encode().unwrap();
    assert!(ended.contains("outcome=\"client_gone\"} 1\n"), "{ended}");
}

#[tokio::test]
async fn a_settlement_that_never_succeeds_does_not_hold_up_the_end() {
    let gateway = gateway().await;
    let id = gateway.orphan(&gateway.app.config.gateway.id, i64::MAX).await;
    let settlement = billing::Settlement {
        id: id.clone(),
        outcome: billing::Outcome::Completed,
        usage: counts(2).into(),
        detail: billing::Detail::default(),
        ended_at: 2,
    };
    let running = gateway.app.inference.running(&id);
    gateway.sql("ALTER TABLE ledger_entries RENAME TO elsewhere").await;
    let began = tokio::time::Instant::now();
    gateway.app.stopping.cancel();
    settle::settle(&gateway.app, Dialect::OpenaiChat, settlement, running).await;
    gateway.settled().await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(
        !gateway.app.metrics.encode().unwrap().contains("outcome=\"completed\""),
        "nothing was settled, so nothing counts"
    );
}

/// As the feed of changes does it.
fn revoke(app: &App, key: &crate::id::KeyId) -> usize {
    let ended = Affected::Key(key.clone());
    app.credentials.forget(&ended);
    app.inference.revoke(&ended)
}

fn is_revoked(event: &Event) -> bool {
    let revoked = ErrorKind::Unauthenticated(AuthFailure::Revoked);
    matches!(event, Event::Failed(error) if error.kind == revoked)
}

#[tokio::test]
async fn a_running_answer_ends_with_its_credential_and_is_settled_exactly() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 2)]);
    let request = request();
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    assert_eq!(revoke(&gateway.app, &crate::id::KeyId::new()), 0, "somebody else's key");
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 1);
    let (text, end) = read(&mut reader).await;
    assert!(text == "a" && is_revoked(&end), "{end:?}");
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens, record.output_tokens), (Some("revoked"), 3, 2));
    assert_eq!(record.detail.error.as_deref(), Some("unauthenticated"));
    gateway.settled().await;
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 0, "an ended request is still entered");
}

#[tokio::test]
async fn a_credential_that_ends_between_admission_and_start_reaches_no_worker() {
    let gateway = gateway().await;
    let admission = Admission::of(&gateway.app, gateway.caller.clone());
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 0, "nothing runs yet that could be ended");
    let request = request();
    let id = request.id.clone();
    let (_, end) = read(&mut start(&gateway.app, admission, request)).await;
    assert!(is_revoked(&end), "{end:?}");
    gateway.settled().await;
    assert_eq!(billing::request_record(&gateway.app.store, &id).await.unwrap_err().kind, ErrorKind::NotFound);
    let limits = Limits { tokens_per_minute: Some(9), ..Limits::default() };
    assert_eq!(gateway.tokens_left_of(Hierarchy::of_tenant(limits)).await, 9);
}

#[tokio::test]
async fn the_end_of_another_credential_only_makes_a_starting_request_look_again() {
    let mut gateway = gateway().await;
    let app = &gateway.app;
    let input =
        tenants::CreateCredential::developer(tenants::Name::parse("k").unwrap(), gateway.caller.project.clone());
    let author = crate::audit::Author::command("test");
    let made = tenants::CreatedApiKey::generate(&app.secrets, &gateway.caller.tenant, input, &author, 1).unwrap();
    let change = crate::audit::Change { store: &app.store, secrets: &app.secrets, now: 1, author: &author, once: None };
    tenants::create_api_key(change, &tenants::Issuer::command(), &made).await.unwrap();
    gateway.caller.key = made.key.id;
    let admission = Admission::of(&gateway.app, gateway.caller.clone());
    revoke(&gateway.app, &crate::id::KeyId::new());
    gateway.worker.script([accepted(), token("a", 1), done(FinishReason::EndOfTurn, 1)]);
    let (_, end) = read(&mut start(&gateway.app, admission, request())).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
}

#[tokio::test]
async fn shutdown_ends_a_running_answer_properly() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 2)]);
    let request = request();
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    gateway.app.stopping.cancel();
    let (text, end) = read(&mut reader).await;
    assert_eq!((text.as_str(), failure(end)), ("a", ErrorKind::ShuttingDown));
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.output_tokens), (Some("shutdown"), 2));
    let (_, end) = read(&mut gateway.start(self::request())).await;
    assert_eq!(failure(end), ErrorKind::ShuttingDown, "nothing new begins");
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_and_holds_nothing() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant = Limits { concurrent_requests: Some(1), ..Limits::default() };
    let long = Content::Text("x".repeat(3000));
    let refused = Request { messages: vec![Message { role: Role::User, content: vec![long] }], ..request() };
    let id = refused.id.clone();
    let (_, end) = read(&mut gateway.start(refused)).await;
    assert_eq!(failure(end), ErrorKind::ContextExceeded);
    let unknown = billing::request_record(&gateway.app.store, &id).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound, "no row for what was never accepted");
    for _ in 0..2 {
        let (text, _) = read(&mut gateway.start(request())).await;
        assert_eq!(text, "hello", "each ended request gives its place back");
    }
}

#[tokio::test]
async fn limits_refuse_before_any_work_on_the_prompt() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant = Limits { requests_per_minute: Some(1), ..Limits::default() };
    assert_eq!(read(&mut gateway.start(request())).await.0, "hello");
    let cpu = &gateway.app.inference.cpu;
    let _nobodys_turn = cpu.acquire_many(u32::try_from(cpu.available_permits()).unwrap()).await.unwrap();
    let (_, end) = read(&mut gateway.start(request())).await;
    assert_eq!(failure(end), ErrorKind::QuotaExceeded(crate::error::Limit::RequestsPerMinute));
}

#[tokio::test]
async fn a_prompt_whose_caller_has_left_waits_for_no_turn() {
    let gateway = gateway().await;
    let cpu = &gateway.app.inference.cpu;
    let _nobodys_turn = cpu.acquire_many(u32::try_from(cpu.available_permits()).unwrap()).await.unwrap();
    drop(gateway.start(request()));
    tokio::time::timeout(Duration::from_secs(30), gateway.settled()).await.expect("its task ends");
    assert!(gateway.worker.seen().generates().is_empty());
}

#[tokio::test]
async fn a_request_whose_tokens_are_refused_leaves_its_place_and_its_count() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant =
        Limits { requests_per_minute: Some(1), tokens_per_minute: Some(13), concurrent_requests: Some(1) };
    let greedy = Request { max_tokens: Some(11), ..request() };
    let (_, end) = read(&mut gateway.start(greedy)).await;
    assert_eq!(failure(end), ErrorKind::QuotaExceeded(crate::error::Limit::TokensPerMinute));
    assert_eq!(read(&mut gateway.start(request())).await.0, "hello");
}

#[tokio::test]
async fn a_restart_gives_nobody_a_second_minute() {
    let mut gateway = gateway().await;
    gateway.caller.limits.tenant =
        Limits { requests_per_minute: Some(2), tokens_per_minute: Some(100), concurrent_requests: Some(1) };
    assert_eq!(read(&mut gateway.start(request())).await.0, "hello");
    let now = gateway.app.clock.now();
    gateway.orphan_accepted(&gateway.app.config.gateway.id, i64::MAX, now).await; // it dies under this one
    gateway.settled().await;

    let Gateway { app, caller, worker, _probes, _state } = gateway;
    let app = Arc::into_inner(app).expect("nothing runs any more");
    app.store.close().await;
    let store = crate::store::Store::connect(&app.config).await.unwrap();
    let app = Arc::new(App { store, limiter: Limiter::local(Clock::System), ..app });
    recover::restore_limits(&app).await.unwrap();
    let gateway = Gateway { app, caller, worker, _probes, _state };

    let tokens = Limits { tokens_per_minute: Some(100), ..Limits::default() };
    for limits in [
        Hierarchy::of_tenant(tokens),
        Hierarchy { project: tokens, ..Hierarchy::default() },
        Hierarchy { key: tokens, ..Hierarchy::default() },
    ] {
        assert_eq!(gateway.tokens_left_of(limits).await, 100 - 5 - 13, "{limits:?}");
    }
    let (_, end) = read(&mut gateway.start(request())).await;
    assert_eq!(failure(end), ErrorKind::QuotaExceeded(crate::error::Limit::RequestsPerMinute));
}

#[tokio::test]
async fn beyond_max_requests_callers_are_told_to_come_back() {
    let gateway = gateway_with(|config| config.gateway.max_requests = 1).await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 1)]);
    let mut first = gateway.start(request());
    assert!(matches!(first.next().await, Some(Event::Started(_))));
    let (_, end) = read(&mut gateway.start(request())).await;
    assert_eq!(failure(end), ErrorKind::Overloaded);
    drop(first);
    gateway.settled().await;
    assert_eq!(read(&mut gateway.start(request())).await.0, "hello");
}

#[tokio::test]
async fn what_an_earlier_process_left_open_is_settled_from_the_workers_receipt() {
    let gateway = gateway().await;
    let exact = Counts { input_tokens: 3, output_tokens: 7 };
    gateway.worker.set_receipt(Receipt::Ended { counts: exact, finish: None });
    let own = gateway.orphan(&gateway.app.config.gateway.id, i64::MAX).await;
    let expired = gateway.orphan("gateway-dead", 1).await;
    let alive = gateway.orphan("gateway-alive", i64::MAX).await;
    recover::spawn(&gateway.app);
    for id in [&own, &expired] {
        within_30_s("settlement", || async { gateway.record(id).await.state == "settled" }).await;
        let record = gateway.record(id).await;
        assert_eq!((record.outcome.as_deref(), record.output_tokens), (Some("recovered"), 7));
        assert_eq!(record.ledger_entry.map(|entry| entry.amount_nanousd.0), Some(10_000));
    }
    assert_eq!(gateway.record(&alive).await.state, "open", "its replica lives");
    gateway.app.draining.cancel();
    gateway.settled().await;
}

#[tokio::test]
async fn what_no_worker_remembers_is_lost_and_free() {
    let gateway = gateway().await;
    let id = gateway.orphan(&gateway.app.config.gateway.id, i64::MAX).await;
    recover::spawn(&gateway.app);
    within_30_s("settlement", || async { gateway.record(&id).await.state == "settled" }).await;
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens, record.output_tokens), (Some("lost"), 0, 0));
    gateway.app.draining.cancel();
    gateway.settled().await;
}

#[tokio::test]
async fn recovery_leaves_running_requests_alone() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 1)]);
    let request = request();
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    let orphan = gateway.orphan(&gateway.app.config.gateway.id, i64::MAX).await;
    recover::spawn(&gateway.app);
    within_30_s("settlement", || async { gateway.record(&orphan).await.state == "settled" }).await;
    assert_eq!(gateway.record(&id).await.state, "open");
    drop(reader);
    gateway.app.draining.cancel();
    gateway.settled().await;
    assert_eq!(gateway.record(&id).await.outcome.as_deref(), Some("client_gone"));
}
