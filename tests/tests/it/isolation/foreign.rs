//! Another tenant's identifiers, wherever an operation takes a text: whoever sends one is told exactly what they would be
//! told of one that was never there.

use super::callers::{Caller, Expected, Port};
use super::suite::{Ask, Reply, Suite};
use super::table::{Api, For, Row};
use super::things::{Things, twin};
use caprock_tests::openapi::Operation;
use serde_json::Value;

/// Replies that may differ by chance, such as by a key's first use, are asked for again.
const TRIES: usize = 3;

/// Tries one operation with tenant B's identifiers in every place, as A's owner, as `machine`, which is A's too, and as an
/// operator.
pub(super) async fn try_all(suite: &Suite, row: &Row, operation: &Operation<'_>, port: Port, machine: &Caller) {
    let owner = Caller::bearer("A's owner", "tenant_owner", &suite.a.owner.secret);
    let token = suite.stack.gateway.admin_token();
    let operator = Caller::bearer("an operator", "platform_admin", token);
    in_path(suite, row, operation, port, &owner).await;
    in_path(suite, row, operation, port, machine).await;
    if port == Port::Own && row.api == Api::Admin {
        in_path(suite, row, operation, port, &operator).await;
    }
    in_query(suite, row, operation, port, &owner).await;
    in_body(suite, row, operation, port, &owner).await;
    in_body(suite, row, operation, port, machine).await;
    if port == Port::Own && operation.path.contains("{tenant_id}") {
        in_body(suite, row, operation, port, &operator).await;
    }
}

/// Asks about what is B's and about what was never there. Both replies, if they stay different.
async fn compare(suite: &Suite, caller: &Caller, port: Port, foreign: &Ask, never: &Ask) -> (Reply, Option<Reply>) {
    for tried in 1.. {
        let one = suite.send(caller, port, foreign).await;
        let other = suite.send(caller, port, never).await;
        if one == other {
            return (one, None);
        }
        if tried == TRIES {
            return (one, Some(other));
        }
    }
    unreachable!("the loop ends by itself")
}

/// As [`compare`], noting what is wrong; `allowed` are the statuses that are right.
async fn must_be_alike(suite: &Suite, caller: &Caller, port: Port, asks: (&Ask, &Ask), what: &str, allowed: &[u16]) {
    let (foreign, never) = compare(suite, caller, port, asks.0, asks.1).await;
    let (method, path) = (&asks.0.method, &asks.0.path);
    if let Some(never) = never {
        suite.note(format!(
            "{what} as {} ({port:?} port), {method} {path}: told apart:\n  {foreign:?}\n  {never:?}",
            caller.name
        ));
    }
    if !allowed.contains(&foreign.status) {
        let (name, got) = (&caller.name, foreign.in_short());
        suite.note(format!("{what} as {name} ({port:?} port), {method} {path}: not one of {allowed:?}: {got}"));
    }
}

/// Every parameter of the path: tenant B's things under their own tenant and under A's, A's under B's, and ids of every
/// other kind. Operators may ask for all that there is, but not for B's as if it were A's.
async fn in_path(suite: &Suite, row: &Row, operation: &Operation<'_>, port: Port, caller: &Caller) {
    let (a, b) = (&suite.a.things, &suite.b.things);
    let never = b.twins();
    let parameters: Vec<&str> =
        operation.parameters().into_iter().filter(|(place, ..)| *place == "path").map(|(_, name, _)| name).collect();
    let names_tenant = parameters.contains(&"tenant_id");
    let nests = names_tenant && parameters.len() > 1;
    if caller.is_operator() && !names_tenant {
        return;
    }
    let forbidden = row.caller == For::Operators && !caller.is_operator() && port == Port::Own;
    let refused = |is_own_tenant: bool| -> &[u16] {
        match row.caller {
            // Of a model's name the gateway may also say that it can be none.
            For::OpenAi | For::Bedrock => &[400, 404],
            _ if forbidden && is_own_tenant => &[403],
            _ => &[404],
        }
    };
    let ask = |value: &dyn Fn(&str) -> String, asked: Vec<String>| {
        let mut ask = Ask::at(row, operation, value, row.body.map(|body| body(a, "isolation-never-made")));
        ask.asked = asked;
        ask
    };
    let of = |things: &Things, name: &str| things.in_path(operation.path, name).to_owned();
    if names_tenant && !caller.is_operator() {
        // All is B's. The tenant is not the caller's, and nothing else counts.
        let whole = |things: &Things| ask(&|name| of(things, name), things.ids().map(str::to_owned).into());
        must_be_alike(suite, caller, port, (&whole(b), &whole(&never)), row.id, refused(false)).await;
    }
    if nests {
        let under = |tenant: &str| {
            let value = |name: &str| if name == "tenant_id" { tenant.to_owned() } else { of(a, name) };
            ask(&value, vec![tenant.to_owned()])
        };
        if caller.is_operator() {
            // Operators know which tenants there are: it only has to be no way to A's things.
            suite.expect(caller, port, row, &under(&b.tenant), Expected::NotFound).await;
        } else {
            must_be_alike(suite, caller, port, (&under(&b.tenant), &under(&never.tenant)), row.id, refused(false))
                .await;
        }
    }
    for parameter in &parameters {
        for (foreign, never) in b.ids().into_iter().zip(never.ids()) {
            if caller.is_operator() && *parameter == "tenant_id" && foreign == b.tenant {
                continue; // theirs to ask for; with anything else in the path it was asked above
            }
            let with = |id: &str| {
                let value = |name: &str| if name == *parameter { id.to_owned() } else { of(a, name) };
                ask(&value, vec![id.to_owned()])
            };
            let is_own_tenant = *parameter != "tenant_id";
            must_be_alike(suite, caller, port, (&with(foreign), &with(never)), row.id, refused(is_own_tenant)).await;
        }
    }
}

