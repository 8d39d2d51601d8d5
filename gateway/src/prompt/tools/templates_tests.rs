//! Templates of each format's kind, written for these tests: found out, rendered, and what their answers must fit.

use super::*;
use crate::inference::{
    AnswerForm, Content, Json, Message, Request, Role, Tool, ToolCall, ToolChoice, ToolResult, Tools,
};
use crate::prompt::Step;
use crate::prompt::{ModelText, Rendered, tests};
use cluster_protocol::{Grammar, ModelCard, TokenKind};

const QWEN: &str = "{%- if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools> call \
    with <tool_call></tool_call><|im_end|>\n{% endif %}{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n\
    <tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% \
    for call in m.tool_calls or [] %}{% set f = call.function %}\n<tool_call>\n{\"name\": \"{{ f.name }}\", \"arguments\": {% if \
    f.arguments is string %}{{ f.arguments }}{% else %}{{ f.arguments | tojson }}{% endif %}}\n</tool_call>{% endfor \
    %}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n";
const LLAMA: &str = "{% for m in messages %}{% if m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>\n\n{{ m.content | \
    tojson }}{% elif 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('single tool-calls at once!') \
    }}{% endif %}<|start_header_id|>assistant<|end_header_id|>\n\n{% set f = m.tool_calls[0].function %}{\"name\": \"{{ f.name \
    }}\", \"parameters\": {{ f.arguments | tojson }}}{% else %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{% if tools is \
    not none and loop.first %}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{% endif %}{{ m.content }}{% endif \
    %}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n";
