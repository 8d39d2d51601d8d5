//! Partial changes, as JSON brings them.

use super::*;
use serde_json::{Value, json};

const NOVA: &str = "amazon.nova-2-lite-v1:0";
const NOW: Micros = 1_000;

fn entry() -> Entry {
    let snapshot = Snapshot::load(&Config::load(None).unwrap()).unwrap();
    snapshot.entry(NOVA).unwrap().clone()
}

fn patched(entry: &Entry, patch: Value) -> Result<Entry> {
    entry.apply(NOVA, crate::api::json::parse(patch.to_string().as_bytes())?, NOW)
}

/// The field that a refusal names.
fn at_fault(entry: &Entry, patch: Value) -> String {
    let error = patched(entry, patch.clone()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{patch}");
    error.param.clone().unwrap_or_else(|| panic!("{patch}: {error} names no field"))
}

#[test]
fn what_is_absent_stays_and_what_is_given_changes() {
    let before = entry();
    assert_eq!(patched(&before, json!({})).unwrap(), before);
    let after = patched(&before, json!({"name": "Nova", "status": "legacy", "max_output_tokens": 100})).unwrap();
    let expected =
        Entry { name: "Nova".into(), status: Status::Legacy, max_output_tokens: Some(100), ..before.clone() };
    assert_eq!(after, expected);
    let stand_in = patched(&before, json!({"stand_in": "some.model"})).unwrap();
    assert_eq!(stand_in.stand_in.as_deref(), Some("some.model"), "whether it is served is for `admit` to say");
}

#[test]
fn null_clears_what_an_entry_may_lack_and_nothing_else() {
    let before = patched(&entry(), json!({"stand_in": "x", "default_output_tokens": 5, "deprecation": {}})).unwrap();
    let fields = ["context_tokens", "max_output_tokens", "default_output_tokens", "deprecation", "stand_in"];
    for field in fields {
        let cleared = serde_json::to_value(patched(&before, json!({ field: null })).unwrap()).unwrap();
        let mut expected = serde_json::to_value(&before).unwrap();
        assert_ne!(expected[field], Value::Null, "{field}");
        expected[field] = Value::Null;
        assert_eq!(cleared, expected);
    }
    assert_eq!(patched(&before, json!({"profiles": null})).unwrap().profiles, []);
    for field in
        ["name", "provider", "input_modalities", "output_modalities", "streaming", "status", "price_picousd_per_token"]
    {
        assert_eq!(at_fault(&before, json!({ field: null })), field);
    }
}

#[test]
fn new_prices_lose_the_old_source_and_the_prices_of_profiles_are_not_forgotten() {
    let before = entry();
    assert_eq!(before.profiles.len(), 1);
    assert_eq!(at_fault(&before, json!({"price_picousd_per_token": {"input": 5}})), "profiles");
    let after = patched(&before, json!({"price_picousd_per_token": {"input": 5}, "profiles": []})).unwrap();
    let price = Price::from(after.price_picousd_per_token.clone());
    assert_eq!((price.input.0, price.output.0), (5, 2_500_000));
    assert_eq!((price.cache_read.unwrap().0, price.source.as_str()), (75_000, "set through the admin API"));
    let cleared = patched(&after, json!({"price_picousd_per_token": {"cache_read": null, "source": "a contract"}}));
    let price = Price::from(cleared.unwrap().price_picousd_per_token);
    assert_eq!((price.cache_read, price.source.as_str()), (None, "a contract"));
    // The same numbers again are still the source's.
    let same = patched(&before, json!({"price_picousd_per_token": {"input": 300_000}, "profiles": []})).unwrap();
    assert_eq!(same.price_picousd_per_token.source.as_deref(), Some("AWS price API"));
}

#[test]
fn a_deprecation_begins_now_unless_it_says_when_and_changes_field_by_field() {
    let deprecated =
        patched(&entry(), json!({"deprecation": {"message": "Old.", "sunset_at": "1970-01-01T00:00:00.005Z"}}))
            .unwrap();
    let expected =
        Deprecation { message: Some("Old.".into()), replacement: None, deprecated_at: NOW, sunset_at: Some(5_000) };
    assert_eq!(deprecated.deprecation, Some(expected.clone()));
    let change = json!({"deprecation": {"replacement": "a.b", "sunset_at": null}});
    let changed = patched(&deprecated, change).unwrap().deprecation.unwrap();
    assert_eq!(changed, Deprecation { replacement: Some("a.b".into()), sunset_at: None, ..expected });
    // Withdrawn at once, by a clock that is behind ours.
    let at_once = patched(&entry(), json!({"deprecation": {"sunset_at": "1970-01-01T00:00:00.00001Z"}}))
        .unwrap()
        .deprecation
        .unwrap();
    assert_eq!((at_once.deprecated_at, at_once.sunset_at), (10, Some(10)));
}

#[test]
fn a_field_at_fault_is_named() {
    let price = |price: Value| json!({"price_picousd_per_token": price, "profiles": []});
    let profile = |id: &str, input: i64| {
        let price = json!({"input": input, "output": 1});
        json!({"id": id, "price_picousd_per_token": price})
    };
    let us = "us.amazon.nova-2-lite-v1:0";
    for (patch, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "x".repeat(21)}), "name"),
        (json!({"provider": "a\nb"}), "provider"),
        (json!({"input_modalities": []}), "input_modalities"),
        (json!({"output_modalities": ["text", "text"]}), "output_modalities"),
        (json!({"output_modalities": ["smell"]}), "output_modalities[0]"),
        (json!({"context_tokens": 0}), "context_tokens"),
        (json!({"context_tokens": -1}), "context_tokens"),
        (json!({"context_tokens": 10}), "max_output_tokens"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"default_output_tokens": 64_001}), "default_output_tokens"),
        (price(json!({"output": -1})), "price_picousd_per_token.output"),
        (price(json!({"cache_write": 1_000_000_000_001_i64})), "price_picousd_per_token.cache_write"),
        (price(json!({"input": 0.5})), "price_picousd_per_token.input"),
        (price(json!({"cache_reed": 1})), "price_picousd_per_token.cache_reed"),
        (price(json!({"source": ""})), "price_picousd_per_token.source"),
        (json!({"profiles": [profile("us.other", 1)]}), "profiles[0].id"),
        (json!({"profiles": [profile(NOVA, 1)]}), "profiles[0].id"),
        (json!({"profiles": [profile(us, 1), profile(us, 2)]}), "profiles[1].id"),
        (json!({"profiles": [profile(us, -1)]}), "profiles[0].price_picousd_per_token.input"),
        (json!({"profiles": vec![profile(us, 1); 9]}), "profiles"),
        (json!({"deprecation": {"message": "x".repeat(501)}}), "deprecation.message"),
        (json!({"deprecation": {"replacement": NOVA}}), "deprecation.replacement"),
        (json!({"deprecation": {"deprecated_at": "1969-12-31T23:59:59Z"}}), "deprecation.deprecated_at"),
        (
            json!({"deprecation": {"deprecated_at": "2027-01-02T00:00:00Z", "sunset_at": "2027-01-01T00:00:00Z"}}),
            "deprecation.sunset_at",
        ),
        (json!({"deprecation": {"sunset_at": "10000-01-01T00:00:00Z"}}), "deprecation.sunset_at"),
        (json!({"colour": "red"}), "colour"),
    ] {
        assert_eq!(at_fault(&entry(), patch.clone()), field, "{patch}");
    }
}

