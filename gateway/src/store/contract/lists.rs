//! Lists of requests and audit entries, and sums of usage.

use super::requests::{opened, settle};
use super::{create_tenant, request_of};
use crate::id::{KeyId, ProjectId, RequestId, TenantId};
use crate::money::Nanousd;
use crate::store::testing::{Fixture, execute, on_both_engines, principal};
use crate::store::*;

/// An id that was made at a second, `n` of those.
fn id(second: i64, n: u8) -> RequestId {
    RequestId::parse(&format!("{}7{n:019x}", RequestId::lower_bound(second * 1_000_000))).unwrap()
}

fn all() -> RequestFilter {
    RequestFilter { to: i64::MAX, ..RequestFilter::default() }
}

#[tokio::test]
async fn a_tenants_requests_are_listed_newest_first_between_two_ids_and_two_times() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        for second in 1..=5 {
            let new = request_of(&who);
            opened(&store, NewRequest { id: id(second, 0), accepted_at: second * 10, ..new }).await;
            let new = request_of(&other);
            opened(&store, NewRequest { id: id(second, 1), accepted_at: second * 10, ..new }).await;
        }
        let seconds = async |filter: RequestFilter, above: String, below: String, limit: i64| {
            let rows = store.requests_of_tenant(&who.tenant, &filter, (above, below), limit).await.unwrap();
            rows.into_iter().map(|row| row.accepted_at / 10).collect::<Vec<_>>()
        };
        let bound = |second: i64| RequestId::lower_bound(second * 1_000_000);
        assert_eq!(seconds(all(), bound(0), bound(99), 9).await, [5, 4, 3, 2, 1]);
        assert_eq!(seconds(all(), bound(0), bound(99), 2).await, [5, 4]);
        assert_eq!(seconds(all(), bound(2), bound(5), 9).await, [4, 3, 2]);
        assert_eq!(seconds(all(), bound(0), id(4, 0).to_string(), 9).await, [3, 2, 1], "neither end is included");
        assert_eq!(seconds(all(), id(1, 0).to_string(), bound(4), 9).await, [3, 2]);
        let between = RequestFilter { from: 20, to: 40, ..all() };
        assert_eq!(seconds(between, bound(0), bound(99), 9).await, [3, 2]);
    })
    .await;
}

#[tokio::test]
async fn each_filter_of_requests_narrows_and_a_row_has_its_tokens_and_its_amount() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (tenant, project) = (who.tenant.clone(), ProjectId::new());
        let made = project.clone();
        let work =
            store.transaction(move |tx| Box::pin(async move { tx.project_create(&tenant, &made, "two", 1).await }));
        assert!(work.await.unwrap());
        let key = KeyId::new();
        let new = |n: u8| NewRequest { id: id(i64::from(n), 0), ..request_of(&who) };
        opened(&store, new(1)).await;
        opened(&store, NewRequest { project_id: project.clone(), ..new(2) }).await;
        opened(&store, NewRequest { key_id: key.clone(), ..new(3) }).await;
        opened(&store, NewRequest { model: "other".into(), ..new(4) }).await;
        opened(&store, NewRequest { dialect: "bedrock_converse", ..new(5) }).await;
        settle(&store, &opened(&store, new(6)).await).await.unwrap();

        let list = async |filter: RequestFilter| {
            let bounds = (RequestId::lower_bound(0), RequestId::lower_bound(99_000_000));
            store.requests_of_tenant(&who.tenant, &filter, bounds, 9).await.unwrap()
        };
        let found = async |filter: RequestFilter| list(filter).await.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(found(RequestFilter { project: Some(project), ..all() }).await, [id(2, 0)]);
        assert_eq!(found(RequestFilter { key: Some(key), ..all() }).await, [id(3, 0)]);
        assert_eq!(found(RequestFilter { model: Some("other".into()), ..all() }).await, [id(4, 0)]);
        assert_eq!(found(RequestFilter { dialect: Some("bedrock_converse"), ..all() }).await, [id(5, 0)]);
        assert_eq!(found(RequestFilter { state: Some("settled"), ..all() }).await, [id(6, 0)]);
        assert_eq!(found(RequestFilter { state: Some("open"), ..all() }).await.len(), 5);
        assert_eq!(found(RequestFilter { outcome: Some("completed"), ..all() }).await, [id(6, 0)]);
        assert_eq!(found(RequestFilter { outcome: Some("failed"), ..all() }).await, []);

        let rows = list(all()).await;
        let counts = |row: &RequestListRow| (row.input_tokens, row.output_tokens, row.amount_nanousd, row.settled_at);
        assert_eq!(counts(&rows[0]), (1 + 2 + 4, 8 + 16, Some(Nanousd(11)), Some(60)));
        assert_eq!(counts(&rows[5]), (7, 0, None, None));
        assert_eq!((rows[0].outcome.as_deref(), rows[5].outcome.as_deref()), (Some("completed"), None));
    })
    .await;
}

