//! What can be read over the admin API: by whom, in which pages, within which bounds.

use super::desk::{Desk, Reply};
use crate::billing::{self, Detail, OpenRequest, Outcome, Settlement};
use crate::catalog::Price;
use crate::config;
use crate::id::{KeyId, ProjectId, RequestId, TenantId};
use crate::inference::{Dialect, Usage};
use crate::money::PicousdPerToken;
use crate::quota::Limits;
use crate::store::testing::{developer, execute};
use crate::tenants::Role;
use crate::upstream::cluster::fake::FakeWorker;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Settles a request of 10 prompt tokens at 1 nano-USD each and `output` tokens for nothing, `ago` seconds ago.
async fn used(desk: &Desk, (tenant, project): (&TenantId, &ProjectId), ago: i64, output: u64) -> (RequestId, KeyId) {
    let now = desk.app.clock.now() - ago * 1_000_000;
    let rest = format!("7{:019x}", rand::random::<u64>());
    let id = RequestId::parse(&format!("{}{rest}", RequestId::lower_bound(now))).unwrap();
    let principal = developer(tenant.clone(), project.clone(), Limits::default());
    let key = principal.key.clone();
    let price = Price {
        input: PicousdPerToken(1_000),
        output: PicousdPerToken(0),
        cache_read: None,
        cache_write: None,
        source: "test".into(),
    };
    let open = OpenRequest {
        id: id.clone(),
        principal,
        dialect: Dialect::OpenaiChat,
        model_asked: "asked".into(),
        model: "answers".into(),
        price,
        input_tokens: 10,
        max_output_tokens: 100,
        accepted_at: now,
        decode: "decode-1".into(),
        gateway_id: "gateway-1".into(),
        lease_until: now + 30_000_000,
    };
    billing::open_request(&desk.app.store, &open).await.unwrap();
    let usage = Usage { input_tokens: 10, output_tokens: output, ..Usage::default() };
    let detail = Detail::default();
    let settlement =
        Settlement { id: id.clone(), outcome: Outcome::Completed, usage, detail, ended_at: now, keep: None };
    billing::settle(&desk.app.store, &settlement).await.unwrap();
    (id, key)
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["request_id"].as_str().unwrap()).collect()
}

fn same(one: &Reply, other: &Reply) -> bool {
    (one.status, &one.text) == (other.status, &other.text)
}

#[tokio::test]
async fn every_role_reads_what_is_its_and_another_tenants_is_not_there() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let (other, others_project) = desk.tenant("other").await;
    let (request, _) = used(&desk, (&tenant, &project), 5, 1).await;
    let (others, _) = used(&desk, (&other, &others_project), 5, 1).await;
    let all = [
        ("requests", true, true),
        (&format!("requests/{request}"), true, true),
        ("usage", true, true),
        ("audit-log", false, true),
    ];
    for role in Role::ALL {
        let credential =
            if role.is_platform() { desk.operator(role).await } else { desk.key((&tenant, &project), role).await };
        for (path, by_anybody, by_administrators) in all {
            let reply = desk.get(&format!("/admin/v1/tenants/{tenant}/{path}"), &credential).await;
            let administers = !matches!(role, Role::TenantDeveloper | Role::TenantBillingViewer);
            let expected = if by_anybody || (by_administrators && administers) { 200 } else { 403 };
            assert_eq!(reply.status.as_u16(), expected, "{role:?} {path}: {}", reply.text);
        }
        for path in [
            "cluster/workers",
            "audit-log",
            "audit-log/export",
            "audit-log/verification",
            &format!("requests/{request}"),
        ] {
            let reply = desk.get(&format!("/admin/v1/{path}"), &credential).await;
            assert_eq!(reply.status.as_u16(), if role.is_platform() { 200 } else { 403 }, "{role:?} {path}");
        }
        if role.is_platform() {
            continue;
        }
        for path in ["requests", "usage", "audit-log", &format!("requests/{others}"), "requests?limit=0"] {
            let theirs = desk.get(&format!("/admin/v1/tenants/{other}/{path}"), &credential).await;
            let nobodys = desk.get(&format!("/admin/v1/tenants/{}/{path}", TenantId::new()), &credential).await;
            let no_id = desk.get(&format!("/admin/v1/tenants/x/{path}"), &credential).await;
            assert_eq!(theirs.status.as_u16(), 404, "{role:?} {path}");
            assert!(same(&theirs, &nobodys) && same(&theirs, &no_id), "{role:?} {path}: {}", theirs.text);
        }
        // Another's request under one's own tenant.
        let theirs = desk.get(&format!("/admin/v1/tenants/{tenant}/requests/{others}"), &credential).await;
        let nobodys = desk.get(&format!("/admin/v1/tenants/{tenant}/requests/{}", RequestId::new()), &credential).await;
        assert!(theirs.status.as_u16() == 404 && same(&theirs, &nobodys), "{role:?}: {}", theirs.text);
    }
    for path in ["requests", "usage", "audit-log"] {
        assert_eq!(desk.get(&format!("/admin/v1/tenants/{tenant}/{path}"), "ckadm_wrong").await.status.as_u16(), 401);
    }
}

