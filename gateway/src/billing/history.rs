//! Random histories against a plain model: a map of what was opened, a map of what was charged.

use super::tests::{request_of, settlement};
use super::*;
use crate::error::{ErrorKind, Result};
use crate::store::Store;
use crate::store::testing::{principal, sqlite};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One step. Numbers choose among the tenants and requests that there are.
#[derive(Debug, Clone)]
enum Step {
    Open { tenant: usize, again: bool, price: i64 },
    Note { request: usize, attempt: u32 },
    Settle { request: usize, outcome: Outcome, tokens: [u64; 5] },
    SettleTogether { request: usize, outputs: Vec<u64> },
    Renew { until: Micros },
    Recover { now: Micros },
}

fn outcome() -> impl Strategy<Value = Outcome> {
    use Outcome::{ClientGone, Completed, Failed, Lost, Recovered, Shutdown};
    prop::sample::select(vec![Completed, ClientGone, Failed, Shutdown, Recovered, Lost])
}

fn step() -> impl Strategy<Value = Step> {
    let (request, tokens) = (any::<usize>(), prop::array::uniform5(0u64..1_000));
    prop_oneof![
        4 => (any::<usize>(), prop::bool::weighted(0.1), 0i64..3_000_000)
            .prop_map(|(tenant, again, price)| Step::Open { tenant, again, price }),
        2 => (request, 1u32..4).prop_map(|(request, attempt)| Step::Note { request, attempt }),
        4 => (request, outcome(), tokens)
            .prop_map(|(request, outcome, tokens)| Step::Settle { request, outcome, tokens }),
        1 => (request, prop::collection::vec(0u64..50, 2..6))
            .prop_map(|(request, outputs)| Step::SettleTogether { request, outputs }),
        1 => (0i64..2_000).prop_map(|until| Step::Renew { until }),
        1 => (0i64..2_000).prop_map(|now| Step::Recover { now }),
    ]
}

/// What the model knows of a request.
#[derive(Debug)]
struct Known {
    request: OpenRequest,
    attempt: u32,
    lease_until: Micros,
    /// Outcome and amount, once settled.
    end: Option<(Outcome, i64)>,
}

#[derive(Default)]
struct Model {
    requests: Vec<Known>,
}

/// The rule, said again in other words than `rating`: thousandths of nano-USD, rounded up bucket by bucket.
fn amount(price: &Price, outcome: Outcome, [input, read, write, output, reasoning]: [u64; 5]) -> i64 {
    let up = |price: i64, tokens: u64| {
        let thousandths = u128::try_from(price).unwrap() * u128::from(tokens);
        i64::try_from(thousandths.div_ceil(1_000)).unwrap()
    };
    if outcome == Outcome::Lost {
        return 0;
    }
    let read_price = price.cache_read.map_or(price.input.0, |price| price.0);
    let write_price = price.cache_write.map_or(price.input.0, |price| price.0);
    up(price.input.0, input)
        + up(read_price, read)
        + up(write_price, write)
        + up(price.output.0, output)
        + up(price.output.0, reasoning)
}

