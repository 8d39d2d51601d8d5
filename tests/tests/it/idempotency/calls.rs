//! A call with its key, in each form of both dialects, and attempts at it that break off.

use caprock_tests::client::{Client, chat, chat_streamed, converse};
use caprock_tests::eventstream;
use caprock_tests::gateway::MODEL;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::Value;
use std::time::Duration;

/// How often one attempt waits for an answer that is given to its end just now.
const MOST_CONFLICTS: usize = 10;

/// Dialect, and whether it is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    ChatStream,
    Converse,
    ConverseStream,
}

pub(super) const FORMS: [Form; 4] = [Form::Chat, Form::ChatStream, Form::Converse, Form::ConverseStream];

impl Form {
    pub(super) fn path(self) -> String {
        match self {
            Form::Chat | Form::ChatStream => "/v1/chat/completions".into(),
            Form::Converse => format!("/model/{MODEL}/converse"),
            Form::ConverseStream => format!("/model/{MODEL}/converse-stream"),
        }
    }

    /// Input and output tokens, as a whole reply tells them.
    pub(super) fn usage(self, reply: &[u8]) -> (i64, i64) {
        let (usage, input, output) = match self {
            Form::Chat => (json(reply)["usage"].clone(), "prompt_tokens", "completion_tokens"),
            Form::ChatStream => {
                let text = std::str::from_utf8(reply).unwrap();
                assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
                let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
                let usage = data.map(|data| json(data.as_bytes())["usage"].clone()).find(Value::is_object);
                (usage.unwrap_or_else(|| panic!("no usage: {text}")), "prompt_tokens", "completion_tokens")
            }
            Form::Converse => (json(reply)["usage"].clone(), "inputTokens", "outputTokens"),
            Form::ConverseStream => {
                let (mut rest, mut usage) = (reply.to_vec(), Value::Null);
                while let Some(event) = eventstream::take(&mut rest).unwrap() {
                    assert_eq!(event.message_type, "event", "{event:?}");
                    if event.kind == "metadata" {
                        usage = event.body["usage"].clone();
                    }
                }
                assert!(rest.is_empty(), "the stream ended inside a message");
                (usage, "inputTokens", "outputTokens")
            }
        };
        let count = |name: &str| usage[name].as_i64().unwrap_or_else(|| panic!("no {name}: {usage}"));
        (count(input), count(output))
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// A call and its key.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) form: Form,
    pub(super) key: String,
    pub(super) body: Value,
}

/// Where an attempt breaks off.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// That long after it began, if the head has not come by then; with the head else.
    BeforeBody(Duration),
    /// Once so many bytes of the body have come.
    InBody(usize),
    Never,
}

/// What an attempt brought.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    /// The body came to its end.
    pub(super) whole: bool,
    /// The head said so.
    pub(super) replayed: bool,
}

impl Call {
    pub(super) fn new(form: Form, key: &str, text: &str, max_tokens: u32) -> Call {
        let body = match form {
            Form::Chat => chat(text, max_tokens),
            Form::ChatStream => chat_streamed(text, max_tokens),
            Form::Converse | Form::ConverseStream => converse(text, max_tokens),
        };
        Call { form, key: key.into(), body }
    }

    pub(super) async fn send(&self, client: &Client) -> Response {
        self.send_after(client, None).await
    }

    /// With the number of the last event that came before.
    pub(super) async fn send_after(&self, client: &Client, last_event: Option<usize>) -> Response {
        let mut request = client.request(Method::POST, &self.form.path()).header("idempotency-key", &self.key);
        if let Some(number) = last_event {
            request = request.header("last-event-id", number);
        }
        request.json(&self.body).send().await.unwrap()
    }

    /// Sends until it is answered: the status is 200, or 409 while the answer is given to its end elsewhere.
    async fn head(&self, client: &Client) -> Response {
        for _ in 0..MOST_CONFLICTS {
            let reply = self.send(client).await;
            match reply.status().as_u16() {
                200 => return reply,
                409 => {
                    assert!(reply.headers().contains_key("retry-after"), "{:?}", reply.headers());
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                status => panic!("{status} for {self:?}: {}", reply.text().await.unwrap()),
            }
        }
        panic!("always 409 for {self:?}");
    }

    /// One attempt.
    pub(super) async fn attempt(&self, client: &Client, cut: Cut) -> Got {
        let most = match cut {
            Cut::BeforeBody(after) => {
                let _ = tokio::time::timeout(after, self.head(client)).await; // the connection ends with the future
                return Got::default();
            }
            Cut::InBody(bytes) => bytes,
            Cut::Never => usize::MAX,
        };
        let reply = self.head(client).await;
        let replayed = reply.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let (mut pieces, mut bytes) = (reply.bytes_stream(), Vec::new());
        while bytes.len() < most {
            match pieces.next().await {
                Some(piece) => bytes.extend_from_slice(&piece.unwrap()),
                None => return Got { bytes, whole: true, replayed },
            }
        }
        Got { bytes, whole: false, replayed }
    }

    /// The whole answer.
    pub(super) async fn whole(&self, client: &Client) -> Got {
        let got = self.attempt(client, Cut::Never).await;
        assert!(got.whole, "{self:?}");
        got
    }
}
