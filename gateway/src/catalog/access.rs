//! Which models a credential may call.
//!
//! Tenant, project and key each have a [`ModelAccess`]: none stated, which allows every model, or a list of patterns,
//! which allows what one of them matches; an empty list allows nothing. **The tightest wins**: a call is allowed only
//! where all three levels allow it, so a level can narrow what stands above it and never widen it.
//!
//! Patterns match the catalog's id of the model that is asked for: of an alias its target, of a regional profile its
//! base model. A model that stands in for another needs no access of its own.

use super::name::ModelName;
use super::rules;
use crate::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// Most patterns of a list.
pub const MAX_PATTERNS: usize = 64;

/// One model by its id, or all whose id begins in one way: `prefix*`. 1 to 128 of letters, digits and `. _ : -`, with
/// one `*` at the end, if anywhere; `*` alone matches every model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^([A-Za-z0-9._:-]+\*?|\*)$", example = "amazon.nova-*")]
pub struct ModelPattern(String);

/// What one level allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Option<Vec<ModelPattern>>", into = "Option<Vec<ModelPattern>>")]
#[schema(value_type = Option<Vec<ModelPattern>>, max_items = 64, example = json!(["amazon.nova-*", "huggingface.smollm2-135m-instruct"]))]
pub struct ModelAccess(Option<Vec<ModelPattern>>);

/// What every level above a call allows. The default allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Of the tenant.
    pub tenant: ModelAccess,
    /// Of the project.
    pub project: ModelAccess,
    /// Of the credential itself.
    pub key: ModelAccess,
}

/// Where model access can be narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Level {
    Tenant,
    Project,
    Key,
}

/// A refusal: the widest level that does not allow the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Whose list does not include it.
    pub level: Level,
}

/// Who allows a model, and who doesn't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The catalog's id.
    #[schema(example = "amazon.nova-lite-v1:0")]
    pub model: String,
    /// Whether every level allows it.
    pub permitted: bool,
    /// Each level's word, from the tenant down.
    pub levels: Vec<LevelVerdict>,
}

/// One level's word on a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LevelVerdict {
    /// Which level.
    pub level: Level,
    /// Whether it allows the model.
    pub permitted: bool,
    /// Why.
    pub reason: Reason,
    /// The first pattern that matches, when the reason is that one does.
    pub pattern: Option<ModelPattern>,
}

/// Why a level allows a model, or doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The level has no list.
    Unrestricted,
    /// A pattern of its list matches.
    Included,
    /// No pattern of its list matches.
    NotIncluded,
    /// Its list is empty.
    NothingAllowed,
}

/// A text that is no [`ModelPattern`], or a list that is no [`ModelAccess`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccess {
    /// Characters or length.
    #[error("a model pattern is 1 to 128 of letters, digits and . _ : - with at most one * at its end")]
    Pattern,
    /// Would never match.
    #[error("a model pattern names the base model: leave out the region")]
    Region,
    /// Too many.
    #[error("a list of models has at most {MAX_PATTERNS} patterns")]
    TooMany,
}

