use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> ModelPattern {
    text.parse().unwrap()
}

fn only(patterns: &[&str]) -> ModelAccess {
    ModelAccess::only(patterns.iter().map(|text| pattern(text)).collect()).unwrap()
}

#[test]
fn a_pattern_is_an_id_or_a_prefix() {
    for (text, id, expected) in [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", true),
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:01", false),
        ("amazon.nova-lite-v1:0", "Amazon.nova-lite-v1:0", false),
        ("amazon.nova-*", "amazon.nova-lite-v1:0", true),
        ("amazon.nova-*", "amazon.nova-", true),
        ("amazon.nova-*", "amazon.nov", false),
        ("*", "anything", true),
    ] {
        assert_eq!(pattern(text).matches(id), expected, "{text} {id}");
    }
}

#[test]
fn what_could_never_match_is_no_pattern() {
    for text in ["", "a*b", "**", "a b", "a/b", "é", "*a", "arn:aws:bedrock:x", "arn:*", &"x".repeat(129)] {
        assert_eq!(text.parse::<ModelPattern>(), Err(InvalidAccess::Pattern), "{text}");
    }
    for text in ["us.amazon.nova-lite-v1:0", "eu.amazon.*", "global.*"] {
        assert_eq!(text.parse::<ModelPattern>(), Err(InvalidAccess::Region), "{text}");
    }
    assert!("x".repeat(128).parse::<ModelPattern>().is_ok());
    // Begins like a region, but may go on otherwise.
    assert!("us*".parse::<ModelPattern>().is_ok());
}

