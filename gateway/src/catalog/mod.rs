//! Models and prices as one immutable snapshot; resolving a name is a look-up in memory.

mod load;
mod name;

use crate::auth::Principal;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::money::PicousdPerToken;
use name::ModelName;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Served models that an error names.
const MAX_NAMED: usize = 20;
/// Of an unknown name, this much is repeated.
const MAX_NAME_CHARS: usize = 128;

/// All models at one moment.
#[derive(Debug)]
pub struct Snapshot {
    models: Vec<Arc<Model>>,
    by_id: HashMap<String, Arc<Model>>,
    /// Regional profiles that cost something else than their model: the model with that price, by the profile's id.
    profiles: HashMap<String, Arc<Model>>,
}

/// One catalog entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// As callers name it, for example `amazon.nova-lite-v1:0`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Who made it.
    pub provider: String,
    /// What it takes.
    pub input_modalities: Vec<Modality>,
    /// What it gives.
    pub output_modalities: Vec<Modality>,
    /// Most tokens of prompt and answer; `None` where no source states it.
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer; `None` where no source states it.
    pub max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum.
    pub default_output_tokens: u32,
    /// Whether it streams.
    pub streaming: bool,
    /// Active or legacy.
    pub status: Status,
    /// What it costs.
    pub price: Price,
    /// Who answers for it here.
    pub serving: Serving,
}

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Modality {
    Text,
    Image,
    Video,
    Audio,
    Document,
    Embedding,
}

/// A model's place in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Status {
    Active,
    Preview,
    Legacy,
}

/// Prices of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Per prompt token.
    pub input: PicousdPerToken,
    /// Per generated token, reasoning included.
    pub output: PicousdPerToken,
    /// Per prompt token read from a cache; `None`: as input.
    pub cache_read: Option<PicousdPerToken>,
    /// Per prompt token written to a cache; `None`: as input.
    pub cache_write: Option<PicousdPerToken>,
    /// Where the numbers come from.
    pub source: String,
}

/// Who answers for a model here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// Nobody: a call says so plainly.
    Nobody,
    /// An upstream that really has it.
    Upstream {
        /// Its name in the configuration.
        upstream: String,
    },
    /// Another model, named in the catalog and in a response header.
    StandIn {
        /// Its upstream.
        upstream: String,
        /// Id of the model that answers.
        model: String,
    },
}

/// A resolved name.
#[derive(Debug, Clone)]
pub struct Route {
    /// The entry that was asked for.
    pub asked: Arc<Model>,
    /// The entry that answers, and whose price counts; the same unless one stands in.
    pub model: Arc<Model>,
    /// Name of the upstream.
    pub upstream: String,
}

impl Route {
    /// Id of the model that answers in place of the one asked for.
    pub fn stand_in(&self) -> Option<&str> {
        (self.asked.id != self.model.id).then_some(self.model.id.as_str())
    }
}

impl Snapshot {
    /// The compiled-in entries, with what the configuration adds and serves.
    ///
    /// # Errors
    /// `Invalid` naming every entry of the configuration that fits no model.
    pub fn load(config: &Config) -> Result<Snapshot> {
        load::load(config)
    }

    /// In a stable order.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Those that answer here, stand-ins included, in the same order.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter().filter(|model| match model.serving {
            Serving::Nobody => false,
            Serving::Upstream { .. } | Serving::StandIn { .. } => true,
        })
    }

    /// Finds a model by base id, regional profile id (`us.…`) or ARN. Regions and accounts make no difference here, but
    /// for profiles with a price of their own.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelNotServed`
    pub fn resolve(&self, principal: &Principal, name: &str) -> Result<Route> {
        // Every tenant sees the same models today.
        let _ = principal;
        let asked = self.find(name).ok_or_else(|| not_found(name))?;
        match &asked.serving {
            Serving::Nobody => Err(self.not_served(asked)),
            Serving::Upstream { upstream } => {
                Ok(Route { asked: asked.clone(), model: asked.clone(), upstream: upstream.clone() })
            }
            Serving::StandIn { upstream, model } => {
                let model = self.by_id.get(model).ok_or_else(|| not_found(model))?;
                Ok(Route { asked: asked.clone(), model: model.clone(), upstream: upstream.clone() })
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Arc<Model>> {
        match ModelName::parse(name)? {
            ModelName::Base(id) => self.by_id.get(id),
            ModelName::Profile { id, base } => self.profiles.get(id).or_else(|| self.by_id.get(base)),
        }
    }

    fn not_served(&self, asked: &Model) -> Error {
        let mut served: Vec<&str> = self.served().map(|model| model.id.as_str()).collect();
        let more = served.len().saturating_sub(MAX_NAMED);
        served.truncate(MAX_NAMED);
        let here = match (served.is_empty(), more) {
            (true, _) => "No model is served here.".to_owned(),
            (false, 0) => format!("Served here: {}.", served.join(", ")),
            (false, more) => format!("Served here: {} and {more} more.", served.join(", ")),
        };
        let message = format!("{} is in the catalog, but no upstream serves it on this gateway. {here}", asked.id);
        Error::new(ErrorKind::ModelNotServed, message)
    }
}

fn not_found(name: &str) -> Error {
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    let message = format!("The model {name} does not exist. GET /v1/models lists the models of this gateway.");
    Error::new(ErrorKind::ModelNotFound, message)
}

#[cfg(test)]
mod tests;