/// Every parameter of the query that is described, and two that aren't.
async fn in_query(suite: &Suite, row: &Row, operation: &Operation<'_>, port: Port, caller: &Caller) {
    if row.permission.is_none() || row.body.is_some() || row.victim != super::table::Victim::None {
        return; // what changes something takes no query
    }
    let a = &suite.a.things;
    let described = operation.parameters().into_iter().filter(|(place, ..)| *place == "query").map(|(_, name, _)| name);
    let mut names: Vec<&str> = described.collect();
    names.extend(["tenant_id", "project_id"].into_iter().filter(|extra| !names.contains(extra)).collect::<Vec<_>>());
    let mut texts: Vec<(String, String)> =
        suite.b.things.ids().into_iter().map(|id| (id.to_owned(), twin(id))).collect();
    texts.push((suite.b.owner.id.clone(), twin(&suite.b.owner.id)));
    texts.extend(["tenant", "project", "owner", "account"].map(|what| {
        let name = format!("{}-{what}", suite.b.names[0]);
        let never = name.replace(&suite.b.names[0], &twin(&suite.b.names[0]));
        (name, never)
    }));
    for name in names {
        for (foreign, never) in &texts {
            let with = |text: &String| {
                let mut ask = Ask::of(row, operation, a, "");
                ask.query = vec![(name.to_owned(), text.clone())];
                ask.asked = vec![text.clone()];
                ask
            };
            let what = format!("{} with {name} in its query", row.id);
            let allowed = [200, 400, 403, 404];
            must_be_alike(suite, caller, port, (&with(foreign), &with(never)), &what, &allowed).await;
        }
    }
}

/// Every field of the body that takes an identifier, also with all other identifiers left out.
async fn in_body(suite: &Suite, row: &Row, operation: &Operation<'_>, port: Port, caller: &Caller) {
    let Some(body) = row.body.filter(|_| row.api == Api::Admin) else { return };
    let a = &suite.a.things;
    let valid = body(a, "isolation-never-made");
    let mut fields: Vec<String> = operation.request_bodies().iter().flat_map(|body| body.fields()).collect();
    fields.extend(valid.as_object().unwrap().keys().cloned());
    fields.retain(|field| is_identifier(field));
    fields.sort();
    fields.dedup();
    for field in &fields {
        for (foreign, never) in suite.b.things.ids().into_iter().map(|id| (id.to_owned(), twin(id))) {
            for alone in [false, true] {
                let with = |id: &String| {
                    let mut input = valid.clone();
                    let members = input.as_object_mut().unwrap();
                    if alone {
                        members.retain(|name, _| !is_identifier(name));
                    }
                    members.insert(field.clone(), Value::String(id.clone()));
                    let mut ask = Ask::of(row, operation, a, "");
                    (ask.body, ask.asked) = (Some(input), vec![id.clone()]);
                    ask
                };
                let what = format!("{} with {field} in its body", row.id);
                must_be_alike(suite, caller, port, (&with(&foreign), &with(&never)), &what, &[400, 403, 404]).await;
            }
        }
    }
}

fn is_identifier(field: &str) -> bool {
    field == "id" || field.ends_with("_id") || field.ends_with("_ids")
}
