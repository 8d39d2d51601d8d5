//! The schema's versions: applied by `caprock migrate`, only compared by `caprock serve`.

use super::{Engine, Store};
use crate::error::{Error, ErrorKind, Result};
use sqlx::migrate::{Migrate, MigrateError, Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

impl Store {
    /// Applies what is missing. Several at once wait for each other (PostgreSQL); what is applied already is checked to
    /// be unchanged.
    ///
    /// # Errors
    /// `Conflict` when the database was made by a newer or another version; `Internal`.
    pub async fn migrate(&self) -> Result<()> {
        let ended = self
            .patiently(|db| async move {
                Ok(match db.write() {
                    // `run` itself can't be called in a task: its bounds keep the future from being Send.
                    Engine::Sqlite(pool) => {
                        let mut connection = pool.acquire().await?;
                        MIGRATIONS.run_direct(None, &mut *connection, false).await
                    }
                    Engine::Postgres(pool) => {
                        // Closed at the end, and with it go both its freedom from the time-out and, should a migration
                        // have failed, the advisory lock that other migrators wait for.
                        let mut connection = pool.acquire().await?;
                        sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *connection).await?;
                        let ended = MIGRATIONS.run_direct(None, &mut *connection, false).await;
                        connection.close().await?;
                        ended
                    }
                })
            })
            .await?;
        ended.map_err(|error| {
            Error::new(ErrorKind::Conflict, format!("The database can't be migrated: {error}.")).caused_by(error)
        })
    }

    /// Fails unless the schema is exactly this program's, so that `serve` refuses what it can't read or would spoil.
    ///
    /// # Errors
    /// `Conflict`, with a text for the operator that says what to run.
    pub async fn schema_is_current(&self) -> Result<()> {
        let applied = self
            .detached(|db| async move {
                // Listing fails where nothing was ever applied, and making the table first would be a write.
                let table = MIGRATIONS.table_name.as_ref();
                Ok(match db.write() {
                    Engine::Sqlite(pool) => pool.acquire().await?.list_applied_migrations(table).await,
                    Engine::Postgres(pool) => pool.acquire().await?.list_applied_migrations(table).await,
                })
            })
            .await?;
        let applied = match applied {
            Ok(applied) => applied,
            Err(MigrateError::Execute(error @ sqlx::Error::Database(_))) => {
                return Err(refuse("The database has no schema yet. Run `caprock migrate`.").caused_by(error));
            }
            Err(error) => return Err(Error::internal(error)),
        };
        if applied.iter().any(|done| !MIGRATIONS.version_exists(done.version)) {
            return Err(refuse("The database was migrated by a newer version of Caprock. Run that version, or newer."));
        }
        for known in MIGRATIONS.iter() {
            match applied.iter().find(|done| done.version == known.version) {
                Some(done) if done.checksum == known.checksum => {}
                Some(_) => {
                    return Err(refuse("The database was migrated by another build of Caprock. Run that build."));
                }
                None => return Err(refuse("The database's schema is older than this program. Run `caprock migrate`.")),
            }
        }
        Ok(())
    }
}

fn refuse(text: &str) -> Error {
    Error::new(ErrorKind::Conflict, text)
}
