//! Answers under an Idempotency-Key.

use super::request_of;
use super::requests::{opened, settle};
use crate::auth::Principal;
use crate::id::{KeyId, RequestId};
use crate::money::Nanousd;
use crate::store::testing::{Fixture, execute, on_both_engines, principal};
use crate::store::*;

fn key(who: &Principal) -> AnswerKey {
    AnswerKey { tenant_id: who.tenant.clone(), key_id: who.key.clone(), idempotency_key: "k".into() }
}

fn claim_of(who: &Principal, request_id: &RequestId, created_at: i64) -> NewAnswerClaim {
    NewAnswerClaim {
        key: key(who),
        call_digest: "digest".into(),
        request_id: request_id.clone(),
        gateway_id: "gateway-1".into(),
        created_at,
    }
}

async fn keep(store: &Store, key: AnswerKey, request_id: &RequestId, answer: &str) {
    let (keep, request_id) = (AnswerToKeep { key, answer: answer.into() }, request_id.clone());
    let work =
        store.transaction(move |tx| Box::pin(async move { tx.answer_keep(&keep, &request_id, Nanousd(11)).await }));
    work.await.unwrap();
}

/// What a new call finds.
async fn found(store: &Store, who: &Principal) -> AnswerRow {
    match store.answer_claim(claim_of(who, &RequestId::new(), 70), 0).await.unwrap() {
        AnswerClaim::Taken(row) => row,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_claimed_by_exactly_one_of_many_and_found_by_the_others() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let ids: Vec<RequestId> = (0..40).map(|_| RequestId::new()).collect();
        let all = futures::future::join_all(ids.iter().map(|id| store.answer_claim(claim_of(&who, id, 50), 0))).await;
        let all: Vec<AnswerClaim> = all.into_iter().map(Result::unwrap).collect();
        let won: Vec<usize> = (0..all.len()).filter(|at| all[*at] == AnswerClaim::Ours).collect();
        assert_eq!(won.len(), 1, "{all:?}");
        let expected = AnswerRow {
            call_digest: "digest".into(),
            request_id: ids[won[0]].clone(),
            gateway_id: "gateway-1".into(),
            answer: None,
            amount_nanousd: None,
            created_at: 50,
            request_state: None,
        };
        for (at, claim) in all.into_iter().enumerate() {
            assert!(at == won[0] || claim == AnswerClaim::Taken(expected.clone()), "{claim:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn claims_that_come_and_go_at_the_same_time_never_fail() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let come_and_go = || async {
            let mut had = 0;
            for _ in 0..10 {
                let id = RequestId::new();
                if store.answer_claim(claim_of(&who, &id, 50), 0).await.unwrap() == AnswerClaim::Ours {
                    store.answer_release(key(&who), id).await.unwrap();
                    had += 1;
                }
            }
            had
        };
        let had: i32 = futures::future::join_all((0..12).map(|_| come_and_go())).await.into_iter().sum();
        assert!(had >= 1);
        let last = claim_of(&who, &RequestId::new(), 50);
        assert_eq!(store.answer_claim(last, 0).await.unwrap(), AnswerClaim::Ours, "all were given back");
    })
    .await;
}

#[tokio::test]
async fn callers_and_keys_are_told_apart() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        let colleague = Principal { key: KeyId::new(), ..who.clone() };
        let mixed = Principal { key: who.key.clone(), ..other.clone() };
        for caller in [&who, &other, &colleague, &mixed] {
            let mine = RequestId::new();
            let claim = claim_of(caller, &mine, 50);
            assert_eq!(store.answer_claim(claim.clone(), 0).await.unwrap(), AnswerClaim::Ours);
            let second =
                NewAnswerClaim { key: AnswerKey { idempotency_key: "K".into(), ..claim.key.clone() }, ..claim };
            assert_eq!(store.answer_claim(second, 0).await.unwrap(), AnswerClaim::Ours, "keys differ by case");
            keep(&store, key(caller), &mine, mine.as_str()).await;
        }
        for caller in [&who, &other, &colleague, &mixed] {
            let row = found(&store, caller).await;
            assert_eq!(row.answer.as_deref(), Some(row.request_id.as_str()));
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_kept_for_the_request_that_has_the_claim() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, request_of(&who)).await;
        assert_eq!(store.answer_claim(claim_of(&who, &id, 50), 0).await.unwrap(), AnswerClaim::Ours);
        assert_eq!(found(&store, &who).await.request_state.as_deref(), Some("open"));
        keep(&store, key(&who), &RequestId::new(), "somebody else's").await;
        assert_eq!(found(&store, &who).await.answer, None);

        settle(&store, &id).await.unwrap();
        keep(&store, key(&who), &id, "sealed").await;
        let row = found(&store, &who).await;
        assert_eq!((row.answer.as_deref(), row.amount_nanousd), (Some("sealed"), Some(Nanousd(11))));
        assert_eq!((row.request_id, row.request_state.as_deref()), (id, Some("settled")));
    })
    .await;
}