impl ModelPattern {
    /// Whether it matches an id of the catalog. Case matters.
    pub fn matches(&self, model_id: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => model_id.starts_with(prefix),
            None => self.0 == model_id,
        }
    }

    /// Whether it matches all that `other` does.
    pub fn covers(&self, other: &ModelPattern) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(prefix), Some(narrower)) => narrower.starts_with(prefix),
            (_, None) => self.matches(&other.0),
            (None, Some(_)) => false,
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelPattern {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<ModelPattern, InvalidAccess> {
        let id = text.strip_suffix('*').unwrap_or(text);
        if !(1..=rules::MAX_ID_CHARS).contains(&text.len()) || !rules::is_spelled_like_an_id(id) {
            return Err(InvalidAccess::Pattern);
        }
        match ModelName::parse(id) {
            Some(ModelName::Profile { .. }) => Err(InvalidAccess::Region),
            None if !id.is_empty() => Err(InvalidAccess::Pattern),
            Some(ModelName::Base(_)) | None => Ok(ModelPattern(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = InvalidAccess;

    fn try_from(text: String) -> Result<ModelPattern, InvalidAccess> {
        text.parse()
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> String {
        pattern.0
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ModelAccess {
    /// Every model.
    pub const ALL: ModelAccess = ModelAccess(None);

    /// What one of `patterns` matches; nothing when there is none.
    ///
    /// # Errors
    /// `TooMany`
    pub fn only(patterns: Vec<ModelPattern>) -> Result<ModelAccess, InvalidAccess> {
        if patterns.len() > MAX_PATTERNS {
            return Err(InvalidAccess::TooMany);
        }
        Ok(ModelAccess(Some(patterns)))
    }

    /// What a credential's scope allows; what can be the id of no model allows none.
    pub(crate) fn within(scope: Option<&[String]>) -> ModelAccess {
        ModelAccess(scope.map(|models| models.iter().filter_map(|model| model.parse().ok()).collect()))
    }

    /// The list; `None` allows every model.
    pub fn patterns(&self) -> Option<&[ModelPattern]> {
        self.0.as_deref()
    }

    /// Whether it allows an id of the catalog.
    pub fn permits(&self, model_id: &str) -> bool {
        self.patterns().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(model_id)))
    }

    /// Whether it surely allows all that `other` does: each of the other's patterns lies within one of its own.
    pub fn covers(&self, other: &ModelAccess) -> bool {
        match (self.patterns(), other.patterns()) {
            (None, _) => true,
            (Some(own), None) => own.iter().any(|pattern| pattern.as_str() == "*"),
            (Some(own), Some(others)) => others.iter().all(|other| own.iter().any(|pattern| pattern.covers(other))),
        }
    }

    fn verdict(&self, level: Level, model_id: &str) -> LevelVerdict {
        let Some(patterns) = self.patterns() else {
            return LevelVerdict { level, permitted: true, reason: Reason::Unrestricted, pattern: None };
        };
        let pattern = patterns.iter().find(|pattern| pattern.matches(model_id)).cloned();
        let reason = match (&pattern, patterns.is_empty()) {
            (Some(_), _) => Reason::Included,
            (None, true) => Reason::NothingAllowed,
            (None, false) => Reason::NotIncluded,
        };
        LevelVerdict { level, permitted: pattern.is_some(), reason, pattern }
    }
}

impl TryFrom<Option<Vec<ModelPattern>>> for ModelAccess {
    type Error = InvalidAccess;

    fn try_from(patterns: Option<Vec<ModelPattern>>) -> Result<ModelAccess, InvalidAccess> {
        patterns.map_or(Ok(ModelAccess::ALL), ModelAccess::only)
    }
}

impl From<ModelAccess> for Option<Vec<ModelPattern>> {
    fn from(access: ModelAccess) -> Option<Vec<ModelPattern>> {
        access.0
    }
}

impl Access {
    /// Whether every level allows an id of the catalog.
    ///
    /// # Errors
    /// The widest level that doesn't.
    pub fn permits(&self, model_id: &str) -> Result<(), Denied> {
        match self.levels().into_iter().find(|(_, access)| !access.permits(model_id)) {
            Some((level, _)) => Err(Denied { level }),
            None => Ok(()),
        }
    }

    /// Each level's word on an id of the catalog.
    pub fn explain(&self, model_id: &str) -> Explanation {
        let levels = self.levels().map(|(level, access)| access.verdict(level, model_id)).to_vec();
        let permitted = levels.iter().all(|verdict| verdict.permitted);
        Explanation { model: model_id.to_owned(), permitted, levels }
    }

    fn levels(&self) -> [(Level, &ModelAccess); 3] {
        [(Level::Tenant, &self.tenant), (Level::Project, &self.project), (Level::Key, &self.key)]
    }
}

impl Level {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Tenant => "tenant",
            Level::Project => "project",
            Level::Key => "key",
        }
    }
}

impl Denied {
    /// For the caller, about an id of the catalog.
    pub fn error(self, model_id: &str) -> Error {
        let level = self.level.as_str();
        let message = format!(
            "This credential has no access to the model {model_id}: the {level}'s model access does not include it."
        );
        Error::new(ErrorKind::Forbidden, message)
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
