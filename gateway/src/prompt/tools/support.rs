//! Whether a template renders tools, and how it wants them: it is tried out when the model's card comes.

use super::Format;
use super::native::{Native, said};
use crate::inference::Role;
use crate::prompt::conversation::{Call, ResultOf, ToolText, Turn};
use crate::prompt::template::ChatTemplate;
use cluster_protocol::TokenizerCard;
use minijinja::{Value, context};

/// Words that no template has.
const TOOL: &str = "caprock_probe_tool";
const ARGUMENT: &str = "caprock_probe_argument";
const RESULT: &str = "caprock probe result";
/// What JSON and a printed map escape differently.
const VALUE: &str = "caprock\u{1}probe";
const JSON_VALUE: &str = "\"caprock\\u0001probe\"";

/// How a model is told of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// By its own template.
    Native(Format, Native),
    /// In words. Whether the template has a system turn to put them in.
    Fallback { system: bool },
}

impl Support {
    pub(crate) fn probe(template: &ChatTemplate, tokenizer: &TokenizerCard) -> Support {
        let source = template.source();
        let native = Format::detect(source, tokenizer).and_then(|format| {
            let base = Native {
                quoted: false,
                blank: false,
                one_call: matches!(format, Format::Llama3 | Format::Harmony),
                short_ids: matches!(format, Format::Mistral | Format::MistralArgs),
            };
            let forms = [(false, false), (false, true), (true, false), (true, true)];
            let forms = forms.map(|(quoted, blank)| Native { quoted, blank, ..base });
            let fits = forms.into_iter().find(|native| renders(template, *native));
            // Its answers are on channels, whatever it makes of tools.
            fits.or((format == Format::Harmony).then_some(base)).map(|native| (format, native))
        });
        match native {
            Some((format, native)) => Support::Native(format, native),
            None => Support::Fallback { system: has_system(template) },
        }
    }

    /// How the model writes its calls.
    pub(crate) fn format(self) -> Format {
        match self {
            Support::Native(format, _) => format,
            Support::Fallback { .. } => Format::Hermes,
        }
    }
}

/// Whether tools, a call with its arguments and a result are all in what the template makes of them.
fn renders(template: &ChatTemplate, native: Native) -> bool {
    let schema = context! { type => "string", description => "d" };
    let properties = Value::from_pairs([(ARGUMENT, schema)]);
    let parameters = context! { type => "object", properties, required => [ARGUMENT] };
    let tool = ToolText { name: TOOL.into(), description: "d".into(), parameters };
    let user = |text: &str| Turn::Said { role: Role::User, text: text.into() };
    let offered = template.render(native.messages(&[user("u")]), Native::tools(std::slice::from_ref(&tool)), 0);
    if !offered.is_ok_and(|text| text.contains(TOOL) && text.contains(ARGUMENT)) {
        return false;
    }
    let arguments = Value::from_pairs([(ARGUMENT, VALUE)]);
    let call = Call { id: "1".into(), name: TOOL.into(), arguments };
    let result = ResultOf { call_id: "1".into(), name: TOOL.into(), content: RESULT.into() };
    let turns = [
        user("u"),
        Turn::Assistant { text: String::new(), reasoning: String::new(), calls: vec![call] },
        Turn::Results(vec![result]),
    ];
    let told = template.render(native.messages(&turns), None, 0);
    told.is_ok_and(|text| text.contains(TOOL) && text.contains(JSON_VALUE) && text.contains(RESULT))
}

fn has_system(template: &ChatTemplate) -> bool {
    let messages = vec![said(Role::System, TOOL), said(Role::User, "u")];
    template.render(messages, None, 0).is_ok_and(|text| text.contains(TOOL))
}
