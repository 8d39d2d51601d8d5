//! The event stream of a streamed Converse answer: messageStart, contentBlockDelta…, contentBlockStop, messageStop,
//! metadata; or, in place of what is left, one exception. No contentBlockStart: for text its `start` union would be
//! empty, which botocore refuses.

use super::error::stream_exception;
use super::translate::{stop_reason, usage};
use super::wire::event::{ContentBlockDelta, ContentBlockStop, MessageStart, MessageStop, Metadata};
use super::wire::{ErrorBody, Metrics, TextBlock};
use crate::error::Error;
use crate::inference::{Event, Finished};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde::Serialize;

/// The only block of a text answer.
const BLOCK: u32 = 0;

/// Encodes one answer.
#[derive(Debug, Default)]
pub struct Encoder {
    block_open: bool,
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
            Event::Text { text, .. } => {
                self.block_open = true;
                let delta = ContentBlockDelta { content_block_index: BLOCK, delta: TextBlock { text } };
                event("contentBlockDelta", &delta).into()
            }
            Event::Finished(finished) => self.ending(&finished),
            Event::Failed(error) => exception(&error).into(),
        }
    }

    fn ending(&mut self, finished: &Finished) -> Bytes {
        let mut frames = Vec::new();
        if std::mem::take(&mut self.block_open) {
            frames.extend(event("contentBlockStop", &ContentBlockStop { content_block_index: BLOCK }));
        }
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
