//! What is refused, and what that leaves behind.

use super::*;

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
