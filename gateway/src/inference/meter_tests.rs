//! The meter between a scripted worker and a reader.

use super::*;
use crate::error::Error;
use crate::inference::log::{Abandoned, Reader};
use crate::upstream::cluster::fake::*;
use cluster_protocol::{ErrorCode, FinishReason, Role};
use prometheus_client::registry::Registry;
use std::future::ready;

struct Ended {
    result: Result<Box<Done>, Failure>,
    meter: Meter,
    interrupt: Option<Interrupt>,
    registry: Registry,
}

fn started() -> Started {
    Started {
        request_id: crate::id::RequestId::new(),
        accepted_at: 1,
        replayed: false,
        model: "m".into(),
        stand_in: None,
        deprecation: None,
        engine: "sim".into(),
        input_tokens: 3,
    }
}

/// Opens the job on `worker` and meters it to its end, as `infer` does.
async fn metered(worker: &FakeWorker, log: &FrameLog, stopping: &CancellationToken) -> Ended {
    let cluster = cluster_of(&[worker], &[]).await;
    let revoked = CancellationToken::new();
    let interrupts = interrupts(log, stopping, &revoked);
    let placement = cluster.place(3).await.unwrap();
    let opened = cluster.open(&job(), placement, |_| ready(Ok(())), &mut interrupts.clone()).await;
    let mut registry = Registry::default();
    let mut meter = Meter::new(Instant::now(), Metrics::register(&mut registry));
    let result = match opened {
        Ok(stream) => meter.read(stream, started(), log, &interrupts).await,
        Err(failure) => Err(failure),
    };
    let interrupt = interrupts.peek().copied();
    Ended { result, meter, interrupt, registry }
}

async fn worker(script: impl IntoIterator<Item = Step>) -> FakeWorker {
    let worker = FakeWorker::start("decode-1", Role::Decode).await;
    worker.script(script);
    worker
}

fn log(bound: usize) -> (FrameLog, Reader) {
    FrameLog::new(bound, Duration::from_secs(30))
}

async fn next_text(reader: &mut Reader) -> Option<String> {
    match reader.next().await {
        Some(Event::Text { text, .. }) => Some(text),
        Some(_) | None => None,
    }
}

#[tokio::test]
async fn an_answer_becomes_events_and_is_timed() {
    let script = [accepted(), token("", 1), token("a", 2), token("b", 3), done(FinishReason::EndOfTurn, 4)];
    let worker = worker(script).await;
    let (log, mut reader) = log(8);
    let ended = metered(&worker, &log, &CancellationToken::new()).await;
    assert_eq!(ended.result.unwrap().counts, counts(4));
    assert_eq!(ended.interrupt, None);
    assert!(matches!(reader.next().await, Some(Event::Started(_))), "although the first token has no text yet");
    assert_eq!(next_text(&mut reader).await.as_deref(), Some("a"));
    assert_eq!(next_text(&mut reader).await.as_deref(), Some("b"));
    assert!(ended.meter.ttft_ms() <= Some(ended.meter.latency_ms()));
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &ended.registry).unwrap();
    assert!(metrics.contains("inference_ttft_seconds_count 1\n"), "{metrics}");
    assert!(metrics.contains("inference_itl_seconds_count 2\n"), "{metrics}");
}

#[tokio::test]
async fn an_answer_of_no_text_still_begins() {
    let worker = worker([accepted(), done(FinishReason::EndOfTurn, 1)]).await;
    let (log, mut reader) = log(8);
    let ended = metered(&worker, &log, &CancellationToken::new()).await;
    assert!(ended.result.is_ok() && ended.meter.started());
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
}

#[tokio::test]
async fn when_the_reader_leaves_the_engine_is_stopped_and_its_exact_count_is_taken() {
    let script = [accepted(), token("a", 1), Step::Receive, token("b", 2), done(FinishReason::Stopped, 3)];
    let worker = worker(script).await;
    let (log, mut reader) = log(8);
    let leave = async {
        assert!(matches!(reader.next().await, Some(Event::Started(_))));
        drop(reader);
    };
    let stopping = CancellationToken::new();
    let (ended, ()) = tokio::join!(metered(&worker, &log, &stopping), leave);
    assert_eq!(ended.interrupt, Some(Interrupt::Abandoned(Abandoned::Gone)));
    assert_eq!(ended.result.unwrap().counts, counts(3));
    assert_eq!(worker.seen().messages.last(), Some(&cluster_protocol::Message::Stop));
}

#[tokio::test]
async fn when_the_reader_leaves_before_the_first_token_the_prompt_is_still_counted() {
    let worker = worker([accepted(), Step::Receive, done(FinishReason::Stopped, 0)]).await;
    let (log, reader) = log(8);
    let leave = async {
        worker.until(|seen| !seen.generates().is_empty()).await;
        drop(reader);
    };
    let stopping = CancellationToken::new();
    let (ended, ()) = tokio::join!(metered(&worker, &log, &stopping), leave);
    assert_eq!(ended.interrupt, Some(Interrupt::Abandoned(Abandoned::Gone)));
    assert_eq!(ended.result.unwrap().counts, counts(0));
    assert!(!ended.meter.started());
}

#[tokio::test]
async fn shutdown_stops_the_engine_and_passes_on_what_it_still_says() {
    let script = [accepted(), token("a", 1), Step::Receive, token("b", 2), done(FinishReason::Stopped, 2)];
    let worker = worker(script).await;
    let (log, mut reader) = log(8);
    let stopping = CancellationToken::new();
    let stop = async {
        assert!(matches!(reader.next().await, Some(Event::Started(_))));
        stopping.cancel();
        assert_eq!(next_text(&mut reader).await.as_deref(), Some("a"));
        assert_eq!(next_text(&mut reader).await.as_deref(), Some("b"));
    };
    let (ended, ()) = tokio::join!(metered(&worker, &log, &stopping), stop);
    assert_eq!(ended.interrupt, Some(Interrupt::Stopping));
    assert_eq!(ended.result.unwrap().counts, counts(2));
}

#[tokio::test]
async fn an_engine_that_does_not_stop_is_left_with_the_last_count() {
    let worker = worker([accepted(), token("a", 1), Step::Hang]).await;
    let (log, mut reader) = log(8);
    let leave = async {
        reader.next().await;
        drop(reader);
    };
    let stopping = CancellationToken::new();
    let (ended, ()) = tokio::join!(metered(&worker, &log, &stopping), leave);
    assert!(ended.result.is_err());
    assert_eq!(ended.meter.counts(), counts(1));
    worker.until(|seen| seen.closed == 1).await;
}

#[tokio::test]
async fn a_worker_that_fails_in_mid_answer_leaves_its_last_count() {
    let worker = worker([accepted(), token("a", 1), token("b", 2), error(ErrorCode::Engine)]).await;
    let (log, _reader) = log(8);
    let ended = metered(&worker, &log, &CancellationToken::new()).await;
    assert_eq!(Error::from(ended.result.unwrap_err()).kind, crate::error::ErrorKind::UpstreamFailed);
    assert_eq!((ended.meter.counts(), ended.meter.started()), (counts(2), true));
}

#[tokio::test]
async fn a_worker_that_sends_more_pieces_than_tokens_is_cut_off() {
    let pieces = (0..9).map(|_| token("x", 1));
    let worker = worker([accepted()].into_iter().chain(pieces).chain([Step::Hang])).await;
    let (log, _reader) = log(4);
    let ended = metered(&worker, &log, &CancellationToken::new()).await;
    assert!(ended.result.is_err());
    assert_eq!(ended.meter.counts(), counts(1));
    worker.until(|seen| seen.closed == 1).await;
}
