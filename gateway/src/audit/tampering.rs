//! Somebody changes the log with SQL, past the gateway: every such change is found, on both engines.

use super::*;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::testing::{Fixture, execute, on_both_engines};
use futures::TryStreamExt;
use std::sync::Arc;

const ENTRIES: i64 = 230;
const DIGEST_OF_3: &str = "(SELECT digest FROM (SELECT * FROM audit_log) a WHERE a.seq = 3)";

/// A log of more than one batch.
async fn log(Fixture { store, config }: Fixture) -> (Store, Arc<Secrets>) {
    let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
    let author = Author::command("test");
    for n in 0..ENTRIES {
        let change = Change { store: &store, secrets: &secrets, now: n, author: &author, once: None };
        let tenant = (n % 2 == 0).then(crate::id::TenantId::new);
        let record = Record::new("model.update", tenant.as_ref(), ("model", "m")).after(&n);
        change.commit(move |_| Box::pin(async move { Ok(((), record)) })).await.unwrap();
    }
    (store, Arc::new(secrets))
}

/// The entries of an export, whose final line names them.
async fn exported(store: &Store, from: i64) -> Vec<Line> {
    let mut all: Vec<Exported> = export(store, from).await.unwrap().try_collect().await.unwrap();
    let Some(Exported::End(end)) = all.pop() else { panic!("no final line") };
    assert_eq!(end.entries, all.len() as u64);
    let only = |line| match line {
        Exported::Entry(line) => line,
        Exported::End(_) => panic!("a final line in the midst"),
    };
    all.into_iter().map(only).collect()
}

#[tokio::test]
async fn a_log_that_nobody_touched_is_whole_and_its_export_says_the_same() {
    on_both_engines(|fixture| async move {
        let (store, secrets) = log(fixture).await;
        let walked = verify(&store, &secrets, None).await.unwrap();
        assert_eq!((walked.entries, walked.first_bad), (ENTRIES as u64, None));

        let lines = exported(&store, 1).await;
        let mut walk = Walk::of_digests(true);
        lines.iter().for_each(|line| walk.line(line));
        assert_eq!(walk.end(), walked);
        let part = exported(&store, 226).await;
        assert_eq!(part, lines[225..]);
        let none = exported(&store, 900).await;
        assert_eq!(none, []);
    })
    .await;
}

