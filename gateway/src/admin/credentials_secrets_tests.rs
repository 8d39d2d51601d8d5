//! When and where the secrets of keys are shown.

use super::{COLLECTIONS, secret_of};
use crate::admin::testing::{Gateway, widest};
use http::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let gateway = Gateway::start().await;
    let keys = gateway.keys("api-keys");
    let made = gateway.make("api-keys", json!({"name": "x", "scope": widest()})).await;
    let (one, first) = (format!("{keys}/{}", made["id"].as_str().unwrap()), secret_of(&made).to_owned());
    let rotate = async |body: Value| gateway.post(&format!("{one}/rotate"), &gateway.operator, body).await;
    for bad in [json!({"overlap_seconds": 2_592_001}), json!({"overlap_seconds": -1}), json!({"overlap_seconds": "1"})]
    {
        rotate(bad).await.refused(400, Some("overlap_seconds"));
    }
    let by_default = gateway.call(Method::POST, &format!("{one}/rotate"), &gateway.operator).send().await;
    assert_eq!(by_default.headers["cache-control"], "no-store");
    let by_default = by_default.expect(200);
    assert!(by_default["previous_secret_expires_at"].is_string() && by_default["id"] == made["id"]);
    let second = secret_of(&by_default).to_owned();
    for secret in [&first, &second] {
        gateway.get(&one, secret).await.expect(200);
    }
    let third = rotate(json!({"overlap_seconds": 0})).await.expect(200);
    assert!(third.get("previous_secret_expires_at").is_none());
    for gone in [&first, &second] {
        gateway.get(&one, gone).await.expect(401);
    }
    let read = gateway.get(&one, secret_of(&third)).await;
    assert_eq!(read.etag(), "\"3\"");
    assert!(read.expect(200).get("previous_secret_expires_at").is_none());

    let stale = gateway.call(Method::POST, &format!("{one}/rotate"), &gateway.operator).header("if-match", "\"1\"");
    stale.send().await.refused(412, None);
    gateway.get(&one, secret_of(&third)).await.expect(200);
    rotate(Value::Null).await.expect(200);
    // Whoever uses a key may rotate it.
    let fourth = gateway.make("api-keys", json!({"name": "self", "role": "tenant_admin", "scope": widest()})).await;
    let own = format!("{keys}/{}/rotate", fourth["id"].as_str().unwrap());
    gateway.post(&own, secret_of(&fourth), json!({})).await.expect(200);
}

#[tokio::test]
async fn a_repeated_call_gets_the_same_reply_with_its_secret_and_makes_nothing_new() {
    let gateway = Gateway::start().await;
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let body = json!({"name": "once", "project_id": gateway.acme.project});
        let make = async |token: &str, body: &Value| {
            gateway.with_key(Method::POST, &keys, token, collection, body.clone()).await
        };
        let first = make(&gateway.operator, &body).await;
        let again = make(&gateway.operator, &body).await;
        assert!(first.headers.get("idempotent-replayed").is_none());
        assert_eq!((&again.headers["idempotent-replayed"], again.etag()), (&"true".parse().unwrap(), first.etag()));
        assert_eq!(again.expect(201), first.expect(201));
        make(&gateway.operator, &json!({"name": "other", "project_id": gateway.acme.project})).await.refused(422, None);
        let another = make(&gateway.acme.owner.text, &body).await.expect(201);
        assert_ne!(another["id"], first.json()["id"], "another caller's key");
        let owner = gateway.acme.owner.id.as_str();
        assert_eq!(another["created_by"], owner);
        let by_owner =
            gateway.get(&format!("{keys}?created_by={owner}"), &gateway.acme.developer.text).await.expect(200);
        assert_eq!((by_owner["data"].as_array().unwrap().len(), &by_owner["data"][0]["id"]), (1, &another["id"]));
        let named = gateway.get(&format!("{keys}?name=once"), &gateway.operator).await.expect(200);
        assert_eq!(named["data"].as_array().unwrap().len(), 2);

        let one = format!("{keys}/{}/rotate", first.json()["id"].as_str().unwrap());
        let rotate = async |overlap: u32| {
            let body = json!({"overlap_seconds": overlap});
            gateway.with_key(Method::POST, &one, &gateway.operator, &format!("{collection} rotate"), body).await
        };
        let rotated = rotate(60).await.expect(200);
        let again = rotate(60).await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.expect(200), rotated);
        assert_ne!(secret_of(&rotated), secret_of(&first.json()));
        rotate(61).await.refused(422, None);
        let actions: Vec<String> =
            gateway.logged(rotated["id"].as_str().unwrap()).await.into_iter().map(|(action, _)| action).collect();
        let kind = if collection == "api-keys" { "api_key" } else { "access_key" };
        assert_eq!(actions, [format!("{kind}.create"), format!("{kind}.rotate")]);
    }
}

/// All that is logged, at every level.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_is_shown_by_the_call_that_makes_it_and_nowhere_else() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // While there is only one, `tracing` asks the subscriber of whichever thread meets a call site first, for all threads;
    // of other tests' threads that is none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let gateway = Gateway::start().await;
    let (mut secrets, mut shown) = (Vec::new(), String::new());
    let collections = COLLECTIONS.map(|collection| (gateway.keys(collection), gateway.acme.project.to_string()));
    for (keys, project) in &collections {
        let body = json!({"name": "x", "project_id": project});
        let made = gateway.with_key(Method::POST, keys, &gateway.operator, keys, body).await.expect(201);
        let id = made["id"].as_str().unwrap();
        let rotated = gateway.post(&format!("{keys}/{id}/rotate"), &gateway.operator, json!({})).await.expect(200);
        secrets.extend([secret_of(&made).to_owned(), secret_of(&rotated).to_owned()]);
        for reply in [
            gateway.get(keys, &gateway.operator).await,
            gateway.get(&format!("{keys}/{id}"), &gateway.operator).await,
            gateway.patch(&format!("{keys}/{id}"), &gateway.operator, json!({"name": "y"})).await,
        ] {
            shown += &reply.expect(200).to_string();
        }
        gateway.delete(&format!("{keys}/{id}"), &gateway.operator).await.expect(204);
        shown += &gateway.get(&format!("{keys}?with_revoked=true"), &gateway.operator).await.expect(200).to_string();
        shown += &format!("{:?}", gateway.logged(id).await);
    }
    let log = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    assert!(log.contains("listening"), "the log was not seen");
    for secret in &secrets {
        // Of an API key what counts is between its id and its checksum.
        let secret = secret.get(16..48).filter(|_| secret.starts_with("ck_")).unwrap_or(secret);
        assert!(!shown.contains(secret) && !log.contains(secret), "{secret}");
    }
    assert!(!shown.contains("digest") && !shown.contains("sealed"), "{shown}");
    assert_eq!(secrets.len(), 4);
}
