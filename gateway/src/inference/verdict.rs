//! What a request came to: its outcome, what is charged, and what its caller is told. Pure.

use super::log::Abandoned;
use crate::auth;
use crate::billing::Outcome;
use crate::error::{Error, ErrorKind};
use cluster_protocol::{Counts, Done, FinishReason};

/// Why a request was ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// Nobody waits for the answer.
    Abandoned(Abandoned),
    /// The caller's credential has ended.
    Revoked,
    /// The gateway's grace is over.
    Stopping,
}

/// What is known at a request's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Set when we ended it.
    pub(super) interrupt: Option<Interrupt>,
    /// Whether the first token had come.
    pub(super) started: bool,
    /// What the engine computed, as far as it is known.
    pub(super) counts: Counts,
}

/// What follows from it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// To be charged.
    pub(super) counts: Counts,
    /// Told to the caller; `None` for a complete answer.
    pub(super) error: Option<Error>,
}

/// Judges a request whose row is durable.
///
/// | ended by | outcome | charged |
/// |---|---|---|
/// | `Done`, unless it is our stop's | completed | all |
/// | nobody reads any more | client gone | what the engine computed until it stopped |
/// | end of the credential | revoked | the same |
/// | shutdown | shutdown | the same |
/// | failure after the first token | failed | what the engine computed until then |
/// | failure before it | failed | nothing: nobody got anything for it |
///
/// What the engine computed is its own count where it could still be had, and the last frame's where it could not.
pub(super) fn verdict(facts: Facts, result: Result<&Done, &Error>) -> Verdict {
    let counts = match result {
        Ok(done) => done.counts,
        Err(_) => facts.counts,
    };
    match (facts.interrupt, result) {
        (Some(Interrupt::Abandoned(why)), _) => {
            Verdict { outcome: Outcome::ClientGone, counts, error: Some(abandoned(why)) }
        }
        // It was to end just as the answer did: it is whole all the same.
        (Some(Interrupt::Stopping | Interrupt::Revoked), Ok(done)) if *done.finish() != FinishReason::Stopped => {
            Verdict { outcome: Outcome::Completed, counts, error: None }
        }
        (Some(Interrupt::Revoked), _) => Verdict { outcome: Outcome::Revoked, counts, error: Some(auth::revoked()) },
        (Some(Interrupt::Stopping), _) => {
            let error = Error::new(ErrorKind::ShuttingDown, "This gateway is stopping; the answer was ended early.");
            Verdict { outcome: Outcome::Shutdown, counts, error: Some(error) }
        }
        (None, Ok(_)) => Verdict { outcome: Outcome::Completed, counts, error: None },
        (None, Err(error)) => {
            let counts = if facts.started { counts } else { Counts::default() };
            Verdict { outcome: Outcome::Failed, counts, error: Some(error.clone()) }
        }
    }
}

fn abandoned(why: Abandoned) -> Error {
    let message = match why {
        Abandoned::Gone => "The caller went away; the answer was ended.",
        Abandoned::Stalled => "The answer was not read for too long; it was ended.",
    };
    Error::new(ErrorKind::RequestTimeout, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AuthFailure;
    use cluster_protocol::{LocalReason, Path, PrefillPath, Timings};

    const SEEN: Counts = Counts { input_tokens: 10, output_tokens: 3 };
    const FINAL: Counts = Counts { input_tokens: 10, output_tokens: 5 };

    fn done(finish: FinishReason) -> Done {
        let prefill = PrefillPath::Local { reason: LocalReason::NoneConfigured };
        let path = Path { engine: "sim".into(), decode: "decode-1".into(), prefill };
        Done { finishes: vec![finish], counts: FINAL, timings: Timings::default(), path }
    }

    fn facts(interrupt: Option<Interrupt>, started: bool) -> Facts {
        Facts { interrupt, started, counts: SEEN }
    }

    #[test]
    fn a_complete_answer_is_charged_by_its_final_count() {
        let verdict = verdict(facts(None, true), Ok(&done(FinishReason::EndOfTurn)));
        assert_eq!((verdict.outcome, verdict.counts), (Outcome::Completed, FINAL));
        assert!(verdict.error.is_none());
    }

    #[test]
    fn a_caller_who_left_pays_what_the_engine_computed() {
        let gone = Some(Interrupt::Abandoned(Abandoned::Gone));
        let exact = verdict(facts(gone, true), Ok(&done(FinishReason::Stopped)));
        assert_eq!((exact.outcome, exact.counts), (Outcome::ClientGone, FINAL));
        let silent = verdict(facts(gone, true), Err(&Error::new(ErrorKind::UpstreamTimeout, "x")));
        assert_eq!((silent.outcome, silent.counts), (Outcome::ClientGone, SEEN));
        let early = verdict(facts(gone, false), Ok(&done(FinishReason::Stopped)));
        assert_eq!((early.outcome, early.counts), (Outcome::ClientGone, FINAL), "the prompt was computed");
    }

    #[test]
    fn shutdown_is_told_and_charged() {
        let verdict = verdict(facts(Some(Interrupt::Stopping), true), Ok(&done(FinishReason::Stopped)));
        assert_eq!((verdict.outcome, verdict.counts), (Outcome::Shutdown, FINAL));
        assert_eq!(verdict.error.unwrap().kind, ErrorKind::ShuttingDown);
    }

    #[test]
    fn the_end_of_a_credential_is_told_and_what_was_computed_is_charged() {
        let revoked = Some(Interrupt::Revoked);
        let exact = verdict(facts(revoked, true), Ok(&done(FinishReason::Stopped)));
        assert_eq!((exact.outcome, exact.counts), (Outcome::Revoked, FINAL));
        assert_eq!(exact.error.unwrap().kind, ErrorKind::Unauthenticated(AuthFailure::Revoked));
        let silent = verdict(facts(revoked, true), Err(&Error::new(ErrorKind::UpstreamTimeout, "x")));
        assert_eq!((silent.outcome, silent.counts), (Outcome::Revoked, SEEN));
    }

    #[test]
    fn an_answer_that_was_complete_when_it_was_to_end_is_complete() {
        for interrupt in [Interrupt::Stopping, Interrupt::Revoked] {
            for finish in [FinishReason::EndOfTurn, FinishReason::MaxTokens] {
                let verdict = verdict(facts(Some(interrupt), true), Ok(&done(finish)));
                assert_eq!((verdict.outcome, verdict.counts), (Outcome::Completed, FINAL));
                assert!(verdict.error.is_none());
            }
        }
    }

    #[test]
    fn a_failure_is_charged_only_when_the_caller_got_something() {
        let error = Error::new(ErrorKind::UpstreamFailed, "x");
        let late = verdict(facts(None, true), Err(&error));
        assert_eq!((late.outcome, late.counts), (Outcome::Failed, SEEN));
        let early = verdict(facts(None, false), Err(&error));
        assert_eq!((early.outcome, early.counts), (Outcome::Failed, Counts::default()));
        assert_eq!(early.error.unwrap().kind, ErrorKind::UpstreamFailed);
    }
}
