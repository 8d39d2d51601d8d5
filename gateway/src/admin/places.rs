//! A tenant's share of the admin API's places: its calls, slow bodies and all, keep nobody else out.

use crate::error::{Error, ErrorKind, Limit, Result};
use crate::id::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One tenant's share of all places is one in so many.
const SHARE: usize = 8;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Calls in work, by tenant.
#[derive(Debug)]
pub struct Places {
    most: usize,
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl Places {
    /// Shares of `max_requests` places; at least one each.
    pub fn new(max_requests: usize) -> Places {
        Places { most: (max_requests / SHARE).max(1), tenants: Mutex::default() }
    }

    /// A place for a call of this tenant's, free again when it is dropped.
    ///
    /// # Errors
    /// `QuotaExceeded` when the tenant has as many calls in work as it may.
    pub fn take(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a place holds its semaphore; so the map is never larger than there are places.
        tenants.retain(|_, places| Arc::strong_count(places) > 1);
        let places = tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.most)));
        Arc::clone(places).try_acquire_owned().map_err(|_| {
            let text = format!("{} of the tenant's calls are in work, as many as may be at once.", self.most);
            Error::new(ErrorKind::QuotaExceeded(Limit::Concurrency), text).retry_after(RETRY_AFTER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_share_of_the_places_and_leaves_the_others_theirs() {
        let (places, one, other) = (Places::new(16), TenantId::new(), TenantId::new());
        let held = [places.take(&one).unwrap(), places.take(&one).unwrap()];
        assert_eq!(places.take(&one).unwrap_err().kind, ErrorKind::QuotaExceeded(Limit::Concurrency));
        assert!(places.take(&other).is_ok());
        drop(held);
        assert!(places.take(&one).is_ok());
        assert_eq!(places.tenants.lock().unwrap().len(), 1, "what nobody holds is forgotten");
        assert!(Places::new(3).take(&one).is_ok(), "at least one");
    }
}
