//! `caprock doctor` on installations that are well, and on some that are not.

use caprock_tests::cli::{caprock, caprock_with};
use caprock_tests::environment;
use caprock_tests::gateway::Database;
use caprock_tests::stack::StackSpec;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// The worst status of a check: one may have several lines.
fn status<'a>(report: &'a Value, check: &str) -> &'a str {
    let found: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == check)
        .map(|finding| finding["status"].as_str().unwrap())
        .collect();
    assert!(!found.is_empty(), "no {check} in {report:#}");
    ["fail", "warn", "ok"].into_iter().find(|status| found.contains(status)).unwrap()
}

fn report(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test]
async fn a_healthy_stack_passes_every_check_on_both_databases() {
    for database in [Database::Sqlite, Database::Postgres] {
        let stack = StackSpec::sim(&[]).on(database).start().await;
        let ran = caprock(&stack.gateway, "doctor --json").await;
        let report = report(&ran.out);
        assert_eq!((ran.code, &report["ok"]), (0, &true.into()), "{database:?}: {report:#}");
        for finding in report["checks"].as_array().unwrap() {
            assert_eq!(finding["status"], "ok", "{database:?}: {finding:#}");
        }
        for check in [
            "config",
            "state_dir",
            "secrets",
            "secret_files",
            "tls",
            "admin_listener",
            "database",
            "schema",
            "clock",
            "credentials",
            "audit_anchor",
            "workers",
            "redis",
            "jwt_issuers",
            "gateway",
        ] {
            assert_eq!(status(&report, check), "ok");
        }
        let lines = caprock(&stack.gateway, "doctor").await.ok();
        assert!(lines.contains("bundled/decode-1 (decode)") && lines.contains(", 0 failed"), "{lines}");
        for name in ["pepper", "master-key", "cluster"] {
            let secret = std::fs::read_to_string(stack.dir.path().join("secrets").join(name)).unwrap();
            assert!(!lines.contains(secret.trim()) && !ran.out.contains(secret.trim()), "{name} was printed");
        }
    }
}

#[tokio::test]
async fn a_dead_worker_is_named() {
    let mut stack = StackSpec::sim(&[]).start().await;
    stack.prefill.kill();
    let ran = caprock(&stack.gateway, "doctor").await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    let line = ran.out.lines().find(|line| line.starts_with("FAIL")).unwrap();
    assert!(line.contains("workers") && line.contains("prefill-1"), "{line}");
    assert!(ran.out.lines().any(|line| line.starts_with("ok") && line.contains("decode-1")), "{}", ran.out);
    assert!(ran.err.contains("failed: workers"), "{}", ran.err);
}

#[tokio::test]
async fn a_wrong_database_is_named_and_its_password_is_not() {
    let stack = StackSpec::sim(&[]).start().await;
    let url = "postgres://caprock:hunter22secret@127.0.0.1:1/caprock";
    let ran = caprock_with(&stack.gateway, "doctor --json", &[("CAPROCK__STORE__URL", url)]).await;
    assert_eq!(ran.code, 1);
    let found = report(&ran.out);
    assert_eq!(status(&found, "database"), "fail");
    assert_eq!(status(&found, "workers"), "ok", "the rest is looked at all the same");
    assert!(!ran.out.contains("hunter22secret") && !ran.err.contains("hunter22secret"), "{}{}", ran.out, ran.err);

    let absent = stack.dir.path().join("absent.db");
    let url = format!("sqlite:{}", absent.display());
    let ran = caprock_with(&stack.gateway, "doctor --json", &[("CAPROCK__STORE__URL", &url)]).await;
    assert_eq!((ran.code, status(&report(&ran.out), "database")), (1, "fail"));
    assert!(!absent.exists(), "doctor made a database");
}

#[tokio::test]
async fn files_that_others_can_read_and_a_log_that_was_cut_are_found() {
    let stack = StackSpec::sim(&[]).start().await;
    let mode = |file: &str, mode| {
        let file = stack.dir.path().join(file);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("secrets/pepper", 0o644);
    mode("caprock.db", 0o640);
    let anchor = stack.dir.path().join("audit.anchor");
    caprock_tests::wait::until("the anchor is there", caprock_tests::wait::SOON, async || {
        anchor.exists().then_some(())
    })
    .await;
    std::fs::write(&anchor, r#"{"seq":1000,"digest":"00"}"#).unwrap();
    let ran = caprock(&stack.gateway, "doctor --json").await;
    let found = report(&ran.out);
    for check in ["secret_files", "database_files", "audit_anchor"] {
        assert_eq!(status(&found, check), "fail", "{check}: {found:#}");
    }
    for check in ["secrets", "database", "gateway"] {
        assert_eq!(status(&found, check), "ok", "{check}: {found:#}");
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_worth_a_look_and_its_password_is_not_shown() {
    let stack = StackSpec::sim(&[]).start().await;
    let look = async |url: &str| {
        let ran = caprock_with(&stack.gateway, "doctor --json", &[("CAPROCK__REDIS__URL", url)]).await;
        assert!(!ran.out.contains("hunter22secret") && !ran.err.contains("hunter22secret"), "{}{}", ran.out, ran.err);
        (ran.code, status(&report(&ran.out), "redis").to_owned())
    };
    assert_eq!(look(&environment::redis_url()).await, (0, "ok".into()));
    assert_eq!(look("redis://:hunter22secret@127.0.0.1:1").await, (0, "warn".into()), "nothing rests on it");
}
