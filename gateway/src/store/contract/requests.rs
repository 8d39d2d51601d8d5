//! Requests, usage records and the ledger.

use super::request_of;
use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::id::{KeyId, LedgerEntryId, ProjectId, RequestId, TenantId};
use crate::money::Nanousd;
use crate::store::testing::{Fixture, on_both_engines, principal};
use crate::store::*;

pub(super) async fn opened(store: &Store, new: NewRequest) -> RequestId {
    let id = new.id.clone();
    assert!(store.request_open(new).await.unwrap());
    id
}

pub(super) async fn settle(store: &Store, id: &RequestId) -> Option<SettledRow> {
    let id = id.clone();
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let Some(row) = tx.request_settle(&id, "completed", "{}", 60).await? else { return Ok(None) };
            tx.usage_append(&usage_of(&id, &row)).await?;
            tx.ledger_append(&entry_of(&id, &row)).await?;
            Ok(Some(row))
        })
    });
    work.await.unwrap()
}

fn usage_of(id: &RequestId, row: &SettledRow) -> NewUsage {
    NewUsage {
        request_id: id.clone(),
        tenant_id: row.tenant_id.clone(),
        project_id: row.project_id.clone(),
        key_id: row.key_id.clone(),
        model: row.model.clone(),
        input_tokens: 1,
        cache_read_tokens: 2,
        cache_write_tokens: 4,
        output_tokens: 8,
        reasoning_tokens: 16,
        created_at: 60,
    }
}

fn entry_of(id: &RequestId, row: &SettledRow) -> NewLedgerEntry {
    NewLedgerEntry {
        id: LedgerEntryId::new(),
        request_id: id.clone(),
        tenant_id: row.tenant_id.clone(),
        project_id: row.project_id.clone(),
        kind: "inference",
        amount_nanousd: Nanousd(11),
        price: row.price.clone(),
        created_at: 60,
    }
}

#[tokio::test]
async fn a_request_is_opened_once_and_only_for_a_project_of_its_tenant() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        let new = request_of(&who);
        assert!(store.request_open(new.clone()).await.unwrap());
        assert_eq!(store.request_open(new.clone()).await.unwrap_err().kind, ErrorKind::Conflict);
        let mixed = NewRequest { id: RequestId::new(), project_id: other.project, ..new.clone() };
        assert!(!store.request_open(mixed).await.unwrap());

        let row = store.request(None, &new.id).await.unwrap().unwrap();
        assert_eq!((&row.tenant_id, &row.project_id, &row.key_id), (&who.tenant, &who.project, &who.key));
        assert_eq!(
            (row.dialect.as_str(), row.model_asked.as_str(), row.model.as_str()),
            ("openai_chat", "asked", "model")
        );
        assert_eq!((row.state.as_str(), row.outcome, row.detail, row.settled_at), ("open", None, None, None));
        assert_eq!((row.input_tokens, row.output_tokens, row.accepted_at, row.attempt), (7, 0, 50, 0));
        assert_eq!((row.decode_worker, row.entry_id), (None, None));
        assert_eq!(store.request(None, &RequestId::new()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_worker_is_noted_while_open_and_never_an_earlier_attempt() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, request_of(&who)).await;
        assert!(store.request_note_worker(&id, "decode-1", 1).await.unwrap());
        assert!(store.request_note_worker(&id, "decode-2", 2).await.unwrap());
        assert!(!store.request_note_worker(&id, "decode-1", 1).await.unwrap());
        let row = store.request(None, &id).await.unwrap().unwrap();
        assert_eq!((row.decode_worker.as_deref(), row.attempt), (Some("decode-2"), 2));
        settle(&store, &id).await.unwrap();
        assert!(!store.request_note_worker(&id, "decode-3", 3).await.unwrap());
        assert!(!store.request_note_worker(&RequestId::new(), "decode-3", 3).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn recovery_finds_open_requests_by_gateway_and_by_lease_in_bounded_batches() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let mut mine = Vec::new();
        for lease_until in [300, 200, 100] {
            mine.push(opened(&store, NewRequest { lease_until, ..request_of(&who) }).await);
        }
        let theirs = NewRequest { gateway_id: "gateway-2".into(), lease_until: 50, ..request_of(&who) };
        let theirs = opened(&store, theirs).await;
        settle(&store, &opened(&store, request_of(&who)).await).await.unwrap();
        assert!(store.request_note_worker(&mine[0], "decode-1", 1).await.unwrap());

        let rows = store.requests_open("gateway-1", None).await.unwrap();
        assert_eq!(rows.iter().map(|row| &row.id).collect::<Vec<_>>(), mine.iter().collect::<Vec<_>>());
        let first = OpenRow {
            id: mine[0].clone(),
            tenant_id: who.tenant.clone(),
            model: "model".into(),
            gateway_id: "gateway-1".into(),
            decode_worker: Some("decode-1".into()),
            attempt: 1,
            input_tokens: 7,
            max_output_tokens: 9,
            accepted_at: 50,
            lease_until: 300,
        };
        assert_eq!(rows[0], first);
        let rest = store.requests_open("gateway-1", Some(&mine[0])).await.unwrap();
        assert_eq!(rest.len(), 2);
        assert!(store.requests_open("gateway-1", Some(&mine[2])).await.unwrap().is_empty());

        let expired = |now| {
            let store = store.clone();
            async move { store.requests_expired(now).await.unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>() }
        };
        assert_eq!(expired(50).await, []);
        assert_eq!(expired(201).await, [theirs.clone(), mine[2].clone(), mine[1].clone()]);
        assert_eq!(store.requests_renew("gateway-1", 250).await.unwrap(), 2, "a lease never moves back");
        assert_eq!(store.requests_renew("nobody", 999).await.unwrap(), 0);
        assert_eq!(expired(201).await, std::slice::from_ref(&theirs));
        assert_eq!(expired(301).await[0], theirs);
    })
    .await;
}

