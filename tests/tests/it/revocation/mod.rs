//! What was revoked is accepted nowhere a second after the reply to the call that revoked it: on three replicas, one of
//! them cut off from database and Redis, with Redis, without it, and when it dies.

mod keys;

use caprock_tests::client::{Client, chat_streamed};
use caprock_tests::environment;
use caprock_tests::gateway::Gateway;
use caprock_tests::process::{Process, free_port};
use caprock_tests::replicas::{Cut, Replicas};
use caprock_tests::sse::SseReader;
use caprock_tests::wait::{SOON, until, within};
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use keys::{Key, Operator};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The promise.
const BOUND: Duration = Duration::from_secs(1);
/// Keys revoked at once.
const GROUP: usize = 100;
/// Pollers of each replica.
const POLLERS: usize = 6;
/// Between two rounds of a poller.
const PAUSE: Duration = Duration::from_millis(40);
/// After the last reply of a group: the bound, and time enough to be refused after it.
const WATCHED: Duration = Duration::from_millis(2_400);
/// Answers that go on for 24 s.
const LONG: &[&str] = &["step-ms=40", "answer-tokens=700"];
/// Behind the proxies.
const CUT_OFF: usize = 2;

/// How many keys; `scripts/revocation-soak` asks for more.
fn count() -> usize {
    let asked = std::env::var("CAPROCK_TEST_REVOCATIONS").ok();
    asked.map_or(1_000, |count| count.parse().expect("CAPROCK_TEST_REVOCATIONS is a number"))
}

