//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one after the other: Hermes, Qwen, and the fallback.

use super::call::{CallObject, Part};
use super::constraint::{Lark, Tokens};
use super::input::{Input, Next, Progress, Steps};
use crate::inference::Tools;
use cluster_protocol::Grammar;

pub(super) const BEGIN: &str = "<tool_call>";
pub(super) const END: &str = "</tool_call>";

#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Begin,
    Object(Box<CallObject>),
    End,
}

impl Reader {
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Progress {
        loop {
            match &mut self.state {
                State::Begin => {
                    input.hold(BEGIN.len());
                    self.state = State::Object(Box::default());
                }
                State::Object(object) => match object.read(input, steps) {
                    Part::More => return Progress::More,
                    Part::NoCall => return Progress::NoCall,
                    Part::Done => self.state = State::End,
                },
                State::End => {
                    input.hold_spaces();
                    match input.next_is(END) {
                        Next::More => return Progress::More,
                        Next::Yes => {
                            input.hold(END.len());
                            input.said();
                            return Progress::Done;
                        }
                        // The call is whole; what follows speaks for itself.
                        Next::No => return Progress::Done,
                    }
                }
            }
        }
    }
}

/// From behind the first `<tool_call>`, or with it when `forced`.
pub(super) fn grammar(tools: &Tools, tokens: &Tokens, forced: bool) -> Grammar {
    let mut lark = Lark::new(tokens);
    let (begin, end) = (lark.marker(BEGIN), lark.marker(END));
    let object = lark.objects(tools, "arguments");
    let call = format!("WS? {object} WS? {end}");
    let more = Lark::more(tools, &format!("WS? {begin} {call}"));
    let first = if forced { format!("{begin} {call}") } else { call };
    lark.rule("WS", "/[ \\n]{1,8}/");
    lark.start(&format!("{first}{more}"))
}
