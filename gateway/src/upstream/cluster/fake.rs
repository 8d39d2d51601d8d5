//! A worker for tests: speaks the real protocol over real sockets and answers by script.

use super::{Cluster, Deadlines, Job, Peer};
use crate::config;
use crate::id::{RequestId, TenantId};
use crate::upstream::Metrics;
use cluster_protocol::*;
use futures::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::codec::Framed;

pub(crate) const SECRET: &str = "a secret that gateway and workers of these tests share";

/// What a worker does once it has read `Generate`.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Message),
    /// Waits for the gateway's next message.
    Receive,
    /// Waits until the test says so.
    Wait(Arc<Notify>),
    /// Closes the connection.
    Close,
    /// Says nothing more until the gateway closes.
    Hang,
}

pub(crate) struct FakeWorker {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    info: Mutex<WorkerInfo>,
    secret: Mutex<String>,
    scripts: Mutex<VecDeque<Vec<Step>>>,
    receipt: Mutex<Receipt>,
    seen: watch::Sender<Seen>,
}

/// What has happened to a fake worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Handshakes that ended well.
    pub(crate) connections: usize,
    /// Authenticated connections that are closed.
    pub(crate) closed: usize,
    /// Every message after the handshake.
    pub(crate) messages: Vec<Message>,
}

impl Seen {
    pub(crate) fn generates(&self) -> Vec<Generate> {
        let generate = |message: &Message| match message {
            Message::Generate(generate) => Some((**generate).clone()),
            _ => None,
        };
        self.messages.iter().filter_map(generate).collect()
    }
}

impl FakeWorker {
    pub(crate) async fn start(id: &str, role: Role) -> FakeWorker {
        Self::start_at("127.0.0.1:0".parse().unwrap(), id, role, 1).await
    }

    pub(crate) async fn start_at(address: SocketAddr, id: &str, role: Role, epoch: u64) -> FakeWorker {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            info: Mutex::new(info(id, role, epoch)),
            secret: Mutex::new(SECRET.into()),
            scripts: Mutex::default(),
            receipt: Mutex::new(Receipt::Unknown),
            seen: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        FakeWorker { address, shared, task }
    }

    /// What to do at the next `Generate`; without a script it answers "hello" at once.
    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.shared.scripts.lock().unwrap().push_back(steps.into_iter().collect());
    }

    pub(crate) fn edit(&self, edit: impl FnOnce(&mut WorkerInfo)) {
        edit(&mut self.shared.info.lock().unwrap());
    }

    pub(crate) fn set_secret(&self, secret: &str) {
        *self.shared.secret.lock().unwrap() = secret.into();
    }

    pub(crate) fn set_receipt(&self, receipt: Receipt) {
        *self.shared.receipt.lock().unwrap() = receipt;
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until what has happened is as `wanted`.
    pub(crate) async fn until(&self, wanted: impl Fn(&Seen) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        let waits = seen.wait_for(|seen| wanted(seen));
        let in_time = tokio::time::timeout(Duration::from_secs(10), waits).await;
        assert!(in_time.is_ok(), "the worker saw {:?}", self.seen());
    }

    /// Closes everything, as a killed process does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint {
        engine: "sim".into(),
        build: "1".into(),
        model_sha256: "00".into(),
        kv_type: "f16".into(),
        flash_attention: false,
        kv_unified: true,
        chunk_tokens: 256,
    }
}

/// A vocabulary that the gateway does not tokenise, and a template that only repeats what was said.
fn card() -> ModelCard {
    ModelCard {
        name: "test".into(),
        architecture: "test".into(),
        trained_context_tokens: 2048,
        tokenizer: TokenizerCard {
            kind: "test".into(),
            pre: "test".into(),
            tokens: vec!["a".into()],
            kinds: vec![TokenKind::Normal],
            merges: vec![],
            bos: None,
            eos: None,
            end_of_generation: vec![],
            add_bos: false,
        },
        chat_template: Some("{% for message in messages %}{{ message.content }}{% endfor %}".into()),
    }
}

fn info(id: &str, role: Role, epoch: u64) -> WorkerInfo {
    WorkerInfo {
        worker_id: id.into(),
        role,
        engine: "sim".into(),
        model: "test".into(),
        fingerprint: fingerprint(),
        card_digest: card().digest(),
        epoch,
        context_tokens: 2048,
        slots: 8,
        cells: 8192,
        load: Load::default(),
    }
}

pub(crate) fn token(text: &str, output_tokens: u32) -> Step {
    Step::Send(Message::Token(Token {
        choice: 0,
        text: text.into(),
        ids: vec![1],
        logprobs: Vec::new(),
        finish: None,
        counts: counts(output_tokens),
    }))
}

pub(crate) fn accepted() -> Step {
    Step::Send(Message::Accepted(Accepted { queue_us: 0 }))
}

pub(crate) fn done(finish: FinishReason, output_tokens: u32) -> Step {
    let prefill = PrefillPath::Local { reason: LocalReason::NoneConfigured };
    let path = Path { engine: "sim".into(), decode: "decode-1".into(), prefill };
    let done = Done { finishes: vec![finish], counts: counts(output_tokens), timings: Timings::default(), path };
    Step::Send(Message::Done(Box::new(done)))
}

pub(crate) fn error(code: ErrorCode) -> Step {
    Step::Send(Message::Error(WorkerError { code, message: "scripted".into(), counts: Counts::default() }))
}

