//! Whole answers: settled, told, paid.

use super::*;

#[tokio::test]
async fn a_complete_answer_is_settled_before_its_end_is_told() {
    let gateway = gateway().await;
    let request = request();
    let id = request.id.clone();
    let (text, end) = read(&mut gateway.start(request)).await;
    let Event::Finished(finished) = end else { panic!("{end:?}") };
    assert_eq!((text.as_str(), finished.reason()), ("hello", &Finish::EndOfTurn));
    assert_eq!(finished.usage, Usage::from(counts(2)));

    let record = gateway.record(&id).await;
    assert_eq!(record.outcome.as_deref(), Some("completed"));
    assert_eq!((record.input_tokens, record.output_tokens), (3, 2));
    assert_eq!((record.detail.decode.as_deref(), record.detail.attempt), (Some("decode-1"), 1));
    assert_eq!(record.ledger_entry.map(|entry| entry.amount_nanousd), finished.cost);
    gateway.settled().await;
    assert!(!gateway.app.inference.is_any_running());
}

#[tokio::test]
async fn an_alias_is_what_was_asked_and_its_model_is_what_answers_and_is_paid() {
    let gateway = gateway().await;
    let alias = catalog::Override {
        id: "fast".into(),
        body: catalog::OverrideBody::Alias(catalog::Alias { target: MODEL.into() }),
    };
    let snapshot = Snapshot::build(&gateway.app.config, &[alias.stored().unwrap()]).unwrap();
    gateway.app.catalog.swap_in(snapshot);
    let request = Request { model: "fast".into(), ..request() };
    let id = request.id.clone();
    let mut reader = gateway.start(request);
    let Some(Event::Started(started)) = reader.next().await else { panic!("no start") };
    assert_eq!((started.model.as_str(), started.stand_in, started.deprecation), (MODEL, None, None));
    let (_, end) = read(&mut reader).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
    let record = gateway.record(&id).await;
    assert_eq!((record.model_asked.as_str(), record.model.as_str()), ("fast", MODEL));
}

#[tokio::test]
async fn a_model_out_of_reach_is_refused_before_anything_is_reserved_or_kept() {
    let mut gateway = gateway().await;
    gateway.caller.limits = Hierarchy::of_tenant(Limits { requests_per_minute: Some(1), ..Limits::default() });
    let open = gateway.caller.clone();
    let none = catalog::ModelAccess::only(vec![]).unwrap();
    gateway.caller.access = Arc::new(catalog::Access { key: none, ..catalog::Access::default() });
    for _ in 0..3 {
        let (_, end) = read(&mut gateway.start(request())).await;
        assert_eq!(failure(end), ErrorKind::Forbidden, "and not over its limit");
    }
    assert!(gateway.worker.seen().generates().is_empty());
    gateway.caller = open;
    let (_, end) = read(&mut gateway.start(request())).await;
    assert!(matches!(end, Event::Finished(_)), "{end:?}");
}
