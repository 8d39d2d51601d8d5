//! The one door to the pools.
//!
//! sqlx 0.9 can leave a transaction open on a pooled connection when a `begin` is cancelled; later writes on that
//! connection then report success and are lost. So no query runs in a caller's future: [`Store::detached`] and
//! [`Store::transaction`] run it in a task of its own, which ends whether or not anyone still waits. The pools are
//! private to this file, so there is no other way in.

use super::alone::{self, ExclusiveLock};
use super::dialect::{self, ConnectionRef, Engine, Place, PoolRef, Pools, Transactions};
use super::reports::{REPORT_DEADLINE, Reports};
use crate::config::{Config, PerTenant};
use crate::error::{Error, Result};
use crate::id::TenantId;
use futures::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Longer than a connection and several statements may take.
const WORK_DEADLINE: Duration = Duration::from_secs(30);
/// Changes that are under way at once: one that holds the end of the chain, one that gets ready.
const TURNS: usize = 2;
/// For a change's turn to come.
const TURN_TIMEOUT: Duration = Duration::from_secs(15);
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// The database: SQLite for a single gateway, PostgreSQL for several. Clones share it.
///
/// Cancelling any of its methods abandons the answer, never the work.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Arc<Pools>,
    tasks: TaskTracker,
    /// See [`Store::for_operators`].
    asks_for_operators: bool,
    /// Turns of [`Store::transaction_in_turn`].
    turns: Arc<Semaphore>,
    /// Turns of [`Store::report`].
    reports: Arc<Reports>,
    /// How much one tenant can make.
    caps: PerTenant,
}

/// Single queries, each a transaction of its own. Only ever seen inside [`Store::detached`].
#[derive(Debug, Clone)]
pub(super) struct Queries(Arc<Pools>);

/// Writes that belong together. Only ever seen inside [`Store::transaction`].
#[derive(Debug)]
pub struct Tx {
    transaction: Transactions,
    caps: PerTenant,
}

impl Store {
    /// Opens the database that the configuration names; SQLite's file is made when missing, empty.
    ///
    /// # Errors
    /// `Invalid` for an address that can't be used; `Internal` when it can't be opened or reached.
    pub async fn connect(config: &Config) -> Result<Store> {
        let config = config.clone();
        let caps = config.admin.per_tenant;
        let connecting = tokio::spawn(async move { dialect::connect(&config).await });
        let pools = joined(connecting.await)?;
        let turns = Arc::new(Semaphore::new(TURNS));
        let reports = Arc::new(Reports::new(pools.most_reports));
        Ok(Store { asks_for_operators: false, pools: Arc::new(pools), tasks: TaskTracker::new(), turns, reports, caps })
    }

    /// Keeps a second gateway off the same SQLite file, or one with the same id off the same PostgreSQL database, for as
    /// long as the value lives. Only `serve` takes it, so that commands can look at a served database.
    ///
    /// # Errors
    /// `Conflict`, with a text for the operator, when another gateway has it; those of connecting.
    pub async fn lock_exclusive(&self, gateway_id: &str) -> Result<ExclusiveLock> {
        match &self.pools.place {
            Place::File(file) => alone::lock_file(file),
            Place::Server(options) => {
                let (options, gateway_id) = (options.clone(), gateway_id.to_owned());
                self.spawn(async move { alone::lock_session(*options, &gateway_id).await }).await
            }
        }
    }

