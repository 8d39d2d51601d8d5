//! Puts the API's layer on the lower two. Nothing in a row can keep a gateway from starting: what doesn't fit is left
//! out, as little of it as possible, and complained of.

use super::entry::Entry;
use super::lower::{self, Layered, Lower};
use super::model::{Layer, Model, Serving};
use super::overrides::{Alias, MAX_OVERRIDES, Override, OverrideBody, StoredOverride};
use super::rules::{self, Fault};
use super::{Complaint, Snapshot};
use crate::config::Config;
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Output tokens of a request that sets no maximum, where nothing else is stated.
const DEFAULT_OUTPUT_TOKENS: u32 = 4096;

/// A catalog in the making.
struct Draft {
    models: Vec<Layered>,
    index: HashMap<String, usize>,
    serving: HashMap<String, Serving>,
    aliases: BTreeMap<String, String>,
    complaints: Vec<Complaint>,
}

/// The API's layer on the lower ones.
///
/// # Errors
/// `Invalid` for the configuration, never for a row.
pub(super) fn build(config: &Config, rows: &[StoredOverride]) -> Result<Snapshot> {
    let mut draft = Draft::new(lower::read(config)?);
    let rows = in_order(rows);
    if config.catalog.locked {
        let ignored = rows.iter().take(MAX_OVERRIDES).map(|row| row.id.clone()).collect();
        return Ok(Snapshot { ignored, ..draft.snapshot() });
    }
    let (kept, over) = rows.split_at(rows.len().min(MAX_OVERRIDES));
    if let Some(first) = over.first() {
        let rule = format!("and {} more rows are beyond the {MAX_OVERRIDES} that a catalog takes", over.len() - 1);
        draft.complain(&first.id, Fault::new("id", rule));
    }
    let mut aliases = Vec::new();
    for row in kept {
        match Override::read(row) {
            Err(fault) => draft.complain(&row.id, fault),
            Ok(Override { id, body: OverrideBody::Model(entry) }) => draft.put(id, *entry),
            Ok(Override { id, body: OverrideBody::Alias(alias) }) => aliases.push((id, alias)),
        }
    }
    draft.check_references();
    // After the models: whether an alias fits depends on all of them.
    for (id, alias) in &aliases {
        if let Some(fault) = draft.fault_of_alias(id, alias, &aliases) {
            draft.complain(id, fault);
        } else {
            draft.aliases.insert(id.clone(), alias.target.clone());
        }
    }
    Ok(draft.snapshot())
}

/// By id, each once, so that every replica sees the same catalog whatever order its database gives.
fn in_order(rows: &[StoredOverride]) -> Vec<&StoredOverride> {
    let mut rows: Vec<&StoredOverride> = rows.iter().collect();
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    rows.dedup_by(|one, other| one.id == other.id);
    rows
}

impl Draft {
    fn new(lower: Lower) -> Draft {
        let Lower { models, serving } = lower;
        let index = models.iter().enumerate().map(|(at, model)| (model.id.clone(), at)).collect();
        Draft { models, index, serving, aliases: BTreeMap::new(), complaints: Vec::new() }
    }

    fn complain(&mut self, id: &str, fault: Fault) {
        // An id that is no id may hold anything, and is shown to people.
        let id = id.chars().filter(|c| !c.is_control()).take(rules::MAX_ID_CHARS).collect();
        self.complaints.push(Complaint { id, param: fault.param, rule: fault.rule });
    }

    fn put(&mut self, id: String, entry: Entry) {
        let served = self.serving.contains_key(&id);
        let text = || Fault::new("output_modalities", "must be text alone, with text taken: a cluster answers for it");
        let fault = rules::faults(&id, &entry).into_iter().next().or_else(|| (served && !entry.is_text()).then(text));
        if let Some(fault) = fault {
            return self.complain(&id, fault);
        }
        let own = Layered { id, entry: Arc::new(entry), layer: Layer::Api };
        match self.index.get(&own.id) {
            Some(&at) => self.models[at] = own,
            None => {
                self.index.insert(own.id.clone(), self.models.len());
                self.models.push(own);
            }
        }
    }

