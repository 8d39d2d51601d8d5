//! Calls that may be repeated, and streams that go on where they broke off.

use crate::error::{Error, ErrorKind, Result};
use crate::idempotency;
use crate::inference::Once;
use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the head of a call says of its repetition; looked at once the caller is known.
#[derive(Debug)]
pub struct Repeat {
    method: Method,
    path: String,
    headers: HeaderMap,
}

impl Repeat {
    /// Of a call whose body is not read yet.
    pub fn of(request: &Request) -> Repeat {
        let mut headers = HeaderMap::new();
        for name in [idempotency::IDEMPOTENCY_KEY, LAST_EVENT_ID] {
            for value in request.headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Repeat { method: request.method().clone(), path: request.uri().path().to_owned(), headers }
    }

    /// The call, if it may be repeated.
    ///
    /// # Errors
    /// `Invalid`, naming the header.
    pub fn once(&self, body: &[u8]) -> Result<Option<Once>> {
        Ok(idempotency::key(&self.headers)?.map(|key| Once::new(key, &self.method, &self.path, body)))
    }

    /// The number of the last event that the caller has of an answer in server-sent events.
    ///
    /// # Errors
    /// `Invalid`, naming the header, when it is no number, or the call is not one that may be repeated, or its answer is
    /// not streamed.
    pub fn last_event(&self, streamed: bool) -> Result<Option<u64>> {
        let Some(value) = self.headers.get(LAST_EVENT_ID) else { return Ok(None) };
        let refuse = |text: &str| Err(Error::new(ErrorKind::Invalid, text).about("Last-Event-ID"));
        if !streamed || !self.headers.contains_key(idempotency::IDEMPOTENCY_KEY) {
            return refuse("Last-Event-ID resumes a streamed answer to a call with an Idempotency-Key.");
        }
        match value.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => refuse("Last-Event-ID is the number of the last event that was received."),
        }
    }
}

/// Says in the head that the answer was generated for an earlier call.
pub fn name_the_replay(headers: &mut HeaderMap, replayed: bool) {
    if replayed {
        headers.insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
    }
}
