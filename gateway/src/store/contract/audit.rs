//! The audit log's rows, and replies kept for a repetition.

use super::create_tenant;
use crate::audit::Once;
use crate::error::ErrorKind;
use crate::store::testing::{Fixture, on_both_engines};
use crate::store::*;

fn entry(head: &AuditHeadRow) -> NewAuditEntry {
    NewAuditEntry {
        seq: head.seq + 1,
        at: 5,
        tenant_id: None,
        action: "model.update".into(),
        target_kind: "model".into(),
        target_id: "m".into(),
        author_id: "adm_x".into(),
        record: "{}".into(),
        digest: format!("digest {}", head.seq + 1),
        seal: "seal".into(),
    }
}

async fn append(store: &Store) -> i64 {
    let work = store.transaction(|tx| {
        Box::pin(async move {
            let head = tx.audit_head_lock().await?;
            tx.audit_append(&entry(&head)).await?;
            Ok(head.seq + 1)
        })
    });
    work.await.unwrap()
}

#[tokio::test]
async fn entries_are_numbered_without_gaps_whoever_appends_at_once() {
    on_both_engines(|Fixture { store, .. }| async move {
        assert_eq!(store.audit_head().await.unwrap(), AuditHeadRow { seq: 0, digest: String::new() });
        let mut numbers = futures::future::join_all((0..20).map(|_| append(&store))).await;
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        let mut follower = store.follower();
        let seen = follower.changes_from(18, 2).await.unwrap();
        assert_eq!(seen.iter().map(|row| row.seq).collect::<Vec<_>>(), [18, 19]);
        assert_eq!((seen[0].target_kind.as_str(), seen[0].target_id.as_str()), ("model", "m"));
        assert_eq!(seen[1].digest, "digest 19");
        assert!(follower.changes_from(21, 2).await.unwrap().is_empty());
        assert_eq!(follower.audit_head().await.unwrap(), store.audit_head().await.unwrap());
        assert_eq!(store.audit_head().await.unwrap(), AuditHeadRow { seq: 20, digest: "digest 20".into() });
    })
    .await;
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_entry_and_no_gap() {
    on_both_engines(|Fixture { store, .. }| async move {
        create_tenant(&store, "acme").await.unwrap();
        let failed = store.transaction(|tx| {
            Box::pin(async move {
                let head = tx.audit_head_lock().await?;
                tx.audit_append(&entry(&head)).await?;
                Err::<(), _>(crate::error::Error::new(ErrorKind::Invalid, "no"))
            })
        });
        assert!(failed.await.is_err());
        assert_eq!(append(&store).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_reply_is_kept_for_a_day_under_its_callers_key() {
    on_both_engines(|Fixture { store, .. }| async move {
        let once = |caller: &str, reply: &str| Once {
            caller: caller.into(),
            key: "k".into(),
            request: "r".into(),
            reply: reply.into(),
        };
        let keep = async |caller: &str, reply: &str, now: i64| {
            let new = NewIdempotentReply::new(&once(caller, reply), now);
            store.transaction(move |tx| Box::pin(async move { tx.idempotent_reply_insert(&new).await })).await
        };
        let kept = async |caller: &str, since: i64| {
            store.idempotent_reply(caller, "k", since).await.unwrap().map(|row| row.reply)
        };
        keep("a", "first", 100).await.unwrap();
        assert_eq!(keep("a", "second", 101).await.unwrap_err().kind, ErrorKind::Conflict);
        keep("b", "other", 100).await.unwrap();
        assert_eq!(kept("a", 99).await.as_deref(), Some("first"));
        assert_eq!(kept("a", 100).await, None, "too old");
        keep("a", "third", 100 + IDEMPOTENCY_US).await.unwrap();
        assert_eq!(kept("a", 99).await.as_deref(), Some("third"));
        assert_eq!(store.idempotent_replies_forget(100).await.unwrap(), 1);
        assert_eq!((kept("a", 99).await.as_deref(), kept("b", 0).await), (Some("third"), None));
    })
    .await;
}

#[tokio::test]
async fn a_poll_of_the_feed_that_is_given_up_spoils_no_later_one() {
    on_both_engines(|Fixture { store, .. }| async move {
        append(&store).await;
        let mut follower = store.follower();
        for turns in 0..40 {
            let given_up = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _ = follower.changes_from(1, 9) => {}
                () = given_up => {}
            }
            assert_eq!(follower.changes_from(1, 9).await.unwrap().len(), 1, "after {turns} turns");
        }
    })
    .await;
}

#[tokio::test]
async fn the_feed_is_read_while_every_connection_of_the_pools_is_busy() {
    on_both_engines(|Fixture { store, .. }| async move {
        append(&store).await;
        let (free, held) = (tokio::sync::Notify::new(), tokio::sync::Semaphore::new(0));
        let (free, held) = (std::sync::Arc::new(free), std::sync::Arc::new(held));
        let busy: Vec<_> = (0..8)
            .map(|_| {
                let (store, free, held) = (store.clone(), free.clone(), held.clone());
                tokio::spawn(async move {
                    let work = store.transaction(move |_| {
                        Box::pin(async move {
                            held.add_permits(1);
                            free.notified().await;
                            Ok(())
                        })
                    });
                    let _ = work.await; // some never get a connection
                })
            })
            .collect();
        let _one = held.acquire().await.unwrap();
        let mut follower = store.follower();
        let read = follower.changes_from(1, 9);
        let read = tokio::time::timeout(std::time::Duration::from_secs(3), read).await.expect("it waits for the pools");
        assert_eq!(read.unwrap().len(), 1);
        for task in &busy {
            task.abort();
        }
        free.notify_waiters();
    })
    .await;
}
