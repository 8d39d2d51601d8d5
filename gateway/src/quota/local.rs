//! Counts in this process: one lock, held for the few microseconds that sums over 61 slots take at each level; every ten
//! seconds for a fraction of a microsecond per tenant more, while idle ones are forgotten.

use super::counter::{Counter, Refusal};
use super::window::SLOT_US;
use super::{Headroom, Hierarchy, InUse, Limits, Past, Scope, Standing, Usage};
use crate::auth::Principal;
use crate::clock::{Clock, Micros};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::id::{KeyId, ProjectId, TenantId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often those that hold and count nothing are forgotten.
const FORGET_EVERY_US: Micros = 10 * SLOT_US;

/// Counts in this process.
#[derive(Debug, Clone)]
pub struct Local(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    started: Instant,
    counts: Mutex<Counts>,
}

/// Everybody's counts. All levels count always, whether or not they have limits: a limit that is set now is held against
/// what was used before, and what runs. So there is an entry for whoever came within the last minute.
#[derive(Debug, Default)]
struct Counts {
    tenants: HashMap<TenantId, Tenant>,
    now: Micros,
    forgotten_at: Micros,
}

/// Projects and keys are kept within their tenant: no id of another tenant's finds them. What they count their tenant
/// counts too, so an idle tenant has none that is not.
#[derive(Debug)]
struct Tenant {
    counter: Counter,
    projects: HashMap<ProjectId, Counter>,
    keys: HashMap<KeyId, Counter>,
}

/// Which three count a request.
#[derive(Debug, Clone, Copy)]
struct Ids<'a> {
    tenant: &'a TenantId,
    project: &'a ProjectId,
    key: &'a KeyId,
}

/// The three counters of one request, in the order of [`Scope::ALL`].
type Levels<'a> = [&'a mut Counter; 3];

/// What a reservation took, and from where: from all three levels, or it is not there.
#[derive(Debug)]
pub(super) struct Hold {
    from: Local,
    tenant: TenantId,
    project: ProjectId,
    key: KeyId,
    /// As they were when it began; changing them later neither ends it nor lets it grow.
    limits: Hierarchy,
    /// When the request was counted, and when its tokens were: the latter may come later.
    request_second: i64,
    token_second: i64,
    tokens: u64,
    actual: Option<u64>,
    standing: Standing,
}

impl Local {
    pub(super) fn new(clock: Clock) -> Local {
        Local(Arc::new(Shared { clock, started: Instant::now(), counts: Mutex::default() }))
    }

    pub(super) fn reserve(&self, principal: &Principal, tokens: u64) -> Result<Hold> {
        let limits = &principal.limits;
        let ids = Ids { tenant: &principal.tenant, project: &principal.project, key: &principal.key };
        let mut counts = self.counts();
        let now = counts.now;
        let (mut levels, second) = counts.levels(ids);
        let refusals =
            each(&levels, limits).flat_map(|(scope, counter, limits)| counter.refusals(scope, limits, tokens, now));
        if let Some(refusal) = longest(refusals) {
            drop(counts);
            return Err(refusal.into_error(ids));
        }
        levels.iter_mut().for_each(|counter| counter.begin(second, tokens));
        let standing = standing(&levels, limits, now);
        drop(counts);
        Ok(Hold {
            from: self.clone(),
            tenant: principal.tenant.clone(),
            project: principal.project.clone(),
            key: principal.key.clone(),
            limits: *limits,
            request_second: second,
            token_second: second,
            tokens,
            actual: None,
            standing,
        })
    }

    pub(super) fn restore(&self, past: &Past) {
        let mut counts = self.counts();
        let ago_us = Micros::try_from(past.ago.as_micros()).unwrap_or(Micros::MAX);
        let second = counts.now.saturating_sub(ago_us).div_euclid(SLOT_US);
        let (levels, _) = counts.levels(Ids { tenant: &past.tenant, project: &past.project, key: &past.key });
        levels.into_iter().for_each(|counter| counter.restore(second, past.requests, past.tokens));
    }

