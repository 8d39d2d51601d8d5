//! The cluster against scripted workers, over real sockets.

use super::fake::*;
use super::*;
use crate::error::{Error, ErrorKind};
use cluster_protocol::*;
use std::future::{pending, ready};
use std::time::Duration;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

async fn open(cluster: &Arc<Cluster>) -> Result<TokenStream, Failure> {
    let placement = cluster.place(3).await?;
    cluster.open(&job(), placement, |_| ready(Ok(())), &mut pending::<()>()).await
}

/// Texts of all pieces, and how it ended.
async fn read(mut stream: TokenStream) -> (String, Result<Box<Done>, Failure>) {
    let mut text = String::new();
    loop {
        match stream.next().await {
            Ok(Frame::Token(token)) => text.push_str(&token.text),
            Ok(Frame::Paused(_)) => {}
            Ok(Frame::Done(done)) => return (text, Ok(done)),
            Err(failure) => return (text, Err(failure)),
        }
    }
}

#[tokio::test]
async fn requests_one_after_another_share_a_connection() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    for _ in 0..3 {
        let (text, done) = read(open(&cluster).await.unwrap()).await;
        assert_eq!(text, "hello");
        assert_eq!(done.unwrap().counts, counts(2));
    }
    assert_eq!(worker.seen().connections, 1);
    let generates = worker.seen().generates();
    assert_eq!(generates.len(), 3);
    assert_eq!((generates[0].attempt, generates[0].grant, generates[0].max_tokens), (1, 4, 10));
    assert_eq!(cluster.status()[0].in_flight, 0);
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_is_not_used_again() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.script([accepted(), token("a", 1), done(FinishReason::EndOfTurn, 1), Step::Close]);
    read(open(&cluster).await.unwrap()).await.1.unwrap();
    worker.until(|seen| seen.closed == 1).await;
    let (text, _) = read(open(&cluster).await.unwrap()).await;
    assert_eq!(text, "hello");
    assert_eq!(worker.seen().connections, 2);
}

#[tokio::test]
async fn a_broken_connection_before_the_first_token_leads_to_another_worker() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    one.script([accepted(), Step::Close]);
    let placement = cluster.place(3).await.unwrap();
    assert_eq!(placement.decode_id(), "decode-1");
    let noted = Mutex::new(Vec::new());
    let note = |attempt: Attempt| {
        // At this moment no further worker may have heard of the request.
        assert!(two.seen().generates().is_empty());
        noted.lock().unwrap().push(attempt);
        ready(Ok(()))
    };
    let stream = cluster.open(&job(), placement, note, &mut pending::<()>()).await.unwrap();
    assert_eq!((stream.attempt(), stream.decode_id(), stream.engine()), (2, "decode-2", "sim"));
    assert_eq!(*noted.lock().unwrap(), [Attempt { number: 2, decode: "decode-2".into() }]);
    assert_eq!(two.seen().generates()[0].attempt, 2);
    assert_eq!(read(stream).await.0, "hello");
    assert_eq!(cluster.metrics.retries.get(), 1);
}

#[tokio::test]
async fn a_retryable_error_leads_to_the_same_worker_when_there_is_no_other() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.script([accepted(), error(ErrorCode::Engine)]);
    let stream = open(&cluster).await.unwrap();
    assert_eq!((stream.attempt(), stream.decode_id()), (2, "decode-1"));
    assert_eq!(read(stream).await.0, "hello");
    assert_eq!(worker.seen().connections, 1, "an error ends a request cleanly");
}

#[tokio::test]
async fn attempts_are_bounded() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    for _ in 0..9 {
        worker.script([accepted(), error(ErrorCode::Engine)]);
    }
    let failure = open(&cluster).await.unwrap_err();
    assert_eq!((failure.attempt, failure.decode.as_deref()), (3, Some("decode-1")));
    assert_eq!(worker.seen().generates().len(), 3);
    assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamUnavailable);
}

#[tokio::test]
async fn a_full_worker_is_not_asked_twice() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.script([error(ErrorCode::Overloaded)]);
    let error = Error::from(open(&cluster).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert!(error.retry_after.is_some());
    assert_eq!(worker.seen().generates().len(), 1);
}

