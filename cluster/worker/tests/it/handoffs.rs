//! Hand-offs that go wrong: each ends in a whole answer, computed locally, with the reason said.

use crate::support::*;
use bytes::Bytes;
use cluster_protocol::*;
use cluster_worker::Worker;
use cluster_worker::config::Config;
use cluster_worker::connection::{Connection, ConnectionError};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKENS: u32 = 300;

/// A decode worker that knows `p1` at `address`.
async fn decode_with(mut config: Config, address: &str) -> Worker {
    config.worker_id = "d1".into();
    config.prefills.insert("p1".into(), address.to_owned());
    start(config).await
}

/// Asks `decode` for an answer through `p1`; it must be whole, right, and local for `reason`.
async fn falls_back(decode: &Worker, reason: LocalReason, what: &str) {
    let mut connection = connect(decode.address()).await;
    let id = |kind: &str| format!("{kind} {what}");
    let expected = run(&mut connection, request(&id("local"), prompt(TOKENS, 3), LOCAL)).await;
    let answer = run(&mut connection, request(&id("remote"), prompt(TOKENS, 3), remote())).await;
    assert_eq!(answer.text, expected.text, "{what}");
    assert_eq!(answer.done().counts, expected.done().counts, "the prompt is counted once: {what}");
    assert_eq!(answer.local_reason(), Some(reason), "{what}");
    becomes_idle(decode).await;
}

#[tokio::test]
async fn an_absent_or_unknown_prefill_worker_means_a_local_prompt() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    falls_back(&decode_with(sim("d1"), &unused).await, LocalReason::Unreachable, "nobody listens").await;
    falls_back(&start(sim("d1")).await, LocalReason::UnknownPrefill, "not configured").await;
}

#[tokio::test]
async fn a_prefill_worker_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = sim("d1");
    config.patience.prefill_connect = Duration::from_millis(100);
    let decode = decode_with(config, &silent.local_addr().unwrap().to_string()).await;
    falls_back(&decode, LocalReason::Unreachable, "no welcome").await;
}

#[tokio::test]
async fn another_secret_or_fingerprint_is_refused_before_any_kv() {
    let mut other = sim("p1");
    other.secret = ClusterSecret::new(&"another secret".repeat(4)).unwrap();
    let prefill = start(other).await;
    let decode = decode_with(sim("d1"), &prefill.address().to_string()).await;
    falls_back(&decode, LocalReason::Unreachable, "another secret").await;

    let edits: [fn(&mut Config); 2] = [|c| sim_options(c).seed = 2, |c| c.limits.chunk_tokens = 128];
    for edit in edits {
        let mut other = sim("p1");
        edit(&mut other);
        let prefill = start(other).await;
        let decode = decode_with(sim("d1"), &prefill.address().to_string()).await;
        falls_back(&decode, LocalReason::FingerprintMismatch, "another model or chunk").await;
        assert_eq!(prefill.load(), Load::default());
    }
}

#[tokio::test]
async fn a_refusing_prefill_worker_means_a_local_prompt() {
    let mut small = sim("p1");
    small.limits.context_tokens = 200; // shorter than the prompt
    let prefill = start(small).await;
    let decode = decode_with(sim("d1"), &prefill.address().to_string()).await;
    falls_back(&decode, LocalReason::Refused, "too long there").await;
}

#[tokio::test]
async fn a_client_without_the_secret_is_told_so_and_served_nothing() {
    let worker = start(sim("d1")).await;
    let other = ClusterSecret::new(&"another secret".repeat(4)).unwrap();
    let refused = Connection::connect(worker.address(), &other, Hello::new(PeerKind::Gateway, "x")).await;
    assert!(refused.is_err(), "the worker's own proof does not match");

    // One that ignores the worker's proof, and one that sends a request instead of a proof.
    for message in [Message::Proof(Proof { proof: "00".repeat(32) }), Message::DescribeModel] {
        let stream = TcpStream::connect(worker.address()).await.unwrap();
        let mut framed = tokio_util::codec::Framed::new(stream, Codec::default());
        use futures::{SinkExt, StreamExt};
        framed.send(Message::Hello(Hello::new(PeerKind::Gateway, "x"))).await.unwrap();
        assert!(matches!(framed.next().await, Some(Ok(Message::Welcome(_)))));
        framed.send(message).await.unwrap();
        let Some(Ok(Message::Error(error))) = framed.next().await else { panic!("not refused") };
        assert_eq!(error.code, ErrorCode::Unauthenticated);
        assert!(framed.next().await.is_none(), "closed");
    }
}

