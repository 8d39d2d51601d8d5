//! What the admin API has set of the catalog: models and aliases.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;

/// A model or an alias.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CatalogRow {
    /// Its id.
    pub id: String,
    /// `model` or `alias`; the body says it, too, to who can read it.
    pub kind: String,
    /// What is set, as JSON.
    pub body: String,
    /// Counts on with each change. The first one is not 1, so that the version of a row that is gone does not fit a later
    /// one with its id.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
}

impl Store {
    /// By id, at most `limit`.
    pub async fn catalog_rows(&self, limit: i64) -> Result<Vec<CatalogRow>> {
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, kind, body, version, created_at, updated_at FROM catalog_overrides ORDER BY id LIMIT $1",
                [limit],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// By id, at most `limit`, and nobody else's to change until the transaction ends.
    ///
    /// A change of the catalog is judged against all of it, so one must not begin before the other is committed: row
    /// locks would not do, for two new aliases, or an alias and the removal of its model, touch different rows. Every
    /// change takes the end of the audit log anyway; here it is taken first. Taken only on commit, as other changes
    /// do, it would come after both have read, and judged, a catalog without the other. On PostgreSQL a statement sees
    /// what was committed before it began, so these rows are those that the last change left.
    pub async fn catalog_for_change(&mut self, limit: i64) -> Result<Vec<CatalogRow>> {
        self.audit_head_lock().await?;
        on!(self.connection(), c => query_as(
            "SELECT id, kind, body, version, created_at, updated_at FROM catalog_overrides ORDER BY id LIMIT $1",
            [limit],
        ).fetch_all(c).await)
        .map_err(super::dialect::classify)
    }

    /// Adds one.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn catalog_insert(&mut self, row: &CatalogRow) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO catalog_overrides (id, kind, body, version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            [&row.id, &row.kind, &row.body, row.version, row.created_at, row.updated_at],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of one, its version included. `false` when there is none with its id.
    pub async fn catalog_update(&mut self, row: &CatalogRow) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE catalog_overrides SET kind = $2, body = $3, version = $4, updated_at = $5 WHERE id = $1",
            [&row.id, &row.kind, &row.body, row.version, row.updated_at],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// Removes one; the audit log keeps what it was. `false` when there is none.
    pub async fn catalog_delete(&mut self, id: &str) -> Result<bool> {
        on!(self.connection(), c => query(
            "DELETE FROM catalog_overrides WHERE id = $1",
            [id],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }
}
