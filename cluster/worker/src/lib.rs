//! A worker of the cluster: owns an engine, computes prompts, hands KV caches over, generates answers.
//!
//! ```text
//! server      sockets, handshake, one request per connection      handoff    the decode side of a hand-off
//! scheduler   one engine thread: admission, batching, chunks      receipts   what ended requests came to
//! engine      llama.cpp, or a simulation                          supervise  restarts the whole after a crash
//! ```
//!
//! `cluster/README.md` has the model, who owns what, and the invariants.

pub mod cli;
pub mod config;
pub mod connection;
mod constraints;
mod crash;
mod engine;
mod handoff;
mod logprobs;
mod metrics;
mod penalties;
mod picker;
mod pool;
mod receipts;
mod sampler;
mod scheduler;
mod server;
mod stops;
pub mod supervise;
mod text;
mod validate;
mod worker;

pub use crash::CrashPlan;
pub use engine::sim::SimOptions;
pub use engine::{EngineLimits, LoadError};
pub use worker::Worker;
