//! `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, and since 2025 `[TOOL_CALLS]name[ARGS]{…}`. Either is read from any
//! Mistral.

use super::call::{Arguments, CallObject, Part};
use super::constraint::{Lark, Tokens};
use super::input::{Input, Next, Progress, Steps};
use crate::inference::{Tools, tools::MAX_NAME_CHARS};
use cluster_protocol::Grammar;

pub(super) const TOOL_CALLS: &str = "[TOOL_CALLS]";
pub(super) const ARGS: &str = "[ARGS]";
pub(super) const CALL_ID: &str = "[CALL_ID]";

#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Begin,
    /// Behind `[TOOL_CALLS]`.
    Form,
    /// In a list, before an object.
    Item(Box<CallObject>),
    /// In a list, behind an object.
    Separator,
    Alone(Box<CallObject>),
    Name(String),
    /// Between name and arguments.
    Head(String),
    Id(String),
    Arguments(Box<Arguments>),
}

impl Reader {
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Progress {
        loop {
            let next = match std::mem::take(&mut self.state) {
                State::Begin => {
                    input.hold(TOOL_CALLS.len());
                    Ok(State::Form)
                }
                State::Form => {
                    input.hold_spaces();
                    match input.peek() {
                        None => Err((State::Form, Part::More)),
                        Some('[') => {
                            input.hold_char();
                            input.hold_spaces();
                            Ok(State::Item(Box::default()))
                        }
                        Some('{') => Ok(State::Alone(Box::default())),
                        Some(_) => Ok(State::Name(String::new())),
                    }
                }
                State::Item(mut object) => match object.read(input, steps) {
                    Part::Done => Ok(State::Separator),
                    part => Err((State::Item(object), part)),
                },
                State::Alone(mut object) => match object.read(input, steps) {
                    Part::Done => return Progress::Done,
                    part => Err((State::Alone(object), part)),
                },
                State::Separator => {
                    input.hold_spaces();
                    match input.peek() {
                        None => Err((State::Separator, Part::More)),
                        Some(',') => {
                            input.hold_char();
                            input.hold_spaces();
                            Ok(State::Item(Box::default()))
                        }
                        Some(']') => {
                            input.hold_char();
                            input.said();
                            return Progress::Done;
                        }
                        Some(_) => return Progress::Done,
                    }
                }
                State::Name(name) => self::name(name, input, steps),
                State::Head(name) => head(name, input),
                State::Id(name) => id(name, input),
                State::Arguments(mut arguments) => match arguments.read(input, steps) {
                    Part::Done => return Progress::Done,
                    part => Err((State::Arguments(arguments), part)),
                },
            };
            match next {
                Ok(state) => self.state = state,
                Err((_, Part::NoCall | Part::Done)) => return Progress::NoCall,
                Err((_, Part::More)) if input.ended => return Progress::NoCall,
                Err((state, Part::More)) => {
                    self.state = state;
                    return Progress::More;
                }
            }
        }
    }
}

type Goes = Result<State, (State, Part)>;

fn name(mut name: String, input: &mut Input, steps: &Steps) -> Goes {
    while let Some(c) = input.peek() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            name.push(c);
            input.hold_char();
            if name.len() > MAX_NAME_CHARS {
                return Err((State::Begin, Part::NoCall));
            }
        } else if steps.may_call(&name) {
            return Ok(State::Head(name));
        } else {
            return Err((State::Begin, Part::NoCall));
        }
    }
    Err((State::Name(name), Part::More))
}

fn head(name: String, input: &mut Input) -> Goes {
    match (input.next_is(ARGS), input.next_is(CALL_ID)) {
        (Next::Yes, _) => {
            input.hold(ARGS.len());
            Ok(State::Arguments(Box::new(Arguments::of(name))))
        }
        (_, Next::Yes) => {
            input.hold(CALL_ID.len());
            Ok(State::Id(name))
        }
        (Next::More, _) | (_, Next::More) => Err((State::Head(name), Part::More)),
        (Next::No, Next::No) => Ok(State::Arguments(Box::new(Arguments::of(name)))),
    }
}

/// The model's own id, which nobody needs.
fn id(name: String, input: &mut Input) -> Goes {
    while input.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
        input.hold_char();
        if input.holds_too_much() {
            return Err((State::Begin, Part::NoCall));
        }
    }
    if input.peek().is_none() { Err((State::Id(name), Part::More)) } else { Ok(State::Head(name)) }
}

/// From behind the first `[TOOL_CALLS]`, or with it when `forced`.
pub(super) fn grammar(tools: &Tools, tokens: &Tokens, forced: bool, by_name: bool) -> Grammar {
    let mut lark = Lark::new(tokens);
    let begin = lark.marker(TOOL_CALLS);
    let calls = if by_name {
        let args = lark.marker(ARGS);
        let call = lark.named(tools, |name, arguments| format!("\"{name}\" {args} {arguments}"));
        let more = Lark::more(tools, &format!("{begin} {call}"));
        format!("{call}{more}")
    } else {
        let object = lark.objects(tools, "arguments");
        let more = Lark::more(tools, &format!("/,[ \\n]?/ {object}"));
        format!("\"[\" {object}{more} \"]\"")
    };
    lark.start(&if forced { format!("{begin} {calls}") } else { calls })
}
