//! What a request pays per token for a constraint, log-probabilities and stop texts, beside one that asks for none of
//! them. Each round runs every kind once, one sequence at a time, so that a busy machine slows all alike; the ratios are of
//! the medians. Run it with `bench/constraint`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use caprock_tests::pair::Secret;
use caprock_tests::wire::{Wire, greedy};
use caprock_tests::worker::{Engine, WorkerSpec};
use cluster_protocol::{
    Constraint, FinishReason, Generate, Grammar, LocalReason, PrefillPlan, Role, Sampling, TextPart, limits,
};

const ROUNDS: usize = 9;
const TOKENS: u32 = 96;
const PROMPT: &str =
    "A list of ships, each with its name, its home port, its length and the year in which it was built:\n";
/// Long enough for no answer to end by itself.
const SHIPS: &str = r#"{"type":"array","minItems":50,"items":{"type":"object","properties":{"name":{"type":"string"},
    "port":{"enum":["Bremen","Genoa","Lisbon"]},"length_m":{"type":"number"},"built":{"type":"integer"}},
    "required":["name","port","length_m","built"],"additionalProperties":false}}"#;
const WORDS: &str = "([A-Za-z]+[ ,.]+){400}";

#[tokio::main]
async fn main() {
    let secret = Secret::new();
    let mut worker = secret.worker(WorkerSpec::new(Role::Decode, "decode-1", Engine::Llama));
    worker.ready().await;
    let mut wire = worker.connect().await;
    let prompt = wire.tokenize(vec![TextPart { text: PROMPT.into(), special: false }]).await;
    let warm = Sampling { temperature: 0.9, top_p: 0.95, top_k: 40, ..Sampling::GREEDY };
    let bound = |grammar| Some(Constraint { grammar, trigger: None });
    let schema = || bound(Grammar::JsonSchema { schema: SHIPS.into() });
    let stops = |count: usize| (0..count).map(|at| format!("never said {at:04}")).collect::<Vec<_>>();
    let sampled = || Generate { sampling: warm.clone(), ..greedy("", prompt.clone(), TOKENS, LOCAL) };
    let plain = || greedy("", prompt.clone(), TOKENS, LOCAL);
    let kinds: [(&str, usize, Generate); 9] = [
        ("greedy", 0, plain()),
        ("greedy, JSON schema", 0, Generate { constraint: schema(), ..plain() }),
        ("sampled", 2, sampled()),
        ("sampled, JSON schema", 2, Generate { constraint: schema(), ..sampled() }),
        (
            "sampled, expression",
            2,
            Generate { constraint: bound(Grammar::Regex { pattern: WORDS.into() }), ..sampled() },
        ),
        ("greedy, logprobs without alternatives", 0, Generate { logprobs: Some(0), ..plain() }),
        ("greedy, logprobs with 20", 0, Generate { logprobs: Some(limits::MAX_TOP_LOGPROBS), ..plain() }),
        ("greedy, 4 stop texts", 0, Generate { stop: stops(4), ..plain() }),
        ("greedy, 2,500 stop texts", 0, Generate { stop: stops(limits::MAX_STOPS), ..plain() }),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    for round in 0..ROUNDS {
        for (at, (_, _, request)) in kinds.iter().enumerate() {
            let mut request = request.clone();
            request.request_id = format!("req_{round}_{at}");
            request.sampling.seed = round as u64;
            times[at].extend(per_token_ms(&mut wire, request).await);
        }
    }
    println!("medians over {ROUNDS} rounds of answers of at most {TOKENS} tokens, one sequence at a time\n");
    println!("| answer | ms per token | beside the plain one |");
    println!("|---|---|---|");
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((name, beside, _), median) in kinds.iter().zip(&medians) {
        println!("| {name} | {median:.2} | {:.3} |", median / medians[*beside]);
    }
}

const LOCAL: PrefillPlan = PrefillPlan::Local { reason: LocalReason::ShortPrompt };

/// From the first token to the last; `None` for an answer that ended too soon to say anything.
async fn per_token_ms(wire: &mut Wire, request: Generate) -> Option<f64> {
    let answer = wire.generate(request).await.expect("an answer");
    assert!(matches!(answer.done.finish(), FinishReason::MaxTokens | FinishReason::EndOfTurn));
    let gaps = answer.ids.len().checked_sub(1).filter(|gaps| *gaps >= 16)?;
    Some(answer.done.timings.decode_us as f64 / 1000.0 / gaps as f64)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