    /// A model whose stand-in or replacement is gone loses no more than that: its prices, above all, stay.
    fn check_references(&mut self) {
        let mut stand_ins = Vec::new();
        let mut faults = Vec::new();
        for Layered { id, entry, .. } in self.models.iter().filter(|model| model.layer == Layer::Api) {
            if let Some(target) = &entry.stand_in {
                match self.stand_in(id, entry, target) {
                    Ok(serving) => stand_ins.push((id.clone(), serving)),
                    Err(fault) => faults.push((id.clone(), fault)),
                }
            }
            if replacement(entry).is_some_and(|id| !self.index.contains_key(id)) {
                faults.push((id.clone(), Fault::new("deprecation.replacement", "is no model of the catalog")));
            }
        }
        self.serving.extend(stand_ins);
        faults.into_iter().for_each(|(id, fault)| self.complain(&id, fault));
    }

    fn stand_in(&self, id: &str, entry: &Entry, target: &str) -> Result<Serving, Fault> {
        let fault = |rule: &str| Fault::new("stand_in", rule);
        if let Some(Serving::Upstream { .. }) = self.serving.get(id) {
            return Err(fault("must be absent: an upstream serves this model itself"));
        }
        if !entry.is_text() {
            return Err(fault("must be absent: this model does not answer text with text"));
        }
        match self.serving.get(target) {
            Some(Serving::Upstream { upstream }) => {
                Ok(Serving::StandIn { upstream: upstream.clone(), model: target.to_owned() })
            }
            Some(Serving::Nobody | Serving::StandIn { .. }) | None => {
                Err(fault("must be a model that an upstream serves here"))
            }
        }
    }

    fn fault_of_alias(&self, id: &str, alias: &Alias, aliases: &[(String, Alias)]) -> Option<Fault> {
        if let Some(fault) = rules::faults_of_id(id).into_iter().next() {
            return Some(fault);
        }
        if self.index.contains_key(id) {
            return Some(Fault::new("id", "is a model's, which an alias must not hide"));
        }
        if self.index.contains_key(&alias.target) {
            return None;
        }
        // Sorted by id, as the rows are.
        let chained = aliases.binary_search_by(|(other, _)| other.as_str().cmp(&alias.target)).is_ok();
        let rule = if chained { "is an alias itself: name its model" } else { "is no model of the catalog" };
        Some(Fault::new("target", rule))
    }

    fn snapshot(mut self) -> Snapshot {
        let mut models = Vec::with_capacity(self.models.len());
        let mut by_id = HashMap::with_capacity(self.models.len());
        let mut profiles = HashMap::new();
        let mut entries = HashMap::with_capacity(self.models.len());
        for Layered { id, entry, layer } in &self.models {
            let serving = self.serving.remove(id).unwrap_or(Serving::Nobody);
            let mut model = model(id, entry, *layer, serving);
            if let Some(deprecation) = &mut model.deprecation {
                deprecation.replacement.take_if(|id| !self.index.contains_key(id));
            }
            for profile in &entry.profiles {
                let price = profile.price_picousd_per_token.clone().into();
                profiles.insert(profile.id.clone(), Arc::new(Model { price, ..model.clone() }));
            }
            let model = Arc::new(model);
            by_id.insert(id.clone(), model.clone());
            entries.insert(id.clone(), entry.clone());
            models.push(model);
        }
        let (aliases, complaints) = (self.aliases, self.complaints);
        Snapshot { models, by_id, profiles, aliases, entries, complaints, ignored: Vec::new(), stamps: HashMap::new() }
    }
}

fn replacement(entry: &Entry) -> Option<&String> {
    entry.deprecation.as_ref()?.replacement.as_ref()
}

fn model(id: &str, entry: &Entry, layer: Layer, serving: Serving) -> Model {
    let most = entry.max_output_tokens.or(entry.context_tokens).unwrap_or(DEFAULT_OUTPUT_TOKENS);
    Model {
        id: id.to_owned(),
        name: entry.name.clone(),
        provider: entry.provider.clone(),
        input_modalities: entry.input_modalities.clone(),
        output_modalities: entry.output_modalities.clone(),
        context_tokens: entry.context_tokens,
        max_output_tokens: entry.max_output_tokens,
        default_output_tokens: entry.default_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS.min(most)),
        streaming: entry.streaming,
        status: entry.status,
        deprecation: entry.deprecation.clone(),
        price: entry.price_picousd_per_token.clone().into(),
        serving,
        layer,
    }
}
