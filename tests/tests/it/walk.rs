//! README's ten minutes as an operator, run as they are written.

use caprock_tests::cli::script;
use caprock_tests::environment::checkout;
use caprock_tests::stack::StackSpec;

/// What both walks must show on their way.
fn passes(out: &str) {
    let answers: Vec<&str> = out.lines().filter(|line| line.starts_with("HTTP ")).collect();
    assert_eq!(answers, ["HTTP 200", "HTTP 401"], "an answer before the key is revoked, a refusal after: {out}");
    assert!(out.contains("completion_tokens") && out.contains("project.create"), "{out}");
}

#[tokio::test]
async fn the_walk_by_curl_works_as_it_is_written_and_can_be_repeated() {
    let stack = StackSpec::sim(&[]).start().await;
    for _ in 0..2 {
        let out = script(&stack.gateway, &checkout().join("tests/walk/curl.sh"), stack.dir.path()).await.ok();
        passes(&out);
        for part in [r#""reason":"tightest""#, r#""requests":1"#, r#""outcome":"completed""#] {
            assert!(out.contains(part), "no {part}: {out}");
        }
    }
}

#[tokio::test]
async fn the_walk_by_command_line_works_as_it_is_written_and_can_be_repeated() {
    let stack = StackSpec::sim(&[]).start().await;
    for _ in 0..2 {
        let out = script(&stack.gateway, &checkout().join("tests/walk/cli.sh"), stack.dir.path()).await.ok();
        passes(&out);
        for part in [
            "requests per minute: 60, the project's (the tightest)",
            "settled, completed",
            "ledger entry",
            "is revoked",
        ] {
            assert!(out.contains(part), "no {part}: {out}");
        }
    }
}

#[test]
fn readme_shows_the_walks_as_they_are_run() {
    let readme = std::fs::read_to_string(checkout().join("README.md")).unwrap();
    for name in ["curl", "cli"] {
        let script = std::fs::read_to_string(checkout().join(format!("tests/walk/{name}.sh"))).unwrap();
        let marker = format!("<!-- walk:{name} -->\n```sh\n");
        let (_, after) = readme.split_once(&marker).unwrap_or_else(|| panic!("README has no block after {marker}"));
        let (shown, _) = after.split_once("```\n").unwrap();
        assert_eq!(shown, script, "README's walk by {name} is not tests/walk/{name}.sh");
    }
}
