//! The API's layer on the lower two, and what it refuses.

use super::tests::{BUNDLED, caller, cluster, config, offered, only, own, resolve};
use super::*;
use crate::money::PicousdPerToken;
use std::time::{Duration, Instant};

const NOVA: &str = "amazon.nova-lite-v1:0";
const DAY: Micros = 86_400_000_000;

fn entry(name: &str) -> Entry {
    let price = EntryPrice {
        input: PicousdPerToken(7),
        output: PicousdPerToken(9),
        cache_read: None,
        cache_write: None,
        source: None,
    };
    Entry {
        name: name.into(),
        provider: "Me".into(),
        input_modalities: vec![Modality::Text],
        output_modalities: vec![Modality::Text],
        context_tokens: Some(100),
        max_output_tokens: Some(50),
        default_output_tokens: None,
        streaming: true,
        status: Status::Active,
        price_picousd_per_token: price,
        profiles: vec![],
        deprecation: None,
        stand_in: None,
    }
}

fn model(id: &str, entry: Entry) -> Override {
    Override { id: id.into(), body: OverrideBody::Model(Box::new(entry)) }
}

fn stand_in(id: &str, target: &str) -> Override {
    model(id, Entry { stand_in: Some(target.into()), ..entry("Mine") })
}

fn alias(id: &str, target: &str) -> Override {
    Override { id: id.into(), body: OverrideBody::Alias(Alias { target: target.into() }) }
}

fn stored(rows: &[Override]) -> Vec<StoredOverride> {
    rows.iter().map(|row| row.stored().unwrap()).collect()
}

/// With one cluster that serves the bundled model.
fn served() -> Config {
    config(vec![cluster("c", BUNDLED, &[])], vec![])
}

fn build(config: &Config, rows: &[Override]) -> Snapshot {
    Snapshot::build(config, &stored(rows)).unwrap()
}

fn complaints(snapshot: &Snapshot) -> Vec<String> {
    snapshot.complaints().iter().map(ToString::to_string).collect()
}

/// What the API says to `change`, and what a start with the same rows says.
fn refused(config: &Config, rows: &[Override], change: Override) -> (ErrorKind, Option<String>) {
    let error = Snapshot::admit(config, &stored(rows), &Change::Set(change.clone())).unwrap_err();
    if error.kind == ErrorKind::Invalid {
        let mut all = rows.to_vec();
        all.push(change.clone());
        let snapshot = build(config, &all);
        let about = snapshot.complaints().iter().find(|complaint| complaint.id == change.id);
        assert_eq!(about.map(|complaint| &complaint.param), error.param.as_ref(), "one rule for both: {error}");
    }
    (error.kind, error.param)
}

fn invalid(param: &str) -> (ErrorKind, Option<String>) {
    (ErrorKind::Invalid, Some(param.into()))
}

#[test]
fn of_each_two_layers_the_higher_wins_whole_and_gives_way_when_it_is_removed() {
    let of = |snapshot: &Snapshot, id: &str| {
        let (_, model) = snapshot.find(id)?;
        Some((model.layer, model.name.clone(), model.price.input.0))
    };
    let plain = served();
    let file = config(vec![cluster("c", BUNDLED, &[])], vec![own(NOVA), own("me.mine")]);
    let compiled_in = of(&Snapshot::load(&plain).unwrap(), NOVA).unwrap();
    assert_eq!((compiled_in.0, compiled_in.2), (Layer::CompiledIn, 60_000));
    let in_file = Some((Layer::Configuration, "Mine".to_owned(), 1));
    let in_api = Some((Layer::Api, "From the API".to_owned(), 7));
    let row = |id: &str| model(id, entry("From the API"));

    assert_eq!(of(&build(&file, &[]), NOVA), in_file, "the file over what is compiled in");
    assert_eq!(of(&build(&plain, &[row(NOVA)]), NOVA), in_api, "the API over what is compiled in");
    assert_eq!(of(&build(&file, &[row(NOVA)]), NOVA), in_api, "the API over the file");
    assert_eq!(of(&build(&file, &[row("me.mine")]), "me.mine"), in_api);
    assert_eq!(of(&build(&file, &[row("me.new")]), "me.new"), in_api, "the API alone");
    // Whole: nothing of the entry beneath, such as the price of a regional profile, shines through.
    let beneath = build(&plain, &[row("amazon.nova-2-lite-v1:0")]);
    assert_eq!(beneath.find("us.amazon.nova-2-lite-v1:0").unwrap().1.price.input.0, 7);

    let remove = |config: &Config, id: &str| {
        let rows = stored(&[row(id)]);
        of(&Snapshot::admit(config, &rows, &Change::Remove(id.into())).unwrap(), id)
    };
    assert_eq!(remove(&plain, NOVA), Some(compiled_in));
    assert_eq!(remove(&file, NOVA), in_file);
    assert_eq!(remove(&file, "me.new"), None);
}

