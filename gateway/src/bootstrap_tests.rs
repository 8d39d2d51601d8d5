use super::*;
use crate::store::testing::config;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

const ALL: [&str; 4] = [API_KEY, ACCESS_KEY_ID, SECRET_ACCESS_KEY, ADMIN_TOKEN];

fn place() -> (TempDir, Config, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let file = dir.path().join("dev.env");
    (dir, config, file)
}

async fn run(config: &Config, file: &Path) -> Result<Bootstrapped> {
    bootstrap_with(config, file, |_| None).await
}

/// The value of a variable in the file.
fn value(file: &Path, name: &str) -> String {
    Lines::read(file).unwrap().get(name).unwrap().to_owned()
}

async fn check_all_work(config: &Config, file: &Path, done: &Bootstrapped) {
    let secrets = Secrets::load_with(&config.gateway.state_dir, |_| None).unwrap();
    let (store, clock) = (Store::connect(config).await.unwrap(), Clock::System);
    store.schema_is_current().await.unwrap();
    let key = tenants::authenticate_api_key(&store, &secrets, &clock, &value(file, API_KEY)).await.unwrap();
    assert_eq!((&key.tenant, &key.project), (&done.tenant, &done.project));
    let access = tenants::access_key(&store, &secrets, &clock, &value(file, ACCESS_KEY_ID)).await.unwrap();
    assert_eq!(access.secret.expose(), value(file, SECRET_ACCESS_KEY));
    assert_eq!(access.principal.tenant, done.tenant);
    tenants::authenticate_admin_token(&store, &secrets, &clock, &value(file, ADMIN_TOKEN)).await.unwrap();
}

#[tokio::test]
async fn from_nothing_it_makes_credentials_that_work_and_only_the_owner_can_read() {
    let (_dir, config, file) = place();
    let done = run(&config, &file).await.unwrap();
    assert_eq!(done.renewed, ALL);
    check_all_work(&config, &file, &done).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.split_once('=').is_some_and(|(_, value)| !value.is_empty())), "{text}");
}

#[tokio::test]
async fn a_second_time_nothing_changes() {
    let (_dir, config, file) = place();
    let first = run(&config, &file).await.unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    let second = run(&config, &file).await.unwrap();
    assert_eq!((second.renewed.len(), &second.tenant, &second.project), (0, &first.tenant, &first.project));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[tokio::test]
async fn a_lost_file_is_made_again_for_the_same_tenant() {
    let (_dir, config, file) = place();
    let first = run(&config, &file).await.unwrap();
    let before = value(&file, API_KEY);
    std::fs::remove_file(&file).unwrap();
    let second = run(&config, &file).await.unwrap();
    assert_eq!((&second.tenant, &second.project), (&first.tenant, &first.project));
    assert_eq!(second.renewed, ALL);
    assert_ne!(value(&file, API_KEY), before);
    check_all_work(&config, &file, &second).await;
}

#[tokio::test]
async fn only_what_does_not_work_is_replaced_and_other_lines_stay() {
    let (_dir, config, file) = place();
    run(&config, &file).await.unwrap();
    let (api_key, token) = (value(&file, API_KEY), value(&file, ADMIN_TOKEN));
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(&value(&file, SECRET_ACCESS_KEY), "stale") + "# mine\nOTHER=kept\n";
    std::fs::write(&file, text).unwrap();
    let done = run(&config, &file).await.unwrap();
    assert_eq!(done.renewed, [ACCESS_KEY_ID, SECRET_ACCESS_KEY]);
    assert_eq!((value(&file, API_KEY), value(&file, ADMIN_TOKEN)), (api_key, token));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("# mine\n") && text.contains("OTHER=kept\n") && !text.contains("stale"), "{text}");
    check_all_work(&config, &file, &done).await;
}

