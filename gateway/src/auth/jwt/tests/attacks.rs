//! The attack table: each token is refused, for its own reason, and the caller hears the same of all.

use super::kit::*;
use crate::auth::jwt::{Issuers, Refusal, token};
use crate::config::{JwtAlgorithm, JwtIssuer};
use base64::{Engine, engine::general_purpose::URL_SAFE};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// Trusts all three kinds of key, where [`ISSUER`] pins RS256.
const BROAD: &str = "https://broad.example";
/// Has a single key, with no name.
const SINGLE: &str = "https://single.example";
/// Has a key that nobody else has.
const OTHER: &str = "https://other.example";

struct Table {
    rows: Vec<(String, String, Refusal)>,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, token: String, why: Refusal) {
        self.rows.push((name.into(), token, why));
    }

    /// Signed by the issuer, so that only the claims are wrong.
    fn claims(&mut self, name: &str, changes: Value, why: Refusal) {
        self.add(name, RSA.0.sign(&with(&claims(), changes)), why);
    }

    /// As [`Table::claims`], with the text of the claims as it is.
    fn raw_claims(&mut self, name: &str, claims: &str, why: Refusal) {
        self.add(name, RSA.0.sign_raw(&RSA.0.header().to_string(), claims), why);
    }

    /// Signed by the issuer, so that only the header is wrong.
    fn header(&mut self, name: &str, changes: Value, why: Refusal) {
        self.add(name, RSA.0.sign_with_header(&with(&RSA.0.header(), changes)), why);
    }
}

async fn issuers(dir: &tempfile::TempDir) -> (Issuers, Publisher) {
    let all = jwks(&[&RSA.0, &EC, &ED]);
    let other = ec_pair("o1");
    let publisher = Publisher::start(all.clone()).await;
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    use JwtAlgorithm::*;
    let issuers = Issuers::new(&[
        JwtIssuer { jwks_url: Some(publisher.url()), ..issuer(ISSUER, &[RS256]) },
        JwtIssuer { jwks_file: file("broad", all), ..issuer(BROAD, &[RS256, PS256, ES256, ES384, EdDSA]) },
        JwtIssuer { jwks_file: file("single", json!({ "keys": [RSA.0.jwk] }).to_string()), ..issuer(SINGLE, &[RS256]) },
        JwtIssuer { jwks_file: file("other", jwks(&[&other])), ..issuer(OTHER, &[RS256, ES256]) },
    ]);
    (issuers.unwrap(), publisher)
}

