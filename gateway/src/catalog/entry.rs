//! What a layer says about one model: the whole of it, as the admin API shows it and the database keeps it.

use super::deprecation::Deprecation;
use super::model::{Modality, Price, Status};
use crate::money::PicousdPerToken;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a price comes from that was set through the admin API without saying.
const SET_HERE: &str = "set through the admin API";

/// A model, as one layer has it. Its id stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// For people; 1 to 20 characters.
    #[schema(min_length = 1, max_length = 20, example = "My model")]
    pub name: String,
    /// Who made it; 1 to 20 characters.
    #[schema(min_length = 1, max_length = 20, example = "Example")]
    pub provider: String,
    /// What it takes; text only for a model that answers here. Absent: text.
    #[serde(default = "text")]
    pub input_modalities: Vec<Modality>,
    /// What it gives; text only for a model that answers here. Absent: text.
    #[serde(default = "text")]
    pub output_modalities: Vec<Modality>,
    /// Most tokens of prompt and answer; absent: unknown.
    #[schema(minimum = 1, example = 32_768)]
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer; absent: unknown.
    #[schema(minimum = 1, example = 8_192)]
    pub max_output_tokens: Option<u32>,
    /// Used when the caller sets no maximum; absent: 4096 or the maximum, whichever is less.
    #[schema(minimum = 1, example = 1_024)]
    pub default_output_tokens: Option<u32>,
    /// Whether it streams; absent: yes.
    #[serde(default = "yes")]
    pub streaming: bool,
    /// Its place in life; absent: active.
    #[serde(default)]
    pub status: Status,
    /// What it costs, in pico-USD per token: 1000000 is one USD per million tokens.
    pub price_picousd_per_token: EntryPrice,
    /// Regional profiles that cost something else than the model itself; at most 8.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// Set when callers should leave it.
    pub deprecation: Option<Deprecation>,
    /// Id of the model that answers in its place, which an upstream must serve. Absent: as the configuration has it.
    #[schema(example = "huggingface.smollm2-135m-instruct")]
    pub stand_in: Option<String>,
}

/// Prices in pico-USD per token, 0 to 1000000000000 (one USD).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryPrice {
    /// Per prompt token.
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64, example = 20_000)]
    pub input: PicousdPerToken,
    /// Per generated token, reasoning included.
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64, example = 40_000)]
    pub output: PicousdPerToken,
    /// Per prompt token read from a cache; absent: as input.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64, example = 5_000)]
    pub cache_read: Option<PicousdPerToken>,
    /// Per prompt token written to a cache; absent: as input.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64, example = 25_000)]
    pub cache_write: Option<PicousdPerToken>,
    /// Where the numbers come from; at most 200 characters. Absent: set through the admin API.
    #[schema(min_length = 1, max_length = 200, example = "our contract of 2026")]
    pub source: Option<String>,
}

/// A regional profile with prices of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// A region and the model's id.
    #[schema(example = "us.example.my-model-v1:0")]
    pub id: String,
    /// What it costs.
    pub price_picousd_per_token: EntryPrice,
}

impl Entry {
    /// Whether a cluster could serve it.
    pub(super) fn is_text(&self) -> bool {
        self.input_modalities.contains(&Modality::Text) && self.output_modalities == [Modality::Text]
    }
}

impl EntryPrice {
    /// All numbers of it, with their names.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&'static str, PicousdPerToken)> {
        let own = [("input", Some(self.input)), ("output", Some(self.output))];
        let cache = [("cache_read", self.cache_read), ("cache_write", self.cache_write)];
        own.into_iter().chain(cache).filter_map(|(name, number)| Some((name, number?)))
    }
}

impl From<EntryPrice> for Price {
    fn from(price: EntryPrice) -> Price {
        Price {
            input: price.input,
            output: price.output,
            cache_read: price.cache_read,
            cache_write: price.cache_write,
            source: price.source.unwrap_or_else(|| SET_HERE.to_owned()),
        }
    }
}

impl From<Price> for EntryPrice {
    fn from(price: Price) -> EntryPrice {
        EntryPrice {
            input: price.input,
            output: price.output,
            cache_read: price.cache_read,
            cache_write: price.cache_write,
            source: Some(price.source),
        }
    }
}

fn text() -> Vec<Modality> {
    vec![Modality::Text]
}

fn yes() -> bool {
    true
}
