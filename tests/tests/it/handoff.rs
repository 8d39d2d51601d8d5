//! Hand-off equality with the real model: a prompt computed in one process and continued in another gives the very
//! tokens that one process doing both gives.

use caprock_tests::pair::{Pair, Secret, local_reason, locally, remotely};
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_protocol::{LocalReason, PrefillPath, Role, TextPart};
use std::time::Instant;

const OUTPUT_TOKENS: u32 = 20;
const CHUNK_TOKENS: usize = 256;
/// 24 lengths; borders of one to four chunks, each from below, at and above.
const LENGTHS: [usize; 24] = [
    10, 13, 19, 32, 47, 64, 100, 128, 180, 255, 256, 257, 300, 350, 400, 511, 512, 513, 600, 767, 768, 769, 1025, 1500,
];
/// Real text of several kinds: law, code, configuration.
const TEXTS: [&str; 3] = [
    include_str!("../../../LICENSE"),
    include_str!("handoff.rs"),
    include_str!("../../../gateway/src/config.default.toml"),
];

#[tokio::test]
async fn twenty_greedy_tokens_through_a_handoff_equal_those_of_one_process() {
    let pair = Pair::start(Engine::Llama).await;
    // The reference is a process of its own, with one thread like the others: both sides can compute at the same time,
    // each one sequence at a time, and the test takes half as long.
    let secret = Secret::new();
    let mut alone = secret.worker(WorkerSpec::new(Role::Decode, "alone-1", Engine::Llama));
    alone.ready().await;
    let mut reference = alone.connect().await;
    let mut wire = pair.decode.connect().await;
    assert_eq!(wire.info.fingerprint, reference.info.fingerprint);
    assert_eq!(wire.info.engine, "llama");
    assert_eq!(wire.info.fingerprint.chunk_tokens as usize, CHUNK_TOKENS);
    let text = TextPart { text: TEXTS.concat(), special: false };
    let tokens = wire.tokenize(vec![text]).await;
    assert!(tokens.len() > 3000, "{} tokens", tokens.len());

    let mut different = Vec::new();
    for (index, length) in LENGTHS.into_iter().enumerate() {
        // Another place in the text for each, so that nothing could come out of a cache.
        let start = index * (tokens.len() - 1500) / LENGTHS.len();
        let prompt = &tokens[start..start + length];
        let begun = Instant::now();
        let (remote_id, local_id) = (format!("req_remote_{length}"), format!("req_local_{length}"));
        let (remote, local) = tokio::join!(
            remotely(&mut wire, &remote_id, prompt, OUTPUT_TOKENS),
            locally(&mut reference, &local_id, prompt, OUTPUT_TOKENS),
        );
        let (remote, local) = (remote.unwrap(), local.unwrap());
        let PrefillPath::Remote { prefill_id, kv_bytes, chunks } = &remote.done.path.prefill else {
            panic!("{length} tokens were not computed remotely: {:?}", remote.done.path);
        };
        assert_eq!(prefill_id, "prefill-1");
        assert_eq!(*chunks as usize, length.div_ceil(CHUNK_TOKENS));
        assert!(*kv_bytes > length as u64 * 1000, "{kv_bytes} bytes of KV for {length} tokens");
        assert_eq!(local_reason(&local), Some(LocalReason::ShortPrompt));
        assert_eq!(remote.done.counts.input_tokens as usize, length);
        println!("{length:5} tokens: {:5} ms, {:?}", begun.elapsed().as_millis(), remote.text);
        if (remote.ids, remote.text, remote.done.finishes) != (local.ids, local.text, local.done.finishes) {
            different.push(length);
        }
    }
    assert_eq!(different, [0; 0], "prompts of these lengths differ");
    drop((wire, reference));
    pair.decode.idle().await;
    pair.prefill.idle().await;
}