#[tokio::test]
async fn what_a_gateway_admitted_lately_is_counted_by_key_and_second() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        let second_key = Principal { key: KeyId::new(), ..who.clone() };
        let second_project = Principal { project: ProjectId::new(), key: KeyId::new(), ..who.clone() };
        let (tenant, project) = (who.tenant.clone(), second_project.project.clone());
        let made = store
            .transaction(move |tx| Box::pin(async move { tx.project_create(&tenant, &project, "second", 1).await }));
        assert!(made.await.unwrap());
        let at = |who, accepted_at| NewRequest { accepted_at, ..request_of(who) };
        settle(&store, &opened(&store, at(&who, 5_000_000)).await).await.unwrap();
        opened(&store, at(&who, 5_999_999)).await;
        opened(&store, at(&who, 6_000_000)).await;
        opened(&store, at(&who, 4_999_999)).await;
        opened(&store, NewRequest { gateway_id: "gateway-2".into(), ..at(&who, 5_000_000) }).await;
        opened(&store, at(&second_key, 5_000_000)).await;
        opened(&store, at(&second_project, 5_000_000)).await;
        opened(&store, at(&other, 6_000_000)).await;

        let admitted = |since, after| {
            let store = store.clone();
            async move { store.requests_admitted("gateway-1", since, after).await.unwrap() }
        };
        let row = |who: &Principal, second, requests, tokens| AdmittedRow {
            tenant_id: who.tenant.clone(),
            project_id: who.project.clone(),
            key_id: who.key.clone(),
            second,
            requests,
            tokens,
        };
        let (used, held) = (1 + 2 + 4 + 8 + 16, 7 + 9);
        let mut expected = [
            row(&who, 5, 2, used + held),
            row(&who, 6, 1, held),
            row(&second_key, 5, 1, held),
            row(&second_project, 5, 1, held),
            row(&other, 6, 1, held),
        ];
        let mut rows = admitted(5_000_000, RequestId::lower_bound(0)).await;
        let order = |row: &AdmittedRow| (row.key_id.to_string(), row.second);
        rows.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(rows, expected);
        assert_eq!(admitted(0, RequestId::lower_bound(Clock::System.now() + 1_000_000)).await, []);
        let before = RequestId::lower_bound(Clock::System.now() - 60_000_000);
        assert_eq!(admitted(5_000_000, before).await.len(), expected.len());
    })
    .await;
}

