//! When credentials were used, and secrets to be taken over by a newer pepper or master key: noted in memory, written in
//! batches. No request costs a write, and what a crash loses is half a minute of last uses.

use crate::app::App;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{AdminTokenId, KeyId, TenantId};
use crate::store::Tx;
use crate::tenants::Redigest;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// Between two rounds of writing.
const EVERY: Duration = Duration::from_secs(30);
/// Most credentials of a transaction: short enough that on SQLite, which has one writer, no request waits noticeably.
const BATCH: usize = 200;
/// Most credentials that are noted between two rounds. Beyond it a use of one more is not noted.
const MOST: usize = 50_000;

/// What is still to be written.
#[derive(Debug)]
pub struct Uses {
    /// By the credential's id; in that order they are written, too.
    noted: Mutex<BTreeMap<String, Noted>>,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
struct Noted {
    at: Micros,
    takeover: Option<Takeover>,
}

/// A stored secret that an older pepper or master key made, and what takes its place.
#[derive(Debug, Clone)]
pub enum Takeover {
    /// An API key's digest.
    ApiKey(TenantId, KeyId, Redigest),
    /// An admin token's digest.
    AdminToken(AdminTokenId, Redigest),
    /// An access key's sealed secret: the old text and the new one.
    AccessKey(TenantId, KeyId, String, String),
}

/// Clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    dropped: Counter,
    failed: Counter,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics { dropped: Counter::default(), failed: Counter::default() };
        registry.register(
            "credential_uses_dropped",
            "Uses that were not noted for want of room",
            metrics.dropped.clone(),
        );
        let help = "Batches of uses that could not be written, and are tried again";
        registry.register("credential_uses_failed", help, metrics.failed.clone());
        metrics
    }
}

impl Uses {
    /// With nothing noted.
    pub fn new(metrics: &Metrics) -> Uses {
        Uses { noted: Mutex::default(), metrics: metrics.clone() }
    }

    /// Notes a use, and a secret to be taken over.
    pub fn note(&self, credential_id: &str, at: Micros, takeover: Option<Takeover>) {
        let mut noted = self.noted();
        if let Some(known) = noted.get_mut(credential_id) {
            known.at = known.at.max(at);
            known.takeover = takeover.or(known.takeover.take());
        } else if noted.len() < MOST {
            noted.insert(credential_id.to_owned(), Noted { at, takeover });
        } else {
            self.metrics.dropped.inc();
        }
    }

    /// Writes all that is noted, in batches. What can't be written stays noted.
    pub async fn flush(&self, app: &App) {
        let mut left = std::mem::take(&mut *self.noted());
        while !left.is_empty() {
            let rest = left.keys().nth(BATCH).cloned().map(|first| left.split_off(&first)).unwrap_or_default();
            let batch = Arc::new(std::mem::replace(&mut left, rest));
            if let Err(error) = write(app, &batch).await {
                self.metrics.failed.inc();
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "last uses not written");
                let unwritten = Arc::unwrap_or_clone(batch).into_iter().chain(left);
                return unwritten.for_each(|(id, noted)| self.note(&id, noted.at, noted.takeover));
            }
            for takeover in batch.values().filter_map(|noted| noted.takeover.as_ref()) {
                // Else what is remembered would ask for it again at the next use.
                app.credentials.forget(&takeover.affected());
            }
        }
    }

    fn noted(&self) -> MutexGuard<'_, BTreeMap<String, Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes every half minute until the gateway stops; what is noted then is written by whoever stops it.
pub async fn write_regularly(app: Arc<App>) {
    loop {
        tokio::select! {
            () = sleep(EVERY) => app.uses.flush(&app).await,
            () = app.stopping.cancelled() => return,
        }
    }
}

async fn write(app: &App, batch: &Arc<BTreeMap<String, Noted>>) -> Result<()> {
    let batch = Arc::clone(batch);
    let work = app.store.transaction(move |tx| {
        Box::pin(async move {
            for (id, noted) in batch.iter() {
                tx.credential_used(id, noted.at).await?;
                if let Some(takeover) = &noted.takeover {
                    takeover.write(tx).await?;
                }
            }
            Ok(())
        })
    });
    work.await
}

impl Takeover {
    async fn write(&self, tx: &mut Tx) -> Result<()> {
        match self {
            Takeover::ApiKey(tenant, id, Redigest { old, new, pepper_version }) => {
                tx.api_key_redigest(tenant, id, old, (new, *pepper_version)).await
            }
            Takeover::AdminToken(id, Redigest { old, new, pepper_version }) => {
                tx.admin_token_redigest(id, old, (new, *pepper_version)).await
            }
            Takeover::AccessKey(tenant, id, old, new) => tx.access_key_reseal(tenant, id, old, new).await,
        }
    }

    fn affected(&self) -> super::Affected {
        match self {
            Takeover::ApiKey(_, id, _) | Takeover::AccessKey(_, id, _, _) => super::Affected::Key(id.clone()),
            Takeover::AdminToken(id, _) => super::Affected::AdminToken(id.clone()),
        }
    }
}
