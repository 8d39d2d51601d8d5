//! Reading an answer's events on behalf of a caller: whole, or piece by piece.

use crate::api::repeat;
use crate::error::{Error, ErrorKind, Result};
use crate::inference::{Event, Finished, Reader, Started, ToolStep};
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::convert::Infallible;

/// Names the engine that answers.
pub const ENGINE: HeaderName = HeaderName::from_static("x-caprock-engine");
/// Names the model that answers in place of the one asked for.
pub const STAND_IN: HeaderName = HeaderName::from_static("x-caprock-stand-in");

/// When callers of this model should have left it, as RFC 9745 has it.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// When calls of this model will be refused, as RFC 8594 has it.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Waits for the first token, so that what fails before it is a clean HTTP error.
///
/// # Errors
/// Whatever the request failed with.
pub async fn begin(reader: &mut Reader) -> Result<Started> {
    match reader.next().await {
        Some(Event::Started(started)) => Ok(started),
        Some(Event::Failed(error)) => Err(error),
        Some(Event::Text { .. } | Event::Reasoning { .. } | Event::Tool { .. } | Event::Finished(_)) | None => {
            Err(broken())
        }
    }
}

/// A part of a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// For the caller to read.
    Text(String),
    /// What the model thought.
    Reasoning(String),
    /// A call.
    ToolCall(WholeCall),
}

/// A call of a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeCall {
    /// Ties the result to it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// JSON of an object; only its beginning unless `complete`.
    pub arguments: String,
    /// Whether the call is whole.
    pub complete: bool,
}

/// Reads the answer to its end: its parts in order, neighbours of one kind joined.
///
/// # Errors
/// Whatever the request failed with.
pub async fn collect(reader: &mut Reader) -> Result<(Vec<Block>, Finished)> {
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        match reader.next().await {
            Some(Event::Text { text, .. }) => match blocks.last_mut() {
                Some(Block::Text(last)) => last.push_str(&text),
                _ => blocks.push(Block::Text(text)),
            },
            Some(Event::Reasoning { text, .. }) => match blocks.last_mut() {
                Some(Block::Reasoning(last)) => last.push_str(&text),
                _ => blocks.push(Block::Reasoning(text)),
            },
            Some(Event::Tool { step, .. }) => call(&mut blocks, step),
            Some(Event::Finished(finished)) => return Ok((blocks, *finished)),
            Some(Event::Failed(error)) => return Err(error),
            Some(Event::Started(_)) | None => return Err(broken()),
        }
    }
}

fn call(blocks: &mut Vec<Block>, step: ToolStep) {
    match (step, blocks.last_mut()) {
        (ToolStep::Begin { id, name, .. }, _) => {
            let (arguments, complete) = (String::new(), false);
            blocks.push(Block::ToolCall(WholeCall { id, name, arguments, complete }));
        }
        (ToolStep::Arguments { json, .. }, Some(Block::ToolCall(call))) => call.arguments.push_str(&json),
        (ToolStep::End { complete, .. }, Some(Block::ToolCall(call))) => call.complete = complete,
        // Steps of a call come one after the other.
        (ToolStep::Arguments { .. } | ToolStep::End { .. }, _) => {}
    }
}

/// A body that sends `opening`, then what `encode` makes of each event, each as soon as it is there. A log that breaks
/// off shows as `Failed`, so that `encode` always sees exactly one end. Events that become nothing send nothing. Dropping
/// the body drops the reader.
pub fn stream(reader: Reader, opening: Bytes, encode: impl FnMut(Event) -> Bytes + Send + 'static) -> Body {
    let state = State { reader, opening: Some(opening), encode, ended: false };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let frame = state.frame().await?;
        Some((Ok::<_, Infallible>(frame), state))
    }))
}

struct State<F> {
    reader: Reader,
    opening: Option<Bytes>,
    encode: F,
    ended: bool,
}

impl<F: FnMut(Event) -> Bytes> State<F> {
    async fn frame(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        while !self.ended {
            let event = self.reader.next().await.unwrap_or_else(|| Event::Failed(broken()));
            self.ended = matches!(event, Event::Finished(_) | Event::Failed(_));
            let frame = (self.encode)(event);
            if !frame.is_empty() {
                return Some(frame);
            }
        }
        None
    }
}

/// Says in the head who answers, and until when the model that was asked for is there.
pub fn name_the_answerer(headers: &mut HeaderMap, started: &Started) {
    repeat::name_the_replay(headers, started.replayed);
    if let Ok(engine) = HeaderValue::from_str(&started.engine) {
        headers.insert(ENGINE, engine);
    }
    if let Some(model) = started.stand_in.as_deref().and_then(|model| HeaderValue::from_str(model).ok()) {
        headers.insert(STAND_IN, model);
    }
    let Some(deprecation) = &started.deprecation else { return };
    let dates = [(DEPRECATION, Some(deprecation.deprecation_header())), (SUNSET, deprecation.sunset_header())];
    for (name, date) in dates {
        if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
            headers.insert(name, date);
        }
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "The answer broke off. Give the request id to the operator.")
}
