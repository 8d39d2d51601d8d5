//! The limiter against a plain model, over random histories at all three levels.

use super::*;
use crate::quota::counter::CONCURRENCY_RETRY;
use proptest::prelude::*;

/// Tenant, project and key of each caller, as indices into all scopes: two keys share a project, a third has the tenant's
/// other project, and a fourth is another tenant's.
const CALLERS: [[usize; 3]; 4] = [[0, 2, 5], [0, 2, 6], [0, 3, 7], [1, 4, 8]];
const SCOPES: usize = 9;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Reserve(usize, u64),
    AddTokens(usize, u64),
    Settle(usize, u64),
    Unused(usize),
    Drop(usize),
    SetLimits(usize, Limits),
}

/// Some are missing, so that each gets its turn to be the one that refuses.
fn limits() -> impl Strategy<Value = Limits> {
    let limits = (prop::option::of(0u64..12), prop::option::of(0u64..200), prop::option::of(0u64..6));
    limits.prop_map(|(requests_per_minute, tokens_per_minute, concurrent_requests)| Limits {
        requests_per_minute,
        tokens_per_minute,
        concurrent_requests,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tokens = || prop_oneof![Just(0), 0u64..60];
    let step = prop_oneof![
        6 => prop_oneof![0u64..3_000_000, 0u64..70_000_000].prop_map(Step::Wait),
        14 => (0..CALLERS.len(), tokens()).prop_map(|(who, tokens)| Step::Reserve(who, tokens)),
        5 => (any::<usize>(), tokens()).prop_map(|(which, tokens)| Step::AddTokens(which, tokens)),
        4 => (any::<usize>(), tokens()).prop_map(|(which, tokens)| Step::Settle(which, tokens)),
        2 => any::<usize>().prop_map(Step::Unused),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => (0..SCOPES, limits()).prop_map(|(scope, limits)| Step::SetLimits(scope, limits)),
    ];
    prop::collection::vec(step, 1..120)
}

/// What was admitted for one caller at one moment, and what it counts for by now.
#[derive(Debug)]
struct Admission {
    scopes: [usize; 3],
    at: Micros,
    requests: u64,
    tokens: u64,
    /// Whether its request has not ended.
    runs: bool,
    /// As they were then.
    limits: Hierarchy,
}

/// A request that runs: its admission, and that of its tokens if they came later.
#[derive(Debug)]
struct Running {
    who: usize,
    request: usize,
    tokens: usize,
    hold: Hold,
}

/// Every admission ever, and who runs.
#[derive(Debug, Default)]
struct Model {
    admitted: Vec<Admission>,
    running: Vec<Running>,
}

/// A refusal: by which limit, whose, and when to come back.
type Refused = (Limit, Scope, Option<Duration>);

impl Model {
    /// Sums of one scope over the whole seconds that the limiter promises to count.
    fn in_use(&self, scope: usize, now: Micros) -> InUse {
        let oldest = now.div_euclid(SLOT_US) - 60;
        let running = self.running.iter().filter(|running| CALLERS[running.who].contains(&scope)).count();
        let mut sum = InUse { running: running as u64, ..InUse::default() };
        for admission in &self.admitted {
            if admission.scopes.contains(&scope) && admission.at.div_euclid(SLOT_US) >= oldest {
                sum.requests += admission.requests;
                sum.tokens += admission.tokens;
                sum.held_tokens += if admission.runs { admission.tokens } else { 0 };
            }
        }
        sum
    }

    /// The refusal that `tokens` must get, of a new request or of one that is `counted` already. Found by trying: the
    /// first moment at which they fit, if nothing else comes, is the time to come back.
    fn refusal(&self, who: usize, limits: &Hierarchy, tokens: u64, counted: bool, now: Micros) -> Option<Refused> {
        let mut refused: Vec<Refused> = Vec::new();
        for (index, scope) in CALLERS[who].into_iter().zip(Scope::ALL) {
            let limits = limits.at(scope);
            let mut try_all = |limit, fits: &dyn Fn(InUse) -> bool| {
                let moments = (0..=61).map(|second| now.max((now.div_euclid(SLOT_US) + second) * SLOT_US));
                let first = moments.into_iter().find(|&at| fits(self.in_use(index, at)));
                if first != Some(now) {
                    refused.push((limit, scope, first.map(|at| Duration::from_micros((at - now) as u64))));
                }
            };
            if let (Some(limit), false) = (limits.requests_per_minute, counted) {
                try_all(Limit::RequestsPerMinute, &|sum| sum.requests < limit);
            }
            if let Some(limit) = limits.tokens_per_minute {
                try_all(Limit::TokensPerMinute, &|sum| sum.tokens + tokens <= limit);
            }
            if let (Some(limit), false) = (limits.concurrent_requests, counted)
                && self.in_use(index, now).running >= limit
            {
                refused.push((Limit::Concurrency, scope, (limit > 0).then_some(CONCURRENCY_RETRY)));
            }
        }
        let longest = refused.iter().map(|(.., wait)| wait.unwrap_or(Duration::MAX)).max()?;
        refused.into_iter().rfind(|(.., wait)| wait.unwrap_or(Duration::MAX) == longest)
    }

    /// What the youngest reservation tells is left, against what is.
    fn check_standing(&self, now: Micros) {
        let Running { who, hold, .. } = self.running.last().unwrap();
        let standing = hold.standing();
        for (limit, headroom, of) in [
            (Limit::RequestsPerMinute, standing.requests_per_minute, (|sum| sum.requests) as fn(InUse) -> u64),
            (Limit::TokensPerMinute, standing.tokens_per_minute, |sum| sum.tokens),
            (Limit::Concurrency, standing.concurrent_requests, |sum| sum.running),
        ] {
            let left = CALLERS[*who].into_iter().zip(Scope::ALL).rev().filter_map(|(index, scope)| {
                let allowed = hold.limits.at(scope).get(limit)?;
                let empty_at = (0..=61).map(|second| now.max((now.div_euclid(SLOT_US) + second) * SLOT_US));
                let empty_at = empty_at.into_iter().find(|&at| of(self.in_use(index, at)) == 0);
                let reset = empty_at.map(|at| Duration::from_micros((at - now) as u64));
                let reset = if limit == Limit::Concurrency { None } else { reset };
                let remaining = allowed.saturating_sub(of(self.in_use(index, now)));
                Some(Headroom { scope, limit: allowed, remaining, reset })
            });
            assert_eq!(headroom, left.min_by_key(|headroom| headroom.remaining), "{limit:?}");
        }
    }

    /// Every minute that ends at an admission, by the limits of that moment; any other minute holds no more than one of
    /// these.
    fn check_minutes(&self) {
        for (last, end) in self.admitted.iter().enumerate() {
            for (index, scope) in end.scopes.into_iter().zip(Scope::ALL) {
                let (mut requests, mut tokens) = (0, 0);
                for one in &self.admitted[..=last] {
                    if one.scopes.contains(&index) && one.at >= end.at - 60_000_000 {
                        requests += one.requests;
                        tokens += one.tokens;
                    }
                }
                let limits = end.limits.at(scope);
                // Tokens that came later were not held against the limit of requests again.
                let most = limits.requests_per_minute.filter(|_| end.requests > 0);
                assert!(requests <= most.unwrap_or(u64::MAX), "{requests} requests of {scope:?} by {end:?}");
                assert!(tokens <= limits.tokens_per_minute.unwrap_or(u64::MAX), "{tokens} of {scope:?} by {end:?}");
            }
        }
    }
}

/// The limiter, its callers, and what the model makes of the same history.
struct World {
    clock: Clock,
    local: Local,
    callers: Vec<Principal>,
    limits: Vec<Limits>,
    model: Model,
}

impl World {
    fn new(start: Micros, limits: Vec<Limits>) -> World {
        let clock = Clock::manual(start);
        let tenants = [TenantId::new(), TenantId::new()];
        let projects = [ProjectId::new(), ProjectId::new(), ProjectId::new()];
        let callers = CALLERS.map(|[tenant, project, _]| {
            let project = projects[project - tenants.len()].clone();
            crate::store::testing::developer(tenants[tenant].clone(), project, Limits::default())
        });
        World { local: Local::new(clock.clone()), clock, callers: callers.into(), limits, model: Model::default() }
    }

    fn restore(&mut self, who: usize, ago_us: u64, requests: u64, tokens: u64) {
        let Principal { tenant, project, key, .. } = self.callers[who].clone();
        self.local.restore(&Past { tenant, project, key, ago: Duration::from_micros(ago_us), requests, tokens });
        let at = self.clock.now() - ago_us as i64;
        let limits = Hierarchy::default();
        self.model.admitted.push(Admission { scopes: CALLERS[who], at, requests, tokens, runs: false, limits });
    }

    fn step(&mut self, step: Step) {
        let running = self.model.running.len();
        match step {
            Step::Wait(us) => self.clock.advance(Duration::from_micros(us)),
            Step::SetLimits(scope, limits) => self.limits[scope] = limits,
            Step::Reserve(who, tokens) => self.reserve(who, tokens),
            Step::AddTokens(..) | Step::Settle(..) | Step::Unused(_) | Step::Drop(_) if running == 0 => {}
            Step::AddTokens(which, tokens) => self.add_tokens(which % running, tokens),
            Step::Settle(which, used) => self.end(which % running, Some(used)),
            Step::Unused(which) => self.end(which % running, Some(0)),
            Step::Drop(which) => self.end(which % running, None),
        }
    }

    fn reserve(&mut self, who: usize, tokens: u64) {
        let (now, scopes) = (self.clock.now(), CALLERS[who]);
        let [tenant, project, key] = scopes.map(|scope| self.limits[scope]);
        let limits = Hierarchy { tenant, project, key };
        let caller = Principal { limits, ..self.callers[who].clone() };
        let refused = self.model.refusal(who, &limits, tokens, false, now);
        let Some(hold) = self.agreed(self.local.reserve(&caller, tokens), refused, who) else { return };
        let at = self.model.admitted.len();
        self.model.admitted.push(Admission { scopes, at: now, requests: 1, tokens, runs: true, limits });
        self.model.running.push(Running { who, request: at, tokens: at, hold });
        self.model.check_standing(now);
    }

    /// Once, to a hold that has none.
    fn add_tokens(&mut self, which: usize, tokens: u64) {
        let now = self.clock.now();
        if self.model.running[which].hold.tokens > 0 {
            return;
        }
        let refused = {
            let Running { who, hold, .. } = &self.model.running[which];
            self.model.refusal(*who, &hold.limits, tokens, true, now)
        };
        let Running { who, request, hold, .. } = self.model.running.swap_remove(which);
        let limits = hold.limits;
        let Some(hold) = self.agreed(hold.add_tokens(tokens), refused, who) else {
            self.model.admitted[request].requests = 0; // as if it had not been
            return;
        };
        let at = self.model.admitted.len();
        self.model.admitted.push(Admission { scopes: CALLERS[who], at: now, requests: 0, tokens, runs: true, limits });
        self.model.running.push(Running { who, request, tokens: at, hold });
        self.model.check_standing(now);
    }

    /// Limiter and model say the same; the hold, unless both refuse.
    fn agreed(&self, answer: Result<Hold>, refused: Option<Refused>, who: usize) -> Option<Hold> {
        let error = match (answer, refused) {
            (Ok(hold), None) => return Some(hold),
            (Err(error), Some(_)) => error,
            (answer, refused) => panic!("{answer:?}, and by the model {refused:?}"),
        };
        let (limit, scope, wait) = refused.unwrap();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::QuotaExceeded(limit), wait), "{refused:?}: {error}");
        let Principal { tenant, project, key, .. } = &self.callers[who];
        let name = format!("{} of {} {}", limit.as_str(), scope.as_str(), Ids { tenant, project, key }.of(scope));
        assert!(error.message.contains(&name), "{name:?} in {error}");
        None
    }

    /// `None`: what was used is not known.
    fn end(&mut self, which: usize, used: Option<u64>) {
        let Running { request, tokens, hold, .. } = self.model.running.swap_remove(which);
        self.model.admitted[request].runs = false;
        self.model.admitted[tokens].runs = false;
        match used {
            Some(used) => {
                let used = used.min(hold.tokens); // what is used beyond is a broken promise of the caller, not ours
                self.model.admitted[tokens].tokens = used;
                hold.end(used);
            }
            None => drop(hold),
        }
    }

    /// Every counter at every level: so also that a refusal left none of them changed.
    fn check_usage(&self) {
        let now = self.clock.now();
        for (caller, [tenant, project, key]) in self.callers.iter().zip(CALLERS) {
            let usage = self.local.usage(&caller.tenant, Some(&caller.project), Some(&caller.key));
            let [tenant, project, key] = [tenant, project, key].map(|scope| self.model.in_use(scope, now));
            assert_eq!(usage, Usage { tenant, project: Some(project), key: Some(key) });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_minute_exceeds_a_limit_at_any_level_and_refusals_and_refunds_are_exact(
        history in steps(),
        limits in prop::collection::vec(limits(), SCOPES),
        past in prop::collection::vec((0..CALLERS.len(), 0u64..70_000_000, 0u64..3, 0u64..40), 0..4),
        start in 100_000_000i64..103_000_000,
    ) {
        let mut world = World::new(start, limits);
        for (who, ago_us, requests, tokens) in past {
            world.restore(who, ago_us, requests, tokens);
        }
        for step in history {
            world.step(step);
            world.check_usage();
        }
        world.model.check_minutes();

        while !world.model.running.is_empty() {
            world.end(0, None);
        }
        world.clock.advance(Duration::from_secs(62));
        world.check_usage();
        world.clock.advance(Duration::from_secs(10));
        prop_assert_eq!(world.local.counters(), 0, "all is forgotten");
    }
}
