//! Reads an answer as it comes: what of it is text, reasoning, and tool calls.
//!
//! The steps are the same however the text is cut. What could still become a call, a tag or nothing but space beside one
//! is held back: 16 KiB at most. Space between a call or the reasoning and what is beside it belongs to the format and is
//! dropped; everything else comes through, malformed calls as text.

use super::tools::input::{Found, MAX_HELD_BYTES, Next};
use super::tools::{CallReader, Format, Input, Progress, Steps, harmony};
use std::collections::HashSet;

pub use super::tools::input::Step;

/// What an answer has to be read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Set for calls; harmony's channels are always read.
    pub(super) format: Option<Format>,
    /// Tools that may be called.
    pub(super) names: HashSet<String>,
    pub(super) reasoning: Option<Tags>,
    /// Whether the prompt has opened the reasoning.
    pub(super) opened: bool,
}

/// What is around reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) begin: &'static str,
    pub(super) end: &'static str,
}

/// Reads one answer.
#[derive(Debug)]
pub struct AnswerReader {
    input: Input,
    steps: Steps,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tagged(Tagged),
    Harmony(harmony::Reader),
}

#[derive(Debug)]
struct Tagged {
    format: Option<Format>,
    tags: Option<Tags>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing but space so far: reasoning may begin here.
    Start,
    Reasoning {
        /// Whether anything but space has come.
        begun: bool,
    },
    /// Nothing but space since the reasoning or the last call.
    Beside,
    Text,
    Calls(CallReader),
}

impl AnswerReader {
    /// Ids of calls begin with `id`.
    pub fn new(reading: &Reading, id: String) -> AnswerReader {
        let kind = match reading.format {
            Some(Format::Harmony) => Kind::Harmony(harmony::Reader::default()),
            format => Kind::Tagged(Tagged {
                format,
                tags: reading.reasoning,
                state: if reading.opened { State::Reasoning { begun: false } } else { State::Start },
            }),
        };
        AnswerReader { input: Input::default(), steps: Steps::new(reading.names.clone(), id), kind }
    }

    /// Takes the next piece.
    pub fn push(&mut self, text: &str) -> Vec<Step> {
        self.input.push(text);
        self.read()
    }

    /// The answer has ended.
    pub fn finish(&mut self) -> Vec<Step> {
        self.input.ended = true;
        self.read()
    }

    /// Whether what comes next is reasoning, unless it ends it.
    pub fn is_reasoning(&self) -> bool {
        match &self.kind {
            Kind::Tagged(tagged) => matches!(tagged.state, State::Reasoning { .. }),
            Kind::Harmony(reader) => reader.is_reasoning(),
        }
    }

    fn read(&mut self) -> Vec<Step> {
        match &mut self.kind {
            Kind::Tagged(tagged) => while tagged.read(&mut self.input, &mut self.steps) {},
            Kind::Harmony(reader) => reader.read(&mut self.input, &mut self.steps),
        }
        self.steps.take()
    }
}

impl Tagged {
    /// Goes on by one state; whether it can go on.
    fn read(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        match &mut self.state {
            State::Start => self.start(input, steps),
            State::Beside => self.beside(input, steps),
            State::Reasoning { .. } => self.reasoning(input, steps),
            State::Text => self.text(input, steps),
            State::Calls(reader) => match reader.read(input, steps) {
                Progress::More => false,
                Progress::Done => {
                    input.said();
                    self.state = State::Beside;
                    true
                }
                Progress::NoCall => {
                    steps.text(&input.take_held());
                    self.state = State::Text;
                    true
                }
            },
        }
    }

    fn start(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        input.hold_spaces();
        if let Some(tags) = self.tags {
            match input.next_is(tags.begin) {
                Next::Yes => {
                    input.said();
                    input.take(tags.begin.len());
                    self.state = State::Reasoning { begun: false };
                    return true;
                }
                Next::More if input.peek().is_some() => return false,
                Next::More | Next::No => {}
            }
        }
        let brace = self.format.is_some_and(|format| CallReader::openers(format).1);
        self.open(input, steps, brace)
    }

    fn beside(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        input.hold_spaces();
        if input.peek().is_none() {
            input.said();
            return false;
        }
        input.said();
        let brace = self.format.is_some_and(|format| CallReader::openers(format).1);
        self.open(input, steps, brace)
    }

    /// A call that begins here, or text. Space before it is held.
    fn open(&mut self, input: &mut Input, steps: &mut Steps, brace: bool) -> bool {
        let Some(c) = input.peek() else {
            if input.ended {
                steps.text(&input.take_held());
            }
            return false;
        };
        let (openers, _) = self.format.map_or((&[][..], false), CallReader::openers);
        let next = openers.iter().map(|opener| input.next_is(opener));
        let begins = (brace && c == '{').then_some(Next::Yes).into_iter().chain(next);
        match begins.max_by_key(|next| match next {
            Next::Yes => 2,
            Next::More => 1,
            Next::No => 0,
        }) {
            Some(Next::Yes) => self.call(),
            Some(Next::More) => false,
            Some(Next::No) | None => {
                steps.text(&input.take_held());
                self.state = State::Text;
                true
            }
        }
    }

    fn call(&mut self) -> bool {
        let reader = self.format.and_then(CallReader::new);
        self.state = reader.map_or(State::Text, State::Calls);
        true
    }

    fn reasoning(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        let Some(tags) = self.tags else {
            self.state = State::Text;
            return true;
        };
        let (bytes, end) = match input.find(&[tags.end]) {
            Found::Marker { at, bytes } => (at, Some(bytes)),
            Found::Clear(bytes) => (bytes, None),
        };
        let mut thought = format!("{}{}", input.take_held(), input.take(bytes));
        if matches!(self.state, State::Reasoning { begun: false }) {
            thought = thought.trim_ascii_start().to_owned();
            self.state = State::Reasoning { begun: !thought.is_empty() };
        }
        let shown = if input.ended && end.is_none() { thought.len() } else { without_last_spaces(&thought) };
        steps.reasoning(&thought[..shown]);
        match end {
            Some(bytes) => {
                input.take(bytes);
                self.state = State::Beside;
            }
            None => input.put_back(&thought[shown..]),
        }
        end.is_some()
    }

    fn text(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        let (openers, _) = self.format.map_or((&[][..], false), CallReader::openers);
        match input.find(openers) {
            Found::Marker { at, .. } => {
                let text = format!("{}{}", input.take_held(), input.take(at));
                let shown = without_last_spaces(&text);
                steps.text(&text[..shown]);
                // If this is no call, the space before it is text again.
                input.put_back(&text[shown..]);
                self.call()
            }
            Found::Clear(bytes) => {
                let text = format!("{}{}", input.take_held(), input.take(bytes));
                let shown = if input.ended || openers.is_empty() { text.len() } else { without_last_spaces(&text) };
                steps.text(&text[..shown]);
                input.put_back(&text[shown..]);
                false
            }
        }
    }
}

/// Bytes before the spaces at the end, if those are few enough to be held back.
fn without_last_spaces(text: &str) -> usize {
    let shown = text.trim_end_matches(|c: char| c.is_ascii_whitespace()).len();
    if text.len() - shown > MAX_HELD_BYTES { text.len() } else { shown }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
