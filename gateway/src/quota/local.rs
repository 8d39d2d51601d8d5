//! Counts in this process: one lock, held for the few microseconds that sums over 61 slots take.

use super::window::{SLOT_US, Used, Window};
use super::{Headroom, Limits, Past, Standing};
use crate::clock::{Clock, Micros};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::id::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often tenants that hold and count nothing are forgotten.
const FORGET_EVERY_US: Micros = 10 * SLOT_US;
/// When a place among concurrent requests comes free nobody knows; this is worth a try.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// Counts in this process.
#[derive(Debug, Clone)]
pub struct Local(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    started: Instant,
    tenants: Mutex<Tenants>,
}

#[derive(Debug, Default)]
struct Tenants {
    by_id: HashMap<TenantId, Tenant>,
    forgotten_at: Micros,
}

#[derive(Debug)]
struct Tenant {
    window: Window,
    running: u64,
}

/// What a reservation took, and from where.
#[derive(Debug)]
pub(super) struct Hold {
    from: Local,
    tenant: TenantId,
    limits: Limits,
    /// When the request was counted, and when its tokens were: the latter may come later.
    request_second: i64,
    token_second: i64,
    tokens: u64,
    actual: Option<u64>,
    standing: Standing,
}

/// A limit that refuses.
struct Refusal {
    limit: Limit,
    used: u64,
    allowed: u64,
    /// `None`: never.
    wait: Option<Duration>,
}

impl Local {
    pub(super) fn new(clock: Clock) -> Local {
        Local(Arc::new(Shared { clock, started: Instant::now(), tenants: Mutex::default() }))
    }

    pub(super) fn reserve(&self, tenant: &TenantId, limits: Limits, tokens: u64) -> Result<Hold> {
        let mut tenants = self.lock();
        let now = self.now(); // read under the lock, so that no two calls see time in another order than they count
        tenants.forget_idle(now);
        let entry =
            tenants.by_id.entry(tenant.clone()).or_insert_with(|| Tenant { window: Window::new(now), running: 0 });
        let second = entry.window.advance(now);
        if let Some(refusal) = entry.refusal(&limits, tokens, now) {
            return Err(refusal.into());
        }
        entry.window.add(Used { requests: 1, tokens });
        entry.running += 1;
        let standing = entry.standing(&limits, now);
        Ok(Hold {
            from: self.clone(),
            tenant: tenant.clone(),
            limits,
            request_second: second,
            token_second: second,
            tokens,
            actual: None,
            standing,
        })
    }

    pub(super) fn restore(&self, past: &Past) {
        let mut tenants = self.lock();
        let now = self.now();
        let tenant = tenants.by_id.entry(past.tenant.clone());
        let window = &mut tenant.or_insert_with(|| Tenant { window: Window::new(now), running: 0 }).window;
        window.advance(now);
        let ago_us = Micros::try_from(past.ago.as_micros()).unwrap_or(Micros::MAX);
        let at = now.saturating_sub(ago_us);
        window.add_at(at.div_euclid(SLOT_US), Used { requests: past.requests, tokens: past.tokens });
    }

    /// The machine's clock may be set; the promise must hold all the same.
    fn now(&self) -> Micros {
        match &self.0.clock {
            Clock::System => Micros::try_from(self.0.started.elapsed().as_micros()).unwrap_or(Micros::MAX),
            clock @ Clock::Manual(_) => clock.now(),
        }
    }

    /// Nothing under the lock can panic half-way, so a poisoned lock guards sound counts.
    fn lock(&self) -> MutexGuard<'_, Tenants> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn tenants(&self) -> usize {
        self.lock().by_id.len()
    }
}

impl Tenants {
    fn forget_idle(&mut self, now: Micros) {
        if now.saturating_sub(self.forgotten_at) < FORGET_EVERY_US {
            return;
        }
        self.forgotten_at = now;
        self.by_id.retain(|_, tenant| tenant.running > 0 || !tenant.window.is_idle(now));
    }
}

