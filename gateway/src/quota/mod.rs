//! Limits and reservations: taken before work, settled exactly, all or nothing.
//!
//! The promise: in no 60 seconds, wherever they begin, do the requests and tokens admitted for a tenant, a project or a
//! key exceed its limits. Exact usage gives back what was held too much; estimated usage never does.
//!
//! Every level counts what happens below it, with or without limits of its own, and a request must fit at every level.
//! [`effective`] has the rule for which limit wins.
//!
//! The promise holds over a restart, for [`Limiter::restore`] counts what an earlier process admitted. Exception: requests
//! that were refused for another reason (malformed, too long) count in the process that refused them only.

mod counter;
mod hierarchy;
mod local;
mod window;

use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};
use std::time::Duration;

pub use hierarchy::{Decision, Effective, Hierarchy, Limits, Scope, effective};
pub use local::Local;

/// Keeps limits. `Local` counts in this process only; `Redis` comes with several replicas.
#[derive(Debug)]
pub enum Limiter {
    /// For a single gateway.
    Local(Local),
}

/// A hold on the limits of a key, its project and its tenant, on all or none: one request, its tokens, and a place among those that run at the same time.
///
/// It ends in exactly one of [`Reservation::settle`] (exact usage is known), [`Reservation::release_unused`] (no worker
/// ever saw the request) or its drop. A drop gives back the place only: what was used is not known then, so all tokens
/// held count as used. The request itself counts in every case, for it was admitted.
#[derive(Debug)]
pub struct Reservation(local::Hold);

/// What an earlier process of this gateway admitted for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Whose it is; counts too.
    pub tenant: TenantId,
    /// The key's; counts too.
    pub project: ProjectId,
    /// For whom.
    pub key: KeyId,
    /// How long ago, at most a second less than it really was.
    pub ago: Duration,
    /// How many.
    pub requests: u64,
    /// Used, or held where that is not known.
    pub tokens: u64,
}

/// What is left after a reservation, for the caller's headers: of each limit, at the level where least is left. `None`
/// where no level has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests in 60 seconds.
    pub requests_per_minute: Option<Headroom>,
    /// Tokens in 60 seconds.
    pub tokens_per_minute: Option<Headroom>,
    /// Requests at the same time.
    pub concurrent_requests: Option<Headroom>,
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// The level where least is left; of equals the narrowest.
    pub scope: Scope,
    /// Its limit.
    pub limit: u64,
    /// Left of it now.
    pub remaining: u64,
    /// Until all of it is left again if nothing else comes; `None` for concurrency, which time alone does not free.
    pub reset: Option<Duration>,
}

/// What counts against the limits at one instant, level by level, whether there are limits or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The tenant's.
    pub tenant: InUse,
    /// The project's, if one was asked for.
    pub project: Option<InUse>,
    /// The key's, if one was asked for.
    pub key: Option<InUse>,
}

/// What counts against one level's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InUse {
    /// Requests admitted within the last minute (up to 61 seconds, for it is counted in whole ones).
    pub requests: u64,
    /// Tokens used or held within it.
    pub tokens: u64,
    /// The part of `tokens` that requests hold which have not ended; what they don't use of it comes back.
    pub held_tokens: u64,
    /// Requests that run, whenever they began.
    pub running: u64,
}

impl Limiter {
    /// Counts with `clock`. The machine's clock is replaced by one that is never set back or forward.
    pub fn local(clock: Clock) -> Limiter {
        Limiter::Local(Local::new(clock))
    }

    /// Counts what was admitted before this process began, as far as it lies within the last minute. To be called once,
    /// before the first reservation. Nobody's place is taken by it: what ran then does not run any more.
    pub fn restore(&self, past: &[Past]) {
        match self {
            Limiter::Local(local) => past.iter().for_each(|past| local.restore(past)),
        }
    }

    /// Holds one request and a place among those that run at the same time, before it is known how many tokens it needs:
    /// counting them takes work, which must not be free. [`Reservation::add_tokens`] adds them. Cancelling before it
    /// returns holds nothing.
    ///
    /// # Errors
    /// As [`Limiter::reserve`].
    pub async fn reserve_request(&self, principal: &Principal) -> Result<Reservation> {
        self.reserve(principal, 0).await
    }

    /// Holds one request and `tokens` (prompt plus the most that the answer may have). Cancelling before it returns
    /// holds nothing.
    ///
    /// # Errors
    /// `QuotaExceeded` with the limit that refuses for longest over all levels, whose it is, what is used of it, and when
    /// the request may fit (exactly, for the two per minute: not earlier unless others give back); without `retry_after`
    /// when it never can.
    pub async fn reserve(&self, principal: &Principal, tokens: u64) -> Result<Reservation> {
        match self {
            Limiter::Local(local) => local.reserve(principal, tokens).map(Reservation),
        }
    }

    /// What counts against the limits of `tenant`, `project` and `key` now; it reserves nothing. Zeros for whom nothing
    /// is known of, so for another tenant's project or key too. In memory, and of this process only.
    pub fn usage(&self, tenant: &TenantId, project: Option<&ProjectId>, key: Option<&KeyId>) -> Usage {
        match self {
            Limiter::Local(local) => local.usage(tenant, project, key),
        }
    }
}

impl Reservation {
    /// Adds `tokens` (prompt plus the most that the answer may have), once, to what [`Limiter::reserve_request`] holds.
    /// All or nothing: a refusal gives back the place and the request too.
    ///
    /// # Errors
    /// `QuotaExceeded`, as for [`Limiter::reserve`].
    pub async fn add_tokens(self, tokens: u64) -> Result<Reservation> {
        self.0.add_tokens(tokens).map(Reservation)
    }

    /// Ends the hold with what was really used; the rest is free again at once. More than was held is counted too.
    pub fn settle(self, tokens: u64) {
        self.0.end(tokens);
    }

    /// Ends the hold of a request that never reached a worker: no token was used.
    pub fn release_unused(self) {
        self.0.end(0);
    }

    /// What was left right after this reservation.
    pub fn standing(&self) -> Standing {
        self.0.standing()
    }
}
