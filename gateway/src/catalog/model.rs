//! A model as requests see it: its entry, complete, and who answers for it here.

use super::deprecation::Deprecation;
use crate::money::PicousdPerToken;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One model of the catalog.
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
    /// Its place in life.
    pub status: Status,
    /// Set when callers should leave it.
    pub deprecation: Option<Deprecation>,
    /// What it costs.
    pub price: Price,
    /// Who answers for it here.
    pub serving: Serving,
    /// Which layer its entry is from.
    pub layer: Layer,
}

/// A layer of the catalog; of one model's entries the last of these wins, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Known to every gateway of this version.
    CompiledIn,
    /// A `[[model]]` of the configuration.
    Configuration,
    /// Set through the admin API.
    Api,
}

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ModelStatus)]
#[allow(missing_docs)]
pub enum Status {
    #[default]
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
