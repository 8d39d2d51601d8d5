//! Answers whose credential ends.

use super::*;

/// As the feed of changes does it.
fn revoke(app: &App, key: &crate::id::KeyId) -> usize {
    let ended = Affected::Key(key.clone());
    app.credentials.forget(&ended);
    app.inference.revoke(&ended)
}

fn is_revoked(event: &Event) -> bool {
    let revoked = ErrorKind::Unauthenticated(AuthFailure::Revoked);
    matches!(event, Event::Failed(error) if error.kind == revoked)
}

#[tokio::test]
async fn a_running_answer_ends_with_its_credential_and_is_settled_exactly() {
    let gateway = gateway().await;
    gateway.worker.script([accepted(), token("a", 1), Step::Receive, done(FinishReason::Stopped, 2)]);
    let request = request();
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    assert!(matches!(reader.next().await, Some(Event::Started(_))));
    assert_eq!(revoke(&gateway.app, &crate::id::KeyId::new()), 0, "somebody else's key");
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 1);
    let (text, end) = read(&mut reader).await;
    assert!(text == "a" && is_revoked(&end), "{end:?}");
    let record = gateway.record(&id).await;
    assert_eq!((record.outcome.as_deref(), record.input_tokens, record.output_tokens), (Some("revoked"), 3, 2));
    assert_eq!(record.detail.error.as_deref(), Some("unauthenticated"));
    gateway.settled().await;
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 0, "an ended request is still entered");
}

#[tokio::test]
async fn a_credential_that_ends_between_admission_and_start_reaches_no_worker() {
    let gateway = gateway().await;
    let admission = Admission::of(&gateway.app, gateway.caller.clone());
    assert_eq!(revoke(&gateway.app, &gateway.caller.key), 0, "nothing runs yet that could be ended");
    let request = request();
    let id = request.id.clone();
    let (_, end) = read(&mut start(&gateway.app, admission, request, None)).await;
    assert!(is_revoked(&end), "{end:?}");
    gateway.settled().await;
    assert_eq!(billing::request_record(&gateway.app.store, &id).await.unwrap_err().kind, ErrorKind::NotFound);
    let limits = Limits { tokens_per_minute: Some(9), ..Limits::default() };
    assert_eq!(gateway.tokens_left_of(Hierarchy::of_tenant(limits)).await, 9);
}

#[tokio::test]
async fn the_end_of_another_credential_only_makes_a_starting_request_look_again() {
    let mut gateway = gateway().await;
    let app = &gateway.app;
    let input =
        tenants::CreateCredential::developer(tenants::Name::parse("k").unwrap(), gateway.caller.project.clone());
    let author = crate::audit::Author::command("test");
    let made = tenants::CreatedApiKey::generate(&app.secrets, &gateway.caller.tenant, input, &author, 1).unwrap();
    let change = crate::audit::Change { store: &app.store, secrets: &app.secrets, now: 1, author: &author, once: None };
    tenants::create_api_key(change, &tenants::Issuer::command(), &made).await.unwrap();
    gateway.caller.key = made.key.id;
    let admission = Admission::of(&gateway.app, gateway.caller.clone());
    revoke(&gateway.app, &crate::id::KeyId::new());
    gateway.worker.script([accepted(), token("a", 1), done(FinishReason::EndOfTurn, 1)]);
    let (_, end) = read(&mut start(&gateway.app, admission, request(), None)).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
}
