//! What goes wrong is said in the caller's dialect, and costs nothing.

use caprock_tests::client::{Client, chat, converse};
use caprock_tests::gateway::MODEL;
use caprock_tests::stack::{Stack, StackSpec};
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// The configured limit in these tests, in bytes.
const BODY_LIMIT: usize = 64 << 10;

async fn stack() -> Stack {
    let mut spec = StackSpec::sim(&[]);
    spec.gateway = format!("[http]\nbody_bytes = {BODY_LIMIT}");
    spec.start().await
}

#[tokio::test]
async fn openai_callers_get_openai_errors() {
    let stack = stack().await;
    let client = stack.client();
    let path = "/v1/chat/completions";

    for bad in bad_keys(stack.gateway.credential("CAPROCK_API_KEY")) {
        let reply = client.with_key(&bad).post(path, &chat("Hi.", 8)).await;
        openai(reply, 401, "authentication_error|invalid_request_error").await;
    }
    let reply =
        reqwest::Client::new().post(format!("{}{path}", stack.gateway.url())).json(&chat("Hi.", 8)).send().await;
    openai(reply.unwrap(), 401, "authentication_error|invalid_request_error").await;

    let mut unknown = chat("Hi.", 8);
    unknown["model"] = json!("nobody.knows-this-v1:0");
    let error = openai(client.post(path, &unknown).await, 404, "invalid_request_error|not_found_error").await;
    assert_eq!(error["code"], "model_not_found");
    assert!(error["message"].as_str().unwrap().contains("nobody.knows-this-v1:0"));

    openai(send_raw(&client, path, "{\"model\": ").await, 400, "invalid_request_error").await;
    openai(send_raw(&client, path, "[]").await, 400, "invalid_request_error").await;
    openai(client.post(path, &chat(&"x".repeat(BODY_LIMIT), 8)).await, 413, "invalid_request_error").await;
    // Far more than sockets hold: the client is still sending when it is refused.
    openai(client.post(path, &chat(&"x".repeat(8 << 20), 8)).await, 413, "invalid_request_error").await;
    let mut nonsense = chat("Hi.", 8);
    nonsense["temperature"] = json!(17);
    let error = openai(client.post(path, &nonsense).await, 400, "invalid_request_error").await;
    assert_eq!(error["param"], "temperature");

    nothing_was_written_down(&stack).await;
}

#[tokio::test]
async fn bedrock_callers_get_bedrock_errors() {
    let stack = stack().await;
    let client = stack.client();
    for operation in ["converse", "converse-stream"] {
        let path = format!("/model/{MODEL}/{operation}");

        for bad in bad_keys(stack.gateway.credential("CAPROCK_API_KEY")) {
            let reply = client.with_key(&bad).post(&path, &converse("Hi.", 8)).await;
            bedrock(reply, 403, "AccessDeniedException|UnrecognizedClientException").await;
        }
        let bare = reqwest::Client::new().post(format!("{}{path}", stack.gateway.url())).json(&converse("Hi.", 8));
        bedrock(bare.send().await.unwrap(), 403, "MissingAuthenticationTokenException|AccessDeniedException").await;

        let unknown = format!("/model/nobody.knows-this-v1:0/{operation}");
        let reply = client.post(&unknown, &converse("Hi.", 8)).await;
        let status = reply.status().as_u16();
        assert!(status == 400 || status == 404, "{status}");
        bedrock(reply, status, "ValidationException|ResourceNotFoundException").await;

        bedrock(send_raw(&client, &path, "{\"messages\": ").await, 400, "ValidationException").await;
        bedrock(send_raw(&client, &path, "[]").await, 400, "ValidationException").await;
        let big = client.post(&path, &converse(&"x".repeat(BODY_LIMIT), 8)).await;
        let status = big.status().as_u16();
        assert!(status == 400 || status == 413, "{status}");
        bedrock(big, status, "ValidationException|RequestEntityTooLargeException").await;
    }
    nothing_was_written_down(&stack).await;
}

