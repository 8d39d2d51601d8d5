//! Tools for a template that knows none: in words, before the conversation, and in Hermes' format.
//!
//! The system turn gets a preamble with the tools as JSON, one a line; calls become text of the assistant's turns between
//! `<tool_call>` tags, and results a user's turn between `<tool_response>` tags. Turns of one role that come to stand
//! together are joined, since many templates insist that roles take turns.

use super::native::{Native, json, said};
use crate::inference::Role;
use crate::prompt::conversation::{ToolText, Turn};
use minijinja::{Value, context};

const BEFORE: &str = "You may call one or more functions to help with the user's request. These are the functions, each \
                      with a JSON schema of its arguments:\n<tools>\n";
const AFTER: &str = "</tools>\n\nTo call a function, answer with its name and arguments as JSON between tags, and nothing \
                     after it:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <arguments-object>}\n</tool_call>";

/// The messages. Without a system turn in the template (`system` is false) the preamble goes before the user's words.
pub(crate) fn messages(turns: &[Turn], tools: &[ToolText], system: bool) -> Vec<Value> {
    let mut said: Vec<(Role, String)> = Vec::with_capacity(turns.len() + 1);
    if let Some(preamble) = preamble(tools) {
        said.push((if system { Role::System } else { Role::User }, preamble));
    }
    for turn in turns {
        let (role, text) = match turn {
            Turn::Said { role, text } => (*role, text.clone()),
            Turn::Assistant { text, calls, .. } => {
                let call = |name: &str, arguments: &Value| {
                    let call = context! { name, arguments };
                    format!("<tool_call>\n{}\n</tool_call>", json(&call))
                };
                let calls = calls.iter().map(|made| call(&made.name, &made.arguments));
                let parts = Some(text.clone()).filter(|text| !text.is_empty()).into_iter().chain(calls);
                (Role::Assistant, parts.collect::<Vec<_>>().join("\n"))
            }
            Turn::Results(results) => {
                let result = |content: &str| format!("<tool_response>\n{content}\n</tool_response>");
                let results = results.iter().map(|given| result(&given.content));
                (Role::User, results.collect::<Vec<_>>().join("\n"))
            }
        };
        match said.last_mut() {
            Some((last, before)) if *last == role => {
                before.push_str("\n\n");
                before.push_str(&text);
            }
            _ => said.push((role, text)),
        }
    }
    said.iter().map(|(role, text)| self::said(*role, text)).collect()
}

fn preamble(tools: &[ToolText]) -> Option<String> {
    let lines = Native::tools(tools)?.try_iter().ok()?.map(|tool| json(&tool) + "\n");
    Some(format!("{BEFORE}{}{AFTER}", lines.collect::<String>()))
}
