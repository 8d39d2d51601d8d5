//! The two lower layers, which are fixed while a gateway runs: what is compiled in, then what the configuration adds,
//! and who serves what.

use super::entry::{Entry, EntryPrice, Profile};
use super::model::{Layer, Modality, Price, Serving, Status};
use super::rules;
use crate::config::{Cluster, Config, ModelEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::money::PicousdPerToken;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

const COMPILED_IN: &str = include_str!("models.toml");

/// The lower layers, merged.
#[derive(Debug)]
pub(super) struct Lower {
    /// In a stable order.
    pub(super) models: Vec<Layered>,
    /// Who serves which id, by the configuration: upstreams, and models that they stand in for.
    pub(super) serving: HashMap<String, Serving>,
}

/// A model's entry, and which layer won.
#[derive(Debug, Clone)]
pub(super) struct Layered {
    pub(super) id: String,
    pub(super) entry: Arc<Entry>,
    pub(super) layer: Layer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<FileEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
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
    #[serde(default)]
    status: Status,
    price: Price,
    #[serde(default)]
    profile: Vec<FileProfile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProfile {
    id: String,
    price: Price,
}

fn yes() -> bool {
    true
}

/// # Errors
/// `Invalid` naming every entry of the configuration that fits no model.
pub(super) fn read(config: &Config) -> Result<Lower> {
    let mut models = compiled_in()?;
    let mut index: HashMap<String, usize> =
        models.iter().enumerate().map(|(at, model)| (model.id.clone(), at)).collect();
    let mut complaints = Vec::new();
    for own in &config.model {
        let entry = Arc::new(Entry::from(own));
        let faults = rules::faults(&own.id, &entry);
        complaints.extend(
            faults.iter().map(|fault| format!("model `{}`: its `{}` {}", own.id, spelled(&fault.param), fault.rule)),
        );
        let own = Layered { id: own.id.clone(), entry, layer: Layer::Configuration };
        match index.get(&own.id) {
            Some(&at) if models[at].layer == Layer::Configuration => {
                complaints.push(format!("model `{}` is configured twice", own.id));
            }
            Some(&at) => models[at] = own,
            None => {
                index.insert(own.id.clone(), models.len());
                models.push(own);
            }
        }
    }
    let find = |id: &str| index.get(id).map(|&at| &*models[at].entry);
    let serving = serving(&config.cluster, find, &mut complaints);
    if complaints.is_empty() {
        Ok(Lower { models, serving })
    } else {
        Err(Error::new(ErrorKind::Invalid, complaints.join("\n")))
    }
}

/// The configuration spells prices in another way than the API.
fn spelled(param: &str) -> &str {
    match param {
        "price_picousd_per_token.input" => "input_picousd_per_token",
        "price_picousd_per_token.output" => "output_picousd_per_token",
        other => other,
    }
}

fn compiled_in() -> Result<Vec<Layered>> {
    let file = toml::from_str::<File>(COMPILED_IN).map_err(Error::internal)?;
    let layered = |model: FileEntry| {
        let (id, entry) = model.into_entry();
        Layered { id, entry: Arc::new(entry), layer: Layer::CompiledIn }
    };
    Ok(file.model.into_iter().map(layered).collect())
}

impl FileEntry {
    fn into_entry(self) -> (String, Entry) {
        let profile = |profile: FileProfile| Profile { id: profile.id, price_picousd_per_token: profile.price.into() };
        let entry = Entry {
            name: self.name,
            provider: self.provider,
            input_modalities: self.input,
            output_modalities: self.output,
            context_tokens: self.context_tokens,
            max_output_tokens: self.max_output_tokens,
            default_output_tokens: self.default_output_tokens,
            streaming: self.streaming,
            status: self.status,
            price_picousd_per_token: self.price.into(),
            profiles: self.profile.into_iter().map(profile).collect(),
            deprecation: None,
            stand_in: None,
        };
        (self.id, entry)
    }
}

impl From<&ModelEntry> for Entry {
    fn from(own: &ModelEntry) -> Entry {
        Entry {
            name: own.name.clone(),
            provider: own.provider.clone(),
            input_modalities: vec![Modality::Text],
            output_modalities: vec![Modality::Text],
            context_tokens: Some(own.context_tokens),
            max_output_tokens: Some(own.max_output_tokens.unwrap_or(own.context_tokens)),
            default_output_tokens: own.default_output_tokens,
            streaming: true,
            status: Status::Active,
            price_picousd_per_token: EntryPrice {
                input: PicousdPerToken(own.input_picousd_per_token),
                output: PicousdPerToken(own.output_picousd_per_token),
                cache_read: None,
                cache_write: None,
                source: Some("this gateway's configuration".into()),
            },
            profiles: Vec::new(),
            deprecation: None,
            stand_in: None,
        }
    }
}

/// Who serves which id. A cluster that names something impossible adds a complaint.
fn serving<'a>(
    clusters: &[Cluster],
    find: impl Fn(&str) -> Option<&'a Entry>,
    complaints: &mut Vec<String>,
) -> HashMap<String, Serving> {
    let wanted = clusters.iter().flat_map(|cluster| {
        let own = Serving::Upstream { upstream: cluster.name.clone() };
        let stand_in = Serving::StandIn { upstream: cluster.name.clone(), model: cluster.model.clone() };
        let others = cluster.stands_in_for.iter().map(move |id| (&cluster.name, id, stand_in.clone()));
        std::iter::once((&cluster.name, &cluster.model, own)).chain(others)
    });
    let mut serving = HashMap::new();
    for (cluster, id, how) in wanted {
        match find(id) {
            None => complaints.push(format!("cluster `{cluster}` names `{id}`, which is no model of the catalog")),
            Some(entry) if !entry.is_text() => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_compiled_in_entry_is_sound() {
        let models = compiled_in().unwrap();
        let ids: HashSet<&str> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!((ids.len(), models.len()), (72, 72), "ids are unique");
        for Layered { id, entry, .. } in &models {
            assert_eq!(rules::faults(id, entry), [], "{id}");
            assert!(entry.input_modalities.contains(&Modality::Text), "{id}");
            let prices = entry.profiles.iter().map(|profile| &profile.price_picousd_per_token);
            for price in prices.chain([&entry.price_picousd_per_token]) {
                assert!(price.source.is_some(), "{id}");
            }
        }
    }
}
