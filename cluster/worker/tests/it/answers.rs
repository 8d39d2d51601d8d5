//! What a gateway sees: text, counts, grants, stops, refusals.

use crate::support::*;
use cluster_protocol::*;
use std::time::Duration;

#[tokio::test]
async fn an_answer_through_a_prefill_worker_equals_a_local_one() {
    let (prefill, decode) = pair(sim("x")).await;
    let mut connection = connect(decode.address()).await;
    for (at, tokens) in [1, 2, 63, 64, 65, 127, 128, 129, 500, 1000].into_iter().enumerate() {
        let prompt = prompt(tokens, at as u32);
        let local = run(&mut connection, request(&format!("l{at}"), prompt.clone(), LOCAL)).await;
        let handed = run(&mut connection, request(&format!("r{at}"), prompt, remote())).await;
        assert_eq!((&local.text, &local.ids), (&handed.text, &handed.ids), "{tokens} tokens");
        assert_eq!(local.done().finish(), handed.done().finish());
        assert_eq!(local.done().counts, handed.done().counts);
        assert_eq!(handed.done().counts.input_tokens, tokens);
        let expected = PrefillPath::Remote {
            prefill_id: "p1".into(),
            kv_bytes: u64::from(tokens) * 16,
            chunks: tokens.div_ceil(64),
        };
        assert_eq!(handed.done().path, Path { engine: "sim".into(), decode: "d1".into(), prefill: expected });
    }
    becomes_idle(&prefill).await;
    becomes_idle(&decode).await;
}

#[tokio::test]
async fn sixteen_requests_share_eight_slots_and_answer_as_if_alone() {
    let mut template = sim("x");
    sim_options(&mut template).step_ms = 1;
    let (prefill, decode) = pair(template).await;
    let mut alone = connect(decode.address()).await;
    let mut expected = Vec::new();
    for at in 0..16 {
        expected.push(run(&mut alone, request(&format!("a{at}"), prompt(100 + at, at), LOCAL)).await.text);
    }
    let address = decode.address();
    let together = (0..16).map(|at| async move {
        let plan = if at % 2 == 0 { remote() } else { LOCAL };
        let mut connection = connect(address).await;
        run(&mut connection, request(&format!("t{at}"), prompt(100 + at, at), plan)).await.text
    });
    assert_eq!(futures::future::join_all(together).await, expected);
    becomes_idle(&prefill).await;
    becomes_idle(&decode).await;
}

#[tokio::test]
async fn nothing_is_computed_past_the_grant_until_it_is_extended() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    let whole = run(&mut connection, request("whole", prompt(10, 0), LOCAL)).await;

    let mut generate = request("granted", prompt(10, 0), LOCAL);
    generate.grant = 3;
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    let mut ids = Vec::new();
    for (raised, expected) in [(5, 3), (4, 5), (64, 5)] {
        while ids.len() < expected {
            match next(&mut connection).await {
                Message::Accepted(_) => {}
                Message::Token(token) => ids.extend(token.ids),
                other => panic!("{:?} after {} tokens", other.kind(), ids.len()),
            }
        }
        if raised != 64 {
            let counts = Counts { input_tokens: 10, output_tokens: expected as u32 };
            assert_eq!(next(&mut connection).await, Message::Paused(Paused { counts }));
        }
        assert!(connection.next_within(Duration::from_millis(20)).await.is_err(), "no token without a grant");
        // The second extension is lower than what was granted before, and changes nothing.
        connection.send(Message::Extend(Extend { grant: raised })).await.unwrap();
        if raised == 4 {
            assert!(connection.next_within(Duration::from_millis(20)).await.is_err());
            break;
        }
    }
    connection.send(Message::Extend(Extend { grant: 64 })).await.unwrap();
    let mut rest = Answer { ids, ..Answer::default() };
    finish_into(&mut connection, &mut rest).await;
    assert_eq!(rest.ids, whole.ids);
    assert_eq!(*rest.done().finish(), FinishReason::EndOfTurn);
}

