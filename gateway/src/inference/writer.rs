//! From an answer's pieces to the log's events: as they are, or read for reasoning and tool calls.

use super::event::{Event, Finish, ToolStep};
use super::log::{FrameLog, Full};
use crate::prompt::{AnswerReader, Reading, Step};
use cluster_protocol::{Counts, FinishReason, Token, TokenLogprobs};

/// Events that one token's text can become when the answer is read: what was held back, the end of a call, text, the
/// beginning of another call, its arguments, and log-probabilities that belong to none of these.
pub(super) const EVENTS_PER_READ_TOKEN: usize = 6;

/// What of one answer was written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// `None` when all of the answer is text: then reading costs nothing.
    reading: Option<Reading>,
    /// What the ids of its calls begin with.
    call_ids: String,
    /// By their numbers, as far as any was written.
    choices: Vec<Choice>,
    reasoning_tokens: u32,
}

#[derive(Debug)]
struct Choice {
    reader: AnswerReader,
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
    pub(super) fn new(reading: Option<Reading>, call_ids: String) -> Writer {
        Writer { reading, call_ids, ..Writer::default() }
    }

    /// Output tokens spent on reasoning. Pieces name their tokens, so that is what is exact: a piece's tokens are
    /// reasoning when its choice was inside its reasoning before the piece or after it. So the tags around reasoning belong
    /// to it, and of a piece of several tokens that ends reasoning and goes on all do. The sum with the rest is the
    /// engine's.
    pub(super) fn reasoning_tokens(&self) -> u32 {
        self.reasoning_tokens
    }

    /// Why each choice ended, calls considered.
    pub(super) fn finish_as(&self, reasons: Vec<FinishReason>) -> Vec<Finish> {
        let called = |at: usize| self.choices.get(at).map(|choice| choice.called).unwrap_or_default();
        let finish = |(at, reason)| match (reason, called(at)) {
            (FinishReason::EndOfTurn, Called::Tools) => Finish::ToolCalls,
            (FinishReason::EndOfTurn, Called::InPart) => Finish::MalformedToolCall,
            (reason, _) => reason.into(),
        };
        reasons.into_iter().enumerate().map(finish).collect()
    }

    /// # Errors
    /// [`Full`]
    pub(super) fn write(&mut self, token: Token, log: &FrameLog) -> Result<(), Full> {
        let Token { choice, text, logprobs, counts, ids, .. } = token;
        let Some(reading) = &self.reading else {
            let says_something = !text.is_empty() || !logprobs.is_empty();
            return if says_something { log.append(Event::Text { choice, text, logprobs, counts }) } else { Ok(()) };
        };
        // As many as the worker may send: the stream has checked it.
        while self.choices.len() <= choice as usize {
            let id = match self.choices.len() {
                0 => self.call_ids.clone(),
                at => format!("{}{at}_", self.call_ids),
            };
            self.choices.push(Choice { reader: AnswerReader::new(reading, id), called: Called::Nothing });
        }
        let written = &mut self.choices[choice as usize];
        let before = written.reader.is_reasoning();
        let steps = written.reader.push(&text);
        if before || written.reader.is_reasoning() {
            self.reasoning_tokens += u32::try_from(ids.len()).unwrap_or(u32::MAX);
        }
        written.append((choice, counts), steps, logprobs, log)
    }

    /// The answer has ended: what was held back comes out.
    ///
    /// # Errors
    /// [`Full`]
    pub(super) fn finish(&mut self, counts: Counts, log: &FrameLog) -> Result<(), Full> {
        for (choice, written) in (0..).zip(&mut self.choices) {
            let steps = written.reader.finish();
            written.append((choice, counts), steps, Vec::new(), log)?;
        }
        Ok(())
    }
}

