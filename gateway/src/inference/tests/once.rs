//! Calls that are repeated under an Idempotency-Key.

use super::*;
use http::Method;

fn once(key: &str, body: &str) -> Option<Once> {
    Some(Once::new(key, &Method::POST, "/v1/chat/completions", body.as_bytes()))
}

impl Gateway {
    fn start_once(&self, key: &str, body: &str) -> Reader {
        start(&self.app, Admission::of(&self.app, self.caller.clone()), request(), once(key, body))
    }

    /// Three tokens, once.
    fn answers(&self) {
        self.worker.script([accepted(), token("a", 1), token("b", 2), done(FinishReason::EndOfTurn, 3)]);
    }
}

/// All events, as they are kept.
async fn events(reader: &mut Reader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = reader.next().await {
        all.push(match &event {
            Event::Failed(error) => format!("{:?}", error.kind),
            _ => serde_json::to_string(&event).unwrap(),
        });
    }
    all
}

#[tokio::test]
async fn a_repeated_call_gets_the_same_answer_is_generated_once_and_charged_once() {
    let gateway = gateway().await;
    gateway.answers();
    let first = events(&mut gateway.start_once("k", "body")).await;
    assert!(first.last().unwrap().contains("finished"), "{first:?}");
    gateway.settled().await;
    for _ in 0..3 {
        // The worker has no script left: had it been asked, this would be an error.
        assert_eq!(events(&mut gateway.start_once("k", "body")).await, first);
        gateway.settled().await;
    }
    assert_eq!(gateway.app.inference.once_here(), 0);
}

#[tokio::test]
async fn another_call_under_the_same_key_is_refused_while_the_first_runs_and_after_it() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 2)]);
    let mut running = gateway.start_once("k", "body");
    assert!(matches!(running.next().await, Some(Event::Started(_))));
    assert_eq!(events(&mut gateway.start_once("k", "other")).await, ["IdempotencyMismatch"]);
    gateway.app.stopping.cancel();
    drop(running);
    gateway.settled().await;

    let gateway = super::gateway().await;
    gateway.answers();
    events(&mut gateway.start_once("k", "body")).await;
    gateway.settled().await;
    assert_eq!(events(&mut gateway.start_once("k", "other")).await, ["IdempotencyMismatch"]);
}

#[tokio::test]
async fn keys_of_two_callers_have_nothing_to_do_with_each_other() {
    let gateway = gateway().await;
    gateway.answers();
    events(&mut gateway.start_once("k", "body")).await;
    gateway.settled().await;
    let other = Principal { key: crate::id::KeyId::new(), ..gateway.caller.clone() };
    gateway.worker.script([accepted(), token("other", 1), done(FinishReason::EndOfTurn, 2)]);
    let mut reader = start(&gateway.app, Admission::of(&gateway.app, other), request(), once("k", "body"));
    assert_eq!(read(&mut reader).await.0, "other");
}

#[tokio::test]
async fn an_answer_whose_caller_leaves_goes_on_and_who_comes_back_reads_it_from_the_start() {
    let gateway = gateway().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    gateway.worker.script([
        accepted(),
        token("a", 1),
        Step::Wait(gate.clone()),
        token("b", 2),
        done(FinishReason::EndOfTurn, 3),
    ]);
    let mut reader = gateway.start_once("k", "body");
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    drop(reader);
    let mut joined = gateway.start_once("k", "body");
    gate.notify_one();
    let (text, end) = read(&mut joined).await;
    assert!(text == "ab" && matches!(end, Event::Finished(_)), "{end:?}");
}

#[tokio::test]
async fn an_answer_that_nobody_comes_back_for_is_finished_and_kept() {
    let gateway = gateway().await;
    gateway.answers();
    drop(gateway.start_once("k", "body"));
    gateway.settled().await;
    let (text, end) = read(&mut gateway.start_once("k", "body")).await;
    let Event::Finished(finished) = end else { panic!("{end:?}") };
    assert_eq!((text.as_str(), finished.usage.output_tokens), ("ab", 3));
    assert!(finished.cost.is_some());
}

