//! Models as the admin API shows and takes them.

use super::time::Time;
use crate::catalog::{
    Complaint, Deprecation, Entry, EntryPrice, Layer, MAX_OVERRIDES, Modality, Model, Profile, Serving, Snapshot,
    Status,
};
use crate::clock::Micros;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// A model of the catalog, as it is in force on this gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "id": "example.my-model-v1:0", "name": "My model", "provider": "Example",
    "input_modalities": ["text"], "output_modalities": ["text"],
    "context_tokens": 8192, "max_output_tokens": 4096, "default_output_tokens": 1024, "streaming": true,
    "status": "active",
    "price_picousd_per_token": {
        "input": 20_000, "output": 40_000, "cache_read": null, "cache_write": null, "source": "our contract of 2026",
    },
    "profiles": [],
    "deprecation": {
        "message": null, "replacement": "huggingface.smollm2-135m-instruct",
        "deprecated_at": "2027-01-01T00:00:00Z", "sunset_at": "2027-07-01T00:00:00Z",
    },
    "stand_in": "huggingface.smollm2-135m-instruct", "layer": "api",
    "serving": {"by": "stand_in", "upstream": "bundled", "model": "huggingface.smollm2-135m-instruct"},
    "served": true, "aliases": ["fast"], "version": 1_790_000_000_000_000_i64,
    "created_at": "2026-09-21T14:13:20Z", "updated_at": "2026-09-21T14:13:20Z",
})))]
pub struct ModelView {
    /// As callers name it; regions may stand in front.
    pub id: String,
    /// For people.
    pub name: String,
    /// Who made it.
    pub provider: String,
    /// What it takes.
    pub input_modalities: Vec<Modality>,
    /// What it gives.
    pub output_modalities: Vec<Modality>,
    /// Most tokens of prompt and answer; absent: unknown.
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer; absent: unknown.
    pub max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum.
    pub default_output_tokens: u32,
    /// Whether it streams.
    pub streaming: bool,
    /// Its place in life.
    pub status: Status,
    /// What it costs, in pico-USD per token, and where the numbers come from.
    pub price_picousd_per_token: EntryPrice,
    /// Regional profiles that cost something else.
    pub profiles: Vec<Profile>,
    /// Set when callers should leave it.
    pub deprecation: Option<Deprecation>,
    /// What the API has set as the model that answers in its place; `serving` is what counts.
    pub stand_in: Option<String>,
    /// Where this entry is from.
    pub layer: Layer,
    /// Who answers for it here.
    pub serving: ServingView,
    /// Whether a call would be answered: somebody serves it, and it is not withdrawn.
    pub served: bool,
    /// Its other ids.
    pub aliases: Vec<String>,
    /// Version of what the API has set, as in the ETag; 0 when it has set nothing.
    #[schema(minimum = 0)]
    pub version: i64,
    /// When the API's entry was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When the API's entry was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
}

/// Who answers for a model here.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum ServingView {
    /// Nobody: a call is told so.
    Nobody,
    /// An upstream that has this model.
    Upstream {
        /// Its name in the configuration.
        upstream: String,
    },
    /// Another model, which is named in each answer.
    StandIn {
        /// Its upstream.
        upstream: String,
        /// Its id.
        model: String,
    },
}

/// A model to be added.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "id": "example.my-model-v1:0", "name": "My model", "provider": "Example", "context_tokens": 8192,
    "max_output_tokens": 4096, "price_picousd_per_token": {"input": 20_000, "output": 40_000, "source": "our contract of 2026"},
    "stand_in": "huggingface.smollm2-135m-instruct",
}))]
pub struct ModelInput {
    /// Letters, digits and `. _ : -`; no region in front. Must not be taken, by an alias neither.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$")]
    pub id: String,
    /// For people.
    #[schema(min_length = 1, max_length = 20)]
    pub name: String,
    /// Who made it.
    #[schema(min_length = 1, max_length = 20)]
    pub provider: String,
    /// What it takes; absent: text.
    #[serde(default = "text")]
    pub input_modalities: Vec<Modality>,
    /// What it gives; absent: text.
    #[serde(default = "text")]
    pub output_modalities: Vec<Modality>,
    /// Most tokens of prompt and answer; absent: unknown.
    #[schema(minimum = 1)]
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer, at most `context_tokens`; absent: unknown.
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum; absent: 4096 or the maximum, whichever is less.
    #[schema(minimum = 1)]
    pub default_output_tokens: Option<u32>,
    /// Whether it streams; absent: yes.
    #[serde(default = "yes")]
    pub streaming: bool,
    /// Its place in life; absent: active.
    #[serde(default)]
    pub status: Status,
    /// What it costs, in pico-USD per token: 1000000 is one USD per million tokens.
    pub price_picousd_per_token: EntryPrice,
    /// Regional profiles that cost something else.
    #[serde(default)]
    #[schema(max_items = 8)]
    pub profiles: Vec<Profile>,
    /// Set when callers should leave it.
    pub deprecation: Option<Deprecation>,
    /// Id of the model that answers in its place, which an upstream must serve.
    pub stand_in: Option<String>,
}

