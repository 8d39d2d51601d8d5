//! Answers that end before their end: by the caller, a worker, the store, the gateway.

use super::*;

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
        keep: None,
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
        keep: None,
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
