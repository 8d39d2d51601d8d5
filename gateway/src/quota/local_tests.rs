use super::*;
use crate::auth::Principal;
use crate::id::{KeyId, ProjectId};
use crate::quota::{Limiter, Reservation};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const SECOND: Duration = Duration::from_secs(1);

fn principal(limits: Limits) -> Principal {
    Principal { tenant: TenantId::new(), project: ProjectId::new(), key: KeyId::new(), limits, access: Arc::default() }
}

fn limits(requests: Option<u64>, tokens: Option<u64>, concurrent: Option<u64>) -> Limits {
    Limits { requests_per_minute: requests, tokens_per_minute: tokens, concurrent_requests: concurrent }
}

fn limiter(clock: &Clock) -> Limiter {
    Limiter::local(clock.clone())
}

async fn refused(limiter: &Limiter, who: &Principal, tokens: u64) -> (Limit, Option<Duration>) {
    let error = limiter.reserve(who, tokens).await.unwrap_err();
    match error.kind {
        ErrorKind::QuotaExceeded(limit) => (limit, error.retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_request_fits_exactly_when_it_was_told_and_not_a_microsecond_earlier() {
    let clock = Clock::manual(1_700_000_000_250_000);
    let limiter = limiter(&clock);
    let who = principal(limits(None, Some(100), None));
    limiter.reserve(&who, 60).await.unwrap().settle(60);
    clock.advance(10 * SECOND);
    limiter.reserve(&who, 40).await.unwrap().settle(40);
    clock.advance(SECOND / 2);

    let (limit, wait) = refused(&limiter, &who, 30).await;
    assert_eq!(limit, Limit::TokensPerMinute);
    let wait = wait.unwrap();
    assert!(wait > Duration::from_secs(49) && wait <= Duration::from_secs(51), "{wait:?}");
    clock.advance(wait - Duration::from_micros(1));
    refused(&limiter, &who, 30).await;
    clock.advance(Duration::from_micros(1));
    limiter.reserve(&who, 30).await.unwrap();
}

#[tokio::test]
async fn the_refusal_names_the_limit_what_is_used_and_what_is_allowed() {
    let limiter = limiter(&Clock::manual(0));
    let who = principal(limits(Some(2), None, None));
    for _ in 0..2 {
        limiter.reserve(&who, 1).await.unwrap().settle(1);
    }
    let text = limiter.reserve(&who, 1).await.unwrap_err().message;
    assert_eq!(text, "Limit requests_per_minute reached: 2 of 2 in use. Try again in 61 s.");
}

#[tokio::test]
async fn what_can_never_fit_is_refused_without_a_time_to_retry() {
    let limiter = limiter(&Clock::manual(0));
    let small = principal(limits(None, Some(100), None));
    assert_eq!(refused(&limiter, &small, 101).await, (Limit::TokensPerMinute, None));
    limiter.reserve(&small, 100).await.unwrap();
    let closed = principal(limits(Some(0), None, None));
    assert_eq!(refused(&limiter, &closed, 1).await, (Limit::RequestsPerMinute, None));
    let none_at_once = principal(limits(None, None, Some(0)));
    assert_eq!(refused(&limiter, &none_at_once, 1).await, (Limit::Concurrency, None));
}

#[tokio::test]
async fn a_refusal_takes_nothing_from_any_limit() {
    let limiter = limiter(&Clock::manual(0));
    let who = principal(limits(Some(2), Some(10), Some(2)));
    for _ in 0..5 {
        assert_eq!(refused(&limiter, &who, 11).await.0, Limit::TokensPerMinute);
    }
    let standing = limiter.reserve(&who, 4).await.unwrap().standing();
    assert_eq!(standing.requests_per_minute.unwrap().remaining, 1);
    assert_eq!(standing.tokens_per_minute.unwrap().remaining, 6);
    assert_eq!(standing.concurrent_requests.unwrap().remaining, 1);
}

#[tokio::test]
async fn settling_gives_back_the_difference_and_a_drop_only_the_place() {
    let limiter = limiter(&Clock::manual(0));
    let who = principal(limits(None, Some(100), Some(1)));
    limiter.reserve(&who, 80).await.unwrap().settle(10);
    drop(limiter.reserve(&who, 50).await.unwrap());
    assert_eq!(refused(&limiter, &who, 41).await.0, Limit::TokensPerMinute, "10 used and 50 dropped");
    limiter.reserve(&who, 40).await.unwrap().release_unused();
    let held = limiter.reserve(&who, 40).await.unwrap();
    assert_eq!(held.standing().tokens_per_minute.unwrap().remaining, 0);
    held.settle(45); // more than held: an estimate of the prompt was too low
    assert_eq!(refused(&limiter, &who, 1).await.0, Limit::TokensPerMinute);
}

#[tokio::test]
async fn a_late_settlement_gives_nothing_to_the_second_that_took_its_slot() {
    let clock = Clock::manual(0);
    let limiter = limiter(&clock);
    let who = principal(limits(None, Some(100), None));
    let old = limiter.reserve(&who, 100).await.unwrap();
    clock.advance(61 * SECOND);
    let young = limiter.reserve(&who, 100).await.unwrap();
    old.settle(0);
    assert_eq!(refused(&limiter, &who, 1).await.0, Limit::TokensPerMinute);
    young.settle(99);
    limiter.reserve(&who, 1).await.unwrap();
}

#[tokio::test]
async fn tokens_are_added_to_a_request_in_the_second_they_come_and_given_back_there() {
    let clock = Clock::manual(0);
    let limiter = limiter(&clock);
    let who = principal(limits(Some(2), Some(100), Some(2)));
    let held = limiter.reserve_request(&who).await.unwrap();
    assert_eq!(held.standing().tokens_per_minute.unwrap().remaining, 100);
    clock.advance(30 * SECOND);
    let held = held.add_tokens(80).await.unwrap();
    let standing = held.standing();
    assert_eq!(standing.tokens_per_minute.unwrap().remaining, 20);
    assert_eq!(standing.requests_per_minute.unwrap().remaining, 1);
    assert_eq!(standing.concurrent_requests.unwrap().remaining, 1);
    clock.advance(31 * SECOND);
    let next = limiter.reserve_request(&who).await.unwrap();
    assert_eq!(next.standing().requests_per_minute.unwrap().remaining, 1, "the first request's minute is over");
    assert_eq!(next.standing().tokens_per_minute.unwrap().remaining, 20, "that of its tokens is not");
    held.settle(10);
    let next = next.add_tokens(90).await.unwrap();
    assert_eq!(next.standing().tokens_per_minute.unwrap().remaining, 0);
}

#[tokio::test]
async fn a_request_whose_tokens_are_refused_leaves_nothing_behind() {
    let limiter = limiter(&Clock::manual(0));
    let who = principal(limits(Some(1), Some(100), Some(1)));
    for _ in 0..3 {
        let held = limiter.reserve_request(&who).await.unwrap();
        refused(&limiter, &who, 1).await; // its place is taken meanwhile
        let error = held.add_tokens(101).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::QuotaExceeded(Limit::TokensPerMinute), None));
    }
    limiter.reserve_request(&who).await.unwrap().add_tokens(100).await.unwrap();
}

#[tokio::test]
async fn what_an_earlier_process_admitted_leaves_when_its_minute_is_over() {
    let clock = Clock::manual(500_000);
    let limiter = limiter(&clock);
    let who = principal(limits(Some(3), Some(100), Some(1)));
    let past = |seconds, requests, tokens| Past { tenant: who.tenant.clone(), ago: SECOND * seconds, requests, tokens };
    limiter.restore(&[past(3600, 9, 900), past(61, 9, 900), past(60, 1, 50), past(10, 2, 40)]);
    assert_eq!(refused(&limiter, &who, 1).await, (Limit::RequestsPerMinute, Some(SECOND / 2)));
    clock.advance(SECOND / 2);
    let held = limiter.reserve(&who, 60).await.unwrap();
    assert_eq!(held.standing().requests_per_minute.unwrap().remaining, 0);
    assert_eq!(held.standing().tokens_per_minute.unwrap().remaining, 0);
}

#[tokio::test]
async fn a_place_comes_free_however_the_reservation_ends() {
    let limiter = limiter(&Clock::manual(0));
    let who = principal(limits(None, None, Some(1)));
    let ends: [fn(Reservation); 3] = [drop, |held| held.settle(1), Reservation::release_unused];
    for end in ends {
        let held = limiter.reserve(&who, 1).await.unwrap();
        assert_eq!(refused(&limiter, &who, 1).await, (Limit::Concurrency, Some(CONCURRENCY_RETRY)));
        end(held);
    }
    limiter.reserve(&who, 1).await.unwrap();
}

#[tokio::test]
async fn one_tenant_never_feels_another() {
    let limiter = limiter(&Clock::manual(0));
    let (one, other) = (principal(limits(Some(1), None, None)), principal(limits(Some(1), None, None)));
    limiter.reserve(&one, 1).await.unwrap();
    refused(&limiter, &one, 1).await;
    limiter.reserve(&other, 1).await.unwrap();
}

#[tokio::test]
async fn tenants_that_hold_and_count_nothing_are_forgotten() {
    let clock = Clock::manual(0);
    let Limiter::Local(local) = limiter(&clock);
    let held = local.reserve(&TenantId::new(), Limits::default(), 1).unwrap();
    for _ in 0..100 {
        drop(local.reserve(&TenantId::new(), Limits::default(), 1).unwrap());
    }
    assert_eq!(local.tenants(), 101);
    clock.advance(62 * SECOND);
    drop(local.reserve(&TenantId::new(), Limits::default(), 1).unwrap());
    assert_eq!(local.tenants(), 2, "the one that holds and the one that just came");
    drop(held);
    clock.advance(62 * SECOND);
    drop(local.reserve(&TenantId::new(), Limits::default(), 1).unwrap());
    assert_eq!(local.tenants(), 1);
}

#[test]
fn many_threads_never_get_more_than_the_limits() {
    let local = Local::new(Clock::manual(0));
    let tenant = TenantId::new();
    let bounds = limits(Some(500), Some(5_000), Some(7));
    let (admitted, running, most) = (&AtomicU64::new(0), &AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (local, tenant) = (local.clone(), tenant.clone());
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let Ok(held) = local.reserve(&tenant, bounds, 20) else { continue };
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    admitted.fetch_add(1, SeqCst);
                    running.fetch_sub(1, SeqCst);
                    held.end(10);
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 7);
    assert_eq!(
        admitted.load(SeqCst),
        499,
        "all that fits is admitted: 498 settled at 10 leave room for just one more 20"
    );
    let standing = local.reserve(&tenant, limits(Some(1_000), Some(10_000), Some(1)), 0).unwrap().standing();
    assert_eq!(standing.tokens_per_minute.unwrap().remaining, 10_000 - 10 * admitted.load(SeqCst));
    assert_eq!(standing.requests_per_minute.unwrap().remaining, 1_000 - admitted.load(SeqCst) - 1);
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Reserve(u64),
    Settle(usize, u64),
    Unused(usize),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop_oneof![0u64..3_000_000, 0u64..70_000_000].prop_map(Step::Wait),
        6 => (0u64..60).prop_map(Step::Reserve),
        2 => (any::<usize>(), 0u64..60).prop_map(|(which, tokens)| Step::Settle(which, tokens)),
        1 => any::<usize>().prop_map(Step::Unused),
        1 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 1..120)
}

