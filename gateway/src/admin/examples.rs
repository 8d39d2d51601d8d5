//! What the description shows of the admin API: the things of one tenant, `acme`, whose ids fit each other from one
//! operation to the next. Types name these as their examples; pages and parameters of paths are filled in by rule.

use serde_json::{Value, json};

/// The tenant.
pub const TENANT: &str = "ten_01a2099095007d4f8a5c6e7f80910213";
/// Its project.
pub const PROJECT: &str = "prj_01a209917f607a60b1c2d3e4f5061728";
/// A machine of that project.
pub const SERVICE_ACCOUNT: &str = "sva_01a2099269c07b1d9e8f7a6b5c4d3e2f";
/// The project's API key.
pub const API_KEY: &str = "key_4f7Qm2Zk9TxB";
/// The machine's access key.
pub const ACCESS_KEY: &str = "key_CKIAQ7M2WZK4TXBN5HJD";
/// A token that an operator's tool uses.
pub const ADMIN_TOKEN: &str = "adm_Jd5nXu1RkG7s";
/// A request with the API key.
pub const REQUEST: &str = "req_01a209a935b07c31b6f0a1d2e3f40516";

/// As AWS SDKs are given the access key's id.
const ACCESS_KEY_ID: &str = "CKIAQ7M2WZK4TXBN5HJD";
/// The token that made all the others.
const FIRST_TOKEN: &str = "adm_8Lr3VwYc0PqE";
/// The ledger's line for the request.
const LEDGER_ENTRY: &str = "led_01a209a936867e2f9a0b1c2d3e4f5061";
/// Of the log's line for the making of the project.
const DIGEST: &str = "9f2c6d1e0b7a4583c1d2e3f4a5b6c7d8e9f00112233445566778899aabbccdde";
/// Of its first line.
const FIRST_DIGEST: &str = "9d1fd0edcce06377a041d7deb3ef2c43a74c5794ade75787e811a3e1e376da47";
/// Of the same, with the key that only a gateway has.
const SEAL: &str = "v1.f0f668bf610e5cf9f11d2aa50f924ada10797100e8f05de085842ddb6370a867";

/// One object with another's members after its own.
fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut value, more) {
        members.extend(more);
    }
    value
}

fn limits() -> Value {
    json!({ "requests_per_minute": 600, "tokens_per_minute": null, "concurrent_requests": null })
}

fn no_limits() -> Value {
    json!({ "requests_per_minute": null, "tokens_per_minute": null, "concurrent_requests": null })
}

/// A tenant.
pub fn tenant() -> Value {
    json!({
        "id": TENANT, "name": "acme", "status": "active", "limits": limits(),
        "created_at": "2026-11-23T18:00:00Z", "updated_at": "2026-11-23T18:00:00Z",
    })
}

/// A project.
pub fn project() -> Value {
    json!({
        "id": PROJECT, "tenant_id": TENANT, "name": "checkout", "limits": no_limits(),
        "created_at": "2026-11-23T18:01:00Z", "updated_at": "2026-11-23T18:01:00Z",
    })
}

/// A service account.
pub fn service_account() -> Value {
    json!({
        "id": SERVICE_ACCOUNT, "tenant_id": TENANT, "project_id": PROJECT, "name": "nightly-report",
        "role": "tenant_developer", "scope": { "operations": ["inference"], "models": ["amazon.nova-*"] },
        "federated_identity": { "issuer": "https://issuer.example", "subject": "repo:acme/shop:ref:refs/heads/main" },
        "jwt_audience_suffix": SERVICE_ACCOUNT,
        "created_at": "2026-11-23T18:02:00Z", "updated_at": "2026-11-23T18:02:00Z",
    })
}

/// A service account to be made.
pub fn service_account_input() -> Value {
    json!({
        "name": "nightly-report", "project_id": PROJECT, "role": "tenant_developer",
        "scope": { "operations": ["inference"], "models": ["amazon.nova-*"] },
        "federated_identity": { "issuer": "https://issuer.example", "subject": "repo:acme/shop:ref:refs/heads/main" },
    })
}

/// A key to be made.
pub fn credential_input() -> Value {
    json!({
        "name": "ci", "project_id": PROJECT,
        "scope": { "operations": ["inference"], "models": ["amazon.nova-*"] },
        "limits": { "requests_per_minute": 60 }, "expires_at": "2030-12-31T00:00:00Z",
    })
}

/// The project's API key.
pub fn api_key() -> Value {
    json!({
        "id": API_KEY, "project_id": PROJECT, "name": "ci", "role": "tenant_developer",
        "scope": { "operations": ["inference"], "models": ["amazon.nova-*"] },
        "limits": { "requests_per_minute": 60, "tokens_per_minute": null, "concurrent_requests": null },
        "status": "active", "created_at": "2026-11-23T18:03:00Z", "updated_at": "2026-11-23T18:03:00Z",
        "created_by": FIRST_TOKEN, "expires_at": "2030-12-31T00:00:00Z", "last_used_at": "2026-11-23T18:26:54Z",
    })
}

