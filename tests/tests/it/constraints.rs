//! Constrained and seeded answers of the real model, through prefill and decode.

use caprock_tests::pair::{Pair, Secret, local_reason};
use caprock_tests::wire::{Wire, greedy};
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_constraint::Vocabulary;
use cluster_protocol::{
    Constraint, FinishReason, Generate, Grammar, LocalReason, LogitBias, Message, PrefillPlan, Role, Sampling,
    TextPart, Trigger,
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

#[tokio::test]
async fn a_constraint_behind_a_trigger_holds_from_there_on_and_not_before() {
    let pair = Pair::start(Engine::Llama).await;
    let mut wire = pair.decode.connect().await;
    let mut fired = 0;
    for (number, question) in
        ["Tell me of the sea.", "What is a river?", "Name a city.", "Why is the sky blue?"].into_iter().enumerate()
    {
        let prompt = chat(&mut wire, question).await;
        let mut request = greedy(&format!("req_free_{number}"), prompt.clone(), 48, remote());
        request.sampling = Sampling { temperature: 0.8, seed: number as u64, ..Sampling::GREEDY };
        let free = wire.generate(request.clone()).await.unwrap();
        let grammars = [
            Grammar::Regex { pattern: " [0-9]{5}!".into() },
            Grammar::Lark { grammar: "start: \" \" number \"!\"\nnumber: /[0-9]{5}/\n".into() },
        ];
        for (kind, grammar) in grammars.into_iter().enumerate() {
            let trigger = Some(Trigger { texts: vec!["the".into()], tokens: vec![], once: true });
            let constraint = Some(Constraint { grammar, trigger });
            let id = format!("req_trigger_{number}_{kind}");
            let answer = wire.generate(Generate { request_id: id, constraint, ..request.clone() }).await.unwrap();
            assert_eq!(local_reason(&answer), None);
            let Some(at) = answer.text.find("the").map(|at| at + 3) else { continue };
            // A token may reach beyond the trigger; what it holds of the constraint's text must fit as well.
            assert!(
                free.text.starts_with(&answer.text[..at]),
                "{:?} is free as {:?} up to {at}",
                answer.text,
                free.text
            );
            let rest = &answer.text[at..];
            let form = rest.len() == 7 && rest.starts_with(' ') && rest.ends_with('!');
            assert!(form && rest[1..6].bytes().all(|byte| byte.is_ascii_digit()), "{rest:?} behind the trigger");
            assert_eq!(answer.done.finish(), &FinishReason::EndOfTurn);
            fired += 1;
        }
    }
    assert!(fired >= 4, "only {fired} answers came to their trigger");
}

#[tokio::test]
async fn choices_of_one_prompt_are_each_what_they_would_be_alone() {
    const CHOICES: u32 = 4;
    let pair = Pair::start(Engine::Llama).await;
    let mut wire = pair.decode.connect().await;
    let prompt = chat(&mut wire, "Write a line about the moon.").await;
    let sampling = Sampling { temperature: 1.0, seed: 11, ..Sampling::GREEDY };
    let mut request = greedy("req_choices", prompt.clone(), 24, remote());
    request.sampling = sampling.clone();
    (request.choices, request.grant) = (CHOICES, CHOICES * request.max_tokens);
    wire.send(Message::Generate(Box::new(request.clone()))).await;
    let mut ids: Vec<Vec<u32>> = vec![Vec::new(); CHOICES as usize];
    let done = loop {
        match wire.next().await.unwrap() {
            Message::Token(token) => ids[token.choice as usize].extend(token.ids),
            Message::Done(done) => break done,
            Message::Accepted(_) | Message::Paused(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(done.counts.input_tokens as usize, prompt.len(), "one prompt");
    assert_eq!(done.counts.output_tokens as usize, ids.iter().map(Vec::len).sum::<usize>());
    let evaluated = pair.prefill.metric("caprock_worker_prefill_tokens_total").await;
    assert_eq!(evaluated, prompt.len() as f64, "one prefill");
    // Side by side sums may differ in their last bits, so that answers part in time; they begin as they do alone.
    for (choice, ids) in (0..).zip(&ids) {
        let mut alone = greedy(&format!("req_alone_{choice}"), prompt.clone(), 24, remote());
        alone.sampling = Sampling { seed: sampling.seed_of(choice), ..sampling.clone() };
        let alone = wire.generate(alone).await.unwrap();
        assert_eq!(ids[..3], alone.ids[..3], "choice {choice}");
    }
    let different: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(different.len(), CHOICES as usize, "each has a seed of its own");
    pair.decode.idle().await;
}

#[tokio::test]
async fn the_vocabulary_of_constraints_spells_tokens_as_the_engine_does() {
    let pair = Pair::start(Engine::Llama).await;
    let mut wire = pair.decode.connect().await;
    let card = wire.describe_model().await;
    let vocabulary = Vocabulary::new(&card).unwrap();
    let mut seen = std::collections::HashSet::new();
    for seed in 0..12 {
        let prompt = chat(&mut wire, "Write anything at all, in any language.").await;
        let mut request = greedy(&format!("req_words_{seed}"), prompt, 160, remote());
        // So hot that any token of the vocabulary may come, halves of characters among them.
        request.sampling = Sampling { temperature: 8.0, seed, ..Sampling::GREEDY };
        let answer = wire.generate(request).await.unwrap();
        let bytes: Vec<u8> = answer.ids.iter().flat_map(|id| vocabulary.bytes(*id).to_vec()).collect();
        assert_eq!(String::from_utf8_lossy(&bytes), answer.text, "seed {seed}");
        seen.extend(answer.ids);
    }
    assert!(seen.len() > 500, "only {} different tokens", seen.len());
}
