//! Creating calls that may be repeated: the first one's reply is kept for a day, sealed, for it may hold a secret.

use crate::app::App;
use crate::audit::Once;
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
pub use crate::idempotency::{REPLAYED, key};
use crate::secrets::{SecretText, Secrets};
use crate::store::IDEMPOTENCY_US;
use http::request::Parts;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Between two rounds of forgetting.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

/// The call that is to be carried out once.
///
/// # Errors
/// `Internal` when the reply can't be sealed.
pub fn once(secrets: &Secrets, caller: &str, key: &str, head: &Parts, body: &[u8], reply: &str) -> Result<Once> {
    let mut hash = Sha256::new();
    // Method and path can't hold a line break, so the three can't run into each other.
    hash.update(format!("{}\n{}\n", head.method, head.uri.path()));
    hash.update(body);
    Ok(Once {
        caller: caller.to_owned(),
        key: key.to_owned(),
        request: hex::encode(hash.finalize()),
        reply: secrets.seal(&SecretText::new(reply.to_owned()), &owner(caller, key))?,
    })
}

/// The reply that an earlier call with this key got.
///
/// # Errors
/// `IdempotencyMismatch` when that call was another one; those of the store.
pub async fn kept(app: &App, once: &Once, now: Micros) -> Result<Option<String>> {
    let Some(row) = app.store.idempotent_reply(&once.caller, &once.key, now - IDEMPOTENCY_US).await? else {
        return Ok(None);
    };
    if row.request != once.request {
        let text = "This Idempotency-Key was used for another request. Use a new key for each.";
        return Err(Error::new(ErrorKind::IdempotencyMismatch, text));
    }
    let reply = app.secrets.open(&row.reply, &owner(&once.caller, &once.key))?;
    Ok(Some(reply.expose().to_owned()))
}

/// Forgets replies that are older than a day: at start and then every hour, until the gateway stops.
pub async fn forget_old(app: Arc<App>) {
    loop {
        match app.store.idempotent_replies_forget(app.clock.now() - IDEMPOTENCY_US).await {
            Ok(0) => {}
            Ok(replies) => tracing::info!(replies, "replies under idempotency keys forgotten"),
            Err(error) => {
                let cause = error.cause().map(tracing::field::display);
                tracing::warn!(%error, cause, "replies under idempotency keys not forgotten");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FORGET_INTERVAL) => {}
            () = app.stopping.cancelled() => return,
        }
    }
}

/// Binds a sealed reply to its key, so that moved to another row it does not open.
fn owner(caller: &str, key: &str) -> String {
    format!("idempotency {caller} {key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::desk::Desk;
    use crate::store::testing::execute;

    #[tokio::test]
    async fn replies_of_more_than_a_day_ago_are_forgotten_and_the_task_ends_with_the_gateway() {
        let desk = Desk::open().await;
        let (store, now) = (&desk.app.store, desk.app.clock.now());
        for (key, at) in [("old", now - IDEMPOTENCY_US - 1_000_000), ("new", now - IDEMPOTENCY_US + 60_000_000)] {
            execute(store, format!("INSERT INTO idempotency_keys VALUES ('caller', '{key}', 'r', 'reply', {at})"))
                .await;
        }
        desk.app.stopping.cancel();
        forget_old(Arc::clone(&desk.app)).await;
        assert_eq!(store.idempotent_reply("caller", "old", 0).await.unwrap(), None);
        assert!(store.idempotent_reply("caller", "new", 0).await.unwrap().is_some());
    }
}
