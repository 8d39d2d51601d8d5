//! The model's chat template, with the functions and globals that Hugging Face's `apply_chat_template` gives it.
//!
//! It comes from a model file, so it runs without a file system and within fixed fuel, which bounds its steps and the
//! memory it makes.

use crate::error::{Error, Result};
use cluster_protocol::{ModelCard, TokenKind, TokenizerCard};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};
use regex::Regex;
use serde::Serialize;
use std::fmt;
use time::OffsetDateTime;
use time::format_description::parse_strftime_borrowed;

const NAME: &str = "chat";
/// Steps of one rendering, each 64 bytes made counting as one: about 30,000 messages, at most 128 MB.
const FUEL: u64 = 2_000_000;
/// Longest template, in bytes.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Longest refusal that a caller sees, in characters.
const MAX_REFUSAL_CHARS: usize = 500;
/// For a model file without a template whose vocabulary has ChatML's two tokens.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                      '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% \
                      endif %}";

/// A compiled template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// What a template said with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the model file has no chat template, and its vocabulary is not ChatML's")]
    Missing,
    #[error("the chat template has {0} bytes, more than {MAX_SOURCE_BYTES}")]
    TooLong(usize),
}

impl ChatTemplate {
    /// # Errors
    /// `Internal` when there is none, or it can't be compiled.
    pub(super) fn compile(card: &ModelCard) -> Result<ChatTemplate> {
        let source = match &card.chat_template {
            Some(source) => source.clone(),
            None if has_chatml_tokens(&card.tokenizer) => CHATML.to_owned(),
            None => return Err(Error::internal(Unusable::Missing)),
        };
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Error::internal(Unusable::TooLong(source.len())));
        }
        let mut environment = environment()?;
        environment.add_template_owned(NAME, without_training_blocks(&source)?).map_err(Error::internal)?;
        let token =
            |id: Option<u32>| id.and_then(|id| card.tokenizer.tokens.get(id as usize)).cloned().unwrap_or_default();
        Ok(ChatTemplate { environment, source, bos: token(card.tokenizer.bos), eos: token(card.tokenizer.eos) })
    }

    /// As the model file has it.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Renders up to where the assistant's answer begins. `tools` is a list in OpenAI's form, or none. `unix_seconds` is
    /// what `strftime_now` says, in UTC.
    ///
    /// # Errors
    /// `Invalid` with the template's words when it refuses, or when it runs out of fuel; `Internal` when it is wrong in
    /// itself.
    pub(super) fn render(&self, messages: Vec<Value>, tools: Option<Value>, unix_seconds: u64) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(Error::internal)?;
        let context = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // Templates ask `is not none`, which an undefined name would pass.
            tools => tools.unwrap_or(Value::from(())),
            documents => (),
            strftime_now => Value::from_function(move |format: &str| strftime(unix_seconds, format)),
        };
        template.render(context).map_err(to_error)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source_bytes", &self.source.len()).finish_non_exhaustive()
    }
}

fn has_chatml_tokens(tokenizer: &TokenizerCard) -> bool {
    let special = |wanted: &str| {
        let mut tokens = tokenizer.tokens.iter().zip(&tokenizer.kinds);
        tokens.any(|(text, kind)| text == wanted && *kind == TokenKind::Control)
    };
    special("<|im_start|>") && special("<|im_end|>")
}

fn environment() -> Result<Environment<'static>> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(Error::internal)?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
        Err(error.with_source(Refusal(message)))
    });
    environment.add_filter("tojson", to_json);
    Ok(environment)
}

/// `{% generation %}` marks what a trainer masks; to everybody else it is a block that is always there.
fn without_training_blocks(source: &str) -> Result<String> {
    let begin = Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}").map_err(Error::internal)?;
    let end = Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}").map_err(Error::internal)?;
    let source = begin.replace_all(source, "{%${1} if true ${2}%}");
    Ok(end.replace_all(&source, "{%${1} endif ${2}%}").into_owned())
}

fn strftime(unix_seconds: u64, format: &str) -> Result<String, minijinja::Error> {
    let refuse = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, error);
    let seconds = i64::try_from(unix_seconds).map_err(|error| refuse(error.to_string()))?;
    let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| refuse(error.to_string()))?;
    let items = parse_strftime_borrowed(format).map_err(|error| refuse(error.to_string()))?;
    now.format(&items).map_err(|error| refuse(error.to_string()))
}

