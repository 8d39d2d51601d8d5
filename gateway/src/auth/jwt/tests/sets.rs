//! Which published keys are used.

use super::kit::*;
use crate::auth::jwt::Refusal;
use crate::auth::jwt::jwks::KeySet;
use crate::config::JwtAlgorithm;
use serde_json::{Value, json};

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(ISSUER, json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

#[test]
fn a_key_that_must_not_verify_is_dropped_and_its_neighbours_stay() {
    let (small, _) = rsa_pair("small", 1024);
    let (rsa, ec, ed) = (RSA.0.public(), EC.public(), ED.public());
    let shorter = |key: &Value, name: &str| {
        let text = key[name].as_str().unwrap();
        json!({ name: text[..text.len() - 4] })
    };
    let bad: Vec<(&str, Value)> = vec![
        ("oct", json!({ "kty": "oct", "k": b64([7; 32]), "kid": "x" })),
        ("oct that says sig and RS256", json!({ "kty": "oct", "k": b64([7; 32]), "use": "sig", "alg": "RS256" })),
        ("an unknown kty", json!({ "kty": "AKP", "kid": "x" })),
        ("use enc", with(&rsa, json!({ "use": "enc" }))),
        ("use empty", with(&rsa, json!({ "use": "" }))),
        ("key_ops for encryption", with(&rsa, json!({ "key_ops": ["encrypt"] }))),
        ("an encryption alg", with(&rsa, json!({ "alg": "RSA-OAEP" }))),
        ("HS256 as alg", with(&rsa, json!({ "alg": "HS256" }))),
        ("none as alg", with(&rsa, json!({ "alg": "none" }))),
        ("another kty's alg", with(&rsa, json!({ "alg": "ES256" }))),
        ("RSA of 1024 bits", small.public()),
        ("RSA that counts zeros as bits", {
            let n = [vec![0; 128], vec![0xff; 128]].concat();
            with(&rsa, json!({ "n": b64(n) }))
        }),
        ("RSA of 8192 bits", with(&rsa, json!({ "n": b64([0xff; 1024]) }))),
        ("RSA without e", with(&rsa, json!({ "e": null }))),
        ("RSA with padding", with(&rsa, json!({ "e": "AQAB=" }))),
        ("a private half", with(&rsa, json!({ "d": b64([7; 256]) }))),
        ("a point off its curve", with(&ec, json!({ "y": b64([7; 32]) }))),
        ("a short point", with(&ec, shorter(&ec, "x"))),
        ("a curve that is not supported", with(&ec, json!({ "crv": "P-521" }))),
        ("a point of another curve", with(&ec, json!({ "crv": "P-384" }))),
        ("a short Ed25519 key", with(&ed, shorter(&ed, "x"))),
        ("an empty Ed25519 key", with(&ed, json!({ "x": "" }))),
        ("a long Ed25519 key", with(&ed, json!({ "x": b64([7; 33]) }))),
        ("X25519, which can't sign", with(&ed, json!({ "crv": "X25519" }))),
        ("no object", json!("key")),
        ("kid a number", with(&rsa, json!({ "kid": 7 }))),
        ("no kty", with(&rsa, json!({ "kty": null }))),
    ];
    for (name, key) in &bad {
        let keys = set(&[with_kid(key, "bad"), with_kid(&EC.public(), "good")]);
        assert_eq!(keys.len(), 1, "{name}");
        keys.find(Some("good"), JwtAlgorithm::ES256).unwrap();
        assert_eq!(set(std::slice::from_ref(key)).len(), 0, "{name}");
    }
}

/// Numbers stay, so that a bad kid stays bad.
fn with_kid(key: &Value, kid: &str) -> Value {
    match key.get("kid") {
        Some(Value::String(_)) => with(key, json!({ "kid": kid })),
        _ => key.clone(),
    }
}

#[test]
fn what_a_key_says_of_its_use_and_algorithm_is_kept_to() {
    let rsa = RSA.0.public();
    for good in [
        json!({ "use": null }),
        json!({ "use": "sig", "key_ops": ["verify"] }),
        json!({ "key_ops": ["sign", "verify"], "ext": true, "x5t": "x", "x5c": ["x"] }),
    ] {
        let keys = set(&[with(&rsa, good)]);
        for algorithm in [JwtAlgorithm::RS256, JwtAlgorithm::PS512] {
            keys.find(Some("r1"), algorithm).unwrap();
        }
    }
    let keys = set(&[with(&rsa, json!({ "alg": "RS256" }))]);
    keys.find(Some("r1"), JwtAlgorithm::RS256).unwrap();
    for other in [JwtAlgorithm::RS384, JwtAlgorithm::PS256, JwtAlgorithm::ES256] {
        assert_eq!(keys.find(Some("r1"), other).unwrap_err(), Refusal::KeyMisfit);
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_stays() {
    let keys =
        set(&[EC.public(), with(&ED.public(), json!({ "kid": "e1" })), with(&ED.public(), json!({ "kid": "E1" }))]);
    assert_eq!(keys.len(), 2);
    keys.find(Some("e1"), JwtAlgorithm::ES256).unwrap();
    assert_eq!(keys.find(Some("e1"), JwtAlgorithm::EdDSA).unwrap_err(), Refusal::KeyMisfit);
    assert_eq!(keys.find(None, JwtAlgorithm::ES256).unwrap_err(), Refusal::KeyNotNamed);
}

#[test]
fn an_empty_set_is_a_set_in_which_no_key_is_found() {
    for keys in [set(&[]), set(&[json!({ "kty": "oct", "k": "" })])] {
        assert_eq!(keys.find(Some("r1"), JwtAlgorithm::RS256).unwrap_err(), Refusal::UnknownKey);
        assert_eq!(keys.find(None, JwtAlgorithm::RS256).unwrap_err(), Refusal::UnknownKey);
    }
}
