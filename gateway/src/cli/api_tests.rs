use super::*;
use crate::admin::desk::Desk;
use crate::id::TenantId;
use crate::router;
use serde_json::json;

/// A gateway with three tenants, and a command's view of it.
async fn api() -> (Desk, Api) {
    let desk = Desk::open().await;
    for name in ["acme", "globex", "initech"] {
        desk.tenant(name).await;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin_url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's runtime.
    tokio::spawn(axum::serve(listener, router::operators(&desk.app)).into_future());
    let connection = Connection::of(&admin_url, &desk.root);
    let api = Api::new(Common { connection, output: Output { json: false, field: None } }).unwrap();
    (desk, api)
}

#[tokio::test]
async fn a_tenant_is_found_by_name_or_taken_by_id() {
    let (_desk, api) = api().await;
    let id = api.tenant("globex").await.unwrap();
    assert!(TenantId::parse(&id).is_some());
    assert_eq!(api.tenant(&id).await.unwrap(), id);
    // An id is not looked up: what is asked for next says whether it is there.
    let absent = TenantId::new().to_string();
    assert_eq!(api.tenant(&absent).await.unwrap(), absent);
    for name in ["nobody", "", "acme&limit=1", "../admin", "ten_1"] {
        let error = api.tenant(name).await.unwrap_err();
        assert!(error.contains(&format!("no tenant `{name}`")), "{error}");
    }
}

#[test]
fn a_field_is_named_with_dots() {
    let thing =
        json!({"id": "a", "scope": {"models": ["x", "y"]}, "limits": {"requests_per_minute": 5}, "data": [{"n": 1}]});
    for (name, text) in [("id", "a"), ("scope.models", "x,y"), ("limits.requests_per_minute", "5"), ("data.0.n", "1")] {
        assert_eq!(field(&thing, name).unwrap(), text);
    }
    for name in ["", "secret", "id.x", "data.1.n"] {
        assert!(field(&thing, name).unwrap_err().contains("no field"), "{name}");
    }
}

#[test]
fn several_pages_keep_each_entry_as_it_came() {
    let page: Page = serde_json::from_str(r#"{"data":[{"n":1.50},{"b":2,"a":1}],"has_more":false}"#).unwrap();
    assert_eq!(serde_json::to_string(&page).unwrap(), r#"{"data":[{"n":1.50},{"b":2,"a":1}],"has_more":false}"#);
}
