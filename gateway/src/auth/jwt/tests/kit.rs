//! An issuer for tests: keys made at run time, tokens signed with them, and a real server that publishes them.

use crate::auth::jwt::{Issuers, Refusal};
use crate::config::{JwtAlgorithm, JwtIssuer, PlatformRole, PlatformSubject};
use crate::error::{AuthFailure, Error, ErrorKind};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey};
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, rand_core::OsRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// 2026-11-23T12:00:00Z, in seconds.
pub(super) const NOW: i64 = 1_795_435_200;
pub(super) const NOW_US: i64 = NOW * 1_000_000;
pub(super) const ISSUER: &str = "https://idp.example";
pub(super) const ACCOUNT: &str = "sva_0193f0a1b2c3";

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair.
pub(super) struct Pair {
    pub(super) kid: &'static str,
    pub(super) algorithm: Algorithm,
    signing: EncodingKey,
    /// The public half, without kid, use or alg.
    pub(super) jwk: Value,
}

/// An RSA key's public half in the forms that attackers use as shared secrets.
pub(super) struct Encodings {
    pub(super) pkcs1_der: Vec<u8>,
    pub(super) spki_der: Vec<u8>,
    pub(super) pkcs1_pem: String,
    pub(super) spki_pem: String,
}

/// The issuer's.
pub(super) static RSA: LazyLock<(Pair, Encodings)> = LazyLock::new(|| rsa_pair("r1", 2048));
/// Somebody else's.
pub(super) static ATTACKER: LazyLock<Pair> = LazyLock::new(|| rsa_pair("r1", 2048).0);
pub(super) static EC: LazyLock<Pair> = LazyLock::new(|| ec_pair("e1"));
pub(super) static ED: LazyLock<Pair> = LazyLock::new(|| ed_pair("d1"));

pub(super) fn rsa_pair(kid: &'static str, bits: usize) -> (Pair, Encodings) {
    let private = RsaPrivateKey::new(&mut OsRng, bits).unwrap();
    let public = private.to_public_key();
    let encodings = Encodings {
        pkcs1_der: public.to_pkcs1_der().unwrap().as_bytes().to_vec(),
        spki_der: public.to_public_key_der().unwrap().as_bytes().to_vec(),
        pkcs1_pem: public.to_pkcs1_pem(LineEnding::LF).unwrap(),
        spki_pem: public.to_public_key_pem(LineEnding::LF).unwrap(),
    };
    let jwk = json!({ "kty": "RSA", "n": b64(public.n().to_bytes_be()), "e": b64(public.e().to_bytes_be()) });
    let signing = EncodingKey::from_rsa_der(private.to_pkcs1_der().unwrap().as_bytes());
    (Pair { kid, algorithm: Algorithm::RS256, signing, jwk }, encodings)
}

pub(super) fn ec_pair(kid: &'static str) -> Pair {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) });
    Pair { kid, algorithm: Algorithm::ES256, signing: EncodingKey::from_ec_der(&pair.serialize_der()), jwk }
}

pub(super) fn ed_pair(kid: &'static str) -> Pair {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key_raw()) });
    Pair { kid, algorithm: Algorithm::EdDSA, signing: EncodingKey::from_ed_der(&pair.serialize_der()), jwk }
}

impl Pair {
    /// As it is published.
    pub(super) fn public(&self) -> Value {
        with(&self.jwk, json!({ "kid": self.kid, "use": "sig" }))
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "typ": "JWT", "kid": self.kid })
    }

    /// Under any header and claims, as they are.
    pub(super) fn sign_raw(&self, header: &str, claims: &str) -> String {
        self.sign_as(self.algorithm, header, claims)
    }

    pub(super) fn sign_as(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        sign(&self.signing, algorithm, header, claims)
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_raw(&self.header().to_string(), &claims.to_string())
    }

    pub(super) fn sign_with_header(&self, header: &Value) -> String {
        self.sign_raw(&header.to_string(), &claims().to_string())
    }
}

pub(super) fn sign(key: &EncodingKey, algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// With members set, or removed where they are null.
pub(super) fn with(object: &Value, changes: Value) -> Value {
    let mut object = object.clone();
    for (name, value) in changes.as_object().unwrap() {
        let members = object.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), value.clone())
        };
    }
    object
}

/// Of a service account's good token.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "system:build:42",
        "aud": format!("caprock/{ACCOUNT}"),
        "iat": NOW - 60,
        "nbf": NOW - 60,
        "exp": NOW + 600,
    })
}

pub(super) fn jwks(pairs: &[&Pair]) -> String {
    json!({ "keys": pairs.iter().map(|pair| pair.public()).collect::<Vec<_>>() }).to_string()
}

/// An issuer without a place for its keys.
pub(super) fn issuer(name: &str, algorithms: &[JwtAlgorithm]) -> JwtIssuer {
    JwtIssuer {
        issuer: name.into(),
        audience: "caprock".into(),
        algorithms: algorithms.to_vec(),
        jwks_url: None,
        jwks_file: None,
        ca_file: None,
        platform: vec![PlatformSubject { subject: "deployer".into(), role: PlatformRole::PlatformAdmin }],
    }
}

type SharedCause = Arc<dyn std::error::Error + Send + Sync>;

/// The reason, of an error that must be the one that all refusals share.
pub(super) fn reason(error: &Error) -> Refusal {
    assert_eq!(error.kind, ErrorKind::Unauthenticated(AuthFailure::BadKey), "{error:?}");
    assert_eq!((error.message.as_str(), &error.param), ("The token is not valid.", &None));
    assert_eq!(error.retry_after, None);
    // The source is the shared pointer itself, not what it points to.
    let shared = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<SharedCause>());
    shared.and_then(|cause| cause.downcast_ref::<Refusal>()).unwrap().clone()
}

/// A server that publishes keys, and counts.
pub(super) struct Publisher {
    pub(super) port: u16,
    hits: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) body: String,
    pub(super) delay: Duration,
}

impl Publisher {
    pub(super) async fn start(body: String) -> Publisher {
        Self::start_with(body, None).await
    }

    pub(super) async fn start_with(body: String, tls: Option<tokio_rustls::TlsAcceptor>) -> Publisher {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Answer { status: StatusCode::OK, location: None, body, delay: Duration::ZERO };
        let (hits, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(answer)));
        let (count, current) = (hits.clone(), answer.clone());
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, current, tls) = (count.clone(), current.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, count, current).await;
                            }
                        }
                        None => serve(stream, count, current).await,
                    }
                });
            }
        });
        Publisher { port, hits, answer }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/jwks", self.port)
    }

    pub(super) fn issuers(&self, algorithms: &[JwtAlgorithm]) -> Issuers {
        Issuers::new(&[JwtIssuer { jwks_url: Some(self.url()), ..issuer(ISSUER, algorithms) }]).unwrap()
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub(super) fn publish(&self, body: String) {
        self.change(|answer| *answer = Answer { status: StatusCode::OK, location: None, body, delay: Duration::ZERO });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.answer.lock().unwrap());
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    count: Arc<AtomicUsize>,
    current: Arc<Mutex<Answer>>,
) {
    let service = service_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = current.lock().unwrap().clone();
        async move {
            tokio::time::sleep(answer.delay).await;
            let mut response = Response::builder().status(answer.status);
            if let Some(location) = answer.location {
                response = response.header("location", location);
            }
            response.body(Full::new(Bytes::from(answer.body)))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
