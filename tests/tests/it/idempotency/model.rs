//! The same with the real model, whose generation takes long enough to leave at any point.

use super::storm::Storm;
use caprock_tests::stack::StackSpec;

#[tokio::test]
async fn thirty_calls_of_the_real_model_with_disconnects_and_retries_make_one_generation_each() {
    let stack = StackSpec::real().start().await;
    Storm { calls: 30, at_once: 4, most_tokens: 32, head_ms: 600 }.run(&stack).await;
}
