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