/// The same when it is made.
pub fn created_api_key() -> Value {
    let mut key = with(api_key(), json!({ "secret": "ck_4f7Qm2Zk9TxB_Vb3nGk8RwT1yXc6LpZ0sJd5hMf9QaE2u1hK4sB" }));
    if let Some(members) = key.as_object_mut() {
        members.remove("last_used_at");
    }
    key
}

/// Its new secret.
pub fn rotated_api_key() -> Value {
    json!({
        "id": API_KEY, "secret": "ck_4f7Qm2Zk9TxB_Nm7cYq2KsD9vLh4XzW1eRt8bJg5UfP6o0pT7xC",
        "previous_secret_expires_at": "2026-11-23T19:30:00Z",
    })
}

/// The service account's access key.
pub fn access_key() -> Value {
    json!({
        "id": ACCESS_KEY, "access_key_id": ACCESS_KEY_ID, "project_id": PROJECT,
        "service_account_id": SERVICE_ACCOUNT, "name": "nightly-report", "role": "tenant_developer",
        "scope": { "operations": ["inference"], "models": ["amazon.nova-*"] }, "limits": no_limits(),
        "status": "active", "created_at": "2026-11-23T18:04:00Z", "updated_at": "2026-11-23T18:04:00Z",
        "created_by": FIRST_TOKEN,
    })
}

/// The same when it is made.
pub fn created_access_key() -> Value {
    with(access_key(), json!({ "secret_access_key": "h8Kq3Zr1TmV6xYb9Jc4WnP0sLd7Gf2QeUaXo5RtN" }))
}

/// Its new secret.
pub fn rotated_access_key() -> Value {
    json!({
        "id": ACCESS_KEY, "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": "B4yMw9LfK2sQd6VjH1tXr8GzN5cEp0UaT7oRi3Zk",
        "previous_secret_expires_at": "2026-11-23T19:30:00Z",
    })
}

/// An operator's token.
pub fn admin_token() -> Value {
    json!({
        "id": ADMIN_TOKEN, "name": "terraform", "role": "platform_admin",
        "scope": { "operations": ["administer"], "ip_ranges": ["10.0.0.0/8"] }, "status": "active",
        "created_at": "2026-11-23T17:59:00Z", "updated_at": "2026-11-23T17:59:00Z", "created_by": FIRST_TOKEN,
        "expires_at": "2030-12-31T00:00:00Z",
    })
}

/// The same when it is made.
pub fn created_admin_token() -> Value {
    with(admin_token(), json!({ "secret": "ckadm_Jd5nXu1RkG7s_Wf0zHs6QjB3mTy9KpC8rLx1VdN4gEa7i2kR9tM" }))
}

/// Its new secret.
pub fn rotated_admin_token() -> Value {
    json!({
        "id": ADMIN_TOKEN, "secret": "ckadm_Jd5nXu1RkG7s_Ug5tPc2YwX8nRa1ZkF7vDq4MhL0jSb9e0nQ3vJ",
        "previous_secret_expires_at": "2026-11-23T19:30:00Z",
    })
}

/// The limits of the API key: its own, and the tenant's.
pub fn key_limits() -> Value {
    let level = |level: &str, limit: Option<u64>, used: u64| {
        let remaining = limit.map(|limit| limit - used);
        json!({ "level": level, "limit": limit, "on_this_replica": { "used": used, "remaining": remaining } })
    };
    let unlimited = |used: u64| {
        let considered = ["tenant", "project", "key"].map(|name| level(name, None, used));
        json!({ "limit": null, "level": null, "reason": "unlimited", "considered": considered })
    };
    json!({
        "level": "key",
        "own": { "requests_per_minute": 60, "tokens_per_minute": null, "concurrent_requests": null },
        "effective": {
            "requests_per_minute": {
                "limit": 60, "level": "key", "reason": "tightest",
                "considered": [level("tenant", Some(600), 14), level("project", None, 12), level("key", Some(60), 12)],
            },
            "tokens_per_minute": unlimited(468),
            "concurrent_requests": unlimited(1),
        },
    })
}

/// The project's list of models, and what is asked about one.
pub fn model_access() -> Value {
    json!({
        "level": "project", "own": { "models": ["amazon.nova-*"] },
        "effective": [{ "level": "tenant", "models": null }, { "level": "project", "models": ["amazon.nova-*"] }],
        "verdict": {
            "model": "amazon.nova-lite-v1:0", "permitted": true,
            "levels": [
                { "level": "tenant", "permitted": true, "reason": "unrestricted", "pattern": null },
                { "level": "project", "permitted": true, "reason": "included", "pattern": "amazon.nova-*" },
            ],
        },
    })
}