#[tokio::test]
async fn an_answer_that_is_never_extended_ends_as_stopped() {
    let mut config = sim("d1");
    config.patience.client = Duration::from_millis(100);
    let worker = start(config).await;
    let mut connection = connect(worker.address()).await;
    let mut generate = request("1", prompt(10, 0), LOCAL);
    generate.grant = 2;
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    let answer = finish(&mut connection).await;
    assert_eq!(*answer.done().finish(), FinishReason::Stopped);
    assert_eq!(answer.done().counts, Counts { input_tokens: 10, output_tokens: 2 });
    becomes_idle(&worker).await;
}

#[tokio::test]
async fn stop_ends_the_answer_with_exact_counts_and_frees_the_connection() {
    let mut config = sim("d1");
    (sim_options(&mut config).step_ms, sim_options(&mut config).answer_tokens) = (5, 1000);
    let worker = start(config).await;
    let mut connection = connect(worker.address()).await;
    let mut generate = request("1", prompt(10, 0), LOCAL);
    (generate.max_tokens, generate.grant) = (500, 500);
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    assert!(matches!(next(&mut connection).await, Message::Accepted(_)));
    connection.send(Message::Stop).await.unwrap();
    let stopped = finish(&mut connection).await;
    assert_eq!(*stopped.done().finish(), FinishReason::Stopped);
    assert!(stopped.done().counts.output_tokens < 500);
    assert_eq!(
        receipt(&mut connection, "req_1").await,
        Receipt::Ended { counts: stopped.done().counts, finish: Some(FinishReason::Stopped) }
    );
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    let whole = run(&mut connection, request("1", prompt(10, 0), LOCAL)).await.text;
    let third: Vec<&str> = whole.split_inclusive(' ').skip(2).take(2).collect();
    let stop = third.concat();
    let mut generate = request("2", prompt(10, 0), LOCAL);
    generate.stop = vec!["never said".into(), stop.clone()];
    let cut = run(&mut connection, generate).await;
    assert_eq!(cut.text, whole[..whole.find(&stop).unwrap()]);
    assert_eq!(*cut.done().finish(), FinishReason::StopSequence { text: stop });
}

