//! Hand-offs that are corrupted, cut, replayed or somebody else's: never a token from one of them, never a dead worker.

use bytes::Bytes;
use caprock_tests::fake_prefill::FakePrefill;
use caprock_tests::pair::{Secret, local_reason, locally, remotely};
use caprock_tests::proxy::{Fault, Proxy};
use caprock_tests::wire::{Answer, Wire};
use caprock_tests::worker::{Engine, Worker, WorkerSpec};
use cluster_protocol::{
    Binding, Fingerprint, FirstToken, HEADER_BYTES, Kind, KvBegin, KvChunk, LocalReason, Message, Prefill, Role,
    Sampling, TextPart, prompt_digest,
};
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU32, Ordering};

const OUTPUT_TOKENS: u32 = 3;
/// The kind of a chunk's frame, on the wire.
const KV_CHUNK: u8 = Kind::KvChunk as u8;

/// Decode, a proxy, prefill.
struct Faulty {
    decode: Worker,
    prefill: Worker,
    proxy: Proxy,
    _secret: Secret,
}

impl Faulty {
    async fn start(engine: Engine) -> Faulty {
        let secret = Secret::new();
        let mut prefill = secret.worker(WorkerSpec::new(Role::Prefill, "prefill-1", engine.clone()));
        let proxy = Proxy::start(prefill.address()).await;
        let spec = WorkerSpec::new(Role::Decode, "decode-1", engine).knows("prefill-1", proxy.address());
        let mut decode = secret.worker(spec);
        prefill.ready().await;
        decode.ready().await;
        Faulty { decode, prefill, proxy, _secret: secret }
    }

    /// The bytes that a whole, unharmed hand-off of `prompt` is made of, and where its frames begin.
    async fn record(&self, wire: &mut Wire, prompt: &[u32], expected: &Answer) -> (Vec<u8>, Vec<usize>) {
        self.proxy.set(Fault::None);
        let answer = remotely(wire, &fresh_id(), prompt, OUTPUT_TOKENS).await.unwrap();
        assert_eq!(local_reason(&answer), None, "without a fault the hand-off works");
        assert_eq!(answer.ids, expected.ids);
        let bytes = self.proxy.recordings().pop().unwrap();
        let frames = frames(&bytes);
        assert!(frames.len() >= 4, "Welcome, KvBegin, KvChunk, KvCommit: {frames:?}");
        (bytes, frames)
    }

    /// A request whose hand-off suffers `fault`: it must be answered from a local prefill, and right.
    async fn suffers(&self, wire: &mut Wire, fault: Fault, prompt: &[u32], expected: &Answer) -> LocalReason {
        self.proxy.set(fault.clone());
        let answer = remotely(wire, &fresh_id(), prompt, OUTPUT_TOKENS).await;
        let answer = answer.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(answer.ids, expected.ids, "{fault:?}: a token came from a bad hand-off");
        local_reason(&answer).unwrap_or_else(|| panic!("{fault:?} was accepted"))
    }

    /// As [`Faulty::suffers`], for a cut. The commit tells how long prefill took, so one transfer may be some digits
    /// shorter than another: a cut that it ended before is made again, at its own last byte.
    async fn is_cut(&self, wire: &mut Wire, mut offset: usize, prompt: &[u32], expected: &Answer) -> LocalReason {
        const TRIES: usize = 20;
        for _ in 0..TRIES {
            self.proxy.set(Fault::Cut { offset });
            let answer = remotely(wire, &fresh_id(), prompt, OUTPUT_TOKENS).await.unwrap();
            assert_eq!(answer.ids, expected.ids, "cut at {offset}: a token came from a bad hand-off");
            if let Some(reason) = local_reason(&answer) {
                return reason;
            }
            let length = self.proxy.recordings().pop().unwrap().len();
            assert!(length <= offset, "a transfer of {length} bytes, cut at {offset}, was accepted");
            offset = length - 1;
        }
        panic!("{TRIES} transfers were each shorter than the one before");
    }

    async fn at_rest(&self, epochs: (u64, u64)) {
        self.decode.idle().await;
        self.prefill.idle().await;
        assert_eq!(self.epochs().await, epochs, "a worker died and was restarted");
    }

    async fn epochs(&self) -> (u64, u64) {
        (self.decode.info().await.epoch, self.prefill.info().await.epoch)
    }
}

/// A worker serves an id once. All are of one length, so that a recording's offsets hold for the next transfer.
fn fresh_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("req_{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Offsets at which frames begin.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at + HEADER_BYTES <= bytes.len() {
        starts.push(at);
        at += HEADER_BYTES + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    assert_eq!(at, bytes.len(), "the recording ends with a whole frame");
    starts
}