#[tokio::test]
async fn requests_come_in_pages_newest_first_within_the_last_day_unless_asked() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let owner = (&tenant, &project);
    let mut made = Vec::new();
    for ago in [90_000, 300, 200, 100] {
        made.push(used(&desk, owner, ago, 7).await);
    }
    let list = async |query: &str| {
        let reply = desk.get(&format!("/admin/v1/tenants/{tenant}/requests{query}"), &desk.root).await;
        assert_eq!(reply.status.as_u16(), 200, "{query}: {}", reply.text);
        reply.json()
    };
    let id = |at: usize| made[at].0.as_str();
    let first = list("?limit=2").await;
    assert_eq!((ids(&first), &first["has_more"]), (vec![id(3), id(2)], &true.into()));
    let second = list(&format!("?limit=2&after={}", first["next_after"].as_str().unwrap())).await;
    assert_eq!((ids(&second), &second["has_more"], second.get("next_after")), (vec![id(1)], &false.into(), None));
    let from = crate::admin::time::Time(desk.app.clock.now() - 100_000_000_000).to_string();
    assert_eq!(ids(&list(&format!("?from={from}")).await).len(), 4);
    assert_eq!(ids(&list(&format!("?to={}", from.replace('Z', "%2B00:00"))).await).len(), 0);
    assert_eq!(ids(&list(&format!("?key_id={}", made[2].1)).await), [id(2)]);
    assert_eq!(ids(&list("?state=settled&outcome=completed&dialect=openai_chat&model=answers").await).len(), 3);
    assert_eq!(ids(&list("?state=open").await).len(), 0);

    let row = &first["data"][0];
    assert_eq!(
        (&row["input_tokens"], &row["output_tokens"], &row["amount_nanousd"]),
        (&10.into(), &7.into(), &10.into())
    );
    let whole = desk.get(&format!("/admin/v1/tenants/{tenant}/requests/{}", id(3)), &desk.root).await.json();
    for name in ["request_id", "accepted_at", "settled_at", "model", "outcome", "key_id", "project_id"] {
        assert_eq!(whole[name], row[name], "{name}");
    }
    assert_eq!(whole["ledger_entry"]["created_at"], whole["settled_at"]);
    assert!(whole["accepted_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused_and_the_parameter_named() {
    let desk = Desk::open().await;
    let (tenant, _) = desk.tenant("acme").await;
    let cases = [
        ("requests?limit=0", Some("limit")),
        ("requests?limit=201", Some("limit")),
        ("requests?after=x", Some("after")),
        ("requests?from=2020-01-01T00:00:00Z", Some("from")),
        ("requests?from=2020-01-01T00:00:00Z&to=2020-01-01T00:00:00Z", Some("from")),
        ("requests?from=yesterday", Some("from")),
        ("requests?project_id=key_a", Some("project_id")),
        ("requests?key_id=prj_a", Some("key_id")),
        ("requests?state=done", Some("state")),
        ("requests?outcome=good", Some("outcome")),
        ("requests?dialect=klingon", Some("dialect")),
        ("requests?colour=red", Some("colour")),
        ("requests?model=%00", None),
        ("usage?colour=red", Some("colour")),
        ("usage?limit=1001", Some("limit")),
        ("usage?after=x", Some("after")),
        ("usage?group_by=project,key,model", Some("group_by")),
        ("usage?from=2020-01-01T00:00:00Z", Some("from")),
        ("audit-log?after=0", Some("after")),
        ("audit-log?limit=x", Some("limit")),
        ("audit-log?colour=red", Some("colour")),
    ];
    for (path, param) in cases {
        let reply = desk.get(&format!("/admin/v1/tenants/{tenant}/{path}"), &desk.root).await;
        assert_eq!(reply.fault(), (400, param.map(str::to_owned)), "{path}: {}", reply.text);
    }
    let platform = [
        ("audit-log/export?from_seq=0", "from_seq"),
        ("audit-log/export?x=1", "x"),
        ("audit-log/verification?x=1", "x"),
        ("cluster/workers?x=1", "x"),
    ];
    for (path, param) in platform {
        let reply = desk.get(&format!("/admin/v1/{path}"), &desk.root).await;
        assert_eq!(reply.fault(), (400, Some(param.to_owned())), "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn usage_comes_in_groups_and_pages_with_a_total_and_none_is_zero() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let ask = async |query: &str| {
        let reply = desk.get(&format!("/admin/v1/tenants/{tenant}/usage{query}"), &desk.root).await;
        assert_eq!(reply.status.as_u16(), 200, "{query}: {}", reply.text);
        reply.json()
    };
    let sums = |requests: u64, output: u64| {
        json!({
            "requests": requests, "input_tokens": 10 * requests, "cache_read_tokens": 0, "cache_write_tokens": 0,
            "output_tokens": output, "reasoning_tokens": 0, "amount_nanousd": 10 * requests,
        })
    };
    let none = ask("").await;
    assert_eq!((&none["total"], &none["data"], &none["has_more"]), (&sums(0, 0), &json!([]), &false.into()));

    let (_, key) = used(&desk, (&tenant, &project), 86_400 * 2, 3).await;
    used(&desk, (&tenant, &project), 0, 4).await;
    used(&desk, (&tenant, &project), 86_400 * 40, 5).await;
    let mut one = sums(2, 7);
    assert_eq!(ask("").await["data"], json!([one]));
    one["project_id"] = project.as_str().into();
    let by_project = ask("?group_by=project").await;
    assert_eq!((&by_project["data"], &by_project["total"]), (&json!([one]), &sums(2, 7)));
    assert_eq!(ask(&format!("?key_id={key}")).await["total"], sums(1, 3));

    let first = ask("?group_by=key,day&limit=1").await;
    assert_eq!((&first["total"], &first["has_more"]), (&sums(2, 7), &true.into()));
    let row = &first["data"][0];
    assert_eq!((&row["key_id"], &row["output_tokens"]), (&key.as_str().into(), &3.into()));
    assert!(row["start"].as_str().unwrap().ends_with("T00:00:00Z"), "{row}");
    let after = first["next_after"].as_str().unwrap();
    let second = ask(&format!("?group_by=key,day&limit=1&after={after}")).await;
    assert_eq!((&second["data"][0]["output_tokens"], &second["has_more"]), (&4.into(), &false.into()));
    assert_eq!(second.get("next_after"), None);
    let wrong = desk.get(&format!("/admin/v1/tenants/{tenant}/usage?group_by=day&after={after}"), &desk.root).await;
    assert_eq!(wrong.fault(), (400, Some("after".to_owned())));
    let debt = billing::balance(&desk.app.store, &tenant).await.unwrap().0;
    let from = crate::admin::time::Time(desk.app.clock.now() - 86_400_000_000 * 91).to_string();
    assert_eq!(ask(&format!("?from={from}")).await["total"]["amount_nanousd"], debt);
}

#[tokio::test]
async fn a_tenant_sees_its_own_changes_and_not_where_its_operators_are() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    desk.tenant("other").await;
    desk.call("POST", &format!("/admin/v1/tenants/{tenant}/suspend"), &desk.root, "").await;
    desk.call("POST", &format!("/admin/v1/tenants/{tenant}/resume"), &desk.root, "").await;
    let owner = desk.key((&tenant, &project), Role::TenantOwner).await;

    let path = format!("/admin/v1/tenants/{tenant}/audit-log");
    let path = format!("{path}?target_kind=tenant");
    let theirs = desk.get(&path, &owner).await.json();
    let actions = |page: &Value| {
        let rows = page["data"].as_array().unwrap();
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(actions(&theirs), ["tenant.resume", "tenant.suspend", "tenant.create"]);
    let entry = &theirs["data"][1];
    assert_eq!((&entry["before"]["status"], &entry["after"]["status"]), (&"active".into(), &"suspended".into()));
    assert_eq!(entry["author"], json!({"kind": "operator", "role": "platform_admin"}));
    assert_eq!((entry.get("seq"), entry.get("digest"), &entry["tenant_id"]), (None, None, &tenant.as_str().into()));

    let whole = desk.get(&path, &desk.root).await.json();
    let author = &whole["data"][1]["author"];
    assert_eq!((&author["address"], &author["kind"]), (&"192.0.2.7".into(), &"admin_token".into()));
    assert!(author["id"].as_str().unwrap().starts_with("adm_"));
    assert!(author["request_id"].as_str().unwrap().starts_with("req_"));
    assert!(whole["data"][1]["seq"].is_i64() && whole["data"][1]["digest"].is_string());
    let all = desk.get("/admin/v1/audit-log?target_kind=tenant", &desk.root).await.json();
    assert_eq!(actions(&all), ["tenant.resume", "tenant.suspend", "tenant.create", "tenant.create"]);
    let page = desk.get("/admin/v1/audit-log?target_kind=tenant&limit=3", &desk.root).await.json();
    let after = page["next_after"].as_str().unwrap();
    let rest =
        desk.get(&format!("/admin/v1/audit-log?target_kind=tenant&limit=3&after={after}"), &desk.root).await.json();
    assert_eq!((actions(&rest), &rest["has_more"]), (vec!["tenant.create".to_owned()], &false.into()));
    let filtered = desk.get(&format!("/admin/v1/audit-log?action=tenant.create&target_id={tenant}"), &desk.root).await;
    assert_eq!(filtered.json()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_tenants_pages_of_its_log_tell_nothing_of_what_others_change() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let owner = desk.key((&tenant, &project), Role::TenantOwner).await;
    let path = format!("/admin/v1/tenants/{tenant}/audit-log");
    let key = json!({"name": "k", "project_id": project}).to_string();
    for (maker, other) in [(&desk.root, "first"), (&owner, "second")] {
        let made = desk.call("POST", &format!("/admin/v1/tenants/{tenant}/api-keys"), maker, &key).await;
        assert_eq!(made.status.as_u16(), 201);
        desk.tenant(other).await;
    }
    let (mut after, mut seen, mut cursors) = (String::new(), Vec::new(), Vec::new());
    loop {
        let page = desk.get(&format!("{path}?limit=1{after}"), &owner).await;
        assert!(!page.text.contains("adm_"), "{}", page.text);
        let page = page.json();
        seen.push(page["data"][0].clone());
        let Some(next) = page["next_after"].as_str() else { break };
        after = format!("&after={next}");
        cursors.push(next.to_owned());
    }
    let whole = desk.get(&path, &owner).await.json();
    assert_eq!(json!(seen), whole["data"], "page by page it is the same");
    assert_eq!(seen.len(), 5);
    let mine = |entry: &Value| entry["author"]["id"].as_str().is_some_and(|id| id.starts_with("key_"));
    assert!(mine(&seen[0]) && !mine(&seen[1]), "its own are named");
    assert_eq!((&seen[1]["after"]["created_by"], &seen[1]["author"]["kind"]), (&"operator".into(), &"operator".into()));

    assert!(cursors.iter().all(|cursor| cursor.len() == cursors[0].len()), "{cursors:?}");
    let (other, others_project) = desk.tenant("rival").await;
    let rival = desk.key((&other, &others_project), Role::TenantOwner).await;
    for (path, credential, after) in [
        (&path, &owner, "7"),
        (&path, &owner, "9223372036854775807"),
        (&format!("/admin/v1/tenants/{other}/audit-log"), &rival, cursors[0].as_str()),
    ] {
        let refused = desk.get(&format!("{path}?after={after}"), credential).await;
        assert_eq!(refused.fault(), (400, Some("after".to_owned())), "{after}");
    }
    let log = desk.get(&format!("/admin/v1/tenants/{tenant}/audit-log?limit=1"), &desk.root).await.json();
    assert!(log["next_after"].as_str().unwrap().parse::<i64>().is_ok(), "operators have numbers");
    let adm = desk.get(&path, &desk.root).await.json()["data"][1]["author"]["id"].as_str().unwrap().to_owned();
    let by = async |id: &str, credential: &str| {
        let page = desk.get(&format!("{path}?author_id={id}"), credential).await.json();
        page["data"].as_array().unwrap().len()
    };
    assert!(by(&adm, &desk.root).await > 0);
    assert_eq!(by(&adm, &owner).await, 0, "an id that was guessed is not confirmed");
    let own = seen[0]["author"]["id"].as_str().unwrap();
    assert_eq!(by(own, &owner).await, 1);
}

#[tokio::test]
async fn the_log_is_exported_line_by_line_and_verified_against_what_was_seen() {
    let desk = Desk::open().await;
    for n in 0..3 {
        desk.tenant(&format!("tenant {n}")).await;
    }
    let store = &desk.app.store;
    desk.app.anchor.check(store).await.unwrap();
    let exported = desk.get("/admin/v1/audit-log/export?from_seq=6", &desk.root).await;
    assert_eq!(exported.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = exported.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, lines) = lines.split_last().unwrap();
    assert_eq!(lines.iter().map(|line| line["seq"].as_i64().unwrap()).collect::<Vec<_>>(), [6, 7]);
    assert_eq!(*end, json!({"head": {"seq": 7, "digest": lines[1]["digest"]}, "entries": 2}));
    assert!(lines[0]["seal"].as_str().unwrap().starts_with("v1."));

    let verify = async || desk.get("/admin/v1/audit-log/verification", &desk.root).await.json();
    let mark = json!({"seq": 7, "digest": lines[1]["digest"]});
    assert_eq!(verify().await, json!({"ok": true, "entries": 7, "head": mark, "anchor": mark}));
    execute(store, "UPDATE audit_log SET author_id = 'adm_somebody' WHERE seq = 6").await;
    let bad = verify().await;
    assert_eq!((&bad["ok"], &bad["entries"], &bad["first_bad"]["seq"]), (&false.into(), &5.into(), &6.into()));
    assert_eq!(bad["first_bad"]["kind"], "column");
    let digest = lines[0]["digest"].as_str().unwrap();
    execute(store, format!("DELETE FROM audit_log WHERE seq = 7; UPDATE audit_head SET seq = 6, digest = '{digest}'"))
        .await;
    execute(store, "UPDATE audit_log SET author_id = (SELECT author_id FROM audit_log WHERE seq = 2) WHERE seq = 6")
        .await;
    let cut = verify().await;
    assert_eq!(
        cut["first_bad"],
        json!({
            "seq": 7, "kind": "cut_off", "why": "it is missing, though this gateway has seen it or a later one",
        })
    );
}

#[tokio::test]
async fn workers_are_shown_as_they_were_last_seen() {
    let worker = FakeWorker::start("decode-1", cluster_protocol::Role::Decode).await;
    let gone = FakeWorker::start("prefill-1", cluster_protocol::Role::Prefill).await;
    let cluster = config::Cluster {
        name: "bundled".into(),
        model: "huggingface.smollm2-135m-instruct".into(),
        stands_in_for: vec![],
        decode: vec![config::Worker { id: "decode-1".into(), address: worker.address.to_string() }],
        prefill: vec![config::Worker { id: "prefill-2".into(), address: gone.address.to_string() }],
        min_remote_prefill_tokens: 0,
    };
    let desk = Desk::open_with(vec![cluster]).await;
    let list = async || desk.get("/admin/v1/cluster/workers", &desk.root).await.json();
    let before = list().await;
    assert_eq!((&before["data"][0]["healthy"], before["data"][0].get("last_error")), (&false.into(), None));

    let stop = CancellationToken::new();
    desk.app.upstreams.watch(&TaskTracker::new(), &stop);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while !(desk.app.upstreams.ready() && list().await["data"][1].get("last_error").is_some()) {
        assert!(tokio::time::Instant::now() < until, "{}", list().await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    stop.cancel();
    let after = list().await;
    assert_eq!((&after["has_more"], after.get("next_after")), (&false.into(), None));
    let decode = &after["data"][0];
    assert_eq!((&decode["cluster"], &decode["worker_id"]), (&"bundled".into(), &"decode-1".into()));
    assert_eq!((&decode["role"], &decode["healthy"]), (&"decode".into(), &true.into()));
    assert_eq!((&decode["address"], &decode["reported"]["epoch"]), (&worker.address.to_string().into(), &1.into()));
    assert_eq!(decode["reported"]["fingerprint"].as_str().unwrap().len(), 64);
    assert!(decode["since"].as_str() > before["data"][0]["since"].as_str());
    let prefill = &after["data"][1];
    assert_eq!((&prefill["healthy"], prefill.get("reported")), (&false.into(), None));
    assert_eq!(prefill["since"], before["data"][1]["since"], "it has been down all the time");
    let detail = prefill["last_error"]["detail"].as_str().unwrap();
    assert_eq!(detail, "calls itself `prefill-1`");
}
