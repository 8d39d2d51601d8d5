//! How a worker must constrain an answer, in llguidance's terms but without its types.

use super::{Format, deepseek, harmony, hermes, llama3, mistral};
use crate::inference::{AnswerForm, Json, ToolChoice, Tools};
use cluster_protocol::{TokenKind, TokenizerCard};
use std::collections::HashMap;
use std::fmt::Write;

/// What of an answer the worker must make fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// What it must fit.
    pub grammar: Grammar,
    /// From where on; `None` from the first token to the last.
    pub trigger: Option<Trigger>,
}

/// What a text must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// A JSON schema.
    JsonSchema(String),
    /// A regular expression, matched as a whole.
    Regex(String),
    /// llguidance's dialect of Lark. Tokens of the vocabulary are named by id, `<[128010]>`.
    Lark(String),
}

/// Where a constraint begins: behind the first of these that the answer has. The constraint ends with the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trigger {
    /// Tokens, each by itself.
    pub tokens: Vec<u32>,
    /// Texts, looked for in the answer as it is shown: with the special tokens that [`crate::prompt::Output::shown`] lists.
    pub texts: Vec<String>,
}

/// The vocabulary's special tokens by their text.
#[derive(Debug, Default)]
pub(crate) struct Tokens(HashMap<String, (u32, TokenKind)>);

impl Tokens {
    pub(crate) fn of(tokenizer: &TokenizerCard) -> Tokens {
        let tokens = (0..).zip(tokenizer.tokens.iter().zip(&tokenizer.kinds));
        let special = tokens.filter(|(_, (_, kind))| matches!(kind, TokenKind::Control | TokenKind::UserDefined));
        Tokens(special.map(|(id, (text, kind))| (text.clone(), (id, *kind))).collect())
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.0.get(text).map(|(id, _)| *id)
    }

    /// The id of a token that engines leave out of an answer's text.
    pub(crate) fn hidden(&self, text: &str) -> Option<u32> {
        self.0.get(text).filter(|(_, kind)| *kind == TokenKind::Control).map(|(id, _)| *id)
    }
}

/// What the answer must fit: calls that are forced, calls from where they begin, the answer's form, or nothing.
pub(crate) fn constraint(format: Format, tools: &Tools, form: &AnswerForm, tokens: &Tokens) -> Option<Constraint> {
    let from_start = |grammar| Some(Constraint { grammar, trigger: None });
    match (&tools.choice, form) {
        (ToolChoice::Required | ToolChoice::Named(_), _) => from_start(forced(format, tools, tokens)),
        (ToolChoice::Auto, AnswerForm::Text) => {
            let trigger = Some(trigger(format, tokens)).filter(|trigger| !trigger.is_empty())?;
            Some(Constraint { grammar: behind_trigger(format, tools, tokens), trigger: Some(trigger) })
        }
        // A call or an answer of that form: decided by the first token.
        (ToolChoice::Auto, _) => from_start(either(format, tools, form, tokens)),
        (ToolChoice::None, _) => None,
    }
}

/// The form of an answer without tools. `harmony` puts it in its channel.
pub(crate) fn answer_constraint(form: &AnswerForm, harmony: bool, tokens: &Tokens) -> Option<Constraint> {
    let grammar = match form {
        AnswerForm::Text => return None,
        _ if harmony => harmony::answer_grammar(tokens, |lark| lark.answer(form)),
        AnswerForm::Json => Grammar::JsonSchema(ANY_OBJECT.into()),
        AnswerForm::JsonSchema(schema) => Grammar::JsonSchema(schema.as_str().into()),
        AnswerForm::Regex(regex) => Grammar::Regex(regex.clone()),
    };
    Some(Constraint { grammar, trigger: None })
}

/// Most calls of a constrained answer behind its first.
const MORE_CALLS: usize = 15;

const ANY_OBJECT: &str = r#"{"type":"object"}"#;

fn forced(format: Format, tools: &Tools, tokens: &Tokens) -> Grammar {
    match format {
        Format::Hermes => hermes::grammar(tools, tokens, true),
        Format::Llama3 => llama3::grammar(tools, tokens),
        Format::Mistral | Format::MistralArgs => mistral::grammar(tools, tokens, true, format == Format::MistralArgs),
        Format::Harmony => harmony::forced_grammar(tools, tokens),
        Format::DeepSeekV3 | Format::DeepSeekV31 => {
            deepseek::grammar(tools, tokens, true, format == Format::DeepSeekV3)
        }
    }
}

fn behind_trigger(format: Format, tools: &Tools, tokens: &Tokens) -> Grammar {
    match format {
        Format::Hermes => hermes::grammar(tools, tokens, false),
        Format::Llama3 => llama3::grammar(tools, tokens),
        Format::Mistral | Format::MistralArgs => mistral::grammar(tools, tokens, false, format == Format::MistralArgs),
        Format::Harmony => harmony::call_grammar(tools, tokens),
        Format::DeepSeekV3 | Format::DeepSeekV31 => {
            deepseek::grammar(tools, tokens, false, format == Format::DeepSeekV3)
        }
    }
}

