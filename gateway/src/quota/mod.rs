//! Limits and reservations: taken before work, settled exactly, all or nothing.

use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Most that a tenant may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens, prompt and answer together, in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests at the same time.
    pub concurrent_requests: Option<u64>,
}

/// Keeps limits. `Local` counts in this process only; `Redis` comes with several replicas.
#[derive(Debug)]
pub enum Limiter {
    /// For a single gateway.
    Local(Local),
}

/// Counts in this process.
#[derive(Debug, Default)]
pub struct Local;

/// A hold on a tenant's limits. Ends in exactly one of [`Reservation::settle`] or its drop, which releases all of it.
#[derive(Debug)]
pub struct Reservation;

impl Limiter {
    /// Counts with `clock`.
    pub fn local(clock: Clock) -> Limiter {
        let _ = clock;
        Limiter::Local(Local)
    }

    /// Holds one request and `tokens` (prompt plus the most that the answer may have).
    ///
    /// # Errors
    /// `QuotaExceeded` with the limit and when it may fit; without `retry_after` when it never can.
    pub async fn reserve(&self, principal: &Principal, tokens: u64) -> Result<Reservation> {
        let _ = (principal, tokens);
        todo!("G1")
    }
}

impl Reservation {
    /// Ends the hold with what was really used; the rest is free again at once.
    pub fn settle(self, tokens: u64) {
        let _ = tokens;
        todo!("G1")
    }
}