#[test]
fn access_is_null_or_a_bounded_list_of_texts() {
    let read = |json: &str| serde_json::from_str::<ModelAccess>(json);
    assert_eq!(read("null").unwrap(), ModelAccess::ALL);
    assert_eq!(read("[]").unwrap(), only(&[]));
    let list = read(r#"["amazon.*","b"]"#).unwrap();
    assert_eq!(list, only(&["amazon.*", "b"]));
    assert_eq!(serde_json::to_string(&list).unwrap(), r#"["amazon.*","b"]"#);
    assert_eq!(serde_json::to_string(&ModelAccess::ALL).unwrap(), "null");
    let many = |n: usize| serde_json::to_string(&vec!["a"; n]).unwrap();
    assert!(read(&many(MAX_PATTERNS)).is_ok());
    assert!(read(&many(MAX_PATTERNS + 1)).unwrap_err().to_string().contains("at most 64"));
    assert!(read(r#"["a b"]"#).is_err() && read("\"a\"").is_err() && read("{}").is_err());
}

#[test]
fn an_empty_list_allows_nothing_and_none_allows_all() {
    assert!(ModelAccess::default().permits("a"));
    assert!(!only(&[]).permits("a"));
    assert!(only(&["b", "a*"]).permits("a"));
}

#[test]
fn each_level_is_explained_and_the_widest_that_denies_is_named() {
    let access = Access { tenant: only(&["x", "a.*"]), project: ModelAccess::ALL, key: only(&["a.one"]) };
    assert_eq!(access.permits("a.one"), Ok(()));
    assert_eq!(access.permits("a.two"), Err(Denied { level: Level::Key }));
    assert_eq!(access.permits("b"), Err(Denied { level: Level::Tenant }));
    let verdict = |level, permitted, reason, matching: Option<&str>| LevelVerdict {
        level,
        permitted,
        reason,
        pattern: matching.map(pattern),
    };
    let expected = Explanation {
        model: "a.two".into(),
        permitted: false,
        levels: vec![
            verdict(Level::Tenant, true, Reason::Included, Some("a.*")),
            verdict(Level::Project, true, Reason::Unrestricted, None),
            verdict(Level::Key, false, Reason::NotIncluded, None),
        ],
    };
    assert_eq!(access.explain("a.two"), expected);
    let nothing = Access { project: only(&[]), ..access };
    assert_eq!(nothing.explain("a.one").levels[1], verdict(Level::Project, false, Reason::NothingAllowed, None));
}

/// Few letters, so that patterns and ids meet often.
fn some_access() -> impl Strategy<Value = ModelAccess> {
    let pattern = "[ab.]{0,3}\\*|[ab.]{1,4}".prop_map(|text: String| pattern(&text));
    prop_oneof![
        1 => Just(ModelAccess::ALL),
        4 => prop::collection::vec(pattern, 0..5).prop_map(|patterns| ModelAccess::only(patterns).unwrap()),
    ]
}

proptest! {
    #[test]
    fn adding_a_level_never_widens_access(
        levels in [some_access(), some_access(), some_access()],
        id in "[ab.]{1,4}",
    ) {
        let chain = |stated: [bool; 3]| {
            let [tenant, project, key] =
                [0, 1, 2].map(|at| if stated[at] { levels[at].clone() } else { ModelAccess::ALL });
            Access { tenant, project, key }
        };
        for mask in 0..8_u8 {
            let stated = [0, 1, 2].map(|at| mask & (1 << at) != 0);
            let permitted = chain(stated).permits(&id).is_ok();
            // Exactly what all stated levels allow.
            let by_all = (0..3).all(|at| !stated[at] || levels[at].permits(&id));
            prop_assert_eq!(permitted, by_all);
            prop_assert_eq!(chain(stated).explain(&id).permitted, permitted);
            for added in 0..3 {
                let mut more = stated;
                more[added] = true;
                prop_assert!(permitted || chain(more).permits(&id).is_err());
            }
        }
    }

    #[test]
    fn what_is_covered_is_never_wider(wide in some_access(), narrow in some_access(), id in "[ab.]{1,4}") {
        if wide.covers(&narrow) {
            prop_assert!(wide.permits(&id) || !narrow.permits(&id));
        }
        prop_assert!(wide.covers(&wide) && ModelAccess::ALL.covers(&wide) && wide.covers(&only(&[])));
    }
}

#[test]
fn a_list_covers_what_each_of_its_patterns_covers() {
    let wide = only(&["a.*", "b"]);
    for (narrow, expected) in [
        (only(&["a.one", "a.b*", "b"]), true),
        (only(&["a*"]), false),
        (only(&["b*"]), false),
        (only(&["b", "c"]), false),
        (ModelAccess::ALL, false),
    ] {
        assert_eq!(wide.covers(&narrow), expected, "{narrow:?}");
    }
    assert!(only(&["*"]).covers(&ModelAccess::ALL));
}

fn texts_of_scope(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn stored_access_is_read_as_it_was_written() {
    assert_eq!(Access::from_stored(None, None, None).unwrap(), Access::default());
    let scope = texts_of_scope(&["a.b"]);
    let access = Access::from_stored(Some(r#"["a.*","c"]"#), Some("[]"), Some(&scope)).unwrap();
    assert_eq!(access, Access { tenant: only(&["a.*", "c"]), project: only(&[]), key: only(&["a.b"]) });
    assert_eq!(access.permits("a.b"), Err(Denied { level: Level::Project }));
    assert_eq!(Access::from_stored(None, None, Some(&[])).unwrap().key, only(&[]), "an empty list allows nothing");
    let common = vec!["a.b".to_owned(); MAX_PATTERNS + 1];
    let access = Access::from_stored(None, None, Some(&common)).unwrap();
    assert!(access.permits("a.b").is_ok(), "where an account's scope and its key's meet, there may be more");
}

#[test]
fn stored_access_that_can_not_be_read_is_an_error_and_never_everything() {
    let many = serde_json::to_string(&vec!["x"; MAX_PATTERNS + 1]).unwrap();
    let unreadable = ["", "null", "{}", "\"a\"", "[1]", r#"["a b"]"#, r#"["us.amazon.*"]"#, r#"["a""#, many.as_str()];
    for text in unreadable {
        for (tenant, project, level) in [(Some(text), None, "tenant"), (None, Some(text), "project")] {
            let error = Access::from_stored(tenant, project, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Internal, "{text}");
            assert!(error.cause().unwrap().to_string().contains(level), "{text}");
        }
    }
    let bad = texts_of_scope(&["a", "a b"]);
    assert_eq!(Access::from_stored(None, None, Some(&bad)).unwrap_err().kind, ErrorKind::Internal);
}
