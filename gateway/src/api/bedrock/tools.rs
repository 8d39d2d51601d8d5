//! Tools, their calls and results, and the form of an answer, from Converse's JSON. Pure.

use super::translate::only_member;
use super::wire::{NamedTool, ReasoningSent, TextFormat, ToolConfig, ToolResultSent, ToolSpec, ToolUseSent, Union};
use crate::api::json;
use crate::error::{Error, Result};
use crate::inference::tools::{self, CallBook};
use crate::inference::{AnswerForm, Json, Tool, ToolCall, ToolChoice, ToolResult, Tools};
use serde_json::value::RawValue;

/// Longest id of a call, in characters.
const MAX_ID_CHARS: usize = 64;

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn tools(config: ToolConfig) -> Result<Tools> {
    const LIST: &str = "toolConfig.tools";
    if config.tools.is_empty() {
        return Err(Error::invalid(LIST, format!("`{LIST}` must hold at least one tool.")));
    }
    let list = config.tools.into_iter().enumerate();
    let list = list.map(|(at, tool)| self::tool(&format!("{LIST}[{at}]"), tool)).collect::<Result<Vec<Tool>>>()?;
    let choice = config.tool_choice.map(choice).transpose()?.unwrap_or_default();
    let tools = Tools { list, choice, one_call: false };
    tools.check(LIST, "toolConfig.toolChoice")?;
    Ok(tools)
}

fn tool(param: &str, tool: Union) -> Result<Tool> {
    let (kind, value) = only_member(param, tool)?;
    let param = format!("{param}.{kind}");
    if kind != "toolSpec" {
        let text = format!("`{param}`: tools of kind `{kind}` are not supported here; use `toolSpec`.");
        return Err(Error::invalid(param, text));
    }
    let spec: ToolSpec = json::member(&param, &value)?;
    tools::check_name(&format!("{param}.name"), &spec.name)?;
    let schema = spec.input_schema.json.as_ref().map(|schema| schema.get());
    Ok(Tool {
        parameters: tools::parameters(&format!("{param}.inputSchema.json"), schema)?,
        name: spec.name,
        description: spec.description,
        strict: spec.strict == Some(true),
    })
}

fn choice(choice: Union) -> Result<ToolChoice> {
    const NAME: &str = "toolConfig.toolChoice";
    let (kind, value) = only_member(NAME, choice)?;
    match kind.as_str() {
        "auto" => Ok(ToolChoice::Auto),
        "any" => Ok(ToolChoice::Required),
        "tool" => Ok(ToolChoice::Named(json::member::<NamedTool>(&format!("{NAME}.tool"), &value)?.name)),
        _ => Err(Error::invalid(NAME, format!("`{NAME}` must be one of auto, any and tool."))),
    }
}

/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn answer_form(format: Option<TextFormat>) -> Result<AnswerForm> {
    const NAME: &str = "outputConfig.textFormat";
    let Some(format) = format else { return Ok(AnswerForm::Text) };
    if format.kind != "json_schema" {
        let text = format!("`{NAME}`: type `{}` is not supported; use json_schema.", format.kind);
        return Err(Error::invalid(format!("{NAME}.type"), text));
    }
    let param = format!("{NAME}.structure.jsonSchema");
    match format.structure.and_then(|structure| structure.json_schema) {
        Some(schema) => Ok(AnswerForm::JsonSchema(tools::schema(&format!("{param}.schema"), &schema.schema)?)),
        None => Err(Error::invalid(&*param, format!("`{param}` is missing."))),
    }
}

/// A `toolUse` block.
///
/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn call(param: &str, value: &RawValue, book: &mut CallBook) -> Result<ToolCall> {
    let param = format!("{param}.toolUse");
    let sent: ToolUseSent = json::member(&param, value)?;
    let id = format!("{param}.toolUseId");
    check_id(&id, &sent.tool_use_id)?;
    tools::check_name(&format!("{param}.name"), &sent.name)?;
    let arguments = Json::parse(sent.input.get()).ok().filter(Json::is_object).ok_or_else(|| {
        let param = format!("{param}.input");
        Error::invalid(&*param, format!("`{param}` must be an object."))
    })?;
    let call = ToolCall { id: sent.tool_use_id, name: sent.name, arguments };
    book.call(&id, &call)?;
    Ok(call)
}

/// A `toolResult` block. Its parts are joined by line feeds, JSON as it came.
///
/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn result(param: &str, value: &RawValue, book: &mut CallBook) -> Result<ToolResult> {
    let param = format!("{param}.toolResult");
    let sent: ToolResultSent = json::member(&param, value)?;
    let name = book.result(&format!("{param}.toolUseId"), &sent.tool_use_id)?;
    let is_error = match sent.status.as_deref() {
        None | Some("success") => false,
        Some("error") => true,
        Some(_) => {
            let param = format!("{param}.status");
            return Err(Error::invalid(&*param, format!("`{param}` must be success or error.")));
        }
    };
    let parts = sent.content.into_iter().enumerate();
    let parts = parts.map(|(at, block)| part(&format!("{param}.content[{at}]"), block)).collect::<Result<Vec<_>>>()?;
    Ok(ToolResult { call_id: sent.tool_use_id, name, content: parts.join("\n"), is_error })
}

fn part(param: &str, block: Union) -> Result<String> {
    let (kind, value) = only_member(param, block)?;
    let param = format!("{param}.{kind}");
    match kind.as_str() {
        "text" => json::member(&param, &value),
        "json" => match Json::parse(value.get()) {
            Ok(json) => Ok(json.as_str().to_owned()),
            Err(error) => Err(Error::invalid(&*param, format!("`{param}`: {error}."))),
        },
        _ => {
            let text = format!("`{param}`: results of kind `{kind}` are not supported here; use `text` or `json`.");
            Err(Error::invalid(param, text))
        }
    }
}

/// A `reasoningContent` block.
///
/// # Errors
/// `Invalid`, naming the member at fault.
pub(super) fn reasoning(param: &str, value: &RawValue) -> Result<String> {
    let param = format!("{param}.reasoningContent");
    match json::member::<ReasoningSent>(&param, value)?.reasoning_text {
        Some(reasoning) => Ok(reasoning.text),
        None => {
            let param = format!("{param}.reasoningText");
            Err(Error::invalid(&*param, format!("`{param}` is missing; no other form is supported here.")))
        }
    }
}

fn check_id(param: &str, id: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if id.is_empty() || id.len() > MAX_ID_CHARS || !id.chars().all(fits) {
        let text = format!(
            "`{param}` must have 1 to {MAX_ID_CHARS} characters out of letters, digits, `_`, `.`, `:` and `-`."
        );
        return Err(Error::invalid(param, text));
    }
    Ok(())
}
