//! A request's conversation and tools, marked by the guard, as the values that templates take.

use super::guard::Guard;
use crate::error::{Error, Result};
use crate::inference::{Content, Json, Message, Request, Role, Tool};
use minijinja::Value;
use minijinja::value::ValueKind;
use std::borrow::Cow;

/// Words of JSON schemas that templates look for. They are no caller's choice, so they are never marked.
const SCHEMA_WORDS: [&str; 24] = [
    "type",
    "properties",
    "required",
    "items",
    "description",
    "enum",
    "object",
    "string",
    "number",
    "integer",
    "boolean",
    "array",
    "null",
    "anyOf",
    "oneOf",
    "allOf",
    "const",
    "default",
    "format",
    "title",
    "nullable",
    "additionalProperties",
    "$ref",
    "$defs",
];

/// A turn whose texts are safe in any template.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    Said { role: Role, text: String },
    Assistant { text: String, reasoning: String, calls: Vec<Call> },
    Results(Vec<ResultOf>),
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: Value,
}

#[derive(Debug, Clone)]
pub(super) struct ResultOf {
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) content: String,
}

/// A conversation ready for a template.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Vec<ToolText>,
    /// What the guard put in; [`Guard::split`] takes it out.
    pub(super) mark: char,
}

#[derive(Debug)]
pub(super) struct ToolText {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) parameters: Value,
}

impl Conversation {
    /// # Errors
    /// `Invalid` for a conversation that leaves no mark free.
    pub(super) fn of(request: &Request, guard: &Guard) -> Result<Conversation> {
        let tools = request.tools.callable().iter().map(|tool| Ok((tool, value(&tool.parameters)?)));
        let tools: Vec<(&Tool, Value)> = tools.collect::<Result<_>>()?;
        let mut arguments = Vec::new();
        for content in request.messages.iter().flat_map(|message| &message.content) {
            if let Content::ToolCall(call) = content {
                arguments.push(value(&call.arguments)?);
            }
        }
        let mark = free_mark(request, &tools, &arguments, guard)?;
        let marking = Marking { guard, mark };
        let mut arguments = arguments.into_iter();
        Ok(Conversation {
            turns: request.messages.iter().map(|message| marking.turn(message, &mut arguments)).collect(),
            tools: tools.into_iter().map(|(tool, parameters)| marking.tool(tool, &parameters)).collect(),
            mark,
        })
    }
}

/// Names, keys, strings: everything that a caller may have chosen.
fn free_mark(request: &Request, tools: &[(&Tool, Value)], arguments: &[Value], guard: &Guard) -> Result<char> {
    let mut texts: Vec<Cow<'_, str>> = Vec::new();
    for content in request.messages.iter().flat_map(|message| &message.content) {
        match content {
            Content::Text(text) | Content::Reasoning(text) => texts.push(text.into()),
            Content::ToolCall(call) => texts.extend([(&call.id).into(), (&call.name).into()]),
            Content::ToolResult(result) => texts.push((&result.content).into()),
        }
    }
    for (tool, parameters) in tools {
        texts.extend(tool.description.as_deref().map(Cow::from));
        strings(parameters, &mut texts);
    }
    arguments.iter().for_each(|arguments| strings(arguments, &mut texts));
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    guard.free_mark(&texts).ok_or_else(|| {
        Error::invalid("messages", "The conversation uses every one of Unicode's non-characters U+FDD0 to U+FDEF.")
    })
}

fn strings(value: &Value, out: &mut Vec<Cow<'_, str>>) {
    match value.kind() {
        ValueKind::String => out.extend(value.as_str().map(|text| Cow::from(text.to_owned()))),
        ValueKind::Seq => value.try_iter().into_iter().flatten().for_each(|item| strings(&item, out)),
        ValueKind::Map => value.try_iter().into_iter().flatten().for_each(|key| {
            strings(&key, out);
            strings(&value.get_item(&key).unwrap_or_default(), out);
        }),
        _ => {}
    }
}

pub(super) fn value(json: &Json) -> Result<Value> {
    serde_json::from_str(json.as_str()).map_err(Error::internal)
}

struct Marking<'a> {
    guard: &'a Guard,
    mark: char,
}

impl Marking<'_> {
    fn text(&self, role: Role, text: &str) -> String {
        self.guard.mark(role, text, self.mark)
    }

    fn json(&self, value: &Value) -> Value {
        match value.kind() {
            ValueKind::String => match value.as_str() {
                Some(text) if !SCHEMA_WORDS.contains(&text) => Value::from(self.text(Role::Tool, text)),
                Some(_) | None => value.clone(),
            },
            ValueKind::Seq => value.try_iter().into_iter().flatten().map(|item| self.json(&item)).collect(),
            ValueKind::Map => {
                let keys = value.try_iter().into_iter().flatten();
                let member = |key: Value| (self.json(&key), self.json(&value.get_item(&key).unwrap_or_default()));
                Value::from_pairs(keys.map(member))
            }
            _ => value.clone(),
        }
    }

    fn tool(&self, tool: &Tool, parameters: &Value) -> ToolText {
        ToolText {
            name: self.text(Role::Tool, &tool.name),
            description: self.text(Role::Tool, tool.description.as_deref().unwrap_or_default()),
            parameters: self.json(parameters),
        }
    }

    /// `arguments`: of all calls that are still to come, in order.
    fn turn(&self, message: &Message, arguments: &mut impl Iterator<Item = Value>) -> Turn {
        let (mut said, mut thought, mut calls, mut results) = (vec![], vec![], vec![], vec![]);
        for content in &message.content {
            match content {
                Content::Text(text) => said.push(text.as_str()),
                Content::Reasoning(text) => thought.push(text.as_str()),
                Content::ToolCall(call) => calls.push(Call {
                    id: call.id.clone(),
                    name: self.text(Role::Tool, &call.name),
                    arguments: self.json(&arguments.next().unwrap_or_default()),
                }),
                Content::ToolResult(result) => {
                    let failed = if result.is_error { "Error: " } else { "" };
                    results.push(ResultOf {
                        call_id: result.call_id.clone(),
                        name: self.text(Role::Tool, &result.name),
                        content: self.text(Role::Tool, &format!("{failed}{}", result.content)),
                    });
                }
            }
        }
        let text = self.text(message.role, &said.join("\n"));
        match message.role {
            Role::Tool => Turn::Results(results),
            Role::Assistant => Turn::Assistant { text, reasoning: self.text(Role::Tool, &thought.join("\n")), calls },
            role @ (Role::System | Role::User) => Turn::Said { role, text },
        }
    }
}
