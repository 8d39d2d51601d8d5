//! What a key stands for: one call of one caller, wherever and whenever it is repeated.

use super::calls::{Call, Cut, FORMS, Form};
use caprock_tests::admin::Admin;
use caprock_tests::gateway::Database;
use caprock_tests::replicas::Replicas;
use caprock_tests::stack::StackSpec;
use caprock_tests::wait::{SOON, until};
use reqwest::Response;
use serde_json::{Value, json};

/// A second's worth: time enough to leave and to come back.
const SLOW: &[&str] = &["step-ms=20", "answer-tokens=50"];

async fn refused(reply: Response, status: u16, form: Form) -> (String, Value) {
    assert_eq!(reply.status(), status, "{form:?}");
    let headers = reply.headers().clone();
    let body: Value = reply.json().await.unwrap();
    let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let word = match form {
        Form::Chat | Form::ChatStream => body["error"]["code"].as_str().unwrap().to_owned(),
        Form::Converse | Form::ConverseStream => {
            assert!(body["message"].is_string(), "{body}");
            of("x-amzn-errortype").unwrap()
        }
    };
    if status == 409 {
        assert_eq!(of("retry-after").as_deref(), Some("1"));
    }
    (word, body)
}

#[tokio::test]
async fn another_call_under_a_used_key_is_refused_in_each_dialects_own_words() {
    let stack = StackSpec::sim(SLOW).start().await;
    let client = stack.client();
    for form in FORMS {
        let expected = match form {
            Form::Chat | Form::ChatStream => "idempotency_key_reused",
            Form::Converse | Form::ConverseStream => "ValidationException",
        };
        let call = Call::new(form, &format!("{form:?}"), "First.", 64);
        let other = Call { body: Call::new(form, "", "Second.", 64).body, ..call.clone() };
        let (running, while_it_runs) = tokio::join!(call.whole(&client), async {
            until("it is generated", SOON, async || (stack.decode.info().await.load.running == 1).then_some(())).await;
            refused(other.send(&client).await, 422, form).await
        });
        assert_eq!(while_it_runs.0, expected, "{}", while_it_runs.1);
        assert_eq!(refused(other.send(&client).await, 422, form).await.0, expected);
        // The first one is none the worse for it.
        let again = call.whole(&client).await;
        assert!(again.replayed && !running.replayed && again.bytes == running.bytes);
    }
    // The same body at another path is another call.
    let moved = Call { form: Form::ConverseStream, ..Call::new(Form::Converse, "Converse", "First.", 64) };
    assert_eq!(refused(moved.send(&client).await, 422, moved.form).await.0, "ValidationException");
    assert_eq!(stack.balanced().await.len(), FORMS.len());
}

#[tokio::test]
async fn a_key_that_can_be_no_key_is_refused() {
    let stack = StackSpec::sim(&[]).start().await;
    let client = stack.client();
    for key in [" ".to_owned(), "k".repeat(256)] {
        let call = Call::new(Form::Chat, &key, "Hello.", 4);
        let (_, body) = refused(call.send(&client).await, 400, call.form).await;
        assert_eq!(body["error"]["param"], "Idempotency-Key");
    }
    assert!(stack.balanced().await.is_empty());
}

#[tokio::test]
async fn two_tenants_who_choose_the_same_key_have_nothing_of_each_other() {
    let stack = StackSpec::sim(&[]).start().await;
    let admin = Admin::new(&stack.gateway.admin_url(), stack.gateway.admin_token());
    let tenant = admin.tenant("other").await;
    let project = admin.project(&tenant, "first").await;
    let mut clients = vec![stack.client()];
    for name in ["one", "two"] {
        let scope = json!({ "operations": ["inference"] });
        let input = json!({ "name": name, "project_id": project, "role": "tenant_developer", "scope": scope });
        clients.push(stack.client().with_key(&admin.api_key(&tenant, &input).await.secret));
    }
    // The demo tenant, and two keys of another one: three callers.
    for (at, client) in clients.iter().enumerate() {
        let call = Call::new(Form::Chat, "shared", &format!("I am caller {at}."), 8);
        let first = call.whole(client).await;
        let again = call.whole(client).await;
        assert!(!first.replayed && again.replayed && first.bytes == again.bytes, "caller {at}");
    }
    assert_eq!(stack.balanced().await.len(), clients.len());
}

