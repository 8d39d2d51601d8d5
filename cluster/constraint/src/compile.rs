//! From a grammar to a parser over a model's tokens, within bounds of stack and work.

use crate::check::{Unsupported, bounded};
use crate::vocabulary::Vocabulary;
use cluster_protocol::{Constraint, Trigger};
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Logger, Matcher, ParserFactory, TokenParser};
use std::sync::Arc;

/// For the compiler's recursion over the deepest grammar allowed, in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

/// A constraint made ready for one request. Each choice gets a [`crate::Session`] of it.
#[derive(Clone)]
pub struct Compiled {
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) trigger: Option<Arc<Trigger>>,
    /// At the grammar's beginning.
    pub(crate) fresh: Matcher,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("trigger", &self.trigger).finish_non_exhaustive()
    }
}

impl Compiled {
    /// CPU-bound, some milliseconds; not for an async task, nor for an engine thread.
    ///
    /// # Errors
    /// [`Unsupported`]
    pub fn new(vocabulary: &Arc<Vocabulary>, constraint: &Constraint) -> Result<Compiled, Unsupported> {
        let grammar = bounded(&constraint.grammar)?;
        let parser = on_its_own_stack(|| parser(&vocabulary.factory, grammar))?;
        let fresh = Matcher::new(Ok(parser));
        let trigger = constraint.trigger.clone().map(Arc::new);
        Ok(Compiled { vocabulary: Arc::clone(vocabulary), trigger, fresh })
    }
}

pub(crate) fn factory(tokens: &TokEnv) -> Result<ParserFactory, Unsupported> {
    let slices = SlicedBiasComputer::general_slices();
    let factory = ParserFactory::new(tokens, InferenceCapabilities::default(), &slices);
    let mut factory = factory.map_err(|error| Unsupported::by_compiler(&error.to_string()))?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.verbose_errors = false; // they would quote the answer so far
    limits.max_grammar_size = 100_000;
    limits.max_lexer_states = 50_000; // up to 2 KB each
    limits.step_max_items = 50_000; // some milliseconds
    Ok(factory)
}

pub(crate) fn parser(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<TokenParser, Unsupported> {
    let (init, logger) = (GrammarInit::Serialized(grammar), Logger::new(0, 0));
    let parser =
        factory.create_parser_from_init_ext(init, logger, InferenceCapabilities::default(), factory.limits().clone());
    parser.map_err(|error| Unsupported::by_compiler(&error.to_string()))
}

/// Runs `work` where neither its depth nor a panic harms the caller.
pub(crate) fn on_its_own_stack<T: Send>(
    work: impl FnOnce() -> Result<T, Unsupported> + Send,
) -> Result<T, Unsupported> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("constraint".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn_scoped(scope, work);
        let joined = spawned.map_err(|_| Unsupported::by_compiler("no thread for it"))?.join();
        joined.unwrap_or_else(|_| Err(Unsupported::by_compiler("the compiler gave up on it")))
    })
}
