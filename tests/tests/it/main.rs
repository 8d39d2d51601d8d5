//! Black-box tests: one binary, so that its dependencies are linked once.
#![allow(clippy::unwrap_used)]

mod bedrock;
mod catalog;
mod cli;
mod constraints;
mod crash;
mod doctor;
mod errors;
mod handoff;
mod handoff_faults;
mod idempotency;
mod isolation;
mod openai;
mod openapi;
mod ports;
mod revocation;
mod schemathesis;
mod sdk;
mod settle;
mod tokenizer;
mod tools;
mod walk;
