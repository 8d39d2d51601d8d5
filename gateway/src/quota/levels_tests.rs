//! What tenant, project and key have to do with each other.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const SECOND: Duration = Duration::from_secs(1);
const NONE: Limits = Limits { requests_per_minute: None, tokens_per_minute: None, concurrent_requests: None };

fn requests(limit: u64) -> Limits {
    Limits { requests_per_minute: Some(limit), ..NONE }
}

fn tokens(limit: u64) -> Limits {
    Limits { tokens_per_minute: Some(limit), ..NONE }
}

fn concurrent(limit: u64) -> Limits {
    Limits { concurrent_requests: Some(limit), ..NONE }
}

fn caller(tenant: Limits, project: Limits, key: Limits) -> Principal {
    let limits = Hierarchy { tenant, project, key };
    let caller = crate::store::testing::developer(TenantId::new(), ProjectId::new(), Limits::default());
    Principal { limits, ..caller }
}

fn other_key(who: &Principal) -> Principal {
    Principal { key: KeyId::new(), ..who.clone() }
}

fn other_project(who: &Principal) -> Principal {
    Principal { project: ProjectId::new(), ..other_key(who) }
}

fn with(who: &Principal, tenant: Limits, project: Limits, key: Limits) -> Principal {
    Principal { limits: Hierarchy { tenant, project, key }, ..who.clone() }
}

/// With the same limit at one level only.
fn at(who: &Principal, scope: Scope, limits: Limits) -> Principal {
    match scope {
        Scope::Tenant => with(who, limits, NONE, NONE),
        Scope::Project => with(who, NONE, limits, NONE),
        Scope::Key => with(who, NONE, NONE, limits),
    }
}

fn usage(local: &Local, who: &Principal) -> Usage {
    local.usage(&who.tenant, Some(&who.project), Some(&who.key))
}

fn refusal(local: &Local, who: &Principal, tokens: u64) -> (String, Option<Duration>) {
    let error = local.reserve(who, tokens).unwrap_err();
    (error.message, error.retry_after)
}

#[test]
fn a_refusal_by_the_key_takes_nothing_from_its_project_and_tenant() {
    let local = Local::new(Clock::manual(0));
    let who = caller(requests(10), tokens(100), requests(1));
    local.reserve(&who, 10).unwrap().end(10);
    let before = usage(&local, &who);
    for _ in 0..20 {
        refusal(&local, &who, 10);
    }
    assert_eq!(usage(&local, &who), before);
    let standing = local.reserve(&other_key(&who), 90).unwrap().standing();
    assert_eq!(standing.tokens_per_minute.unwrap().remaining, 0, "all but the first ten were left");
}

#[test]
fn tokens_that_one_level_refuses_take_the_request_from_all() {
    for scope in Scope::ALL {
        let local = Local::new(Clock::manual(0));
        let who = at(&caller(NONE, NONE, NONE), scope, tokens(100));
        let error = local.reserve(&who, 0).unwrap().add_tokens(101).unwrap_err();
        assert_eq!(error.kind, ErrorKind::QuotaExceeded(Limit::TokensPerMinute), "{scope:?}");
        let nothing = InUse::default();
        assert_eq!(usage(&local, &who), Usage { tenant: nothing, project: Some(nothing), key: Some(nothing) });
    }
}

#[test]
fn two_keys_of_a_project_share_its_limit_and_another_project_has_its_own() {
    let local = Local::new(Clock::manual(0));
    let one = caller(NONE, requests(2), NONE);
    let two = other_key(&one);
    local.reserve(&one, 1).unwrap().end(1);
    local.reserve(&two, 1).unwrap().end(1);
    let text =
        format!("Limit requests_per_minute of project {} reached: 2 of 2 in use. Try again in 61 s.", one.project);
    assert_eq!(refusal(&local, &one, 1), (text.clone(), Some(61 * SECOND)));
    assert_eq!(refusal(&local, &two, 1).0, text);
    local.reserve(&other_project(&one), 1).unwrap();
}

#[test]
fn two_projects_of_a_tenant_share_its_limit_however_wide_their_own_are() {
    let local = Local::new(Clock::manual(0));
    let one = caller(tokens(100), tokens(1_000), tokens(1_000));
    local.reserve(&one, 60).unwrap().end(60);
    let (text, _) = refusal(&local, &other_project(&one), 41);
    assert!(text.starts_with(&format!("Limit tokens_per_minute of tenant {} ", one.tenant)), "{text}");
    local.reserve(&other_project(&one), 40).unwrap();
}

