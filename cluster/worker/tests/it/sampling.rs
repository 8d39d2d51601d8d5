//! How tokens are chosen, told and counted: penalties, bias, log-probabilities, several choices, and answers that end with
//! their first token. Each through a prefill worker and without.

use crate::support::*;
use cluster_protocol::*;

/// `<|im_end|>` of the simulated model.
const END_OF_TURN: u32 = 306;

fn sampled(id: &str, tokens: u32, plan: PrefillPlan, sampling: Sampling) -> Generate {
    Generate { sampling, ..request(id, prompt(tokens, 0), plan) }
}

fn choices(mut generate: Generate, choices: u32) -> Generate {
    generate.choices = choices;
    generate.grant = choices * generate.max_tokens;
    generate
}

fn bias(token: u32, bias: f32) -> Vec<LogitBias> {
    vec![LogitBias { token, bias }]
}

/// The request without a prefill worker and with one: they must be one and the same answer.
async fn both_ways(generate: &Generate) -> Answer {
    let (prefill, decode) = pair(sim("x")).await;
    let mut connection = connect(decode.address()).await;
    let local = Generate { request_id: "req_local".into(), prefill: LOCAL, ..generate.clone() };
    let handed = Generate { request_id: "req_remote".into(), prefill: remote(), ..generate.clone() };
    let local = run(&mut connection, local).await;
    let handed = run(&mut connection, handed).await;
    assert_eq!(handed.local_reason(), None);
    assert_eq!((&local.choices, &local.done().finishes), (&handed.choices, &handed.done().finishes));
    assert_eq!(local.done().counts, handed.done().counts);
    becomes_idle(&prefill).await;
    becomes_idle(&decode).await;
    handed
}

#[tokio::test]
async fn every_sampling_parameter_draws_the_same_through_a_handoff() {
    let warm = || Sampling { temperature: 1.5, seed: 3, ..Sampling::GREEDY };
    let all = [
        warm(),
        Sampling { min_p: 0.3, ..warm() },
        Sampling { top_k: 5, top_p: 0.8, ..warm() },
        Sampling { presence_penalty: 1.5, frequency_penalty: 0.5, ..warm() },
        Sampling { repetition_penalty: 1.3, ..Sampling::GREEDY },
        Sampling { logit_bias: bias(260, 5.0), ..warm() },
    ];
    let mut seen = std::collections::HashSet::new();
    for sampling in all {
        let answer = both_ways(&sampled("x", 130, LOCAL, sampling)).await;
        assert!(seen.insert(answer.text.clone()), "another answer for each: {}", answer.text);
    }
}

#[tokio::test]
async fn a_bias_forces_and_forbids_and_a_penalty_keeps_words_from_coming_back() {
    let forced = Sampling { logit_bias: bias(270, 100.0), ..Sampling::GREEDY };
    let answer = both_ways(&sampled("x", 10, LOCAL, forced)).await;
    assert_eq!(answer.ids[..answer.ids.len() - 1], vec![270; answer.ids.len() - 1]);
    let first = both_ways(&request("x", prompt(10, 0), LOCAL)).await.ids[0];
    let forbidden = Sampling { logit_bias: bias(first, -100.0), ..Sampling::GREEDY };
    assert!(!both_ways(&sampled("x", 10, LOCAL, forbidden)).await.ids.contains(&first));
    // The simulated words' logits lie closer together than a presence penalty of 2 tears them apart.
    let narrow = Sampling { temperature: 0.5, presence_penalty: 2.0, frequency_penalty: 2.0, ..Sampling::GREEDY };
    let mut ids = both_ways(&sampled("x", 10, LOCAL, narrow)).await.ids;
    let said = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert!(said - ids.len() <= 1, "{said} tokens, {} different ones", ids.len());
}

