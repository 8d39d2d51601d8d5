//! DeepSeek's calls between special tokens: `function`, name and a fence of JSON in V3 and R1; name and JSON since V3.1.
//! Either is read from any DeepSeek.

use super::call::{Arguments, Part};
use super::constraint::{Lark, Tokens};
use super::input::{Input, Next, Progress, Steps};
use crate::inference::{Tools, tools::MAX_NAME_CHARS};
use cluster_protocol::Grammar;

pub(super) const CALLS_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub(super) const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
const SEPARATOR: &str = "<｜tool▁sep｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub(super) const MARKERS: [&str; 5] = [CALLS_BEGIN, CALL_BEGIN, SEPARATOR, CALL_END, CALLS_END];

const FENCE: &str = "```json";
const FENCE_END: &str = "```";

#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Before a call, or behind the last.
    #[default]
    Between,
    /// Before the separator.
    Head(String),
    /// Behind `function` and the separator.
    Name(String),
    /// Before the arguments' fence.
    Fence(String),
    Arguments(Box<Arguments>, bool),
    /// Behind the arguments; whether a fence is still to be closed.
    After(bool),
}

impl Reader {
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Progress {
        loop {
            let next = match std::mem::take(&mut self.state) {
                State::Between => match between(input) {
                    Ok(Some(state)) => Ok(state),
                    Ok(None) => return Progress::Done,
                    Err(part) => Err((State::Between, part)),
                },
                State::Head(name) => head(name, input, steps),
                State::Name(name) => self::name(name, input, steps),
                State::Fence(name) => fence(name, input),
                State::Arguments(mut arguments, fenced) => match arguments.read(input, steps) {
                    Part::Done => Ok(State::After(fenced)),
                    part => Err((State::Arguments(arguments, fenced), part)),
                },
                State::After(fenced) => after(fenced, input),
            };
            match next {
                Ok(state) => self.state = state,
                Err((_, Part::Done)) => return Progress::Done,
                Err((_, Part::NoCall)) => return Progress::NoCall,
                Err((State::Between | State::After(_), Part::More)) if input.ended => return Progress::Done,
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

fn between(input: &mut Input) -> Result<Option<State>, Part> {
    input.hold_spaces();
    if input.holds_too_much() {
        return Err(Part::NoCall);
    }
    for (marker, state) in [(CALL_BEGIN, Some(State::Head(String::new()))), (CALLS_BEGIN, Some(State::Between))] {
        if input.next_is(marker) == Next::Yes {
            input.hold(marker.len());
            return Ok(state);
        }
    }
    if input.next_is(CALLS_END) == Next::Yes {
        input.hold(CALLS_END.len());
        return Ok(None);
    }
    let may_come = [CALL_BEGIN, CALLS_BEGIN, CALLS_END].iter().any(|marker| input.next_is(marker) == Next::More);
    Err(if may_come { Part::More } else { Part::NoCall })
}

/// `function`, or the tool's name, up to the separator.
fn head(mut name: String, input: &mut Input, steps: &Steps) -> Goes {
    loop {
        match input.next_is(SEPARATOR) {
            Next::Yes => {
                input.hold(SEPARATOR.len());
                let is_kind = name == "function" && !steps.may_call(&name);
                return match (is_kind, steps.may_call(&name)) {
                    (true, _) => Ok(State::Name(String::new())),
                    (false, true) => Ok(State::Fence(name)),
                    (false, false) => Err((State::Between, Part::NoCall)),
                };
            }
            Next::More => return Err((State::Head(name), Part::More)),
            Next::No => {}
        }
        match input.peek() {
            Some(c) if is_name(c) && name.len() < MAX_NAME_CHARS => {
                name.push(c);
                input.hold_char();
            }
            Some(_) => return Err((State::Between, Part::NoCall)),
            None => return Err((State::Head(name), Part::More)),
        }
    }
}

fn name(mut name: String, input: &mut Input, steps: &Steps) -> Goes {
    while let Some(c) = input.peek() {
        if is_name(c) && name.len() < MAX_NAME_CHARS {
            name.push(c);
            input.hold_char();
        } else if c.is_whitespace() && steps.may_call(&name) {
            return Ok(State::Fence(name));
        } else {
            return Err((State::Between, Part::NoCall));
        }
    }
    Err((State::Name(name), Part::More))
}

fn fence(name: String, input: &mut Input) -> Goes {
    input.hold_spaces();
    match (input.peek(), input.next_is(FENCE)) {
        (None, _) | (_, Next::More) => Err((State::Fence(name), Part::More)),
        (_, Next::Yes) => {
            input.hold(FENCE.len());
            Ok(State::Arguments(Box::new(Arguments::of(name)), true))
        }
        (_, Next::No) => Ok(State::Arguments(Box::new(Arguments::of(name)), false)),
    }
}

fn after(fenced: bool, input: &mut Input) -> Goes {
    input.hold_spaces();
    if fenced {
        match input.next_is(FENCE_END) {
            Next::Yes => {
                input.hold(FENCE_END.len());
                return Ok(State::After(false));
            }
            Next::More => return Err((State::After(true), Part::More)),
            Next::No => {}
        }
    }
    match input.next_is(CALL_END) {
        Next::Yes => {
            input.hold(CALL_END.len());
            input.said();
            Ok(State::Between)
        }
        Next::More => Err((State::After(fenced), Part::More)),
        // The call is whole; what follows speaks for itself.
        Next::No => Ok(State::Between),
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// From behind `<｜tool▁calls▁begin｜>`, or with it when `forced`.
pub(super) fn grammar(tools: &Tools, tokens: &Tokens, forced: bool, fenced: bool) -> Grammar {
    let mut lark = Lark::new(tokens);
    let [calls_begin, begin, separator, end, calls_end] = MARKERS.map(|marker| lark.marker(marker));
    let call = lark.named(tools, |name, arguments| {
        if fenced {
            format!("\"function\" {separator} \"{name}\\n```json\\n\" {arguments} \"\\n```\"")
        } else {
            format!("\"{name}\" {separator} {arguments}")
        }
    });
    let more = Lark::more(tools, &format!("\"\\n\"? {begin} {call} {end}"));
    let first = if forced { format!("{calls_begin} ") } else { String::new() };
    lark.start(&format!("{first}{begin} {call} {end}{more} {calls_end}"))
}
