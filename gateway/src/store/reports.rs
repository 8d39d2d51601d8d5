//! Turns for reports: reads whose length depends on how much a tenant has. They never take the connections that calls
//! of the data path need, and one tenant's reports keep nobody else's waiting.

use crate::error::{Error, ErrorKind, Limit, Result};
use crate::id::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// For one report in the database.
pub(super) const REPORT_DEADLINE: Duration = Duration::from_secs(10);
/// For a turn to come.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// Reports about one tenant at a time.
const OF_ONE_TENANT: usize = 1;

/// Reports about one tenant that are under way or wait: each that waits holds one of the admin API's places.
const OF_ONE_TENANT_WITH_WAITING: usize = 4;

/// Who may read a report now.
#[derive(Debug)]
pub(super) struct Reports {
    all: Arc<Semaphore>,
    /// Of the tenants that have a report under way or waiting.
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

/// A report's place among the others; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_tenant: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Reports {
    /// At most `most` at a time.
    pub(super) fn new(most: usize) -> Reports {
        Reports { all: Arc::new(Semaphore::new(most)), tenants: Mutex::default() }
    }

    /// Waits a short while for a turn: the tenant's first, so that of one tenant's reports only one stands in everybody's
    /// queue.
    ///
    /// # Errors
    /// `QuotaExceeded` when the tenant's own reports are in the way, `Overloaded` when others' are.
    pub(super) async fn turn(&self, tenant: Option<&TenantId>) -> Result<Turn> {
        let until = Instant::now() + TURN_TIMEOUT;
        let of_tenant = match tenant.map(|tenant| self.of(tenant)).transpose()? {
            Some(turns) => Some(timeout_at(until, turns.acquire_owned()).await.map_err(|_| own_in_the_way())?),
            None => None,
        };
        let of_all = timeout_at(until, Arc::clone(&self.all).acquire_owned()).await.map_err(|_| all_taken())?;
        Ok(Turn {
            _of_tenant: of_tenant.transpose().map_err(Error::internal)?,
            _of_all: of_all.map_err(Error::internal)?,
        })
    }

    fn of(&self, tenant: &TenantId) -> Result<Arc<Semaphore>> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds or awaits a turn holds its semaphore.
        tenants.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_TENANT)));
        // One is the map's own.
        if Arc::strong_count(turns) > OF_ONE_TENANT_WITH_WAITING {
            return Err(own_in_the_way());
        }
        Ok(Arc::clone(turns))
    }
}

fn own_in_the_way() -> Error {
    let text = "Another report about this tenant is being read. Try again when it is done, or ask for less at once.";
    Error::new(ErrorKind::QuotaExceeded(Limit::Concurrency), text).retry_after(TURN_TIMEOUT)
}

fn all_taken() -> Error {
    let text = "As many reports are being read as this gateway reads at once. Try again shortly.";
    Error::new(ErrorKind::Overloaded, text).retry_after(TURN_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    #[tokio::test(start_paused = true)]
    async fn only_a_few_of_a_tenants_reports_wait() {
        let (reports, tenant, begun) = (Reports::new(2), TenantId::new(), Instant::now());
        let first = reports.turn(Some(&tenant)).await.unwrap();
        let asked = join_all((0..20).map(|_| async {
            let refused = reports.turn(Some(&tenant)).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::QuotaExceeded(Limit::Concurrency));
            begun.elapsed()
        }));
        let waited = asked.await.into_iter().filter(|waited| !waited.is_zero()).count();
        assert_eq!(waited, OF_ONE_TENANT_WITH_WAITING - 1);
        drop(first);
        reports.turn(Some(&tenant)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_waits_for_its_own_reports_and_takes_nobody_elses_turn() {
        let reports = Reports::new(2);
        let (one, other) = (TenantId::new(), TenantId::new());
        let first = reports.turn(Some(&one)).await.unwrap();
        let refused = reports.turn(Some(&one)).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::QuotaExceeded(Limit::Concurrency));
        assert!(refused.retry_after.is_some());
        let others = reports.turn(Some(&other)).await.unwrap();
        let refused = reports.turn(None).await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after.is_some()), (ErrorKind::Overloaded, true));
        let (next, ()) = tokio::join!(reports.turn(Some(&one)), async { drop(first) });
        drop((next.unwrap(), others));
        reports.turn(None).await.unwrap();
        let third = TenantId::new();
        reports.turn(Some(&third)).await.unwrap();
        assert_eq!(reports.tenants.lock().unwrap().len(), 1, "only those with a report are remembered");
    }
}
