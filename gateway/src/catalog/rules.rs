//! What an entry must be to be one, wherever it comes from: the configuration, a row of the database, or the API.

use super::deprecation::Deprecation;
use super::entry::{Entry, EntryPrice};
use super::model::Modality;
use super::name::ModelName;
use crate::clock::Micros;
use crate::error::Error;

/// Longest id of a model or an alias.
pub(super) const MAX_ID_CHARS: usize = 128;
/// Longest name of a model or provider, in characters, as the Bedrock API has it.
pub(super) const MAX_NAME_CHARS: usize = 20;
const MAX_SOURCE_CHARS: usize = 200;
const MAX_MESSAGE_CHARS: usize = 500;
/// One for each region that a profile can begin with.
const MAX_PROFILES: usize = 8;
/// One USD per token: the cost of as many tokens as a request can count still fits.
const MAX_PICOUSD: i64 = 1_000_000_000_000;
/// The last second of the year 9999, which is the last that an HTTP date can tell.
const MAX_TIME: Micros = 253_402_300_799_000_000;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The field, as the API spells it.
    pub(super) param: String,
    /// What is wrong with it.
    pub(super) rule: String,
}

impl Fault {
    pub(super) fn new(param: &str, rule: impl Into<String>) -> Fault {
        Fault { param: param.to_owned(), rule: rule.into() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let message = format!("`{}` {}.", fault.param, fault.rule);
        Error::invalid(fault.param, message)
    }
}

/// Of letters, digits and `. _ : -`.
pub(super) fn is_spelled_like_an_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// What is wrong with an id of a model or an alias.
pub(super) fn faults_of_id(id: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !is_spelled_like_an_id(id) || !(1..=MAX_ID_CHARS).contains(&id.len()) {
        faults.push(Fault::new("id", "must be 1 to 128 of letters, digits and . _ : -"));
    }
    if !matches!(ModelName::parse(id), Some(ModelName::Base(_))) {
        faults.push(Fault::new("id", "must not begin with a region or be an ARN"));
    }
    faults
}

/// All that is wrong with an entry by itself, in the order of its fields.
pub(super) fn faults(id: &str, entry: &Entry) -> Vec<Fault> {
    let mut faults = faults_of_id(id);
    let mut demand = |kept: bool, param: &str, rule: &str| {
        if !kept {
            faults.push(Fault::new(param, rule));
        }
    };
    demand(is_text(&entry.name, MAX_NAME_CHARS), "name", "must have 1 to 20 characters");
    demand(is_text(&entry.provider, MAX_NAME_CHARS), "provider", "must have 1 to 20 characters");
    demand(is_set(&entry.input_modalities), "input_modalities", "must name each modality once, and at least one");
    demand(is_set(&entry.output_modalities), "output_modalities", "must name each modality once, and at least one");

    let context_tokens = entry.context_tokens.unwrap_or(u32::MAX);
    let max_output_tokens = entry.max_output_tokens.unwrap_or(context_tokens);
    let fits = |tokens: Option<u32>, most: u32| tokens.is_none_or(|tokens| (1..=most).contains(&tokens));
    demand(fits(entry.context_tokens, u32::MAX), "context_tokens", "must be at least 1");
    demand(fits(entry.max_output_tokens, context_tokens), "max_output_tokens", "must be 1 to `context_tokens`");
    demand(
        fits(entry.default_output_tokens, max_output_tokens),
        "default_output_tokens",
        "must be 1 to `max_output_tokens`",
    );

    faults.extend(faults_of_price("price_picousd_per_token", &entry.price_picousd_per_token));
    faults.extend(faults_of_profiles(id, entry));
    faults.extend(entry.deprecation.iter().flat_map(|deprecation| faults_of_deprecation(id, deprecation)));
    faults
}

fn faults_of_price(param: &str, price: &EntryPrice) -> Vec<Fault> {
    let wrong = price.numbers().filter(|(_, number)| !(0..=MAX_PICOUSD).contains(&number.0));
    let rule = "must not be negative, and at most 1000000000000 (one USD per token)";
    let mut faults: Vec<Fault> = wrong.map(|(name, _)| Fault::new(&format!("{param}.{name}"), rule)).collect();
    if price.source.as_deref().is_some_and(|source| !is_text(source, MAX_SOURCE_CHARS)) {
        faults.push(Fault::new(&format!("{param}.source"), "must have 1 to 200 characters"));
    }
    faults
}

fn faults_of_profiles(id: &str, entry: &Entry) -> Vec<Fault> {
    let mut faults = Vec::new();
    if entry.profiles.len() > MAX_PROFILES {
        faults.push(Fault::new("profiles", "must be at most 8"));
    }
    for (at, profile) in entry.profiles.iter().enumerate().take(MAX_PROFILES) {
        let param = format!("profiles[{at}]");
        match ModelName::parse(&profile.id) {
            Some(ModelName::Profile { id: spelled, base }) if base == id && spelled == profile.id => {}
            Some(_) | None => {
                faults.push(Fault::new(&format!("{param}.id"), "must be a region, a dot, and the model's id"));
            }
        }
        if entry.profiles[..at].iter().any(|other| other.id == profile.id) {
            faults.push(Fault::new(&format!("{param}.id"), "is there twice"));
        }
        let price = format!("{param}.price_picousd_per_token");
        faults.extend(faults_of_price(&price, &profile.price_picousd_per_token));
    }
    faults
}

fn faults_of_deprecation(id: &str, deprecation: &Deprecation) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut demand = |kept: bool, field: &str, rule: &str| {
        if !kept {
            faults.push(Fault::new(&format!("deprecation.{field}"), rule));
        }
    };
    let message = deprecation.message.as_deref();
    demand(
        message.is_none_or(|message| is_text(message, MAX_MESSAGE_CHARS)),
        "message",
        "must have 1 to 500 characters, on one line",
    );
    demand(deprecation.replacement.as_deref() != Some(id), "replacement", "must be another model");
    let exists = |at: Micros| (0..=MAX_TIME).contains(&at);
    demand(exists(deprecation.deprecated_at), "deprecated_at", "must lie in the years 1970 to 9999");
    demand(
        deprecation.sunset_at.is_none_or(|at| exists(at) && at >= deprecation.deprecated_at),
        "sunset_at",
        "must lie in the years 1970 to 9999, and not before `deprecated_at`",
    );
    faults
}

/// Counted in characters, and without control characters: it is shown in lists, logs and terminals.
fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_set(modalities: &[Modality]) -> bool {
    !modalities.is_empty() && modalities.iter().enumerate().all(|(at, one)| !modalities[..at].contains(one))
}
