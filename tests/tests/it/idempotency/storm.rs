//! Many calls whose connections break at random points, each tried again up to three times.

use super::calls::{Call, Cut, FORMS, Got};
use caprock_tests::client::Client;
use caprock_tests::stack::{Stack, StackSpec};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::task::JoinSet;

const SEED: u64 = 0x0ca9_70c4;
const MOST_RETRIES: usize = 3;

/// How many calls, and what they look like.
pub(super) struct Storm {
    pub(super) calls: usize,
    /// Calls at a time, each with several attempts.
    pub(super) at_once: usize,
    /// Output tokens of a call are a number below.
    pub(super) most_tokens: u32,
    /// A connection that ends before the body lives shorter than this, in ms.
    pub(super) head_ms: u64,
}

/// A call and its attempts, the first one included. The last one is read to its end.
struct Plan {
    call: Call,
    tries: Vec<Try>,
}

struct Try {
    /// Begins when those before it have ended, else beside them.
    after_others: bool,
    pause: Duration,
    cut: Cut,
}

impl Storm {
    fn plan(&self, random: &mut StdRng, number: usize) -> Plan {
        let form = FORMS[number % FORMS.len()];
        let max_tokens = random.random_range(1..self.most_tokens);
        let call = Call::new(form, &format!("storm {number}"), &format!("Call number {number}."), max_tokens);
        let retries = random.random_range(1..=MOST_RETRIES);
        let tries = (0..=retries).map(|at| Try {
            after_others: random.random_bool(0.5),
            pause: Duration::from_millis(random.random_range(0..self.head_ms)),
            cut: match random.random_range(0..4) {
                _ if at == retries => Cut::Never,
                0 => Cut::BeforeBody(Duration::from_millis(random.random_range(0..self.head_ms))),
                1 | 2 => Cut::InBody(random.random_range(1..1500)),
                _ => Cut::Never,
            },
        });
        Plan { call, tries: tries.collect() }
    }

    /// Runs all and compares callers, books and engine.
    pub(super) async fn run(&self, stack: &Stack) {
        let mut random = StdRng::seed_from_u64(SEED);
        let plans: Vec<Plan> = (0..self.calls).map(|number| self.plan(&mut random, number)).collect();
        let client = stack.client();
        let begun = std::time::Instant::now();
        let runs = plans.into_iter().map(|plan| run(client.clone(), plan));
        let all: Vec<(Call, Vec<Got>)> = futures::stream::iter(runs).buffer_unordered(self.at_once).collect().await;

        // Every request is settled, once; and the engine generated what is in the books, not a token more.
        let lines = stack.balanced().await;
        assert_eq!(lines.len(), self.calls, "one request per key");
        let mut books = stack.gateway.books().await;
        let generated_by = books.answers().await;
        let (mut broken, mut replayed) = (0, 0);
        for (call, got) in &all {
            let whole: Vec<&Got> = got.iter().filter(|got| got.whole).collect();
            let first = whole.first().unwrap_or_else(|| panic!("nobody got the answer of {call:?}"));
            for other in got {
                let is_alike =
                    if other.whole { other.bytes == first.bytes } else { first.bytes.starts_with(&other.bytes) };
                assert!(is_alike, "{call:?}:\n{}\n{}", lossy(&first.bytes), lossy(&other.bytes));
            }
            broken += got.len() - whole.len();
            replayed += got.iter().filter(|got| got.replayed).count();
            let request_id = &generated_by[&call.key];
            let line = lines.iter().find(|line| line.request_id == *request_id).unwrap();
            assert_eq!(line.outcome.as_deref(), Some("completed"), "{call:?}: {line:?}");
            assert_eq!((line.input_tokens, line.output_tokens), call.form.usage(&first.bytes), "{call:?}: {line:?}");
        }
        let attempts: usize = all.iter().map(|(_, got)| got.len()).sum();
        // Of those who read an answer while it was generated, all but one joined it.
        let live = |got: &Vec<Got>| got.iter().filter(|got| !got.replayed && !got.bytes.is_empty()).count();
        let joined: usize = all.iter().map(|(_, got)| live(got).saturating_sub(1)).sum();
        let (calls, took) = (self.calls, begun.elapsed());
        eprintln!(
            "{attempts} attempts at {calls} calls in {took:?}: {broken} broke, {joined} joined, {replayed} replayed"
        );
        // Else the numbers above say little.
        assert!(broken * 2 > calls && joined * 5 > calls && replayed * 4 > calls);
    }
}

async fn run(client: Client, plan: Plan) -> (Call, Vec<Got>) {
    let (mut running, mut got) = (JoinSet::new(), Vec::new());
    for Try { after_others, pause, cut } in plan.tries {
        if after_others {
            while let Some(ended) = running.join_next().await {
                got.push(ended.unwrap());
            }
        }
        let (client, call) = (client.clone(), plan.call.clone());
        running.spawn(async move {
            tokio::time::sleep(pause).await;
            call.attempt(&client, cut).await
        });
    }
    got.extend(running.join_all().await);
    (plan.call, got)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_thousand_calls_with_disconnects_and_retries_make_one_generation_each() {
    let stack = StackSpec::sim(&["step-ms=2", "answer-tokens=24"]).start().await;
    Storm { calls: 1000, at_once: 24, most_tokens: 40, head_ms: 60 }.run(&stack).await;
}
