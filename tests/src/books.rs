//! The gateway's database, read past the gateway: what is durable, not what it says of it.

use crate::environment;
use crate::wait::until;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer than a request's lease, so that recovery had its chance.
const RECOVERY: Duration = Duration::from_secs(90);

/// A connection to the books.
#[derive(Debug)]
pub enum Books {
    /// SQLite.
    Sqlite(SqliteConnection),
    /// PostgreSQL.
    Postgres(PgConnection),
}

/// One request as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `req_…`
    pub request_id: String,
    /// `open` or `settled`.
    pub state: String,
    /// How it ended.
    pub outcome: Option<String>,
    /// Of its usage record; 0 without one.
    pub input_tokens: i64,
    /// Of its usage record; 0 without one.
    pub output_tokens: i64,
    /// How many ledger entries it has.
    pub entries: i64,
    /// Their sum.
    pub amount_nanousd: i64,
}

/// One query per row of the answer, so that it reads the same on both engines.
const LINES: &str = "SELECT r.id, r.state, r.outcome, \
    CAST(COALESCE((SELECT u.input_tokens FROM usage_records u WHERE u.request_id = r.id), 0) AS BIGINT), \
    CAST(COALESCE((SELECT u.output_tokens FROM usage_records u WHERE u.request_id = r.id), 0) AS BIGINT), \
    (SELECT COUNT(*) FROM ledger_entries l WHERE l.request_id = r.id), \
    CAST(COALESCE((SELECT SUM(l.amount_nanousd) FROM ledger_entries l WHERE l.request_id = r.id), 0) AS BIGINT) \
    FROM requests r ORDER BY r.accepted_at, r.id";

impl Books {
    /// Opens `sqlite:PATH` or `postgres://…`.
    pub async fn open(url: &str) -> Books {
        if url.starts_with("postgres") {
            return Books::Postgres(PgConnection::connect(url).await.unwrap());
        }
        Books::Sqlite(SqliteConnection::connect(url).await.unwrap())
    }

    /// Every request, oldest first.
    pub async fn lines(&mut self) -> Vec<Line> {
        macro_rules! read {
            ($connection:expr) => {{
                let rows = sqlx::query(LINES).fetch_all($connection).await.unwrap();
                rows.iter()
                    .map(|row| Line {
                        request_id: row.get(0),
                        state: row.get(1),
                        outcome: row.get(2),
                        input_tokens: row.get(3),
                        output_tokens: row.get(4),
                        entries: row.get(5),
                        amount_nanousd: row.get(6),
                    })
                    .collect()
            }};
        }
        match self {
            Books::Sqlite(connection) => read!(connection),
            Books::Postgres(connection) => read!(connection),
        }
    }

    /// Which request generated the answer of each Idempotency-Key; of one tenant, for keys of two may be the same.
    pub async fn answers(&mut self) -> BTreeMap<String, String> {
        const ANSWERS: &str = "SELECT idempotency_key, request_id FROM kept_answers WHERE answer IS NOT NULL";
        macro_rules! read {
            ($connection:expr) => {{
                let rows = sqlx::query(ANSWERS).fetch_all($connection).await.unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }};
        }
        match self {
            Books::Sqlite(connection) => read!(connection),
            Books::Postgres(connection) => read!(connection),
        }
    }

    /// Waits until no request is open, then checks that each has exactly one terminal record and one ledger entry.
    pub async fn closed(&mut self) -> Vec<Line> {
        let lines = until("every request is settled", RECOVERY, async || {
            let lines = self.lines().await;
            lines.iter().all(|line| line.state == "settled").then_some(lines)
        })
        .await;
        for line in &lines {
            assert!(line.outcome.is_some(), "a settled request has an outcome: {line:?}");
            assert_eq!(line.entries, 1, "one ledger entry per request: {line:?}");
        }
        lines
    }
}

/// Makes a database of its own on the test server and gives its address.
pub async fn fresh_postgres() -> String {
    let server = environment::postgres_url();
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let name = format!("caprock_{}_{unique}", std::process::id());
    // A name can't be bound; this one is made of digits and letters right above.
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let (base, _) = server.rsplit_once('/').expect("the test server's address ends with a database");
    format!("{base}/{name}")
}
