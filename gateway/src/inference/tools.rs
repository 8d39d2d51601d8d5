//! Tools: what the model may call, what it called, and what that gave. Free of any dialect.

use super::json::Json;
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Most tools of a request.
pub const MAX_TOOLS: usize = 128;
/// Most bytes of all tools' names, descriptions and schemas together: they are part of every prompt.
pub const MAX_TOOLS_BYTES: usize = 256 << 10;
/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 64;
/// Longest id of a call, in bytes.
pub const MAX_CALL_ID_BYTES: usize = 256;

/// What the model may call, and whether it must.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// At most [`MAX_TOOLS`], their names all different.
    pub list: Vec<Tool>,
    /// Whether it must.
    pub choice: ToolChoice,
    /// At most one call in an answer.
    pub one_call: bool,
}

/// Something that the caller can do on the model's behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// `[a-zA-Z0-9_-]{1,64}`
    pub name: String,
    /// For the model.
    pub description: Option<String>,
    /// JSON schema of the arguments: an object.
    pub parameters: Json,
    /// Whether arguments must fit the schema exactly, so that a schema which can't be enforced is an error.
    pub strict: bool,
}

/// Whether the model must call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It may not.
    None,
    /// It must call one.
    Required,
    /// It must call this one, which is in the list.
    Named(String),
}

/// An assistant's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Ties the result to it.
    pub id: String,
    /// Which tool; it may no longer be in the list.
    pub name: String,
    /// An object.
    pub arguments: Json,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// Of the call.
    pub call_id: String,
    /// Of the call.
    pub name: String,
    /// What the model is told.
    pub content: String,
    /// Whether the call failed.
    pub is_error: bool,
}

impl Tools {
    /// Those that the model may call in this answer.
    pub fn callable(&self) -> &[Tool] {
        match self.choice {
            ToolChoice::None => &[],
            ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_) => &self.list,
        }
    }

    /// Checks the list and the choice. `list` and `choice` are the members that errors name.
    ///
    /// # Errors
    /// `Invalid`
    pub fn check(&self, list: &str, choice: &str) -> Result<()> {
        if self.list.len() > MAX_TOOLS {
            return Err(Error::invalid(list, format!("`{list}` may hold at most {MAX_TOOLS} tools.")));
        }
        let bytes = |tool: &Tool| {
            tool.name.len() + tool.description.as_ref().map_or(0, String::len) + tool.parameters.as_str().len()
        };
        if self.list.iter().map(bytes).sum::<usize>() > MAX_TOOLS_BYTES {
            let text = format!("The tools in `{list}` may have at most {MAX_TOOLS_BYTES} bytes together.");
            return Err(Error::invalid(list, text));
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.list.iter().find(|tool| !names.insert(tool.name.as_str())) {
            return Err(Error::invalid(list, format!("`{list}` holds two tools named `{}`.", twice.name)));
        }
        match &self.choice {
            ToolChoice::Required if self.list.is_empty() => {
                Err(Error::invalid(choice, format!("`{choice}` asks for a call, but `{list}` is empty.")))
            }
            ToolChoice::Named(name) if !names.contains(name.as_str()) => {
                Err(Error::invalid(choice, format!("`{choice}` names a tool that is not in `{list}`.")))
            }
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => Ok(()),
        }
    }
}

/// Checks a tool's name.
///
/// # Errors
/// `Invalid`, naming `param`.
pub fn check_name(param: &str, name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(fits) {
        let text = format!("`{param}` must have 1 to {MAX_NAME_CHARS} characters out of letters, digits, `_` and `-`.");
        return Err(Error::invalid(param, text));
    }
    Ok(())
}

/// Reads a schema of a tool's arguments: an object's. None at all takes any object.
///
/// # Errors
/// `Invalid`, naming `param`.
pub fn parameters(param: &str, schema: Option<&str>) -> Result<Json> {
    let Some(schema) = schema else { return Ok(Json::any_object()) };
    let json = self::schema(param, schema)?;
    let members = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json.as_str());
    match members.map(|members| members.get("type").cloned()) {
        Ok(Some(kind)) if kind == "object" => Ok(json),
        Ok(None) => Ok(json.as_object_schema()),
        Ok(Some(_)) | Err(_) => Err(Error::invalid(param, format!("`{param}` must be a schema of type `object`."))),
    }
}

/// Reads any JSON schema.
///
/// # Errors
/// `Invalid`, naming `param`.
pub fn schema(param: &str, schema: &str) -> Result<Json> {
    match Json::parse(schema) {
        _ if schema.len() > MAX_TOOLS_BYTES => {
            Err(Error::invalid(param, format!("`{param}` may have at most {MAX_TOOLS_BYTES} bytes.")))
        }
        Ok(json) if json.is_object() => Ok(json),
        Ok(_) => Err(Error::invalid(param, format!("`{param}` must be a JSON object."))),
        Err(error) => Err(Error::invalid(param, format!("`{param}`: {error}."))),
    }
}

