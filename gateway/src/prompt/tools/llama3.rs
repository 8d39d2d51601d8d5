//! `{"name": …, "parameters": {…}}` as the whole answer, perhaps behind `<|python_tag|>`; several are parted by `;`.

use super::call::{CallObject, Part};
use super::constraint::{Lark, Tokens};
use super::input::{Input, Next, Progress, Steps};
use crate::inference::Tools;
use cluster_protocol::Grammar;

pub(super) const PYTHON_TAG: &str = "<|python_tag|>";

#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Begin,
    Object(Box<CallObject>),
    /// Behind a call.
    Between,
}

impl Reader {
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Progress {
        loop {
            match &mut self.state {
                State::Begin => {
                    if input.next_is(PYTHON_TAG) == Next::Yes {
                        input.hold(PYTHON_TAG.len());
                    }
                    self.state = State::Object(Box::default());
                }
                State::Object(object) => match object.read(input, steps) {
                    Part::More => return Progress::More,
                    Part::NoCall => return Progress::NoCall,
                    Part::Done => self.state = State::Between,
                },
                State::Between => {
                    input.hold_spaces();
                    match input.peek() {
                        None => return if input.ended { Progress::Done } else { Progress::More },
                        Some(';' | ',') => {
                            input.hold_char();
                            input.hold_spaces();
                            self.state = State::Object(Box::default());
                        }
                        Some('{') => self.state = State::Object(Box::default()),
                        Some('<') => match input.next_is(PYTHON_TAG) {
                            Next::More => return Progress::More,
                            Next::Yes => self.state = State::Begin,
                            Next::No => return Progress::Done,
                        },
                        Some(_) => return Progress::Done,
                    }
                }
            }
        }
    }
}

/// Behind `<|python_tag|>`, or from the first token.
pub(super) fn grammar(tools: &Tools, tokens: &Tokens) -> Grammar {
    let mut lark = Lark::new(tokens);
    let object = lark.objects(tools, "parameters");
    let more = Lark::more(tools, &format!("/;[ \\n]?/ {object}"));
    lark.start(&format!("{object}{more}"))
}
