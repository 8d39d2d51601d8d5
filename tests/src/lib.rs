//! The harness of the black-box tests: runs the real programs as processes on loopback and looks at them from outside.
//!
//! Programs, model and database come from the environment, which `scripts/test` sets; a test never skips because one is
//! missing, it fails and says what to set. Nothing outlives the test that started it.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // a harness panics: that is how a test fails

pub mod admin;
pub mod books;
pub mod cli;
pub mod client;
pub mod environment;
pub mod eventstream;
pub mod fake_prefill;
pub mod gateway;
pub mod issuer;
pub mod openapi;
pub mod pair;
pub mod process;
pub mod proxy;
pub mod replicas;
pub mod rows;
pub mod sigv4;
pub mod sse;
pub mod stack;
pub mod wait;
pub mod wire;
pub mod worker;