#[tokio::test]
async fn what_a_worker_says_of_itself_can_not_be_changed_on_its_way() {
    use futures::{SinkExt, StreamExt};
    let worker = start(sim("d1")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (between, upstream) = (listener.local_addr().unwrap(), worker.address());
    // It holds no secret, but the handshake's frames carry only a checksum that anybody can make.
    let relay = tokio::spawn(async move {
        let framed = |stream| tokio_util::codec::Framed::new(stream, Codec::default());
        let mut down = framed(listener.accept().await.unwrap().0);
        let mut up = framed(TcpStream::connect(upstream).await.unwrap());
        up.send(down.next().await.unwrap().unwrap()).await.unwrap();
        let Some(Ok(Message::Welcome(mut welcome))) = up.next().await else { panic!("no welcome") };
        welcome.worker.epoch += 1;
        down.send(Message::Welcome(welcome)).await.unwrap();
        down.next().await.is_none()
    });
    let refused = Connection::connect(between, &secret(), Hello::new(PeerKind::Gateway, "x")).await;
    assert!(matches!(refused, Err(ConnectionError::Handshake(_))), "{refused:?}");
    assert!(relay.await.unwrap(), "no proof was sent");
}

/// What becomes of a message of prefill's; `None` closes the connection.
type Edit = Arc<Mutex<dyn FnMut(Message) -> Option<Vec<Message>> + Send>>;

/// Stands between decode and a real prefill worker, holds the secret, and changes what prefill says.
async fn meddle(prefill: &Worker, edit: impl FnMut(Message) -> Option<Vec<Message>> + Send + 'static) -> String {
    meddle_counted(prefill, edit).await.0
}

/// [`meddle`], and the number of connections that decode has made so far.
async fn meddle_counted(
    prefill: &Worker,
    edit: impl FnMut(Message) -> Option<Vec<Message>> + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (upstream, info): (_, WorkerInfo) = (prefill.address(), prefill.info());
    let edit: Edit = Arc::new(Mutex::new(edit));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let (info, edit) = (info.clone(), Arc::clone(&edit));
            tokio::spawn(async move {
                let (mut down, _) = Connection::accept(stream, &secret(), || info).await.unwrap();
                let mut up = connect(upstream).await;
                loop {
                    tokio::select! {
                        message = down.next() => match message {
                            Ok(message) => up.send(message).await.unwrap(),
                            Err(_) => return,
                        },
                        message = up.next() => {
                            let Ok(message) = message else { return };
                            let edited = (edit.lock().unwrap())(message);
                            let Some(edited) = edited else { return };
                            for message in edited {
                                if down.send(message).await.is_err() {
                                    return;
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    (address, accepted)
}

fn rebuilt(chunk: &KvChunk, edit: impl FnOnce(&mut Vec<u8>)) -> KvChunk {
    let mut data = chunk.data.to_vec();
    edit(&mut data);
    KvChunk::new(chunk.binding, chunk.start, chunk.end, Bytes::from(data))
}

#[tokio::test]
async fn chunks_in_any_order_are_taken() {
    let prefill = start(sim("p1")).await;
    let mut kept = Vec::new();
    let address = meddle(&prefill, move |message| match message {
        Message::KvChunk(_) => {
            kept.insert(0, message);
            Some(Vec::new())
        }
        Message::KvCommit(_) => Some(kept.drain(..).chain([message]).collect()),
        other => Some(vec![other]),
    })
    .await;
    let decode = decode_with(sim("d1"), &address).await;
    let mut connection = connect(decode.address()).await;
    let local = run(&mut connection, request("l", prompt(TOKENS, 3), LOCAL)).await;
    let handed = run(&mut connection, request("r", prompt(TOKENS, 3), remote())).await;
    assert_eq!((handed.local_reason(), handed.text), (None, local.text));
}

type EditChunk = fn(KvChunk) -> Vec<Message>;
type EditCommit = fn(&mut Commit);

/// Runs one fall-back through a meddler, and asserts that it was for `reason`.
async fn meddled(what: &str, reason: LocalReason, edit: impl FnMut(Message) -> Option<Vec<Message>> + Send + 'static) {
    let prefill = start(sim("p1")).await;
    let address = meddle(&prefill, edit).await;
    let decode = decode_with(sim("d1"), &address).await;
    falls_back(&decode, reason, what).await;
    becomes_idle(&prefill).await;
}

#[tokio::test]
async fn every_damage_to_a_hand_off_is_refused() {
    let bad = LocalReason::BadHandoff;
    meddled("a begin for another tenant", bad, |message| match message {
        Message::KvBegin(mut begin) => {
            begin.binding.tenant = "ten_2".into();
            Some(vec![Message::KvBegin(begin)])
        }
        other => Some(vec![other]),
    })
    .await;
    let on_chunk = |edit: EditChunk| {
        move |message| match message {
            Message::KvChunk(chunk) if chunk.start == 64 => Some(edit(chunk)),
            other => Some(vec![other]),
        }
    };
    let edits: [(&str, EditChunk); 9] = [
        ("a missing chunk", |_| Vec::new()),
        ("a repeated chunk", |c| vec![Message::KvChunk(c.clone()), Message::KvChunk(c)]),
        ("another binding", |c| vec![Message::KvChunk(KvChunk { binding: [1; 32], ..c })]),
        ("data that is not its digest's", |c| vec![Message::KvChunk(KvChunk { digest: [1; 32], ..c })]),
        ("positions moved", |c| vec![Message::KvChunk(KvChunk { start: c.start + 1, end: c.end + 1, ..c })]),
        ("positions beyond the prompt", |c| vec![Message::KvChunk(KvChunk { end: 9999, ..c })]),
        ("a cut chunk with a right digest", |c| vec![Message::KvChunk(rebuilt(&c, |data| data.truncate(100)))]),
        ("trailing bytes with a right digest", |c| vec![Message::KvChunk(rebuilt(&c, |data| data.push(0)))]),
        ("a token instead of KV", |_| vec![Message::Paused(Paused { counts: Counts::default() })]),
    ];
    for (what, edit) in edits {
        meddled(what, bad, on_chunk(edit)).await;
    }
    let on_commit = |edit: EditCommit| {
        move |message| match message {
            Message::KvCommit(mut commit) => {
                edit(&mut commit);
                Some(vec![Message::KvCommit(commit)])
            }
            other => Some(vec![other]),
        }
    };
    let edits: [(&str, EditCommit); 5] = [
        ("a commit for another binding", |c| c.binding = "00".repeat(32)),
        ("a commit without a chunk", |c| drop(c.chunks.pop())),
        ("a commit with a chunk too many", |c| c.chunks.push(c.chunks[0].clone())),
        ("a commit with another digest", |c| c.chunks[0].digest = "00".repeat(32)),
        ("a first token outside the vocabulary", |c| c.first_tokens[0].id = u32::MAX),
    ];
    for (what, edit) in edits {
        meddled(what, bad, on_commit(edit)).await;
    }
}

#[tokio::test]
async fn kv_of_another_request_is_refused_even_when_its_own_checks_hold() {
    let prefill = start(sim("p1")).await;
    let stolen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&stolen);
    // The first request's chunk comes back, rebound, in the second one: same positions, another prompt.
    let address = meddle(&prefill, move |message| match message {
        Message::KvChunk(chunk) if chunk.start == 64 => {
            let data = keep.lock().unwrap().get_or_insert_with(|| chunk.data.clone()).clone();
            Some(vec![Message::KvChunk(KvChunk::new(chunk.binding, chunk.start, chunk.end, data))])
        }
        other => Some(vec![other]),
    })
    .await;
    let decode = decode_with(sim("d1"), &address).await;
    let mut connection = connect(decode.address()).await;
    let first = run(&mut connection, request("first", prompt(TOKENS, 9), remote())).await;
    assert_eq!(first.local_reason(), None);
    assert!(stolen.lock().unwrap().is_some());
    falls_back(&decode, LocalReason::BadHandoff, "another prompt's chunk").await;
}

#[tokio::test]
async fn a_prefill_worker_gone_at_any_message_means_a_local_prompt() {
    for messages in 0..7 {
        let mut left = messages;
        meddled(&format!("gone after {messages} messages"), LocalReason::Interrupted, move |message| {
            left -= 1;
            (left >= 0).then(|| vec![message])
        })
        .await;
    }
}

#[tokio::test]
async fn after_a_broken_connection_the_others_that_were_kept_are_not_used() {
    let mut slow = sim("p1");
    sim_options(&mut slow).prefill_tokens_per_s = 3000; // so that two hand-offs overlap
    let prefill = start(slow.clone()).await;
    let break_next = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&break_next);
    let (address, accepted) = meddle_counted(&prefill, move |message| match message {
        Message::KvCommit(_) if breaks.swap(false, Ordering::Relaxed) => None,
        other => Some(vec![other]),
    })
    .await;
    let decode = decode_with(slow, &address).await;
    let (mut one, mut two) = (connect(decode.address()).await, connect(decode.address()).await);
    let handed = |id: &str| request(id, prompt(TOKENS, 3), remote());
    let (first, second) = tokio::join!(run(&mut one, handed("1")), run(&mut two, handed("2")));
    assert_eq!((first.local_reason(), second.local_reason()), (None, None));
    assert_eq!(run(&mut one, handed("3")).await.local_reason(), None);
    assert_eq!(accepted.load(Ordering::Relaxed), 2, "kept and used again");
    break_next.store(true, Ordering::Relaxed);
    assert_eq!(run(&mut one, handed("4")).await.local_reason(), Some(LocalReason::Interrupted));
    assert_eq!(run(&mut one, handed("5")).await.local_reason(), None);
    assert_eq!(accepted.load(Ordering::Relaxed), 3, "on a fresh one, though another was kept");
}

#[tokio::test]
async fn a_connection_that_died_while_it_was_kept_is_replaced_by_a_fresh_one() {
    let prefill = start(sim("p1")).await;
    let mut begins = 0;
    let (address, accepted) = meddle_counted(&prefill, move |message| {
        begins += usize::from(matches!(message, Message::KvBegin(_)));
        // Before the second hand-off has begun, it closes.
        (begins != 2 || !matches!(message, Message::KvBegin(_))).then(|| vec![message])
    })
    .await;
    let decode = decode_with(sim("d1"), &address).await;
    let mut connection = connect(decode.address()).await;
    for id in ["1", "2"] {
        let answer = run(&mut connection, request(id, prompt(TOKENS, 3), remote())).await;
        assert_eq!(answer.local_reason(), None);
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_hand_off_that_stalls_is_given_up() {
    let prefill = start(sim("p1")).await;
    let address = meddle(&prefill, |message| match message {
        Message::KvCommit(_) => Some(Vec::new()),
        other => Some(vec![other]),
    })
    .await;
    let mut config = sim("d1");
    config.patience.prefill_frame = Duration::from_millis(200);
    let decode = decode_with(config, &address).await;
    falls_back(&decode, LocalReason::TimedOut, "no commit").await;
    becomes_idle(&prefill).await;
}

/// Forwards bytes, and does `edit` to the byte at `at` of what prefill sends; `None` closes there.
async fn tamper(prefill: &Worker, at: usize, edit: fn(u8) -> Option<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = prefill.address();
    tokio::spawn(async move {
        let (down, _) = listener.accept().await.unwrap();
        let (mut from_decode, mut to_decode) = down.into_split();
        let (mut from_prefill, mut to_prefill) = TcpStream::connect(upstream).await.unwrap().into_split();
        let forwards = tokio::spawn(async move { tokio::io::copy(&mut from_decode, &mut to_prefill).await });
        let mut buffer = vec![0; 4096];
        let mut seen = 0;
        while let Ok(bytes @ 1..) = from_prefill.read(&mut buffer).await {
            let mut end = bytes;
            if let Some(byte) = at.checked_sub(seen).and_then(|offset| buffer[..bytes].get_mut(offset)) {
                match edit(*byte) {
                    Some(edited) => *byte = edited,
                    None => end = at - seen,
                }
            }
            seen += bytes;
            if to_decode.write_all(&buffer[..end]).await.is_err() || end < bytes {
                break;
            }
        }
        forwards.abort();
    });
    address
}

#[tokio::test]
async fn a_byte_changed_or_the_stream_cut_anywhere_on_the_wire_never_yields_a_token() {
    // What prefill sends for this prompt is some 8,000 bytes, its handshake about 900 of them.
    for at in (1000..6500).step_by(211) {
        for (what, edit) in [("changed", (|byte| Some(byte ^ 0x40)) as fn(u8) -> Option<u8>), ("cut", |_| None)] {
            let prefill = start(sim("p1")).await;
            let mut config = sim("d1");
            config.patience.prefill_frame = Duration::from_millis(500); // a changed length may wait for more bytes
            let decode = decode_with(config, &tamper(&prefill, at, edit).await).await;
            let mut connection = connect(decode.address()).await;
            let expected = run(&mut connection, request("l", prompt(TOKENS, 3), LOCAL)).await;
            let answer = run(&mut connection, request("r", prompt(TOKENS, 3), remote())).await;
            assert_eq!(answer.text, expected.text, "byte {at} {what}");
            assert!(answer.local_reason().is_some(), "byte {at} {what} went unnoticed");
        }
    }
}
