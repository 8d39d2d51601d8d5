//! Tokens that are accepted, to the edge of each rule.

use super::kit::*;
use crate::auth::jwt::{ActsAs, Issuers, Refusal, Verified};
use crate::config::{JwtAlgorithm, JwtIssuer, PlatformRole, PlatformSubject};
use crate::error::ErrorKind;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

const ALL: [JwtAlgorithm; 9] = [
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
    JwtAlgorithm::ES256,
    JwtAlgorithm::ES384,
    JwtAlgorithm::EdDSA,
];

fn from_file(dir: &tempfile::TempDir, keys: String) -> Issuers {
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, keys).unwrap();
    let viewer = PlatformSubject { subject: "dashboards".into(), role: PlatformRole::PlatformViewer };
    let mut settings = JwtIssuer { jwks_file: Some(path), ..issuer(ISSUER, &ALL) };
    settings.platform.push(viewer);
    Issuers::new(&[settings]).unwrap()
}

fn all_keys(dir: &tempfile::TempDir) -> Issuers {
    from_file(dir, jwks(&[&RSA.0, &EC, &ED]))
}

#[tokio::test]
async fn a_good_token_of_each_kind_of_key_says_whom_it_acts_as_and_until_when() {
    let dir = tempfile::tempdir().unwrap();
    let issuers = all_keys(&dir);
    for pair in [&RSA.0, &*EC, &*ED] {
        let verified = issuers.verify(&pair.sign(&claims()), NOW_US).await.unwrap();
        let expected = Verified {
            issuer: ISSUER.into(),
            subject: "system:build:42".into(),
            acts_as: ActsAs::ServiceAccount(ACCOUNT.into()),
            expires_at: (NOW + 600 + 30) * 1_000_000,
        };
        assert_eq!(verified, expected, "{}", pair.kid);
    }
}

#[tokio::test]
async fn every_algorithm_that_an_rsa_key_can_have_is_verified_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let issuers = all_keys(&dir);
    use Algorithm::*;
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
        let header = json!({ "alg": algorithm, "kid": "r1" }).to_string();
        let token = RSA.0.sign_as(algorithm, &header, &claims().to_string());
        issuers.verify(&token, NOW_US).await.unwrap_or_else(|error| panic!("{algorithm:?}: {error:?}"));
    }
}

#[tokio::test]
async fn a_platform_subject_has_the_role_that_the_configuration_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let issuers = all_keys(&dir);
    for (subject, role) in [("deployer", PlatformRole::PlatformAdmin), ("dashboards", PlatformRole::PlatformViewer)] {
        let token = RSA.0.sign(&with(&claims(), json!({ "sub": subject, "aud": "caprock" })));
        assert_eq!(issuers.verify(&token, NOW_US).await.unwrap().acts_as, ActsAs::Platform(role));
        // With an account as its audience the same subject is that account, and no more.
        let token = RSA.0.sign(&with(&claims(), json!({ "sub": subject })));
        let acts_as = issuers.verify(&token, NOW_US).await.unwrap().acts_as;
        assert_eq!(acts_as, ActsAs::ServiceAccount(ACCOUNT.into()));
    }
}

