//! Caprock's gateway: a multi-tenant inference API in front of a disaggregated cluster.

pub mod admin;
pub mod api;
pub mod app;
pub mod auth;
pub mod billing;
pub mod bootstrap;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod error;
pub mod id;
pub mod inference;
pub mod money;
pub mod prompt;
pub mod quota;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod tenants;
pub mod upstream;
