//! Constraints made ready before a request waits for its slot: the engine thread never compiles anything.

use crate::engine::Description;
use crate::scheduler::failure;
use cluster_constraint::{Compiled, NoVocabulary, Vocabulary};
use cluster_protocol::{Constraint, ErrorCode, WorkerError};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// Compiled at a time; each takes a core for some milliseconds.
const AT_A_TIME: usize = 2;

/// The model's vocabulary, built when the first request asks for a constraint, and shared by all.
pub(crate) struct Constraints {
    vocabulary: Arc<OnceLock<Result<Arc<Vocabulary>, NoVocabulary>>>,
    turns: Semaphore,
}

impl Default for Constraints {
    fn default() -> Self {
        Constraints { vocabulary: Arc::default(), turns: Semaphore::new(AT_A_TIME) }
    }
}

impl Constraints {
    /// `None` for a request that asks for none.
    ///
    /// # Errors
    /// `BadRequest` when it can't be compiled. A gateway checks before, so this is for other versions of it.
    pub(crate) async fn compile(
        &self,
        constraint: Option<&Constraint>,
        worker: &Description,
    ) -> Result<Option<Compiled>, WorkerError> {
        let Some(constraint) = constraint.cloned() else {
            return Ok(None);
        };
        let ended = || failure(ErrorCode::ShuttingDown, "the worker is stopping");
        let _turn = self.turns.acquire().await.map_err(|_| ended())?;
        let card = self.vocabulary.get().is_none().then(|| worker.card.clone());
        let vocabulary = Arc::clone(&self.vocabulary);
        let compile = move || {
            let vocabulary = match (vocabulary.get(), card) {
                (Some(built), _) => built,
                (None, Some(card)) => vocabulary.get_or_init(|| Vocabulary::new(&card).map(Arc::new)),
                (None, None) => return Err("no vocabulary".to_owned()),
            };
            let vocabulary = vocabulary.as_ref().map_err(ToString::to_string)?;
            Compiled::new(vocabulary, &constraint).map(Some).map_err(|error| error.to_string())
        };
        let compiled = tokio::task::spawn_blocking(compile).await.map_err(|_| ended())?;
        compiled.map_err(|reason| failure(ErrorCode::BadRequest, &format!("the constraint is refused: {reason}")))
    }
}