fn wrong_algorithm(table: &mut Table) {
    let message = |header: &Value| format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
    for none in ["none", "None", "NONE", "nOnE"] {
        let header = json!({ "alg": none, "typ": "JWT", "kid": "r1" });
        table.add(format!("alg {none}, no signature"), format!("{}.", message(&header)), Refusal::Algorithm);
        let signature = RSA.0.sign(&claims()).rsplit_once('.').unwrap().1.to_owned();
        let token = format!("{}.{signature}", message(&header));
        table.add(format!("alg {none}, another token's signature"), token, Refusal::Algorithm);
    }
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "r1" }).to_string();
    let Encodings { pkcs1_der, spki_der, pkcs1_pem, spki_pem } = &RSA.1;
    let secrets: [(&str, &[u8]); 6] = [
        ("PKCS#1 DER", pkcs1_der),
        ("SPKI DER", spki_der),
        ("PKCS#1 PEM", pkcs1_pem.as_bytes()),
        ("SPKI PEM", spki_pem.as_bytes()),
        ("PEM without its last line end", spki_pem.trim_end().as_bytes()),
        ("nothing", b""),
    ];
    for (name, secret) in secrets {
        let key = EncodingKey::from_secret(secret);
        let token = sign(&key, Algorithm::HS256, &header, &claims().to_string());
        table.add(format!("HS256 with the RSA key as its secret: {name}"), token, Refusal::Algorithm);
        let broad = with(&claims(), json!({ "iss": BROAD })).to_string();
        let token = sign(&key, Algorithm::HS256, &header, &broad);
        table.add(format!("the same where more is pinned: {name}"), token, Refusal::Algorithm);
    }
    for (name, header) in [
        ("alg in lower case", json!({ "alg": "rs256" })),
        ("alg with a space", json!({ "alg": "RS256 " })),
        ("alg unknown", json!({ "alg": "ES512" })),
        ("alg empty", json!({ "alg": "" })),
        ("PS256 where RS256 is pinned", json!({ "alg": "PS256" })),
        ("RS512 where RS256 is pinned", json!({ "alg": "RS512" })),
    ] {
        table.header(name, header, Refusal::Algorithm);
    }
    table.header("alg not a text", json!({ "alg": ["RS256"] }), Refusal::Type("alg"));
    table.header("alg missing", json!({ "alg": null }), Refusal::Missing("alg"));
    table.add("ES256 where RS256 is pinned", EC.sign(&claims()), Refusal::Algorithm);
    table.add("EdDSA where RS256 is pinned", ED.sign(&claims()), Refusal::Algorithm);
    let header = json!({ "alg": "PS256", "kid": "r1" }).to_string();
    let token = RSA.0.sign_as(Algorithm::PS256, &header, &claims().to_string());
    table.add("a good PS256 signature where RS256 is pinned", token, Refusal::Algorithm);

    // Where all are pinned, an algorithm must still be the key's.
    let broad = with(&claims(), json!({ "iss": BROAD })).to_string();
    for (pair, kid, why) in [
        (&*EC, "r1", Refusal::KeyMisfit),
        (&*EC, "d1", Refusal::KeyMisfit),
        (&*ED, "e1", Refusal::KeyMisfit),
        (&*ED, "r1", Refusal::KeyMisfit),
        (&RSA.0, "e1", Refusal::KeyMisfit),
        (&RSA.0, "d1", Refusal::KeyMisfit),
    ] {
        let header = json!({ "alg": pair.algorithm, "kid": kid }).to_string();
        let name = format!("{:?} under the name of {kid}", pair.algorithm);
        table.add(name, pair.sign_raw(&header, &broad), why);
    }
    let header = json!({ "alg": "ES384", "kid": "e1" }).to_string();
    table.add("ES384 with a P-256 key", EC.sign_raw(&header, &broad), Refusal::KeyMisfit);
    let header = json!({ "alg": "PS256", "kid": "r1" }).to_string();
    let token = RSA.0.sign_as(Algorithm::RS256, &header, &broad);
    table.add("an RS256 signature called PS256", token, Refusal::Signature);
}

fn wrong_key(table: &mut Table, canary: &str) {
    for kid in [
        "../../dev/null",
        "/dev/null",
        "r1' OR '1'='1",
        "r1\"; DROP TABLE api_keys; --",
        "http://127.0.0.1/r1",
        "r1\0",
        "R1",
        "",
        "o1",
    ] {
        table.header(&format!("kid {kid:?}"), json!({ "kid": kid }), Refusal::UnknownKey);
    }
    table.header("kid of 256 bytes", json!({ "kid": "k".repeat(256) }), Refusal::UnknownKey);
    table.header("kid of 257 bytes", json!({ "kid": "k".repeat(257) }), Refusal::Type("kid"));
    table.header("kid a number", json!({ "kid": 1 }), Refusal::Type("kid"));
    table.header("no kid, and several keys", json!({ "kid": null }), Refusal::KeyNotNamed);
    let single = with(&claims(), json!({ "iss": SINGLE })).to_string();
    let header = json!({ "alg": "RS256", "kid": "r1" }).to_string();
    table.add("a kid where the only key has none", RSA.0.sign_raw(&header, &single), Refusal::UnknownKey);
    let header = json!({ "alg": "RS256" }).to_string();
    table.add("another's key, unnamed", ATTACKER.sign_raw(&header, &single), Refusal::Signature);

    let attacker = with(&ATTACKER.public(), json!({ "kid": "r1" }));
    for (name, more) in [
        ("another's key", json!({})),
        ("jwk brings the attacker's key", json!({ "jwk": attacker })),
        ("jku brings the attacker's key", json!({ "jku": canary })),
        ("x5u brings the attacker's key", json!({ "x5u": canary })),
        ("x5c brings the attacker's key", json!({ "x5c": ["MIIB"] })),
    ] {
        let token = ATTACKER.sign_with_header(&with(&ATTACKER.header(), more));
        table.add(name, token, Refusal::Signature);
    }
    let header = with(&ATTACKER.header(), json!({ "jku": canary, "kid": "attacker" }));
    table.add("jku and a kid of its own", ATTACKER.sign_with_header(&header), Refusal::UnknownKey);
}

