//! An issuer's keys as last read, and when to read them again.
//!
//! Keys are read when first needed, every 5 minutes after that, and out of turn when a token names one that is not
//! there, but for that at most once in 30 s: tokens that name keys at random must not make us hammer the issuer. Reads
//! run one at a time, in a task of their own, so a caller who goes away neither stops nor repeats one. Keys that could
//! not be read again for an hour are no longer used: a key that the issuer withdrew must not live on because the issuer
//! can't be reached.

use super::jwks::{Key, KeySet};
use super::source::{Source, SourceError};
use super::{Refusal, refused};
use crate::config::JwtAlgorithm;
use crate::error::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two reads in turn.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// Keys read longer ago are not used.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Between two reads because of a key that is not there.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// After a failed read, before the next in turn.
const REFRESH_RETRY: Duration = Duration::from_secs(30);
/// After a failed read, before the next by callers who can't do without.
const NEEDED_RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether a read is due.
const TICK: Duration = Duration::from_secs(1);

/// One issuer's keys.
#[derive(Debug)]
pub(super) struct KeyCache {
    issuer: String,
    source: Source,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: Option<Loaded>,
    /// The last read, if it failed.
    failed: Option<Failed>,
    unknown_key_at: Option<Instant>,
    /// Closed when the read ends, however it ends.
    running: Option<watch::Receiver<()>>,
}

#[derive(Debug)]
struct Loaded {
    keys: Arc<KeySet>,
    /// When they were asked for: what the issuer changed after that they don't show.
    asked_at: Instant,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    error: Arc<SourceError>,
}

/// Why keys are read.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// None are there that may be used.
    Needed,
    /// A token names one that is not there.
    UnknownKey,
    /// In turn.
    Refresh,
}

/// Carries a shared cause into an [`Error`].
#[derive(Debug, thiserror::Error)]
#[error("no keys of {issuer} that may be used")]
struct NoKeys {
    issuer: String,
    #[source]
    cause: Option<Arc<SourceError>>,
}

impl KeyCache {
    pub(super) fn new(issuer: String, source: Source) -> KeyCache {
        KeyCache { issuer, source, state: Mutex::default() }
    }

    /// The key of this name that is for this algorithm.
    ///
    /// # Errors
    /// `Unauthenticated(BadKey)` when there is none; `Overloaded` when no keys can be had.
    pub(super) async fn find(self: &Arc<Self>, kid: Option<&str>, algorithm: JwtAlgorithm) -> Result<Arc<Key>> {
        if self.usable().is_none() {
            self.read(Cause::Needed).await;
        }
        let keys = self.usable().ok_or_else(|| self.no_keys())?;
        match keys.find(kid, algorithm) {
            Err(Refusal::UnknownKey) => self.read(Cause::UnknownKey).await,
            found => return found.map_err(refused),
        }
        // Looked up again even if nothing was read: another caller's read may have ended since.
        let keys = self.usable().ok_or_else(|| self.no_keys())?;
        keys.find(kid, algorithm).map_err(refused)
    }

    /// Keeps fresh what was loaded, until `stopping`.
    pub(super) fn watch(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        let (cache, stopping) = (self.clone(), stopping.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                if cache.refresh_is_due() {
                    tokio::select! {
                        () = stopping.cancelled() => return,
                        () = cache.read(Cause::Refresh) => {}
                    }
                }
            }
        });
    }

    fn refresh_is_due(&self) -> bool {
        let state = self.lock();
        let retry = state.failed.as_ref().is_none_or(|failed| failed.at.elapsed() >= REFRESH_RETRY);
        retry && state.loaded.as_ref().is_some_and(|loaded| loaded.asked_at.elapsed() >= REFRESH)
    }

    fn usable(&self) -> Option<Arc<KeySet>> {
        let state = self.lock();
        state.loaded.as_ref().filter(|loaded| loaded.asked_at.elapsed() < MAX_AGE).map(|loaded| loaded.keys.clone())
    }

    /// Waits for the read that is running, or starts one unless it is too early; then there is nothing to wait for.
    async fn read(self: &Arc<Self>, cause: Cause) {
        if let Some(mut running) = self.start(cause) {
            // Nothing is ever sent: this ends when the reading task does.
            let _ = running.changed().await;
        }
    }

    fn start(self: &Arc<Self>, cause: Cause) -> Option<watch::Receiver<()>> {
        let mut state = self.lock();
        if let Some(running) = state.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Some(running.clone());
        }
        match cause {
            Cause::Needed if state.failed.as_ref().is_some_and(|failed| failed.at.elapsed() < NEEDED_RETRY) => {
                return None;
            }
            Cause::UnknownKey if state.unknown_key_at.is_some_and(|at| at.elapsed() < UNKNOWN_KEY_PAUSE) => {
                return None;
            }
            Cause::UnknownKey => state.unknown_key_at = Some(Instant::now()),
            Cause::Needed | Cause::Refresh => {}
        }
        let (running, watcher) = watch::channel(());
        state.running = Some(watcher.clone());
        let cache = self.clone();
        // Ends by itself: the source is bounded in time.
        tokio::spawn(async move {
            let asked_at = Instant::now();
            let read = cache.load().await;
            cache.keep(asked_at, read);
            drop(running);
        });
        Some(watcher)
    }

    async fn load(&self) -> Result<KeySet, SourceError> {
        let bytes = self.source.read().await?;
        KeySet::parse(&self.issuer, &bytes).map_err(SourceError::Unusable)
    }

    /// Reads the keys once, to see whether it works, and keeps nothing. How many can be used.
    ///
    /// # Errors
    /// In words, with the cause.
    pub(super) async fn look(&self) -> Result<usize, String> {
        let keys = self.load().await.map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
        Ok(keys.len())
    }

    fn keep(&self, asked_at: Instant, read: Result<KeySet, SourceError>) {
        let mut state = self.lock();
        match read {
            Ok(keys) => {
                tracing::debug!(issuer = self.issuer, keys = keys.len(), "the issuer's keys were read");
                state.loaded = Some(Loaded { keys: Arc::new(keys), asked_at });
                state.failed = None;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(issuer = self.issuer, %error, cause, "the issuer's keys can't be read");
                state.failed = Some(Failed { at: Instant::now(), error: Arc::new(error) });
            }
        }
    }

    fn no_keys(&self) -> Error {
        let cause = self.lock().failed.as_ref().map(|failed| failed.error.clone());
        let text = "The token can't be checked now, because its issuer's keys can't be had. Try again.";
        let error = Error::new(ErrorKind::Overloaded, text).retry_after(NEEDED_RETRY);
        error.caused_by(NoKeys { issuer: self.issuer.clone(), cause })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
