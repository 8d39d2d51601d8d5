//! A small cluster in this process, and a client that speaks to it as a gateway would.

use cluster_protocol::{
    ClusterSecret, Done, FinishReason, Generate, Hello, LocalReason, Message, PeerKind, PrefillPath, PrefillPlan,
    QueryReceipt, Receipt, Role, Sampling, TokenLogprobs, WorkerError,
};
use cluster_worker::config::{Config, EngineChoice, Patience};
use cluster_worker::connection::{Connection, ConnectionError};
use cluster_worker::{EngineLimits, SimOptions, Worker};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Far longer than anything here takes; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn secret() -> ClusterSecret {
    ClusterSecret::new("a secret for tests of the worker, long enough").unwrap()
}

pub(crate) fn sim(id: &str) -> Config {
    Config {
        worker_id: id.into(),
        role: Role::Decode,
        secret: secret(),
        prefills: BTreeMap::new(),
        engine: EngineChoice::Sim(SimOptions::default()),
        limits: EngineLimits { slots: 8, cells: 4096, context_tokens: 1024, chunk_tokens: 64, threads: 1 },
        queue: 16,
        connections: 64,
        patience: Patience::default(),
        crash: None,
    }
}

pub(crate) fn sim_options(config: &mut Config) -> &mut SimOptions {
    match &mut config.engine {
        EngineChoice::Sim(options) => options,
        #[cfg(feature = "llama")]
        EngineChoice::Llama { .. } => panic!("not a sim"),
    }
}

pub(crate) async fn start(config: Config) -> Worker {
    Worker::start(config, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

/// A prefill worker `p1`, and a decode worker that knows it; both from the same template.
pub(crate) async fn pair(mut template: Config) -> (Worker, Worker) {
    template.worker_id = "p1".into();
    template.role = Role::Prefill;
    let prefill = start(template.clone()).await;
    template.worker_id = "d1".into();
    template.role = Role::Decode;
    template.prefills.insert("p1".into(), prefill.address().to_string());
    (prefill, start(template).await)
}

pub(crate) async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, &secret(), Hello::new(PeerKind::Gateway, "test")).await.unwrap().0
}

pub(crate) const LOCAL: PrefillPlan = PrefillPlan::Local { reason: LocalReason::NoneConfigured };

pub(crate) fn remote() -> PrefillPlan {
    PrefillPlan::Remote { prefill_id: "p1".into() }
}

/// Ids that no answer of `sim` begins with.
pub(crate) fn prompt(tokens: u32, salt: u32) -> Vec<u32> {
    (0..tokens).map(|at| (at * 7 + salt * 31) % 200).collect()
}

pub(crate) fn request(id: &str, prompt: Vec<u32>, prefill: PrefillPlan) -> Generate {
    Generate {
        request_id: format!("req_{id}"),
        attempt: 1,
        tenant: "ten_1".into(),
        prompt,
        sampling: Sampling::GREEDY,
        constraint: None,
        logprobs: None,
        choices: 1,
        stop: Vec::new(),
        max_tokens: 64,
        grant: 64,
        prefill,
    }
}

/// All that came of one request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Of all choices, as it came.
    pub(crate) text: String,
    /// The same.
    pub(crate) ids: Vec<u32>,
    /// By choice.
    pub(crate) choices: BTreeMap<u32, Choice>,
    pub(crate) done: Option<Done>,
    pub(crate) error: Option<WorkerError>,
}

/// All that came of one choice.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    pub(crate) finish: Option<FinishReason>,
}

impl Answer {
    pub(crate) fn done(&self) -> &Done {
        self.done.as_ref().unwrap_or_else(|| panic!("no answer: {:?}", self.error))
    }

    pub(crate) fn error(&self) -> &WorkerError {
        self.error.as_ref().unwrap_or_else(|| panic!("no error: {:?}", self.done))
    }

    pub(crate) fn local_reason(&self) -> Option<LocalReason> {
        match self.done().path.prefill {
            PrefillPath::Local { reason } => Some(reason),
            PrefillPath::Remote { .. } => None,
        }
    }
}

pub(crate) async fn next(connection: &mut Connection) -> Message {
    connection.next_within(LIMIT).await.unwrap()
}

pub(crate) async fn run(connection: &mut Connection, generate: Generate) -> Answer {
    connection.send(Message::Generate(Box::new(generate))).await.unwrap();
    finish(connection).await
}

/// Reads to the end of the request.
pub(crate) async fn finish(connection: &mut Connection) -> Answer {
    let mut answer = Answer::default();
    finish_into(connection, &mut answer).await;
    answer
}

/// [`finish`] for an answer that was read in part.
pub(crate) async fn finish_into(connection: &mut Connection, answer: &mut Answer) {
    loop {
        match next(connection).await {
            Message::Accepted(_) | Message::Paused(_) => {}
            Message::Token(token) => {
                answer.text.push_str(&token.text);
                answer.ids.extend(&token.ids);
                let choice = answer.choices.entry(token.choice).or_default();
                assert_eq!(choice.finish, None, "nothing comes of a choice that has ended");
                choice.text.push_str(&token.text);
                choice.ids.extend(token.ids);
                choice.logprobs.extend(token.logprobs);
                choice.finish = token.finish;
                assert_eq!(token.counts.output_tokens as usize, answer.ids.len(), "counts are cumulative");
            }
            Message::Done(done) => {
                assert_eq!(done.counts.output_tokens as usize, answer.ids.len(), "every token was counted and sent");
                answer.done = Some(*done);
                return;
            }
            Message::Error(error) => {
                answer.error = Some(error);
                return;
            }
            other => panic!("{:?} is no part of an answer", other.kind()),
        }
    }
}

pub(crate) async fn receipt(connection: &mut Connection, request_id: &str) -> Receipt {
    let query = QueryReceipt { request_id: request_id.into(), attempt: 1 };
    connection.send(Message::QueryReceipt(query)).await.unwrap();
    match next(connection).await {
        Message::Receipt(receipt) => receipt,
        other => panic!("{:?} is no receipt", other.kind()),
    }
}

/// Waits until the worker holds nothing. Slots come back by an event on another thread, so this polls, bounded.
pub(crate) async fn becomes_idle(worker: &Worker) {
    let idle = async {
        while worker.load() != cluster_protocol::Load::default() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, idle).await.unwrap_or_else(|_| panic!("still holds {:?}", worker.load()));
}

pub(crate) async fn closes(connection: &mut Connection) {
    match connection.next_within(LIMIT).await {
        Err(ConnectionError::Closed | ConnectionError::Codec(_)) => {}
        other => panic!("not closed: {other:?}"),
    }
}