#[tokio::test]
async fn a_prompt_too_long_is_not_tried_again() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    one.script([error(ErrorCode::TooLong)]);
    assert_eq!(Error::from(open(&cluster).await.unwrap_err()).kind, ErrorKind::ContextExceeded);
    assert!(two.seen().generates().is_empty());
}

#[tokio::test]
async fn nothing_is_tried_again_after_the_first_token() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    one.script([accepted(), token("a", 1), token("b", 2), Step::Close]);
    let (text, end) = read(open(&cluster).await.unwrap()).await;
    let failure = end.unwrap_err();
    assert_eq!(text, "ab");
    assert_eq!((failure.counts, failure.started), (counts(2), true), "what was counted is charged");
    assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamFailed);
    assert!(two.seen().generates().is_empty());
}

#[tokio::test]
async fn a_failed_note_ends_the_request_before_the_worker_hears_of_it() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    one.script([Step::Close]);
    let placement = cluster.place(3).await.unwrap();
    let note = |_| ready(Err(Error::new(ErrorKind::Internal, "no database")));
    let failure = cluster.open(&job(), placement, note, &mut pending::<()>()).await.unwrap_err();
    assert_eq!(Error::from(failure).kind, ErrorKind::Internal);
    assert!(two.seen().generates().is_empty());
}

#[tokio::test]
async fn every_wait_has_its_deadline_and_ends_in_a_timeout() {
    let short = Duration::from_millis(50);
    let cases = [
        (Deadlines { accept: short, ..deadlines() }, vec![Step::Hang]),
        (Deadlines { first_token: short, ..deadlines() }, vec![accepted(), Step::Hang]),
        (Deadlines { frame: short, ..deadlines() }, vec![accepted(), token("a", 1), Step::Hang]),
    ];
    for (deadlines, script) in cases {
        let worker = decode().await;
        let cluster = cluster_with(&[&worker], &[], deadlines);
        see_all(&cluster).await;
        worker.script(script.clone());
        let failure = match open(&cluster).await {
            Ok(stream) => read(stream).await.1.unwrap_err(),
            Err(failure) => failure,
        };
        assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamTimeout, "{script:?}");
        worker.until(|seen| seen.closed == 1).await;
        assert_eq!(worker.seen().generates().len(), 1);
    }
}

#[tokio::test]
async fn stop_and_extend_reach_the_worker() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    let paused = Step::Send(Message::Paused(Paused { counts: counts(4) }));
    let stopped = done(FinishReason::Stopped, 6);
    worker.script([accepted(), token("a", 4), paused, Step::Receive, token("b", 5), Step::Receive, stopped]);
    let mut stream = open(&cluster).await.unwrap();
    assert!(matches!(stream.next().await, Ok(Frame::Token(_))));
    assert!(matches!(stream.next().await, Ok(Frame::Paused(_))));
    stream.extend(99).await.unwrap();
    assert!(matches!(stream.next().await, Ok(Frame::Token(_))));
    stream.stop().await.unwrap();
    let (_, end) = read(stream).await;
    assert_eq!(end.unwrap().counts, counts(6));
    let messages = worker.seen().messages;
    assert_eq!(messages[1..], [Message::Extend(Extend { grant: 10 }), Message::Stop], "never above the maximum");
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.script([accepted(), token("a", 1), Step::Hang]);
    let stream = open(&cluster).await.unwrap();
    assert_eq!(cluster.status()[0].in_flight, 1);
    drop(stream);
    worker.until(|seen| seen.closed == 1).await;
    assert_eq!(cluster.status()[0].in_flight, 0);
}

#[tokio::test]
async fn an_interrupted_opening_gives_the_stream_to_be_stopped() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.script([accepted(), Step::Receive, done(FinishReason::Stopped, 0)]);
    let placement = cluster.place(3).await.unwrap();
    let asked = Box::pin(worker.until(|seen| !seen.generates().is_empty()));
    let mut stream = cluster.open(&job(), placement, |_| ready(Ok(())), &mut { asked }).await.unwrap();
    stream.stop().await.unwrap();
    assert_eq!(read(stream).await.1.unwrap().counts, counts(0), "the prompt was computed, nothing else");
}