#[test]
fn an_overridden_model_keeps_its_place_and_new_ones_come_last_in_order() {
    let plain = Snapshot::load(&served()).unwrap();
    let ids = |snapshot: &Snapshot| snapshot.models().iter().map(|model| model.id.clone()).collect::<Vec<_>>();
    let mut expected = ids(&plain);
    expected.extend(["a.new".to_owned(), "b.new".to_owned()]);
    let rows = ["b.new", NOVA, "a.new"].map(|id| model(id, entry("Mine")));
    let snapshot = build(&served(), &rows);
    assert_eq!(ids(&snapshot), expected);
    assert_eq!(complaints(&snapshot), [""; 0]);
}

#[test]
fn a_locked_catalog_refuses_changes_and_ignores_the_rows_that_are_there() {
    let mut locked = served();
    locked.catalog.locked = true;
    let rows = [alias("fast", BUNDLED), model(NOVA, entry("Mine"))];
    let snapshot = build(&locked, &rows);
    assert_eq!(snapshot.find(NOVA).unwrap().1.layer, Layer::CompiledIn);
    assert!(snapshot.find("fast").is_none());
    assert_eq!((snapshot.ignored(), complaints(&snapshot)), (&[NOVA.to_owned(), "fast".to_owned()][..], vec![]));
    for change in [Change::Set(model("me.new", entry("Mine"))), Change::Remove("fast".into())] {
        let error = Snapshot::admit(&locked, &stored(&rows), &change).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.message.contains("[catalog] locked = true"), "{error}");
    }
    locked.catalog.locked = false;
    let unlocked = build(&locked, &rows);
    assert_eq!((unlocked.find(NOVA).unwrap().1.layer, unlocked.ignored().len()), (Layer::Api, 0));
}

#[test]
fn an_alias_answers_as_its_model_and_the_ledger_names_that_model() {
    let config = config(vec![cluster("c", BUNDLED, &[NOVA])], vec![]);
    let rows = [alias("fast", BUNDLED), alias("smart", NOVA), alias("later", "amazon.nova-pro-v1:0")];
    let snapshot = build(&config, &rows);
    assert_eq!(complaints(&snapshot), [""; 0]);

    let fast = resolve(&snapshot, "fast").unwrap();
    assert_eq!((fast.asked.as_str(), fast.model.id.as_str(), fast.stand_in()), ("fast", BUNDLED, None));
    assert_eq!(fast.model.price.output.0, 40_000);
    let smart = resolve(&snapshot, "smart").unwrap();
    assert_eq!((smart.asked.as_str(), smart.entry.id.as_str()), ("smart", NOVA));
    assert_eq!((smart.model.id.as_str(), smart.stand_in()), (BUNDLED, Some(BUNDLED)));
    assert_eq!(resolve(&snapshot, "later").unwrap_err().kind, ErrorKind::ModelNotServed);
    assert_eq!(resolve(&snapshot, "us.fast").unwrap_err().kind, ErrorKind::ModelNotFound);

    assert_eq!(offered(&snapshot, &Access::default()), [BUNDLED, NOVA, "fast", "smart"]);
    let offer = snapshot.offer(&Access::default(), "smart").unwrap();
    assert_eq!((offer.id, offer.alias_of(), offer.model.provider.as_str()), ("smart", Some(NOVA), "Amazon"));
    assert!(snapshot.models().iter().all(|model| model.id != "fast"), "not a model of the catalog");
}