/// Of the prompt that the tests use: three tokens.
pub(crate) fn counts(output_tokens: u32) -> Counts {
    Counts { input_tokens: 3, output_tokens }
}

pub(crate) fn deadlines() -> Deadlines {
    // Short where a test waits for one to pass, long everywhere else: the machine may be busy.
    Deadlines { healthy: Duration::from_secs(10), ..Deadlines::default() }
}

pub(crate) fn cluster_with(decode: &[&FakeWorker], prefill: &[&FakeWorker], deadlines: Deadlines) -> Arc<Cluster> {
    let workers = |workers: &[&FakeWorker], role: &str| {
        let worker = |(i, worker): (usize, &&FakeWorker)| config::Worker {
            id: format!("{role}-{}", i + 1),
            address: worker.address.to_string(),
        };
        workers.iter().enumerate().map(worker).collect()
    };
    let config = config::Cluster {
        name: "bundled".into(),
        model: "m".into(),
        stands_in_for: vec![],
        decode: workers(decode, "decode"),
        prefill: workers(prefill, "prefill"),
        min_remote_prefill_tokens: 3,
    };
    let secret = ClusterSecret::new(SECRET).unwrap();
    let peer = Peer { gateway_id: "gateway-1".into(), secret, deadlines };
    Arc::new(Cluster::new(&config, peer, Metrics::default()))
}

/// A cluster all of whose workers have been seen, as after a first round of probes.
pub(crate) async fn cluster_of(decode: &[&FakeWorker], prefill: &[&FakeWorker]) -> Arc<Cluster> {
    let cluster = cluster_with(decode, prefill, deadlines());
    see_all(&cluster).await;
    cluster
}

pub(crate) async fn see_all(cluster: &Arc<Cluster>) {
    for worker in cluster.workers() {
        let connection = cluster.connection(worker).await.unwrap();
        worker.give_back(connection);
    }
}

pub(crate) async fn decode() -> FakeWorker {
    FakeWorker::start("decode-1", Role::Decode).await
}

pub(crate) fn job() -> Job {
    Job {
        card_digest: card().digest(),
        request_id: RequestId::new(),
        tenant: TenantId::new(),
        prompt: vec![1, 2, 3],
        sampling: Sampling::GREEDY,
        constraint: None,
        logprobs: None,
        choices: 1,
        stop: vec![],
        shown: vec![],
        max_tokens: 10,
        grant: 4,
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this future, which closes every connection.
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        serving.spawn(async move {
            if let Some(framed) = welcome(socket, &shared).await {
                shared.seen.send_modify(|seen| seen.connections += 1);
                serve(framed, &shared).await;
                shared.seen.send_modify(|seen| seen.closed += 1);
            }
        });
    }
}

async fn welcome(socket: TcpStream, shared: &Shared) -> Option<Framed<TcpStream, Codec>> {
    let mut framed = Framed::new(socket, Codec::default());
    let Message::Hello(hello) = framed.next().await?.ok()? else { panic!("no Hello") };
    let secret = ClusterSecret::new(&shared.secret.lock().unwrap()).unwrap();
    let info = shared.info.lock().unwrap().clone();
    let (welcome, session) = Welcome::new(&secret, &hello, info);
    framed.send(Message::Welcome(Box::new(welcome))).await.ok()?;
    let Message::Proof(proof) = framed.next().await?.ok()? else { panic!("no Proof") };
    assert!(session.accepts_client(&proof.proof));
    framed.codec_mut().secure_server(&session);
    Some(framed)
}

async fn serve(mut framed: Framed<TcpStream, Codec>, shared: &Shared) {
    while let Some(message) = receive(&mut framed, shared).await {
        let answer = match message {
            Message::Generate(_) => {
                let next = shared.scripts.lock().unwrap().pop_front();
                let script =
                    next.unwrap_or_else(|| vec![accepted(), token("hello", 1), done(FinishReason::EndOfTurn, 2)]);
                if play(&mut framed, script, shared).await.is_none() {
                    return;
                }
                continue;
            }
            Message::Tokenize(tokenize) => {
                // A byte is a token: callers can reckon with that.
                let ids = tokenize.parts.iter().flat_map(|part| part.text.bytes()).map(u32::from).collect();
                Message::Tokens(Tokens { ids })
            }
            Message::QueryReceipt(_) => Message::Receipt(shared.receipt.lock().unwrap().clone()),
            Message::DescribeModel => Message::Model(Box::new(card())),
            // Late or idle: a real worker ignores both.
            Message::Stop | Message::Extend(_) => continue,
            _ => Message::Error(WorkerError {
                code: ErrorCode::BadRequest,
                message: "not in this test".into(),
                counts: Counts::default(),
            }),
        };
        if framed.send(answer).await.is_err() {
            return;
        }
    }
}

async fn play(framed: &mut Framed<TcpStream, Codec>, script: Vec<Step>, shared: &Shared) -> Option<()> {
    for step in script {
        match step {
            Step::Send(message) => framed.send(message).await.ok()?,
            Step::Receive => drop(receive(framed, shared).await?),
            Step::Wait(until) => until.notified().await,
            Step::Close => return None,
            Step::Hang => while receive(framed, shared).await.is_some() {},
        }
    }
    Some(())
}

async fn receive(framed: &mut Framed<TcpStream, Codec>, shared: &Shared) -> Option<Message> {
    let message = framed.next().await?.ok()?;
    shared.seen.send_modify(|seen| seen.messages.push(message.clone()));
    Some(message)
}