#[test]
fn the_limit_that_refuses_for_longest_is_told_wherever_it_is() {
    let clock = Clock::manual(0);
    let local = Local::new(clock.clone());
    let who = caller(requests(3), tokens(100), concurrent(2));
    local.reserve(&other_project(&who), 1).unwrap().end(1);
    clock.advance(20 * SECOND);
    local.reserve(&other_key(&who), 60).unwrap().end(60);
    clock.advance(10 * SECOND);
    let _running = local.reserve(&who, 10).unwrap();
    // The tenant's requests fit again at 61 s, the project's tokens at 81 s.
    let (text, wait) = refusal(&local, &who, 50);
    assert!(text.starts_with(&format!("Limit tokens_per_minute of project {} ", who.project)), "{text}");
    assert_eq!(wait, Some(51 * SECOND));
    let (text, wait) = refusal(&local, &who, 101);
    assert_eq!(
        text,
        format!("This request can never fit limit tokens_per_minute of project {}, which is 100.", who.project)
    );
    assert_eq!(wait, None);
    clock.advance(51 * SECOND - Duration::from_micros(1));
    refusal(&local, &who, 50);
    clock.advance(Duration::from_micros(1));
    local.reserve(&who, 50).unwrap();
}

#[test]
fn what_is_left_is_told_for_the_level_where_least_is_left() {
    let local = Local::new(Clock::manual(0));
    let who = caller(tokens(1_000), tokens(500), Limits { requests_per_minute: Some(9), ..tokens(500) });
    let standing = local.reserve(&who, 100).unwrap().standing();
    let left = standing.tokens_per_minute.unwrap();
    assert_eq!((left.scope, left.limit, left.remaining), (Scope::Key, 500, 400), "of equals the narrowest");
    let left = standing.requests_per_minute.unwrap();
    assert_eq!((left.scope, left.limit, left.remaining, left.reset), (Scope::Key, 9, 8, Some(61 * SECOND)));
    assert_eq!(standing.concurrent_requests, None);
    let standing = local.reserve(&other_project(&who), 450).unwrap().standing();
    let left = standing.tokens_per_minute.unwrap();
    assert_eq!((left.scope, left.limit, left.remaining), (Scope::Key, 500, 50));
    let standing = local.reserve(&other_project(&who), 440).unwrap().standing();
    let left = standing.tokens_per_minute.unwrap();
    assert_eq!((left.scope, left.limit, left.remaining), (Scope::Tenant, 1_000, 10), "shared, so it ends earlier");
}

#[test]
fn a_limit_that_is_set_later_counts_what_is_used_and_runs_already() {
    for scope in Scope::ALL {
        let local = Local::new(Clock::manual(0));
        let who = caller(NONE, NONE, NONE);
        let held = local.reserve(&who, 10).unwrap();
        local.reserve(&who, 30).unwrap().end(30);
        for (limits, text) in [
            (requests(2), "requests_per_minute"),
            (tokens(40), "tokens_per_minute"),
            (concurrent(1), "concurrent_requests"),
        ] {
            let (message, _) = refusal(&local, &at(&who, scope, limits), 1);
            assert!(message.starts_with(&format!("Limit {text} of {} ", scope.as_str())), "{message}");
        }
        held.end(0);
        local.reserve(&at(&who, scope, tokens(40)), 10).unwrap();
    }
}

#[test]
fn a_limit_lowered_below_what_runs_refuses_new_requests_and_lets_the_others_end() {
    for scope in Scope::ALL {
        let clock = Clock::manual(0);
        let local = Local::new(clock.clone());
        let who = caller(NONE, NONE, NONE);
        let wide = at(&who, scope, Limits { concurrent_requests: Some(3), ..tokens(300) });
        let low = at(&who, scope, Limits { concurrent_requests: Some(1), ..tokens(50) });
        let mut held: Vec<Hold> = (0..2).map(|_| local.reserve(&wide, 100).unwrap()).collect();
        held.push(local.reserve(&wide, 0).unwrap());
        assert_eq!(refusal(&local, &low, 0).1, Some(61 * SECOND));

        let last = held.pop().unwrap().add_tokens(100).unwrap(); // it was admitted by the limits that were
        assert_eq!(usage(&local, &who).key.unwrap().running, 3);
        held.into_iter().for_each(|hold| hold.end(20));
        assert_eq!(refusal(&local, &low, 0).1, Some(61 * SECOND), "one still runs, with 140 of 50");
        last.end(10);
        let InUse { tokens, held_tokens, running, .. } = usage(&local, &who).tenant;
        assert_eq!((tokens, held_tokens, running), (50, 0, 0), "each ended exactly");
        local.reserve(&low, 0).unwrap();
    }
}

#[test]
fn usage_tells_used_held_and_running_at_each_level_and_reserves_nothing() {
    let clock = Clock::manual(0);
    let local = Local::new(clock.clone());
    let one = caller(NONE, NONE, NONE);
    let (two, three) = (other_key(&one), other_project(&one));
    local.reserve(&one, 100).unwrap().end(40);
    let held = local.reserve(&two, 7).unwrap();
    drop(local.reserve(&three, 5).unwrap());
    let in_use = |requests, tokens, held_tokens, running| InUse { requests, tokens, held_tokens, running };
    let expected =
        Usage { tenant: in_use(3, 52, 7, 1), project: Some(in_use(2, 47, 7, 1)), key: Some(in_use(1, 40, 0, 0)) };
    assert_eq!(usage(&local, &one), expected);
    assert_eq!(usage(&local, &one), expected, "asking changes nothing");
    assert_eq!(usage(&local, &two).key, Some(in_use(1, 7, 7, 1)));
    assert_eq!(local.usage(&one.tenant, None, None), Usage { project: None, key: None, ..expected });

    clock.advance(61 * SECOND);
    assert_eq!(usage(&local, &two).tenant, in_use(0, 0, 0, 1), "it runs on, but its minute is over");
    drop(held);
}

