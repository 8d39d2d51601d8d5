//! Tools, their calls and results, and the form of an answer, from OpenAI's JSON. Pure.

use super::wire::{CallMade, ResponseFormat, ToolDefinition};
use crate::error::{Error, Result};
use crate::inference::tools::{self, CallBook};
use crate::inference::{AnswerForm, Json, Tool, ToolCall, ToolChoice, ToolResult, Tools};
use serde_json::Value;

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn tools(
    list: Option<Vec<ToolDefinition>>,
    choice: Option<&Value>,
    parallel: Option<bool>,
) -> Result<Tools> {
    let list = list.unwrap_or_default().into_iter().enumerate();
    let list = list.map(|(at, definition)| tool(at, definition)).collect::<Result<Vec<Tool>>>()?;
    let tools = Tools { list, choice: self::choice(choice)?, one_call: parallel == Some(false) };
    tools.check("tools", "tool_choice")?;
    Ok(tools)
}

fn tool(at: usize, definition: ToolDefinition) -> Result<Tool> {
    let param = format!("tools[{at}]");
    if definition.kind != "function" {
        let text = format!("`{param}`: tools of type `{}` are not supported here; use `function`.", definition.kind);
        return Err(Error::invalid(format!("{param}.type"), text));
    }
    let param = format!("{param}.function");
    let Some(function) = definition.function else {
        return Err(Error::invalid(&*param, format!("`{param}` is missing.")));
    };
    tools::check_name(&format!("{param}.name"), &function.name)?;
    let schema = function.parameters.as_ref().map(|schema| schema.get());
    Ok(Tool {
        parameters: tools::parameters(&format!("{param}.parameters"), schema)?,
        name: function.name,
        description: function.description,
        strict: function.strict == Some(true),
    })
}

fn choice(choice: Option<&Value>) -> Result<ToolChoice> {
    const NAME: &str = "tool_choice";
    match choice {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(Error::invalid(NAME, format!("`{NAME}` must be none, auto, required or a function."))),
        },
        Some(choice) => match (choice["type"].as_str(), choice["function"]["name"].as_str()) {
            (Some("function"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
            (Some("function"), None) => {
                Err(Error::invalid(format!("{NAME}.function.name"), format!("`{NAME}.function.name` is missing.")))
            }
            _ => Err(Error::invalid(NAME, format!("This value of `{NAME}` is not supported here."))),
        },
    }
}

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn answer_form(format: Option<ResponseFormat>) -> Result<AnswerForm> {
    const NAME: &str = "response_format";
    let Some(format) = format else { return Ok(AnswerForm::Text) };
    match (format.kind.as_str(), format.json_schema) {
        ("text", _) => Ok(AnswerForm::Text),
        ("json_object", _) => Ok(AnswerForm::Json),
        ("json_schema", Some(schema)) => {
            tools::check_name(&format!("{NAME}.json_schema.name"), &schema.name)?;
            let param = format!("{NAME}.json_schema.schema");
            match schema.schema {
                Some(schema) => Ok(AnswerForm::JsonSchema(tools::schema(&param, schema.get())?)),
                None => Ok(AnswerForm::Json),
            }
        }
        ("json_schema", None) => {
            let param = format!("{NAME}.json_schema");
            Err(Error::invalid(&*param, format!("`{param}` is missing.")))
        }
        (other, _) => {
            let text = format!("`{NAME}`: type `{other}` is not supported; use text, json_object or json_schema.");
            Err(Error::invalid(format!("{NAME}.type"), text))
        }
    }
}

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn call(at: usize, index: usize, made: CallMade, book: &mut CallBook) -> Result<ToolCall> {
    let param = format!("messages[{at}].tool_calls[{index}]");
    if made.kind != "function" {
        let text = format!("`{param}`: calls of type `{}` are not supported here; use `function`.", made.kind);
        return Err(Error::invalid(format!("{param}.type"), text));
    }
    tools::check_name(&format!("{param}.function.name"), &made.function.name)?;
    let arguments = match made.function.arguments.trim() {
        // What some libraries make of a call without arguments.
        "" => Json::empty_object(),
        text => Json::parse(text).ok().filter(Json::is_object).ok_or_else(|| {
            let param = format!("{param}.function.arguments");
            Error::invalid(&*param, format!("`{param}` must be the JSON of an object, as text."))
        })?,
    };
    let call = ToolCall { id: made.id, name: made.function.name, arguments };
    book.call(&format!("{param}.id"), &call)?;
    Ok(call)
}

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn result(at: usize, call_id: Option<String>, content: String, book: &mut CallBook) -> Result<ToolResult> {
    let param = format!("messages[{at}].tool_call_id");
    let Some(call_id) = call_id else {
        return Err(Error::invalid(&*param, format!("`{param}` is missing.")));
    };
    let name = book.result(&param, &call_id)?;
    Ok(ToolResult { call_id, name, content, is_error: false })
}