fn is_the_frames_fault(reason: LocalReason) -> bool {
    use LocalReason::*;
    // Unreachable is what a broken handshake is called; TimedOut a length that promises bytes which never come.
    matches!(reason, BadHandoff | Unreachable | TimedOut | Interrupted)
}

#[tokio::test]
async fn a_flip_in_any_header_field_of_any_frame_is_noticed() {
    let faulty = Faulty::start(Engine::sim(&[])).await;
    let prompt: Vec<u32> = (0..600).map(|n| n % 200).collect(); // three chunks
    let mut wire = faulty.decode.connect().await;
    let expected = locally(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    let epochs = faulty.epochs().await;
    let (bytes, frames) = faulty.record(&mut wire, &prompt, &expected).await;
    let mut promised_too_much = false;
    for start in frames {
        for offset in start..start + HEADER_BYTES {
            // A chunk may be so long that decode waits for the rest, half a minute: once shows it.
            let waits = offset == start + 2 && bytes[start + 4] == KV_CHUNK && bytes[offset] == 0;
            if waits && std::mem::replace(&mut promised_too_much, true) {
                continue;
            }
            let mask = shrinking_mask(&bytes, start, offset);
            let reason = faulty.suffers(&mut wire, Fault::Flip { offset, mask }, &prompt, &expected).await;
            assert!(is_the_frames_fault(reason), "byte {} of the frame at {start}: {reason:?}", offset - start);
        }
    }
    drop(wire);
    faulty.at_rest(epochs).await;
}

/// Lengths shrink where they can, and else grow by as much as a bit can.
fn shrinking_mask(bytes: &[u8], frame: usize, offset: usize) -> u8 {
    match offset - frame {
        0..=2 if bytes[offset] != 0 => bytes[offset] & bytes[offset].wrapping_neg(),
        0..=3 => 0x80,
        _ => 1 << (offset % 8),
    }
}

#[tokio::test]
async fn a_flip_in_any_of_200_random_places_of_real_data_is_noticed() {
    let faulty = Faulty::start(Engine::Llama).await;
    let mut wire = faulty.decode.connect().await;
    let text = TextPart { text: "The river carries small stones down to the sea".into(), special: false };
    let prompt = wire.tokenize(vec![text]).await;
    let expected = locally(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    let epochs = faulty.epochs().await;
    let (bytes, frames) = faulty.record(&mut wire, &prompt, &expected).await;
    let seed: u64 = std::env::var("CAPROCK_TEST_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
    println!("CAPROCK_TEST_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    // The commit tells how long prefill took: the only length that differs from run to run, so it comes last.
    let data = frames[1] + HEADER_BYTES..bytes.len() - 16;
    for _ in 0..200 {
        let fault = Fault::Flip { offset: random.random_range(data.clone()), mask: 1 << random.random_range(0..8) };
        let reason = faulty.suffers(&mut wire, fault, &prompt, &expected).await;
        assert!(is_the_frames_fault(reason), "{reason:?}, seed {seed}");
    }
    drop(wire);
    faulty.at_rest(epochs).await;
}

#[tokio::test]
async fn a_transfer_cut_at_any_border_is_not_taken_for_a_shorter_one() {
    let faulty = Faulty::start(Engine::sim(&[])).await;
    let prompt: Vec<u32> = (0..600).map(|n| n % 200).collect();
    let mut wire = faulty.decode.connect().await;
    let expected = locally(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    let epochs = faulty.epochs().await;
    let (bytes, frames) = faulty.record(&mut wire, &prompt, &expected).await;
    let ends = frames[1..].iter().copied().chain([bytes.len()]);
    for (start, end) in frames.iter().copied().zip(ends) {
        for offset in [start, start + 1, start + HEADER_BYTES, (start + end) / 2, end - 1] {
            let reason = faulty.is_cut(&mut wire, offset, &prompt, &expected).await;
            assert!(is_the_frames_fault(reason), "cut at {offset}: {reason:?}");
        }
    }
    drop(wire);
    faulty.at_rest(epochs).await;
}

#[tokio::test]
async fn a_recorded_transfer_sent_again_is_refused() {
    let faulty = Faulty::start(Engine::sim(&[])).await;
    let prompt: Vec<u32> = (0..600).map(|n| n % 200).collect();
    let mut wire = faulty.decode.connect().await;
    let expected = locally(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    let epochs = faulty.epochs().await;
    let (bytes, frames) = faulty.record(&mut wire, &prompt, &expected).await;
    // The very same request, tenant and prompt; only the connection is another one.
    let replays = [
        Fault::Replace { offset: 0, bytes: bytes.clone() },
        Fault::Replace { offset: frames[1], bytes: bytes[frames[1]..].to_vec() },
        Fault::Replace { offset: frames[2], bytes: bytes[frames[2]..].to_vec() },
    ];
    for fault in replays {
        let reason = faulty.suffers(&mut wire, fault, &prompt, &expected).await;
        assert!(is_the_frames_fault(reason), "{reason:?}");
    }
    drop(wire);
    faulty.at_rest(epochs).await;
}

#[tokio::test]
async fn the_kv_of_another_request_tenant_prompt_or_model_is_refused_from_a_peer_that_knows_the_secret() {
    another_owners_kv(Engine::sim(&[])).await;
}

#[tokio::test]
async fn the_same_holds_with_the_real_model() {
    another_owners_kv(Engine::Llama).await;
}

async fn another_owners_kv(engine: Engine) {
    let secret = Secret::new();
    let mut prefill = secret.worker(WorkerSpec::new(Role::Prefill, "prefill-real", engine.clone()));
    prefill.ready().await;
    let fake = FakePrefill::start(secret.key(), prefill.info().await).await;
    let spec = WorkerSpec::new(Role::Decode, "decode-1", engine).knows("prefill-1", fake.address());
    let mut decode = secret.worker(spec);
    decode.ready().await;
    let mut wire = decode.connect().await;
    let epoch = wire.info.epoch;
    let prompt = wire.tokenize(vec![TextPart { text: "Green stones under a slow river".into(), special: false }]).await;
    let other = wire.tokenize(vec![TextPart { text: "Quite another matter altogether".into(), special: false }]).await;
    let expected = locally(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    let transfer = Transfer::fetch(&prefill, &prompt).await;
    let foreign = Transfer::fetch(&prefill, &other).await;

    // The control: told truly, this peer is believed, so what follows is refused for its content alone.
    let honest = transfer.clone();
    fake.says(move |asked| honest.as_if(&asked.binding));
    let answer = remotely(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await.unwrap();
    assert_eq!((local_reason(&answer), answer.ids), (None, expected.ids.clone()));

    let asked_before = fake.asked();
    let lies = lies(&transfer, &foreign);
    let count = lies.len() as u32;
    for (name, lie) in lies {
        fake.says(lie);
        let answer = remotely(&mut wire, &fresh_id(), &prompt, OUTPUT_TOKENS).await;
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(local_reason(&answer), Some(LocalReason::BadHandoff), "{name}");
        assert_eq!(answer.ids, expected.ids, "{name}: a token came from it");
    }
    assert!(fake.asked() >= asked_before + count, "every lie was told");
    drop(wire);
    decode.idle().await;
    assert_eq!(decode.info().await.epoch, epoch, "the worker died and was restarted");
}

/// A true hand-off as a prefill worker sends it.
#[derive(Clone)]
struct Transfer {
    chunks: Vec<KvChunk>,
    first_tokens: Vec<FirstToken>,
}

impl Transfer {
    async fn fetch(prefill: &Worker, prompt: &[u32]) -> Transfer {
        let mut wire = prefill.connect().await;
        let binding = Binding {
            request_id: "req_recorded".into(),
            attempt: 1,
            tenant: "ten_tests".into(),
            prompt_digest: prompt_digest(prompt),
            prompt_tokens: prompt.len() as u32,
            fingerprint: wire.info.fingerprint.clone(),
            epoch: wire.info.epoch,
        };
        let asked = Prefill {
            binding,
            prompt: prompt.to_vec(),
            sampling: Sampling::GREEDY,
            constraint: None,
            logprobs: None,
            choices: 1,
            stop: Vec::new(),
            max_tokens: OUTPUT_TOKENS,
        };
        wire.send(Message::Prefill(Box::new(asked))).await;
        let mut chunks = Vec::new();
        loop {
            match wire.next().await.unwrap() {
                Message::KvBegin(_) => {}
                Message::KvChunk(chunk) => chunks.push(chunk),
                Message::KvCommit(commit) => return Transfer { chunks, first_tokens: commit.first_tokens },
                other => panic!("{:?} out of turn", other.kind()),
            }
        }
    }

    /// Bound to something else, all digests right.
    fn as_if(&self, binding: &Binding) -> Vec<Message> {
        self.with_data(binding, |data| data.clone())
    }

    fn with_data(&self, binding: &Binding, change: impl Fn(&Bytes) -> Bytes) -> Vec<Message> {
        let rebound = |chunk: &KvChunk| KvChunk::new(binding.digest(), chunk.start, chunk.end, change(&chunk.data));
        let chunks: Vec<KvChunk> = self.chunks.iter().map(rebound).collect();
        let commit = cluster_protocol::Commit {
            binding: hex(&binding.digest()),
            chunks: chunks.iter().map(KvChunk::reference).collect(),
            first_tokens: self.first_tokens.clone(),
            ended: false,
            prefill_us: 1,
        };
        let begin = Message::KvBegin(Box::new(KvBegin { binding: binding.clone() }));
        let end = Message::KvCommit(Box::new(commit));
        std::iter::once(begin).chain(chunks.into_iter().map(Message::KvChunk)).chain([end]).collect()
    }
}

type Lie = Box<dyn Fn(&Prefill) -> Vec<Message> + Send + Sync>;

fn lies(transfer: &Transfer, foreign: &Transfer) -> Vec<(&'static str, Lie)> {
    let edited = |edit: fn(&mut Binding)| -> Lie {
        let transfer = transfer.clone();
        Box::new(move |asked| {
            let mut binding = asked.binding.clone();
            edit(&mut binding);
            transfer.as_if(&binding)
        })
    };
    // The opening frame is right, everything after it belongs to something else.
    let only_chunks = |edit: fn(&mut Binding)| -> Lie {
        let transfer = transfer.clone();
        Box::new(move |asked| {
            let mut binding = asked.binding.clone();
            edit(&mut binding);
            let mut messages = transfer.as_if(&binding);
            messages[0] = Message::KvBegin(Box::new(KvBegin { binding: asked.binding.clone() }));
            messages
        })
    };
    let rearranged = |change: fn(Vec<Message>) -> Vec<Message>| -> Lie {
        let transfer = transfer.clone();
        Box::new(move |asked| change(transfer.as_if(&asked.binding)))
    };
    let garbled = |change: fn(&Bytes) -> Bytes| -> Lie {
        let transfer = transfer.clone();
        Box::new(move |asked| transfer.with_data(&asked.binding, change))
    };
    let other_prompt = foreign.clone();
    vec![
        ("another request", edited(|binding| binding.request_id = "req_other".into())),
        ("another tenant", edited(|binding| binding.tenant = "ten_other".into())),
        ("another attempt", edited(|binding| binding.attempt += 1)),
        ("another prompt", edited(|binding| binding.prompt_digest = prompt_digest(&[1, 2, 3]))),
        ("another epoch", edited(|binding| binding.epoch += 1)),
        ("another model", edited(|binding| binding.fingerprint.model_sha256 = "00".repeat(32))),
        ("another build", edited(|binding| binding.fingerprint.build.push('x'))),
        ("another chunk size", edited(|binding| double_chunk(&mut binding.fingerprint))),
        ("chunks of another request", only_chunks(|binding| binding.request_id = "req_other".into())),
        ("chunks of another tenant", only_chunks(|binding| binding.tenant = "ten_other".into())),
        ("chunks of another model", only_chunks(|binding| binding.fingerprint.model_sha256 = "00".repeat(32))),
        (
            "another prompt's data, at other positions than it says",
            Box::new(move |asked| {
                let mut messages = other_prompt.as_if(&asked.binding);
                shift_first_chunk(&mut messages);
                messages
            }),
        ),
        (
            "the commit first",
            rearranged(|mut messages| {
                let last = messages.pop().unwrap();
                messages.insert(1, last);
                messages
            }),
        ),
        (
            "a chunk twice",
            rearranged(|mut messages| {
                messages.insert(2, messages[1].clone());
                messages
            }),
        ),
        (
            "no chunk at all",
            rearranged(|mut messages| {
                messages.drain(1..messages.len() - 1);
                messages
            }),
        ),
        (
            "no opening",
            rearranged(|mut messages| {
                messages.remove(0);
                messages
            }),
        ),
        ("empty data", garbled(|_| Bytes::new())),
        ("half the data", garbled(|data| data.slice(..data.len() / 2))),
        ("data and a bit more", garbled(|data| [data, &b"more"[..]].concat().into())),
        ("zeros", garbled(|data| vec![0; data.len()].into())),
        ("ones", garbled(|data| vec![0xff; data.len()].into())),
        (
            "data from its middle on",
            garbled(|data| {
                let (front, back) = data.split_at(data.len() / 2);
                [back, front].concat().into()
            }),
        ),
    ]
}

fn double_chunk(fingerprint: &mut Fingerprint) {
    fingerprint.chunk_tokens *= 2;
}

/// Claims other positions for the first chunk than its data hold.
fn shift_first_chunk(messages: &mut [Message]) {
    for message in messages {
        if let Message::KvChunk(chunk) = message {
            *chunk = KvChunk::new(chunk.binding, chunk.start + 1, chunk.end, chunk.data.clone());
            return;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
