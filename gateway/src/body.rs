//! Reading a request's body within its bounds: size, time between two pieces, time in all.

use crate::config::Http;
use crate::error::{Error, ErrorKind, Result};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Largest body of a request that asks to read something: it means nothing there, but a signature covers it.
const READING_BYTES: usize = 4 << 10;

/// The whole body, at most `largest` bytes of it. Cancelling drops what was read.
///
/// # Errors
/// `TooLarge`, from the announced length before anything is read or while reading; `RequestTimeout`; `Invalid` when the
/// caller breaks off.
pub async fn read(head: &Parts, mut body: Body, largest: usize, limits: &Http) -> Result<Bytes> {
    let most = match head.method {
        Method::GET | Method::HEAD => READING_BYTES.min(largest),
        _ => largest,
    };
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most));
    }
    let end = Instant::now() + Duration::from_millis(limits.body_total_ms);
    let mut read = BytesMut::new();
    loop {
        let idle = Instant::now() + Duration::from_millis(limits.body_idle_ms);
        let frame = timeout_at(idle.min(end), body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { return Ok(read.freeze()) };
        // Trailers are read and dropped.
        let Ok(data) = frame.map_err(broke_off)?.into_data() else { continue };
        if read.len() + data.len() > most {
            return Err(too_large(most));
        }
        read.extend_from_slice(&data);
    }
}

fn too_large(most: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("The body is larger than {most} bytes."))
}

fn too_slow() -> Error {
    Error::new(ErrorKind::RequestTimeout, "The body came too slowly.")
}

fn broke_off(error: axum::Error) -> Error {
    Error::new(ErrorKind::Invalid, "The body broke off.").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use std::convert::Infallible;

    fn limits() -> Http {
        crate::config::Config::load(None).unwrap().http
    }

    fn head(method: Method) -> Parts {
        http::Request::builder().method(method).body(()).unwrap().into_parts().0
    }

    fn pieces(pieces: Vec<&'static str>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
    }

    #[tokio::test]
    async fn a_body_comes_whole_up_to_its_limit() {
        let read = read(&head(Method::POST), pieces(vec!["1234", "5678"]), 8, &limits()).await.unwrap();
        assert_eq!(read, "12345678");
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_announced_or_not() {
        let error = read(&head(Method::POST), pieces(vec!["1234", "56789"]), 8, &limits()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let mut announced = head(Method::POST);
        announced.headers.insert(CONTENT_LENGTH, "9".parse().unwrap());
        let never_read = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(read(&announced, never_read, 8, &limits()).await.unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_request_that_only_reads_has_next_to_no_body() {
        let limits = crate::config::Config::load(None).unwrap().http;
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(read(&head(method.clone()), Body::empty(), 64 << 10, &limits).await.unwrap(), "");
            let large = Body::from(vec![b'x'; READING_BYTES + 1]);
            assert_eq!(read(&head(method), large, 64 << 10, &limits).await.unwrap_err().kind, ErrorKind::TooLarge);
        }
        let large = Body::from(vec![b'x'; READING_BYTES + 1]);
        assert_eq!(read(&head(Method::POST), large, 64 << 10, &limits).await.unwrap().len(), READING_BYTES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let stalled = stream::iter([Ok::<_, Infallible>("1")]).chain(stream::pending());
        let begun = Instant::now();
        let error = read(&head(Method::POST), Body::from_stream(stalled), 8, &limits()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RequestTimeout);
        assert_eq!(begun.elapsed().as_millis() as u64, limits().body_idle_ms);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_too() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Some((Ok::<_, Infallible>(""), ()))
        });
        let begun = Instant::now();
        let error = read(&head(Method::POST), Body::from_stream(trickle), 8, &limits()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RequestTimeout);
        assert_eq!(begun.elapsed().as_millis() as u64, limits().body_total_ms);
    }
}