#[tokio::test]
async fn a_claim_is_taken_over_from_the_named_request_and_never_from_an_answer() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        let (dead, next) = (RequestId::new(), RequestId::new());
        assert_eq!(store.answer_claim(claim_of(&who, &dead, 50), 0).await.unwrap(), AnswerClaim::Ours);
        let new = NewAnswerClaim { gateway_id: "gateway-2".into(), ..claim_of(&who, &next, 60) };
        assert!(!store.answer_take_over(new.clone(), RequestId::new()).await.unwrap());
        assert!(!store.answer_take_over(claim_of(&other, &next, 60), dead.clone()).await.unwrap());

        let both = futures::future::join_all((0..2).map(|_| store.answer_take_over(new.clone(), dead.clone()))).await;
        assert_eq!(both.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1, "by one of two");
        let row = found(&store, &who).await;
        assert_eq!((&row.request_id, row.gateway_id.as_str(), row.created_at), (&next, "gateway-2", 60));

        keep(&store, key(&who), &next, "sealed").await;
        assert!(!store.answer_take_over(claim_of(&who, &RequestId::new(), 70), next).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_claim_is_given_back_by_its_own_request_and_an_answer_never() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        let id = RequestId::new();
        let claim = || claim_of(&who, &id, 50);
        assert_eq!(store.answer_claim(claim(), 0).await.unwrap(), AnswerClaim::Ours);
        store.answer_release(key(&who), RequestId::new()).await.unwrap();
        store.answer_release(key(&other), id.clone()).await.unwrap();
        assert_eq!(found(&store, &who).await.request_id, id);
        store.answer_release(key(&who), id.clone()).await.unwrap();
        assert_eq!(store.answer_claim(claim(), 0).await.unwrap(), AnswerClaim::Ours);
        keep(&store, key(&who), &id, "sealed").await;
        store.answer_release(key(&who), id.clone()).await.unwrap();
        assert_eq!(found(&store, &who).await.answer.as_deref(), Some("sealed"));
    })
    .await;
}

#[tokio::test]
async fn what_is_too_old_is_claimed_anew_and_forgotten() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        for caller in [&who, &other] {
            let id = RequestId::new();
            assert_eq!(store.answer_claim(claim_of(caller, &id, 50), 0).await.unwrap(), AnswerClaim::Ours);
            keep(&store, key(caller), &id, "sealed").await;
        }
        let new = || claim_of(&who, &RequestId::new(), 90);
        assert!(matches!(store.answer_claim(new(), 49).await.unwrap(), AnswerClaim::Taken(_)));
        assert_eq!(store.answer_claim(new(), 50).await.unwrap(), AnswerClaim::Ours);
        assert_eq!(found(&store, &who).await.answer, None, "the old answer is gone");

        assert_eq!(store.answers_forget(49).await.unwrap(), 0);
        assert_eq!(store.answers_forget(50).await.unwrap(), 1, "the other's");
        assert_eq!(store.answers_forget(90).await.unwrap(), 1);
        assert_eq!(store.answers_forget(90).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn no_answer_without_its_price_in_the_database_itself() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        assert_eq!(store.answer_claim(claim_of(&who, &RequestId::new(), 50), 0).await.unwrap(), AnswerClaim::Ours);
        execute(&store, "UPDATE kept_answers SET answer = 'sealed', amount_nanousd = 1").await;
        let broken = tokio::spawn({
            let store = store.clone();
            async move { execute(&store, "UPDATE kept_answers SET amount_nanousd = NULL").await }
        });
        assert!(broken.await.is_err());
        assert_eq!(found(&store, &who).await.amount_nanousd, Some(Nanousd(1)));
    })
    .await;
}