fn wrong_header(table: &mut Table) {
    for (name, parameter) in [
        ("crit", json!({ "crit": ["exp"] })),
        ("crit", json!({ "crit": [] })),
        ("zip", json!({ "zip": "DEF" })),
        ("enc", json!({ "enc": "A256GCM" })),
        ("b64", json!({ "b64": false })),
        ("typ", json!({ "typ": "JWE" })),
        ("typ", json!({ "typ": "id_token" })),
        ("typ", json!({ "typ": "" })),
    ] {
        table.header(&format!("header with {parameter}"), parameter.clone(), Refusal::HeaderParameter(name));
    }
    table.header("typ not a text", json!({ "typ": 7 }), Refusal::Type("typ"));
    let twice = r#"{"alg":"RS256","kid":"r1","alg":"none"}"#;
    let duplicate = Refusal::Duplicate { part: "header", name: "alg".into() };
    table.add("alg twice", RSA.0.sign_raw(twice, &claims().to_string()), duplicate);
    let malformed = || Refusal::Malformed { part: "header", why: String::new() };
    for header in ["[]", "null", "\"RS256\"", "{", "", "{\"alg\":\"RS256\",\"kid\":\"r1\"} x"] {
        let token = RSA.0.sign_raw(header, &claims().to_string());
        table.add(format!("header {header:?}"), token, malformed());
    }
}

fn wrong_claims(table: &mut Table) {
    for (name, aud) in [
        ("another's", json!("other")),
        ("that of a platform subject's neighbour", json!("caprock ")),
        ("with a slash and no account", json!("caprock/")),
        ("with something that is no account", json!("caprock/ten_0193f0a1b2c3")),
        ("of an account and more", json!(format!("caprock/{ACCOUNT}/x"))),
        ("of an account and a space", json!(format!("caprock/{ACCOUNT} "))),
        ("of an account under another base", json!(format!("caprock2/{ACCOUNT}"))),
        ("the bare account", json!(ACCOUNT)),
        ("in upper case", json!(format!("CAPROCK/{ACCOUNT}"))),
        ("an account with no name", json!("caprock/sva_")),
        ("empty", json!("")),
    ] {
        table.claims(&format!("aud {name}"), json!({ "aud": aud }), Refusal::Audience);
    }
    let ours = format!("caprock/{ACCOUNT}");
    for aud in [
        json!([ours, "other"]),
        json!([ours, ours]),
        json!([]),
        json!([[ours]]),
        json!([1]),
        json!({ "0": ours }),
        json!(7),
        json!(true),
    ] {
        table.claims(&format!("aud {aud}"), json!({ "aud": aud }), Refusal::Type("aud"));
    }
    table.claims("a service account's subject with the base as aud", json!({ "aud": "caprock" }), Refusal::Subject);
    for iss in ["https://idp.example/", "https://IDP.example", "http://idp.example", "https://evil.example", ""] {
        table.claims(&format!("iss {iss:?}"), json!({ "iss": iss }), Refusal::Issuer);
    }
    table.claims("iss an array", json!({ "iss": [ISSUER] }), Refusal::Type("iss"));
    table.claims("sub empty", json!({ "sub": "" }), Refusal::Type("sub"));
    table.claims("sub of 257 characters", json!({ "sub": "ü".repeat(257) }), Refusal::Type("sub"));
    table.claims("sub a number", json!({ "sub": 42 }), Refusal::Type("sub"));
    for name in ["iss", "sub", "aud", "exp"] {
        table.claims(&format!("no {name}"), json!({ name: null }), Refusal::Missing(name));
    }
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat"] {
        let null = claims().to_string().replacen(&format!("\"{name}\":"), &format!("\"{name}\":null,\"_{name}\":"), 1);
        table.raw_claims(&format!("{name} null"), &null, Refusal::Type(name));
    }
    for name in ["exp", "iat", "sub", "x"] {
        let twice = claims().to_string().replacen('{', &format!("{{\"{name}\":1,\"{name}\":2,"), 1);
        table.raw_claims(&format!("{name} twice"), &twice, Refusal::Duplicate { part: "payload", name: name.into() });
    }
    let escaped = claims().to_string().replacen('{', "{\"\\u0065xp\":9999999999,", 1);
    let duplicate = Refusal::Duplicate { part: "payload", name: "exp".into() };
    table.raw_claims("exp twice, once with an escape", &escaped, duplicate);
    let malformed = || Refusal::Malformed { part: "payload", why: String::new() };
    let nested = RSA.0.sign(&claims());
    let deep = format!("{{\"exp\":1,\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    let huge = claims().to_string().replacen('{', "{\"x\":1e999,", 1);
    for (name, text) in [
        ("a token in a token", nested.as_str()),
        ("claims an array", "[]"),
        ("claims empty", ""),
        ("claims nested too deep", &deep),
        ("a number beyond all", &huge),
        ("claims and more", &format!("{} {{}}", claims())),
    ] {
        table.raw_claims(name, text, malformed());
    }
    let not_text = [claims().to_string().as_bytes(), b"\xff"].concat();
    let message = format!("{}.{}", b64(RSA.0.header().to_string()), b64(not_text));
    table.add("claims that are no UTF-8", format!("{message}.AAAA"), malformed());
}

