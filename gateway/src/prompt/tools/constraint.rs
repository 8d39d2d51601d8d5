//! What workers must make an answer fit.

use super::{Format, deepseek, harmony, hermes, llama3, mistral, schema};
use crate::inference::{AnswerForm, Tool, ToolChoice, Tools};
use cluster_protocol::{Constraint, Grammar, TokenKind, TokenizerCard, Trigger, limits};
use std::collections::HashMap;
use std::fmt::Write;

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
            let trigger = Some(trigger(format, tokens))
                .filter(|trigger| !(trigger.tokens.is_empty() && trigger.texts.is_empty()))?;
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
        AnswerForm::Json => Grammar::JsonSchema { schema: ANY_OBJECT.into() },
        AnswerForm::JsonSchema(schema) => Grammar::JsonSchema { schema: schema.as_str().into() },
        AnswerForm::Regex(regex) => Grammar::Regex { pattern: regex.clone() },
    };
    Some(Constraint { grammar, trigger: None })
}

/// Most calls of a constrained answer behind its first.
const MORE_CALLS: usize = 15;

/// Most bytes of all schemas in a grammar; the rest is for names, markers and rules.
const MAX_SCHEMA_BYTES: usize = limits::MAX_GRAMMAR_BYTES / 2;

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
    let calls = match forced(format, tools, tokens) {
        Grammar::Lark { grammar } => grammar,
        other @ (Grammar::JsonSchema { .. } | Grammar::Regex { .. }) => return other,
    };
    let answer = match format {
        Format::Harmony => harmony::answer_grammar(tokens, |lark| lark.answer(form)),
        _ => {
            let mut lark = Lark::new(tokens);
            let answer = lark.answer(form);
            lark.start(&answer)
        }
    };
    let Grammar::Lark { grammar: answer } = answer else { return answer };
    // Both may define the same terminal, with the same meaning.
    let answer = answer.replacen("start:", "answer:", 1);
    let rules = answer.lines().filter(|line| line.starts_with("answer:") || !calls.lines().any(|rule| rule == *line));
    let answer: String = rules.map(|line| format!("{line}\n")).collect();
    Grammar::Lark { grammar: format!("start: calls | answer\n{}{answer}", calls.replacen("start:", "calls:", 1)) }
}

fn trigger(format: Format, tokens: &Tokens) -> Trigger {
    let marker = |text: &str| match tokens.id(text) {
        Some(id) => once(vec![id], vec![]),
        None => once(vec![], vec![text.to_owned()]),
    };
    match format {
        Format::Hermes => marker(hermes::BEGIN),
        // A brace begins a call only at the answer's beginning, and even there it may be the answer: that is left to the
        // model.
        Format::Llama3 => once(tokens.id(llama3::PYTHON_TAG).into_iter().collect(), vec![]),
        Format::Mistral | Format::MistralArgs => marker(mistral::TOOL_CALLS),
        Format::Harmony => once(vec![], vec![harmony::TRIGGER.to_owned()]),
        Format::DeepSeekV3 | Format::DeepSeekV31 => marker(deepseek::CALLS_BEGIN),
    }
}

/// Behind the calls nothing follows.
fn once(tokens: Vec<u32>, texts: Vec<String>) -> Trigger {
    Trigger { texts, tokens, once: true }
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
        Grammar::Lark { grammar: format!("start: {body}\n{}", self.rules) }
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
        for (tool, schema) in callable(tools) {
            let arguments = format!("arguments_{count}");
            self.rule(&arguments, &format!("%json {schema}"));
            self.rule(&format!("call_{count}"), &call(&tool.name, &arguments));
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
            AnswerForm::Json => self.rule("text", &format!("%json {}", schema::any_object())),
            AnswerForm::JsonSchema(schema) => self.rule("text", &format!("%json {}", schema::of_form(schema.as_str()))),
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

/// The tools that this answer may call, with the schemas of their arguments. Where those are too much for a grammar
/// together, tools that are not strict take any object, from the last one on.
fn callable(tools: &Tools) -> Vec<(&Tool, String)> {
    let chosen = |name: &str| match &tools.choice {
        ToolChoice::Named(only) => only == name,
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => true,
    };
    let tools = tools.callable().iter().filter(|tool| chosen(&tool.name));
    let mut callable: Vec<(&Tool, String)> = tools.map(|tool| (tool, schema::of_arguments(tool))).collect();
    let mut bytes: usize = callable.iter().map(|(_, schema)| schema.len()).sum();
    for (_, schema) in callable.iter_mut().rev().filter(|(tool, _)| !tool.strict) {
        if bytes <= MAX_SCHEMA_BYTES {
            break;
        }
        bytes -= schema.len();
        *schema = schema::any_object();
        bytes += schema.len();
    }
    callable
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
