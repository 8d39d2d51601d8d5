//! TLS for the data plane: the operator's certificate, or a development one under an own CA.

use crate::config::Config;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;

/// Names it in browsers and in `openssl`; with the key it is all that ties certificates to the CA, so it must not change.
const CA_NAME: &str = "Caprock development CA";
const CA_YEARS: i64 = 10;
/// Longer than any process lives; a new certificate is made at every start.
const SERVER_DAYS: i64 = 397;
/// Clocks of other machines may be behind.
const BACKDATE: Duration = Duration::days(1);

/// An acceptor that speaks HTTP/2 and HTTP/1.1 by ALPN. Without configured files, makes a CA once and a certificate for
/// this machine's loopback names at every start, in `tls/` of the state folder: `ca.pem` is what clients trust.
///
/// # Errors
/// A text that names the file at fault.
pub fn acceptor(config: &Config) -> Result<TlsAcceptor, String> {
    let (chain, key) = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
        (_, _) => development(&config.gateway.state_dir.join("tls"))?,
    };
    let (chain, key) = parse(&chain, &key)?;
    let mut server = server_config(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// The first certificate of a chain in files, once it is sure that a server can use them: for looking at it.
///
/// # Errors
/// A text that names what is wrong; never the key.
pub(crate) fn usable_certificate(certificate: &Path, key: &Path) -> Result<CertificateDer<'static>, String> {
    let (chain, key) = parse(&read(certificate)?, &read(key)?)?;
    let first = chain.first().cloned();
    server_config(chain, key)?;
    first.ok_or_else(|| format!("{} holds no certificate", certificate.display()))
}

fn parse(chain: &str, key: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the TLS certificate can't be read: {error}"))?;
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("the TLS key can't be read: {error}"))?;
    Ok((chain, key))
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, String> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| format!("the TLS certificate and key don't work: {error}"))
}

/// Certificate and key as PEM.
fn development(dir: &Path) -> Result<(String, String), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("can't make {}: {error}", dir.display()))?;
    let ca_key = ca_key(&dir.join("ca-key.pem"))?;
    let ca_params = ca_params();
    let ca_file = dir.join("ca.pem");
    if !ca_file.exists() {
        let ca = ca_params.self_signed(&ca_key).map_err(|error| format!("can't make a CA: {error}"))?;
        write(&ca_file, &ca.pem(), 0o644)?;
    }
    let issuer = Issuer::new(ca_params, ca_key);
    let key = new_key()?;
    let certificate = server_params()
        .and_then(|params| params.signed_by(&key, &issuer))
        .map_err(|error| format!("can't make a certificate: {error}"))?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    write(&dir.join("cert.pem"), &certificate, 0o644)?;
    write(&dir.join("key.pem"), &key, 0o600)?;
    Ok((certificate, key))
}

fn ca_key(file: &Path) -> Result<KeyPair, String> {
    if file.exists() {
        return KeyPair::from_pem(&read(file)?).map_err(|error| format!("{}: {error}", file.display()));
    }
    let key = new_key()?;
    write(file, &key.serialize_pem(), 0o600)?;
    Ok(key)
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|error| format!("can't make a key: {error}"))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - BACKDATE;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(365 * CA_YEARS);
    params
}

fn server_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(String::from))?;
    params.distinguished_name = name("localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - BACKDATE;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(SERVER_DAYS);
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("can't read {}: {error}", file.display()))
}

/// Replaces the file as a whole, so that nobody reads half of it.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), String> {
    let explain = |error: std::io::Error| format!("can't write {}: {error}", file.display());
    let draft = file.with_extension(format!("pem.{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(explain)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(explain)?;
    std::fs::rename(&draft, file).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use std::os::unix::fs::PermissionsExt;
    use tokio_rustls::TlsConnector;

    fn config(dir: &Path) -> Config {
        let mut config = Config::load(None).unwrap();
        config.gateway.state_dir = dir.to_path_buf();
        config
    }

    async fn shake_hands(acceptor: TlsAcceptor, ca: &Path, name: &'static str) -> Option<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let (near, far) = tokio::io::duplex(1 << 16);
        let connect = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from(name).unwrap(), near);
        let (connected, accepted) = tokio::join!(connect, acceptor.accept(far));
        accepted.unwrap();
        connected.unwrap().get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_development_ca_gets_h2_on_every_loopback_name() {
        let dir = tempfile::tempdir().unwrap();
        let acceptor = acceptor(&config(dir.path())).unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            let alpn = shake_hands(acceptor.clone(), &dir.path().join("tls/ca.pem"), name).await;
            assert_eq!(alpn.as_deref(), Some(&b"h2"[..]), "{name}");
        }
    }

    #[tokio::test]
    async fn the_ca_outlives_a_restart_and_keys_are_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        acceptor(&config(dir.path())).unwrap();
        let tls = dir.path().join("tls");
        let ca = std::fs::read(tls.join("ca.pem")).unwrap();
        let again = acceptor(&config(dir.path())).unwrap();
        assert_eq!(std::fs::read(tls.join("ca.pem")).unwrap(), ca);
        shake_hands(again, &tls.join("ca.pem"), "localhost").await;
        for key in ["ca-key.pem", "key.pem"] {
            assert_eq!(std::fs::metadata(tls.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named_in_the_complaint() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.tls.certificate = Some(dir.path().join("absent.pem"));
        config.tls.key = Some(dir.path().join("absent.pem"));
        assert!(acceptor(&config).err().unwrap().contains("absent.pem"));
    }
}
