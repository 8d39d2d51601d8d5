//! Where SQLite and PostgreSQL truly differ: opening, beginning a write, naming errors.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// One of the two, whatever is behind: pools, connections or transactions.
#[derive(Debug, Clone)]
pub enum Engine<S, P> {
    /// A file, for a single gateway.
    Sqlite(S),
    /// A server, for several.
    Postgres(P),
}

pub(super) type Pool = Engine<SqlitePool, PgPool>;
pub(super) type PoolRef<'p> = Engine<&'p SqlitePool, &'p PgPool>;
pub(super) type ConnectionRef<'c> = Engine<&'c mut SqliteConnection, &'c mut PgConnection>;
pub(super) type Transactions = Engine<Transaction<'static, Sqlite>, Transaction<'static, Postgres>>;

/// Waiting for a connection, and for SQLite's write lock. Beyond it the caller hears that we are overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection to show, when it comes back to its pool, that it still works.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Readers of the SQLite file; there is always one writer beside them.
const SQLITE_READERS: u32 = 4;
/// Reports read at once. SQLite's have connections of their own; of PostgreSQL's they may take a quarter.
const SQLITE_REPORTS: u32 = 2;
const POSTGRES_REPORTS: u32 = 4;
/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS: i32 = 10_000;
/// No statement of ours takes as long as the first; the second frees the row locks of a gateway that vanished.
pub(super) const POSTGRES_SETTINGS: [(&str, &str); 2] =
    [("statement_timeout", "10s"), ("idle_in_transaction_session_timeout", "15s")];

/// The pools, and what they lead to.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    /// For single reads.
    pub(super) read: Pool,
    /// For everything that writes. SQLite allows one writer at a time, so it has one connection, queued for in order,
    /// instead of several that poll for the lock.
    pub(super) write: Pool,
    /// For reports, so many at once.
    pub(super) reports: Pool,
    pub(super) most_reports: usize,
    pub(super) place: Place,
}

/// Where the database is, for locking it.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// SQLite's.
    File(PathBuf),
    /// PostgreSQL's, without the settings of the pool.
    Server(Box<PgConnectOptions>),
}

/// Opens what the configuration names.
pub(super) async fn connect(config: &Config) -> Result<Pools> {
    let url = config.store_url();
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => connect_sqlite(&url).await,
        Some("postgres" | "postgresql") => connect_postgres(&url, config.store.max_connections).await,
        Some(_) | None => Err(bad_url("store.url must begin with sqlite: or postgres://")),
    }
}

async fn connect_sqlite(url: &str) -> Result<Pools> {
    let options = SqliteConnectOptions::from_str(url).map_err(|e| bad_url("store.url can't be read").caused_by(e))?;
    let file = options.get_filename().to_owned();
    if file.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(bad_url("store.url must name a file; a database in memory would forget what tenants owe"));
    }
    create_private(&file).map_err(|error| cannot_open(&file).caused_by(error))?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full) // NORMAL may lose settled requests with the power
        .foreign_keys(true)
        .busy_timeout(ACQUIRE_TIMEOUT);
    let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
    let write = pool(1).connect_with(options.clone()).await.map_err(|error| cannot_open(&file).caused_by(error))?;
    let read = pool(SQLITE_READERS).connect_lazy_with(options.clone());
    let reports = pool(SQLITE_REPORTS).connect_lazy_with(options);
    Ok(Pools {
        read: Engine::Sqlite(read),
        write: Engine::Sqlite(write),
        reports: Engine::Sqlite(reports),
        most_reports: SQLITE_REPORTS as usize,
        place: Place::File(file),
    })
}

/// Digests, sealed secrets and everybody's usage: nobody else's to read. SQLite gives its side files the same mode.
fn create_private(file: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file).map(drop)
}

