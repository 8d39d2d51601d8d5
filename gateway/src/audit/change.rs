//! A change: made, recorded and, if asked for, remembered under the caller's idempotency key, in one transaction.

use super::{Author, Sealer};
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::secrets::Secrets;
use crate::store::{NewAuditEntry, NewIdempotentReply, Store, Tx};
use crate::tenants::caps;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// One change that is about to be made.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// Where.
    pub store: &'a Store,
    /// Seal and digest what must not be read.
    pub secrets: &'a Secrets,
    /// When, µs since 1970: one time for all that it touches.
    pub now: Micros,
    /// By whom.
    pub author: &'a Author,
    /// Set when the caller gave an idempotency key.
    pub once: Option<Arc<Once>>,
}

/// A creating call that must be carried out once, and its reply.
#[derive(Debug, Clone)]
pub struct Once {
    /// Whose keys these are: the credential's id.
    pub caller: String,
    /// As the caller gave it.
    pub key: String,
    /// Digest of method, path and body.
    pub request: String,
    /// The reply's body, sealed: it may hold a secret.
    pub reply: String,
}

/// What is changed, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `project.create`: what is changed, then what is done.
    pub action: String,
    /// Whose it is; `None`: the platform's.
    #[serde(rename = "tenant_id", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What is changed.
    pub target: Target,
    /// As it was; `None` for something new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// As it is now; `None` for something that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Set when one of the two has no JSON: then nothing is changed, for the log would not say what.
    #[serde(skip)]
    unwritable: Option<String>,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `tenant`, `project`, `api_key` …
    pub kind: String,
    /// Its public id.
    pub id: String,
}

/// A record with its place, as the log keeps it.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    seq: i64,
    at: Micros,
    author: &'a Author,
    #[serde(flatten)]
    record: &'a Record,
}

impl Record {
    /// Of something made, changed or removed. Neither text may hold a secret.
    pub fn new(action: &str, tenant: Option<&TenantId>, target: (&str, &str)) -> Record {
        Record {
            action: action.to_owned(),
            tenant: tenant.cloned(),
            target: Target { kind: target.0.to_owned(), id: target.1.to_owned() },
            before: None,
            after: None,
            unwritable: None,
        }
    }

    /// As it was.
    pub fn before(mut self, before: &impl Serialize) -> Record {
        self.before = self.value(before);
        self
    }

    /// As it is now.
    pub fn after(mut self, after: &impl Serialize) -> Record {
        self.after = self.value(after);
        self
    }

    /// Whether it takes away for good: that is never a matter of pace, or whoever stole a key could keep the tenant busy and
    /// itself alive.
    fn only_ends(&self) -> bool {
        [".revoke", ".delete"].iter().any(|end| self.action.ends_with(end))
    }

    fn value(&mut self, of: &impl Serialize) -> Option<Value> {
        let value = serde_json::to_value(of);
        value.map_err(|error| self.unwritable = Some(error.to_string())).ok()
    }
}

impl Change<'_> {
    /// Runs `work` and appends the record that it returns, in one transaction. An error undoes all of it. `None` in place
    /// of a record says that nothing was changed: then nothing is logged either.
    ///
    /// # Errors
    /// Those of `work` and of the store; `Conflict` when the idempotency key was used in the meantime; `QuotaExceeded`
    /// when a tenant changes too much in a minute, unless it revokes or deletes.
    pub async fn commit<T: Send + 'static, R: Into<Option<Record>> + Send>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<(T, R)>> + Send + 'static,
    ) -> Result<T> {
        let (author, now, once) = (self.author.clone(), self.now, self.once.clone());
        let sealer = Sealer::new(self.secrets);
        self.store
            .transaction_in_turn(move |tx| {
                Box::pin(async move {
                    // First: of two calls with one key the second waits here, and is then told.
                    if let Some(once) = &once {
                        tx.idempotent_reply_insert(&NewIdempotentReply::new(once, now)).await?;
                    }
                    if let Some(tenant) = &author.tenant_id {
                        tx.tenant_lock(tenant).await?;
                    }
                    let (value, record) = work(tx).await?;
                    if let Some(record) = record.into() {
                        if let Some(tenant) = author.tenant_id.as_ref().filter(|_| !record.only_ends()) {
                            caps::within_pace(tx, tenant, now).await?;
                        }
                        append(tx, &sealer, &author, now, &record).await?;
                    }
                    Ok(value)
                })
            })
            .await
    }
}

/// A record of which a part can't be written.
#[derive(Debug, thiserror::Error)]
#[error("the record of {0} can't be written: {1}")]
struct Unwritable(String, String);

/// Takes the chain's end, which whoever comes next waits for, and adds to it.
async fn append(tx: &mut Tx, sealer: &Sealer, author: &Author, now: Micros, record: &Record) -> Result<()> {
    if let Some(error) = &record.unwritable {
        return Err(Error::internal(Unwritable(record.action.clone(), error.clone())));
    }
    let head = tx.audit_head_lock().await?;
    let seq = head.seq + 1;
    let text = serde_json::to_string(&Entry { seq, at: now, author, record }).map_err(Error::internal)?;
    let link = sealer.link(seq, &head.digest, &text);
    tx.audit_append(&NewAuditEntry {
        seq,
        at: now,
        tenant_id: record.tenant.clone(),
        action: record.action.clone(),
        target_kind: record.target.kind.clone(),
        target_id: record.target.id.clone(),
        author_id: author.id.clone(),
        record: text,
        digest: link.digest,
        seal: link.seal,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::testing::{Fixture, sqlite};
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_change_whose_record_can_not_be_written_is_not_made() {
        let (Fixture { store, config }, _dir) = sqlite().await;
        let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
        let author = Author::command("test");
        // JSON has only texts as keys.
        let unwritable = BTreeMap::from([((1, 2), 3)]);
        for record in [
            Record::new("tenant.create", None, ("tenant", "t")).after(&unwritable),
            Record::new("tenant.create", None, ("tenant", "t")).before(&unwritable).after(&1),
        ] {
            let change = Change { store: &store, secrets: &secrets, now: 1, author: &author, once: None };
            let id = TenantId::new();
            let made = id.clone();
            let work = change.commit(move |tx| {
                Box::pin(async move {
                    tx.tenant_create(&made, "acme", crate::quota::Limits::default(), 1).await?;
                    Ok(((), record))
                })
            });
            let error = work.await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Internal);
            assert!(error.cause().unwrap().to_string().contains("tenant.create"), "{error:?}");
            assert_eq!(store.tenant(&id).await.unwrap(), None);
        }
        assert_eq!(store.audit_head().await.unwrap().seq, 0);
    }
}