    pub(super) fn usage(&self, tenant: &TenantId, project: Option<&ProjectId>, key: Option<&KeyId>) -> Usage {
        let mut counts = self.counts();
        let now = counts.now;
        let Some(Tenant { counter, projects, keys }) = counts.tenants.get_mut(tenant) else {
            let nothing = InUse::default();
            return Usage { tenant: nothing, project: project.map(|_| nothing), key: key.map(|_| nothing) };
        };
        let in_use = |counter: Option<&mut Counter>| {
            counter.map_or(InUse::default(), |counter| {
                counter.advance(now);
                counter.in_use()
            })
        };
        Usage {
            tenant: in_use(Some(counter)),
            project: project.map(|id| in_use(projects.get_mut(id))),
            key: key.map(|id| in_use(keys.get_mut(id))),
        }
    }

    /// Locks the counts, and brings them to the present: the time is read under the lock, so that no two calls see it in
    /// another order than they count. Nothing under the lock can panic half-way, so a poisoned one guards sound counts.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // The machine's clock may be set; the promise must hold all the same.
        let now = match &self.0.clock {
            Clock::System => Micros::try_from(self.0.started.elapsed().as_micros()).unwrap_or(Micros::MAX),
            clock @ Clock::Manual(_) => clock.now(),
        };
        counts.now = counts.now.max(now);
        counts.forget_idle();
        counts
    }

    /// How many counters there are.
    #[cfg(test)]
    fn counters(&self) -> usize {
        let counts = self.counts();
        counts.tenants.values().map(|tenant| 1 + tenant.projects.len() + tenant.keys.len()).sum()
    }
}

impl Counts {
    /// The counters of one request, made where there are none, and the second that it is now in all of them.
    fn levels(&mut self, ids: Ids<'_>) -> (Levels<'_>, i64) {
        let now = self.now;
        let new = || Counter::new(now);
        let tenant = entry(&mut self.tenants, ids.tenant, || Tenant {
            counter: new(),
            projects: HashMap::new(),
            keys: HashMap::new(),
        });
        let project = entry(&mut tenant.projects, ids.project, new);
        let mut levels = [&mut tenant.counter, project, entry(&mut tenant.keys, ids.key, new)];
        let second = advance(&mut levels, now);
        (levels, second)
    }

    /// Those of a request that runs: who has something running is not forgotten, so they are there.
    fn running(&mut self, ids: Ids<'_>) -> Option<(Levels<'_>, i64)> {
        let now = self.now;
        let Tenant { counter, projects, keys } = self.tenants.get_mut(ids.tenant)?;
        let mut levels = [counter, projects.get_mut(ids.project)?, keys.get_mut(ids.key)?];
        let second = advance(&mut levels, now);
        Some((levels, second))
    }

    fn forget_idle(&mut self) {
        let now = self.now;
        if now.saturating_sub(self.forgotten_at) < FORGET_EVERY_US {
            return;
        }
        self.forgotten_at = now;
        forget(&mut self.tenants, |tenant| {
            if tenant.counter.is_idle(now) {
                return true;
            }
            forget(&mut tenant.projects, |project| project.is_idle(now));
            forget(&mut tenant.keys, |key| key.is_idle(now));
            false
        });
    }
}

/// The id is cloned for who is new only.
fn entry<'a, K: Clone + Eq + Hash, V>(map: &'a mut HashMap<K, V>, key: &K, new: impl FnOnce() -> V) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.clone(), new());
    }
    map.get_mut(key).expect("it was just put there")
}

fn forget<K: Eq + Hash, V>(map: &mut HashMap<K, V>, mut is_idle: impl FnMut(&mut V) -> bool) {
    map.retain(|_, value| !is_idle(value));
    // A rush leaves no empty table behind.
    if map.capacity() / 8 > map.len() {
        map.shrink_to(2 * map.len());
    }
}

/// The second that `now` falls in; time never goes back, so it is the same for all.
fn advance(levels: &mut Levels<'_>, now: Micros) -> i64 {
    levels.iter_mut().map(|counter| counter.advance(now)).fold(i64::MIN, i64::max)
}

