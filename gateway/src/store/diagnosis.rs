//! What `caprock doctor` asks: about the database itself, and counts over all tenants that name none of them.

use super::dialect::{Engine, Place};
use super::door::Store;
use crate::clock::Micros;
use crate::error::Result;

impl Store {
    /// Which database it is, for people: the file, or server and name. Never a password.
    pub fn place_in_words(&self) -> String {
        match self.located() {
            Place::File(file) => format!("SQLite, {}", file.display()),
            Place::Server(options) => {
                let name = options.get_database().unwrap_or("the default database");
                format!("PostgreSQL, {name} on {}:{}", options.get_host(), options.get_port())
            }
        }
    }

    /// The server's clock, µs since 1970; `None` for SQLite, which has none of its own.
    pub async fn server_clock(&self) -> Result<Option<Micros>> {
        self.detached(|db| async move {
            match db.read() {
                Engine::Sqlite(_) => Ok(None),
                Engine::Postgres(pool) => {
                    let query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
                    sqlx::query_scalar(query).fetch_one(pool).await.map(Some)
                }
            }
        })
        .await
    }

    /// How many access keys that are not revoked are sealed under each version of the master key, which a seal begins
    /// with: `v1.` or `v12`.
    pub async fn access_keys_by_seal(&self) -> Result<Vec<(String, i64)>> {
        self.detached(|db| async move {
            on!(db.read(), c => query_as(
                "SELECT SUBSTR(sealed_secret, 1, 3) AS seal, CAST(COUNT(*) AS BIGINT) FROM access_keys
                 WHERE revoked_at IS NULL GROUP BY SUBSTR(sealed_secret, 1, 3) ORDER BY 1",
                [],
            ).fetch_all(c).await)
        })
        .await
    }

    /// How many service accounts that are not deleted have a federated identity of each issuer.
    pub async fn service_accounts_by_issuer(&self) -> Result<Vec<(String, i64)>> {
        self.detached(|db| async move {
            on!(db.read(), c => query_as(
                "SELECT federated_issuer, CAST(COUNT(*) AS BIGINT) FROM service_accounts
                 WHERE deleted_at IS NULL AND federated_issuer IS NOT NULL
                 GROUP BY federated_issuer ORDER BY federated_issuer",
                [],
            ).fetch_all(c).await)
        })
        .await
    }

    /// How many bearer credentials that are not revoked have a digest by each version of the pepper, lowest first.
    pub async fn credentials_by_pepper(&self) -> Result<Vec<(i64, i64)>> {
        self.detached(|db| async move {
            on!(db.read(), c => query_as(
                "SELECT pepper_version, CAST(COUNT(*) AS BIGINT) FROM (
                    SELECT pepper_version FROM api_keys WHERE revoked_at IS NULL
                    UNION ALL SELECT pepper_version FROM admin_tokens WHERE revoked_at IS NULL) AS live
                 GROUP BY pepper_version ORDER BY pepper_version",
                [],
            ).fetch_all(c).await)
        })
        .await
    }
}