#[tokio::test]
async fn an_admin_token_from_outside_is_registered_and_a_weak_one_is_refused() {
    let (_dir, config, file) = place();
    let (_other_dir, other_config, other_file) = place();
    run(&other_config, &other_file).await.unwrap();
    let given = value(&other_file, ADMIN_TOKEN);
    let env = |name: &str| (name == ADMIN_TOKEN).then(|| given.clone());
    let done = bootstrap_with(&config, &file, env).await.unwrap();
    assert_eq!(value(&file, ADMIN_TOKEN), given);
    check_all_work(&config, &file, &done).await;
    assert!(bootstrap_with(&config, &file, env).await.unwrap().renewed.is_empty());

    let weak = |name: &str| (name == ADMIN_TOKEN).then(|| "admin".to_owned());
    assert_eq!(bootstrap_with(&config, &file, weak).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(value(&file, ADMIN_TOKEN), given);
}

#[tokio::test]
async fn a_suspended_demo_tenant_is_not_brought_back() {
    let (_dir, config, file) = place();
    let done = run(&config, &file).await.unwrap();
    let store = Store::connect(&config).await.unwrap();
    let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
    let author = Author::command("test");
    let change = Change { store: &store, secrets: &secrets, now: 1, author: &author, once: None };
    let update = tenants::UpdateTenant { status: Some(Status::Suspended), ..Default::default() };
    tenants::update_tenant(change, &done.tenant, update, None).await.unwrap();
    assert_eq!(run(&config, &file).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_lost_master_key_is_told_and_not_papered_over() {
    let (dir, config, file) = place();
    run(&config, &file).await.unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(dir.path().join("secrets/master-key")).unwrap();
    let error = run(&config, &file).await.unwrap_err();
    assert!(error.message.contains("CAPROCK_MASTER_KEY"), "{}", error.message);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[tokio::test]
async fn without_a_file_the_first_operators_token_is_shown_once_and_nothing_else_is_made() {
    let (_dir, config, _file) = place();
    let first = bootstrap_operator_with(&config, |_| None).await.unwrap().unwrap();
    assert!(bootstrap_operator_with(&config, |_| None).await.unwrap().is_none(), "there is one");
    let secrets = Secrets::load_with(&config.gateway.state_dir, |_| None).unwrap();
    let (store, clock) = (Store::connect(&config).await.unwrap(), Clock::System);
    let known = tenants::authenticate_admin_token(&store, &secrets, &clock, first.expose()).await.unwrap();
    assert_eq!(known.role, tenants::Role::PlatformAdmin);
    assert!(store.tenant_by_name(TENANT).await.unwrap().is_none());
    store.close().await;

    // A token that has ended is as good as none.
    let store = Store::connect(&config).await.unwrap();
    let id = known.token.clone();
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let mut row = tx.admin_token_for_change(&id).await?.unwrap();
            row.expires_at = Some(1);
            tx.admin_token_update(&row, 1).await
        })
    });
    work.await.unwrap();
    let second = bootstrap_operator_with(&config, |_| None).await.unwrap().unwrap();
    assert_ne!(second.expose(), first.expose());
}

