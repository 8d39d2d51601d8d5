//! gpt-oss' harmony: messages on channels. `analysis` is reasoning, `commentary` to `functions.…` is a call, the rest is
//! text for the caller.
//!
//! ```text
//! <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.name <|constrain|>json
//! <|message|>{…}<|call|>      <|channel|>final<|message|>…<|return|>
//! ```
//!
//! `<|call|>` and `<|return|>` end the answer, so they may be missing.

use super::call::{Arguments, Part};
use super::constraint::{Lark, Tokens};
use super::input::{Found, Input, Steps};
use crate::inference::Tools;
use cluster_protocol::Grammar;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";
const END: &str = "<|end|>";
const CALL: &str = "<|call|>";
const RETURN: &str = "<|return|>";
pub(super) const MARKERS: [&str; 7] = [START, CHANNEL, MESSAGE, CONSTRAIN, END, CALL, RETURN];
/// What ends a message, or begins another where the end was left out.
const ENDS: [&str; 5] = [END, CALL, RETURN, START, CHANNEL];

const TO: &str = "to=";
const FUNCTIONS: &str = "functions.";
/// Longest head of a message.
const MAX_HEAD_BYTES: usize = 256;

/// What triggers the constraint of a call that the model may make: its head up to the tool's name. To a constraint the
/// tokens around it have no text.
pub(super) const TRIGGER: &str = " to=functions.";

/// Reads a whole answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Before `<|message|>`.
    #[default]
    Head,
    Text,
    Reasoning,
    Arguments(Box<Arguments>),
    /// Behind a call's arguments, before its end.
    Called,
}

impl Reader {
    pub(crate) fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning)
    }

    /// Goes on as far as the input reaches.
    pub(crate) fn read(&mut self, input: &mut Input, steps: &mut Steps) {
        loop {
            let goes_on = match &mut self.state {
                State::Head => self.head(input, steps),
                State::Text | State::Reasoning => self.body(input, steps),
                State::Arguments(arguments) => match arguments.read(input, steps) {
                    Part::More => false,
                    Part::Done => {
                        self.state = State::Called;
                        true
                    }
                    Part::NoCall => {
                        steps.text(&input.take_held());
                        self.state = State::Text;
                        true
                    }
                },
                State::Called => self.called(input),
            };
            if !goes_on {
                break;
            }
        }
        if input.ended {
            steps.text(&input.take_held());
        }
    }

    fn head(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        let rest = input.rest();
        let head = match rest.find(MESSAGE) {
            Some(at) if at <= MAX_HEAD_BYTES => &rest[..at],
            None if rest.len() < MAX_HEAD_BYTES + MESSAGE.len() && !input.ended && may_be_head(rest) => return false,
            // Cut off in its head.
            None if input.ended && may_be_head(rest) && is_plain_head(rest) => {
                input.take(rest.len());
                return false;
            }
            Some(_) | None => return self.no_head(input, steps),
        };
        if !is_head(head) {
            return self.no_head(input, steps);
        }
        let bytes = head.len() + MESSAGE.len();
        let recipient = head.split(TO).nth(1).map(word);
        let channel = head.split(CHANNEL).nth(1).map(word);
        let tool = recipient.map(|recipient| recipient.strip_prefix(FUNCTIONS).filter(|name| steps.may_call(name)));
        self.state = match (tool, channel) {
            (Some(Some(name)), _) => State::Arguments(Box::new(Arguments::of(name.to_owned()))),
            (None, Some("analysis")) => State::Reasoning,
            (None, Some("commentary" | "final") | None) => State::Text,
            // To nobody's tool, or on no channel that there is: all of it is text.
            (Some(None), _) | (None, Some(_)) => {
                steps.text(input.take(bytes));
                self.state = State::Text;
                return true;
            }
        };
        match self.state {
            State::Arguments(_) => input.hold(bytes),
            State::Head | State::Text | State::Reasoning | State::Called => drop(input.take(bytes)),
        }
        true
    }

    /// It is text, a token that would begin a head included.
    fn no_head(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        let begin = [START, CHANNEL].into_iter().find(|marker| input.rest().starts_with(marker));
        steps.text(input.take(begin.map_or(0, str::len)));
        self.state = State::Text;
        !input.rest().is_empty()
    }

    fn body(&mut self, input: &mut Input, steps: &mut Steps) -> bool {
        let (bytes, end) = match input.find(&ENDS) {
            Found::Marker { at, bytes } => (at, Some(bytes)),
            Found::Clear(at) => (at, None),
        };
        let text = input.take(bytes);
        match self.state {
            State::Reasoning => steps.reasoning(text),
            State::Head | State::Text | State::Arguments(_) | State::Called => steps.text(text),
        }
        match end {
            Some(bytes) => self.end(input, bytes),
            None => false,
        }
    }

    /// A head begins with `<|start|>` or `<|channel|>`; every other end is read with the body.
    fn end(&mut self, input: &mut Input, bytes: usize) -> bool {
        let begins = [START, CHANNEL].iter().any(|marker| input.rest().starts_with(marker));
        if !begins {
            input.take(bytes);
        }
        self.state = State::Head;
        true
    }

    fn called(&mut self, input: &mut Input) -> bool {
        input.hold_spaces();
        match input.find(&ENDS) {
            Found::Marker { at: 0, bytes } => {
                input.said();
                self.end(input, bytes)
            }
            Found::Clear(0) if input.rest().is_empty() => {
                if input.ended {
                    input.said();
                }
                false
            }
            Found::Clear(0) => false,
            Found::Marker { .. } | Found::Clear(_) => {
                input.said();
                self.state = State::Text;
                true
            }
        }
    }
}