/// The plain model: every admission ever, with its time and what it counts for.
#[derive(Default)]
struct Model {
    admitted: Vec<(Micros, u64)>,
    held: Vec<(usize, Hold)>,
}

impl Model {
    /// Sums over the 60 seconds that end at `end`, both ends included.
    fn minute(&self, end: Micros) -> Used {
        let inside = self.admitted.iter().filter(|(at, _)| (end - 60_000_000..=end).contains(at));
        inside.fold(Used::default(), |used, (_, tokens)| Used {
            requests: used.requests + 1,
            tokens: used.tokens + tokens,
        })
    }

    /// The same, over whole seconds: what the limiter promises to count.
    fn slots(&self, now: Micros) -> Used {
        let oldest = now.div_euclid(SLOT_US) - 60;
        let inside = self.admitted.iter().filter(|(at, _)| at.div_euclid(SLOT_US) >= oldest);
        inside.fold(Used::default(), |used, (_, tokens)| Used {
            requests: used.requests + 1,
            tokens: used.tokens + tokens,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_minute_ever_exceeds_a_limit_and_refunds_are_exact(
        history in steps(),
        bounds in (1u64..12, 1u64..200, 1u64..6),
        start in 0i64..3_000_000,
    ) {
        let clock = Clock::manual(start);
        let local = Local::new(clock.clone());
        let tenant = TenantId::new();
        let (requests, tokens, concurrent) = bounds;
        let bounds = limits(Some(requests), Some(tokens), Some(concurrent));
        let mut model = Model::default();
        for step in history {
            let now = clock.now();
            match step {
                Step::Wait(us) => clock.advance(Duration::from_micros(us)),
                Step::Reserve(ask) => {
                    let used = model.slots(now);
                    let fits = used.requests < requests
                        && used.tokens + ask <= tokens
                        && (model.held.len() as u64) < concurrent;
                    let held = local.reserve(&tenant, bounds, ask);
                    prop_assert_eq!(held.is_ok(), fits, "{:?}", held);
                    if let Ok(held) = held {
                        model.admitted.push((now, ask));
                        let used = model.slots(now);
                        let standing = held.standing();
                        prop_assert_eq!(standing.requests_per_minute.unwrap().remaining, requests - used.requests);
                        prop_assert_eq!(standing.tokens_per_minute.unwrap().remaining, tokens - used.tokens);
                        model.held.push((model.admitted.len() - 1, held));
                    }
                }
                Step::Settle(..) | Step::Unused(_) | Step::Drop(_) if model.held.is_empty() => {}
                Step::Settle(which, used) => {
                    let (at, held) = model.held.swap_remove(which % model.held.len());
                    let used = used.min(held.tokens);
                    model.admitted[at].1 = used;
                    held.end(used);
                }
                Step::Unused(which) => {
                    let (at, held) = model.held.swap_remove(which % model.held.len());
                    model.admitted[at].1 = 0;
                    held.end(0);
                }
                Step::Drop(which) => {
                    model.held.swap_remove(which % model.held.len());
                }
            }
            // Every minute that ends at an admission; any other holds no more than one of these.
            for (end, _) in &model.admitted {
                let used = model.minute(*end);
                prop_assert!(used.requests <= requests && used.tokens <= tokens, "{:?} by {}", used, end);
            }
        }
    }
}