async fn connect_postgres(url: &str, max_connections: u32) -> Result<Pools> {
    let options = PgConnectOptions::from_str(url).map_err(|e| bad_url("store.url can't be read").caused_by(e))?;
    let options = options.application_name("caprock");
    let place = Place::Server(Box::new(options.clone()));
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A second fence behind the door: whatever a connection was in the middle of is over when it comes back.
        // A bare ROLLBACK would leave a warning in the server's log each time there is nothing to undo. If BEGIN is
        // refused, because a transaction has failed, the pool closes the connection: as good.
        .after_release(|connection, _| {
            let undone = async move { sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.map(|_| true) };
            // An error closes the connection: one that nothing comes back on must not keep its place in the pool.
            Box::pin(async move { timeout(RELEASE_TIMEOUT, undone).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) })
        })
        .connect_with(options.options(POSTGRES_SETTINGS))
        .await
        .map_err(|error| {
            let text = "The database can't be reached. Check store.url, and that PostgreSQL runs and lets us in.";
            Error::new(ErrorKind::Internal, text).caused_by(error)
        })?;
    Ok(Pools {
        read: Engine::Postgres(pool.clone()),
        write: Engine::Postgres(pool.clone()),
        reports: Engine::Postgres(pool),
        most_reports: (max_connections / 4).clamp(1, POSTGRES_REPORTS) as usize,
        place,
    })
}

/// A transaction that will write. SQLite takes its lock at once: taken later, it could be refused without waiting.
pub(super) async fn begin(pool: &Pool) -> Result<Transactions, sqlx::Error> {
    match pool {
        Engine::Sqlite(pool) => pool.begin_with("BEGIN IMMEDIATE").await.map(Engine::Sqlite),
        Engine::Postgres(pool) => pool.begin().await.map(Engine::Postgres),
    }
}

/// Runs a read that the database itself ends after `within`: it must not go on for nobody, with the connection in hand.
pub(super) async fn report<T>(
    pool: &Pool,
    within: Duration,
    work: impl for<'c> FnOnce(ConnectionRef<'c>) -> BoxFuture<'c, Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match pool {
        Engine::Sqlite(pool) => {
            let mut connection = pool.acquire().await?;
            let end = Instant::now() + within;
            // Stays on the connection until the next report replaces it; nothing else uses these.
            connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < end);
            work(Engine::Sqlite(&mut *connection)).await
        }
        Engine::Postgres(pool) => {
            let mut tx = pool.begin().await?;
            let ms = within.as_millis().to_string();
            sqlx::query("SELECT set_config('statement_timeout', $1, true)").bind(ms).execute(&mut *tx).await?;
            let done = work(Engine::Postgres(&mut *tx)).await?;
            tx.commit().await.map(|()| done)
        }
    }
}

/// What a failed query means to the domain.
pub(super) fn classify(error: sqlx::Error) -> Error {
    let kind = error.as_database_error().map(sqlx::error::DatabaseError::kind);
    match (&error, kind) {
        (_, Some(sqlx::error::ErrorKind::UniqueViolation)) => {
            Error::new(ErrorKind::Conflict, "That exists already.").caused_by(error)
        }
        (sqlx::Error::PoolTimedOut, _) => {
            let text = "The service is overloaded. Try again shortly.";
            Error::new(ErrorKind::Overloaded, text).retry_after(Duration::from_secs(1)).caused_by(error)
        }
        _ if is_a_lost_race(&error) => {
            let text = "Another change was in the way. Try again.";
            Error::new(ErrorKind::Overloaded, text).retry_after(Duration::from_secs(1)).caused_by(error)
        }
        _ if is_too_large(&error) => {
            let text = "A sum is too large to be told. Ask for less at once.";
            Error::new(ErrorKind::Invalid, text).caused_by(error)
        }
        _ if is_too_slow(&error) => {
            let text = "The database did not answer in time. Ask for less at once, or try again later.";
            Error::new(ErrorKind::Overloaded, text).retry_after(Duration::from_secs(10)).caused_by(error)
        }
        _ => Error::internal(error),
    }
}

/// A deadlock that PostgreSQL ended, or a serialisation failure: nothing was done.
fn is_a_lost_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["40P01", "40001"].contains(&code.as_ref()))
}

/// A sum beyond 64 bits: PostgreSQL has a code for it, SQLite only words.
fn is_too_large(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("22003") || error.message() == "integer overflow"
}

/// PostgreSQL's `statement_timeout`; what SQLite says when a report is interrupted.
fn is_too_slow(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("57014" | "9"))
}

fn bad_url(text: &str) -> Error {
    Error::invalid("store.url", text)
}

pub(super) fn cannot_open(file: &Path) -> Error {
    Error::new(ErrorKind::Internal, format!("{} can't be opened. Check its folder and its mode.", file.display()))
}