#[test]
fn an_aliass_access_is_its_models() {
    let snapshot = build(&served(), &[alias("fast", BUNDLED)]);
    let by_alias = Access { key: only(&["fast"]), ..Access::default() };
    let refusal = snapshot.resolve(&caller(by_alias.clone()), "fast", 0).unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::Forbidden);
    assert!(snapshot.offer(&by_alias, "fast").is_none() && offered(&snapshot, &by_alias).is_empty());
    let by_model = Access { key: only(&[BUNDLED]), ..Access::default() };
    assert_eq!(snapshot.resolve(&caller(by_model.clone()), "fast", 0).unwrap().model.id, BUNDLED);
    assert_eq!(offered(&snapshot, &by_model), [BUNDLED, "fast"]);
}

#[test]
fn an_alias_of_an_alias_of_nothing_or_in_a_models_place_is_refused() {
    let (config, rows) = (served(), [alias("fast", BUNDLED)]);
    assert_eq!(refused(&config, &rows, alias("faster", "fast")), invalid("target"));
    assert_eq!(refused(&config, &rows, alias("self", "self")), invalid("target"));
    assert_eq!(refused(&config, &rows, alias("ghost", "no.such")), invalid("target"));
    assert_eq!(refused(&config, &rows, alias("profile", "us.amazon.nova-2-lite-v1:0")), invalid("target"));
    assert_eq!(refused(&config, &rows, alias(NOVA, BUNDLED)), invalid("id"));
    assert_eq!(refused(&config, &rows, alias("us.fast", BUNDLED)), invalid("id"));
    assert_eq!(refused(&config, &rows, alias("arn:fast", BUNDLED)), invalid("id"));
    // One row can't turn from the one into the other, which would hide an id that callers use.
    assert_eq!(refused(&config, &rows, model("fast", entry("Mine"))).0, ErrorKind::Conflict);
    let rows = [model("me.new", entry("Mine"))];
    assert_eq!(refused(&config, &rows, alias("me.new", BUNDLED)).0, ErrorKind::Conflict);
}

#[test]
fn a_model_that_the_file_adds_later_wins_over_an_alias_of_its_id() {
    let rows = [alias("me.mine", BUNDLED)];
    assert!(complaints(&build(&served(), &rows)).is_empty());
    let later = build(&config(vec![], vec![own("me.mine")]), &rows);
    assert_eq!(later.find("me.mine").unwrap().1.layer, Layer::Configuration);
    assert_eq!(complaints(&later), ["me.mine: `id` is a model's, which an alias must not hide"]);
}

#[test]
fn a_stand_in_of_the_api_wins_over_the_configurations_and_null_gives_that_one_back() {
    let clusters = vec![cluster("one", BUNDLED, &[NOVA]), cluster("two", "me.mine", &[])];
    let config = config(clusters, vec![own("me.mine")]);
    let answering = |rows: &[Override], id: &str| {
        let route = resolve(&build(&config, rows), id).ok()?;
        Some((route.model.id.clone(), route.upstream))
    };
    let by = |model: &str, upstream: &str| Some((model.to_owned(), upstream.to_owned()));
    assert_eq!(answering(&[stand_in(NOVA, "me.mine")], NOVA), by("me.mine", "two"));
    assert_eq!(answering(&[model(NOVA, entry("Mine"))], NOVA), by(BUNDLED, "one"), "the configuration's stays");
    assert_eq!(answering(&[stand_in("me.new", BUNDLED)], "me.new"), by(BUNDLED, "one"));
    assert_eq!(answering(&[model("me.new", entry("Mine"))], "me.new"), None);

    let current = build(&config, &[stand_in("me.new", BUNDLED)]);
    let patch = EntryPatch { stand_in: Some(None), ..EntryPatch::default() };
    let cleared = current.entry("me.new").unwrap().apply("me.new", patch, 0).unwrap();
    assert_eq!(answering(&[model("me.new", cleared)], "me.new"), None);
}

#[test]
fn a_stand_in_must_be_served_by_an_upstream_and_fit_its_model() {
    let config = config(vec![cluster("c", BUNDLED, &[NOVA])], vec![]);
    let rows = [stand_in("me.second", BUNDLED)];
    for target in ["no.such", NOVA, "me.second", "me.new", "amazon.nova-pro-v1:0"] {
        assert_eq!(refused(&config, &rows, stand_in("me.new", target)), invalid("stand_in"), "{target}");
    }
    assert_eq!(refused(&config, &[], stand_in(BUNDLED, BUNDLED)), invalid("stand_in"));
    let speech = Entry { output_modalities: vec![Modality::Audio], ..entry("Speech") };
    let with = Entry { stand_in: Some(BUNDLED.into()), ..speech.clone() };
    assert_eq!(refused(&config, &[], model("me.new", with)), invalid("stand_in"));
    assert!(Snapshot::admit(&config, &[], &Change::Set(model("me.new", speech.clone()))).is_ok());
    for id in [BUNDLED, NOVA] {
        assert_eq!(refused(&config, &[], model(id, speech.clone())), invalid("output_modalities"), "{id}");
    }
}

