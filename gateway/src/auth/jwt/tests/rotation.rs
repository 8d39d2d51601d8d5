//! Keys that come, go, or can't be had. Time is moved by hand: stopped, advanced, and let go again before bytes flow.

use super::kit::*;
use crate::auth::jwt::{Issuers, Refusal};
use crate::config::{JwtAlgorithm, JwtIssuer};
use crate::error::{Error, ErrorKind};
use futures::future::join_all;
use http::StatusCode;
use serde_json::json;
use std::time::Duration;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const ES256: [JwtAlgorithm; 1] = [JwtAlgorithm::ES256];

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn assert_unavailable(error: &Error) {
    assert_eq!(error.kind, ErrorKind::Overloaded, "{error:?}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(5)));
    assert!(!error.message.contains("idp"), "{}", error.message);
}

/// All causes, as the log shows them.
fn causes(error: &Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text.push_str(&format!("{deeper}; "));
        cause = deeper.source();
    }
    text
}

#[tokio::test]
async fn keys_are_fetched_at_first_need_and_once() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    let token = EC.sign(&claims());
    assert_eq!(publisher.hits(), 0);
    let results = join_all((0..100).map(|_| issuers.verify(&token, NOW_US))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    issuers.verify(&token, NOW_US).await.unwrap();
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn a_token_that_is_wrong_without_its_signature_causes_no_fetch() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    for changes in [json!({ "iss": "x" }), json!({ "aud": "x" }), json!({ "exp": NOW - 60 }), json!({ "exp": null })] {
        reason(&issuers.verify(&EC.sign(&with(&claims(), changes)), NOW_US).await.unwrap_err());
    }
    reason(&issuers.verify(&ED.sign(&claims()), NOW_US).await.unwrap_err());
    assert_eq!(publisher.hits(), 0);
}

