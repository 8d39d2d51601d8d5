//! Whether the time of a reply tells another tenant's thing from one that was never there.
//!
//! What keeps the two alike is the code's path: one query by tenant and id, which finds nothing in both cases. This looks
//! at the whole from outside and would catch a second look-up that only one of the two takes; differences of
//! microseconds are beyond it on a machine that does other things besides.

use super::callers::{Caller, Port};
use super::suite::{Ask, Suite};
use super::things::Things;
use std::time::{Duration, Instant};

/// Looked up by A's owner, who may look up such things.
const LOOK_UPS: [&str; 5] = ["get_tenant", "get_project", "get_service_account", "get_api_key", "get_tenant_request"];
const SAMPLES: usize = 300;
const TRIES: usize = 3;
/// Of medians.
const ALIKE: std::ops::RangeInclusive<f64> = 0.7..=1.4;

/// Compares medians, up to three times for each look-up, as the machine is not quiet.
pub(super) async fn try_all(suite: &Suite) {
    let owner = Caller::bearer("A's owner", "tenant_owner", &suite.a.owner.secret);
    for (row, operation) in suite.operations().iter().filter(|(row, _)| LOOK_UPS.contains(&row.id)) {
        let (a, b) = (&suite.a.things, &suite.b.things);
        let nests = operation.parameters().iter().filter(|(place, ..)| *place == "path").count() > 1;
        let ask = |things: &Things| {
            let of_a = |name: &str| nests && name == "tenant_id";
            let value =
                |name: &str| if of_a(name) { &a.tenant } else { things.in_path(operation.path, name) }.to_owned();
            let mut ask = Ask::at(row, operation, &value, None);
            ask.asked = things.ids().map(str::to_owned).into();
            ask
        };
        let (foreign, never) = (ask(b), ask(&b.twins()));
        let mut ratios = Vec::new();
        for _ in 0..TRIES {
            let (mut one, mut other) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
            for sample in 0..SAMPLES {
                // Interleaved, and either of the two first in turn, so that both see the same machine.
                if sample % 2 == 0 {
                    one.push(time(suite, &owner, &foreign).await);
                    other.push(time(suite, &owner, &never).await);
                } else {
                    other.push(time(suite, &owner, &never).await);
                    one.push(time(suite, &owner, &foreign).await);
                }
            }
            ratios.push(median(one).as_secs_f64() / median(other).as_secs_f64());
            if ratios.last().is_some_and(|ratio| ALIKE.contains(ratio)) {
                break;
            }
        }
        if ratios.last().is_none_or(|ratio| !ALIKE.contains(ratio)) {
            suite.note(format!("{}: time tells another tenant's from nobody's: {ratios:?}", row.id));
        }
    }
}

async fn time(suite: &Suite, caller: &Caller, ask: &Ask) -> Duration {
    let start = Instant::now();
    let reply = suite.send(caller, Port::Own, ask).await;
    let took = start.elapsed();
    if reply.status != 404 {
        suite.note(format!("{} as {}: {}", ask.path, caller.name, reply.status));
    }
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
