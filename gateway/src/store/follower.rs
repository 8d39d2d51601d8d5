//! Reading the feed of changes, on a connection of its own.
//!
//! Not through the pools: a gateway whose connections are all busy must still learn what was revoked. And unlike a pooled
//! one this connection may be dropped in the middle of a query, so a poll has a deadline: what a cancelled poll leaves
//! behind is a closed connection, and the next poll opens another. There is no transaction on it that could stay open.

use super::Store;
use super::audit::{AuditHeadRow, ChangeRow};
use super::dialect::{self, Engine, POSTGRES_SETTINGS, Place};
use crate::error::Result;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};
use std::time::Duration;

/// A writer of SQLite's holds up no reader for longer than it takes to look again.
const SQLITE_BUSY: Duration = Duration::from_millis(100);

/// A reader of the feed.
#[derive(Debug)]
pub struct Follower {
    place: Place,
    connection: Option<Connection>,
}

type Connection = Engine<SqliteConnection, PgConnection>;

impl Store {
    /// A reader of the feed; it connects when it first reads.
    pub fn follower(&self) -> Follower {
        Follower { place: self.place().clone(), connection: None }
    }
}

impl Follower {
    /// Entries from number `from` on, that one included, oldest first, at most `limit`. Numbers are committed in order, so
    /// none that is missing here comes later. Cancelling closes the connection.
    pub async fn changes_from(&mut self, from: i64, limit: i64) -> Result<Vec<ChangeRow>> {
        let mut connection = self.take().await.map_err(dialect::classify)?;
        let rows = on!(by_ref(&mut connection), c => query_as(
            "SELECT seq, tenant_id, action, target_kind, target_id, digest FROM audit_log
             WHERE seq >= $1 ORDER BY seq LIMIT $2",
            [from, limit],
        ).fetch_all(c).await);
        let rows = rows.map_err(dialect::classify)?;
        self.connection = Some(connection);
        Ok(rows)
    }

    /// The end of the chain. Cancelling closes the connection.
    pub async fn audit_head(&mut self) -> Result<AuditHeadRow> {
        let mut connection = self.take().await.map_err(dialect::classify)?;
        let head = on!(by_ref(&mut connection), c => query_as(
            "SELECT seq, digest FROM audit_head WHERE one = 1", [],
        ).fetch_one(c).await);
        let head = head.map_err(dialect::classify)?;
        self.connection = Some(connection);
        Ok(head)
    }

    /// The connection, which comes back only when its query has ended well.
    async fn take(&mut self) -> Result<Connection, sqlx::Error> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        match &self.place {
            Place::File(file) => {
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(SQLITE_BUSY);
                options.connect().await.map(Engine::Sqlite)
            }
            Place::Server(options) => {
                options.as_ref().clone().options(POSTGRES_SETTINGS).connect().await.map(Engine::Postgres)
            }
        }
    }
}

fn by_ref(connection: &mut Connection) -> dialect::ConnectionRef<'_> {
    match connection {
        Engine::Sqlite(connection) => Engine::Sqlite(connection),
        Engine::Postgres(connection) => Engine::Postgres(connection),
    }
}
