//! For how long what is remembered of credentials may be used.
//!
//! A poll of the feed that began at T, and was applied whole, has seen every change committed before T. So what is still
//! remembered then was true at T, and may be used until T plus the lease, and no longer: a gateway that is cut off from
//! the others stops believing its memory by itself. Measured in this process's own steady time; nobody's clock is compared
//! with anybody else's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The lease on everything that is remembered of credentials.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// Times are counted from here.
    base: Instant,
    /// In µs after `base`; 0: never had.
    until_us: AtomicU64,
}

impl Lease {
    /// One that nobody has yet.
    pub fn new(length: Duration) -> Lease {
        Lease { length, base: Instant::now(), until_us: AtomicU64::new(0) }
    }

    /// For a poll that began at `begun` and has been applied.
    pub fn renew(&self, begun: Instant) {
        let until = begun.saturating_duration_since(self.base) + self.length;
        self.until_us.fetch_max(u64::try_from(until.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Whether memory may be used now.
    pub fn is_fresh(&self) -> bool {
        self.base.elapsed().as_micros() < u128::from(self.until_us.load(Ordering::SeqCst))
    }

    /// How long something that was read from the database may be used, counted from before it was read.
    pub fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const LENGTH: Duration = Duration::from_millis(800);
    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_from_the_beginning_of_the_poll_not_from_its_end() {
        let lease = Lease::new(LENGTH);
        assert!(!lease.is_fresh(), "nobody has renewed it");
        sleep(MS * 5).await;
        let begun = Instant::now();
        sleep(MS * 300).await; // the poll
        lease.renew(begun);
        advance(MS * 499).await;
        assert!(lease.is_fresh());
        advance(MS).await;
        assert!(!lease.is_fresh(), "800 ms after the poll began");
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_took_longer_than_the_lease_renews_nothing() {
        let lease = Lease::new(LENGTH);
        let begun = Instant::now();
        sleep(LENGTH).await;
        lease.renew(begun);
        assert!(!lease.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_poll_that_ends_later_shortens_nothing() {
        let lease = Lease::new(LENGTH);
        let older = Instant::now();
        sleep(MS * 400).await;
        let newer = Instant::now();
        lease.renew(newer);
        lease.renew(older);
        advance(MS * 799).await;
        assert!(lease.is_fresh());
        advance(MS).await;
        assert!(!lease.is_fresh());
    }
}
