//! The real model: an answer through prefill and decode equals one of a single process. Needs the model's path in
//! `CAPROCK_TEST_MODEL`; without it these tests say so and pass, since a checkout has no model file.

use crate::support::*;
use cluster_protocol::*;
use cluster_worker::EngineLimits;
use cluster_worker::config::{Config, EngineChoice};
use std::path::PathBuf;

fn llama() -> Option<Config> {
    let Some(model) = std::env::var_os("CAPROCK_TEST_MODEL").map(PathBuf::from) else {
        eprintln!("CAPROCK_TEST_MODEL is not set: nothing was tested");
        return None;
    };
    let mut config = sim("x");
    config.engine = EngineChoice::Llama { model };
    config.limits = EngineLimits { slots: 8, cells: 4096, context_tokens: 4096, chunk_tokens: 128, threads: 1 };
    Some(config)
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
    let Some(template) = llama() else { return };
    let alone = start(template.clone()).await;
    let (_prefill, decode) = pair(template).await;
    let mut single = connect(alone.address()).await;
    let mut split = connect(decode.address()).await;
    let long = "The river runs past the old mill, and the miller counts sacks of grain. ".repeat(12);
    let questions = ["What is the capital of France?", "Write one line about the sea.", &long];
    for (at, question) in questions.into_iter().enumerate() {
        for (seed, temperature) in [(0, 0.0), (5, 0.8)] {
            let mut generate = request(&format!("{at}-{seed}"), chat(alone.address(), question).await, LOCAL);
            generate.sampling = Sampling { temperature, top_p: 0.9, top_k: 40, seed };
            (generate.max_tokens, generate.grant) = (20, 20);
            let one = run(&mut single, generate.clone()).await;
            generate.prefill = remote();
            let two = run(&mut split, generate).await;
            println!("{} prompt tokens, {:?}: {}", one.done().counts.input_tokens, two.done().timings, two.text);
            assert_eq!(one.ids, two.ids, "{question}");
            assert_eq!(two.local_reason(), None, "it came from the prefill worker");
        }
    }
}