    /// Runs `work` in one transaction: committed when it returns `Ok`, undone otherwise.
    ///
    /// # Errors
    /// Those of `work`; `Overloaded` when no connection comes free; `Internal`. After `Internal` from a lost connection
    /// it may have been committed or not, so whatever runs here is made to be repeated.
    pub async fn transaction<T: Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (pools, caps, deadline) = (self.pools.clone(), self.caps, self.deadline());
        let work = async move {
            let mut tx = Tx { transaction: dialect::begin(&pools.write).await.map_err(dialect::classify)?, caps };
            let done = work(&mut tx).await;
            match done {
                Ok(value) => tx.commit().await.map(|()| value).map_err(dialect::classify),
                Err(error) => {
                    // The first error says more than a failed rollback would, and then the pool undoes it.
                    let _ = tx.rollback().await;
                    Err(error)
                }
            }
        };
        self.spawn(async move { timeout(deadline, work).await.unwrap_or_else(|_| Err(silent())) }).await
    }

    /// For an operator, whose reports about a tenant don't wait for those of the tenant itself: who looks into what a tenant
    /// does must not be kept out by it.
    pub fn for_operators(&self) -> Store {
        Store { asks_for_operators: true, ..self.clone() }
    }

    /// As [`Store::transaction`], for work that takes the end of the audit chain: of many at once only a few hold a
    /// connection. In the database each waits for the one before it anyway, and with a connection in hand; a hundred
    /// changes at once would leave none to look up a caller's credential.
    ///
    /// # Errors
    /// Those of [`Store::transaction`]; `Overloaded` also when the turn does not come.
    pub async fn transaction_in_turn<T: Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let turn = timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| dialect::classify(sqlx::Error::PoolTimedOut))?.map_err(Error::internal)?;
        self.transaction(move |tx| {
            Box::pin(async move {
                let _turn = turn;
                work(tx).await
            })
        })
        .await
    }

    /// Runs single queries in a task of their own.
    pub(super) async fn detached<T, F>(&self, work: impl FnOnce(Queries) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let deadline = self.deadline();
        self.patiently(|db| {
            let work = work(db);
            async move { timeout(deadline, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) }
        })
        .await
    }

    /// As [`Store::detached`], but given up after `within`, from asking for a connection to the last row.
    ///
    /// # Errors
    /// `Overloaded` when it was given up.
    pub(super) async fn detached_within<T, F>(&self, within: Duration, work: impl FnOnce(Queries) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        self.patiently(|db| {
            let work = work(db);
            async move { timeout(within, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) }
        })
        .await
    }

    /// Runs a read whose length depends on how much there is to read, about `tenant` or about all: only a few at a time,
    /// of one tenant only one, and each only for so long; the database itself ends it then, which frees the connection.
    ///
    /// # Errors
    /// `QuotaExceeded` and `Overloaded` when its turn does not come; `Overloaded` when it takes too long.
    pub(super) async fn report<T: Send + 'static>(
        &self,
        tenant: Option<&TenantId>,
        work: impl for<'c> FnOnce(ConnectionRef<'c>) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T> {
        self.report_within(REPORT_DEADLINE, tenant, work).await
    }

    pub(super) async fn report_within<T: Send + 'static>(
        &self,
        within: Duration,
        tenant: Option<&TenantId>,
        work: impl for<'c> FnOnce(ConnectionRef<'c>) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T> {
        let turn = self.reports.turn(tenant.filter(|_| !self.asks_for_operators)).await?;
        let pools = self.pools.clone();
        self.patiently(|_| async move {
            // Held until the work is done, whether or not anybody still waits for it.
            let _turn = turn;
            // The database ends the statement; this is for one that is not heard of any more.
            let heard = timeout(within + WORK_DEADLINE, dialect::report(&pools.reports, within, work)).await;
            heard.unwrap_or(Err(sqlx::Error::PoolTimedOut))
        })
        .await
    }

    /// As [`Store::detached`], for as long as it takes.
    pub(super) async fn patiently<T, F>(&self, work: impl FnOnce(Queries) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let work = work(Queries(self.pools.clone()));
        self.spawn(async move { work.await.map_err(dialect::classify) }).await
    }

    /// For one piece of work. The server ends a statement by itself (see `dialect`), so only a server that is not heard
    /// of any more takes as long; without an end each piece would keep a connection until TCP gives up.
    fn deadline(&self) -> Duration {
        match self.pools.place {
            Place::File(_) => FOR_EVER,
            Place::Server(_) => WORK_DEADLINE,
        }
    }

    /// Where the database is.
    pub(super) fn place(&self) -> &Place {
        &self.pools.place
    }

    /// Waits for all work under way, then closes the connections. Later calls fail.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        for pool in [&self.pools.read, &self.pools.write, &self.pools.reports] {
            match pool {
                Engine::Sqlite(pool) => pool.close().await,
                Engine::Postgres(pool) => pool.close().await,
            }
        }
    }

    pub(super) fn located(&self) -> &Place {
        &self.pools.place
    }

    async fn spawn<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        joined(self.tasks.spawn(work.in_current_span()).await)
    }
}

fn silent() -> Error {
    Error::internal(sqlx::Error::PoolTimedOut)
}

/// A task that nobody aborts ends in a value, in a panic, or with its runtime; of the last no caller learns.
fn joined<T>(ended: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match ended {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::internal(error)),
        },
    }
}

impl Queries {
    /// Where reads go.
    pub(super) fn read(&self) -> PoolRef<'_> {
        by_ref(&self.0.read)
    }

    /// Where a single statement that writes goes.
    pub(super) fn write(&self) -> PoolRef<'_> {
        by_ref(&self.0.write)
    }
}

fn by_ref(pool: &dialect::Pool) -> PoolRef<'_> {
    match pool {
        Engine::Sqlite(pool) => Engine::Sqlite(pool),
        Engine::Postgres(pool) => Engine::Postgres(pool),
    }
}

impl Tx {
    /// How much one tenant can make: what a transaction that makes something is held to.
    pub fn caps(&self) -> PerTenant {
        self.caps
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self.transaction {
            Engine::Sqlite(tx) => tx.commit().await,
            Engine::Postgres(tx) => tx.commit().await,
        }
    }

    async fn rollback(self) -> Result<(), sqlx::Error> {
        match self.transaction {
            Engine::Sqlite(tx) => tx.rollback().await,
            Engine::Postgres(tx) => tx.rollback().await,
        }
    }

    pub(super) fn connection(&mut self) -> ConnectionRef<'_> {
        match &mut self.transaction {
            Engine::Sqlite(tx) => Engine::Sqlite(&mut **tx),
            Engine::Postgres(tx) => Engine::Postgres(&mut **tx),
        }
    }
}
