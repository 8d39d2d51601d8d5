//! What a connection waits for, and how long it may: one deadline at a time, moved on by bytes, requests and replies.
//!
//! ```text
//! accept ─▶ first byte ─▶ head ─▶ busy ─▶ idle ─▶ head …          HTTP/1.1
//! accept ─▶ first byte ─▶ idle ─▶ busy ─▶ idle …                  HTTP/2: between requests come pings and windows
//! ```
//!
//! Beside it, at any time: a peer that doesn't take what is written. What one HTTP/2 stream doesn't take is in
//! [`super::streams`].

use super::Limits;
use super::streams::Reader;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How every HTTP/2 connection begins, and no HTTP/1.1 request may.
const H2_PREFACE: &[u8] = b"PRI ";

/// For a peer to answer the announcement that its idle connection ends.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a peer was too slow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The first byte after the connection was accepted.
    FirstByte,
    /// The end of a request's head.
    Head,
    /// Another request.
    NextRequest,
    /// Closing an idle connection that it was told ends.
    Close,
    /// Taking what is written.
    Reader,
}

impl Awaited {
    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Awaited::FirstByte => "first_byte",
            Awaited::Head => "head",
            Awaited::NextRequest => "next_request",
            Awaited::Close => "close",
            Awaited::Reader => "reader",
        }
    }
}

/// One connection's state.
#[derive(Debug)]
pub struct Pulse {
    state: Mutex<State>,
    changed: Notify,
    first_byte: Duration,
    head: Duration,
    idle: Duration,
    write_stall: Duration,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    running: usize,
    /// The first bytes, until they tell the protocol.
    opening: Vec<u8>,
    http2: bool,
    write_blocked: Option<Instant>,
    /// The peer was told that this connection ends.
    last_call: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    FirstByte,
    Head,
    Busy,
    Idle,
}

impl Pulse {
    /// Of a connection that was just accepted.
    pub fn new(limits: &Limits) -> Pulse {
        let state = State {
            phase: Phase::FirstByte,
            since: Instant::now(),
            running: 0,
            opening: Vec::with_capacity(H2_PREFACE.len()),
            http2: false,
            write_blocked: None,
            last_call: false,
        };
        Pulse {
            state: Mutex::new(state),
            changed: Notify::new(),
            first_byte: Duration::from_millis(limits.http.first_byte_ms),
            head: Duration::from_millis(limits.http.header_ms),
            idle: Duration::from_millis(limits.http.idle_ms),
            write_stall: limits.write_stall,
        }
    }

    /// A request's head is there; the guard ends with its reply.
    pub fn request_begins(self: &Arc<Self>) -> Running {
        self.update(|state| {
            state.running += 1;
            state.enter(Phase::Busy);
        });
        Running(self.clone())
    }

    /// The peer is being told that this idle connection ends, and has a moment to end it itself. A request that was
    /// already on its way is still answered.
    pub fn last_call(&self) {
        self.update(|state| {
            state.last_call = true;
            if state.phase == Phase::Idle {
                state.enter(Phase::Idle);
            }
        });
    }

    /// Returns when the peer has been too slow, with what was awaited.
    pub async fn expired(&self) -> Awaited {
        loop {
            // Holds a permit when something changed since the last look, so no change is missed.
            let changed = self.changed.notified();
            match self.deadline() {
                None => changed.await,
                Some((at, waiting_for)) => tokio::select! {
                    () = sleep_until(at) => if self.deadline().is_some_and(|(at, _)| at <= Instant::now()) {
                        return waiting_for;
                    },
                    () = changed => {}
                },
            }
        }
    }

    fn deadline(&self) -> Option<(Instant, Awaited)> {
        let state = self.lock();
        let by_phase = match state.phase {
            Phase::FirstByte => Some((state.since + self.first_byte, Awaited::FirstByte)),
            Phase::Head => Some((state.since + self.head, Awaited::Head)),
            Phase::Idle if state.last_call => Some((state.since + LAST_CALL, Awaited::Close)),
            Phase::Idle => Some((state.since + self.idle, Awaited::NextRequest)),
            Phase::Busy => None,
        };
        let by_write = state.write_blocked.map(|since| (since + self.write_stall, Awaited::Reader));
        by_phase.into_iter().chain(by_write).min_by_key(|(at, _)| *at)
    }

    fn bytes_came(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.http2 || matches!(state.phase, Phase::Busy) {
            return;
        }
        if state.opening.len() < H2_PREFACE.len() {
            let missing = H2_PREFACE.len() - state.opening.len();
            state.opening.extend(bytes.iter().take(missing));
        }
        if state.opening == H2_PREFACE {
            state.http2 = true;
            state.enter(Phase::Idle);
        } else if state.phase != Phase::Head {
            state.enter(Phase::Head);
        } else {
            return;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn write_blocked(&self, blocked: bool) {
        self.update(|state| state.write_blocked = blocked.then(Instant::now));
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }
}

/// One request is being answered, until this is dropped.
#[derive(Debug)]
pub struct Running(Arc<Pulse>);

impl Running {
    /// Lives as long as the reply's body.
    pub fn until_the_end_of(self, body: Body) -> Reply {
        Reply { body, reader: Reader::of_this_stream(), _running: self }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.update(|state| {
            state.running -= 1;
            if state.running == 0 {
                state.enter(Phase::Idle);
            }
        });
    }
}

/// A reply's body that tells when it is over, and when its reader asks for more.
#[derive(Debug)]
pub struct Reply {
    body: Body,
    reader: Option<Arc<Reader>>,
    _running: Running,
}

impl hyper::body::Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(reader) = &self.reader {
            reader.asks();
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(reader), true) = (&self.reader, frame.is_ready()) {
            reader.is_given();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that tells its pulse what comes and what is not taken.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pulse: Arc<Pulse>,
    blocked: bool,
}

impl<S> Paced<S> {
    /// Over an accepted stream, above TLS.
    pub fn new(stream: S, pulse: Arc<Pulse>) -> Paced<S> {
        Paced { stream, pulse, blocked: false }
    }

    fn wrote<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() != self.blocked {
            self.blocked = result.is_pending();
            self.pulse.write_blocked(self.blocked);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..).filter(|new| !new.is_empty()) {
            self.pulse.bytes_came(new);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
