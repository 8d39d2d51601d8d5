//! What one scope counts: its last minute and what runs in it now, held against its limits.

use super::window::{Used, Window};
use super::{InUse, Limits, Scope};
use crate::clock::Micros;
use crate::error::Limit;
use std::time::Duration;

/// When a place among concurrent requests comes free nobody knows; this is worth a try.
pub(super) const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// One scope's. It takes no notice of limits while it counts: one that is set later finds all that is used already.
#[derive(Debug)]
pub(super) struct Counter {
    window: Window,
    running: u64,
}

/// A limit that refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) scope: Scope,
    pub(super) limit: Limit,
    pub(super) used: u64,
    pub(super) allowed: u64,
    /// `None`: never.
    pub(super) wait: Option<Duration>,
}

impl Counter {
    pub(super) fn new(now: Micros) -> Counter {
        Counter { window: Window::new(now), running: 0 }
    }

    /// The second that `now` falls in.
    pub(super) fn advance(&mut self, now: Micros) -> i64 {
        self.window.advance(now)
    }

    pub(super) fn begin(&mut self, second: i64, tokens: u64) {
        self.running = self.running.saturating_add(1);
        self.window.add_at(second, Used { requests: 1, tokens, held: tokens });
    }

    pub(super) fn add_tokens(&mut self, second: i64, tokens: u64) {
        self.window.add_at(second, Used { requests: 0, tokens, held: tokens });
    }

    /// Ends one of those that run; `actual` takes the place of the tokens `held` in `second`.
    pub(super) fn end(&mut self, second: i64, held: u64, actual: u64) {
        self.running = self.running.saturating_sub(1);
        self.window.settle(second, held, actual);
    }

    /// Takes one request out of `second`, as if it had not been. It still runs until it ends.
    pub(super) fn forget_request(&mut self, second: i64) {
        self.window.forget_request(second);
    }

    /// Counts what has ended already.
    pub(super) fn restore(&mut self, second: i64, requests: u64, tokens: u64) {
        self.window.add_at(second, Used { requests, tokens, held: 0 });
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self, now: Micros) -> bool {
        self.running == 0 && self.window.is_idle(now)
    }

    pub(super) fn in_use(&self) -> InUse {
        let Used { requests, tokens, held } = self.window.used();
        InUse { requests, tokens, held_tokens: held, running: self.running }
    }

    /// Every limit that refuses one more request with `tokens`.
    pub(super) fn refusals(
        &self,
        scope: Scope,
        limits: &Limits,
        tokens: u64,
        now: Micros,
    ) -> impl Iterator<Item = Refusal> {
        let requests = self.per_minute(scope, Limit::RequestsPerMinute, limits, 1, now);
        let tokens = self.token_refusal(scope, limits, tokens, now);
        let concurrency = limits.concurrent_requests.filter(|&allowed| self.running >= allowed);
        let concurrency = concurrency.map(|allowed| Refusal {
            scope,
            limit: Limit::Concurrency,
            used: self.running,
            allowed,
            wait: (allowed > 0).then_some(CONCURRENCY_RETRY),
        });
        [requests, tokens, concurrency].into_iter().flatten()
    }

    /// For a request that is counted already.
    pub(super) fn token_refusal(&self, scope: Scope, limits: &Limits, tokens: u64, now: Micros) -> Option<Refusal> {
        self.per_minute(scope, Limit::TokensPerMinute, limits, tokens, now)
    }

    fn per_minute(&self, scope: Scope, limit: Limit, limits: &Limits, ask: u64, now: Micros) -> Option<Refusal> {
        let allowed = limits.get(limit)?; // most scopes have few: no sum is made for nothing
        let used = counted(self.window.used(), limit);
        if used.saturating_add(ask) <= allowed {
            return None;
        }
        let wait = allowed.checked_sub(ask).map(|keep| self.until_room(limit, keep, now));
        Some(Refusal { scope, limit, used, allowed, wait })
    }

    /// What is left of `allowed`.
    pub(super) fn remaining(&self, limit: Limit, allowed: u64) -> u64 {
        let used = match limit {
            Limit::RequestsPerMinute | Limit::TokensPerMinute => counted(self.window.used(), limit),
            Limit::Concurrency => self.running,
        };
        allowed.saturating_sub(used)
    }

    /// Until nothing counts against `limit` any more, if nothing else comes; `None` where time alone does not help.
    pub(super) fn reset(&self, limit: Limit, now: Micros) -> Option<Duration> {
        match limit {
            Limit::RequestsPerMinute | Limit::TokensPerMinute => Some(self.until_room(limit, 0, now)),
            Limit::Concurrency => None,
        }
    }

    fn until_room(&self, limit: Limit, keep: u64, now: Micros) -> Duration {
        let at = self.window.room_at(keep, |used| counted(used, limit));
        Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
    }
}

/// Of what a window counts, what `limit` is about; concurrency is not counted in windows.
fn counted(used: Used, limit: Limit) -> u64 {
    match limit {
        Limit::RequestsPerMinute => used.requests,
        Limit::TokensPerMinute => used.tokens,
        Limit::Concurrency => 0,
    }
}
