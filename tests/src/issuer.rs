//! An issuer of machines' JWTs that a gateway trusts: a key pair, its published half as a file, and tokens.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// What its tokens say, and what service accounts are bound to.
pub const ISSUER: &str = "https://issuer.example";
/// What a platform subject's tokens are for; a service account's are for this, a slash and its id.
pub const AUDIENCE: &str = "caprock";
const KEY_ID: &str = "machines";
const LIFETIME: Duration = Duration::from_secs(3600);

/// An issuer. Its keys are gone when it is dropped.
#[derive(Debug)]
pub struct Issuer {
    pair: KeyPair,
    dir: TempDir,
}

impl Issuer {
    /// With a new key pair.
    pub fn new() -> Issuer {
        let (pair, dir) = (KeyPair::generate_for(&PKCS_ED25519).unwrap(), tempfile::tempdir().unwrap());
        let key =
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "use": "sig", "x": b64(pair.public_key_raw()) });
        std::fs::write(dir.path().join("jwks.json"), json!({ "keys": [key] }).to_string()).unwrap();
        Issuer { pair, dir }
    }

    /// The section of a gateway's configuration that trusts it. Its subjects `platform_admin` and `platform_viewer` have
    /// these roles.
    pub fn config(&self) -> String {
        let file = self.dir.path().join("jwks.json");
        let role = |role: &str| format!("{{ subject = '{role}', role = '{role}' }}");
        let (admin, viewer) = (role("platform_admin"), role("platform_viewer"));
        format!(
            "[[jwt_issuer]]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\nalgorithms = ['EdDSA']\n\
             jwks_file = '{}'\nplatform = [{admin}, {viewer}]\n",
            file.display()
        )
    }

    /// A token of a subject, as the service account `acts_as`, or as itself on the platform; good for an hour.
    pub fn token(&self, subject: &str, acts_as: Option<&str>) -> String {
        self.token_with(subject, acts_as, &json!({}))
    }

    /// The same with other claims in place of its own.
    pub fn token_with(&self, subject: &str, acts_as: Option<&str>, claims: &Value) -> String {
        let audience = acts_as.map_or_else(|| AUDIENCE.to_owned(), |account| format!("{AUDIENCE}/{account}"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({
            "iss": ISSUER, "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": now + LIFETIME.as_secs(),
        });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": KEY_ID });
        let message = format!("{}.{}", b64(header.to_string()), b64(all.to_string()));
        format!("{message}.{}", b64(self.pair.sign(message.as_bytes()).unwrap()))
    }
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer::new()
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
