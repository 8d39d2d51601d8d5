//! TLS: whether certificate and key work, and until when.

use super::Finding;
use crate::config::Config;
use crate::tls;
use std::net::SocketAddr;
use std::path::Path;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Less than this is time to renew it, in days.
const SOON: i64 = 21;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let Some(address) = config.listen.tls else {
        return vec![Finding::ok("tls", "off: listen.tls is not set")];
    };
    vec![match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => configured(certificate, key, OffsetDateTime::now_utc()),
        (_, _) => development(address),
    }]
}

fn development(address: SocketAddr) -> Finding {
    if address.ip().is_loopback() {
        return Finding::ok("tls", format!("a development certificate, made at each start, on {address}"));
    }
    Finding::warn(
        "tls",
        format!("a development certificate on {address}, which others reach: it is for this machine's own names only"),
        "Set tls.certificate and tls.key, or put a proxy with a certificate in front and take listen.tls out.",
    )
}

fn configured(certificate: &Path, key: &Path, now: OffsetDateTime) -> Finding {
    let der = match tls::usable_certificate(certificate, key) {
        Ok(der) => der,
        Err(text) => {
            return Finding::fail("tls", text, "Correct tls.certificate and tls.key: a PEM chain and its key.");
        }
    };
    let named = certificate.display();
    let validity = match X509Certificate::from_der(&der) {
        Ok((_, parsed)) => parsed.validity().clone(),
        Err(error) => {
            return Finding::fail(
                "tls",
                format!("{named} can't be read: {error}"),
                "Give a PEM chain in tls.certificate.",
            );
        }
    };
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    let days = (until - now).whole_days();
    let renew = "Renew it, put it in its place, and restart the gateway.";
    if now > until {
        return Finding::fail("tls", format!("{named} expired on {}", until.date()), renew);
    }
    if now < from {
        let text = format!("{named} is not valid before {}", from.date());
        return Finding::fail("tls", text, "See whether this machine's clock is right.");
    }
    let text = format!("{named} is valid until {}, {days} days", until.date());
    if days < SOON { Finding::warn("tls", text, renew) } else { Finding::ok("tls", text) }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use time::Duration;

    fn pair(dir: &Path, until: OffsetDateTime) -> (std::path::PathBuf, std::path::PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["caprock.example".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = until;
        let files = (dir.join("chain.pem"), dir.join("key.pem"));
        std::fs::write(&files.0, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_is_good_soon_over_or_over() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let (chain, key) = pair(dir.path(), now + Duration::days(60));
        for (days, status) in [(0, Status::Ok), (38, Status::Ok), (45, Status::Warn), (61, Status::Fail)] {
            let finding = configured(&chain, &key, now + Duration::days(days));
            assert_eq!(finding.status, status, "after {days} days: {finding:?}");
        }
        let before = configured(&chain, &key, OffsetDateTime::UNIX_EPOCH - Duration::days(1));
        assert_eq!(before.status, Status::Fail, "{before:?}");
    }

    #[test]
    fn a_key_of_another_certificate_and_a_file_that_is_none_fail() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let until = OffsetDateTime::now_utc() + Duration::days(60);
        let (chain, key) = pair(one.path(), until);
        let (_, other_key) = pair(other.path(), until);
        for (certificate, key) in [(&chain, &other_key), (&key, &key), (&other.path().join("absent"), &key)] {
            assert_eq!(configured(certificate, key, OffsetDateTime::now_utc()).status, Status::Fail, "{certificate:?}");
        }
    }

    #[test]
    fn a_development_certificate_is_for_loopback() {
        assert_eq!(development("127.0.0.1:8443".parse().unwrap()).status, Status::Ok);
        assert_eq!(development("[::1]:8443".parse().unwrap()).status, Status::Ok);
        assert_eq!(development("0.0.0.0:8443".parse().unwrap()).status, Status::Warn);
    }
}
