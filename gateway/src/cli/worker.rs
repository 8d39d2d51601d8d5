//! `caprock worker`: the cluster's workers as a gateway knows them.

use super::api::{Api, Common};
use super::table::Column;
use clap::{Args, Subcommand};

const LIST: &[Column] = &[
    Column::text("cluster", "/cluster"),
    Column::text("worker", "/worker_id"),
    Column::text("role", "/role"),
    Column::text("address", "/address"),
    Column::text("healthy", "/healthy"),
    Column::time("since", "/since"),
    Column::text("in flight", "/in_flight"),
    Column::text("engine", "/reported/engine"),
    Column::text("running", "/reported/running"),
    Column::text("slots", "/reported/slots"),
    Column::text("last error", "/last_error/detail"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Worker {
    /// Lists all configured workers, and whether this gateway reaches them.
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Worker) -> Result<(), String> {
    match command {
        Worker::List(List { common }) => Api::new(common)?.list_whole("/admin/v1/cluster/workers", LIST).await,
    }
}
