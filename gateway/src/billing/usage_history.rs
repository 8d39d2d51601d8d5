//! Random histories of settlements against a plain model: usage in any range, by anything, is what was settled, and its
//! money is the ledger's.

use super::tests::{request_of, settlement};
use super::*;
use crate::id::RequestId;
use crate::store::Store;
use crate::store::testing::{Fixture, on_both_engines, principal};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

const HOUR: Micros = 3_600_000_000;
const MODELS: [&str; 3] = ["a.model", "b model/with:signs", "é"];

/// A request that is opened, and settled unless `ended_at` is `None`.
#[derive(Debug, Clone)]
struct Past {
    who: usize,
    model: usize,
    price: i64,
    ended_at: Option<Micros>,
    outcome: Outcome,
    tokens: [u64; 5],
}

/// A question about it.
#[derive(Debug, Clone)]
struct Question {
    from: Micros,
    to: Micros,
    who: Option<usize>,
    model: Option<usize>,
    by: Grouping,
    page: usize,
}

/// Mostly exactly on the hour, where half-open ranges and starts of days go wrong.
fn time() -> impl Strategy<Value = Micros> {
    let hours = 490_000i64..490_060;
    prop_oneof![hours.clone().prop_map(|hour| hour * HOUR), (hours, 0..HOUR).prop_map(|(hour, us)| hour * HOUR + us)]
}