/// Each level with its limits.
fn each<'a>(
    levels: &'a Levels<'_>,
    limits: &'a Hierarchy,
) -> impl DoubleEndedIterator<Item = (Scope, &'a Counter, &'a Limits)> {
    Scope::ALL.into_iter().zip(levels).map(|(scope, counter)| (scope, &**counter, limits.at(scope)))
}

/// The one that refuses for longest: to wait for any other would be in vain. Of equals the last, so the narrowest scope's.
fn longest(refusals: impl Iterator<Item = Refusal>) -> Option<Refusal> {
    refusals.max_by_key(|refusal| refusal.wait.unwrap_or(Duration::MAX))
}

fn standing(levels: &Levels<'_>, limits: &Hierarchy, now: Micros) -> Standing {
    let tightest = |limit| {
        let narrowest_first = each(levels, limits).rev().filter_map(|(scope, counter, limits)| {
            let allowed = limits.get(limit)?;
            Some((scope, counter, allowed, counter.remaining(limit, allowed)))
        });
        let (scope, counter, allowed, remaining) = narrowest_first.min_by_key(|&(.., remaining)| remaining)?;
        Some(Headroom { scope, limit: allowed, remaining, reset: counter.reset(limit, now) })
    };
    Standing {
        requests_per_minute: tightest(Limit::RequestsPerMinute),
        tokens_per_minute: tightest(Limit::TokensPerMinute),
        concurrent_requests: tightest(Limit::Concurrency),
    }
}

impl Hold {
    /// Adds tokens to a hold that has none; a refusal ends it as if it had not been, at any level.
    pub(super) fn add_tokens(mut self, tokens: u64) -> Result<Hold> {
        let from = self.from.clone();
        let mut counts = from.counts();
        let now = counts.now;
        let Some((mut levels, second)) = counts.running(self.ids()) else { return Ok(self) };
        let refusals = each(&levels, &self.limits)
            .filter_map(|(scope, counter, limits)| counter.token_refusal(scope, limits, tokens, now));
        if let Some(refusal) = longest(refusals) {
            levels.into_iter().for_each(|counter| counter.forget_request(self.request_second));
            drop(counts); // before the hold, whose end takes the lock
            return Err(refusal.into_error(self.ids()));
        }
        levels.iter_mut().for_each(|counter| counter.add_tokens(second, tokens));
        let standing = standing(&levels, &self.limits, now);
        drop(counts);
        (self.token_second, self.tokens, self.standing) = (second, tokens, standing);
        Ok(self)
    }

    pub(super) fn end(mut self, tokens: u64) {
        self.actual = Some(tokens);
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    fn ids(&self) -> Ids<'_> {
        Ids { tenant: &self.tenant, project: &self.project, key: &self.key }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.from.counts();
        let Some((levels, _)) = counts.running(self.ids()) else { return };
        let actual = self.actual.unwrap_or(self.tokens);
        levels.into_iter().for_each(|counter| counter.end(self.token_second, self.tokens, actual));
    }
}

impl Ids<'_> {
    fn of(&self, scope: Scope) -> &str {
        match scope {
            Scope::Tenant => self.tenant.as_str(),
            Scope::Project => self.project.as_str(),
            Scope::Key => self.key.as_str(),
        }
    }
}

impl Refusal {
    fn into_error(self, ids: Ids<'_>) -> Error {
        let Refusal { scope, limit, used, allowed, wait } = self;
        let name = format!("{} of {} {}", limit.as_str(), scope.as_str(), ids.of(scope));
        let kind = ErrorKind::QuotaExceeded(limit);
        match wait {
            Some(wait) => {
                let seconds = wait.as_micros().div_ceil(1_000_000);
                let text = format!("Limit {name} reached: {used} of {allowed} in use. Try again in {seconds} s.");
                Error::new(kind, text).retry_after(wait)
            }
            None => Error::new(kind, format!("This request can never fit limit {name}, which is {allowed}.")),
        }
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "levels_tests.rs"]
mod levels_tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
