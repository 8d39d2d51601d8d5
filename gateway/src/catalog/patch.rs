//! A partial change of a model: what is absent stays, `null` clears what may be clear (RFC 7396).

use super::deprecation::Deprecation;
use super::entry::{Entry, EntryPrice, Profile};
use super::model::{Modality, Status};
use super::rules;
use crate::clock::{Micros, rfc3339};
use crate::error::{Error, Result};
use crate::money::PicousdPerToken;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

/// A change of an [`Entry`]. Of the fields, only those that an entry may lack take `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "price_picousd_per_token": {"input": 55_000, "output": 220_000, "source": "our contract of 2026"}, "profiles": [],
    "deprecation": {"replacement": "amazon.nova-2-lite-v1:0", "sunset_at": "2099-07-01T00:00:00Z"},
}))]
pub struct EntryPatch {
    /// For people; 1 to 20 characters.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 20, example = "My model")]
    pub name: Option<String>,
    /// Who made it; 1 to 20 characters.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 20, example = "Example")]
    pub provider: Option<String>,
    /// What it takes.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = Vec<Modality>, required = false)]
    pub input_modalities: Option<Vec<Modality>>,
    /// What it gives.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = Vec<Modality>, required = false)]
    pub output_modalities: Option<Vec<Modality>>,
    /// Most tokens of prompt and answer; `null`: unknown.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, example = 32_768)]
    pub context_tokens: Option<Option<u32>>,
    /// Most tokens of an answer; `null`: unknown.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, example = 8_192)]
    pub max_output_tokens: Option<Option<u32>>,
    /// Used when the caller sets no maximum; `null`: 4096 or the maximum, whichever is less.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, example = 1_024)]
    pub default_output_tokens: Option<Option<u32>>,
    /// Whether it streams.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = bool, required = false)]
    pub streaming: Option<bool>,
    /// Its place in life.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = Status, required = false)]
    pub status: Option<Status>,
    /// What it costs. A model whose regional profiles cost something else takes new prices only together with
    /// `profiles`, so that no caller goes on at an old price unnoticed.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = PricePatch, required = false)]
    pub price_picousd_per_token: Option<PricePatch>,
    /// All regional profiles that cost something else; `null` or empty: none does.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<Profile>>)]
    pub profiles: Option<Option<Vec<Profile>>>,
    /// Announces the model's end; `null` takes that back.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DeprecationPatch>)]
    pub deprecation: Option<Option<DeprecationPatch>>,
    /// Id of the model that answers in its place; `null`: as the configuration has it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "huggingface.smollm2-135m-instruct")]
    pub stand_in: Option<Option<String>>,
}

/// A change of prices, in pico-USD per token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PricePatch {
    /// Per prompt token.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 1_000_000_000_000_i64, example = 20_000)]
    pub input: Option<PicousdPerToken>,
    /// Per generated token.
    #[serde(default, deserialize_with = "stated")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 1_000_000_000_000_i64, example = 40_000)]
    pub output: Option<PicousdPerToken>,
    /// Per prompt token read from a cache; `null`: as input.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub cache_read: Option<Option<PicousdPerToken>>,
    /// Per prompt token written to a cache; `null`: as input.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub cache_write: Option<Option<PicousdPerToken>>,
    /// Where the numbers come from; absent beside new numbers, or `null`: set through the admin API.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, example = "our contract of 2026")]
    pub source: Option<Option<String>>,
}

/// A change of a deprecation, or a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeprecationPatch {
    /// For callers; at most 500 characters.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub message: Option<Option<String>>,
    /// Id of the model to use instead.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "amazon.nova-2-lite-v1:0")]
    pub replacement: Option<Option<String>>,
    /// Since when; absent in a new one: from now on, or from a sunset that is over.
    #[serde(default, deserialize_with = "rfc3339::optional::stated")]
    #[schema(value_type = String, format = DateTime, required = false, example = "2026-01-01T00:00:00Z")]
    pub deprecated_at: Option<Micros>,
    /// From when on calls are refused; `null`: not decided.
    #[serde(default, deserialize_with = "rfc3339::optional::given")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-07-01T00:00:00Z")]
    pub sunset_at: Option<Option<Micros>>,
}

impl Entry {
    /// This entry of model `id` with `patch` applied: a whole entry, to be stored in the API's layer whichever layer
    /// this one is from.
    ///
    /// # Errors
    /// `Invalid` naming the first field at fault. Whether it fits the rest of the catalog is [`super::Snapshot::admit`]'s
    /// to say.
    pub fn apply(&self, id: &str, patch: EntryPatch, now: Micros) -> Result<Entry> {
        if patch.price_picousd_per_token.is_some() && patch.profiles.is_none() && !self.profiles.is_empty() {
            let message = "`profiles`: regional profiles of this model have prices of their own. Send `profiles` with \
                           the new prices; an empty list makes them cost what the model costs.";
            return Err(Error::invalid("profiles", message));
        }
        let mut entry = self.clone();
        set(&mut entry.name, patch.name);
        set(&mut entry.provider, patch.provider);
        set(&mut entry.input_modalities, patch.input_modalities);
        set(&mut entry.output_modalities, patch.output_modalities);
        set(&mut entry.context_tokens, patch.context_tokens);
        set(&mut entry.max_output_tokens, patch.max_output_tokens);
        set(&mut entry.default_output_tokens, patch.default_output_tokens);
        set(&mut entry.streaming, patch.streaming);
        set(&mut entry.status, patch.status);
        set(&mut entry.profiles, patch.profiles.map(Option::unwrap_or_default));
        set(&mut entry.stand_in, patch.stand_in);
        if let Some(price) = patch.price_picousd_per_token {
            entry.price_picousd_per_token = price.on(entry.price_picousd_per_token);
        }
        if let Some(deprecation) = patch.deprecation {
            entry.deprecation = deprecation.map(|deprecation| deprecation.on(entry.deprecation, now));
        }
        match rules::faults(id, &entry).into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(entry),
        }
    }
}

impl PricePatch {
    fn on(self, mut price: EntryPrice) -> EntryPrice {
        let before = price.clone();
        set(&mut price.input, self.input);
        set(&mut price.output, self.output);
        set(&mut price.cache_read, self.cache_read);
        set(&mut price.cache_write, self.cache_write);
        // The old source doesn't vouch for new numbers.
        let source = if price == before { before.source } else { None };
        price.source = self.source.unwrap_or(source);
        price
    }
}

impl DeprecationPatch {
    fn on(self, before: Option<Deprecation>, now: Micros) -> Deprecation {
        let deprecated_at = self.sunset_at.flatten().map_or(now, |sunset_at| sunset_at.min(now));
        let new = Deprecation { message: None, replacement: None, deprecated_at, sunset_at: None };
        let mut deprecation = before.unwrap_or(new);
        set(&mut deprecation.message, self.message);
        set(&mut deprecation.replacement, self.replacement);
        set(&mut deprecation.deprecated_at, self.deprecated_at);
        set(&mut deprecation.sunset_at, self.sunset_at);
        deprecation
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A field that may be cleared: `null` is told apart from absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A field that an entry can't lack. serde_json would call a `null` for an enum a mistake of JSON, and name no field.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    match Option::deserialize(deserializer)? {
        Some(value) => Ok(Some(value)),
        None => Err(D::Error::custom("must not be null; leave it out to keep it")),
    }
}