#[test]
fn usage_knows_nothing_of_another_tenants_project_and_key() {
    let local = Local::new(Clock::manual(0));
    let (one, other) = (caller(NONE, NONE, NONE), caller(NONE, NONE, NONE));
    let _held = [local.reserve(&one, 5).unwrap(), local.reserve(&other, 6).unwrap()];
    let seen = local.usage(&one.tenant, Some(&other.project), Some(&other.key));
    assert_eq!((seen.project, seen.key), (Some(InUse::default()), Some(InUse::default())));
    let unknown = local.usage(&TenantId::new(), Some(&other.project), None);
    assert_eq!(unknown, Usage { tenant: InUse::default(), project: Some(InUse::default()), key: None });
    assert_eq!(local.counters(), 6, "no counter is made by asking");
}

#[test]
fn what_an_earlier_process_admitted_counts_for_its_key_project_and_tenant() {
    let who = caller(NONE, NONE, NONE);
    let (tenant, project, key) = (who.tenant.clone(), who.project.clone(), who.key.clone());
    let past = Past { tenant, project, key, ago: 10 * SECOND, requests: 2, tokens: 40 };
    for scope in Scope::ALL {
        let local = Local::new(Clock::manual(500_000));
        local.restore(&past);
        assert_eq!(refusal(&local, &at(&who, scope, requests(2)), 1).1, Some(50 * SECOND + SECOND / 2));
        assert_eq!(refusal(&local, &at(&who, scope, tokens(40)), 1).1, Some(50 * SECOND + SECOND / 2));
        local.reserve(&at(&who, scope, concurrent(1)), 1).unwrap();
    }
}

#[test]
fn counters_of_keys_and_projects_go_while_their_tenant_stays_busy() {
    let clock = Clock::manual(0);
    let local = Local::new(clock.clone());
    let who = caller(NONE, NONE, NONE);
    let held = local.reserve(&who, 1).unwrap();
    for _ in 0..100 {
        local.reserve(&other_project(&who), 1).unwrap().end(1);
        local.reserve(&other_key(&who), 1).unwrap().end(1);
    }
    assert_eq!(local.counters(), 3 + 2 * 100 + 100);
    clock.advance(62 * SECOND);
    assert_eq!(local.counters(), 3, "those of the request that runs");
    held.end(1);
    clock.advance(62 * SECOND);
    assert_eq!(local.counters(), 0);
}

#[test]
fn many_threads_never_get_more_than_the_limits_of_any_level() {
    let local = Local::new(Clock::manual(0));
    let limits = |requests, concurrent| Limits { concurrent_requests: Some(concurrent), ..self::requests(requests) };
    let one = caller(limits(500, 5), limits(300, 4), limits(200, 2));
    let three = other_project(&one);
    let keys = [one.clone(), other_key(&one), three.clone(), other_key(&three)];
    // Which of these counters each key has: the tenant's, its project's, its own.
    let (admitted, running, most) = <([AtomicU64; 7], [AtomicU64; 7], [AtomicU64; 7])>::default();
    let counters = [[0, 1, 3], [0, 1, 4], [0, 2, 5], [0, 2, 6]];
    std::thread::scope(|scope| {
        for (key, counters) in keys.iter().zip(counters).chain(keys.iter().zip(counters)) {
            let (local, admitted, running, most) = (&local, &admitted, &running, &most);
            scope.spawn(move || {
                loop {
                    match local.reserve(key, 1) {
                        Ok(held) => {
                            for counter in counters {
                                most[counter].fetch_max(running[counter].fetch_add(1, SeqCst) + 1, SeqCst);
                                admitted[counter].fetch_add(1, SeqCst);
                            }
                            for counter in counters {
                                running[counter].fetch_sub(1, SeqCst);
                            }
                            held.end(1);
                        }
                        Err(error) if error.kind == ErrorKind::QuotaExceeded(Limit::Concurrency) => {
                            std::thread::yield_now();
                        }
                        Err(_) => break,
                    }
                }
            });
        }
    });
    let (admitted, most) = (admitted.map(AtomicU64::into_inner), most.map(AtomicU64::into_inner));
    assert_eq!(admitted[0], 500, "the keys together could have more, so the tenant's limit is used up exactly");
    assert!(admitted.iter().zip([500, 300, 300, 200, 200, 200, 200]).all(|(got, limit)| *got <= limit), "{admitted:?}");
    assert!(most.iter().zip([5, 4, 4, 2, 2, 2, 2]).all(|(got, limit)| *got <= limit), "{most:?}");
    for (key, counters) in keys.iter().zip(counters) {
        let Usage { tenant, project, key } = usage(&local, key);
        let counted = [tenant, project.unwrap(), key.unwrap()];
        assert_eq!(counted.map(|in_use| in_use.requests), counters.map(|counter| admitted[counter]));
        assert!(counted.iter().all(|in_use| in_use.running == 0 && in_use.held_tokens == 0));
    }
}
