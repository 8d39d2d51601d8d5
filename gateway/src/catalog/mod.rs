//! Models, prices and aliases as one immutable snapshot; resolving a name is a look-up in memory.
//!
//! # Layers, and who wins
//!
//! 1. **Compiled in**: the models that this version knows (`models.toml`).
//! 2. **Configuration**: `[[model]]` of the configuration file, the place for GitOps.
//! 3. **API**: rows of the database, set through the admin API; at most [`MAX_OVERRIDES`].
//!
//! Of one model's entries that of the highest layer wins, whole: nothing is mixed from two layers. A partial change
//! through the API copies the entry in force, changes it ([`Entry::apply`]), and stores all of it. When the API's row is
//! removed, the configuration's entry, or the one that is compiled in, is back.
//!
//! With `[catalog] locked = true` the configuration wins alone: changes through the API are refused with `Conflict`, and
//! rows that are there already are ignored, and listed ([`Snapshot::ignored`]).
//!
//! Who serves a model is the configuration's word (`[[cluster]]`), which must be sound by itself: a cluster can name only
//! models of the two lower layers, so that a gateway can start whatever the database holds. On top of it:
//! - The API's `stand_in` wins over the configuration's `stands_in_for`. Without one (absent, or `null`) the
//!   configuration's counts; the API can't take that away, the file can.
//! - A stand-in's target must be a model that an upstream serves; a model that an upstream serves has no stand-in.
//! - An alias is another id of a model, one hop only: its target is a model, never an alias. It can't hide a model's id.
//!   Only the API sets aliases.
//!
//! Every rule is checked in one place, [`Snapshot::build`]. A row that breaks one (a later version wrote it, or the
//! configuration has changed beneath it) never keeps a gateway from starting: as little as possible of it is left out (a
//! stand-in or a replacement whose model is gone; otherwise the row) and complained of ([`Snapshot::complaints`]). The
//! same change through the API is refused ([`Snapshot::admit`]), as is one that would break another row.

pub mod access;
mod deprecation;
mod entry;
mod layers;
mod lower;
mod model;
mod name;
mod overrides;
mod patch;
mod rules;

pub use access::{Access, Denied, Explanation, Level, ModelAccess, ModelPattern};
pub use deprecation::Deprecation;
pub use entry::{Entry, EntryPrice, Profile};
pub use model::{Layer, Modality, Model, Price, Serving, Status};
pub use overrides::{Alias, Change, MAX_OVERRIDES, Override, OverrideBody, StoredOverride};
pub use patch::{DeprecationPatch, EntryPatch, PricePatch};

use crate::auth::Principal;
use crate::clock::Micros;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use name::ModelName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;

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
    /// Ids of models by alias.
    aliases: BTreeMap<String, String>,
    /// As their layer has them.
    entries: HashMap<String, Arc<Entry>>,
    complaints: Vec<Complaint>,
    ignored: Vec<String>,
}

/// What was left out of a catalog, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Complaint {
    /// The row's id.
    #[schema(example = "example.my-model-v1:0")]
    pub id: String,
    /// The field at fault.
    #[schema(example = "stand_in")]
    pub param: String,
    /// The rule that it breaks.
    #[schema(example = "must be a model that an upstream serves here")]
    pub rule: String,
}

/// A name that callers can use.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The model's id, or an alias.
    pub id: &'a str,
    /// What it names.
    pub model: &'a Model,
}