#[tokio::test]
async fn a_wrong_signature_is_refused_and_says_which_step_failed() {
    let stack = stack().await;
    let now = amz_date();
    let signed = |authorization: String| {
        reqwest::Client::new()
            .post(format!("{}/model/{MODEL}/converse", stack.gateway.url()))
            .header("x-amz-date", &now)
            .header("authorization", authorization)
            .json(&converse("Hi.", 8))
            .send()
    };
    let signature = |key: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/{}/us-east-1/bedrock/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={}",
            &now[..8],
            "0".repeat(64)
        )
    };
    let known = stack.gateway.credential("AWS_ACCESS_KEY_ID");
    let reply = signed(signature(known)).await.unwrap();
    bedrock(reply, 403, "InvalidSignatureException").await;
    let reply = signed(signature("AKIANOBODYKNOWSTHIS1")).await.unwrap();
    bedrock(reply, 403, "UnrecognizedClientException").await;
    nothing_was_written_down(&stack).await;
}

#[tokio::test]
async fn a_model_without_an_upstream_says_so() {
    let stack = stack().await;
    // In the catalog, but nobody stands in for it here.
    let mut body = chat("Hi.", 8);
    body["model"] = json!("amazon.nova-premier-v1:0");
    let reply = stack.client().post("/v1/chat/completions", &body).await;
    let status = reply.status();
    let error: Value = reply.json().await.unwrap();
    assert!(status.is_client_error() || status == 503, "{status} {error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("amazon.nova-premier-v1:0"), "{error}");
    nothing_was_written_down(&stack).await;
}

#[tokio::test]
async fn operators_and_callers_keys_do_not_open_each_others_doors() {
    let stack = stack().await;
    let admin = stack.client().with_key(stack.gateway.admin_token());
    assert_eq!(admin.post("/v1/chat/completions", &chat("Hi.", 8)).await.status(), 401);
    let url = format!("{}/admin/v1/requests/req_nothing", stack.gateway.admin_url());
    let as_caller = reqwest::Client::new().get(&url).bearer_auth(stack.gateway.credential("CAPROCK_API_KEY")).send();
    assert!([401, 403].contains(&as_caller.await.unwrap().status().as_u16()));
    assert!([401, 403].contains(&reqwest::get(&url).await.unwrap().status().as_u16()));
    let unknown = stack.client().admin("/admin/v1/requests/req_nothing").await.status().as_u16();
    assert!([400, 404].contains(&unknown), "{unknown}");
}

/// Wrong in every part: the whole, the secret, the checksum, nothing at all.
fn bad_keys(good: &str) -> Vec<String> {
    let flipped = |at: usize| {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).unwrap()
    };
    vec!["nonsense".into(), flipped(good.len() / 2), flipped(good.len() - 1), format!("{good}x")]
}

/// Now, as SigV4 writes it.
fn amz_date() -> String {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    time::OffsetDateTime::now_utc().format(&format).unwrap()
}

async fn send_raw(client: &Client, path: &str, body: &'static str) -> Response {
    let request = client.request(Method::POST, path).header("content-type", "application/json").body(body);
    request.send().await.unwrap()
}

/// Checks the shape of an OpenAI error; `types` separated by bars.
async fn openai(reply: Response, status: u16, types: &str) -> Value {
    assert!(reply.headers().contains_key("x-request-id"));
    let got = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    assert_eq!(got, status, "{body}");
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].as_str().is_some_and(|name| types.split('|').any(|known| known == name)), "{body}");
    assert!(error.get("param").is_some() && error.get("code").is_some(), "param and code are always there: {body}");
    error.clone()
}

/// Checks the shape of a Bedrock error; `names` separated by bars.
async fn bedrock(reply: Response, status: u16, names: &str) {
    let header = |name: &str| reply.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let name = header("x-amzn-errortype").expect("x-amzn-ErrorType names the exception");
    assert!(header("x-amzn-requestid").is_some());
    let got = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    assert_eq!(got, status, "{name}: {body}");
    let name = name.split(':').next().unwrap_or_default();
    assert!(names.split('|').any(|known| known == name), "{name}: {body}");
    let message = body.get("message").or_else(|| body.get("Message")).and_then(Value::as_str);
    assert!(message.is_some_and(|message| !message.is_empty()), "{body}");
}

async fn nothing_was_written_down(stack: &Stack) {
    assert_eq!(stack.at_rest().await, [], "a request that was refused opens no row and costs nothing");
}
