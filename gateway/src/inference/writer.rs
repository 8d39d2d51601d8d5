//! From an answer's pieces to the log's events: as they are, or read for reasoning and tool calls.

use super::event::{Event, Finish, ToolStep};
use super::log::{FrameLog, Full};
use crate::prompt::{AnswerReader, Step};
use cluster_protocol::{Counts, FinishReason, Token};

/// Events that one token's text can become when the answer is read: what was held back, the end of a call, text, the
/// beginning of another call, its arguments.
pub(super) const EVENTS_PER_READ_TOKEN: usize = 6;

/// What of one answer was written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// `None` when all of the answer is text: then reading costs nothing.
    reader: Option<AnswerReader>,
    counts: Counts,
    reasoning_tokens: u32,
    called: Called,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Called {
    #[default]
    Nothing,
    Tools,
    /// The last call is not whole.
    InPart,
}

impl Writer {
    pub(super) fn new(reader: Option<AnswerReader>) -> Writer {
        Writer { reader, ..Writer::default() }
    }

    /// Output tokens spent on reasoning. Frames count tokens, so that is what is exact: a frame's tokens are reasoning
    /// when the answer was inside its reasoning before the frame or after it. So the tags around reasoning belong to it,
    /// and of a frame of several tokens that ends reasoning and goes on all do. The sum with the rest is the engine's.
    pub(super) fn reasoning_tokens(&self) -> u32 {
        self.reasoning_tokens
    }

    /// Why the answer ended, calls considered.
    pub(super) fn finish_as(&self, reason: FinishReason) -> Finish {
        match (reason, self.called) {
            (FinishReason::EndOfTurn, Called::Tools) => Finish::ToolCalls,
            (FinishReason::EndOfTurn, Called::InPart) => Finish::MalformedToolCall,
            (reason, _) => reason.into(),
        }
    }

    /// # Errors
    /// [`Full`]
    pub(super) fn write(&mut self, token: Token, log: &FrameLog) -> Result<(), Full> {
        let Token { text, counts, .. } = token;
        let Some(reader) = &mut self.reader else {
            return if text.is_empty() { Ok(()) } else { log.append(Event::Text { text, counts }) };
        };
        let before = reader.is_reasoning();
        let steps = reader.push(&text);
        let reasoning = before || reader.is_reasoning();
        self.count(counts, reasoning);
        self.append(steps, log)
    }

    /// The answer has ended: what was held back comes out.
    ///
    /// # Errors
    /// [`Full`]
    pub(super) fn finish(&mut self, counts: Counts, log: &FrameLog) -> Result<(), Full> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let reasoning = reader.is_reasoning();
        let steps = reader.finish();
        self.count(counts, reasoning);
        self.append(steps, log)
    }

    fn count(&mut self, counts: Counts, reasoning: bool) {
        if reasoning {
            self.reasoning_tokens += counts.output_tokens.saturating_sub(self.counts.output_tokens);
        }
        self.counts = counts;
    }

    fn append(&mut self, steps: Vec<Step>, log: &FrameLog) -> Result<(), Full> {
        let counts = self.counts;
        for step in steps {
            log.append(match step {
                Step::Text(text) => Event::Text { text, counts },
                Step::Reasoning(text) => Event::Reasoning { text, counts },
                Step::Tool(step) => {
                    match step {
                        ToolStep::Begin { .. } | ToolStep::End { complete: false, .. } => self.called = Called::InPart,
                        ToolStep::Arguments { .. } => {}
                        ToolStep::End { complete: true, .. } => self.called = Called::Tools,
                    }
                    Event::Tool(step)
                }
            })?;
        }
        Ok(())
    }
}