#[tokio::test]
async fn impossible_counts_end_the_answer_with_the_last_possible_ones() {
    let most = Counts { input_tokens: 3, output_tokens: 5 };
    let more_input = Counts { input_tokens: 4, output_tokens: 2 };
    let fewer = Counts { input_tokens: 3, output_tokens: 0 };
    for wrong in [most, more_input, fewer] {
        let worker = decode().await;
        let cluster = cluster_of(&[&worker], &[]).await;
        let wrong =
            Token { choice: 0, text: "x".into(), ids: vec![1], logprobs: Vec::new(), finish: None, counts: wrong };
        worker.script([accepted(), token("a", 1), Step::Send(Message::Token(wrong)), Step::Hang]);
        let failure = read(open(&cluster).await.unwrap()).await.1.unwrap_err();
        assert_eq!(failure.counts, counts(1));
        assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamFailed);
        worker.until(|seen| seen.closed == 1).await;
    }
}

#[tokio::test]
async fn a_restarted_worker_is_used_again_in_its_new_epoch() {
    let worker = decode().await;
    let address = worker.address;
    let cluster = cluster_with(&[&worker], &[], deadlines());
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    cluster.watch(&tasks, &stopping);
    assert_eq!(read(open(&cluster).await.unwrap()).await.0, "hello");
    assert_eq!(cluster.status()[0].info.as_ref().unwrap().epoch, 1);

    worker.kill().await;
    let again = FakeWorker::start_at(address, "decode-1", Role::Decode, 2).await;
    assert_eq!(read(open(&cluster).await.unwrap()).await.0, "hello");
    assert_eq!(cluster.status()[0].info.as_ref().unwrap().epoch, 2);
    assert_eq!(again.seen().generates().len(), 1);
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_dead_worker_is_known_dead_and_a_request_is_refused_in_bounded_time() {
    let worker = decode().await;
    let cluster = cluster_with(&[&worker], &[], Deadlines { healthy: Duration::from_millis(50), ..deadlines() });
    see_all(&cluster).await;
    worker.kill().await;
    assert!(cluster.probe(&cluster.decode[0]).await.is_err());
    assert!(cluster.status()[0].down.is_some() && !cluster.is_ready());
    let failure = open(&cluster).await.unwrap_err();
    assert_eq!(failure.attempt, 0);
    assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamUnavailable);
}

#[tokio::test]
async fn connections_of_an_earlier_epoch_are_closed() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    let kept = open(&cluster).await.unwrap();
    worker.edit(|info| info.epoch = 2);
    let fresh = open(&cluster).await.unwrap();
    read(kept).await.1.unwrap();
    worker.until(|seen| seen.closed == 1).await;
    read(fresh).await.1.unwrap();
    read(open(&cluster).await.unwrap()).await.1.unwrap();
    assert_eq!(worker.seen().connections, 2, "the later epoch's connection is kept");
}

#[tokio::test]
async fn a_worker_that_is_not_the_one_configured_is_refused() {
    type Edit = fn(&FakeWorker);
    let edits: [(Edit, &str); 3] = [
        (|worker| worker.set_secret(&"x".repeat(40)), "secret"),
        (|worker| worker.edit(|info| info.worker_id = "decode-9".into()), "decode-9"),
        (|worker| worker.edit(|info| info.engine = "llama".into()), "another model"),
    ];
    for (edit, expected) in edits {
        let worker = decode().await;
        edit(&worker);
        let cluster = cluster_with(&[&worker], &[], deadlines());
        let error = cluster.probe(&cluster.decode[0]).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(cluster.status()[0].down.is_some());
    }
}

#[tokio::test]
async fn a_worker_with_another_fingerprint_takes_no_part_while_others_are_healthy() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    two.edit(|info| info.fingerprint.model_sha256 = "other".into());
    assert!(cluster.probe(&cluster.decode[1]).await.is_err());
    assert_eq!(cluster.status().iter().filter(|worker| worker.down.is_none()).count(), 1);

    // The whole cluster is restarted with the other model: then it is the cluster's.
    one.kill().await;
    assert!(cluster.probe(&cluster.decode[0]).await.is_err());
    let _ = cluster.probe(&cluster.decode[1]).await;
    assert!(cluster.decode[1].is_healthy());
}