/// How the catalog stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "locked": false, "models": 73, "aliases": 1, "api_entries": 3, "max_api_entries": 2000,
    "complaints": [
        {"id": "example.old", "param": "stand_in", "rule": "must be a model that an upstream serves here"},
    ],
    "ignored": [],
})))]
pub struct CatalogView {
    /// Whether the configuration decides alone.
    pub locked: bool,
    /// Models of all layers.
    #[schema(value_type = u64)]
    pub models: usize,
    /// Aliases in force.
    #[schema(value_type = u64)]
    pub aliases: usize,
    /// What the API has set, models and aliases, also what does not count.
    #[schema(value_type = u64)]
    pub api_entries: usize,
    /// Most of them.
    #[schema(value_type = u64)]
    pub max_api_entries: usize,
    /// What of it does not count, because it no longer fits the configuration.
    pub complaints: Vec<Complaint>,
    /// Ids that do not count because the catalog is locked.
    pub ignored: Vec<String>,
}

impl ModelView {
    /// One model of a catalog; `None` when it has none of this id.
    pub fn find(catalog: &Snapshot, id: &str, now: Micros) -> Option<ModelView> {
        Some(ModelView::of(catalog, &catalog.aliases_by_model(), catalog.model(id)?, now))
    }

    /// A model of this catalog.
    pub fn of(catalog: &Snapshot, aliases: &HashMap<&str, Vec<&str>>, model: &Model, now: Micros) -> ModelView {
        let stamp = catalog.stamp(&model.id);
        let entry = catalog.entry(&model.id);
        let aliases = aliases.get(model.id.as_str()).into_iter().flatten();
        ModelView {
            id: model.id.clone(),
            name: model.name.clone(),
            provider: model.provider.clone(),
            input_modalities: model.input_modalities.clone(),
            output_modalities: model.output_modalities.clone(),
            context_tokens: model.context_tokens,
            max_output_tokens: model.max_output_tokens,
            default_output_tokens: model.default_output_tokens,
            streaming: model.streaming,
            status: model.status,
            price_picousd_per_token: model.price.clone().into(),
            profiles: entry.map(|entry| entry.profiles.clone()).unwrap_or_default(),
            deprecation: model.deprecation.clone(),
            stand_in: entry.and_then(|entry| entry.stand_in.clone()),
            layer: model.layer,
            serving: model.serving.clone().into(),
            served: model.is_served(now),
            aliases: aliases.map(|&alias| alias.to_owned()).collect(),
            version: stamp.map_or(0, |stamp| stamp.version),
            created_at: stamp.map(|stamp| Time(stamp.created_at)),
            updated_at: stamp.map(|stamp| Time(stamp.updated_at)),
        }
    }
}

impl From<Serving> for ServingView {
    fn from(serving: Serving) -> ServingView {
        match serving {
            Serving::Nobody => ServingView::Nobody,
            Serving::Upstream { upstream } => ServingView::Upstream { upstream },
            Serving::StandIn { upstream, model } => ServingView::StandIn { upstream, model },
        }
    }
}

impl ModelInput {
    /// Its id, and the rest.
    pub fn into_entry(self) -> (String, Entry) {
        let entry = Entry {
            name: self.name,
            provider: self.provider,
            input_modalities: self.input_modalities,
            output_modalities: self.output_modalities,
            context_tokens: self.context_tokens,
            max_output_tokens: self.max_output_tokens,
            default_output_tokens: self.default_output_tokens,
            streaming: self.streaming,
            status: self.status,
            price_picousd_per_token: self.price_picousd_per_token,
            profiles: self.profiles,
            deprecation: self.deprecation,
            stand_in: self.stand_in,
        };
        (self.id, entry)
    }
}

impl CatalogView {
    /// Of this catalog.
    pub fn of(catalog: &Snapshot, locked: bool) -> CatalogView {
        CatalogView {
            locked,
            models: catalog.models().len(),
            aliases: catalog.aliases().count(),
            api_entries: catalog.rows(),
            max_api_entries: MAX_OVERRIDES,
            complaints: catalog.complaints().to_vec(),
            ignored: catalog.ignored().to_vec(),
        }
    }
}

fn text() -> Vec<Modality> {
    vec![Modality::Text]
}

fn yes() -> bool {
    true
}
