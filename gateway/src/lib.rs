//! Caprock's gateway: a multi-tenant inference API in front of a disaggregated cluster.
//!
//! [`run`] is the whole program; tests call it with sockets bound to port 0.

pub mod accept;
pub mod admin;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod billing;
pub mod body;
pub mod bootstrap;
pub mod catalog;
pub mod changes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod health;
mod https;
pub mod id;
pub mod idempotency;
pub mod inference;
pub mod money;
pub mod openapi;
pub mod prompt;
pub mod quota;
pub mod router;
pub mod secrets;
mod serve;
pub mod store;
pub mod telemetry;
pub mod tenants;
pub mod tls;
pub mod upstream;

pub use serve::{Addresses, Listeners, Shutdown, run};
