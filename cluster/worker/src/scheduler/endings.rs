//! How requests leave: in what order things are given back, settled and told.

use super::engine_loop::EngineLoop;
use super::job::Job;
use super::sequence::{Answer, Export, Sequence, Work};
use crate::crash::CrashPoint;
use crate::metrics::outcome_of;
use cluster_protocol::{Commit, Counts, ErrorCode, FinishReason, FirstToken, Message, WorkerError};

/// How a sequence leaves.
pub(super) enum Ending {
    /// Each choice has ended, or ends now.
    Finished,
    Exported {
        first_tokens: Vec<FirstToken>,
    },
    Failed(ErrorCode, String),
    Cancelled,
}

impl EngineLoop {
    /// Takes a sequence out and gives back what it held.
    pub(super) fn end(&mut self, at: usize, ending: Ending) {
        let mut sequence = self.live.remove(at);
        sequence.slots.iter().for_each(|slot| self.engine.release(*slot));
        self.capacity.give_back(&sequence.slots, sequence.cells);
        if let Ending::Finished = ending {
            sequence.stop();
        }
        self.settle(&sequence, ending);
    }

    /// The same for a request that never had a slot.
    pub(super) fn end_waiting(&mut self, job: Job, ending: Ending) {
        let mut sequence = job.into_unplaced();
        sequence.stop();
        self.settle(&sequence, ending);
    }

    /// Receipt first, then the load, then the last message: whoever sees one finds the ones before it settled.
    fn settle(&mut self, sequence: &Sequence, ending: Ending) {
        let counts = sequence.counts;
        let message = match &sequence.work {
            Work::Answer(answer) => {
                self.close_answer(answer, sequence.finishes().swap_remove(0), &ending, counts);
                self.last_message(sequence, answer, ending)
            }
            Work::Export(export) => {
                self.shared.metrics.request_ended(export_outcome(&ending));
                if matches!(ending, Ending::Exported { .. }) {
                    self.crasher.pass(CrashPoint::PrefillBeforeCommit);
                }
                let ended = sequence.is_finished();
                export_message(export, ended, ending, counts, sequence.timings.prefill_us)
            }
        };
        self.publish();
        if let Some(message) = message {
            sequence.send(message);
        }
    }

    fn close_answer(&self, answer: &Answer, finish: FinishReason, ending: &Ending, counts: Counts) {
        let (finish, outcome) = match ending {
            Ending::Finished => (Some(finish.clone()), outcome_of(&finish)),
            Ending::Exported { .. } | Ending::Failed(..) => (None, "failed"),
            Ending::Cancelled => (None, "cancelled"),
        };
        tracing::debug!(
            request_id = answer.key.0,
            attempt = answer.key.1,
            outcome,
            input_tokens = counts.input_tokens,
            output_tokens = counts.output_tokens,
            "request ended"
        );
        self.shared.receipts().end(&answer.key, counts, finish);
        self.shared.metrics.request_ended(outcome);
    }

    fn last_message(&self, sequence: &Sequence, answer: &Answer, ending: Ending) -> Option<Message> {
        let engine = &self.shared.description.fingerprint.engine;
        match ending {
            Ending::Finished => Some(sequence.done(answer, engine, &self.options.worker_id)),
            Ending::Failed(code, message) => {
                Some(Message::Error(WorkerError { code, message, counts: sequence.counts }))
            }
            Ending::Exported { .. } | Ending::Cancelled => None,
        }
    }
}

fn export_outcome(ending: &Ending) -> &'static str {
    match ending {
        Ending::Exported { .. } => "exported",
        Ending::Finished | Ending::Cancelled => "cancelled",
        Ending::Failed(..) => "failed",
    }
}

fn export_message(export: &Export, ended: bool, ending: Ending, counts: Counts, prefill_us: u64) -> Option<Message> {
    match ending {
        Ending::Exported { first_tokens } => Some(Message::KvCommit(Box::new(Commit {
            binding: hex::encode(export.digest),
            chunks: export.chunks.clone(),
            first_tokens,
            ended,
            prefill_us,
        }))),
        Ending::Failed(code, message) => Some(Message::Error(WorkerError { code, message, counts })),
        Ending::Finished | Ending::Cancelled => None,
    }
}