#[tokio::test]
async fn a_new_key_is_accepted_after_one_fetch() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    issuers.verify(&EC.sign(&claims()), NOW_US).await.unwrap();
    let next = ec_pair("e2");
    publisher.publish(jwks(&[&EC, &next]));
    let token = next.sign(&claims());
    // All at once: whoever did not start the fetch looks again when it has ended.
    let results = join_all((0..50).map(|_| issuers.verify(&token, NOW_US))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    issuers.verify(&EC.sign(&claims()), NOW_US).await.unwrap();
    assert_eq!(publisher.hits(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_refresh() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    issuers.watch(&tasks, &stopping);
    let token = EC.sign(&claims());
    issuers.verify(&token, NOW_US).await.unwrap();
    publisher.publish(jwks(&[&ec_pair("e2")]));
    pass(Duration::from_secs(290)).await;
    issuers.verify(&token, NOW_US).await.unwrap();
    assert_eq!(publisher.hits(), 1, "it was refreshed too early");
    pass(Duration::from_secs(12)).await;
    let mut refused = None;
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        refused = issuers.verify(&token, NOW_US).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(reason(&refused.unwrap()), Refusal::UnknownKey);

    tasks.close();
    stopping.cancel();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch_in_30_s() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    let token = ec_pair("e1").sign(&claims());
    let (_, rest) = token.split_once('.').unwrap();
    let flood = async |unknown: std::ops::Range<usize>| {
        let header = |n| json!({ "alg": "ES256", "kid": format!("unknown-{n}") }).to_string();
        let tokens: Vec<_> = unknown.map(|n| format!("{}.{rest}", b64(header(n)))).collect();
        for result in join_all(tokens.iter().map(|token| issuers.verify(token, NOW_US))).await {
            assert_eq!(reason(&result.unwrap_err()), Refusal::UnknownKey);
        }
    };
    flood(0..500).await;
    flood(500..1000).await;
    assert_eq!(publisher.hits(), 2, "one load, and one for all the unknown");
    // Not to the second: what the test itself takes counts too.
    pass(Duration::from_secs(20)).await;
    flood(1000..1100).await;
    assert_eq!(publisher.hits(), 2);
    pass(Duration::from_secs(10)).await;
    flood(1100..1200).await;
    assert_eq!(publisher.hits(), 3);
    // Who has a good key noticed nothing.
    issuers.verify(&EC.sign(&claims()), NOW_US).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_gone_is_trusted_for_an_hour_then_not_until_it_is_back() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    let token = EC.sign(&claims());
    issuers.verify(&token, NOW_US).await.unwrap();
    publisher.change(|answer| answer.status = StatusCode::INTERNAL_SERVER_ERROR);
    pass(minutes(59)).await;
    issuers.verify(&token, NOW_US).await.unwrap();
    pass(minutes(1)).await;
    for _ in 0..20 {
        let error = issuers.verify(&token, NOW_US).await.unwrap_err();
        assert_unavailable(&error);
        assert!(causes(&error).contains("answered 500"), "{}", causes(&error));
    }
    assert_eq!(publisher.hits(), 2, "callers in need asked again within 5 s");
    publisher.publish(jwks(&[&EC]));
    assert_unavailable(&issuers.verify(&token, NOW_US).await.unwrap_err());
    pass(Duration::from_secs(5)).await;
    issuers.verify(&token, NOW_US).await.unwrap();
}

#[tokio::test]
async fn a_failing_refresh_is_tried_again_every_30_s_and_keeps_what_is_there() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    let issuers = publisher.issuers(&ES256);
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    issuers.watch(&tasks, &stopping);
    issuers.verify(&EC.sign(&claims()), NOW_US).await.unwrap();
    publisher.change(|answer| answer.status = StatusCode::SERVICE_UNAVAILABLE);
    let settle = || tokio::time::sleep(Duration::from_millis(1_500));
    pass(minutes(5)).await;
    settle().await;
    assert_eq!(publisher.hits(), 2);
    issuers.verify(&EC.sign(&claims()), NOW_US).await.unwrap();
    pass(Duration::from_secs(30)).await;
    settle().await;
    assert_eq!(publisher.hits(), 3);
    stopping.cancel();
}

#[tokio::test]
async fn what_an_issuer_must_not_answer_makes_its_tokens_unverifiable_and_is_told_to_the_log_only() {
    let elsewhere = Publisher::start(jwks(&[&EC])).await;
    let away = elsewhere.url();
    let many: Vec<_> = (0..65).map(|_| EC.public()).collect();
    let many = json!({ "keys": many }).to_string();
    let large = json!({ "keys": [EC.public()], "x": "x".repeat(256 * 1024) }).to_string();
    for (status, body, why) in [
        (StatusCode::FOUND, String::new(), "answered 302"),
        (StatusCode::NOT_FOUND, jwks(&[&EC]), "answered 404"),
        (StatusCode::NO_CONTENT, String::new(), "answered 204"),
        (StatusCode::OK, many, "65 keys"),
        (StatusCode::OK, large, "larger than"),
        (StatusCode::OK, "<html>".into(), "no JWKS"),
        (StatusCode::OK, String::new(), "no JWKS"),
        (StatusCode::OK, EC.public().to_string(), "no JWKS"),
        (StatusCode::OK, "[]".into(), "no JWKS"),
    ] {
        let publisher = Publisher::start(body).await;
        publisher.change(|answer| (answer.status, answer.location) = (status, Some(away.clone())));
        let error = publisher.issuers(&ES256).verify(&EC.sign(&claims()), NOW_US).await.unwrap_err();
        assert_unavailable(&error);
        assert!(causes(&error).contains(why), "{why}: {}", causes(&error));
        assert_eq!(publisher.hits(), 1);
    }
    assert_eq!(elsewhere.hits(), 0, "a redirect was followed");
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_given_3_s_and_its_callers_share_them() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    publisher.change(|answer| answer.delay = Duration::from_secs(60));
    let issuers = publisher.issuers(&ES256);
    let token = EC.sign(&claims());
    let begun = std::time::Instant::now();
    for result in join_all((0..10).map(|_| issuers.verify(&token, NOW_US))).await {
        let error = result.unwrap_err();
        assert_unavailable(&error);
        assert!(causes(&error).contains("no answer within 3 s"), "{}", causes(&error));
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&took), "{took:?}");
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_neither_stops_nor_repeats_the_fetch() {
    let publisher = Publisher::start(jwks(&[&EC])).await;
    publisher.change(|answer| answer.delay = Duration::from_millis(300));
    let issuers = publisher.issuers(&ES256);
    let token = EC.sign(&claims());
    for _ in 0..5 {
        tokio::time::timeout(Duration::from_millis(20), issuers.verify(&token, NOW_US)).await.unwrap_err();
    }
    issuers.verify(&token, NOW_US).await.unwrap();
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_like_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let settings = JwtIssuer { jwks_file: Some(path.clone()), ..issuer(ISSUER, &ES256) };
    let issuers = Issuers::new(&[settings]).unwrap();
    let token = EC.sign(&claims());
    assert_unavailable(&issuers.verify(&token, NOW_US).await.unwrap_err());
    std::fs::write(&path, jwks(&[&EC])).unwrap();
    pass(Duration::from_secs(5)).await;
    issuers.verify(&token, NOW_US).await.unwrap();
    let next = ec_pair("e2");
    std::fs::write(&path, jwks(&[&next])).unwrap();
    issuers.verify(&next.sign(&claims()), NOW_US).await.unwrap();
    assert_eq!(reason(&issuers.verify(&token, NOW_US).await.unwrap_err()), Refusal::UnknownKey);
    std::fs::write(&path, vec![b' '; 256 * 1024 + 1]).unwrap();
    pass(minutes(60)).await;
    let error = issuers.verify(&next.sign(&claims()), NOW_US).await.unwrap_err();
    assert_unavailable(&error);
    assert!(causes(&error).contains("larger than"), "{}", causes(&error));
}
