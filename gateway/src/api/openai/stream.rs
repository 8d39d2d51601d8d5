//! Server-sent events of a streamed chat completion: a piece with the role, pieces of text, a piece with the finish
//! reason, the usage when asked for, `[DONE]`. Calls come in pieces of their own, each piece of one call. A failure is one `error` event and no `[DONE]`.

use super::error;
use super::translate::{Reply, finish_reason};
use super::wire::{CallDelta, ChatChunk, Delta, FunctionDelta};
use crate::inference::{Event, ToolStep};
use bytes::Bytes;
use serde::Serialize;

const DONE: &str = "[DONE]";

/// Encodes one answer.
#[derive(Debug)]
pub struct Encoder {
    reply: Reply,
    include_usage: bool,
    numbers: Option<Numbers>,
}

/// Of an answer that can be resumed each event has its number, from 0.
#[derive(Debug)]
struct Numbers {
    next: u64,
    /// The caller has those before it.
    first: u64,
}

impl Encoder {
    /// For one answer.
    pub fn new(reply: Reply, include_usage: bool) -> Encoder {
        Encoder { reply, include_usage, numbers: None }
    }

    /// Numbers the events, and leaves out those up to `last`, which the caller has.
    pub fn number_from(&mut self, last: Option<u64>) {
        self.numbers = Some(Numbers { next: 0, first: last.map_or(0, |last| last.saturating_add(1)) });
    }

    /// What comes first.
    pub fn opening(&mut self) -> Bytes {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        self.data(self.reply.chunk(delta, None)).into()
    }

    /// An event's frames; `Started` and a call's end have none.
    pub fn encode(&mut self, event: Event) -> Bytes {
        match event {
            Event::Started(_) => Bytes::new(),
            Event::Text { text, .. } => {
                self.data(self.reply.chunk(Delta { content: Some(text), ..Delta::default() }, None)).into()
            }
            Event::Reasoning { text, .. } => {
                self.data(self.reply.chunk(Delta { reasoning_content: Some(text), ..Delta::default() }, None)).into()
            }
            Event::Tool { step, .. } => match call(step) {
                Some(call) => {
                    self.data(self.reply.chunk(Delta { tool_calls: Some([call]), ..Delta::default() }, None)).into()
                }
                None => Bytes::new(),
            },
            Event::Finished(finished) => {
                let finish = finish_reason(finished.reason());
                let mut frames = self.data(self.reply.chunk(Delta::default(), Some(finish)));
                if self.include_usage {
                    let usage = json(&self.reply.usage_chunk(&finished));
                    frames.push_str(&self.frame(&usage));
                }
                frames.push_str(&self.frame(DONE));
                frames.into()
            }
            // Not numbered: whoever resumes shall not miss what comes in its place.
            Event::Failed(failure) => format!("data: {}\n\n", json(&error::body(&failure))).into(),
        }
    }

    /// When usage was asked for, every piece but the last says that it has none yet.
    fn data(&mut self, mut chunk: ChatChunk) -> String {
        chunk.usage = self.include_usage.then_some(None);
        self.frame(&json(&chunk))
    }

    /// Empty for what the caller has.
    fn frame(&mut self, data: &str) -> String {
        let Some(numbers) = &mut self.numbers else { return format!("data: {data}\n\n") };
        let number = numbers.next;
        numbers.next += 1;
        if number < numbers.first { String::new() } else { format!("id: {number}\ndata: {data}\n\n") }
    }
}

fn call(step: ToolStep) -> Option<CallDelta> {
    match step {
        ToolStep::Begin { index, id, name } => {
            let function = FunctionDelta { name: Some(name), arguments: String::new() };
            Some(CallDelta { index, id: Some(id), kind: Some("function"), function })
        }
        ToolStep::Arguments { index, json } => {
            Some(CallDelta { index, id: None, kind: None, function: FunctionDelta { name: None, arguments: json } })
        }
        ToolStep::End { .. } => None,
    }
}

fn json(value: &impl Serialize) -> String {
    // Plain structs with string keys: serialising them into memory can't fail, and an empty event is skipped by readers.
    serde_json::to_string(value).unwrap_or_default()
}