#[tokio::test]
async fn a_keyed_answer_whose_reader_left_is_finished_and_kept() {
    let stack = StackSpec::sim(SLOW).start().await;
    let client = stack.client();
    let mut calls = Vec::new();
    for form in [Form::ChatStream, Form::ConverseStream] {
        let call = Call::new(form, &format!("{form:?}"), "A long one.", 64);
        let had = call.attempt(&client, Cut::InBody(1)).await;
        assert!(!had.whole);
        calls.push((call, had));
    }
    // Nobody comes back before both have ended by themselves.
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!((line.outcome.as_deref(), line.output_tokens), (Some("completed"), 51), "{line:?}");
    }
    for (call, had) in calls {
        let got = call.whole(&client).await;
        assert!(got.replayed && got.bytes.starts_with(&had.bytes));
        assert_eq!(call.form.usage(&got.bytes).1, 51);
    }
    assert_eq!(stack.balanced().await, lines, "to be told again costs nothing");
}

#[tokio::test]
async fn a_kept_answer_survives_a_restart_on_sqlite() {
    survives_a_restart(Database::Sqlite).await;
}

#[tokio::test]
async fn a_kept_answer_survives_a_restart_on_postgres() {
    survives_a_restart(Database::Postgres).await;
}

async fn survives_a_restart(database: Database) {
    let mut stack = StackSpec::sim(&[]).on(database).start().await;
    let client = stack.client();
    let mut before = Vec::new();
    for form in FORMS {
        let call = Call::new(form, &format!("{form:?}"), "To be kept.", 16);
        let got = call.whole(&client).await;
        before.push((call, got));
    }
    stack.balanced().await;
    stack.gateway.process().terminate();
    assert!(stack.gateway.process().ended_within(SOON).await.success());
    stack.gateway.serve().await;
    for (call, got) in before {
        let again = call.whole(&client).await;
        assert!(again.replayed && again.bytes == got.bytes, "{call:?}");
    }
    assert_eq!(stack.balanced().await.len(), FORMS.len());
}

#[tokio::test]
async fn a_gateway_killed_amid_a_keyed_answer_settles_it_and_the_next_call_generates_anew() {
    let mut stack = StackSpec::sim(SLOW).start().await;
    let client = stack.client();
    let call = Call::new(Form::ChatStream, "killed", "A long one.", 64);
    assert!(!call.attempt(&client, Cut::InBody(1)).await.whole);
    stack.gateway.process().kill();
    stack.decode.idle().await;
    stack.gateway.serve().await;
    let found = stack.balanced().await;
    assert_eq!((found.len(), found[0].outcome.as_deref()), (1, Some("recovered")));
    let anew = call.whole(&client).await;
    assert!(!anew.replayed, "the first answer died with its gateway");
    assert!(call.whole(&client).await.replayed);
    assert_eq!(stack.balanced().await.len(), 2);
}

#[tokio::test]
async fn a_call_repeated_at_another_replica_waits_for_the_first_and_is_told_its_answer() {
    let replicas = Replicas::start(None, SLOW).await;
    let (here, there) = (replicas.gateways[0].client(), replicas.gateways[1].client());
    let mut generated = 0.0;
    for form in [Form::ChatStream, Form::ConverseStream, Form::Chat, Form::Converse] {
        let call = Call::new(form, &format!("{form:?}"), "A long one.", 64);
        let other = Call { body: Call::new(form, "", "Another one.", 64).body, ..call.clone() };
        let (first, (conflict, _)) = tokio::join!(call.whole(&here), async {
            let running = async || (replicas.decode.info().await.load.running == 1).then_some(());
            until("it is generated", SOON, running).await;
            refused(other.send(&there).await, 422, form).await;
            refused(call.send(&there).await, 409, form).await
        });
        let expected = match form {
            Form::Chat | Form::ChatStream => "conflict",
            Form::Converse | Form::ConverseStream => "ConflictException",
        };
        assert_eq!(conflict, expected);
        for client in [&there, &here, &replicas.gateways[2].client()] {
            let again = call.whole(client).await;
            assert!(again.replayed && again.bytes == first.bytes, "{form:?}");
        }
        generated += call.form.usage(&first.bytes).1 as f64;
    }
    assert_eq!(replicas.decode.metric("caprock_worker_output_tokens_total").await, generated);
    let lines = replicas.gateways[0].books().await.closed().await;
    assert_eq!(lines.len(), 4);
    assert_eq!(lines.iter().map(|line| line.output_tokens).sum::<i64>() as f64, generated);
}
