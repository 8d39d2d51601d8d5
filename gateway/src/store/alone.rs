//! The one gateway of its kind: one per SQLite file, one per `gateway.id` on PostgreSQL.
//!
//! A gateway settles at its start what an earlier process of the same id left open. With two of one id alive each would
//! take the other's running requests for such.

use super::dialect::{POSTGRES_SETTINGS, cannot_open};
use crate::error::{Error, ErrorKind, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A process that was killed a moment ago may still hold its lock: the server has to see that it is gone.
const TAKE_FOR: Duration = Duration::from_secs(3);
const TAKE_AGAIN: Duration = Duration::from_millis(100);
/// How often it is made sure that the lock is still ours. Well within the lease of a request.
const LOOK: Duration = Duration::from_secs(5);
/// For one look, or one connection.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// Frees the lock of a gateway whose machine is gone, in half a minute instead of TCP's two hours.
const KEEPALIVE: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "10"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "4")];

/// Held by the one gateway that serves; ends with the value or the process, however that dies.
#[derive(Debug)]
pub struct ExclusiveLock(Held);

#[derive(Debug)]
enum Held {
    File { _file: File },
    Session { lost: CancellationToken, _end: DropGuard },
}

impl ExclusiveLock {
    /// Ready once another gateway has the lock, which can only be after the database was unreachable: then this one must
    /// take nothing new. Never ready on SQLite.
    pub async fn lost(&self) {
        match &self.0 {
            Held::File { .. } => std::future::pending().await,
            Held::Session { lost, .. } => lost.cancelled().await,
        }
    }
}

/// Locks `FILE.lock` beside a SQLite database.
pub(super) fn lock_file(database: &Path) -> Result<ExclusiveLock> {
    let database = database.canonicalize().map_err(|error| cannot_open(database).caused_by(error))?;
    let mut path = database.clone().into_os_string();
    path.push(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| cannot_open(Path::new(&path)).caused_by(error))?;
    match file.try_lock() {
        Ok(()) => Ok(ExclusiveLock(Held::File { _file: file })),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "Another gateway already serves from {}. A SQLite file serves one gateway; for several, set store.url \
                 to a PostgreSQL database.",
                database.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(cannot_open(Path::new(&path)).caused_by(error)),
    }
}

/// Takes a session's advisory lock on `gateway_id`, on a connection of its own that is kept for as long as the value.
/// Needs a session: a pooler between us and the server must not share connections between transactions.
pub(super) async fn lock_session(options: PgConnectOptions, gateway_id: &str) -> Result<ExclusiveLock> {
    let session = Session::new(options, gateway_id);
    let until = Instant::now() + TAKE_FOR;
    let connection = loop {
        if let Some(connection) = session.take().await.map_err(super::dialect::classify)? {
            break connection;
        }
        if Instant::now() > until {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "Another gateway with the id `{gateway_id}` already serves from this database. Give each gateway a \
                     gateway.id of its own."
                ),
            ));
        }
        sleep(TAKE_AGAIN).await;
    };
    let (lost, end) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(end.clone().run_until_cancelled_owned(session.keep(connection, lost.clone())));
    Ok(ExclusiveLock(Held::Session { lost, _end: end.drop_guard() }))
}

/// How to take the lock, again too.
struct Session {
    options: PgConnectOptions,
    key: i64,
    /// Of this process alone: the server knows its sessions by it.
    name: String,
}

impl Session {
    fn new(options: PgConnectOptions, gateway_id: &str) -> Session {
        let name = format!("caprock-lock-{:032x}", rand::random::<u128>());
        let options = options.options(POSTGRES_SETTINGS).options(KEEPALIVE).application_name(&name);
        Session { options, key: key(gateway_id), name }
    }

    /// As [`Session::take`], after our session broke. The server may not have seen that yet, so that the one that stands in
    /// our way is our own; it is ended there.
    async fn take_again(&self) -> Result<Option<PgConnection>, sqlx::Error> {
        let until = Instant::now() + TAKE_FOR;
        loop {
            if let Some(connection) = self.take().await? {
                return Ok(Some(connection));
            }
            if !timeout(LOOK_DEADLINE, self.end_former()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))? {
                return self.take().await;
            }
            if Instant::now() > until {
                return Err(sqlx::Error::PoolTimedOut);
            }
            sleep(TAKE_AGAIN).await;
        }
    }

    /// Ends sessions of this process that hold the lock. Whether there was any.
    async fn end_former(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.options.clone().application_name("caprock").connect().await?;
        let ended = sqlx::query(
            "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.application_name = $2
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid::bigint << 32 | l.objid::bigint) = $1",
        );
        Ok(!ended.bind(self.key).bind(&self.name).fetch_all(&mut connection).await?.is_empty())
    }

    /// `None` while somebody else has it.
    async fn take(&self) -> Result<Option<PgConnection>, sqlx::Error> {
        let taken = timeout(LOOK_DEADLINE, async {
            let mut connection = self.options.connect().await?;
            let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(self.key);
            let taken: bool = query.fetch_one(&mut connection).await?;
            Ok(taken.then_some(connection))
        });
        taken.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Looks every now and then whether the session lives, and takes the lock again when it does not.
    async fn keep(self, first: PgConnection, lost: CancellationToken) {
        let mut held = Some(first);
        loop {
            sleep(LOOK).await;
            held = match held {
                Some(mut connection) => match timeout(LOOK_DEADLINE, connection.ping()).await {
                    Ok(Ok(())) => Some(connection),
                    Ok(Err(_)) | Err(_) => None,
                },
                None => None,
            };
            if held.is_some() {
                continue;
            }
            held = match self.take_again().await {
                Ok(Some(connection)) => Some(connection),
                Ok(None) => {
                    tracing::error!("another gateway with this gateway.id has taken over");
                    return lost.cancel();
                }
                Err(error) => {
                    tracing::warn!(%error, "the lock on gateway.id is not held at the moment");
                    None
                }
            };
        }
    }
}

/// The lock's number. Advisory locks of a database share one space of numbers, so ours begins from a text of our own.
fn key(gateway_id: &str) -> i64 {
    let digest = blake3::derive_key("caprock gateway.id advisory lock v1", gateway_id.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Fixture, on_both_engines};

    #[tokio::test]
    async fn a_session_of_our_own_that_the_server_still_believes_in_does_not_keep_the_lock_from_us() {
        on_both_engines(|Fixture { config, .. }| async move {
            let Some(url) = config.store.url else { return };
            let options: PgConnectOptions = url.parse().unwrap();
            let (ours, others) = (Session::new(options.clone(), "gateway-1"), Session::new(options, "gateway-1"));
            let mut former = ours.take().await.unwrap().expect("it is free");
            assert!(others.take_again().await.unwrap().is_none(), "another process's is respected");
            former.ping().await.expect("and left alone");
            let again = ours.take_again().await.unwrap();
            assert!(again.is_some());
            assert!(former.ping().await.is_err(), "one session holds it");
        })
        .await;
    }
}