impl Tenant {
    /// The limit that refuses for longest.
    fn refusal(&self, limits: &Limits, tokens: u64, now: Micros) -> Option<Refusal> {
        let requests = limits
            .requests_per_minute
            .and_then(|allowed| self.per_minute(Limit::RequestsPerMinute, allowed, 1, |used| used.requests, now));
        let tokens = self.token_refusal(limits, tokens, now);
        let concurrency =
            limits.concurrent_requests.filter(|&allowed| self.running >= allowed).map(|allowed| Refusal {
                limit: Limit::Concurrency,
                used: self.running,
                allowed,
                wait: (allowed > 0).then_some(CONCURRENCY_RETRY),
            });
        let refusals = [requests, tokens, concurrency].into_iter().flatten();
        refusals.max_by_key(|refusal| refusal.wait.unwrap_or(Duration::MAX))
    }

    fn token_refusal(&self, limits: &Limits, tokens: u64, now: Micros) -> Option<Refusal> {
        self.per_minute(Limit::TokensPerMinute, limits.tokens_per_minute?, tokens, |used| used.tokens, now)
    }

    fn per_minute(&self, limit: Limit, allowed: u64, ask: u64, of: fn(Used) -> u64, now: Micros) -> Option<Refusal> {
        let used = of(self.window.used());
        if used.saturating_add(ask) <= allowed {
            return None;
        }
        let wait = allowed.checked_sub(ask).map(|keep| until(self.window.room_at(keep, of), now));
        Some(Refusal { limit, used, allowed, wait })
    }

    fn standing(&self, limits: &Limits, now: Micros) -> Standing {
        let used = self.window.used();
        let per_minute = |limit: Option<u64>, of: fn(Used) -> u64| {
            limit.map(|limit| Headroom {
                limit,
                remaining: limit.saturating_sub(of(used)),
                reset: Some(until(self.window.room_at(0, of), now)),
            })
        };
        Standing {
            requests_per_minute: per_minute(limits.requests_per_minute, |used| used.requests),
            tokens_per_minute: per_minute(limits.tokens_per_minute, |used| used.tokens),
            concurrent_requests: limits.concurrent_requests.map(|limit| Headroom {
                limit,
                remaining: limit.saturating_sub(self.running),
                reset: None,
            }),
        }
    }
}

impl Hold {
    /// Adds tokens to a hold that has none; a refusal ends it as if it had not been.
    pub(super) fn add_tokens(mut self, tokens: u64) -> Result<Hold> {
        let from = self.from.clone();
        let mut tenants = from.lock();
        let now = from.now();
        // It is there: a tenant with something running is not forgotten.
        let Some(tenant) = tenants.by_id.get_mut(&self.tenant) else { return Ok(self) };
        let second = tenant.window.advance(now);
        if let Some(refusal) = tenant.token_refusal(&self.limits, tokens, now) {
            tenant.window.forget_request(self.request_second);
            drop(tenants); // before the hold, whose end takes the lock
            return Err(refusal.into());
        }
        tenant.window.add(Used { requests: 0, tokens });
        (self.token_second, self.tokens) = (second, tokens);
        self.standing = tenant.standing(&self.limits, now);
        drop(tenants);
        Ok(self)
    }

    pub(super) fn end(mut self, tokens: u64) {
        self.actual = Some(tokens);
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut tenants = self.from.lock();
        // It is there: a tenant with something running is not forgotten.
        let Some(tenant) = tenants.by_id.get_mut(&self.tenant) else { return };
        tenant.running = tenant.running.saturating_sub(1);
        if let Some(actual) = self.actual {
            tenant.window.replace(self.token_second, self.tokens, actual);
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let Refusal { limit, used, allowed, wait } = refusal;
        let name = limit.as_str();
        let kind = ErrorKind::QuotaExceeded(limit);
        match wait {
            Some(wait) => {
                let seconds = wait.as_micros().div_ceil(1_000_000);
                let text = format!("Limit {name} reached: {used} of {allowed} in use. Try again in {seconds} s.");
                Error::new(kind, text).retry_after(wait)
            }
            None => Error::new(kind, format!("This request can never fit the limit {name} of {allowed}.")),
        }
    }
}

fn until(at: Micros, now: Micros) -> Duration {
    Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
