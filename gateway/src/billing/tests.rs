use super::*;
use crate::error::ErrorKind;
use crate::id::RequestId;
use crate::money::PicousdPerToken;
use crate::store::Store;
use crate::store::testing::{Fixture, on_both_engines, principal};
use cluster_protocol::{FinishReason, LocalReason, Path, PrefillPath, Timings};

pub(super) fn price() -> Price {
    Price {
        input: PicousdPerToken(60_000),
        output: PicousdPerToken(240_000),
        cache_read: Some(PicousdPerToken(15_000)),
        cache_write: None,
        source: "test".into(),
    }
}

pub(super) fn request_of(who: &Principal) -> OpenRequest {
    OpenRequest {
        id: RequestId::new(),
        principal: who.clone(),
        dialect: Dialect::BedrockConverse,
        model_asked: "amazon.nova-micro-v1:0".into(),
        model: "smollm2".into(),
        price: price(),
        input_tokens: 10,
        max_output_tokens: 20,
        accepted_at: 1_000,
        decode: "decode-1".into(),
        gateway_id: "gateway-1".into(),
        lease_until: 31_000,
    }
}

pub(super) fn settlement(id: &RequestId, outcome: Outcome, input_tokens: u64, output_tokens: u64) -> Settlement {
    let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
    Settlement { id: id.clone(), outcome, usage, detail: Detail::default(), ended_at: 2_000, keep: None }
}

async fn opened(store: &Store, who: &Principal) -> RequestId {
    let request = request_of(who);
    open_request(store, &request).await.unwrap();
    request.id
}

#[tokio::test]
async fn a_settled_request_shows_its_tokens_path_and_ledger_entry() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, &who).await;
        note_worker(&store, &id, "decode-1", 1).await.unwrap();
        let detail = Detail {
            finish: Some(FinishReason::StopSequence { text: "\"END\"\u{1F600}".into() }),
            error: None,
            path: Some(Path {
                engine: "sim".into(),
                decode: "decode-1".into(),
                prefill: PrefillPath::Local { reason: LocalReason::ShortPrompt },
            }),
            decode: Some("decode-1".into()),
            attempt: 1,
            timings: Some(Timings { queue_us: 1, prefill_us: 2, handoff_us: 3, decode_us: 4 }),
            ttft_ms: Some(5),
            latency_ms: Some(6),
        };
        let settled = Settlement { detail: detail.clone(), ..settlement(&id, Outcome::Completed, 10, 3) };
        assert_eq!(settle(&store, &settled).await.unwrap().amount, Nanousd(10 * 60 + 3 * 240));

        let record = request_record(&store, &id).await.unwrap();
        assert_eq!((&record.tenant_id, &record.project_id, &record.key_id), (&who.tenant, &who.project, &who.key));
        assert_eq!((record.model_asked.as_str(), record.model.as_str()), ("amazon.nova-micro-v1:0", "smollm2"));
        assert_eq!((record.state.as_str(), record.outcome.as_deref()), ("settled", Some("completed")));
        assert_eq!((record.input_tokens, record.output_tokens), (10, 3));
        assert_eq!((record.accepted_at, record.settled_at), (1_000, Some(2_000)));
        assert_eq!((record.dialect.as_str(), record.detail), ("bedrock_converse", detail));
        let entry = record.ledger_entry.unwrap();
        assert_eq!((entry.amount_nanousd, entry.price, entry.created_at), (Nanousd(1_320), price(), 2_000));
    })
    .await;
}

#[tokio::test]
async fn settling_again_changes_nothing_and_gives_the_first_amount() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, &who).await;
        let first = settle(&store, &settlement(&id, Outcome::ClientGone, 10, 3)).await.unwrap();
        let before = request_record(&store, &id).await.unwrap();
        let again = settle(&store, &settlement(&id, Outcome::Recovered, 10, 20)).await.unwrap();
        assert_eq!((first.amount, first.first), (Nanousd(1_320), true));
        assert_eq!((again.amount, again.first), (Nanousd(1_320), false), "only the first may be counted");
        let after = request_record(&store, &id).await.unwrap();
        assert_eq!(serde_json::to_value(&before).unwrap(), serde_json::to_value(&after).unwrap());
        assert_eq!(balance(&store, &who.tenant).await.unwrap(), first.amount);
    })
    .await;
}

