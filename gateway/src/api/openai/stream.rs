//! Server-sent events of a streamed chat completion: a piece with the role, pieces of text, a piece with the finish
//! reason, the usage when asked for, `[DONE]`. Calls come in pieces of their own, each piece of one call. A failure is one `error` event and no `[DONE]`.

use super::error;
use super::translate::{Reply, finish_reason};
use super::wire::{CallDelta, ChatChunk, Delta, FunctionDelta};
use crate::inference::{Event, ToolStep};
use bytes::Bytes;
use serde::Serialize;

const DONE: &str = "data: [DONE]\n\n";

/// Encodes one answer.
#[derive(Debug)]
pub struct Encoder {
    reply: Reply,
    include_usage: bool,
}

impl Encoder {
    /// For one answer.
    pub fn new(reply: Reply, include_usage: bool) -> Encoder {
        Encoder { reply, include_usage }
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
            Event::Tool(step) => match call(step) {
                Some(call) => {
                    self.data(self.reply.chunk(Delta { tool_calls: Some([call]), ..Delta::default() }, None)).into()
                }
                None => Bytes::new(),
            },
            Event::Finished(finished) => {
                let finish = finish_reason(&finished.reason);
                let mut frames = self.data(self.reply.chunk(Delta::default(), Some(finish)));
                if self.include_usage {
                    frames.push_str(&frame(&self.reply.usage_chunk(&finished)));
                }
                frames.push_str(DONE);
                frames.into()
            }
            Event::Failed(failure) => frame(&error::body(&failure)).into(),
        }
    }

    /// When usage was asked for, every piece but the last says that it has none yet.
    fn data(&self, mut chunk: ChatChunk) -> String {
        chunk.usage = self.include_usage.then_some(None);
        frame(&chunk)
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

fn frame(value: &impl Serialize) -> String {
    // Plain structs with string keys: serialising them into memory can't fail, and an empty event is skipped by readers.
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("data: {json}\n\n")
}
