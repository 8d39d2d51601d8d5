//! Builds the snapshot: what is compiled in, then what the configuration adds, then who serves what.

use super::name::ModelName;
use super::{Modality, Model, Price, Serving, Snapshot, Status};
use crate::config::{Cluster, Config, ModelEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::money::PicousdPerToken;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

const COMPILED_IN: &str = include_str!("models.toml");
/// Output tokens of a request that sets no maximum, where nothing else is stated.
const DEFAULT_OUTPUT_TOKENS: u32 = 4096;
/// Longest name of a model or provider, in characters, as the Bedrock API has it.
const MAX_NAME_CHARS: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: String,
    provider: String,
    input: Vec<Modality>,
    output: Vec<Modality>,
    context_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
    default_output_tokens: Option<u32>,
    #[serde(default = "yes")]
    streaming: bool,
    #[serde(default = "active")]
    status: Status,
    price: Price,
    #[serde(default)]
    profile: Vec<Profile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    id: String,
    price: Price,
}

fn yes() -> bool {
    true
}

fn active() -> Status {
    Status::Active
}

pub(super) fn load(config: &Config) -> Result<Snapshot> {
    let mut entries = compiled_in()?;
    let mut complaints = Vec::new();
    for (at, own) in config.model.iter().enumerate() {
        complaints.extend(complaints_about(own));
        if config.model[..at].iter().any(|other| other.id == own.id) {
            complaints.push(format!("model `{}` is configured twice", own.id));
        }
        let own = Entry::from(own);
        match entries.iter_mut().find(|entry| entry.id == own.id) {
            Some(entry) => *entry = own,
            None => entries.push(own),
        }
    }
    let serving = serving(&config.cluster, &entries, &mut complaints);
    if complaints.is_empty() {
        Ok(snapshot(entries, serving))
    } else {
        Err(Error::new(ErrorKind::Invalid, complaints.join("\n")))
    }
}

fn compiled_in() -> Result<Vec<Entry>> {
    Ok(toml::from_str::<File>(COMPILED_IN).map_err(Error::internal)?.model)
}

fn complaints_about(own: &ModelEntry) -> Vec<String> {
    let spelled = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    let named = |text: &str| (1..=MAX_NAME_CHARS).contains(&text.chars().count());
    let max_output_tokens = own.max_output_tokens.unwrap_or(own.context_tokens);
    let rules = [
        (
            spelled(&own.id) && (1..=128).contains(&own.id.len()),
            "its id must be 1 to 128 of letters, digits and . _ : -",
        ),
        (matches!(ModelName::parse(&own.id), Some(ModelName::Base(_))), "its id must not begin with a region"),
        (named(&own.name) && named(&own.provider), "its name and provider must have 1 to 20 characters"),
        (own.input_picousd_per_token >= 0 && own.output_picousd_per_token >= 0, "its prices must not be negative"),
        ((1..=own.context_tokens).contains(&max_output_tokens), "its answer must fit its context"),
        (
            own.default_output_tokens.is_none_or(|tokens| (1..=max_output_tokens).contains(&tokens)),
            "its default answer must be at most its largest",
        ),
    ];
    let broken = rules.into_iter().filter(|(kept, _)| !kept);
    broken.map(|(_, rule)| format!("model `{}`: {rule}", own.id)).collect()
}

impl From<&ModelEntry> for Entry {
    fn from(own: &ModelEntry) -> Entry {
        Entry {
            id: own.id.clone(),
            name: own.name.clone(),
            provider: own.provider.clone(),
            input: vec![Modality::Text],
            output: vec![Modality::Text],
            context_tokens: Some(own.context_tokens),
            max_output_tokens: Some(own.max_output_tokens.unwrap_or(own.context_tokens)),
            default_output_tokens: own.default_output_tokens,
            streaming: true,
            status: Status::Active,
            price: Price {
                input: PicousdPerToken(own.input_picousd_per_token),
                output: PicousdPerToken(own.output_picousd_per_token),
                cache_read: None,
                cache_write: None,
                source: "this gateway's configuration".into(),
            },
            profile: Vec::new(),
        }
    }
}

