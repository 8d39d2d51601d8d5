//! What README shows, run as it is written.

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

#[tokio::test]
async fn a_stream_that_is_left_goes_on_where_it_was_as_readme_says() {
    let stack = StackSpec::sim(&["step-ms=20", "answer-tokens=30"]).start().await;
    let out = script(&stack.gateway, &checkout().join("tests/walk/resume.sh"), stack.dir.path()).await.ok();
    assert!(out.len() > 60 * 100, "{out}");
    let (in_two_parts, whole) = out.split_at(out.len() / 2);
    assert_eq!(in_two_parts, whole);
    assert!(whole.starts_with("id: 0\ndata: ") && whole.ends_with("data: [DONE]\n\n"), "{whole}");
    assert_eq!(stack.balanced().await.len(), 1, "one generation for all of it");
}

#[test]
fn readme_shows_the_walks_as_they_are_run() {
    let readme = std::fs::read_to_string(checkout().join("README.md")).unwrap();
    for name in ["curl", "cli", "resume"] {
        let script = std::fs::read_to_string(checkout().join(format!("tests/walk/{name}.sh"))).unwrap();
        let marker = format!("<!-- walk:{name} -->\n```sh\n");
        let (_, after) = readme.split_once(&marker).unwrap_or_else(|| panic!("README has no block after {marker}"));
        let (shown, _) = after.split_once("```\n").unwrap();
        assert_eq!(shown, script, "README's walk by {name} is not tests/walk/{name}.sh");
    }
}