#[tokio::test]
async fn the_least_loaded_healthy_worker_is_chosen() {
    let (one, two) = (decode().await, FakeWorker::start("decode-2", Role::Decode).await);
    one.edit(|info| info.load.waiting = 1);
    let cluster = cluster_of(&[&one, &two], &[]).await;
    let first = cluster.place(3).await.unwrap();
    assert_eq!(first.decode_id(), "decode-2", "it reports less");
    let second = cluster.place(3).await.unwrap();
    assert_eq!(second.decode_id(), "decode-1", "own requests count first");
    drop(first);
    assert_eq!(cluster.place(3).await.unwrap().decode_id(), "decode-2");
}

#[tokio::test]
async fn who_computes_the_prompt_is_said_with_its_true_reason() {
    let (one, helper) = (decode().await, FakeWorker::start("prefill-1", Role::Prefill).await);
    let local = |reason| PrefillPlan::Local { reason };
    let alone = cluster_of(&[&one], &[]).await;
    assert_eq!(*alone.place(3).await.unwrap().plan(), local(LocalReason::NoneConfigured));

    let cluster = cluster_of(&[&one], &[&helper]).await;
    let remote = PrefillPlan::Remote { prefill_id: "prefill-1".into() };
    assert_eq!(*cluster.place(3).await.unwrap().plan(), remote);
    assert_eq!(*cluster.place(2).await.unwrap().plan(), local(LocalReason::ShortPrompt));
    read(open(&cluster).await.unwrap()).await.1.unwrap();
    assert_eq!(one.seen().generates()[0].prefill, remote);

    helper.kill().await;
    assert!(cluster.probe(&cluster.prefill[0]).await.is_err());
    assert_eq!(*cluster.place(3).await.unwrap().plan(), local(LocalReason::NoneHealthy));
}

#[tokio::test]
async fn a_worker_tokenises_what_the_gateway_does_not() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    let parts = ["ab", "c"].map(|text| TextPart { text: text.into(), special: false });
    assert_eq!(cluster.tokenize(&parts).await.unwrap(), b"abc".map(u32::from));
    assert_eq!(worker.seen().connections, 1, "on a pooled connection, which comes back");

    let long = TextPart { text: "x".repeat(limits::MAX_PART_BYTES + 1), special: false };
    assert_eq!(cluster.tokenize(&[long]).await.unwrap_err().kind, ErrorKind::ContextExceeded);
    assert_eq!(worker.seen().messages.len(), 1, "no worker is asked");
}

#[tokio::test]
async fn a_receipt_tells_what_a_request_came_to() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    worker.set_receipt(Receipt::Ended { counts: counts(2), finish: None });
    let receipt = cluster.receipt("decode-1", "req_1", 2).await.unwrap();
    assert_eq!(receipt, Told { receipt: Receipt::Ended { counts: counts(2), finish: None }, epoch: 1 });
    let question = QueryReceipt { request_id: "req_1".into(), attempt: 2 };
    assert_eq!(worker.seen().messages, [Message::QueryReceipt(question)]);
    assert_eq!(cluster.receipt("decode-gone", "req_1", 1).await.unwrap().receipt, Receipt::Unknown);
    worker.kill().await;
    assert_eq!(cluster.receipt("decode-1", "req_1", 1).await.unwrap_err().kind, ErrorKind::UpstreamUnavailable);
}

#[tokio::test]
async fn a_prompt_made_with_another_vocabulary_reaches_no_worker() {
    let worker = decode().await;
    let cluster = cluster_of(&[&worker], &[]).await;
    let other = Job { card_digest: "other".into(), ..job() };
    let placement = cluster.place(3).await.unwrap();
    let failure = cluster.open(&other, placement, |_| ready(Ok(())), &mut pending::<()>()).await.unwrap_err();
    assert_eq!(Error::from(failure).kind, ErrorKind::UpstreamUnavailable);
    assert!(worker.seen().generates().is_empty());
}