/// The forced calls, or the answer.
fn either(format: Format, tools: &Tools, form: &AnswerForm, tokens: &Tokens) -> Grammar {
    let Grammar::Lark(calls) = forced(format, tools, tokens) else { return Grammar::Regex(String::new()) };
    let answer = match answer_constraint(form, format == Format::Harmony, tokens).map(|constraint| constraint.grammar) {
        Some(Grammar::Lark(lark)) => lark.replacen("start:", "answer:", 1),
        _ => {
            let mut lark = Lark::new(tokens);
            let answer = lark.answer(form);
            let Grammar::Lark(lark) = lark.start(&answer) else { return Grammar::Regex(String::new()) };
            lark.replacen("start:", "answer:", 1)
        }
    };
    // Both may define the same terminal, with the same meaning.
    let rules = answer.lines().filter(|line| line.starts_with("answer") || !calls.contains(*line));
    let answer: String = rules.map(|line| format!("{line}\n")).collect();
    Grammar::Lark(format!("start: calls | answer\n{}{answer}", calls.replacen("start:", "calls:", 1)))
}

fn trigger(format: Format, tokens: &Tokens) -> Trigger {
    let marker = |text: &str| match tokens.id(text) {
        Some(id) => Trigger { tokens: vec![id], texts: vec![] },
        None => Trigger { tokens: vec![], texts: vec![text.to_owned()] },
    };
    match format {
        Format::Hermes => marker(hermes::BEGIN),
        // A brace begins a call only at the answer's beginning, and even there it may be the answer: that is left to the
        // model.
        Format::Llama3 => Trigger { tokens: tokens.id(llama3::PYTHON_TAG).into_iter().collect(), texts: vec![] },
        Format::Mistral | Format::MistralArgs => marker(mistral::TOOL_CALLS),
        Format::Harmony => Trigger { tokens: vec![], texts: harmony::TRIGGERS.map(String::from).to_vec() },
        Format::DeepSeekV3 | Format::DeepSeekV31 => marker(deepseek::CALLS_BEGIN),
    }
}

impl Trigger {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.texts.is_empty()
    }
}

/// Writes a Lark grammar.
#[derive(Debug)]
pub(crate) struct Lark<'a> {
    tokens: &'a Tokens,
    rules: String,
}

impl<'a> Lark<'a> {
    pub(super) fn new(tokens: &'a Tokens) -> Lark<'a> {
        Lark { tokens, rules: String::new() }
    }

    /// A token of the vocabulary by its id, else its text.
    pub(super) fn marker(&self, text: &str) -> String {
        match self.tokens.id(text) {
            Some(id) => format!("<[{id}]>"),
            None => quoted(text),
        }
    }

    pub(super) fn rule(&mut self, name: &str, body: &str) {
        // Into a string: it can't fail.
        let _ = writeln!(self.rules, "{name}: {body}");
    }

    pub(super) fn start(self, body: &str) -> Grammar {
        Grammar::Lark(format!("start: {body}\n{}", self.rules))
    }

    /// `{"name": …, <arguments>: {…}}` of any tool that may be called. The schema stays a root, for its references' sake.
    pub(super) fn objects(&mut self, tools: &Tools, arguments: &str) -> String {
        self.named(tools, |name, rule| {
            let head = quoted(&format!("{{\"name\": \"{name}\", \"{arguments}\": "));
            format!("{head} {rule} \"}}\"")
        })
    }

    /// What `call` makes of each tool's name and the rule of its arguments.
    pub(super) fn named(&mut self, tools: &Tools, call: impl Fn(&str, &str) -> String) -> String {
        let mut count = 0;
        for (at, (name, schema)) in callable(tools).enumerate() {
            let arguments = format!("arguments_{at}");
            self.rule(&arguments, &format!("%json {}", schema.as_str()));
            self.rule(&format!("call_{at}"), &call(name, &arguments));
            count += 1;
        }
        self.choice(count)
    }

    /// What may follow a call, `call` with what parts it from the one before.
    pub(super) fn more(tools: &Tools, call: &str) -> String {
        match tools.choice {
            _ if tools.one_call => String::new(),
            ToolChoice::Named(_) => String::new(),
            // Not without end: small models may go on and on.
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => format!(" ({call}){{0,{MORE_CALLS}}}"),
        }
    }

    /// The answer's text.
    pub(super) fn answer(&mut self, form: &AnswerForm) -> String {
        match form {
            AnswerForm::Text => self.rule("text", "/(.|\\n)*/"),
            AnswerForm::Json => self.rule("text", &format!("%json {ANY_OBJECT}")),
            AnswerForm::JsonSchema(schema) => self.rule("text", &format!("%json {}", schema.as_str())),
            AnswerForm::Regex(regex) => self.rule("text", &lark_regex(regex)),
        }
        "text".into()
    }

    fn choice(&mut self, count: usize) -> String {
        let calls: Vec<String> = (0..count).map(|at| format!("call_{at}")).collect();
        self.rule("call", &calls.join(" | "));
        "call".into()
    }
}

/// Names, and schemas of arguments, of the tools that this answer may call.
fn callable(tools: &Tools) -> impl Iterator<Item = (&str, &Json)> {
    let chosen = |name: &str| match &tools.choice {
        ToolChoice::Named(only) => only == name,
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => true,
    };
    let tools = tools.callable().iter().filter(move |tool| chosen(&tool.name));
    tools.map(|tool| (tool.name.as_str(), &tool.parameters))
}

/// Between slashes, those inside escaped.
fn lark_regex(regex: &str) -> String {
    let (mut out, mut escaped) = (String::from("/"), false);
    for c in regex.chars() {
        match c {
            '/' if !escaped => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    out.push('/');
    out
}

fn quoted(text: &str) -> String {
    // Lark's strings are JSON's.
    serde_json::to_string(text).unwrap_or_default()
}
