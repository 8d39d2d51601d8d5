//! The Idempotency-Key of a call, wherever it comes in.

use crate::error::{Error, Result};
use http::{HeaderMap, HeaderName};

/// Names a call, so that it may be repeated.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set on a reply that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in characters.
const MAX_CHARS: usize = 255;

/// The caller's key, if there is one.
///
/// # Errors
/// `Invalid` when it is empty, too long, given twice, or not printable ASCII.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = || {
        let text = format!("An Idempotency-Key has 1 to {MAX_CHARS} printable ASCII characters, and is given once.");
        Error::invalid("Idempotency-Key", text)
    };
    let text = value.to_str().map_err(|_| refuse())?;
    let fits = (1..=MAX_CHARS).contains(&text.len()) && !text.trim().is_empty();
    if fits && values.next().is_none() { Ok(Some(text)) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_printable_and_single() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(key(&headers(&[])).unwrap(), None);
        assert_eq!(key(&headers(&["a b"])).unwrap(), Some("a b"));
        for bad in [&[""][..], &["  "], &["a", "a"], &[&"x".repeat(256)], &["é"]] {
            assert_eq!(key(&headers(bad)).unwrap_err().param.as_deref(), Some("Idempotency-Key"), "{bad:?}");
        }
    }
}