#[test]
fn a_row_that_no_longer_fits_keeps_no_gateway_from_starting_and_loses_as_little_as_possible() {
    let mut deprecated = entry("Mine");
    deprecated.stand_in = Some(BUNDLED.into());
    deprecated.deprecation = Some(Deprecation {
        message: Some("Old.".into()),
        replacement: Some("me.mine".into()),
        deprecated_at: 0,
        sunset_at: None,
    });
    let rows = [model(NOVA, deprecated), alias("fast", "me.mine"), model("us.bad", entry("Mine"))];
    let before = config(vec![cluster("c", BUNDLED, &[])], vec![own("me.mine")]);
    assert_eq!(complaints(&build(&before, &rows)).len(), 1);

    // The cluster and the model of the file are gone.
    let after = build(&config(vec![], vec![]), &rows);
    assert_eq!(
        complaints(&after),
        [
            "us.bad: `id` must not begin with a region or be an ARN",
            "amazon.nova-lite-v1:0: `stand_in` must be a model that an upstream serves here",
            "amazon.nova-lite-v1:0: `deprecation.replacement` is no model of the catalog",
            "fast: `target` is no model of the catalog",
        ]
    );
    let (_, nova) = after.find(NOVA).unwrap();
    assert_eq!((nova.layer, nova.price.input.0, &nova.serving), (Layer::Api, 7, &Serving::Nobody));
    let deprecation = nova.deprecation.as_ref().unwrap();
    assert_eq!((deprecation.message.as_deref(), &deprecation.replacement), (Some("Old."), &None));
    // The entry itself is kept as it was set, so that a further change has to deal with it.
    let patch = EntryPatch { name: Some("Other".into()), ..EntryPatch::default() };
    let patched = after.entry(NOVA).unwrap().apply(NOVA, patch, 0).unwrap();
    let change = Change::Set(model(NOVA, patched));
    let error = Snapshot::admit(&config(vec![], vec![]), &stored(&rows), &change).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("stand_in"));
}

#[test]
fn a_row_that_can_not_be_read_is_left_out() {
    let row = |id: &str, body: &str| StoredOverride { id: id.into(), body: body.into() };
    let huge = format!("{{\"alias\":{{\"target\":\"{}\"}}}}", "x".repeat(17_000));
    let mut later: serde_json::Value =
        serde_json::from_str(&model(NOVA, entry("Mine")).stored().unwrap().body).unwrap();
    later["model"]["colour"] = "red".into();
    let rows = [
        row("a", "not json"),
        row("b", "{\"fable\":{}}"),
        row("c", "{\"alias\":{\"target\":\"x\",\"more\":1}}"),
        row("d", &huge),
        row(NOVA, &later.to_string()),
        row("\u{1b}[31m", "{}"),
        alias("fast", BUNDLED).stored().unwrap(),
    ];
    let snapshot = Snapshot::build(&served(), &rows).unwrap();
    let ids: Vec<&str> = snapshot.complaints().iter().map(|complaint| complaint.id.as_str()).collect();
    assert_eq!(ids, ["[31m", "a", NOVA, "b", "c", "d"]);
    assert!(snapshot.complaints().iter().all(|complaint| complaint.param == "body"));
    assert_eq!(snapshot.find(NOVA).unwrap().1.layer, Layer::CompiledIn);
    assert_eq!(resolve(&snapshot, "fast").unwrap().model.id, BUNDLED);
    // The way out: set anew, or removed.
    assert!(Snapshot::admit(&served(), &rows, &Change::Set(model(NOVA, entry("Mine")))).is_ok());
    assert!(Snapshot::admit(&served(), &rows, &Change::Remove("a".into())).is_ok());
}

