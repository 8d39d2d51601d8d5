//! The worker over real sockets.

#![allow(clippy::unwrap_used)] // a test that can't go on fails here

mod answers;
mod cancelling;
#[cfg(feature = "llama")]
mod equality;
mod handoffs;
mod processes;
mod sampling;
mod support;