#[tokio::test]
async fn a_token_from_outside_is_registered_in_place_of_one_that_is_shown() {
    let (_dir, config, _file) = place();
    let (_other_dir, other_config, _) = place();
    let given = bootstrap_operator_with(&other_config, |_| None).await.unwrap().unwrap();
    let env = |name: &str| (name == ADMIN_TOKEN).then(|| given.expose().to_owned());
    for _ in 0..2 {
        assert!(bootstrap_operator_with(&config, env).await.unwrap().is_none());
    }
    let secrets = Secrets::load_with(&config.gateway.state_dir, |_| None).unwrap();
    let store = Store::connect(&config).await.unwrap();
    tenants::authenticate_admin_token(&store, &secrets, &Clock::System, given.expose()).await.unwrap();
    assert_eq!(store.admin_tokens(&Default::default(), None, 9).await.unwrap().len(), 1);
    let weak = |name: &str| (name == ADMIN_TOKEN).then(|| "admin".to_owned());
    assert_eq!(bootstrap_operator_with(&config, weak).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn keys_in_the_file_that_work_for_another_tenant_are_revoked_when_they_are_replaced() {
    let (_dir, config, file) = place();
    let first = run(&config, &file).await.unwrap();
    let (key, access_key) = (value(&file, API_KEY), value(&file, ACCESS_KEY_ID));
    // The demo tenant is renamed, so the next run makes another one.
    let store = Store::connect(&config).await.unwrap();
    let secrets = Secrets::load_with(&config.gateway.state_dir, |_| None).unwrap();
    let author = Author::command("test");
    let change = Change { store: &store, secrets: &secrets, now: 1, author: &author, once: None };
    let update = tenants::UpdateTenant { name: Some(Name::parse("old").unwrap()), ..Default::default() };
    tenants::update_tenant(change, &first.tenant, update, None).await.unwrap();
    let second = run(&config, &file).await.unwrap();
    assert_ne!(second.tenant, first.tenant);
    assert_eq!(second.renewed, [API_KEY, ACCESS_KEY_ID, SECRET_ACCESS_KEY]);
    check_all_work(&config, &file, &second).await;
    assert!(tenants::authenticate_api_key(&store, &secrets, &Clock::System, &key).await.is_err());
    assert!(tenants::access_key(&store, &secrets, &Clock::System, &access_key).await.is_err());
}

#[tokio::test]
async fn a_token_from_outside_that_can_not_do_all_is_refused_and_one_in_the_file_replaced() {
    let (_dir, config, file) = place();
    run(&config, &file).await.unwrap();
    let secrets = Secrets::load_with(&config.gateway.state_dir, |_| None).unwrap();
    let store = Store::connect(&config).await.unwrap();
    let author = Author::command("test");
    let now = Clock::System.now();
    let change = || Change { store: &store, secrets: &secrets, now, author: &author, once: None };
    let admin = || CreateAdminToken::platform_admin(Name::parse("x").unwrap());
    let scope = |json: serde_json::Value| serde_json::from_value::<tenants::Scope>(json).unwrap();
    let only_administers = scope(serde_json::json!({"operations": ["administer"]}));
    let from_one_place =
        scope(serde_json::json!({"operations": ["read_usage", "administer"], "ip_ranges": ["127.0.0.0/8"]}));
    for input in [
        CreateAdminToken { role: tenants::Role::PlatformViewer, ..admin() },
        CreateAdminToken { scope: only_administers, ..admin() },
        CreateAdminToken { scope: from_one_place, ..admin() },
    ] {
        let made = CreatedAdminToken::generate(&secrets, input, &author, now).unwrap();
        tenants::create_admin_token(change(), &Issuer::command(), &made).await.unwrap();
        let env = |name: &str| (name == ADMIN_TOKEN).then(|| made.text.expose().to_owned());
        for refused in
            [bootstrap_with(&config, &file, env).await.map(drop), bootstrap_operator_with(&config, env).await.map(drop)]
        {
            let error = refused.unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some(ADMIN_TOKEN)));
        }
        let mut lines = Lines::read(&file).unwrap();
        lines.set(ADMIN_TOKEN, made.text.expose());
        lines.write(&file).unwrap();
        assert_eq!(run(&config, &file).await.unwrap().renewed, [ADMIN_TOKEN]);
    }
    let ended = CreatedAdminToken::generate(&secrets, admin(), &author, now).unwrap();
    tenants::create_admin_token(change(), &Issuer::command(), &ended).await.unwrap();
    tenants::revoke_admin_token(change(), &Issuer::command(), &ended.token.id, None).await.unwrap();
    let env = |name: &str| (name == ADMIN_TOKEN).then(|| ended.text.expose().to_owned());
    let error = bootstrap_operator_with(&config, env).await.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Conflict, Some(ADMIN_TOKEN)));
    assert!(error.message.contains("revoked"), "{}", error.message);
}
