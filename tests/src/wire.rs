//! A client of the worker protocol, written against `cluster-protocol` alone, so that a worker's mistake is not shared.

use crate::wait::within;
use cluster_protocol::{
    ClusterSecret, Codec, Counts, Done, Generate, Hello, Message, ModelCard, PeerKind, PrefillPlan, Proof, Sampling,
    TextPart, TokenLogprobs, Tokenize, WorkerError, WorkerInfo,
};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

/// For one frame; longer than any prefill in these tests.
const FRAME: Duration = Duration::from_secs(60);

/// A connection after its handshake. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    framed: Framed<TcpStream, Codec>,
    /// What the worker said of itself.
    pub info: WorkerInfo,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Ids sampled, in order.
    pub ids: Vec<u32>,
    /// The text shown.
    pub text: String,
    /// As many as `ids` when they were asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// The final frame.
    pub done: Done,
}

impl Wire {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// When the worker can't be reached or does not hold the secret.
    pub async fn connect(address: &str, secret: &ClusterSecret) -> Result<Wire, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut framed = Framed::new(stream, Codec::default());
        let hello = Hello::new(PeerKind::Tool, "tests");
        framed.send(Message::Hello(hello.clone())).await.map_err(|error| error.to_string())?;
        let Some(Ok(Message::Welcome(welcome))) = framed.next().await else {
            return Err("no welcome".into());
        };
        let session = secret.session(&hello, &welcome.nonce, &welcome.worker);
        if !session.accepts_server(&welcome.proof) {
            return Err("the worker does not hold the secret".into());
        }
        let proof = Proof { proof: session.client_proof() };
        framed.send(Message::Proof(proof)).await.map_err(|error| error.to_string())?;
        framed.codec_mut().secure_client(&session);
        Ok(Wire { framed, info: welcome.worker })
    }

    /// Sends one message.
    pub async fn send(&mut self, message: Message) {
        self.framed.send(message).await.unwrap();
    }

    /// The next message.
    ///
    /// # Errors
    /// In words, when the connection ends or breaks.
    pub async fn next(&mut self) -> Result<Message, String> {
        match within("the worker's next frame", FRAME, self.framed.next()).await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the worker closed the connection".into()),
        }
    }

    /// One request from its beginning to its end.
    ///
    /// # Errors
    /// The worker's own, or one with code `Engine` when the connection broke.
    pub async fn generate(&mut self, request: Generate) -> Result<Answer, WorkerError> {
        self.send(Message::Generate(Box::new(request))).await;
        let (mut ids, mut text, mut logprobs) = (Vec::new(), String::new(), Vec::new());
        loop {
            match self.next().await {
                Ok(Message::Accepted(_) | Message::Paused(_)) => {}
                Ok(Message::Token(token)) => {
                    ids.extend(token.ids);
                    logprobs.extend(token.logprobs);
                    text.push_str(&token.text);
                    assert_eq!(token.counts.output_tokens as usize, ids.len(), "counts are cumulative in every frame");
                }
                Ok(Message::Done(done)) => return Ok(Answer { ids, text, logprobs, done: *done }),
                Ok(Message::Error(error)) => return Err(error),
                Ok(other) => panic!("{:?} out of turn", other.kind()),
                Err(message) => {
                    return Err(WorkerError {
                        code: cluster_protocol::ErrorCode::Engine,
                        message,
                        counts: Counts::default(),
                    });
                }
            }
        }
    }

    /// The model's card.
    pub async fn describe_model(&mut self) -> ModelCard {
        self.send(Message::DescribeModel).await;
        match self.next().await {
            Ok(Message::Model(card)) => *card,
            other => panic!("no model card but {other:?}"),
        }
    }

    /// Ids as the engine makes them.
    pub async fn tokenize(&mut self, parts: Vec<TextPart>) -> Vec<u32> {
        self.send(Message::Tokenize(Tokenize { parts })).await;
        match self.next().await {
            Ok(Message::Tokens(tokens)) => tokens.ids,
            other => panic!("no tokens but {other:?}"),
        }
    }
}

/// A greedy request of `max_tokens` with the whole of them granted.
pub fn greedy(request_id: &str, prompt: Vec<u32>, max_tokens: u32, prefill: PrefillPlan) -> Generate {
    Generate {
        request_id: request_id.into(),
        attempt: 1,
        tenant: "ten_tests".into(),
        prompt,
        sampling: Sampling::GREEDY,
        constraint: None,
        logprobs: None,
        choices: 1,
        stop: Vec::new(),
        max_tokens,
        grant: max_tokens,
        prefill,
    }
}