fn settles(known: &Known, outcome: Outcome, tokens: [u64; 5]) -> Settlement {
    let [input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = tokens;
    let usage = Usage { input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens };
    Settlement { usage, ..settlement(&known.request.id, outcome, 0, 0) }
}

async fn run(history: Vec<Step>) -> Result<()> {
    let (fixture, _dir) = sqlite().await;
    let store = fixture.store;
    let tenants = [principal(&store, "one").await, principal(&store, "two").await];
    let mut model = Model::default();
    for step in history {
        apply(&store, &tenants, &mut model, step).await?;
    }
    check(&store, &tenants, &model).await
}

async fn apply(store: &Store, tenants: &[Principal; 2], model: &mut Model, step: Step) -> Result<()> {
    let count = model.requests.len();
    match step {
        Step::Open { again: true, .. } if count > 0 => {
            let error = open_request(store, &model.requests[count / 2].request).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Conflict);
        }
        Step::Open { tenant, price, .. } => {
            let mut request = request_of(&tenants[tenant % 2]);
            request.price.input.0 = price;
            request.lease_until = price % 2_000;
            open_request(store, &request).await?;
            let lease_until = request.lease_until;
            model.requests.push(Known { request, attempt: 1, lease_until, end: None });
        }
        Step::Note { .. } | Step::Settle { .. } | Step::SettleTogether { .. } if count == 0 => {}
        Step::Note { request, attempt } => {
            let known = &mut model.requests[request % count];
            let allowed = known.end.is_none() && attempt >= known.attempt;
            assert_eq!(note_worker(store, &known.request.id, "decode", attempt).await.is_ok(), allowed);
            if allowed {
                known.attempt = attempt;
            }
        }
        Step::Settle { request, outcome, tokens } => {
            let known = &mut model.requests[request % count];
            let charged = settle(store, &settles(known, outcome, tokens)).await?;
            assert_eq!(charged.first, known.end.is_none());
            let charged = charged.amount;
            let (_, expected) = *known.end.get_or_insert((outcome, amount(&known.request.price, outcome, tokens)));
            assert_eq!(charged.0, expected);
        }
        Step::SettleTogether { request, outputs } => {
            let known = &mut model.requests[request % count];
            let all = outputs.iter().map(|&output| settles(known, Outcome::Completed, [1, 0, 0, output, 0]));
            let all = all.map(|settlement| async move { settle(store, &settlement).await.unwrap().amount.0 });
            let amounts = futures::future::join_all(all).await;
            assert!(amounts.iter().all(|amount| *amount == amounts[0]), "{amounts:?}");
            let price = &known.request.price;
            let possible: Vec<i64> =
                outputs.iter().map(|&output| amount(price, Outcome::Completed, [1, 0, 0, output, 0])).collect();
            let (_, expected) = *known.end.get_or_insert_with(|| {
                assert!(possible.contains(&amounts[0]));
                (Outcome::Completed, amounts[0])
            });
            assert_eq!(amounts[0], expected);
        }
        Step::Renew { until } => {
            let moved = renew_leases(store, "gateway-1", until).await?;
            let mut expected = 0;
            for known in model.requests.iter_mut().filter(|known| known.end.is_none() && known.lease_until < until) {
                known.lease_until = until;
                expected += 1;
            }
            assert_eq!(moved, expected);
        }
        Step::Recover { now } => {
            let expired = expired_requests(store, now).await?;
            let is_expired = |known: &&mut Known| known.end.is_none() && known.lease_until < now;
            let mut expected: BTreeMap<_, _> = model
                .requests
                .iter_mut()
                .filter(is_expired)
                .map(|known| (known.request.id.as_str().to_owned(), known))
                .collect();
            assert_eq!(expired.len(), expected.len());
            for row in expired {
                let known = expected.remove(row.id.as_str()).unwrap();
                assert_eq!((&row.tenant_id, row.attempt), (&known.request.principal.tenant, known.attempt));
                let outcome = if row.attempt == 1 { Outcome::Lost } else { Outcome::Recovered };
                let tokens = [row.input_tokens, 0, 0, 2, 0];
                let charged = settle(store, &settles(known, outcome, tokens)).await?.amount;
                known.end = Some((outcome, amount(&known.request.price, outcome, tokens)));
                assert_eq!(Some((outcome, charged.0)), known.end);
            }
        }
    }
    Ok(())
}

/// Balances, records and what is still open are what the model says.
async fn check(store: &Store, tenants: &[Principal; 2], model: &Model) -> Result<()> {
    for who in tenants {
        let theirs = model.requests.iter().filter(|known| known.request.principal.tenant == who.tenant);
        let owed: i64 = theirs.filter_map(|known| known.end).map(|(_, amount)| amount).sum();
        assert_eq!(balance(store, &who.tenant).await?, Nanousd(owed));
    }
    for known in &model.requests {
        let record = request_record(store, &known.request.id).await?;
        let entry = record.ledger_entry.as_ref();
        let end = known.end.map(|(outcome, amount)| (outcome.as_str().to_owned(), Nanousd(amount)));
        assert_eq!(record.outcome.zip(entry.map(|entry| entry.amount_nanousd)), end);
        assert_eq!(record.state, if known.end.is_some() { "settled" } else { "open" });
        assert!(entry.is_none_or(|entry| entry.price == known.request.price), "rated at another price");
        assert_eq!(record.detail.attempt, known.attempt);
    }
    let open = model.requests.iter().filter(|known| known.end.is_none()).count();
    assert_eq!(open_requests(store, "gateway-1", None).await?.len(), open);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_is_what_a_plain_model_says_after_any_history(history in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(history)).unwrap();
    }
}