/// Who serves which id. A cluster that names something impossible adds a complaint.
fn serving(clusters: &[Cluster], entries: &[Entry], complaints: &mut Vec<String>) -> HashMap<String, Serving> {
    let wanted = clusters.iter().flat_map(|cluster| {
        let own = Serving::Upstream { upstream: cluster.name.clone() };
        let stand_in = Serving::StandIn { upstream: cluster.name.clone(), model: cluster.model.clone() };
        let others = cluster.stands_in_for.iter().map(move |id| (&cluster.name, id, stand_in.clone()));
        std::iter::once((&cluster.name, &cluster.model, own)).chain(others)
    });
    let mut serving = HashMap::new();
    for (cluster, id, how) in wanted {
        match entries.iter().find(|entry| entry.id == *id) {
            None => complaints.push(format!("cluster `{cluster}` names `{id}`, which is no model of the catalog")),
            Some(entry) if !is_text_model(entry) => {
                complaints.push(format!("cluster `{cluster}` names `{id}`, which does not answer text with text"));
            }
            Some(_) => {
                if serving.insert(id.clone(), how).is_some() {
                    complaints.push(format!("cluster `{cluster}` names `{id}`, which is served already"));
                }
            }
        }
    }
    serving
}

fn is_text_model(entry: &Entry) -> bool {
    entry.input.contains(&Modality::Text) && entry.output == [Modality::Text]
}

fn snapshot(entries: Vec<Entry>, mut serving: HashMap<String, Serving>) -> Snapshot {
    let mut snapshot = Snapshot { models: Vec::new(), by_id: HashMap::new(), profiles: HashMap::new() };
    for entry in entries {
        let profiles = entry.profile;
        let most = entry.max_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS);
        let model = Arc::new(Model {
            serving: serving.remove(&entry.id).unwrap_or(Serving::Nobody),
            id: entry.id,
            name: entry.name,
            provider: entry.provider,
            input_modalities: entry.input,
            output_modalities: entry.output,
            context_tokens: entry.context_tokens,
            max_output_tokens: entry.max_output_tokens,
            default_output_tokens: entry.default_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS.min(most)),
            streaming: entry.streaming,
            status: entry.status,
            price: entry.price,
        });
        for profile in profiles {
            let priced = Model { price: profile.price, ..Model::clone(&model) };
            snapshot.profiles.insert(profile.id, Arc::new(priced));
        }
        snapshot.by_id.insert(model.id.clone(), model.clone());
        snapshot.models.push(model);
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_compiled_in_entry_is_sound() {
        let entries = compiled_in().unwrap();
        let ids: HashSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!((ids.len(), entries.len()), (72, 72), "ids are unique");
        for entry in &entries {
            assert_eq!(ModelName::parse(&entry.id), Some(ModelName::Base(&entry.id)));
            for name in [&entry.name, &entry.provider] {
                assert!((1..=MAX_NAME_CHARS).contains(&name.chars().count()), "{name}");
            }
            assert!(entry.input.contains(&Modality::Text) && !entry.output.is_empty(), "{}", entry.id);
            let limits = [entry.context_tokens, entry.max_output_tokens, entry.default_output_tokens];
            assert!(limits.iter().flatten().all(|tokens| *tokens > 0), "{}", entry.id);
            assert!(entry.max_output_tokens.zip(entry.context_tokens).is_none_or(|(answer, all)| answer <= all));
            for profile in &entry.profile {
                assert!(matches!(
                    ModelName::parse(&profile.id),
                    Some(ModelName::Profile { base, .. }) if base == entry.id
                ));
            }
            for price in entry.profile.iter().map(|profile| &profile.price).chain([&entry.price]) {
                let all = [Some(price.input), Some(price.output), price.cache_read, price.cache_write];
                assert!(all.iter().flatten().all(|price| price.0 >= 0), "{}", entry.id);
                assert!(!price.source.is_empty(), "{}", entry.id);
            }
        }
    }
}