#[tokio::test]
async fn a_request_is_settled_by_exactly_one_of_many() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, request_of(&who)).await;
        let all = futures::future::join_all((0..40).map(|_| settle(&store, &id))).await;
        let won: Vec<SettledRow> = all.into_iter().flatten().collect();
        let expected = SettledRow {
            tenant_id: who.tenant.clone(),
            project_id: who.project.clone(),
            key_id: who.key.clone(),
            model: "model".into(),
            price: r#"{"opaque":"to SQL"}"#.into(),
        };
        assert_eq!(won, [expected]);

        let row = store.request(None, &id).await.unwrap().unwrap();
        assert_eq!(
            (row.state.as_str(), row.outcome.as_deref(), row.settled_at),
            ("settled", Some("completed"), Some(60))
        );
        assert_eq!((row.input_tokens, row.output_tokens), (1 + 2 + 4, 8 + 16));
        assert_eq!((row.detail.as_deref(), row.entry_amount), (Some("{}"), Some(Nanousd(11))));
        assert_eq!((row.entry_price.as_deref(), row.entry_created_at), (Some(r#"{"opaque":"to SQL"}"#), Some(60)));
        assert!(row.entry_id.is_some());
        assert_eq!(store.ledger_balance(&who.tenant).await.unwrap(), Nanousd(11));
        assert_eq!(store.ledger_balance(&TenantId::new()).await.unwrap(), Nanousd(0));
    })
    .await;
}

#[tokio::test]
async fn a_second_record_or_entry_for_a_request_is_refused_and_undoes_its_transaction() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (first, second) = (opened(&store, request_of(&who)).await, opened(&store, request_of(&who)).await);
        let row = settle(&store, &first).await.unwrap();
        let (id, usage) = (second.clone(), usage_of(&first, &row));
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                tx.request_settle(&id, "completed", "{}", 60).await?;
                tx.usage_append(&usage).await
            })
        });
        assert_eq!(work.await.unwrap_err().kind, ErrorKind::Conflict);
        let (id, entry) = (second.clone(), entry_of(&first, &row));
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                tx.request_settle(&id, "completed", "{}", 60).await?;
                tx.ledger_append(&entry).await
            })
        });
        assert_eq!(work.await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(store.request(None, &second).await.unwrap().unwrap().state, "open");

        let asked = first.clone();
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                Ok((tx.ledger_entry(&asked, "inference").await?, tx.ledger_entry(&second, "inference").await?))
            })
        });
        let (entry, none) = work.await.unwrap();
        let entry = entry.unwrap();
        assert_eq!((entry.request_id, entry.amount_nanousd, entry.created_at), (first, Nanousd(11), 60));
        assert_eq!(none, None);
    })
    .await;
}

#[tokio::test]
async fn negative_counts_and_amounts_are_refused_by_the_database_itself() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        assert!(store.request_open(NewRequest { input_tokens: -1, ..request_of(&who) }).await.is_err());
        let id = opened(&store, request_of(&who)).await;
        let row = settle(&store, &id).await.unwrap();
        let other = opened(&store, request_of(&who)).await;
        let usage = NewUsage { output_tokens: -1, ..usage_of(&other, &row) };
        assert!(store.transaction(move |tx| Box::pin(async move { tx.usage_append(&usage).await })).await.is_err());
        let entry = NewLedgerEntry { amount_nanousd: Nanousd(-1), ..entry_of(&other, &row) };
        assert!(store.transaction(move |tx| Box::pin(async move { tx.ledger_append(&entry).await })).await.is_err());
    })
    .await;
}
