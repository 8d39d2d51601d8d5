//! Trusted issuers of machines' JWTs, as configured.

use http::Uri;
use serde::Deserialize;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// Longest issuer, audience or subject, in characters.
const MAX_CHARS: usize = 256;

/// A trusted issuer: its machines' JWTs authenticate service accounts and platform subjects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtIssuer {
    /// Exactly the tokens' `iss`.
    pub issuer: String,
    /// A platform subject's `aud`; a service account's is `<audience>/<service account id>`.
    pub audience: String,
    /// What tokens may be signed with; RS256 when absent.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the issuer publishes its keys: https, or http to a loopback address.
    pub jwks_url: Option<String>,
    /// Its keys as a file, read again when a refresh is due.
    pub jwks_file: Option<PathBuf>,
    /// PEM certificates of authorities trusted for `jwks_url` beside the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Subjects with a role on the platform.
    #[serde(default)]
    pub platform: Vec<PlatformSubject>,
}

/// A machine that administers the installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformSubject {
    /// Exactly the token's `sub`.
    pub subject: String,
    /// What it may do.
    pub role: PlatformRole,
}

/// A role above all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlatformRole {
    /// Sees and changes everything.
    PlatformAdmin,
    /// Sees everything.
    PlatformViewer,
}

/// Signatures that can be checked with a public key. Neither `none` nor a shared secret is among them, so no
/// configuration can allow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl PlatformRole {
    /// As the API and the configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            PlatformRole::PlatformAdmin => "platform_admin",
            PlatformRole::PlatformViewer => "platform_viewer",
        }
    }
}

impl JwtAlgorithm {
    /// From a token's `alg` or a key's: the exact spelling only.
    pub fn parse(text: &str) -> Option<JwtAlgorithm> {
        Some(match text {
            "RS256" => JwtAlgorithm::RS256,
            "RS384" => JwtAlgorithm::RS384,
            "RS512" => JwtAlgorithm::RS512,
            "PS256" => JwtAlgorithm::PS256,
            "PS384" => JwtAlgorithm::PS384,
            "PS512" => JwtAlgorithm::PS512,
            "ES256" => JwtAlgorithm::ES256,
            "ES384" => JwtAlgorithm::ES384,
            "EdDSA" => JwtAlgorithm::EdDSA,
            _ => return None,
        })
    }
}

fn default_algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::RS256]
}

pub(super) fn complaints(issuers: &[JwtIssuer]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut names = HashSet::new();
    for issuer in issuers {
        let mut complain = |text: String| complaints.push(format!("jwt_issuer `{}`: {text}", issuer.issuer));
        if !names.insert(&issuer.issuer) {
            complain("is configured twice".into());
        }
        for (name, text) in [("issuer", &issuer.issuer), ("audience", &issuer.audience)] {
            if !length_is_right(text) {
                complain(format!("{name} must have 1 to {MAX_CHARS} characters"));
            }
        }
        if issuer.algorithms.is_empty() {
            complain("algorithms is empty".into());
        }
        match (&issuer.jwks_url, &issuer.jwks_file) {
            (Some(url), None) => {
                if let Err(text) = jwks_uri(url) {
                    complain(text);
                } else if issuer.ca_file.is_some() && !url.starts_with("https:") {
                    complain("ca_file needs a jwks_url with https".into());
                }
            }
            (None, Some(_)) if issuer.ca_file.is_some() => complain("ca_file needs a jwks_url with https".into()),
            (None, Some(_)) => {}
            (_, _) => complain("exactly one of jwks_url and jwks_file must be given".into()),
        }
        let mut subjects = HashSet::new();
        for PlatformSubject { subject, .. } in &issuer.platform {
            if !length_is_right(subject) {
                complain(format!("a platform subject must have 1 to {MAX_CHARS} characters"));
            }
            if !subjects.insert(subject) {
                complain(format!("platform subject `{subject}` is there twice"));
            }
        }
    }
    complaints
}

fn length_is_right(text: &str) -> bool {
    (1..=MAX_CHARS).contains(&text.chars().count())
}