/// Ties results to calls while a conversation is read from its beginning.
#[derive(Debug, Default)]
pub struct CallBook {
    /// Names of the calls by their ids, since the last turn that was no result.
    open: HashMap<String, String>,
    answered: HashSet<String>,
}

impl CallBook {
    /// An assistant's call.
    ///
    /// # Errors
    /// `Invalid`, naming `param`, the call's id: empty, too long, or taken by another call of this turn.
    pub fn call(&mut self, param: &str, call: &ToolCall) -> Result<()> {
        if call.id.is_empty() || call.id.len() > MAX_CALL_ID_BYTES {
            return Err(Error::invalid(param, format!("`{param}` must have 1 to {MAX_CALL_ID_BYTES} bytes.")));
        }
        match self.open.insert(call.id.clone(), call.name.clone()) {
            Some(_) => Err(Error::invalid(param, format!("`{param}` is the id of two calls."))),
            None => Ok(()),
        }
    }

    /// The name of the call that a result answers.
    ///
    /// # Errors
    /// `Invalid`, naming `param`, the result's call id: no call has it, or it is answered already.
    pub fn result(&mut self, param: &str, call_id: &str) -> Result<String> {
        let Some(name) = self.open.get(call_id) else {
            let text = format!("`{param}` must be the id of a call in the assistant's turn before it.");
            return Err(Error::invalid(param, text));
        };
        if !self.answered.insert(call_id.to_owned()) {
            return Err(Error::invalid(param, format!("`{param}`: this call has a result already.")));
        }
        Ok(name.clone())
    }

    /// Another turn than results begins. Every call must have its result by now.
    ///
    /// # Errors
    /// `Invalid`, naming `param`, the turn.
    pub fn turn(&mut self, param: &str) -> Result<()> {
        let missing = self.open.keys().find(|id| !self.answered.contains(*id));
        if let Some(id) = missing {
            let text = format!("`{param}`: the call `{id}` of the turn before has no result.");
            return Err(Error::invalid(param, text));
        }
        self.open.clear();
        self.answered.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        Tool { name: name.into(), description: None, parameters: Json::empty_object(), strict: false }
    }

    fn refused(tools: Tools) -> Option<String> {
        tools.check("tools", "tool_choice").err()?.param
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "get_weather-2", &"x".repeat(64)] {
            assert!(check_name("n", name).is_ok(), "{name}");
        }
        for name in ["", "a b", "é", "a.b", "<|im_end|>", &"x".repeat(65)] {
            assert_eq!(check_name("n", name).unwrap_err().param.as_deref(), Some("n"), "{name}");
        }
    }

    #[test]
    fn tools_are_bounded_in_number_and_bytes_and_differ_in_name() {
        let many = |count: usize| (0..count).map(|at| tool(&format!("t{at}"))).collect::<Vec<_>>();
        assert_eq!(refused(Tools { list: many(MAX_TOOLS), ..Tools::default() }), None);
        assert_eq!(refused(Tools { list: many(MAX_TOOLS + 1), ..Tools::default() }).as_deref(), Some("tools"));
        let long = Tool { description: Some("x".repeat(MAX_TOOLS_BYTES)), ..tool("a") };
        assert_eq!(refused(Tools { list: vec![long], ..Tools::default() }).as_deref(), Some("tools"));
        let twice = vec![tool("a"), tool("b"), tool("a")];
        assert_eq!(refused(Tools { list: twice, ..Tools::default() }).as_deref(), Some("tools"));
    }

    #[test]
    fn a_forced_call_needs_its_tool() {
        for choice in [ToolChoice::Required, ToolChoice::Named("a".into())] {
            let tools = Tools { choice, ..Tools::default() };
            assert_eq!(refused(tools.clone()).as_deref(), Some("tool_choice"));
            assert_eq!(refused(Tools { list: vec![tool("a")], ..tools }), None);
        }
        assert!(Tools { list: vec![tool("a")], choice: ToolChoice::None, one_call: false }.callable().is_empty());
    }

    #[test]
    fn each_call_has_one_result_before_anything_else_is_said() {
        let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: Json::empty_object() };
        let mut book = CallBook::default();
        assert!(book.result("r", "a").is_err(), "nothing was called");
        book.call("c", &call("a")).unwrap();
        book.call("c", &call("b")).unwrap();
        assert!(book.call("c", &call("a")).is_err(), "an id of two calls");
        assert!(book.call("c", &call("")).is_err());
        assert_eq!(book.result("r", "a").unwrap(), "f");
        assert!(book.result("r", "a").is_err(), "answered twice");
        assert_eq!(book.turn("m").unwrap_err().param.as_deref(), Some("m"), "b has no result");
        book.result("r", "b").unwrap();
        book.turn("m").unwrap();
        assert!(book.result("r", "a").is_err(), "of an earlier turn");
        book.call("c", &call("a")).unwrap();
    }
}
