//! One catalog, several gateways: what is changed on one counts on the other within a second.

use caprock_tests::client::chat;
use caprock_tests::gateway::{Database, Gateway, MODEL};
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// From a change's reply until another gateway goes by it.
const PROMISED: Duration = Duration::from_secs(1);

struct Pair {
    /// First, so that it ends before what it stands on.
    other: Gateway,
    stack: Stack,
    _dir: TempDir,
}

impl Pair {
    async fn start() -> Pair {
        let stack = StackSpec::sim(&[]).on(Database::Postgres).start().await;
        let dir = tempfile::Builder::new().prefix("caprock-test-").tempdir().unwrap();
        let mut other = stack.gateway.replica(dir.path(), "gateway-2", stack.gateway.store_url());
        let named = |worker: &caprock_tests::worker::Worker| (worker.id().to_owned(), worker.address().to_owned());
        other.write_config(&[named(&stack.decode)], &[named(&stack.prefill)], "");
        other.serve().await;
        Pair { other, stack, _dir: dir }
    }

    /// Changes the catalog on one gateway.
    async fn change(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, body) = ask(&self.stack.gateway, method, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status}: {body}");
        body
    }

    /// Waits until the other one says so, and not for longer than is promised.
    async fn seen(&self, what: &str, mut check: impl AsyncFnMut(&Gateway) -> bool) {
        let begun = Instant::now();
        until(what, PROMISED * 10, async || check(&self.other).await.then_some(())).await;
        assert!(begun.elapsed() <= PROMISED, "{what}: only after {:?}", begun.elapsed());
    }
}

async fn ask(gateway: &Gateway, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let url = format!("{}/admin/v1/{path}", gateway.admin_url());
    let mut call = reqwest::Client::new().request(method, url).bearer_auth(gateway.admin_token());
    if let Some(body) = body {
        call = call.json(&body);
    }
    let reply = call.send().await.unwrap();
    let status = reply.status();
    (status, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn what_is_changed_on_one_gateway_counts_on_the_other_within_a_second() {
    let pair = Pair::start().await;
    let model = json!({
        "id": "example.mine-v1:0", "name": "Mine", "provider": "Me", "stand_in": MODEL,
        "price_picousd_per_token": {"input": 5_000_000, "output": 7_000_000},
    });
    let path = "models/example.mine-v1:0";
    let made = pair.change(Method::POST, "models", model).await;
    pair.seen("the new model", async |other| ask(other, Method::GET, path, None).await.1 == made).await;

    pair.change(Method::PUT, "model-aliases/fast", json!({ "target": MODEL })).await;
    let alias = "model-aliases/fast";
    pair.seen("the alias", async |other| ask(other, Method::GET, alias, None).await.0 == 200).await;

    // The bundled model's price, by that alias, as the ledger has it.
    let price = json!({"price_picousd_per_token": {"input": 9_000_000, "source": "a contract"}});
    let bundled = format!("models/{MODEL}");
    let changed = pair.change(Method::PATCH, &bundled, price).await;
    pair.seen("the price", async |other| ask(other, Method::GET, &bundled, None).await.1 == changed).await;
    let client = pair.other.client();
    let mut request = chat("Hi.", 4);
    request["model"] = "fast".into();
    let (id, _) = client.chat(&request).await;
    let record = client.record(&id).await;
    assert_eq!(record["model_asked"], "fast");
    assert_eq!(record["ledger_entry"]["input_picousd_per_token"], 9_000_000);

    let (status, _) = ask(&pair.stack.gateway, Method::DELETE, &bundled, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    pair.seen("the old price", async |other| {
        let (_, view) = ask(other, Method::GET, &bundled, None).await;
        view["layer"] == "compiled_in"
    })
    .await;
}