fn wrong_times(table: &mut Table) {
    table.claims("expired by 31 s", json!({ "exp": NOW - 31, "iat": NOW - 600 }), Refusal::Expired);
    table.claims("expired by the leeway exactly", json!({ "exp": NOW - 30 }), Refusal::Expired);
    table.claims("exp at the beginning of time", json!({ "exp": 0 }), Refusal::Expired);
    table.claims("nbf in 31 s", json!({ "nbf": NOW + 31 }), Refusal::NotYet);
    table.claims("iat in 31 s", json!({ "iat": NOW + 31 }), Refusal::NotYet);
    let day = 24 * 3600;
    table.claims("longer than a day from its iat", json!({ "exp": NOW - 60 + day + 31 }), Refusal::Lifetime);
    table.claims("longer than a day, no iat", json!({ "iat": null, "exp": NOW + day + 31 }), Refusal::Lifetime);
    let old = json!({ "iat": NOW - 10 * day, "nbf": null, "exp": NOW + 60 });
    table.claims("nearly over, after more than a day", old, Refusal::Lifetime);
    let ahead = json!({ "iat": NOW + 30, "nbf": null, "exp": NOW + 30 + day + 30 });
    table.claims("an iat ahead, to live longer", ahead, Refusal::Lifetime);
    let good = claims().to_string();
    for name in ["exp", "nbf", "iat"] {
        let value = &claims()[name];
        let place = format!("\"{name}\":{value}");
        for odd in [
            format!("\"{value}\""),
            "\"\"".into(),
            format!("{value}.5"),
            format!("{value}.0"),
            "1.795e9".into(),
            "-1".into(),
            "-1795435800".into(),
            "18446744073709551615".into(),
            "18446744073709551616".into(),
            "253402300800".into(),
            "true".into(),
            format!("[{value}]"),
            "{}".into(),
        ] {
            let text = good.replacen(&place, &format!("\"{name}\":{odd}"), 1);
            assert_ne!(text, good);
            table.raw_claims(&format!("{name} {odd}"), &text, Refusal::Type(name));
        }
    }
}