#[tokio::test]
async fn what_failed_is_not_kept_and_the_next_call_tries_anew() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Close]);
    let failed = events(&mut gateway.start_once("k", "body")).await;
    assert_eq!(failed.last().unwrap(), "UpstreamFailed");
    gateway.settled().await;
    gateway.answers();
    let (text, end) = read(&mut gateway.start_once("k", "body")).await;
    assert!(text == "ab" && matches!(end, Event::Finished(_)), "{end:?}");
    gateway.settled().await;

    // The same of what is refused before anything was done for it.
    let refused = Principal { limits: Hierarchy::default(), ..gateway.caller.clone() };
    let request = Request { max_tokens: Some(0), ..request() };
    let admission = Admission::of(&gateway.app, refused);
    let mut reader = start(&gateway.app, admission, request, once("refused", "body"));
    assert_eq!(events(&mut reader).await, ["Invalid"]);
    gateway.settled().await;
    gateway.answers();
    assert_eq!(read(&mut gateway.start_once("refused", "body")).await.0, "ab");
}

#[tokio::test]
async fn a_claim_of_another_replica_is_waited_for_until_its_request_is_dead() {
    let gateway = gateway().await;
    let now = gateway.app.clock.now();
    let id = gateway.orphan("elsewhere", i64::MAX).await;
    gateway.claimed_by("elsewhere", &id, now).await;
    assert_eq!(events(&mut gateway.start_once("k", "body")).await, ["Conflict"]);
    gateway.settled().await;
    let settlement = billing::Settlement {
        id: id.clone(),
        outcome: billing::Outcome::Lost,
        usage: counts(0).into(),
        detail: billing::Detail::default(),
        ended_at: now,
        keep: None,
    };
    billing::settle(&gateway.app.store, &settlement).await.unwrap();
    gateway.answers();
    assert_eq!(read(&mut gateway.start_once("k", "body")).await.0, "ab", "its answer is lost");
}

#[tokio::test]
async fn a_claim_without_a_request_is_dead_at_once_here_and_after_a_while_elsewhere() {
    let gateway = gateway().await;
    let now = gateway.app.clock.now();
    let here = gateway.app.config.gateway.id.clone();
    for (gateway_id, at, taken) in
        [(here.as_str(), now, true), ("elsewhere", now, false), ("elsewhere", now - 121_000_000, true)]
    {
        gateway.claimed_by(gateway_id, &RequestId::new(), at).await;
        if taken {
            gateway.answers();
            assert_eq!(read(&mut gateway.start_once("k", "body")).await.0, "ab", "{gateway_id}");
        } else {
            assert_eq!(events(&mut gateway.start_once("k", "body")).await, ["Conflict"]);
        }
        gateway.settled().await;
        gateway.sql("DELETE FROM kept_answers").await;
    }
}

#[tokio::test]
async fn a_kept_answer_is_sealed_and_forgotten_after_a_day() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("confidential", 1), done(FinishReason::EndOfTurn, 2)]);
    events(&mut gateway.start_once("k", "body")).await;
    gateway.settled().await;
    let file = std::fs::read(gateway.app.config.gateway.state_dir.join("caprock.db-wal")).unwrap();
    assert!(!file.windows(12).any(|bytes| bytes == b"confidential"));
    let store = &gateway.app.store;
    let now = gateway.app.clock.now();
    assert_eq!(store.answers_forget(now - crate::store::IDEMPOTENCY_US).await.unwrap(), 0);
    assert_eq!(store.answers_forget(now).await.unwrap(), 1);
}

impl Gateway {
    /// As if this request had claimed the key `k`.
    async fn claimed_by(&self, gateway_id: &str, id: &RequestId, created_at: i64) {
        let claim = crate::store::NewAnswerClaim {
            key: crate::store::AnswerKey {
                tenant_id: self.caller.tenant.clone(),
                key_id: self.caller.key.clone(),
                idempotency_key: "k".into(),
            },
            call_digest: once("k", "body").unwrap().digest().to_owned(),
            request_id: id.clone(),
            gateway_id: gateway_id.into(),
            created_at,
        };
        assert_eq!(self.app.store.answer_claim(claim, 0).await.unwrap(), crate::store::AnswerClaim::Ours);
    }
}
