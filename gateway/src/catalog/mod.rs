//! Models and prices as one immutable snapshot; resolving a name is a look-up in memory.

use crate::auth::Principal;
use crate::config::Config;
use crate::error::Result;
use crate::money::PicousdPerToken;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// All models at one moment.
#[derive(Debug)]
pub struct Snapshot {
    models: Vec<Arc<Model>>,
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
    /// The compiled-in entries, with what the configuration serves.
    ///
    /// # Errors
    /// `Invalid` naming every entry of the configuration that fits no model.
    pub fn load(config: &Config) -> Result<Snapshot> {
        let _ = config;
        todo!("G4")
    }

    /// In a stable order.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Finds a model by base id, regional profile id (`us.…`) or ARN.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelNotServed`
    pub fn resolve(&self, principal: &Principal, name: &str) -> Result<Route> {
        let _ = (principal, name);
        todo!("G4")
    }
}