fn past() -> impl Strategy<Value = Past> {
    let outcome = prop::sample::select(vec![Outcome::Completed, Outcome::Failed, Outcome::Lost]);
    let tokens = prop::array::uniform5(prop_oneof![Just(0u64), 0..5_000u64]);
    (0usize..4, 0usize..3, 0i64..3_000_000, prop::option::weighted(0.9, time()), outcome, tokens).prop_map(
        |(who, model, price, ended_at, outcome, tokens)| Past { who, model, price, ended_at, outcome, tokens },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let time_by = prop::sample::select(vec![None, Some(Bucket::Hour), Some(Bucket::Day)]);
    let filters = (prop::option::weighted(0.3, 0usize..4), prop::option::weighted(0.3, 0usize..3));
    (time(), time(), filters, any::<[bool; 3]>(), time_by, 1usize..9).prop_map(
        |(from, to, (who, model), [project, key, of_model], time, page)| Question {
            from: from.min(to),
            to: from.max(to),
            who,
            model,
            by: Grouping { project, key, model: of_model, time },
            page,
        },
    )
}

fn add(sums: &mut Sums, past: &Past, amount: Nanousd) {
    // What nobody remembers is no usage.
    let [input, read, write, output, reasoning] = if past.outcome == Outcome::Lost { [0; 5] } else { past.tokens };
    sums.requests += 1;
    sums.input_tokens += input;
    sums.cache_read_tokens += read;
    sums.cache_write_tokens += write;
    sums.output_tokens += output;
    sums.reasoning_tokens += reasoning;
    sums.amount.0 += amount.0;
}

/// Callers 0 and 1 share a project, 0 to 2 a tenant.
async fn callers(store: &Store) -> [Principal; 4] {
    let first = principal(store, "one").await;
    let second = Principal { key: KeyId::new(), ..first.clone() };
    let (tenant, project) = (first.tenant.clone(), ProjectId::new());
    let third = Principal { key: KeyId::new(), project: project.clone(), ..first.clone() };
    let work =
        store.transaction(move |tx| Box::pin(async move { tx.project_create(&tenant, &project, "other", 1).await }));
    assert!(work.await.unwrap());
    [first, second, third, principal(store, "two").await]
}

async fn live(store: &Store, who: &[Principal; 4], history: &[Past]) -> Vec<(Past, Nanousd)> {
    let mut settled = Vec::new();
    for past in history {
        let mut request = OpenRequest { id: RequestId::new(), ..request_of(&who[past.who]) };
        request.model = MODELS[past.model].into();
        request.price.input.0 = past.price;
        open_request(store, &request).await.unwrap();
        let Some(ended_at) = past.ended_at else { continue };
        let [input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = past.tokens;
        let usage = Usage { input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens };
        let done = Settlement { usage, ended_at, ..settlement(&request.id, past.outcome, 0, 0) };
        settled.push((past.clone(), settle(store, &done).await.unwrap().amount));
    }
    settled
}

async fn answer(store: &Store, tenant: &TenantId, of: &UsageOf, page: usize) -> (Vec<(Group, Sums)>, Sums) {
    let (mut groups, mut total): (Vec<(Group, Sums)>, _) = (Vec::new(), None);
    loop {
        let after = groups.last().map(|(group, _)| group.clone());
        let found = usage(store, tenant, of, after.as_ref(), page as i64).await.unwrap();
        assert_eq!(*total.get_or_insert(found.total), found.total, "the total is the same on every page");
        if found.groups.is_empty() {
            return (groups, found.total);
        }
        assert!(found.groups.len() <= page);
        groups.extend(found.groups);
    }
}

#[tokio::test]
async fn usage_is_what_a_plain_model_says_and_its_money_is_the_ledgers() {
    on_both_engines(|Fixture { store, .. }| async move {
        let mut runner = TestRunner::deterministic();
        let who = callers(&store).await;
        let history = prop::collection::vec(past(), 300..301).new_tree(&mut runner).unwrap().current();
        let settled = live(&store, &who, &history).await;

        for tenant in [&who[0].tenant, &who[3].tenant] {
            let all =
                UsageOf { from: 0, to: Micros::MAX, project: None, key: None, model: None, by: Grouping::default() };
            let (_, total) = answer(&store, tenant, &all, 9).await;
            assert_eq!(total.amount, balance(&store, tenant).await.unwrap());
        }
        for _ in 0..150 {
            let asked = question().new_tree(&mut runner).unwrap().current();
            let tenant = &who[if asked.page.is_multiple_of(3) { 3 } else { 0 }].tenant;
            let of = UsageOf {
                from: asked.from,
                to: asked.to,
                project: asked.who.filter(|_| asked.page.is_multiple_of(2)).map(|at| who[at].project.clone()),
                key: asked.who.filter(|_| !asked.page.is_multiple_of(2)).map(|at| who[at].key.clone()),
                model: asked.model.map(|at| MODELS[at].to_owned()),
                by: asked.by,
            };
            let (mut expected, mut total) = (BTreeMap::<Group, Sums>::new(), Sums::default());
            for (past, amount) in &settled {
                let (caller, ended_at, model) = (&who[past.who], past.ended_at.unwrap(), MODELS[past.model]);
                let is_meant = caller.tenant == *tenant
                    && of.from <= ended_at
                    && ended_at < of.to
                    && of.project.as_ref().is_none_or(|project| *project == caller.project)
                    && of.key.as_ref().is_none_or(|key| *key == caller.key)
                    && of.model.as_ref().is_none_or(|wanted| wanted == model);
                if !is_meant {
                    continue;
                }
                let group = Group {
                    start: of.by.time.map(|bucket| ended_at / bucket.micros() * bucket.micros()),
                    project: of.by.project.then(|| caller.project.to_string()),
                    key: of.by.key.then(|| caller.key.to_string()),
                    model: of.by.model.then(|| model.to_owned()),
                };
                add(expected.entry(group).or_default(), past, *amount);
                add(&mut total, past, *amount);
            }
            let (groups, found) = answer(&store, tenant, &of, asked.page).await;
            assert_eq!(found, total, "{of:?}");
            let count = groups.len();
            assert!(groups.windows(2).all(|two| two[0].0.start <= two[1].0.start), "by time first: {of:?}");
            let groups: BTreeMap<Group, Sums> = groups.into_iter().collect();
            assert_eq!(groups.len(), count, "a group came twice: {of:?}");
            assert_eq!(groups, expected, "{of:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_sum_that_does_not_fit_is_refused_and_never_wraps() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        for ended_at in [10, 20] {
            let mut request = request_of(&who);
            (request.price.input.0, request.price.output.0) = (0, 0);
            request.price.cache_read = None;
            open_request(&store, &request).await.unwrap();
            let most = u64::try_from(i64::MAX).unwrap();
            let done = Settlement { ended_at, ..settlement(&request.id, Outcome::Completed, most, 0) };
            settle(&store, &done).await.unwrap();
        }
        let of = |to| UsageOf { from: 0, to, project: None, key: None, model: None, by: Grouping::default() };
        let one = usage(&store, &who.tenant, &of(20), None, 9).await.unwrap();
        assert_eq!(one.total.input_tokens, u64::try_from(i64::MAX).unwrap());
        let error = usage(&store, &who.tenant, &of(21), None, 9).await.unwrap_err();
        assert_eq!(error.kind, crate::error::ErrorKind::Invalid, "{error:?}");
    })
    .await;
}
