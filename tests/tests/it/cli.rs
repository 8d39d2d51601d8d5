//! The command line against a running gateway: an operator's day as tables and as JSON, mistakes, and a tenant's own
//! administrator.

use caprock_tests::cli::{caprock, caprock_with};
use caprock_tests::client::chat;
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::{SOON, until};
use serde_json::{Value, json};

/// Asks with a key; the status.
async fn ask(stack: &Stack, secret: &str) -> u16 {
    stack.client().with_key(secret).post("/v1/chat/completions", &chat("Hi.", 8)).await.status().as_u16()
}

fn last_words<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no `{label}` in {text}")).trim()
}

#[tokio::test]
async fn an_operators_day_in_tables() {
    let stack = StackSpec::sim(&[]).start().await;
    let gateway = &stack.gateway;
    let run = async |line: &str| caprock(gateway, line).await;

    let made = run("tenant create --name acme --requests-per-minute 600").await.ok();
    assert_eq!(last_words(&made, "status"), "active");
    assert_eq!(last_words(&made, "requests/min"), "600");
    for name in ["web", "batch"] {
        let made = run(&format!("project create --tenant acme --name {name}")).await.ok();
        assert_eq!(last_words(&made, "name"), name);
    }
    let listed = run("project list --tenant acme").await.ok();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["name", "web", "batch"], "{listed}");

    let made =
        run("key create --tenant acme --project web --name laptop --operations inference --expires-in 90d").await.ok();
    assert!(made.contains("This is the only time that it is shown"), "{made}");
    let (secret, key) = (last_words(&made, "secret:"), last_words(&made, "id "));
    let shown = run(&format!("key show {key} --tenant acme")).await.ok();
    assert!(!shown.contains(secret) && shown.contains("inference"), "{shown}");

    let set = run("limit set --tenant acme --project web --requests-per-minute 60").await.ok();
    assert!(set.contains("requests per minute: 60, the project's (the tightest)"), "{set}");
    let shown = run(&format!("limit show --tenant acme --key {key}")).await.ok();
    assert!(shown.contains("requests per minute: 60, the project's (the tightest)"), "{shown}");
    assert!(shown.contains("tokens per minute: no limit at any level"), "{shown}");
    let level = shown.lines().find(|line| line.trim_start().starts_with("tenant")).unwrap();
    assert!(level.contains("600"), "{shown}");

    assert_eq!(ask(&stack, secret).await, 200);
    stack.at_rest().await;
    let listed = run("request list --tenant acme --project web").await.ok();
    let request = listed.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap();
    let shown = run(&format!("request show {request}")).await.ok();
    assert_eq!(last_words(&shown, "state"), "settled, completed");
    assert_eq!(last_words(&shown, "request"), request);
    let cost = last_words(&shown, "cost").split(' ').next().unwrap();
    assert!(cost.starts_with("$0.0"), "{shown}");

    let usage = run("usage --tenant acme --group-by project,day").await.ok();
    assert_eq!(usage.matches(cost).count(), 2, "the group and the sum cost what the request did: {usage}");
    let without = run("usage --tenant acme --project batch").await.ok();
    assert!(without.contains("$0.000000000"), "{without}");
    let workers = run("worker list").await.ok();
    assert!(workers.contains("decode-1") && workers.contains("prefill-1"), "{workers}");

    let rotated = run(&format!("key rotate {key} --tenant acme --overlap 1h")).await.ok();
    let fresh = last_words(&rotated, "secret:");
    assert_ne!(fresh, secret);
    assert_eq!((ask(&stack, secret).await, ask(&stack, fresh).await), (200, 200));
    assert_eq!(run(&format!("key revoke {key} --tenant acme")).await.ok(), format!("{key} is revoked\n"));
    until("the revoked key is refused", SOON, async || {
        (ask(&stack, secret).await == 401 && ask(&stack, fresh).await == 401).then_some(())
    })
    .await;
    assert!(run(&format!("key show {key} --tenant acme")).await.ok().contains("revoked"));

    let audit = run("audit list --tenant acme --action project.create").await.ok();
    assert_eq!(audit.lines().count(), 3, "{audit}");
}

