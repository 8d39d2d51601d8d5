//! All SQL. Knows ids, money and time; knows no HTTP and decides nothing.
//!
//! Two engines, one text per query: the Postgres spelling (`$1`) is understood by both. What truly differs is in
//! [`dialect`]; everything else goes through [`on!`]. Queries are methods of [`Store`] and [`Tx`], one file per
//! capability, and contract tests run each of them on both engines.
//!
//! No query runs in a future that a caller can cancel: the pools are reachable only through one door, which runs each
//! piece of work in a task of its own (see `door`).
//!
//! Every query on a tenant's data takes the tenant's id, with three exceptions: looking up a credential by its public id
//! (that is how the tenant becomes known), the life of a request by the id that the gateway itself made, and the
//! operator's look-up of a request.

/// Runs one query on whichever engine is behind `$db`, an [`Engine`] of executors.
///
/// `on!(db, c => query("… $1", [bind, …]).execute(c).await)`. A text whose highest placeholder is not the number of
/// binds does not compile (SQLite would read a missing one as NULL). The text is a literal or a constant.
macro_rules! on {
    ($db:expr, $c:ident => $query:ident($sql:expr, [$($bind:expr),* $(,)?] $(,)?) $($run:tt)+) => {{
        const { $crate::store::columns::check_binds($sql, <[&str]>::len(&[$(stringify!($bind)),*])) };
        match $db {
            $crate::store::Engine::Sqlite($c) => sqlx::$query($sql)$(.bind($bind))* $($run)+,
            $crate::store::Engine::Postgres($c) => sqlx::$query($sql)$(.bind($bind))* $($run)+,
        }
    }};
}

mod access_keys;
mod admin_tokens;
mod alone;
mod answers;
mod api_keys;
mod audit;
mod audit_entries;
mod caps;
mod catalog;
mod columns;
mod credentials;
mod diagnosis;
mod dialect;
mod door;
mod follower;
mod ledger;
mod look_ups;
mod projects;
mod reports;
mod request_list;
mod requests;
mod schema;
mod service_accounts;
mod tenants;
mod usage;
mod uses;

#[cfg(test)]
mod contract;
#[cfg(test)]
pub(crate) mod testing;

pub use admin_tokens::{OperatorFilter, OperatorRow};
pub use alone::ExclusiveLock;
pub use answers::{AnswerClaim, AnswerKey, AnswerRow, AnswerToKeep, NewAnswerClaim};
pub use audit::{AuditHeadRow, ChangeRow, IDEMPOTENCY_US, IdempotentReplyRow, NewAuditEntry, NewIdempotentReply};
pub use audit_entries::{AuditEndRow, AuditFilter, AuditRow};
pub use catalog::CatalogRow;
pub(crate) use columns::count;
pub use credentials::{CredentialFilter, CredentialRow, DigestColumns, ServiceAccountBounds};
pub use dialect::Engine;
pub use door::{Store, Tx};
pub use follower::Follower;
pub use ledger::{LedgerRow, NewLedgerEntry, NewUsage};
pub use look_ups::{
    AccessKeyRow, AdminTokenRow, ApiKeyRow, FormerDigest, LOOK_UP_DEADLINE, Owner, UsableServiceAccountRow,
};
pub use projects::{ProjectFilter, ProjectRow};
pub use request_list::{RequestFilter, RequestListRow};
pub use requests::{AdmittedRow, NewRequest, OpenRow, RECOVERY_BATCH, RequestRow, SettledRow};
pub use service_accounts::{ServiceAccountFilter, ServiceAccountRow};
pub use tenants::{LimitColumns, TenantFilter, TenantRow};
pub use usage::{UsageFilter, UsageGroup, UsageRow};
