//! The point of splitting prefill from decode: how long running answers stall while long prompts arrive.
//!
//! Four streams generate while prompts of 1,000 tokens come one after the other, on the same two worker processes in
//! two arrangements: *disaggregated*, where one computes prompts and the other generates, and *aggregated*, where each
//! does both for half of the streams and every other prompt. Run it with `bench/stall`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use caprock_tests::pair::Pair;
use caprock_tests::wire::{Wire, greedy};
use caprock_tests::worker::{Engine, Worker};
use cluster_protocol::{Generate, LocalReason, Message, PrefillPlan, Sampling, TextPart};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const STREAMS: usize = 4;
const PROMPT_TOKENS: usize = 1000;
const STREAM_TOKENS: u32 = 400;
/// Tokens generated for each arriving prompt: it is there for its prefill.
const VISITOR_TOKENS: u32 = 4;
const WINDOW: Duration = Duration::from_secs(60);
const TEXT: &str = include_str!("../../LICENSE");

static REQUESTS: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() {
    let pair = Pair::start(Engine::Llama).await;
    let tokens = pair.decode.connect().await.tokenize(vec![TextPart { text: TEXT.into(), special: false }]).await;
    println!("{STREAMS} streams, prompts of {PROMPT_TOKENS} tokens one after the other, {} s each\n", WINDOW.as_secs());
    println!(
        "| arrangement | gaps | ITL p50 ms | p99 ms | max ms | tokens/s of the streams | prompts | mean prompt s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let quiet = measure(&pair, &tokens, Arrangement::Quiet).await;
    let aggregated = measure(&pair, &tokens, Arrangement::Aggregated).await;
    let disaggregated = measure(&pair, &tokens, Arrangement::Disaggregated).await;
    for result in [&quiet, &aggregated, &disaggregated] {
        println!("{}", result.row());
    }
    println!(
        "\nworst stall: {:.1} times shorter disaggregated; p99: {:.1} times",
        aggregated.percentile(1.0) / disaggregated.percentile(1.0),
        aggregated.percentile(0.99) / disaggregated.percentile(0.99)
    );
}

#[derive(Debug, Clone, Copy)]
enum Arrangement {
    /// The streams alone, on the decode worker: what there is to lose.
    Quiet,
    Aggregated,
    Disaggregated,
}

struct Measured {
    name: &'static str,
    /// Sorted, in ms.
    gaps_ms: Vec<f64>,
    prompts_s: Vec<f64>,
    elapsed: Duration,
}

impl Measured {
    fn percentile(&self, rank: f64) -> f64 {
        let last = self.gaps_ms.len() - 1;
        self.gaps_ms[(last as f64 * rank).round() as usize]
    }

    fn row(&self) -> String {
        let mean = match self.prompts_s.len() {
            0 => "–".into(),
            prompts => format!("{:.1}", self.prompts_s.iter().sum::<f64>() / prompts as f64),
        };
        format!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.1} | {} | {} |",
            self.name,
            self.gaps_ms.len(),
            self.percentile(0.5),
            self.percentile(0.99),
            self.percentile(1.0),
            self.gaps_ms.len() as f64 / self.elapsed.as_secs_f64(),
            self.prompts_s.len(),
            mean
        )
    }
}

async fn measure(pair: &Pair, tokens: &[u32], arrangement: Arrangement) -> Measured {
    let both = [&pair.decode, &pair.prefill];
    let (name, homes): (_, Vec<&Worker>) = match arrangement {
        Arrangement::Quiet => ("no prompts arrive", vec![&pair.decode; STREAMS]),
        Arrangement::Disaggregated => ("disaggregated", vec![&pair.decode; STREAMS]),
        Arrangement::Aggregated => ("aggregated", (0..STREAMS).map(|n| both[n % 2]).collect()),
    };
    let begun = Instant::now();
    let end = begun + WINDOW;
    let streams = homes.iter().enumerate().map(|(n, home)| stream(home, &tokens[n * 50..n * 50 + 20], end));
    let visitors = async {
        let mut prompts_s = Vec::new();
        for n in 0.. {
            if matches!(arrangement, Arrangement::Quiet) || Instant::now() >= end {
                break;
            }
            let start = n * 37 % (tokens.len() - PROMPT_TOKENS);
            let prompt = tokens[start..start + PROMPT_TOKENS].to_vec();
            let (home, plan) = match arrangement {
                Arrangement::Aggregated => (both[n % 2], local()),
                Arrangement::Quiet | Arrangement::Disaggregated => {
                    (both[0], PrefillPlan::Remote { prefill_id: "prefill-1".into() })
                }
            };
            let asked = Instant::now();
            let mut wire = home.connect().await;
            wire.generate(request(prompt, VISITOR_TOKENS, plan)).await.unwrap();
            prompts_s.push(asked.elapsed().as_secs_f64());
        }
        prompts_s
    };
    let (gaps, prompts_s) = tokio::join!(futures::future::join_all(streams), visitors);
    let mut gaps_ms: Vec<f64> = gaps.into_iter().flatten().collect();
    gaps_ms.sort_by(f64::total_cmp);
    pair.decode.idle().await;
    pair.prefill.idle().await;
    Measured { name, gaps_ms, prompts_s, elapsed: begun.elapsed() }
}

/// Generates until `end`, one answer after the other; gaps between two frames of one answer, in ms.
async fn stream(home: &Worker, prompt: &[u32], end: Instant) -> Vec<f64> {
    let mut gaps_ms = Vec::new();
    while Instant::now() < end {
        let mut wire = home.connect().await;
        answer(&mut wire, prompt, end, &mut gaps_ms).await;
    }
    gaps_ms
}

async fn answer(wire: &mut Wire, prompt: &[u32], end: Instant, gaps_ms: &mut Vec<f64>) {
    wire.send(Message::Generate(Box::new(request(prompt.to_vec(), STREAM_TOKENS, local())))).await;
    let mut last: Option<Instant> = None;
    loop {
        match wire.next().await.expect("the worker goes on") {
            Message::Token(_) => {
                let now = Instant::now();
                gaps_ms.extend(last.map(|last| (now - last).as_secs_f64() * 1000.0));
                if now >= end {
                    return; // leaving cancels
                }
                last = Some(now);
            }
            Message::Accepted(_) | Message::Paused(_) => {}
            Message::Done(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

fn local() -> PrefillPlan {
    PrefillPlan::Local { reason: LocalReason::ShortPrompt }
}

fn request(prompt: Vec<u32>, max_tokens: u32, plan: PrefillPlan) -> Generate {
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let mut request = greedy(&format!("req_stall_{number}"), prompt, max_tokens, plan);
    // Not greedy: a small model left to itself soon repeats one sentence and ends.
    request.sampling = Sampling { temperature: 1.0, top_p: 0.95, seed: number, ..Sampling::GREEDY };
    request
}
