//! Samples of every format, each read in every cut.

use super::*;
use crate::inference::ToolStep;
use Format::*;
use proptest::prelude::*;

const THINK: Tags = Tags { begin: "<think>", end: "</think>" };

fn reading(format: Option<Format>) -> Reading {
    let names = ["f", "get_weather", "function"].map(String::from).into_iter().collect();
    Reading { format, names, reasoning: None, opened: false }
}

fn thinking(format: Option<Format>, opened: bool) -> Reading {
    Reading { reasoning: Some(THINK), opened, ..reading(format) }
}

/// Steps as lines, neighbours of one kind joined: however an answer is cut, these are the same.
fn read<'t>(reading: &Reading, pieces: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let mut reader = AnswerReader::new(reading, "c".into());
    let mut steps: Vec<Step> = pieces.into_iter().flat_map(|piece| reader.push(piece)).collect();
    steps.extend(reader.finish());
    let mut lines: Vec<String> = Vec::new();
    for step in steps {
        let (kind, text) = match step {
            Step::Text(text) => ("text ", text),
            Step::Reasoning(text) => ("thought ", text),
            Step::Tool(ToolStep::Begin { index, id, name }) => ("", format!("call {index} {id} {name}")),
            Step::Tool(ToolStep::Arguments { json, .. }) => ("json ", json),
            Step::Tool(ToolStep::End { index, complete }) => ("", format!("end {index} {complete}")),
        };
        match lines.last_mut() {
            Some(last) if !kind.is_empty() && last.starts_with(kind) => last.push_str(&text),
            _ => lines.push(format!("{kind}{text}")),
        }
    }
    lines
}

/// Whole, in every two pieces, in single characters, and in pieces of a few.
fn in_every_cut(reading: &Reading, answer: &str, expected: &[&str]) {
    assert_eq!(read(reading, [answer]), expected, "whole: {answer}");
    for at in (0..=answer.len()).filter(|at| answer.is_char_boundary(*at)) {
        let (first, second) = answer.split_at(at);
        assert_eq!(read(reading, [first, second]), expected, "{first}·{second}");
    }
    let characters: Vec<String> = answer.chars().map(String::from).collect();
    for size in [1, 2, 3, 5, 8] {
        let pieces: Vec<String> = characters.chunks(size).map(|chunk| chunk.concat()).collect();
        assert_eq!(read(reading, pieces.iter().map(String::as_str)), expected, "by {size}: {answer}");
    }
}

const CALL: [&str; 3] = ["call 0 c0 f", "json {\"a\": 1}", "end 0 true"];

fn call_then<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CALL.iter().chain(more).copied().collect()
}

#[test]
fn hermes() {
    let two = [
        "call 0 c0 f",
        "json {\"a\": 1}",
        "end 0 true",
        "call 1 c1 get_weather",
        "json {\"city\": \"Zürich <}\\\"\"}",
        "end 1 true",
    ];
    let samples: &[(&str, &[&str])] = &[
        ("", &[]),
        ("Hello <b>there</b>.\n", &["text Hello <b>there</b>.\n"]),
        ("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", &CALL),
        ("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": 1}}</tool_call>\n", &CALL),
        ("<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>", &CALL),
        ("<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>", &CALL),
        (
            "<tool_call>{\"id\": 7, \"type\": \"fun,ction\", \"name\": \"f\", \"parameters\": {\"a\": 1}}</tool_call>",
            &CALL,
        ),
        ("<tool_call>{\"name\": \"f\"}</tool_call>", &["call 0 c0 f", "json {}", "end 0 true"]),
        // The end tag is left out, as at the end of the answer.
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}", &CALL),
        (
            "Let me see. \n<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call> Done.",
            &["text Let me see.", "call 0 c0 f", "json {\"a\": 1}", "end 0 true", "text Done."],
        ),
        (
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \
             \"get_weather\", \"arguments\": {\"city\": \"Zürich <}\\\"\"}}\n</tool_call>\n",
            &two,
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}<tool_call>{\"name\": \"get_weather\", \
             \"arguments\": {\"city\": \"Zürich <}\\\"\"}}",
            &two,
        ),
    ];
    for (answer, expected) in samples {
        in_every_cut(&reading(Some(Hermes)), answer, expected);
    }
}

