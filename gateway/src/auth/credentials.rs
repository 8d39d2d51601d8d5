//! Credentials in use: remembered for as long as the lease lasts, else read from the database.
//!
//! The promise: what was revoked, suspended or deleted is accepted nowhere later than a second after the reply to the
//! call that did it. Whatever is admitted was either read from the database after the caller's request came, or is
//! remembered under a fresh [`Lease`]. Only what may be used is remembered, never that something may not: so nobody
//! waits for a new key, and there is nothing to be filled with ids that don't exist.

use super::shelf::Shelf;
use super::{Affected, Lease};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AdminTokenId, KeyId, ServiceAccountId};
use crate::store::Store;
use crate::tenants::{AccessKeyId, KnownAccessKey, KnownAdminToken, KnownApiKey, KnownServiceAccount};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Most that is remembered of each kind.
const MOST: usize = 10_000;
/// What a caller waits whose credential can't be checked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a gateway knows of credentials in use.
#[derive(Debug)]
pub struct Credentials {
    lease: Lease,
    /// Counts what was forgotten.
    generation: AtomicU64,
    api_keys: Shelf<KnownApiKey>,
    access_keys: Shelf<KnownAccessKey>,
    admin_tokens: Shelf<KnownAdminToken>,
    service_accounts: Shelf<KnownServiceAccount>,
    metrics: Metrics,
}

/// When something was looked up: what was forgotten since may concern it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    generation: u64,
    at: Instant,
}

/// What was found, if anything, and when it was looked for.
pub type Found<T> = (Option<Arc<T>>, Seen);

/// Look-ups by where the answer came from. Clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    look_ups: Family<LookUpLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookUpLabels {
    source: &'static str,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics { look_ups: Family::default() };
        let help = "Look-ups of credentials, by where the answer came from; `none`: from nowhere";
        registry.register("credential_look_ups", help, metrics.look_ups.clone());
        metrics
    }

    fn looked_up(&self, source: &'static str) {
        self.look_ups.get_or_create(&LookUpLabels { source }).inc();
    }
}

impl Credentials {
    /// With nothing remembered and no lease.
    pub fn new(lease: Duration, metrics: &Metrics) -> Credentials {
        Credentials {
            lease: Lease::new(lease),
            generation: AtomicU64::new(0),
            api_keys: Shelf::new(MOST),
            access_keys: Shelf::new(MOST),
            admin_tokens: Shelf::new(MOST),
            service_accounts: Shelf::new(MOST),
            metrics: metrics.clone(),
        }
    }

    /// The lease on what is remembered; the feed renews it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// For something that is known now without a look-up.
    pub(crate) fn seen(&self) -> Seen {
        Seen { generation: self.generation.load(Ordering::SeqCst), at: Instant::now() }
    }

    /// Forgets all that depends on what changed.
    pub fn forget(&self, affected: &Affected) {
        // First this: a load that began before the change must find out, whether it ends before or after the removal.
        self.generation.fetch_add(1, Ordering::SeqCst);
        match affected {
            Affected::Key(id) => {
                self.api_keys.remove(id.as_str());
                self.access_keys.remove(id.as_str());
            }
            Affected::AdminToken(id) => self.admin_tokens.remove(id.as_str()),
            Affected::ServiceAccount(_) | Affected::Project(_) | Affected::Tenant(_) => {
                self.api_keys.retain(|known| !affected.concerns(&known.identity));
                self.access_keys.retain(|known| !affected.concerns(&known.identity));
                self.service_accounts.retain(|known| !affected.concerns(&known.identity));
            }
            Affected::Everything => {
                self.api_keys.clear();
                self.access_keys.clear();
                self.admin_tokens.clear();
                self.service_accounts.clear();
            }
        }
    }

    /// An API key that may be used.
    ///
    /// # Errors
    /// `Overloaded` when that can't be known at the moment; `Internal` for what only a mistake can have stored.
    pub async fn api_key(&self, store: &Store, id: &KeyId, now: Micros) -> Result<Found<KnownApiKey>> {
        let load = async { Ok(read(store.usable_api_key(id, now).await)?.map(|row| KnownApiKey::read(id, row))) };
        self.find(&self.api_keys, id.as_str(), load).await
    }

    /// A SigV4 access key that may be used.
    ///
    /// # Errors
    /// As [`Credentials::api_key`].
    pub async fn access_key(&self, store: &Store, id: AccessKeyId<'_>, now: Micros) -> Result<Found<KnownAccessKey>> {
        let key = id.id();
        let load =
            async { Ok(read(store.usable_access_key(&key, now).await)?.map(|row| KnownAccessKey::read(id, row))) };
        self.find(&self.access_keys, key.as_str(), load).await
    }

    /// An admin token that may be used.
    ///
    /// # Errors
    /// As [`Credentials::api_key`].
    pub async fn admin_token(&self, store: &Store, id: &AdminTokenId, now: Micros) -> Result<Found<KnownAdminToken>> {
        let load =
            async { Ok(read(store.usable_admin_token(id, now).await)?.map(|row| KnownAdminToken::read(id, row))) };
        self.find(&self.admin_tokens, id.as_str(), load).await
    }

    /// A service account that may be used.
    ///
    /// # Errors
    /// As [`Credentials::api_key`].
    pub async fn service_account(
        &self,
        store: &Store,
        id: &ServiceAccountId,
        now: Micros,
    ) -> Result<Found<KnownServiceAccount>> {
        let load = async {
            Ok(read(store.usable_service_account(id, now).await)?.map(|row| KnownServiceAccount::read(id, row)))
        };
        self.find(&self.service_accounts, id.as_str(), load).await
    }

    /// Whether what was looked up then is as good as if it were looked up now: nothing was forgotten since, and either
    /// that means something, because the feed is followed, or it is younger than a lease anyway.
    pub fn still_holds(&self, seen: Seen) -> bool {
        let young = seen.at.elapsed() < self.lease.length();
        (young || self.lease.is_fresh()) && self.generation.load(Ordering::SeqCst) == seen.generation
    }

    async fn find<T>(
        &self,
        shelf: &Shelf<T>,
        id: &str,
        load: impl Future<Output = Result<Option<Result<T>>>>,
    ) -> Result<Found<T>> {
        // Before looking: whatever is forgotten from here on may concern what is found.
        let seen = self.seen();
        if self.lease.is_fresh()
            && let Some(known) = shelf.get(id)
        {
            self.metrics.looked_up("memory");
            return Ok((Some(known), seen));
        }
        let loaded = load.await.inspect_err(|_| self.metrics.looked_up("none"))?;
        self.metrics.looked_up("database");
        let Some(known) = loaded.transpose()?.map(Arc::new) else { return Ok((None, seen)) };
        // What is read around a change may be older than the change. Put in after the change has taken the old one out,
        // it would stay, and be believed under leases that say that this change was seen: a revoked key would work for
        // as long as nothing else touches it. Other gateways had exactly this. So it serves this one caller only.
        shelf.put(id, Arc::clone(&known), || self.generation.load(Ordering::SeqCst) == seen.generation);
        Ok((Some(known), seen))
    }
}

/// A database that does not answer says nothing about a credential.
fn read<R>(row: Result<Option<R>>) -> Result<Option<R>> {
    row.map_err(|error| {
        let text = "Credentials can't be checked at the moment. Try again shortly.";
        Error::new(ErrorKind::Overloaded, text).retry_after(RETRY_AFTER).caused_by(error)
    })
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