/// One request with one key to one replica.
#[derive(Debug, Clone, Copy)]
struct Poll {
    key: usize,
    replica: usize,
    sent: Instant,
    answered: Instant,
    status: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_accepts_a_key_a_second_after_it_was_revoked_not_even_one_that_is_cut_off() {
    let began = Instant::now();
    let replicas = Replicas::start(Some(&environment::redis_url()), &[]).await;
    let operators = [Operator::at(&replicas.gateways[0]).await, Operator::at(&replicas.gateways[1]).await];
    let keys: Vec<Key> = stream::iter(0..count()).map(|n| operators[n % 2].make_owned(n)).buffered(16).collect().await;
    println!("{} keys made after {:?}", keys.len(), began.elapsed());

    let mut delays = [Vec::new(), Vec::new(), Vec::new()];
    for (at, group) in keys.chunks(GROUP).enumerate() {
        // In turn: connected, black-holed, closed.
        let cut = [None, Some(Cut::Silence), Some(Cut::Close)][at % 3];
        for (replica, found) in delays.iter_mut().zip(revoke_group(&replicas, &operators, group, cut).await) {
            replica.extend(found);
        }
    }
    for (at, delays) in delays.iter_mut().enumerate() {
        delays.sort_unstable();
        let percentile = |of: usize| delays[(delays.len() - 1) * of / 100];
        let (half, most, last) = (percentile(50), percentile(99), percentile(100));
        let cut_off = if at == CUT_OFF { ", at times cut off" } else { "" };
        println!(
            "replica {}{cut_off}: last accepted after the reply: p50 {half:?}, p99 {most:?}, max {last:?}",
            at + 1
        );
        assert_eq!(delays.len(), keys.len());
        assert!(last < BOUND, "replica {}: {last:?}", at + 1);
    }
    println!("{:?} in all", began.elapsed());
    if keys.len() <= 1_000 {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    }
}

/// Revokes a group at once while every replica is asked with every key of it; for each replica and key, how long after
/// the reply a request was sent that was still accepted.
async fn revoke_group(
    replicas: &Replicas,
    operators: &[Operator; 2],
    group: &[Key],
    cut: Option<Cut>,
) -> [Vec<Duration>; 3] {
    let (stop, warm) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
    let polling: Vec<_> = (0..3)
        .flat_map(|replica| (0..POLLERS).map(move |poller| (replica, poller)))
        .map(|(replica, poller)| {
            let client = replicas.gateways[replica].client();
            tokio::spawn(poll(client, (replica, poller), group.to_vec(), (stop.clone(), warm.clone())))
        })
        .collect();
    within("every key is accepted everywhere", SOON, warm.acquire_many(3 * group.len() as u32)).await.unwrap().forget();
    let cut_at = Instant::now();
    if let Some(how) = cut {
        replicas.cut(how);
    }
    let revoking = group.iter().enumerate().map(|(n, key)| operators[n % 2].revoke(key));
    let replied = join_all(revoking).await;
    tokio::time::sleep_until((*replied.iter().max().unwrap() + WATCHED).into()).await;
    let healed_at = Instant::now();
    stop.store(true, Ordering::SeqCst);
    let polls: Vec<Poll> = join_all(polling).await.into_iter().flat_map(|polls| polls.unwrap()).collect();
    if cut.is_some() {
        replicas.heal().await;
    }

    for replica in 0..3 {
        let of: Vec<&Poll> = polls.iter().filter(|poll| poll.replica == replica).collect();
        let is_cut_off = cut.is_some() && replica == CUT_OFF;
        for key in 0..group.len() {
            let before = of.iter().any(|poll| poll.key == key && poll.status == 200);
            assert!(before, "key {key} was never accepted by replica {replica}: nothing is shown");
        }
        let late: Vec<&&Poll> = of.iter().filter(|poll| poll.sent > replied[poll.key] + BOUND).collect();
        assert!(late.len() >= POLLERS, "only {} requests after the bound", late.len());
        let allowed: &[u16] = if is_cut_off { &[503] } else { &[401] };
        for poll in late {
            let after = poll.sent - replied[poll.key];
            assert!(allowed.contains(&poll.status), "replica {replica}, {after:?} after the reply ({cut:?}): {poll:?}");
        }
        // What can't be checked is never called wrong: SDKs give up for good on 401.
        if is_cut_off {
            let within = |poll: &&&Poll| poll.sent > cut_at && poll.answered < healed_at;
            for poll in of.iter().filter(within) {
                assert!([200, 503].contains(&poll.status), "{cut:?}: {poll:?}");
            }
        }
    }
    [0, 1, 2].map(|replica| {
        (0..group.len())
            .map(|key| {
                let accepted =
                    polls.iter().filter(|poll| poll.replica == replica && poll.key == key && poll.status == 200);
                let last = accepted.map(|poll| poll.sent.saturating_duration_since(replied[key])).max();
                last.unwrap_or_default()
            })
            .collect()
    })
}

/// Every key of the group that is this poller's, again and again; `warm` counts those that were accepted once.
async fn poll(
    client: Client,
    (replica, poller): (usize, usize),
    keys: Vec<Key>,
    (stop, warm): (Arc<AtomicBool>, Arc<Semaphore>),
) -> Vec<Poll> {
    let (mut polls, mut accepted) = (Vec::new(), HashSet::new());
    let own: Vec<(usize, Client)> = keys
        .iter()
        .enumerate()
        .filter(|(at, _)| at % POLLERS == poller)
        .map(|(at, key)| (at, client.with_key(&key.text)))
        .collect();
    while !stop.load(Ordering::SeqCst) {
        for (key, client) in &own {
            // Cut off by silence, a replica takes a second for each.
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let sent = Instant::now();
            let status = client.get("/v1/models").await.status().as_u16();
            if status == 200 && accepted.insert(*key) {
                warm.add_permits(1);
            }
            polls.push(Poll { key: *key, replica, sent, answered: Instant::now(), status });
        }
        tokio::time::sleep(PAUSE).await;
    }
    polls
}

impl Operator {
    fn make_owned(&self, n: usize) -> impl Future<Output = Key> + use<> {
        let operator = self.clone();
        async move { operator.make(&format!("soak {n}")).await }
    }
}

/// How the stream of a chat ended, and when.
struct Ended {
    at: Instant,
    tokens: usize,
    error: Value,
}

async fn stream_to_its_end(client: Client, begun: Arc<Semaphore>) -> Ended {
    let reply = client.post("/v1/chat/completions", &chat_streamed("Go on for long.", 600)).await;
    assert_eq!(reply.status(), 200);
    let mut reader = SseReader::new(Box::pin(reply.bytes_stream()));
    let (mut tokens, mut error) = (0, Value::Null);
    while let Some(data) = reader.next().await.unwrap() {
        let event: Value = serde_json::from_str(&data).unwrap_or_default();
        tokens += usize::from(event["choices"][0]["delta"]["content"].is_string());
        if tokens == 3 {
            begun.add_permits(1);
        }
        if event["error"].is_object() {
            error = event["error"].clone();
        }
    }
    Ended { at: Instant::now(), tokens, error }
}

/// Starts a stream on every replica and waits until all three run.
async fn streams(replicas: &Replicas, key: &Key) -> Vec<tokio::task::JoinHandle<Ended>> {
    let begun = Arc::new(Semaphore::new(0));
    let running = replicas.gateways.iter().map(|gateway| {
        let client = gateway.client().with_key(&key.text);
        tokio::spawn(stream_to_its_end(client, begun.clone()))
    });
    let running: Vec<_> = running.collect();
    within("three streams run", SOON, begun.acquire_many(3)).await.unwrap().forget();
    running
}

fn assert_revoked(ended: &Ended) {
    assert_eq!(ended.error["code"], "key_revoked", "{}", ended.error);
    assert!(ended.tokens < 600, "it ran to its own end");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_streams_of_a_revoked_key_end_with_a_clear_error_and_are_settled_to_the_token() {
    let replicas = Replicas::start(Some(&environment::redis_url()), LONG).await;
    let operator = Operator::at(&replicas.gateways[0]).await;
    let key = operator.make("streams").await;
    let running = streams(&replicas, &key).await;
    let replied = operator.revoke(&key).await;
    for ended in join_all(running).await {
        let ended = ended.unwrap();
        assert_revoked(&ended);
        let after = ended.at.saturating_duration_since(replied);
        println!("a stream ended {after:?} after the reply");
        assert!(after < BOUND, "{after:?}");
    }

    // The last replica can't know while it is cut off; it does as soon as it can.
    let key = operator.make("streams of the cut off").await;
    let mut running = streams(&replicas, &key).await;
    replicas.cut(Cut::Silence);
    let replied = operator.revoke(&key).await;
    let cut_off = running.pop().unwrap();
    for ended in join_all(running).await {
        let ended = ended.unwrap();
        assert_revoked(&ended);
        assert!(ended.at.saturating_duration_since(replied) < BOUND);
    }
    tokio::time::sleep(BOUND).await;
    assert!(!cut_off.is_finished(), "what can't be checked goes on");
    replicas.heal().await;
    let healed = Instant::now();
    let ended = within("the last stream ends", SOON, cut_off).await.unwrap();
    assert_revoked(&ended);
    assert!(ended.at.saturating_duration_since(healed) < BOUND);

    replicas.decode.idle().await;
    let lines = replicas.gateways[0].books().await.closed().await;
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line.outcome.as_deref() == Some("revoked")), "{lines:?}");
    let booked: i64 = lines.iter().map(|line| line.output_tokens).sum();
    assert_eq!(booked as f64, replicas.decode.metric("caprock_worker_output_tokens_total").await, "{lines:?}");
}