/// The address of a JWKS, parsed once and by the parser whose result is connected to. A name is no loopback address:
/// what it stands for is for a resolver to say.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn jwks_uri(text: &str) -> Result<Uri, String> {
    let refuse = |why: &str| Err(format!("jwks_url `{text}` {why}"));
    let Ok(uri) = text.parse::<Uri>() else { return refuse("is no URL") };
    let Some(authority) = uri.authority() else { return refuse("is no URL with a host") };
    if authority.as_str().contains('@') {
        return refuse("must not hold a user name or password");
    }
    if text.contains('#') {
        return refuse("must not have a fragment");
    }
    let host = authority.host().trim_matches(['[', ']']);
    match uri.scheme_str() {
        _ if host.is_empty() => refuse("has no host"),
        Some("https") => Ok(uri),
        Some("http") if host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) => Ok(uri),
        Some("http") => refuse("must be https; http only goes to a loopback address such as 127.0.0.1 or [::1]"),
        _ => refuse("must be https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("caprock.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file))
    }

    fn issuer(more: &str) -> String {
        format!("[[jwt_issuer]]\nissuer = 'https://idp.example'\naudience = 'caprock'\n{more}\n")
    }

    #[test]
    fn an_issuer_with_a_key_address_is_complete_and_signs_with_rs256() {
        let config = load(&issuer("jwks_url = 'https://idp.example/jwks'")).unwrap();
        assert_eq!(config.jwt_issuer[0].algorithms, [JwtAlgorithm::RS256]);
        assert!(config.jwt_issuer[0].platform.is_empty());

        let more = "jwks_file = 'keys.json'\nalgorithms = ['ES256', 'EdDSA']\n\
                    platform = [{ subject = 'ci', role = 'platform_viewer' }]";
        let config = load(&issuer(more)).unwrap();
        assert_eq!(config.jwt_issuer[0].algorithms, [JwtAlgorithm::ES256, JwtAlgorithm::EdDSA]);
        assert_eq!(config.jwt_issuer[0].platform[0].role.as_str(), "platform_viewer");
    }

    #[test]
    fn no_configuration_allows_a_shared_secret_or_no_signature() {
        for algorithm in ["HS256", "HS384", "HS512", "none", "None", "rs256", "ES512", "RSA-OAEP", ""] {
            let more = format!("jwks_file = 'keys.json'\nalgorithms = ['RS256', '{algorithm}']");
            let text = load(&issuer(&more)).unwrap_err();
            assert!(text.contains("algorithms") || text.contains("variant"), "{algorithm}: {text}");
        }
        assert!(load(&issuer("jwks_file = 'keys.json'\nalgorithms = []")).unwrap_err().contains("is empty"));
    }

    #[test]
    fn complaints_about_issuers_come_together() {
        let text = format!(
            "{}{}[[jwt_issuer]]\nissuer = ''\naudience = '{}'\njwks_file = 'k'\nca_file = 'ca.pem'\n",
            issuer("jwks_url = 'https://idp.example/jwks'\njwks_file = 'keys.json'"),
            issuer(
                "jwks_file = 'k'\nplatform = [{ subject = 'ci', role = 'platform_admin' }, \
                 { subject = 'ci', role = 'platform_viewer' }, { subject = '', role = 'platform_viewer' }]"
            ),
            "a".repeat(257),
        );
        let complaints = load(&text).unwrap_err();
        for part in [
            "exactly one of",
            "is configured twice",
            "`ci` is there twice",
            "a platform subject must have",
            "issuer must have",
            "audience must have",
            "ca_file needs",
        ] {
            assert!(complaints.contains(part), "{part}: {complaints}");
        }
        assert!(load(&issuer("")).unwrap_err().contains("exactly one of"));
        assert!(load(&issuer("jwks_file = 'k'\nplatform = [{ subject = 'ci', role = 'tenant_owner' }]")).is_err());
        assert!(load(&issuer("jwks_file = 'k'\njwks_uri = 'k'")).unwrap_err().contains("jwks_uri"));
    }

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://idp.example/.well-known/jwks.json?x=1",
            "https://10.0.0.7:8443/jwks",
            "http://127.0.0.1:9000/jwks",
            "http://127.8.8.8/jwks",
            "http://[::1]:9000/",
        ] {
            assert!(jwks_uri(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/jwks",
            "idp.example",
            "ftp://idp.example/jwks",
            "file:///etc/passwd",
            "http://idp.example/jwks",
            "http://localhost/jwks",
            "http://127.0.0.1.example/jwks",
            "http://127.0.0.1@idp.example/jwks",
            "http://idp.example\\@127.0.0.1/jwks",
            "https://user:password@idp.example/jwks",
            "https://idp.example/jwks#a",
            "http://10.0.0.1/jwks",
            "http://0.0.0.0/jwks",
            "http://2130706433/jwks",
            "https:///jwks",
            "https://idp example/jwks",
        ] {
            assert!(jwks_uri(bad).is_err(), "{bad}");
        }
    }
}
