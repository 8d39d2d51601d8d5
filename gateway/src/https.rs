//! HTTPS as a client: whom this process trusts when it calls somebody. Certificates come from the machine and, where one
//! is given, from a file; no proxy is used.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Connects by HTTP/1.1. With `https` it refuses plain addresses, and the authorities are read; without it there are none.
///
/// # Errors
/// Says what is wrong with `ca_file`, or that there is no authority to trust.
pub(crate) fn connector(https: bool, ca_file: Option<&Path>) -> Result<HttpsConnector<HttpConnector>, String> {
    let roots = if https { roots(ca_file)? } else { RootCertStore::empty() };
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = if https { connector.https_only() } else { connector.https_or_http() };
    Ok(connector.enable_http1().build())
}

/// The machine's authorities and the file's.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // One odd certificate among the machine's is no reason to trust none of them.
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let explain = |why: &dyn std::fmt::Display| format!("ca_file {}: {why}", path.display());
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| explain(&error))? {
            let certificate = certificate.map_err(|error| explain(&error))?;
            roots.add(certificate).map_err(|error| explain(&error))?;
            found = true;
        }
        if !found {
            return Err(explain(&"no certificate in it"));
        }
    }
    if roots.is_empty() {
        return Err("this machine has no trusted certificate authorities: give ca_file".into());
    }
    Ok(roots)
}
