//! What an earlier process left open.

use super::*;

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