#[tokio::test]
async fn the_same_as_json_which_is_the_apis_own() {
    let stack = StackSpec::sim(&[]).start().await;
    let gateway = &stack.gateway;
    let run = async |line: &str| caprock_with(gateway, line, &[("CAPROCK_TENANT", "acme")]).await;
    let http = reqwest::Client::new();
    let api = async |path: &str| {
        let reply = http.get(format!("{}/admin/v1{path}", gateway.admin_url())).bearer_auth(gateway.admin_token());
        reply.send().await.unwrap().text().await.unwrap()
    };

    let tenant = run("tenant create --name acme --json").await.json();
    let tenant_id = tenant["id"].as_str().unwrap();
    assert_eq!(tenant["name"], "acme");
    for n in 0..5 {
        run(&format!("project create --name p{n} --json")).await.json();
    }
    let path = format!("/tenants/{tenant_id}/projects");
    assert_eq!(run("project list --json").await.ok(), api(&format!("{path}?limit=200")).await + "\n", "to the byte");
    let some = run("project list --limit 2 --json").await.json();
    assert_eq!((some["data"].as_array().unwrap().len(), &some["has_more"]), (2, &json!(true)));
    let after = some["next_after"].as_str().unwrap();
    let rest = run(&format!("project list --after {after} --field name")).await.ok();
    assert_eq!(rest, "p2\np3\np4\n");

    let made = run("access-key create --project p0 --name boto --json").await.json();
    let key = made["id"].as_str().unwrap();
    assert!(made["secret_access_key"].as_str().is_some() && made["access_key_id"].as_str().is_some());
    let updated = run(&format!("access-key update {key} --models a,b* --tokens-per-minute 9 --json")).await.json();
    assert_eq!(updated["scope"]["models"], json!(["a", "b*"]));
    assert_eq!(updated["scope"]["operations"], made["scope"]["operations"], "what is not given stays");
    let updated = run(&format!("access-key update {key} --models any --tokens-per-minute none --json")).await.json();
    assert_eq!((&updated["scope"].get("models"), &updated["limits"]["tokens_per_minute"]), (&None, &Value::Null));

    let account = run("service-account create --project p0 --name bot --operations inference --json").await.json();
    let account = account["id"].as_str().unwrap();
    let made = run(&format!("key create --service-account {account} --name k --json")).await.json();
    assert_eq!(made["scope"]["operations"], json!(["inference"]), "within its account");
    assert_eq!(ask(&stack, made["secret"].as_str().unwrap()).await, 200);
    stack.at_rest().await;
    let usage = run("usage --group-by key --json").await.json();
    assert_eq!(usage["data"][0]["key_id"], made["id"]);
    assert_eq!(usage["total"]["requests"], 1);
    let request = run("request list --json").await.json()["data"][0]["request_id"].as_str().unwrap().to_owned();
    assert_eq!(run(&format!("request show {request} --json")).await.json()["tenant_id"], tenant_id);

    let access = run("model-access set --project p0 --models amazon.* --json").await.json();
    assert_eq!(access["own"]["models"], json!(["amazon.*"]));
    assert_eq!(run("model-access clear --project p0 --json").await.json()["own"]["models"], Value::Null);
    let limits = run("limit set --requests-per-minute 7 --json").await.json();
    assert_eq!((&limits["level"], &limits["own"]["requests_per_minute"]), (&json!("tenant"), &json!(7)));
    let limits = run("limit set --concurrent-requests 2 --json").await.json();
    assert_eq!(limits["own"], json!({"requests_per_minute": 7, "tokens_per_minute": null, "concurrent_requests": 2}));

    let token = run("admin-token create --name ops --role platform_viewer --json").await.json();
    let viewer = token["secret"].as_str().unwrap();
    let refused = caprock_with(gateway, "tenant create --name x", &[("CAPROCK_ADMIN_TOKEN", viewer)]).await.failed();
    assert_eq!(refused.lines().count(), 1, "{refused}");
    caprock_with(gateway, "tenant list --json", &[("CAPROCK_ADMIN_TOKEN", viewer)]).await.json();
    assert_eq!(run(&format!("service-account delete {account} --yes --json")).await.ok(), "");
    assert_eq!(run("tenant suspend acme --yes --json").await.json()["status"], "suspended");
    assert_eq!(run("tenant resume acme --json").await.json()["status"], "active");
    assert_eq!(run("tenant delete acme --yes --json").await.ok(), "");
}