#[tokio::test]
async fn a_request_is_shown_to_its_own_tenant_and_to_the_operator() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let id = opened(&store, request_of(&who)).await;
        assert_eq!(store.request(Some(&who.tenant), &id).await.unwrap().unwrap().id, id);
        assert_eq!(store.request(None, &id).await.unwrap().unwrap().id, id);
        assert_eq!(store.request(Some(&TenantId::new()), &id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn usage_is_summed_by_what_is_asked_after_a_total_of_all() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "other").await);
        for model in ["a", "a", "b"] {
            let new = NewRequest { model: model.into(), ..request_of(&who) };
            settle(&store, &opened(&store, new).await).await.unwrap();
        }
        settle(&store, &opened(&store, request_of(&other)).await).await.unwrap();
        opened(&store, request_of(&who)).await;
        let filter = UsageFilter {
            from: 60,
            to: 61,
            project: None,
            key: None,
            model: None,
            by_project: false,
            by_key: false,
            by_model: true,
            bucket_us: 50,
        };
        let start = UsageGroup::before_all();
        let sums = |group: &UsageGroup, requests: u64| UsageRow {
            group: group.clone(),
            requests,
            input_tokens: requests,
            cache_read_tokens: 2 * requests,
            cache_write_tokens: 4 * requests,
            output_tokens: 8 * requests,
            reasoning_tokens: 16 * requests,
            amount_nanousd: Nanousd(11 * i64::try_from(requests).unwrap()),
        };
        let group = |model: &str| UsageGroup { bucket: 50, model: model.into(), ..UsageGroup::before_all() };
        let (a, b) = (group("a"), group("b"));
        let ask = async |filter: &UsageFilter, after: &UsageGroup, limit: i64| {
            store.usage(&who.tenant, filter, after, limit).await.unwrap()
        };
        assert_eq!(ask(&filter, &start, 9).await, [sums(&start, 3), sums(&a, 2), sums(&b, 1)]);
        assert_eq!(ask(&filter, &start, 1).await, [sums(&start, 3), sums(&a, 2)]);
        assert_eq!(ask(&filter, &a, 9).await, [sums(&start, 3), sums(&b, 1)]);
        assert_eq!(ask(&filter, &b, 9).await, [sums(&start, 3)]);
        assert_eq!(
            ask(&UsageFilter { model: Some("b".into()), ..filter.clone() }, &start, 9).await[0],
            sums(&start, 1)
        );
        for (from, to) in [(61, 99), (0, 60)] {
            assert_eq!(ask(&UsageFilter { from, to, ..filter.clone() }, &start, 9).await, [sums(&start, 0)]);
        }
        let all = UsageGroup { bucket: 0, ..UsageGroup::before_all() };
        let one = UsageFilter { by_model: false, bucket_us: i64::MAX, ..filter };
        assert_eq!(ask(&one, &start, 9).await, [sums(&start, 3), sums(&all, 3)]);
    })
    .await;
}

