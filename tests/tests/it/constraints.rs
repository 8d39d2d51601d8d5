//! Constrained and seeded answers of the real model, through prefill and decode.

use caprock_tests::pair::{Pair, Secret, local_reason};
use caprock_tests::wire::{Wire, greedy};
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_protocol::{
    Constraint, FinishReason, Generate, Grammar, LocalReason, LogitBias, PrefillPlan, Role, Sampling, TextPart,
};
use serde_json::{Value, json};

const SCHEMAS: usize = 100;
/// Small enough for some answers to be cut.
const MAX_TOKENS: u32 = 56;
/// Requests at a time: as many as the decode worker's slots hold well.
const AT_ONCE: usize = 4;

fn remote() -> PrefillPlan {
    PrefillPlan::Remote { prefill_id: "prefill-1".into() }
}

async fn chat(wire: &mut Wire, question: &str) -> Vec<u32> {
    let part = |text: &str, special| TextPart { text: text.into(), special };
    let parts = vec![
        part("<|im_start|>", true),
        part(&format!("user\n{question}"), false),
        part("<|im_end|>", true),
        part("\n", false),
        part("<|im_start|>", true),
        part("assistant\n", false),
    ];
    wire.tokenize(parts).await
}

/// One of a hundred: every keyword that is taken occurs, alone and with others, flat and nested.
fn schema(number: usize) -> Value {
    let text = json!({"type": "string", "maxLength": 12 + number % 7});
    let leaf = match number % 10 {
        0 => json!({"type": "integer", "minimum": number, "maximum": number * 10 + 9}),
        1 => json!({"enum": ["red", "green", number, null]}),
        2 => json!({"type": "string", "pattern": format!("^[A-Z]{{{}}}-[0-9]{{2,4}}$", 1 + number % 3)}),
        3 => json!({"type": "boolean"}),
        4 => json!({"type": "number", "exclusiveMinimum": 0, "maximum": 100}),
        5 => json!({"type": "string", "format": (["date", "time", "date-time", "ipv4", "uuid"][number / 10 % 5])}),
        6 => json!({"anyOf": [{"type": "null"}, {"type": "integer"}, {"const": "none"}]}),
        7 => json!({"type": ["string", "null"], "minLength": 2, "maxLength": 9}),
        8 => json!({"const": {"kind": "fixed", "n": number}}),
        _ => json!({"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000}),
    };
    match number / 10 % 10 {
        0 => leaf,
        1 => json!({"type": "array", "items": leaf, "minItems": 1, "maxItems": 3}),
        2 => json!({"type": "object", "properties": {"value": leaf, "name": text}, "required": ["value", "name"],
                    "additionalProperties": false}),
        3 => json!({"type": "object", "properties": {"name": text, "value": leaf}, "required": ["value"],
                    "additionalProperties": false}),
        4 => json!({"type": "array", "prefixItems": [text, leaf], "items": false, "minItems": 2}),
        5 => json!({"$ref": "#/$defs/box", "$defs": {"box": {"type": "object", "properties": {"inner": leaf},
                    "required": ["inner"], "additionalProperties": false}}}),
        6 => json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": leaf},
                    "required": ["b"], "additionalProperties": false}}, "required": ["a"],
                    "additionalProperties": false}),
        7 => json!({"anyOf": [{"type": "object", "properties": {"ok": {"const": true}, "value": leaf},
                    "required": ["ok", "value"], "additionalProperties": false}, {"type": "null"}]}),
        8 => json!({"type": "object", "additionalProperties": leaf, "minProperties": 1, "maxProperties": 2}),
        _ => json!({"allOf": [{"type": "object", "properties": {"value": leaf}, "required": ["value"]},
                    {"properties": {"name": text}, "required": ["name"]}], "additionalProperties": true}),
    }
}