#[tokio::test]
async fn a_mistake_is_one_line_that_names_the_field_and_changes_nothing() {
    let stack = StackSpec::sim(&[]).start().await;
    let gateway = &stack.gateway;
    let run = async |line: &str| caprock(gateway, line).await;
    run("tenant create --name acme").await.ok();

    let taken = run("tenant create --name acme").await.failed();
    assert!(taken.starts_with("caprock: ") && taken.lines().count() == 1, "{taken}");
    assert!(run("project show web --tenant acme").await.failed().contains("no project `web`"));
    assert!(run("project list --tenant nobody").await.failed().contains("no tenant `nobody`"));
    let refused = run("request list --tenant acme --from 2026-01-02 --to 2026-01-01").await.failed();
    assert!(refused.trim_end().ends_with("(from)"), "{refused}");
    // Nobody can be asked here.
    for line in ["tenant delete acme", "tenant suspend acme"] {
        assert!(run(line).await.failed().contains("--yes"), "{line}");
    }
    assert_eq!(run("tenant show acme --field status").await.ok(), "active\n");

    let wrong = run("tenant shwo acme").await;
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    let denied = caprock_with(gateway, "tenant list", &[("CAPROCK_ADMIN_TOKEN", "ckadm_wrong")]).await.failed();
    assert!(!denied.contains("ckadm_wrong"), "{denied}");
    let elsewhere = caprock_with(gateway, "tenant list", &[("CAPROCK_ADMIN_URL", "http://127.0.0.1:1")]).await.failed();
    assert!(elsewhere.contains("http://127.0.0.1:1"), "{elsewhere}");
    let help = run("tenant create --help").await.ok();
    assert!(!help.contains(gateway.admin_token()), "the token is in the environment, and not in the help");
}

#[tokio::test]
async fn a_tenants_administrator_uses_its_own_key_for_its_own_part() {
    let on_data_port = StackSpec { gateway: "[admin]\non_data_port = true\n".into(), ..StackSpec::sim(&[]) };
    let stack = on_data_port.start().await;
    let gateway = &stack.gateway;
    let acme = caprock(gateway, "tenant create --name acme --field id").await.ok();
    let other = caprock(gateway, "tenant create --name other --field id").await.ok();
    caprock(gateway, "project create --tenant acme --name web").await.ok();
    let key = "key create --tenant acme --project web --name admin --role tenant_admin --operations administer,read_usage,inference";
    let secret = caprock(gateway, &format!("{key} --field secret")).await.ok();

    let own = |tenant: &str| {
        [("CAPROCK_ADMIN_TOKEN", secret.trim().to_owned()), ("CAPROCK_TENANT", tenant.trim().to_owned())]
    };
    let run = async |line: &str, tenant: &str| {
        let variables = own(tenant);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        caprock_with(gateway, line, &variables).await
    };
    assert_eq!(run("project list --field name", &acme).await.ok(), "web\n");
    run("key create --project web --name ci --operations inference", &acme).await.ok();
    let by_name = run("project list", "acme").await.failed();
    assert!(by_name.contains("by id"), "{by_name}");
    for line in ["project list", "usage", "key list"] {
        run(line, &other).await.failed();
    }
    run("tenant list", &acme).await.failed();

    // The same on the data port, over TLS; there the platform's operations don't exist.
    let ca = gateway.ca_file().display().to_string();
    let over_tls = async |line: &str| {
        let (url, tenant) = (gateway.tls_url(), acme.trim());
        let variables = [
            ("CAPROCK_ADMIN_TOKEN", secret.trim()),
            ("CAPROCK_ADMIN_URL", &url),
            ("CAPROCK_CA_FILE", &ca),
            ("CAPROCK_TENANT", tenant),
        ];
        caprock_with(gateway, line, &variables).await
    };
    assert_eq!(over_tls("project list --field name").await.ok(), "web\n");
    assert!(over_tls("usage").await.ok().contains("$0.000000000"));
    over_tls("tenant list").await.failed();
}