fn entry(seq: i64, tenant: Option<&TenantId>) -> NewAuditEntry {
    NewAuditEntry {
        seq,
        at: seq * 10,
        tenant_id: tenant.cloned(),
        action: format!("action {seq}"),
        target_kind: format!("kind {seq}"),
        target_id: format!("target {seq}"),
        author_id: format!("author {seq}"),
        record: format!("record {seq}"),
        digest: format!("digest {seq}"),
        seal: format!("seal {seq}"),
    }
}

#[tokio::test]
async fn audit_entries_are_listed_newest_first_for_all_or_for_one_tenant_and_each_filter_narrows() {
    on_both_engines(|Fixture { store, .. }| async move {
        let tenant = create_tenant(&store, "acme").await.unwrap();
        for seq in 1..=4 {
            let new = entry(seq, (seq % 2 == 0).then_some(&tenant));
            store.transaction(move |tx| Box::pin(async move { tx.audit_append(&new).await })).await.unwrap();
        }
        let seqs = async |tenant: Option<&TenantId>, filter: AuditFilter, before: i64, limit: i64| {
            let rows = store.audit_entries(tenant, &filter, before, limit).await.unwrap();
            rows.into_iter().map(|row| row.seq).collect::<Vec<_>>()
        };
        let none = AuditFilter::default;
        assert_eq!(seqs(None, none(), i64::MAX, 9).await, [4, 3, 2, 1]);
        assert_eq!(seqs(None, none(), 4, 2).await, [3, 2]);
        assert_eq!(seqs(Some(&tenant), none(), i64::MAX, 9).await, [4, 2]);
        assert!(seqs(Some(&TenantId::new()), none(), i64::MAX, 9).await.is_empty());
        let two = |text: &str| Some(format!("{text} 2"));
        for filter in [
            AuditFilter { action: two("action"), ..none() },
            AuditFilter { target_kind: two("kind"), ..none() },
            AuditFilter { target_id: two("target"), ..none() },
            AuditFilter { author_id: two("author"), ..none() },
            AuditFilter { from: Some(20), to: Some(30), ..none() },
        ] {
            assert_eq!(seqs(None, filter.clone(), i64::MAX, 9).await, [2], "{filter:?}");
        }
        assert_eq!(seqs(None, AuditFilter { from: Some(21), ..none() }, i64::MAX, 9).await, [4, 3]);
    })
    .await;
}

#[tokio::test]
async fn audit_rows_come_oldest_first_as_they_are_and_the_end_says_what_it_does_not_cover() {
    on_both_engines(|Fixture { store, .. }| async move {
        let end = |seq, digest: &str, strays| Some(AuditEndRow { seq, digest: digest.into(), strays });
        assert_eq!(store.audit_end().await.unwrap(), end(0, "", 0));
        for seq in 1..=4 {
            let new = entry(seq, None);
            store.transaction(move |tx| Box::pin(async move { tx.audit_append(&new).await })).await.unwrap();
        }
        let rows = store.audit_rows(1, 3, 9).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
        let row = &rows[0];
        assert_eq!((row.at, row.tenant_id.as_deref(), row.action.as_str()), (20, None, "action 2"));
        assert_eq!((row.target_kind.as_str(), row.target_id.as_str()), ("kind 2", "target 2"));
        assert_eq!((row.author_id.as_str(), row.record.as_str()), ("author 2", "record 2"));
        assert_eq!((row.digest.as_str(), row.seal.as_str()), ("digest 2", "seal 2"));
        assert_eq!(store.audit_rows(0, i64::MAX, 1).await.unwrap().len(), 1);
        assert_eq!(store.audit_end().await.unwrap(), end(4, "digest 4", 0));
        execute(&store, "UPDATE audit_head SET seq = 2").await;
        assert_eq!(store.audit_end().await.unwrap(), end(2, "digest 4", 2));
        execute(&store, "DELETE FROM audit_head").await;
        assert_eq!(store.audit_end().await.unwrap(), None);
    })
    .await;
}
