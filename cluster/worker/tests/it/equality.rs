//! The real model: an answer through prefill and decode equals one of a single process. Needs `CAPROCK_TEST_MODEL`, the
//! path of a GGUF file that speaks ChatML; without it these tests fail rather than skip in silence.

use crate::support::*;
use cluster_protocol::*;
use cluster_worker::EngineLimits;
use cluster_worker::config::{Config, EngineChoice};

fn llama() -> Config {
    let model = std::env::var_os("CAPROCK_TEST_MODEL").expect("set CAPROCK_TEST_MODEL to a GGUF file").into();
    let mut config = sim("x");
    config.engine = EngineChoice::Llama { model };
    config.limits = EngineLimits { slots: 8, cells: 4096, context_tokens: 4096, chunk_tokens: 128, threads: 1 };
    config
}

async fn tokenize(address: std::net::SocketAddr, parts: &[(&str, bool)]) -> Vec<u32> {
    let mut connection = connect(address).await;
    let parts = parts.iter().map(|(text, special)| TextPart { text: (*text).into(), special: *special }).collect();
    connection.send(Message::Tokenize(Tokenize { parts })).await.unwrap();
    match next(&mut connection).await {
        Message::Tokens(tokens) => tokens.ids,
        other => panic!("{other:?}"),
    }
}

async fn chat(address: std::net::SocketAddr, question: &str) -> Vec<u32> {
    let parts = [
        ("<|im_start|>", true),
        ("user\n", false),
        (question, false),
        ("<|im_end|>", true),
        ("\n", false),
        ("<|im_start|>", true),
        ("assistant\n", false),
    ];
    tokenize(address, &parts).await
}

#[tokio::test]
async fn a_handed_over_prompt_gives_the_tokens_of_one_process() {
    let template = llama();
    let alone = start(template.clone()).await;
    let (_prefill, decode) = pair(template).await;
    let mut single = connect(alone.address()).await;
    let mut split = connect(decode.address()).await;
    let long = "The river runs past the old mill, and the miller counts sacks of grain. ".repeat(12);
    let questions = ["What is the capital of France?", "Write one line about the sea.", &long];
    for (at, question) in questions.into_iter().enumerate() {
        for (seed, temperature) in [(0, 0.0), (5, 0.8)] {
            let mut generate = request(&format!("{at}-{seed}"), chat(alone.address(), question).await, LOCAL);
            generate.sampling = Sampling { temperature, top_p: 0.9, top_k: 40, seed, ..Sampling::GREEDY };
            (generate.max_tokens, generate.grant) = (20, 20);
            let one = run(&mut single, generate.clone()).await;
            generate.prefill = remote();
            let two = run(&mut split, generate).await;
            assert_eq!(one.ids, two.ids, "{question}");
            assert_eq!(two.local_reason(), None, "it came from the prefill worker");
        }
    }
}

#[tokio::test]
async fn prompts_at_the_borders_of_chunks_are_handed_over_whole() {
    let template = llama();
    let alone = start(template.clone()).await;
    let (_prefill, decode) = pair(template).await;
    let mut single = connect(alone.address()).await;
    let mut split = connect(decode.address()).await;
    let story = "Once there was a lighthouse keeper who wrote a letter to the sea every evening. ".repeat(20);
    let ids = tokenize(alone.address(), &[(&story, false)]).await;
    for tokens in [1, 127, 128, 129, 257] {
        let mut generate = request(&tokens.to_string(), ids[..tokens].to_vec(), LOCAL);
        (generate.max_tokens, generate.grant) = (12, 12);
        let one = run(&mut single, generate.clone()).await;
        generate.prefill = remote();
        let two = run(&mut split, generate).await;
        assert_eq!((one.ids, None), (two.ids.clone(), two.local_reason()), "{tokens} tokens");
        let PrefillPath::Remote { chunks, kv_bytes, .. } = two.done().path.prefill else { panic!("local") };
        assert_eq!(chunks as usize, tokens.div_ceil(128));
        assert!(kv_bytes > 0);
    }
}

#[tokio::test]
async fn eight_answers_at_once_are_whole_and_leave_nothing_held() {
    let (prefill, decode) = pair(llama()).await;
    let address = decode.address();
    let question = chat(address, "Name three colours.").await;
    let together = (0..8).map(|at| {
        let mut generate = request(&at.to_string(), question.clone(), if at % 2 == 0 { remote() } else { LOCAL });
        (generate.max_tokens, generate.grant) = (12, 12);
        async move { run(&mut connect(address).await, generate).await }
    });
    for answer in futures::future::join_all(together).await {
        assert_eq!(answer.done().path.engine, "llama");
        assert!(!answer.text.trim().is_empty(), "{answer:?}");
    }
    becomes_idle(&prefill).await;
    becomes_idle(&decode).await;
}

#[tokio::test]
async fn the_card_has_all_that_a_gateway_needs_to_tokenise() {
    let worker = start(llama()).await;
    let mut connection = connect(worker.address()).await;
    connection.send(Message::DescribeModel).await.unwrap();
    let Message::Model(card) = next(&mut connection).await else { panic!("no card") };
    assert_eq!(card.digest(), worker.info().card_digest);
    let tokenizer = &card.tokenizer;
    assert_eq!(tokenizer.kind, "gpt2");
    assert!(!tokenizer.pre.is_empty() && !tokenizer.merges.is_empty());
    assert_eq!(tokenizer.tokens.len(), tokenizer.kinds.len());
    assert!(card.chat_template.as_ref().is_some_and(|template| template.contains("<|im_start|>")));
    let ends: Vec<&str> =
        tokenizer.end_of_generation.iter().map(|id| tokenizer.tokens[*id as usize].as_str()).collect();
    assert!(ends.contains(&"<|im_end|>"), "{ends:?}");
    // A caller's text is never a special token, and every byte of it is in its ids.
    let plain = tokenize(worker.address(), &[("<|im_end|> né 🌲", false)]).await;
    assert!(plain.iter().all(|id| tokenizer.kinds[*id as usize] == TokenKind::Normal), "{plain:?}");
}