#[test]
fn the_most_expensive_model_can_still_be_rated() {
    let dearest = json!({"price_picousd_per_token": {"output": 1_000_000_000_000_i64}, "profiles": []});
    let price = Price::from(patched(&entry(), dearest).unwrap().price_picousd_per_token);
    assert!(price.output.cost(u32::MAX.into()).is_some());
}

#[test]
fn an_entry_comes_back_from_its_stored_form_and_says_what_it_does_not_know() {
    let row = Override { id: NOVA.into(), body: OverrideBody::Model(Box::new(entry())) };
    let stored = row.stored().unwrap();
    assert_eq!(serde_json::from_str::<OverrideBody>(&stored.body).unwrap(), row.body);
    let least = json!({"name": "M", "provider": "P", "price_picousd_per_token": {"input": 1, "output": 2}});
    let read: Entry = crate::api::json::parse(least.to_string().as_bytes()).unwrap();
    assert_eq!((read.input_modalities, read.streaming, read.status), (vec![Modality::Text], true, Status::Active));
    let mut more = least;
    more["colour"] = "red".into();
    let error = crate::api::json::parse::<Entry>(more.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("colour"));
}

/// A wrong one would only be found by whoever reads `openapi/admin.json`.
#[test]
fn schemas_say_what_is_bounded_and_name_no_type_of_rust() {
    use utoipa::PartialSchema;
    let text = |schema: utoipa::openapi::RefOr<utoipa::openapi::Schema>| serde_json::to_value(&schema).unwrap();
    let body = text(OverrideBody::schema());
    assert_eq!(body["oneOf"][0]["required"], json!(["model"]), "{body}");
    let deprecation = text(Deprecation::schema());
    assert_eq!(deprecation["properties"]["sunset_at"]["type"], json!(["string", "null"]));
    assert_eq!(text(ModelAccess::schema())["maxItems"], 64);
    assert_eq!(text(ModelPattern::schema())["maxLength"], 128);
    for (schema, required) in [
        (text(Entry::schema()), json!(["name", "provider", "price_picousd_per_token"])),
        (text(EntryPatch::schema()), Value::Null),
        (text(PricePatch::schema()), Value::Null),
        (text(DeprecationPatch::schema()), Value::Null),
    ] {
        assert_eq!(schema["required"], required, "{schema}");
        assert_eq!(schema["additionalProperties"], false);
        assert!(!schema.to_string().contains("schemas/i64"), "{schema}");
    }
}