fn wrong_form(table: &mut Table) {
    let good = RSA.0.sign(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    table.add("signature stripped", format!("{message}."), Refusal::Signature);
    table.add("signature and its dot stripped", message.into(), Refusal::Parts);
    let shorter = good.replacen(signature, &RSA.0.sign(&with(&claims(), json!({ "x": 1 })))[message.len() + 9..], 1);
    table.add("another token's signature, in part", shorter, Refusal::Signature);
    let tampered = with(&claims(), json!({ "sub": "root" })).to_string();
    table.add("payload tampered with", format!("{header}.{}.{signature}", b64(tampered)), Refusal::Signature);
    let respelled = RSA.0.header().to_string().replacen("RS256", "RS256\",\"x\":\"", 1);
    table.add("header tampered with", format!("{}.{payload}.{signature}", b64(respelled)), Refusal::Signature);
    let mut bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    table.add("signature cut short", format!("{message}.{}", b64(&bytes[..255])), Refusal::Signature);
    table.add("signature drawn out", format!("{message}.{}", b64([&bytes[..], &[0]].concat())), Refusal::Signature);
    bytes[100] ^= 1;
    table.add("one bit of the signature", format!("{message}.{}", b64(bytes)), Refusal::Signature);
    table.add("five parts, as a JWE has", format!("{good}.{payload}.{signature}"), Refusal::Parts);
    table.add("four parts", format!("{good}.x"), Refusal::Parts);
    for text in ["", ".", "one", "a.b"] {
        table.add(format!("{text:?}"), text.into(), Refusal::Parts);
    }
    table.add("only dots", "..".into(), Refusal::Malformed { part: "header", why: String::new() });
    let flattened = json!({ "protected": header, "payload": payload, "signature": signature }).to_string();
    table.add("JSON serialization", flattened, Refusal::Parts);

    let decoded = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    assert_eq!(decoded(signature).len(), 256, "256 bytes leave bits over in base64");
    let padded = |text: &str| URL_SAFE.encode(decoded(text));
    table.add("signature with padding", format!("{message}.{}", padded(signature)), Refusal::Base64("signature"));
    let last = signature.chars().last().unwrap();
    let next = char::from(match last {
        'A' => b'B',
        'Q' => b'R',
        'g' => b'h',
        'w' => b'x',
        _ => panic!("{last} is not canonical"),
    });
    let sloppy = format!("{message}.{}{next}", &signature[..signature.len() - 1]);
    table.add("signature with bits after its end", sloppy, Refusal::Base64("signature"));
    for (name, token) in [
        ("a space in front", format!(" {good}")),
        ("a line break in the header", format!("{}\n{}", &good[..8], &good[8..])),
        ("the other alphabet in the header", format!("+/{good}")),
        ("an umlaut", format!("ü{good}")),
    ] {
        table.add(name, token, Refusal::Base64("header"));
    }
    table.add("a line break at the end", format!("{good}\n"), Refusal::Base64("signature"));
    table.add("padding after the payload", format!("{header}.{payload}==.{signature}"), Refusal::Base64("payload"));

    let filled = |bytes: usize| RSA.0.sign(&with(&claims(), json!({ "x": "x".repeat(bytes) })));
    assert!(filled(6_100).len() > token::MAX_BYTES);
    table.add("larger than 8 KiB", filled(6_100), Refusal::TooLong);
    table.add("a megabyte", "e".repeat(1 << 20), Refusal::TooLong);
}

#[tokio::test]
async fn every_hostile_token_is_refused_for_its_own_reason_and_with_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let (issuers, publisher) = issuers(&dir).await;
    let canary = Publisher::start(jwks(&[&ATTACKER])).await;
    // Else a table that refuses everything would pass.
    issuers.verify(&RSA.0.sign(&claims()), NOW_US).await.unwrap();

    let mut table = Table { rows: vec![] };
    wrong_algorithm(&mut table);
    wrong_key(&mut table, &canary.url());
    wrong_header(&mut table);
    wrong_claims(&mut table);
    wrong_times(&mut table);
    wrong_form(&mut table);
    assert!(table.rows.len() >= 150, "{}", table.rows.len());

    let mut wrong = Vec::new();
    for (name, token, why) in &table.rows {
        let refused = match issuers.verify(token, NOW_US).await {
            Ok(verified) => {
                wrong.push(format!("{name}: accepted as {verified:?}"));
                continue;
            }
            Err(error) => reason(&error),
        };
        let same = match (&refused, why) {
            (Refusal::Malformed { part, .. }, Refusal::Malformed { part: expected, .. }) => part == expected,
            (refused, why) => refused == why,
        };
        if !same {
            wrong.push(format!("{name}: `{refused}`, not `{why}`"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.rows.len(), wrong.join("\n"));
    assert_eq!(canary.hits(), 0, "an address out of a token was visited");
    assert!(publisher.hits() <= 2, "{} fetches", publisher.hits());
}

#[tokio::test]
async fn no_cut_or_single_changed_character_of_a_good_token_is_accepted_or_panics() {
    let dir = tempfile::tempdir().unwrap();
    let (issuers, _publisher) = issuers(&dir).await;
    let broad = with(&claims(), json!({ "iss": BROAD }));
    let good = EC.sign(&broad);
    issuers.verify(&good, NOW_US).await.unwrap();
    for at in 0..good.len() {
        reason(&issuers.verify(&good[..at], NOW_US).await.unwrap_err());
        for with in ["A", "z", "0", ".", "=", ""] {
            let mut changed = good.clone();
            changed.replace_range(at..=at, with);
            if changed != good {
                reason(&issuers.verify(&changed, NOW_US).await.unwrap_err());
            }
        }
    }
}
