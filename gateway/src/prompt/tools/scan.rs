//! JSON one character at a time: where values begin and end, and the first character that can't be.

/// Deepest nesting followed.
const MAX_DEPTH: usize = 128;

/// Follows one JSON value.
#[derive(Debug, Default)]
pub(super) struct Scan {
    state: State,
    /// What is open; `true` for an object.
    open: Vec<bool>,
}

/// The text is not the beginning of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// What a character is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The first of a value.
    Opened,
    /// The last of a string, an array or an object.
    Closed,
    /// The first of a key, its quote.
    KeyOpened,
    /// The last of a key, its quote.
    KeyClosed,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Value,
    /// A value, or the array's end.
    FirstValue,
    /// A key, or the object's end.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of what is open.
    After,
    String {
        key: bool,
    },
    Escape {
        key: bool,
    },
    Hex {
        key: bool,
        left: u8,
    },
    Number(Number),
    Word {
        word: &'static str,
        at: usize,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Scan {
    /// How many arrays and objects are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Takes the next character.
    ///
    /// # Errors
    /// [`NotJson`], also for what follows the value and for too deep nesting; nothing more may be fed then.
    pub(super) fn feed(&mut self, c: char) -> Result<Mark, NotJson> {
        match self.state {
            State::Number(number) => match number.next(c) {
                Some(next) => {
                    self.state = State::Number(next);
                    Ok(Mark::Other)
                }
                None if number.may_end() => {
                    self.after_value();
                    self.feed(c)
                }
                None => Err(NotJson),
            },
            State::String { key } => self.in_string(c, key),
            State::Escape { key } => match c {
                'u' => self.go(State::Hex { key, left: 4 }),
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => self.go(State::String { key }),
                _ => Err(NotJson),
            },
            State::Hex { key, left } => match (c.is_ascii_hexdigit(), left) {
                (true, 1) => self.go(State::String { key }),
                (true, _) => self.go(State::Hex { key, left: left - 1 }),
                (false, _) => Err(NotJson),
            },
            State::Word { word, at } => {
                if !word[at..].starts_with(c) {
                    return Err(NotJson);
                }
                if at + 1 == word.len() {
                    self.after_value();
                } else {
                    self.state = State::Word { word, at: at + 1 };
                }
                Ok(Mark::Other)
            }
            State::Done => Err(NotJson),
            _ if matches!(c, ' ' | '\n' | '\r' | '\t') => Ok(Mark::Other),
            State::Value => self.begin(c),
            State::FirstValue if c == ']' => self.close(false),
            State::FirstValue => self.begin(c),
            State::FirstKey if c == '}' => self.close(true),
            State::FirstKey | State::Key if c == '"' => {
                self.state = State::String { key: true };
                Ok(Mark::KeyOpened)
            }
            State::Colon if c == ':' => self.go(State::Value),
            State::After => match (c, self.open.last()) {
                (',', Some(true)) => self.go(State::Key),
                (',', Some(false)) => self.go(State::Value),
                ('}', Some(true)) => self.close(true),
                (']', Some(false)) => self.close(false),
                _ => Err(NotJson),
            },
            State::FirstKey | State::Key | State::Colon => Err(NotJson),
        }
    }

    fn go(&mut self, state: State) -> Result<Mark, NotJson> {
        self.state = state;
        Ok(Mark::Other)
    }

    fn begin(&mut self, c: char) -> Result<Mark, NotJson> {
        self.state = match c {
            '{' | '[' if self.open.len() == MAX_DEPTH => return Err(NotJson),
            '{' => {
                self.open.push(true);
                State::FirstKey
            }
            '[' => {
                self.open.push(false);
                State::FirstValue
            }
            '"' => State::String { key: false },
            '-' => State::Number(Number::Minus),
            '0' => State::Number(Number::Zero),
            '1'..='9' => State::Number(Number::Integer),
            't' => State::Word { word: "true", at: 1 },
            'f' => State::Word { word: "false", at: 1 },
            'n' => State::Word { word: "null", at: 1 },
            _ => return Err(NotJson),
        };
        Ok(Mark::Opened)
    }

    fn in_string(&mut self, c: char, key: bool) -> Result<Mark, NotJson> {
        match c {
            '"' if key => {
                self.state = State::Colon;
                Ok(Mark::KeyClosed)
            }
            '"' => {
                self.after_value();
                Ok(Mark::Closed)
            }
            '\\' => self.go(State::Escape { key }),
            '\0'..='\u{1F}' => Err(NotJson),
            _ => Ok(Mark::Other),
        }
    }

    fn close(&mut self, object: bool) -> Result<Mark, NotJson> {
        if self.open.pop() != Some(object) {
            return Err(NotJson);
        }
        self.after_value();
        Ok(Mark::Closed)
    }

    fn after_value(&mut self) {
        self.state = if self.open.is_empty() { State::Done } else { State::After };
    }
}

impl Number {
    fn next(self, c: char) -> Option<Number> {
        match (self, c) {
            (Number::Minus, '0') => Some(Number::Zero),
            (Number::Minus, '1'..='9') | (Number::Integer, '0'..='9') => Some(Number::Integer),
            (Number::Zero | Number::Integer, '.') => Some(Number::Point),
            (Number::Point | Number::Fraction, '0'..='9') => Some(Number::Fraction),
            (Number::Zero | Number::Integer | Number::Fraction, 'e' | 'E') => Some(Number::Exponent),
            (Number::Exponent, '+' | '-') => Some(Number::Sign),
            (Number::Exponent | Number::Sign | Number::Power, '0'..='9') => Some(Number::Power),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::Power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether all of `text` is one object or array, as the scan sees it.
    fn is_whole(text: &str) -> bool {
        let mut scan = Scan::default();
        text.chars().all(|c| scan.feed(c).is_ok()) && scan.state == State::Done
    }

    #[test]
    fn values_begin_and_end_where_they_do() {
        let mut scan = Scan::default();
        let marks: Vec<Mark> = r#"{"a":[1,"b"]}"#.chars().map(|c| scan.feed(c).unwrap()).collect();
        use Mark::*;
        assert_eq!(
            marks,
            [Opened, KeyOpened, Other, KeyClosed, Other, Opened, Opened, Other, Opened, Other, Closed, Closed, Closed]
        );
        assert_eq!(scan.feed(' '), Err(NotJson), "nothing follows");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_whole(&nested(MAX_DEPTH)) && !is_whole(&nested(MAX_DEPTH + 1)));
    }

    proptest! {
        #[test]
        fn what_it_takes_is_what_serde_takes(
            text in "[\\[{]([\\[\\]{}:,\"]|\"a\"|\\\\u12|\\\\n|-?[0-9.eE+-]{1,3}|true|null| |é){0,12}[\\]}]",
        ) {
            let serde = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok()
                && !text.ends_with(char::is_whitespace);
            // A lone surrogate or a number out of range is the reader's matter, not the form's.
            prop_assert_eq!(is_whole(&text), serde, "{}", text);
        }
    }
}
