//! The event stream of a streamed Converse answer: messageStart; the blocks, each of contentBlockDelta… and
//! contentBlockStop; messageStop, metadata; or, in place of what is left, one exception. Only a call's block has a
//! contentBlockStart: for text its `start` union would be empty, which botocore refuses.

use super::error::stream_exception;
use super::translate::{stop_reason, usage};
use super::wire::event::{
    ContentBlockDelta, ContentBlockStart, ContentBlockStop, Delta, MessageStart, MessageStop, Metadata, Start,
};
use super::wire::{ErrorBody, Metrics};
use crate::error::Error;
use crate::inference::{Event, Finished, ToolStep};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde::Serialize;

/// Encodes one answer.
#[derive(Debug, Default)]
pub struct Encoder {
    open: Option<Block>,
    /// Of the block that is open, or comes next.
    index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Reasoning,
    Call,
}

impl Encoder {
    /// What comes first.
    pub fn opening(&mut self) -> Bytes {
        event("messageStart", &MessageStart { role: "assistant" }).into()
    }

    /// An event's frames; `Started` has none.
    pub fn encode(&mut self, step: Event) -> Bytes {
        match step {
            Event::Started(_) => Bytes::new(),
            Event::Text { text, .. } => self.piece(Block::Text, Delta::Text(text)),
            Event::Reasoning { text, .. } => self.piece(Block::Reasoning, Delta::ReasoningContent { text }),
            Event::Tool { step: ToolStep::Begin { id, name, .. }, .. } => self.call(id, name),
            Event::Tool { step: ToolStep::Arguments { json, .. }, .. } => {
                self.piece(Block::Call, Delta::ToolUse { input: json })
            }
            Event::Tool { step: ToolStep::End { .. }, .. } => self.close().into(),
            Event::Finished(finished) => self.ending(&finished),
            Event::Failed(error) => exception(&error).into(),
        }
    }

    fn piece(&mut self, block: Block, delta: Delta) -> Bytes {
        let mut frames = if self.open == Some(block) { Vec::new() } else { self.close() };
        self.open = Some(block);
        frames.extend(event("contentBlockDelta", &ContentBlockDelta { content_block_index: self.index, delta }));
        frames.into()
    }

    fn call(&mut self, tool_use_id: String, name: String) -> Bytes {
        let mut frames = self.close();
        self.open = Some(Block::Call);
        let start = Start::ToolUse { tool_use_id, name };
        frames.extend(event("contentBlockStart", &ContentBlockStart { content_block_index: self.index, start }));
        frames.into()
    }

    fn close(&mut self) -> Vec<u8> {
        if self.open.take().is_none() {
            return Vec::new();
        }
        let stop = ContentBlockStop { content_block_index: self.index };
        self.index += 1;
        event("contentBlockStop", &stop)
    }

    fn ending(&mut self, finished: &Finished) -> Bytes {
        let mut frames = self.close();
        frames.extend(event("messageStop", &MessageStop { stop_reason: stop_reason(finished.reason()) }));
        let metrics = Metrics { latency_ms: finished.latency_ms };
        frames.extend(event("metadata", &Metadata { usage: usage(&finished.usage), metrics }));
        frames.into()
    }
}

fn event(name: &'static str, payload: &impl Serialize) -> Vec<u8> {
    frame(":event-type", name, "event", json(payload))
}

fn exception(error: &Error) -> Vec<u8> {
    let body = ErrorBody { message: error.message.clone() };
    frame(":exception-type", stream_exception(error.kind), "exception", json(&body))
}

fn json(payload: &impl Serialize) -> Vec<u8> {
    // Plain structs with string keys: serialising them into memory can't fail.
    serde_json::to_vec(payload).unwrap_or_default()
}

pub(super) fn frame(
    type_header: &'static str,
    name: &'static str,
    message_type: &'static str,
    payload: Vec<u8>,
) -> Vec<u8> {
    let header = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let message = Message::new(payload)
        .add_header(header(type_header, name))
        .add_header(header(":content-type", "application/json"))
        .add_header(header(":message-type", message_type));
    let mut frame = Vec::new();
    if write_message_to(&message, &mut frame).is_err() {
        // Only headers or payloads of more than 16 MiB are refused, and a piece of text is bounded far below.
        frame.clear();
    }
    frame
}
