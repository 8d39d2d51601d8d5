use super::*;

fn status_of(found: &[Finding], check: &str) -> Status {
    found.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check} in {found:?}")).status
}

#[tokio::test]
async fn an_empty_folder_is_told_what_to_run_and_nothing_is_made_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("caprock.toml");
    let state = dir.path().join("state");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[gateway]\nstate_dir = '{}'\n[listen]\nadmin = '127.0.0.1:{port}'\n[[jwt_issuer]]\nissuer = 'https://idp.example'\n\
         audience = 'caprock'\nalgorithms = ['RS256']\njwks_file = '{}'\n",
        state.display(),
        dir.path().join("absent.json").display()
    );
    std::fs::write(&file, text).unwrap();
    let found = examine(Some(&file)).await;
    for check in ["state_dir", "secrets", "database", "jwt_issuers"] {
        assert_eq!(status_of(&found, check), Status::Fail, "{check}: {found:?}");
    }
    for check in ["workers", "gateway"] {
        assert_eq!(status_of(&found, check), Status::Warn, "{check}: {found:?}");
    }
    for check in ["config", "tls", "admin_listener", "secret_files"] {
        assert_eq!(status_of(&found, check), Status::Ok, "{check}: {found:?}");
    }
    assert!(!state.exists(), "doctor made something");
    assert!(found.iter().all(|finding| (finding.status == Status::Ok) == finding.hint.is_none()), "{found:?}");
}

#[tokio::test]
async fn a_configuration_that_can_not_be_read_is_the_only_finding() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("caprock.toml");
    std::fs::write(&file, "[gateway]\nidd = 'x'\n").unwrap();
    let found = examine(Some(&file)).await;
    assert_eq!((found.len(), status_of(&found, "config")), (1, Status::Fail));
    let error = run(Doctor { json: true }, Some(&file)).await.unwrap_err();
    assert_eq!(error, "failed: config");
}

#[test]
fn lines_have_a_status_a_name_a_detail_and_a_hint() {
    let found = [Finding::ok("config", "c.toml"), Finding::fail("schema", "it is old", "Run it.")];
    assert_eq!(
        lines(&found),
        "ok    config          c.toml\nFAIL  schema          it is old\n                      -> Run it.\n\n\
         1 ok, 0 to look at, 1 failed\n"
    );
}
