//! Where an issuer's keys are read: its configured address, or a file. Bounded in time and size; no redirect, no proxy,
//! nothing that a token says.

use crate::config::{self, JwtIssuer};
use crate::https;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// For a whole fetch, from the name's look-up to the last byte.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest key set.
const MAX_BYTES: usize = 256 * 1024;

type JwksClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// One of two places.
#[derive(Debug)]
pub(super) enum Source {
    Url { uri: Uri, client: Box<JwksClient> },
    File(PathBuf),
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the issuer can't be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("the body broke off, or is larger than {MAX_BYTES} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the file can't be read")]
    File(#[source] std::io::Error),
    #[error("the file is larger than {MAX_BYTES} bytes")]
    FileTooLarge,
    #[error("what was read is unusable: {0}")]
    Unusable(String),
}

impl Source {
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn new(issuer: &JwtIssuer) -> Result<Source, String> {
        match (&issuer.jwks_url, &issuer.jwks_file) {
            (Some(url), None) => {
                let uri = config::jwks_uri(url)?;
                let client = Box::new(client(&uri, issuer.ca_file.as_deref())?);
                Ok(Source::Url { uri, client })
            }
            (None, Some(file)) => Ok(Source::File(file.clone())),
            (_, _) => Err("exactly one of jwks_url and jwks_file must be given".into()),
        }
    }

    pub(super) async fn read(&self) -> Result<Bytes, SourceError> {
        let reading = async {
            match self {
                Source::Url { uri, client } => fetch(uri, client).await,
                Source::File(path) => read_file(path).await,
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(SourceError::Late))
    }
}

async fn fetch(uri: &Uri, client: &JwksClient) -> Result<Bytes, SourceError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    let accept = http::HeaderValue::from_static("application/jwk-set+json, application/json");
    request.headers_mut().insert(ACCEPT, accept);
    let response = client.request(request).await.map_err(SourceError::Unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(SourceError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    Ok(body.map_err(SourceError::Body)?.to_bytes())
}

async fn read_file(path: &Path) -> Result<Bytes, SourceError> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(SourceError::File)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(SourceError::File)?;
    if bytes.len() > MAX_BYTES { Err(SourceError::FileTooLarge) } else { Ok(bytes.into()) }
}

fn client(uri: &Uri, ca_file: Option<&Path>) -> Result<JwksClient, String> {
    let connector = https::connector(uri.scheme_str() == Some("https"), ca_file)?;
    // Fetches are minutes apart: a kept connection would only be found dead.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    Ok(client)
}