#[test]
fn what_is_no_hermes_call_is_text() {
    let malformed = [
        "<tool_call>",
        "a  <tool_call>",
        "<tool_cal",
        "<tool_call> hello </tool_call>",
        "<tool_call>[1]</tool_call>",
        "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": 1}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"name\": \"f\"}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"x\"}</tool_call>",
        "<tool_call>{\"other\": 1, \"name\": \"f\"}</tool_call>",
        "<tool_call>{\"arguments\": {\"a\": 1}}</tool_call> more",
        "<tool_call>{\"name\": \"f\", \"argum",
        "<tool_call>{'name': 'f'}</tool_call>",
    ];
    for answer in malformed {
        in_every_cut(&reading(Some(Hermes)), answer, &[&format!("text {answer}")]);
    }
    // A call behind one is still read.
    let answer = "<tool_call>oh <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>";
    in_every_cut(
        &reading(Some(Hermes)),
        answer,
        &["text <tool_call>oh", "call 0 c0 f", "json {\"a\": 1}", "end 0 true"],
    );
}

#[test]
fn a_call_that_goes_astray_or_is_cut_off_ends_and_nothing_is_lost() {
    let samples: [(&str, &[&str]); 3] = [
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}</tool_call>",
            &["call 0 c0 f", "json {\"a\": ", "end 0 false", "text oops}}</tool_call>"],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x",
            &["call 0 c0 f", "json {\"a\": \"x", "end 0 false"],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}, oops",
            &["call 0 c0 f", "json {\"a\": 1}", "end 0 true", "text oops"],
        ),
    ];
    for (answer, expected) in samples {
        in_every_cut(&reading(Some(Hermes)), answer, expected);
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    for (format, begin) in
        [(Hermes, "<tool_call>{\"arguments\": {\"a\": \""), (Hermes, "<tool_call>"), (Llama3, "{\"id\": \"")]
    {
        let mut reader = AnswerReader::new(&reading(Some(format)), "c".into());
        let fill = if begin.ends_with('"') { "x" } else { " " };
        let mut shown = reader.push(begin).len();
        for _ in 0..MAX_HELD_BYTES + 1 {
            shown += reader.push(fill).len();
        }
        assert!(shown > 0, "{begin}");
    }
    let long = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{}\"}}}}", "x".repeat(100_000));
    assert_eq!(read(&reading(Some(Hermes)), [long.as_str()]).last().unwrap(), "end 0 true", "arguments are not held");
}

#[test]
fn llama3() {
    let samples: Vec<(&str, Vec<&str>)> = vec![
        ("{\"name\": \"f\", \"parameters\": {\"a\": 1}}", CALL.to_vec()),
        ("\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}", CALL.to_vec()),
        ("<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}", CALL.to_vec()),
        (
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"f\", \"parameters\": {}}",
            call_then(&["call 1 c1 f", "json {}", "end 1 true"]),
        ),
        (
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}\n{\"name\": \"f\", \"parameters\": {}}",
            call_then(&["call 1 c1 f", "json {}", "end 1 true"]),
        ),
        (
            "Sure. <|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
            vec!["text Sure.", "call 0 c0 f", "json {\"a\": 1}", "end 0 true"],
        ),
        ("{\"answer\": 42}", vec!["text {\"answer\": 42}"]),
        ("{\"name\": \"Bob\", \"parameters\": {}}", vec!["text {\"name\": \"Bob\", \"parameters\": {}}"]),
        ("It is {\"name\": \"f\", \"parameters\": {}}", vec!["text It is {\"name\": \"f\", \"parameters\": {}}"]),
        ("<|python_tag|>print(1)", vec!["text <|python_tag|>print(1)"]),
        ("{", vec!["text {"]),
    ];
    for (answer, expected) in samples {
        in_every_cut(&reading(Some(Llama3)), answer, &expected);
    }
}