/// A resolved name.
#[derive(Debug, Clone)]
pub struct Route {
    /// What was asked for: the model's id, or the alias as the caller wrote it.
    pub asked: String,
    /// The entry that was asked for; an alias's target.
    pub entry: Arc<Model>,
    /// The entry that answers, and whose price counts; the same unless one stands in.
    pub model: Arc<Model>,
    /// Name of the upstream.
    pub upstream: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` {}", self.id, self.param, self.rule)
    }
}

impl Offer<'_> {
    /// The model's id, when this is another name of it.
    pub fn alias_of(&self) -> Option<&str> {
        (self.id != self.model.id).then_some(self.model.id.as_str())
    }
}

impl Model {
    /// Whether a call would be answered: something serves it, and it is not withdrawn.
    pub fn is_served(&self, now: Micros) -> bool {
        let withdrawn = self.deprecation.as_ref().is_some_and(|deprecation| deprecation.is_over(now));
        match self.serving {
            Serving::Nobody => false,
            Serving::Upstream { .. } | Serving::StandIn { .. } => !withdrawn,
        }
    }
}

impl Route {
    /// Id of the model that answers in place of the one asked for.
    pub fn stand_in(&self) -> Option<&str> {
        (self.entry.id != self.model.id).then_some(self.model.id.as_str())
    }
}

impl Snapshot {
    /// The two lower layers.
    ///
    /// # Errors
    /// `Invalid` naming every entry of the configuration that fits no model.
    pub fn load(config: &Config) -> Result<Snapshot> {
        Snapshot::build(config, &[])
    }

    /// All layers. Rows that break a rule are left out, see [`Snapshot::complaints`]; their order makes no difference.
    ///
    /// # Errors
    /// `Invalid` naming every entry of the configuration that fits no model; never for a row.
    pub fn build(config: &Config, rows: &[StoredOverride]) -> Result<Snapshot> {
        layers::build(config, rows)
    }

    /// What `change` makes of `rows`, which are all that the database has: the catalog to swap in once the change is
    /// durable.
    ///
    /// # Errors
    /// `Invalid` naming the field of the change that breaks a rule; `NotFound` when there is no row to remove; `Conflict`
    /// when the catalog is locked or full, when an alias would become a model or the reverse, or when another row would
    /// no longer fit.
    pub fn admit(config: &Config, rows: &[StoredOverride], change: &Change) -> Result<Snapshot> {
        if config.catalog.locked {
            let message =
                "The catalog is locked: the gateway's configuration decides alone (`[catalog] locked = true`).";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let after = Snapshot::build(config, &overrides::changed(rows, change)?)?;
        if let Some(complaint) = after.complaints.iter().find(|complaint| complaint.id == change.id()) {
            let message = format!("`{}` {}.", complaint.param, complaint.rule);
            return Err(Error::invalid(&complaint.param, message));
        }
        if rows.len() > MAX_OVERRIDES && matches!(change, Change::Remove(_)) {
            // Which rows count shifts with each that goes; getting below the bound must always be possible.
            return Ok(after);
        }
        let before = Snapshot::build(config, rows)?;
        match after.complaints.iter().find(|complaint| !before.complaints.contains(complaint)) {
            Some(broken) => {
                let message = format!("Another entry would no longer fit: {broken}. Change that one first.");
                Err(Error::new(ErrorKind::Conflict, message))
            }
            None => Ok(after),
        }
    }

    /// In a stable order, without aliases.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// A model's entry as the winning layer has it: what a partial change starts from.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id).map(|entry| &**entry)
    }

    /// What of the API's layer is left out because it breaks a rule; at most [`MAX_OVERRIDES`] rows and one more line.
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// Ids of the API's layer that are ignored because the catalog is locked; the first [`MAX_OVERRIDES`].
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// All names that answer here for who has `access`: models, stand-ins included, in their order, then aliases by name.
    pub fn offers(&self, access: &Access, now: Micros) -> impl Iterator<Item = Offer<'_>> {
        let models = self.models.iter().map(|model| Offer { id: &model.id, model });
        models
            .chain(self.aliases())
            .filter(move |offer| offer.model.is_served(now) && access.permits(&offer.model.id).is_ok())
    }

    /// A model or alias of just this id for who has `access`, whether or not anything answers for it.
    pub fn offer<'a>(&'a self, access: &Access, id: &'a str) -> Option<Offer<'a>> {
        let model = self.by_id.get(id).or_else(|| self.by_id.get(self.aliases.get(id)?))?;
        access.permits(&model.id).ok()?;
        Some(Offer { id, model })
    }

    /// Other ids of models, by name.
    pub fn aliases(&self) -> impl Iterator<Item = Offer<'_>> {
        self.aliases.iter().filter_map(|(id, target)| Some(Offer { id, model: self.by_id.get(target)? }))
    }

    /// Finds a model by base id, alias, regional profile id (`us.…`) or ARN. Regions and accounts make no difference here,
    /// but for profiles with a price of their own. Access and withdrawal are those of the model asked for, not of one that
    /// stands in for it.
    ///
    /// # Errors
    /// `ModelNotFound`; `Forbidden` when the caller has no access; `ModelNotServed` when nothing serves it, or when it was
    /// withdrawn by `now`.
    pub fn resolve(&self, principal: &Principal, name: &str, now: Micros) -> Result<Route> {
        let (asked, entry) = self.find(name).ok_or_else(|| not_found(name))?;
        principal.access.permits(&entry.id).map_err(|denied| denied.error(&entry.id))?;
        if let Some(over) = entry.deprecation.as_ref().filter(|deprecation| deprecation.is_over(now)) {
            return Err(over.refusal(&entry.id));
        }
        let (model, upstream) = match &entry.serving {
            Serving::Nobody => return Err(self.not_served(entry, &principal.access, now)),
            Serving::Upstream { upstream } => (entry, upstream),
            Serving::StandIn { upstream, model } => (self.by_id.get(model).ok_or_else(|| not_found(model))?, upstream),
        };
        Ok(Route { asked: asked.to_owned(), entry: entry.clone(), model: model.clone(), upstream: upstream.clone() })
    }

    /// The model that callers mean by `name`, whatever they may call and whether or not anything answers for it.
    pub fn named(&self, name: &str) -> Option<&Model> {
        self.find(name).map(|(_, model)| &**model)
    }

    /// What the name stands for in records, and the model that it names.
    fn find(&self, name: &str) -> Option<(&str, &Arc<Model>)> {
        let base = |id: &str| self.by_id.get(id).map(|model| (model.id.as_str(), model));
        match ModelName::parse(name)? {
            ModelName::Base(id) => base(id).or_else(|| {
                let (alias, target) = self.aliases.get_key_value(id)?;
                Some((alias.as_str(), self.by_id.get(target)?))
            }),
            ModelName::Profile { id, base: of } => {
                self.profiles.get(id).map(|model| (model.id.as_str(), model)).or_else(|| base(of))
            }
        }
    }

    fn not_served(&self, asked: &Model, access: &Access, now: Micros) -> Error {
        let mut served: Vec<&str> = self.offers(access, now).map(|offer| offer.id).collect();
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
mod layers_tests;
#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod tests;