/// How long after the reply each replica still took the key.
async fn accepted_for(replicas: &Replicas, operator: &Operator, key: &Key) -> Vec<Duration> {
    let clients: Vec<Client> = replicas.gateways.iter().map(|gateway| gateway.client().with_key(&key.text)).collect();
    for client in &clients {
        assert_eq!(client.get("/v1/models").await.status(), 200);
    }
    let replied = operator.revoke(key).await;
    let delays = clients.iter().map(|client| async move {
        let mut last = Duration::ZERO;
        while replied.elapsed() < BOUND * 2 {
            let sent = replied.elapsed();
            if client.get("/v1/models").await.status() == 200 {
                last = sent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        last
    });
    let delays = join_all(delays).await;
    for delay in &delays {
        assert!(*delay < BOUND, "{delays:?}");
    }
    delays
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_without_redis() {
    let replicas = Replicas::start(None, LONG).await;
    let operator = Operator::at(&replicas.gateways[0]).await;
    for n in 0..3 {
        let key = operator.make(&format!("no redis {n}")).await;
        println!("accepted after the reply: {:?}", accepted_for(&replicas, &operator, &key).await);
    }
    let key = operator.make("suspended").await;
    let running = streams(&replicas, &key).await;
    let replied = operator.suspend().await;
    for ended in join_all(running).await {
        let ended = ended.unwrap();
        assert_revoked(&ended);
        assert!(ended.at.saturating_duration_since(replied) < BOUND);
    }
}

/// A server of this test's own, so that it can die.
fn redis(port: u16, dir: &Path) -> Process {
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let arguments = arguments.map(str::to_owned);
    Process::start("redis", Path::new("redis-server"), &arguments, &[], &dir.join("redis.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_when_redis_dies_and_when_it_comes_back() {
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let mut server = redis(port, dir.path());
    let replicas = Replicas::start(Some(&format!("redis://127.0.0.1:{port}")), &[]).await;
    let operator = Operator::at(&replicas.gateways[0]).await;
    let nudged = async |gateway: &Gateway| {
        let text = reqwest::get(format!("{}/metrics", gateway.admin_url())).await.unwrap().text().await.unwrap();
        caprock_tests::worker::value_of(&text, "caprock_changes_nudges_total").unwrap()
    };
    until("replicas are nudged", SOON, async || {
        operator.make("nudge").await;
        (nudged(&replicas.gateways[1]).await > 0.0 && nudged(&replicas.gateways[2]).await > 0.0).then_some(())
    })
    .await;
    let key = operator.make("with redis").await;
    println!("with Redis: {:?}", accepted_for(&replicas, &operator, &key).await);

    let key = operator.make("redis dies").await;
    server.kill();
    println!("Redis dead: {:?}", accepted_for(&replicas, &operator, &key).await);

    let _server = redis(port, dir.path());
    let before = nudged(&replicas.gateways[1]).await;
    until("replicas are nudged again", SOON, async || {
        operator.make("nudge").await;
        (nudged(&replicas.gateways[1]).await > before).then_some(())
    })
    .await;
    let key = operator.make("redis is back").await;
    println!("Redis back: {:?}", accepted_for(&replicas, &operator, &key).await);
}
