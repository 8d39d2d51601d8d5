//! One choice's place in its constraint: free until a trigger, bound by the grammar, and free again behind it.

use crate::compile::Compiled;
use cluster_protocol::Trigger;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

/// Which tokens may come next.
#[derive(Debug, Clone)]
pub struct Mask(SimpleVob);

impl Mask {
    /// Makes every other token impossible. A row of logits may be longer than the vocabulary; what is beyond is forbidden.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.0.as_slice();
        for (at, row) in logits.chunks_mut(32).enumerate() {
            let word = words.get(at).copied().unwrap_or(0);
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in row.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// What a token did to the constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The answer goes on.
    On,
    /// Nothing can follow: the answer is complete.
    Complete,
}

/// The constraint can't be enforced any further: the grammar asks for more work per token than is allowed, or the library failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the constraint could not be enforced: {0}")]
pub struct Broken(String);

/// One choice's place. A function of the constraint and of the tokens accepted so far, so it is rebuilt from them anywhere.
#[derive(Clone)]
pub struct Session {
    compiled: Compiled,
    state: State,
}

#[derive(Clone)]
enum State {
    /// Before the trigger; the last bytes that may have begun it.
    Free {
        tail: Vec<u8>,
    },
    Bound(Box<Matcher>),
    Ended,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Free { .. } => "free",
            State::Bound(_) => "bound",
            State::Ended => "ended",
        };
        f.debug_struct("Session").field("state", &state).finish_non_exhaustive()
    }
}

impl Session {
    /// At the beginning of an answer.
    pub fn new(compiled: &Compiled) -> Session {
        let state = match &compiled.trigger {
            Some(_) => State::Free { tail: Vec::new() },
            None => State::Bound(Box::new(compiled.fresh.clone())),
        };
        Session { compiled: compiled.clone(), state }
    }

    /// Whether any token may come next, for all that is known without looking at it: nothing needs a mask then.
    pub fn is_free(&self) -> bool {
        matches!(self.state, State::Free { .. })
    }

    /// Whether `token` may come next: far cheaper than a mask.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn allows(&mut self, token: u32) -> Result<bool, Broken> {
        match &mut self.state {
            State::Ended => Ok(false),
            State::Bound(matcher) if self.compiled.vocabulary.tokens.tok_trie().eos_tokens().contains(&token) => {
                matcher.is_accepting().map_err(broken)
            }
            State::Bound(matcher) => matcher.validate_tokens(&[token]).map(|valid| valid == 1).map_err(broken),
            State::Free { .. } => Ok(self.begun_by(token)?.is_none_or(|begun| begun.is_some())),
        }
    }

    /// Which tokens may come next, while it is not [free](Session::is_free).
    ///
    /// # Errors
    /// [`Broken`]
    pub fn mask(&mut self) -> Result<Mask, Broken> {
        match &mut self.state {
            State::Bound(matcher) => matcher.compute_mask_or_eos().map(Mask).map_err(broken),
            State::Free { .. } | State::Ended => Ok(Mask(self.compiled.vocabulary.tokens.tok_trie().eos_token_set())),
        }
    }

    /// Goes on behind `token`.
    ///
    /// # Errors
    /// [`Broken`], also for a token that is not allowed here.
    pub fn accept(&mut self, token: u32) -> Result<Step, Broken> {
        let ends = self.compiled.vocabulary.tokens.tok_trie().eos_tokens().contains(&token);
        match &mut self.state {
            State::Ended => return Err(Broken("nothing may follow".into())),
            State::Bound(matcher) => {
                if ends {
                    let complete = matcher.is_accepting().map_err(broken)?;
                    return if complete { Ok(self.end()) } else { Err(Broken("the answer is not complete".into())) };
                }
                matcher.consume_token(token).map_err(broken)?;
            }
            State::Free { .. } if ends => return Ok(self.end()),
            State::Free { .. } => match self.begun_by(token)? {
                Some(Some(matcher)) => self.state = State::Bound(matcher),
                Some(None) => return Err(Broken("what follows the trigger is not what the grammar allows".into())),
                None => self.remember(token),
            },
        }
        match &self.state {
            State::Bound(matcher) if matcher.is_stopped() => self.behind_the_grammar(),
            State::Free { .. } | State::Bound(_) | State::Ended => Ok(Step::On),
        }
    }

    fn end(&mut self) -> Step {
        self.state = State::Ended;
        Step::Complete
    }

    /// The grammar has nothing more.
    fn behind_the_grammar(&mut self) -> Result<Step, Broken> {
        if let State::Bound(matcher) = &self.state
            && !matcher.stop_reason().is_ok()
        {
            return Err(Broken(matcher.stop_reason().to_string()));
        }
        match &self.compiled.trigger {
            Some(trigger) if !trigger.once => {
                self.state = State::Free { tail: Vec::new() };
                Ok(Step::On)
            }
            Some(_) | None => Ok(self.end()),
        }
    }

    /// While free: `None` when `token` completes no trigger; else where the grammar stands behind the rest of its bytes,
    /// `Some(None)` when that rest is against the grammar.
    fn begun_by(&self, token: u32) -> Result<Option<Option<Box<Matcher>>>, Broken> {
        let (State::Free { tail }, Some(trigger)) = (&self.state, &self.compiled.trigger) else {
            return Ok(None);
        };
        let fresh = || Box::new(self.compiled.fresh.clone());
        if trigger.tokens.contains(&token) {
            return Ok(Some(Some(fresh())));
        }
        let bytes = self.compiled.vocabulary.bytes(token);
        let seen = [tail, bytes].concat();
        let Some(end) = first_end(trigger, &seen, tail.len()) else {
            return Ok(None);
        };
        let rest = self.compiled.vocabulary.tokens.tokenize_bytes(&seen[end..]);
        let mut matcher = fresh();
        let taken = matcher.try_consume_tokens(&rest).map_err(broken)?;
        Ok(Some((taken == rest.len()).then_some(matcher)))
    }

    /// Keeps as many of the last bytes as may begin a trigger.
    fn remember(&mut self, token: u32) {
        let (State::Free { tail }, Some(trigger)) = (&mut self.state, &self.compiled.trigger) else {
            return;
        };
        tail.extend_from_slice(self.compiled.vocabulary.bytes(token));
        let longest = trigger.texts.iter().map(String::len).max().unwrap_or(0);
        tail.drain(..tail.len().saturating_sub(longest.saturating_sub(1)));
    }
}

/// Where the trigger ends that ends first, behind the first `before` bytes.
fn first_end(trigger: &Trigger, seen: &[u8], before: usize) -> Option<usize> {
    (before + 1..=seen.len()).find(|end| trigger.texts.iter().any(|text| seen[..*end].ends_with(text.as_bytes())))
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string().lines().next().unwrap_or_default().to_owned())
}