/// A request with all that is known of it.
pub fn request() -> Value {
    json!({
        "request_id": REQUEST, "tenant_id": TENANT, "project_id": PROJECT, "key_id": API_KEY,
        "dialect": "openai_chat", "model_asked": "amazon.nova-lite-v1:0", "model": "huggingface.smollm2-135m-instruct",
        "state": "settled", "outcome": "completed", "error": null, "finish": "end_of_turn",
        "input_tokens": 33, "output_tokens": 6, "accepted_at": "2026-11-23T18:26:54Z",
        "settled_at": "2026-11-23T18:26:54.214Z", "ttft_ms": 81, "latency_ms": 214, "attempt": 1,
        "path": {
            "engine": "llama", "decode": "decode-1",
            "prefill": { "at": "remote", "prefill_id": "prefill-1", "kv_bytes": 760_320, "chunks": 1 },
        },
        "timings": { "queue_us": 40, "prefill_us": 61_000, "handoff_us": 1_900, "decode_us": 122_000 },
        "ledger_entry": {
            "entry_id": LEDGER_ENTRY, "amount_nanousd": 900,
            "input_picousd_per_token": 20_000, "output_picousd_per_token": 40_000,
            "price_source": "Caprock's development default; set your own",
            "created_at": "2026-11-23T18:26:54.214Z",
        },
    })
}

/// The same in a list.
pub fn listed_request() -> Value {
    json!({
        "request_id": REQUEST, "project_id": PROJECT, "key_id": API_KEY, "dialect": "openai_chat",
        "model_asked": "amazon.nova-lite-v1:0", "model": "huggingface.smollm2-135m-instruct", "state": "settled",
        "outcome": "completed", "input_tokens": 33, "output_tokens": 6, "amount_nanousd": 900,
        "accepted_at": "2026-11-23T18:26:54Z", "settled_at": "2026-11-23T18:26:54.214Z",
    })
}

/// Usage by project and day.
pub fn usage() -> Value {
    let sums = json!({
        "requests": 1, "input_tokens": 33, "cache_read_tokens": 0, "cache_write_tokens": 0, "output_tokens": 6,
        "reasoning_tokens": 0, "amount_nanousd": 900,
    });
    json!({
        "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z",
        "data": [with(json!({ "start": "2026-11-23T00:00:00Z", "project_id": PROJECT }), sums.clone())],
        "has_more": false, "total": sums,
    })
}

/// A worker.
pub fn worker() -> Value {
    json!({
        "cluster": "bundled", "worker_id": "decode-1", "role": "decode", "address": "127.0.0.1:9401", "healthy": true,
        "since": "2026-11-23T17:58:30Z", "in_flight": 1,
        "reported": {
            "engine": "llama", "model": "SmolLM2 135M Instruct", "epoch": 1_795_456_709_000_000_u64,
            "fingerprint": "5b0c9a4e7d21f386", "card_digest": "c7e1d2b3a4958607",
            "context_tokens": 8_192, "slots": 8, "running": 1, "waiting": 0, "cells": 16_384, "cells_reserved": 289,
        },
    })
}

/// The log's line for the making of the project.
pub fn audit_entry() -> Value {
    json!({
        "seq": 42, "at": "2026-11-23T18:01:00Z", "action": "project.create",
        "author": {
            "kind": "admin_token", "id": FIRST_TOKEN, "role": "platform_admin", "address": "10.0.0.7",
            "request_id": "req_01a209917f3e7c0a8b1c2d3e4f506172",
        },
        "target": { "kind": "project", "id": PROJECT }, "tenant_id": TENANT,
        "after": {
            "id": PROJECT, "tenant_id": TENANT, "name": "checkout", "limits": no_limits(), "model_access": null,
            "version": 1, "created_at": 1_795_456_860_000_000_i64, "updated_at": 1_795_456_860_000_000_i64,
            "deleted_at": null,
        },
        "digest": DIGEST,
    })
}

/// The log's first line, as it is stored.
pub fn audit_export() -> Value {
    let author = r#"{"kind":"command","id":"bootstrap","role":"platform_admin"}"#;
    let record = format!(
        r#"{{"seq":1,"at":1795456500000000,"author":{author},"action":"tenant.create","tenant_id":"{TENANT}","target":{{"kind":"tenant","id":"{TENANT}"}}}}"#
    );
    let line = json!({ "seq": 1, "record": record, "digest": FIRST_DIGEST, "seal": SEAL });
    Value::from(format!("{line}\n"))
}

/// The log is whole.
pub fn verification() -> Value {
    let mark = json!({ "seq": 42, "digest": DIGEST });
    json!({ "ok": true, "entries": 42, "head": mark, "anchor": mark })
}
