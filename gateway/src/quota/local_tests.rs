use super::*;
use crate::auth::Principal;
use crate::id::ProjectId;
use crate::quota::counter::CONCURRENCY_RETRY;
use crate::quota::{Limiter, Reservation};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const SECOND: Duration = Duration::from_secs(1);

fn principal(limits: Limits) -> Principal {
    crate::store::testing::developer(TenantId::new(), ProjectId::new(), limits)
}

fn with(who: &Principal, tenant: Limits) -> Principal {
    Principal { limits: Hierarchy::of_tenant(tenant), ..who.clone() }
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
    assert_eq!(
        text,
        format!("Limit requests_per_minute of tenant {} reached: 2 of 2 in use. Try again in 61 s.", who.tenant)
    );
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
    let past = |seconds, requests, tokens| Past {
        tenant: who.tenant.clone(),
        project: who.project.clone(),
        key: who.key.clone(),
        ago: SECOND * seconds,
        requests,
        tokens,
    };
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
    let held = local.reserve(&principal(Limits::default()), 1).unwrap();
    for _ in 0..100 {
        drop(local.reserve(&principal(Limits::default()), 1).unwrap());
    }
    assert_eq!(local.counters(), 3 * 101);
    clock.advance(62 * SECOND);
    drop(local.reserve(&principal(Limits::default()), 1).unwrap());
    assert_eq!(local.counters(), 3 * 2, "the one that holds and the one that just came");
    drop(held);
    clock.advance(62 * SECOND);
    drop(local.reserve(&principal(Limits::default()), 1).unwrap());
    assert_eq!(local.counters(), 3);
}

#[test]
fn many_threads_never_get_more_than_the_limits() {
    let local = Local::new(Clock::manual(0));
    let who = principal(limits(Some(500), Some(5_000), Some(7)));
    let (admitted, running, most) = (&AtomicU64::new(0), &AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (local, who) = (local.clone(), who.clone());
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let Ok(held) = local.reserve(&who, 20) else { continue };
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
    let standing = local.reserve(&with(&who, limits(Some(1_000), Some(10_000), Some(1))), 0).unwrap().standing();
    assert_eq!(standing.tokens_per_minute.unwrap().remaining, 10_000 - 10 * admitted.load(SeqCst));
    assert_eq!(standing.requests_per_minute.unwrap().remaining, 1_000 - admitted.load(SeqCst) - 1);
}