#[tokio::test]
async fn a_rule_holds_to_its_edge_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let issuers = all_keys(&dir);
    let day = 24 * 3600;
    let good: [(&str, Value); 14] = [
        ("expired by 29 s", json!({ "exp": NOW - 29 })),
        ("nbf in 30 s", json!({ "nbf": NOW + 30 })),
        ("iat in 30 s", json!({ "iat": NOW + 30 })),
        ("no nbf and no iat", json!({ "nbf": null, "iat": null })),
        ("a day from iat", json!({ "exp": NOW - 60 + day })),
        ("a day and the leeway from now", json!({ "iat": null, "exp": NOW + day + 30 })),
        ("aud as an array of one", json!({ "aud": [format!("caprock/{ACCOUNT}")] })),
        ("sub of one character", json!({ "sub": "x" })),
        ("sub of 256 characters", json!({ "sub": "ü".repeat(256) })),
        ("sub with anything in it", json!({ "sub": "repo:acme/x:ref:refs/heads/main'; --" })),
        ("other claims", json!({ "jti": "1", "roles": ["admin"], "cnf": { "x": 1, "y": [1] } })),
        ("an account of one character", json!({ "aud": "caprock/sva_1" })),
        ("a role that a token gives itself", json!({ "platform_admin": true, "role": "platform_admin" })),
        ("an azp that is not ours", json!({ "azp": "other" })),
    ];
    for (name, changes) in good {
        let token = RSA.0.sign(&with(&claims(), changes));
        let verified = issuers.verify(&token, NOW_US).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(matches!(verified.acts_as, ActsAs::ServiceAccount(_)), "{name}");
    }
    let token = RSA.0.sign(&with(&claims(), json!({ "exp": NOW })));
    issuers.verify(&token, NOW_US + 29_999_999).await.unwrap();
    assert_eq!(reason(&issuers.verify(&token, NOW_US + 30_000_000).await.unwrap_err()), Refusal::Expired);
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        let token = RSA.0.sign_with_header(&with(&RSA.0.header(), json!({ "typ": typ })));
        issuers.verify(&token, NOW_US).await.unwrap_or_else(|error| panic!("{typ}: {error:?}"));
    }
    let token = RSA.0.sign_with_header(&with(&RSA.0.header(), json!({ "typ": null, "jku": "https://evil.example" })));
    issuers.verify(&token, NOW_US).await.unwrap();
    let largest = RSA.0.sign(&with(&claims(), json!({ "x": "x".repeat(5_600) })));
    assert!((7_800..=8_192).contains(&largest.len()), "{}", largest.len());
    issuers.verify(&largest, NOW_US).await.unwrap();
}

#[tokio::test]
async fn a_set_of_one_key_needs_no_names() {
    let dir = tempfile::tempdir().unwrap();
    let issuers = from_file(&dir, json!({ "keys": [EC.jwk] }).to_string());
    let token = EC.sign_with_header(&json!({ "alg": "ES256" }));
    issuers.verify(&token, NOW_US).await.unwrap();
    let named = from_file(&dir, jwks(&[&EC]));
    named.verify(&token, NOW_US).await.unwrap();
}

#[tokio::test]
async fn an_issuers_certificate_is_checked_against_the_machines_authorities_and_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::store::testing::config(&dir);
    let acceptor = crate::tls::acceptor(&config).unwrap();
    let publisher = Publisher::start_with(jwks(&[&EC]), Some(acceptor)).await;
    let settings = JwtIssuer {
        jwks_url: Some(format!("https://127.0.0.1:{}/jwks", publisher.port)),
        ca_file: Some(config.gateway.state_dir.join("tls/ca.pem")),
        ..issuer(ISSUER, &ALL)
    };
    let trusting = Issuers::new(std::slice::from_ref(&settings)).unwrap();
    trusting.verify(&EC.sign(&claims()), NOW_US).await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    crate::tls::acceptor(&crate::store::testing::config(&elsewhere)).unwrap();
    let other_ca = crate::store::testing::config(&elsewhere).gateway.state_dir.join("tls/ca.pem");
    let wary = Issuers::new(&[JwtIssuer { ca_file: Some(other_ca), ..settings.clone() }]).unwrap();
    assert_eq!(wary.verify(&EC.sign(&claims()), NOW_US).await.unwrap_err().kind, ErrorKind::Overloaded);
    assert_eq!(publisher.hits(), 1, "a request was sent to a server that is not trusted");

    for bad in [dir.path().join("absent.pem"), dir.path().join("empty.pem")] {
        std::fs::write(dir.path().join("empty.pem"), "no certificate").unwrap();
        let error = Issuers::new(&[JwtIssuer { ca_file: Some(bad), ..settings.clone() }]).unwrap_err();
        assert!(error.kind == ErrorKind::Invalid && error.message.contains("ca_file"), "{error:?}");
    }
}

#[test]
fn a_jwt_is_told_from_our_own_keys_by_its_dots() {
    let issuers = Issuers::new(&[]).unwrap();
    for jwt in ["eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "a.b.", "_-0.Az9.x"] {
        assert!(issuers.is_jwt(jwt), "{jwt}");
    }
    for other in [
        "",
        "..",
        "a..c",
        ".b.c",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "a.b=.c",
        "a. b.c",
        "a.b.c\n",
        "ä.b.c",
        "ck_AbCdEfGhIjKl_0123456789abcdefghijABCDEFGHIJKLxyzxyz",
    ] {
        assert!(!issuers.is_jwt(other), "{other}");
    }
}