impl Choice {
    fn append(
        &mut self,
        (choice, counts): (u32, Counts),
        steps: Vec<Step>,
        mut logprobs: Vec<TokenLogprobs>,
        log: &FrameLog,
    ) -> Result<(), Full> {
        for step in steps {
            log.append(match step {
                Step::Text(text) => Event::Text { choice, text, logprobs: std::mem::take(&mut logprobs), counts },
                Step::Reasoning(text) => Event::Reasoning { choice, text, counts },
                Step::Tool(step) => {
                    match step {
                        ToolStep::Begin { .. } | ToolStep::End { complete: false, .. } => self.called = Called::InPart,
                        ToolStep::Arguments { .. } => {}
                        ToolStep::End { complete: true, .. } => self.called = Called::Tools,
                    }
                    Event::Tool { choice, step }
                }
            })?;
        }
        // Of tokens that are no text of the answer; asked for all the same.
        if logprobs.is_empty() {
            Ok(())
        } else {
            log.append(Event::Text { choice, text: String::new(), logprobs, counts })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Reader;
    use crate::prompt::ModelText;
    use futures::FutureExt;
    use std::time::Duration;

    /// Of a model that reasons between tags.
    fn reading() -> Option<Reading> {
        let mut card = crate::prompt::tests::card();
        card.chat_template = Some("{{ messages[0].content }}{# <think> #}".into());
        let request = crate::prompt::tests::request(&[(crate::inference::Role::User, &["hi"])]);
        ModelText::from_card(&card).unwrap().render(&request).unwrap().output.reading
    }

    fn piece(choice: u32, text: &str, tokens: usize) -> Token {
        let counts = Counts { input_tokens: 1, output_tokens: 9 };
        Token { choice, text: text.into(), ids: vec![1; tokens], logprobs: vec![], finish: None, counts }
    }

    fn said(reader: &mut Reader) -> Vec<String> {
        let events = std::iter::from_fn(|| reader.next().now_or_never().flatten());
        let line = |event| match event {
            Event::Text { choice, text, .. } => format!("{choice} {text}"),
            Event::Reasoning { choice, text, .. } => format!("{choice} ({text})"),
            other => format!("{other:?}"),
        };
        events.map(line).collect()
    }

    #[test]
    fn tokens_of_reasoning_are_counted_by_their_pieces_and_choices_are_read_apart() {
        let (log, mut reader) = FrameLog::new(99, Duration::from_secs(30));
        let mut writer = Writer::new(reading(), "c".into());
        let pieces = [
            piece(0, "<think>", 1),
            piece(1, "No", 1),
            piece(0, "\nHm", 2),
            piece(1, " thought", 1),
            piece(0, ".</think>", 2),
            piece(0, "\n\nYes", 3),
        ];
        for piece in pieces {
            writer.write(piece, &log).unwrap();
        }
        writer.finish(Counts::default(), &log).unwrap();
        assert_eq!(writer.reasoning_tokens(), 5, "the tags included");
        assert_eq!(said(&mut reader), ["1 No", "0 (Hm)", "1  thought", "0 (.)", "0 Yes"]);
    }

    #[test]
    fn an_answer_that_is_all_text_is_not_read() {
        let (log, mut reader) = FrameLog::new(99, Duration::from_secs(30));
        let mut writer = Writer::new(None, String::new());
        writer.write(piece(0, "<think> <tool_call>", 3), &log).unwrap();
        writer.write(piece(0, "", 1), &log).unwrap();
        writer.finish(Counts::default(), &log).unwrap();
        assert_eq!(said(&mut reader), ["0 <think> <tool_call>"]);
        assert_eq!((writer.reasoning_tokens(), writer.choices.len()), (0, 0));
    }

    #[test]
    fn a_turn_that_ends_with_calls_waits_for_their_results() {
        let ended = |called| {
            let reader = AnswerReader::new(&reading().unwrap(), String::new());
            let writer = Writer { choices: vec![Choice { reader, called }], ..Writer::default() };
            writer.finish_as(vec![FinishReason::EndOfTurn, FinishReason::EndOfTurn])
        };
        assert_eq!(ended(Called::Tools), [Finish::ToolCalls, Finish::EndOfTurn]);
        assert_eq!(ended(Called::InPart), [Finish::MalformedToolCall, Finish::EndOfTurn]);
        let cut = Writer::default().finish_as(vec![FinishReason::MaxTokens]);
        assert_eq!(cut, [Finish::MaxTokens]);
    }
}
