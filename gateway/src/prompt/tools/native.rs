//! Tools in the form that Hugging Face's `apply_chat_template` gives templates: OpenAI's.

use crate::inference::Role;
use crate::prompt::conversation::{Call, ResultOf, ToolText, Turn};
use minijinja::{Value, context};

/// How a template wants what the form leaves open; found out by [`super::support`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Native {
    /// Arguments as a string of JSON rather than an object.
    pub(super) quoted: bool,
    /// An empty text rather than none where an assistant only called.
    pub(super) blank: bool,
    /// One call in a turn at most; several become turns of their own, each with its result.
    pub(super) one_call: bool,
    /// Ids of nine letters and digits.
    pub(super) short_ids: bool,
}

impl Native {
    pub(crate) fn tools(tools: &[ToolText]) -> Option<Value> {
        let function = |tool: &ToolText| {
            context! { name => tool.name.as_str(), description => tool.description.as_str(), parameters => tool.parameters.clone() }
        };
        let tool = |tool| context! { type => "function", function => function(tool) };
        (!tools.is_empty()).then(|| tools.iter().map(tool).collect())
    }

    pub(crate) fn messages(self, turns: &[Turn]) -> Vec<Value> {
        let mut messages = Vec::with_capacity(turns.len());
        for (at, turn) in turns.iter().enumerate() {
            match turn {
                Turn::Said { role, text } => messages.push(said(*role, text)),
                Turn::Assistant { text, reasoning, calls } if calls.is_empty() => {
                    messages.push(self.assistant(text, reasoning, &[]));
                }
                Turn::Assistant { text, reasoning, calls } if self.one_call && calls.len() > 1 => {
                    let results: &[ResultOf] = match turns.get(at + 1) {
                        Some(Turn::Results(results)) => results,
                        _ => &[],
                    };
                    for (at, call) in calls.iter().enumerate() {
                        let (text, reasoning) = if at == 0 { (text.as_str(), reasoning.as_str()) } else { ("", "") };
                        messages.push(self.assistant(text, reasoning, std::slice::from_ref(call)));
                        let result = results.iter().find(|result| result.call_id == call.id);
                        messages.extend(result.map(|result| self.result(result)));
                    }
                }
                Turn::Assistant { text, reasoning, calls } => messages.push(self.assistant(text, reasoning, calls)),
                Turn::Results(results) => {
                    let calls_before = match at.checked_sub(1).map(|before| &turns[before]) {
                        Some(Turn::Assistant { calls, .. }) => calls.len(),
                        _ => 0,
                    };
                    // Else they stand behind their calls already.
                    if !self.one_call || calls_before < 2 {
                        messages.extend(results.iter().map(|result| self.result(result)));
                    }
                }
            }
        }
        messages
    }

    fn assistant(self, text: &str, reasoning: &str, calls: &[Call]) -> Value {
        let only_calls = text.is_empty() && !calls.is_empty();
        let content = if only_calls && !self.blank { Value::from(()) } else { Value::from(text) };
        let mut members = vec![("role", Value::from("assistant")), ("content", content)];
        if !reasoning.is_empty() {
            members.push(("reasoning_content", Value::from(reasoning)));
            if text.is_empty() {
                // gpt-oss' name for it; its template takes one of the two.
                members.push(("thinking", Value::from(reasoning)));
            }
        }
        if !calls.is_empty() {
            members.push(("tool_calls", calls.iter().map(|call| self.call(call)).collect()));
        }
        Value::from_pairs(members)
    }

    fn call(self, call: &Call) -> Value {
        let arguments = if self.quoted { Value::from(json(&call.arguments)) } else { call.arguments.clone() };
        let function = context! { name => call.name.as_str(), arguments };
        context! { id => self.id(&call.id), type => "function", function }
    }

    fn result(self, result: &ResultOf) -> Value {
        let id = self.id(&result.call_id);
        context! { role => "tool", name => result.name.as_str(), tool_call_id => id, content => result.content.as_str() }
    }

    /// Callers' ids are of any length and text; what stands for one is neither.
    fn id(self, id: &str) -> String {
        let digest = blake3::hash(id.as_bytes()).to_hex();
        if self.short_ids { digest[..9].to_owned() } else { format!("call_{}", &digest[..24]) }
    }
}

pub(super) fn said(role: Role, text: &str) -> Value {
    context! { role => role.as_str(), content => text }
}

/// As Python writes it, which models have read.
pub(super) fn json(value: &Value) -> String {
    crate::prompt::template::spaced_json(value).unwrap_or_default()
}