#[tokio::test]
async fn every_change_made_past_the_gateway_is_found_and_named() {
    on_both_engines(|fixture| async move {
        let is_sqlite = fixture.config.store.url.is_none();
        let (store, secrets) = log(fixture).await;
        let seen = verify(&store, &secrets, None).await.unwrap().last;
        // Kept aside, so that each tampering begins with the log as it was.
        execute(
            &store,
            "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head",
        )
        .await;
        let at = |seq, fault| Some(Finding { seq, fault });
        let set_back =
            format!("DELETE FROM audit_log WHERE seq > 3; UPDATE audit_head SET seq = 3, digest = {DIGEST_OF_3}");
        let mut cases = vec![
            ("UPDATE audit_log SET at = at + 1 WHERE seq = 201", at(201, Fault::Column("at"))),
            ("UPDATE audit_log SET tenant_id = 'ten_other' WHERE seq = 4", at(4, Fault::Column("tenant_id"))),
            ("UPDATE audit_log SET tenant_id = NULL WHERE seq = 5", at(5, Fault::Column("tenant_id"))),
            ("UPDATE audit_log SET action = 'x' WHERE seq = 6", at(6, Fault::Column("action"))),
            ("UPDATE audit_log SET target_kind = 'x' WHERE seq = 6", at(6, Fault::Column("target_kind"))),
            ("UPDATE audit_log SET target_id = 'x' WHERE seq = 6", at(6, Fault::Column("target_id"))),
            ("UPDATE audit_log SET author_id = 'x' WHERE seq = 6", at(6, Fault::Column("author_id"))),
            ("UPDATE audit_log SET record = record || ' ' WHERE seq = 7", at(7, Fault::Digest)),
            ("UPDATE audit_log SET digest = 'x' WHERE seq = 8", at(8, Fault::Digest)),
            ("UPDATE audit_log SET seal = 'v1.00' WHERE seq = 9", at(9, Fault::Seal)),
            ("UPDATE audit_log SET seal = 'v9.00' WHERE seq = 9", at(9, Fault::UnknownKey(9))),
            ("UPDATE audit_log SET seq = 900 WHERE seq = 10", at(10, Fault::Missing)),
            ("DELETE FROM audit_log WHERE seq = 11", at(11, Fault::Missing)),
            ("DELETE FROM audit_log WHERE seq > 202", at(203, Fault::CutOff)),
            ("DELETE FROM audit_log; UPDATE audit_head SET seq = 0, digest = ''", at(1, Fault::CutOff)),
            (&set_back, at(4, Fault::CutOff)),
            ("UPDATE audit_head SET digest = 'x'", at(ENTRIES, Fault::End)),
            ("DELETE FROM audit_head", at(ENTRIES, Fault::End)),
            (
                "UPDATE audit_log SET record = (SELECT record FROM kept WHERE kept.seq = 25 - audit_log.seq)
                 WHERE seq IN (12, 13)",
                at(12, Fault::Digest),
            ),
            (
                "INSERT INTO audit_log SELECT 231, at, tenant_id, action, target_kind, target_id, author_id, record,
                 digest, seal FROM kept WHERE seq = 3",
                at(231, Fault::Beyond),
            ),
        ];
        if is_sqlite {
            // It would store any type in any column.
            cases.push(("UPDATE audit_log SET at = 'never' WHERE seq = 20", at(20, Fault::Column("at"))));
            cases.push(("UPDATE audit_log SET seq = 'never' WHERE seq = 21", at(21, Fault::Missing)));
            cases.push(("UPDATE audit_log SET record = x'7b7d' WHERE seq = 22", at(22, Fault::Digest)));
        }
        for (sql, finding) in cases {
            execute(&store, sql).await;
            let walked = verify(&store, &secrets, Some(seen.clone())).await.unwrap();
            assert_eq!(walked.first_bad, finding, "{sql}");
            execute(
                &store,
                "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept;
                 DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head",
            )
            .await;
            assert_eq!(verify(&store, &secrets, Some(seen.clone())).await.unwrap().first_bad, None, "{sql}");
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_computes_all_digests_anew_lacks_the_key_of_the_seals() {
    on_both_engines(|fixture| async move {
        let (store, secrets) = log(fixture).await;
        let rows = store.audit_rows(0, ENTRIES, ENTRIES).await.unwrap();
        let mut before = rows[99].digest.clone();
        for row in &rows[100..] {
            let record = row.record.replace("model.update", "model.delete");
            let digest = super::chain::digest(&before, &record);
            execute(
                &store,
                format!(
                    "UPDATE audit_log SET record = '{record}', action = 'model.delete', digest = '{digest}' WHERE seq = {}",
                    row.seq
                ),
            )
            .await;
            before = digest;
        }
        execute(&store, format!("UPDATE audit_head SET digest = '{before}'")).await;
        let lines = exported(&store, 1).await;
        let mut walk = Walk::of_digests(true);
        lines.iter().for_each(|line| walk.line(line));
        assert_eq!(walk.end().first_bad, None, "digests alone can't tell");
        let walked = verify(&store, &secrets, None).await.unwrap();
        assert_eq!(walked.first_bad, Some(Finding { seq: 101, fault: Fault::Seal }));
    })
    .await;
}

#[tokio::test]
async fn a_log_that_grows_while_it_is_verified_is_whole() {
    on_both_engines(|fixture| async move {
        let (store, secrets) = log(fixture).await;
        let author = Author::command("test");
        let grow = async {
            for n in 0..40 {
                let change = Change { store: &store, secrets: &secrets, now: n, author: &author, once: None };
                let record = Record::new("model.update", None, ("model", "m"));
                change.commit(move |_| Box::pin(async move { Ok(((), record)) })).await.unwrap();
            }
        };
        let look = async {
            for _ in 0..5 {
                assert_eq!(verify(&store, &secrets, None).await.unwrap().first_bad, None);
            }
        };
        futures::join!(grow, look);
    })
    .await;
}