#[test]
fn a_change_that_would_break_another_row_is_refused_and_names_it() {
    let mut old = entry("Old");
    old.deprecation =
        Some(Deprecation { message: None, replacement: Some("me.new".into()), deprecated_at: 0, sunset_at: None });
    let rows = [model("me.new", entry("Mine")), alias("fast", "me.new"), model(NOVA, old)];
    let remove = |rows: &[Override], id: &str| {
        Snapshot::admit(&served(), &stored(rows), &Change::Remove(id.into()))
            .map_err(|error| (error.kind, error.message))
    };
    let (kind, message) = remove(&rows, "me.new").unwrap_err();
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("amazon.nova-lite-v1:0: `deprecation.replacement`"), "{message}");
    let (_, message) = remove(&rows[..2], "me.new").unwrap_err();
    assert!(message.contains("fast: `target`"), "{message}");
    assert!(remove(&rows[..1], "me.new").is_ok());
    assert!(remove(&rows, "fast").is_ok());
    assert_eq!(remove(&rows, "no.such").unwrap_err().0, ErrorKind::NotFound);
}

#[test]
fn a_deprecated_model_answers_until_its_sunset_and_not_a_microsecond_longer() {
    let mut going = stand_in(NOVA, BUNDLED);
    if let OverrideBody::Model(entry) = &mut going.body {
        entry.deprecation = Some(Deprecation {
            message: None,
            replacement: Some(BUNDLED.into()),
            deprecated_at: DAY,
            sunset_at: Some(2 * DAY),
        });
    }
    let snapshot = build(&served(), &[going, alias("smart", NOVA)]);
    let caller = caller(Access::default());
    for name in [NOVA, "eu.amazon.nova-lite-v1:0", "smart"] {
        let route = snapshot.resolve(&caller, name, 2 * DAY - 1).unwrap();
        assert_eq!(route.entry.deprecation.as_ref().unwrap().sunset_at, Some(2 * DAY), "{name}");
        let refusal = snapshot.resolve(&caller, name, 2 * DAY).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::ModelNotServed);
        let expected = format!("The model {NOVA} was withdrawn on 1970-01-03. Use {BUNDLED} instead.");
        assert_eq!(refusal.message, expected, "{name}");
    }
    let names = |now| snapshot.offers(&Access::default(), now).map(|offer| offer.id).collect::<Vec<_>>();
    assert_eq!(names(2 * DAY - 1), [BUNDLED, NOVA, "smart"]);
    assert_eq!(names(2 * DAY), [BUNDLED]);
    // It can still be looked up, so that a caller finds what to use instead.
    let offer = snapshot.offer(&Access::default(), NOVA).unwrap();
    assert!(offer.model.is_served(DAY) && !offer.model.is_served(2 * DAY));
}

#[test]
fn ten_thousand_rows_are_read_fast_and_only_the_first_two_thousand_count() {
    let row = |at: usize| match at % 2 {
        0 => stand_in(&format!("m.{at:05}"), BUNDLED),
        _ => alias(&format!("a.{at:05}"), &format!("m.{:05}", at - 1)),
    };
    let mut rows = stored(&(0..10_000).map(row).collect::<Vec<_>>());
    let begun = Instant::now();
    let snapshot = Snapshot::build(&served(), &rows).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    // By id, aliases come first here: 2,000 of them are read, and none finds its model.
    assert_eq!((snapshot.models().len(), snapshot.aliases().count()), (72, 0));
    assert_eq!(snapshot.complaints().len(), MAX_OVERRIDES + 1);
    let left_out = snapshot.complaints().iter().find(|complaint| complaint.id == "a.04001").unwrap();
    assert_eq!(left_out.rule, "and 7999 more rows are beyond the 2000 that a catalog takes");

    rows.truncate(MAX_OVERRIDES);
    let snapshot = Snapshot::build(&served(), &rows).unwrap();
    assert_eq!((snapshot.models().len(), snapshot.aliases().count()), (1_072, 1_000));
    assert!(snapshot.complaints().is_empty());
    let full = Snapshot::admit(&served(), &rows, &Change::Set(alias("fast", BUNDLED))).unwrap_err();
    assert_eq!(full.kind, ErrorKind::Conflict);
    assert!(Snapshot::admit(&served(), &rows, &Change::Set(alias("a.00001", BUNDLED))).is_ok(), "one that is there");
    // However many got into the database, they can be taken out one by one.
    let over = stored(&(0..2_010).map(|at| alias(&format!("a.{at:05}"), "no.such")).collect::<Vec<_>>());
    assert!(Snapshot::admit(&served(), &over, &Change::Remove("a.00001".into())).is_ok());
}