/// JSON as Python writes it: not escaped for HTML, `, ` and `: ` between things.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let spaces = vec![b' '; indent.unwrap_or(0).min(16)];
    let mut json = Vec::new();
    let written = match indent {
        Some(_) => {
            let pretty = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, pretty))
        }
        None => return spaced_json(value).map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error)),
    };
    let refuse = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, error);
    written.map_err(|error| refuse(error.to_string()))?;
    String::from_utf8(json).map_err(|error| refuse(error.to_string()))
}

/// JSON in one line, `, ` and `: ` between things.
pub(super) fn spaced_json(value: &Value) -> Result<String, String> {
    let mut json = Vec::new();
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced));
    written.map_err(|error| error.to_string())?;
    String::from_utf8(json).map_err(|error| error.to_string())
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn to_error(error: minijinja::Error) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::invalid("messages", "The conversation is too long for the model's chat template.");
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(Refusal(message)) = inner.downcast_ref::<Refusal>() {
            let message: String = message.chars().take(MAX_REFUSAL_CHARS).collect();
            return Error::invalid(
                "messages",
                format!("The model's chat template refuses the conversation: {message}"),
            );
        }
        cause = inner.source();
    }
    Error::internal(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Role;
    use crate::prompt::tests::card;

    fn render(source: &str, turns: &[(Role, &str)]) -> Result<String> {
        let template = ChatTemplate::compile(&ModelCard { chat_template: Some(source.into()), ..card() })?;
        let messages =
            turns.iter().map(|(role, content)| context! { role => role.as_str(), content => *content }).collect();
        template.render(messages, None, 1_753_920_000)
    }

    fn kind(result: Result<String>) -> (crate::error::ErrorKind, String) {
        let error = result.unwrap_err();
        (error.kind, error.message)
    }

    #[test]
    fn templates_get_what_hugging_face_gives_them() {
        let source = "{%- if tools is not none %}tools{% endif -%}\n{{ bos_token }}{{ strftime_now('%d %b %Y') }}\n{% for \
                      m in messages %}\n    {% if m.role == 'system' %}{% continue %}{% endif %}\n{{ m['content'].strip() \
                      | tojson }}\n{% endfor %}\n{{ messages[1:] | length }}{{ {'a': [1, none]} | tojson }}";
        let text = render(source, &[(Role::System, "x"), (Role::User, " <é'> ")]).unwrap();
        assert_eq!(text, "<|im_start|>31 Jul 2025\n\"<é'>\"\n1{\"a\": [1, null]}");
    }

    #[test]
    fn a_template_that_refuses_says_so_in_its_own_words() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}ok";
        let (error, message) = kind(render(source, &[(Role::System, "x")]));
        assert_eq!(error, crate::error::ErrorKind::Invalid);
        assert!(message.contains("no system role"), "{message}");
        assert_eq!(render(source, &[(Role::User, "x")]).unwrap(), "ok");
    }

    #[test]
    fn a_template_without_end_runs_out_of_fuel() {
        let deep = "{% for a in range(9999) %}{% for b in range(9999) %}{{ messages }}{% endfor %}{% endfor %}";
        let wide =
            "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
        for source in [deep, wide] {
            assert_eq!(kind(render(source, &[])).0, crate::error::ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_broken_template_is_our_fault_and_reads_no_file() {
        let internal = crate::error::ErrorKind::Internal;
        assert_eq!(kind(render("{% if %}", &[])).0, internal);
        assert_eq!(kind(render("{% include '/etc/hostname' %}", &[])).0, internal);
        assert_eq!(kind(render("{{ nothing.at.all }}", &[])).0, internal);
        assert_eq!(kind(render(&" ".repeat(MAX_SOURCE_BYTES + 1), &[])).0, internal);
    }

    #[test]
    fn training_blocks_are_plain_blocks() {
        let source = "{% for m in messages %}a {%- generation -%} {{ m.content }} {%- endgeneration %} b{% endfor %}";
        assert_eq!(render(source, &[(Role::User, "x")]).unwrap(), "ax b");
    }

    #[test]
    fn without_a_template_only_a_chatml_vocabulary_is_used() {
        let chatml = ChatTemplate::compile(&ModelCard { chat_template: None, ..card() }).unwrap();
        let text = chatml.render(vec![context! { role => "user", content => "hi" }], None, 0).unwrap();
        assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
        let mut other = ModelCard { chat_template: None, ..card() };
        other.tokenizer.kinds = vec![TokenKind::Normal; other.tokenizer.tokens.len()];
        assert_eq!(ChatTemplate::compile(&other).unwrap_err().kind, crate::error::ErrorKind::Internal);
    }
}