#[test]
fn mistral_old_and_new() {
    let samples: Vec<(&str, Vec<&str>)> = vec![
        ("[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", CALL.to_vec()),
        ("[TOOL_CALLS] [ {\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"} ]", CALL.to_vec()),
        ("[TOOL_CALLS]{\"name\": \"f\", \"arguments\": {\"a\": 1}}", CALL.to_vec()),
        (
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"f\", \"arguments\": {}}]",
            call_then(&["call 1 c1 f", "json {}", "end 1 true"]),
        ),
        ("[TOOL_CALLS]f[ARGS]{\"a\": 1}", CALL.to_vec()),
        ("[TOOL_CALLS]f{\"a\": 1}", CALL.to_vec()),
        ("[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{\"a\": 1}", CALL.to_vec()),
        (
            "Now.[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]get_weather[ARGS]{}",
            vec![
                "text Now.",
                "call 0 c0 f",
                "json {\"a\": 1}",
                "end 0 true",
                "call 1 c1 get_weather",
                "json {}",
                "end 1 true",
            ],
        ),
        ("[TOOL_CALLS]nobody[ARGS]{}", vec!["text [TOOL_CALLS]nobody[ARGS]{}"]),
        ("[TOOL_CALLS]f[ARGS] no", vec!["text [TOOL_CALLS]f[ARGS] no"]),
        ("[TOOL_CALLS]f", vec!["text [TOOL_CALLS]f"]),
        ("[TOOL_CALLS]", vec!["text [TOOL_CALLS]"]),
        ("[TOOL_CALLS][1]", vec!["text [TOOL_CALLS][1]"]),
        ("[TOOL_CALLS]f[CALL_ID]a!", vec!["text [TOOL_CALLS]f[CALL_ID]a!"]),
        ("[TOOL_CALLS]f[ARGS]{\"a\"", vec!["call 0 c0 f", "json {\"a\"", "end 0 false"]),
        ("[TOOL", vec!["text [TOOL"]),
    ];
    for (answer, expected) in samples {
        for format in [Mistral, MistralArgs] {
            in_every_cut(&reading(Some(format)), answer, &expected);
        }
    }
}

#[test]
fn deepseek_old_and_new() {
    let old = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>";
    let new = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>";
    let more_old =
        "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let more_new = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let names = ["f", "get_weather"].map(String::from).into_iter().collect();
    for (format, one, more) in [(DeepSeekV3, old, more_old), (DeepSeekV31, new, more_new)] {
        let reading = Reading { names: HashSet::clone(&names), ..reading(Some(format)) };
        in_every_cut(&reading, one, &CALL);
        in_every_cut(&reading, &format!("{one}<｜tool▁calls▁end｜>"), &CALL);
        in_every_cut(&reading, &format!("{one}{more}"), &call_then(&["call 1 c1 f", "json {}", "end 1 true"]));
        in_every_cut(&reading, &format!("{one}<｜tool▁calls▁end｜> So."), &call_then(&["text So."]));
        let spoken = ["text Wait.", "call 0 c0 f", "json {\"a\": 1}", "end 0 true"];
        in_every_cut(&reading, &format!("Wait.\n\n{one}"), &spoken);
        let malformed = [
            "<｜tool▁calls▁begin｜>nothing",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>nobody<｜tool▁sep｜>{}",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>nobody\n```json\n{}\n```",
            "<｜tool▁call▁begin｜>f<｜tool▁sep｜>```json\nx",
            "<｜tool▁call▁begin｜>f",
            "<｜tool▁calls▁beg",
        ];
        for answer in malformed {
            in_every_cut(&reading, answer, &[&format!("text {answer}")]);
        }
    }
    // A tool that is named like the kind.
    let named = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>";
    in_every_cut(&reading(Some(DeepSeekV31)), named, &["call 0 c0 function", "json {\"a\": 1}", "end 0 true"]);
}

#[test]
fn harmony() {
    let analysis = "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant";
    let thought = "thought Let me think.";
    let with = |head: &str| format!("{analysis}{head}{{\"a\": 1}}");
    let called: Vec<&str> = std::iter::once(thought).chain(CALL).collect();
    let heads = [
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.f<|message|>",
        "<|channel|>commentary to=functions.f json<|message|>",
        " to=functions.f<|channel|>commentary <|constrain|>json<|message|>",
        "<|channel|>analysis to=functions.f code<|message|>",
    ];
    for head in heads {
        in_every_cut(&reading(Some(Harmony)), &with(head), &called);
        in_every_cut(&reading(Some(Harmony)), &format!("{}<|call|>", with(head)), &called);
    }
    let two = format!("{}<|end|><|start|>assistant{}{{}}", with(heads[0]), heads[0]);
    let both: Vec<&str> = called.iter().chain(&["call 1 c1 f", "json {}", "end 1 true"]).copied().collect();
    in_every_cut(&reading(Some(Harmony)), &two, &both);
    let samples: &[(&str, &[&str])] = &[
        ("<|channel|>final<|message|>Hello.<|return|>", &["text Hello."]),
        ("<|channel|>final<|message|>Hello.", &["text Hello."]),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|><|start|>\
             assistant<|channel|>final<|message|>c",
            &["thought a", "text bc"],
        ),
        ("<|channel|>analysis<|message|>a", &["thought a"]),
        // No head at all.
        ("Hello <b> there.", &["text Hello <b> there."]),
        ("to be", &["text to be"]),
        // Cut off in a head.
        ("<|channel|>analysis<|message|>a<|end|><|start|>assist", &["thought a"]),
        ("<|channel|>fin", &[]),
        // The end was left out.
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", &["thought a", "text b"]),
        // Nobody's tool, and no JSON.
        (
            "<|channel|>commentary to=functions.nobody<|message|>{}",
            &["text <|channel|>commentary to=functions.nobody<|message|>{}"],
        ),
        (
            "<|channel|>commentary to=functions.f<|message|>hello",
            &["text <|channel|>commentary to=functions.f<|message|>hello"],
        ),
        (
            "<|channel|>commentary to=functions.f<|message|>{\"a\": oops<|end|>",
            &["call 0 c0 f", "json {\"a\": ", "end 0 false", "text oops"],
        ),
        ("<|channel|>x<|end|>y", &["text <|channel|>xy"]),
        ("<|start|><|start|><|channel|><|channel|>", &[]),
    ];
    for (answer, expected) in samples {
        in_every_cut(&reading(Some(Harmony)), answer, expected);
    }
    let long = format!("<|channel|>{}<|message|>x", "y".repeat(300));
    in_every_cut(&reading(Some(Harmony)), &long, &[&format!("text {long}")]);
}

