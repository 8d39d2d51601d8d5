//! What a reader of answers reads from and writes to.

use crate::inference::event::ToolStep;
use std::collections::HashSet;

/// Most bytes held back until it is clear what they are.
pub(crate) const MAX_HELD_BYTES: usize = 16 << 10;
/// Most calls of an answer; what looks like a further one is text.
const MAX_CALLS: u32 = 128;

/// Text that came, and what of it was read without anything being said for it yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    text: String,
    /// Read bytes of `text`; cut off now and then.
    at: usize,
    held: String,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

/// Whether a text is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Yes,
    No,
    /// It may yet be.
    More,
}

/// How far a reader of calls came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// To the end of the input.
    More,
    /// The calls are over, what was held back with them.
    Done,
    /// It was no call: what is held back is text.
    NoCall,
}

impl Input {
    pub(crate) fn push(&mut self, text: &str) {
        self.text.drain(..self.at);
        self.at = 0;
        self.text.push_str(text);
    }

    pub(crate) fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads bytes that are shown, or dropped for good.
    pub(crate) fn take(&mut self, bytes: usize) -> &str {
        let from = self.at;
        self.at += bytes;
        &self.text[from..self.at]
    }

    /// Reads bytes that are text if all this turns out to be no call.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held.push_str(&self.text[self.at..self.at + bytes]);
        self.at += bytes;
    }

    pub(crate) fn hold_char(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.hold(c.len_utf8());
        Some(c)
    }

    /// Holds spaces, as many as may be held; what is next then says whether they were too many.
    pub(crate) fn hold_spaces(&mut self) {
        while !self.holds_too_much() && self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.hold(1);
        }
    }

    /// What was held back has been said.
    pub(crate) fn said(&mut self) {
        self.held.clear();
    }

    pub(crate) fn take_held(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Holds what was taken after all.
    pub(crate) fn put_back(&mut self, text: &str) {
        self.held.push_str(text);
    }

    pub(crate) fn holds_too_much(&self) -> bool {
        self.held.len() > MAX_HELD_BYTES
    }

    /// Whether `text` is next.
    pub(crate) fn next_is(&self, text: &str) -> Next {
        let rest = self.rest();
        if rest.starts_with(text) {
            Next::Yes
        } else if !self.ended && text.starts_with(rest) {
            Next::More
        } else {
            Next::No
        }
    }

    /// The first of `markers` in the input, the longest of those that begin together; else how many bytes are certain to
    /// be before any.
    pub(crate) fn find(&self, markers: &[&str]) -> Found {
        let rest = self.rest();
        let found = markers.iter().filter_map(|marker| Some((rest.find(marker)?, marker.len())));
        if let Some((at, bytes)) = found.min_by_key(|(at, bytes)| (*at, usize::MAX - bytes)) {
            return Found::Marker { at, bytes };
        }
        if self.ended {
            return Found::Clear(rest.len());
        }
        let begins = |at: &usize| markers.iter().any(|marker| marker.starts_with(&rest[*at..]));
        let longest = markers.iter().map(|marker| marker.len()).max().unwrap_or(0);
        let near = rest.char_indices().map(|(at, _)| at).skip_while(|at| at + longest <= rest.len());
        Found::Clear(near.into_iter().find(begins).unwrap_or(rest.len()))
    }
}

/// Where a marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Marker { at: usize, bytes: usize },
    Clear(usize),
}

/// What the answer said, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Text for the caller.
    Text(String),
    /// Reasoning.
    Reasoning(String),
    /// Of a tool call.
    Tool(ToolStep),
}

/// Collects steps and numbers the calls.
#[derive(Debug)]
pub(crate) struct Steps {
    steps: Vec<Step>,
    /// Tools that may be called.
    names: HashSet<String>,
    /// Ids of calls are this and the call's number.
    id: String,
    calls: u32,
    open: bool,
}

impl Steps {
    pub(crate) fn new(names: HashSet<String>, id: String) -> Steps {
        Steps { steps: Vec::new(), names, id, calls: 0, open: false }
    }

    pub(crate) fn take(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    pub(crate) fn text(&mut self, text: &str) {
        match self.steps.last_mut() {
            _ if text.is_empty() => {}
            Some(Step::Text(last)) => last.push_str(text),
            _ => self.steps.push(Step::Text(text.to_owned())),
        }
    }

    pub(crate) fn reasoning(&mut self, text: &str) {
        match self.steps.last_mut() {
            _ if text.is_empty() => {}
            Some(Step::Reasoning(last)) => last.push_str(text),
            _ => self.steps.push(Step::Reasoning(text.to_owned())),
        }
    }

    /// Whether a tool of this name may be called, once more.
    pub(crate) fn may_call(&self, name: &str) -> bool {
        self.calls < MAX_CALLS && self.names.contains(name)
    }

    pub(crate) fn begin(&mut self, name: &str) {
        let (index, id) = (self.calls, format!("{}{}", self.id, self.calls));
        self.open = true;
        self.steps.push(Step::Tool(ToolStep::Begin { index, id, name: name.to_owned() }));
    }

    pub(crate) fn arguments(&mut self, json: &str) {
        match self.steps.last_mut() {
            _ if json.is_empty() => {}
            Some(Step::Tool(ToolStep::Arguments { json: last, .. })) => last.push_str(json),
            _ => self.steps.push(Step::Tool(ToolStep::Arguments { index: self.calls, json: json.to_owned() })),
        }
    }

    /// Ends the call that is open, if one is.
    pub(crate) fn end(&mut self, complete: bool) {
        if std::mem::take(&mut self.open) {
            self.steps.push(Step::Tool(ToolStep::End { index: self.calls, complete }));
            self.calls += 1;
        }
    }
}