#[tokio::test]
async fn logprobs_tell_the_models_own_distribution_whatever_the_request_made_of_it() {
    let mut generate = request("x", prompt(70, 0), LOCAL);
    generate.logprobs = Some(5);
    let plain = both_ways(&generate).await;
    for (id, told) in plain.choices[&0].ids.iter().zip(&plain.choices[&0].logprobs) {
        assert_eq!((told.chosen.id, told.top.len()), (*id, 5));
        assert_eq!(told.top[0], told.chosen, "greedy takes the most likely");
        assert!(told.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        assert!(told.top.iter().map(|entry| entry.logprob.exp()).sum::<f32>() < 1.0001);
    }
    let last = plain.choices[&0].logprobs.last().unwrap();
    assert_eq!((last.chosen.id, &last.chosen.bytes[..]), (END_OF_TURN, &b"<|im_end|>"[..]), "control tokens by name");
    let spelled: Vec<u8> = plain.choices[&0].logprobs[..16].iter().flat_map(|told| told.chosen.bytes.clone()).collect();
    assert_eq!(spelled, plain.text.as_bytes());
    generate.sampling.logit_bias = bias(plain.ids[0], -100.0);
    let biased = both_ways(&generate).await;
    assert_eq!(biased.choices[&0].logprobs[0].top, plain.choices[&0].logprobs[0].top);
    generate.logprobs = Some(0);
    let chosen_only = both_ways(&generate).await;
    assert!(chosen_only.choices[&0].logprobs.iter().all(|told| told.top.is_empty()));
    assert_eq!(chosen_only.choices[&0].logprobs.len(), chosen_only.ids.len());
}

#[tokio::test]
async fn choices_share_one_prompt_and_each_is_the_answer_it_would_be_alone() {
    let sampling = Sampling { temperature: 1.0, seed: 9, ..Sampling::GREEDY };
    let generate = choices(sampled("x", 200, LOCAL, sampling.clone()), 4);
    let answer = both_ways(&generate).await;
    let done = answer.done();
    assert_eq!(done.counts, Counts { input_tokens: 200, output_tokens: answer.ids.len() as u32 });
    assert_eq!((answer.choices.len(), done.finishes.len()), (4, 4));
    let texts: std::collections::HashSet<&str> = answer.choices.values().map(|choice| choice.text.as_str()).collect();
    assert_eq!(texts.len(), 4, "each has a seed of its own");
    for (number, choice) in &answer.choices {
        assert_eq!(choice.finish.as_ref(), Some(&done.finishes[*number as usize]));
        let alone = Sampling { seed: sampling.seed_of(*number), ..sampling.clone() };
        assert_eq!(both_ways(&sampled("y", 200, LOCAL, alone)).await.text, choice.text, "choice {number}");
    }
}

#[tokio::test]
async fn choices_hold_their_slots_and_cells_from_the_beginning_and_never_pass_the_grant() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    let mut generate = choices(request("1", prompt(100, 0), LOCAL), 3);
    generate.grant = 5;
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    let mut sampled = 0;
    let counts = loop {
        match next(&mut connection).await {
            Message::Token(token) => sampled += token.ids.len(),
            Message::Paused(paused) => break paused.counts,
            Message::Accepted(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((counts.output_tokens, sampled), (5, 5), "one step of three, and two of the next");
    assert_eq!(worker.load(), Load { running: 3, waiting: 0, cells_reserved: 100 + 3 * 64 });
    connection.send(Message::Extend(Extend { grant: 3 * 64 })).await.unwrap();
    let mut answer = Answer { ids: vec![0; 5], ..Answer::default() };
    finish_into(&mut connection, &mut answer).await;
    assert!(answer.done().finishes.iter().all(|finish| *finish == FinishReason::EndOfTurn));
    becomes_idle(&worker).await;
}

#[tokio::test]
async fn more_choices_than_slots_or_cells_are_refused_and_never_wait() {
    let mut config = sim("d1");
    (config.limits.slots, config.limits.cells) = (4, 2048);
    let worker = start(config).await;
    let mut connection = connect(worker.address()).await;
    for (number, count, tokens, code) in
        [(1, 5, 10, ErrorCode::TooLong), (2, 9, 10, ErrorCode::BadRequest), (3, 0, 10, ErrorCode::BadRequest)]
    {
        let mut generate = choices(request(&number.to_string(), prompt(tokens, 0), LOCAL), count);
        generate.grant = generate.grant.max(1);
        assert_eq!(run(&mut connection, generate).await.error().code, code, "{count} choices");
    }
    for (number, max_tokens, fits) in [(4, 509, true), (5, 510, false)] {
        let mut large = request(&number.to_string(), prompt(10, 0), LOCAL);
        large.max_tokens = max_tokens;
        let answer = run(&mut connection, choices(large, 4)).await;
        assert_eq!(answer.done.is_some(), fits, "10 + 4 × {max_tokens} in 2048 cells: {:?}", answer.error);
    }
    let mut below = choices(request("6", prompt(10, 0), LOCAL), 2);
    below.grant = 1;
    assert_eq!(run(&mut connection, below).await.error().code, ErrorCode::BadRequest, "one token for each choice");
}

#[tokio::test]
async fn a_stopped_request_names_an_end_for_every_choice() {
    let mut config = sim("d1");
    (sim_options(&mut config).step_ms, sim_options(&mut config).answer_tokens) = (2, 5000);
    let worker = start(config).await;
    let mut connection = connect(worker.address()).await;
    let mut generate = choices(request("1", prompt(10, 0), LOCAL), 3);
    generate.stop = vec![" the river that nobody ever named".into()];
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    while !matches!(next(&mut connection).await, Message::Token(_)) {}
    connection.send(Message::Stop).await.unwrap();
    let mut answer = Answer { ids: vec![0], ..Answer::default() };
    finish_into(&mut connection, &mut answer).await;
    assert_eq!(answer.done().finishes, vec![FinishReason::Stopped; 3]);
    becomes_idle(&worker).await;
}

/// Asks through the prefill worker; the answer must be one token, without any KV cache moved.
async fn moves_nothing(generate: Generate, finish: FinishReason) -> Answer {
    let answer = both_ways(&generate).await;
    let path = PrefillPath::Remote { prefill_id: "p1".into(), kv_bytes: 0, chunks: 0 };
    assert_eq!(answer.done().path.prefill, path);
    assert!(answer.done().finishes.iter().all(|each| *each == finish), "{:?}", answer.done().finishes);
    let counts = Counts { input_tokens: generate.prompt.len() as u32, output_tokens: generate.choices };
    assert_eq!(answer.done().counts, counts);
    answer
}

#[tokio::test]
async fn one_token_answers_move_no_kv_cache_at_any_length() {
    for tokens in [1, 64, 65, 500] {
        let mut generate = request("x", prompt(tokens, 0), LOCAL);
        (generate.max_tokens, generate.grant) = (1, 1);
        generate.logprobs = Some(2);
        let answer = moves_nothing(generate.clone(), FinishReason::MaxTokens).await;
        assert_eq!(answer.choices[&0].logprobs.len(), 1);
        moves_nothing(choices(generate, 3), FinishReason::MaxTokens).await;
    }
    let mut last = request("x", prompt(1023, 0), LOCAL);
    (last.max_tokens, last.grant) = (9, 9);
    moves_nothing(last, FinishReason::ContextFull).await;
}

#[tokio::test]
async fn a_first_token_that_ends_the_answer_never_reaches_decodes_engine() {
    let ends = Sampling { logit_bias: bias(END_OF_TURN, 100.0), ..Sampling::GREEDY };
    let answer = moves_nothing(sampled("x", 60, LOCAL, ends.clone()), FinishReason::EndOfTurn).await;
    assert_eq!(answer.text, "");
    let mut stopped = request("x", prompt(60, 0), LOCAL);
    let word = both_ways(&stopped).await.choices[&0].text.split_inclusive(' ').nth(1).unwrap().trim().to_owned();
    stopped.stop = vec![word.clone()];
    moves_nothing(stopped, FinishReason::StopSequence { text: word }).await;
    // Chunks before the last are on their way while the prompt is still computed; the last one is not sent.
    let long = both_ways(&sampled("x", 160, LOCAL, ends)).await;
    let path = PrefillPath::Remote { prefill_id: "p1".into(), kv_bytes: 128 * 16, chunks: 2 };
    assert_eq!((long.done().path.prefill.clone(), long.done().finishes.clone()), (path, vec![FinishReason::EndOfTurn]));
}

fn constrained(generate: Generate, pattern: &str) -> Generate {
    let grammar = Grammar::Regex { pattern: pattern.into() };
    Generate { constraint: Some(Constraint { grammar, trigger: None }), ..generate }
}

#[tokio::test]
async fn a_constraint_binds_from_the_first_token_on_and_ends_the_answer_where_it_ends() {
    let answer = both_ways(&constrained(request("x", prompt(130, 0), LOCAL), "[a-c]{3,5}x")).await;
    assert_eq!(answer.done().finishes, [FinishReason::EndOfTurn]);
    assert!(answer.text.ends_with('x') && (4..=6).contains(&answer.text.len()), "{}", answer.text);
    let warm = Sampling { temperature: 2.0, seed: 4, ..Sampling::GREEDY };
    let several = choices(constrained(sampled("x", 130, LOCAL, warm), "[a-z]{4,9}"), 3);
    let answer = both_ways(&several).await;
    for choice in answer.choices.values() {
        let letters = choice.text.bytes().all(|byte| byte.is_ascii_lowercase());
        assert!(letters && (4..=9).contains(&choice.text.len()), "{}", choice.text);
    }
    assert_ne!(answer.choices[&0].text, answer.choices[&1].text);
    let mut cut = constrained(request("x", prompt(130, 0), LOCAL), "[a-c]{30,50}x");
    (cut.max_tokens, cut.grant) = (7, 7);
    assert_eq!(both_ways(&cut).await.done().finishes, [FinishReason::MaxTokens]);
}

#[tokio::test]
async fn a_constraint_of_one_token_moves_no_kv_cache() {
    moves_nothing(constrained(request("x", prompt(60, 0), LOCAL), "[a-c]"), FinishReason::EndOfTurn).await;
}

#[tokio::test]
async fn a_trigger_binds_what_follows_it() {
    // The simulated model says words; whichever comes second is the trigger, and bytes must follow.
    let plain = both_ways(&request("x", prompt(130, 0), LOCAL)).await;
    let word = plain.text.split_inclusive(' ').nth(1).unwrap().trim().to_owned();
    let mut generate = constrained(request("x", prompt(130, 0), LOCAL), "=[0-9]{3};");
    let trigger = Trigger { texts: vec![word.clone()], tokens: Vec::new(), once: false };
    generate.constraint.as_mut().unwrap().trigger = Some(trigger);
    let again = both_ways(&generate).await;
    let (_, behind) = again.text.split_once(&word).unwrap();
    assert!(behind.starts_with('=') && behind.as_bytes()[4] == b';', "{}", again.text);
    assert!(behind.len() > 5, "free again: {}", again.text);
    generate.constraint.as_mut().unwrap().trigger.as_mut().unwrap().once = true;
    let once = both_ways(&generate).await;
    assert!(once.text.ends_with(';') && again.text.starts_with(&once.text), "{}", once.text);
}

#[tokio::test]
async fn constraints_that_no_worker_takes_are_refused_and_hold_nothing() {
    let (prefill, decode) = pair(sim("x")).await;
    let mut connection = connect(decode.address()).await;
    let long = "a".repeat(limits::MAX_GRAMMAR_BYTES + 1);
    for (number, pattern) in ["(", "(?=a)b", &long].into_iter().enumerate() {
        let generate = constrained(request(&number.to_string(), prompt(10, 0), remote()), pattern);
        assert_eq!(run(&mut connection, generate).await.error().code, ErrorCode::BadRequest);
    }
    let mut empty = constrained(request("t", prompt(10, 0), LOCAL), "a");
    let trigger = Trigger { texts: Vec::new(), tokens: Vec::new(), once: true };
    empty.constraint.as_mut().unwrap().trigger = Some(trigger);
    assert_eq!(run(&mut connection, empty).await.error().code, ErrorCode::BadRequest);
    assert_eq!((prefill.load(), decode.load()), (Load::default(), Load::default()));
}