#[tokio::test]
async fn a_hundred_schemas_through_a_handoff_give_valid_answers_or_say_that_they_were_cut() {
    let pair = Pair::start(Engine::Llama).await;
    let pair = &pair;
    let worker = |first: usize| async move {
        let mut wire = pair.decode.connect().await;
        let mut complete = 0;
        for number in (first..SCHEMAS).step_by(AT_ONCE) {
            let schema = schema(number);
            let prompt = chat(&mut wire, &format!("Give me example {number} as JSON: {schema}")).await;
            let mut request = greedy(&format!("req_schema_{number}"), prompt, MAX_TOKENS, remote());
            request.sampling = Sampling { temperature: 0.8, top_p: 0.95, seed: number as u64, ..Sampling::GREEDY };
            if number % 5 == 0 {
                request.sampling = Sampling::GREEDY;
            }
            let grammar = Grammar::JsonSchema { schema: schema.to_string() };
            request.constraint = Some(Constraint { grammar, trigger: None });
            let answer = wire.generate(request).await.unwrap_or_else(|error| panic!("{schema}: {error}"));
            assert_eq!(local_reason(&answer), None, "schema {number} came through prefill");
            match answer.done.finish() {
                FinishReason::EndOfTurn => {
                    let value: Value = serde_json::from_str(&answer.text)
                        .unwrap_or_else(|error| panic!("schema {number}, {schema}: {error} in {:?}", answer.text));
                    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
                    assert!(validator.is_valid(&value), "schema {number}, {schema}: {value}");
                    complete += 1;
                }
                FinishReason::MaxTokens => assert_eq!(answer.ids.len(), MAX_TOKENS as usize),
                other => panic!("schema {number}: {other:?}"),
            }
        }
        complete
    };
    let complete: usize = futures::future::join_all((0..AT_ONCE).map(worker)).await.into_iter().sum();
    println!("{complete} of {SCHEMAS} complete and valid, {} cut", SCHEMAS - complete);
    assert!(complete >= 60, "only {complete} answers were complete");
    pair.decode.idle().await;
    pair.prefill.idle().await;
}

#[tokio::test]
async fn seeded_sampling_through_a_handoff_equals_one_process() {
    let pair = Pair::start(Engine::Llama).await;
    let secret = Secret::new();
    let mut alone = secret.worker(WorkerSpec::new(Role::Decode, "alone-1", Engine::Llama));
    alone.ready().await;
    let (mut reference, mut wire) = (alone.connect().await, pair.decode.connect().await);
    let prompt = chat(&mut wire, "Tell me of a lighthouse, and of the two people who live in it.").await;
    let object = Grammar::JsonSchema { schema: json!({"type": "object"}).to_string() };
    let letters = Grammar::Regex { pattern: "([A-Z][a-z]{2,8} ){3,9}".into() };
    let warm = |seed| Sampling { temperature: 0.9, seed, ..Sampling::GREEDY };
    let cases: [(Sampling, Option<Grammar>); 8] = [
        (warm(1), None),
        (Sampling { top_k: 40, top_p: 0.9, ..warm(2) }, None),
        (Sampling { min_p: 0.1, ..warm(3) }, None),
        (Sampling { presence_penalty: 0.8, frequency_penalty: 0.4, ..warm(4) }, None),
        (Sampling { repetition_penalty: 1.2, ..Sampling::GREEDY }, None),
        (Sampling { logit_bias: vec![LogitBias { token: 260, bias: 3.0 }], ..warm(5) }, None),
        (warm(6), Some(object)),
        (Sampling { repetition_penalty: 1.1, top_k: 50, ..warm(7) }, Some(letters)),
    ];
    for (number, (sampling, grammar)) in cases.into_iter().enumerate() {
        let local = PrefillPlan::Local { reason: LocalReason::ShortPrompt };
        let asked = |kind: &str, plan| Generate {
            sampling: sampling.clone(),
            constraint: grammar.clone().map(|grammar| Constraint { grammar, trigger: None }),
            logprobs: Some(3),
            ..greedy(&format!("req_{kind}_{number}"), prompt.clone(), 32, plan)
        };
        let (one, two) =
            tokio::join!(reference.generate(asked("alone", local)), wire.generate(asked("remote", remote())),);
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(local_reason(&two), None);
        assert_eq!((&one.ids, &one.text, &one.logprobs), (&two.ids, &two.text, &two.logprobs), "case {number}");
        println!("case {number}: {:?}", two.text);
    }
}
