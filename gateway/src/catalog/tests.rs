use super::*;
use crate::config::{Cluster, ModelEntry, Worker};
use crate::id::{ProjectId, TenantId};
use crate::money::PicousdPerToken;
use crate::quota::Limits;

pub(super) const BUNDLED: &str = "huggingface.smollm2-135m-instruct";

pub(super) fn cluster(name: &str, model: &str, stands_in_for: &[&str]) -> Cluster {
    Cluster {
        name: name.into(),
        model: model.into(),
        stands_in_for: stands_in_for.iter().map(|id| (*id).into()).collect(),
        decode: vec![Worker { id: "d".into(), address: "127.0.0.1:1".into() }],
        prefill: vec![],
        min_remote_prefill_tokens: 0,
    }
}

pub(super) fn own(id: &str) -> ModelEntry {
    ModelEntry {
        id: id.into(),
        name: "Mine".into(),
        provider: "Me".into(),
        context_tokens: 2048,
        max_output_tokens: None,
        default_output_tokens: None,
        input_picousd_per_token: 1,
        output_picousd_per_token: 2,
    }
}

pub(super) fn config(clusters: Vec<Cluster>, models: Vec<ModelEntry>) -> Config {
    let mut config = Config::load(None).unwrap();
    config.cluster = clusters;
    config.model = models;
    config
}

fn load(clusters: Vec<Cluster>, models: Vec<ModelEntry>) -> Result<Snapshot> {
    Snapshot::load(&config(clusters, models))
}

pub(super) fn caller(access: Access) -> Principal {
    let caller = crate::store::testing::developer(TenantId::new(), ProjectId::new(), Limits::default());
    Principal { access: Arc::new(access), ..caller }
}

pub(super) fn resolve(snapshot: &Snapshot, name: &str) -> Result<Route> {
    snapshot.resolve(&caller(Access::default()), name, 0)
}

/// Names that answer, as a caller with `access` sees them.
pub(super) fn offered(snapshot: &Snapshot, access: &Access) -> Vec<String> {
    snapshot.offers(access, 0).map(|offer| offer.id.to_owned()).collect()
}

pub(super) fn only(patterns: &[&str]) -> ModelAccess {
    ModelAccess::only(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect()).unwrap()
}

#[test]
fn prices_are_the_sources_usd_figures() {
    let snapshot = load(vec![], vec![]).unwrap();
    // USD per million tokens: input, output, read from cache.
    for (id, input, output, cache_read) in [
        ("amazon.nova-micro-v1:0", 0.035, 0.14, Some(0.00875)),
        ("amazon.nova-2-lite-v1:0", 0.3, 2.5, Some(0.075)),
        ("deepseek.r1-v1:0", 1.35, 5.4, None),
        ("meta.llama3-3-70b-instruct-v1:0", 0.72, 0.72, None),
        ("openai.gpt-oss-20b-1:0", 0.07, 0.3, None),
        ("us.zai.glm-5.3", 1.848, 5.808, Some(0.3432)),
        (BUNDLED, 0.02, 0.04, None),
    ] {
        let price = &snapshot.find(id).unwrap().1.price;
        let picousd = |usd: f64| PicousdPerToken((usd * 1e6).round() as i64);
        assert_eq!((price.input, price.output), (picousd(input), picousd(output)), "{id}");
        assert_eq!(price.cache_read, cache_read.map(picousd), "{id}");
    }
}

#[test]
fn answers_have_a_default_length_within_the_largest() {
    let snapshot = load(vec![], vec![]).unwrap();
    let tokens = |id: &str| snapshot.find(id).unwrap().1.default_output_tokens;
    assert_eq!((tokens(BUNDLED), tokens("amazon.nova-lite-v1:0")), (1024, 4096));
    let known =
        snapshot.models().iter().filter_map(|model| Some((model.default_output_tokens, model.max_output_tokens?)));
    known.for_each(|(default, largest)| assert!(default <= largest));
}

#[test]
fn a_model_is_found_by_id_profile_and_arn() {
    let id = "amazon.nova-2-lite-v1:0";
    let snapshot = load(vec![cluster("c", BUNDLED, &[id])], vec![]).unwrap();
    for name in [
        id,
        "us.amazon.nova-2-lite-v1:0",
        "eu.amazon.nova-2-lite-v1:0",
        "global.amazon.nova-2-lite-v1:0",
        "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-2-lite-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-2-lite-v1:0",
    ] {
        let route = resolve(&snapshot, name).unwrap();
        assert_eq!((route.asked.as_str(), route.model.id.as_str()), (id, BUNDLED), "{name}");
        assert_eq!((route.stand_in(), route.upstream.as_str()), (Some(BUNDLED), "c"));
        let own_price = name.contains("us.amazon");
        assert_eq!(route.entry.price.input.0, if own_price { 330_000 } else { 300_000 }, "{name}");
    }
    for name in ["Amazon.nova-2-lite-v1:0", "xx.amazon.nova-2-lite-v1:0", "us.", "amazon.nova-9\n", ""] {
        assert_eq!(resolve(&snapshot, name).unwrap_err().kind, ErrorKind::ModelNotFound, "{name}");
    }
}

#[test]
fn a_model_that_is_served_answers_for_itself() {
    let snapshot = load(vec![cluster("c", BUNDLED, &[])], vec![]).unwrap();
    let route = resolve(&snapshot, BUNDLED).unwrap();
    assert_eq!((route.stand_in(), route.model.price.output.0), (None, 40_000));
    assert_eq!(offered(&snapshot, &Access::default()), [BUNDLED]);
}

