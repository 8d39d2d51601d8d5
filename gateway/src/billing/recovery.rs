//! What a crash leaves open. Whoever recovers asks the worker for a receipt and settles with `Recovered` or `Lost`; if
//! two do, or the gateway was not dead after all, the first settlement counts.

use crate::clock::Micros;
use crate::error::Result;
use crate::id::RequestId;
use crate::store::{AdmittedRow, OpenRow, Store};

/// Between a request's head, when its id is made, and its body's end, when it is accepted; more than any limit allows.
pub(super) const LONGEST_BODY_US: Micros = 600_000_000;

/// Requests that `gateway_id` left open, oldest first. A bounded batch: ask again after the last one until it is empty.
/// At start, before the first request, these are all from before a crash.
///
/// # Errors
/// Those of the store.
pub async fn open_requests(store: &Store, gateway_id: &str, after: Option<&RequestId>) -> Result<Vec<OpenRow>> {
    store.requests_open(gateway_id, after).await
}

/// Open requests of any replica whose lease ended before `now`, longest ago first. A bounded batch: settle them, then ask
/// again.
///
/// # Errors
/// Those of the store.
pub async fn expired_requests(store: &Store, now: Micros) -> Result<Vec<OpenRow>> {
    store.requests_expired(now).await
}

/// Says that `gateway_id` is alive until `lease_until`: moves the lease of all its open requests, and tells how many. One
/// statement for all, to be repeated well within the lease.
///
/// # Errors
/// Those of the store.
pub async fn renew_leases(store: &Store, gateway_id: &str, lease_until: Micros) -> Result<u64> {
    store.requests_renew(gateway_id, lease_until).await
}

/// What `gateway_id` admitted from `since` on: what its limiter counted before it restarted.
///
/// # Errors
/// Those of the store.
pub async fn admitted_since(store: &Store, gateway_id: &str, since: Micros) -> Result<Vec<AdmittedRow>> {
    let after = RequestId::lower_bound(since.saturating_sub(LONGEST_BODY_US));
    store.requests_admitted(gateway_id, since, after).await
}
