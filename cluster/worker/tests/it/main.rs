//! The worker over real sockets.

mod answers;
#[cfg(feature = "llama")]
mod equality;
mod support;