#[tokio::test]
async fn an_answer_ends_at_max_tokens_or_at_the_end_of_the_context() {
    let mut config = sim("d1");
    sim_options(&mut config).answer_tokens = 5000;
    let worker = start(config).await;
    let mut connection = connect(worker.address()).await;
    let most = run(&mut connection, request("1", prompt(10, 0), LOCAL)).await;
    assert_eq!((most.done().finish().clone(), most.ids.len()), (FinishReason::MaxTokens, 64));
    let full = run(&mut connection, request("2", prompt(1000, 0), LOCAL)).await;
    assert_eq!((full.done().finish().clone(), full.ids.len()), (FinishReason::ContextFull, 24));
    let long = run(&mut connection, request("3", prompt(1024, 0), LOCAL)).await;
    assert_eq!(long.error().code, ErrorCode::TooLong);
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_free_one_does_not() {
    let mut config = sim("d1");
    (config.limits.slots, config.queue) = (1, 1);
    sim_options(&mut config).answer_tokens = 5000;
    let worker = start(config).await;
    let (mut first, mut second, mut third) =
        (connect(worker.address()).await, connect(worker.address()).await, connect(worker.address()).await);
    let mut generate = request("1", prompt(10, 0), LOCAL);
    generate.grant = 1; // it holds its slot, paused
    first.send(Message::Generate(Box::new(generate))).await.unwrap();
    while !matches!(next(&mut first).await, Message::Paused(_)) {}
    second.send(Message::Generate(Box::new(request("2", prompt(10, 0), LOCAL)))).await.unwrap();
    while worker.load().waiting == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(run(&mut third, request("3", prompt(10, 0), LOCAL)).await.error().code, ErrorCode::Overloaded);
    first.send(Message::Stop).await.unwrap();
    let mut held = Answer { ids: vec![0], ..Answer::default() }; // the one token that came before
    finish_into(&mut first, &mut held).await;
    assert_eq!(*held.done().finish(), FinishReason::Stopped);
    assert_eq!(*finish(&mut second).await.done().finish(), FinishReason::MaxTokens);
    assert_eq!(*run(&mut third, request("4", prompt(10, 0), LOCAL)).await.done().finish(), FinishReason::MaxTokens);
}

#[tokio::test]
async fn requests_out_of_range_are_refused_and_the_connection_lives() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    let edits: [fn(&mut Generate); 12] = [
        |g| g.prompt.clear(),
        |g| g.prompt[0] = u32::MAX,
        |g| g.prompt[0] = 307,
        |g| g.max_tokens = 0,
        |g| g.grant = 0,
        |g| g.grant = g.max_tokens + 1,
        |g| g.sampling.temperature = -1.0,
        |g| g.sampling.top_p = 0.0,
        |g| g.sampling.top_p = 1.5,
        |g| g.stop = vec![String::new()],
        |g| g.stop = vec!["x".into(); limits::MAX_STOPS + 1],
        |g| g.request_id.clear(),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut generate = request(&at.to_string(), prompt(10, 0), LOCAL);
        edit(&mut generate);
        assert_eq!(run(&mut connection, generate).await.error().code, ErrorCode::BadRequest, "edit {at}");
    }
    let mut widest = request("widest", prompt(10, 0), LOCAL);
    widest.stop = (0..limits::MAX_STOPS).map(|at| format!("never said {at:04}")).collect();
    assert!(run(&mut connection, widest).await.done.is_some(), "as many as any dialect allows");
    let parts = vec![TextPart { text: "x".repeat(limits::MAX_PART_BYTES + 1), special: false }];
    connection.send(Message::Tokenize(Tokenize { parts })).await.unwrap();
    let Message::Error(error) = next(&mut connection).await else { panic!("not refused") };
    assert_eq!(error.code, ErrorCode::TooLong);
    assert!(run(&mut connection, request("good", prompt(10, 0), LOCAL)).await.done.is_some());
    let again = run(&mut connection, request("good", prompt(10, 0), LOCAL)).await;
    assert_eq!(again.error().code, ErrorCode::BadRequest, "an attempt runs once");
}

#[tokio::test]
async fn the_model_card_tokenising_and_receipts_answer_on_one_connection() {
    let worker = start(sim("d1")).await;
    let mut connection = connect(worker.address()).await;
    connection.send(Message::DescribeModel).await.unwrap();
    let Message::Model(card) = next(&mut connection).await else { panic!("no card") };
    assert_eq!(card.digest(), worker.info().card_digest);
    assert_eq!(card.tokenizer.tokens.len(), card.tokenizer.kinds.len());
    let parts = vec![
        TextPart { text: "<|im_start|>".into(), special: true },
        TextPart { text: "<|im_start|>".into(), special: false },
    ];
    connection.send(Message::Tokenize(Tokenize { parts })).await.unwrap();
    let Message::Tokens(tokens) = next(&mut connection).await else { panic!("no ids") };
    assert_eq!(card.tokenizer.tokens[tokens.ids[0] as usize], "<|im_start|>");
    let plain: Vec<u32> = "<|im_start|>".bytes().map(u32::from).collect();
    assert_eq!(tokens.ids[1..], plain, "a caller's text is never a special token");
    assert_eq!(receipt(&mut connection, "req_none").await, Receipt::Unknown);
}

#[tokio::test]
async fn sampled_answers_depend_on_the_seed_alone() {
    let (_prefill, decode) = pair(sim("x")).await;
    let mut connection = connect(decode.address()).await;
    let mut texts = Vec::new();
    for (at, (seed, plan)) in [(1, LOCAL), (1, remote()), (2, LOCAL), (2, remote())].into_iter().enumerate() {
        let mut generate = request(&at.to_string(), prompt(100, 0), plan);
        generate.sampling = Sampling { temperature: 1.0, top_p: 0.95, seed, ..Sampling::GREEDY };
        texts.push(run(&mut connection, generate).await.text);
    }
    assert_eq!((&texts[0], &texts[2]), (&texts[1], &texts[3]));
    assert_ne!(texts[0], texts[2]);
}
