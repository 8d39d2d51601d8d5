//! Connections that ended cleanly, kept for the next request to the same peer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Kept per peer.
const MOST: usize = 8;
/// Left alone for longer, it may be dead without a sign: forgotten by a NAT, or its peer gone with its machine.
const KEPT: Duration = Duration::from_secs(30);

/// Idle connections by the peer's id, each with the time it was last used.
#[derive(Debug)]
pub(crate) struct Pool<C>(Mutex<HashMap<String, Vec<(Instant, C)>>>);

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Pool(Mutex::default())
    }
}

impl<C> Pool<C> {
    /// The one used last, since it is the most likely to live. Those too old are closed.
    pub(crate) fn take(&self, peer: &str, now: Instant) -> Option<C> {
        let mut idle = self.idle();
        let idle = idle.get_mut(peer)?;
        idle.retain(|(used_at, _)| now.duration_since(*used_at) < KEPT);
        idle.pop().map(|(_, connection)| connection)
    }

    pub(crate) fn put_back(&self, peer: &str, connection: C, now: Instant) {
        let mut idle = self.idle();
        let idle = idle.entry(peer.to_owned()).or_default();
        idle.retain(|(used_at, _)| now.duration_since(*used_at) < KEPT);
        if idle.len() < MOST {
            idle.push((now, connection));
        }
    }

    /// Closes all: what broke one of them has most likely broken the others.
    pub(crate) fn forget(&self, peer: &str) {
        self.idle().remove(peer);
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Vec<(Instant, C)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_last_comes_first_and_none_that_is_too_old() {
        let (pool, start) = (Pool::default(), Instant::now());
        pool.put_back("p1", 1, start);
        pool.put_back("p1", 2, start + KEPT / 2);
        assert_eq!(pool.take("p2", start), None, "another peer's");
        assert_eq!(pool.take("p1", start + KEPT), Some(2));
        assert_eq!(pool.take("p1", start + KEPT), None);
    }

    #[test]
    fn it_holds_a_bounded_number_and_old_ones_take_no_place() {
        let (pool, start) = (Pool::default(), Instant::now());
        (0..MOST + 1).for_each(|at| pool.put_back("p1", at, start));
        assert_eq!(pool.take("p1", start), Some(MOST - 1));
        (0..MOST).for_each(|_| pool.put_back("p1", 99, start + KEPT));
        assert_eq!(std::iter::from_fn(|| pool.take("p1", start + KEPT)).count(), MOST);
    }

    #[test]
    fn a_forgotten_peer_has_none() {
        let (pool, now) = (Pool::default(), Instant::now());
        ["p1", "p2"].into_iter().for_each(|peer| pool.put_back(peer, peer, now));
        pool.forget("p1");
        assert_eq!((pool.take("p1", now), pool.take("p2", now)), (None, Some("p2")));
    }
}
