//! Server-sent events of a streamed chat completion: a piece with the role, pieces of text, a piece with the finish
//! reason, the usage when asked for, `[DONE]`. A failure is one `error` event and no `[DONE]`.

use super::error;
use super::translate::{Reply, finish_reason};
use super::wire::{ChatChunk, Delta};
use crate::inference::Event;
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
        let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
        self.data(self.reply.chunk(delta, None)).into()
    }

    /// An event's frames; `Started` has none.
    pub fn encode(&mut self, event: Event) -> Bytes {
        match event {
            Event::Started(_) => Bytes::new(),
            Event::Text { text, .. } => {
                self.data(self.reply.chunk(Delta { role: None, content: Some(text) }, None)).into()
            }
            Event::Finished(finished) => {
                let finish = finish_reason(finished.reason());
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

fn frame(value: &impl Serialize) -> String {
    // Plain structs with string keys: serialising them into memory can't fail, and an empty event is skipped by readers.
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("data: {json}\n\n")
}