#[test]
fn a_model_that_nobody_serves_says_so_and_names_those_that_are() {
    let snapshot = load(vec![cluster("c", BUNDLED, &["amazon.nova-lite-v1:0"])], vec![]).unwrap();
    let error = resolve(&snapshot, "amazon.nova-pro-v1:0").unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotServed);
    for text in ["amazon.nova-pro-v1:0", "no upstream serves it", BUNDLED, "amazon.nova-lite-v1:0"] {
        assert!(error.message.contains(text), "{}", error.message);
    }
    let nothing = resolve(&load(vec![], vec![]).unwrap(), BUNDLED).unwrap_err();
    assert!(nothing.message.contains("No model is served here"), "{}", nothing.message);
}

#[test]
fn an_unknown_name_is_repeated_briefly_and_without_control_characters() {
    let snapshot = load(vec![], vec![]).unwrap();
    let error = resolve(&snapshot, &format!("\u{1b}[31m{}", "x".repeat(1000))).unwrap_err();
    assert!(error.message.len() < 300 && !error.message.contains('\u{1b}'));
}

#[test]
fn the_configuration_is_told_all_that_is_wrong_at_once() {
    let clusters = vec![
        cluster("a", "no.such-model", &["amazon.nova-typo", "amazon.nova-lite-v1:0"]),
        cluster("b", BUNDLED, &["amazon.nova-lite-v1:0", "amazon.nova-2-sonic-v1:0", BUNDLED]),
    ];
    let mut wrong = own("us.mine");
    wrong.input_picousd_per_token = -1;
    let error = load(clusters, vec![wrong, own("has space"), own("twice"), own("twice")]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    for text in [
        "`no.such-model`",
        "`amazon.nova-typo`",
        "`amazon.nova-lite-v1:0`, which is served already",
        "`amazon.nova-2-sonic-v1:0`, which does not answer text",
        "`huggingface.smollm2-135m-instruct`, which is served already",
        "begin with a region",
        "negative",
        "`has space`",
        "`twice` is configured twice",
    ] {
        assert!(error.message.contains(text), "{text} in:\n{}", error.message);
    }
}

#[test]
fn an_operator_adds_a_model_or_sets_a_price() {
    let snapshot = load(vec![cluster("c", "me.mine", &[])], vec![own("me.mine"), own(BUNDLED)]).unwrap();
    let route = resolve(&snapshot, "me.mine").unwrap();
    assert_eq!((route.model.max_output_tokens, route.model.default_output_tokens), (Some(2048), 2048));
    assert_eq!(snapshot.find(BUNDLED).unwrap().1.price.output, PicousdPerToken(2));
    assert_eq!(snapshot.models().len(), 73);
}

#[test]
fn the_configurations_own_example_loads() {
    let example: String = crate::config::DEFAULTS
        .lines()
        .skip_while(|line| *line != "# [[model]]")
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("caprock.toml");
    std::fs::write(&file, example).unwrap();
    let config = Config::load(Some(&file)).unwrap();
    let snapshot = Snapshot::load(&config).unwrap();
    assert_eq!(snapshot.find("example.my-model-v1:0").unwrap().1.default_output_tokens, 1024);
}

#[test]
fn a_model_is_refused_at_each_level_that_does_not_include_it() {
    let id = "amazon.nova-2-lite-v1:0";
    let snapshot = load(vec![cluster("c", BUNDLED, &[id])], vec![]).unwrap();
    let (nova, other) = (only(&["amazon.nova-2-*"]), only(&[BUNDLED]));
    let all = ModelAccess::ALL;
    for (tenant, project, key, denied_by) in [
        (&all, &all, &all, None),
        (&nova, &nova, &nova, None),
        (&other, &all, &all, Some("tenant")),
        (&all, &other, &all, Some("project")),
        (&nova, &nova, &other, Some("key")),
        (&nova, &other, &other, Some("project")),
        (&only(&[]), &all, &all, Some("tenant")),
    ] {
        let access = Access { tenant: tenant.clone(), project: project.clone(), key: key.clone() };
        let caller = caller(access);
        // A profile's access is its base model's, and a stand-in needs none of its own.
        for name in [id, "us.amazon.nova-2-lite-v1:0", "eu.amazon.nova-2-lite-v1:0"] {
            let resolved = snapshot.resolve(&caller, name, 0);
            match denied_by {
                None => assert_eq!(resolved.unwrap().model.id, BUNDLED),
                Some(level) => {
                    let refusal = resolved.unwrap_err();
                    assert_eq!(refusal.kind, ErrorKind::Forbidden);
                    let expected = format!(
                        "This credential has no access to the model {id}: the {level}'s model access does not include it."
                    );
                    assert_eq!(refusal.message, expected, "{name}");
                }
            }
        }
        assert_eq!(offered(&snapshot, &caller.access).contains(&id.to_owned()), denied_by.is_none());
        assert_eq!(snapshot.offer(&caller.access, id).is_some(), denied_by.is_none());
    }
}

#[test]
fn a_refusal_names_no_model_that_the_caller_has_no_access_to() {
    let snapshot = load(vec![cluster("c", BUNDLED, &["amazon.nova-lite-v1:0"])], vec![]).unwrap();
    let caller = caller(Access { project: only(&["amazon.nova-*"]), ..Access::default() });
    let refusal = snapshot.resolve(&caller, "amazon.nova-pro-v1:0", 0).unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::ModelNotServed);
    assert!(refusal.message.ends_with("Served here: amazon.nova-lite-v1:0."), "{}", refusal.message);
}
