//! The admin API as commands call it: one connection per call, failures as words.

use crate::admin::problem::Problem;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::{Display, Write};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the reply to begin, unless a command knows better; and between two pieces of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REPLY_BYTES: usize = 4 << 20;
/// Longest line of a streamed reply.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Where the admin API is, and who asks.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// Where the admin port is.
    #[arg(long, env = "CAPROCK_ADMIN_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub(super) admin_url: String,
    /// An admin token. From the environment, so that it shows in no list of processes.
    #[arg(long, env = "CAPROCK_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) admin_token: Option<String>,
}

/// A caller of the admin API.
#[derive(Debug)]
pub(super) struct Client {
    url: String,
    authority: Authority,
    token: String,
}

impl Client {
    /// For these settings; nothing is connected yet.
    pub(super) fn new(connection: Connection) -> Result<Client, String> {
        let Connection { admin_url: url, admin_token } = connection;
        let token = admin_token.ok_or("no admin token: set CAPROCK_ADMIN_TOKEN")?;
        let parsed: Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
        match (parsed.scheme_str(), parsed.authority()) {
            (Some("http"), Some(authority)) => Ok(Client { authority: authority.clone(), url, token }),
            _ => Err(format!("`{url}`: only http://host:port is supported")),
        }
    }

    /// The body of a reply that says 200.
    pub(super) async fn get(&self, path: &str, patience: Duration) -> Result<Bytes, String> {
        let response = self.send(path, patience).await?;
        let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect();
        let body = timeout(patience, body).await.map_err(|_| self.is_silent())?;
        Ok(body.map_err(|error| self.unreachable(&error))?.to_bytes())
    }

    /// Each line of a reply that says 200, without its end, as it comes.
    pub(super) async fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut body = self.send(path, PATIENCE).await?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| self.is_silent())? {
            let frame = frame.map_err(|error| format!("the reply broke off: {error}"))?;
            let Ok(data) = frame.into_data() else { continue };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                rest.extend_from_slice(part);
                if let Some(line) = rest.strip_suffix(b"\n") {
                    each(line)?;
                    rest.clear();
                } else if rest.len() > MAX_LINE_BYTES {
                    return Err(format!("a line of the reply is longer than {MAX_LINE_BYTES} bytes"));
                }
            }
        }
        if rest.is_empty() { Ok(()) } else { Err("the reply broke off within a line".into()) }
    }

    async fn send(&self, path: &str, patience: Duration) -> Result<Response<Incoming>, String> {
        let authority = &self.authority;
        let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Empty::<Bytes>::new())
            .map_err(|_| "the admin token can't be sent in a header".to_owned())?;
        let exchange = async {
            let stream = TcpStream::connect(address).await.map_err(|error| self.unreachable(&error))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| self.unreachable(&error))?;
            // Ends with the reply's last byte, or with the process; its errors come out at the reply.
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(|error| self.unreachable(&error))
        };
        let response = timeout(patience, exchange).await.map_err(|_| self.is_silent())??;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect();
        let body = timeout(PATIENCE, body).await.map_err(|_| self.is_silent())?;
        Err(refusal(status, &body.map(|body| body.to_bytes()).unwrap_or_default()))
    }

    fn unreachable(&self, error: &dyn Display) -> String {
        format!("can't reach {}: {error}", self.url)
    }

    fn is_silent(&self) -> String {
        format!("{} does not answer", self.url)
    }
}

/// A failure in words, with the field at fault.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { detail, param: Some(param), .. }) => format!("{detail} ({param})"),
        Ok(Problem { detail, .. }) => detail,
        Err(_) => format!("the admin API answered {status}"),
    }
}

/// A path with those parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            let separator = if text.contains('?') { '&' } else { '?' };
            // Writing to a string can't fail.
            let _ = write!(text, "{separator}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    text
}

/// A part of a path, whatever is in it.
pub(super) fn segment(text: &str) -> impl Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// A table with a head, columns as wide as they need to be.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths = head.iter().enumerate();
    let widths: Vec<usize> = widths
        .map(|(column, name)| rows.iter().map(|row| cell(row, column)).chain([name.len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(&head).chain(rows).map(|row| line(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_what_is_given_and_nothing_in_it_ends_a_parameter() {
        let parameters = [("a", Some("x&y=z é".to_owned())), ("b", None), ("c", Some("+".to_owned()))];
        assert_eq!(with_query("/p", &parameters), "/p?a=x%26y%3Dz%20%C3%A9&c=%2B");
        assert_eq!(with_query("/p", &[]), "/p");
        assert_eq!(segment("a/b").to_string(), "a%2Fb");
    }

    #[test]
    fn a_refusal_is_told_in_the_apis_words() {
        let problem = r#"{"type":"t","title":"Bad Request","status":400,"detail":"No.","param":"from"}"#;
        assert_eq!(refusal(StatusCode::BAD_REQUEST, problem.as_bytes()), "No. (from)");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), "the admin API answered 502 Bad Gateway");
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [vec!["1".to_owned(), "é".to_owned()], vec!["1000".to_owned(), String::new()]];
        assert_eq!(table(&["seq", "who"], &rows), "seq   who\n1     é\n1000\n");
    }
}