#[test]
fn reasoning_is_split_off_whoever_opens_it() {
    let samples: &[(bool, &str, &[&str])] = &[
        (false, "<think>\nHm.\n</think>\n\nYes.", &["thought Hm.", "text Yes."]),
        (true, "\nHm. <b>\n</think>\n\nYes.\n", &["thought Hm. <b>", "text Yes.\n"]),
        (false, "<think>\n\n</think>\n\nYes.", &["text Yes."]),
        (false, "Yes. <think>no</think>", &["text Yes. <think>no</think>"]),
        (false, " \n<think>a", &["thought a"]),
        (true, "cut off in </thi", &["thought cut off in </thi"]),
        (false, "<thin", &["text <thin"]),
        (true, "a</think>", &["thought a"]),
        (false, "  indented", &["text   indented"]),
    ];
    for (opened, answer, expected) in samples {
        in_every_cut(&thinking(None, *opened), answer, expected);
        in_every_cut(&thinking(Some(Hermes), *opened), answer, expected);
    }
    let answer =
        "<think>\nI call <tool_call>.\n</think>\n\n<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>";
    let expected: Vec<&str> = std::iter::once("thought I call <tool_call>.").chain(CALL).collect();
    in_every_cut(&thinking(Some(Hermes), false), answer, &expected);
}

proptest! {
    /// Every character comes out, as text, reasoning or arguments, or belongs to the format; and cuts change nothing.
    #[test]
    fn no_answer_breaks_a_reader_and_cuts_change_nothing(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("<tool_call>"), Just("</tool_call>"), Just("{\"name\": \"f\", "), Just("\"arguments\": {"),
                Just("}"), Just("}}"), Just("<think>"), Just("</think>"), Just(" "), Just("\n"), Just("é"), Just("a"),
                Just("[TOOL_CALLS]"), Just("["), Just("]"), Just("f"), Just("[ARGS]"), Just("{"), Just("\""), Just(","),
                Just("<|python_tag|>"), Just("<|channel|>"), Just("<|message|>"), Just("<|end|>"), Just("<|start|>"),
                Just("analysis"), Just(" to=functions.f"), Just("<｜tool▁calls▁begin｜>"), Just("<｜tool▁call▁begin｜>"),
                Just("<｜tool▁sep｜>"), Just("function"), Just("```json\n"), Just("<"), Just("|"),
            ],
            0..24,
        ),
        format in prop_oneof![
            Just(Hermes), Just(Llama3), Just(Mistral), Just(Harmony), Just(DeepSeekV3),
        ],
        opened: bool,
    ) {
        let answer = pieces.concat();
        let reading = thinking(Some(format), opened);
        let whole = read(&reading, [answer.as_str()]);
        prop_assert_eq!(&read(&reading, pieces.iter().copied()), &whole);
        let characters: Vec<String> = answer.chars().map(String::from).collect();
        prop_assert_eq!(&read(&reading, characters.iter().map(String::as_str)), &whole);
        let of_format = |text: &str| text.contains(['<', '[', '{']) || text.trim().is_empty();
        for piece in pieces.iter().filter(|piece| **piece == "é") {
            prop_assert!(of_format(piece) || whole.concat().contains(piece), "{:?}", whole);
        }
    }
}