const MISTRAL: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{% if tools is not none and loop.last \
    %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls is \
    defined %}[TOOL_CALLS][{% for call in m.tool_calls %}{% if call.id | length != 9 %}{{ raise_exception('ids of 9!') }}{% endif \
    %}{\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}, \"id\": \"{{ call.id }}\"}{% \
    endfor %}]{% elif m.role == 'tool' %}[TOOL_RESULTS]{\"content\": {{ m.content }}, \"call_id\": \"{{ m.tool_call_id \
    }}\"}[/TOOL_RESULTS]{% else %}{{ m.content }}{% endif %}{% endfor %}";
const HARMONY: &str = "{% if tools %}<|start|>developer<|message|>{% for tool in tools %}// {{ tool.function.description }}\ntype \
    {{ tool.function.name }} = {% for key, value in tool.function.parameters.properties.items() %}{{ key }}: {{ value.type }}{% \
    endfor %}{% endfor %}<|end|>{% endif %}{% for m in messages %}{% if m.role == 'tool' %}<|start|>functions.{{ m.name }} \
    to=assistant<|channel|>commentary<|message|>{{ m.content | tojson }}<|end|>{% elif m.tool_calls %}<|start|>assistant \
    to=functions.{{ m.tool_calls[0].function.name }}<|channel|>commentary json<|message|>{{ m.tool_calls[0].function.arguments | \
    tojson }}<|call|>{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}<|start|>assistant";
const DEEPSEEK: &str = "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% if tools and loop.last %}\n{% for \
    tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}{% elif m.role == 'assistant' and m.tool_calls \
    %}<｜Assistant｜><｜tool▁calls▁begin｜>{% for call in m.tool_calls %}{{ '<｜tool▁call▁begin｜>' + call.type + \
    '<｜tool▁sep｜>' + call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```<｜tool▁call▁end｜>' }}{% \
    endfor %}<｜tool▁calls▁end｜>{% elif m.role == 'tool' %}<｜tool▁output▁begin｜>{{ m.content \
    }}<｜tool▁output▁end｜>{% else %}{{ m.content }}{% endif %}{% endfor %}<｜Assistant｜><think>\n";
/// No system turn, and roles must take turns.
const STERN: &str = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages \
    %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif \
    %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>model\n";

fn card(template: &str, special: &[&str]) -> ModelCard {
    let mut card = tests::card();
    for text in special {
        card.tokenizer.tokens.push((*text).into());
        card.tokenizer.kinds.push(TokenKind::Control);
    }
    card.chat_template = Some(template.into());
    card
}

fn models() -> [(&'static str, ModelCard, Option<Format>); 6] {
    let llama = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"];
    let mistral = [
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[INST]",
        "[/INST]",
    ];
    let deepseek = [
        &deepseek::MARKERS[..],
        &["<｜User｜>", "<｜Assistant｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"],
    ]
    .concat();
    [
        ("qwen", card(QWEN, &[]), Some(Format::Hermes)),
        ("llama", card(LLAMA, &llama), Some(Format::Llama3)),
        ("mistral", card(MISTRAL, &mistral), Some(Format::Mistral)),
        ("harmony", card(HARMONY, &harmony::MARKERS), Some(Format::Harmony)),
        ("deepseek", card(DEEPSEEK, &deepseek), Some(Format::DeepSeekV3)),
        ("stern", card(STERN, &[]), None),
    ]
}

fn tool(name: &str, description: &str) -> Tool {
    let schema =
        r#"{"type":"object","properties":{"city":{"type":"string"},"at":{"type":"integer"}},"required":["city"]}"#;
    let parameters = Json::parse(schema).unwrap();
    Tool { name: name.into(), description: Some(description.into()), parameters, strict: false }
}

/// A question, two calls, their results, and another question.
fn round_trip(text: &str) -> Request {
    let call = |id: &str, city: &str| {
        let arguments = serde_json::json!({ "city": city }).to_string();
        Content::ToolCall(ToolCall {
            id: id.into(),
            name: "get_weather".into(),
            arguments: Json::parse(&arguments).unwrap(),
        })
    };
    let result = |id: &str, content: &str| {
        let (name, content) = ("get_weather".into(), content.into());
        Content::ToolResult(ToolResult { call_id: id.into(), name, content, is_error: false })
    };
    let messages = vec![
        Message { role: Role::User, content: vec![Content::Text(format!("Weather? {text}"))] },
        Message { role: Role::Assistant, content: vec![call("a", &format!("Oslo{text}")), call("b", "Rome")] },
        Message { role: Role::Tool, content: vec![result("a", &format!("Rain{text}")), result("b", "Sun")] },
        Message { role: Role::User, content: vec![Content::Text("So?".into())] },
    ];
    let tools = Tools { list: vec![tool("get_weather", &format!("The weather.{text}"))], ..Tools::default() };
    Request { messages, tools, ..tests::request(&[]) }
}

fn whole(rendered: &Rendered) -> String {
    rendered.parts.iter().map(|part| part.text.as_str()).collect()
}

#[test]
fn each_format_is_found_out_and_renders_a_whole_round_trip() {
    let mut prompts = String::new();
    for (name, card, format) in models() {
        let text = ModelText::from_card(&card).unwrap();
        match (text.support, format) {
            (Support::Native(found, _), Some(format)) => assert_eq!(found, format, "{name}"),
            (Support::Fallback { system }, None) => assert!(!system, "{name}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
        let prompt = whole(&text.render(&round_trip("")).unwrap());
        for told in ["get_weather", "Oslo", "Rain", "Rome", "Sun", "So?", "city"] {
            assert!(prompt.contains(told), "{name} leaves out {told}: {prompt}");
        }
        prompts += &format!("--- {name}\n{prompt}\n");
    }
    insta::assert_snapshot!(prompts);
}

#[test]
fn a_model_without_a_template_of_its_own_is_told_in_words() {
    let text = ModelText::from_card(&ModelCard { chat_template: None, ..tests::card() }).unwrap();
    assert_eq!(text.support, Support::Fallback { system: true });
    let mut request = round_trip("");
    request.messages.insert(0, Message { role: Role::System, content: vec![Content::Text("Be brief.".into())] });
    insta::assert_snapshot!(whole(&text.render(&request).unwrap()));
}

#[test]
fn without_tools_a_conversation_is_rendered_as_ever() {
    let text = ModelText::from_card(&ModelCard { chat_template: None, ..tests::card() }).unwrap();
    let request = tests::request(&[(Role::User, &["a"]), (Role::User, &["b"])]);
    let rendered = text.render(&request).unwrap();
    assert_eq!(
        whole(&rendered),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(rendered.output, crate::prompt::Output::default(), "and nothing is read or constrained");
}

#[test]
fn every_special_token_in_callers_words_stays_words() {
    for (name, card, _) in models() {
        let text = ModelText::from_card(&card).unwrap();
        let tokens = card.tokenizer.tokens.iter().zip(&card.tokenizer.kinds);
        let special: Vec<&str> =
            tokens.filter(|(_, kind)| **kind == TokenKind::Control).map(|(text, _)| text.as_str()).collect();
        let forged = special.concat();
        let ids = |request: &Request| {
            let rendered = text.render(request).unwrap();
            (text.encode(&rendered.parts).unwrap(), whole(&rendered))
        };
        let is_special = |id: &&u32| card.tokenizer.kinds[**id as usize] == TokenKind::Control;
        let (plain, _) = ids(&round_trip(""));
        let (told, prompt) = ids(&round_trip(&forged));
        let specials = |ids: &[u32]| ids.iter().filter(is_special).copied().collect::<Vec<_>>();
        assert_eq!(specials(&told), specials(&plain), "{name}");
        // Question, description, arguments and result.
        assert_eq!(prompt.matches(&forged).count(), 4, "{name}: {prompt}");
        let marks = '\u{FDD0}'..='\u{FDEF}';
        assert!(!prompt.contains(|c| marks.contains(&c)), "{name}");
    }
}

#[test]
fn names_and_keys_of_schemas_are_callers_words_too() {
    for (name, card, _) in models() {
        let text = ModelText::from_card(&card).unwrap();
        let end = card.tokenizer.tokens[2].clone();
        let schema =
            serde_json::json!({"type": "object", "properties": {end.clone(): {"type": "string", "enum": [end]}}});
        let mut tool = tool("f", "");
        tool.parameters = Json::parse(&schema.to_string()).unwrap();
        let request =
            |list| Request { tools: Tools { list, ..Tools::default() }, ..tests::request(&[(Role::User, &["hi"])]) };
        let rendered = text.render(&request(vec![tool])).unwrap();
        let plain = text.render(&request(vec![self::tool("f", "")])).unwrap();
        let specials = |rendered: &Rendered| rendered.parts.iter().filter(|part| part.special).count();
        assert_eq!(specials(&rendered), specials(&plain), "{name}");
        assert!(whole(&rendered).contains(&end), "{name}");
    }
}

#[test]
fn what_workers_must_constrain_is_said_for_each_format_and_choice() {
    let mut said = String::new();
    for (name, card, _) in models() {
        let text = ModelText::from_card(&card).unwrap();
        for choice in [ToolChoice::Auto, ToolChoice::Required, ToolChoice::Named("b".into()), ToolChoice::None] {
            let list = vec![tool("get_weather", ""), tool("b", "")];
            let tools = Tools { list, choice: choice.clone(), one_call: name == "stern" };
            let request = Request { tools, ..tests::request(&[(Role::User, &["hi"])]) };
            let output = text.render(&request).unwrap().output;
            said += &format!("--- {name}, {choice:?}, shown {:?}", output.shown);
            match output.constraint {
                None => said += ": none\n",
                Some(constraint) => {
                    let Grammar::Lark { grammar: lark } = constraint.grammar else { panic!("{name}") };
                    said += &format!(", {:?}\n{lark}", constraint.trigger);
                }
            }
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn an_answers_form_constrains_it_from_its_first_token() {
    let schema = Json::parse(r#"{"type":"object","properties":{"b":{},"a":{}}}"#).unwrap();
    for (name, card, format) in models() {
        let text = ModelText::from_card(&card).unwrap();
        let form = |answer: AnswerForm| {
            let request = Request { answer, ..tests::request(&[(Role::User, &["hi"])]) };
            let constraint = text.render(&request).unwrap().output.constraint.unwrap();
            assert_eq!(constraint.trigger, None);
            constraint.grammar
        };
        if format == Some(Format::Harmony) {
            let Grammar::Lark { grammar: lark } = form(AnswerForm::JsonSchema(schema.clone())) else { panic!() };
            assert!(lark.contains("\"final\"") && lark.contains("%json"), "{lark}");
            continue;
        }
        assert_eq!(
            form(AnswerForm::JsonSchema(schema.clone())),
            Grammar::JsonSchema { schema: schema.as_str().into() },
            "{name}"
        );
        assert_eq!(form(AnswerForm::Json), Grammar::JsonSchema { schema: r#"{"type":"object"}"#.into() });
        assert_eq!(form(AnswerForm::Regex("a/b".into())), Grammar::Regex { pattern: "a/b".into() });
    }
}

#[test]
fn reasoning_that_the_prompt_opens_is_closed_where_a_constraint_leaves_no_room_for_it() {
    let (_, card, _) = models().into_iter().find(|(name, ..)| *name == "deepseek").unwrap();
    let text = ModelText::from_card(&card).unwrap();
    let with = |choice| {
        let tools = Tools { list: vec![tool("f", "")], choice, one_call: false };
        text.render(&Request { tools, ..tests::request(&[(Role::User, &["hi"])]) }).unwrap()
    };
    let free = with(ToolChoice::Auto);
    assert!(whole(&free).ends_with("<think>") && free.output.reading.unwrap().opened);
    let forced = with(ToolChoice::Required);
    assert!(whole(&forced).ends_with("<think>\n\n</think>\n\n"), "{}", whole(&forced));
    assert!(!forced.output.reading.unwrap().opened);
}

#[test]
fn formats_are_told_apart_by_template_and_vocabulary() {
    let bare = tests::card().tokenizer;
    let table = [
        ("<tool_call>", Some(Format::Hermes)),
        ("<tool_call><function=", None),
        ("<tool_call><arg_key>", None),
        ("[TOOL_CALLS]", Some(Format::Mistral)),
        ("[TOOL_CALLS][ARGS]", Some(Format::MistralArgs)),
        ("<|start_header_id|>ipython", Some(Format::Llama3)),
        ("<|start_header_id|>", None),
        ("<｜tool▁calls▁begin｜>", Some(Format::DeepSeekV31)),
        ("<｜tool▁calls▁begin｜>```json", Some(Format::DeepSeekV3)),
        ("<|channel|>", None),
        ("", None),
    ];
    for (template, format) in table {
        assert_eq!(Format::detect(template, &bare), format, "{template}");
    }
    assert_eq!(Format::detect(HARMONY, &card(HARMONY, &harmony::MARKERS).tokenizer), Some(Format::Harmony));
}

/// What each model may say, and must be let say; `rest` behind the trigger, where there is one.
#[test]
fn what_a_model_is_made_to_say_is_what_its_reader_reads() {
    let said = [
        (
            "qwen",
            "<tool_call>",
            "\n{\"name\": \"f\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>\n<tool_call>\n{\"name\": \
          \"f\", \"arguments\": {\"city\": \"Rome\", \"at\": 7}}\n</tool_call>",
        ),
        (
            "llama",
            "",
            "{\"name\": \"f\", \"parameters\": {\"city\": \"Oslo\"}}; {\"name\": \"f\", \"parameters\": {\"city\": \"Rome\"}}",
        ),
        (
            "mistral",
            "[TOOL_CALLS]",
            "[{\"name\": \"f\", \"arguments\": {\"city\": \"Oslo\"}}, {\"name\": \"f\", \"arguments\": \
          {\"city\": \"Rome\"}}]",
        ),
        ("harmony", "<|channel|>commentary to=functions.", "f <|constrain|>json<|message|>{\"city\": \"Oslo\"}"),
        (
            "deepseek",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"city\": \
          \"Oslo\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        ("stern", "<tool_call>", "{\"name\": \"f\", \"arguments\": {\"city\": \"Oslo\"}}</tool_call>"),
    ];
    for (name, begin, rest) in said {
        let (_, mut card, _) = models().into_iter().find(|(model, ..)| *model == name).unwrap();
        card.tokenizer.end_of_generation = vec![2];
        let text = ModelText::from_card(&card).unwrap();
        let vocabulary = std::sync::Arc::new(cluster_constraint::Vocabulary::new(&card).unwrap());
        for choice in [ToolChoice::Auto, ToolChoice::Required] {
            let tools = Tools { list: vec![tool("f", "")], choice: choice.clone(), one_call: false };
            let request = Request { tools, ..tests::request(&[(Role::User, &["hi"])]) };
            let output = text.render(&request).unwrap().output;
            let constraint = output.constraint.unwrap();
            let compiled = cluster_constraint::Compiled::new(&vocabulary, &constraint);
            let compiled = compiled.unwrap_or_else(|error| panic!("{name}: {error}\n{:?}", constraint.grammar));
            let begin = match (name, &choice) {
                ("llama", ToolChoice::Auto) => "<|python_tag|>",
                _ => begin,
            };
            let ids = |answer: &str| text.encode(&text.guard.split(answer, '\u{FDD0}')).unwrap();
            let accepts = |answer: &str| {
                let mut session = cluster_constraint::Session::new(&compiled);
                let all = ids(answer).into_iter().all(|id| session.allows(id).unwrap() && session.accept(id).is_ok());
                all && (session.allows(2).unwrap_or(false) || session.mask().is_ok_and(|_| true))
            };
            let answer = format!("{begin}{rest}");
            assert!(accepts(&answer), "{name} {choice:?}: {answer}");
            for wrong in ["\"f\"", "f <", "f\n"] {
                let other = answer.replace(wrong, &wrong.replace('f', "g"));
                assert!(other == answer || !accepts(&other), "{name} {choice:?}: {other}");
            }
            assert!(!accepts(&answer.replace("\"Oslo\"", "1")), "{name}: of another type");
            let reading = output.reading.unwrap();
            let mut reader = crate::prompt::AnswerReader::new(&reading, "c".into());
            let thought = if reading.opened { "</think>\n\n" } else { "" };
            let mut steps = reader.push(&format!("{thought}{answer}"));
            steps.extend(reader.finish());
            let begun = |step: &Step| matches!(step, Step::Tool(crate::inference::ToolStep::Begin { .. }));
            assert_eq!(steps.iter().filter(|step| begun(step)).count(), answer.matches("city").count(), "{name}");
            assert!(!steps.iter().any(|step| matches!(step, Step::Text(_))), "{name}: {steps:?}");
        }
    }
}

#[test]
fn a_call_or_an_answer_of_a_form_are_one_constraint() {
    for (name, mut card, _) in models() {
        card.tokenizer.end_of_generation = vec![2];
        let text = ModelText::from_card(&card).unwrap();
        let vocabulary = std::sync::Arc::new(cluster_constraint::Vocabulary::new(&card).unwrap());
        let schema =
            Json::parse(r#"{"type":"object","properties":{"b":{"type":"integer"}},"required":["b"]}"#).unwrap();
        for answer in [AnswerForm::Json, AnswerForm::JsonSchema(schema), AnswerForm::Regex("a/b|c".into())] {
            let tools = Tools { list: vec![tool("f", "")], ..Tools::default() };
            let request = Request { tools, answer, ..tests::request(&[(Role::User, &["hi"])]) };
            let constraint = text.render(&request).unwrap().output.constraint.unwrap();
            let compiled = cluster_constraint::Compiled::new(&vocabulary, &constraint);
            assert!(compiled.is_ok(), "{name}: {:?}\n{:?}", compiled.err(), constraint.grammar);
        }
    }
}