#[tokio::test]
async fn of_many_settlements_at_once_one_counts_and_all_hear_its_amount() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, &who).await;
        let each = (0..24).map(|output| {
            let (store, id) = (store.clone(), id.clone());
            tokio::spawn(async move { settle(&store, &settlement(&id, Outcome::Completed, 10, output)).await.unwrap() })
        });
        let all = futures::future::join_all(each).await;
        let all: Vec<Settled> = all.into_iter().map(Result::unwrap).collect();
        let owed = balance(&store, &who.tenant).await.unwrap();
        assert!(all.iter().all(|settled| settled.amount == owed), "{all:?}");
        assert_eq!(all.iter().filter(|settled| settled.first).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_lost_request_has_its_one_terminal_record_and_costs_nothing() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, &who).await;
        note_worker(&store, &id, "decode-2", 3).await.unwrap();
        assert_eq!(settle(&store, &settlement(&id, Outcome::Lost, 10, 3)).await.unwrap().amount, Nanousd(0));
        let record = request_record(&store, &id).await.unwrap();
        assert_eq!((record.outcome.as_deref(), record.input_tokens, record.output_tokens), (Some("lost"), 0, 0));
        assert_eq!((record.detail.decode.as_deref(), record.detail.attempt), (Some("decode-2"), 3));
        assert_eq!(record.ledger_entry.unwrap().amount_nanousd, Nanousd(0));
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_not_noted_for_a_request_that_another_replica_ended() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, &who).await;
        settle(&store, &settlement(&id, Outcome::Lost, 0, 0)).await.unwrap();
        assert_eq!(note_worker(&store, &id, "decode-1", 1).await.unwrap_err().kind, ErrorKind::Conflict);
    })
    .await;
}

#[tokio::test]
async fn what_was_never_opened_can_be_neither_settled_nor_seen() {
    on_both_engines(|Fixture { store, .. }| async move {
        let id = RequestId::new();
        let error = settle(&store, &settlement(&id, Outcome::Completed, 1, 1)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(request_record(&store, &id).await.unwrap_err().kind, ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_request_is_opened_once_with_a_price_that_can_be_rated_and_for_a_real_project() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let request = request_of(&who);
        open_request(&store, &request).await.unwrap();
        assert_eq!(open_request(&store, &request).await.unwrap_err().kind, ErrorKind::Conflict);
        let kind = |request: OpenRequest| {
            let store = store.clone();
            async move { open_request(&store, &request).await.unwrap_err().kind }
        };
        let negative = Price { output: PicousdPerToken(-1), ..price() };
        assert_eq!(kind(OpenRequest { price: negative, ..request_of(&who) }).await, ErrorKind::Invalid);
        let dear = Price { cache_read: Some(PicousdPerToken(i64::MAX)), ..price() };
        let endless = OpenRequest { price: dear, max_output_tokens: 1_000_000, ..request_of(&who) };
        assert_eq!(kind(endless).await, ErrorKind::Invalid);
        let nobody = Principal { tenant: crate::id::TenantId::new(), ..who.clone() };
        assert_eq!(kind(request_of(&nobody)).await, ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_replica_finds_what_it_left_open_and_others_find_it_once_its_lease_is_over() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (one, two) = (opened(&store, &who).await, opened(&store, &who).await);
        note_worker(&store, &one, "decode-1", 2).await.unwrap();
        let left = open_requests(&store, "gateway-1", None).await.unwrap();
        assert_eq!(left.iter().map(|row| &row.id).collect::<Vec<_>>(), [&one, &two]);
        assert_eq!((left[0].decode_worker.as_deref(), left[0].attempt), (Some("decode-1"), 2));
        assert!(open_requests(&store, "gateway-1", Some(&two)).await.unwrap().is_empty());

        assert!(expired_requests(&store, 31_000).await.unwrap().is_empty());
        assert_eq!(renew_leases(&store, "gateway-1", 40_000).await.unwrap(), 2);
        assert!(expired_requests(&store, 40_000).await.unwrap().is_empty());
        for row in expired_requests(&store, 40_001).await.unwrap() {
            settle(&store, &settlement(&row.id, Outcome::Recovered, row.input_tokens, 1)).await.unwrap();
        }
        assert!(expired_requests(&store, i64::MAX).await.unwrap().is_empty());
        assert_eq!(renew_leases(&store, "gateway-1", 50_000).await.unwrap(), 0);
    })
    .await;
}

#[test]
fn an_outcome_is_stored_as_it_is_serialised() {
    let all = [
        Outcome::Completed,
        Outcome::ClientGone,
        Outcome::Failed,
        Outcome::Shutdown,
        Outcome::Recovered,
        Outcome::Lost,
    ];
    for outcome in all {
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
    }
}
