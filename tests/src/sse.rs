//! Server-sent events as the OpenAI dialect uses them: `data: …` and an empty line.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::Value;

/// Reads `data` lines off a body, whatever pieces it comes in.
#[derive(Debug)]
pub struct SseReader<S> {
    body: S,
    buffer: Vec<u8>,
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Unpin> SseReader<S> {
    /// From a response's body.
    pub fn new(body: S) -> SseReader<S> {
        SseReader { body, buffer: Vec::new() }
    }

    /// The next event's data; `None` when the body has ended after a whole event.
    ///
    /// # Errors
    /// When the body breaks, or ends inside an event.
    pub async fn next(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = String::from_utf8(event).map_err(|error| error.to_string())?;
                let data: Vec<&str> =
                    text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
                if !data.is_empty() {
                    return Ok(Some(data.join("\n")));
                }
                continue; // a comment, sent to keep the connection alive
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.buffer.extend_from_slice(&piece),
                Some(Err(error)) => return Err(error.to_string()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(format!("the stream ended inside an event: {:?}", self.buffer)),
            }
        }
    }
}

/// A chat stream read to its end.
#[derive(Debug, Default)]
pub struct ChatStream {
    /// Chunks in order, as they came.
    pub chunks: Vec<Value>,
    /// Whether `[DONE]` came.
    pub done: bool,
}

impl ChatStream {
    /// Reads until the body ends.
    ///
    /// # Errors
    /// What was read, and why it broke.
    pub async fn read(response: reqwest::Response) -> Result<ChatStream, (ChatStream, String)> {
        let mut reader = SseReader::new(Box::pin(response.bytes_stream()));
        let mut stream = ChatStream::default();
        loop {
            match reader.next().await {
                Ok(None) => return Ok(stream),
                Err(error) => return Err((stream, error)),
                Ok(Some(data)) if data == "[DONE]" => stream.done = true,
                Ok(Some(data)) => match serde_json::from_str(&data) {
                    Ok(chunk) => stream.chunks.push(chunk),
                    Err(error) => return Err((stream, format!("{error} in {data}"))),
                },
            }
        }
    }

    /// The text of all deltas.
    pub fn text(&self) -> String {
        self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }

    /// Why it ended, from the one chunk that says so.
    pub fn finish_reason(&self) -> Option<&str> {
        self.chunks.iter().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str())
    }

    /// The usage object, when one came.
    pub fn usage(&self) -> Option<&Value> {
        self.chunks.iter().map(|chunk| &chunk["usage"]).find(|usage| usage.is_object())
    }

    /// The error that ended it, when one came.
    pub fn error(&self) -> Option<&Value> {
        self.chunks.iter().map(|chunk| &chunk["error"]).find(|error| error.is_object())
    }
}
