//! Closing a connection cancels, at every stage of a request, on both workers.

use crate::support::*;
use cluster_protocol::*;
use cluster_worker::Worker;
use cluster_worker::config::Config;
use cluster_worker::connection::Connection;
use std::time::Duration;

/// Slow enough that nothing ends by itself within a test.
fn slow() -> Config {
    let mut config = sim("x");
    let options = sim_options(&mut config);
    (options.prefill_tokens_per_s, options.step_ms, options.answer_tokens) = (2000, 2, 100_000);
    config
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

fn long(id: &str, tokens: u32, plan: PrefillPlan) -> Message {
    let mut generate = request(id, prompt(tokens, 0), plan);
    (generate.max_tokens, generate.grant) = (1000, 1000);
    Message::Generate(Box::new(generate))
}

async fn cancelled_receipt(worker: &Worker, id: &str) -> Counts {
    let mut connection = connect(worker.address()).await;
    match receipt(&mut connection, id).await {
        Receipt::Ended { counts, finish: None } => counts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_gone_during_decode_frees_slot_and_cells_and_keeps_its_counts() {
    let worker = start(slow()).await;
    let mut connection = connect(worker.address()).await;
    connection.send(long("1", 10, LOCAL)).await.unwrap();
    let mut seen = 0;
    while seen < 3 {
        if let Message::Token(token) = next(&mut connection).await {
            seen = token.counts.output_tokens;
        }
    }
    assert_eq!(worker.load(), Load { running: 1, waiting: 0, cells_reserved: 1010 });
    drop(connection);
    becomes_idle(&worker).await;
    let counts = cancelled_receipt(&worker, "req_1").await;
    assert_eq!(counts.input_tokens, 10);
    assert!(counts.output_tokens >= seen && counts.output_tokens < 1000);
}

#[tokio::test]
async fn a_client_gone_during_a_local_prompt_stops_it_within_a_chunk() {
    let worker = start(slow()).await;
    let mut connection = connect(worker.address()).await;
    connection.send(long("1", 900, LOCAL)).await.unwrap();
    assert!(matches!(next(&mut connection).await, Message::Accepted(_)));
    drop(connection);
    becomes_idle(&worker).await;
    assert!(cancelled_receipt(&worker, "req_1").await.input_tokens < 900);
}

#[tokio::test]
async fn a_client_gone_during_a_remote_prompt_stops_both_workers() {
    let (prefill, decode) = pair(slow()).await;
    let mut connection = connect(decode.address()).await;
    connection.send(long("1", 900, remote())).await.unwrap();
    until(|| prefill.load().running == 1).await;
    drop(connection);
    becomes_idle(&decode).await;
    becomes_idle(&prefill).await;
    assert!(cancelled_receipt(&decode, "req_1").await.input_tokens < 900);
}

#[tokio::test]
async fn a_client_gone_in_the_queue_leaves_it() {
    let mut config = slow();
    config.limits.slots = 1;
    let worker = start(config).await;
    let mut first = connect(worker.address()).await;
    first.send(long("1", 10, LOCAL)).await.unwrap();
    until(|| worker.load().running == 1).await;
    let mut second = connect(worker.address()).await;
    second.send(long("2", 10, LOCAL)).await.unwrap();
    until(|| worker.load().waiting == 1).await;
    drop(second);
    until(|| worker.load().waiting == 0).await;
    assert_eq!(cancelled_receipt(&worker, "req_2").await, Counts::default());
    drop(first);
    becomes_idle(&worker).await;
}

#[tokio::test]
async fn a_thousand_requests_dropped_at_random_leave_nothing_held() {
    let mut template = slow();
    template.queue = 1000;
    template.connections = 1000;
    let (prefill, decode) = pair(template).await;
    let address = decode.address();
    for round in 0..20u64 {
        let dropped = (0..50u64).map(|at| async move {
            let mut connection = connect(address).await;
            let plan = if at % 3 == 0 { LOCAL } else { remote() };
            connection.send(long(&format!("{round}-{at}"), 20 + at as u32 * 10, plan)).await.unwrap();
            tokio::time::sleep(Duration::from_millis((round * 31 + at * 17) % 40)).await;
        });
        futures::future::join_all(dropped).await;
    }
    becomes_idle(&decode).await;
    becomes_idle(&prefill).await;
}

#[tokio::test]
async fn a_lagging_reader_does_not_hold_up_the_others() {
    let mut config = slow();
    sim_options(&mut config).step_ms = 0;
    let worker = start(config).await;
    let mut lagging = connect(worker.address()).await;
    lagging.send(long("lagging", 10, LOCAL)).await.unwrap();
    let mut brisk = connect(worker.address()).await;
    let answer = run(&mut brisk, request("brisk", prompt(10, 1), LOCAL)).await;
    assert_eq!(*answer.done().finish(), FinishReason::MaxTokens);
    assert_eq!(finish(&mut lagging).await.done().counts.output_tokens, 1000);
}

#[tokio::test]
async fn a_stopping_worker_lets_running_answers_end_and_then_cuts_them() {
    for (grace_ms, ends) in [(10_000, true), (50, false)] {
        let mut config = slow();
        config.patience.grace = Duration::from_millis(grace_ms);
        sim_options(&mut config).answer_tokens = if ends { 20 } else { 100_000 };
        let worker = start(config).await;
        let address = worker.address();
        let mut idle = connect(address).await;
        let mut running = connect(address).await;
        running.send(long("1", 10, LOCAL)).await.unwrap();
        assert!(matches!(next(&mut running).await, Message::Accepted(_)));
        let stopping = tokio::spawn(worker.stop());
        let answer = finish(&mut running).await;
        if ends {
            assert_eq!(*answer.done().finish(), FinishReason::EndOfTurn);
        } else {
            assert_eq!(answer.error().code, ErrorCode::ShuttingDown);
            assert_eq!(answer.error().counts.output_tokens as usize, answer.ids.len());
        }
        closes(&mut idle).await;
        stopping.await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it no longer listens");
    }
}

#[tokio::test]
async fn connections_are_bounded_in_number_and_in_idle_time() {
    let mut config = sim("d1");
    config.connections = 2;
    config.patience.idle = Duration::from_secs(2);
    let worker = start(config).await;
    let mut first = connect(worker.address()).await;
    let mut second = connect(worker.address()).await;
    let third = Connection::connect(worker.address(), &secret(), Hello::new(PeerKind::Gateway, "x")).await;
    assert!(third.is_err(), "over the cap");
    closes(&mut first).await;
    closes(&mut second).await;
    let mut again = connect(worker.address()).await;
    assert!(run(&mut again, request("1", prompt(10, 0), LOCAL)).await.done.is_some());
}