/// Up to a space or a token.
fn word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '<').next().unwrap_or_default()
}

/// Whether `text`, up to `<|message|>`, is a message's head.
fn is_head(text: &str) -> bool {
    let text = text.trim_ascii_start();
    (text.is_empty() || [START, CHANNEL, TO].iter().any(|begin| text.starts_with(begin)))
        && !has_end(text)
        && is_plain(text)
}

/// Whether `text`, which has no `<|message|>`, may go on to be a head and one.
fn may_be_head(text: &str) -> bool {
    let text = text.trim_ascii_start();
    let begins = |whole: &&str| text.starts_with(*whole) || whole.starts_with(text);
    ([START, CHANNEL, TO].iter().any(begins) || MESSAGE.starts_with(text)) && !has_end(text)
}

fn has_end(text: &str) -> bool {
    [END, CALL, RETURN].iter().any(|end| text.contains(end))
}

/// Whether `text` is nothing but a head's tokens and words, a token in front.
fn is_plain_head(text: &str) -> bool {
    let begins = [START, CHANNEL].iter().any(|marker| text.starts_with(marker));
    begins && is_plain(text)
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " \n_-.=".contains(c);
    MARKERS.iter().fold(text.to_owned(), |rest, marker| rest.replace(marker, "")).chars().all(plain)
}

/// From behind a trigger.
pub(super) fn call_grammar(tools: &Tools, tokens: &Tokens) -> Grammar {
    let mut lark = Lark::new(tokens);
    let call = call(&mut lark, tools);
    lark.start(&call)
}

/// From the first token: perhaps an analysis, then a call.
pub(super) fn forced_grammar(tools: &Tools, tokens: &Tokens) -> Grammar {
    let mut lark = Lark::new(tokens);
    let analysis = analysis(&mut lark);
    let channel = lark.marker(CHANNEL);
    let call = call(&mut lark, tools);
    lark.start(&format!("({analysis})? {channel} \"commentary to=functions.\" {call}"))
}

/// From the first token: perhaps an analysis, then the answer in its channel.
pub(super) fn answer_grammar(tokens: &Tokens, answer: impl FnOnce(&mut Lark<'_>) -> String) -> Grammar {
    let mut lark = Lark::new(tokens);
    let analysis = analysis(&mut lark);
    let (channel, message) = (lark.marker(CHANNEL), lark.marker(MESSAGE));
    let answer = answer(&mut lark);
    lark.start(&format!("({analysis})? {channel} \"final\" {message} {answer}"))
}

fn analysis(lark: &mut Lark<'_>) -> String {
    let [channel, message, end, start] = [CHANNEL, MESSAGE, END, START].map(|marker| lark.marker(marker));
    lark.rule("THOUGHT", "/(.|\\n)*/");
    format!("{channel} \"analysis\" {message} THOUGHT {end} {start} \"assistant\"")
}

/// From the tool's name.
fn call(lark: &mut Lark<'_>, tools: &Tools) -> String {
    let [channel, message, constrain] = [CHANNEL, MESSAGE, CONSTRAIN].map(|marker| lark.marker(marker));
    lark.named(tools, |name, arguments| {
        format!(
            "\"{name}\" ({channel} \"commentary\")? (\" \"? {constrain} \"json\" | \" json\")? {message} {arguments}"
        )
    })
}
