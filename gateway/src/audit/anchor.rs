//! What this gateway has seen of the log, kept outside of the database: whoever can change the whole database can cut the
//! chain's end off so that nothing in it shows, but not make this gateway forget.

use super::Mark;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FILE: &str = "audit.anchor";
/// Between two looks at the log.
const INTERVAL: Duration = Duration::from_secs(1);

/// The last entry that this gateway has seen, in memory and in `audit.anchor` of the state folder.
#[derive(Debug)]
pub struct Anchor {
    path: PathBuf,
    seen: Mutex<Seen>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Mark>,
    /// Set when the log was behind, or another one: then the anchor stays where it is, or what was cut off would be
    /// forgotten once the log has grown over it.
    contradicted: bool,
}

/// The log's end beside what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// It ends where it did.
    Same,
    /// It has grown, or nothing was seen of it yet; its end now.
    Ahead(Mark),
    /// It is behind, or another one; its end now.
    Contradicted(Mark),
}

/// What anchors count.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    contradictions: Counter,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register(
            "audit_anchor_contradictions",
            "How often the audit log was found behind, or other than, what this gateway had seen of it",
            metrics.contradictions.clone(),
        );
        metrics
    }
}

impl Anchor {
    /// From the state folder; a file that is not there means that nothing was seen.
    ///
    /// # Errors
    /// `Invalid` for a file that can't be read: whatever it said is lost, so a person should know.
    pub fn load(state_dir: &Path, metrics: Metrics) -> Result<Anchor> {
        let path = state_dir.join(FILE);
        let last = match std::fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|error| unreadable(&path).caused_by(error))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(&path).caused_by(error)),
        };
        Ok(Anchor { path, seen: Mutex::new(Seen { last, contradicted: false }), metrics })
    }

    /// The last entry that was seen.
    pub fn last(&self) -> Option<Mark> {
        self.seen().last.clone()
    }

    /// Compares the log with what was seen of it, and takes notice of what is new. The file is written when the mark has
    /// moved. A log that is behind, or another one, is logged and counted once; that is no error, since putting a backup
    /// back looks the same.
    ///
    /// # Errors
    /// Those of the store; `Internal` when the file can't be written.
    pub async fn check(&self, store: &Store) -> Result<()> {
        if self.seen().contradicted {
            return Ok(());
        }
        let end = match self.compare(store).await? {
            Comparison::Same => return Ok(()),
            Comparison::Ahead(end) => return self.move_to(end).await,
            Comparison::Contradicted(end) => end,
        };
        // Never so without one.
        let last = self.last().unwrap_or(Mark { seq: 0, digest: String::new() });
        self.seen().contradicted = true;
        self.metrics.contradictions.inc();
        tracing::error!(
            seen = last.seq,
            found = end.seq,
            anchor = %self.path.display(),
            "the audit log is behind, or other than, what this gateway has seen of it. If a backup was put back, delete \
             the anchor and restart; if not, entries were removed: see `caprock audit verify`"
        );
        Ok(())
    }

    /// Compares the log with what was seen of it, and changes nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn compare(&self, store: &Store) -> Result<Comparison> {
        let end = store.audit_end().await?;
        let end = end.map_or(Mark { seq: 0, digest: String::new() }, |end| Mark { seq: end.seq, digest: end.digest });
        let Some(last) = self.last() else { return Ok(Comparison::Ahead(end)) };
        if end == last {
            return Ok(Comparison::Same);
        }
        let there = if end.seq > last.seq && last.seq > 0 {
            let rows = store.audit_rows(last.seq - 1, last.seq, 1).await?;
            rows.into_iter().next().map(|row| row.digest)
        } else {
            None
        };
        let goes_on = end.seq > last.seq && (last.seq == 0 || there.as_ref() == Some(&last.digest));
        Ok(if goes_on { Comparison::Ahead(end) } else { Comparison::Contradicted(end) })
    }

    async fn move_to(&self, mark: Mark) -> Result<()> {
        let (path, text) = (self.path.clone(), serde_json::to_vec(&mark).map_err(Error::internal)?);
        let written = tokio::task::spawn_blocking(move || write(&path, &text)).await;
        written.map_err(Error::internal)?.map_err(Error::internal)?;
        self.seen().last = Some(mark);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks once a second, and once more at the end: what other replicas and commands write is seen, too.
    pub async fn keep(&self, store: &Store, stopping: &CancellationToken) {
        loop {
            if let Err(error) = self.check(store).await {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "audit anchor not kept");
            }
            if stopping.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}

/// Whole or not at all, whenever the machine stops: the new file takes the old one's name once it is on disk.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let unnamed = path.with_extension("anchor.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unnamed)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&unnamed, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn unreadable(path: &Path) -> Error {
    let text = format!("{} can't be read. Delete it, and the log is trusted as it is now.", path.display());
    Error::new(ErrorKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Author, Change, Record};
    use crate::secrets::Secrets;
    use crate::store::testing::{Fixture, execute, on_both_engines};

    async fn append(store: &Store, secrets: &Secrets, now: i64) {
        let author = Author::command("test");
        let change = Change { store, secrets, now, author: &author, once: None };
        let record = Record::new("model.update", None, ("model", "m"));
        change.commit(move |_| Box::pin(async move { Ok(((), record)) })).await.unwrap();
    }

    struct Here {
        store: Store,
        secrets: Secrets,
        dir: PathBuf,
        metrics: Metrics,
    }

    impl Here {
        fn new(Fixture { store, config }: Fixture) -> Here {
            let dir = config.gateway.state_dir;
            let secrets = Secrets::load_or_create_with(&dir, |_| None).unwrap();
            Here { store, secrets, dir, metrics: Metrics::default() }
        }

        fn load(&self) -> Anchor {
            Anchor::load(&self.dir, self.metrics.clone()).unwrap()
        }

        fn contradictions(&self) -> u64 {
            self.metrics.contradictions.get()
        }
    }

    #[tokio::test]
    async fn the_anchor_follows_the_log_and_is_there_after_a_restart() {
        on_both_engines(|fixture| async move {
            let here = Here::new(fixture);
            let anchor = here.load();
            assert_eq!(anchor.last(), None);
            for seq in 1..=3 {
                append(&here.store, &here.secrets, 1).await;
                anchor.check(&here.store).await.unwrap();
                assert_eq!(anchor.last().unwrap().seq, seq);
                assert_eq!(here.load().last(), anchor.last());
            }
            let files = std::fs::read_dir(&here.dir).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            assert!(names.into_iter().all(|name| !name.contains(".new")));
            assert_eq!(here.contradictions(), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn an_anchor_that_the_log_contradicts_stays_even_when_the_log_grows_over_it() {
        on_both_engines(|fixture| async move {
            let here = Here::new(fixture);
            for _ in 0..3 {
                append(&here.store, &here.secrets, 1).await;
            }
            let anchor = here.load();
            anchor.check(&here.store).await.unwrap();
            let seen = anchor.last();
            let second = here.store.audit_rows(1, 2, 1).await.unwrap().remove(0).digest;
            execute(&here.store, "DELETE FROM audit_log WHERE seq > 2").await;
            execute(&here.store, format!("UPDATE audit_head SET seq = 2, digest = '{second}'")).await;

            anchor.check(&here.store).await.unwrap();
            assert_eq!((here.contradictions(), anchor.last()), (1, seen.clone()));
            for _ in 0..3 {
                append(&here.store, &here.secrets, 2).await;
                anchor.check(&here.store).await.unwrap();
            }
            assert_eq!((here.contradictions(), anchor.last()), (1, seen.clone()));
            // A gateway that comes now has not seen it shrink, and yet knows.
            let later = here.load();
            later.check(&here.store).await.unwrap();
            assert_eq!((here.contradictions(), later.last()), (2, seen));
            std::fs::remove_file(here.dir.join(FILE)).unwrap();
            let trusting = here.load();
            trusting.check(&here.store).await.unwrap();
            assert_eq!(trusting.last().unwrap().seq, 5);
        })
        .await;
    }

    #[test]
    fn a_file_that_is_no_anchor_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"seq\":").unwrap();
        let error = Anchor::load(dir.path(), Metrics::default()).unwrap_err();
        assert!(error.message.contains("audit.anchor"), "{error}");
    }
}
