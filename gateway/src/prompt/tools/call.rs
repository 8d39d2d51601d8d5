//! Reads the JSON of one call as it comes.
//!
//! A call is announced once its name is known and its arguments have begun; from then on the arguments go out as they
//! come. What can't become a call is held back as a whole until that is clear, which an unknown name or member makes it
//! at once. Arguments that stop being JSON after the call was announced end it as incomplete; the rest is text.

use super::input::{Input, Steps};
use super::scan::{Mark, Scan};

/// How far a call's JSON has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// To the end of the input.
    More,
    /// To its last brace.
    Done,
    /// It is none; nothing of it was announced, or what was is ended.
    NoCall,
}

/// Reads `{"name": …, "arguments": {…}}`.
#[derive(Debug, Default)]
pub(super) struct CallObject {
    scan: Scan,
    field: Field,
    key: String,
    name: String,
    arguments: String,
    named: bool,
    begun: bool,
    argued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Field {
    #[default]
    None,
    Key,
    Name,
    Arguments,
    /// Arguments as a string of JSON.
    Quoted,
    Other,
}

impl CallObject {
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Part {
        while let Some(c) = input.peek() {
            let Ok(mark) = self.scan.feed(c) else { return self.give_up(input, steps) };
            input.hold(c.len_utf8());
            if !self.take(c, mark, steps) || (!self.begun && input.holds_too_much()) {
                return self.give_up(input, steps);
            }
            if self.begun {
                input.said();
            }
            if mark == Mark::Closed && self.scan.depth() == 0 {
                return self.finish(input, steps);
            }
        }
        self.send(steps);
        if input.ended { self.give_up(input, steps) } else { Part::More }
    }

    /// Whether it may still be a call.
    fn take(&mut self, c: char, mark: Mark, steps: &mut Steps) -> bool {
        let depth = self.scan.depth();
        match (mark, self.field) {
            (Mark::Opened, Field::None) if c == '{' && depth == 1 && self.key.is_empty() => return true,
            (Mark::KeyOpened, Field::None) if depth == 1 => {
                self.field = Field::Key;
                self.key.clear();
                return true;
            }
            (Mark::KeyClosed, Field::Key) => {
                self.field = Field::None;
                return self.knows_key();
            }
            (_, Field::Key) => self.key.push(c),
            (Mark::Opened, Field::None) => match self.open(c) {
                Some(field) => self.field = field,
                None => return false,
            },
            _ => {}
        }
        match self.field {
            Field::Name => self.name.push(c),
            Field::Arguments | Field::Quoted => {
                self.arguments.push(c);
                if !self.begun {
                    self.send(steps);
                }
            }
            Field::Key | Field::Other | Field::None => {}
        }
        // A number or a word ends where the comma or brace after it is.
        let ends = mark == Mark::Closed && depth == 1;
        if ends || (self.field == Field::Other && depth == 1 && c == ',') {
            return self.close(steps);
        }
        true
    }

    fn knows_key(&self) -> bool {
        match self.key.as_str() {
            "name" => !self.named,
            "arguments" | "parameters" => !self.argued,
            "id" | "type" => true,
            _ => false,
        }
    }

    fn open(&mut self, c: char) -> Option<Field> {
        match (self.key.as_str(), c) {
            ("name", '"') => Some(Field::Name),
            ("arguments" | "parameters", '{') => Some(Field::Arguments),
            ("arguments" | "parameters", '"') => Some(Field::Quoted),
            ("id" | "type", _) => Some(Field::Other),
            _ => None,
        }
    }

    fn close(&mut self, steps: &mut Steps) -> bool {
        match std::mem::take(&mut self.field) {
            Field::Name => {
                let Ok(name) = serde_json::from_str::<String>(&self.name) else { return false };
                if !steps.may_call(&name) {
                    return false;
                }
                (self.name, self.named) = (name, true);
                self.send(steps);
                if self.argued {
                    steps.end(true);
                }
            }
            Field::Arguments => self.argued(steps),
            Field::Quoted => {
                let Ok(json) = serde_json::from_str::<String>(&self.arguments) else { return false };
                if !json.starts_with('{') || serde_json::from_str::<serde_json::Value>(&json).is_err() {
                    return false;
                }
                self.arguments = json;
                self.argued(steps);
            }
            Field::Key | Field::Other | Field::None => {}
        }
        true
    }

    fn argued(&mut self, steps: &mut Steps) {
        self.argued = true;
        self.send(steps);
        if self.begun {
            steps.end(true);
        }
    }

    /// Announces the call when that is due, and passes arguments on.
    fn send(&mut self, steps: &mut Steps) {
        let due = self.argued || (self.field == Field::Arguments && !self.arguments.is_empty());
        if self.named && due {
            if !std::mem::replace(&mut self.begun, true) {
                steps.begin(&self.name);
            }
            steps.arguments(&std::mem::take(&mut self.arguments));
        }
    }

    fn finish(&mut self, input: &mut Input, steps: &mut Steps) -> Part {
        if !self.named {
            return self.give_up(input, steps);
        }
        if !self.argued {
            self.arguments = "{}".into();
            self.argued(steps);
        }
        input.said();
        Part::Done
    }

    fn give_up(&mut self, input: &mut Input, steps: &mut Steps) -> Part {
        self.send(steps);
        if self.begun {
            input.said();
        }
        steps.end(false);
        Part::NoCall
    }
}

/// Reads a call's arguments, an object, whose name came before.
#[derive(Debug)]
pub(super) struct Arguments {
    scan: Scan,
    name: String,
    begun: bool,
}

impl Arguments {
    /// For a tool that may be called.
    pub(super) fn of(name: String) -> Arguments {
        Arguments { scan: Scan::default(), name, begun: false }
    }

    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Part {
        if !self.begun {
            input.hold_spaces();
            match input.peek() {
                Some('{') => {}
                None if !input.ended => return Part::More,
                Some(_) | None => return Part::NoCall,
            }
            steps.begin(&self.name);
            input.said();
            self.begun = true;
        }
        let mut bytes = 0;
        for c in input.rest().chars() {
            let Ok(mark) = self.scan.feed(c) else {
                steps.arguments(input.take(bytes));
                steps.end(false);
                return Part::NoCall;
            };
            bytes += c.len_utf8();
            if mark == Mark::Closed && self.scan.depth() == 0 {
                steps.arguments(input.take(bytes));
                steps.end(true);
                return Part::Done;
            }
        }
        steps.arguments(input.take(bytes));
        if input.ended {
            steps.end(false);
            return Part::NoCall;
        }
        Part::More
    }
}
