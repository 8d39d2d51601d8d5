//! What a gateway sees: text, counts, grants, stops, refusals.

use crate::support::*;
use cluster_protocol::*;
use std::collections::HashSet;

#[tokio::test]
async fn an_answer_through_a_prefill_worker_equals_a_local_one() {
    let (prefill, decode) = pair(sim("x")).await;
    let mut connection = connect(decode.address()).await;
    for (at, tokens) in [1, 2, 63, 64, 65, 127, 128, 129, 500, 1000].into_iter().enumerate() {
        let prompt = prompt(tokens, at as u32);
        let local = run(&mut connection, request(&format!("l{at}"), prompt.clone(), LOCAL)).await;
        let handed = run(&mut connection, request(&format!("r{at}"), prompt, remote())).await;
        assert_eq!((&local.text, &local.ids), (&handed.text, &handed.ids), "{tokens} tokens");
        assert_eq!(local.done().finish, handed.done().finish);
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
